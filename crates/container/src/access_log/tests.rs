//! From heads and answers to lines, without files; and the queue.

use std::pin::Pin;
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version};
use http_body::Body as _;
use serval_config::{LogPattern, Rotate};
use serval_static_files::{Folder, Found, Options};

use super::local_time::LocalTime;
use super::*;
use crate::body::{ResponseBody, Stream};
use crate::pipe::pipe;
use crate::remote_ip::Client;

struct Case {
    log: Arc<Log>,
    entries: Receiver<Option<Box<Entry>>>,
    peer: Arc<Peer>,
}

fn settings(pattern: &str) -> AccessLog {
    AccessLog {
        pattern: LogPattern::parse(pattern).unwrap(),
        pattern_text: pattern.to_owned(),
        json: false,
        folder: "/".into(),
        file: "log".to_owned(),
        rotate: Rotate::Never,
        rotate_bytes: 0,
        keep: 0,
        use_remote_ip: false,
        condition_if: None,
        condition_unless: None,
    }
}

impl Case {
    fn new(settings: &AccessLog, queue: usize) -> Case {
        let (queue, entries) = sync_channel(queue);
        let log = Log {
            format: Arc::new(Format::new(settings)),
            use_remote_ip: settings.use_remote_ip,
            queue,
            lost: Arc::default(),
            thread: Mutex::default(),
        };
        let listener = Arc::new(serval_config::Listener::default());
        let local = "127.0.0.1:8080".parse().unwrap();
        let peer = Peer::new("192.0.2.1:4711".parse().unwrap(), local, 9, false, listener);
        Case { log: Arc::new(log), entries, peer: Arc::new(peer) }
    }

    fn begin(&self, head: &Parts) -> Owner {
        self.log.begin(head, "shop.test", &self.peer)
    }

    /// The line of an entry that was handed in; None: there is none.
    fn line(&self) -> Option<String> {
        let entry = self.entries.try_recv().ok()??;
        let mut out = Vec::new();
        self.log.format.write(&entry, &mut LocalTime::new(|| TimeZone::UTC), &mut out);
        let line = String::from_utf8(out).unwrap();
        Some(line.strip_suffix('\n').unwrap().to_owned())
    }
}

fn head() -> Parts {
    let request = Request::builder()
        .method("GET")
        .uri("/l/e?x=1&y=2")
        .header("x-in", "va l")
        .header("x-q", "a\"b\\c")
        .header("x-two", "1")
        .header("x-two", "2")
        .header("x-empty", "")
        .header("x-octets", HeaderValue::from_bytes(b"\xc3\xa4\t\x80").unwrap())
        .header("cookie", "ck=one; other=x")
        .header("cookie", "ck=two")
        .header("referer", "http://ref/")
        .header("user-agent", "UA/1");
    request.body(()).unwrap().into_parts().0
}

fn answer() -> Response<ResponseBody> {
    let response = Response::builder().status(201).header("x-out", "o\"").header("x-out", "p");
    response.body(ResponseBody::Full(Bytes::from_static(b"hello"))).unwrap()
}

/// As a connection sends it.
fn send(response: Response<ResponseBody>) {
    let mut body = response.into_body();
    let mut task = Context::from_waker(Waker::noop());
    while !body.is_end_stream() && matches!(Pin::new(&mut body).poll_frame(&mut task), Poll::Ready(Some(Ok(_)))) {}
}

#[track_caller]
fn check(pattern: &str, expected: &str) {
    let case = Case::new(&settings(pattern), 1);
    send(case.begin(&head()).answered(answer()));
    assert_eq!(case.line().as_deref(), Some(expected), "{pattern}");
}

