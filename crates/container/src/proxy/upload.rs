//! The body of a request on its way to the upstream, piece by piece as the client sends it and the upstream takes it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::exchange::Request;
use crate::pace::Pace;
use crate::{BodyError, Peer, RequestBody, unread};

/// How long an upstream may leave a client without a word that waits to be asked for its body; then it is asked (RFC 9110 10.1.1).
const ASKED_WITHIN: Duration = Duration::from_secs(1);

/// How far it is, for who waits for the answer.
#[derive(Default)]
pub struct Progress {
    pieces: AtomicU64,
    waits_for_client: AtomicBool,
    /// The upstream asks for it.
    asked: Notify,
    failed: OnceLock<StatusCode>,
}

impl Progress {
    pub fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }

    pub fn waits_for_client(&self) -> bool {
        self.waits_for_client.load(Ordering::Relaxed)
    }

    /// The upstream wants the body.
    pub fn go_on(&self) {
        self.asked.notify_one();
    }

    /// What the client gets, if the request has failed by its own fault.
    pub fn failed(&self) -> Option<StatusCode> {
        self.failed.get().copied()
    }
}

pub struct Upload {
    /// None: it has ended.
    body: Option<RequestBody>,
    peer: Arc<Peer>,
    progress: Arc<Progress>,
    /// Bytes that may still come.
    left: u64,
    /// Until it is asked for: the client sends nothing before.
    held: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// While the next piece is waited for; made once.
    wait: Option<Pin<Box<Sleep>>>,
    pace: Pace,
}

/// Why the request is given up.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request has failed with {0}")]
struct Failed(StatusCode);

impl Upload {
    /// Takes the body of a request, if it has one.
    pub fn of(request: &mut Request, bytes_max: u64, expects: bool) -> (Option<Upload>, Arc<Progress>) {
        let progress = Arc::<Progress>::default();
        let upload = request.body.take().map(|body| {
            let asked = progress.clone();
            let held: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
                let _ = timeout(ASKED_WITHIN, asked.asked.notified()).await;
            });
            let (peer, held) = (request.peer.clone(), expects.then_some(held));
            Upload {
                body: Some(body),
                peer,
                progress: progress.clone(),
                left: bytes_max,
                held,
                wait: None,
                pace: Pace::default(),
            }
        });
        (upload, progress)
    }

    fn fail(&mut self, status: StatusCode) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let _ = self.progress.failed.set(status);
        Poll::Ready(Some(Err(Failed(status).into())))
    }

    /// The client has its time for each piece.
    fn wait(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let time = self.peer.listener.body_timeout;
        self.pace.waits();
        let waited_before = self.progress.waits_for_client.swap(true, Ordering::Relaxed);
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(time)));
        if !waited_before {
            wait.as_mut().reset(Instant::now() + time);
        }
        ready!(wait.as_mut().poll(task));
        self.body = None;
        self.fail(StatusCode::REQUEST_TIMEOUT)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(held) = &mut this.held {
            ready!(held.as_mut().poll(task));
            this.held = None;
        }
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let Poll::Ready(next) = Pin::new(body).poll_frame(task) else { return this.wait(task) };
        this.progress.waits_for_client.store(false, Ordering::Relaxed);
        this.progress.pieces.fetch_add(1, Ordering::Relaxed);
        let frame = match next {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                this.body = None;
                return this.fail(StatusCode::BAD_REQUEST);
            }
            None => {
                this.body = None;
                return Poll::Ready(None);
            }
        };
        let frame = match frame.into_trailers() {
            Ok(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(allowed(trailers, &this.peer))))),
            Err(frame) => frame,
        };
        let len = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = this.left.checked_sub(len) else { return this.fail(StatusCode::PAYLOAD_TOO_LARGE) };
        this.left = left;
        this.pace.comes(len as usize);
        if this.pace.is_slow(&this.peer.listener) {
            this.body = None;
            return this.fail(StatusCode::REQUEST_TIMEOUT);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The trailers that the listener lets in.
fn allowed(mut trailers: HeaderMap, peer: &Peer) -> HeaderMap {
    let refused: Vec<_> = trailers
        .keys()
        .filter(|name| !peer.listener.trailers.iter().any(|known| known == name.as_str()))
        .cloned()
        .collect();
    refused.iter().for_each(|name| drop(trailers.remove(name)));
    trailers
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        let mut headers = HeaderMap::new();
        if self.held.is_some() {
            headers.insert(EXPECT, http::HeaderValue::from_static("100-continue"));
        }
        unread::take(body, &headers, &self.peer.listener);
    }
}
