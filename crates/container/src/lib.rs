//! A request in, a response out: hosts, contexts, mapping, dispatch, deployment. No sockets, no hyper.
//!
//! The way of a request: [`Container::handle`] → `target` (what is asked for) → `routes` (host, context, version) → `remote_ip` (what
//! proxies say of the client) → `inside` (who answers, by `mapping`; or `proxy`, an upstream) → `dispatch` (filters, then a servlet or a file; where it runs is
//! `execution`'s) → `exchange` (what a library may do with it) → `sending`, `pipe` → [`ResponseBody`] → `access_log`. What goes wrong
//! on the way is a `problem`, answered by an `error_page`. What goes on after its servlet has returned is in `asynchronous`; `hints` go
//! out before the answer, and `unread` takes what is left of the request's body. Beside it, `deploy` makes contexts, and `generation`
//! their libraries' side.
#![forbid(unsafe_code)]

mod access_log;
mod answer;
mod answering;
mod asynchronous;
mod body;
mod check;
mod compression;
mod context;
mod declared;
mod deploy;
mod dispatch;
mod error_page;
mod events;
mod exchange;
mod execution;
pub mod explain;
mod files;
mod filters;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod generation;
mod given;
mod hints;
mod inside;
mod jobs;
mod lives;
mod mapping;
mod multipart;
mod pace;
mod parameters;
mod pipe;
mod problem;
mod proxy;
mod readiness;
mod remote_ip;
mod routes;
mod sending;
mod sessions;
mod side;
mod snapshots;
pub mod status;
mod target;
mod tls;
mod tokens;
mod turn;
mod unread;
mod webapp;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};

use access_log::Owner;
use answering::Answer;
pub use answering::Answering;
pub use body::ResponseBody;
use context::{Context, Waiting};
use deploy::Deployment;
pub use deploy::{Deployed, Named, NotTaken, PlaceError, Prepared, ReloadError, Undeployed};
use events::{log_failure, session_ends};
pub use execution::StackOf;
use execution::{Inline, Watch};
use generation::Generation;
pub use hints::Hints;
use inside::Mapped;
use lives::Lives;
use problem::Problem;
pub use proxy::{Duplex, Enter, Informed, NoAnswer, Sending, Tunnel, UpstreamClient, UpstreamOf};
pub use readiness::Readiness;
use routes::{DEFAULT_HOST, Host, Hosts};
use serval_config::Address;
use target::{Authority, Refused, Target};
pub use tls::{Serves, Tls};
pub use turn::{Io, Turn};
pub use webapp::not_served;

pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request as the connection hands it over; `None` in [`Container::handle`] when there is none.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// What is known of a connection; one for all of its exchanges.
#[derive(Debug)]
pub struct Peer {
    pub remote: SocketAddr,
    pub local: SocketAddr,
    /// The two addresses, without ports, as text; empty of a Unix socket, which has none.
    pub remote_text: String,
    pub local_text: String,
    pub connection_id: u64,
    pub secure: bool,
    /// `None`: it is not TLS, here.
    pub tls: Option<Tls>,
    /// The settings of the listener that has accepted it.
    pub listener: Arc<serval_config::Listener>,
}

impl Peer {
    pub fn new(
        remote: SocketAddr,
        local: SocketAddr,
        connection_id: u64,
        secure: bool,
        listener: Arc<serval_config::Listener>,
    ) -> Peer {
        let told = listener.address.as_told();
        let has_none = matches!(listener.address, Address::Unix(_)) && remote == told;
        let text = |address: SocketAddr| if has_none { String::new() } else { address.ip().to_string() };
        let (remote_text, local_text) = (text(remote), text(local));
        Peer { remote, local, remote_text, local_text, connection_id, secure, tls: None, listener }
    }
}

/// Something that an operator wants to see as a line.
#[derive(Debug, Clone)]
pub struct Event {
    /// As in "/shop"; "/" for the root context. Of several hosts, its name stands before it.
    pub context: String,
    /// "ready", "refused", "stopped", "gone".
    pub state: &'static str,
    pub generation: u64,
    pub took: Duration,
    /// One sentence, maybe empty.
    pub detail: String,
}

/// What a deployment pass asks of its caller.
#[derive(Debug, Default)]
pub struct Pass {
    /// Folders to watch; the flag says: with all below.
    pub watch: Vec<(PathBuf, bool)>,
    /// Something is still settling: make another pass after this time, also without an event.
    pub again_after: Option<Duration>,
    /// Mounted webapps that carry source: to be built when their sources are newer.
    pub sources: Vec<Source>,
}

