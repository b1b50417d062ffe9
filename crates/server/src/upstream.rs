//! Requests to upstreams (`proxy` of server.toml), by hyper's client: connections that are kept for the next request, and what a
//! connection is once both sides have changed their protocol. The container makes the requests, and says what becomes of the answers.
//!
//! A request that is given up, or answered, while its body is still on its way, takes its connection with it. hyper by itself waits for
//! the upstream to take the rest, which may be for ever (hyperium/hyper#4176).

use std::error::Error as StdError;
use std::io::{Error, ErrorKind, IoSlice, Result as IoResult};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::http::Extensions;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Uri};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection, capture_connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serval_config::{ContextSettings, Upstream, UpstreamAddress};
use serval_container::{BodyError, Duplex, Enter, Informed, NoAnswer, RequestBody, Sending, UpstreamClient};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tower_service::Service;

use crate::stream::Way;

/// How long a connection is kept that nothing is sent on. Many servers close theirs after 5 s: a request that meets that end on its way
/// is lost, unless it may be sent again.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// LIMIT: headers of an answer. More is a broken one.
const ANSWER_HEADERS_MAX: usize = 200;
/// LIMIT: bytes of an answer's head, and of what is read at once.
const ANSWER_HEAD_BYTES_MAX: usize = 64 << 10;

/// What sends to an upstream.
pub fn client_of(upstream: &Upstream, settings: &ContextSettings) -> Arc<dyn UpstreamClient> {
    let connector = Connector {
        address: upstream.address.clone(),
        within: settings.proxy_connect_timeout,
        places: Arc::new(Semaphore::new(settings.proxy_connections_max)),
    };
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(settings.proxy_connections_max)
        .http1_max_headers(ANSWER_HEADERS_MAX)
        .http1_max_buf_size(ANSWER_HEAD_BYTES_MAX)
        .set_host(false)
        .build(connector);
    Arc::new(Hyper { client })
}

struct Hyper {
    client: Client<Connector, RequestBody>,
}

impl UpstreamClient for Hyper {
    fn send(&self, mut request: Request<RequestBody>, informed: Informed) -> Sending {
        // By which the client finds its connections; nobody is told it.
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(hyper::http::uri::Scheme::HTTP);
        uri.authority = Some(hyper::http::uri::Authority::from_static("upstream"));
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        hyper::ext::on_informational(&mut request, move |answer| informed(answer.status(), answer.headers()));
        let sent = Arc::<Sent>::default();
        let mut request = request.map(|body| Body { body, sent: sent.clone() }.boxed_unsync());
        let exchange = Exchange { sent, connection: capture_connection(&mut request) };
        let answer = self.client.request(request);
        Box::pin(async move {
            match answer.await {
                Ok(answer) => {
                    if let Some(known) = answer.extensions().get::<Arc<Known>>() {
                        known.has_answered.store(true, Ordering::Relaxed);
                    }
                    Ok(answer.map(|body| Answer { body, _exchange: exchange }.boxed_unsync()))
                }
                Err(error) => Err(why(&error)),
            }
        })
    }

