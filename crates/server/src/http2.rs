//! One connection of HTTP/2: hyper speaks it, each stream is an exchange with a task of its own, and the container answers. Flow control,
//! frames and the state of streams are hyper's (RFC 9113); what is bounded here is what a client may do within the rules: frames that
//! carry nothing, headers that trickle, answers that are not read, connections without a request.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use serval_container::{Answering, BodyError, Container, Io, Peer, Turn};
use serval_framing::http2::Frames;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::connection::{Born, Over, Place, Stop};
use crate::patient::Unread;
use crate::said;
use crate::stream::Stream;

/// Bytes of a connection's windows, beside that of one stream.
const STREAMS_IN_WINDOW: u32 = 4;
/// How long a connection that was told to end may be idle; and a write is of an answer from so many bytes on, not of control frames.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_BYTES: usize = 64;
/// Bytes of an answer that hyper is given at once: the last ones are out of our hands.
const PIECE_BYTES: usize = 16 << 10;
/// LIMIT: bytes of an answer that wait for the client.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// RFC 9113 6.5.2: what a field counts beside its name and value.
const FIELD_OVERHEAD: usize = 32;
/// GOAWAY with ENHANCE_YOUR_CALM, and no word of which streams were not looked at: nobody is to send their requests again.
const CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0x0b];

tokio::task_local! {
    /// Of the stream whose task this is.
    static TURN: Arc<Turn>;
}

/// Serves a connection to its end.
pub async fn serve(
    stream: Stream,
    peer: Arc<Peer>,
    container: Arc<Container>,
    stopped: (watch::Receiver<bool>, Born),
    place: Place,
) {
    let settings = peer.listener.clone();
    let streams = Arc::new(Streams {
        live: AtomicUsize::new(0),
        begun: AtomicU64::new(0),
        idle_since: Mutex::new(Instant::now()),
        container: container.clone(),
        peer: peer.clone(),
        _place: place,
    });
    let (same_peer, same_container) = (peer.clone(), container.clone());
    let stop_of_dev = stopped.0.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        // What is handed in by it belongs to the stream's own task, which has not begun yet.
        let (peer, container, stop) = (same_peer.clone(), same_container.clone(), stop_of_dev.clone());
        async move { answer(request, &container, &peer, &stop).await }
    });
    let window = settings.h2_window_bytes;
    let mut http = http2::Builder::new(Each(streams.clone()));
    http.timer(TokioTimer::new())
        .max_concurrent_streams(settings.h2_streams_max)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window * STREAMS_IN_WINDOW)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        // Ours comes first, so that it is answered and logged.
        .max_header_list_size(settings.head_bytes_max as u32 * 2);
    let connection = http.serve_connection(TokioIo::new(Framed::new(stream, streams.clone())), service);
    let mut connection = pin!(connection);
    let mut stop = Stop::new(stopped);
    // Since when it is told to come to its end.
    let mut ending = None;
    let mut idle = pin!(sleep(settings.head_timeout.min(settings.keep_alive_timeout)));
    let served = poll_fn(|task| {
        let mut ends = stop.begins(task, || {});
        let begun = streams.begun.load(Ordering::Relaxed);
        let most = settings.requests_per_connection_max;
        ends |= most > 0 && begun >= most;
        if ends && ending.is_none() {
            ending = Some(Instant::now());
            connection.as_mut().graceful_shutdown();
            idle.as_mut().reset(Instant::now() + ENDS_WITHIN);
        }
        if let Poll::Ready(served) = connection.as_mut().poll(task) {
            return Poll::Ready(served);
        }
        // It does not heed that it was told.
        if most > 0 && begun > most + u64::from(settings.h2_streams_max) {
            return Poll::Ready(Ok(()));
        }
        while idle.as_mut().poll(task).is_ready() {
            let idle_since = streams.idle_since();
            let now = Instant::now();
            let is_new = begun == 0;
            let time = if is_new { settings.head_timeout } else { settings.keep_alive_timeout };
            match (idle_since, ending) {
                (None, Some(_)) => idle.as_mut().reset(now + ENDS_WITHIN),
                (None, None) => idle.as_mut().reset(now + settings.keep_alive_timeout),
                (Some(since), Some(told)) if since.max(told) + ENDS_WITHIN <= now => return Poll::Ready(Ok(())),
                (Some(since), Some(told)) => idle.as_mut().reset(since.max(told) + ENDS_WITHIN),
                (Some(since), None) if since + time > now => idle.as_mut().reset(since + time),
                (Some(_), None) => {
                    ending = Some(now);
                    connection.as_mut().graceful_shutdown();
                    idle.as_mut().reset(now + ENDS_WITHIN);
                    task.waker().wake_by_ref();
                }
            }
        }
        Poll::Pending
    });
    if let Err(error) = served.await {
        tracing::debug!("a connection ended: {error}");
    }
}

