//! What goes wrong with an upstream: who is told what, and how often.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use e2e::serval::Serval;

use super::upstream::Upstream;
use super::{LONG, get, home_at, open, start, text, wait_until};

#[test]
fn an_upstream_that_is_not_there_is_502_with_the_hosts_page() {
    let home = home_at("http://127.0.0.1:1", "[[host.error_page]]\nstatus = 502\nfile = \"502.html\"\n");
    home.write("502.html", "be right back").unwrap();
    home.configure("[access_log]\npattern = \"%s %X\"\n").unwrap();
    let serval = Serval::start(&home).unwrap();
    let mut connection = open(&serval);
    for _ in 0..20 {
        let answer = connection.get("/legacy/").unwrap();
        assert_eq!((answer.status, text(&answer)), (502, "be right back".to_owned()));
    }
    let log = serval.stop_and_read().unwrap();
    let said: Vec<&String> = log.iter().filter(|line| line.contains("it cannot be reached")).collect();
    assert_eq!(said.len(), 1, "{log:#?}");
    assert!(
        said[0].contains("the upstream http://127.0.0.1:1: ") && said[0].contains("Connection refused"),
        "{said:?}"
    );
    assert!(said[0].contains("context=/legacy"), "{said:?}");
    let accessed = std::fs::read_dir(home.path("var/log")).unwrap().map(|file| file.unwrap().path());
    let accessed: String = accessed.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert_eq!(accessed, "502 +\n".repeat(20));
}

