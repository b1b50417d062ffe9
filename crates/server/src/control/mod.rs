//! The control socket: `var/run/serval.sock`, JSON over HTTP/1.1, for the command line on the same machine.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | 200, [`Status`](serval_container::status::Status) |
//! | `POST /reload`, `{"context": "/shop", "host": "localhost"}` | 200 `{"generation": 3}` when that one serves; 404 no such context, or 409 more than one; 422 it is refused, and what served before serves on |
//! | `POST /rollback`, the same and maybe `"to": 2` | as `/reload`; 409 nothing is kept to go back to |
//! | `POST /stop`, `POST /start`, as `/reload` | 200 `{}` when nothing of it runs any more, and as `/reload`; 409 it is not stopped, or does not end |
//! | `POST /deploy`, `{"file": "/absolute/shop.war", "context": "/shop##2", "host": "localhost"}` | 200 `{"context", "generation", "webapp"}` when it serves; 409 something is in the way, 422 it is refused: what served before serves on, and lies where it lay |
//! | `POST /undeploy`, as `/reload` | 200 `{"context", "removed", "instead"}` when it is not served any more |
//!
//! | `GET /config` | 200: each value in force, and what of the files is not |
//! | `POST /config` | 200 when what the files say is in force everywhere: what has changed, what needs a restart, which contexts have refused it; 422 it is refused as a whole |
//!
//! Every other answer than 200 is `{"error": "a sentence"}`. Only the user that the server runs as, and root, are let in. `host` may be
//! left out where one host alone has the context.

pub mod client;
pub mod config;

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::{Mode, OFlags, chmod};
use serde_json::{Value, json};
use serval_config::Server;
use serval_container::{Container, Deployed, Named, PlaceError, ReloadError, Undeployed};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::live::Live;

/// LIMIT: commands at once.
const CONNECTIONS_MAX: usize = 64;
/// LIMIT: bytes of what a command asks.
const QUESTION_BYTES_MAX: usize = 64 << 10;
/// How long a command may take to ask.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to read its answer: until then it has one of `CONNECTIONS_MAX` places.
const READ_WITHIN: Duration = Duration::from_secs(10);

const NAME: &str = "serval.sock";

/// The folder of the socket, held open: by it the path has few bytes, of which a socket's may have 107.
struct Folder(OwnedFd);

impl Folder {
    fn open(config: &Server) -> std::io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(rustix::fs::open(config.var.join("run"), flags, Mode::empty())?))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

pub struct Socket {
    listener: UnixListener,
    folder: Folder,
}

