//! The guard of HTTP/1 heads against hyper's own verdict: behind the guard, hyper sees the messages that the guard sees, and no others.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response};
use serval_framing::http1::{Guard, Limits, Place};

const LIMITS: Limits = Limits { head_bytes: 8192, target_bytes: 4096, fields: 50, body_line_bytes: 60 };

/// What hyper makes of one message; None: its body is broken.
type Seen = (String, String, Option<Vec<u8>>);

/// A client that sends pieces and ends, with the guard or without.
struct Client {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
    guard: Option<Rc<RefCell<Guard>>>,
}

impl Read for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let len = this.piece.min(this.bytes.len() - this.at).min(buffer.remaining());
        let piece = &this.bytes[this.at..this.at + len];
        let passed = match &this.guard {
            None => len,
            Some(guard) if guard.borrow().is_over() => 0,
            Some(guard) if guard.borrow().place().0 == Place::Answer => return Poll::Pending,
            Some(guard) => guard.borrow_mut().look(piece),
        };
        assert!(passed <= len);
        buffer.put_slice(&piece[..passed]);
        this.at += passed;
        Poll::Ready(Ok(()))
    }
}

impl Write for Client {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if let Some(guard) = &self.guard {
            guard.borrow_mut().is_answered(bytes);
            task.waker().wake_by_ref();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// All messages that hyper answers.
fn seen(bytes: &[u8], piece: usize, guard: Option<Rc<RefCell<Guard>>>) -> Vec<Seen> {
    let all = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let all = all.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
            let is_whole = body.is_some();
            all.borrow_mut().push((head.method.to_string(), head.uri.to_string(), body));
            let mut response = Response::new(Empty::<Bytes>::new());
            if !is_whole {
                response.headers_mut().insert("connection", "close".parse().expect("a value"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let client = Client { bytes: bytes.to_vec(), at: 0, piece, guard };
    let mut http = hyper::server::conn::http1::Builder::new();
    http.half_close(true).max_buf_size(8192);
    let mut connection = Box::pin(http.serve_connection(client, service));
    let mut task = Context::from_waker(Waker::noop());
    // The client is always ready: what is pending waits for the next poll alone.
    for _ in 0..bytes.len() * 2 + 16 {
        if connection.as_mut().poll(&mut task).is_ready() {
            break;
        }
    }
    drop(connection);
    all.take()
}

/// The whole messages that a guard finds, as they lie in the bytes, and how many have begun.
fn messages(bytes: &[u8]) -> (Vec<std::ops::Range<usize>>, u64) {
    let mut guard = Guard::new(LIMITS);
    let (mut found, mut start, mut begun) = (Vec::new(), 0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        if guard.look(&[*byte]) == 0 {
            if guard.place().0 != Place::Answer {
                break;
            }
            guard.is_answered(b"HTTP/1.1 200 OK");
            guard.look(&[*byte]);
        }
        let (place, number) = guard.place();
        let ended = matches!(place, Place::Between | Place::Answer);
        let number = number - u64::from(place == Place::Between);
        if ended && number > begun {
            found.push(start..at + 1);
            (start, begun) = (at + 1, number);
        }
    }
    let (place, number) = guard.place();
    let waits = matches!(place, Place::Between) || (place == Place::Head && number > begun + 1);
    (found, number - u64::from(waits))
}

/// The first byte says how the rest, which a client sends, is cut.
pub fn framing(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let piece = match cut {
        0..=63 => 1 + usize::from(*cut),
        _ => usize::from(*cut) * 64,
    };
    let guard = Rc::new(RefCell::new(Guard::new(LIMITS)));
    let behind = seen(bytes, piece, Some(guard.clone()));
    let (spans, begun) = messages(bytes);
    assert!(behind.len() as u64 <= begun, "hyper has {} messages and the guard {begun}: {behind:?}", behind.len());
    for (number, (span, seen_behind)) in spans.iter().zip(&behind).enumerate() {
        // A message that is whole is the same one, alone as among others.
        let alone = seen(&bytes[span.clone()], usize::MAX, None);
        assert_eq!(alone.first(), Some(seen_behind), "message {number}");
        assert_eq!(alone.len(), 1, "message {number} is several: {alone:?}");
    }
    // Of one that is not whole, hyper has no whole one either.
    if let Some((.., Some(_))) = behind.get(spans.len()) {
        panic!("hyper has a whole message where the guard has none: {behind:?}");
    }
}
