//! The frames that a client sends over HTTP/2, counted beneath hyper: those that make work and carry nothing (RFC 9113 10.5). Each is
//! allowed, and so are some at once; a client that sends little else is cut off.
//!
//! Only the heads of frames are read, of 9 bytes each, and of WINDOW_UPDATE its increment. What is malformed is hyper's to refuse.

use std::time::Instant;

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
/// Of what carries less, the sender has no use; and a piece of a body is a crumb.
const SMALL_BYTES: u32 = 1024;
const CRUMB_BYTES: u32 = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a frame costs, and what a useful one makes up for. A stream that is opened and reset at once costs three.
const COST: f64 = 1.0;
const COST_OF_RESET: f64 = 5.0;
/// Of bodies that come in crumbs, as some clients write them.
const COST_OF_CRUMB: f64 = 0.1;
const USE: f64 = 2.0;
/// So many are forgiven each second, beside what useful frames make up for.
const FORGIVEN_PER_SECOND: f64 = 100.0;

pub struct Frames {
    /// What has been spent may be so much; 0: it is not counted.
    most: u32,
    spent: f64,
    counted: Option<Instant>,
    preface_left: usize,
    head: [u8; HEAD_BYTES + 4],
    head_len: usize,
    payload_left: u32,
    /// Headers have begun whose last frame has not come.
    in_headers: bool,
}

impl Frames {
    /// `most`: how much may be spent at once.
    pub fn new(most: u32) -> Frames {
        Frames {
            most,
            spent: 0.0,
            counted: None,
            preface_left: PREFACE_BYTES,
            head: [0; HEAD_BYTES + 4],
            head_len: 0,
            payload_left: 0,
            in_headers: false,
        }
    }

    /// Whether headers have come in part.
    pub fn is_in_headers(&self) -> bool {
        self.in_headers || (self.payload_left > 0 && matches!(self.head[3], HEADERS | CONTINUATION))
    }