#[test]
fn every_code_has_its_value() {
    for (pattern, expected) in [
        ("%a %{remote}a %{peer}a %h %A", "192.0.2.1 192.0.2.1 192.0.2.1 192.0.2.1 127.0.0.1"),
        ("%v %p %{local}p %{remote}p %{c}L", "shop.test 8080 8080 4711 9"),
        ("%l %u %S %{at}r %{at}s", "- - - - -"),
        ("%H|%m|%U|%q|%r", "HTTP/1.1|GET|/l/e|?x=1&y=2|GET /l/e?x=1&y=2 HTTP/1.1"),
        ("%s %b %B %X %%", "201 5 5 + %"),
        ("%{X-In}i|%{x-two}i|%{x-empty}i|%{none}i|%{b d}i", "va l|1,2|-|-|-"),
        ("%{ck}c %{other}c %{none}c", "one,two x -"),
        ("%{X-Out}o %{none}o", "o\\\",p -"),
        ("%Z %{k}Z %{x}L", "???Z??? ??? ???"),
        ("%T %{s}T", "0 0"),
    ] {
        check(pattern, expected);
    }
    let name = std::thread::current().name().unwrap().to_owned();
    check("%I", &name);
}

#[test]
fn nothing_that_was_sent_leaves_its_field() {
    check("\"%{x-q}i\"", "\"a\\\"b\\\\c\"");
    check("%{x-octets}i", "\\u00c3\\u00a4\\t\\u0080");
    let case = Case::new(&AccessLog { json: true, ..settings("%{at}r") }, 1);
    let mut entry = case.begin(&head());
    let noting = entry.noting().unwrap();
    send(entry.answered(answer()));
    assert_eq!(case.line(), None);
    noting.note(|_| Some(Bytes::from("ä\r\n\u{c}\u{1}\"}😀")));
    let expected = "{\"requestAttributes\": {\"at\":\"\\u00e4\\r\\n\\f\\u0001\\\"}\\ud83d\\ude00\"}}";
    assert_eq!(case.line().as_deref(), Some(expected));
}

#[test]
fn times_are_told_in_every_unit() {
    let case = Case::new(&settings("%D %T %{ns}T %{us}T %{ms}T %{fracsec}T %F %t %{begin:msec}t"), 1);
    drop(case.begin(&head()).answered(answer()));
    let mut entry = case.entries.try_recv().unwrap().unwrap();
    entry.taken = std::time::Duration::from_nanos(1_234_567_890);
    entry.committed = Some(std::time::Duration::from_micros(2500));
    entry.ended = std::time::UNIX_EPOCH + std::time::Duration::from_millis(2_000);
    let mut out = Vec::new();
    case.log.format.write(&entry, &mut LocalTime::new(|| TimeZone::UTC), &mut out);
    let expected = "1234567 1 1234567890 1234567 1234 1.234 2 [01/Jan/1970:00:00:02 +0000] 765\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn a_json_line_has_members_and_objects() {
    for (pattern, expected) in [
        ("%m %U", "{\"method\":\"GET\",\"path\":\"/l/e\"}"),
        ("x %s%%y", "{\"statusCode\":\"201\"}"),
        ("", "{}"),
        ("%m %m", "{\"method\":\"GET\"}"),
        ("%{peer}a %{ms}T %Z", "{\"remoteAddr-peer\":\"192.0.2.1\",\"elapsedTimeS-ms\":\"0\",\"other-Z\":\"???Z???\"}"),
        ("%\"", "{\"other-\\\"\":\"???\\\"???\"}"),
        (
            "%{X-Out}o %{X-In}i %m %{ck}c %{X-Two}i %{c}L",
            "{\"method\":\"GET\",\"cookies\": {\"ck\":\"one,two\"},\"requestHeaders\": {\"X-In\":\"va l\",\"X-Two\":\"1,2\"},\
             \"identifier\": {\"c\":\"9\"},\"responseHeaders\": {\"X-Out\":\"o\\\",p\"}}",
        ),
        ("%{a\"b}i", "{\"requestHeaders\": {\"a\\\"b\":\"-\"}}"),
    ] {
        let case = Case::new(&AccessLog { json: true, ..settings(pattern) }, 1);
        send(case.begin(&head()).answered(answer()));
        assert_eq!(case.line().as_deref(), Some(expected), "{pattern}");
    }
}

