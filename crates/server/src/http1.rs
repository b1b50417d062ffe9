//! One connection of HTTP/1: hyper speaks it, within the listener's limits, and the container answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use serval_container::{BodyError, Container, Io, Peer, Turn};
use serval_framing::http1::{Guard, Place};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::connection::{self, Born, Over, Stop};
use crate::patient::Patient;
use crate::{dev, refused};

/// hyper's buffer has so many bytes at least.
const HYPERS_OWN_LEAST: usize = 8192;
/// hyper's own bound of the header count; to set it, even to the same number, costs 1,700 instructions a request.
const HYPERS_OWN_MAX: usize = 100;

/// A connection that is served when the returned future runs.
pub fn serve(
    stream: crate::stream::Stream,
    peer: Arc<Peer>,
    container: Arc<Container>,
    stopped: (watch::Receiver<bool>, Born),
    place: connection::Place,
) -> Io {
    let (turn, settings) = (Turn::new(&container, &peer), peer.listener.clone());
    let requests_max = settings.requests_per_connection_max;
    // Of this task alone.
    let requests = AtomicU64::new(0);
    let (same_turn, same_peer, same_container) = (turn.clone(), peer.clone(), container.clone());
    let answer = move |request: hyper::Request<Incoming>| {
        let request =
            request.map(|body| if body.is_end_stream() { None } else { Some(body.map_err(Into::into).boxed_unsync()) });
        let number = requests.load(Ordering::Relaxed) + 1;
        requests.store(number, Ordering::Relaxed);
        if number == requests_max {
            same_turn.comes_to_its_end();
        }
        same_container.handle(request, &same_peer, &same_turn)
    };
    let mut http = http1::Builder::new();
    // The guard beneath it has the bounds of heads, and their time; hyper's is not to be reached.
    http.half_close(true).max_buf_size(settings.head_bytes_max + HYPERS_OWN_LEAST);
    if settings.header_count_max > HYPERS_OWN_MAX {
        http.max_headers(settings.header_count_max);
    }
    let socket = TokioIo::new(Patient::new(stream, settings, turn.clone(), stopped.1));
    let end = End { container, peer, over: Over(turn.clone()), _place: place };
    let Some(dev) = dev::dev() else {
        return Io::new(until_stopped(http.serve_connection(socket, service_fn(answer)), stopped, end), turn);
    };
    let (answer, stop) = (Arc::new(answer), stopped.0.clone());
    let service = service_fn(move |request| {
        let (answer, stop) = (answer.clone(), stop.clone());
        Box::pin(async move { dev.answer(request, &stop, |request| answer(request)).await })
    });
    Io::new(until_stopped(http.serve_connection(socket, service), stopped, end), turn)
}

/// What is needed when hyper has no more use for the connection.
struct End {
    container: Arc<Container>,
    peer: Arc<Peer>,
    over: Over,
    _place: connection::Place,
}

/// Runs a connection to its end, which it comes to behind the request that it has when the server stops.
async fn until_stopped<S, B>(
    mut connection: http1::Connection<TokioIo<Patient>, S>,
    stopped: (watch::Receiver<bool>, Born),
    end: End,
) where
    S: HttpService<Incoming, ResBody = B> + Unpin,
    S::Future: Unpin,
    S::Error: Into<BodyError>,
    B: Body + 'static,
    B::Error: Into<BodyError>,
{
    let mut stop = Stop::new(stopped);
    let served = poll_fn(|task| {
        if stop.begins(task, || end.over.0.comes_to_its_end()) {
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(task)
    });
    let served = served.await;
    let hyper = connection.into_parts();
    let (mut stream, guard) = hyper.io.into_inner().into_parts();
    let End { container, peer, over, _place } = end;
    if let (Ok(()), Some(tunnel)) = (&served, over.0.tunnel()) {
        stream.give_back(&hyper.read_buf);
        return tunnel(Box::new(stream)).await;
    }
    let refusal = guard.refusal().filter(|_| !served.as_ref().is_err_and(hyper::Error::is_parse));
    if let Some(refusal) = refusal {
        let refusal = (refusal.status, refusal.why);
        refused::answer(stream, guard.request_line(), refusal, &container, &peer).await;
    } else {
        if let Err(error) = served {
            tracing::debug!("a connection ended: {error}");
            if error.is_user() && guard.request_line().ends_with(b"HTTP/1.0") {
                // Its end would be that of the answer, which is cut.
                return stream.reset();
            }
            note(&error, &guard, &container, &peer);
        }
        let closed = timeout(peer.listener.write_timeout, stream.shutdown()).await;
        if let (Ok(Ok(())), Place::Body) = (closed, guard.place().0) {
            refused::linger(&mut stream).await;
        }
    }
    drop(over);
}

/// hyper has refused a request by itself, and answered it: it is to have its line in the access log.
fn note(error: &hyper::Error, guard: &Guard, container: &Container, peer: &Arc<Peer>) {
    if !error.is_parse() {
        return;
    }
    container.note_refused(guard.request_line(), StatusCode::BAD_REQUEST, "the head is malformed", peer);
}
