//! The body of a response: nothing, all of it, a stream that a servlet writes, a file, or what an upstream sends; as it is,
//! or compressed.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::BodyError;
use crate::access_log::Owner;
use crate::compression::Compressed;
use crate::pipe::{Next, Reader};
use crate::proxy::Download;

/// The servlet failed after the head was sent: the connection is cut, so that the client sees it.
#[derive(Debug, thiserror::Error)]
#[error("the servlet failed after the response was committed")]
pub struct Cut;

pub enum ResponseBody {
    Full(Bytes),
    Stream(Stream),
    File(serval_static_files::Body),
    Proxied(Box<Download>),
    /// One of these, of which the access log counts what is sent.
    Logged(Owner),
    Compressed(Box<Compressed>),
}

/// What a servlet writes while the client reads.
pub struct Stream(pub(crate) Reader);

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
            ResponseBody::Stream(stream) => stream.0.poll_next(task).map(|next| match next {
                Next::Piece(piece) => Some(Ok(Frame::data(piece))),
                Next::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
                Next::End => None,
                Next::Cut => Some(Err(Cut.into())),
            }),
            ResponseBody::File(file) => {
                Pin::new(file).poll_frame(task).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            ResponseBody::Proxied(body) => Pin::new(&mut **body).poll_frame(task),
            ResponseBody::Logged(entry) => entry.poll_frame(task),
            ResponseBody::Compressed(body) => body.poll_frame(task),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Full(bytes) => bytes.is_empty(),
            ResponseBody::Stream(_) | ResponseBody::Compressed(_) => false,
            ResponseBody::File(file) => file.is_end_stream(),
            ResponseBody::Proxied(body) => body.is_end_stream(),
            ResponseBody::Logged(entry) => entry.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ResponseBody::Stream(_) | ResponseBody::Compressed(_) => SizeHint::default(),
            ResponseBody::File(file) => file.size_hint(),
            ResponseBody::Proxied(body) => body.size_hint(),
            ResponseBody::Logged(entry) => entry.size_hint(),
        }
    }
}
