//! What the upstream is asked for, and told of the client; and what of its answers is changed.

use e2e::http_client::Response;

use super::upstream::{Upstream, value};
use super::{ask, get, home_at, start, text};
use e2e::serval::Serval;

/// What the upstream gets of a GET with these headers.
fn seen(serval: &Serval, headers: &str) -> String {
    text(&ask(serval, &format!("GET /legacy/x HTTP/1.1\r\nHost: a.test:81\r\n{headers}\r\n")))
}

#[test]
fn the_path_is_handed_on_as_it_was_sent_and_never_leads_out() {
    let upstream = Upstream::echo();
    let address = upstream.address;
    for (proxy, cases) in [
        (
            format!("http://{address}"),
            [
                ("/legacy", "/legacy"),
                ("/legacy/a%20b;v=1/c?d=%2F..&e", "/legacy/a%20b;v=1/c?d=%2F..&e"),
                ("/legacy;s=1/x", "/legacy;s=1/x"),
                ("/other/../leg%61cy//x", "/legacy//x"),
                ("/legacy/a/../../legacy/b", "/legacy/b"),
                ("/legacy/%252e%252e/x", "/legacy/%252e%252e/x"),
            ],
        ),
        (
            format!("http://{address}/app/"),
            [
                ("/legacy", "/app"),
                ("/legacy/", "/app/"),
                ("/legacy?q", "/app?q"),
                ("/legacy/a/./b/../c", "/app/a/c"),
                ("/legacy/a/../../legacy/../legacy/c", "/app/c"),
                ("/legacy//c", "/app//c"),
            ],
        ),
        (
            format!("http://{address}/"),
            [
                ("/legacy", "/"),
                ("/legacy/", "/"),
                ("/legacy?q", "/?q"),
                ("/legacy;s/a", "/;s/a"),
                ("/legacy/legacy/x", "/legacy/x"),
                ("http://localhost/legacy/x", "/x"),
            ],
        ),
    ] {
        let serval = Serval::start(&home_at(&proxy, "")).unwrap();
        for (target, expected) in cases {
            let echoed = text(&get(&serval, target));
            assert_eq!(echoed.lines().next(), Some(&*format!("GET {expected} HTTP/1.1")), "{target} to {proxy}");
        }
        for (target, status) in [
            ("/legacy/../x", 404),
            ("/legacy/..;/x", 400),
            ("/legacy/%2e%2e/x", 400),
            ("/legacy/a%2f../../x", 400),
            ("/legacy\\..\\x", 400),
            ("/legacyx", 404),
        ] {
            let before = upstream.heads().len();
            assert_eq!(get(&serval, target).status, status, "{target}");
            assert_eq!(upstream.heads().len(), before, "{target}");
        }
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn what_ends_here_does_not_go_on() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(&upstream, "");
    let seen = seen(
        &serval,
        "Connection: keep-alive, x-mine, Content-Length, host\r\nX-Mine: 1\r\nKeep-Alive: timeout=9\r\nProxy-Authorization: x\r\n\
         Proxy-Connection: keep-alive\r\nTE: gzip, trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Kept: a\r\n\
         X-Kept: b\r\nCookie: c=1\r\nAuthorization: Basic eA==\r\n",
    );
    for gone in ["x-mine", "keep-alive", "proxy-authorization", "proxy-connection", "upgrade", "http2-settings"] {
        assert_eq!(value(&seen, gone), None, "{seen}");
    }
    for (name, expected) in [
        ("te", "trailers"),
        ("connection", "te"),
        ("host", "a.test:81"),
        ("cookie", "c=1"),
        ("authorization", "Basic eA=="),
    ] {
        assert_eq!(value(&seen, name), Some(expected), "{seen}");
    }
    assert_eq!(seen.matches("x-kept").count(), 2, "{seen}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_upstream_is_told_of_the_client_and_not_what_it_says_of_itself() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(&upstream, "");
    let seen = seen(
        &serval,
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\n\
         Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Prefix: /evil\r\n\
         Via: 1.0 fred\r\n",
    );
    assert!(!seen.contains("6.6.6.6") && !seen.contains("evil"), "{seen}");
    for (name, expected) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a.test:81"),
        ("x-forwarded-port", "81"),
        ("forwarded", "for=127.0.0.1;host=\"a.test:81\";proto=http"),
        ("via", "1.0 fred"),
    ] {
        assert_eq!(value(&seen, name), Some(expected), "{seen}");
    }
    assert!(seen.contains("via: 1.1 serval-"), "{seen}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn proxies_that_are_believed_say_who_the_client_is() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(
        &upstream,
        "[host.context.remote_ip]\ntrusted_proxies = [\"203.0.113.0/24\"]\nhost_header = \"X-Forwarded-Host\"\n",
    );
    let seen = seen(
        &serval,
        "X-Forwarded-For: 6.6.6.6, 2001:db8::7, 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.test\r\n\
         Forwarded: for=6.6.6.6\r\n",
    );
    for (name, expected) in [
        ("x-forwarded-for", "2001:db8::7, 203.0.113.9, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "www.test"),
        ("x-forwarded-port", "443"),
        ("forwarded", "for=\"[2001:db8::7]\";host=www.test;proto=https, for=203.0.113.9, for=127.0.0.1"),
        ("host", "www.test"),
    ] {
        assert_eq!(value(&seen, name), Some(expected), "{seen}");
    }
    assert!(!seen.contains("6.6.6.6"), "{seen}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_header_that_would_be_believed_of_a_proxy_is_dropped_of_anybody_else() {
    let upstream = Upstream::echo();
    let rules = "[host.context.remote_ip]\ninternal_proxies = [\"192.0.2.1\"]\nremote_ip_header = \"X-Client\"\n";
    let (_home, serval) = start(&upstream, rules);
    let seen = seen(&serval, "X-Client: 6.6.6.6\r\nX_Client: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n");
    assert!(!seen.contains("6.6.6.6"), "{seen}");
    assert_eq!((value(&seen, "x-forwarded-for"), value(&seen, "x-forwarded-proto")), (Some("127.0.0.1"), Some("http")));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_upstream_may_get_its_own_name() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(&upstream, "proxy_preserve_host = false\n");
    let seen = seen(&serval, "");
    assert_eq!(value(&seen, "host"), Some(&*upstream.address.to_string()), "{seen}");
    assert_eq!(value(&seen, "x-forwarded-host"), Some("a.test:81"), "{seen}");
    assert!(serval.stop().unwrap().success());
}

/// An upstream that answers with what stands in a header of the request.
fn saying() -> Upstream {
    Upstream::start(|mut accepted| {
        while let Some(request) = accepted.request() {
            let says = value(&request.head, "x-say").unwrap().replace('|', "\r\n");
            accepted.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{says}\r\n\r\n"));
        }
    })
}

fn said(serval: &Serval, says: &str) -> Response {
    ask(serval, &format!("GET /legacy/ HTTP/1.1\r\nHost: a.test\r\nX-Say: {says}\r\n\r\n"))
}

#[test]
fn where_answers_lead_is_here() {
    let upstream = saying();
    let address = upstream.address;
    let serval = Serval::start(&home_at(&format!("http://{address}/app"), "")).unwrap();
    for (says, expected) in [
        (format!("Location: http://{address}/app/x?y#z"), "http://a.test/legacy/x?y#z"),
        ("Location: http://a.test/app/x".to_owned(), "http://a.test/legacy/x"),
        ("Location: /app/x".to_owned(), "/legacy/x"),
        ("Location: /other".to_owned(), "/other"),
        ("Location: https://elsewhere.test/app".to_owned(), "https://elsewhere.test/app"),
    ] {
        assert_eq!(said(&serval, &says).header("location"), Some(expected), "{says}");
    }
    let answer = said(&serval, "Content-Location: /app/x|Set-Cookie: a=1; Path=/app; HttpOnly|Set-Cookie: b=2; Path=/");
    assert_eq!(answer.header("content-location"), Some("/legacy/x"));
    let cookies: Vec<&str> =
        answer.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect();
    assert_eq!(cookies, ["a=1; Path=/legacy; HttpOnly", "b=2; Path=/"]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_ends_here_does_not_come_back() {
    let upstream = saying();
    let (_home, serval) = start(&upstream, "");
    let answer = said(
        &serval,
        "Connection: X-Secret, keep-alive|X-Secret: 1|Keep-Alive: timeout=5|Proxy-Connection: close|Upgrade: h2c|\
         Proxy-Authenticate: Basic|X-Kept: a|Server: old|ETag: \"1\"",
    );
    for gone in ["x-secret", "keep-alive", "proxy-connection", "upgrade", "proxy-authenticate"] {
        assert_eq!(answer.header(gone), None, "{:?}", answer.headers);
    }
    for (name, expected) in [("x-kept", "a"), ("server", "old"), ("etag", "\"1\"")] {
        assert_eq!(answer.header(name), Some(expected), "{:?}", answer.headers);
    }
    assert!(!answer.closes());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_request_goes_no_further_than_it_may() {
    let upstream = Upstream::echo();
    let (_home, serval) = start(&upstream, "");
    let request = |method, forwards| {
        ask(&serval, &format!("{method} /legacy/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: {forwards}\r\n\r\n"))
    };
    assert_eq!(value(&text(&request("OPTIONS", "3")), "max-forwards"), Some("2"));
    assert_eq!(value(&text(&request("GET", "0")), "max-forwards"), Some("0"));
    let before = upstream.heads().len();
    let answer = request("OPTIONS", "0");
    assert_eq!((answer.status, answer.header("allow").is_some()), (200, true));
    assert_eq!(request("TRACE", "3").status, 405);
    assert_eq!(upstream.heads().len(), before);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_context_that_leads_to_itself_says_so() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let home = home_at(&format!("http://{address}"), "");
    let config = std::fs::read_to_string(home.path("conf/server.toml")).unwrap();
    home.write("conf/server.toml", config.replace("127.0.0.1:0", &address.to_string())).unwrap();
    let serval = Serval::start_inheriting(&home, &socket, &[]).unwrap();
    assert_eq!(get(&serval, "/legacy/x").status, 508);
    serval.wait_for_log("requests come back to where they were sent from", super::LONG).unwrap();
    assert!(serval.stop().unwrap().success());
}
