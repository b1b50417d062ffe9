//! A context whose target is an upstream (`proxy` of server.toml): its requests go there, and its answers come from there, both while
//! they are sent, and without anything of a webapp. No sockets here: who sends is an [`UpstreamClient`] of the server's.
//!
//! Called by `within`, in the root of this crate. [`answer`] is the list of steps: `outgoing` makes the head that goes there, of what
//! `forwarded` says of the client; `upload` is the body on its way there; `incoming` makes the head of the answer, `download` is its
//! body; and where both sides have changed to another protocol, as WebSockets do, the connection has a tunnel from then on.

mod download;
mod forwarded;
mod incoming;
pub mod outgoing;
mod upload;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, RETRY_AFTER};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use serval_config::{ContextSettings, Upstream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::answering::Answer;
use crate::body::ResponseBody;
use crate::context::Context;
use crate::exchange;
use crate::generation::{Generation, Stage};
use crate::problem::Problem;
use crate::turn::Turn;
use crate::{BodyError, RequestBody, answer as answers, error_page};
pub use download::Download;
use incoming::Rewriting;
use outgoing::Outgoing;
use upload::{Progress, Upload};

/// Sends requests to one upstream, over connections that it keeps for the next ones.
pub trait UpstreamClient: Send + Sync {
    /// Sends a request, of which the URI has no authority, and returns when the head of the answer has come. What is informational before
    /// it is told. Dropped, the request is given up, and its connection with it.
    ///
    /// # Errors
    /// There is no answer. A request of which a byte may have been sent is never sent again.
    fn send(&self, request: Request<RequestBody>, informed: Informed) -> Sending;

    /// What copies bytes both ways behind an answer that changes the protocol, until both sides have ended, or nothing has passed for
    /// a time. `None`: the connection of this answer, which has these extensions, has not changed.
    fn tunnel(&self, answer: &mut Extensions, silence_max: Duration) -> Option<Enter>;
}

/// Is told the status and the headers of an informational answer.
pub type Informed = Box<dyn Fn(StatusCode, &HeaderMap) + Send + Sync>;
pub type Sending = Pin<Box<dyn Future<Output = Result<Response<RequestBody>, NoAnswer>> + Send>>;
/// A connection on which HTTP has ended.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}
/// Is given the client's connection.
pub type Enter = Box<dyn FnOnce(Box<dyn Duplex>) -> Tunnel + Send>;
/// What a connection does then.
pub type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Makes what sends to an upstream. Nothing is connected before the first request.
pub type UpstreamOf = Box<dyn Fn(&Upstream, &ContextSettings) -> Arc<dyn UpstreamClient> + Send + Sync>;

/// Why an upstream has not answered.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("it cannot be reached: {0}")]
    Unreachable(BodyError),
    #[error("it has not accepted a connection for {0:?} (proxy_connect_timeout)")]
    NotConnected(Duration),
    /// It has closed a connection that it had answered on before, without a byte in answer to this request.
    #[error("it has closed the connection: {0}")]
    Stale(BodyError),
    #[error("its answer is broken: {0}")]
    Broken(BodyError),
}

/// How often a request is sent again that found only connections that the upstream was about to close.
const AGAIN_MAX: usize = 3;
/// How often one kind of trouble with an upstream is logged.
const SAID_EVERY: Duration = Duration::from_secs(10);
const BUSY: &str = "This application has as many requests as it can take.";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What the generations of a context have of an upstream.
pub struct Proxy {
    pub upstream: Arc<Upstream>,
    client: Arc<dyn UpstreamClient>,
    connect_timeout: Duration,
    places_max: usize,
    places: Arc<Semaphore>,
    /// Requests that wait for a place.
    waiting: AtomicUsize,
    /// Its name in Via, by which it knows a request that it has sent itself.
    name: String,
    /// What went wrong, by its kind: when it was logged, and how often it came since then.
    said: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

impl Proxy {
    /// `before`: that of the context's last generation, which goes on if it has the same connections.
    pub fn next(
        upstream: &Arc<Upstream>,
        settings: &ContextSettings,
        before: Option<&Arc<Proxy>>,
        upstream_of: &UpstreamOf,
    ) -> Arc<Proxy> {
        let (connect_timeout, places_max) = (settings.proxy_connect_timeout, settings.proxy_connections_max);
        let is_same = |before: &&Arc<Proxy>| {
            (&before.upstream, before.connect_timeout, before.places_max) == (upstream, connect_timeout, places_max)
        };
        before.filter(is_same).cloned().unwrap_or_else(|| {
            Arc::new(Proxy {
                upstream: upstream.clone(),
                client: upstream_of(upstream, settings),
                connect_timeout,
                places_max,
                places: Arc::new(Semaphore::new(places_max)),
                waiting: AtomicUsize::new(0),
                // Random: another server on the way may be of the same kind.
                name: format!("serval-{:08x}", RandomState::new().hash_one(()) as u32),
                said: Mutex::default(),
            })
        })
    }

