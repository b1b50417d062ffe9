//! The static servlet and its settings, `[files]` of web.toml, over real sockets.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

const SHORT: Duration = Duration::from_secs(60);
const BODY_BYTES_MAX: usize = 100_000;

/// A server with one webapp, `w`, that has these files and this web.toml.
fn serve(web: &str, files: &[(&str, &[u8])]) -> (Home, Serval) {
    let home = Home::new().unwrap();
    let server = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[defaults.context]\nrequest_body_bytes_max = {BODY_BYTES_MAX}\n"
    );
    home.configure(&server).unwrap();
    home.write("webapps/w/WEB-INF/web.toml", web).unwrap();
    for (name, content) in files {
        home.write(&format!("webapps/w/{name}"), content).unwrap();
    }
    let serval = Serval::start(&home).unwrap();
    (home, serval)
}

/// Sends a head, of which `lines` are all but the first and Host, and a body.
fn ask(serval: &Serval, request: &str, lines: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(serval.address(), SHORT).unwrap();
    let framing = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let lines: String = lines.lines().map(|line| format!("{line}\r\n")).collect();
    let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{framing}{lines}\r\n");
    connection.send(&[head.as_bytes(), body].concat()).unwrap();
    match request.starts_with("HEAD") {
        true => connection.read_response_of_head().unwrap(),
        false => connection.read_response().unwrap(),
    }
}

#[track_caller]
fn check(serval: &Serval, request: &str, lines: &str, body: &str, expected: u16) {
    let answer = ask(serval, request, lines, body.as_bytes());
    assert_eq!(answer.status, expected, "{request} {lines}");
}

