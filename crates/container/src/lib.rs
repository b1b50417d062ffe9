//! A request in, a response out: hosts, contexts, mapping, dispatch, deployment. No sockets, no hyper.
//!
//! The way of a request: [`Container::handle`] → `target` (what is asked for) → `mapping` → `dispatch` (filters, then a servlet or a
//! file; where it runs is `execution`'s) → `exchange` (what a library may do with it) → `sending`, `pipe` → [`ResponseBody`]. What goes on
//! after its servlet has returned is in `asynchronous`. Beside it, `deploy` makes contexts, and `generation` their libraries' side.
#![forbid(unsafe_code)]

mod answer;
mod answering;
mod asynchronous;
mod body;
mod compression;
mod context;
mod declared;
mod deploy;
mod dispatch;
mod events;
mod exchange;
mod execution;
mod files;
mod filters;
mod generation;
mod jobs;
mod mapping;
mod multipart;
mod parameters;
mod pipe;
mod sending;
mod sessions;
mod side;
mod target;
mod turn;
mod webapp;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use foldhash::{HashMap, HashMapExt as _};
use http::{Request, StatusCode};
use serval_abi::SV_EVENT_SESSION_DESTROYED;

use answering::Answer;
pub use answering::Answering;
pub use body::ResponseBody;
use context::{Context, Waiting};
use deploy::Deployment;
use dispatch::Welcome;
use execution::{Inline, Watch};
use generation::Lives;
use target::Target;
pub use turn::{Io, Turn};

pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request as the connection hands it over; `None` in [`Container::handle`] when there is none.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// What is known of a connection; one for all of its exchanges.
#[derive(Debug)]
pub struct Peer {
    pub remote: SocketAddr,
    pub local: SocketAddr,
    /// The two addresses, without ports, as text.
    pub remote_text: String,
    pub local_text: String,
    pub connection_id: u64,
    pub secure: bool,
    /// The longest wait for the next piece of a request's body.
    pub body_timeout: Duration,
    /// The longest wait for a client that does not read.
    pub write_timeout: Duration,
}

/// Something that an operator wants to see as a line.
#[derive(Debug, Clone)]
pub struct Event {
    /// As in "/shop"; "/" for the root context.
    pub context: String,
    /// "ready", "building", "failed", "gone".
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

/// The contexts of one host by path; replaced as a whole by a deployment.
#[derive(Clone, Default)]
struct Routes {
    by_path: HashMap<String, Arc<Context>>,
    /// Bytes of the longest path that there ever was: what a request has beyond is not looked at.
    longest: usize,
}

struct Host {
    routes: ArcSwap<Routes>,
}

pub struct Container {
    hosts: Vec<Host>,
    /// Names and aliases, in lower case, to hosts.
    names: HashMap<String, usize>,
    /// What stands behind `*.` in an alias: one label more.
    wildcards: HashMap<String, usize>,
    inline: Arc<Inline>,
    exchanges: AtomicU64,
    lives: Arc<Lives>,
    deployment: Deployment,
    _watch: Watch,
}

impl Container {
    /// Nothing is mounted before the first pass. Needs a tokio runtime of several threads for everything else.
    pub fn new(config: Arc<serval_config::Server>, on_event: Box<dyn Fn(&Event) + Send + Sync>) -> Arc<Container> {
        let (mut names, mut wildcards) = (HashMap::new(), HashMap::new());
        for (number, host) in config.hosts.iter().enumerate() {
            for name in std::iter::once(&host.name).chain(&host.aliases) {
                let name = name.to_ascii_lowercase();
                match name.strip_prefix("*.") {
                    Some(rest) => wildcards.entry(rest.to_owned()).or_insert(number),
                    None => names.entry(name).or_insert(number),
                };
            }
        }
        // None at all with one I/O thread: it has to be free of servlets.
        let places = config.io_threads.saturating_sub(1);
        let inline = Arc::new(Inline::new(places));
        Arc::new(Container {
            hosts: config.hosts.iter().map(|_| Host { routes: ArcSwap::default() }).collect(),
            names,
            wildcards,
            _watch: Watch::start(inline.clone()),
            inline,
            exchanges: AtomicU64::new(1),
            lives: Arc::default(),
            deployment: Deployment::new(config, on_event),
        })
    }

    /// Answers one request. Never fails: what goes wrong is an answer.
    pub fn handle(&self, request: Request<Option<RequestBody>>, peer: &Arc<Peer>, turn: &Arc<Turn>) -> Answering {
        Answering::new(self.answer(request, peer, turn), turn)
    }

