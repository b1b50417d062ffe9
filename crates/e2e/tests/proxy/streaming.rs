//! Bodies pass while they come, both ways, and are nowhere as a whole.

use std::io::{Read as _, Write as _};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use e2e::commands::{becomes, context};
use e2e::process::{forget_peak, peak_kb};

use super::upstream::Upstream;
use super::{LONG, ask, open, start, wait_until};

const PIECE: usize = 64 << 10;
/// 100 MiB.
const PIECES: usize = 1600;

#[test]
fn a_hundred_mebibytes_pass_each_way_and_stay_nowhere() {
    let upstream = Upstream::start(|mut accepted| {
        while let Some(head) = accepted.head() {
            let mut bytes = 0;
            if head.contains("chunked") {
                while let Some(chunk) = accepted.chunk() {
                    bytes += chunk.len();
                }
                std::io::BufRead::read_line(&mut accepted.reader, &mut String::new()).unwrap();
            } else if head.starts_with("POST") {
                let mut piece = vec![0; PIECE];
                for _ in 0..PIECES {
                    accepted.reader.read_exact(&mut piece).unwrap();
                    bytes += PIECE;
                }
            }
            let piece = vec![b'd'; PIECE];
            let is_get = head.starts_with("GET");
            let length = if is_get { PIECE * PIECES } else { 9 };
            accepted.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            match is_get {
                true => (0..PIECES).for_each(|_| accepted.send(&piece)),
                false => accepted.send(format!("{bytes:9}")),
            }
        }
    });
    let (_home, serval) = start(&upstream, "");
    assert_eq!(ask(&serval, "DELETE /legacy/ HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    let id = serval.program().id();
    forget_peak(id).unwrap();
    let before = peak_kb(id).unwrap();
    for chunked in [false, true] {
        let mut connection = open(&serval);
        let mut sender = connection.sender().unwrap();
        let framing = match chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", PIECE * PIECES),
        };
        connection.send(format!("POST /legacy/ HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").as_bytes()).unwrap();
        let piece = vec![b'u'; PIECE];
        for _ in 0..PIECES {
            if chunked {
                write!(sender, "{PIECE:x}\r\n").unwrap();
            }
            sender.write_all(&piece).unwrap();
            if chunked {
                sender.write_all(b"\r\n").unwrap();
            }
        }
        if chunked {
            sender.write_all(b"0\r\n\r\n").unwrap();
        }
        let taken = String::from_utf8(connection.read_response().unwrap().body).unwrap();
        assert_eq!(taken.trim().parse::<usize>().unwrap(), PIECE * PIECES);
    }
    let mut connection = open(&serval);
    let mut reader = connection.sender().unwrap();
    connection.send(b"GET /legacy/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (mut all, mut piece) = (0, vec![0; PIECE]);
    loop {
        match reader.read(&mut piece).unwrap() {
            0 => break,
            len => all += len,
        }
    }
    assert!(all > PIECE * PIECES, "{all}");
    let grown = peak_kb(id).unwrap().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more than before");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn pieces_pass_as_they_come() {
    let (ask_for, asked) = channel::<()>();
    let asked = Arc::new(Mutex::new(asked));
    let upstream = Upstream::start(move |mut accepted| {
        accepted.head();
        accepted.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in ["1\r\na\r\n", "1\r\nb\r\n", "0\r\n\r\n"] {
            asked.lock().unwrap().recv().unwrap();
            accepted.send(piece);
        }
        accepted.is_left();
    });
    let (_home, serval) = start(&upstream, "");
    let mut connection = open(&serval);
    connection.send(b"GET /legacy/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(connection.read_response_of_head().unwrap().status, 200);
    let mut reader = connection.sender().unwrap();
    for piece in ["1\r\na\r\n", "1\r\nb\r\n", "0\r\n\r\n"] {
        ask_for.send(()).unwrap();
        let mut bytes = vec![0; piece.len()];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), piece);
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn pieces_of_a_request_pass_as_they_come() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::start(move |mut accepted| {
        let tell = tell.lock().unwrap().clone();
        accepted.head();
        while let Some(chunk) = accepted.chunk() {
            tell.send(chunk).unwrap();
        }
        std::io::BufRead::read_line(&mut accepted.reader, &mut String::new()).unwrap();
        accepted.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        accepted.is_left();
    });
    let (_home, serval) = start(&upstream, "");
    let mut connection = open(&serval);
    connection.send(b"POST /legacy/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for piece in ["one", "two"] {
        connection.send(format!("3\r\n{piece}\r\n").as_bytes()).unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), piece.as_bytes());
    }
    connection.send(b"0\r\n\r\n").unwrap();
    assert_eq!(connection.read_response().unwrap().status, 200);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_answer_may_come_before_the_request_is_whole_and_nothing_of_that_stays() {
    for answer in [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (upstream, left) = watching(answer);
        let (home, serval) = start(&upstream, "");
        for framing in ["Content-Length: 1000000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n40000000\r\n"] {
            let before = *left.lock().unwrap();
            let mut connection = open(&serval);
            connection.send(format!("POST /legacy/ HTTP/1.1\r\nHost: a\r\n{framing}").as_bytes()).unwrap();
            connection.send(&[b'x'; 65_536]).unwrap();
            let answered = connection.read_response().unwrap();
            assert_eq!(answered.status, 403);
            assert!(answer.contains(std::str::from_utf8(&answered.body).unwrap()), "{answered:?}");
            // The client holds its connection, and may go on to send.
            wait_until(|| *left.lock().unwrap() == before + 1);
            becomes(&home, |status| context(status, "/legacy")["calls"] == 0);
        }
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(&upstream, "request_body_bytes_max = 4\n");
    let request = |framing: &str| format!("POST /legacy/ HTTP/1.1\r\nHost: a\r\n{framing}");
    assert_eq!(ask(&serval, &request("Content-Length: 5\r\n\r\nhello")).status, 413);
    assert_eq!(upstream.accepted(), 0);
    assert_eq!(ask(&serval, &request("Content-Length: 4\r\n\r\nhell")).status, 200);
    let chunked = request("Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
    assert_eq!(ask(&serval, &chunked).status, 413);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_client_that_sends_no_more_is_not_the_upstreams_fault() {
    let upstream = Upstream::start(|mut accepted| {
        accepted.request();
    });
    let home = super::home(&upstream, "proxy_timeout = \"50ms\"\n");
    let config = std::fs::read_to_string(home.path("conf/server.toml")).unwrap();
    home.write("conf/server.toml", config.replacen("\n", "\nbody_timeout = \"500ms\"\n", 1)).unwrap();
    let serval = e2e::serval::Serval::start(&home).unwrap();
    assert_eq!(ask(&serval, "POST /legacy/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").status, 408);
    assert!(serval.stop().unwrap().success());
}

/// An upstream that says when the other side has gone, after it has sent this.
fn watching(sends: &'static str) -> (Upstream, Arc<Mutex<usize>>) {
    let left = Arc::<Mutex<usize>>::default();
    let count = left.clone();
    let upstream = Upstream::start(move |mut accepted| {
        accepted.head();
        accepted.send(sends);
        accepted.is_left();
        *count.lock().unwrap() += 1;
    });
    (upstream, left)
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    for sends in
        ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    {
        let (upstream, left) = watching(sends);
        let (_home, serval) = start(&upstream, "");
        let mut connection = open(&serval);
        connection.send(b"GET /legacy/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        if !sends.is_empty() {
            connection.read_response_of_head().unwrap();
        }
        wait_until(|| upstream.heads().len() == 1);
        drop(connection);
        wait_until(|| *left.lock().unwrap() == 1);
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn an_answer_that_is_cut_never_looks_whole() {
    for sends in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
    ] {
        let upstream = Upstream::start(move |mut accepted| {
            accepted.head();
            accepted.send(sends);
        });
        let (home, serval) = start(&upstream, "");
        let mut connection = open(&serval);
        connection.send(b"GET /legacy/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let cut = connection.read_response().unwrap_err();
        assert!(matches!(cut.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset), "{cut}");
        let output = std::process::Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "60",
                "--http2-prior-knowledge",
                &format!("http://{}/legacy/", serval.address()),
            ])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{output:?}");
        serval.wait_for_log("an answer has ended before its end", LONG).unwrap();
        drop(home);
        assert!(serval.stop().unwrap().success());
    }
}
