//! The same servlet library in C, C++ and Rust gives the same answers; and the examples of the manual do what they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::process;
use e2e::serval::{self, Home, Serval, repository};

mod examples;
mod face;
mod odd;
mod table;

const LONG: Duration = Duration::from_secs(120);

/// Compiles a library into the webapp of that name, with each warning an error.
fn compile(home: &Home, source: &Path, webapp: &str) {
    compile_with(home, source, webapp, &[]);
}

fn compile_with(home: &Home, source: &Path, webapp: &str, options: &[&str]) {
    let library = home.path(&format!("webapps/{webapp}/WEB-INF/lib/library.so"));
    fs::create_dir_all(library.parent().unwrap()).unwrap();
    let is_c = source.extension().is_some_and(|ending| ending == "c");
    let mut command = Command::new(if is_c { "cc" } else { "c++" });
    command.args(if is_c { ["-std=c99", "-pthread"] } else { ["-std=c++17", "-fno-gnu-unique"] });
    command.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]);
    command.arg(repository().join("crates/abi/include")).arg(source).args(options);
    // Beside it, and then in its place: a server that watches sees no half of it.
    let unfinished = library.with_extension("unfinished");
    command.arg("-o").arg(&unfinished);
    process::run(command, LONG).unwrap();
    fs::rename(unfinished, library).unwrap();
}

/// Builds the Rust one beside this test.
fn build_rust(home: &Home, webapp: &str) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kit");
    let mut command = Command::new(serval::cargo());
    command.args(["build", "--quiet", "--offline", "--manifest-path"]).arg(here().join("kit/Cargo.toml"));
    command.arg("--target-dir").arg(&target);
    process::run(command, 5 * LONG).unwrap();
    let lib = home.path(&format!("webapps/{webapp}/WEB-INF/lib"));
    fs::create_dir_all(&lib).unwrap();
    fs::copy(target.join("debug/libkit.so"), lib.join("library.so")).unwrap();
}

fn here() -> PathBuf {
    repository().join("crates/e2e/tests/kit")
}

/// Waits until a webapp is served.
#[track_caller]
fn wait_for(serval: &Serval, path: &str) {
    let deadline = Instant::now() + LONG;
    loop {
        let status = Connection::open(serval.address(), LONG).and_then(|mut open| open.get(path)).map(|a| a.status);
        if status.as_ref().is_ok_and(|status| *status != 503) {
            return;
        }
        assert!(Instant::now() < deadline, "{path}: {status:?}, {:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_kit_answers_the_same_in_each_language() {
    // Paths of one length, so that answers that hold them have one length too.
    const APPS: [&str; 3] = ["cc", "cx", "rs"];
    let home = Home::new().unwrap();
    compile(&home, &here().join("kit.c"), "cc");
    compile(&home, &here().join("kit.cpp"), "cx");
    build_rust(&home, "rs");
    let serval = Serval::start(&home).unwrap();
    for app in APPS {
        wait_for(&serval, &format!("/{app}/attributes"));
    }
    let mut wrong = Vec::new();
    for conversation in table::read(include_str!("kit.txt")) {
        let run = |app: &str| conversation.run(serval.address(), &format!("/{app}"));
        // What the SDK of a language has not is `(not ..)` in the title.
        let has = |app: &&&str| !conversation.title.ends_with(&format!("(not {app})"));
        let answers: Vec<_> = APPS.iter().filter(has).map(|app| (app, run(app))).collect();
        for (app, answer) in &answers {
            match (answer, &answers[0].1) {
                (Err(text), _) => wrong.push(format!("{app}: {text}")),
                (Ok(these), Ok(those)) if these != those => {
                    wrong.push(format!("{app} differs from {}: {these:#?}\n{those:#?}", APPS[0]));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{:#?}", wrong.join("\n\n"), serval.program().lines_from(0));
    assert!(serval.stop().unwrap().success());
}
