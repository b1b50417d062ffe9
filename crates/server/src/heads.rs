//! The first lines of requests, looked at beneath hyper for what it answers otherwise than we do (SEMANTICS 3 and 13).
//!
//! hyper cuts a `#` off a target with what follows, and would answer for another target than the one that a proxy in front of us has
//! let through: it becomes a `<`, which hyper answers with 400. And hyper answers 400 to a version that it does not know: it becomes
//! HTTP/1.1, and `connection` answers that request with 505.
//!
//! `patient` shows each piece that it reads. Only what is known to be a head is touched, and nothing changes its length: the requests of
//! a connection up to the first one whose body is chunked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memchr;

const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";
/// Where the digits of `HTTP/1.1` stand.
const MAJOR: usize = 5;
const MINOR: usize = 7;

/// With it, and without a `#`, there is nothing to look at in a request line.
const USUAL_END: &[u8] = b" HTTP/1.1\r";

/// What of a line is looked at. A Content-Length that is longer has no number that hyper takes.
const START_BYTES: usize = 40;

/// Where a connection is in its requests.
pub struct Heads {
    at: At,
    /// How the current line begins, and its length until now.
    start: [u8; START_BYTES],
    len: usize,
    /// What has come of the current version.
    version_len: usize,
    /// Of the body of this request; `None`: only hyper knows.
    body: Option<u64>,
    /// How many requests have begun.
    requests: u64,
    unknown_version: UnknownVersion,
}

/// The number of a connection's request, from 1 on, whose version of HTTP is not known; 0: there is none. Both ends belong to one task.
#[derive(Clone, Default)]
pub struct UnknownVersion(Arc<AtomicU64>);

impl UnknownVersion {
    pub fn is(&self, request: u64) -> bool {
        self.0.load(Ordering::Relaxed) == request
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Method,
    Target,
    Version,
    Field,
    /// So much of it is to come.
    Body(u64),
    /// A body has begun, whose end only hyper knows.
    Beyond,
}

impl Heads {
    pub fn new(unknown_version: UnknownVersion) -> Heads {
        let start = [0; START_BYTES];
        Heads { at: At::Method, start, len: 0, version_len: 0, body: Some(0), requests: 0, unknown_version }
    }

    /// What is waited for, and of which request, from 1 on: the same number for a whole head.
    pub fn place(&self) -> (Place, u64) {
        let place = match self.at {
            At::Method if self.len == 0 && self.requests > 0 => Place::Between,
            At::Method | At::Target | At::Version | At::Field => Place::Head,
            At::Body(_) | At::Beyond => Place::Body,
        };
        (place, self.requests + u64::from(self.at == At::Method))
    }

    /// Looks at the next piece of what the client sends. Each request comes by here: most are one whole head, of which little more
    /// is looked at than where its lines end.
    pub fn look(&mut self, mut piece: &mut [u8]) {
        while !piece.is_empty() && self.at != At::Beyond {
            if let At::Body(left) = self.at {
                let here = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
                self.at = At::of_body(left - here as u64);
                piece = &mut piece[here..];
                continue;
            }
            if self.at == At::Field && self.len == 0 {
                let passed = plain_fields(piece);
                piece = &mut piece[passed..];
            }
            let end = memchr(b'\n', piece);
            let (line, rest) = piece.split_at_mut(end.unwrap_or(piece.len()));
            if self.at == At::Method && self.len == 0 && line.ends_with(USUAL_END) && memchr(b'#', line).is_none() {
                self.requests += 1;
                self.at = At::Target;
            } else {
                self.look_at_words(line);
            }
            if end.is_some() && self.len == 0 {
                self.line_ends(line);
            } else {
                self.remember(line);
                if end.is_some() {
                    let start = self.start;
                    self.line_ends(&start[..self.len.min(start.len())]);
                    self.len = 0;
                }
            }
            piece = rest.get_mut(1..).unwrap_or_default();
        }
    }

    /// Of a request line. A method, which is a token, may have a `#`.
    fn look_at_words(&mut self, mut line: &mut [u8]) {
        while matches!(self.at, At::Method | At::Target) {
            // Words are short: to look at each byte costs less than memchr.
            let space = line.iter().position(|&byte| byte == b' ');
            let (word, rest) = line.split_at_mut(space.unwrap_or(line.len()));
            if self.at == At::Target {
                refuse_fragment(word);
            }
            if space.is_none() {
                return;
            }
            line = &mut rest[1..];
            match self.at {
                At::Method => {
                    self.requests += 1;
                    self.at = At::Target;
                }
                _ => (self.at, self.version_len) = (At::Version, 0),
            }
        }
        if self.at == At::Version {
            self.check_version(line);
            self.version_len = self.version_len.saturating_add(line.len());
        }
    }

