//! A webapp of which each version answers its own number, and steady load on it that notices an answer that fails or is old: for tests
//! of what happens to a server besides requests. Beside it stands a webapp that nothing happens to.
//!
//! Its library (`step.c`) waits at a step of its life while a file is there. Like all that is for tests, it panics where something is not
//! as it should be.

use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::commands::{becomes, context, status};
use crate::http_client::{Connection, Response};
use crate::load::{Load, Outcome};
use crate::serval::{Home, Serval, repository};

/// For whatever comes at all, on a machine that is busy.
pub const LONG: Duration = Duration::from_secs(60);
/// Of the library of `step.c`, which answers it.
const VERSION: &[u8] = b"version 0000";

/// The library of `step.c`, built once, as one that answers this version.
pub fn library(version: u64) -> Vec<u8> {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    let built = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("step.so");
        let mut command = Command::new("cc");
        command.args(["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]);
        command.arg("-I").arg(repository().join("crates/abi/include"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/steady/step.c");
        assert!(command.arg(source).arg("-o").arg(&output).status().unwrap().success());
        std::fs::read(output).unwrap()
    });
    let mut bytes = built.clone();
    let at = bytes.windows(VERSION.len()).position(|window| window == VERSION).unwrap();
    bytes[at..at + VERSION.len()].copy_from_slice(named(version).as_bytes());
    bytes
}

/// What a version answers.
pub fn named(version: u64) -> String {
    format!("version {version:04}")
}

/// A home with version 1 as `/x`, and a page as `/files` beside it.
pub fn home(settings: &str) -> Home {
    let home = Home::new().unwrap();
    home.configure(settings).unwrap();
    home.write("webapps/files/page.txt", "a page").unwrap();
    put(&home, 1);
    home
}

/// Puts a version of `/x` in its place, as a whole.
pub fn put(home: &Home, version: u64) {
    home.write("webapps/x/WEB-INF/lib/step.so.tmp", library(version)).unwrap();
    std::fs::rename(home.path("webapps/x/WEB-INF/lib/step.so.tmp"), home.path("webapps/x/WEB-INF/lib/step.so"))
        .unwrap();
}

/// Starts it, and waits until the servlets of `/x` are there.
pub fn started(home: &Home) -> Serval {
    let serval = Serval::start(home).unwrap();
    becomes(home, |told| context(told, "/x")["servlets"] == 2);
    serval
}

/// Asks on a connection of its own.
pub fn get(serval: &Serval, target: &str) -> Response {
    Connection::open(serval.address(), LONG).unwrap().get(target).unwrap()
}

/// Asks `/x` with a session, if the cookie names one, and returns its visits and its cookie. The query is `visit`, or `short`: then its time
/// is a second.
#[track_caller]
pub fn visit(serval: &Serval, cookie: &str, query: &str) -> (u32, String) {
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(format!("GET /x/step?{query} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n").as_bytes()).unwrap();
    let answer = connection.read_response().unwrap();
    assert_eq!(answer.status, 200);
    let set = answer.header("set-cookie").map_or(cookie, |set| set.split(';').next().unwrap());
    (std::str::from_utf8(&answer.body).unwrap().parse().unwrap(), set.to_owned())
}

/// Asks until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it has not come to be so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `/x` answers that version.
#[track_caller]
pub fn answers(serval: &Serval, version: u64) {
    wait_until(&named(version), || get(serval, "/x/step").body == named(version).as_bytes());
}

/// What is in a folder, if it is there: its names in order.
pub fn names(folder: PathBuf) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Requests of `/x` and of its neighbour. No answer is older than one that had come before it was asked for.
pub struct Steady(pub Load);

impl Steady {
    pub fn of(serval: &Serval) -> Steady {
        let newest = AtomicU64::new(0);
        Steady(Load::start(serval.address(), 4, LONG, move |number, connection| {
            if number % 4 == 0 {
                return is_page(connection);
            }
            let least = newest.load(Ordering::SeqCst);
            let answer = connection.get("/x/step")?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let version = text.strip_prefix("version ").and_then(|version| version.parse().ok());
            Ok(match (answer.status, version) {
                (200, Some(version)) if version >= least => {
                    newest.fetch_max(version, Ordering::SeqCst);
                    Outcome::Good
                }
                (200, _) => Outcome::Wrong(format!("{text:?} after version {least}")),
                (status, _) => Outcome::Failed(format!("{status} {text}")),
            })
        }))
    }

    /// Only of the neighbour.
    pub fn of_neighbour(serval: &Serval) -> Steady {
        Steady(Load::start(serval.address(), 4, LONG, |_, connection| is_page(connection)))
    }

    /// Waits until some more requests are answered.
    #[track_caller]
    pub fn goes_on(&self) {
        let before = self.0.counts().requests;
        wait_until("requests are answered", || self.0.counts().requests > before + 20);
    }

    /// Ends it: none has failed, and none was wrong.
    #[track_caller]
    pub fn was_well(self) {
        self.goes_on();
        let counts = self.0.stop();
        assert_eq!((counts.failed, counts.wrong), (0, 0), "{:#?}", counts.details);
    }
}

fn is_page(connection: &mut Connection) -> std::io::Result<Outcome> {
    let answer = connection.get("/files/page.txt")?;
    Ok(match (answer.status, &*answer.body) {
        (200, b"a page") => Outcome::Good,
        (status, body) => Outcome::Failed(format!("the page: {status} {}", String::from_utf8_lossy(body))),
    })
}

/// This version serves, and the status knows it; nothing is left of others; and the next one, one higher, is taken.
#[track_caller]
pub fn ends_well(home: &Home, serval: &Serval, version: u64) {
    answers(serval, version);
    is_tidy(home);
    put(home, version + 1);
    answers(serval, version + 1);
    is_tidy(home);
}

/// Waits until the status tells of no trouble with `/x`, and nothing is left of what it does not have, nor half of anything.
#[track_caller]
pub fn is_tidy(home: &Home) {
    let mut last = String::new();
    let deadline = Instant::now() + LONG;
    while let Some(why) = untidy(home) {
        assert!(Instant::now() < deadline, "{why}, {last}");
        last = format!("and before: {why}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is not as it should be at the end.
fn untidy(home: &Home) -> Option<String> {
    let told = status(home);
    let x = context(&told, "/x");
    let is_well = x["state"] == "ready" && x["servlets"] == 2 && x["refused"].is_null();
    if !is_well || told["old"] != json!([]) || told["problems"] != json!([]) || told["left_mapped"] != 0 {
        return Some(format!("{told:#}"));
    }
    // Beside the private copy there may be the folder of its uploads.
    let copies = names(home.path("var/run/generations/localhost/x"));
    let prefix = format!("g{}-", x["generation"]);
    let count = copies.iter().filter(|name| !name.ends_with(".temp")).count();
    if count != 1 || !copies.iter().all(|name| name.starts_with(&prefix)) {
        return Some(format!("there are the private copies {copies:?}"));
    }
    let kept = home.path("var/generations/localhost/x");
    let is_whole = |name: &String| {
        let record = std::fs::read_to_string(kept.join(name).join("kept.json")).unwrap_or_default();
        let has_library = kept.join(name).join("lib/step.so").is_file();
        name.parse::<u64>().is_ok() && !record.is_empty() && record.contains("step.so") == has_library
    };
    let all = names(kept.clone());
    if all.is_empty() || !all.iter().all(is_whole) {
        return Some(format!("of {all:?} not all are kept whole"));
    }
    let sessions = names(home.path("var/sessions/localhost/x"));
    sessions.iter().any(|name| name != "snapshot").then(|| format!("of sessions there are {sessions:?}"))
}
