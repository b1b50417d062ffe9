//! Parts of uploads, and what makes a response beside headers and bytes: cookies, trailers, and memory that is
//! handed over. Needs `cc`.

#![allow(clippy::macro_metavars_in_unsafe, reason = "arguments of `call` may be calls, too")]

mod mock;
mod puppet;

use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use mock::MockExchange;
use puppet::{Acts, X, puppet};
use serval_abi::*;
use serval_loader::exchange::{Part, PartContent};
use serval_loader::servlet::Scope;

fn new() -> MockExchange {
    MockExchange::new("/x")
}

/// Runs this as a service.
fn in_service(exchange: &mut MockExchange, work: impl Fn(X) + Send + Sync + 'static) {
    let puppet = puppet(Acts {
        service: Box::new(move |x, _| {
            work(x);
            SV_OK
        }),
        ..Acts::default()
    });
    puppet.plain.service(&mut Scope::new(), exchange);
}

fn text_of(text: sv_str) -> String {
    if text.ptr.is_null() {
        return "(absent)".to_owned();
    }
    // SAFETY: the host's promise.
    String::from_utf8(unsafe { std::slice::from_raw_parts(text.ptr, text.len) }.to_vec()).unwrap()
}

fn error_of(x: X) -> String {
    let mut text = sv_str::ABSENT;
    assert_eq!(call!(error_text(x.raw(), &mut text)), SV_OK);
    text_of(text)
}

// ---------------------------------------------------------------------------------------------- cookies

fn cookie(name: &str, value: &str) -> sv_cookie {
    sv_cookie {
        struct_size: size_of::<sv_cookie>() as u32,
        flags: 0,
        name: sv_str::new(name),
        value: sv_str::new(value),
        path: sv_str::ABSENT,
        domain: sv_str::ABSENT,
        max_age: 0,
        attributes: std::ptr::null(),
        attribute_count: 0,
    }
}

fn pair(name: &'static str, value: &'static str) -> sv_pair {
    sv_pair { name: sv_str::new(name), value: sv_str::new(value) }
}

#[test]
fn a_cookie_is_written_as_rfc_6265_has_it() {
    let mut exchange = new();
    in_service(&mut exchange, |x| {
        let set = |cookie: &sv_cookie| assert_eq!(call!(set_cookie(x.raw(), cookie)), SV_OK, "{}", error_of(x));
        set(&cookie("a", "1"));
        set(&cookie("a", ""));
        set(&sv_cookie { value: sv_str::ABSENT, ..cookie("none", "") });
        set(&cookie("quoted", "\"b\""));
        set(&cookie("odd!#$%&'*+-.^_`|~", "!#$%&'()*+-./:<=>?@[]^_`{|}~"));
        let attributes =
            [pair("Priority", "High"), pair("partitioned", "true"), pair("SameSite", "Lax"), pair("x", "")];
        set(&sv_cookie {
            flags: SV_COOKIE_SECURE | SV_COOKIE_HTTP_ONLY | 0x80,
            path: sv_str::new("/a b"),
            domain: sv_str::new("example.org"),
            attributes: attributes.as_ptr(),
            attribute_count: 4,
            ..cookie("all", "1")
        });
        set(&sv_cookie { path: sv_str::new(""), domain: sv_str::new(""), ..cookie("empty", "1") });
        set(&sv_cookie { max_age: 60, ..cookie("without_its_flag", "1") });
        for (name, max_age) in [("gone", 0), ("gone", i64::MIN), ("minute", 60), ("long", i64::MAX)] {
            set(&sv_cookie { flags: SV_COOKIE_MAX_AGE, max_age, ..cookie(name, "1") });
        }
    });
    let lines: Vec<&str> = exchange.answer.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!(
        lines[..10],
        [
            "a=1",
            "a=",
            "none=",
            "quoted=\"b\"",
            "odd!#$%&'*+-.^_`|~=!#$%&'()*+-./:<=>?@[]^_`{|}~",
            "all=1; Domain=example.org; Path=/a b; Secure; HttpOnly; SameSite=Lax; partitioned; Priority=High; x",
            "empty=1",
            "without_its_flag=1",
            "gone=1; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:10 GMT",
            "gone=1; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:10 GMT",
        ]
    );
    for (line, begin, seconds) in [
        (lines[10], "minute=1; Max-Age=60; Expires=", 60),
        (lines[11], "long=1; Max-Age=34560000; Expires=", 34_560_000),
    ] {
        let expires = httpdate::parse_http_date(line.strip_prefix(begin).unwrap()).unwrap();
        let left = expires.duration_since(std::time::SystemTime::now()).unwrap().as_secs();
        assert!((seconds - 50..=seconds).contains(&left), "{line}");
    }
    assert_eq!(lines.len(), 12);
}