impl Pass {
    /// Asks for another pass after this time at the latest.
    fn again(&mut self, after: Duration) {
        self.again_after = Some(self.again_after.map_or(after, |other| other.min(after)));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub context: String,
    /// The webapp's folder.
    pub webapp: PathBuf,
    /// In `var`, for what its builds leave.
    pub folder: PathBuf,
    /// How long its files must be at rest before they are built.
    pub settle_time: Duration,
}

/// What its build means for a webapp that has no servlets yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildState {
    /// It runs, or waits for others to end.
    Waits,
    Failed,
    Ended,
}

pub struct Container {
    /// Replaced as a whole when the configuration changes.
    hosts: ArcSwap<Hosts>,
    inline: Arc<Inline>,
    exchanges: AtomicU64,
    lives: Arc<Lives>,
    readiness: readiness::Now,
    deployment: Deployment,
    upstream_of: UpstreamOf,
    _watch: Watch,
}

impl Container {
    /// Nothing is mounted before the first pass. Needs a tokio runtime of several threads for everything else.
    pub fn new(
        config: Arc<serval_config::Server>,
        on_event: Box<dyn Fn(&Event) + Send + Sync>,
        stack_of: StackOf,
        upstream_of: UpstreamOf,
    ) -> Arc<Container> {
        // None at all with one I/O thread: it has to be free of servlets.
        let places = config.io_threads.saturating_sub(1);
        let inline = Arc::new(Inline::new(places));
        Arc::new(Container {
            hosts: ArcSwap::from_pointee(Hosts::new(&config)),
            _watch: Watch::start(inline.clone(), stack_of),
            inline,
            exchanges: AtomicU64::new(1),
            lives: Arc::default(),
            upstream_of,
            readiness: readiness::Now::default(),
            deployment: Deployment::new(config, on_event),
        })
    }

    /// Answers one request. Never fails: what goes wrong is an answer.
    pub fn handle(&self, request: Request<Option<RequestBody>>, peer: &Arc<Peer>, turn: &Arc<Turn>) -> Answering {
        let (answer, entry) = self.answer(request, peer, turn);
        Answering::new(answer, entry, turn)
    }

    /// Answers a request that the connection does not let in: with this status, for this reason, a sentence without its full stop.
    pub fn refuse(
        &self,
        request: Request<Option<RequestBody>>,
        (status, why): (StatusCode, &'static str),
        peer: &Arc<Peer>,
        turn: &Arc<Turn>,
    ) -> Answering {
        let (head, _) = request.into_parts();
        let hosts = self.hosts.load();
        let (host, _, mut entry) = self.receive(&hosts, &head, peer);
        note_refusal(&mut entry, why);
        let problem = Problem::closing(status).because_public(format!("{why}."));
        Answering::new(self.problem(host, &problem, &head.headers).into(), entry, turn)
    }

    /// The answer to a request whose head nobody reads: its framing cannot be trusted, or it has not come in time. `line` is the request
    /// line as it came, as far as it did. The access log of the first host has its line.
    pub fn refuse_unread(
        &self,
        line: &[u8],
        status: StatusCode,
        why: &'static str,
        peer: &Arc<Peer>,
    ) -> Response<ResponseBody> {
        let hosts = self.hosts.load();
        let host = &hosts.all[DEFAULT_HOST];
        let problem = Problem::closing(status).because_public(format!("{why}."));
        let response = self.problem(host, &problem, &HeaderMap::new());
        match &host.log {
            None => response,
            Some(log) => log.begin_unread(line, why, peer).answered(response),
        }
    }

    /// The same has been answered already, without a body: only its line is written.
    pub fn note_refused(&self, line: &[u8], status: StatusCode, why: &'static str, peer: &Arc<Peer>) {
        let hosts = self.hosts.load();
        if let Some(log) = &hosts.all[DEFAULT_HOST].log {
            let mut answer = answer::empty(status);
            answer.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
            drop(log.begin_unread(line, why, peer).answered(answer));
        }
    }

    /// The answer to a problem outside of any context.
    fn problem(&self, host: &Host, problem: &Problem, headers: &HeaderMap) -> Response<ResponseBody> {
        host.of.pages.page(problem, headers, self.deployment.development())
    }

    fn answer(
        &self,
        request: Request<Option<RequestBody>>,
        peer: &Arc<Peer>,
        turn: &Arc<Turn>,
    ) -> (Answer, Option<Owner>) {
        let (mut head, body) = request.into_parts();
        let hosts = self.hosts.load();
        let (host, server, mut entry) = self.receive(&hosts, &head, peer);
        if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > peer.listener.target_bytes_max) {
            note_refusal(&mut entry, "the target is longer than target_bytes_max");
            let problem = Problem::closing(StatusCode::URI_TOO_LONG);
            return (self.problem(host, &problem, &head.headers).into(), entry);
        }
        let target = match server.and_then(|server| Target::read(&mut head, server, &peer.listener.uri)) {
            Ok(target) => target,
            Err(Refused(status, why)) => {
                note_refusal(&mut entry, why);
                let problem = Problem::closing(status).because_public(why);
                return (self.problem(host, &problem, &head.headers).into(), entry);
            }
        };
        if target.path() == "*" {
            return (dispatch::options_of_the_server(peer).into(), entry);
        }
        if hosts.ready_path.as_deref() == Some(target.path()) {
            return (self.tell_readiness((head, body), host, peer).into(), entry);
        }
        let routes = host.routes.load();
        let Some(versions) = routes.find(target.path()) else {
            if let Some(body) = body {
                unread::take(body, &head.headers, &peer.listener);
            }
            let is_secure = || self.is_secure_outside(&head.headers, peer);
            if let Some(redirect) = tls::to_https(peer, &head.method, &target, is_secure) {
                return (redirect.into(), entry);
            }
            let problem = Problem::new(StatusCode::NOT_FOUND);
            return (self.problem(host, &problem, &head.headers).into(), entry);
        };
        let context = versions.choose(&target, &head.headers).0.clone();
        drop((routes, hosts));
        let mut request = Box::new(exchange::Request {
            id: self.exchanges.fetch_add(1, Ordering::Relaxed),
            method: head.method,
            version: head.version,
            headers: head.headers,
            target,
            peer: peer.clone(),
            client: None,
            body,
            noting: entry.as_mut().and_then(Owner::noting),
        });
        let generation = context.current.load_full();
        find_client(&generation, &mut request, entry.as_mut());
        if let Some(redirect) = tls::to_https(peer, &request.method, &request.target, || request.is_secure()) {
            return (redirect.into(), entry);
        }
        if generation.gate.is_some() {
            return (gate::answer(context, generation, request, turn), entry);
        }
        (within(context, generation, request, turn), entry)
    }

