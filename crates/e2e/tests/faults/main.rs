//! Faults of servlets, seen from outside: whatever a library does, the others do not notice, the log names it, and what was sent
//! is never taken for something else. Needs `cc`; the Rust servlet is built by the host itself.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::process;
use e2e::serval::{self, Home, Serval};

/// For what happens at once, on a machine that is busy.
const SHORT: Duration = Duration::from_secs(30);
/// Among others, for the first build of all that a webapp in Rust depends on.
const LONG: Duration = Duration::from_secs(600);
/// As in faults.c.
const OWNED_BYTES: usize = 32 << 20;

fn compile(source: &str) -> Vec<u8> {
    let workshop = tempfile::tempdir().unwrap();
    let (from, to) = (workshop.path().join("x.c"), workshop.path().join("x.so"));
    std::fs::write(&from, source).unwrap();
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]);
    command.arg("-pthread").arg("-I").arg(serval::repository().join("crates/abi/include"));
    command.arg("-o").args([&to, &from]);
    process::run(command, LONG).unwrap();
    std::fs::read(&to).unwrap()
}

/// A server with a C library as `/x`; `server` is what its configuration begins with.
fn start(server: &str, source: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("conf/server.toml", format!("{server}\n[[listener]]\naddress = \"127.0.0.1:0\"\n")).unwrap();
    home.write("webapps/x/WEB-INF/lib/x.so", compile(source)).unwrap();
    let serval = Serval::start(&home).unwrap();
    (home, serval)
}

fn faults(server: &str) -> (Home, Serval) {
    let (home, serval) = start(server, include_str!("faults.c"));
    others_are_served(&serval);
    (home, serval)
}

fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), SHORT).unwrap()
}

fn get(serval: &Serval, target: &str) -> Response {
    open(serval).get(target).unwrap()
}

fn text(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

#[track_caller]
fn others_are_served(serval: &Serval) {
    let mut connection = open(serval);
    for _ in 0..20 {
        let answer = connection.get("/x/hello").unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"hello"[..]));
    }
}