    /// Requests and tunnels that are there now.
    pub fn busy(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
    }

    /// Waits for a place. `None`: too many wait, or it has taken too long.
    async fn enter(&self, settings: &ContextSettings) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= settings.queue_max {
            return None;
        }
        timeout(settings.queue_timeout, self.places.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Logs what went wrong, each kind once in a while.
    fn say(&self, context: &str, kind: &'static str, what: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        // LIMIT: the kinds are those of this module.
        if let Some((_, unsaid)) = said.get_mut(kind).filter(|(last, _)| last.elapsed() < SAID_EVERY) {
            *unsaid += 1;
            return;
        }
        let more = match said.insert(kind, (Instant::now(), 0)) {
            None | Some((_, 0)) => String::new(),
            Some((_, more)) => format!(" ({more} times more since this was said last)"),
        };
        drop(said);
        tracing::warn!(%context, "the upstream {}: {what}{more}", self.upstream);
    }
}

/// An exchange with an upstream.
struct Passing {
    context: Arc<Context>,
    generation: Arc<Generation>,
    proxy: Arc<Proxy>,
    turn: Arc<Turn>,
    /// Of the request's headers what an error page asks.
    accept: HeaderMap,
}

impl Passing {
    fn page(&self, problem: &Problem) -> Response<ResponseBody> {
        error_page::without(problem, &self.accept, &self.context, &self.generation)
    }

    /// The answer where the upstream gives none.
    fn failed(&self, status: StatusCode, kind: &'static str, what: &str) -> Box<Problem> {
        self.proxy.say(&self.context.name, kind, what);
        Problem::new(status).because(what.to_owned())
    }
}

/// Sends a request that has entered its context to the upstream; the answer is what that says.
pub fn answer(
    context: Arc<Context>,
    generation: Arc<Generation>,
    proxy: Arc<Proxy>,
    request: Box<exchange::Request>,
    turn: &Arc<Turn>,
) -> Answer {
    let accept = HeaderMap::from_iter(request.headers.get_all(ACCEPT).iter().map(|value| (ACCEPT, value.clone())));
    let passing = Passing { context, generation, proxy, turn: turn.clone(), accept };
    match ends_here(&request, &passing) {
        Some(Ok(response)) => response.into(),
        Some(Err(problem)) => passing.page(&problem).into(),
        None => Answer::Later(Box::pin(async move {
            let (turn, mut stage) = (passing.turn.clone(), passing.generation.stage.subscribe());
            turn.watch_client();
            // What waits for the upstream is dropped where it comes second, and the request there with it.
            tokio::select! {
                biased;
                passed = pass(&passing, request) => passed.unwrap_or_else(|problem| passing.page(&problem)),
                () = turn.client_has_left() => passing.page(&Problem::closing(client_gone())),
                _ = stage.wait_for(|stage| *stage == Stage::Cut) => passing.page(&Problem::unavailable(1)),
            }
        })),
    }
}

/// As nginx has it, for the access log: nobody reads that answer.
fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// What the upstream never sees.
fn ends_here(request: &exchange::Request, passing: &Passing) -> Option<Result<Response<ResponseBody>, Box<Problem>>> {
    let Passing { generation, proxy, .. } = passing;
    if request.method == Method::TRACE && !request.peer.listener.allow_trace {
        return Some(Err(Problem::not_allowed(METHODS)));
    }
    if outgoing::has_passed(&request.headers, &proxy.name) {
        let what = "requests come back to where they were sent from: its address leads to this context";
        return Some(Err(passing.failed(StatusCode::LOOP_DETECTED, "loop", what)));
    }
    if outgoing::is_at_its_end(request) {
        return Some(Ok(match request.method {
            Method::TRACE => answers::trace(request),
            _ => answers::options(METHODS),
        }));
    }
    let length = request.body.as_ref().map_or(0, |body| http_body::Body::size_hint(body).lower());
    (length > generation.settings.request_body_bytes_max).then(|| Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE)))
}

