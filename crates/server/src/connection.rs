//! One connection: hyper speaks HTTP/1 on it, within the listener's limits, and the container answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serval_container::{BodyError, Container, Io, Peer, Turn};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::dev;
use crate::heads::{Heads, UnknownVersion};
use crate::patient::Patient;

/// The first request of a connection that is younger may be on its way: it is not closed before, when the server stops, so that no
/// client finds it closed that has just been let in.
const YOUNG: Duration = Duration::from_secs(1);

/// hyper's own bound of the header count; to set it, even to the same number, costs 1,700 instructions a request.
const HYPERS_OWN_MAX: usize = 100;

/// A connection that is served when the returned future runs; `place` is its listener's.
pub fn serve(
    stream: TcpStream,
    peer: Arc<Peer>,
    container: Arc<Container>,
    stopped: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) -> Io {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("TCP_NODELAY: {error}");
    }
    let (turn, settings) = (Turn::new(&container, &peer), peer.listener.clone());
    let same_turn = turn.clone();
    let unknown_version = UnknownVersion::default();
    let heads = Heads::new(unknown_version.clone());
    let requests_max = settings.requests_per_connection_max;
    // Of this task alone.
    let requests = AtomicU64::new(0);
    let answer = move |request: hyper::Request<Incoming>| {
        let request =
            request.map(|body| if body.is_end_stream() { None } else { Some(body.map_err(Into::into).boxed_unsync()) });
        let number = requests.load(Ordering::Relaxed) + 1;
        requests.store(number, Ordering::Relaxed);
        if number == requests_max {
            same_turn.comes_to_its_end();
        }
        let refused = match unknown_version.is(number) {
            true => Some(StatusCode::HTTP_VERSION_NOT_SUPPORTED),
            false => request.body().as_ref().and_then(|_| refused_coding(request.headers())),
        };
        match refused {
            Some(status) => container.refuse(request, status, &peer, &same_turn),
            None => container.handle(request, &peer, &same_turn),
        }
    };
    let mut http = http1::Builder::new();
    http.half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(Patient::hypers_time(&settings))
        .max_buf_size(settings.head_bytes_max.max(8192));
    if settings.header_count_max != HYPERS_OWN_MAX {
        http.max_headers(settings.header_count_max);
    }
    let socket = TokioIo::new(Patient::new(stream, settings.clone(), turn.clone(), heads));
    let over = Over(turn.clone(), place);
    let Some(dev) = dev::dev() else {
        return Io::new(until_stopped(http.serve_connection(socket, service_fn(answer)), stopped, over), turn);
    };
    let (answer, stop) = (Arc::new(answer), stopped.clone());
    let service = service_fn(move |request| {
        let (answer, stop) = (answer.clone(), stop.clone());
        async move { dev.answer(request, &stop, |request| answer(request)).await }
    });
    Io::new(until_stopped(http.serve_connection(socket, service), stopped, over), turn)
}

/// Runs a connection to its end, which it comes to behind the request that it has when the server stops.
async fn until_stopped<S, B>(connection: http1::Connection<Socket, S>, stopped: watch::Receiver<bool>, over: Over)
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BodyError>,
    B: http_body::Body + 'static,
    B::Error: Into<BodyError>,
{
    let mut connection = std::pin::pin!(connection);
    let mut stop = Stop::new(stopped);
    let served = poll_fn(|task| {
        if stop.begins(task, &over.0) {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(task)
    });
    if let Err(error) = served.await {
        tracing::debug!("a connection ended: {error}");
    }
}

type Socket = TokioIo<Patient>;

/// Tells the exchanges of a connection, when it is dropped, that it is over.
struct Over(Arc<Turn>, #[expect(dead_code, reason = "it is given back then")] OwnedSemaphorePermit);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.client_leaves();
    }
}

/// Tells a connection once that the server stops. Asked at each poll of it, so it asks the channel only when there is something
/// new, or another task to wake: more than that costs 2 % of a request.
struct Stop {
    channel: watch::Receiver<bool>,
    told: Pin<Box<dyn Future<Output = ()> + Send>>,
    wakes: Option<Waker>,
    accepted: Instant,
    /// Told, and waits until the connection is not young any more.
    young: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Stop {
    fn new(channel: watch::Receiver<bool>) -> Stop {
        let mut waiting = channel.clone();
        Stop {
            channel,
            told: Box::pin(unconstrained(async move { crate::run::told(&mut waiting).await })),
            wakes: None,
            accepted: Instant::now(),
            young: None,
            over: false,
        }
    }

    fn begins(&mut self, task: &mut Context<'_>, turn: &Turn) -> bool {
        if let Some(young) = self.young.as_mut().filter(|_| !self.over) {
            self.over = young.as_mut().poll(task).is_ready();
            return self.over;
        }
        let waits = self.wakes.as_ref().is_some_and(|waker| waker.will_wake(task.waker()));
        if self.over || (waits && matches!(self.channel.has_changed(), Ok(false))) {
            return false;
        }
        self.wakes = Some(task.waker().clone());
        if self.told.as_mut().poll(task).is_pending() {
            return false;
        }
        turn.comes_to_its_end();
        let young = self.young.insert(Box::pin(sleep_until(self.accepted + YOUNG)));
        self.over = young.as_mut().poll(task).is_ready();
        self.over
    }
}

/// A body is chunked, once, and nothing else (SEMANTICS 13). hyper looks only at the last coding: a servlet would read what is
/// still compressed, and a proxy in front may have seen another end of the body.
fn refused_coding(headers: &HeaderMap) -> Option<StatusCode> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let first = values.next()?;
    if values.next().is_none() && first.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return None;
    }
    let chunked = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.split(',').all(|coding| coding.trim().eq_ignore_ascii_case("chunked")))
    };
    let known = headers.get_all(TRANSFER_ENCODING).iter().all(chunked);
    Some(if known { StatusCode::BAD_REQUEST } else { StatusCode::NOT_IMPLEMENTED })
}