/// Asks until it is true.
#[track_caller]
fn becomes(what: &str, mut is: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + LONG;
    while let Err(now) = is() {
        assert!(Instant::now() < deadline, "{what}: still {now}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The lines about wrong use of the ABI; no check of a library has failed. Ends the server.
fn misuses(serval: Serval) -> Vec<String> {
    let lines = serval.stop_and_read().unwrap();
    let failures: Vec<&String> = lines.iter().filter(|line| line.contains("check: ")).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    let about = lines.iter().filter_map(|line| line.split_once("wrong use of the servlet ABI: "));
    about.map(|(_, text)| text.to_owned()).collect()
}

// ---------------------------------------------------------------------------------------------- nonsense

/// The checks of the loader's misuse.c, and those that need the real response, each twice.
#[test]
fn nonsense_gets_a_status_and_one_line() {
    let began = Instant::now();
    let (_home, serval) = start("", include_str!("../../../loader/tests/misuse.c"));
    for _ in 0..2 {
        for (name, status, body) in [
            ("null_handles", 200, ""),
            ("made_up_handles", 200, ""),
            ("handles_of_another_kind", 200, ""),
            ("another_thread", 200, ""),
            ("keep_the_handle", 200, ""),
            ("ended_handle", 200, ""),
            ("texts", 200, ""),
            ("no_text_is_the_empty_text", 200, ""),
            ("header_fields", 200, ""),
            ("numbers", 200, ""),
            ("sizes_of_structs", 200, ""),
            ("places", 200, ""),
            ("owned_bodies_of_errors", 200, "rightright"),
            ("unsupported", 200, ""),
            ("nothing_asynchronous", 200, ""),
            ("no_session", 200, ""),
            ("error_texts", 200, ""),
            ("memory", 200, ""),
            ("memory_that_is_used_up", 200, ""),
            ("attributes_keep_their_value", 200, ""),
            ("context_attributes_keep_their_value", 200, ""),
            ("after_commit", 200, "whole answer"),
            ("after_respond", 200, "whole answer"),
            ("after_send_error", 410, "<!doctype html>"),
            ("after_redirect", 302, ""),
            ("thousand_headers", 200, "whole answer"),
            ("release_that_calls", 200, "whole answer"),
            ("pending", 500, "<!doctype html>"),
            ("pending_task", 500, "<!doctype html>"),
            ("lost_task", 200, ""),
            ("unknown_status", 500, "<!doctype html>"),
            ("not_a_check", 404, "<!doctype html>"),
        ] {
            let mut connection = open(&serval);
            let answer = connection.get(&format!("/x/{name}")).unwrap();
            let checks = || {
                let lines = serval.program().lines_from(0).into_iter();
                lines.filter(|line| line.contains("check: ")).collect::<Vec<String>>()
            };
            assert_eq!(answer.status, status, "{name}: {:#?}", checks());
            let same = if body.starts_with('<') { text(&answer).starts_with(body) } else { text(&answer) == body };
            assert!(same, "{name}: {}", text(&answer));
            assert_eq!(answer.header("x-forged"), None, "{name}");
            // The connection is in step.
            assert_eq!(connection.get("/x/keep_the_handle").unwrap().status, 200, "after {name}");
        }
    }
    // Each function, status and servlet, or thread, has had its line, and not one more in an interval of ten seconds.
    let misuses = misuses(serval);
    let most = 1 + began.elapsed().as_secs() as usize / 10;
    let key = |line: &str| {
        let status = line.split_whitespace().find(|word| word.starts_with("status=")).unwrap_or_default();
        format!("{} {status}", line.split(": ").next().unwrap_or_default())
    };
    for line in &misuses {
        let same: Vec<&String> = misuses.iter().filter(|other| key(other) == key(line)).collect();
        assert!(same.len() <= most, "more than {most}: {same:#?}");
    }
    assert!(
        misuses.iter().any(|line| line.starts_with("set_status called by misuse: a status is 200 to 599")),
        "{misuses:#?}"
    );
    assert!(
        misuses
            .iter()
            .any(|line| line.starts_with("write called by a thread of a library: another thread owns the exchange"))
    );
}

#[test]
fn a_thread_that_calls_after_the_end_gets_a_status() {
    let (_home, serval) = faults("");
    assert_eq!(text(&get(&serval, "/x/starts_thread")), "started");
    assert_eq!(text(&get(&serval, "/x/joins_thread")), "-4 -4 -4 -4 -4 absent");
    others_are_served(&serval);
    let lines = misuses(serval);
    for function in ["header", "write", "complete", "set_header"] {
        let line = format!("{function} called by a thread of a library: the exchange has ended");
        assert!(lines.iter().any(|found| found.starts_with(&line)), "{function}: {lines:#?}");
    }
}

#[test]
fn a_date_that_no_header_can_tell_is_left_out() {
    let (_home, serval) = faults("");
    let answer = get(&serval, "/x/modified");
    assert_eq!((answer.status, &*text(&answer), answer.header("last-modified")), (200, "hello", None));
    let lines = misuses(serval);
    let line = "last_modified called by modified: 1700000000000000 ms since 1970 is after the year 9999";
    assert!(lines.iter().any(|found| found.starts_with(line)), "{lines:#?}");
}

// ---------------------------------------------------------------------------------------------- calls without end

#[test]
fn calls_that_never_return_are_named_and_stop_nobody() {
    let settings = "[server]\nio_threads = 2\nshutdown_timeout = \"200ms\"\n[defaults.context]\nslow_after = \"500ms\"";
    let (_home, serval) = faults(settings);
    let mut stuck: Vec<Connection> = ["sleeps_inline", "spins"]
        .iter()
        .map(|name| {
            let mut connection = open(&serval);
            connection.send(format!("GET /x/{name} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
            connection
        })
        .collect();
    for name in ["sleeps_inline", "spins"] {
        let is_it = |line: &str| line.contains("a call has been running for ") && line.contains(&format!("\"{name}\""));
        let line = serval.program().wait_for_line(0, SHORT, is_it).unwrap();
        for part in ["context=/x", "generation=1", "request=", " s; it keeps its thread until it returns"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    others_are_served(&serval);
    assert_eq!(serval.stop().unwrap().code(), Some(3));
    for connection in &mut stuck {
        assert!(connection.read_response().is_err());
    }
}

/// Whichever thread it blocks, another one attends to the sockets: the server once stood still, one time in ten.
#[test]
fn a_call_that_blocks_inline_never_leaves_the_sockets_alone() {
    let (_home, serval) = faults("[server]\nio_threads = 2");
    let mut connection = open(&serval);
    for _ in 0..30 {
        connection.send(b"GET /x/waits_inline HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        becomes("waiting", || match text(&get(&serval, "/x/goes_on")) {
            now if now == "goes on" => Ok(()),
            now => Err(now),
        });
        assert_eq!(text(&connection.read_response().unwrap()), "waited");
    }
    assert!(serval.stop().unwrap().success());
}

// ---------------------------------------------------------------------------------------------- bodies

#[test]
fn an_owned_body_is_released_once_when_sent_unsent_and_unread() {
    let (home, mut serval) = faults("[server]\nshutdown_timeout = \"20s\"");
    let counts = |serval: &mut Serval, wanted: &str| {
        becomes("released", || match text(&get(serval, "/x/counts")) {
            now if now == wanted => Ok(()),
            now => Err(now),
        });
    };
    let answer = get(&serval, "/x/owned");
    assert_eq!((answer.status, answer.body.len()), (200, OWNED_BYTES));
    counts(&mut serval, "1 of 1");

    let mut connection = open(&serval);
    connection.send(b"HEAD /x/owned HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(connection.read_response_of_head().unwrap().header("content-length"), Some("33554432"));
    counts(&mut serval, "2 of 2");

    // One that leaves in the middle.
    let mut stream = TcpStream::connect(serval.address()).unwrap();
    stream.write_all(b"GET /x/owned HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(SHORT)).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    counts(&mut serval, "3 of 3");

    // Two that are under way when the server stops: one reads on, one leaves.
    let mut readers: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(serval.address()).unwrap();
            stream.set_read_timeout(Some(SHORT)).unwrap();
            stream.write_all(b"GET /x/owned HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 1000]).unwrap();
            stream
        })
        .collect();
    counts(&mut serval, "3 of 5");
    let stopping = std::thread::spawn(move || serval.stop().unwrap());
    drop(readers.pop());
    let mut rest = Vec::new();
    readers[0].read_to_end(&mut rest).unwrap();
    assert!(rest.len() > OWNED_BYTES - 1000, "{}", rest.len());
    assert!(stopping.join().unwrap().success());
    let told: PathBuf = home.path("var/work/localhost/x/released");
    assert_eq!(std::fs::read_to_string(told).unwrap(), "5 of 5", "before destroy");
}

#[test]
fn owned_pieces_are_released_once_and_not_after_an_error() {
    let (_home, serval) = faults("");
    let mut stream = TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(SHORT)).unwrap();
    stream.write_all(b"GET /x/streams_owned HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut some = vec![0; 1 << 20];
    stream.read_exact(&mut some).unwrap();
    drop(stream);
    becomes("released", || match text(&get(&serval, "/x/stream_counts")) {
        now if now == "1 ended, all released" => Ok(()),
        now => Err(now),
    });
    others_are_served(&serval);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_owned_body_keeps_its_generation_until_it_is_sent() {
    let (home, serval) = faults("");
    let mut stream = TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(SHORT)).unwrap();
    stream.write_all(b"GET /x/owned HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();

    home.write("webapps/x/WEB-INF/lib/x.so", compile(include_str!("faults.c"))).unwrap();
    serval.wait_for_log("/x ready (generation 2", SHORT).unwrap();
    assert_eq!(text(&get(&serval, "/x/counts")), "0 of 0");
    let told = home.path("var/work/localhost/x/released");
    assert!(!told.exists(), "the old generation was destroyed while its memory was being sent");

    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > OWNED_BYTES - 1000, "{}", rest.len());
    becomes("destroyed", || match std::fs::read_to_string(&told).unwrap_or_default() {
        now if now == "1 of 1" => Ok(()),
        now => Err(now),
    });
    assert!(serval.stop().unwrap().success());
}

/// The answer to GET and to HEAD, and then the next one on the same connection: of another servlet, and in step.
#[track_caller]
fn in_step(serval: &Serval, name: &str, status: u16, len: usize, content_length: Option<&str>) {
    let mut connection = open(serval);
    let answer = connection.get(&format!("/x/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!((answer.status, answer.body.len()), (status, len), "{name}: {}", text(&answer));
    assert_eq!(answer.header("content-length"), content_length, "{name}");
    let next = connection.get("/x/hello").unwrap_or_else(|error| panic!("after {name}: {error}"));
    assert_eq!(text(&next), "hello", "after {name}");
    let request = format!("HEAD /x/{name} HTTP/1.1\r\nHost: a\r\n\r\nGET /x/hello HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.send(request.as_bytes()).unwrap();
    let head = connection.read_response_of_head().unwrap_or_else(|error| panic!("HEAD {name}: {error}"));
    assert_eq!(head.status, status, "HEAD {name}");
    let next = connection.read_response().unwrap_or_else(|error| panic!("after HEAD {name}: {error}"));
    assert_eq!(text(&next), "hello", "after HEAD {name}");
}

/// The client sees that something is missing.
#[track_caller]
fn is_cut(serval: &Serval, name: &str) {
    let error = open(serval).get(&format!("/x/{name}")).expect_err(name);
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{name}: {error}");
    others_are_served(serval);
}

#[test]
fn a_length_that_was_announced_is_kept_or_the_connection_is_cut() {
    let (_home, serval) = faults("");
    in_step(&serval, "right_length", 200, 3, Some("3"));
    in_step(&serval, "long_buffered", 200, 3, Some("3"));
    in_step(&serval, "long_streamed", 200, 100000, Some("100000"));
    in_step(&serval, "said_late", 200, 3, Some("3"));
    in_step(&serval, "said_late_and_more", 200, 3, Some("3"));
    in_step(&serval, "said_late_and_exact", 200, 5, Some("5"));
    in_step(&serval, "said_late_and_flushed", 200, 3, Some("3"));
    in_step(&serval, "zero_said_late", 200, 0, Some("0"));
    in_step(&serval, "no_content", 204, 0, None);
    in_step(&serval, "no_content_written", 204, 0, None);
    in_step(&serval, "no_content_streamed", 204, 0, None);
    in_step(&serval, "not_modified_streamed", 304, 0, None);
    in_step(&serval, "reset_content", 205, 0, Some("0"));
    for name in ["short_buffered", "short_streamed", "short_of_nothing", "redirect_with_length", "fails_after_commit"] {
        is_cut(&serval, name);
    }
    serval
        .wait_for_log(
            "a response was cut: the servlet has written 3 bytes, and had set the content length to 10",
            SHORT,
        )
        .unwrap();
    serval.wait_for_log("a servlet failed: shop/till: the till is locked", SHORT).unwrap();

    let mut connection = open(&serval);
    assert_eq!(connection.get("/x/wrong_length").unwrap().status, 500);
    assert_eq!(text(&connection.get("/x/hello").unwrap()), "hello");
    serval.wait_for_log("the content-length is not the length of the body", SHORT).unwrap();

    let answer = connection.get("/x/two_charsets").unwrap();
    assert_eq!(answer.header("content-type"), Some("text/html;charset=utf-8"));
    let answer = connection.get("/x/not_modified").unwrap();
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    assert_eq!(text(&connection.get("/x/hello").unwrap()), "hello");
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:#?}");
}

#[test]
fn the_text_of_an_error_is_one_line_of_the_log() {
    let (_home, serval) = faults("");
    let answer = get(&serval, "/x/sends_error");
    assert_eq!(answer.status, 503);
    assert!(!text(&answer).contains("till"), "only in development: {}", text(&answer));
    let line = serval.wait_for_log(r#"a servlet sent an error: "the till\nERROR is locked""#, SHORT).unwrap();
    for part in ["WARN", "context=/x", "servlet=sends_error", "request=", "status=503"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

// ---------------------------------------------------------------------------------------------- panics

#[test]
fn a_panic_is_one_answer_and_a_line_and_never_the_end() {
    let home = Home::new().unwrap();
    home.configure("[build]\nsources = true").unwrap();
    home.copy_example("hello").unwrap();
    std::fs::rename(home.path("webapps/hello"), home.path("webapps/p")).unwrap();
    let source = include_str!("panics.rs");
    home.write("webapps/p/WEB-INF/src/lib.rs", source).unwrap();
    home.write("webapps/p/WEB-INF/web.toml", "").unwrap();
    let serval = Serval::start(&home).unwrap();
    let is_built = |serval: &Serval| match get(serval, "/p/fine").status {
        200 => Ok(()),
        status => {
            let lines = serval.program().lines_from(0);
            assert!(!lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
            Err(format!("{status}"))
        }
    };
    becomes("built", || is_built(&serval));

    let mut connection = open(&serval);
    let answer = connection.get("/p/panics?name=Ada").unwrap();
    assert_eq!(answer.status, 500);
    assert!(!text(&answer).contains("Ada"), "{}", text(&answer));
    assert_eq!(text(&connection.get("/p/fine").unwrap()), "fine");
    let line = serval.wait_for_log("a servlet failed: it panicked at src/lib.rs:", SHORT).unwrap();
    let place = source.lines().position(|line| line.contains("panic!")).unwrap() + 1;
    let said = format!("src/lib.rs:{place}: the roof of Ada is on fire");
    for part in [&*said, "context=/p", "servlet=panics", "request=", "generation="] {
        assert!(line.contains(part), "{part}: {line}");
    }

    let worse = source.replace("Ok(State)", "panic!(\"no database\")");
    home.write("webapps/p/WEB-INF/src/lib.rs", worse).unwrap();
    let line = serval.program().wait_for_line(0, LONG, |line| line.contains("the new generation is refused")).unwrap();
    for part in [
        "context=/p",
        "servlets.so: its init failed: it panicked at src/lib.rs:",
        ": no database; generation ",
        " serves on",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(text(&get(&serval, "/p/fine")), "fine");
    assert_eq!(get(&serval, "/p/panics").status, 500);
    assert!(serval.stop().unwrap().success());
}
