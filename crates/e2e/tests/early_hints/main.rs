//! Early hints (103, RFC 8297): they go out while the servlet is still at work, and stand between the last response of the connection
//! and the next one, whatever that one is.

use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);
const STYLE: &str = "</style.css>; rel=preload; as=style";

fn start() -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/src/hints.c", include_str!("hints.c")).unwrap();
    home.configure("[server]\nio_threads = 2\n[build]\nsources = true").unwrap();
    let serval = Serval::start(&home).unwrap();
    serval.wait_for_log("/x ready (generation 2", LONG).unwrap();
    (home, serval)
}

fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), LONG).unwrap()
}

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[track_caller]
fn is_hint(connection: &mut Connection, link: &str) {
    let hint = connection.read_response().unwrap();
    let expected = format!("HTTP/1.1 103 Early Hints\r\nlink: {link}\r\n\r\n");
    assert_eq!(String::from_utf8_lossy(&hint.head), expected);
}

#[track_caller]
fn are_hints(connection: &mut Connection) {
    is_hint(connection, STYLE);
    is_hint(connection, "</script.js>");
}

#[track_caller]
fn is_page(answer: Response) {
    assert_eq!((answer.status, answer.header("link"), &*answer.body), (200, None, &b"0 0"[..]));
}

#[test]
fn they_come_while_the_servlet_is_still_at_work() {
    let (home, serval) = start();
    for (number, path) in ["/x/page", "/x/inline", "/x/page", "/x/inline"].into_iter().enumerate() {
        let flag = home.path(&number.to_string());
        let mut connection = open(&serval);
        connection.send(request(&format!("GET {path}?{}", flag.display())).as_bytes()).unwrap();
        are_hints(&mut connection);
        std::fs::write(&flag, "").unwrap();
        is_page(connection.read_response().unwrap());
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn each_response_of_a_connection_has_its_own() {
    let (_home, serval) = start();
    let mut connection = open(&serval);
    for path in ["/x/page", "/x/inline"].repeat(20) {
        connection.send(request(&format!("GET {path}")).as_bytes()).unwrap();
        are_hints(&mut connection);
        is_page(connection.read_response().unwrap());
        connection.send(request(&format!("HEAD {path}")).as_bytes()).unwrap();
        are_hints(&mut connection);
        assert_eq!(connection.read_response_of_head().unwrap().status, 200);
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn they_never_get_into_another_response() {
    let (_home, serval) = start();
    for path in ["/x/page", "/x/inline"] {
        let mut connection = open(&serval);
        let all = [request("GET /x/large"), request(&format!("GET {path}")), request("GET /x/missing")].concat();
        connection.send(all.repeat(3).as_bytes()).unwrap();
        for _ in 0..3 {
            let large = connection.read_response().unwrap();
            assert_eq!((large.status, large.body.len()), (200, 5_000_000));
            assert!(large.body.iter().all(|byte| *byte == b'x'));
            are_hints(&mut connection);
            is_page(connection.read_response().unwrap());
            is_hint(&mut connection, STYLE);
            assert_eq!(connection.read_response().unwrap().status, 404);
        }
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_error_follows_them_as_any_response_does() {
    let (home, serval) = start();
    let mut connection = open(&serval);
    for (path, status) in [("/x/missing", 404), ("/x/fails", 500)] {
        connection.send(request(&format!("GET {path}")).as_bytes()).unwrap();
        is_hint(&mut connection, STYLE);
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, answer.header("link")), (status, None));
    }
    // And a page of the webapp's own.
    home.write("webapps/x/sorry.html", "sorry").unwrap();
    home.write("webapps/x/WEB-INF/web.toml", "[[error_page]]\nlocation = \"/sorry.html\"\n").unwrap();
    // web.toml counts for the build too, so there may be a generation of it before and one behind that build.
    let deadline = Instant::now() + LONG;
    let mut asked = open(&serval);
    loop {
        asked.send(request("GET /x/missing").as_bytes()).unwrap();
        is_hint(&mut asked, STYLE);
        if &*asked.read_response().unwrap().body == b"sorry" {
            break;
        }
        assert!(Instant::now() < deadline, "{:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    for (path, status) in [("/x/missing", 404), ("/x/fails", 500)] {
        connection.send(request(&format!("GET {path}")).as_bytes()).unwrap();
        is_hint(&mut connection, STYLE);
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, &*answer.body), (status, &b"sorry"[..]));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_cannot_be_sent_is_refused_and_changes_nothing() {
    let (_home, serval) = start();
    let mut connection = open(&serval);
    let answer = connection.get("/x/wrong").unwrap();
    // SV_E_ARG for all but the last two: SV_E_LIMIT, and, after the flush, SV_E_STATE.
    assert_eq!(String::from_utf8_lossy(&answer.body), "-1 -1 -1 -1 -1 -6 -2");
    connection.send(b"GET /x/page HTTP/1.0\r\n\r\n").unwrap();
    let answer = connection.read_response().unwrap();
    assert_eq!((answer.status, &*String::from_utf8_lossy(&answer.body)), (200, "-10 -10"));
    assert!(serval.stop().unwrap().success());
}