#[test]
fn an_argument_of_a_later_minor_is_taken_only_if_its_news_are_not_used() {
    #[repr(C)]
    struct Later<T> {
        now: T,
        new: [u8; 16],
    }
    fn later<T>(now: T, last: u8) -> Later<T> {
        let mut new = [0; 16];
        new[15] = last;
        Later { now, new }
    }
    let mut exchange = new();
    in_service(&mut exchange, |x| {
        let struct_size = (size_of::<sv_cookie>() + 16) as u32;
        for (last, status) in [(0, SV_OK), (1, SV_E_UNSUPPORTED)] {
            let cookie = later(sv_cookie { struct_size, ..cookie("a", "1") }, last);
            assert_eq!(call!(set_cookie(x.raw(), (&raw const cookie).cast())), status);
        }
        let news = "the cookie uses members of a later servlet.h, which this server does not know";
        assert_eq!(error_of(x), news);
        let struct_size = (size_of::<sv_response>() + 16) as u32;
        for (last, reserved, status) in [(1, 0, SV_E_UNSUPPORTED), (0, 1, SV_E_ARG), (0, 0, SV_OK)] {
            let answer = sv_response {
                struct_size,
                status: 200,
                headers: std::ptr::null(),
                header_count: 0,
                body: std::ptr::null(),
                body_len: 0,
                body_kind: SV_BODY_COPY,
                reserved,
                release: None,
                release_arg: std::ptr::null_mut(),
            };
            let answer = later(answer, last);
            assert_eq!(call!(respond(x.raw(), (&raw const answer).cast())), status);
        }
    });
}

#[test]
fn a_redirect_has_a_status_of_redirects() {
    for (given, status) in [(0, 302), (300, 300), (303, 303), (308, 308), (399, 399)] {
        let mut exchange = new();
        in_service(&mut exchange, move |x| assert_eq!(call!(redirect(x.raw(), given, b"/a".as_ptr(), 2)), SV_OK));
        assert_eq!(exchange.status, status);
    }
    let mut exchange = new();
    in_service(&mut exchange, |x| {
        for given in [1, 200, 299, 304, 400, u32::MAX] {
            assert_eq!(call!(redirect(x.raw(), given, b"/a".as_ptr(), 2)), SV_E_ARG, "{given}");
        }
    });
}

