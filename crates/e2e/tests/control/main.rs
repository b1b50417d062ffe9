//! The control socket, and the commands that use it: what they tell, when they return, and their exit codes.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::commands::{becomes, context, serval, status};
use e2e::http_client::Connection;
use e2e::serval::{Home, Serval, repository};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);
const LIB: &str = "webapps/shop/WEB-INF/lib/held.so";
const WEB: &str = "webapps/shop/WEB-INF/web.toml";

fn compile(home: &Home, flags: &[&str]) {
    let output = home.path("built.so");
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]).args(flags);
    command.arg("-I").arg(repository().join("crates/abi/include"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control/held.c");
    assert!(command.arg(source).arg("-o").arg(&output).status().unwrap().success());
    std::fs::create_dir_all(home.path("webapps/shop/WEB-INF/lib")).unwrap();
    std::fs::rename(output, home.path(LIB)).unwrap();
}

/// Puts a webapp, or a file of one, in its place as a whole: with that settle_time, what is half written would be taken for a change.
fn put(home: &Home, path: &str, files: &[(&str, &str)]) {
    for (file, text) in files {
        home.write(&format!("unfinished{file}"), text).unwrap();
    }
    std::fs::rename(home.path("unfinished"), home.path(path)).unwrap();
}

fn home() -> Home {
    let home = Home::new().unwrap();
    home.configure("[defaults.context]\nsettle_time = \"1ms\"").unwrap();
    home.write("webapps/files/index.html", "files").unwrap();
    compile(&home, &[]);
    home
}

#[test]
fn status_tells_of_contexts_and_reload_returns_when_the_new_generation_serves() {
    let home = home();
    let serval_runs = Serval::start(&home).unwrap();
    let told = becomes(&home, |told| context(told, "/shop")["servlets"] == 1);
    assert_eq!(told["process"], serval_runs.program().id());
    for (name, state, servlets) in [("/files", "ready", 0), ("/shop", "ready", 1)] {
        let context = context(&told, name);
        assert_eq!((&context["state"], &context["servlets"]), (&state.into(), &servlets.into()), "{context}");
        assert_eq!((&context["host"], &context["generation"]), (&"localhost".into(), &1.into()), "{context}");
    }
    let (code, table, _) = serval(&home, &["status"]);
    assert_eq!(code, Some(0), "{table}");
    let mut lines = table.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["CONTEXT", "STATE", "GENERATION"]);
    assert_eq!(lines.next().unwrap(), ["/files", "ready", "1"]);
    assert_eq!(lines.next().unwrap(), ["/shop", "ready", "1"]);
    assert_eq!(lines.next(), None);

    // Nothing has changed, and it is made anew all the same; a request that runs goes on.
    let mut connection = Connection::open(serval_runs.address(), LONG).unwrap();
    connection.send(b"GET /shop/held?wait HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    becomes(&home, |told| context(told, "/shop")["calls"] == 1);
    assert_eq!(serval(&home, &["reload", "/shop"]).1, "/shop serves generation 2\n");
    assert_eq!(serval(&home, &["reload", "/shop", "--json"]).1, "{\"generation\":3}\n");
    let told = becomes(&home, |told| told["old"].as_array().unwrap().len() == 1);
    let old = &told["old"][0];
    assert_eq!((&old["context"], &old["generation"], &old["state"]), (&"/shop".into(), &1.into(), &"draining".into()));
    assert_eq!(old["waits_for"], "1 call");
    let (_, table, _) = serval(&home, &["status"]);
    assert!(table.contains("/shop: the old generation 1 is draining since "), "{table}");
    home.write("var/work/localhost/shop/go", "").unwrap();
    assert_eq!(connection.read_response().unwrap().body, b"held");
    let told = becomes(&home, |told| told["old"].as_array().unwrap().is_empty());
    assert_eq!((&told["left_mapped"], &context(&told, "/shop")["generation"]), (&0.into(), &3.into()));
    assert_eq!(serval(&home, &["reload", "/files"]).0, Some(0));
    assert!(serval_runs.stop().unwrap().success());
}

#[test]
fn what_is_refused_is_told_and_the_current_generation_serves_on() {
    let home = home();
    let serval_runs = Serval::start(&home).unwrap();
    becomes(&home, |told| context(told, "/shop")["servlets"] == 1);
    compile(&home, &["-DFAILS"]);
    let (code, out, error) = serval(&home, &["reload", "/shop"]);
    assert_eq!((code, &*out), (Some(3), ""));
    let why = "/shop: the new generation is refused: held.so: its init failed: the till is locked\n";
    assert_eq!(error, why);
    let told = status(&home);
    let shop = context(&told, "/shop");
    assert_eq!((&shop["state"], &shop["generation"]), (&"ready".into(), &1.into()), "{shop}");
    assert_eq!(shop["refused"], "held.so: its init failed: the till is locked");
    let (code, table, _) = serval(&home, &["status"]);
    assert_eq!(code, Some(3));
    assert!(table.contains("/shop: the last change was refused, and generation 1 serves on: held.so: "), "{table}");
    let mut connection = Connection::open(serval_runs.address(), LONG).unwrap();
    assert_eq!(connection.get("/shop/held").unwrap().body, b"held");
    compile(&home, &[]);
    assert_eq!(serval(&home, &["reload", "/shop"]).0, Some(0));
    becomes(&home, |told| context(told, "/shop")["refused"].is_null());
    assert_eq!(serval(&home, &["status"]).0, Some(0));
    // One that is not there at all is no less a problem.
    put(&home, "webapps/wrong", &[("/WEB-INF/web.toml", "chek = \"/held\"\n")]);
    becomes(&home, |told| !told["problems"].as_array().unwrap().is_empty());
    let (code, table, _) = serval(&home, &["status"]);
    assert_eq!(code, Some(3));
    assert!(table.contains("webapps/wrong/WEB-INF/web.toml:1:1: ") && table.contains("`check`"), "{table}");
    assert!(serval_runs.stop().unwrap().success());
}

#[test]
fn a_generation_that_fails_its_check_does_not_take_over() {
    let home = home();
    put(&home, WEB, &[("", "check = \"/held\"\n")]);
    let serval_runs = Serval::start(&home).unwrap();
    becomes(&home, |told| context(told, "/shop")["servlets"] == 1);
    assert_eq!(serval(&home, &["reload", "/shop"]).0, Some(0));
    let serves = || {
        let mut connection = Connection::open(serval_runs.address(), LONG).unwrap();
        assert_eq!(connection.get("/shop/held").unwrap().body, b"held");
        assert_eq!(context(&status(&home), "/shop")["generation"], 2);
    };
    compile(&home, &["-DSICK"]);
    let (code, _, error) = serval(&home, &["reload", "/shop"]);
    let why = "/shop: the new generation is refused: its check /held answered 503 Service Unavailable\n";
    assert_eq!((code, &*error), (Some(3), why));
    serves();
    // What was refused goes.
    serval_runs.wait_for_log("the generation is gone context=/shop generation=3", LONG).unwrap();
    // In this order: the library alone would take over.
    put(&home, WEB, &[("", "check = \"/none?a=b\"\n")]);
    compile(&home, &[]);
    let (code, _, error) = serval(&home, &["reload", "/shop"]);
    let why = "/shop: the new generation is refused: its check /none?a=b answered 404 Not Found\n";
    assert_eq!((code, &*error), (Some(3), why));
    serves();
    put(&home, WEB, &[("", "")]);
    assert_eq!(serval(&home, &["reload", "/shop"]).0, Some(0));
    // A file will do, also where the context's path is escaped in URLs.
    put(&home, "webapps/my shöp", &[("/here.txt", "here"), ("/WEB-INF/web.toml", "check = \"/here.txt\"\n")]);
    becomes(&home, |told| told["contexts"].as_array().unwrap().len() == 3);
    assert_eq!(
        serval(&home, &["reload", "/my shöp"]),
        (Some(0), "/my shöp serves generation 2\n".into(), String::new())
    );
    assert!(serval_runs.stop().unwrap().success());
}

#[test]
fn wrong_questions_have_clear_answers() {
    let home = home();
    // Nobody runs: before the first start, and after the end.
    let nobody = |home: &Home| {
        let (code, out, error) = serval(home, &["status"]);
        assert_eq!((code, &*out), (Some(1), ""));
        assert!(error.starts_with("no Serval runs in ") && error.contains("serval run"), "{error}");
    };
    nobody(&home);
    let serval_runs = Serval::start(&home).unwrap();
    let socket = home.path("var/run/serval.sock");
    assert_eq!(std::fs::symlink_metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, error) = serval(&home, &["reload", "/none"]);
    assert_eq!(
        (code, &*error),
        (
            Some(3),
            "/none: there is no context `/none`; write its path as in /shop, or / for ROOT: `serval status` lists them\n"
        )
    );
    let ask = |head: &str, body: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let length = body.len();
        write!(stream, "{head} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let error: Value = serde_json::from_str(body).unwrap();
        (head[9..12].to_owned(), error["error"].as_str().unwrap_or_default().to_owned())
    };
    for (head, body, status, part) in [
        ("GET /none", "", "404", "no command /none"),
        ("POST /status", "", "405", "another method"),
        ("POST /reload", "{", "400", "the body is no JSON"),
        ("POST /reload", "{}", "400", "no `context`"),
        ("POST /reload", "{\"context\": 7}", "400", "no `context`"),
        ("POST /reload", &format!("{{\"context\": \"{}\"}}", "x".repeat(70_000)), "400", "cannot be read"),
    ] {
        let (found, error) = ask(head, body);
        assert_eq!(found, status, "{head}: {error}");
        assert!(error.contains(part), "{head}: {error}");
    }
    // Commands that say nothing hold up nobody, nor the stop.
    let silent: Vec<UnixStream> = (0..10).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert_eq!(serval(&home, &["status"]).0, Some(0));
    assert!(serval_runs.stop().unwrap().success());
    drop(silent);
    nobody(&home);
    assert!(!socket.exists());
}
