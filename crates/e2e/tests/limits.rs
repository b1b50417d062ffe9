//! The bounds of requests and connections, just below and just over them, and the bombs that they are for: refused with the status
//! that says why (SEMANTICS 13, 26), while the server's memory stays as it was.

use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::process::{forget_peak, peak_kb, resident_kb};
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);
/// What the memory may grow in one request: a form of form_bytes_max, with room to grow into.
const GROWTH_MAX_KB: u64 = 12 << 10;

/// `listener` are keys of the listener, `context` those of all contexts.
fn start(listener: &str, context: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/src/limits.c", include_str!("limits.c")).unwrap();
    home.configure(&format!("{listener}\n[build]\nsources = true\n[defaults.context]\n{context}")).unwrap();
    let serval = Serval::start(&home).unwrap();
    let deadline = Instant::now() + LONG;
    while open(&serval).get("/x/ignore").unwrap().status != 200 {
        assert!(Instant::now() < deadline, "{:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    (home, serval)
}

fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), LONG).unwrap()
}

fn head(target: &str, headers: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

fn form(target: &str, body: &str) -> String {
    let headers = format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", body.len());
    head(target, &headers) + body
}

fn chunked(target: &str, media_type: &str, body: &str, chunk: usize) -> String {
    let mut all = head(target, &format!("Content-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n"));
    for chunk in body.as_bytes().chunks(chunk) {
        all.push_str(&format!("{:x}\r\n{}\r\n", chunk.len(), str::from_utf8(chunk).unwrap()));
    }
    all + "0\r\n\r\n"
}

/// Sends on another thread: the answer may come, and the connection be closed, before all is sent.
fn ask(serval: &Serval, request: &str) -> Response {
    let mut connection = open(serval);
    let mut sender = connection.sender().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(std::io::Write::write_all(&mut sender, request.as_bytes())));
        connection.read_response().unwrap()
    })
}

fn text(answer: &Response) -> &str {
    str::from_utf8(&answer.body).unwrap()
}

const PART: &str = "--B\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n";
const FIELD: &str = "--B\r\nContent-Disposition: form-data; name=a\r\n\r\nVALUE\r\n";
const MULTIPART: &str = "multipart/form-data; boundary=B";