#[test]
fn how_a_request_has_ended() {
    let case = Case::new(&settings("%s %b %B %X"), 1);
    let line = || case.line().unwrap();
    drop(case.begin(&head()));
    assert_eq!(line(), "499 - 0 X", "given up before there was an answer");
    drop(case.begin(&head()).answered(answer()));
    assert_eq!(line(), "201 - 0 X", "given up before the body");

    let (writer, reader) = pipe();
    let mut streamed = Response::new(ResponseBody::Stream(Stream(reader)));
    writer.push(Bytes::from_static(b"abc")).unwrap();
    drop(writer);
    send(case.begin(&head()).answered(streamed));
    assert_eq!(line(), "200 3 3 X", "cut by its servlet");

    let (writer, reader) = pipe();
    streamed = Response::new(ResponseBody::Stream(Stream(reader)));
    streamed.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(3));
    writer.push(Bytes::from_static(b"abc")).unwrap();
    let mut body = case.begin(&head()).answered(streamed).into_body();
    let _ = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
    drop(body);
    assert_eq!(line(), "200 3 3 +", "the connection asks for no more than was announced");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![b'x'; 100_000]).unwrap();
    let Found::File(found) = Folder::open(folder.path(), Options::default()).unwrap().lookup("/file") else { panic!() };
    let body = serval_static_files::content(found).unwrap();
    std::fs::write(&file, "short").unwrap();
    send(case.begin(&head()).answered(Response::new(ResponseBody::File(body))));
    assert_eq!(line(), "200 5 5 X", "cut, since the file became shorter");

    let mut to_head = head();
    to_head.method = http::Method::HEAD;
    drop(case.begin(&to_head).answered(answer()));
    assert_eq!(line(), "201 - 0 +");
    let mut none = Response::new(ResponseBody::empty());
    *none.status_mut() = http::StatusCode::NOT_MODIFIED;
    none.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(5));
    drop(case.begin(&head()).answered(none));
    assert_eq!(line(), "304 - 0 +");
}

#[test]
fn whether_the_connection_is_kept() {
    let case = Case::new(&settings("%X"), 1);
    let line = |version: Version, asked: &'static str, answered: Option<&'static str>| {
        let mut head = head();
        head.version = version;
        head.headers.insert("connection", HeaderValue::from_static(asked));
        let mut response = answer();
        response
            .headers_mut()
            .extend(answered.map(|value| (http::header::CONNECTION, HeaderValue::from_static(value))));
        send(case.begin(&head).answered(response));
        case.line().unwrap()
    };
    assert_eq!(line(Version::HTTP_11, "", None), "+");
    assert_eq!(line(Version::HTTP_11, "te, Close", None), "-");
    assert_eq!(line(Version::HTTP_11, "", Some("close")), "-");
    assert_eq!(line(Version::HTTP_10, "", None), "-");
    assert_eq!(line(Version::HTTP_10, "keep-alive", None), "+");
}

#[test]
fn the_exchange_and_the_response_end_in_any_order() {
    let case = Case::new(&settings("%S %{a}r %{b}s %s"), 1);
    let say = |question: Question<'_>| match question {
        Question::SessionId => Some(Bytes::from_static(b"id")),
        Question::RequestAttribute(name) | Question::SessionAttribute(name) => Some(Bytes::from(name.to_owned())),
    };
    let mut entry = case.begin(&head());
    let noting = entry.noting().unwrap();
    send(entry.answered(answer()));
    assert_eq!(case.line(), None);
    noting.note(say);
    assert_eq!(case.line().as_deref(), Some("id a b 201"));

    let mut entry = case.begin(&head());
    entry.noting().unwrap().note(say);
    assert_eq!(case.line(), None);
    send(entry.answered(answer()));
    assert_eq!(case.line().as_deref(), Some("id a b 201"));

    let mut entry = case.begin(&head());
    drop(entry.noting());
    send(entry.answered(answer()));
    assert_eq!(case.line().as_deref(), Some("- - - 201"));
}

