//! Clients that are slow: each has its time, and what comes too slowly is answered 408.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::{LONG, start};

/// What is answered to a client that goes on with a byte each 50 ms, until the server closes.
fn trickle(address: std::net::SocketAddr, begun: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    stream.write_all(begun.as_bytes()).unwrap();
    let deadline = Instant::now() + LONG;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                assert!(Instant::now() < deadline, "{begun:?} goes on: {}", String::from_utf8_lossy(&answer));
                let _ = stream.write_all(b"x");
            }
            Err(_) => break,
        }
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn what_trickles_is_given_up() {
    let (_home, serval) = start("head_timeout = \"500ms\"\nbody_timeout = \"500ms\"\nbody_rate_min = \"1KiB\"");
    for begun in
        ["GET /", "GET / HTTP/1.1\r\nX: ", "POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"]
    {
        let answer = trickle(serval.address(), begun);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{begun:?}: {answer}");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_may_be_slow_where_the_rate_is_left_open() {
    let (_home, serval) = start("body_timeout = \"10s\"\nbody_rate_min = 0");
    let mut stream = TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"POST /x/length HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 20\r\n\r\n").unwrap();
    for _ in 0..20 {
        stream.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("20\r\n0\r\n\r\n") || answer.ends_with("20"),
        "{answer}"
    );
    assert!(serval.stop().unwrap().success());
}
