//! The commands that ask a running server of a home, and what its status tells.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::serval::{Home, binary};

const LONG: Duration = Duration::from_secs(60);

/// Runs `serval WORDS --home HOME`, and returns its exit code, stdout and stderr.
#[track_caller]
pub fn serval(home: &Home, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary().expect("the program is built"));
    command.args(words).arg("--home").arg(home.path(""));
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Runs a command that has to do what it is asked.
#[track_caller]
pub fn done(home: &Home, words: &[&str]) -> String {
    let (code, out, error) = serval(home, words);
    assert_eq!(code, Some(0), "{words:?}: {error}");
    out
}

/// What `serval status --json` tells.
#[track_caller]
pub fn status(home: &Home) -> Value {
    let (_, told, error) = serval(home, &["status", "--json"]);
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}{error}"))
}

/// Asks for the status until it is so.
#[track_caller]
pub fn becomes(home: &Home, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LONG;
    loop {
        let status = status(home);
        if is_so(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the status tells of the context of that name; null: there is none.
pub fn context<'s>(status: &'s Value, name: &str) -> &'s Value {
    let contexts = status["contexts"].as_array().map_or(&[][..], Vec::as_slice);
    contexts.iter().find(|context| context["context"] == name).unwrap_or(&Value::Null)
}
