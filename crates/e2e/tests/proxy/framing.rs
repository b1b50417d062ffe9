//! Tries to smuggle a request: the upstream never sees two where the client has sent one, whatever we answer.

use e2e::serval::Serval;

use super::upstream::Upstream;
use super::{open, start};

/// Behind what is doubtful, a request that must not reach the upstream as one.
const HIDDEN: &str = "GET /legacy/hidden HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn one_request_stays_one() {
    let upstream = Upstream::echo();
    // What waits for more is closed: an end of the client's own would take its request with it.
    let home = super::home(&upstream, "");
    let config = std::fs::read_to_string(home.path("conf/server.toml")).unwrap();
    let short = "\nhead_timeout = \"200ms\"\nbody_timeout = \"200ms\"\n";
    home.write("conf/server.toml", config.replacen('\n', short, 1)).unwrap();
    let serval = Serval::start(&home).unwrap();
    let of = |headers: &str, body: &str| format!("POST /legacy/x HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}");
    let length = HIDDEN.len();
    let chunk = format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    let mut sent = Vec::new();
    let requests = [
        // Both framings.
        of("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}")),
        of("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &format!("0\r\n\r\n{HIDDEN}")),
        of(&format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), HIDDEN),
        of(&format!("Content-Length: 0, {length}\r\n"), HIDDEN),
        of(&format!("Content-Length: +{length}\r\n"), HIDDEN),
        of(&format!("Content-Length : {length}\r\n"), HIDDEN),
        of(&format!("Content-Length:\x0b{length}\r\n"), HIDDEN),
        // Codings that are no `chunked`, or not to everybody.
        of("Transfer-Encoding: xchunked\r\n", &chunk),
        of("Transfer-Encoding: chunked, identity\r\n", &chunk),
        of("Transfer-Encoding: identity, chunked\r\n", &chunk),
        of("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &chunk),
        of("Transfer-Encoding: \x0bchunked\r\n", &chunk),
        of("Transfer-Encoding : chunked\r\n", &chunk),
        of("Transfer-Encoding\r\n : chunked\r\n", &chunk),
        of("X: y\r\n Transfer-Encoding: chunked\r\n", &chunk),
        // Chunks that are none.
        of("Transfer-Encoding: chunked\r\n", &format!("0x0\r\n\r\n{HIDDEN}")),
        of("Transfer-Encoding: chunked\r\n", &format!("-1\r\n\r\n{HIDDEN}")),
        of("Transfer-Encoding: chunked\r\n", &format!("1\nZ\n0\n\n{HIDDEN}")),
        of("Transfer-Encoding: chunked\r\n", &format!("2\r\nZZZ\r\n0\r\n\r\n{HIDDEN}")),
        of("Transfer-Encoding: chunked\r\n", &format!("1;a\nb\r\nZ\r\n0\r\n\r\n{HIDDEN}")),
        of("Transfer-Encoding: chunked\r\n", &format!("ffffffffffffffff1\r\nZ\r\n0\r\n\r\n{HIDDEN}")),
        // Lines.
        format!("POST /legacy/x HTTP/1.1\nHost: a\nContent-Length: {length}\n\n{HIDDEN}"),
        format!("POST /legacy/x HTTP/1.1\r\nHost: a\rX: y\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
        format!("GET /legacy/x HTTP/1.1\r\nHost: a\r\nX: a\n\n{HIDDEN}"),
        format!("GET /legacy/x HTTP/1.1\r\nHost: a\r\nX y: 1\r\n\r\n{HIDDEN}"),
        format!("GET /legacy/x HTTP/1.1 \r\nHost: a\r\n\r\n{HIDDEN}"),
        // Framing that is named as one of the connection's own: the body stays a body.
        of(&format!("Connection: content-length\r\nContent-Length: {length}\r\n"), HIDDEN),
        of("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", &chunk),
        format!(
            "GET /legacy/x HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"
        ),
        // Another protocol that the upstream does not change to.
        format!(
            "GET /legacy/x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"
        ),
    ];
    for (number, request) in requests.into_iter().enumerate() {
        // One that is given up may come to the upstream when others are on their way already.
        let mine = format!(" /legacy/x{number} ");
        let request = request.replace(" /legacy/x ", &mine);
        let mut connection = open(&serval);
        connection.send(request.as_bytes()).unwrap();
        let answers = connection.read_to_close().unwrap_or_default();
        sent.push((mine, request, String::from_utf8_lossy(&answers).into_owned()));
    }
    assert!(serval.stop().unwrap().success());
    let heads = upstream.heads();
    assert!(heads.iter().all(|head| !head.contains("/legacy/hidden")), "{heads:#?}");
    for (mine, request, answers) in sent {
        let seen: Vec<&String> = heads.iter().filter(|head| head.contains(&mine)).collect();
        assert!(seen.len() <= 1, "{request:?}\nbecame\n{seen:#?}\n{answers}");
    }
}

#[test]
fn headers_of_answers_do_not_become_others() {
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhix", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhi", 502),
        ("HTTP/1.1 200 OK\r\nX a: 1\r\nContent-Length: 2\r\n\r\nhi", 502),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nhi", 502),
        ("HTTP/1.1 999999 OK\r\n\r\n", 502),
        ("nonsense\r\n\r\n", 502),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 502),
    ] {
        let upstream = Upstream::start(move |mut accepted| {
            accepted.head();
            accepted.send(answer);
            accepted.finish_sending();
            accepted.is_left();
        });
        let (_home, serval) = start(&upstream, "");
        assert_eq!(super::get(&serval, "/legacy/").status, status, "{answer}");
        assert!(serval.stop().unwrap().success());
    }
}
