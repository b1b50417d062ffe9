//! Answers that are compressed on their way: files and servlets, read by decoders that are not ours.

use std::io::Read;
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);
const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];
const LINE: &str = "<p>It was the best of times, it was the worst of times.</p>\n";

/// `/x` has the context's codings; `/plain` is not compressed, and `/own` only where its web.toml says.
fn start() -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/src/streams.c", include_str!("streams.c")).unwrap();
    for webapp in ["x", "plain", "own"] {
        home.write(&format!("webapps/{webapp}/page.html"), page()).unwrap();
        home.write(&format!("webapps/{webapp}/small.html"), LINE).unwrap();
        home.write(&format!("webapps/{webapp}/photo.png"), page()).unwrap();
    }
    home.write("webapps/plain/WEB-INF/web.toml", "[compression]\ncodings = []\n").unwrap();
    let own = "[compression]\ncodings = [\"gzip\"]\nbytes_min = 0\ntypes = [\"image/png\"]\n";
    home.write("webapps/own/WEB-INF/web.toml", own).unwrap();
    home.configure("[build]\nsources = true\n[defaults.context]\ncompression = [\"br\", \"zstd\", \"gzip\"]\n")
        .unwrap();
    let serval = Serval::start(&home).unwrap();
    let deadline = Instant::now() + LONG;
    while ask(&serval, "GET", "/x/page", "").status != 200 || ask(&serval, "GET", "/own/photo.png", "").status != 200 {
        assert!(Instant::now() < deadline, "{:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    (home, serval)
}

fn page() -> String {
    LINE.repeat(10_000)
}

fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), LONG).unwrap()
}

/// Sends a request with these header lines.
fn ask(serval: &Serval, method: &str, target: &str, lines: &str) -> Response {
    let mut connection = open(serval);
    connection.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes()).unwrap();
    let answer = if method == "HEAD" { connection.read_response_of_head() } else { connection.read_response() };
    answer.unwrap()
}

/// What can be read of what has come, and whether it is whole.
fn decoded(coding: &str, bytes: &[u8]) -> (String, bool) {
    let mut decoder: Box<dyn Read> = match coding {
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
        _ => Box::new(flate2::read::GzDecoder::new(bytes)),
    };
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return (String::from_utf8(all).unwrap(), true),
            Ok(len) => all.extend_from_slice(&piece[..len]),
            Err(_) => return (String::from_utf8(all).unwrap(), false),
        }
    }
}

#[track_caller]
fn check_headers(answer: &Response, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(answer.header(name), *value, "{name}: {:?}", String::from_utf8_lossy(&answer.head));
    }
}

