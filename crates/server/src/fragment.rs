//! A `#` in a target is refused (SEMANTICS 3): hyper cuts it off with what follows, and would answer for another target than the one
//! that a proxy in front of us has let through.
//!
//! Beneath hyper, `patient` shows each piece that it reads. A `#` in a request line becomes a `<` there, which hyper answers with 400.
//! Only what is known to be a head is touched: the requests of a connection up to the first one with a body.

use memchr::memchr;

const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";

/// Where a connection is in the heads of its requests.
pub struct Heads {
    at: At,
    /// How the current line begins, and its length until now.
    start: [u8; CODING.len()],
    len: usize,
    /// This request may have a body.
    has_body: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Method,
    Target,
    Field,
    /// A body has begun, whose end only hyper knows.
    Beyond,
}

impl Heads {
    pub fn new() -> Heads {
        Heads { at: At::Method, start: [0; CODING.len()], len: 0, has_body: false }
    }

    /// Looks at the next piece of what the client sends. Each request comes by here: most are whole lines, which are not copied.
    pub fn look(&mut self, mut piece: &mut [u8]) {
        while !piece.is_empty() && self.at != At::Beyond {
            let end = memchr(b'\n', piece);
            let (line, rest) = piece.split_at_mut(end.unwrap_or(piece.len()));
            self.change_target(line);
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

    /// What stands behind the first space of a request line. A method, which is a token, may have a `#`.
    fn change_target(&mut self, line: &mut [u8]) {
        let mut target = match self.at {
            At::Method => match memchr(b' ', line) {
                Some(space) => &mut line[space..],
                None => return,
            },
            At::Target => line,
            At::Field | At::Beyond => return,
        };
        self.at = At::Target;
        while let Some(at) = memchr(b'#', target) {
            target[at] = b'<';
            target = &mut target[at + 1..];
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
        self.at = match self.at {
            // Empty lines before a request.
            At::Method if is_empty => At::Method,
            At::Field if is_empty && self.has_body => At::Beyond,
            At::Field if is_empty => At::Method,
            At::Field => {
                self.has_body |= begins(LENGTH) || begins(CODING);
                At::Field
            }
            _ => At::Field,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_targets_of_heads_are_touched() {
        for (sent, passed) in [
            ("GET /a#b HTTP/1.1\r\nHost: a#b\r\n\r\n", "GET /a<b HTTP/1.1\r\nHost: a#b\r\n\r\n"),
            ("G#T /?#b HTTP/1.1\nHost: a\n\nGET # HTTP/1.0\n\n", "G#T /?<b HTTP/1.1\nHost: a\n\nGET < HTTP/1.0\n\n"),
            ("\r\n\r\nGET /#\r\n\r\n", "\r\n\r\nGET /<\r\n\r\n"),
            (
                "POST /# H\r\ncontent-LENGTH: 9\r\n\r\nGET /# H\r\n",
                "POST /< H\r\ncontent-LENGTH: 9\r\n\r\nGET /# H\r\n",
            ),
            ("P /\r\nTransfer-Encoding:chunked\r\n\r\nG /#\r\n", "P /\r\nTransfer-Encoding:chunked\r\n\r\nG /#\r\n"),
            ("G /\r\nContent-Len: 1\r\n\r\nG /#", "G /\r\nContent-Len: 1\r\n\r\nG /<"),
        ] {
            // However it is cut.
            for first in 0..=sent.len() {
                for second in first..=sent.len() {
                    let mut bytes = sent.as_bytes().to_vec();
                    let mut heads = Heads::new();
                    heads.look(&mut bytes[..first]);
                    heads.look(&mut bytes[first..second]);
                    heads.look(&mut bytes[second..]);
                    assert_eq!(String::from_utf8(bytes).unwrap(), passed, "cut at {first} and {second}");
                }
            }
        }
    }
}
