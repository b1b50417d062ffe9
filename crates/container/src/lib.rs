//! A request in, a response out: hosts, contexts, mapping, dispatch, sessions, deployment. No sockets, no hyper.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request as the connection hands it over; `None` in [`Container::handle`] when there is none.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;
pub type ResponseBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// What is known of a connection; one for all of its exchanges.
#[derive(Debug)]
pub struct Peer {
    pub remote: SocketAddr,
    pub local: SocketAddr,
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
    /// WEB-INF folders of mounted webapps that carry source: to be built when their sources are newer.
    pub sources: Vec<Source>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub context: String,
    pub host: String,
    /// The webapp's folder.
    pub webapp: PathBuf,
    /// `[build] command` of web.toml.
    pub command: Option<Vec<String>>,
}

pub struct Container {}

impl Container {
    pub fn new(_config: Arc<serval_config::Server>, _on_event: Box<dyn Fn(&Event) + Send + Sync>) -> Arc<Container> {
        todo!()
    }
    /// Answers one request. Never fails: what goes wrong is an answer.
    pub async fn handle(
        self: &Arc<Self>,
        _request: http::Request<Option<RequestBody>>,
        _peer: &Arc<Peer>,
    ) -> http::Response<ResponseBody> {
        todo!()
    }
    /// Compares the webapps folders with what is mounted, and mounts, reloads, and removes what differs. Returns when the
    /// work is started and all static mounts stand; loads of libraries go on in tasks of their own.
    pub async fn deploy_pass(self: &Arc<Self>) -> Pass {
        todo!()
    }
    /// Waits until no load is going on any more (for the line "ready").
    pub async fn settled(&self) {
        todo!()
    }
    /// While a first library is being built, what no file answers is 503 with Retry-After and a page that says so.
    pub fn set_building(&self, _webapp: &Path, _building: bool) {
        todo!()
    }
    /// Destroys all generations, waiting for their exchanges until `deadline`; true: nothing was cut.
    pub async fn stop(&self, _deadline: std::time::Instant) -> bool {
        todo!()
    }
}
