//! Whole answers over real files: status, headers and body, as a client would see them.

use std::fs;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response};
use http_body::Body as _;
use serval_static_files::{Body, File, Folder, Found, Options, ReadFailure, respond, status_when_missing};
use tempfile::TempDir;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

struct Site {
    temp: TempDir,
    folder: Folder,
}

impl Site {
    fn new() -> Site {
        let temp = tempfile::tempdir().unwrap();
        let mime = vec![("own".to_string(), "application/x-own".to_string())];
        let folder = Folder::open(temp.path(), Options { mime, ..Options::default() }).unwrap();
        Site { temp, folder }
    }

    /// Writes a file, modified on [`DATE`].
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> fs::File {
        let mut file = fs::File::create(self.temp.path().join(name)).unwrap();
        file.write_all(content.as_ref()).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(784_111_777)).unwrap();
        file
    }

    #[track_caller]
    fn file(&self, path: &str) -> File {
        match self.folder.lookup(path) {
            Found::File(file) => file,
            other => panic!("{path}: {other:?}"),
        }
    }
}

fn headers(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    }
    headers
}

fn read_all(body: &mut Body) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut *body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => all.extend(frame.into_data().unwrap()),
            Poll::Ready(Some(Err(error))) => return (all, Err(error)),
            Poll::Ready(None) => return (all, Ok(())),
            Poll::Pending => panic!("a file is always ready"),
        }
    }
}

fn show(response: Response<Body>) -> String {
    let (head, mut body) = response.into_parts();
    let announced = body.size_hint().exact();
    assert_eq!(body.is_end_stream(), announced == Some(0));
    let (bytes, end) = read_all(&mut body);
    end.unwrap();
    assert_eq!(announced, Some(bytes.len() as u64));
    let mut lines: Vec<_> =
        head.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    lines.sort();
    format!("{}\n{}\n{}", head.status.as_u16(), lines.concat(), String::from_utf8_lossy(&bytes))
}

/// Asks for a file of ten bytes; the expected answer is status, sorted headers, an empty line, body.
#[track_caller]
fn check(method: Method, request: &str, expected: &str) {
    let site = Site::new();
    site.write("a.txt", "0123456789");
    let response = respond(site.file("/a.txt"), &method, &headers(request));
    assert_eq!(show(response), expected);
}

#[test]
fn get() {
    check(
        Method::GET,
        "",
        "200\naccept-ranges: bytes\ncontent-length: 10\ncontent-type: text/plain; charset=utf-8\n\
         etag: W/\"10-784111777000\"\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\n\n0123456789",
    );
}

#[test]
fn head_is_get_without_the_body_and_without_ranges() {
    let expected = "200\naccept-ranges: bytes\ncontent-length: 10\ncontent-type: text/plain; charset=utf-8\n\
         etag: W/\"10-784111777000\"\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\n\n";
    check(Method::HEAD, "", expected);
    check(Method::HEAD, "Range: bytes=0-1", expected);
    check(Method::HEAD, "Range: bytes=99-", expected);
    check(Method::HEAD, "Range: bytes=0-1\nIf-Range: x", expected);
}

#[test]
fn not_modified_has_a_tag_and_little_else() {
    for method in [Method::GET, Method::HEAD] {
        let expected = "304\netag: W/\"10-784111777000\"\n\n";
        check(method.clone(), "If-None-Match: W/\"10-784111777000\"", expected);
        check(method.clone(), "If-None-Match: \"x\", \"10-784111777000\"", expected);
        check(method.clone(), &format!("If-Modified-Since: {DATE}"), expected);
        check(method, "If-None-Match: *\nRange: bytes=0-1", expected);
    }
}

#[test]
fn conditions_that_fail() {
    check(Method::GET, "If-Match: \"x\"", "412\n\n");
    check(Method::GET, "If-Match: W/\"10-784111777000\"\nRange: bytes=99-", "412\n\n");
    check(Method::GET, "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT", "412\n\n");
    check(Method::GET, "If-None-Match: x", "400\n\n");
}

fn part(content_range: &str, body: &str) -> String {
    format!(
        "206\naccept-ranges: bytes\ncontent-length: {}\ncontent-range: {content_range}\n\
         content-type: text/plain; charset=utf-8\netag: W/\"10-784111777000\"\n\
         last-modified: Sun, 06 Nov 1994 08:49:37 GMT\n\n{body}",
        body.len()
    )
}

#[test]
fn one_range() {
    check(Method::GET, "Range: bytes=0-0", &part("bytes 0-0/10", "0"));
    check(Method::GET, "Range: bytes=3-5", &part("bytes 3-5/10", "345"));
    check(Method::GET, "Range: bytes=-2", &part("bytes 8-9/10", "89"));
    check(Method::GET, "Range: bytes=5-50", &part("bytes 5-9/10", "56789"));
    check(Method::GET, &format!("Range: bytes=3-5\nIf-Range: {DATE}"), &part("bytes 3-5/10", "345"));
}

#[test]
fn ranges_that_are_refused() {
    for range in ["bytes=10-", "bytes=-0", "bytes=x", "bytes=5-2", "bytes"] {
        check(Method::GET, &format!("Range: {range}"), "416\ncontent-range: bytes */10\n\n");
    }
}

