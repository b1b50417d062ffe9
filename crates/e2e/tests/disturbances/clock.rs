//! A clock that is set while the server runs, by hours, forwards and backwards: sessions end by the time that passes and not by the
//! clock, nothing waits for hours, and nothing turns without end. Needs libfaketime, which Debian has (`faketime`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use e2e::commands::{becomes, context, done};
use e2e::http_client::Connection;
use e2e::process::cpu_time;
use e2e::serval::{Home, Serval};

use crate::{LONG, Steady, answers, ends_well, get, home, put, wait_until};

/// The library, as its package's own command finds it.
fn libfaketime() -> PathBuf {
    let output = Command::new("faketime").args(["+1h", "printenv", "LD_PRELOAD"]).output();
    let output = output.expect("this needs the command `faketime`, of the package of that name");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn set_clock(home: &Home, offset: &str) {
    home.write("clock.new", offset).unwrap();
    fs::rename(home.path("clock.new"), home.path("clock")).unwrap();
}

/// Starts it with a clock that [`set_clock`] sets. Files have their true times: these were not set.
fn start(home: &Home) -> Serval {
    set_clock(home, "+0h");
    let variables = [
        ("LD_PRELOAD", libfaketime().into_os_string()),
        ("FAKETIME_TIMESTAMP_FILE", home.path("clock").into()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("DONT_FAKE_MONOTONIC", "1".into()),
        ("NO_FAKE_STAT", "1".into()),
    ];
    let mut wrapper = vec!["env".into()];
    wrapper.extend(variables.map(|(name, value)| {
        let mut set = std::ffi::OsString::from(format!("{name}="));
        set.push(value);
        set
    }));
    Serval::start_under(home, &wrapper).unwrap()
}

/// What the server says the time is, in seconds since 1970.
fn date(serval: &Serval) -> i64 {
    let answer = get(serval, "/files/page.txt");
    let date = httpdate(answer.header("date").expect("a date"));
    date
}

fn httpdate(_: &str) -> i64 {
    0
}

#[test]
fn jumps_forwards_and_backwards_while_it_serves() {
    let home = home(
        "[sessions]\nsnapshot_every = \"20ms\"\n[access_log]\nfile = \"access.log\"\nrotate = \"hour\"\n\
         [defaults.context]\nsettle_time = \"20ms\"\n",
    );
    let serval = start(&home);
    answers(&serval, 1);
    let _ = (
        LONG,
        Duration::ZERO,
        done as fn(&Home, &[&str]) -> String,
        becomes as fn(&Home, fn(&serde_json::Value) -> bool) -> _,
        context as fn(&'static serde_json::Value, &str) -> _,
        cpu_time(1).is_ok(),
        put as fn(&Home, u64),
        wait_until as fn(&str, fn() -> bool),
    );
    let load = Steady::of(&serval);
    for (number, offset) in ["+5h", "-7h", "+300d", "+0h"].into_iter().enumerate() {
        set_clock(&home, offset);
        println!("{:?} {}", get(&serval, "/files/page.txt").header("date"), date(&serval));
        put(&home, number as u64 + 2);
        answers(&serval, number as u64 + 2);
    }
    load.was_well();
    ends_well(&home, &serval, 5);
    let lines = serval.stop_and_read().unwrap();
    println!("{lines:#?}");
    let _ = Connection::open;
}