    fn tunnel(&self, answer: &mut Extensions, silence_max: Duration) -> Option<Enter> {
        let upstream = answer.remove::<OnUpgrade>()?;
        Some(Box::new(move |client| {
            Box::pin(async move {
                let passed = match upstream.await {
                    Ok(upstream) => pass(client, upstream, silence_max).await.map_err(BodyError::from),
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = passed {
                    tracing::debug!("a tunnel ended: {error}");
                }
            })
        }))
    }
}

/// How far the body of a request is.
#[derive(Default)]
struct Sent {
    is_over: AtomicBool,
    given_up: Wake,
}

/// Something that can be said once, to a task.
#[derive(Default)]
struct Wake {
    is_said: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake {
    fn say(&self) {
        self.is_said.store(true, Ordering::SeqCst);
        if let Some(task) = self.task().take() {
            task.wake();
        }
    }

    /// Whether it was said; else this task is woken then.
    fn is_said(&self, task: &Context<'_>) -> bool {
        if self.is_said.load(Ordering::SeqCst) {
            return true;
        }
        let mut wakes = self.task();
        if !wakes.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            *wakes = Some(task.waker().clone());
        }
        self.is_said.load(Ordering::SeqCst)
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a request, in hyper's hands.
struct Body {
    body: RequestBody,
    sent: Arc<Sent>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(task);
        if polled.is_pending() && self.sent.given_up.is_said(task) {
            return Poll::Ready(Some(Err("the request was given up".into())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.sent.is_over.store(true, Ordering::SeqCst);
    }
}

/// A request at an upstream, until its answer has ended or nobody wants it.
struct Exchange {
    sent: Arc<Sent>,
    connection: CaptureConnection,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.sent.is_over.load(Ordering::SeqCst) {
            return;
        }
        self.sent.given_up.say();
        let mut extensions = Extensions::new();
        if let Some(info) = &*self.connection.connection_metadata() {
            info.poison();
            info.get_extras(&mut extensions);
        }
        if let Some(known) = extensions.get::<Arc<Known>>() {
            known.given_up.say();
        }
    }
}

/// The body of an answer.
struct Answer {
    body: Incoming,
    _exchange: Exchange,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(task).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why there is no answer.
fn why(error: &legacy::Error) -> NoAnswer {
    let mut deepest: &dyn StdError = error;
    while let Some(source) = deepest.source() {
        if let Some(NoAnswer::NotConnected(within)) = source.downcast_ref() {
            return NoAnswer::NotConnected(*within);
        }
        deepest = source;
    }
    let said = deepest.to_string().into();
    if error.is_connect() {
        return NoAnswer::Unreachable(said);
    }
    let mut extensions = Extensions::new();
    if let Some(info) = error.connect_info() {
        info.get_extras(&mut extensions);
    }
    let is_stale =
        |known: &Arc<Known>| known.has_answered.load(Ordering::Relaxed) && known.is_silent.load(Ordering::Relaxed);
    match extensions.get::<Arc<Known>>().is_some_and(is_stale) {
        true => NoAnswer::Stale(said),
        false => NoAnswer::Broken(said),
    }
}

/// Copies both ways until both have ended.
async fn pass(client: Box<dyn Duplex>, upstream: Upgraded, silence_max: Duration) -> IoResult<()> {
    let last = Arc::new(Last { began: Instant::now(), passed: AtomicU64::new(0) });
    let mut client = Heard { stream: client, last: last.clone() };
    let mut upstream = TokioIo::new(upstream);
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut upstream) => copied.map(drop),
        () = last.is_long_ago(silence_max) => Ok(()),
    }
}

/// When something has passed, in milliseconds.
struct Last {
    began: Instant,
    passed: AtomicU64,
}

impl Last {
    fn now(&self) {
        self.passed.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    async fn is_long_ago(&self, max: Duration) {
        loop {
            let at = self.began + Duration::from_millis(self.passed.load(Ordering::Relaxed)) + max;
            if at <= Instant::now() {
                return;
            }
            sleep_until(at).await;
        }
    }
}

/// A stream of which each step is noted.
struct Heard {
    stream: Box<dyn Duplex>,
    last: Arc<Last>,
}

impl Heard {
    fn note<T>(&self, step: Poll<T>) -> Poll<T> {
        if step.is_ready() {
            self.last.now();
        }
        step
    }
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<IoResult<()>> {
        let step = Pin::new(&mut self.stream).poll_read(task, buffer);
        self.note(step)
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<IoResult<usize>> {
        let step = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.note(step)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

/// Makes connections to one upstream, whatever it is asked for.
#[derive(Clone)]
struct Connector {
    address: UpstreamAddress,
    within: Duration,
    /// LIMIT: connections. The container bounds requests alike, so who waits here waits for one that another is just done with.
    places: Arc<Semaphore>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ToUpstream>;
    type Error = NoAnswer;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoAnswer>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoAnswer>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Connector { address, within, places } = self.clone();
        let connected = async move {
            let place = places.acquire_owned().await.map_err(Error::other)?;
            connect(&address, place).await
        };
        Box::pin(async move {
            match timeout(within, connected).await {
                Ok(connected) => connected.map_err(|error| NoAnswer::Unreachable(error.into())),
                Err(_) => Err(NoAnswer::NotConnected(within)),
            }
        })
    }
}

async fn connect(address: &UpstreamAddress, place: OwnedSemaphorePermit) -> IoResult<TokioIo<ToUpstream>> {
    let way = match address {
        UpstreamAddress::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Way::Tcp(stream)
        }
        UpstreamAddress::Unix(path) => Way::Unix(UnixStream::connect(path).await?),
    };
    Ok(TokioIo::new(ToUpstream { way, known: Arc::default(), _place: place }))
}

/// A connection to an upstream.
pub struct ToUpstream {
    way: Way,
    known: Arc<Known>,
    _place: OwnedSemaphorePermit,
}

/// What is known of a connection when a request on it has failed.
#[derive(Default)]
struct Known {
    has_answered: AtomicBool,
    /// Nothing has come since something was sent.
    is_silent: AtomicBool,
    given_up: Wake,
}

impl ToUpstream {
    /// An error: its request was given up, and the rest of that is not to wait in the system until the upstream takes it.
    fn check(&self, task: &Context<'_>) -> IoResult<()> {
        if !self.known.given_up.is_said(task) {
            return Ok(());
        }
        if let Way::Tcp(stream) = &self.way {
            stream.set_zero_linger()?;
        }
        Err(Error::new(ErrorKind::ConnectionAborted, "its request was given up"))
    }

    fn sent<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.known.is_silent.store(true, Ordering::Relaxed);
        }
        written
    }
}

impl Connection for ToUpstream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.known.clone())
    }
}

impl AsyncRead for ToUpstream {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<IoResult<()>> {
        self.check(task)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.way).poll_read(task, buffer);
        if buffer.filled().len() > before {
            self.known.is_silent.store(false, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for ToUpstream {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<IoResult<usize>> {
        self.check(task)?;
        let written = Pin::new(&mut self.way).poll_write(task, bytes);
        self.sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<IoResult<usize>> {
        self.check(task)?;
        let written = Pin::new(&mut self.way).poll_write_vectored(task, pieces);
        self.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.way.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.way).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.way).poll_shutdown(task)
    }
}
