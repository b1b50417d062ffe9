//! `ready_path`: whether the server is to be sent requests.

use std::process::Command;

use e2e::commands::{becomes, serval as command, status};
use e2e::http_client::Connection;
use e2e::process::Program;
use e2e::serval::{Serval, binary};
use e2e::steady::{LONG, home, started, wait_until};

use crate::ask;

const SETTINGS: &str = "[server]\nready_path = \"/health/ready\"\n[access_log]\npattern = \"%m %U %s\"\n";

#[test]
fn it_is_told_before_any_context_and_on_every_host() {
    let home = home(&format!("{SETTINGS}[[host]]\n[[host]]\nname = \"b\"\nwebapps = \"none\"\n"));
    std::fs::create_dir(home.path("none")).unwrap();
    // Which has a file there, and another one below.
    home.write("webapps/health/ready", "of a webapp").unwrap();
    home.write("webapps/health/ready2", "of a webapp").unwrap();
    let serval = started(&home);
    for host in ["localhost", "b", "unknown"] {
        let mut connection = Connection::open(serval.address(), LONG).unwrap();
        connection.send(format!("GET /health/ready HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        let told = connection.read_response().unwrap();
        assert_eq!((told.status, &*told.body), (200, b"ready\n".as_slice()), "{host}");
        assert_eq!(told.header("cache-control"), Some("no-store"));
        assert_eq!(told.header("set-cookie"), None);
    }
    let told = ask(&serval, "HEAD /health/ready HTTP/1.1").unwrap();
    assert_eq!((told.status, told.header("content-length")), (200, Some("6")));
    let told = ask(&serval, "POST /health/ready HTTP/1.1\r\nContent-Length: 0").unwrap();
    assert_eq!((told.status, told.header("allow")), (405, Some("GET, HEAD")));
    // It is that path alone; in whatever form it is written.
    assert_eq!(ask(&serval, "GET /health/r%65ady?a=b HTTP/1.1").unwrap().body, b"ready\n");
    assert_eq!(ask(&serval, "GET /health/ready2 HTTP/1.1").unwrap().body, b"of a webapp");
    assert_eq!(ask(&serval, "GET /health/ready/ HTTP/1.1").unwrap().status, 404);
    let (_, told, _) = command(&home, &["explain", "GET", "/health/ready"]);
    assert!(told.contains("before any context") && told.contains("conf/server.toml") && told.contains("200"), "{told}");

    // A running server takes another one, and none.
    home.write("conf/server.toml", "[[listener]]\naddress = \"127.0.0.1:0\"\n[server]\nready_path = \"/up\"").unwrap();
    wait_until("the other one", || ask(&serval, "GET /up HTTP/1.1").unwrap().status == 200);
    assert_eq!(ask(&serval, "GET /health/ready HTTP/1.1").unwrap().body, b"of a webapp");
    home.write("conf/server.toml", "[[listener]]\naddress = \"127.0.0.1:0\"\n").unwrap();
    wait_until("none", || ask(&serval, "GET /up HTTP/1.1").unwrap().status == 404);
    assert!(serval.stop().unwrap().success());
    let log = std::fs::read_to_string(home.path("var/log/localhost.access.log")).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("/health/ready")).collect();
    assert!(lines.contains(&"GET /health/ready 200") && lines.contains(&"POST /health/ready 405"), "{log}");
}

#[test]
fn it_starts_and_is_ready_when_each_webapp_was_tried() {
    let home = home(SETTINGS);
    home.write("var/work/localhost/x/hold-init", "").unwrap();
    let mut run = Command::new(binary().unwrap());
    run.arg("run").arg("--home").arg(home.path(""));
    let mut program = Program::start("serval", run).unwrap();
    wait_until("it is in its init", || home.path("var/work/localhost/x/at-init").exists());
    let listening = program.wait_for_line(0, LONG, |line| line.starts_with("listening on http://")).unwrap();
    let address = listening["listening on http://".len()..].parse().unwrap();
    let ask = || Connection::open(address, LONG).unwrap().get("/health/ready").unwrap();
    let told = ask();
    assert_eq!((told.status, &*told.body), (503, b"starting\n".as_slice()));
    assert_eq!(told.header("content-type"), Some("text/plain; charset=utf-8"));
    let (code, told, _) = command(&home, &["status"]);
    assert!(code == Some(3) && told.starts_with("the server is starting\n"), "{told}");
    std::fs::remove_file(home.path("var/work/localhost/x/hold-init")).unwrap();
    program.wait_for_line(0, LONG, |line| line.starts_with("ready in ")).unwrap();
    assert_eq!(ask().body, b"ready\n");
    becomes(&home, |told| told["readiness"] == "ready");
    assert!(program.stop(LONG).unwrap().success());
}

/// A webapp that does not start is the concern of who looks after it; the others are served.
#[test]
fn it_is_ready_with_a_webapp_that_was_refused() {
    let home = home(SETTINGS);
    home.write("webapps/bad/WEB-INF/lib/bad.so", "no library").unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(ask(&serval, "GET /health/ready HTTP/1.1").unwrap().status, 200);
    assert_eq!(status(&home)["readiness"], "ready");
    assert!(serval.stop().unwrap().success());
}