#[track_caller]
fn check_allow(serval: &Serval, request: &str, expected: u16, allow: &str) {
    let answer = ask(serval, request, "", b"");
    assert_eq!((answer.status, answer.header("allow")), (expected, Some(allow)), "{request}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_are_put_and_deleted() {
    let files: [(&str, &[u8]); 3] = [("a.txt", b"Starting text"), ("c.txt", b"c"), ("dir/x", b"x")];
    let (home, serval) = serve("[files]\nwritable = true\n", &files);
    let read = |name: &str| fs::read_to_string(home.path("webapps/w").join(name)).unwrap();

    check(&serval, "PUT /w/new.txt", "", "new content", 201);
    assert_eq!(ask(&serval, "GET /w/new.txt", "", b"").body, b"new content");
    check(&serval, "PUT /w/new.txt", "", "other", 204);
    assert_eq!(ask(&serval, "GET /w/new.txt", "", b"").body, b"other");
    check(&serval, "PUT /w/a.txt", "Content-Range: bytes 0-7/13", "Ending *", 204);
    assert_eq!(read("a.txt"), "Ending * text");
    check(&serval, "PUT /w/a.txt", "Content-Range: bytes 0-7/*", "Ending *", 400);
    check(&serval, "PUT /w/a.txt", "Content-Range: bytes 0-1/13", "Ending *", 400);
    check(&serval, "PUT /w/c.txt", "If-None-Match: *", "n", 412);
    check(&serval, "PUT /w/dir", "", "n", 409);
    check(&serval, "PUT /w/none/x", "", "n", 409);
    check(&serval, "PUT /w/.hidden", "", "n", 404);
    check(&serval, "PUT /w/WEB-INF/x", "", "n", 404);
    check(&serval, "DELETE /w/WEB-INF/web.toml", "", "", 404);
    check(&serval, "DELETE /w/c.txt", "If-Match: \"x\"", "", 412);
    check(&serval, "DELETE /w/c.txt", "", "", 204);
    check(&serval, "DELETE /w/c.txt", "", "", 404);
    check(&serval, "GET /w/c.txt", "", "", 404);
    check_allow(&serval, "DELETE /w/dir", 405, "OPTIONS, GET, HEAD, POST, PUT, DELETE");
    check_allow(&serval, "OPTIONS /w/none", 200, "OPTIONS, GET, HEAD, POST, PUT, DELETE");
    assert_eq!(names(&home.path("webapps/w")), ["WEB-INF", "a.txt", "dir", "new.txt"]);
    assert_eq!(names(&home.path("webapps/w/WEB-INF")), ["web.toml"]);
}

#[test]
fn an_upload_that_is_too_long_or_cut_changes_nothing() {
    let (home, serval) = serve("[files]\nwritable = true\n", &[("a.txt", b"old")]);
    let folder = home.path("webapps/w");
    let all = vec![b'x'; BODY_BYTES_MAX];
    assert_eq!(ask(&serval, "PUT /w/long", "", &all).status, 201);
    assert_eq!(fs::read(folder.join("long")).unwrap(), all);

    let mut connection = Connection::open(serval.address(), SHORT).unwrap();
    let head = format!("PUT /w/a.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
    connection.send(head.as_bytes()).unwrap();
    let answer = connection.read_response().unwrap();
    assert_eq!((answer.status, answer.closes()), (413, true));

    let mut connection = Connection::open(serval.address(), SHORT).unwrap();
    let head = "PUT /w/a.txt HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", BODY_BYTES_MAX + 1, "x".repeat(BODY_BYTES_MAX + 1));
    connection.send(&[head.as_bytes(), chunk.as_bytes(), b"0\r\n\r\n"].concat()).unwrap();
    assert_eq!(connection.read_response().unwrap().status, 413);

    let mut connection = Connection::open(serval.address(), SHORT).unwrap();
    connection.send(b"PUT /w/a.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    let until = Instant::now() + SHORT;
    let uploads = || names(&folder).iter().filter(|name| name.starts_with(".serval-put-")).count();
    while uploads() == 0 {
        assert!(Instant::now() < until, "the upload has not begun");
        std::thread::yield_now();
    }
    connection.reset().unwrap();
    while uploads() > 0 {
        assert!(Instant::now() < until, "the temporary file has stayed");
        std::thread::yield_now();
    }
    assert_eq!(fs::read(folder.join("a.txt")).unwrap(), b"old");
}

#[test]
fn methods_of_files_that_cannot_be_changed() {
    let (_home, serval) = serve("[files]\npost_as_get = false\n", &[("a.txt", b"text"), ("dir/x", b"x")]);
    for request in ["PUT /w/a.txt", "DELETE /w/none", "POST /w/a.txt", "PATCH /w/a.txt"] {
        check_allow(&serval, request, 405, "OPTIONS, GET, HEAD");
    }
    check(&serval, "BREW /w/a.txt", "", "", 501);
    let (_home, serval) = serve("", &[("a.txt", b"text"), ("dir/x", b"x")]);
    check_allow(&serval, "PUT /w/a.txt", 405, "OPTIONS, GET, HEAD, POST");
    let answer = ask(&serval, "POST /w/a.txt", "Range: bytes=0-1", b"a=b");
    assert_eq!((answer.status, &*answer.body), (200, &b"text"[..]));
    for (target, location) in [("/w/dir?a=b&c", "/w/dir/?a=b&c"), ("//w/dir", "/w/dir/"), ("/w/dir?", "/w/dir/?")] {
        let answer = ask(&serval, &format!("GET {target}"), "", b"");
        assert_eq!((answer.status, answer.header("location")), (302, Some(location)), "{target}");
    }
    check(&serval, "GET /w/dir/", "", "", 404);
    check(&serval, "GET /w/a.txt/", "", "", 404);
}

#[test]
fn a_single_page_application_answers_for_its_paths() {
    let page: [(&str, &[u8]); 2] = [("app/index.html", b"page"), ("assets/x.js", b"1")];
    let (_home, serval) = serve("[files]\nfallback = \"app/index.html\"\n", &page);
    let ask_for = |target: &str, accept: &str| {
        let answer = ask(&serval, &format!("GET {target}"), &format!("Accept: {accept}"), b"");
        (answer.status, answer.body)
    };
    for (target, accept) in [
        ("/w/users", "*/*"),
        ("/w/users/7/", "*/*"),
        ("/w/", "text/html"),
        ("/w/assets/", "text/html"),
        ("/w/jane.doe", "application/xhtml+xml, Text/HTML;q=0.9"),
    ] {
        assert_eq!(ask_for(target, accept), (200, b"page".to_vec()), "{target}");
    }
    for target in ["/w/missing.js", "/w/assets/none.png", "/w/jane.doe"] {
        assert_eq!(ask_for(target, "*/*").0, 404, "{target}");
    }
    for target in ["/w/WEB-INF/x", "/w/web-inf/", "/w/META-INF"] {
        assert_eq!(ask_for(target, "text/html").0, 404, "{target}");
    }
    assert_eq!(ask_for("/w/assets/x.js", "text/html"), (200, b"1".to_vec()));
    for (target, vary) in [("/w/users", None), ("/w/jane.doe", Some("accept"))] {
        assert_eq!(ask(&serval, &format!("GET {target}"), "", b"").header("vary"), vary, "{target}");
    }
    check(&serval, "HEAD /w/users", "", "", 200);
    check(&serval, "POST /w/users", "", "", 404);
    let answer = ask(&serval, "GET /w/users", "", b"");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let (_home, serval) = serve("[files]\nfallback = \"none.html\"\n", &[]);
    check(&serval, "GET /w/users", "", "", 404);
}

#[test]
fn strong_tags_of_large_files_and_of_variants() {
    let large = vec![b'x'; 3 << 20];
    let files: [(&str, &[u8]); 3] = [("large", &large), ("a.html", b"page"), ("a.html.br", b"br")];
    let (_home, serval) = serve("[files]\nstrong_etags = true\nprecompressed = [\"br\"]\n", &files);
    let tag = |target: &str, lines: &str| {
        let answer = ask(&serval, &format!("HEAD {target}"), lines, b"");
        answer.header("etag").unwrap().to_owned()
    };
    let large_tag = tag("/w/large", "");
    assert!(large_tag.starts_with('"'), "{large_tag}");
    let answer = ask(&serval, "GET /w/large", &format!("Range: bytes=0-1,9-\nIf-Range: {large_tag}"), b"");
    assert_eq!(answer.status, 206);
    assert!(answer.header("content-type").unwrap().starts_with("multipart/byteranges; boundary="));
    let (plain, coded) = (tag("/w/a.html", ""), tag("/w/a.html", "Accept-Encoding: br"));
    assert_ne!(plain, coded);
    let answer = ask(&serval, "GET /w/a.html", "Accept-Encoding: br", b"");
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (Some("br"), Some("accept-encoding")));
    assert_eq!((answer.header("content-type"), &*answer.body), (Some("text/html; charset=utf-8"), &b"br"[..]));
}

#[test]
fn folders_are_listed_where_a_webapp_asks_for_it() {
    let rules = "[[files.cache_control]]\nurl_patterns = [\"*.txt\"]\nvalue = \"no-cache\"\n";
    let (_home, serval) = serve(&format!("[files]\nlistings = true\n{rules}"), &[("dir/a.txt", b"text")]);
    let answer = ask(&serval, "GET /w/dir/", "Accept: application/json", b"");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert!(String::from_utf8(answer.body).unwrap().contains("\"a.txt\""));
    let answer = ask(&serval, "GET /w/", "", b"");
    assert!(!String::from_utf8(answer.body).unwrap().contains("WEB-INF"));
    assert_eq!(ask(&serval, "GET /w/dir/a.txt", "", b"").header("cache-control"), Some("no-cache"));
}
