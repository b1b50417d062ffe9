//! `serval explain`: each step of what a request means, in a home with two hosts, versions, libraries and descriptors.
//!
//! `explain.txt` holds what is asked and what is printed. The servlet library ends the process when one of its functions is called.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use e2e::http_client::Connection;
use e2e::process;
use e2e::serval::{Home, Serval, binary, repository};

const LONG: Duration = Duration::from_secs(60);

const SERVER_TOML: &str = r#"[[listener]]
address = "127.0.0.1:0"

[[host]]
name = "main.test"
aliases = ["www.main.test", "*.wild.test"]
[[host.context]]
path = "/deep/er"
webapp = "pages"

[[host]]
name = "other.test"
webapps = "other"

[build]
sources = true
"#;

const SHOP: &str = r#"welcome_files = ["start.html", "go.do"]

[[servlet]]
name = "item"
url_patterns = ["/exact", "/cart/{item}"]

[[servlet]]
name = "assets"
class = "default"
url_patterns = ["/assets/*"]

[[filter]]
name = "guard"
[[filter.map]]
url_patterns = ["/admin/*"]
[[filter.map]]
servlets = ["cart"]
"#;

const PAGES: &str = r#"[files]
precompressed = ["br"]
fallback = "index.html"
[[files.cache_control]]
types = ["image/*"]
value = "public"
[[files.cache_control]]
url_patterns = ["*.js"]
value = "immutable"
[redirects]
status = 308
"#;

fn home() -> Home {
    let home = Home::new().unwrap();
    home.write("conf/server.toml", SERVER_TOML).unwrap();
    for (path, text) in [
        ("webapps/ROOT/index.html", "root"),
        ("webapps/shop##1/index.html", "one"),
        ("webapps/shop##2/start.html", "two"),
        ("webapps/shop##2/WEB-INF/web.toml", SHOP),
        ("webapps/pages/index.html", "page"),
        ("webapps/pages/app.js", "1"),
        ("webapps/pages/app.js.br", "2"),
        ("webapps/pages/.hidden", "3"),
        ("webapps/pages/WEB-INF/web.toml", PAGES),
        ("other/fine/a b.txt", "b"),
        ("other/wrong/WEB-INF/web.toml", "welcome = []\n"),
    ] {
        home.write(path, text).unwrap();
    }
    home
}

/// With a library in version 2 of /shop, one that is none in /broken, and sources that are not built in /raw.
fn home_with_library() -> Home {
    let home = home();
    home.write("webapps/broken/WEB-INF/lib/broken.so", "text").unwrap();
    home.write("webapps/raw/WEB-INF/src/raw.c", "").unwrap();
    let library = home.path("webapps/shop##2/WEB-INF/lib/shop.so");
    fs::create_dir_all(library.parent().unwrap()).unwrap();
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared", "-fPIC", "-I"]);
    command.arg(repository().join("crates/abi/include"));
    command.arg(repository().join("crates/e2e/tests/explain/library.c")).arg("-o").arg(library);
    process::run(command, LONG).unwrap();
    home
}

fn explain(home: &Home, words: &[&str]) -> Output {
    let mut command = Command::new(binary().unwrap());
    command.arg("explain").arg("--home").arg(home.path("")).args(words).output().unwrap()
}

