//! Uploads (SEMANTICS 15): parts in memory and in files, their limits, and what is left of them: nothing.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::process::resident_kb;
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);

fn start(web: &str, settings: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/src/uploads.c", include_str!("uploads.c")).unwrap();
    home.write("webapps/x/WEB-INF/web.toml", web).unwrap();
    home.configure(&format!("[build]\nsources = true\n[defaults.context]\n{settings}")).unwrap();
    let serval = Serval::start(&home).unwrap();
    let deadline = Instant::now() + LONG;
    while Connection::open(serval.address(), LONG).unwrap().get("/x/upload").unwrap().status != 200 {
        assert!(Instant::now() < deadline, "{:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    (home, serval)
}

/// Sends a body in pieces, as chunks, and reads the answer.
fn post(serval: &Serval, target: &str, content_type: &str, body: &[u8], piece: usize) -> Response {
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.send(head.as_bytes()).unwrap();
    for piece in body.chunks(piece) {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        // One that is refused may be cut while it is sent.
        if connection.send(&chunk).is_err() {
            break;
        }
    }
    let _ = connection.send(b"0\r\n\r\n");
    connection.read_response().unwrap()
}

const MULTIPART: &str = "multipart/form-data; boundary=BOUNDARY";

fn body(large: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, content) in [
        ("form-data; name=\"name\"", "Ada Lovelace".to_owned()),
        ("form-data; name=\"small\"; filename=\"a b.txt\"\r\nContent-Type: text/plain", "small".to_owned()),
        ("form-data; name=\"large\"; filename=\"../large\"\r\nContent-Type: image/png", "0123".repeat(large / 4)),
    ] {
        write!(body, "--BOUNDARY\r\nContent-Disposition: {head}\r\n\r\n{content}\r\n").unwrap();
    }
    body.extend_from_slice(b"--BOUNDARY--\r\n");
    body
}

/// Files below the folders that generations have for what they do not keep.
fn files_left(home: &Home) -> usize {
    fn count(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.path() {
                path if path.is_dir() => count(&path),
                path => usize::from(path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-"))),
            })
            .sum()
    }
    count(&home.path("var"))
}

/// A part goes with its exchange, which may be over after its answer.
#[track_caller]
fn no_files_are_left(home: &Home) {
    let deadline = Instant::now() + LONG;
    while files_left(home) > 0 {
        assert!(Instant::now() < deadline, "{} files are left", files_left(home));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn parts_come_in_memory_and_in_files() {
    let (home, serval) = start("", "part_memory_bytes_max = \"1KiB\"");
    let expected = "name - - 12 memory Ada \nsmall a b.txt text/plain 5 memory smal\n\
                    large ../large image/png 100000 file 0123\nname=Ada Lovelace\n";
    for target in ["/x/upload", "/x/waits"] {
        for piece in [7, 1000, 1_000_000] {
            let answer = post(&serval, target, MULTIPART, &body(100_000), piece);
            assert_eq!(
                (answer.status, String::from_utf8_lossy(&answer.body).as_ref()),
                (200, expected),
                "{target} {piece}"
            );
        }
        assert_eq!(post(&serval, target, "text/plain", b"x", 1).body, b"no parts");
    }
    no_files_are_left(&home);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    let (home, serval) = start("", "");
    let mut half = body(200_000);
    half.truncate(150_000);
    for (content_type, body, status, reason) in [
        ("multipart/form-data", &b"x"[..], 400, "its content type has no boundary"),
        (MULTIPART, b"", 400, "it ends before its last boundary"),
        (MULTIPART, b"--BOUNDARY\r\n\r\n\r\n--BOUNDARY--", 400, "no Content-Disposition"),
        (MULTIPART, &half, 400, "it ends before its last boundary"),
    ] {
        for target in ["/x/upload", "/x/waits"] {
            let answer = post(&serval, target, content_type, body, 10_000);
            let text = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, status, "{text}");
            assert!(text.contains(reason), "{text}");
        }
    }
    // A parameter is text, whatever the client says of it.
    let bytes = b"--BOUNDARY\r\nContent-Disposition: form-data; name=name\r\n\r\n\xff\r\n--BOUNDARY--";
    for target in ["/x/upload", "/x/waits"] {
        assert_eq!(post(&serval, target, MULTIPART, bytes, 1000).status, 400);
    }
    let answer = post(&serval, "/x/plain", MULTIPART, &body(10), 100);
    assert_eq!(answer.status, 500);
    let line = serval.wait_for_log("does not take multipart bodies", LONG).unwrap();
    assert!(line.contains("multipart = true in web.toml"), "{line}");
    no_files_are_left(&home);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn web_toml_bounds_uploads_and_memory_stays_flat() {
    let web = "[multipart]\nfile_bytes_max = \"64MiB\"\nrequest_bytes_max = \"80MiB\"\npart_count_max = 3\n\
               [[servlet]]\nname = \"plain\"\nmultipart = true\n";
    let (home, serval) = start(web, "async_timeout = \"0s\"");
    let resident = || resident_kb(serval.program().id()).unwrap();
    assert_eq!(post(&serval, "/x/plain", MULTIPART, &body(10), 100).status, 200);
    let before = resident();
    let answer = post(&serval, "/x/upload", MULTIPART, &body(60 << 20), 64 << 10);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    for target in ["/x/upload", "/x/waits"] {
        let answer = post(&serval, target, MULTIPART, &body(200 << 20), 64 << 10);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 413, "{text}");
        assert!(text.contains("longer than 67108864 bytes (file_bytes_max)"), "{text}");
    }
    let grown = resident().saturating_sub(before);
    println!("uploads of 60 and 200 MiB: {grown} kB more");
    assert!(grown < 20_000, "{grown} kB");
    let many =
        [&body(10)[..], b"--BOUNDARY\r\nContent-Disposition: form-data; name=b\r\n\r\nx\r\n--BOUNDARY--"].concat();
    let many = String::from_utf8(many).unwrap().replacen("--BOUNDARY--\r\n", "", 1);
    assert_eq!(post(&serval, "/x/upload", MULTIPART, many.as_bytes(), 1000).status, 413);
    no_files_are_left(&home);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_upload_that_is_cut_leaves_nothing() {
    let (home, serval) = start("", "part_memory_bytes_max = \"0B\"");
    for target in ["/x/upload", "/x/waits"] {
        let mut connection = Connection::open(serval.address(), LONG).unwrap();
        let body = body(1_000_000);
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: {MULTIPART}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.send(head.as_bytes()).unwrap();
        connection.send(&body[..500_000]).unwrap();
        let deadline = Instant::now() + LONG;
        while files_left(&home) == 0 {
            assert!(Instant::now() < deadline, "no part was written to a file");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(connection);
        no_files_are_left(&home);
    }
    assert!(serval.stop().unwrap().success());
}