/// The streams of one connection.
struct Streams {
    live: AtomicUsize,
    begun: AtomicU64,
    /// When the last one ended, or something of one was sent: a stream has no task any more while h2 has its last bytes.
    idle_since: Mutex<Instant>,
    container: Arc<Container>,
    peer: Arc<Peer>,
    _place: Place,
}

impl Streams {
    /// Since when no stream is open, and nothing of one was sent; `None`: one is open.
    fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.live.load(Ordering::Acquire) == 0;
        is_idle.then(|| *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_not_idle(&self) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Gives each stream of a connection a task, which has the connection's place until its end.
#[derive(Clone)]
struct Each(Arc<Streams>);

/// A stream that is not over.
struct Live(Arc<Streams>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.is_not_idle();
        self.0.live.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<F> hyper::rt::Executor<F> for Each
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Each(streams) = self;
        streams.live.fetch_add(1, Ordering::AcqRel);
        streams.begun.fetch_add(1, Ordering::Relaxed);
        let turn = Turn::new(&streams.container, &streams.peer);
        let (live, over) = (Live(streams.clone()), Over(turn.clone()));
        let time = streams.peer.listener.write_timeout;
        let run = async move {
            let pace = Arc::new(Pace::default());
            PACE.scope(pace.clone(), Reads { stream: Box::pin(stream), pace, seen: 0, waits: None, time }).await;
            drop((over, live));
        };
        // The listener waits for it: it has the connection's place.
        tokio::spawn(Io::new(TURN.scope(turn.clone(), run), turn).run());
    }
}

/// Answers a request in its stream's task.
async fn answer(
    request: Request<Incoming>,
    container: &Arc<Container>,
    peer: &Arc<Peer>,
    stopped: &watch::Receiver<bool>,
) -> std::result::Result<Response<Paced>, Infallible> {
    let (turn, pace) = (TURN.with(Arc::clone), PACE.with(Arc::clone));
    let request = as_of_http1(request);
    let handle = |request: Request<Incoming>| -> Answering {
        let settings = &peer.listener;
        let request =
            request.map(|body| if body.is_end_stream() { None } else { Some(body.map_err(Into::into).boxed_unsync()) });
        let headers = request.headers();
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum();
        if headers.len() > settings.header_count_max || bytes > settings.head_bytes_max {
            let why = "the head is larger than head_bytes_max or header_count_max";
            said::of_client(peer.remote.ip(), why);
            return container.refuse(request, (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, why), peer, &turn);
        }
        container.handle(request, peer, &turn)
    };
    let response = match crate::dev::dev() {
        None => handle(request).await.map(|response| response.map(|body| body.boxed_unsync())),
        Some(dev) => dev.answer(request, stopped, handle).await,
    };
    response.map(|response| response.map(|body| Paced { body, rest: Bytes::new(), pace }))
}

/// What the container is told of every request: the path as its target, whom the client means in Host, cookies in one field
/// (RFC 9113 8.2.3, 8.3.1).
fn as_of_http1<B>(mut request: Request<B>) -> Request<B> {
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    match authority {
        Some(authority) if !request.headers().contains_key(HOST) => {
            request.headers_mut().insert(HOST, authority);
        }
        // If they differ, that shows as in an absolute target.
        Some(authority) if request.headers().get(HOST) != Some(&authority) => return request,
        _ => {}
    }
    if request.method() != hyper::Method::CONNECT {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
    join_cookies(request.headers_mut());
    request
}

fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let joined: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&joined.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

// ---------------------------------------------------------------------------------------------- answers that are not read

tokio::task_local! {
    static PACE: Arc<Pace>;
}

/// How a body is taken.
#[derive(Default)]
struct Pace {
    /// Pieces that it has given.
    given: AtomicU64,
    /// The last one was given and hyper has asked for no other: the client's windows are full. Else it waits for the body itself.
    waits_for_client: std::sync::atomic::AtomicBool,
}

/// The body of an answer, of which is noted how it is taken.
struct Paced {
    body: crate::dev::DevBody,
    /// Of a piece that is longer than hyper is given at once.
    rest: Bytes,
    pace: Arc<Pace>,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BodyError>>> {
        let polled = match self.rest.is_empty() {
            true => Pin::new(&mut self.body).poll_frame(task).map_ok(|frame| match frame.into_data() {
                Ok(piece) => {
                    self.rest = piece;
                    self.next_piece()
                }
                Err(trailers) => trailers,
            }),
            false => Poll::Ready(Some(Ok(self.next_piece()))),
        };
        let gives = matches!(polled, Poll::Ready(Some(Ok(_))));
        self.pace.given.fetch_add(u64::from(gives), Ordering::Relaxed);
        self.pace.waits_for_client.store(gives, Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// Asked before the first piece is given.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Paced {
    fn next_piece(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(PIECE_BYTES);
        Frame::data(self.rest.split_to(length))
    }
}

/// A stream that is reset when its client has not read for write_timeout.
struct Reads<F> {
    stream: Pin<Box<F>>,
    pace: Arc<Pace>,
    /// Pieces that had been given when the time began.
    seen: u64,
    waits: Option<Pin<Box<Sleep>>>,
    time: Duration,
}

impl<F: Future<Output = ()>> Future for Reads<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.stream.as_mut().poll(task).is_ready() {
            return Poll::Ready(());
        }
        let given = this.pace.given.load(Ordering::Relaxed);
        if !this.pace.waits_for_client.load(Ordering::Relaxed) {
            this.waits = None;
            return Poll::Pending;
        }
        let until = Instant::now() + this.time;
        let waits = this.waits.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if std::mem::replace(&mut this.seen, given) != given {
            waits.as_mut().reset(until);
        }
        // Dropped, it is reset with CANCEL.
        waits.as_mut().poll(task)
    }
}

// ---------------------------------------------------------------------------------------------- beneath hyper

/// The connection's bytes, with the guard of its frames.
struct Framed {
    stream: Stream,
    streams: Arc<Streams>,
    peer: Arc<Peer>,
    frames: Frames,
    /// While headers have come in part.
    headers: Option<Pin<Box<Sleep>>>,
    unread: Unread,
    /// hyper has nothing in its hands: what is written now comes between two frames.
    is_flushed: bool,
}

impl Framed {
    fn new(stream: Stream, streams: Arc<Streams>) -> Framed {
        let peer = streams.peer.clone();
        let frames = Frames::new(peer.listener.h2_overhead_max);
        Framed { stream, streams, peer, frames, headers: None, unread: Unread::default(), is_flushed: false }
    }

    fn notes(&self, written: &Poll<Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(bytes)) if *bytes > ANSWER_BYTES) {
            self.streams.is_not_idle();
        }
    }

