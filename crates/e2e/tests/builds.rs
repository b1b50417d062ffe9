//! Webapps that carry their source, built by the running host: what others see meanwhile, what an author is told, and what is
//! left behind. With C and with commands of web.toml, since these are quick; the example in Rust is in `first_light`.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_secs(60);

/// A servlet at /say that answers TEXT.
const SAY: &str = r#"
#include "servlet.h"
static const sv_host *host;
static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context; (void)module; (void)error;
    host = table;
    return SV_OK;
}
static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet; (void)task;
    return host->write(exchange, SV_LIT("TEXT"), NULL);
}
static const sv_str patterns[] = {SV_STR("/say")};
static const sv_servlet say = {.struct_size = sizeof(sv_servlet), .name = SV_STR("say"), .patterns = patterns,
    .pattern_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&say};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("say"), .init = init, .servlets = servlets, .servlet_count = 1};
const sv_module *servlet_module_v1(void) { return &module; }
"#;

fn home(build: &str) -> Home {
    let home = Home::new().unwrap();
    home.configure(&format!("[build]\nsources = true\n{build}")).unwrap();
    home
}

fn write_say(home: &Home, webapp: &str, text: &str) {
    home.write(&format!("webapps/{webapp}/WEB-INF/src/say.c"), SAY.replace("TEXT", text)).unwrap();
}

/// The command of web.toml is this for the shell, in WEB-INF.
fn write_command(home: &Home, webapp: &str, command: &str) {
    let toml = format!("[build]\ncommand = [\"sh\", \"-c\", '''{command}''']\n");
    home.write(&format!("webapps/{webapp}/WEB-INF/web.toml"), toml).unwrap();
}

fn get(serval: &Serval, target: &str) -> Response {
    Connection::open(serval.address(), SHORT).unwrap().get(target).unwrap()
}

#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn becomes(serval: &Serval, target: &str, status: u16, body: &str) {
    until(&format!("{target} is not {status} {body}"), || {
        let answer = get(serval, target);
        answer.status == status && String::from_utf8_lossy(&answer.body).contains(body)
    });
}

fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn pid_in(file: &Path) -> String {
    until("the build has not begun", || std::fs::read_to_string(file).is_ok_and(|text| text.ends_with('\n')));
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn files_answer_while_servlets_are_built_and_servlets_say_so() {
    let home = home("");
    let go = home.path("go");
    for webapp in ["a", "b"] {
        write_say(&home, webapp, &format!("built {webapp}"));
        home.write(&format!("webapps/{webapp}/page.txt"), "a file").unwrap();
        let wait = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
        let cc = "cc -shared -fPIC -I \"$SERVAL_INCLUDE\" -o lib/own.so src/say.c";
        write_command(&home, webapp, &format!("{wait}; {cc}"));
    }
    let serval = Serval::start(&home).unwrap();
    // One is being built, and the other waits for that.
    for webapp in ["a", "b"] {
        let answer = get(&serval, &format!("/{webapp}/say"));
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
        assert!(String::from_utf8_lossy(&answer.body).contains("being built"));
        assert_eq!(get(&serval, &format!("/{webapp}/page.txt")).body, b"a file");
    }
    std::fs::write(go, "").unwrap();
    becomes(&serval, "/a/say", 200, "built a");
    becomes(&serval, "/b/say", 200, "built b");
    assert_eq!(get(&serval, "/a/nothing").status, 404);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_first_build_that_fails_is_503_and_shows_the_compilers_words() {
    let home = home("");
    home.write("webapps/a/page.txt", "a file").unwrap();
    home.write("webapps/a/WEB-INF/src/say.c", "int wrong = undeclared_thing;\nint also_wrong = another_thing;\n")
        .unwrap();
    let serval = Serval::start(&home).unwrap();
    serval.wait_for_log("/a: the build failed", LONG).unwrap();
    for words in ["undeclared_thing", "another_thing", "say.c:1:", "say.c:2:"] {
        serval.wait_for_log(words, SHORT).unwrap();
    }
    becomes(&serval, "/a/say", 503, "has not started");
    assert_eq!(get(&serval, "/a/page.txt").body, b"a file");
    write_say(&home, "a", "mended");
    becomes(&serval, "/a/say", 200, "mended");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_rustc_says_is_shown_whole() {
    let home = home("");
    home.write(
        "webapps/a/WEB-INF/Cargo.toml",
        "[package]\nname = \"a\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n",
    )
    .unwrap();
    home.write("webapps/a/WEB-INF/src/lib.rs", "pub fn a() -> u32 {\n    \"no number\"\n}\n").unwrap();
    let serval = Serval::start(&home).unwrap();
    serval.wait_for_log("/a: the build failed", LONG).unwrap();
    for words in ["error[E0308]: mismatched types", "src/lib.rs:2:5", "\"no number\""] {
        serval.wait_for_log(words, SHORT).unwrap();
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_build_that_takes_too_long_is_ended_with_all_that_it_started() {
    let home = home("timeout = \"5s\"\n");
    write_command(&home, "a", "sh -c 'echo $$ > ../../../child; while true; do sleep 0.1; done'");
    home.write("webapps/a/WEB-INF/src/x", "").unwrap();
    let serval = Serval::start(&home).unwrap();
    let child = pid_in(&home.path("child"));
    serval.wait_for_log("(`timeout` in [build] of server.toml)", LONG).unwrap();
    until("the build's child still runs", || !lives(&child));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_stop_ends_a_build() {
    let home = home("");
    write_command(&home, "a", "sh -c 'echo $$ > ../../../child; while true; do sleep 0.1; done'");
    home.write("webapps/a/WEB-INF/src/x", "").unwrap();
    let serval = Serval::start(&home).unwrap();
    let child = pid_in(&home.path("child"));
    assert!(lives(&child));
    assert!(serval.stop().unwrap().success());
    until("the build's child still runs", || !lives(&child));
}

#[test]
fn a_command_runs_once_for_each_change_and_as_it_stands_now() {
    let home = home("");
    write_command(&home, "a", "echo one >> ../../../runs");
    home.write("webapps/a/WEB-INF/src/x", "").unwrap();
    write_say(&home, "b", "one");
    let serval = Serval::start(&home).unwrap();
    let runs = || std::fs::read_to_string(home.path("runs")).unwrap_or_default();
    until("the command did not run", || runs() == "one\n");
    // Each round of builds looks at all webapps.
    for text in ["two", "three"] {
        write_say(&home, "b", text);
        becomes(&serval, "/b/say", 200, text);
    }
    assert_eq!(runs(), "one\n");
    write_command(&home, "a", "echo two >> ../../../runs");
    until("the new command did not run", || runs() == "one\ntwo\n");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_start_builds_only_what_has_changed() {
    let home = home("");
    for webapp in ["a", "b"] {
        write_say(&home, webapp, "first");
    }
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, "/a/say", 200, "first");
    becomes(&serval, "/b/say", 200, "first");
    // What was built is noted before it is told.
    for webapp in ["a", "b"] {
        serval.wait_for_log(&format!("/{webapp} built"), LONG).unwrap();
    }
    assert!(serval.stop().unwrap().success());
    write_say(&home, "a", "second");
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, "/a/say", 200, "second");
    becomes(&serval, "/b/say", 200, "first");
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("/b building")), "{lines:#?}");
}

#[test]
fn a_copy_of_a_built_webapp_is_built_for_itself() {
    let home = home("");
    write_say(&home, "a", "original");
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, "/a/say", 200, "original");
    let library = std::fs::read(home.path("webapps/a/WEB-INF/lib/servlets.so")).unwrap();
    home.write("webapps/b/WEB-INF/lib/servlets.so", library).unwrap();
    write_say(&home, "b", "copy");
    becomes(&serval, "/b/say", 200, "copy");
    becomes(&serval, "/a/say", 200, "original");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_source_that_is_removed_or_moved_in_is_a_change() {
    let home = home("");
    write_say(&home, "a", "first");
    home.write("webapps/a/WEB-INF/src/more.c", "int more(void) { return 1; }\n").unwrap();
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, "/a/say", 200, "first");
    // Older than what is there.
    home.write("older.c", SAY.replace("TEXT", "older")).unwrap();
    let day = Duration::from_secs(86_400);
    let older = std::fs::File::options().write(true).open(home.path("older.c")).unwrap();
    older.set_modified(std::time::SystemTime::now() - day).unwrap();
    std::fs::rename(home.path("older.c"), home.path("webapps/a/WEB-INF/src/say.c")).unwrap();
    becomes(&serval, "/a/say", 200, "older");
    let built = || serval.program().lines_from(0).iter().filter(|line| line.contains("/a built")).count();
    // Its library may serve before it is said to be built.
    until("two builds are not told", || built() >= 2);
    let before = built();
    std::fs::remove_file(home.path("webapps/a/WEB-INF/src/more.c")).unwrap();
    until("a removed source is no change", || built() > before);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_build_ends_with_a_server_that_was_killed() {
    let home = home("");
    write_command(&home, "a", "sh -c 'echo $$ > ../../../child; while true; do sleep 0.1; done'");
    home.write("webapps/a/WEB-INF/src/x", "").unwrap();
    let serval = Serval::start(&home).unwrap();
    let child = pid_in(&home.path("child"));
    assert!(lives(&child));
    // Dropped, it is killed.
    drop(serval);
    until("the build's child still runs", || !lives(&child));
}
