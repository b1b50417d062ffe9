//! `serval new`, and what it made, built and served by the real server.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval, binary};

const LONG: Duration = Duration::from_secs(180);
const SHORT: Duration = Duration::from_secs(60);

fn new(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary().unwrap()).current_dir(folder).arg("new").args(arguments).output().unwrap()
}

/// What it says.
#[track_caller]
fn makes(folder: &Path, arguments: &[&str]) -> String {
    let output = new(folder, arguments);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

fn ask(serval: &Serval, request: &str) -> Response {
    let mut connection = Connection::open(serval.address(), SHORT).unwrap();
    connection.send(request.as_bytes()).unwrap();
    connection.read_response().unwrap()
}

/// Asks until the answer is the wanted one.
#[track_caller]
fn becomes(serval: &Serval, request: &str, body: &str) {
    let deadline = Instant::now() + LONG;
    loop {
        let answer = ask(serval, request);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status == 200 && text.contains(body) {
            return;
        }
        assert!(Instant::now() < deadline, "{request}: still {} {text}", answer.status);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The page, the servlet by link and by form, and its init parameter, which web.toml changes.
#[track_caller]
fn runs_as_it_is(home: &Home, serval: &Serval, webapp: &str) {
    let get = |target: &str| format!("GET /{webapp}/{target} HTTP/1.1\r\nHost: a\r\n\r\n");
    becomes(serval, &get(""), &format!("<h1>{webapp}</h1>"));
    becomes(serval, &get("style.css"), "main {");
    becomes(serval, &get("greet"), "<h1>Hello, World!</h1>");
    becomes(serval, &get("greet?name=%3CAda%3E"), "<h1>Hello, &lt;Ada&gt;!</h1>");
    let post = format!(
        "POST /{webapp}/greet HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 8\r\n\r\nname=Bob"
    );
    becomes(serval, &post, "<h1>Hello, Bob!</h1>");
    for hidden in ["WEB-INF/web.toml", "WEB-INF/.gitignore"] {
        assert_eq!(ask(serval, &get(hidden)).status, 404);
    }
    let descriptor = home.path(&format!("webapps/{webapp}/WEB-INF/web.toml"));
    let changed = fs::read_to_string(&descriptor).unwrap().replace("\"Hello\"", "\"Ahoy\"");
    fs::write(descriptor, changed).unwrap();
    becomes(serval, &get("greet"), "<h1>Ahoy, World!</h1>");
}

#[test]
fn in_a_home_that_runs_it_is_built_and_served_in_each_language() {
    let home = Home::new().unwrap();
    home.configure("[build]\nsources = true").unwrap();
    let serval = Serval::start(&home).unwrap();
    // From any folder of the home, as an author is in one.
    let said = makes(&home.path("webapps"), &["in-c", "--lang", "c"]);
    let place = home.path("webapps/in-c");
    let expected = format!(
        "Made {0}\n\nA serval that runs here builds it now. If none does:\n\n    serval run --home {1}\n\n\
         Open /in-c/ at the address that it prints.\n\nEdit {0}/WEB-INF/src/servlets.c: each save is built.\n",
        place.display(),
        home.path("").display().to_string().trim_end_matches('/'),
    );
    assert_eq!(said, expected);
    runs_as_it_is(&home, &serval, "in-c");
    makes(&home.path(""), &["in-cpp", "--lang", "cpp"]);
    runs_as_it_is(&home, &serval, "in-cpp");
    makes(Path::new("/"), &["in-rust", "--home", home.path("").to_str().unwrap()]);
    runs_as_it_is(&home, &serval, "in-rust");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_headers_of_an_editor_are_where_it_is_told() {
    let home = Home::new().unwrap();
    for (webapp, language, compiler) in [("a", "c", "cc"), ("b", "cpp", "c++")] {
        makes(&home.path(""), &[webapp, "--lang", language]);
        let inside = home.path(&format!("webapps/{webapp}/WEB-INF"));
        let flags = fs::read_to_string(inside.join("compile_flags.txt")).unwrap();
        let mut command = Command::new(compiler);
        command.current_dir(&inside).args(flags.lines()).args(["-Werror", "-pedantic", "-fsyntax-only"]);
        let status = command.arg(format!("src/servlets.{language}")).status();
        assert!(status.unwrap().success());
    }
}

#[test]
fn the_tests_of_a_new_rust_webapp_pass_offline() {
    let home = Home::new().unwrap();
    makes(&home.path(""), &["shop"]);
    let mut command = Command::new(e2e::serval::cargo());
    command.current_dir(home.path("webapps/shop/WEB-INF")).args(["test", "--offline", "--quiet"]);
    // A folder of its own: the one of whoever tests us has another workspace in it.
    let output = command.env("CARGO_TARGET_DIR", home.path("target")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn elsewhere_it_is_a_home_of_its_own() {
    let folder = Home::new().unwrap();
    fs::remove_file(folder.path("conf/server.toml")).unwrap();
    let said = makes(&folder.path(""), &["shop", "--lang", "c"]);
    let home = folder.path("shop");
    let expected = format!(
        "Made {0}, with conf/server.toml and the webapp webapps/shop\n\nStart it:\n\n    serval run --home {0}\n\n\
         Open http://127.0.0.1:8080/shop/\n\nEdit {0}/webapps/shop/WEB-INF/src/servlets.c: each save is built.\n",
        home.display()
    );
    assert_eq!(said, expected);
    let check = Command::new(binary().unwrap()).current_dir(&home).arg("check").output().unwrap();
    assert!(check.status.success(), "{check:?}");
    // The port is anybody's: another one for this test.
    let toml = fs::read_to_string(home.join("conf/server.toml")).unwrap();
    fs::write(home.join("conf/server.toml"), toml.replace("127.0.0.1:8080", "127.0.0.1:0")).unwrap();
    let mut program = Command::new(binary().unwrap());
    program.env("NO_COLOR", "1").args(["run", "--home"]).arg(&home);
    let mut program = e2e::process::Program::start("serval", program).unwrap();
    program.wait_for_line(0, LONG, |line| line.contains("/shop built in")).unwrap();
    assert!(program.stop(SHORT).unwrap().success());
    assert!(home.join("webapps/shop/WEB-INF/lib/servlets.so").is_file());
}
