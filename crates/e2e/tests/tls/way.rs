//! The way from http to https, and from one host to another.

use std::process::Command;

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};

use crate::client::Client;
use crate::signer::Signer;
use crate::{LONG, output, put, start};

#[test]
fn a_request_for_a_host_with_another_certificate_is_misdirected() {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    put(&home, "own", &signer.sign(&["a.test", "b.test", "*.wild.test"]));
    put(&home, "other", &signer.sign(&["c.test"]));
    home.write("conf/ca.pem", &signer.pem).unwrap();
    let tls = "certificate = \"conf/own.pem\"\nkey = \"conf/own.key\"\n";
    let other = "[[listener.tls.certificates]]\ncertificate = \"conf/other.pem\"\nkey = \"conf/other.key\"";
    let log = "[access_log]\npattern = \"%s %v\"";
    let (client, nameless) = (Client::new(&signer), Client::nameless(&signer));
    for (key, is_strict) in [("", true), ("strict_sni = false\n", false)] {
        let serval = start(&home, &format!("{tls}{key}{other}\n{log}"));
        for (named, asks, is_same) in [
            ("a.test", "a.test", true),
            ("a.test", "A.test:8443", true),
            ("a.test", "b.test", true),
            ("a.test", "any.wild.test", true),
            ("x.wild.test", "y.wild.test", true),
            ("a.test", "c.test", false),
            ("c.test", "a.test", false),
            // No certificate is for this one, so it has the first.
            ("a.test", "unknown.test", true),
            ("c.test", "unknown.test", false),
            ("c.test", "127.0.0.1", false),
            ("c.test", "c.test.", true),
        ] {
            let answer = client.open(serval.address(), named).unwrap().get(asks, "/").unwrap();
            let expected = if is_same || !is_strict { 200 } else { 421 };
            assert_eq!(answer.status, expected, "{named} for {asks}: {}", answer.head);
            // Who names no host is not held to one.
            assert_eq!(
                nameless.open(serval.address(), "a.test").unwrap().get(asks, "/").unwrap().status,
                200,
                "{asks}"
            );
        }
        let (port, curl) = (serval.address().port(), |host: &str| {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "--cacert"]);
            curl.arg(home.path("conf/ca.pem")).args(["-H", &format!("Host: {host}")]);
            curl.arg("--resolve").arg(format!("a.test:{}:127.0.0.1", serval.address().port()));
            output({
                curl.arg(format!("https://a.test:{}/", serval.address().port()));
                curl
            })
        });
        assert_eq!(curl(&format!("b.test:{port}")), "2 200");
        assert_eq!(curl(&format!("c.test:{port}")), if is_strict { "2 421" } else { "2 200" });
        let mut old = client.open(serval.address(), "c.test").unwrap();
        assert_eq!(old.ask("GET / HTTP/1.0\r\n\r\n").unwrap().status, 200);
        assert!(serval.stop().unwrap().success());
        let logged = std::fs::read_to_string(home.path("var/log/localhost.access.log")).unwrap();
        assert!(!is_strict || logged.contains("421 "), "{logged}");
        std::fs::remove_dir_all(home.path("var/log")).unwrap();
    }
}

fn ask(serval: &Serval, request: &str) -> (u16, Option<String>) {
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(request.as_bytes()).unwrap();
    let answer = connection.read_response().unwrap();
    (answer.status, answer.header("location").map(str::to_owned))
}