#[test]
fn a_cookie_that_would_be_another_is_refused() {
    let mut exchange = new();
    in_service(&mut exchange, |x| {
        let refused = |cookie: &sv_cookie| {
            assert_eq!(call!(set_cookie(x.raw(), cookie)), SV_E_ARG);
            error_of(x)
        };
        assert_eq!(call!(set_cookie(x.raw(), std::ptr::null())), SV_E_ARG);
        let size = "the cookie is NULL, or its struct_size is not sizeof(sv_cookie)";
        assert_eq!(error_of(x), size);
        for struct_size in [0, SV_COOKIE_SIZE_1_0 as u32 - 1, u32::MAX] {
            assert_eq!(refused(&sv_cookie { struct_size, ..cookie("a", "1") }), size);
        }
        for name in ["", "a b", "a=", "a;", "a,b", "\"a\"", "é", "a\r\nb", "(a)"] {
            let quoted = name.as_bytes().escape_ascii();
            assert_eq!(refused(&cookie(name, "1")), format!("the cookie's name `{quoted}` is not a token"));
        }
        for value in ["a b", "a;b", "a,b", "a\\b", "a\"b", "\"", "\"a", "a\r\nset-cookie: b", "\0", "\x7f"] {
            let quoted = value.as_bytes().escape_ascii();
            let text = format!("the cookie's value `{quoted}` has a character that is not allowed: encode it");
            assert_eq!(refused(&cookie("a", value)), text);
        }
        for domain in [".", ".example.org", "a..b", "a b", "-a", "a-", "a;b", "é.org", "a\r\nb", "example.org."] {
            let quoted = domain.as_bytes().escape_ascii();
            let text = refused(&sv_cookie { domain: sv_str::new(domain), ..cookie("a", "1") });
            assert_eq!(text, format!("the cookie's domain `{quoted}` is not a domain"));
        }
        for path in ["/a;b", "/\r\n", "/é", "/\x7f", "\t"] {
            let quoted = path.as_bytes().escape_ascii();
            let text = refused(&sv_cookie { path: sv_str::new(path), ..cookie("a", "1") });
            assert_eq!(text, format!("the cookie's path `{quoted}` has a character that is not allowed"));
        }
        let with = |attributes: &[sv_pair]| sv_cookie {
            attributes: attributes.as_ptr(),
            attribute_count: attributes.len(),
            ..cookie("a", "1")
        };
        for attribute in [pair("", "1"), pair("a b", "1"), pair("a;", "1")] {
            assert!(refused(&with(&[attribute])).ends_with("is not a token"));
        }
        for attribute in [pair("a", "1;2"), pair("a", "é"), pair("a", "\n")] {
            assert!(refused(&with(&[attribute])).ends_with("has a character that is not allowed"));
        }
        refused(&with(&[pair("a", "1"); 101]));
        refused(&sv_cookie { attribute_count: 1, ..cookie("a", "1") });
        refused(&sv_cookie { attribute_count: usize::MAX, ..cookie("a", "1") });
        let bad = [sv_str { ptr: std::ptr::null(), len: 1 }, sv_str::from_bytes(b"\xff")];
        for bad in bad {
            refused(&sv_cookie { name: bad, ..cookie("a", "1") });
            refused(&sv_cookie { value: bad, ..cookie("a", "1") });
        }
        for bad in [bad[1], sv_str { ptr: b"a".as_ptr(), len: usize::MAX }] {
            refused(&sv_cookie { path: bad, ..cookie("a", "1") });
            refused(&sv_cookie { domain: bad, ..cookie("a", "1") });
            refused(&with(&[sv_pair { name: bad, value: sv_str::ABSENT }]));
            refused(&with(&[sv_pair { name: sv_str::new("a"), value: bad }]));
        }
        // (NULL, 1) is no absent value.
        refused(&sv_cookie { path: bad[0], ..cookie("a", "1") });
        refused(&sv_cookie { domain: bad[0], ..cookie("a", "1") });
    });
    assert!(!exchange.answer.contains_key("set-cookie"));
}

// ---------------------------------------------------------------------------------------------- trailers

fn set_trailer(x: X, name: &[u8], value: &[u8]) -> sv_status {
    call!(set_trailer(x.raw(), name.as_ptr(), name.len(), value.as_ptr(), value.len()))
}

