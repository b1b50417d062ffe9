//! The webapp, its build, and what all tests ask of it.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval, is_of_root};

pub const LONG: Duration = Duration::from_secs(60);
/// Among others, the first build of everything that the webapp depends on.
const BUILT_WITHIN: Duration = Duration::from_secs(300);

const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("webapp/Cargo.toml")),
    ("src/lib.rs", include_str!("webapp/lib.rs")),
    ("src/background.rs", include_str!("webapp/background.rs")),
    ("src/data.rs", include_str!("webapp/data.rs")),
    ("src/faults.rs", include_str!("webapp/faults.rs")),
    ("src/streams.rs", include_str!("webapp/streams.rs")),
];
pub const LIBRARY: &str = "webapps/app/WEB-INF/lib/servlets.so";

/// The library, and one whose carts have another shape.
pub fn libraries() -> &'static [Vec<u8>; 2] {
    static BUILT: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    BUILT.get_or_init(|| {
        let home = Home::new().unwrap();
        home.configure("[build]\nsources = true").unwrap();
        for (path, text) in FILES {
            home.write(&format!("webapps/app/WEB-INF/{path}"), text).unwrap();
        }
        let serval = Serval::start(&home).unwrap();
        let built = |generation: u32| {
            let ready = format!("/app ready (generation {generation}");
            let is_over = |line: &str| line.contains(&ready) || line.contains("ERROR");
            let line = serval.program().wait_for_line(0, BUILT_WITHIN, is_over).unwrap();
            assert!(line.contains(&ready), "{:#?}", serval.program().lines_from(0));
            fs::read(home.path(LIBRARY)).unwrap()
        };
        // The first generation has files only.
        let first = built(2);
        let changed = include_str!("webapp/data.rs").replace("type Shape = Vec<u32>;", "type Shape = String;");
        home.write("webapps/app/WEB-INF/src/data.rs", changed).unwrap();
        let second = built(3);
        assert!(serval.stop().unwrap().success());
        [first, second]
    })
}

/// A server that has the webapp at /app.
pub struct Kitchen {
    pub home: Home,
    pub serval: Serval,
    generation: u64,
}

impl Kitchen {
    pub fn open() -> Kitchen {
        Kitchen::open_with("", "")
    }

    /// With this web.toml, and more for server.toml.
    pub fn open_with(web: &str, settings: &str) -> Kitchen {
        let home = Home::new().unwrap();
        home.configure(settings).unwrap();
        home.write("webapps/app/WEB-INF/web.toml", web).unwrap();
        home.write(LIBRARY, &libraries()[0]).unwrap();
        let serval = Serval::start(&home).unwrap();
        let kitchen = Kitchen { home, serval, generation: 1 };
        kitchen.wait_for("/app ready (generation 1");
        kitchen
    }

    /// Has the next generation take over.
    pub fn reload(&mut self) -> u64 {
        self.reload_with(&libraries()[0])
    }

    pub fn reload_with(&mut self, library: &[u8]) -> u64 {
        self.replace(library);
        self.generation += 1;
        self.wait_for(&format!("/app ready (generation {}", self.generation));
        self.generation
    }

    /// Puts a library in the place of the one that is there, as a build does.
    pub fn replace(&self, library: &[u8]) {
        self.home.write("webapps/beside.so", library).unwrap();
        fs::rename(self.home.path("webapps/beside.so"), self.home.path(LIBRARY)).unwrap();
    }

    /// A refused generation has a number too.
    pub fn was_refused(&mut self) {
        self.generation += 1;
    }

    pub fn wait_for(&self, text: &str) -> String {
        self.serval.wait_for_log(text, LONG).unwrap()
    }

    pub fn wait_until_destroyed(&self, generation: u64) {
        let number = format!("generation={generation} ");
        let is_it = |line: &str| line.contains("the generation is gone") && line.contains(&number);
        self.serval.program().wait_for_line(0, LONG, is_it).unwrap();
    }

    /// Where the log is now, when all lines of what was before have been read.
    pub fn position(&self) -> usize {
        static MARKS: AtomicUsize = AtomicUsize::new(0);
        let mark = MARKS.fetch_add(1, Ordering::Relaxed);
        self.check(&format!("/mark?{mark}"), 200, "marked");
        self.wait_for(&format!("mark {mark};"));
        self.serval.program().position()
    }

    /// The lines from that position until now that contain this.
    pub fn lines_with(&self, position: usize, text: &str) -> Vec<String> {
        self.position();
        let lines = self.serval.program().lines_from(position).into_iter();
        lines.filter(|line| line.contains(text) && !is_of_root(line)).collect()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.serval.address(), LONG).unwrap()
    }

    pub fn get(&self, path: &str) -> Response {
        self.connect().get(&format!("/app{path}")).unwrap()
    }

    #[track_caller]
    pub fn check(&self, path: &str, status: u16, text: &str) {
        let answer = self.get(path);
        assert_eq!((answer.status, body(&answer)), (status, text), "{path}");
    }

    pub fn send(&self, method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) -> Response {
        let mut connection = self.connect();
        send(&mut connection, method, path, headers, body.as_ref());
        connection.read_response().unwrap()
    }

    /// Ends it as an operator would.
    pub fn close(self) {
        assert!(self.serval.stop().unwrap().success());
    }
}

/// `headers`: each with its line's end.
pub fn send(connection: &mut Connection, method: &str, path: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head = format!("{method} /app{path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n");
    connection.send(head.as_bytes()).unwrap();
    connection.send(body).unwrap();
}

pub fn body(answer: &Response) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

#[track_caller]
pub fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it has not come to be so");
        std::thread::sleep(Duration::from_millis(10));
    }
}
