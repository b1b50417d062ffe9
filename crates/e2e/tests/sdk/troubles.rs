//! What goes wrong ends one request, and the log says where; and what the log says besides.

use crate::kitchen::{Kitchen, body};

/// Where `text` stands in that file: `src/faults.rs:7`.
fn place(file: &str, source: &str, text: &str) -> String {
    let line = source.lines().position(|line| line.contains(text)).unwrap() + 1;
    format!("src/{file}.rs:{line}")
}

fn in_faults(text: &str) -> String {
    place("faults", include_str!("webapp/faults.rs"), text)
}

/// The one line from `position` on that contains `text`; it has all of `parts`. It may come after the answer.
#[track_caller]
fn one_line(kitchen: &Kitchen, position: usize, text: &str, parts: &[&str]) {
    kitchen.serval.program().wait_for_line(position, crate::kitchen::LONG, |line| line.contains(text)).unwrap();
    let lines = kitchen.lines_with(position, text);
    assert_eq!(lines.len(), 1, "{text}: {:#?}", kitchen.serval.program().lines_from(position));
    for part in parts {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
}

#[test]
fn lines_of_each_way_to_log_have_their_request() {
    let kitchen = Kitchen::open_with("", "[log]\nformat = \"json\"");
    let position = kitchen.position();
    kitchen.check("/logs", 200, "logged");
    let lines = kitchen.lines_with(position, "by servlet 1");
    let request = lines[0].split([',', '{', '}']).find(|word| word.starts_with("\"request\":")).unwrap();
    const TARGET: &str = "\"target\":\"serval::servlet\"";
    for (level, text) in [
        ("WARN", "by servlet 1"),
        ("INFO", "kitchen: by log 2"),
        ("INFO", "till: by tracing count=3"),
        ("WARN", "order{id=7}: kitchen: after an await"),
    ] {
        one_line(&kitchen, position, text, &[level, TARGET, "\"context\":\"/app\"", "\"generation\":1", request]);
    }
    assert_eq!(kitchen.lines_with(position, "nobody asked"), Vec::<String>::new());
    kitchen.close();
}

#[test]
fn errors_become_statuses() {
    let kitchen = Kitchen::open();
    for (path, servlet) in [("/wrong", "servlet=wrong "), ("/wrong-async", "servlet=wrong_async ")] {
        kitchen.check(path, 200, "right");
        for (query, status, reason) in [
            ("io", 500, "io/not-found: No such file or directory"),
            ("parse", 500, "core/num/error/ParseIntError: invalid digit found in string"),
            ("404", 404, "no such dish"),
        ] {
            let position = kitchen.position();
            let answer = kitchen.get(&format!("{path}?{query}"));
            assert_eq!(answer.status, status, "{query}");
            assert!(!body(&answer).contains(reason), "only in development");
            if status == 500 {
                one_line(&kitchen, position, reason, &["ERROR", "context=/app", servlet, "generation=1", "request="]);
            }
        }
        let answer = kitchen.get(&format!("{path}?503"));
        let until = answer.header("retry-after");
        assert!(answer.status == 503 && until.is_some_and(|until| until.ends_with(" GMT")), "{until:?}");
        assert_eq!(kitchen.get(path).status, 503);
    }
    kitchen.check("/plain", 200, "fn -");
    kitchen.close();
}

/// A panic is a 500, or a cut answer, and one line; the connection, the servlet and the server go on.
#[test]
fn a_panic_ends_its_request() {
    let kitchen = Kitchen::open();
    for (path, name, text, status) in [
        ("/panics", "servlet=panics ", "in a servlet", 500),
        ("/panics-async", "servlet=panics_async ", "after an await", 500),
        ("/filtered/x?request", "`Fragile`", "in request", 500),
        ("/filtered/x?response", "`Fragile`", "in response", 500),
        ("/filtered/x?body", "`Fragile`", "in body", 500),
        ("/filtered/x?end", "`Fragile`", "in end", 200),
    ] {
        for _ in 0..2 {
            let position = kitchen.position();
            let mut connection = kitchen.connect();
            let answer = connection.get(&format!("/app{path}"));
            assert_eq!(answer.as_ref().map_or(0, |answer| answer.status), status, "{path}");
            assert!(!answer.is_ok_and(|answer| body(&answer).contains(text)), "only in development");
            assert_eq!(body(&kitchen.get("/filtered/x")), "PASSED", "after {path}");
            let place = in_faults(&format!("panic!(\"{text}\")"));
            let parts = ["ERROR", name, &place, "context=/app", "generation=1", "request=", "RUST_BACKTRACE=1"];
            one_line(&kitchen, position, text, &parts);
            assert_eq!(kitchen.lines_with(position, "ERROR").len(), 1, "{path}");
        }
    }
    kitchen.close();
}

/// What has no request has the generation and, where it is not the server's, the thread.
#[test]
fn a_panic_beside_the_requests_ends_what_it_is_in() {
    let mut kitchen = Kitchen::open();
    for (query, text, thread) in [
        ("future", "in a future", "on thread servlet-tokio"),
        ("thread", "in a thread", "on thread clumsy"),
        ("listener", "in a listener", "servlet=panics_beside"),
        ("job", "in a job", "on thread servlet-work"),
    ] {
        for _ in 0..2 {
            let position = kitchen.position();
            match query {
                "job" => kitchen.home.write("var/work/localhost/app/job", "").unwrap(),
                _ => kitchen.check(&format!("/panics-beside?{query}"), 200, "begun"),
            }
            let is_it = |line: &str| line.contains(text);
            kitchen.serval.program().wait_for_line(position, crate::kitchen::LONG, is_it).unwrap();
            let place = in_faults(&format!("panic!(\"{text}\")"));
            one_line(&kitchen, position, "ERROR", &[text, &place, thread, "/app", "generation=1"]);
        }
    }
    // What cannot be handed over is not: the next generation begins anew.
    kitchen.check("/visits", 200, "1");
    kitchen.home.write("var/work/localhost/app/carry", "").unwrap();
    let position = kitchen.position();
    kitchen.reload();
    kitchen.check("/visits", 200, "1");
    let in_carry = place("lib", include_str!("webapp/lib.rs"), "panic!(\"in carry\")");
    one_line(&kitchen, position, "ERROR", &["in carry", &in_carry, "/app", "generation=1"]);
    assert_eq!(kitchen.lines_with(position, "WARN"), Vec::<String>::new());
    kitchen.close();
}

#[test]
fn a_generation_that_cannot_start_is_refused() {
    let mut kitchen = Kitchen::open();
    let lib = crate::kitchen::libraries();
    let in_start = place("lib", include_str!("webapp/lib.rs"), "panic!(\"the kitchen burns\")");
    for (file, how, parts) in [
        ("start", "panic", vec!["its init failed", "the kitchen burns", &in_start]),
        ("start", "error", vec!["its init failed: the kitchen is closed"]),
        ("create", "panic", vec!["Fragile", "the filter breaks", &in_faults("panic!(\"the filter breaks\")")]),
    ] {
        let path = format!("var/work/localhost/app/{file}");
        kitchen.home.write(&path, how).unwrap();
        let position = kitchen.position();
        kitchen.replace(&lib[0]);
        let is_it = |line: &str| line.contains("the new generation is refused");
        kitchen.serval.program().wait_for_line(position, crate::kitchen::LONG, is_it).unwrap();
        kitchen.was_refused();
        one_line(&kitchen, position, "ERROR", &parts);
        one_line(&kitchen, position, "ERROR", &["context=/app", "generation 1 serves on"]);
        kitchen.check("/waits", 200, "generation 1");
        std::fs::remove_file(kitchen.home.path(&path)).unwrap();
    }
    let generation = kitchen.reload();
    kitchen.check("/waits", 200, &format!("generation {generation}"));
    kitchen.close();
}

#[test]
fn a_servlet_makes_the_page_for_what_went_wrong() {
    let page = |of: &str| format!("[[error_page]]\n{of}\nlocation = \"/failed\"\n");
    let pages = [page("status = 404"), page("kind = \"core/num\""), page("kind = \"panic\"")].concat();
    let kitchen = Kitchen::open_with(&pages, "");
    for (path, status, message, kind, servlet) in [
        ("/wrong?404", 404, "no such dish", "None", "wrong"),
        ("/wrong-async?404", 404, "no such dish", "None", "wrong_async"),
        ("/wrong?parse", 500, "invalid digit found in string", "Some(\"core/num/error/ParseIntError\")", "wrong"),
    ] {
        let (uri, query) = path.split_once('?').unwrap();
        let expected = format!(
            "Some(FailedRequest {{ status: {status}, message: {message:?}, kind: {kind}, uri: \"/app{uri}\", \
             query: Some({query:?}), method: \"GET\", servlet_name: {servlet:?} }})"
        );
        kitchen.check(path, status, &expected);
    }
    for path in ["/panics", "/panics-async"] {
        let answer = kitchen.get(path);
        assert!(answer.status == 500 && body(&answer).contains("kind: Some(\"panic\")"), "{path}: {}", body(&answer));
    }
    kitchen.check("/failed", 200, "None");
    kitchen.close();
}
