//! The examples over real sockets: built by the running host, and replaced while it runs.

use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_secs(60);

fn home(examples: &[&str]) -> Home {
    let home = Home::new().unwrap();
    home.configure("[build]\nsources = true\n[[listener]]\naddress = \"127.0.0.1:0\"\n").unwrap();
    for example in examples {
        home.copy_example(example).unwrap();
    }
    home
}

fn get(serval: &Serval, target: &str) -> Response {
    Connection::open(serval.address(), SHORT).unwrap().get(target).unwrap()
}

/// Asks until the answer is the wanted one.
#[track_caller]
fn becomes(serval: &Serval, target: &str, status: u16, body: &str) {
    let deadline = Instant::now() + LONG;
    loop {
        let answer = get(serval, target);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status == status && text.contains(body) {
            return;
        }
        assert!(Instant::now() < deadline, "{target}: still {} {text}", answer.status);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_examples_are_built_served_and_rebuilt_on_save() {
    let home = home(&["ROOT", "hello-c"]);
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/").status, 200);
    becomes(&serval, "/hello-c/plain", 200, "Hello, World!");
    becomes(&serval, "/hello-c/greet/Ada", 200, "Hello, Ada!");
    assert_eq!(get(&serval, "/hello-c/WEB-INF/src/hello.c").status, 404);
    assert_eq!(get(&serval, "/hello-c").header("location"), Some("/hello-c/"));

    let source = home.path("webapps/hello-c/WEB-INF/src/hello.c");
    let text = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, text.replace("Hello, World!", "Howdy, Earth!")).unwrap();
    becomes(&serval, "/hello-c/plain", 200, "Howdy, Earth!");

    std::fs::write(&source, format!("{text}\nthis is no C\n")).unwrap();
    serval.wait_for_log("the build failed", LONG).unwrap();
    becomes(&serval, "/hello-c/plain", 200, "Howdy, Earth!");

    std::fs::write(home.path("webapps/hello-c/WEB-INF/lib/hello-c.so"), "text").unwrap();
    serval.wait_for_log("it is not an ELF file", LONG).unwrap();
    becomes(&serval, "/hello-c/plain", 200, "Howdy, Earth!");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_rust_servlet_is_built_with_the_sdk_that_serval_carries() {
    let home = home(&["hello"]);
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, "/hello/plain", 200, "Hello, World!");
    becomes(&serval, "/hello/greet/Ada", 200, "Hello, Ada!");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_folder_comes_and_goes_with_its_files() {
    let home = home(&["ROOT"]);
    let serval = Serval::start(&home).unwrap();
    home.write("webapps/a#b/page.txt", "one").unwrap();
    becomes(&serval, "/a/b/page.txt", 200, "one");
    home.write("webapps/a#b/page.txt", "another").unwrap();
    assert_eq!(get(&serval, "/a/b/page.txt").body, b"another");
    std::fs::remove_dir_all(home.path("webapps/a#b")).unwrap();
    becomes(&serval, "/a/b/page.txt", 404, "");
}
