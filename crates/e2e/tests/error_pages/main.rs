//! Who makes the page for what goes wrong, and what it says (SEMANTICS 9): over real sockets, with a library in C.

use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);

const WEB: &str = r#"
[[error_page]]
status = 409
location = "/page?of=409"
[[error_page]]
kind = "io"
location = "/quick"
[[error_page]]
status = 400
location = "/WEB-INF/bad.html"
[[error_page]]
status = 404
location = "/gone.html"
[[error_page]]
status = 405
location = "/quick"
[[error_page]]
status = 410
location = "/none.html"
[[error_page]]
status = 413
location = "/page?of=413"
[[error_page]]
status = 423
location = "/page?do=fail"
[[error_page]]
status = 424
location = "/page?do=error"
[[error_page]]
status = 500
location = "/page?do=respond"
[[error_page]]
status = 503
location = "/quick"
"#;

fn start(server: &str, web: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/src/errors.c", include_str!("errors.c")).unwrap();
    home.write("webapps/x/WEB-INF/web.toml", web).unwrap();
    home.write("webapps/x/WEB-INF/bad.html", "a bad request").unwrap();
    home.write("webapps/x/gone.html", "it has gone").unwrap();
    home.write("webapps/x/file.txt", "a file").unwrap();
    home.write("conf/rest.html", "it went wrong").unwrap();
    home.write("conf/host404.html", "nobody is here").unwrap();
    home.configure(&format!("[build]\nsources = true\n{server}")).unwrap();
    let serval = Serval::start(&home).unwrap();
    let deadline = Instant::now() + LONG;
    while get(&serval, "/x/wrong/").status != 200 {
        let lines = serval.program().lines_from(0);
        assert!(Instant::now() < deadline && !lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    (home, serval)
}

fn get(serval: &Serval, target: &str) -> Response {
    Connection::open(serval.address(), LONG).unwrap().get(target).unwrap()
}

/// Sends the first line and headers as they are.
fn ask(serval: &Serval, line: &str, headers: &str) -> Response {
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(format!("{line} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes()).unwrap();
    match line.starts_with("HEAD ") {
        true => connection.read_response_of_head().unwrap(),
        false => connection.read_response().unwrap(),
    }
}

fn text(answer: &Response) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

#[track_caller]
fn check(serval: &Serval, target: &str, status: u16, body: &str) {
    let answer = get(serval, target);
    assert_eq!((answer.status, &*text(&answer)), (status, body), "{target}");
}

/// The server's own page, which says nothing of the reason.
#[track_caller]
fn check_own(serval: &Serval, target: &str, status: u16) {
    let answer = get(serval, target);
    let text = text(&answer);
    assert_eq!(answer.status, status, "{target}");
    assert!(text.contains(&format!("<h1>HTTP Status {status} – ")) && !text.contains("<p>"), "{target}: {text}");
}

#[test]
fn servlets_make_pages_and_know_what_went_wrong() {
    let (_home, serval) = start("", WEB);
    let of_409 = |uri: &str, query: &str, method: &str| {
        format!(
            "8 GET error.status_code=409 error.message=no <way> error.request_uri={uri} error.query_string={query} \
             error.method={method} error.servlet_name=wrong forward.request_uri={uri}"
        )
    };
    check(&serval, "/x/wrong/a?status=409", 409, &of_409("/x/wrong/a", "status=409", "GET"));
    let posted = ask(&serval, "POST /x/wrong/a?status=409", "Content-Length: 0\r\n");
    assert_eq!((posted.status, text(&posted)), (409, of_409("/x/wrong/a", "status=409", "POST")));
    // Who is asked for is the one of the request, whoever was forwarded to; and what is included has no say.
    check(&serval, "/x/wrong/?as=forward", 409, &of_409("/x/wrong/", "as=forward", "GET"));
    check(&serval, "/x/wrong/?as=include", 200, "<lo>");
    // A status alone is no error.
    check(&serval, "/x/wrong/?as=own", 409, "own");

    let kept = get(&serval, "/x/wrong/?status=409");
    assert_eq!((kept.header("x-keep"), kept.header("content-type")), (Some("yes"), Some("application/lost")));
    let head = ask(&serval, "HEAD /x/wrong/a?status=409", "");
    assert_eq!((head.status, head.header("content-length").is_some()), (409, true));

    let kind = get(&serval, "/x/wrong/?as=kind");
    assert_eq!(kind.status, 500);
    assert!(text(&kind).contains("error.message=the disk is lost error.kind=io/not-found/deep "), "{}", text(&kind));
    // What answers with 200 by the way keeps the status of the error.
    check(&serval, "/x/wrong/guarded?fail=response", 500, "a whole page");

    let other = ask(&serval, "DELETE /x/wrong/", "");
    assert_eq!((other.status, other.header("allow")), (405, Some("GET, HEAD, POST, OPTIONS")));
    assert!(text(&other).starts_with("8 GET error.status_code=405 error.message= error.request_uri=/x/wrong/ "));
    let traced = ask(&serval, "TRACE /x/wrong/", "");
    assert!(traced.status == 405 && text(&traced).contains("error.method=TRACE"), "{}", text(&traced));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn servlets_make_pages_for_requests_with_large_bodies() {
    let (_home, serval) = start("[defaults.context]\nrequest_body_bytes_max = \"10B\"", WEB);
    for (line, status) in [("POST /x/wrong/", 413), ("DELETE /x/wrong/", 405), ("POST /x/later", 413)] {
        let answer = ask(&serval, line, "Content-Length: 11\r\n");
        let page = format!("8 GET error.status_code={status} ");
        assert_eq!((answer.status, text(&answer).starts_with(&page)), (status, true), "{line}: {}", text(&answer));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn files_are_pages_with_the_status_of_the_error() {
    let (_home, serval) = start("", WEB);
    check(&serval, "/x/none", 404, "it has gone");
    check(&serval, "/x/WEB-INF/bad.html", 404, "it has gone");
    check(&serval, "/x/wrong/?status=400", 400, "a bad request");
    check(&serval, "/x/wrong/?status=404", 404, "it has gone");
    assert_eq!(get(&serval, "/x/none").header("content-type"), Some("text/html; charset=utf-8"));
    for target in ["/x/none", "/x/wrong/?status=404"] {
        let page = ask(
            &serval,
            &format!("GET {target}"),
            "Range: bytes=1-2\r\nIf-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
        );
        assert_eq!((page.status, &*text(&page)), (404, "it has gone"), "{target}");
        let head = ask(&serval, &format!("HEAD {target}"), "");
        assert_eq!((head.status, head.header("content-length")), (404, Some("11")), "{target}");
    }
    let range = ask(&serval, "GET /x/file.txt", "Range: bytes=9-\r\n");
    assert_eq!((range.status, range.header("content-range")), (416, Some("bytes */6")));
    assert!(serval.stop().unwrap().success());
}

/// What the client has done is its own error, unless the servlet has words for it.
#[test]
fn a_body_that_is_too_long_is_the_clients_error_or_the_servlets() {
    let (_home, serval) = start("", "");
    let post = |query: &str| {
        let mut connection = Connection::open(serval.address(), LONG).unwrap();
        let head = format!("POST /x/wrong/?as={query} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345");
        connection.send(head.as_bytes()).unwrap();
        connection.read_response().unwrap().status
    };
    assert_eq!((post("long"), post("words")), (413, 500));
    serval.wait_for_log("a servlet failed: shop/too-big: the cart is full", LONG).unwrap();
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_page_that_is_missing_or_fails_leaves_the_status() {
    let (_home, serval) = start("", WEB);
    for status in [410, 423, 424] {
        check_own(&serval, &format!("/x/wrong/?status={status}"), status);
    }
    check_own(&serval, "/x/wrong/?status=409&fail=page", 409);
    let lines = serval.stop_and_read().unwrap();
    for why in ["there is no file /none.html", "the page is lost", "403 Forbidden: not for you"] {
        let is_it = |line: &String| line.contains("the error page") && line.contains(why);
        assert!(lines.iter().any(is_it), "{why}: {lines:#?}");
    }
}

#[test]
fn what_goes_wrong_later_has_a_page_too() {
    let (_home, serval) = start("", WEB);
    let task = get(&serval, "/x/wrong/?as=task");
    assert!(task.status == 500 && text(&task).contains("error.kind=io "), "{}", text(&task));
    for target in ["/x/wrong/?as=slow", "/x/wrong/?as=detached"] {
        check(&serval, target, 500, "a whole page");
    }
    // The page is what the rest of a broken answer is, and the connection is cut behind it.
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"GET /x/wrong/?as=late HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let raw = String::from_utf8(connection.read_to_close().unwrap()).unwrap();
    assert!(raw.contains("partial ") && raw.contains("a whole page") && !raw.ends_with("0\r\n\r\n"), "{raw}");

    let unavailable = get(&serval, "/x/later?as=unavailable");
    assert_eq!(unavailable.status, 503);
    assert!(unavailable.header("retry-after").is_some_and(|until| until.ends_with(" GMT")), "{unavailable:?}");
    assert!(text(&unavailable).contains("error.message=counting"), "{}", text(&unavailable));
    let still = get(&serval, "/x/later");
    assert!(still.status == 503 && text(&still).contains("error.servlet_name=later"), "{}", text(&still));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_servlet_that_was_unavailable_for_a_second_is_asked_again() {
    let (_home, serval) = start("", "");
    check_own(&serval, "/x/later?as=briefly", 503);
    let deadline = Instant::now() + LONG;
    while get(&serval, "/x/later").status == 503 {
        assert!(Instant::now() < deadline, "it is unavailable still");
        std::thread::sleep(Duration::from_millis(10));
    }
    check(&serval, "/x/later", 200, "fine");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn filters_of_the_type_error_see_pages() {
    let (_home, serval) = start("", WEB);
    let trail = |target: &str| {
        let answer = get(&serval, target);
        let of_trail = answer.headers.iter().filter(|(name, _)| name == "x-trail").map(|(_, value)| value.clone());
        (answer.status, of_trail.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(trail("/x/wrong/guarded?status=409"), (409, "1 8".to_owned()));
    assert_eq!(trail("/x/wrong/?status=409"), (409, "8".to_owned()));
    assert_eq!(trail("/x/wrong/?status=404"), (404, String::new()));
    let failed = get(&serval, "/x/wrong/guarded?fail=request");
    assert!(failed.status == 500 && text(&failed).contains("error.kind=io/guard"), "{}", text(&failed));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn without_a_page_it_is_the_servers_own() {
    let (_home, serval) = start("", "");
    for (target, status) in
        [("/x/none", 404), ("/x/wrong/?status=409", 409), ("/x/wrong/?as=kind", 500), ("/none", 404)]
    {
        check_own(&serval, target, status);
        let json = ask(&serval, &format!("GET {target}"), "Accept: application/json\r\n");
        let start = format!("{{\"status\":{status},\"title\":");
        assert_eq!(json.header("content-type"), Some("application/problem+json"), "{target}");
        assert!(
            json.status == status && text(&json).starts_with(&start) && !text(&json).contains("detail"),
            "{}",
            text(&json)
        );
        assert_eq!((json.header("vary"), get(&serval, target).header("vary")), (Some("accept"), Some("accept")));
    }
    assert!(serval.stop().unwrap().success());

    let (_home, serval) = start("[server]\ndevelopment = true", "");
    let page = text(&get(&serval, "/x/wrong/?status=409"));
    assert!(page.contains("<p>no &lt;way&gt;</p>"), "{page}");
    let page = text(&get(&serval, "/x/wrong/?as=kind"));
    assert!(page.contains("<p>the disk is lost</p>") && page.contains("io/not-found/deep"), "{page}");
    let json = text(&ask(&serval, "GET /x/wrong/?as=kind", "Accept: application/problem+json\r\n"));
    assert!(
        json.contains(r#""detail":"the disk is lost""#) && json.contains(r#""kind":"io/not-found/deep""#),
        "{json}"
    );
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_webapp_hides_its_reasons_and_a_host_has_pages_of_its_own() {
    let pages =
        "[server]\ndevelopment = true\n[[host]]\n[[host.error_page]]\nstatus = 404\nfile = \"conf/host404.html\"";
    let (_home, serval) = start(pages, "[error_report]\nreason = false\n");
    check_own(&serval, "/x/wrong/?status=409", 409);
    for target in ["/x/none", "/none", "/x/wrong/?status=404", "/x/WEB-INF/x"] {
        check(&serval, target, 404, "nobody is here");
    }
    assert_eq!(get(&serval, "/none").header("content-type"), Some("text/html; charset=utf-8"));
    assert!(serval.stop().unwrap().success());

    // One without a status is for all the others.
    let rest = format!("{pages}\n[[host.error_page]]\nfile = \"conf/rest.html\"");
    let (_home, serval) = start(&rest, "");
    check(&serval, "/x/none", 404, "nobody is here");
    for (target, status) in [("/x/wrong/?status=409", 409), ("/x/wrong/?as=kind", 500)] {
        check(&serval, target, status, "it went wrong");
    }
    assert!(serval.stop().unwrap().success());
}
