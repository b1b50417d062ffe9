//! The example `guestbook` over real sockets and in a real browser: built by the running host, and replaced while it
//! is used.
//!
//! The browser part needs node, Chromium, and what `npm ci` puts into `crates/e2e/browser`; what is missing is named.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::browser;
use e2e::http_client::{Connection, Response};
use e2e::process;
use e2e::serval::{self, Home, Serval};
use serde_json::{Value, json};

/// SQLite is compiled too, which takes minutes on a small machine.
const BUILT_WITHIN: Duration = Duration::from_secs(600);
const LONG: Duration = Duration::from_secs(60);
const BROWSER_WITHIN: Duration = Duration::from_secs(240);

const MIB: usize = 1024 * 1024;
/// A GIF of one pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0\
    ,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// One after the other, because the library is built only once then.
#[test]
fn the_guestbook() {
    let home = Home::new().unwrap();
    home.configure("[build]\nsources = true").unwrap();
    home.copy_example("guestbook").unwrap();
    // What is compiled for it stays in our own target folder, so that SQLite is compiled only once.
    let (kept, build) = (Path::new(env!("CARGO_TARGET_TMPDIR")).join("guestbook"), "var/build/localhost/guestbook");
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::create_dir_all(home.path(build)).unwrap();
    std::os::unix::fs::symlink(kept, home.path(build).join("release")).unwrap();
    let serval = Serval::start(&home).unwrap();
    let guestbook = Guestbook { serval, home };
    guestbook.is_built();
    its_own_tests_pass(&guestbook);
    entries_and_pictures(&guestbook);
    what_is_wrong_is_refused_in_words(&guestbook);
    uploads_over_the_limit_take_no_memory(&guestbook);
    a_reload_loses_no_entry_no_session_and_no_event(&guestbook);
    a_rebuild_keeps_entries_and_sessions(&guestbook);
    two_browsers(&guestbook, &guestbook.library());
    two_browsers_while_it_is_reloaded_all_the_time(&guestbook);
    assert!(guestbook.serval.stop().unwrap().success());
}

/// They run without a server, with the SDK that this one has unpacked.
fn its_own_tests_pass(guestbook: &Guestbook) {
    let mut command = Command::new(serval::cargo());
    command
        .args(["test", "--quiet", "--target-dir"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("guestbook-tests"));
    command.current_dir(guestbook.home.path("webapps/guestbook/WEB-INF"));
    process::run(command, BUILT_WITHIN).unwrap();
}

fn entries_and_pictures(guestbook: &Guestbook) {
    let mut ada = guestbook.visitor();
    let body = multipart(&[("name", None, b"Ada"), ("message", None, b"Look!"), ("picture", Some("a.gif"), GIF)]);
    let entry = ada.post(MULTIPART, &body).expect(201);
    assert_eq!((&entry["own"], &entry["picture"]["width"]), (&json!(true), &json!(1)));
    let picture = ada.get(entry["picture"]["url"].as_str().unwrap());
    assert_eq!((picture.status, picture.header("content-type"), &*picture.body), (200, Some("image/gif"), GIF));
    for (name, value) in [("x-content-type-options", "nosniff"), ("etag", "\"1\"")] {
        assert_eq!(picture.header(name), Some(value));
    }
    assert!(picture.header("cache-control").unwrap().contains("immutable"));
    let page = ada.get("");
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self'"));

    let mut bob = guestbook.visitor();
    assert_eq!(bob.get("api/entries").expect(200)["entries"][0]["own"], false);
    let refusal = bob.request("DELETE", "api/entries/1", "", b"").expect(403);
    assert_eq!(refusal, json!({ "error": "This entry is somebody else's." }));
    assert_eq!(ada.get("api/me").expect(200), json!({ "name": "Ada", "entries": 1 }));
    assert_eq!(ada.request("DELETE", "api/entries/1", "", b"").status, 204);
    assert_eq!(ada.get("pictures/1").status, 404);
}

fn what_is_wrong_is_refused_in_words(guestbook: &Guestbook) {
    let mut visitor = guestbook.visitor();
    let mut check = |content_type: &str, body: &[u8], status: u16, text: &str| {
        let answer = visitor.post(content_type, body).expect(status);
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(text), "{error:?} does not say {text:?}");
    };
    check(JSON, b"{\"name\": ", 400, "line 1");
    check(JSON, b"{\"name\": \"Ada\", \"message\": 1}", 400, "expected a string");
    check(JSON, b"{\"name\": \"Ada\", \"message\": \"\"}", 422, "Your message is missing.");
    check("text/plain", b"hello", 415, "text/plain");
    let text: [(&str, Option<&str>, &[u8]); 2] = [("name", None, b"Ada"), ("message", None, b"hi")];
    let picture = |bytes| multipart(&[text[0], text[1], ("picture", Some("a.png"), bytes)]);
    check(MULTIPART, &picture(b"<svg onload=alert(1)>"), 415, "JPEG, PNG, GIF or WebP");
    check(MULTIPART, &picture(&vec![b'x'; 2 * MIB + 1]), 413, "2 MB");
    check(MULTIPART, b"--other\r\n\r\n", 400, "");
    assert_eq!(visitor.request("DELETE", "api/entries/12345", "", b"").status, 404);
    assert_eq!(visitor.get("pictures/12345").status, 404);
    assert!(visitor.request("PUT", "api/entries", "", b"").header("allow").is_some());
    assert_eq!(visitor.get("api/entries?limit=x").status, 400);
    assert_eq!(visitor.get("api/entries").expect(200)["count"], 0);
}

