//! Whole answers over real files: status, headers and body, as a client would see them.

use std::fs;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response};
use http_body::Body as _;
use serval_static_files::{
    Body, File, Folder, Found, Options, ReadFailure, content, respond, respond_at_once, status_when_missing,
};
use tempfile::TempDir;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

struct Site {
    temp: TempDir,
    folder: Folder,
}

impl Site {
    fn new() -> Site {
        Site::with(Options::default())
    }

    fn with(options: Options) -> Site {
        let temp = tempfile::tempdir().unwrap();
        let mime = vec![("own".to_string(), "application/x-own".to_string())];
        let folder = Folder::open(temp.path(), Options { mime, ..options }).unwrap();
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

    #[track_caller]
    fn ask(&self, path: &str, method: &Method, request: &str) -> Response<Body> {
        respond(&self.folder, path, self.file(path), method, &headers(request))
    }

    #[track_caller]
    fn get(&self, path: &str, request: &str) -> Response<Body> {
        self.ask(path, &Method::GET, request)
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
    assert_eq!(show(site.ask("/a.txt", &method, request)), expected);
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
fn post_is_answered_as_get_but_for_conditions_and_ranges() {
    let whole = "200\naccept-ranges: bytes\ncontent-length: 10\ncontent-type: text/plain; charset=utf-8\n\
         etag: W/\"10-784111777000\"\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\n\n0123456789";
    for request in ["", "Range: bytes=0-1", "Range: x", &format!("If-Modified-Since: {DATE}"), "If-None-Match: \"x\""] {
        check(Method::POST, request, whole);
    }
    check(Method::POST, "If-None-Match: *", "412\n\n");
    check(Method::POST, "If-Match: \"x\"", "412\n\n");
}

/// The boundary of a multipart answer is shown as `B`.
fn show_parts(response: Response<Body>) -> String {
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    show(response).replace(boundary, "B").replace("\r\n", "\n")
}

#[test]
fn several_ranges() {
    let site = Site::new();
    site.write("a.txt", "0123456789");
    assert_eq!(
        show_parts(site.get("/a.txt", "Range: bytes=8-,0-1")),
        "206\naccept-ranges: bytes\ncontent-length: 264\ncontent-type: multipart/byteranges; boundary=B\n\
         etag: W/\"10-784111777000\"\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\n\n\
         \n--B\nContent-Type: text/plain; charset=utf-8\nContent-Range: bytes 8-9/10\n\n89\
         \n--B\nContent-Type: text/plain; charset=utf-8\nContent-Range: bytes 0-1/10\n\n01\n--B--\n"
    );
    let refused = "416\ncontent-range: bytes */10\n\n";
    check(Method::GET, "Range: bytes=1-8, 3-5, 2-3", refused);
    let whole = site.get("/a.txt", "Range: bytes=0-1,3-4\nIf-Range: \"x\"");
    assert_eq!(whole.status(), 200);
    let head = site.ask("/a.txt", &Method::HEAD, "Range: bytes=0-1,3-4");
    assert_eq!(head.status(), 200);
}

#[test]
fn many_small_ranges() {
    let site = Site::new();
    site.write("x", vec![b'x'; 2000]);
    let ranges: Vec<_> = (1..=900).map(|at| format!("{at}-{at}")).collect();
    let response = site.get("/x", &format!("Range: bytes={}", ranges.join(",")));
    let shown = show_parts(response);
    assert!(shown.contains("Content-Range: bytes 500-500/2000\n\nx\n--B\n"));
    assert_eq!(shown.matches("Content-Range").count(), 900);
}

#[test]
fn empty_files_and_unknown_and_own_types() {
    let site = Site::new();
    site.write("empty", "");
    site.write("x.own", "x");
    let response = site.get("/empty", "Range: bytes=0-0");
    assert_eq!(
        show(response),
        "200\naccept-ranges: bytes\ncontent-length: 0\netag: W/\"0-784111777000\"\n\
         last-modified: Sun, 06 Nov 1994 08:49:37 GMT\n\n"
    );
    let response = site.get("/x.own", "");
    assert_eq!(response.headers()["content-type"], "application/x-own");
}

#[test]
fn sizes_around_the_limits() {
    let site = Site::new();
    for len in [1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let content: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        site.write("x", &content);
        let response = site.get("/x", "");
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
    let response = site.get("/x", "Range: bytes=1000-250000");
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
    let mut body = site.get("/x", request).into_body();
    let announced = body.size_hint().exact().unwrap();
    let first = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(first, Poll::Ready(Some(Ok(_)))));
    change(&file);
    let (rest, end) = read_all(&mut body);
    assert_eq!(end.unwrap_err().to_string(), expected);
    assert!(65_536 + (rest.len() as u64) < announced);
    // Of several parts the last is held back, with all that would make the answer whole.
    assert!(!rest.ends_with(b"--\r\n"));
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
    for range in ["Range: bytes=0-89999,95000-99999", "Range: bytes=70000-99999,0-69999"] {
        check_change(range, |file| file.set_len(0).unwrap(), SHORTER);
        check_change(range, |file| file.set_len(100_001).unwrap(), CHANGED);
        check_change(range, |mut file| file.write_all(b"y").unwrap(), CHANGED);
    }
}

#[test]
fn a_file_that_is_replaced_or_removed_while_it_is_sent_is_sent_as_it_was() {
    let site = Site::new();
    site.write("x", vec![b'x'; 100_000]);
    site.write("y", "new");
    let response = site.get("/x", "");
    fs::rename(site.temp.path().join("y"), site.temp.path().join("x")).unwrap();
    let (bytes, end) = read_all(&mut response.into_body());
    end.unwrap();
    assert_eq!(bytes, vec![b'x'; 100_000]);
    let response = site.get("/x", "");
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
    let response = respond(&site.folder, "/x", found, &Method::GET, &HeaderMap::new());
    assert!(response.extensions().get::<ReadFailure>().is_none());
    assert_eq!(
        show(response),
        "200\naccept-ranges: bytes\ncontent-length: 3\netag: W/\"3-0\"\n\
         last-modified: Thu, 01 Jan 1970 00:00:00 GMT\n\nold"
    );
}

const STRONG: &str = "\"84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882\"";

#[test]
fn strong_tags() {
    let site = Site::with(Options { strong_etags: true, ..Options::default() });
    site.write("a.txt", "0123456789");
    let check = |method: Method, request: &str, status: u16| {
        let response = site.ask("/a.txt", &method, &request.replace("TAG", STRONG));
        assert_eq!(response.status(), status, "{request}");
        if status < 400 {
            assert_eq!(response.headers()["etag"], STRONG, "{request}");
        }
    };
    check(Method::GET, "", 200);
    check(Method::GET, "If-None-Match: TAG", 304);
    check(Method::HEAD, "If-None-Match: W/TAG", 304);
    check(Method::GET, "If-Match: \"zz\",TAG", 200);
    check(Method::GET, "If-Match: W/TAG", 412);
    check(Method::GET, "Range: bytes=0-1\nIf-Range: TAG", 206);
    check(Method::GET, "Range: bytes=0-1\nIf-Range: W/TAG", 200);
    check(Method::GET, "Range: bytes=0-1\nIf-Range: \"nope\"", 200);
    // A change that its times do not show is one all the same.
    site.write("a.txt", "9876543210");
    assert_ne!(site.get("/a.txt", "").headers()["etag"], STRONG);
}

#[test]
fn a_large_file_gets_its_strong_tag_where_one_may_wait() {
    let site = Site::with(Options { strong_etags: true, ..Options::default() });
    site.write("x", vec![b'x'; 2 << 20]);
    let at_once = respond_at_once(&site.folder, "/x", site.file("/x"), &Method::HEAD, &HeaderMap::new());
    assert!(at_once.is_none());
    let response = site.ask("/x", &Method::HEAD, "");
    assert!(response.headers()["etag"].to_str().unwrap().starts_with('"'));
}

/// The vectors' files of the area precompressed, and one that has all variants.
fn coded(strong_etags: bool) -> Site {
    let precompressed = [("br", ".br"), ("gzip", ".gz")].map(|(coding, extension)| (coding.into(), extension.into()));
    let site = Site::with(Options { precompressed: precompressed.to_vec(), strong_etags, ..Options::default() });
    for (name, content) in [
        ("x.html", "plain page"),
        ("x.html.gz", "GZ"),
        ("x.html.br", "BRO"),
        ("y.html", "only plain"),
        ("q.html", "q"),
        ("q.html.gz", "GZ"),
    ] {
        site.write(name, content);
    }
    fs::create_dir(site.temp.path().join("y.html.br")).unwrap();
    site
}

#[test]
fn precompressed_variants() {
    let site = coded(false);
    let check = |path: &str, request: &str, expected: &str| {
        let response = site.get(path, request);
        let shown = format!(
            "{} {:?} {:?} {}",
            response.status().as_u16(),
            response.headers().get("content-encoding").map_or("-", |value| value.to_str().unwrap()),
            response.headers().get("vary").map_or("-", |value| value.to_str().unwrap()),
            response.headers()["content-length"].to_str().unwrap(),
        );
        assert_eq!(response.headers()["last-modified"], DATE);
        assert_eq!(shown.replace('"', ""), expected, "{path} {request}");
    };
    let vary = "accept-encoding";
    check("/x.html", "Accept-Encoding: br", &format!("200 br {vary} 3"));
    check("/x.html", "Accept-Encoding: gzip, br", &format!("200 br {vary} 3"));
    check("/x.html", "Accept-Encoding: gzip", &format!("200 gzip {vary} 2"));
    check("/x.html", "Accept-Encoding: GZIP", &format!("200 gzip {vary} 2"));
    check("/x.html", "Accept-Encoding: gzip;q=0", &format!("200 - {vary} 10"));
    check("/x.html", "Accept-Encoding: gzip;q=0.9,br;q=0,identity", &format!("200 - {vary} 10"));
    check("/x.html", "Accept-Encoding: gzip;q=0.9,*", &format!("200 br {vary} 3"));
    check("/x.html", "", &format!("200 - {vary} 10"));
    check("/q.html", "Accept-Encoding: br, gzip", &format!("200 gzip {vary} 2"));
    check("/q.html", "Accept-Encoding: br", &format!("200 - {vary} 1"));
    check("/y.html", "Accept-Encoding: br, gzip", "200 - - 10");
    check("/x.html.gz", "Accept-Encoding: gzip", "200 - - 2");
    check("/x.html", "Accept-Encoding: br\nRange: bytes=1-1", &format!("206 br {vary} 1"));
    check("/x.html", "Accept-Encoding: br\nRange: bytes=0-0,2-2", &format!("200 br {vary} 3"));
    assert_eq!(
        show(site.get("/x.html", "Accept-Encoding: br\nRange: bytes=1-")),
        "206\naccept-ranges: bytes\ncontent-encoding: br\ncontent-length: 2\ncontent-range: bytes 1-2/3\n\
         content-type: text/html; charset=utf-8\netag: W/\"10-784111777000\"\n\
         last-modified: Sun, 06 Nov 1994 08:49:37 GMT\nvary: accept-encoding\n\nRO"
    );
    assert_eq!(
        show(site.get("/x.html", "Accept-Encoding: br\nRange: bytes=3-")),
        "416\ncontent-range: bytes */3\nvary: accept-encoding\n\n"
    );
    assert_eq!(
        show(site.get("/x.html", "Accept-Encoding: br\nIf-None-Match: W/\"10-784111777000\"")),
        "304\netag: W/\"10-784111777000\"\nvary: accept-encoding\n\n"
    );
}

#[test]
fn each_variant_has_its_own_strong_tag() {
    let site = coded(true);
    let tag = |request: &str| site.get("/x.html", request).headers()["etag"].to_str().unwrap().to_owned();
    let (plain, br, gzip) = (tag(""), tag("Accept-Encoding: br"), tag("Accept-Encoding: gzip"));
    assert!(plain != br && br != gzip && gzip != plain);
    let response = site.get("/x.html", &format!("Accept-Encoding: br\nIf-None-Match: {br}"));
    assert_eq!((response.status().as_u16(), response.headers()["etag"].to_str().unwrap()), (304, &*br));
    assert_eq!(site.get("/x.html", &format!("Accept-Encoding: br\nIf-None-Match: {gzip}")).status(), 200);
    let resumed = site.get("/x.html", &format!("Accept-Encoding: br\nRange: bytes=1-\nIf-Range: {plain}"));
    assert_eq!(resumed.status(), 200);
}

#[test]
fn a_variant_that_changes_while_it_is_sent_is_cut() {
    let site = coded(false);
    let variant = site.write("x.html.br", vec![b'x'; 100_000]);
    let mut body = site.get("/x.html", "Accept-Encoding: br").into_body();
    variant.set_len(100_001).unwrap();
    let (sent, end) = read_all(&mut body);
    assert_eq!(end.unwrap_err().to_string(), "the file changed while it was sent");
    assert_eq!(sent.len(), 65_536);
    let mut body = site.get("/x.html", "Accept-Encoding: br").into_body();
    site.write("new", "other");
    fs::rename(site.temp.path().join("new"), site.temp.path().join("x.html.br")).unwrap();
    let (sent, end) = read_all(&mut body);
    end.unwrap();
    assert_eq!(sent.len(), 100_001);
    assert_eq!(site.get("/x.html", "Accept-Encoding: br").headers()["content-length"], "5");
}

#[test]
fn variants_are_as_safe_as_files() {
    let site = coded(false);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), site.temp.path().join("y.html.gz")).unwrap();
    let response = site.get("/y.html", "Accept-Encoding: gzip");
    assert_eq!(response.headers().get("content-encoding"), None);
    assert_eq!(response.headers().get("vary"), None);
}

#[test]
fn content_is_the_file_alone() {
    let site = coded(true);
    for path in ["/x.html", "/q.html"] {
        let (bytes, end) = read_all(&mut content(site.file(path)).unwrap());
        end.unwrap();
        assert_eq!(bytes, fs::read(site.temp.path().join(&path[1..])).unwrap());
    }
}

#[test]
fn missing() {
    assert_eq!(status_when_missing(&HeaderMap::new()), 404);
    assert_eq!(status_when_missing(&headers("If-Match: *")), 412);
}