async fn pass(passing: &Passing, mut request: Box<exchange::Request>) -> Result<Response<ResponseBody>, Box<Problem>> {
    let Passing { context, generation, proxy, .. } = passing;
    let settings = &generation.settings;
    let Some(place) = proxy.enter(settings).await else {
        let most = proxy.places_max;
        proxy.say(
            &context.name,
            "busy",
            &format!("{most} requests are there (proxy_connections_max), and more do not find a place in time"),
        );
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE)
            .with(RETRY_AFTER, HeaderValue::from(1))
            .because_public(BUSY));
    };
    let Outgoing { head, upgrades, expects } = outgoing::head(&mut request, context, proxy, settings)?;
    let rewriting = Rewriting::of(&request, context, &proxy.upstream);
    let (body, progress) = Upload::of(&mut request, settings.request_body_bytes_max, expects);
    let version = request.version;
    let is_head = request.method == Method::HEAD;
    drop(request);
    let response = send(passing, (head, body), &progress, version).await?;
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let tunnel =
            upgrades.then(|| proxy.client.tunnel(&mut head.extensions, settings.proxy_tunnel_timeout)).flatten();
        let Some(tunnel) = tunnel else {
            let what = "it has changed to another protocol, which nobody has asked for";
            return Err(passing.failed(StatusCode::BAD_GATEWAY, "protocol", what));
        };
        passing.turn.go_on_with(tunnel_of(passing, place, tunnel));
        incoming::of_upgrade(&mut head.headers);
        return Ok(answered(head, ResponseBody::empty()));
    }
    rewriting.head(&mut head.headers);
    let body = match is_head || http_body::Body::is_end_stream(&body) {
        true => ResponseBody::empty(),
        false => ResponseBody::Proxied(Box::new(Download::new(body, place, passing))),
    };
    Ok(answered(head, body))
}

/// With the status and the headers of a head, and nothing else of it.
fn answered(head: http::response::Parts, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (head.status, head.headers);
    response
}

/// Sends it, again where that does no harm, and waits for the head of the answer.
async fn send(
    passing: &Passing,
    (head, upload): (http::request::Parts, Option<Upload>),
    progress: &Arc<Progress>,
    version: Version,
) -> Result<Response<RequestBody>, Box<Problem>> {
    let Passing { proxy, turn, generation, .. } = passing;
    // RFC 9110 9.2.2.
    let may_come_twice = upload.is_none() && head.method.is_idempotent();
    let (mut body, mut again) = (upload.map(http_body_util::BodyExt::boxed_unsync), 0);
    loop {
        let request = Request::from_parts(head.clone(), body.take().unwrap_or_else(empty));
        let informed = informed(turn, version, progress);
        let sent = wait_for_head(proxy.client.send(request, informed), progress, generation.settings.proxy_timeout);
        let no_answer = match sent.await {
            Some(Ok(response)) => return Ok(response),
            Some(Err(no_answer)) => no_answer,
            None => {
                let what = format!("it has not answered for {:?} (proxy_timeout)", generation.settings.proxy_timeout);
                return Err(passing.failed(StatusCode::GATEWAY_TIMEOUT, "silent", &what));
            }
        };
        // The client's fault, not the upstream's.
        if let Some(status) = progress.failed() {
            return Err(Problem::closing(status));
        }
        let (status, kind) = match &no_answer {
            NoAnswer::Stale(_) if may_come_twice && again < AGAIN_MAX => {
                again += 1;
                continue;
            }
            NoAnswer::Unreachable(_) => (StatusCode::BAD_GATEWAY, "unreachable"),
            NoAnswer::NotConnected(_) => (StatusCode::GATEWAY_TIMEOUT, "not connected"),
            NoAnswer::Stale(_) | NoAnswer::Broken(_) => (StatusCode::BAD_GATEWAY, "broken"),
        };
        return Err(passing.failed(status, kind, &no_answer.to_string()));
    }
}

fn empty() -> RequestBody {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// `None`: neither the answer nor a place for a piece of the request has come in time. While the client is slow, that is not the
/// upstream's.
async fn wait_for_head(
    mut sending: Sending,
    progress: &Progress,
    time: Duration,
) -> Option<Result<Response<RequestBody>, NoAnswer>> {
    let mut before = progress.pieces();
    loop {
        if let Ok(sent) = timeout(time, &mut sending).await {
            return Some(sent);
        }
        let now = progress.pieces();
        if now == before && !progress.waits_for_client() {
            return None;
        }
        before = now;
    }
}

/// What is done with informational answers: 100 lets the body go, 103 goes on to the client.
fn informed(turn: &Arc<Turn>, version: Version, progress: &Arc<Progress>) -> Informed {
    let (turn, progress) = (turn.clone(), progress.clone());
    Box::new(move |status, headers| match status {
        StatusCode::CONTINUE => progress.go_on(),
        StatusCode::EARLY_HINTS if version == Version::HTTP_11 && !turn.is_alone() => {
            let mut headers = headers.clone();
            outgoing::remove_hop_by_hop(&mut headers);
            // One that finds no place is left out: they are hints.
            if turn.hints.add(status, &headers).is_ok() {
                turn.wake();
            }
        }
        _ => {}
    })
}

/// The tunnel, as long as its generation may go on, and with what it holds.
fn tunnel_of(passing: &Passing, place: OwnedSemaphorePermit, enter: Enter) -> Enter {
    let generation = passing.generation.clone();
    Box::new(|client| {
        Box::pin(async move {
            let _place = place;
            let mut stage = generation.stage.subscribe();
            tokio::select! {
                () = enter(client) => {}
                _ = stage.wait_for(|stage| *stage == Stage::Cut) => {}
            }
        })
    })
}