fn uploads_over_the_limit_take_no_memory(guestbook: &Guestbook) {
    let resident = || process::resident_kb(guestbook.serval.program().id()).unwrap();
    let large = multipart(&[("picture", Some("huge.png"), &vec![b'x'; 32 * MIB])]);
    let upload = || {
        let mut visitor = guestbook.visitor();
        // The server may answer and close before it has read all.
        let mut sender = visitor.connection.sender().unwrap();
        let request = visitor.head("POST", "api/entries", MULTIPART, large.len());
        thread::scope(|scope| {
            scope.spawn(|| sender.write_all(request.as_bytes()).and_then(|()| sender.write_all(&large)));
            assert_eq!(visitor.connection.read_response().unwrap().status, 413);
            drop(visitor);
        });
    };
    upload();
    let before = resident();
    (0..8).for_each(|_| upload());
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 * 1024, "eight uploads of 32 MiB that were refused left {grown} kB");
}

fn a_reload_loses_no_entry_no_session_and_no_event(guestbook: &Guestbook) {
    const WRITERS: usize = 3;
    const RELOADS: usize = 5;
    let start = guestbook.visitor().last_change();
    let (over, heard) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(|| write_until(guestbook, &over))).collect();
        let listener = scope.spawn(|| listen(guestbook, start, &over, &heard));
        (0..RELOADS).for_each(|_| guestbook.reload());
        over.store(true, Ordering::SeqCst);
        let written: BTreeSet<i64> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        // Each reload ends the stream, and the next one has what was missed.
        while !heard.load(Ordering::SeqCst) && !listener.is_finished() {
            guestbook.reload();
        }
        let events = listener.join().unwrap();
        assert_eq!(events.iter().copied().collect::<BTreeSet<_>>(), written, "each entry is an event");
        assert_eq!(events.len(), written.len(), "none of them twice");
        let count = guestbook.visitor().get("api/entries").expect(200)["count"].as_u64().unwrap();
        assert_eq!(count, written.len() as u64);
        println!("{count} entries by {WRITERS} visitors over {RELOADS} reloads");
    });
}