#[test]
fn plain_requests_are_sent_to_https() {
    let home = Home::new().unwrap();
    let set = |port: u16, more: &str| {
        let toml = format!("[[listener]]\naddress = \"127.0.0.1:0\"\nhttps_redirect_port = {port}\n{more}");
        home.write("conf/server.toml", toml).unwrap();
    };
    home.write("webapps/ROOT/index.html", "hello").unwrap();
    home.write("webapps/ROOT/.well-known/acme-challenge/token", "token").unwrap();
    set(443, "");
    let serval = Serval::start(&home).unwrap();
    let moved = |status, location: &str| (status, Some(location.to_owned()));
    let get = |head: &str| ask(&serval, &format!("GET {head}\r\n\r\n"));
    assert_eq!(get("/a?b=%20c HTTP/1.1\r\nHost: www.Test"), moved(301, "https://www.test/a?b=%20c"));
    assert_eq!(get("/ HTTP/1.1\r\nHost: www.test:8080"), moved(301, "https://www.test/"));
    assert_eq!(get("//other.test/.. HTTP/1.1\r\nHost: www.test"), moved(301, "https://www.test//other.test/.."));
    assert_eq!(get("http://www.test?a HTTP/1.1\r\nHost: www.test"), moved(301, "https://www.test/?a"));
    assert_eq!(get("/ HTTP/1.1\r\nHost: [::1]:80"), moved(301, "https://[::1]/"));
    assert_eq!(get("/ HTTP/1.0"), moved(301, "https://localhost/"));
    let post = "POST /a HTTP/1.1\r\nHost: www.test\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(ask(&serval, post), moved(308, "https://www.test/a"));
    assert_eq!(ask(&serval, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), moved(301, "https://a/"));
    // Who gives out certificates asks without TLS.
    assert_eq!(get("/.well-known/acme-challenge/token HTTP/1.1\r\nHost: www.test"), (200, None));
    assert_eq!(get("/.well-known/acme-challenge/none HTTP/1.1\r\nHost: www.test"), (404, None));
    assert_eq!(get("/.well-known/acme-challenge/../../a HTTP/1.1\r\nHost: www.test").0, 301);
    assert_eq!(get("/ HTTP/1.1"), (400, None));
    assert_eq!(get("/ HTTP/1.1\r\nHost: a b"), (400, None));
    // A word of a proxy that is not believed is none.
    assert_eq!(get("/ HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https").0, 301);
    let explained = e2e::commands::done(&home, &["explain", "GET", "http://www.test/a"]);
    assert!(explained.contains("by `https_redirect_port`") && explained.contains("server.toml:3"), "{explained}");
    assert!(explained.contains("301") && explained.contains("https://www.test/a"), "{explained}");

    set(8443, "[defaults.context.remote_ip]");
    e2e::commands::done(&home, &["config", "reload"]);
    let proxied = "Host: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto:";
    assert_eq!(get(&format!("/ HTTP/1.1\r\n{proxied} http")), moved(301, "https://a:8443/"));
    assert_eq!(get(&format!("/ HTTP/1.1\r\n{proxied} https")), (200, None));
    assert_eq!(get(&format!("/none/ HTTP/1.1\r\n{proxied} https")), (404, None));
    std::fs::remove_dir_all(home.path("webapps/ROOT")).unwrap();
    e2e::steady::wait_until("it is gone", || get(&format!("/ HTTP/1.1\r\n{proxied} https")) == (404, None));
    assert_eq!(get(&format!("/x HTTP/1.1\r\n{proxied} http")), moved(301, "https://a:8443/x"));

    set(0, "");
    e2e::commands::done(&home, &["config", "reload"]);
    assert_eq!(get("/ HTTP/1.1\r\nHost: a"), (404, None));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn browsers_are_told_to_come_by_https() {
    const NAME: &str = "strict-transport-security";
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    put(&home, "own", &signer.sign(&["localhost"]));
    home.write("webapps/ROOT/index.html", "hello").unwrap();
    let tls = "[listener.tls]\ncertificate = \"conf/own.pem\"\nkey = \"conf/own.key\"";
    let plain = "[[listener]]\naddress = \"127.0.0.1:0\"";
    let proxied = "[[listener]]\naddress = \"127.0.0.1:0\"\nsecure = true\nhsts = \"max-age=60\"";
    let toml = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\nhsts = \"max-age=31536000; includeSubDomains\"\n{tls}\n{plain}\n{proxied}"
    );
    home.write("conf/server.toml", toml).unwrap();
    let serval = Serval::start(&home).unwrap();
    let mut connection = Client::new(&signer).open(serval.address(), "localhost").unwrap();
    for (target, status) in [("/", 200), ("/none", 404), ("*", 400)] {
        let answer = connection.get("localhost", target).unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header(NAME), Some("max-age=31536000; includeSubDomains"), "{target}");
    }
    let of = |number: usize| {
        let answer = Connection::open(serval.addresses()[number], LONG).unwrap().get("/").unwrap();
        answer.header(NAME).map(str::to_owned)
    };
    assert_eq!(of(1), None);
    assert_eq!(of(2).as_deref(), Some("max-age=60"));
    assert!(serval.stop().unwrap().success());
}
