//! `serval dev`: what a browser shows while somebody edits, and what it must not change.
//!
//! The browser part needs node, Chromium, and what `npm ci` puts into `crates/e2e/browser`; what is missing is named.

use std::process::Command;
use std::time::Duration;

use e2e::browser;
use e2e::http_client::Connection;
use e2e::serval::{Home, Serval, binary};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);
const BROWSER_WITHIN: Duration = Duration::from_secs(300);
const SOURCE: &str = "webapps/x/WEB-INF/src/page.c";

fn home() -> Home {
    let home = Home::new().unwrap();
    home.write(SOURCE, include_str!("page.c")).unwrap();
    home.write("webapps/x/plain.html", "<!doctype html><title>plain</title>").unwrap();
    home.write("webapps/x/plain.css", "a { color: red }").unwrap();
    home.configure("[defaults.context]\nsettle_time = \"20ms\"\ncompression = [\"gzip\"]").unwrap();
    home
}

#[test]
fn the_browser_shows_what_does_not_build_and_reloads_what_does() {
    let home = home();
    let serval = Serval::start_command(&home, "dev").unwrap();
    let url = format!("http://{}/x/page", serval.address());
    browser::run("dev.mjs", &[&url, home.path(SOURCE).to_str().unwrap()], BROWSER_WITHIN).unwrap();
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_configuration_in_force_is_told_as_the_command_makes_it() {
    let home = home();
    let serval = Serval::start_command(&home, "dev").unwrap();
    let show = |words: &[&str]| {
        let mut command = Command::new(binary().unwrap());
        let output = command.args(["config", "show"]).args(words).arg("--home").arg(home.path("")).output().unwrap();
        // Its files say otherwise.
        assert_eq!(output.status.code(), Some(3));
        String::from_utf8(output.stdout).unwrap()
    };
    let told: Value = serde_json::from_str(&show(&["--json"])).unwrap();
    assert_eq!(told["running"]["differs"], json!(["build.sources", "server.development"]));
    assert!(show(&[]).contains("\n# server.development: true (serval dev)\n"));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn pages_get_a_script_and_nothing_else_changes() {
    let home = home();
    let serval = Serval::start_command(&home, "dev").unwrap();
    serval.wait_for_log("/x ready (generation 2", LONG).unwrap();
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    let mut ask = |head: &str| {
        connection
            .send(format!("{head}\r\nHost: a\r\nAccept-Encoding: gzip\r\nAccept: text/html\r\n\r\n").as_bytes())
            .unwrap();
        match head.starts_with("HEAD") {
            true => connection.read_response_of_head().unwrap(),
            false => connection.read_response().unwrap(),
        }
    };
    for (head, has_script) in [
        ("GET /x/plain.html HTTP/1.1", true),
        ("GET /x/none HTTP/1.1", true),
        ("GET /x/page HTTP/1.1", true),
        ("GET /x/page?json HTTP/1.1", false),
        ("GET /x/plain.css HTTP/1.1", false),
        ("GET /x HTTP/1.1", false),
        ("HEAD /x/plain.html HTTP/1.1", false),
    ] {
        let answer = ask(head);
        let text = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!(text.ends_with("</script>\n") && text.contains("/.serval/dev.js"), has_script, "{head}: {text}");
        assert!(answer.header("content-encoding").is_none(), "{head}");
    }
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    assert_eq!(
        connection.get("/.serval/dev.js").unwrap().header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    // A stream that nobody reads does not keep the server from its stop.
    connection.send(b"GET /.serval/dev HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(serval.stop().unwrap().success());
    let stream = String::from_utf8(connection.read_to_close().unwrap()).unwrap();
    assert!(stream.contains("\ndata: {\"served\":{\"/x\":"), "{stream}");

    let serval = Serval::start(&home).unwrap();
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    let page = connection.get("/x/plain.html").unwrap();
    assert_eq!(page.body, b"<!doctype html><title>plain</title>");
    assert_eq!(connection.get("/.serval/dev.js").unwrap().status, 404);
    assert!(serval.stop().unwrap().success());
}