    fn answer(&self, request: Request<Option<RequestBody>>, peer: &Arc<Peer>, turn: &Arc<Turn>) -> Answer {
        let (head, body) = request.into_parts();
        let target = match Target::read(&head.method, head.uri, head.version, &head.headers, peer.secure) {
            Ok(target) => target,
            Err(bad) => return answer::closing(StatusCode::BAD_REQUEST, bad.0).into(),
        };
        if target.path() == "*" {
            return answer::options("GET, HEAD, POST, PUT, DELETE, OPTIONS").into();
        }
        let Some(context) = self.context(&target) else {
            return answer::page(StatusCode::NOT_FOUND, "").into();
        };
        let request = Box::new(exchange::Request {
            id: self.exchanges.fetch_add(1, Ordering::Relaxed),
            method: head.method,
            version: head.version,
            headers: head.headers,
            target,
            peer: peer.clone(),
            body,
        });
        within(context, request, turn)
    }

    /// The context with the longest path that the target is inside of (SEMANTICS 2).
    fn context(&self, target: &Target) -> Option<Arc<Context>> {
        let name = &target.server_name;
        let by_wildcard = || self.wildcards.get(name.split_once('.')?.1);
        let host = self.names.get(name).or_else(by_wildcard).copied().unwrap_or(0);
        let host = self.hosts.get(host)?;
        let routes = host.routes.load();
        mapping::prefixes(target.path(), routes.longest).find_map(|prefix| routes.by_path.get(prefix).cloned())
    }

    /// While a first library is being built, or was not built, what no file answers is 503 with a page that says so.
    pub fn set_build_state(&self, webapp: &Path, state: BuildState) {
        for host in &self.hosts {
            for context in host.routes.load().by_path.values().filter(|context| context.webapp == webapp) {
                let has_servlets = dispatch::servlet_count(&context.current.load()) > 0;
                match (state, context.waiting()) {
                    (BuildState::Waits, _) if !has_servlets => context.set_waiting(Waiting::Building),
                    (BuildState::Failed, Waiting::Building) => context.set_waiting(Waiting::Failed),
                    (BuildState::Ended, Waiting::Building) => context.set_waiting(Waiting::No),
                    _ => {}
                }
            }
        }
    }

    /// Tells what goes on by itself in all contexts, such as event streams, that the server stops.
    pub fn retire(&self) {
        for context in self.contexts() {
            context.current.load().retire();
        }
    }

    /// Ends the sessions whose time is up, and tells their listener functions, which may block. To be called now and then.
    pub fn expire_sessions(&self) {
        for context in self.contexts() {
            for session in context.sessions.expired() {
                context.current.load().session_ends(SV_EVENT_SESSION_DESTROYED, &session);
            }
        }
    }

    fn contexts(&self) -> Vec<Arc<Context>> {
        self.hosts.iter().flat_map(|host| host.routes.load().by_path.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Unmounts everything and waits until its exchanges have ended and it is destroyed, or the deadline; true: nothing was cut.
    pub async fn stop(&self, deadline: Instant) -> bool {
        self.deployment.clear().await;
        for host in &self.hosts {
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

/// The request inside its context: protected folders, servlets, welcome files, static files.
fn within(context: Arc<Context>, mut request: Box<exchange::Request>, turn: &Arc<Turn>) -> Answer {
    request.target.enter(&context.path);
    let path = request.target.path();
    if path.is_empty() {
        let query = request.target.query().map(|query| format!("?{query}")).unwrap_or_default();
        return answer::redirect(&format!("{}/{query}", request.target.request_uri())).into();
    }
    if is_protected(path) {
        return answer::page(StatusCode::NOT_FOUND, "").into();
    }
    let generation = context.current.load_full();
    let mut found = generation.mapper.find(path);
    if found.is_none() && path.ends_with('/') {
        match dispatch::welcome(&context, &generation, path) {
            Some(Welcome::Servlet(servlet, path)) => {
                found = Some(servlet);
                request.target.go_to(path);
            }
            Some(Welcome::File(file)) => {
                request.target.go_to(file);
                return dispatch::to(turn, request, context, generation, None);
            }
            None => {}
        }
    }
    let found = found.or_else(|| generation.mapper.find_default(request.target.path()));
    dispatch::to(turn, request, context, generation, found)
}

/// WEB-INF and META-INF at the top of a webapp, in any case (SEMANTICS 7).
fn is_protected(path: &str) -> bool {
    let first = path[1..].split('/').next().unwrap_or("");
    first.eq_ignore_ascii_case("WEB-INF") || first.eq_ignore_ascii_case("META-INF")
}
