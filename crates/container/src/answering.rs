//! What a request becomes: an answer that is known at once, or that a servlet's call will give. A small future, since it is
//! moved for each request.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Response, StatusCode};
use tokio::sync::oneshot;

use crate::answer;
use crate::body::ResponseBody;

/// The response to one request. Always `Ok`.
#[must_use = "futures do nothing unless polled"]
pub struct Answering(State);

enum State {
    Known(Option<Response<ResponseBody>>),
    /// By a call that was handed to the connection's turn.
    Called {
        answered: oneshot::Receiver<Response<ResponseBody>>,
        its_turn: bool,
    },
    /// Boxed, because it is for the long way.
    Later(Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>),
}

impl Answering {
    pub(crate) fn by_call(answered: oneshot::Receiver<Response<ResponseBody>>) -> Answering {
        Answering(State::Called { answered, its_turn: false })
    }

    pub(crate) fn later(future: impl Future<Output = Response<ResponseBody>> + Send + 'static) -> Answering {
        Answering(State::Later(Box::pin(future)))
    }
}

impl From<Response<ResponseBody>> for Answering {
    fn from(response: Response<ResponseBody>) -> Answering {
        Answering(State::Known(Some(response)))
    }
}

/// Of a call that was given up.
pub(crate) fn or_failed(answered: Result<Response<ResponseBody>, oneshot::error::RecvError>) -> Response<ResponseBody> {
    answered.unwrap_or_else(|_| answer::page(StatusCode::INTERNAL_SERVER_ERROR, ""))
}

impl Future for Answering {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Known(response) => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending,
            },
            State::Called { its_turn: its_turn @ false, .. } => {
                // Without a waker: the call runs when this poll of the connection is over, and the next one follows.
                *its_turn = true;
                Poll::Pending
            }
            State::Called { answered, .. } => Pin::new(answered).poll(task).map(|answered| Ok(or_failed(answered))),
            State::Later(future) => future.as_mut().poll(task).map(Ok),
        }
    }
}
