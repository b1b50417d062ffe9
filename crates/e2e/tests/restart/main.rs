//! What a restart of the server leaves as it was: sessions, and sockets that somebody else holds; and what a service manager is told.

mod damage;
mod notify;
mod sessions;
mod sockets;
mod unit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval, repository};

const LONG: Duration = Duration::from_secs(60);

/// The library of `kept.c`, built once.
fn library() -> &'static [u8] {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("kept.so");
        let mut command = Command::new("cc");
        command.args(["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]);
        command.arg("-I").arg(repository().join("crates/abi/include"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/restart/kept.c");
        assert!(command.arg(source).arg("-o").arg(&output).status().unwrap().success());
        std::fs::read(output).unwrap()
    })
}

/// With these webapps, and these lines in `[sessions]`.
fn home(webapps: &[&str], sessions: &str) -> Home {
    let home = Home::new().unwrap();
    home.configure(&format!("[sessions]\n{sessions}\n[defaults.context]\nsettle_time = \"1ms\"")).unwrap();
    webapps.iter().for_each(|webapp| deploy(&home, webapp));
    home
}

fn deploy(home: &Home, webapp: &str) {
    home.write(&format!("webapps/{webapp}/WEB-INF/lib/kept.so"), library()).unwrap();
}

fn snapshot(home: &Home, webapp: &str) -> PathBuf {
    home.path(&format!("var/sessions/localhost/{webapp}/snapshot"))
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it has not come to be so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn answer(serval: &Serval, target: &str, cookie: &str) -> Response {
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n").as_bytes()).unwrap();
    connection.read_response().unwrap()
}

#[track_caller]
fn get(serval: &Serval, target: &str, cookie: &str) -> String {
    let answer = answer(serval, target, cookie);
    assert_eq!(answer.status, 200, "{target}");
    String::from_utf8(answer.body).unwrap()
}

/// Makes a session, and returns its cookie.
#[track_caller]
fn begin(serval: &Serval, target: &str) -> String {
    let answer = answer(serval, target, "a=b");
    assert!(answer.body.starts_with(b"1 new created "), "{:?}", String::from_utf8_lossy(&answer.body));
    answer.header("set-cookie").expect("a cookie").split(';').next().unwrap().to_owned()
}

/// The id in a cookie.
fn id(cookie: &str) -> &str {
    cookie.split_once('=').unwrap().1
}
