//! Every refusal of a message reaches the access log with its reason (SEMANTICS 13), and what is not asked for changes nothing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::{LONG, logged, open, start};

#[test]
fn refusals_are_answered_and_logged_with_their_reasons() {
    let (home, serval) =
        start("header_count_max = 5\nhead_bytes_max = \"8KiB\"\ntarget_bytes_max = 300\nhead_timeout = \"500ms\"");
    let long = "x".repeat(400);
    for (sent, line, status, why) in [
        ("GET /1 HTTP/1.1\nHost: a\r\n\r\n".to_owned(), "GET /1 HTTP/1.1", 400, "a line of the head ends without CR"),
        ("GET /2#f HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "GET /2#f HTTP/1.1", 400, "the target has a fragment"),
        ("GET /3 HTTP/2.7\r\nHost: a\r\n\r\n".to_owned(), "GET /3 HTTP/2.7", 505, "the version of HTTP is not known"),
        (
            format!("GET /4 HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(6)),
            "GET /4 HTTP/1.1",
            431,
            "the head has more fields than header_count_max",
        ),
        (
            format!("GET /5 HTTP/1.1\r\na: {}", long.repeat(30)),
            "GET /5 HTTP/1.1",
            431,
            "the head is longer than head_bytes_max",
        ),
        (format!("GET /{long}"), "", 414, "the target is longer than target_bytes_max"),
        (
            "POST /6 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "POST /6 HTTP/1.1",
            400,
            "there are both Content-Length and Transfer-Encoding",
        ),
        (
            "POST /7 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            "POST /7 HTTP/1.1",
            400,
            "there is more than one Content-Length",
        ),
        (
            "POST /8 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(),
            "POST /8 HTTP/1.1",
            501,
            "the body has a transfer coding that is not known",
        ),
        // hyper sees what is wrong before the guard does, and it is answered once.
        (
            "POST /8 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x01\r\n\r\n".to_owned(),
            "POST /8 HTTP/1.1",
            400,
            "the head is malformed",
        ),
        ("GET /9 HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), "GET /9 HTTP/1.1", 400, "the head is malformed"),
        ("GET /10 HTTP/1.1\r\nHost: a\r\n b\r\n\r\n".to_owned(), "GET /10 HTTP/1.1", 400, "the head is malformed"),
        ("GET /11 HTTP/1.1\r\n\r\n".to_owned(), "GET /11 HTTP/1.1", 400, "an HTTP/1.1 request needs a Host header"),
        ("GET /12 HT".to_owned(), "GET /12 HT", 408, "the head has not come within head_timeout"),
    ] {
        // Behind one that is good.
        let mut connection = open(&serval);
        assert_eq!(connection.get("/").unwrap().body, b"welcome");
        connection.send(sent.as_bytes()).unwrap();
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, answer.closes()), (status, true), "{sent:?}");
        assert!(connection.read_to_close().unwrap().is_empty(), "{sent:?}");
        let line = if line.is_empty() { format!("GET /{}", &long[..251]) } else { line.to_owned() };
        logged(&home, &format!("\"{line}\" {status} {why}"));
    }
    // Once of each client and reason, not once a request.
    for _ in 0..3 {
        open(&serval).send(format!("GET /{long}").as_bytes()).unwrap();
    }
    let said = serval.stop_and_read().unwrap();
    let told = said.iter().filter(|line| line.contains("the target is longer than target_bytes_max")).count();
    assert_eq!(told, 1, "{said:#?}");
}

#[test]
fn another_protocol_is_not_switched_to() {
    let (_home, serval) = start("");
    for asked in [
        "Connection: Upgrade\r\nUpgrade: websocket",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    ] {
        let mut connection = open(&serval);
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{asked}\r\n\r\n");
        // What comes behind it is the next request, also when it is there before the answer.
        connection.send(request.repeat(3).as_bytes()).unwrap();
        for _ in 0..3 {
            assert_eq!(connection.read_response().unwrap().body, b"welcome", "{asked}");
        }
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn old_clients_are_served() {
    let (_home, serval) = start("");
    let mut stream = TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nwelcome"), "{answer}");
    // One that closes its side behind the request is answered all the same.
    let mut stream = TcpStream::connect(serval.address()).unwrap();
    stream.write_all(b"GET /x/slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("slow"), "{answer}");
    assert!(serval.stop().unwrap().success());
}

/// hyper has taken the end of it into its hands long before the client has.
#[test]
fn an_answer_is_whole_whatever_becomes_of_its_connection() {
    const BYTES: usize = 32 << 20;
    let (home, serval) = start("");
    home.write("webapps/ROOT/huge.bin", vec![7; BYTES]).unwrap();
    for (request, next) in [
        // More than is taken for the sake of the connection.
        ("POST /huge.bin HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n", None),
        ("POST /huge.bin HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n", None),
        ("GET /huge.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", None),
        ("GET /huge.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /# HTTP/1.1\r\nHost: a\r\n\r\n", Some(400)),
    ] {
        let mut connection = open(&serval);
        connection.send(request.as_bytes()).unwrap();
        // The server has filled all that the system holds for it.
        std::thread::sleep(Duration::from_millis(300));
        let answer = connection.read_response().unwrap();
        assert_eq!(answer.status, 200, "{request:?}");
        assert!(answer.body.len() == BYTES && answer.body.iter().all(|byte| *byte == 7), "{request:?}");
        assert_eq!(connection.read_response().ok().map(|answer| answer.status), next, "{request:?}");
    }
    assert!(serval.stop().unwrap().success());
}