    fn tell_readiness(
        &self,
        (head, body): (Parts, Option<RequestBody>),
        host: &Host,
        peer: &Peer,
    ) -> Response<ResponseBody> {
        if let Some(body) = body {
            unread::take(body, &head.headers, &peer.listener);
        }
        let told = self.readiness().answer(&head.method);
        told.unwrap_or_else(|problem| self.problem(host, &problem, &head.headers))
    }

    /// What is told at `ready_path`.
    pub fn readiness(&self) -> Readiness {
        self.readiness.get()
    }

    /// Changes it; one that is behind the present one is not taken back.
    pub fn set_readiness(&self, readiness: Readiness) {
        self.readiness.becomes(readiness);
    }

    /// Whether a request to no context has come by https, as proxies say that contexts without an entry of their own believe.
    fn is_secure_outside(&self, headers: &HeaderMap, peer: &Peer) -> bool {
        let config = self.config();
        // All hosts have the same.
        let rules = config.hosts.first().and_then(|host| host.context_defaults.remote_ip.as_ref());
        rules.and_then(|rules| remote_ip::found(rules, headers, peer)?.secure).unwrap_or(false)
    }

    /// The host of a request, what servlets are told of the server, and the request's entry in the host's log.
    fn receive<'h>(
        &self,
        hosts: &'h Hosts,
        head: &Parts,
        peer: &Arc<Peer>,
    ) -> (&'h Host, Result<Authority, Refused>, Option<Owner>) {
        let (host, server) = match Authority::read(head, peer) {
            Ok(asked) => {
                let (host, serves) = (hosts.find(asked.name.as_deref()).0, tls::serves(peer, asked.name.as_deref()));
                (host, if serves { Ok(as_told(hosts, asked, peer)) } else { Err(MISDIRECTED) })
            }
            Err(refused) => (DEFAULT_HOST, Err(refused)),
        };
        let host = &hosts.all[host];
        let entry = host.log.as_ref().map(|log| {
            let name = server.as_ref().ok().and_then(|server| server.name.as_deref());
            log.begin(head, name.unwrap_or(""), peer)
        });
        (host, server, entry)
    }

    /// Waits until the access logs are written, which may block. Requests that end later are not logged.
    pub fn close_logs(&self) {
        self.hosts.load().logs().iter().for_each(|log| log.close());
    }

    /// While a first library is being built, or was not built, what no file answers is 503 with a page that says so.
    pub fn set_build_state(&self, webapp: &Path, state: BuildState) {
        for context in self.hosts.load().contexts().iter().filter(|context| context.current.load().webapp == webapp) {
            let has_servlets = dispatch::servlet_count(&context.current.load()) > 0;
            match (state, context.waiting()) {
                (BuildState::Waits, _) if !has_servlets => context.set_waiting(Waiting::Building),
                (BuildState::Failed, Waiting::Building) => context.set_waiting(Waiting::Failed),
                (BuildState::Ended, Waiting::Building) => context.set_waiting(Waiting::No),
                _ => {}
            }
        }
    }

    /// Tells what goes on by itself in all contexts, such as event streams, that the server stops.
    pub fn retire(&self) {
        for context in self.hosts.load().contexts() {
            context.current.load().retire();
        }
    }

    /// Ends the sessions whose time is up, and tells their listener functions, which may block. To be called now and then.
    pub fn expire_sessions(&self) {
        // While a context has no listener functions yet, or is stopped, they wait for those, and are not told to nobody.
        let is_told = |context: &Arc<Context>| {
            !matches!(context.waiting(), Waiting::Starting | Waiting::Building) && context.current.load().gate.is_none()
        };
        for context in self.hosts.load().contexts().into_iter().filter(is_told) {
            for session in context.sessions.expired() {
                let generation = context.current.load_full();
                let context = &generation.context;
                session_ends(&session, |kind, tell| {
                    log_failure(context, generation.number, generation.tell(kind, tell))
                });
            }
        }
    }

    /// Writes the sessions of each context to `var/sessions`, where they have changed since they were written last; false: not all
    /// could be written, and the log says why. Blocks. To be called now and then, and after the last exchange.
    pub fn save_sessions(&self) -> bool {
        self.deployment.snapshots.save()
    }

    /// Unmounts everything and waits until its exchanges have ended and it is destroyed, or the deadline; true: nothing was cut.
    pub async fn stop(&self, deadline: Instant) -> bool {
        self.lives.end.store(true, Ordering::Relaxed);
        self.deployment.clear().await;
        for host in &self.hosts.load().all {
            host.routes.store(Arc::default());
        }
        loop {
            let changed = self.lives.changed.notified();
            if self.lives.live.load(Ordering::Acquire) == 0 {
                return true;
            }
            if tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
                return self.lives.live.load(Ordering::Acquire) == 0;
            }
        }
    }
}

