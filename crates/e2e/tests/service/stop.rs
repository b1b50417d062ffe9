//! The order of a stop: not ready, `stop_delay`, no more connections, `shutdown_timeout`, the end; and what the exit status says.

use std::os::unix::net::UnixDatagram;
use std::process::ExitStatus;

use e2e::commands::{serval as command, status};
use e2e::http_client::Connection;
use e2e::process::Program;
use e2e::serval::{Home, Serval};
use e2e::steady::{LONG, Steady, home, started, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::{ask, held, hold, release};

fn with(delay: &str, drain: &str) -> Home {
    let keys = format!("stop_delay = \"{delay}\"\nshutdown_timeout = \"{drain}\"\nready_path = \"/ready\"");
    home(&format!("[server]\n{keys}\n"))
}

fn tell(serval: &Serval, signal: Signal) {
    kill_process(Pid::from_raw(serval.program().id() as i32).unwrap(), signal).unwrap();
}

/// Waits for its end, and returns what it has said too.
fn end(mut serval: Serval) -> (ExitStatus, Vec<String>) {
    let mut ended = None;
    wait_until("it has ended", || {
        ended = serval.program_mut().ended().unwrap();
        ended.is_some()
    });
    let lines = Program::all_lines(serval.program(), LONG).unwrap();
    (ended.unwrap(), lines)
}

#[test]
fn requests_are_answered_while_it_says_that_it_is_not_ready() {
    let home = with("3s", "30s");
    let manager = UnixDatagram::bind(home.path("notify.sock")).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    let serval = Serval::start_with(&home, "NOTIFY_SOCKET", home.path("notify.sock").to_str().unwrap()).unwrap();
    let load = Steady::of(&serval);
    load.goes_on();
    tell(&serval, Signal::TERM);
    serval.wait_for_log("not ready any more; stopping in 3s (stop_delay)", LONG).unwrap();
    let told = ask(&serval, "GET /ready HTTP/1.1").unwrap();
    assert_eq!((told.status, &*told.body), (503, b"stopping\n".as_slice()));
    let (code, text, _) = command(&home, &["status"]);
    assert!(code == Some(3) && text.starts_with("the server is stopping\n"), "{text}");
    assert_eq!(status(&home)["readiness"], "stopping");
    // New connections, too.
    load.was_well();
    let (ended, lines) = end(serval);
    assert!(ended.success(), "{lines:#?}");
    let mut told = [(); 2].map(|()| {
        let mut bytes = [0; 1000];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    });
    told.sort();
    // All that the stop waits for: 3 s of delay, 30 s for requests, 30 s for sessions, 5 s for logs.
    assert_eq!(told, ["READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=68000000"]);
}

#[test]
fn a_second_signal_ends_the_delay() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let serval = started(&with("10m", "10m"));
        tell(&serval, first);
        serval.wait_for_log("not ready any more", LONG).unwrap();
        tell(&serval, second);
        // Nothing was cut.
        let (ended, lines) = end(serval);
        assert!(ended.success(), "{lines:#?}");
    }
}

#[test]
fn a_second_signal_in_the_delay_cuts_what_runs() {
    let home = with("10m", "10m");
    let serval = started(&home);
    hold(&home);
    let mut cut = held(&home, &serval);
    tell(&serval, Signal::TERM);
    serval.wait_for_log("not ready any more", LONG).unwrap();
    tell(&serval, Signal::TERM);
    let (ended, lines) = end(serval);
    assert_eq!(ended.code(), Some(3));
    let is_said = |line: &String| line.contains("what still ran was cut: not all") && line.contains("second signal");
    assert!(lines.iter().any(is_said), "{lines:#?}");
    cut.read_response().unwrap_err();
}

#[test]
fn a_second_signal_in_the_drain_cuts_what_runs() {
    let home = with("0s", "10m");
    let serval = started(&home);
    hold(&home);
    let mut cut = held(&home, &serval);
    tell(&serval, Signal::TERM);
    serval.wait_for_log("stopping", LONG).unwrap();
    wait_until("it is closed", || Connection::open(serval.address(), LONG).is_err());
    tell(&serval, Signal::TERM);
    let (ended, lines) = end(serval);
    assert_eq!(ended.code(), Some(3));
    assert!(lines.iter().any(|line| line.contains("what still ran was cut: a second signal came")), "{lines:#?}");
    cut.read_response().unwrap_err();
}

#[test]
fn what_has_not_ended_in_time_is_cut() {
    let home = with("0s", "200ms");
    let serval = started(&home);
    hold(&home);
    let mut cut = held(&home, &serval);
    let (ended, lines) = {
        tell(&serval, Signal::TERM);
        end(serval)
    };
    assert_eq!(ended.code(), Some(3));
    let is_said = |line: &String| line.contains("what still ran was cut") && line.contains("after shutdown_timeout");
    assert!(lines.iter().any(is_said), "{lines:#?}");
    cut.read_response().unwrap_err();
}

#[test]
fn what_has_begun_is_answered_to_its_end() {
    for delay in ["0s", "200ms"] {
        let home = with(delay, "10m");
        let serval = started(&home);
        hold(&home);
        let mut slow = held(&home, &serval);
        tell(&serval, Signal::TERM);
        wait_until("it is closed", || Connection::open(serval.address(), LONG).is_err());
        release(&home);
        let answer = slow.read_response().unwrap();
        assert_eq!((answer.status, answer.closes()), (200, true), "{delay}");
        let (ended, lines) = end(serval);
        assert!(ended.success(), "{delay}: {lines:#?}");
    }
}
