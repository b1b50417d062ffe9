//! What one connection sends, and what may come back.

use fastrand::Rng;

/// What the server answers at `/smuggled`, where none of all these requests leads.
pub const CANARY: &str = "CANARY";
/// A request for it. It stands in bodies, and behind what must be refused.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

pub struct Case {
    /// In pieces, each written by itself.
    pub pieces: Vec<Vec<u8>>,
    /// How many requests it was made of.
    pub requests: u64,
    pub answers: Answers,
    /// Says that it will send no more, and does not only fall silent: then the server's own times end it.
    pub finishes: bool,
}

/// What has to come back before the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// All are as they should be: so many, each 200.
    Good(usize),
    /// The same, over HTTP/2.
    GoodFrames(usize),
    /// So many, each 200, and then one that is refused.
    Refused(usize),
    /// The same, but what is wrong stands in the body, which the servlet may have answered before it came.
    CutInBody(usize),
    /// Whatever.
    Any,
}

/// Cuts bytes anywhere, most often not at all.
pub fn pieces(rng: &mut Rng, bytes: &[u8]) -> Vec<Vec<u8>> {
    let count = match rng.u8(..) {
        0..200 => 1,
        200..250 => rng.usize(2..6),
        _ => rng.usize(6..60),
    };
    let mut ends: Vec<usize> = (1..count).map(|_| rng.usize(0..=bytes.len())).collect();
    ends.extend([0, bytes.len()]);
    ends.sort_unstable();
    ends.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).filter(|piece| !piece.is_empty()).collect()
}

/// Changes bytes in any way.
pub fn spoil(rng: &mut Rng, bytes: &mut Vec<u8>) {
    const TELLING: &[u8] = b"\r\n\0 \t:,;=/%#?0123456789abcdefx\x7f\x80\xff\x0b";
    for _ in 0..rng.usize(1..6) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.usize(0..bytes.len());
        let byte = if rng.bool() { TELLING[rng.usize(0..TELLING.len())] } else { rng.u8(..) };
        match rng.u8(0..7) {
            0 => bytes[at] = byte,
            1 => bytes[at] ^= 1 << rng.u8(0..8),
            2 => bytes.insert(at, byte),
            3 => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            5 => {
                let end = (at + rng.usize(1..40)).min(bytes.len());
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
            _ => {
                let end = (at + rng.usize(1..40)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
        }
    }
}

pub fn any<'a, T: ?Sized>(rng: &mut Rng, all: &[&'a T]) -> &'a T {
    all[rng.usize(0..all.len())]
}
