//! Several parts of a file in one answer: `multipart/byteranges` (RFC 9110 14.6).
//!
//! Made by `respond`, read by `body`, which is driven by the server. The length is known from the start, and the parts are
//! read while they are sent.

use std::fmt::Write;
use std::io;

use bytes::Bytes;
use http::HeaderValue;

use crate::body::{PIECE_BYTES, read_piece};
use crate::file::File;
use crate::random;
use crate::range::Part;

/// What is still to be sent of a multipart body.
#[derive(Debug)]
pub(crate) struct ByteRanges {
    file: File,
    content_type: Option<HeaderValue>,
    boundary: String,
    /// Those that have not begun.
    parts: std::vec::IntoIter<Part>,
    /// What is left of the one that has.
    under_way: Option<Part>,
    /// Bytes of all of them that were not read yet.
    content_remaining: u64,
    remaining: u64,
}

impl ByteRanges {
    /// At least one part is needed; each lies within the file.
    pub(crate) fn new(file: File, content_type: Option<HeaderValue>, parts: Vec<Part>) -> ByteRanges {
        let content_remaining = parts.iter().map(|part| part.len()).sum();
        // Nobody who writes a file can know it, so that no file holds it.
        let boundary = random::hex();
        let mut body = ByteRanges {
            file,
            content_type,
            boundary,
            parts: parts.into_iter(),
            under_way: None,
            content_remaining,
            remaining: 0,
        };
        // Each is made twice instead of being kept: that is cheaper than to hold a thousand for a slow client.
        let around: usize = body.parts.as_slice().iter().map(|&part| body.heading(part).len()).sum();
        body.remaining = content_remaining + (around + body.end().len()) as u64;
        body
    }

    /// The value of Content-Type.
    pub(crate) fn media_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Bytes that were not sent yet.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Returns the next bytes, about 64 KiB at most, so that many small parts are few pieces.
    ///
    /// # Errors
    ///
    /// As of the body: the file became shorter, or has changed when the last of it was read.
    pub(crate) fn next_piece(&mut self) -> io::Result<Bytes> {
        let mut piece = Vec::new();
        while (piece.len() as u64) < PIECE_BYTES {
            let Some(part) = self.under_way.take() else {
                match self.parts.next() {
                    Some(part) => {
                        piece.extend_from_slice(self.heading(part).as_bytes());
                        self.under_way = Some(part);
                        continue;
                    }
                    None => {
                        piece.extend_from_slice(self.end().as_bytes());
                        break;
                    }
                }
            };
            let len_max = part.len().min(PIECE_BYTES) as usize;
            let bytes = read_piece(&self.file, part.first, len_max, self.content_remaining)?;
            let len = bytes.len() as u64;
            self.content_remaining -= len;
            if len < part.len() {
                self.under_way = Some(Part { first: part.first + len, last: part.last });
            }
            piece.extend_from_slice(&bytes);
        }
        self.remaining -= piece.len() as u64;
        Ok(Bytes::from(piece))
    }

    /// What stands before a part. The first line break belongs to the delimiter (RFC 2046 5.1.1).
    fn heading(&self, part: Part) -> String {
        let mut text = format!("\r\n--{}\r\n", self.boundary);
        if let Some(content_type) = self.content_type.as_ref().and_then(|value| value.to_str().ok()) {
            let _ = write!(text, "Content-Type: {content_type}\r\n");
        }
        let _ = write!(text, "Content-Range: bytes {}-{}/{}\r\n\r\n", part.first, part.last, self.file.len());
        text
    }

    fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::file;

    fn part((first, last): (u64, u64)) -> Part {
        Part { first, last }
    }

    fn sent(mut body: ByteRanges) -> io::Result<(usize, String)> {
        let (mut pieces, mut all) = (0, Vec::new());
        while body.remaining() > 0 {
            let before = body.remaining();
            let piece = body.next_piece()?;
            assert_eq!(before - body.remaining(), piece.len() as u64);
            pieces += 1;
            all.extend_from_slice(&piece);
        }
        Ok((pieces, String::from_utf8(all).unwrap().replace(&body.boundary, "B")))
    }

    #[track_caller]
    fn check(content_type: Option<&'static str>, parts: &[(u64, u64)], expected: &str) {
        let content_type = content_type.map(HeaderValue::from_static);
        let parts = parts.iter().copied().map(part).collect();
        let body = ByteRanges::new(file("0123456789", 1, 0), content_type, parts);
        assert_eq!(sent(body).unwrap(), (1, expected.to_owned()));
    }

    #[test]
    fn parts_stand_in_the_order_asked_for() {
        check(
            Some("text/plain"),
            &[(7, 9), (0, 0)],
            "\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-9/10\r\n\r\n789\
             \r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n--B--\r\n",
        );
        check(
            None,
            &[(0, 9), (0, 9)],
            "\r\n--B\r\nContent-Range: bytes 0-9/10\r\n\r\n0123456789\
             \r\n--B\r\nContent-Range: bytes 0-9/10\r\n\r\n0123456789\r\n--B--\r\n",
        );
    }

    #[test]
    fn long_parts_are_sent_in_pieces() {
        let text = "0123456789abcdef".repeat(10_000);
        let parts = [(1, 99_999), (0, 0), (5, 159_999)].map(part).to_vec();
        let (pieces, sent) = sent(ByteRanges::new(file(&text, 1, 0), None, parts)).unwrap();
        let found: Vec<&str> =
            sent.split("\r\n--B").map(|part| part.split_once("\r\n\r\n").map_or("", |(_, text)| text)).collect();
        assert_eq!(found[1..], [&text[1..100_000], &text[..1], &text[5..], ""]);
        assert_eq!(pieces, 4);
    }
}