#[test]
fn the_usual_formats_ask_no_exchange() {
    for pattern in ["common", "combined"] {
        assert!(Case::new(&settings(pattern), 1).begin(&head()).noting().is_none(), "{pattern}");
    }
}

#[test]
fn attributes_decide_what_is_logged() {
    let named = |name: &str| Some(name.to_owned());
    for (condition_if, condition_unless, attribute, logged) in [
        (named("a"), None, "a", true),
        (named("a"), None, "b", false),
        (None, named("a"), "a", false),
        (None, named("a"), "b", true),
        (named("a"), named("b"), "a", true),
    ] {
        let case = Case::new(&AccessLog { condition_if, condition_unless, ..settings("%s") }, 1);
        let mut entry = case.begin(&head());
        let noting = entry.noting().unwrap();
        send(entry.answered(answer()));
        noting.note(|question| match question {
            Question::RequestAttribute(name) if name == attribute => Some(Bytes::new()),
            _ => None,
        });
        assert_eq!(case.line().is_some(), logged, "{:?}", case.log.format.ask(&mut |_| None).is_some());
    }
    let case = Case::new(&AccessLog { condition_if: named("a"), ..settings("%s") }, 1);
    send(case.begin(&head()).answered(answer()));
    assert_eq!(case.line(), None, "without an exchange there are no attributes");
}

#[test]
fn what_proxies_say_is_logged_only_if_the_log_believes_it() {
    let client = Client {
        address: Some("198.51.100.7".to_owned()),
        server_name: Some("a.test".to_owned()),
        port: Some(443),
        ..Client::default()
    };
    for (use_remote_ip, expected) in [
        (true, "198.51.100.7 198.51.100.7 192.0.2.1 a.test 443"),
        (false, "192.0.2.1 192.0.2.1 192.0.2.1 shop.test 8080"),
    ] {
        let case = Case::new(&AccessLog { use_remote_ip, ..settings("%h %a %{peer}a %v %p") }, 1);
        let mut entry = case.begin(&head());
        entry.found_client(&client);
        send(entry.answered(answer()));
        assert_eq!(case.line().as_deref(), Some(expected));
    }
}

#[test]
fn a_value_is_cut_at_its_bound() {
    let case = Case::new(&settings("%{x}i|%m"), 1);
    let mut head = head();
    head.headers.insert("x", HeaderValue::from_bytes(&[b'x'; 9000]).unwrap());
    send(case.begin(&head).answered(answer()));
    assert_eq!(case.line(), Some(format!("{}|GET", "x".repeat(8192))));
}

#[test]
fn a_full_queue_stops_nobody_and_what_is_lost_is_counted() {
    let case = Case::new(&settings("%s"), 2);
    for _ in 0..5 {
        send(case.begin(&head()).answered(answer()));
    }
    assert_eq!(case.log.lost.load(Ordering::Relaxed), 3);
    assert_eq!((case.line(), case.line(), case.line()), (Some("201".to_owned()), Some("201".to_owned()), None));
}

#[test]
fn at_the_end_everything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let settings = AccessLog { folder: folder.path().join("log"), ..settings("%m %s") };
    let log = Log::start(&settings).unwrap();
    let case = Case::new(&settings, 1);
    for _ in 0..1000 {
        send(log.begin(&head(), "", &case.peer).answered(answer()));
    }
    log.close();
    // Nothing hangs, and nothing is written any more.
    send(log.begin(&head(), "", &case.peer).answered(answer()));
    log.close();
    let written = std::fs::read_to_string(folder.path().join("log/log")).unwrap();
    assert_eq!(written, "GET 201\n".repeat(1000));
}
