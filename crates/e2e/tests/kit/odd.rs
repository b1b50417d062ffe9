//! The edges of the table, as servlet.h says: wrong use, other threads, time-outs, and clients that go.

use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};

use super::{LONG, compile, here, table, wait_for};

#[test]
fn the_edges_are_as_the_header_says() {
    let home = Home::new().unwrap();
    compile(&home, &here().join("odd.c"), "odd");
    let serval = Serval::start(&home).unwrap();
    wait_for(&serval, "/odd/late");
    let conversations = table::read(include_str!("odd.txt"));
    let results = conversations.iter().map(|conversation| conversation.run(serval.address(), "/odd"));
    let wrong: Vec<String> = results.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}\n{:#?}", wrong.join("\n\n"), serval.program().lines_from(0));
    for text in [
        "status after it: STATE",
        "write after it: STATE",
        "respond after it: STATE",
        "complete again: STALE",
        "async_dispatch again: STATE",
    ] {
        serval.wait_for_log(text, LONG).unwrap();
    }

    // The last conversation ended in a time-out; its thread was told and saw it.
    let deadline = Instant::now() + LONG;
    while late(&serval) == "waiting" {
        assert!(Instant::now() < deadline, "nobody is told that the time is up");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(late(&serval), ended("TIMEOUT"));
    // A client that goes.
    let mut gone = Connection::open(serval.address(), LONG).unwrap();
    gone.send(b"GET /odd/timed-out?none HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    while late(&serval) != "waiting" {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(gone);
    while late(&serval) == "waiting" {
        assert!(Instant::now() < deadline, "nobody is told that the client has gone");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(late(&serval), ended("CLOSED"));
    assert!(serval.stop().unwrap().success());
}

/// What the functions of a detached exchange answer that is not waited for any more.
fn ended(why: &str) -> String {
    format!(
        "parameter: NONE\nrespond: {why}\nflush: {why}\nwrite: {why}\n\
         cancelled: OK\ncomplete: OK\ncomplete again: STALE\n"
    )
}

fn late(serval: &Serval) -> String {
    let answer = Connection::open(serval.address(), LONG).unwrap().get("/odd/late").unwrap();
    String::from_utf8(answer.body).unwrap()
}
