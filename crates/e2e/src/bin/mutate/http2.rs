//! Frames of HTTP/2 by prior knowledge: a conversation as it should be, with frames that should not be there, and then spoilt.

use fastrand::Rng;

use crate::case::{Answers, Case, SMUGGLED, any, pieces, spoil};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub fn case(rng: &mut Rng) -> Case {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, (SETTINGS, 0, 0), &[]);
    let requests = rng.u64(1..5);
    let is_well = rng.u8(0..8) == 0;
    for number in 0..requests {
        request(rng, &mut bytes, 2 * number as u32 + 1, is_well);
        if !is_well && rng.u8(0..3) == 0 {
            any_frame(rng, &mut bytes);
        }
    }
    if !is_well && rng.u8(0..4) > 0 {
        // Of the preface rather not: without it, it is one of HTTP/1 that is refused.
        let mut rest = bytes.split_off(if rng.u8(0..10) > 0 { PREFACE.len() } else { 0 });
        spoil(rng, &mut rest);
        bytes.extend(rest);
    }
    let answers = if is_well { Answers::GoodFrames(requests as usize) } else { Answers::Any };
    Case { pieces: pieces(rng, &bytes), requests, answers, finishes: rng.u16(0..2000) > 0 }
}

fn frame(bytes: &mut Vec<u8>, (kind, flags, stream): (u8, u8, u32), payload: &[u8]) {
    bytes.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

/// Anything in the form of a frame.
fn any_frame(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let payload: Vec<u8> = (0..rng.usize(0..64)).map(|_| rng.u8(..)).collect();
    let length = *any(rng, &[&0, &4, &5, &6, &8, &payload.len()]);
    let stream = *any(rng, &[&0, &1, &2, &3, &99, &0x7fff_ffff, &0xffff_ffff]);
    let kind = rng.u8(0..12);
    frame(bytes, (kind, rng.u8(..), stream), &payload[..length.min(payload.len())]);
}

/// How many answers begin with `:status: 200`, in the form that it has in all tables (RFC 7541 6.1, Appendix A).
pub fn good_answers(mut bytes: &[u8]) -> usize {
    let mut good = 0;
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        good += usize::from(head[3] == HEADERS && rest.first() == Some(&0x88));
        bytes = rest.get(length..).unwrap_or_default();
    }
    good
}

/// A request; unless it is to be well, something may be in it that is not allowed there (RFC 9113 8.2, 8.3).
fn request(rng: &mut Rng, bytes: &mut Vec<u8>, stream: u32, is_well: bool) {
    let has_body = rng.bool();
    let (method, path) = if has_body { ("POST", "/x/take") } else { ("GET", "/x/hello") };
    let mut fields = vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    for _ in 0..rng.usize(0..3) {
        fields.push(
            any(rng, &[&("accept", "*/*"), &("cookie", "a=b"), &("cookie", "c=d"), &("te", "trailers")]).to_owned(),
        );
    }
    if !is_well && rng.u8(0..3) == 0 {
        let odd = [
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("content-length", "0"),
            ("Host", "a"),
            ("host", "other"),
            ("x", "a\r\nb"),
            ("x\r\ny", "a"),
            (":path", "/x/hello"),
            (":status", "200"),
            ("x", SMUGGLED),
            ("x\0", "a"),
            ("", "a"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("keep-alive", "a"),
        ];
        let at = rng.usize(0..=fields.len());
        fields.insert(at, odd[rng.usize(0..odd.len())]);
    }
    match rng.u8(0..12) {
        _ if is_well => {}
        0 => drop(fields.remove(rng.usize(0..fields.len()))),
        // It is no line of HTTP/1 any more.
        1 => fields[2].1 = "/x/hello HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
        2 => rng.shuffle(&mut fields),
        _ => {}
    }
    let mut block = Vec::new();
    for (name, value) in fields {
        // Literal, never indexed, without Huffman's code (RFC 7541 6.2.3).
        block.push(0x10);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    let end = if has_body { 0 } else { END_STREAM };
    if rng.u8(0..8) == 0 {
        let (first, rest) = block.split_at(rng.usize(0..=block.len()));
        frame(bytes, (HEADERS, end, stream), first);
        frame(bytes, (CONTINUATION, END_HEADERS, stream), rest);
    } else {
        frame(bytes, (HEADERS, end | END_HEADERS, stream), &block);
    }
    if has_body {
        let content = SMUGGLED.repeat(rng.usize(0..4));
        frame(bytes, (DATA, END_STREAM, stream), content.as_bytes());
    }
}

/// With a prefix of 7 bits (RFC 7541 5.1).
fn integer(block: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return block.push(value as u8);
    }
    block.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}
