//! The body of a response: nothing, a small file's bytes, or a file, or parts of it, read while they are sent.
//!
//! Made by `respond`, driven by the server. It never sends other bytes than those announced: when the
//! file turns out to be another than the one described in the head, the body ends with an error and
//! the server must cut the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::byteranges::ByteRanges;
use crate::file::File;

/// The size of one read. Larger ones save few calls and hold more memory for each slow client.
pub(crate) const PIECE_BYTES: u64 = 64 * 1024;

/// The body of a response. Its length is known from the start.
///
/// A poll is always ready and makes at most one blocking read, of at most 64 KiB.
///
/// # Errors
///
/// The system's error of a read; `UnexpectedEof` when the file became shorter; `Other` when, after the
/// last read, its length or time is not what it was when it was looked up. The last piece is then held
/// back, so that a body of mixed states is never complete.
#[derive(Debug)]
pub struct Body(Content);

#[derive(Debug)]
enum Content {
    Empty,
    Bytes(Bytes),
    // Boxed, because most bodies are not so long, and a body is moved with its answer.
    Pieces(Box<Pieces>),
    Parts(Box<ByteRanges>),
}

#[derive(Debug)]
struct Pieces {
    file: File,
    offset: u64,
    remaining: u64,
}

impl Body {
    /// The length up to which a file is read at once, in bytes.
    pub(crate) const READ_AT_ONCE_MAX: u64 = 16 * 1024;

    /// Returns a body of no bytes.
    pub fn empty() -> Body {
        Body(Content::Empty)
    }

    pub(crate) fn in_pieces(file: File, offset: u64, len: u64) -> Body {
        Body(Content::Pieces(Box::new(Pieces { file, offset, remaining: len })))
    }

    pub(crate) fn parts(parts: ByteRanges) -> Body {
        Body(Content::Parts(Box::new(parts)))
    }

    /// Reads a part of the file; none when the file has changed.
    pub(crate) fn at_once(file: &File, offset: u64, len: u64) -> io::Result<Option<Body>> {
        if len == 0 {
            return Ok(Some(Body::empty()));
        }
        let bytes = file.read_at(offset, piece_len(len))?;
        if bytes.len() as u64 != len || file.changed()? {
            return Ok(None);
        }
        Ok(Some(Body(Content::Bytes(Bytes::from(bytes)))))
    }
}

fn piece_len(remaining: u64) -> usize {
    remaining.min(PIECE_BYTES) as usize
}

impl Pieces {
    fn next(&mut self) -> io::Result<Bytes> {
        let bytes = read_piece(&self.file, self.offset, piece_len(self.remaining), self.remaining)?;
        self.offset += bytes.len() as u64;
        self.remaining -= bytes.len() as u64;
        Ok(Bytes::from(bytes))
    }
}

/// Reads some of a part, at least one byte; when that is the last of the whole answer it only counts if the file is still the
/// same.
pub(crate) fn read_piece(file: &File, offset: u64, len_max: usize, whole_remaining: u64) -> io::Result<Vec<u8>> {
    let bytes = file.read_at(offset, len_max)?;
    if bytes.is_empty() {
        let message = "the file became shorter while it was sent";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    if bytes.len() as u64 == whole_remaining && file.changed()? {
        return Err(io::Error::other("the file changed while it was sent"));
    }
    Ok(bytes)
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match std::mem::replace(&mut self.0, Content::Empty) {
            Content::Empty => Poll::Ready(None),
            Content::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Content::Pieces(mut pieces) => {
                let piece = pieces.next();
                if piece.is_ok() && pieces.remaining > 0 {
                    self.0 = Content::Pieces(pieces);
                }
                Poll::Ready(Some(piece.map(Frame::data)))
            }
            Content::Parts(mut parts) => {
                let piece = parts.next_piece();
                if piece.is_ok() && parts.remaining() > 0 {
                    self.0 = Content::Parts(parts);
                }
                Poll::Ready(Some(piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Content::Empty => 0,
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Pieces(pieces) => pieces.remaining,
            Content::Parts(parts) => parts.remaining(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use http_body::Body as _;
    use std::task::Waker;

    pub(crate) fn read_all(mut body: Body) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = next(&mut body) {
            all.extend(piece?);
        }
        Ok(all)
    }

    fn next(body: &mut Body) -> Option<io::Result<Bytes>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(piece) => piece.map(|piece| piece.map(|frame| frame.into_data().unwrap())),
            Poll::Pending => panic!("a file is always ready"),
        }
    }

    #[test]
    fn a_body_is_sent_and_counted_in_pieces() {
        let text = "0123456789abcdef".repeat(10_000);
        let mut body = Body::in_pieces(crate::file::tests::file(&text, 1, 0), 1, 159_998);
        let mut sent = Vec::new();
        for (piece_len, remaining) in [(65_536, 94_462), (65_536, 28_926), (28_926, 0)] {
            assert!(!body.is_end_stream());
            let piece = next(&mut body).unwrap().unwrap();
            assert_eq!((piece.len(), body.size_hint().exact()), (piece_len, Some(remaining)));
            sent.extend(piece);
        }
        assert!(body.is_end_stream());
        assert!(next(&mut body).is_none());
        assert_eq!(sent, text.as_bytes()[1..159_999]);
    }

    #[test]
    fn a_body_ends_after_its_error() {
        let mut body = Body::in_pieces(crate::file::tests::file("short", 1, 0), 0, 100_000);
        assert_eq!(next(&mut body).unwrap().unwrap(), "short");
        let error = next(&mut body).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the file became shorter while it was sent");
        assert!(next(&mut body).is_none());
    }

    #[test]
    fn bodies_move_between_threads() {
        fn check<T: Send + Sync + Unpin>() {}
        check::<Body>();
    }
}