#[test]
fn files_and_pages_are_coded_as_the_client_likes() {
    let (_home, serval) = start();
    for target in ["/x/page.html", "/x/page"] {
        for coding in CODINGS {
            for method in ["GET", "HEAD"] {
                let answer = ask(&serval, method, target, &format!("Accept-Encoding: deflate, {coding}\r\n"));
                assert_eq!(answer.status, 200);
                check_headers(&answer, &[("content-encoding", Some(coding)), ("content-length", None)]);
                check_headers(&answer, &[("accept-ranges", None)]);
                assert!(answer.header("vary").unwrap().contains("accept-encoding"));
                assert!(answer.header("etag").unwrap().starts_with("W/"));
                if method == "GET" {
                    assert_eq!(decoded(coding, &answer.body), (page(), true), "{target} {coding}");
                    assert!(answer.body.len() < 10_000);
                }
            }
        }
        let answer = ask(&serval, "GET", target, "Accept-Encoding: gzip;q=0, *;q=0\r\n");
        check_headers(&answer, &[("content-encoding", None)]);
        assert!(answer.header("vary").unwrap().contains("accept-encoding"));
        assert_eq!(answer.body, page().as_bytes());
    }
    let answer = ask(&serval, "GET", "/x/page", "Accept-Encoding: br;q=0.5, gzip\r\n");
    check_headers(&answer, &[("content-encoding", Some("gzip")), ("etag", Some("W/\"strong\""))]);
    check_headers(&answer, &[("vary", Some("Cookie, accept-encoding"))]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_is_not_worth_it_goes_out_as_it_is() {
    let (_home, serval) = start();
    let accepts = "Accept-Encoding: gzip\r\n";
    for target in ["/x/small.html", "/x/photo.png", "/plain/page.html", "/own/page.html"] {
        let answer = ask(&serval, "GET", target, accepts);
        check_headers(&answer, &[("content-encoding", None), ("vary", None), ("accept-ranges", Some("bytes"))]);
        assert!(answer.header("content-length").is_some());
    }
    let answer = ask(&serval, "GET", "/own/photo.png", accepts);
    assert_eq!(decoded("gzip", &answer.body), (page(), true));

    let answer = ask(&serval, "GET", "/x/page.html", &format!("{accepts}Range: bytes=3-12\r\n"));
    assert_eq!((answer.status, &*answer.body), (206, &b"It was the"[..]));
    check_headers(&answer, &[("content-encoding", None)]);

    let tag = ask(&serval, "GET", "/x/page.html", accepts).header("etag").unwrap().to_owned();
    let answer = ask(&serval, "GET", "/x/page.html", &format!("{accepts}If-None-Match: {tag}\r\n"));
    assert_eq!(answer.status, 304);
    check_headers(&answer, &[("etag", Some(&tag)), ("vary", Some("accept-encoding")), ("content-encoding", None)]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_page_that_is_cut_is_never_whole() {
    let (_home, serval) = start();
    for coding in CODINGS {
        let mut connection = open(&serval);
        connection
            .send(format!("GET /x/cut HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n").as_bytes())
            .unwrap();
        let bytes = connection.read_to_close().unwrap();
        let (head, body) = split(&bytes);
        assert!(head.contains(&format!("content-encoding: {coding}")), "{head}");
        let (body, ended) = unchunked(body);
        let (text, whole) = decoded(coding, &body);
        assert!(!ended && !whole && text == LINE.repeat(5_000), "{coding}: {ended} {whole} {}", text.len());
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn each_event_comes_through_at_once() {
    let (_home, serval) = start();
    for coding in CODINGS {
        let connection = open(&serval);
        let mut socket = connection.sender().unwrap();
        let head =
            "POST /x/events HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n";
        std::io::Write::write_all(&mut socket, format!("{head}Accept-Encoding: {coding}\r\n\r\n").as_bytes()).unwrap();
        let (mut bytes, mut expected) = (Vec::new(), String::new());
        for number in 0..20 {
            // Nothing is sent before the last one has come back.
            let word = format!("event {number}");
            std::io::Write::write_all(&mut socket, format!("{:x}\r\n{word}\r\n", word.len()).as_bytes()).unwrap();
            expected.push_str(&format!("data: {word}\n\n"));
            while seen(coding, &bytes) != expected {
                let mut piece = [0; 4096];
                let len = socket.read(&mut piece).unwrap();
                assert!(len > 0, "{coding}: {:?}", String::from_utf8_lossy(&bytes));
                bytes.extend_from_slice(&piece[..len]);
            }
        }
        std::io::Write::write_all(&mut socket, b"0\r\n\r\n").unwrap();
        socket.read_to_end(&mut bytes).unwrap();
        assert_eq!(seen(coding, &bytes), expected);
        assert!(bytes.ends_with(b"\r\n0\r\nx-end: good\r\n\r\n"), "{coding}: {:?}", String::from_utf8_lossy(&bytes));
    }
    assert!(serval.stop().unwrap().success());
}

/// The text of an answer of which some bytes have come.
fn seen(coding: &str, bytes: &[u8]) -> String {
    if !bytes.windows(4).any(|part| part == b"\r\n\r\n") {
        return String::new();
    }
    let (head, body) = split(bytes);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains(&format!("content-encoding: {coding}\r\n")), "{head}");
    let body = unchunked(body).0;
    if body.is_empty() { String::new() } else { decoded(coding, &body).0 }
}

fn split(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end..])
}

/// The content of the chunks that have come whole, and whether the last one has come.
fn unchunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    while let Some(end) = bytes.windows(2).position(|part| part == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            return (content, true);
        }
        let Some(chunk) = bytes.get(end + 2..end + 2 + len) else { break };
        content.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + len..).unwrap_or_default();
    }
    (content, false)
}
