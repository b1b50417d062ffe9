//! A clock that is set while the server runs, by hours, forwards and backwards: what takes its time takes it by the time that passes and
//! not by the clock; nothing waits for hours, and nothing turns without end. Needs `faketime`, a package of that name.

use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::time::Duration;

use e2e::commands::{becomes, context, done};
use e2e::process::cpu_time;
use e2e::serval::{Home, Serval};
use e2e::steady::{Steady, answers, ends_well, get, home, names, put, visit, wait_until};

const HOUR: i64 = 3600;

/// The library that sets it, as the command of its package names it.
fn libfaketime() -> String {
    let output = Command::new("faketime").args(["-f", "+1h", "printenv", "LD_PRELOAD"]).output();
    let output = output.expect("this needs the command `faketime`, of the package of that name");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Sets the clock to so many hours after the true time.
fn set_clock(home: &Home, hours: i64) {
    home.write("clock.new", format!("{hours:+}h")).unwrap();
    fs::rename(home.path("clock.new"), home.path("clock")).unwrap();
}

/// Starts it with a clock that [`set_clock`] sets. Nobody sets the one that counts from the machine's start, nor the times of files.
fn start(home: &Home) -> Serval {
    set_clock(home, 0);
    let file = home.path("clock");
    let mut wrapper: Vec<OsString> =
        ["env", "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"].map(Into::into).to_vec();
    wrapper.push(format!("FAKETIME_TIMESTAMP_FILE={}", file.display()).into());
    wrapper.push(format!("LD_PRELOAD={}", libfaketime()).into());
    Serval::start_under(home, &wrapper).unwrap()
}

/// What the clock says, in seconds since 1970.
fn clock(serval: &Serval) -> i64 {
    String::from_utf8(get(serval, "/x/step?clock").body).unwrap().parse().unwrap()
}

#[test]
fn it_is_set_forwards_and_backwards() {
    let home = home(
        "[sessions]\nsnapshot_every = \"20ms\"\n[access_log]\nfile = \"access.log\"\nrotate = \"hour\"\n\
         [defaults.context]\nsettle_time = \"20ms\"\nasync_timeout = \"300ms\"\n",
    );
    let serval = start(&home);
    answers(&serval, 1);
    let (load, began) = (Steady::of(&serval), clock(&serval));
    let (_, cookie) = visit(&serval, "a=b", "visit");
    let log = home.path("var/log/access.log");
    let mut version = 1;
    for (round, hours) in [5, -7, 24 * 300, 0].into_iter().enumerate() {
        // Its time is up half an hour after its last use, and that of another one after a second.
        if hours < 0 {
            visit(&serval, "a=b", "short");
        }
        set_clock(&home, hours);
        wait_until("the clock is set", || (clock(&serval) - began - hours * HOUR).abs() < HOUR);
        assert_eq!(visit(&serval, &cookie, "visit").0, round as u32 + 2, "{hours} hours");
        becomes(&home, |told| context(told, "/x")["sessions"] == 1);
        // A change is at rest after its time, and a command waits for it.
        version += 1;
        put(&home, version);
        answers(&serval, version);
        done(&home, &["reload", "/x"]);
        // What does not come is waited for until its time is up.
        assert_eq!(get(&serval, "/x/step?never").status, 500);
        // Lines are written on.
        let before = fs::read(&log).map_or(0, |lines| lines.len());
        load.goes_on();
        wait_until("lines are written", || fs::read(&log).map_or(0, |lines| lines.len()) != before);
    }
    // Forwards it is another hour; backwards, the lines of one hour only go on.
    let logs = names(home.path("var/log"));
    assert!((2..=5).contains(&logs.len()), "{logs:?}");
    load.was_well();
    ends_well(&home, &serval, version);
    for hours in [-7, 24 * 300] {
        set_clock(&home, hours);
        wait_until("the clock is set", || (clock(&serval) - began - hours * HOUR).abs() < HOUR);
        let before = cpu_time(serval.program().id()).unwrap();
        let span = Duration::from_secs(1);
        std::thread::sleep(span);
        let used = cpu_time(serval.program().id()).unwrap() - before;
        assert!(used < span / 2, "nobody asks for anything, and it has used {used:?} in {span:?}");
    }
    assert_eq!(visit(&serval, &cookie, "visit").0, 6);
    assert!(serval.stop().unwrap().success());
}
