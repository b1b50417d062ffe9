//! What a request becomes: an answer that is known at once, or that a servlet's call will give. A small future, since it is
//! moved for each request.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Response, StatusCode};
use tokio::sync::oneshot;

use crate::access_log::Owner;
use crate::body::ResponseBody;
use crate::problem::Problem;
use crate::turn::Turn;

/// The response to one request. Always `Ok`.
#[must_use = "futures do nothing unless polled"]
pub struct Answering {
    turn: Arc<Turn>,
    answer: Answer,
    /// The request's entry in the access log, if its host has one.
    entry: Option<Owner>,
}

pub(crate) enum Answer {
    Known(Option<Response<ResponseBody>>),
    /// By a call that was handed to the connection's turn.
    Called(oneshot::Receiver<Response<ResponseBody>>),
    /// Boxed, because it is for the long way.
    Later(Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>),
}

impl Answering {
    pub(crate) fn new(answer: Answer, entry: Option<Owner>, turn: &Arc<Turn>) -> Answering {
        turn.hear(false);
        Answering { turn: turn.clone(), answer, entry }
    }
}

impl Answer {
    pub(crate) fn poll(&mut self, turn: &Turn, task: &mut Context<'_>) -> Poll<Response<ResponseBody>> {
        match self {
            Answer::Known(response) => response.take().map_or(Poll::Pending, Poll::Ready),
            // Without a waker: the call runs when this poll of the connection is over, and the next one follows.
            Answer::Called(_) if turn.is_next() => Poll::Pending,
            Answer::Called(answered) => match Pin::new(answered).poll(task) {
                Poll::Ready(answered) => Poll::Ready(or_failed(answered)),
                Poll::Pending => {
                    turn.waits_for_answer(task.waker());
                    Poll::Pending
                }
            },
            Answer::Later(future) => {
                turn.waits_for_answer(task.waker());
                future.as_mut().poll(task)
            }
        }
    }
}

impl From<Response<ResponseBody>> for Answer {
    fn from(response: Response<ResponseBody>) -> Answer {
        Answer::Known(Some(response))
    }
}

/// Of a call that was given up.
pub(crate) fn or_failed(answered: Result<Response<ResponseBody>, oneshot::error::RecvError>) -> Response<ResponseBody> {
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR).page(&HeaderMap::new(), false);
    answered.unwrap_or_else(failed)
}

impl Future for Answering {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.turn.hear(true);
        let Answering { turn, answer, .. } = &mut *self;
        let Poll::Ready(mut response) = answer.poll(turn, task) else { return Poll::Pending };
        if self.turn.hints.are_waiting() {
            // They go before it, and who sends them wakes this task.
            self.answer = response.into();
            return Poll::Pending;
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.turn.finish(response.headers_mut());
        }
        Poll::Ready(Ok(match self.entry.take() {
            None => response,
            Some(entry) => entry.answered(response),
        }))
    }
}