#[test]
fn trailers_that_are_for_the_head_are_refused() {
    let mut exchange = new();
    in_service(&mut exchange, |x| {
        for name in [
            "Connection",
            "transfer-encoding",
            "Upgrade",
            "keep-alive",
            "content-length",
            "Content-Type",
            "Trailer",
            "set-cookie",
            "",
            "a b",
            "a:",
            "a\r\n",
        ] {
            assert_eq!(set_trailer(x, name.as_bytes(), b"1"), SV_E_ARG, "{name}");
        }
        assert_eq!(set_trailer(x, b"set-cookie", b"a=1"), SV_E_ARG);
        assert_eq!(error_of(x), "set-cookie is not for trailers (RFC 9110 6.5.1)");
        for value in ["a\r\nb", "\0", "\x7f"] {
            assert_eq!(set_trailer(x, b"x-sum", value.as_bytes()), SV_E_ARG);
        }
        assert_eq!(call!(set_trailer(x.raw(), std::ptr::null(), 1, b"a".as_ptr(), 1)), SV_E_ARG);
        assert_eq!(call!(set_trailer(x.raw(), b"a".as_ptr(), 1, std::ptr::null(), 1)), SV_E_ARG);
        assert_eq!(set_trailer(x, b"X-Sum", b"1"), SV_OK);
        assert_eq!(set_trailer(x, b"x-sum", b"2"), SV_OK);
    });
    assert_eq!(exchange.trailers.len(), 1);
    assert_eq!(exchange.trailers["x-sum"], "2");
}

#[test]
fn trailers_of_the_request_are_shown() {
    let mut exchange = new();
    exchange.trailers.insert("x-sum", "1".parse().unwrap());
    in_service(&mut exchange, |x| {
        let (mut pairs, mut count) = (std::ptr::null(), 0);
        assert_eq!(call!(request_trailers(x.raw(), &mut pairs, &mut count)), SV_OK);
        assert_eq!(count, 1);
        // SAFETY: the host's promise.
        let pair = unsafe { *pairs };
        assert_eq!((text_of(pair.name).as_str(), text_of(pair.value).as_str()), ("x-sum", "1"));
        assert_eq!(call!(request_trailers(x.raw(), null_mut(), &mut count)), SV_E_ARG);
        assert_eq!(call!(request_trailers(x.raw(), &mut pairs, null_mut())), SV_E_ARG);
    });
}

// ---------------------------------------------------------------------------------------------- memory that is handed over

