//! A container with two contexts that have the library, and the clients that send it requests.

use std::collections::VecDeque;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use serval_container::{BodyError, Container, Io, Peer, RequestBody, Turn};
use tokio::runtime::Runtime;

use super::calls;
use super::program::Program;

/// Small limits, so that the fuzzer reaches them, and short waits.
const SERVER: &str = r#"
[[listener]]
body_timeout = "20ms"
write_timeout = "20ms"
[defaults.context]
workers_max = 4
queue_timeout = "1s"
slow_after = "1h"
async_timeout = "20ms"
request_body_bytes_max = 2000
form_bytes_max = 500
parameter_count_max = 8
response_buffer_bytes = 100
session_timeout = "1s"
sessions_max = 1000
session_bytes_max = "1KiB"
part_memory_bytes_max = 16
part_count_max = 4
[[host]]
[[host.context]]
path = "/quiet"
compression = ["gzip"]
[[host.context]]
path = "/listens"
"#;

pub struct World {
    runtime: Runtime,
    container: Arc<Container>,
    peer: Arc<Peer>,
    /// Removed by whoever cleans the folder for temporary files: the world never ends.
    _home: tempfile::TempDir,
}

/// The world is made once, for all inputs.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

fn compile(source: &Path, library: &Path, options: &[&str]) {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../abi/include");
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-shared", "-fPIC", "-I"]).arg(include).arg(source).arg("-o").arg(library).args(options);
    assert!(command.status().expect("this needs `cc`").success());
}

impl World {
    fn new() -> World {
        let home = tempfile::tempdir().expect("a home");
        let source = home.path().join("border.c");
        std::fs::write(&source, include_str!("border.c")).expect("its source");
        std::fs::write(home.path().join("server.toml"), SERVER).expect("its configuration");
        let act = format!("[params]\nact = \"{}\"\n", calls::entry as *const () as usize);
        for (context, options) in [("quiet", &[][..]), ("listens", &["-DLISTENS"])] {
            let webapp = home.path().join("webapps").join(context);
            std::fs::create_dir_all(webapp.join("WEB-INF/lib")).expect("a webapp");
            std::fs::write(webapp.join("index.html"), "a page").expect("a page");
            std::fs::write(webapp.join("WEB-INF/web.toml"), &act).expect("its descriptor");
            compile(&source, &webapp.join("WEB-INF/lib/border.so"), options);
        }
        let config = serval_config::load_server(&home.path().join("server.toml"), home.path());
        let config = Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().expect("a runtime");
        let (ready, events) = std::sync::mpsc::channel();
        let tell = move |event: &serval_container::Event| {
            let _ = ready.send(event.state);
        };
        let container = runtime.block_on(async {
            let no_upstream = Box::new(|_: &_, _: &_| unreachable!("no context has one"));
            Container::new(config.clone(), Box::new(tell), Box::new(|_| String::new()), no_upstream)
        });
        let (mut count, began) = (0, Instant::now());
        while count < 2 {
            assert!(began.elapsed() < Duration::from_secs(60), "the library is not loaded");
            let again = runtime.block_on(container.deploy_pass()).again_after;
            runtime.block_on(container.settled());
            count += events.try_iter().filter(|state| *state == "ready").count();
            std::thread::sleep(again.unwrap_or_default().min(Duration::from_millis(50)));
        }
        let address = config.listeners[0].address.as_told();
        let peer = Arc::new(Peer::new(address, address, 1, false, Arc::new(config.listeners[0].clone())));
        World { runtime, container, peer, _home: home }
    }

    /// Sends the request and does with the answer as the client does. What is returned is held by the exchange until it ends.
    pub fn request(&self, client: Client) -> Arc<Turn> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        if COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 1000 == 999 {
            self.container.expire_sessions();
        }
        let turn = Turn::new(&self.container, &self.peer);
        let Client { request, reads, stays } = client;
        let (container, peer, own) = (self.container.clone(), self.peer.clone(), turn.clone());
        let answered = async move {
            let Ok(response) = container.handle(request, &peer, &own).await;
            let mut body = response.into_body();
            for _ in 0..reads {
                if !matches!(body.frame().await, Some(Ok(_))) {
                    break;
                }
            }
        };
        let io = Io::new(answered, turn.clone());
        // Gone, or tired of waiting for what is not to come.
        drop(self.runtime.block_on(async { tokio::time::timeout(stays, io.run()).await }));
        turn
    }
}

/// Who sends a request.
pub struct Client {
    request: Request<Option<RequestBody>>,
    /// How many frames of the response it reads.
    reads: usize,
    /// When it goes at the latest.
    stays: Duration,
}

impl Client {
    pub fn read(program: &mut Program) -> Client {
        const PATHS: [&str; 9] = [
            "/plain/x",
            "/plain/f/x",
            "/quick/x",
            "/task/x",
            "/task/f/x",
            "/parts/x",
            "/parts/x?a=b&c=%20+",
            "/quick/x?a=%ff",
            "/task/x;jsessionid=x?=",
        ];
        let context = program.pick(&["/quiet", "/listens"]);
        let target = format!("{context}{}", program.pick(&PATHS));
        let method = program.pick(&[0, 1, 2, 3]);
        let method = [Method::GET, Method::POST, Method::HEAD, Method::PUT][method].clone();
        let mut builder = Request::builder().method(method).uri(target).header("host", "localhost");
        let has = program.byte();
        for (bit, name, value) in [
            (1, "te", "trailers"),
            (2, "accept-encoding", "gzip"),
            (4, "cookie", "a=b; JSESSIONID=0123456789ABCDEF0123456789ABCDEF"),
            (8, "content-type", "application/x-www-form-urlencoded"),
            (16, "content-type", "multipart/form-data; boundary=B"),
            (32, "accept", "application/json"),
        ] {
            if has & bit != 0 {
                builder = builder.header(name, value);
            }
        }
        let body = (has & 0x40 != 0).then(|| RequestBody::new(Pieces::read(program)));
        let reads = program.pick(&[usize::MAX, usize::MAX, 0, 1, 3]);
        let stays = Duration::from_millis(program.pick(&[30, 30, 0, 1, 5]));
        Client { request: builder.body(body).expect("a request"), reads, stays }
    }
}

/// A body that comes in pieces, and its end.
struct Pieces {
    pieces: VecDeque<Bytes>,
    end: u8,
}

impl Pieces {
    fn read(program: &mut Program) -> Pieces {
        const FORM: &[u8] = b"a=1&b=%C3%A4&a=+";
        const PART: &[u8] =
            b"--B\r\nContent-Disposition: form-data; name=f; filename=g\r\n\r\n0123456789abcdefgh\r\n--B--";
        let count = program.byte() % 6;
        let pieces = (0..count).map(|_| match program.byte() {
            0..80 => Bytes::from_static(FORM),
            80..160 => Bytes::from_static(PART),
            160..170 => Bytes::from(vec![b'z'; 1500]),
            _ => Bytes::from(program.bytes()),
        });
        Pieces { pieces: pieces.collect(), end: program.byte() }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match std::mem::replace(&mut self.end, 0) {
            0..160 => Poll::Ready(None),
            160..190 => Poll::Ready(Some(Err("the client has gone".into()))),
            190..210 => Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter([(
                http::header::ETAG,
                http::HeaderValue::from_static("x"),
            )]))))),
            // Later.
            210..240 => {
                task.waker().wake_by_ref();
                Poll::Pending
            }
            // Never.
            _ => {
                self.end = 255;
                Poll::Pending
            }
        }
    }
}
