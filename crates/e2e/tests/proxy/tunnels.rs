//! Connections that change their protocol, as WebSockets do.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use e2e::commands::{becomes, context, serval as run};
use e2e::http_client::Connection;

use super::upstream::{Upstream, value};
use super::{LONG, open, start, text, wait_until};

const ASKS: &str = "GET /legacy/chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const CHANGES: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Answers each frame of a client with its payload, not masked, until one that closes.
fn echo_frames(accepted: &mut super::upstream::Accepted) {
    loop {
        let mut head = [0; 2];
        if accepted.reader.read_exact(&mut head).is_err() {
            return;
        }
        assert_eq!(head[1] & 0x80, 0x80, "frames of clients are masked");
        let mut len = usize::from(head[1] & 0x7f);
        if len == 126 {
            let mut long = [0; 2];
            accepted.reader.read_exact(&mut long).unwrap();
            len = usize::from(u16::from_be_bytes(long));
        }
        let (mut mask, mut payload) = ([0; 4], vec![0; len]);
        accepted.reader.read_exact(&mut mask).unwrap();
        accepted.reader.read_exact(&mut payload).unwrap();
        payload.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= mask[at % 4]);
        accepted.send(frame(head[0] & 0xf, &payload, None));
        if head[0] & 0xf == 8 {
            return;
        }
    }
}

