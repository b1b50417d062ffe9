//! Filters, listener functions, and dispatches inside of a dispatch (SEMANTICS 10, 11).

use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);

fn start(web: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/src/filters.c", include_str!("filters.c")).unwrap();
    home.write("webapps/x/WEB-INF/web.toml", web).unwrap();
    home.write("webapps/x/file.txt", "a file").unwrap();
    home.write("webapps/x/text", "text, ").unwrap();
    home.write("webapps/x/inner", ", inner").unwrap();
    home.write("webapps/x/up/file.txt", "a file").unwrap();
    home.write("webapps/x/up/large.txt", "0123456789abcdef".repeat(20_000)).unwrap();
    home.configure("[build]\nsources = true").unwrap();
    let serval = Serval::start(&home).unwrap();
    let deadline = Instant::now() + LONG;
    while get(&serval, "/x/counts").status != 200 {
        let lines = serval.program().lines_from(0);
        assert!(Instant::now() < deadline && !lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    (home, serval)
}

fn get(serval: &Serval, target: &str) -> Response {
    Connection::open(serval.address(), LONG).unwrap().get(target).unwrap()
}

fn trail(answer: &Response) -> Vec<&str> {
    answer.headers.iter().filter(|(name, _)| name == "x-trail").map(|(_, value)| value.as_str()).collect()
}

#[track_caller]
fn check(serval: &Serval, target: &str, status: u16, body: &str, expected: &[&str]) {
    let answer = get(serval, target);
    assert_eq!(answer.status, status, "{target}");
    assert_eq!(String::from_utf8_lossy(&answer.body), body, "{target}");
    assert_eq!(trail(&answer), expected, "{target}");
}

const BOTH: [&str; 2] = ["trace:request", "trace:response 200"];

#[test]
fn filters_see_every_kind_of_answer() {
    let (_home, serval) = start("");
    check(&serval, "/x/text", 200, "plain 1", &BOTH);
    check(&serval, "/x/up/text", 200, "PLAIN 1!", &BOTH);
    check(&serval, "/x/up/text?as=flushed", 200, "AB!", &BOTH);
    check(&serval, "/x/file.txt", 200, "a file", &BOTH);
    check(&serval, "/x/up/file.txt", 200, "A FILE!", &BOTH);
    check(&serval, "/x/text?block=yes", 299, "blocked", &["trace:request"]);
    let long = get(&serval, "/x/up/text?as=long");
    assert_eq!(String::from_utf8(long.body).unwrap(), "0123456789ABCDEF".repeat(10_000) + "!");
    let large = get(&serval, "/x/up/large.txt");
    assert_eq!(String::from_utf8(large.body).unwrap(), "0123456789ABCDEF".repeat(20_000) + "!");
    for (target, status) in [("/x/text?as=error", 404), ("/x/none", 404), ("/x/text?as=failure", 500)] {
        let answer = get(&serval, target);
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(trail(&answer), ["trace:request", &format!("trace:response {status}")], "{target}");
    }
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"HEAD /x/up/text HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let head = connection.read_response_of_head().unwrap();
    assert_eq!((head.status, trail(&head).len()), (200, 2));
    assert_eq!(connection.get("/x/text").unwrap().body, b"plain 1");
    assert!(serval.stop().unwrap().success());
}

/// A filter that asks for the request for the first time inside of a forward still has it when the forward is over.
#[test]
fn what_a_filter_has_seen_of_a_forward_stays_until_its_end() {
    let (_home, serval) = start("");
    for _ in 0..20 {
        check(&serval, "/x/text?as=forward&look=late", 200, "PLAIN 2!", &BOTH);
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_that_is_changed_has_no_length_of_before() {
    let (_home, serval) = start("");
    // What is written past the length is dropped, and that is no error.
    check(&serval, "/x/text?as=length", 200, "abc", &BOTH);
    check(&serval, "/x/up/text?as=length", 200, "ABC!", &BOTH);
    for (target, length) in [("/x/text", Some("7")), ("/x/up/text", None), ("/x/up/text?as=length", None)] {
        let mut connection = Connection::open(serval.address(), LONG).unwrap();
        connection.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let head = connection.read_response_of_head().unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, length), "{target}");
        assert_eq!(connection.get("/x/text").unwrap().body, b"plain 1");
    }
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
}

#[test]
fn a_session_that_a_filter_makes_is_told_to_the_client() {
    let (_home, serval) = start("");
    let answer = get(&serval, "/x/text?make=session");
    assert!(answer.header("set-cookie").is_some_and(|cookie| cookie.starts_with("JSESSIONID=")), "{answer:?}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_filter_that_fails_in_a_hook_ends_only_its_request() {
    let (_home, serval) = start("");
    assert_eq!(get(&serval, "/x/text?fail=request").status, 500);
    assert_eq!(get(&serval, "/x/text?fail=response").status, 500);
    assert_eq!(get(&serval, "/x/up/text?fail=body").status, 500);
    // After the commit there is only a cut.
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"GET /x/up/text?as=long&fail=body HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(connection.read_response().is_err());
    for name in ["trace", "upper"] {
        let line = serval.wait_for_log(&format!("the filter `{name}`"), LONG).unwrap();
        assert!(line.contains("/x") && line.contains("request="), "{line}");
    }
    // A session that was made before is not lost.
    let failed = get(&serval, "/x/text?as=visitor&fail=response");
    assert!(failed.status == 500 && failed.header("set-cookie").is_some_and(|set| set.starts_with("JSESSIONID=")));
    check(&serval, "/x/text", 200, "plain 1", &BOTH);
    // on_end for each one that had let its request pass, whatever came of it; the one that is under way is not over. The one before
    // may have been answered and not be over yet.
    let deadline = Instant::now() + LONG;
    loop {
        let counts = String::from_utf8(get(&serval, "/x/counts").body).unwrap();
        let numbers: Vec<usize> = counts.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
        let (ends, begun, over) = (numbers[0], numbers[1], numbers[2]);
        if (begun, ends) == (over + 1, over - 1) {
            break;
        }
        assert!(Instant::now() < deadline, "{counts}: one did not let its request pass");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn web_toml_orders_and_maps_filters() {
    let web = r#"
        [[filter]]
        name = "first"
        class = "trace"
        order = 1
        url_patterns = ["/text"]

        [[filter]]
        name = "trace"
        order = 5
        [[filter.map]]
        servlets = ["text"]
        [[filter.map]]
        url_patterns = ["*.txt"]

        [[filter]]
        name = "upper"
        enabled = false
    "#;
    let (_home, serval) = start(web);
    let both = ["first:request", "trace:request", "trace:response 200", "first:response 200"];
    check(&serval, "/x/text", 200, "plain 1", &both);
    check(&serval, "/x/up/text", 200, "plain 1", &BOTH);
    check(&serval, "/x/file.txt", 200, "a file", &BOTH);
    assert!(trail(&get(&serval, "/x/counts")).is_empty());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn dispatches_pass_the_filters_of_their_kind() {
    let (_home, serval) = start("");
    check(&serval, "/x/text?as=forward", 200, "PLAIN 2!", &BOTH);
    // By name the files are asked for the path of before; a forward inside of an include asks for its own.
    check(&serval, "/x/text?as=files", 200, "text, a file, inner", &BOTH);
    // The filters of a forward are those of its own path, whatever was included before.
    check(&serval, "/x/text?as=both", 200, "PLAIN 2!", &BOTH);
    // After an error nothing has changed: the servlet that fails is this one.
    assert_eq!(get(&serval, "/x/text?as=wrong").status, 500);
    let line = serval.wait_for_log("a servlet failed", LONG).unwrap();
    assert!(line.contains("servlet=text") || line.contains("servlet=\"text\""), "{line}");
    check(&serval, "/x/text?as=include", 200, "<plain 4a filenamed>", &BOTH);
    // The included one is changed alone, and then with all the rest.
    check(&serval, "/x/up/text?as=include", 200, "<PLAIN 4!A FILENAMED>!", &BOTH);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_servlet_that_forwards_to_itself_is_ended() {
    let (_home, serval) = start("");
    assert_eq!(get(&serval, "/x/text?as=circle").status, 500);
    check(&serval, "/x/text?as=circles", 200, "circles 21", &BOTH);
    let lines = serval.stop_and_read().unwrap();
    let named = |line: &&String| line.contains("a servlet failed") && line.contains("servlet=text ");
    let named: Vec<&String> = lines.iter().filter(named).collect();
    assert!(matches!(named[..], [line] if line.contains("20 dispatches")), "{lines:#?}");
}

#[test]
fn what_is_included_answers_no_method_in_its_includers_place() {
    let (_home, serval) = start("");
    check(&serval, "/x/text?as=around", 299, "<named>", &["trace:request", "trace:response 299"]);
    for method in ["OPTIONS", "PUT"] {
        let mut connection = Connection::open(serval.address(), LONG).unwrap();
        connection.send(format!("{method} /x/text?as=around HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, &*answer.body, answer.header("allow")), (299, &b"<>"[..], None), "{method}");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn filters_see_the_end_of_what_is_written_before_another_dispatch_goes_on() {
    let (_home, serval) = start("");
    check(&serval, "/x/again", 200, "abplain 16", &["trace:request"]);
    check(&serval, "/x/up/again", 200, "AB!plain 16", &BOTH);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn listener_functions_are_told() {
    let (_home, serval) = start("");
    let counts = || String::from_utf8(get(&serval, "/x/counts").body).unwrap();
    assert!(counts().ends_with("sessions 0, attributes 0"), "{}", counts());
    let answer = get(&serval, "/x/text?as=session");
    assert_eq!((answer.status, answer.header("set-cookie")), (200, None), "it was ended in the same request");
    assert!(counts().ends_with("sessions 101, attributes 201"), "{}", counts());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_listener_function_refuses_a_request() {
    let (_home, serval) = start("");
    let answer = get(&serval, "/x/text?refuse=yes");
    assert_eq!(answer.status, 500);
    assert!(trail(&answer).is_empty(), "no filter has seen it");
    let line = serval.wait_for_log("a servlet failed", LONG).unwrap();
    assert!(line.contains("door: it is shut"), "{line}");
    // The others were told of it all the same, and of its end.
    assert_eq!(get(&serval, "/x/counts").status, 200);
    check(&serval, "/x/text", 200, "plain 1", &BOTH);
    assert!(serval.stop().unwrap().success());
}
