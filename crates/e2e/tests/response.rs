//! What of a response only the bytes on the connection show (SEMANTICS 12, 26): trailers, and answers that are not whole. The rest is in
//! `vectors/sample.json` and `vectors/params.json`.

use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);

fn start() -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/src/limits.c", include_str!("limits.c")).unwrap();
    home.configure("[build]\nsources = true").unwrap();
    let serval = Serval::start(&home).unwrap();
    let deadline = Instant::now() + LONG;
    while Connection::open(serval.address(), LONG).unwrap().get("/x/ignore").unwrap().status != 200 {
        assert!(Instant::now() < deadline, "{:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    (home, serval)
}

#[test]
fn trailers_are_for_those_that_ask_for_them() {
    let (_home, serval) = start();
    for (headers, trailers, announced) in [
        ("TE: trailers\r\n", &[("x-sum", "8")][..], Some("x-sum")),
        ("TE: gzip;q=0.5, trailers\r\n", &[("x-sum", "8")], Some("x-sum")),
        ("", &[], Some("x-sum")),
    ] {
        let mut connection = Connection::open(serval.address(), LONG).unwrap();
        connection.send(format!("GET /x/trailers HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes()).unwrap();
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"summed"[..]), "{headers}");
        let found: Vec<(&str, &str)> = answer.trailers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!((&found[..], answer.header("trailer")), (trailers, announced), "{headers}");
        assert_eq!(connection.get("/x/ignore").unwrap().status, 200, "the connection goes on");
    }
    // An older client knows no chunks, and so no trailers.
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"GET /x/trailers HTTP/1.0\r\nTE: trailers\r\n\r\n").unwrap();
    assert!(connection.read_to_close().unwrap().ends_with(b"\r\n\r\nsummed"));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_answer_that_is_not_whole_does_not_look_so() {
    let (_home, serval) = start();
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"GET /x/less HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let cut = connection.read_to_close().unwrap();
    let text = String::from_utf8_lossy(&cut).to_ascii_lowercase();
    assert!(text.contains("content-length: 10\r\n") && text.ends_with("\r\n\r\nhalf"), "{text}");
    serval.wait_for_log("the servlet has written 4 bytes, and had set the content length to 10", LONG).unwrap();
    // An answer to HEAD has no body that could be cut.
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"HEAD /x/less HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(connection.read_response_of_head().unwrap().header("content-length"), Some("10"));
    assert_eq!(connection.get("/x/ignore").unwrap().status, 200, "the connection goes on");
    assert!(serval.stop().unwrap().success());
}
