//! The access log of the real program: what is logged of which request, and what becomes of its file (SEMANTICS 20, 21).

use std::fs;
use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);
const LOG: &str = "var/log/localhost.access.log";

/// Two webapps: one of files, and one with a servlet.
fn start(access_log: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/l/file.txt", "content").unwrap();
    home.write("webapps/l/large.bin", vec![7; 64 << 20]).unwrap();
    home.write("webapps/s/file.txt", "content").unwrap();
    home.write("webapps/s/WEB-INF/src/log.c", include_str!("access_log.c")).unwrap();
    home.configure(&format!("[build]\nsources = true\n[access_log]\n{access_log}")).unwrap();
    let serval = Serval::start(&home).unwrap();
    (home, serval)
}

/// Sends a request on a connection of its own, and reads what comes.
fn ask(serval: &Serval, request: &str) -> u16 {
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(request.as_bytes()).unwrap();
    let head = request.starts_with("HEAD ");
    let answer = if head { connection.read_response_of_head() } else { connection.read_response() };
    answer.unwrap().status
}

fn get(serval: &Serval, target: &str) -> u16 {
    ask(serval, &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// Asks until the servlet is built.
fn wait_for_servlet(serval: &Serval) {
    let deadline = Instant::now() + LONG;
    while get(serval, "/s/log") != 200 {
        assert!(Instant::now() < deadline, "{:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the log has lines of which this is true, and returns them.
#[track_caller]
fn lines(home: &Home, are_there: impl Fn(&[String]) -> bool) -> Vec<String> {
    let deadline = Instant::now() + LONG;
    loop {
        let text = fs::read_to_string(home.path(LOG)).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if text.ends_with('\n') && are_there(&lines) {
            return lines;
        }
        assert!(Instant::now() < deadline, "the log has {lines:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn whatever_is_answered_is_logged() {
    let (home, serval) = start("pattern = '%m %U %q %H %s %b %X %{Host}i'");
    let host = "HTTP/1.1\r\nHost: localhost\r\n";
    let unknown = "TE: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    for (request, expected) in [
        (format!("GET /l/file.txt?a=%22 {host}\r\n"), "GET /l/file.txt ?a=%22 HTTP/1.1 200 7 + localhost"),
        (format!("GET /l/file.txt {host}Connection: close\r\n\r\n"), "GET /l/file.txt - HTTP/1.1 200 7 - localhost"),
        (format!("HEAD /l/file.txt {host}\r\n"), "HEAD /l/file.txt - HTTP/1.1 200 - + localhost"),
        ("GET /l/file.txt HTTP/1.0\r\n\r\n".to_owned(), "GET /l/file.txt - HTTP/1.0 200 7 - -"),
        (format!("GET /l {host}\r\n"), "GET /l - HTTP/1.1 302 - + localhost"),
        (format!("OPTIONS * {host}\r\n"), "OPTIONS * - HTTP/1.1 200 - + localhost"),
        ("GET /l/file.txt HTTP/1.1\r\nHost: no host\r\n\r\n".to_owned(), "GET /l/file.txt - HTTP/1.1 400 # - no host"),
        (format!("GET /l/%2e%2e/x {host}\r\n"), "GET /l/%2e%2e/x - HTTP/1.1 400 # - localhost"),
        (format!("GET /nowhere {host}\r\n"), "GET /nowhere - HTTP/1.1 404 # + localhost"),
        (format!("GET /l/none {host}\r\n"), "GET /l/none - HTTP/1.1 404 # + localhost"),
        (format!("POST /l/ {host}{unknown}"), "POST /l/ - HTTP/1.1 501 # - -"),
    ] {
        let before = fs::read_to_string(home.path(LOG)).unwrap_or_default().lines().count();
        ask(&serval, &request);
        let line = lines(&home, |lines| lines.len() > before).pop().unwrap();
        let (left, right) = expected.split_once('#').unwrap_or((expected, ""));
        let inside = line.strip_prefix(left).and_then(|rest| rest.strip_suffix(right));
        let inside = inside.unwrap_or_else(|| panic!("{request:?} gave {line:?}"));
        // A page, of some bytes, or none.
        assert!(inside.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'), "{request:?} gave {line:?}");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_a_client_gives_up_is_marked() {
    let (home, serval) = start("pattern = '%U %X %B'");
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"GET /l/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    connection.read_response_of_head().unwrap();
    connection.reset().unwrap();
    let line = lines(&home, |lines| !lines.is_empty()).remove(0);
    let sent = line.strip_prefix("/l/large.bin X ").unwrap_or_else(|| panic!("{line}"));
    assert!(sent.parse::<u64>().unwrap() < 64 << 20, "{line}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_servlet_is_logged_with_its_session_and_its_attributes() {
    let (home, serval) = start("pattern = '%q %s %b %{X-Out}o %{quiet}r %{in}s %S'\ncondition_unless = 'health'");
    wait_for_servlet(&serval);
    get(&serval, "/s/log?health");
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    let cookie = connection.get("/s/log?session").unwrap().header("set-cookie").unwrap().to_owned();
    let cookie = cookie.split(';').next().unwrap();
    ask(&serval, &format!("GET /s/file.txt?file HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"));
    get(&serval, "/s/log?plain");
    // A line comes when its exchange is over, which may be after the answer, and so after the line of the next request.
    assert!(serval.stop().unwrap().success());
    let text = fs::read_to_string(home.path(LOG)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let of = |query: &str| lines.iter().find_map(|line| line.strip_prefix(query));
    assert_eq!(of("?plain"), Some(" 200 5 out an\\\"other - -"));
    assert_eq!(of("?health"), None);
    let id = cookie.split_once('=').unwrap().1;
    assert_eq!(of("?session"), Some(&*format!(" 200 5 out an\\\"other value {id}")));
    assert_eq!(of("?file"), Some(&*format!(" 200 7 - - value {id}")));
}

#[test]
fn the_client_behind_a_proxy_is_logged_if_the_log_says_so() {
    let more = "[defaults.context.remote_ip]\nhost_header = 'X-Forwarded-Host'";
    let (home, serval) = start(&format!("pattern = '%a %h %{{peer}}a %v %p'\nuse_remote_ip = true\n{more}"));
    let proxy = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\n";
    ask(&serval, &format!("GET /l/file.txt HTTP/1.1\r\nHost: localhost\r\n{proxy}\r\n"));
    assert_eq!(lines(&home, |lines| !lines.is_empty()), ["198.51.100.7 198.51.100.7 127.0.0.1 shop.test 443"]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_json_line_is_an_object() {
    let (home, serval) = start("format = 'json'\npattern = 'combined'");
    ask(&serval, "GET /l/file.txt HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\"\\\t\u{e4}\r\n\r\n");
    let line = lines(&home, |lines| !lines.is_empty()).remove(0);
    let object: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(object["host"], "127.0.0.1");
    assert_eq!(object["request"], "GET /l/file.txt HTTP/1.1");
    assert_eq!(object["statusCode"], "200");
    assert_eq!(object["size"], "7");
    assert_eq!(object["requestHeaders"]["Referer"], "-");
    // What was sent, byte by byte.
    assert_eq!(object["requestHeaders"]["User-Agent"], "a\"\\\t\u{c3}\u{a4}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_file_is_put_aside_when_it_is_full_and_made_anew_when_it_was_moved() {
    let (home, serval) = start("pattern = '%{User-Agent}i'\nrotate_bytes = '64KiB'\nkeep = 2");
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    let agent = "x".repeat(4000);
    for agent in (0..100).map(|_| agent.as_str()).chain(["last"]) {
        let request = format!("GET /l/file.txt HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {agent}\r\n\r\n");
        connection.send(request.as_bytes()).unwrap();
        assert_eq!(connection.read_response().unwrap().status, 200);
    }
    lines(&home, |lines| lines.last().is_some_and(|line| line == "last"));
    let files: Vec<_> =
        fs::read_dir(home.path("var/log")).unwrap().map(|entry| entry.unwrap().metadata().unwrap()).collect();
    assert_eq!(files.len(), 3, "{files:#?}");
    assert!(files.iter().all(|file| (1..=64 << 10).contains(&file.len())), "{files:#?}");
    fs::rename(home.path(LOG), home.path("var/log/moved")).unwrap();
    get(&serval, "/l/file.txt");
    assert_eq!(lines(&home, |lines| !lines.is_empty()), ["-"]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_last_requests_are_in_the_log_after_a_stop() {
    let (home, serval) = start("pattern = '%s'");
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    for _ in 0..500 {
        connection.get("/l/file.txt").unwrap();
    }
    drop(connection);
    assert!(serval.stop().unwrap().success());
    assert_eq!(fs::read_to_string(home.path(LOG)).unwrap(), "200\n".repeat(500));
}