const MISDIRECTED: Refused =
    Refused(StatusCode::MISDIRECTED_REQUEST, "the connection is for a host that has another certificate");
/// The request's line in the access log is to say why.
fn note_refusal(entry: &mut Option<Owner>, why: &'static str) {
    if let Some(entry) = entry {
        entry.refused(why);
    }
}

/// What servlets are told of the server: `proxy_name` and `proxy_port` go before what the client has sent.
fn as_told(hosts: &Hosts, asked: Authority, peer: &Peer) -> Authority {
    let told = peer.listener.proxy_name.clone().or(asked.name);
    let name = told.unwrap_or_else(|| hosts.all[DEFAULT_HOST].of.name.clone());
    Authority { name: Some(name), port: peer.listener.proxy_port.unwrap_or(asked.port) }
}

/// Where proxies that the context believes say that the request comes from.
fn find_client(generation: &Generation, request: &mut exchange::Request, entry: Option<&mut Owner>) {
    let Some(rules) = &generation.settings.remote_ip else { return };
    let Some(client) = remote_ip::found(rules, &request.headers, &request.peer) else { return };
    if let Some(entry) = entry {
        entry.found_client(&client);
    }
    client.apply(request);
}

/// The request inside its context.
fn within(
    context: Arc<Context>,
    generation: Arc<Generation>,
    mut request: Box<exchange::Request>,
    turn: &Arc<Turn>,
) -> Answer {
    let listener = &request.peer.listener;
    request.target.enter(&context.path, &listener.uri);
    if let Some(proxy) = generation.proxy.clone() {
        return proxy::answer(context, generation, proxy, request, turn);
    }
    if parameters::has_more_cookies(&request.headers, generation.settings.cookie_count_max) {
        let problem = Problem::new(StatusCode::BAD_REQUEST).because_public("The request has too many cookies.");
        return error_page::without_servlet(&problem, &request.headers, &context, &generation).into();
    }
    if inside::lacks_slash(&generation, request.target.path()) {
        return match inside::redirect_to_root(&request, &context, &generation) {
            Ok(redirect) => redirect.into(),
            Err(problem) => error_page::without(&problem, &request.headers, &context, &generation).into(),
        };
    }
    let Mapped { found, welcome } = inside::find(&generation, request.target.path());
    if request.method == Method::TRACE && !listener.allow_trace {
        let problem = dispatch::not_traced(&request, &generation, generation.servlet_of(found.by));
        return dispatch::to_error_page(turn, request, context, generation, found, problem);
    }
    if let Some(path) = welcome {
        request.target.go_to(path);
    }
    if inside::is_protected(request.target.path()) {
        let problem = Problem::new(StatusCode::NOT_FOUND);
        return dispatch::to_error_page(turn, request, context, generation, found, problem);
    }
    dispatch::to(turn, request, context, generation, found)
}
