//! The body of an upstream's answer on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use super::outgoing::remove_hop_by_hop;
use super::{Passing, Proxy};
use crate::generation::{Generation, Stage};
use crate::{BodyError, RequestBody};

/// It is not whole, and the client has to see that: its connection, or stream, is cut.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer was cut: {0}")]
struct Cut(&'static str);

pub struct Download {
    body: RequestBody,
    proxy: Arc<Proxy>,
    generation: Arc<Generation>,
    /// Between two pieces.
    time: Duration,
    /// While the next piece is waited for; made once.
    wait: Option<Pin<Box<Sleep>>>,
    waits: bool,
    /// When nobody wants the rest any more, or may have it.
    ends: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    _place: OwnedSemaphorePermit,
}

impl Download {
    pub(super) fn new(body: RequestBody, place: OwnedSemaphorePermit, passing: &Passing) -> Download {
        let (generation, turn) = (passing.generation.clone(), passing.turn.clone());
        let mut stage = generation.stage.subscribe();
        let ends = async move {
            tokio::select! {
                () = turn.client_has_left() => "the client has left",
                _ = stage.wait_for(|stage| *stage == Stage::Cut) => "its time is up (drain_timeout)",
            }
        };
        Download {
            body,
            proxy: passing.proxy.clone(),
            time: generation.settings.proxy_timeout,
            generation,
            wait: None,
            waits: false,
            ends: Box::pin(ends),
            _place: place,
        }
    }

    fn cut(&self, kind: &'static str, what: &str) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.proxy.say(&self.generation.context, kind, what);
        Poll::Ready(Some(Err(Cut(kind).into())))
    }

    fn wait(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(why) = self.ends.as_mut().poll(task) {
            return Poll::Ready(Some(Err(Cut(why).into())));
        }
        let time = self.time;
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(time)));
        if !std::mem::replace(&mut self.waits, true) {
            wait.as_mut().reset(Instant::now() + time);
        }
        match wait.as_mut().poll(task) {
            Poll::Ready(()) => self.cut(
                "stalled",
                &format!("nothing came of an answer that has begun for {time:?} (proxy_timeout); it is cut"),
            ),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(task) else { return this.wait(task) };
        this.waits = false;
        match next {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    remove_hop_by_hop(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            }))),
            Some(Err(error)) => this.cut("cut", &format!("an answer has ended before its end, and is cut: {error}")),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