fn frame(kind: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x80 | kind];
    match payload.len() {
        len @ 0..126 => frame.push(bit | len as u8),
        len => {
            frame.push(bit | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

/// An upstream of WebSockets, which ends a connection when its client closes.
fn chat() -> Upstream {
    Upstream::start(|mut accepted| {
        let head = accepted.head().unwrap();
        assert_eq!(value(&head, "upgrade"), Some("websocket"), "{head}");
        assert!(value(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")), "{head}");
        accepted.send(CHANGES);
        echo_frames(&mut accepted);
    })
}

#[track_caller]
fn upgrade(connection: &mut Connection) -> std::net::TcpStream {
    connection.send(ASKS.as_bytes()).unwrap();
    let answer = connection.read_response().unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")), "{}", text(&answer));
    assert!(answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    connection.sender().unwrap()
}

#[track_caller]
fn say(stream: &mut std::net::TcpStream, payload: &[u8]) {
    stream.write_all(&frame(2, payload, Some([1, 2, 3, 4]))).unwrap();
    let mut echoed = vec![0; frame(2, payload, None).len()];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, frame(2, payload, None));
}

#[test]
fn frames_pass_both_ways_until_one_closes() {
    let upstream = chat();
    let (home, serval) = start(&upstream, "");
    for _ in 0..3 {
        // Not the first request of the connection either.
        let mut connection = open(&serval);
        assert_eq!(connection.get("/nothing").unwrap().status, 404);
        let mut stream = upgrade(&mut connection);
        assert_eq!(context(&e2e::commands::status(&home), "/legacy")["calls"], 1);
        // What looks like a request, and what is refused in one.
        for payload in [&b"GET /x#y HTTP/1.1\n\n"[..], b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[b'x'; 60_000]] {
            say(&mut stream, payload);
        }
        stream.write_all(&frame(8, b"", Some([9; 4]))).unwrap();
        assert_eq!(connection.read_to_close().unwrap(), frame(8, b"", None));
        drop((connection, stream));
        becomes(&home, |status| context(status, "/legacy")["calls"] == 0);
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn each_side_may_end_before_the_other() {
    let upstream = Upstream::start(|mut accepted| {
        let head = accepted.head().unwrap();
        accepted.send(CHANGES);
        if head.contains("/chat ") {
            let mut all = Vec::new();
            accepted.reader.read_to_end(&mut all).unwrap();
            accepted.send(format!("{} bytes, and the end", all.len()));
        }
    });
    let (_home, serval) = start(&upstream, "");
    let mut connection = open(&serval);
    let mut stream = upgrade(&mut connection);
    stream.write_all(b"hello").unwrap();
    connection.finish_sending().unwrap();
    assert_eq!(connection.read_to_close().unwrap(), b"5 bytes, and the end");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_upstream_may_stay_with_http() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(&upstream, "");
    let mut connection = open(&serval);
    for _ in 0..3 {
        connection.send(ASKS.as_bytes()).unwrap();
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, value(&text(&answer), "upgrade")), (200, Some("websocket")));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_would_hide_requests_is_not_asked_for() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(&upstream, "");
    for (line, headers) in [
        (
            "GET /legacy/ HTTP/1.1",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        ),
        ("GET /legacy/ HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
        ("GET /legacy/ HTTP/1.1", "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n"),
        ("GET /legacy/ HTTP/1.1", "Upgrade: websocket\r\n"),
        ("GET /legacy/ HTTP/1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    ] {
        let echoed = text(&super::ask(&serval, &format!("{line}\r\nHost: a\r\n{headers}\r\n")));
        assert_eq!(value(&echoed, "upgrade"), None, "{echoed}");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_tunnel_that_is_silent_for_too_long_ends() {
    let upstream = chat();
    let (_home, serval) = start(&upstream, "proxy_tunnel_timeout = \"300ms\"\n");
    let mut connection = open(&serval);
    let mut stream = upgrade(&mut connection);
    say(&mut stream, b"hello");
    assert_eq!(connection.read_to_close().unwrap(), b"");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn tunnels_end_when_their_client_leaves() {
    let left = Arc::<Mutex<bool>>::default();
    let told = left.clone();
    let upstream = Upstream::start(move |mut accepted| {
        accepted.head();
        accepted.send(CHANGES);
        echo_frames(&mut accepted);
        *told.lock().unwrap() = true;
    });
    let (_home, serval) = start(&upstream, "");
    let mut connection = open(&serval);
    let mut stream = upgrade(&mut connection);
    say(&mut stream, b"hello");
    drop(stream);
    connection.reset().unwrap();
    wait_until(|| *left.lock().unwrap());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_context_that_is_stopped_cuts_its_tunnels_when_their_time_is_up() {
    let upstream = chat();
    let (home, serval) = start(&upstream, "drain_timeout = \"300ms\"\n");
    let mut connection = open(&serval);
    let mut stream = upgrade(&mut connection);
    say(&mut stream, b"hello");
    // It returns when the generation has ended, or says that it has not, which a busy machine may be the reason for.
    run(&home, &["stop", "/legacy"]);
    assert_eq!(connection.read_to_close().unwrap_or_default(), b"");
    becomes(&home, |status| {
        context(status, "/legacy")["state"] == "stopped" && status["old"].as_array().is_some_and(Vec::is_empty)
    });
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_server_that_stops_cuts_them_when_its_time_is_up() {
    let upstream = chat();
    let home = super::home(&upstream, "");
    home.configure("[server]\nshutdown_timeout = \"1s\"\n").unwrap();
    let serval = e2e::serval::Serval::start(&home).unwrap();
    let mut connection = open(&serval);
    let mut stream = upgrade(&mut connection);
    say(&mut stream, b"hello");
    assert_eq!(serval.stop().unwrap().code(), Some(3), "something was cut");
    assert_eq!(connection.read_to_close().unwrap_or_default(), b"");
}

#[test]
fn elsewhere_another_protocol_is_not_spoken() {
    let upstream = chat();
    let (home, serval) = start(&upstream, "");
    home.write("webapps/site/index.html", "a page").unwrap();
    serval.wait_for_log("/site ready", LONG).unwrap();
    let mut connection = open(&serval);
    for _ in 0..3 {
        connection.send(ASKS.replace("/legacy/chat", "/site/").as_bytes()).unwrap();
        assert_eq!(text(&connection.read_response().unwrap()), "a page");
    }
    assert_eq!(upstream.accepted(), 0);
    assert!(serval.stop().unwrap().success());
}