fn a_rebuild_keeps_entries_and_sessions(guestbook: &Guestbook) {
    let mut visitor = guestbook.visitor();
    let id = visitor.post(JSON, br#"{"name": "Alan", "message": "before the rebuild"}"#).expect(201)["id"].clone();
    let source = guestbook.home.path("webapps/guestbook/WEB-INF/src/lib.rs");
    let text = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, text.replace("This entry is gone.", "There was one once.")).unwrap();
    let deadline = Instant::now() + BUILT_WITHIN;
    while visitor.request("DELETE", "api/entries/0", "", b"").expect(404)["error"] != "There was one once." {
        assert!(Instant::now() < deadline, "not rebuilt: {:#?}", guestbook.serval.program().lines_from(0));
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(visitor.get("api/me").expect(200), json!({ "name": "Alan", "entries": 1 }));
    assert_eq!(visitor.get("api/entries?limit=1").expect(200)["entries"][0]["own"], true);
    assert_eq!(visitor.request("DELETE", &format!("api/entries/{id}"), "", b"").status, 204);
}

/// Writes entries, as one visitor; returns their ids.
fn write_until(guestbook: &Guestbook, over: &AtomicBool) -> Vec<i64> {
    let mut visitor = guestbook.visitor();
    let mut ids = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let entry = visitor.post(JSON, br#"{"name": "Grace", "message": "and on it goes"}"#).expect(201);
        ids.push(entry["id"].as_i64().unwrap());
        assert_eq!(visitor.get("api/me").expect(200), json!({ "name": "Grace", "entries": ids.len() }));
    }
    ids
}

/// Listens as a browser does, from stream to stream; returns the ids of all entries, as they came.
fn listen(guestbook: &Guestbook, mut seen: i64, over: &AtomicBool, heard: &AtomicBool) -> Vec<i64> {
    let mut ids = Vec::new();
    let mut visitor = guestbook.visitor();
    loop {
        // Before the stream: what is in it then is all there is.
        let last = over.load(Ordering::SeqCst).then(|| visitor.last_change());
        let (head, line) = (visitor.head("GET", "api/events", "", 0), format!("Last-Event-ID: {seen}\r\n\r\n"));
        let stream = visitor.send(&[head.trim_end(), "\r\n", &line].concat(), b"");
        assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
        let text = String::from_utf8(stream.body).unwrap();
        for event in text.split("\n\n").filter(|event| event.contains("event: entry")) {
            let field = |name| event.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            seen = field("id: ").parse().unwrap();
            ids.push(serde_json::from_str::<Value>(field("data: ")).unwrap()["id"].as_i64().unwrap());
        }
        if last.is_some_and(|last| seen >= last) {
            heard.store(true, Ordering::SeqCst);
            return ids;
        }
    }
}

fn two_browsers_while_it_is_reloaded_all_the_time(guestbook: &Guestbook) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reloads = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::SeqCst) {
                guestbook.reload();
                count += 1;
            }
            count
        });
        let tried = std::panic::catch_unwind(|| two_browsers(guestbook, Path::new("-")));
        over.store(true, Ordering::SeqCst);
        println!("{} reloads meanwhile", reloads.join().unwrap());
        tried.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// They replace this library once; `-`: none.
fn two_browsers(guestbook: &Guestbook, library: &Path) {
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    let url = format!("http://{}/guestbook/", guestbook.serval.address());
    let paths = [library, &screenshots].map(|path| path.to_str().unwrap());
    browser::run("guestbook.mjs", &[&url, paths[0], paths[1]], BROWSER_WITHIN).unwrap();
}

// ---------------------------------------------------------------------------------------------- clients

const JSON: &str = "application/json";
const MULTIPART: &str = "multipart/form-data; boundary=b0undary";

struct Guestbook {
    serval: Serval,
    home: Home,
}

