//! Listener functions (Servlet 11, SEMANTICS 17, 25): what they are told, in which order, and that each end is told once.

use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);

fn start() -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/src/listeners.c", include_str!("listeners.c")).unwrap();
    home.configure("[build]\nsources = true").unwrap();
    let serval = Serval::start(&home).unwrap();
    wait_until(&serval, "told last: context initialized");
    (home, serval)
}

/// Waits for what the last one to be told of it says.
#[track_caller]
fn wait_until(serval: &Serval, said: &str) {
    serval.wait_for_log(said, LONG).unwrap();
}

fn ask(serval: &Serval, query: &str) -> u16 {
    let deadline = Instant::now() + LONG;
    loop {
        let status = Connection::open(serval.address(), LONG).unwrap().get(&format!("/x/act?{query}")).unwrap().status;
        // Its listener functions are told before it takes over.
        if status != 503 || Instant::now() > deadline {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What was told, in order.
fn told(serval: &Serval) -> Vec<String> {
    let lines = serval.program().lines_from(0);
    assert!(!lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
    let told = lines.iter().filter_map(|line| Some(line.split_once("told ")?.1.split_once(';')?.0.to_owned()));
    told.collect()
}

/// Each line is told to both, in this order.
fn both(lines: &[&str]) -> Vec<String> {
    let is_end = |line: &str| line.contains(" destroyed");
    let order = |line: &str| if is_end(line) { ["last", "first"] } else { ["first", "last"] };
    lines.iter().flat_map(|line| order(line).map(|who| format!("{who}: {line}"))).collect()
}

const BEGIN: &str = "context initialized - - to -, a=-";
const REQUEST: &str = "request initialized - - to -, a=-";
const CREATED: &str = "session created - - to -, a=-";
const ADDED: &str = "session attribute a - to 1, a=1";
const REQUEST_OVER: &str = "request destroyed - - to -, a=-";
const END: &str = "context destroyed - - to -, a=-";
/// A session that ends, with an attribute of the value 1.
const ENDED: [&str; 2] = ["session destroyed - - to -, a=1", "session attribute a 1 to -, a=1"];

#[test]
fn everything_is_told_and_ends_in_reverse_order() {
    let (home, serval) = start();
    assert_eq!(ask(&serval, "all"), 200);
    wait_until(&serval, "told first: request destroyed");
    std::fs::remove_dir_all(home.path("webapps/x")).unwrap();
    wait_until(&serval, "told first: context destroyed");
    let expected = [
        BEGIN,
        REQUEST,
        CREATED,
        ADDED,
        "session attribute a 1 to 2, a=2",
        "session id changed - ID to -, a=2",
        "request attribute r - to 1, a=-",
        "context attribute c - to 1, a=-",
        "session destroyed - - to -, a=2",
        "session attribute a 2 to -, a=2",
        REQUEST_OVER,
        END,
    ];
    assert_eq!(told(&serval), both(&expected));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn filters_and_servlets_come_and_go_in_order() {
    let (_home, serval) = start();
    assert_eq!(ask(&serval, "one"), 200);
    let lines = serval.stop_and_read().unwrap();
    let said = lines.iter().filter_map(|line| {
        let end = line
            .split_once("life: ")
            .or_else(|| line.split_once("told first: ").filter(|(_, end)| end.starts_with("context")));
        Some(end?.1.split_once([';', '-'])?.0.trim())
    });
    let said: Vec<&str> = said.collect();
    let (begins, ends) = said.split_at(said.len() / 2);
    let expected = [
        "init module",
        "context initialized",
        "create filter_1",
        "create filter_2",
        "create servlet_1",
        "create servlet_2",
        "create servlet_last",
    ];
    assert_eq!(begins, expected);
    // In which order the servlets go is nobody's business, but that they go before the filters.
    let mut ends = ends.to_vec();
    ends[..3].sort_unstable();
    let expected = [
        "destroy servlet_1",
        "destroy servlet_2",
        "destroy servlet_last",
        "destroy filter_2",
        "destroy filter_1",
        "context destroyed",
        "destroy module",
    ];
    assert_eq!(ends, expected);
}

#[test]
fn a_session_whose_time_is_up_is_told_once() {
    let (home, serval) = start();
    assert_eq!(ask(&serval, "short"), 200);
    wait_until(&serval, "told last: session attribute a 1 to -");
    std::fs::remove_dir_all(home.path("webapps/x")).unwrap();
    wait_until(&serval, "told first: context destroyed");
    let expected = [&[BEGIN, REQUEST, CREATED, ADDED, REQUEST_OVER][..], &ENDED, &[END]].concat();
    assert_eq!(told(&serval), both(&expected));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn sessions_end_with_their_webapp_and_outlive_a_reload() {
    let (home, serval) = start();
    assert_eq!(ask(&serval, "one"), 200);
    wait_until(&serval, "told first: request destroyed");
    home.write("webapps/x/WEB-INF/src/listeners.c", format!("{}\n", include_str!("listeners.c"))).unwrap();
    wait_until(&serval, "told first: context destroyed");
    let before = [BEGIN, REQUEST, CREATED, ADDED, REQUEST_OVER, BEGIN, END];
    assert_eq!(told(&serval), both(&before), "the next one begins before the old one ends");
    std::fs::remove_dir_all(home.path("webapps/x")).unwrap();
    let after = both(&[&before[..], &ENDED, &[END]].concat());
    let deadline = Instant::now() + LONG;
    while told(&serval).len() < after.len() {
        assert!(Instant::now() < deadline, "{:#?}", told(&serval));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(told(&serval), after);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_listener_function_may_do_what_it_is_told_of() {
    let (_home, serval) = start();
    // Without an end.
    assert_eq!(ask(&serval, "loop"), 200);
    wait_until(&serval, "20 events are told inside of each other");
    // A session is ended while its attribute is set.
    assert_eq!(ask(&serval, "end"), 200);
    wait_until(&serval, "told first: session destroyed");
    // The next session is made while the one before ends, and the client gets to know it.
    let renewed = Connection::open(serval.address(), LONG).unwrap().get("/x/act?renew").unwrap();
    assert!(renewed.status == 200 && renewed.header("set-cookie").is_some(), "{renewed:?}");
    assert_eq!(ask(&serval, "one"), 200);
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
}