    /// Looks at the next piece of what the client sends; an error: it is a flood, and of what.
    pub fn look(&mut self, mut piece: &[u8]) -> Result<(), &'static str> {
        let preface = self.preface_left.min(piece.len());
        self.preface_left -= preface;
        piece = &piece[preface..];
        while !piece.is_empty() {
            if self.payload_left > 0 && self.head_len == 0 {
                let passed = (self.payload_left as usize).min(piece.len());
                self.payload_left -= passed as u32;
                piece = &piece[passed..];
                continue;
            }
            // A window's increment is read as if it were part of the head.
            let is_window = self.head_len >= HEAD_BYTES;
            let whole = if is_window { HEAD_BYTES + 4 } else { HEAD_BYTES };
            let taken = (whole - self.head_len).min(piece.len());
            self.head[self.head_len..self.head_len + taken].copy_from_slice(&piece[..taken]);
            self.head_len += taken;
            piece = &piece[taken..];
            if self.head_len < whole {
                return Ok(());
            }
            let (kind, flags) = (self.head[3], self.head[4]);
            let length = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
            self.payload_left = if is_window { 0 } else { length };
            if kind == WINDOW_UPDATE && length == 4 && !is_window {
                continue;
            }
            self.head_len = 0;
            self.frame(kind, flags, length)?;
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, length: u32) -> Result<(), &'static str> {
        match kind {
            HEADERS => {
                self.in_headers = flags & END_HEADERS == 0;
                self.makes_up();
                Ok(())
            }
            CONTINUATION => {
                self.in_headers = flags & END_HEADERS == 0;
                self.costs(if self.in_headers && length < SMALL_BYTES { COST } else { 0.0 }, "CONTINUATION frames")
            }
            DATA if length >= SMALL_BYTES || flags & END_STREAM != 0 => {
                self.makes_up();
                Ok(())
            }
            DATA if length >= CRUMB_BYTES => Ok(()),
            DATA => self.costs(if length == 0 { COST } else { COST_OF_CRUMB }, "small DATA frames"),
            RST_STREAM => self.costs(COST_OF_RESET, "streams that are reset"),
            WINDOW_UPDATE => {
                let [.., a, b, c, d] = self.head;
                let increment = u32::from_be_bytes([a, b, c, d]);
                self.costs(if increment < SMALL_BYTES { COST } else { 0.0 }, "small WINDOW_UPDATE frames")
            }
            _ => self.costs(COST, "PING, SETTINGS, PRIORITY and unknown frames"),
        }
    }

    fn makes_up(&mut self) {
        self.spent = (self.spent - USE).max(0.0);
    }

    fn costs(&mut self, cost: f64, what: &'static str) -> Result<(), &'static str> {
        if cost == 0.0 || self.most == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let passed = self.counted.replace(now).map_or(0.0, |before| (now - before).as_secs_f64());
        self.spent = (self.spent - passed * FORGIVEN_PER_SECOND).max(0.0) + cost;
        if self.spent > f64::from(self.most) { Err(what) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// Whether so many of these frames at once are taken, in pieces of every size.
    #[track_caller]
    fn taken(frames: &[Vec<u8>], times: usize) -> Result<(), &'static str> {
        let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frames.concat().repeat(times)].concat();
        let verdicts: Vec<_> = [1, 7, 4096]
            .into_iter()
            .map(|size| {
                let mut guard = Frames::new(100);
                bytes.chunks(size).try_for_each(|piece| guard.look(piece))
            })
            .collect();
        assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{verdicts:?}");
        verdicts[0]
    }

    #[test]
    fn floods_are_found_and_work_is_not() {
        let (open, reset) = (frame(HEADERS, END_HEADERS | END_STREAM, b"x"), frame(RST_STREAM, 0, &[0; 4]));
        let (ping, large) = (frame(6, 0, &[0; 8]), frame(DATA, 0, &[0; 2000]));
        assert!(taken(std::slice::from_ref(&open), 10_000).is_ok());
        assert!(taken(&[large.clone(), ping.clone()], 10_000).is_ok());
        assert!(taken(&[frame(WINDOW_UPDATE, 0, &[0, 1, 0, 0])], 10_000).is_ok());
        assert!(taken(&[open.clone(), reset.clone()], 20).is_ok());
        assert_eq!(taken(&[open, reset], 10_000), Err("streams that are reset"));
        assert!(taken(std::slice::from_ref(&ping), 20).is_ok());
        for (flood, what) in [
            (ping, "PING, SETTINGS, PRIORITY and unknown frames"),
            (frame(4, 0, &[]), "PING, SETTINGS, PRIORITY and unknown frames"),
            (frame(2, 0, &[0; 5]), "PING, SETTINGS, PRIORITY and unknown frames"),
            (frame(DATA, 0, &[]), "small DATA frames"),
            (frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]), "small WINDOW_UPDATE frames"),
            (frame(CONTINUATION, 0, b"x"), "CONTINUATION frames"),
        ] {
            assert_eq!(taken(&[flood], 10_000), Err(what));
        }
    }

    #[test]
    fn headers_are_in_part_until_their_last_byte() {
        let mut guard = Frames::new(100);
        guard.look(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        for (frame, in_part) in [
            (frame(HEADERS, 0, b"abc"), true),
            (frame(CONTINUATION, 0, b"abc"), true),
            (frame(CONTINUATION, END_HEADERS, b"abc"), false),
            (frame(HEADERS, END_HEADERS, b""), false),
        ] {
            let (last, rest) = frame.split_last().unwrap();
            guard.look(rest).unwrap();
            assert!(guard.is_in_headers() || rest.len() < HEAD_BYTES, "the last byte is not there");
            guard.look(&[*last]).unwrap();
            assert_eq!(guard.is_in_headers(), in_part);
        }
    }
}
