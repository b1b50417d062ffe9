//! Requests that a server must refuse, clients that leave in the middle, and the bounds of a listener, over raw sockets. What
//! is allowed is in SEMANTICS 3 and 13; whatever comes, the next client is served, and nothing is left behind.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::process;
use e2e::serval::{self, Home, Serval};

/// For what happens at once, on a machine that is busy.
const SHORT: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(120);
/// How long something is watched that must not happen.
const MOMENT: Duration = Duration::from_millis(200);
const WORKERS_MAX: usize = 8;
const BIG_BYTES: usize = 50 << 20;

/// `/x/length` reads its body and answers its length, `/x/ignore` answers without it, `/x/stream` writes without end,
/// `/x/smuggled` is what no request here may reach.
const LIBRARY: &str = r#"
#include <servlet.h>

#include <stdio.h>
#include <string.h>

static const sv_host *host;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static sv_status say(sv_exchange *exchange, const char *text) {
    sv_response response;
    memset(&response, 0, sizeof response);
    response.struct_size = sizeof response;
    response.status = 200;
    response.body = text;
    response.body_len = strlen(text);
    response.body_kind = SV_BODY_COPY;
    return host->respond(exchange, &response);
}

static sv_status length(void *servlet, sv_exchange *exchange, void **task) {
    size_t total = 0;
    char text[32];
    sv_str chunk;
    sv_status status;
    (void)servlet;
    (void)task;
    while ((status = host->read_chunk(exchange, &chunk)) == SV_OK) total += chunk.len;
    if (status != SV_END) return status;
    snprintf(text, sizeof text, "length %zu", total);
    return say(exchange, text);
}

static sv_status ignore(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    return say(exchange, "ignored");
}

static sv_status smuggled(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet;
    (void)task;
    return say(exchange, "smuggled");
}

static sv_status stream(void *servlet, sv_exchange *exchange, void **task) {
    static const char piece[65536] = { 1 };
    sv_status status;
    (void)servlet;
    (void)task;
    while ((status = host->write(exchange, piece, sizeof piece, NULL)) == SV_OK) {}
    return status;
}

#define SERVLET(name) \
    static const sv_str name##_patterns[] = { SV_STR("/" #name) }; \
    static const sv_servlet name##_servlet = { \
        sizeof(sv_servlet), SV_BLOCKING, 0, 0, SV_STR(#name), name##_patterns, 1, NULL, 0, -1, 0, \
        NULL, NULL, name, NULL, NULL, NULL, \
    };
SERVLET(length)
SERVLET(ignore)
SERVLET(smuggled)
SERVLET(stream)

static const sv_servlet *const servlets[] = { &length_servlet, &ignore_servlet, &smuggled_servlet, &stream_servlet };
static const sv_module module = {
    SV_MAGIC, sizeof(sv_module), SV_ABI_MAJOR, SV_ABI_MINOR, 0, 0, 0, 0,
    SV_STR("x"), SV_STR("1"), SV_STR("C"),
    init, NULL, NULL, NULL,
    servlets, 4, NULL, 0, NULL, 0, NULL,
};

SV_EXPORT const sv_module *servlet_module_v1(void) { return &module; }
"#;

/// The library, compiled once.
fn library() -> &'static [u8] {
    static LIBRARY_BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    LIBRARY_BYTES.get_or_init(|| {
        let workshop = tempfile::tempdir().unwrap();
        let (source, output) = (workshop.path().join("x.c"), workshop.path().join("x.so"));
        std::fs::write(&source, LIBRARY).unwrap();
        let mut command = Command::new("cc");
        command.args([
            "-std=c99",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-I",
        ]);
        command.arg(serval::repository().join("crates/abi/include")).arg("-o").args([&output, &source]);
        process::run(command, LONG).unwrap();
        std::fs::read(&output).unwrap()
    })
}

/// A server with a static ROOT and the library as `/x`; `listener` and `context` are lines of its configuration.
fn start(listener: &str, context: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.configure(&format!("{listener}\n[defaults.context]\nworkers_max = {WORKERS_MAX}\n{context}")).unwrap();
    home.write("webapps/ROOT/index.html", "welcome").unwrap();
    home.write("webapps/x/WEB-INF/lib/x.so", library()).unwrap();
    let serval = Serval::start(&home).unwrap();
    is_well(&serval);
    (home, serval)
}

fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), SHORT).unwrap()
}

fn raw(serval: &Serval) -> TcpStream {
    let stream = TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(SHORT)).unwrap();
    stream.set_write_timeout(Some(SHORT)).unwrap();
    stream
}

fn body_of(response: &Response) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

/// A client that does everything right is served, by a file and by a servlet.
#[track_caller]
fn is_well(serval: &Serval) {
    let mut connection = open(serval);
    let answer = connection.get("/").unwrap();
    assert_eq!((answer.status, body_of(&answer)), (200, "welcome"));
    connection.send(b"POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").unwrap();
    let answer = connection.read_response().unwrap();
    assert_eq!((answer.status, body_of(&answer)), (200, "length 3"));
}

/// All that comes until the server closes the connection, which it has to do. A reset is a close, too: it comes when there was
/// more to read than the server did.
#[track_caller]
fn until_closed(stream: &mut TcpStream, what: &str) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let kind = error.kind();
        assert_eq!(kind, ErrorKind::ConnectionReset, "{what}: not closed; it sent {}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The statuses of all responses in a text.
fn statuses(text: &str) -> Vec<u16> {
    // Pages may speak of HTTP/1.1, too.
    text.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)?.parse().ok()).collect()
}

/// Sends this and nothing else; the one answer is of these statuses, or there is none if 0 is one of them, and then the server
/// closes. Nothing behind it is taken for a request.
#[track_caller]
fn refused(serval: &Serval, request: &[u8], allowed: &[u16]) {
    let shown = String::from_utf8_lossy(&request[..request.len().min(300)]).into_owned();
    let mut stream = raw(serval);
    // The server may close before it has read all.
    let _ = stream.write_all(request);
    let text = until_closed(&mut stream, &shown);
    let got = statuses(&text);
    match got[..] {
        [] => assert!(allowed.contains(&0), "{shown:?}: closed without an answer"),
        [status] => assert!(allowed.contains(&status), "{shown:?}: {text}"),
        _ => panic!("{shown:?}: several answers: {text}"),
    }
    assert!(!text.contains("smuggled"), "{shown:?}: {text}");
    is_well(serval);
}

/// Sends this, and is answered with this status on a connection that stays.
#[track_caller]
fn answered(serval: &Serval, request: &[u8], status: u16, body: &str) {
    let shown = String::from_utf8_lossy(request);
    let mut connection = open(serval);
    connection.send(request).unwrap();
    let answer = connection.read_response().unwrap_or_else(|error| panic!("{shown:?}: {error}"));
    assert_eq!(answer.status, status, "{shown:?}: {}", String::from_utf8_lossy(&answer.body));
    assert!(body_of(&answer).contains(body), "{shown:?}: {}", body_of(&answer));
}

/// Asks until it is true.
#[track_caller]
fn becomes(what: &str, mut is: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + LONG;
    while let Err(now) = is() {
        assert!(Instant::now() < deadline, "{what}: still {now}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn count(serval: &Serval, what: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/{what}", serval.program().id())).unwrap().count()
}

/// The open files are again about as many as they were.
#[track_caller]
fn files_are_closed(serval: &Serval, before: usize) {
    becomes("open files", || match count(serval, "fd") {
        now if now <= before + 2 => Ok(()),
        now => Err(format!("{now}, and {before} before")),
    });
}

/// There are no more threads than before but those of the webapp's pool. Threads that end their calls may be seen together with
/// those that have their places now, and with one or two of the server's own; but there are never as many as clients.
#[track_caller]
fn threads_are_few(serval: &Serval, before: usize) {
    let now = count(serval, "task");
    assert!(now <= before + 3 * WORKERS_MAX, "threads grow with clients: {now}, and {before} before");
}

