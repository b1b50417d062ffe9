//! kill -9 in the middle of each step, and a start after it: it serves, sessions are as of the last snapshot, and nothing half is there.

use std::fs;
use std::path::PathBuf;

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};
use e2e::steady::{
    LONG, Steady, answers, ends_well, get, home, is_tidy, library, named, names, put, started, visit, wait_until,
};

const SETTINGS: &str = "[sessions]\nsnapshot_every = \"20ms\"\n[defaults.context]\nsettle_time = \"1ms\"\n";
/// How often it is tried to hit the moment.
const ATTEMPTS: u32 = 40;
/// Files that make a step long enough to be in the middle of.
const BALLAST: usize = 600;

fn work(home: &Home, file: &str) -> PathBuf {
    home.path("var/work/localhost/x").join(file)
}

fn snapshot(home: &Home) -> PathBuf {
    home.path("var/sessions/localhost/x/snapshot")
}

/// A visit that is in the snapshot.
#[track_caller]
fn visit_saved(home: &Home, serval: &Serval, cookie: &str) -> u32 {
    let (visits, _) = visit(serval, cookie, "visit");
    // The attribute: its name, and behind a length its value.
    let saved = [b"visits", &4_u32.to_le_bytes()[..], &visits.to_le_bytes()].concat();
    let has = |bytes: Vec<u8>| bytes.windows(saved.len()).any(|window| window == saved);
    wait_until("it is in the snapshot", || fs::read(snapshot(home)).is_ok_and(has));
    visits
}

/// A session of two visits.
#[track_caller]
fn kept_session(home: &Home, serval: &Serval) -> String {
    let (_, cookie) = visit(serval, "a=b", "visit");
    assert_eq!(visit_saved(home, serval, &cookie), 2);
    cookie
}

/// Kills it while the second version is held at a step, and starts again: that one serves.
fn check(step: &str, begin: impl FnOnce(&Home, &Serval) -> Option<Connection>) {
    let home = home(SETTINGS);
    home.write("webapps/x/WEB-INF/web.toml", "check = \"/check\"\n").unwrap();
    let serval = started(&home);
    let cookie = kept_session(&home, &serval);
    let load = Steady::of(&serval);
    fs::write(work(&home, &format!("hold-{step}")), "").unwrap();
    let held = begin(&home, &serval);
    put(&home, 2);
    wait_until(step, || work(&home, &format!("at-{step}")).exists());
    let serves = if ["drain", "destroy", "unload"].contains(&step) { 2 } else { 1 };
    answers(&serval, serves);
    load.was_well();
    // Killed.
    drop(serval);
    drop(held);
    fs::remove_file(work(&home, &format!("hold-{step}"))).unwrap();
    let serval = started(&home);
    let load = Steady::of(&serval);
    assert_eq!(visit(&serval, &cookie, "visit").0, 3, "{step}");
    ends_well(&home, &serval, 2);
    assert_eq!(visit(&serval, &cookie, "visit").0, 4, "{step}");
    load.was_well();
    assert!(serval.stop().unwrap().success());
}

/// In its constructor, which holds the linker of the whole process: no thread of the server may need that.
#[test]
fn while_the_next_one_is_loaded() {
    check("load", |_, _| None);
}

#[test]
fn while_the_next_one_starts() {
    check("init", |_, _| None);
}

#[test]
fn while_the_next_one_is_checked() {
    check("check", |_, _| None);
}