    /// Ends the connection, and says why.
    fn cut(&mut self, why: &'static str, task: &mut Context<'_>) -> Poll<Result<()>> {
        said::of_client(self.peer.remote.ip(), why);
        if self.is_flushed {
            let _ = Pin::new(&mut self.stream).poll_write(task, &CALM);
        }
        Poll::Ready(Err(Error::new(ErrorKind::InvalidData, why)))
    }
}

impl AsyncRead for Framed {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(task, buffer)?;
        if let Err(flood) = this.frames.look(&buffer.filled()[before..]) {
            return this.cut(flood, task);
        }
        if !this.frames.is_in_headers() {
            this.headers = None;
            return read.map(Ok);
        }
        let time = this.peer.listener.head_timeout;
        let headers = this.headers.get_or_insert_with(|| Box::pin(sleep(time)));
        if read.is_ready() {
            return Poll::Ready(Ok(()));
        }
        ready!(headers.as_mut().poll(task));
        this.cut("its headers have not come within head_timeout", task)
    }
}

impl AsyncWrite for Framed {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let this = &mut *self;
        this.is_flushed = false;
        let written = Pin::new(&mut this.stream).poll_write(task, bytes);
        this.notes(&written);
        this.unread.within(this.peer.listener.write_timeout, task, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = &mut *self;
        this.is_flushed = false;
        let written = Pin::new(&mut this.stream).poll_write_vectored(task, pieces);
        this.notes(&written);
        this.unread.within(this.peer.listener.write_timeout, task, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.stream).poll_flush(task);
        this.is_flushed = flushed.is_ready();
        this.unread.within(this.peer.listener.write_timeout, task, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_one_of_http_1() {
        let request =
            Request::get("http://a.test:81/x?y").header(COOKIE, "a=1").header(COOKIE, "b=2").body(()).unwrap();
        let request = as_of_http1(request);
        assert_eq!(*request.uri(), "/x?y");
        assert_eq!(
            (&request.headers()[HOST], &request.headers()[COOKIE]),
            (&"a.test:81".parse().unwrap(), &"a=1; b=2".parse().unwrap())
        );
        let differs = as_of_http1(Request::get("http://a.test/").header(HOST, "b.test").body(()).unwrap());
        assert_eq!(*differs.uri(), "http://a.test/");
    }
}