impl Guestbook {
    fn is_built(&self) {
        let deadline = Instant::now() + BUILT_WITHIN;
        while self.visitor().get("api/entries").status != 200 {
            let lines = self.serval.program().lines_from(0);
            assert!(!lines.iter().any(|line| line.contains("the build failed")), "{lines:#?}");
            assert!(Instant::now() < deadline, "not built within {BUILT_WITHIN:?}: {lines:#?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn library(&self) -> PathBuf {
        let folder = self.home.path("webapps/guestbook/WEB-INF/lib");
        let mut files = folder.read_dir().unwrap().map(|file| file.unwrap().path());
        files.find(|file| file.extension().is_some_and(|extension| extension == "so")).expect("it is built")
    }

    /// Replaces the library by a version that differs in a byte behind its end, and returns when a stream of the old
    /// one has ended.
    fn reload(&self) {
        let mut stream = TcpStream::connect(self.serval.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(self.visitor().head("GET", "api/events", "", 0).as_bytes()).unwrap();
        let begin = read_until(&mut stream, "retry: 500\n\n");
        assert!(begin.starts_with("HTTP/1.1 200 "), "{begin}");
        let (library, beside) = (self.library(), self.home.path("next.so"));
        std::fs::copy(&library, &beside).unwrap();
        OpenOptions::new().append(true).open(&beside).and_then(|mut file| file.write_all(b"\n")).unwrap();
        std::fs::rename(&beside, &library).unwrap();
        // The last chunk, which has no bytes: the stream was ended, not cut.
        read_until(&mut stream, "0\r\n\r\n");
    }

    fn visitor(&self) -> Visitor {
        let address = self.serval.address();
        Visitor { address, connection: Connection::open(address, LONG).unwrap(), cookie: None }
    }
}

#[track_caller]
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.windows(end.len()).any(|window| window == end.as_bytes()) {
        let mut some = [0; 4096];
        let len = stream.read(&mut some).unwrap();
        assert!(len > 0, "closed before {end:?}, after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&some[..len]);
    }
    String::from_utf8(bytes).unwrap()
}

/// A connection with a session.
struct Visitor {
    address: SocketAddr,
    connection: Connection,
    cookie: Option<String>,
}

impl Visitor {
    fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, "", b"")
    }

    fn last_change(&mut self) -> i64 {
        self.get("api/entries").expect(200)["change"].as_i64().unwrap()
    }

    fn post(&mut self, content_type: &str, body: &[u8]) -> Response {
        self.request("POST", "api/entries", content_type, body)
    }

    fn request(&mut self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Response {
        let head = self.head(method, path, content_type, body.len());
        self.send(&head, body)
    }

    fn head(&self, method: &str, path: &str, content_type: &str, len: usize) -> String {
        let mut head = format!("{method} /guestbook/{path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(cookie) = &self.cookie {
            head += &format!("Cookie: {cookie}\r\n");
        }
        if !content_type.is_empty() {
            head += &format!("Content-Type: {content_type}\r\nContent-Length: {len}\r\n");
        }
        head + "\r\n"
    }

    fn send(&mut self, head: &str, body: &[u8]) -> Response {
        if self.connection.is_over() {
            self.connection = Connection::open(self.address, LONG).unwrap();
        }
        self.connection.send(&[head.as_bytes(), body].concat()).unwrap();
        let response = self.connection.read_response().unwrap();
        if let Some(cookie) = response.header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        response
    }
}

trait Expect {
    fn expect(self, status: u16) -> Value;
}

impl Expect for Response {
    /// Returns the answer's JSON.
    #[track_caller]
    fn expect(self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        serde_json::from_str(&text).unwrap_or_else(|wrong| panic!("{wrong}: {text}"))
    }
}

fn multipart(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file_name, bytes) in parts {
        let file = file_name.map_or(String::new(), |file| format!("; filename=\"{file}\"\r\nContent-Type: image/png"));
        let head = format!("--b0undary\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
    }
    body.extend(b"--b0undary--\r\n");
    body
}
