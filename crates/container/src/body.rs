//! The body of a response: nothing, all of it, a stream that a servlet writes, or a file.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::{Receiver, Sender};

use crate::BodyError;

/// The servlet failed after the head was sent: the connection is cut, so that the client sees it.
#[derive(Debug, thiserror::Error)]
#[error("the servlet failed after the response was committed")]
pub struct Cut;

pub enum ResponseBody {
    Full(Bytes),
    Stream(Stream),
    File(serval_static_files::Body),
}

/// What a servlet writes while the client reads.
pub struct Stream {
    pieces: Receiver<Bytes>,
    /// Set when the servlet has written all of it. An end without it is a cut: whatever became of the servlet, a part never
    /// looks like the whole.
    whole: Arc<AtomicBool>,
}

/// The servlet's end of a [`Stream`].
pub struct StreamWriter {
    pub pieces: Sender<Bytes>,
    whole: Arc<AtomicBool>,
}

impl StreamWriter {
    /// That was all of it.
    pub fn finish(self) {
        self.whole.store(true, Ordering::Release);
    }
}

/// A stream that holds up to this many pieces.
pub fn stream(pieces: usize) -> (StreamWriter, Stream) {
    let whole = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = tokio::sync::mpsc::channel(pieces);
    (StreamWriter { pieces: sender, whole: whole.clone() }, Stream { pieces: receiver, whole })
}

impl ResponseBody {
    pub fn empty() -> ResponseBody {
        ResponseBody::Full(Bytes::new())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            ResponseBody::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            ResponseBody::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ResponseBody::Stream(stream) => stream.pieces.poll_recv(task).map(|piece| match piece {
                Some(piece) => Some(Ok(Frame::data(piece))),
                None if stream.whole.load(Ordering::Acquire) => None,
                None => Some(Err(Cut.into())),
            }),
            ResponseBody::File(file) => {
                Pin::new(file).poll_frame(task).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Full(bytes) => bytes.is_empty(),
            ResponseBody::Stream(_) => false,
            ResponseBody::File(file) => file.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ResponseBody::Stream(_) => SizeHint::default(),
            ResponseBody::File(file) => file.size_hint(),
        }
    }
}
