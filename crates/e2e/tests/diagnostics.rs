//! What an operator reads when something is wrong: one line that says where, for which request, and what to do.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval, binary, is_of_root};

const LONG: Duration = Duration::from_secs(60);
const BUILT_WITHIN: Duration = Duration::from_secs(300);

const MANIFEST: &str = r#"[package]
name = "troubled"
version = "1.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
servlet = { package = "serval-servlet", path = "../../../var/sdk/0.1.0/servlet" }

[workspace]

[profile.release]
debug = "line-tables-only"
panic = "unwind"
"#;

const SOURCE: &str = r#"use servlet::prelude::*;

servlet::module!();

#[start]
fn start(context: &Context) -> Result<()> {
    match context.param("mood") {
        Some("bad") => Err(error(500, "the database does not answer")),
        _ => Ok(()),
    }
}

#[servlet("/fine", inline)]
fn fine(_: &Request, response: &mut Response) -> Result {
    response.text("fine")
}

/// So that a test knows that it has read all lines of what was before.
#[servlet("/logs")]
fn logs(request: &Request, response: &mut Response) -> Result {
    servlet::log::info!("{}", request.query().unwrap_or_default());
    response.text("logged")
}

#[servlet("/panics", blocking)]
fn panics(_: &Request, _: &mut Response) -> Result {
    stumble(3)
}

#[inline(never)]
fn stumble(steps: u32) -> Result {
    panic!("stumbled after {steps} steps")
}

/// Until the test says so, by a file.
#[servlet("/slow", blocking)]
fn slow(request: &Request, response: &mut Response) -> Result {
    let work = request.context().work_folder().ok_or_else(|| error(500, "no work folder"))?;
    std::fs::write(work.join("begun"), "")?;
    while !work.join("go").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    response.text("at last")
}

/// One after the other.
#[servlet("/locked", blocking)]
fn locked(request: &Request, response: &mut Response) -> Result {
    let _held = waits_for_the_lock();
    slow(request, response)
}

/// Sends itself real-time signals until the test says so, and tells whether one is lost. It has mapped a file with a strange name.
#[servlet("/signals", blocking)]
fn signals(request: &Request, response: &mut Response) -> Result {
    use std::os::fd::AsRawFd as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    unsafe extern "C" {
        safe fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
        safe fn raise(number: i32) -> i32;
        safe fn prctl(option: i32, process: u64) -> i32;
        unsafe fn mmap(at: usize, len: usize, protection: i32, flags: i32, file: i32, offset: i64) -> *mut u8;
    }
    static CAME: AtomicU64 = AtomicU64::new(0);
    extern "C" fn comes(_: i32) {
        CAME.fetch_add(1, Ordering::Relaxed);
    }
    let work = request.context().work_folder().ok_or_else(|| error(500, "no work folder"))?;
    let strange = work.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff"));
    std::fs::write(&strange, "x")?;
    unsafe { mmap(0, 1, 1, 2, std::fs::File::open(&strange)?.as_raw_fd(), 0) };
    signal(40, comes);
    // Whoever wants may look: the test is no parent of this process.
    prctl(0x59616d61, u64::MAX);
    std::fs::write(work.join("thread"), format!("{}\n", std::fs::read_link("/proc/thread-self")?.display()))?;
    for sent in 1.. {
        raise(40);
        if CAME.load(Ordering::Relaxed) != sent {
            return response.text("one is lost");
        }
        if work.join("go").exists() {
            break;
        }
    }
    response.text("all came")
}

#[inline(never)]
fn waits_for_the_lock() -> std::sync::MutexGuard<'static, ()> {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
"#;

const WORK: &str = "var/work/localhost/x";

/// The library, built by the host; once for all tests.
fn library() -> &'static [u8] {
    static BUILT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BUILT.get_or_init(|| {
        let home = Home::new().unwrap();
        home.configure("[build]\nsources = true").unwrap();
        home.write("webapps/x/WEB-INF/Cargo.toml", MANIFEST).unwrap();
        home.write("webapps/x/WEB-INF/src/lib.rs", SOURCE).unwrap();
        let serval = Serval::start(&home).unwrap();
        let is_over = |line: &str| line.contains("/x ready (generation 2") || line.contains("ERROR");
        serval.program().wait_for_line(0, BUILT_WITHIN, is_over).unwrap();
        let lines = serval.program().lines_from(0);
        let built = fs::read(home.path("webapps/x/WEB-INF/lib/servlets.so"));
        built.unwrap_or_else(|error| panic!("{error}: {lines:#?}"))
    })
}