    /// What is no version at all stays none: hyper answers 400.
    fn check_version(&mut self, piece: &mut [u8]) {
        for (place, known) in [(MAJOR, &b"1"[..]), (MINOR, b"01")] {
            let digit = place.checked_sub(self.version_len).and_then(|place| piece.get_mut(place));
            if let Some(digit) = digit.filter(|digit| digit.is_ascii_digit() && !known.contains(digit)) {
                *digit = b'1';
                // The first one closes the connection.
                let _ = self.unknown_version.0.compare_exchange(0, self.requests, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    fn remember(&mut self, line: &[u8]) {
        let room = self.start.len().saturating_sub(self.len).min(line.len());
        if room > 0 {
            self.start[self.len..self.len + room].copy_from_slice(&line[..room]);
        }
        self.len = self.len.saturating_add(line.len());
    }

    /// `line` is how it began, at least.
    fn line_ends(&mut self, line: &[u8]) {
        let is_empty = matches!(line, b"" | b"\r");
        let begins = |name: &[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if self.at == At::Field && begins(LENGTH) {
            // hyper refuses others beside it, unless they are equal.
            let is_first = self.body == Some(0) && self.len.max(line.len()) <= START_BYTES;
            self.body = if is_first { length(line) } else { None };
        } else if self.at == At::Field && begins(CODING) {
            self.body = None;
        }
        self.at = match self.at {
            // Empty lines before a request.
            At::Method if is_empty => At::Method,
            At::Field if is_empty => self.body.replace(0).map_or(At::Beyond, At::of_body),
            _ => At::Field,
        };
    }
}

/// What of the client is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The next request, of which nothing has come. Not behind a body whose end only hyper knows.
    Between,
    Head,
    Body,
}

impl At {
    fn of_body(left: u64) -> At {
        if left == 0 { At::Method } else { At::Body(left) }
    }
}

/// Length of the whole lines at the beginning that are headers and say nothing of a body.
fn plain_fields(piece: &[u8]) -> usize {
    let mut passed = 0;
    while let Some(first) = piece.get(passed)
        && !matches!(first | 0x20, b'c' | b't')
        && !matches!(first, b'\r' | b'\n')
        && let Some(end) = memchr(b'\n', &piece[passed..])
    {
        passed += end + 1;
    }
    passed
}

/// The number in a line that begins with Content-Length, if it is a plain one.
fn length(line: &[u8]) -> Option<u64> {
    let digits = line[LENGTH.len()..].strip_prefix(b":")?.trim_ascii();
    std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

fn refuse_fragment(target: &mut [u8]) {
    target.iter_mut().filter(|byte| **byte == b'#').for_each(|byte| *byte = b'<');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_one_place_however_it_trickles() {
        let mut heads = Heads::new(UnknownVersion::default());
        let mut places = vec![heads.place()];
        for byte in
            *b"\r\nG / HTTP/1.1\r\nContent-Length: 2\r\n\r\nxyP / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0"
        {
            heads.look(&mut [byte]);
            places.push(heads.place());
        }
        places.dedup();
        use Place::{Between, Body, Head};
        assert_eq!(places, [(Head, 1), (Body, 1), (Between, 2), (Head, 2), (Body, 2)]);
    }

    #[test]
    fn only_targets_and_versions_of_heads_are_touched() {
        for (sent, passed, unknown_version) in [
            ("GET /a#b HTTP/1.1\r\nHost: a#b\r\n\r\n", "GET /a<b HTTP/1.1\r\nHost: a#b\r\n\r\n", 0),
            ("G#T /?#b HTTP/1.1\nHost: a\n\nGET # HTTP/1.0\n\n", "G#T /?<b HTTP/1.1\nHost: a\n\nGET < HTTP/1.0\n\n", 0),
            ("\r\n\r\nGET /#\r\n\r\n", "\r\n\r\nGET /<\r\n\r\n", 0),
            (
                "POST /# H\r\ncontent-LENGTH: 9\r\n\r\nGET /# H\nGET /# H\r\n",
                "POST /< H\r\ncontent-LENGTH: 9\r\n\r\nGET /# H\nGET /< H\r\n",
                0,
            ),
            ("P /\nContent-Length:0\n\nG /#\n", "P /\nContent-Length:0\n\nG /<\n", 0),
            (
                "P /\nContent-Length: 1\nContent-Length: 1\n\n#G /#",
                "P /\nContent-Length: 1\nContent-Length: 1\n\n#G /#",
                0,
            ),
            ("P /\nContent-Length: +1\n\n#G /#\n", "P /\nContent-Length: +1\n\n#G /#\n", 0),
            (
                "P /\nContent-Length: 1\nTransfer-Encoding: x\n\n#G /#",
                "P /\nContent-Length: 1\nTransfer-Encoding: x\n\n#G /#",
                0,
            ),
            ("P /\r\nTransfer-Encoding:chunked\r\n\r\nG /#\r\n", "P /\r\nTransfer-Encoding:chunked\r\n\r\nG /#\r\n", 0),
            ("G /\r\nContent-Len: 1\r\n\r\nG /#", "G /\r\nContent-Len: 1\r\n\r\nG /<", 0),
            ("G / HTTP/3.0\r\n\r\n", "G / HTTP/1.0\r\n\r\n", 1),
            (
                "G / HTTP/1.0\r\n\r\nG /9 HTTP/0.9\nA: HTTP/3.0\n\n",
                "G / HTTP/1.0\r\n\r\nG /9 HTTP/1.1\nA: HTTP/3.0\n\n",
                2,
            ),
            ("G / HTTP/3.1\n\nG / HTTP/3.1\n\n", "G / HTTP/1.1\n\nG / HTTP/1.1\n\n", 1),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/1.0\r\n\r\nSM\r\n\r\n", 1),
            ("GET /HTTP/3.0\r\n\r\n", "GET /HTTP/3.0\r\n\r\n", 0),
        ] {
            // However it is cut.
            for first in 0..=sent.len() {
                for second in first..=sent.len() {
                    let mut bytes = sent.as_bytes().to_vec();
                    let version = UnknownVersion::default();
                    let mut heads = Heads::new(version.clone());
                    heads.look(&mut bytes[..first]);
                    heads.look(&mut bytes[first..second]);
                    heads.look(&mut bytes[second..]);
                    assert_eq!(String::from_utf8(bytes).unwrap(), passed, "cut at {first} and {second}");
                    let found = (1..9).find(|request| version.is(*request)).unwrap_or(0);
                    assert_eq!(found, unknown_version, "of {sent} cut at {first} and {second}");
                }
            }
        }
    }
}
