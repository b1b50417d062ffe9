//! Messages of each kind, there and back.

use std::io::{Read as _, Write as _};
use std::process::Command;

use e2e::process::Program;
use e2e::serval::Serval;

use super::upstream::{Upstream, value};
use super::{LONG, ask, get, home_at, open, start, text, wait_until};

#[test]
fn methods_and_bodies_are_as_they_were_sent() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(&upstream, "");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "x-own"] {
        let echoed = text(&ask(&serval, &format!("{method} /legacy/ HTTP/1.1\r\nHost: a\r\n\r\n")));
        assert!(echoed.starts_with(&format!("{method} /legacy/ HTTP/1.1\r\n")), "{echoed}");
        let sized = format!("{method} /legacy/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        let echoed = text(&ask(&serval, &sized));
        assert!(echoed.ends_with("\r\n\r\nhello") && value(&echoed, "content-length") == Some("5"), "{echoed}");
        let chunked = format!(
            "{method} /legacy/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
        );
        let echoed = text(&ask(&serval, &chunked));
        assert!(echoed.ends_with("\r\n\r\nhello\r\n"), "{echoed}");
        assert_eq!((value(&echoed, "transfer-encoding"), value(&echoed, "content-length")), (Some("chunked"), None));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn answers_without_a_body_have_none_and_the_connection_goes_on() {
    let upstream = Upstream::start(|mut accepted| {
        while let Some(head) = accepted.head() {
            accepted.send(match head.split_whitespace().nth(1).unwrap() {
                "/legacy/204" => "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
                "/legacy/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 7\r\n\r\n",
                "/legacy/head" => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
                "/legacy/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            });
        }
    });
    let (_home, serval) = start(&upstream, "");
    let mut connection = open(&serval);
    for _ in 0..3 {
        let answer = connection.get("/legacy/204").unwrap();
        assert_eq!((answer.status, answer.header("x-a"), answer.header("content-length")), (204, Some("b"), None));
        assert_eq!(connection.get("/legacy/304").unwrap().header("etag"), Some("\"1\""));
        connection.send(b"HEAD /legacy/head HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(connection.read_response_of_head().unwrap().header("content-length"), Some("7"));
        connection.send(b"HEAD /legacy/chunked HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(connection.read_response_of_head().unwrap().status, 200);
        assert_eq!(connection.get("/legacy/empty").unwrap().body, b"");
    }
    assert!(upstream.accepted() <= 2, "connections are kept: {}", upstream.accepted());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn trailers_go_both_ways() {
    let upstream = Upstream::start(|mut accepted| {
        while let Some(request) = accepted.request() {
            let body = format!("{}{}", value(&request.head, "trailer").unwrap_or("none"), request.trailers);
            accepted.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n{:x}\r\n{body}\r\n0\r\nx-sum: 7\r\n\r\n",
                body.len()
            ));
        }
    });
    let home = home_at(&format!("http://{}", upstream.address), "");
    let config = std::fs::read_to_string(home.path("conf/server.toml")).unwrap();
    home.write("conf/server.toml", config.replacen("\n", "\ntrailers = [\"x-told\"]\n", 1)).unwrap();
    let serval = Serval::start(&home).unwrap();
    let answer = ask(
        &serval,
        "POST /legacy/ HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-told, x-other\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\na\r\n0\r\nX-Told: 1\r\nX-Other: 2\r\n\r\n",
    );
    assert!(text(&answer).contains("x-told: 1\r\n"), "{}", text(&answer));
    assert!(!text(&answer).contains("x-other: 2"), "{}", text(&answer));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn clients_of_http_1_0_are_answered_as_they_can_read() {
    let upstream = Upstream::start(|mut accepted| {
        while let Some(head) = accepted.head() {
            accepted.send("HTTP/1.1 200 OK\r\n");
            accepted.send(match head.contains("/sized ") {
                true => "Content-Length: 2\r\n\r\nhi",
                false => "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            });
        }
    });
    let (_home, serval) = start(&upstream, "");
    for path in ["sized", "chunked"] {
        let mut connection = open(&serval);
        connection.send(format!("GET /legacy/{path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let answer = String::from_utf8(connection.read_to_close().unwrap()).unwrap();
        assert!(answer.ends_with("\r\n\r\nhi") && !answer.contains("chunked"), "{answer}");
        assert_eq!(value(&answer, "content-length").is_some(), path == "sized", "{answer}");
    }
    assert!(upstream.heads().iter().all(|head| head.contains(" HTTP/1.1\r\n") && head.contains("via: 1.0 serval-")));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_upstream_of_http_1_0_is_understood() {
    let upstream = Upstream::start(|mut accepted| {
        accepted.head();
        accepted.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nto the end");
    });
    let (_home, serval) = start(&upstream, "");
    for _ in 0..3 {
        let answer = get(&serval, "/legacy/");
        assert_eq!((answer.minor, text(&answer)), (1, "to the end".to_owned()));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(&upstream, "proxy_connections_max = 1\n");
    let mut connection = open(&serval);
    let all: String = (0..20)
        .map(|number| match number % 2 {
            0 => format!("GET /legacy/{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => format!("POST /legacy/{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
        })
        .collect();
    connection.send(all.as_bytes()).unwrap();
    for number in 0..20 {
        let echoed = text(&connection.read_response().unwrap());
        assert!(echoed.contains(&format!(" /legacy/{number} ")), "{number}: {echoed}");
        assert_eq!(echoed.ends_with("abc"), number % 2 == 1);
    }
    assert_eq!(upstream.accepted(), 1, "one connection is kept for all of them");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_is_asked_for_when_the_upstream_wants_it() {
    let upstream = Upstream::start(|mut accepted| {
        while let Some(head) = accepted.head() {
            assert_eq!(value(&head, "expect"), Some("100-continue"));
            if head.contains("/wants ") {
                accepted.send("HTTP/1.1 100 Continue\r\n\r\n");
                let mut body = [0; 5];
                std::io::Read::read_exact(&mut accepted.reader, &mut body).unwrap();
                accepted.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
                accepted.send(body);
            } else {
                accepted.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
                accepted.is_left();
                return;
            }
        }
    });
    let (_home, serval) = start(&upstream, "");
    let head =
        |path| format!("POST /legacy/{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let mut connection = open(&serval);
    connection.send(head("wants").as_bytes()).unwrap();
    assert_eq!(connection.read_response().unwrap().status, 100);
    connection.send(b"hello").unwrap();
    assert_eq!(connection.read_response().unwrap().body, b"hello");
    let mut connection = open(&serval);
    connection.send(head("refuses").as_bytes()).unwrap();
    assert_eq!(connection.read_response().unwrap().status, 401, "the client was never asked for it");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn early_hints_of_the_upstream_come_before_its_answer() {
    let upstream = Upstream::start(|mut accepted| {
        while accepted.head().is_some() {
            accepted.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
            accepted.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        }
    });
    let (_home, serval) = start(&upstream, "");
    let mut connection = open(&serval);
    for _ in 0..10 {
        let hints = connection.get("/legacy/").unwrap();
        assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>; rel=preload")));
        assert_eq!(text(&connection.read_response().unwrap()), "hi");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn clients_of_http_2_are_served_as_well() {
    let upstream = Upstream::echo();
    let (home, serval) = start(&upstream, "");
    home.write("body", "x".repeat(1 << 20)).unwrap();
    let run = |arguments: &[&str]| {
        let url = format!("http://{}/legacy/a%20b?c", serval.address());
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "60", "--http2-prior-knowledge", "-w", "\n%{http_version} %{http_code}"]);
        let output = command.args(arguments).arg(url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = run(&["-H", "Host: a.test", "-H", "Cookie: a=1", "-H", "TE: trailers"]);
    assert!(answer.starts_with("GET /legacy/a%20b?c HTTP/1.1\r\n") && answer.ends_with("\n2 200"), "{answer}");
    for (name, expected) in
        [("host", "a.test"), ("cookie", "a=1"), ("x-forwarded-for", "127.0.0.1"), ("te", "trailers")]
    {
        assert_eq!(value(&answer, name), Some(expected), "{answer}");
    }
    assert!(answer.contains("via: 2.0 serval-"), "{answer}");
    let answer = run(&["--data-binary", &format!("@{}", home.path("body").display())]);
    assert!(answer.starts_with("POST ") && answer.contains(&"x".repeat(1 << 20)), "{}", answer.len());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_real_server_behind_it() {
    let home = home_at("http://127.0.0.1:1", "");
    home.write("site/sub/page.html", "a page").unwrap();
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]).current_dir(home.path("site"));
    let mut python = Program::start("python", command).unwrap();
    let line = python.wait_for_line(0, LONG, |line| line.contains("Serving HTTP on")).unwrap();
    let port: u16 = line.split_once("port ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
    let config = std::fs::read_to_string(home.path("conf/server.toml")).unwrap();
    home.write("conf/server.toml", config.replace("127.0.0.1:1\"", &format!("127.0.0.1:{port}/\""))).unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(text(&get(&serval, "/legacy/sub/page.html")), "a page");
    let answer = get(&serval, "/legacy/sub");
    assert_eq!((answer.status, answer.header("location")), (301, Some("/legacy/sub/")));
    assert_eq!(get(&serval, "/legacy/missing").status, 404);
    assert!(python.stop(LONG).is_ok());
    wait_until(|| get(&serval, "/legacy/sub/page.html").status == 502);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_upstream_may_be_a_socket_in_the_file_system() {
    let home = home_at("unix:app.sock", "");
    let socket = std::os::unix::net::UnixListener::bind(home.path("app.sock")).unwrap();
    let serval = Serval::start(&home).unwrap();
    let upstream = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = socket.accept().unwrap();
        let mut head = [0; 4096];
        let len = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        String::from_utf8_lossy(&head[..len]).into_owned()
    });
    assert_eq!(text(&get(&serval, "/legacy/x")), "hi");
    assert!(upstream.join().unwrap().starts_with("GET /legacy/x HTTP/1.1\r\n"));
    assert!(serval.stop().unwrap().success());
}

/// By RFC 9112 6.3 the coding says how long it is, and by nothing else could the client know.
#[test]
fn an_answer_with_two_framings_is_whole() {
    let upstream = Upstream::start(|mut accepted| {
        while accepted.request().is_some() {
            accepted.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            );
        }
    });
    let (_home, serval) = start(&upstream, "");
    let mut connection = open(&serval);
    for _ in 0..2 {
        let answer = connection.get("/legacy/x").unwrap();
        assert_eq!((text(&answer), answer.header("content-length")), ("hello".to_owned(), None));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_cut_answer_does_not_look_whole_to_clients_of_http_1_0() {
    let upstream = Upstream::start(|mut accepted| {
        if accepted.request().is_some() {
            accepted.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        }
    });
    let (_home, serval) = start(&upstream, "");
    let mut stream = std::net::TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"GET /legacy/x HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let error = stream.read_to_end(&mut answer).expect_err("an end would be that of the answer");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let upstream = Upstream::echo();
    let home = super::home(&upstream, "");
    let config = std::fs::read_to_string(home.path("conf/server.toml")).unwrap();
    let bounds = "\nbody_timeout = \"500ms\"\nbody_rate_min = \"1KiB\"\n";
    home.write("conf/server.toml", config.replacen('\n', bounds, 1)).unwrap();
    let serval = Serval::start(&home).unwrap();
    let mut stream = std::net::TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    stream.write_all(b"POST /legacy/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    wait_until(|| {
        // A byte each 50 ms, for ever.
        let _ = stream.write_all(b"x");
        stream.read_exact(&mut answer).is_ok()
    });
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert!(serval.stop().unwrap().success());
}