/// Opens the socket, or says in a sentence why not. The home is locked, so one that lies there is of a server that has ended.
pub fn bind(config: &Server) -> Result<Socket, String> {
    let open = || {
        let folder = Folder::open(config)?;
        let path = folder.path(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        // Until then others may come this far, and are turned away by who they are.
        chmod(&path, Mode::RUSR | Mode::WUSR)?;
        Ok(Socket { listener, folder })
    };
    open().map_err(|error| {
        let path = config.var.join("run").join(NAME);
        format!("{} cannot be opened: {error}; `serval status` and its like will not reach this server", path.display())
    })
}

/// Answers commands until `stopped` turns true, and those that are under way.
pub async fn serve(socket: Socket, live: Arc<Live>, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut commands = JoinSet::new();
    loop {
        let accept = async { (places.clone().acquire_owned().await, socket.listener.accept().await) };
        let (place, accepted) = tokio::select! {
            accepted = accept => accepted,
            Some(_) = commands.join_next() => continue,
            () = crate::run::told(&mut stopped) => break,
        };
        match accepted {
            Ok((stream, _)) if is_let_in(&stream) => {
                let live = live.clone();
                commands.spawn(async move {
                    let _place = place;
                    converse(stream, live).await;
                });
            }
            Ok(_) => tracing::warn!("another user was turned away from the control socket"),
            Err(error) => {
                tracing::debug!("the control socket could not accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let _ = std::fs::remove_file(socket.folder.path(NAME));
    // A load may take as long as init_timeout; the stop does not.
    commands.shutdown().await;
}

fn is_let_in(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|other| [0, own].contains(&other.uid()))
}

async fn converse(stream: UnixStream, live: Arc<Live>) {
    let answered = Notify::new();
    let answer = service_fn(|request| async {
        let answer = answer(request, &live).await;
        answered.notify_one();
        Ok::<_, std::convert::Infallible>(answer)
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false);
    let unread = async {
        answered.notified().await;
        tokio::time::sleep(READ_WITHIN).await;
    };
    tokio::select! {
        ended = server.serve_connection(TokioIo::new(stream), answer) => if let Err(error) = ended {
            tracing::debug!("a command has left: {error}");
        },
        () = unread => tracing::debug!("a command has not read its answer within {READ_WITHIN:?}"),
    }
}

async fn answer(request: Request<Incoming>, live: &Arc<Live>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let (status, answer) = match (&head.method, head.uri.path()) {
        (&Method::GET, "/status") => (StatusCode::OK, told(live).await),
        (&Method::GET, "/config") => (StatusCode::OK, config::in_force(live).await),
        (&Method::POST, "/config") => config::reload(live).await,
        (&Method::POST, command @ ("/reload" | "/rollback" | "/start" | "/stop")) => match question(body).await {
            Ok(question) => of_context(command, &question, &live.container).await,
            Err(sentence) => (StatusCode::BAD_REQUEST, json!({ "error": sentence })),
        },
        (&Method::POST, command @ ("/deploy" | "/undeploy")) => match question(body).await {
            Ok(question) => placed(command, &question, &live.container).await,
            Err(sentence) => (StatusCode::BAD_REQUEST, json!({ "error": sentence })),
        },
        (
            _,
            path @ ("/status" | "/config" | "/reload" | "/rollback" | "/start" | "/stop" | "/deploy" | "/undeploy"),
        ) => (StatusCode::METHOD_NOT_ALLOWED, json!({ "error": format!("{path} is asked by another method") })),
        (_, path) => (StatusCode::NOT_FOUND, json!({ "error": format!("this server has no command {path}") })),
    };
    let mut response = Response::new(Full::from(format!("{answer}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

async fn told(live: &Live) -> Value {
    let container = live.container.clone();
    // It looks at what is kept on disk.
    let status = tokio::task::spawn_blocking(move || serde_json::to_value(container.status()));
    let mut told = status.await.ok().and_then(Result::ok).unwrap_or_default();
    let known = live.known();
    told["configuration"] = json!({ "refused": known.refused, "needs_restart": known.needs_restart });
    told["tls"] = live.tls.status();
    told["version"] = env!("CARGO_PKG_VERSION").into();
    told["process"] = std::process::id().into();
    told
}

async fn question(body: Incoming) -> Result<Value, String> {
    let whole = tokio::time::timeout(HEAD_WITHIN, Limited::new(body, QUESTION_BYTES_MAX).collect()).await;
    let bytes = match whole {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(error)) => return Err(format!("the body cannot be read: {error}")),
        Err(_) => return Err("the body has not come".to_owned()),
    };
    serde_json::from_slice(&bytes).map_err(|error| format!("the body is no JSON: {error}"))
}

async fn of_context(command: &str, question: &Value, container: &Arc<Container>) -> (StatusCode, Value) {
    let Some(context) = question["context"].as_str() else {
        return (StatusCode::BAD_REQUEST, json!({ "error": "the body has no `context`, such as \"/shop\"" }));
    };
    let named = Named { host: question["host"].as_str(), context };
    let done = match command {
        "/reload" => container.reload(named).await.map(Some),
        "/rollback" => container.rollback(named, question["to"].as_u64()).await.map(Some),
        "/start" => container.start(named).await.map(Some),
        _ => container.stop_context(named).await.map(|()| None),
    };
    let error = match done {
        Ok(Some(generation)) => return (StatusCode::OK, json!({ "generation": generation })),
        Ok(None) => return (StatusCode::OK, json!({})),
        Err(error) => error,
    };
    let status = match error {
        ReloadError::Unknown(_) => StatusCode::NOT_FOUND,
        ReloadError::Ambiguous(_) | ReloadError::NotNow(_) => StatusCode::CONFLICT,
        ReloadError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, json!({ "error": error.to_string() }))
}

async fn placed(command: &str, question: &Value, container: &Arc<Container>) -> (StatusCode, Value) {
    let Some(context) = question["context"].as_str() else {
        return (StatusCode::BAD_REQUEST, json!({ "error": "the body has no `context`, such as \"/shop\"" }));
    };
    let named = Named { host: question["host"].as_str(), context };
    let done = match (command, question["file"].as_str().map(PathBuf::from)) {
        ("/undeploy", _) => container.undeploy(named).await.map(
            |Undeployed { context, removed, instead }| json!({ "context": context, "removed": removed, "instead": instead }),
        ),
        (_, Some(file)) if file.is_absolute() => container.deploy(file, named).await.map(
            |Deployed { context, generation, webapp }| json!({ "context": context, "generation": generation, "webapp": webapp }),
        ),
        _ => {
            let why = "the body has no `file`, the absolute path of an archive or a folder";
            return (StatusCode::BAD_REQUEST, json!({ "error": why }));
        }
    };
    let error = match done {
        Ok(told) => return (StatusCode::OK, told),
        Err(error) => error,
    };
    let status = match error {
        PlaceError::Wrong(_) => StatusCode::BAD_REQUEST,
        PlaceError::Unknown(_) => StatusCode::NOT_FOUND,
        PlaceError::InTheWay(_) => StatusCode::CONFLICT,
        PlaceError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, json!({ "error": error.to_string() }))
}