fn explained(home: &Home, words: &[&str]) -> String {
    let output = explain(home, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_step_is_said_with_its_rule_and_its_line() {
    let home = home_with_library();
    let mut wrong = Vec::new();
    for case in include_str!("explain.txt").split("\n\n") {
        let (words, expected) = case.split_once('\n').expect("what is asked, and what is printed");
        let words: Vec<&str> = words.split(' ').collect();
        let found = explained(&home, &words);
        if found.trim_end() != expected.trim_end() {
            wrong.push(format!("{}\n{found}", words.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{} differ; they say:\n\n{}", wrong.len(), wrong.join("\n"));
    assert!(!home.path("var").exists(), "nothing is written");
}

#[test]
fn programs_read_the_steps() {
    let home = home_with_library();
    let text = explained(&home, &["--json", "GET", "/shop/exact"]);
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let steps = all["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["request", "host", "target", "context", "version", "servlet", "filter", "answer"]);
    assert_eq!(steps[5]["result"], "item");
    let note = serde_json::json!({
        "text": "by the exact pattern `/exact`", "rule": "Servlet 12.2", "at": "webapps/shop##2/WEB-INF/web.toml:5"
    });
    assert_eq!(steps[5]["notes"][0], note);
}

#[test]
fn a_question_that_is_none() {
    let home = home();
    for words in [&[][..], &["GET"], &["GET", "/", "/"], &["--host", "GET", "/"], &["--what", "GET", "/"]] {
        let output = explain(&home, words);
        assert_eq!((output.status.code(), output.stdout), (Some(2), Vec::new()), "{words:?}");
    }
}

/// What is explained is what is answered.
#[test]
fn the_server_answers_as_explained() {
    let home = home();
    home.write("webapps/w/WEB-INF/web.toml", "[files]\nwritable = true\n").unwrap();
    home.write("webapps/w/a.txt", "a").unwrap();
    home.write("webapps/w/sub/b.txt", "b").unwrap();
    std::fs::create_dir(home.path("webapps/w/empty")).unwrap();
    let serval = Serval::start(&home).unwrap();
    for (method, host, target) in [
        ("GET", "main.test", "/"),
        ("GET", "www.main.test", "/shop"),
        ("GET", "main.test", "/shop/start.html"),
        ("GET", "main.test", "/shop;v=1/./st%61rt.html"),
        ("GET", "a.wild.test", "/deep/er"),
        ("POST", "main.test", "/deep/er?x=1"),
        ("GET", "main.test", "/deep/er/app.js"),
        ("GET", "main.test", "/deep/er/any/page"),
        ("GET", "main.test", "/deep/er/.hidden"),
        ("PUT", "main.test", "/deep/er/app.js"),
        ("DELETE", "main.test", "/none"),
        ("PUT", "main.test", "/w/new.txt"),
        ("PUT", "main.test", "/w/a.txt"),
        ("PUT", "main.test", "/w/none/new.txt"),
        ("PUT", "main.test", "/w/sub/"),
        ("PUT", "main.test", "/w/.hidden"),
        ("DELETE", "main.test", "/w/sub"),
        ("DELETE", "main.test", "/w/empty/"),
        ("DELETE", "main.test", "/w/a.txt"),
        ("DELETE", "main.test", "/w/a.txt"),
        ("OPTIONS", "main.test", "*"),
        ("TRACE", "main.test", "/"),
        ("BREW", "main.test", "/index.html"),
        ("GET", "main.test", "/web-inf/web.toml"),
        ("GET", "main.test", "/a/..;/b"),
        ("GET", "main.test", "/%2e%2e/b"),
        ("GET", "main.test", "/a%2fb"),
        ("GET", "main.test", "/{a}"),
        ("GET", "main.test", "/a<b"),
        ("GET", "main.test", "/a#b"),
        ("GET", "main.test", "?a"),
        ("GET", "main.test", "a/b"),
        ("GET", "main.test", "*"),
        ("GET", "main.test", "http://main.test?x"),
        ("GET", "main.test", "ftp://main.test/"),
        ("CONNECT", "main.test:80", "main.test:80"),
        ("GET", "main.test", "/?a|b"),
        ("G(T", "main.test", "/"),
        ("GET", "other.test", "/fine/a%20b.txt"),
        ("GET", "other.test", "/wrong/x"),
        ("GET", "nobody.test", "/index.html"),
        ("GET", "main:x", "/"),
        ("GET", "main.test", "http://other.test/fine/"),
    ] {
        let text = explained(&home, &["--host", host, method, target]);
        let answer = text.lines().find_map(|line| line.split_once("  answer ")).expect("an answer").1.trim();
        let mut connection = Connection::open(serval.address(), LONG).unwrap();
        connection.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        let response = match method {
            "HEAD" => connection.read_response_of_head().unwrap(),
            _ => connection.read_response().unwrap(),
        };
        assert!(answer.starts_with(&response.status.to_string()), "{method} {target}: {}\n{text}", response.status);
        if let Some(location) = response.header("location") {
            assert!(text.contains(&format!("location: {location}\n")), "{text}");
        }
    }
    assert!(serval.stop().unwrap().success());
}