#[test]
fn a_name_that_nobody_knows_is_502() {
    let serval = Serval::start(&home_at("http://nobody.invalid:9090", "proxy_connect_timeout = \"1m\"\n")).unwrap();
    assert_eq!(get(&serval, "/legacy/").status, 502);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_upstream_that_does_not_accept_is_504() {
    // One connection fills its queue, and what comes after it gets no answer.
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let socket = TcpListener::from(socket);
    let address = socket.local_addr().unwrap();
    let filled = std::net::TcpStream::connect(address).unwrap();
    let serval = Serval::start(&home_at(&format!("http://{address}"), "proxy_connect_timeout = \"200ms\"\n")).unwrap();
    assert_eq!(get(&serval, "/legacy/").status, 504);
    serval.wait_for_log("has not accepted a connection for 200ms (proxy_connect_timeout)", LONG).unwrap();
    drop(filled);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_upstream_that_says_nothing_is_504_and_one_that_stops_is_cut() {
    let upstream = Upstream::start(|mut accepted| {
        let head = accepted.head().unwrap();
        if head.contains("/begins ") {
            accepted.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        }
        if head.contains("/part ") {
            accepted.send("HTTP/1.1 200 OK\r\nContent-Le");
        }
        accepted.is_left();
    });
    let home = super::home(&upstream, "proxy_timeout = \"200ms\"\n");
    home.configure("[access_log]\npattern = \"%s %X\"\n").unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/legacy/silent").status, 504);
    assert_eq!(get(&serval, "/legacy/part").status, 504);
    assert!(open(&serval).get("/legacy/begins").is_err());
    serval.wait_for_log("it has not answered for 200ms (proxy_timeout)", LONG).unwrap();
    serval.wait_for_log("nothing came of an answer that has begun for 200ms (proxy_timeout); it is cut", LONG).unwrap();
    assert!(serval.stop().unwrap().success());
    let accessed = std::fs::read_dir(home.path("var/log")).unwrap().map(|file| file.unwrap().path());
    let accessed: String = accessed.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert_eq!(accessed, "504 +\n504 +\n200 X\n");
}

#[test]
fn an_upstream_that_takes_nothing_of_a_body_is_504() {
    let upstream = Upstream::start(|mut accepted| {
        accepted.head();
        std::thread::park_timeout(LONG);
    });
    let (_home, serval) = start(&upstream, "proxy_timeout = \"300ms\"\n");
    let mut connection = open(&serval);
    let mut sender = connection.sender().unwrap();
    connection.send(b"POST /legacy/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let sends = std::thread::spawn(move || while sender.write_all(&[b'x'; 65536]).is_ok() {});
    assert_eq!(connection.read_response().unwrap().status, 504);
    drop(connection);
    assert!(serval.stop().unwrap().success());
    sends.join().unwrap();
}

#[test]
fn answers_that_are_none_are_502() {
    for sends in ["", "nonsense", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let upstream = Upstream::start(move |mut accepted| {
            accepted.head();
            accepted.send(sends);
        });
        let (_home, serval) = start(&upstream, "");
        assert_eq!(get(&serval, "/legacy/").status, 502, "{sends}");
        assert_eq!(upstream.heads().len(), 1, "a new connection: it is not sent again");
        serval.wait_for_log("its answer is broken", LONG).unwrap();
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn a_head_without_end_is_502() {
    let upstream = Upstream::start(|mut accepted| {
        accepted.head();
        accepted.send("HTTP/1.1 200 OK\r\n");
        accepted.send(format!("X: {}\r\n", "y".repeat(1 << 20)));
        accepted.is_left();
    });
    let (_home, serval) = start(&upstream, "");
    assert_eq!(get(&serval, "/legacy/").status, 502);
    assert!(serval.stop().unwrap().success());
}

/// An upstream that answers once on each connection, and closes it at the next request without a word.
fn forgetful() -> Upstream {
    Upstream::start(|mut accepted| {
        let request = accepted.request().unwrap();
        accepted.echo(&request);
        accepted.head();
    })
}

#[test]
fn a_request_that_met_the_end_of_a_connection_is_sent_again_where_it_does_no_harm() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let upstream = forgetful();
        let (_home, serval) = start(&upstream, "");
        let request = format!("{method} /legacy/ HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut connection = open(&serval);
        for _ in 0..2 {
            connection.send(request.as_bytes()).unwrap();
            let answer = if method == "HEAD" { connection.read_response_of_head() } else { connection.read_response() };
            assert_eq!(answer.unwrap().status, 200, "{method}");
        }
        assert_eq!(upstream.heads().len(), 3, "{method}");
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn a_request_that_may_have_done_something_is_never_sent_twice() {
    for request in [
        "POST /legacy/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST /legacy/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "PUT /legacy/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "PATCH /legacy/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let upstream = forgetful();
        let (_home, serval) = start(&upstream, "");
        let mut connection = open(&serval);
        connection.send(request.as_bytes()).unwrap();
        assert_eq!(connection.read_response().unwrap().status, 200);
        connection.send(request.as_bytes()).unwrap();
        assert_eq!(connection.read_response().unwrap().status, 502, "{request}");
        assert_eq!((upstream.heads().len(), upstream.accepted()), (2, 1), "{request}");
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn a_connection_that_the_upstream_ends_is_not_used_again() {
    let upstream = Upstream::start(|mut accepted| {
        accepted.request();
        accepted.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        accepted.is_left();
    });
    let (_home, serval) = start(&upstream, "");
    let mut connection = open(&serval);
    for number in 1..5 {
        connection.send(b"POST /legacy/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, answer.closes(), upstream.accepted()), (200, false, number));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn no_more_connections_than_may_be_and_who_waits_too_long_is_503() {
    let (let_go, wait) = channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let upstream = Upstream::start(move |mut accepted| {
        while let Some(request) = accepted.request() {
            if request.head.contains("/holds ") {
                let _ = wait.lock().unwrap().recv_timeout(LONG);
            }
            accepted.echo(&request);
        }
    });
    let (_home, serval) = start(&upstream, "proxy_connections_max = 1\nqueue_timeout = \"300ms\"\nqueue_max = 1\n");
    let mut holds = open(&serval);
    holds.send(b"GET /legacy/holds HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until(|| upstream.heads().len() == 1);
    let answer = get(&serval, "/legacy/");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    serval.wait_for_log("(proxy_connections_max)", LONG).unwrap();
    assert_eq!(upstream.heads().len(), 1);
    let_go.send(()).unwrap();
    assert_eq!(holds.read_response().unwrap().status, 200);
    assert_eq!(get(&serval, "/legacy/").status, 200);
    assert_eq!(upstream.accepted(), 1);
    assert!(serval.stop().unwrap().success());
}