#[test]
fn the_whole_file_in_place_of_a_range() {
    for request in [
        "Range: bytes=0-1,3-4",
        "Range: lines=0-1",
        "Range: bytes=0-1\nIf-Range: W/\"10-784111777000\"",
        "Range: bytes=0-1\nIf-Range: \"10-784111777000\"",
        "Range: bytes=0-1\nIf-Range: Sun, 06 Nov 1994 08:49:38 GMT",
        "Range: bytes=x\nIf-Range: \"other\"",
        "If-Range: x",
    ] {
        check(
            Method::GET,
            request,
            "200\naccept-ranges: bytes\ncontent-length: 10\ncontent-type: text/plain; charset=utf-8\n\
             etag: W/\"10-784111777000\"\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\n\n0123456789",
        );
    }
    check(Method::GET, "Range: bytes=0-1\nIf-Range: x", "400\n\n");
}

#[test]
fn empty_files_and_unknown_and_own_types() {
    let site = Site::new();
    site.write("empty", "");
    site.write("x.own", "x");
    let response = respond(site.file("/empty"), &Method::GET, &headers("Range: bytes=0-0"));
    assert_eq!(
        show(response),
        "200\naccept-ranges: bytes\ncontent-length: 0\netag: W/\"0-784111777000\"\n\
         last-modified: Sun, 06 Nov 1994 08:49:37 GMT\n\n"
    );
    let response = respond(site.file("/x.own"), &Method::GET, &HeaderMap::new());
    assert_eq!(response.headers()["content-type"], "application/x-own");
}

#[test]
fn sizes_around_the_limits() {
    let site = Site::new();
    for len in [1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let content: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        site.write("x", &content);
        let response = respond(site.file("/x"), &Method::GET, &HeaderMap::new());
        assert_eq!(response.headers()["content-length"], len.to_string());
        assert_eq!(response.body().size_hint().exact(), Some(len));
        let (bytes, end) = read_all(&mut response.into_body());
        end.unwrap();
        assert!(bytes == content, "{len}");
    }
}

#[test]
fn a_range_in_pieces() {
    let site = Site::new();
    let content: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    site.write("x", &content);
    let response = respond(site.file("/x"), &Method::GET, &headers("Range: bytes=1000-250000"));
    assert_eq!(response.headers()["content-range"], "bytes 1000-250000/300000");
    let (bytes, end) = read_all(&mut response.into_body());
    end.unwrap();
    assert!(bytes == content[1000..=250_000]);
}

/// Changes a file of 100 000 bytes once its first piece is sent; the body must end in this error.
#[track_caller]
fn check_change(request: &str, change: impl FnOnce(&fs::File), expected: &str) {
    let site = Site::new();
    let file = site.write("x", vec![b'x'; 100_000]);
    let mut body = respond(site.file("/x"), &Method::GET, &headers(request)).into_body();
    let announced = body.size_hint().exact().unwrap();
    let first = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(first, Poll::Ready(Some(Ok(_)))));
    change(&file);
    let (rest, end) = read_all(&mut body);
    assert_eq!(end.unwrap_err().to_string(), expected);
    assert!(65_536 + (rest.len() as u64) < announced);
    assert!(rest.iter().all(|byte| *byte == b'x'));
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_cut() {
    const SHORTER: &str = "the file became shorter while it was sent";
    const CHANGED: &str = "the file changed while it was sent";
    check_change("", |file| file.set_len(0).unwrap(), SHORTER);
    check_change("", |file| file.set_len(65_536).unwrap(), SHORTER);
    check_change("", |file| file.set_len(80_000).unwrap(), SHORTER);
    check_change("", |file| file.set_len(100_001).unwrap(), CHANGED);
    check_change("", |mut file| file.write_all(b"y").unwrap(), CHANGED);
    check_change("", |file| file.set_modified(UNIX_EPOCH).unwrap(), CHANGED);
    check_change("Range: bytes=10-90000", |file| file.set_len(95_000).unwrap(), CHANGED);
}

#[test]
fn a_file_that_is_replaced_or_removed_while_it_is_sent_is_sent_as_it_was() {
    let site = Site::new();
    site.write("x", vec![b'x'; 100_000]);
    site.write("y", "new");
    let response = respond(site.file("/x"), &Method::GET, &HeaderMap::new());
    fs::rename(site.temp.path().join("y"), site.temp.path().join("x")).unwrap();
    let (bytes, end) = read_all(&mut response.into_body());
    end.unwrap();
    assert_eq!(bytes, vec![b'x'; 100_000]);
    let response = respond(site.file("/x"), &Method::GET, &HeaderMap::new());
    fs::remove_file(site.temp.path().join("x")).unwrap();
    assert_eq!(read_all(&mut response.into_body()).0, b"new");
}

#[test]
fn a_small_file_that_changed_since_it_was_looked_up_is_answered_as_it_is_now() {
    let site = Site::new();
    let file = site.write("x", "old text");
    let found = site.file("/x");
    file.set_len(3).unwrap();
    file.set_modified(UNIX_EPOCH).unwrap();
    let response = respond(found, &Method::GET, &HeaderMap::new());
    assert!(response.extensions().get::<ReadFailure>().is_none());
    assert_eq!(
        show(response),
        "200\naccept-ranges: bytes\ncontent-length: 3\netag: W/\"3-0\"\n\
         last-modified: Thu, 01 Jan 1970 00:00:00 GMT\n\nold"
    );
}

#[test]
fn missing() {
    assert_eq!(status_when_missing(&HeaderMap::new()), 404);
    assert_eq!(status_when_missing(&headers("If-Match: *")), 412);
}