#[test]
fn bad_requests_are_refused_and_harm_nobody() {
    let (_home, serval) = start("", "");
    for (bytes, status) in [
        ("GET /..%2f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\u{fc} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /{a} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G<T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/x\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n", 400),
        ("SSH-2.0-client\r\n\r\n", 400),
    ] {
        refused(&serval, bytes.as_bytes(), &[status]);
    }
    for (bytes, status) in [
        ("GET /WEB-inf/web.toml HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ] {
        answered(&serval, bytes.as_bytes(), status, "");
    }
    is_well(&serval);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_host_is_one_and_well_formed() {
    let (_home, serval) = start("", "");
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [x]\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \u{fc}\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
    ] {
        refused(&serval, bytes.as_bytes(), &[400]);
    }
    for bytes in ["CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n"] {
        refused(&serval, bytes.as_bytes(), &[501]);
    }
    for bytes in [
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: A.example:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ] {
        answered(&serval, bytes.as_bytes(), 200, "welcome");
    }
    let mut stream = raw(&serval);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let text = until_closed(&mut stream, "HTTP/1.0");
    assert!(text.starts_with("HTTP/1.") && text.contains(" 200 ") && text.ends_with("welcome"), "{text}");
    refused(&serval, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", &[400]);
}

#[test]
fn a_head_has_a_size() {
    let (_home, serval) = start("", "");
    let long = "x".repeat(100_000);
    // Closed with the answer or, when there is more to read than the server will, without it.
    refused(&serval, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n").as_bytes(), &[431, 0]);
    refused(&serval, format!("GET / HTTP/1.1\r\nHost: a\r\n{long}: x\r\n\r\n").as_bytes(), &[431, 0]);
    refused(&serval, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(5000)).as_bytes(), &[431, 0]);
    refused(&serval, format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &[414, 431, 0]);
    refused(&serval, format!("GET /?{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &[414, 431, 0]);
    refused(&serval, format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &[400, 414, 431, 0]);
    refused(&serval, long.repeat(20).as_bytes(), &[400, 414, 431, 0]);
    // With Host, one more than header_count_max, and as many.
    refused(&serval, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100)).as_bytes(), &[431]);
    let as_many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(99));
    answered(&serval, as_many.as_bytes(), 200, "welcome");
    let target = format!("/{}", "x".repeat(7000));
    answered(&serval, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), 404, "");
    answered(&serval, format!("GET /?{target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), 200, "welcome");
}

#[test]
fn heads_are_bounded_as_configured() {
    let (_home, serval) = start("header_count_max = 10\nhead_bytes_max = \"32KiB\"", "");
    refused(&serval, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10)).as_bytes(), &[431]);
    let long = "x".repeat(20_000);
    answered(&serval, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n").as_bytes(), 200, "welcome");
    let long = "x".repeat(200_000);
    refused(&serval, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n").as_bytes(), &[431, 0]);
}

/// What a proxy in front of us could read in another way than we do.
#[test]
fn a_body_has_one_length() {
    let (_home, serval) = start("", "");
    const SMUGGLED: &str = "GET /x/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for headers in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 0\r\nContent-Length: 3\r\n",
        "Content-Length: 3, 4\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: three\r\n",
        "Content-Length: 3.0\r\n",
        "Content-Length: 3 3\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length : 3\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: , chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
    ] {
        let request = format!("POST /x/length HTTP/1.1\r\nHost: a\r\n{headers}\r\n0\r\n\r\n{SMUGGLED}");
        refused(&serval, request.as_bytes(), &[400, 501]);
    }
    // Numbers of bytes that nobody has: too long, or not a number, as each layer sees it.
    for length in ["9223372036854775808", "18446744073709551614", "18446744073709551615"] {
        let request = format!("POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}");
        refused(&serval, request.as_bytes(), &[400, 413, 431]);
    }
    let of_10 = format!("POST /x/length HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
    refused(&serval, of_10.as_bytes(), &[400]);
    // RFC 9112 6.1 would allow to go by Transfer-Encoding.
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
        "Transfer-Encoding: CHUNKED\r\nContent-Length: 0\r\nConnection: keep-alive\r\n",
    ] {
        let request = format!("POST /x/length HTTP/1.1\r\nHost: a\r\n{headers}\r\n0\r\n\r\n{SMUGGLED}");
        refused(&serval, request.as_bytes(), &[400]);
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn chunks_are_well_formed() {
    let (_home, serval) = start("", "");
    const SMUGGLED: &str = "GET /x/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for chunks in [
        "zz\r\nabc\r\n0\r\n\r\n".to_owned(),
        "-3\r\nabc\r\n0\r\n\r\n".to_owned(),
        "+3\r\nabc\r\n0\r\n\r\n".to_owned(),
        "0x3\r\nabc\r\n0\r\n\r\n".to_owned(),
        "\r\nabc\r\n0\r\n\r\n".to_owned(),
        ";x\r\nabc\r\n0\r\n\r\n".to_owned(),
        "3\r\nabcd\r\n0\r\n\r\n".to_owned(),
        "3\r\nab\r\n0\r\n\r\n".to_owned(),
        "3\r\nabc0\r\n\r\n".to_owned(),
        "3\nabc\r\n0\r\n\r\n".to_owned(),
        "3;x\ny\r\nabc\r\n0\r\n\r\n".to_owned(),
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n".to_owned(),
        "3 3\r\nabc\r\n0\r\n\r\n".to_owned(),
        format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(20_000)),
        format!("0\r\nX: {}\r\n\r\n", "x".repeat(100_000)),
        format!("0\r\n{}\r\n", "X: y\r\n".repeat(2000)),
    ] {
        let request =
            format!("POST /x/length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{SMUGGLED}");
        refused(&serval, request.as_bytes(), &[400, 0]);
    }
    for (chunks, length) in [
        ("0\r\n\r\n", "length 0"),
        ("3\r\nabc\r\n0\r\n\r\n", "length 3"),
        ("3;x=y\r\nabc\r\n00A\r\n0123456789\r\n0\r\nX: y\r\n\r\n", "length 13"),
    ] {
        let head = "POST /x/length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        answered(&serval, format!("{head}{chunks}").as_bytes(), 200, length);
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_that_ends_too_soon_is_never_whole() {
    let (_home, serval) = start("", "");
    let before = count(&serval, "fd");
    for request in [
        "POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        "POST /x/length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "POST /x/length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    ] {
        let mut stream = raw(&serval);
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let text = until_closed(&mut stream, request);
        assert!(matches!(statuses(&text)[..], [] | [400]), "{request:?}: {text}");
        is_well(&serval);
    }
    files_are_closed(&serval, before);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_follows_a_body_is_the_next_request() {
    let (_home, serval) = start("", "");
    for (request, first) in [
        ("POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcdefgh\r\n\r\n", "length 3"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcdefgh\r\n\r\n", "welcome"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nabcdefgh\r\n\r\n", "welcome"),
        (
            "POST /x/length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nabcdefgh\r\n\r\n",
            "length 0",
        ),
    ] {
        let mut stream = raw(&serval);
        stream.write_all(request.as_bytes()).unwrap();
        let text = until_closed(&mut stream, request);
        assert!(matches!(statuses(&text)[..], [200, 400] | [200]), "{request:?}: {text}");
        assert!(text.contains(first), "{request:?}: {text}");
        is_well(&serval);
    }
    // A body that nobody reads is no request, whatever it says.
    const SMUGGLED: &str = "GET /x/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for target in ["/", "/x/ignore", "/none", "/x/length"] {
        for framing in ["length", "chunks"] {
            let (header, body) = match framing {
                "length" => (format!("Content-Length: {}", SMUGGLED.len()), SMUGGLED.to_owned()),
                _ => (
                    "Transfer-Encoding: chunked".to_owned(),
                    format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
                ),
            };
            let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let request = format!("POST {target} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n{body}{last}");
            let mut stream = raw(&serval);
            stream.write_all(request.as_bytes()).unwrap();
            let text = until_closed(&mut stream, &request);
            assert!(!text.contains("smuggled"), "{request:?}: {text}");
            assert!(matches!(statuses(&text)[..], [200 | 404] | [200 | 404, 200]), "{request:?}: {text}");
            is_well(&serval);
        }
    }
}

#[test]
fn a_slow_head_is_given_up() {
    let (_home, serval) = start("head_timeout = \"1s\"", "");
    let before = count(&serval, "fd");
    for beginning in ["", "GET", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
        let mut stream = raw(&serval);
        stream.write_all(beginning.as_bytes()).unwrap();
        let text = until_closed(&mut stream, beginning);
        assert!(matches!(statuses(&text)[..], [] | [408]), "{beginning:?}: {text}");
    }
    // The time is that of the whole head: one that trickles is not waited for.
    let mut stream = raw(&serval);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").unwrap();
    becomes("a head that trickles", || match stream.write_all(b"x") {
        Ok(()) => Err("read".to_owned()),
        Err(_) => Ok(()),
    });
    is_well(&serval);
    files_are_closed(&serval, before);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_that_stops_is_given_up() {
    let (_home, serval) = start("body_timeout = \"300ms\"", "");
    let before = count(&serval, "fd");
    for beginning in [
        "POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        "POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
        "POST /x/length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        refused(&serval, beginning.as_bytes(), &[408, 0]);
    }
    files_are_closed(&serval, before);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_over_its_bound_is_refused() {
    let (_home, serval) = start("", "request_body_bytes_max = \"1KiB\"");
    let before = count(&serval, "fd");
    let body = "x".repeat(1025);
    let head = "POST /x/length HTTP/1.1\r\nHost: a\r\n";
    refused(&serval, format!("{head}Content-Length: 1025\r\n\r\n{body}").as_bytes(), &[413]);
    // Known before it is sent.
    refused(&serval, format!("{head}Content-Length: 1025\r\n\r\n").as_bytes(), &[413]);
    refused(&serval, format!("{head}Content-Length: 1025\r\nExpect: 100-continue\r\n\r\n").as_bytes(), &[413]);
    refused(&serval, format!("{head}Content-Length: 9223372036854775807\r\n\r\n").as_bytes(), &[413]);
    // The client may still be sending, so it may see a reset instead.
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n401\r\n{body}\r\n0\r\n\r\n");
    refused(&serval, chunked.as_bytes(), &[413]);
    let many = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", "2\r\nab\r\n".repeat(513));
    refused(&serval, many.as_bytes(), &[413, 0]);
    let huge = "x".repeat(4 << 20);
    refused(&serval, format!("{head}Content-Length: {}\r\n\r\n{huge}", huge.len()).as_bytes(), &[413, 0]);
    let huge = format!("{head}Transfer-Encoding: chunked\r\n\r\n400000\r\n{huge}\r\n0\r\n\r\n");
    refused(&serval, huge.as_bytes(), &[413, 0]);
    let body = &body[..1024];
    answered(&serval, format!("{head}Content-Length: 1024\r\n\r\n{body}").as_bytes(), 200, "length 1024");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n400\r\n{body}\r\n0\r\n\r\n");
    answered(&serval, chunked.as_bytes(), 200, "length 1024");
    files_are_closed(&serval, before);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_client_may_leave_while_it_sends() {
    const CLIENTS: usize = 100;
    let (_home, serval) = start("", "");
    let (files, threads) = (count(&serval, "fd"), count(&serval, "task"));
    for reset in [false, true] {
        let mut streams = Vec::new();
        for _ in 0..CLIENTS {
            let mut stream = raw(&serval);
            stream.write_all(b"POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc").unwrap();
            streams.push(stream);
        }
        becomes("connections", || match count(&serval, "fd") {
            now if now >= CLIENTS => Ok(()),
            now => Err(format!("{now}")),
        });
        // All threads of the webapp wait for bodies; a file needs none.
        assert_eq!(open(&serval).get("/").unwrap().status, 200);
        threads_are_few(&serval, threads);
        if reset {
            // With an answer that nobody has read, the close is a reset.
            streams.iter_mut().for_each(|stream| {
                let _ = stream.write_all(&[b'x'; 100_000]);
            });
        }
        drop(streams);
        files_are_closed(&serval, files);
        is_well(&serval);
    }
    threads_are_few(&serval, threads);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_client_may_leave_while_it_receives() {
    const CLIENTS: usize = 50;
    let (home, serval) = start("", "");
    home.write("webapps/ROOT/big.bin", vec![b'x'; BIG_BYTES]).unwrap();
    let (files, threads) = (count(&serval, "fd"), count(&serval, "task"));
    let begun = |target: &str| {
        let mut stream = raw(&serval);
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let mut beginning = vec![0; 30_000];
        stream.read_exact(&mut beginning).unwrap();
        assert!(beginning.starts_with(b"HTTP/1.1 200 "));
        stream
    };
    // Files all at once; of the servlet, as many as it may have threads.
    let all: Vec<_> = (0..CLIENTS).map(|_| begun("/big.bin")).collect();
    threads_are_few(&serval, threads);
    is_well(&serval);
    drop(all);
    files_are_closed(&serval, files);
    for _ in 0..CLIENTS.div_ceil(WORKERS_MAX) {
        let some: Vec<_> = (0..WORKERS_MAX).map(|_| begun("/x/stream")).collect();
        threads_are_few(&serval, threads);
        drop(some);
        is_well(&serval);
    }
    files_are_closed(&serval, files);
    assert_eq!(open(&serval).get("/big.bin").unwrap().body.len(), BIG_BYTES);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_is_asked_for() {
    let (_home, serval) = start("", "");
    let mut connection = open(&serval);
    for _ in 0..2 {
        let head = "POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
        connection.send(head.as_bytes()).unwrap();
        assert_eq!(connection.read_response().unwrap().status, 100);
        connection.send(b"abc").unwrap();
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, body_of(&answer)), (200, "length 3"));
    }
    // Who does not want it does not ask for it, and cannot know what comes next on this connection.
    let head = "POST /x/ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = raw(&serval);
    stream.write_all(head.as_bytes()).unwrap();
    let text = until_closed(&mut stream, head);
    assert_eq!(statuses(&text), [200], "{text}");
    // HTTP/1.0 knows no interim answers.
    let head = "POST /x/length HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc";
    let mut stream = raw(&serval);
    stream.write_all(head.as_bytes()).unwrap();
    let text = until_closed(&mut stream, head);
    assert_eq!(statuses(&text), [200], "{text}");
    is_well(&serval);
}

#[test]
fn requests_in_one_write_are_answered_in_order() {
    let (_home, serval) = start("", "");
    let mut connection = open(&serval);
    let post =
        |body: &str| format!("POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.send(format!("{}{get}{}", post("a"), post("ab")).as_bytes()).unwrap();
    for body in ["length 1", "welcome", "length 2"] {
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, body_of(&answer)), (200, body));
    }
    // A bad one ends it; what was asked for before is answered.
    let mut stream = raw(&serval);
    stream.write_all(format!("{get}{}GET /..%2f HTTP/1.1\r\nHost: a\r\n\r\n{get}", post("a")).as_bytes()).unwrap();
    assert_eq!(statuses(&until_closed(&mut stream, "a bad one between")), [200, 200, 400]);
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut stream = raw(&serval);
    stream.write_all(format!("{head}{head}GET /none HTTP/1.0\r\n\r\n{get}").as_bytes()).unwrap();
    assert_eq!(statuses(&until_closed(&mut stream, "HEAD")), [200, 200, 404]);
    // Many at once, of a client that reads nothing before it has sent all.
    let many = 500;
    connection.send(get.repeat(many).as_bytes()).unwrap();
    for _ in 0..many {
        assert_eq!(body_of(&connection.read_response().unwrap()), "welcome");
    }
    is_well(&serval);
}

#[test]
fn connections_over_their_number_wait() {
    const CONNECTIONS_MAX: usize = 4;
    let (_home, serval) =
        start(&format!("connections_max = {CONNECTIONS_MAX}\nconnections_per_address_max = {CONNECTIONS_MAX}"), "");
    let mut served: Vec<Connection> = (0..CONNECTIONS_MAX).map(|_| open(&serval)).collect();
    for connection in &mut served {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    let mut waiting: Vec<TcpStream> = (0..2 * CONNECTIONS_MAX).map(|_| raw(&serval)).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    }
    waiting[0].set_read_timeout(Some(MOMENT)).unwrap();
    let error = waiting[0].peek(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    waiting[0].set_read_timeout(Some(SHORT)).unwrap();
    for connection in &mut served {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    // One goes: all that wait are served, one after the other.
    served.pop();
    for stream in &mut waiting {
        assert_eq!(statuses(&until_closed(stream, "a connection that has waited")), [200]);
    }
    drop(served);
    is_well(&serval);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_client_that_has_said_all_is_answered() {
    let (_home, serval) = start("", "");
    for target in ["/", "/x/ignore"] {
        let mut stream = raw(&serval);
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(statuses(&until_closed(&mut stream, target)), [200], "{target}");
    }
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let (home, serval) = start("write_timeout = \"300ms\"", "");
    home.write("webapps/ROOT/big.bin", vec![b'x'; BIG_BYTES]).unwrap();
    let (files, threads) = (count(&serval, "fd"), count(&serval, "task"));
    let silent: Vec<_> = ["/big.bin", "/x/stream"]
        .repeat(WORKERS_MAX)
        .iter()
        .map(|target| {
            let mut stream = raw(&serval);
            stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
            stream.read_exact(&mut [0; 100]).unwrap();
            stream
        })
        .collect();
    files_are_closed(&serval, files);
    threads_are_few(&serval, threads);
    is_well(&serval);
    drop(silent);
    assert!(serval.stop().unwrap().success());
}