fn home(settings: &str) -> Home {
    let home = Home::new().unwrap();
    home.configure(settings).unwrap();
    home.write("webapps/x/WEB-INF/lib/servlets.so", library()).unwrap();
    home
}

fn start(home: &Home) -> Serval {
    is_ready(Serval::start(home).unwrap())
}

fn is_ready(serval: Serval) -> Serval {
    serval.wait_for_log("/x ready (generation 1", LONG).unwrap();
    serval
}

fn get(serval: &Serval, path: &str) -> Response {
    Connection::open(serval.address(), LONG).unwrap().get(&format!("/x{path}")).unwrap()
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it has not come to be so");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Of all lines one warns or is an error, and it has all of `parts`. Ends the server, and returns all lines.
#[track_caller]
fn one_line(serval: Serval, parts: &[&str]) -> Vec<String> {
    serval.wait_for_log(parts[0], LONG).unwrap();
    let lines = serval.stop_and_read().unwrap();
    let is_grave = |line: &&String| [" WARN ", "ERROR "].iter().any(|level| line.contains(level)) && !is_of_root(line);
    let grave: Vec<&String> = lines.iter().filter(is_grave).collect();
    assert_eq!(grave.len(), 1, "{lines:#?}");
    for part in parts {
        assert!(grave[0].contains(part), "{part}: {}", grave[0]);
    }
    lines
}

#[test]
fn an_init_that_fails() {
    let home = home("");
    let serval = start(&home);
    home.write("webapps/x/WEB-INF/web.toml", "[params]\nmood = \"bad\"\n").unwrap();
    one_line(
        serval,
        &[
            "the new generation is refused: servlets.so: its init failed: the database does not answer",
            "generation 1 serves on",
            "it is tried again when WEB-INF/lib or web.toml changes",
            "context=/x",
            "generation=2",
        ],
    );
}

#[test]
fn the_first_init_that_fails() {
    let home = home("");
    home.write("webapps/x/WEB-INF/web.toml", "[params]\nmood = \"bad\"\n").unwrap();
    let serval = Serval::start(&home).unwrap();
    one_line(serval, &["its init failed: the database does not answer", "requests are answered 503", "context=/x"]);
}

#[test]
fn a_panic() {
    let home = home("");
    let serval = start(&home);
    assert_eq!(get(&serval, "/panics").status, 500);
    let place = SOURCE.lines().position(|line| line.contains("panic!(")).unwrap() + 1;
    let said = format!("it panicked at src/lib.rs:{place}: stumbled after 3 steps");
    let parts = [&*said, "context=/x", "servlet=panics", "generation=1", "request=", "RUST_BACKTRACE=1"];
    let lines = one_line(serval, &parts);
    assert!(!lines.iter().any(|line| line.trim_start().starts_with("0: ")), "{lines:#?}");
}

/// The calls are named by the server, from the library's own debug information: functions with their lines.
#[test]
fn a_panic_with_a_backtrace() {
    let home = home("");
    let serval = is_ready(Serval::start_with(&home, "RUST_BACKTRACE", "1").unwrap());
    // Of a library that was loaded later, too.
    for generation in 1..=2 {
        let position = serval.program().position();
        assert_eq!(get(&serval, "/panics").status, 500);
        let begins = "ERROR the calls that led to a panic: ";
        let line = serval.program().wait_for_line(position, LONG, |line| line.contains(begins)).unwrap();
        let fields = format!(" context=\"/x\" generation={generation} request=");
        assert!(line.contains(&fields), "{line}");
        let failed = "ERROR a servlet failed: it panicked at src/lib.rs:";
        let said = serval.program().wait_for_line(position, LONG, |line| line.contains(failed)).unwrap();
        for part in ["context=/x", "servlet=panics", "request="] {
            assert!(said.contains(part) && !said.contains("RUST_BACKTRACE"), "{part}: {said}");
        }
        let calls: Vec<&str> = line.split_once(begins).unwrap().1.split(&fields).next().unwrap().split("; ").collect();
        for (function, text) in [("stumble", "panic!("), ("panics", "stumble(3)")] {
            let place = SOURCE.lines().position(|line| line.contains(text)).unwrap() + 1;
            let is_it = |call: &&str| call.contains(function) && call.ends_with(&format!("src/lib.rs:{place}"));
            assert!(calls.iter().any(is_it), "{function} at line {place}: {calls:#?}");
        }
        if generation == 1 {
            home.write("next.so", [library(), b"\n"].concat()).unwrap();
            fs::rename(home.path("next.so"), home.path("webapps/x/WEB-INF/lib/servlets.so")).unwrap();
            serval.wait_for_log("/x ready (generation 2", LONG).unwrap();
        }
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_servlet_that_is_slow() {
    let home = home("[defaults.context]\nslow_after = \"1s\"");
    let serval = start(&home);
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    let asked = Instant::now();
    connection.send(b"GET /x/slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let said = "a call has been running for ";
    let line = serval.wait_for_log(said, LONG).unwrap();
    for part in ["context=/x", "servlet=", "slow", "generation=1", "request=", "make it asynchronous"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    home.write(&format!("{WORK}/go"), "").unwrap();
    assert_eq!(connection.read_response().unwrap().body, b"at last");
    // Again whenever it has run twice as long: after 2 s, 4 s and so on.
    let most = 1 + asked.elapsed().as_secs().max(1).ilog2() as usize;
    let ended = serval.wait_for_log("the call that was named as slow has ended", LONG).unwrap();
    assert!(ended.contains("context=/x") && ended.contains("request="), "{ended}");
    let lines = serval.stop_and_read().unwrap();
    let times = lines.iter().filter(|line| line.contains(said)).count();
    assert!((1..=most).contains(&times), "{times} times, {most} at most: {lines:#?}");
}

#[test]
fn the_stacks_of_servlets_that_are_slow() {
    let home = home("[defaults.context]\nslow_after = \"1s\"");
    let serval = start(&home);
    let mut connections = [0; 2].map(|_| Connection::open(serval.address(), LONG).unwrap());
    for connection in &mut connections {
        connection.send(b"GET /x/locked HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    let place = |text| SOURCE.lines().position(|line| line.contains(text)).unwrap() + 1;
    for (function, at) in [("waits_for_the_lock", place("LOCK.lock()")), ("locked", place("    slow(request"))] {
        let call = |line: &str| {
            let mut calls = line.split("; its stack: ").nth(1).unwrap_or_default().split("; ");
            calls.any(|call| call.contains(function) && call.contains(&format!("src/lib.rs:{at}")))
        };
        let line = serval.program().wait_for_line(0, LONG, call).unwrap();
        assert!(line.contains("a call has been running for ") && line.contains("servlet=\"locked\""), "{line}");
        assert!(!line.contains("serval_container"), "how the server comes to the call is the same each time: {line}");
    }
    home.write(&format!("{WORK}/go"), "").unwrap();
    for connection in &mut connections {
        assert_eq!(connection.read_response().unwrap().body, b"at last");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_signal_is_not_lost_when_a_stack_is_looked_at() {
    let home = home("");
    let serval = start(&home);
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"GET /x/signals HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let thread = || fs::read_to_string(home.path(&format!("{WORK}/thread"))).unwrap_or_default();
    wait_until(|| thread().ends_with('\n'));
    let thread = thread();
    let (process, thread) = thread.trim_end().split_once("/task/").unwrap();
    for _ in 0..8 {
        wait_until(|| {
            let looked = Command::new(binary().unwrap()).args(["stack", process, thread]).output().unwrap();
            let said = String::from_utf8_lossy(&looked.stdout);
            // Of a busy machine it is too much for the time that it has.
            assert!(looked.status.success() || said.contains("it was not read within"), "{looked:?}");
            looked.status.success()
        });
    }
    home.write(&format!("{WORK}/go"), "").unwrap();
    assert_eq!(connection.read_response().unwrap().body, b"all came");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_pool_that_is_full() {
    let home = home("[defaults.context]\nworkers_max = 1\nqueue_max = 0");
    let serval = start(&home);
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"GET /x/slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until(|| home.path(&format!("{WORK}/begun")).exists());
    let refused = get(&serval, "/slow");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    home.write(&format!("{WORK}/go"), "").unwrap();
    assert_eq!(connection.read_response().unwrap().body, b"at last");
    one_line(
        serval,
        &[
            "a request was answered 503: all threads are busy (workers_max), and its queue is full (queue_max); \
             see which calls are slow, or raise the bound",
            "context=/x",
            "servlet=",
            "slow",
            "generation=1",
            "request=",
        ],
    );
}