#[test]
fn owned_memory_is_released_once_and_never_after_an_error() {
    let released = Arc::new(AtomicUsize::new(0));
    let releases = || released.load(Ordering::SeqCst);
    let write = |exchange: &mut MockExchange, want: sv_status| {
        let released = released.clone();
        in_service(exchange, move |x| {
            let released = released.clone();
            let status = x.write_owned(b"owned", move || {
                released.fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(status, want);
        });
    };
    // Dropped inside of the call.
    write(&mut new(), SV_OK);
    assert_eq!(releases(), 1);
    // Kept, shared, and sent on another thread.
    let mut exchange = MockExchange { owned: Some(Vec::new()), ..new() };
    write(&mut exchange, SV_OK);
    assert_eq!(releases(), 1);
    let mut owned = exchange.owned.take().unwrap();
    let piece: Bytes = owned[0].slice(1..3);
    drop(owned.pop());
    assert_eq!((releases(), &piece[..]), (1, &b"wn"[..]));
    std::thread::spawn(move || drop(piece)).join().unwrap();
    assert_eq!(releases(), 2);
    // An empty slice of it needs nothing of it.
    let mut exchange = MockExchange { owned: Some(Vec::new()), ..new() };
    write(&mut exchange, SV_OK);
    drop(exchange);
    assert_eq!(releases(), 3);
    // The caller still owns it, and `X::write_owned` frees it.
    for status in [SV_E_CLOSED, SV_E_TIMEOUT, SV_E_STATE] {
        write(&mut MockExchange { write_fails: Some(status), ..new() }, status);
        write(&mut MockExchange { write_fails: Some(status), owned: Some(Vec::new()), ..new() }, status);
    }
    assert_eq!(releases(), 3);
}

#[test]
fn an_owned_body_of_an_answer_is_released_once() {
    let released = Arc::new(AtomicUsize::new(0));
    unsafe extern "C" fn release(counter: *mut std::ffi::c_void) {
        // SAFETY: the counter below, which lives longer.
        unsafe { &*counter.cast::<AtomicUsize>() }.fetch_add(1, Ordering::SeqCst);
    }
    let counter = released.clone();
    let mut exchange = new();
    in_service(&mut exchange, move |x| {
        let mut answer = sv_response {
            struct_size: size_of::<sv_response>() as u32,
            status: 99,
            headers: std::ptr::null(),
            header_count: 0,
            body: b"owned".as_ptr(),
            body_len: 5,
            body_kind: SV_BODY_OWNED,
            reserved: 0,
            release: Some(release),
            release_arg: Arc::as_ptr(&counter).cast_mut().cast(),
        };
        assert_eq!(call!(respond(x.raw(), &answer)), SV_E_ARG);
        assert_eq!(counter.load(Ordering::SeqCst), 0);
        answer.status = 200;
        assert_eq!(call!(respond(x.raw(), &answer)), SV_OK);
        // The mock has sent it.
        assert_eq!(counter.load(Ordering::SeqCst), 1);
        assert_eq!(call!(respond(x.raw(), &answer)), SV_E_STATE);
    });
    assert_eq!((released.load(Ordering::SeqCst), exchange.written), (1, 5));
}

// ---------------------------------------------------------------------------------------------- parts

#[test]
fn the_parts_of_an_upload_are_shown() {
    let mut exchange = new();
    exchange.parts = Some(vec![
        Part {
            headers: vec![("content-disposition".to_owned(), b"form-data; name=\"caf\xe9\"".to_vec())],
            name: "a".to_owned(),
            file_name: None,
            content_type: None,
            content: PartContent::Data("some bytes".into()),
            size: 10,
        },
        Part {
            headers: Vec::new(),
            name: String::new(),
            file_name: Some("../../x".to_owned()),
            content_type: Some("image/png".to_owned()),
            content: PartContent::File("/tmp/upload1".to_owned()),
            size: 1 << 40,
        },
    ]);
    in_service(&mut exchange, |x| {
        let mut count = 0;
        assert_eq!((call!(part_count(x.raw(), &mut count)), count), (SV_OK, 2));
        let part = |index| {
            let mut found = std::ptr::without_provenance(77);
            let status = call!(part(x.raw(), index, &mut found));
            assert_eq!(status == SV_OK, !found.is_null());
            (status, found)
        };
        // SAFETY: the host's promise.
        let (a, b) = unsafe { (&*part(0).1, &*part(1).1) };
        assert_eq!((part(2).0, part(usize::MAX).0), (SV_NONE, SV_NONE));
        assert_eq!(part(0).1, part(0).1, "the same view");
        assert_eq!((a.struct_size as usize, b.struct_size as usize), (size_of::<sv_part>(), size_of::<sv_part>()));
        assert_eq!(
            [a.name, a.file_name, a.content_type, a.path, a.data].map(text_of),
            ["a", "(absent)", "(absent)", "(absent)", "some bytes"]
        );
        assert_eq!(
            [b.name, b.file_name, b.content_type, b.path, b.data].map(text_of),
            ["", "../../x", "image/png", "/tmp/upload1", "(absent)"]
        );
        assert_eq!((a.size, a.header_count, b.size, b.header_count), (10, 1, 1 << 40, 0));
        // SAFETY: the host's promise.
        let header = unsafe { *a.headers };
        assert_eq!((text_of(header.name).as_str(), header.value.len), ("content-disposition", 22));
        assert_eq!(call!(part_count(x.raw(), null_mut())), SV_E_ARG);
        assert_eq!(call!(part(x.raw(), 0, null_mut())), SV_E_ARG);
    });
    // No part at all.
    let mut exchange = MockExchange { parts: Some(Vec::new()), ..new() };
    in_service(&mut exchange, |x| {
        let mut count = 77;
        assert_eq!((call!(part_count(x.raw(), &mut count)), count), (SV_OK, 0));
    });
}