#[test]
fn while_the_old_one_is_drained() {
    check("drain", |home, serval| {
        let mut held = Connection::open(serval.address(), LONG).unwrap();
        held.send(b"GET /x/step?drain HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        wait_until("a call", || work(home, "at-drain").exists());
        Some(held)
    });
}

#[test]
fn while_the_old_one_is_destroyed() {
    check("destroy", |_, _| None);
}

/// In its finalizer, as with the constructor.
#[test]
fn while_the_old_one_is_unloaded() {
    check("unload", |_, _| None);
}

/// Kills it, again and again after another version was put in place, at a moment at which something is half done, until it stayed so.
/// Each time the start after it has to serve the last version.
#[track_caller]
fn at_the_moment(home: &Home, is_half: impl Fn(&Home) -> bool) {
    let mut serval = started(home);
    let cookie = kept_session(home, &serval);
    for attempt in 1..=ATTEMPTS {
        let version = u64::from(attempt) + 1;
        let load = Steady::of(&serval);
        load.goes_on();
        put(home, version);
        // It is soon over, so this looks as often as it can; and once in a while whether it is.
        let is_over = || get(&serval, "/x/step").body == named(version).as_bytes() && is_settled(home);
        while !(0..200).any(|_| is_half(home)) && !is_over() {}
        // Killed.
        drop(serval);
        let was_half = is_half(home);
        let counts = load.0.stop();
        assert_eq!(counts.wrong, 0, "{:#?}", counts.details);
        serval = started(home);
        let load = Steady::of(&serval);
        answers(&serval, version);
        is_tidy(home);
        assert_eq!(visit_saved(home, &serval, &cookie), attempt + 2);
        load.was_well();
        if was_half {
            ends_well(home, &serval, version);
            assert!(serval.stop().unwrap().success());
            return;
        }
    }
    panic!("in {ATTEMPTS} attempts it was never half done");
}

/// Nothing is under way any more.
fn is_settled(home: &Home) -> bool {
    let copies = names(home.path("var/run/generations/localhost/x"));
    copies.len() == 1 && !names(home.path("var/generations/localhost/x")).iter().any(|name| name.contains('.'))
}

/// With so many files beside the library that a step takes a while.
fn home_with_ballast(settings: &str) -> Home {
    let home = home(&format!("{SETTINGS}{settings}"));
    for number in 0..BALLAST {
        home.write(&format!("webapps/x/WEB-INF/lib/ballast-{number}"), "some").unwrap();
    }
    home
}

#[test]
fn while_the_library_is_copied() {
    let home = home_with_ballast("");
    let whole = library(1).len() as u64;
    at_the_moment(&home, |home| {
        let copies = home.path("var/run/generations/localhost/x");
        let number = |name: &String| name.strip_prefix('g')?.split('-').next()?.parse::<u64>().ok();
        let newest = names(copies.clone()).into_iter().max_by_key(number);
        // It is the last one by its name.
        newest.is_some_and(|newest| {
            let folder = copies.join(newest);
            folder.is_dir() && folder.join("step.so").metadata().map_or(0, |file| file.len()) < whole
        })
    });
}

#[test]
fn while_it_takes_over() {
    at_the_moment(&home(SETTINGS), |home| {
        let (copies, kept) = ("var/run/generations/localhost/x", "var/generations/localhost/x");
        names(home.path(copies)).len() > 1 || names(home.path(kept)).len() > 1
    });
}

#[test]
fn while_it_is_kept() {
    let home = home_with_ballast("");
    at_the_moment(&home, |home| {
        names(home.path("var/generations/localhost/x")).iter().any(|name| name.ends_with(".tmp"))
    });
}

#[test]
fn while_an_older_one_is_not_kept_any_more() {
    let home = home_with_ballast("generations_kept = 1\n");
    at_the_moment(&home, |home| {
        let kept = names(home.path("var/generations/localhost/x"));
        let half = kept.iter().filter_map(|name| name.strip_suffix(".tmp")?.parse::<u64>().ok()).min();
        half.is_some_and(|half| kept.iter().any(|name| name.parse::<u64>().is_ok_and(|whole| whole > half)))
    });
}

#[test]
fn while_sessions_are_saved() {
    let home = home(SETTINGS);
    let mut serval = started(&home);
    let cookie = kept_session(&home, &serval);
    let half = snapshot(&home).with_file_name("snapshot.new");
    let mut saved = 2;
    for _ in 0..ATTEMPTS {
        let load = Steady::of(&serval);
        load.goes_on();
        let mut visits;
        loop {
            // A change that is to be saved.
            visits = visit(&serval, &cookie, "visit").0;
            if (0..200).any(|_| half.exists()) {
                break;
            }
        }
        // Killed.
        drop(serval);
        let was_half = half.exists();
        let counts = load.0.stop();
        assert_eq!(counts.wrong, 0, "{:#?}", counts.details);
        serval = started(&home);
        let again = visit_saved(&home, &serval, &cookie);
        assert!((saved + 1..=visits + 1).contains(&again), "{saved} saved, {visits} made, and then {again}");
        saved = again;
        if was_half {
            ends_well(&home, &serval, 1);
            assert!(serval.stop().unwrap().success());
            return;
        }
    }
    panic!("in {ATTEMPTS} attempts it was never half done");
}

#[test]
fn while_it_is_built() {
    let home = home(&format!("{SETTINGS}[build]\nsources = true\n"));
    // What it makes is not whole until there is a file, and lies beside the library.
    let command = "cp ../../../next.so lib/.step.so; until [ -e ../../../go ]; do touch ../../../at-build; sleep 0.02; done; \
                   mv lib/.step.so lib/step.so";
    home.write("next.so", library(2)).unwrap();
    home.write("go", "").unwrap();
    let web = format!("[build]\ncommand = [\"sh\", \"-c\", '''{command}''']\n");
    home.write("webapps/x/WEB-INF/web.toml", web).unwrap();
    home.write("webapps/x/WEB-INF/src/step", "second").unwrap();
    let serval = Serval::start(&home).unwrap();
    answers(&serval, 2);
    let cookie = kept_session(&home, &serval);
    let load = Steady::of(&serval);
    fs::remove_file(home.path("go")).unwrap();
    home.write("next.so", library(3)).unwrap();
    home.write("webapps/x/WEB-INF/src/step", "third").unwrap();
    wait_until("the build runs", || home.path("at-build").exists());
    load.was_well();
    // Killed.
    drop(serval);
    let serval = Serval::start(&home).unwrap();
    answers(&serval, 2);
    let load = Steady::of(&serval);
    assert_eq!(visit(&serval, &cookie, "visit").0, 3);
    fs::write(home.path("go"), "").unwrap();
    answers(&serval, 3);
    load.was_well();
    ends_well(&home, &serval, 3);
    assert!(serval.stop().unwrap().success());
}