#[test]
fn bombs_are_refused_and_memory_stays_flat() {
    let (_home, serval) = start("", "file_bytes_max = \"1MiB\"\nmultipart_bytes_max = \"4MiB\"");
    let many = |text: &str, times: usize| text.repeat(times);
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let part = |head: &str| format!("--B\r\n{head}\r\n\r\nx\r\n--B--\r\n");
    let multipart = |body: &str| chunked("/x/look", MULTIPART, body, 60_000);
    let bombs = [
        ("a million parameters in a form", form("/x/look", &many("a&", 1_000_000)), 400),
        ("a form of 64 MiB", form("/x/look", &many("a=1&", 16 << 20)), 413),
        (
            "a form that drips over its limit",
            chunked("/x/look", "application/x-www-form-urlencoded", &many("a", (2 << 20) + 1), 16),
            413,
        ),
        ("a million parameters in a query", get(&format!("/x/look?{}", many("a&", 1_000_000)), ""), 414),
        ("a form of escapes of escapes", form("/x/look", &format!("a=%{}", many("25", 900_000))), 200),
        ("a million parts", multipart(&many(PART, 1_000_000)), 413),
        (
            "fields that are a form of 3 MiB",
            multipart(&(many(&FIELD.replace("VALUE", &many("x", 900_000)), 3) + "--B--\r\n")),
            413,
        ),
        (
            "parts and parameters that are too many together",
            chunked(&format!("/x/look?{}", many("a&", 990)), MULTIPART, &(many(PART, 20) + "--B--\r\n"), 60_000),
            400,
        ),
        ("a part's head without end", multipart(&part(&format!("X: {}", many("x", 16 << 20)))), 413),
        ("a part's head of many fields", multipart(&part(&many("X: y\r\n", 1_000_000))), 413),
        (
            "a part of what might be boundaries",
            multipart(&(part("Content-Disposition: form-data; name=a") + &many("\r\n--", 4 << 20))),
            413,
        ),
        ("a body that has no first boundary", multipart(&many("\r\n--A", 4 << 20)), 413),
        ("a boundary that is followed by blanks", multipart(&format!("--B{}", many(" ", 4 << 20))), 400),
        ("a thousand cookies", get("/x/look", &format!("Cookie: {}\r\n", many("a;", 3000))), 400),
        ("a million cookies", get("/x/look", &format!("Cookie: {}\r\n", many("a;", 1_000_000))), 431),
        ("a million headers", get("/x/look", &many("X: y\r\n", 1_000_000)), 431),
        ("a header of 16 MiB", get("/x/look", &format!("X: {}\r\n", many("x", 16 << 20))), 431),
        ("a path of escapes", get(&format!("/x/look/{}", many("%2525", 1500)), ""), 404),
        ("a path that goes up and down", get(&format!("/x/{}look", many("a/../", 1500)), ""), 200),
        ("a body in chunks of one byte", chunked("/x/length", "text/plain", &many("x", 100_000), 1), 200),
        (
            "chunk extensions",
            head("/x/length", "Transfer-Encoding: chunked\r\n")
                + &format!("1;{}\r\nx\r\n0\r\n\r\n", many("x", 1 << 20)),
            400,
        ),
        (
            "a chunk whose size has no end",
            head("/x/length", "Transfer-Encoding: chunked\r\n") + &many("0", 1 << 20),
            400,
        ),
        (
            "a million trailers",
            head("/x/length", "Transfer-Encoding: chunked\r\n") + &format!("0\r\n{}\r\n", many("X: y\r\n", 1_000_000)),
            400,
        ),
        // Nothing is decompressed: what is told of a body's coding is the servlet's to read, and a form in one is none.
        (
            "a compressed body",
            head("/x/length", "Content-Encoding: gzip\r\nContent-Length: 1000000\r\n") + &many("x", 1_000_000),
            200,
        ),
    ];
    let pid = serval.program().id();
    for (name, request, status) in bombs {
        forget_peak(pid).unwrap();
        let before = resident_kb(pid).unwrap();
        let answer = ask(&serval, &request);
        let grown = peak_kb(pid).unwrap().saturating_sub(before);
        println!("{name}: {} bytes, answered {}, {grown} kB more at most", request.len(), answer.status);
        assert_eq!(answer.status, status, "{name}: {}", text(&answer));
        assert!(grown < GROWTH_MAX_KB, "{name}: {grown} kB");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn each_limit_is_a_key() {
    let listener = "target_bytes_max = \"256B\"\ntrailer_bytes_max = \"64B\"\ntrailers = [\"X-Sum\"]";
    let context = "cookie_count_max = 3\nparameter_count_max = 2\nform_bytes_max = 8\nform_methods = [\"PUT\"]";
    let (_home, serval) = start(listener, context);
    let check = |request: String, status: u16, body: &str| {
        let answer = ask(&serval, &request);
        let shown = &request[..request.len().min(300)];
        assert_eq!(answer.status, status, "{shown:?}: {}", text(&answer));
        assert!(text(&answer).contains(body), "{shown:?}: {}", text(&answer));
    };
    let target = |len: usize| format!("/x/look?{}", "x".repeat(len - "/x/look?".len()));
    check(head(&target(256), ""), 200, "1 0 0");
    check(head(&target(257), ""), 414, "URI Too Long");
    check(head("/x/look", "Cookie: a; b; c;\r\n"), 200, "0 3 0");
    check(head("/x/look", "Cookie: a; b; c\r\nCookie: d\r\n"), 400, "too many cookies");
    check(form("/x/look", "a=1").replacen("POST", "PUT", 1), 200, "1 0 0");
    check(form("/x/look", "a=1"), 200, "0 0 0");
    check(form("/x/look?a&b", "c").replacen("POST", "PUT", 1), 400, "parameter_count_max");
    check(form("/x/look", "a=3456789").replacen("POST", "PUT", 1), 413, "form_bytes_max");
    let trailers =
        |lines: &str| head("/x/length", "Transfer-Encoding: chunked\r\n") + &format!("1\r\nx\r\n0\r\n{lines}\r\n");
    check(trailers("x-sum: 7\r\nX-Other: 8\r\n"), 200, "1 x-sum=7");
    check(trailers(&format!("X-Sum: {}\r\n", "7".repeat(64))), 400, "trailer_bytes_max");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_longest_form_that_can_be_allowed_is_read() {
    let (_home, serval) = start("", "form_bytes_max = \"32MiB\"");
    for (len, status) in [(32 << 20, 200), ((32 << 20) + 1, 413)] {
        let answer = ask(&serval, &form("/x/look", &format!("a={}", "x".repeat(len - 2))));
        assert_eq!(answer.status, status, "{}", text(&answer));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_that_nobody_read_is_taken_up_to_a_bound() {
    let (_home, serval) = start("unread_body_bytes_max = \"1MiB\"", "");
    let posted = |target: &str, len: usize| head(target, &format!("Content-Length: {len}\r\n")) + &"x".repeat(len);
    for target in ["/x/ignore", "/none"] {
        let mut connection = open(&serval);
        for request in [posted(target, 1 << 20), chunked(target, "text/plain", &"x".repeat(1 << 20), 9999)] {
            connection.send(request.as_bytes()).unwrap();
            let answer = connection.read_response().unwrap();
            assert!(!answer.closes(), "{target}: {}", text(&answer));
        }
        assert_eq!(connection.get("/x/ignore").unwrap().status, 200);
    }
    // One that is longer ends its connection, and what stands in it is no request.
    let mut connection = open(&serval);
    let smuggled = "GET /x/ignore HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100_000);
    let mut sender = connection.sender().unwrap();
    std::thread::scope(|scope| {
        let request = head("/x/ignore", &format!("Content-Length: {}\r\n", smuggled.len())) + &smuggled;
        scope.spawn(move || drop(std::io::Write::write_all(&mut sender, request.as_bytes())));
        assert_eq!(text(&connection.read_response().unwrap()), "ignored");
        assert!(connection.read_response().is_err());
    });
    assert!(serval.stop().unwrap().success());
}

#[test]
fn connections_end_when_they_have_had_their_share() {
    let (_home, serval) = start("requests_per_connection_max = 3\nserver_header = \"Ours/1\"\nsecure = true", "");
    let mut connection = open(&serval);
    let answers: Vec<Response> = (0..3).map(|_| connection.get("/x/ignore").unwrap()).collect();
    assert_eq!(answers.iter().map(Response::closes).collect::<Vec<_>>(), [false, false, true]);
    assert!(answers.iter().all(|answer| answer.header("server") == Some("Ours/1")));
    assert!(connection.get("/x/ignore").is_err());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn idle_connections_and_slow_heads_end_in_the_same_time() {
    let (_home, serval) = start("head_timeout = \"1s\"", "");
    for first in [head("/x/ignore", ""), chunked("/x/ignore", "text/plain", "x", 1)] {
        for begun in ["", "GET", "GET /x/ignore HTTP/1.1\r\n"] {
            let mut connection = open(&serval);
            connection.send((first.clone() + begun).as_bytes()).unwrap();
            assert_eq!(connection.read_response().unwrap().status, 200);
            let end = String::from_utf8(connection.read_to_close().unwrap()).unwrap();
            let is_right = if begun.is_empty() { end.is_empty() } else { end.starts_with("HTTP/1.1 408 ") };
            assert!(is_right, "{begun:?} behind {first:?}: {end}");
        }
    }
    assert!(serval.stop().unwrap().success());
}

/// The other time is so long that only this one can have ended them.
#[test]
fn idle_connections_and_slow_heads_have_times_of_their_own() {
    for (listener, idle_first) in [
        ("head_timeout = \"1h\"\nkeep_alive_timeout = \"1s\"", true),
        ("head_timeout = \"1s\"\nkeep_alive_timeout = \"1h\"", false),
    ] {
        let (_home, serval) = start(listener, "");
        let mut idle = open(&serval);
        assert_eq!(idle.get("/x/ignore").unwrap().status, 200);
        let mut slow = open(&serval);
        assert_eq!(slow.get("/x/ignore").unwrap().status, 200);
        slow.send(b"GET /x/ignore HTTP/1.1\r\n").unwrap();
        let (mut ends, mut stays) = if idle_first { (idle, slow) } else { (slow, idle) };
        let end = String::from_utf8(ends.read_to_close().unwrap()).unwrap();
        assert!(if idle_first { end.is_empty() } else { end.starts_with("HTTP/1.1 408 ") }, "{listener}: {end}");
        stays.send(if idle_first { b"Host: a\r\n\r\n" } else { b"GET /x/ignore HTTP/1.1\r\nHost: a\r\n\r\n" }).unwrap();
        assert_eq!(stays.read_response().unwrap().status, 200, "{listener}");
        assert!(serval.stop().unwrap().success());
    }
}
