//! The functions of the table, each through its C pointer, with arguments of the program's: the one place here that is unsafe.
//!
//! Of what servlet.h asks of a library, it breaks all that the server promises to find out: handles, threads, states, NULL, lengths, values.
//! It keeps the rest: a pointer that is not NULL leads to as many bytes as are said.

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr::{null, null_mut, without_provenance, without_provenance_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serval_abi::*;

use super::program::Program;
use super::{Handles, Run, act};

/// As in border.c.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Service,
    ServiceWithPoll,
    Poll,
    Drop,
    OnRequest,
    OnResponse,
    OnBody,
    OnEnd,
    OnEvent,
}

const ALL: [What; 9] = {
    use What::*;
    [Service, ServiceWithPoll, Poll, Drop, OnRequest, OnResponse, OnBody, OnEnd, OnEvent]
};

/// What border.c calls.
pub unsafe extern "C" fn entry(
    host: *const sv_host,
    what: i32,
    context: *mut sv_context,
    exchange: *mut sv_exchange,
    session: *mut sv_session,
    place: *mut *mut c_void,
) -> sv_status {
    // SAFETY: the table lives as long as the library, which the world never gives up.
    let host = unsafe { &*host };
    let handles = Handles { host, context: context.addr(), exchange: exchange.addr(), session: session.addr() };
    // SAFETY: NULL, or a place of the server's or of border.c.
    let mut held = if place.is_null() { 0 } else { unsafe { *place }.addr() };
    let status = act(ALL[what as usize], handles, &mut held);
    if !place.is_null() {
        // SAFETY: as above.
        unsafe { *place = without_provenance_mut(held) };
    }
    status
}

/// How a call has ended, as far as it can be judged.
pub struct Called {
    pub status: sv_status,
    /// Which handle it was given.
    pub handle: Given,
    /// It is a function of the exchange, and its status is an sv_status.
    pub of_exchange: bool,
    /// After an error, nothing has changed.
    pub atomic: bool,
    /// Memory that lives as long as the handle.
    pub view: Option<View>,
    /// Its number, for the message.
    pub function: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    Own,
    Null,
    /// Made up, or of another kind.
    Wrong,
    /// Of an earlier run.
    Old,
}

/// What the server has returned, and what was in it.
pub struct View(sv_str, u64);

impl View {
    fn of(text: sv_str) -> View {
        View(text, sum(text))
    }

    /// Whether it is still there, and the same.
    pub fn is_same(&self) -> bool {
        sum(self.0) == self.1
    }
}

// SAFETY: servlet.h 4: any thread may read such memory while it lives.
unsafe impl Send for View {}

fn sum(text: sv_str) -> u64 {
    // SAFETY: the server's promise, which is what is tested.
    let bytes = if text.len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(text.ptr, text.len) } };
    black_box(bytes.iter().fold(text.len as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))))
}

fn look(text: sv_str) {
    black_box(sum(text));
}

fn read_pairs(first: *const sv_pair, count: usize) {
    for at in 0..count {
        // SAFETY: the server's promise, which is what is tested.
        let pair = unsafe { *first.add(at) };
        black_box(sum(pair.name) ^ sum(pair.value));
    }
}

const TEXTS: &[&[u8]] = &[
    b"",
    b"a",
    b"host",
    b"content-type",
    b"content-length",
    b"text/html; charset=x",
    b"text/plain",
    b"utf-8",
    b"0",
    b"17",
    b"x-a",
    b"trailer",
    b"set-cookie",
    b"connection",
    b"a b\r\nc: d",
    b"\0",
    b"\xff",
    b"servlet.forward.path_info",
    b"servlet.x",
    b"/plain/a?b=c",
    b"/plain/f/x",
    b"/quick/a",
    b"/task/f/x",
    b"../quick/b",
    b"/index.html",
    b"/none",
    b"/WEB-INF/web.toml",
    b"quick",
    b"default",
    b"\xc3\xa9",
    b"io/not-found",
    b"example.com",
];

/// Bytes to give, which stay where they are as long as this value.
struct Text(Vec<u8>, Option<sv_str>);

impl Text {
    fn take(program: &mut Program) -> Text {
        match program.byte() {
            number @ 0..200 => Text(TEXTS[usize::from(number) % TEXTS.len()].to_vec(), None),
            200..240 => Text(program.bytes(), None),
            240..243 => Text(vec![b'x'; 3000], None),
            243 => Text(vec![b'y'; 70_000], None),
            244 => Text(Vec::new(), Some(sv_str { ptr: null(), len: 0 })),
            245 => Text(Vec::new(), Some(sv_str { ptr: null(), len: 5 })),
            246 => Text(Vec::new(), Some(sv_str { ptr: b"x".as_ptr(), len: usize::MAX })),
            247 => Text(Vec::new(), Some(sv_str { ptr: b"x".as_ptr(), len: isize::MAX as usize + 1 })),
            number => Text(TEXTS[usize::from(number) % TEXTS.len()].to_vec(), None),
        }
    }

    fn view(&self) -> sv_str {
        self.1.unwrap_or(sv_str { ptr: self.0.as_ptr(), len: self.0.len() })
    }
}

/// A place for a result: most often a good one.
struct Place<T> {
    value: [T; 2],
    how: u8,
}

impl<T: Copy> Place<T> {
    fn new(program: &mut Program, before: T) -> Place<T> {
        Place { value: [before; 2], how: program.byte() }
    }

    fn out(&mut self) -> *mut T {
        match self.how {
            255 => null_mut(),
            254 if align_of::<T>() > 1 => self.value.as_mut_ptr().cast::<u8>().wrapping_add(1).cast(),
            _ => self.value.as_mut_ptr(),
        }
    }

    /// The result, if the place was good.
    fn result(&self) -> Option<T> {
        (self.how < 254).then_some(self.value[0])
    }
}

/// What a place held before.
const BEFORE: sv_str = sv_str { ptr: without_provenance(7), len: 7 };

fn text_result(place: &Place<sv_str>, status: sv_status) -> Option<View> {
    let result = place.result();
    match (status, result) {
        (SV_OK, Some(text)) => Some(View::of(text)),
        (SV_OK, None) => panic!("SV_OK without a place for the result"),
        (_, Some(text)) => {
            assert!(text.ptr.is_null() && text.len == 0, "a result with status {status}");
            None
        }
        (_, None) => None,
    }
}

/// As [`text_result`], of what does not stay.
fn look_at(place: &Place<sv_str>, status: sv_status) {
    let _ = text_result(place, status);
}

/// Counts what is released; made for each answer that gives memory away.
struct Owned {
    bytes: Vec<u8>,
    releases: AtomicUsize,
    run: Arc<Run>,
}

unsafe extern "C" fn release(arg: *mut c_void) {
    // SAFETY: made by `Arc::into_raw` below; the call's own reference, given once.
    let owned = unsafe { Arc::from_raw(arg.cast::<Owned>().cast_const()) };
    assert_eq!(owned.releases.fetch_add(1, Ordering::SeqCst), 0, "released twice");
    black_box(owned.bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    owned.run.owed.fetch_sub(1, Ordering::SeqCst);
}

/// Gives memory away by a call that returns an sv_status.
fn give(run: &Arc<Run>, bytes: Vec<u8>, call: impl FnOnce(sv_str, *mut c_void) -> sv_status) -> sv_status {
    let owned = Arc::new(Owned { bytes, releases: AtomicUsize::new(0), run: run.clone() });
    let given = Arc::into_raw(owned.clone());
    run.owed.fetch_add(1, Ordering::SeqCst);
    let view = sv_str { ptr: owned.bytes.as_ptr(), len: owned.bytes.len() };
    let status = call(view, given.cast_mut().cast());
    if status != SV_OK {
        assert_eq!(owned.releases.load(Ordering::SeqCst), 0, "released with status {status}");
        run.owed.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: the server has not taken it.
        drop(unsafe { Arc::from_raw(given) });
    }
    status
}

/// The server tells that the generation retires, once at most, and that the exchange is over, once and at last.
#[derive(Default)]
struct Told {
    retires: AtomicUsize,
    is_over: AtomicUsize,
}

unsafe extern "C" fn told(arg: *mut c_void, why: sv_status) {
    // SAFETY: leaked by `detach` below.
    let told = unsafe { &*arg.cast::<Told>() };
    assert_eq!(told.is_over.load(Ordering::SeqCst), 0, "told after the end");
    match why {
        SV_OK => assert_eq!(told.retires.fetch_add(1, Ordering::SeqCst), 0, "told twice"),
        SV_E_CLOSED | SV_E_TIMEOUT | SV_E_CANCELLED => drop(told.is_over.fetch_add(1, Ordering::SeqCst)),
        _ => panic!("told {why}"),
    }
}

unsafe extern "C" fn job(arg: *mut c_void) {
    // SAFETY: made by `Arc::into_raw`, and run once.
    let run = unsafe { Arc::from_raw(arg.cast::<Run>().cast_const()) };
    run.owed.fetch_sub(1, Ordering::SeqCst);
}

/// What an error means to a function of the exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing has changed.
    Atomic,
    /// Something may have been moved.
    Moves,
    /// It is not about the exchange, or its result is no sv_status.
    Other,
}

/// The member of the table, and its call.
macro_rules! call {
    ($host:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let function = $host.$function.expect("the table is full");
        // SAFETY: what servlet.h asks for holds, but for what the server promises to find out.
        unsafe { function($($argument),*) }
    }};
}

/// Ends a detached exchange.
pub fn complete(host: &sv_host, exchange: usize) -> sv_status {
    call!(host, complete(without_provenance_mut(exchange), SV_OK))
}

/// What the server says of an exchange that it does not let end.
pub fn why_not_complete(host: &sv_host, exchange: usize) -> (sv_status, String) {
    let (status, mut text) = (complete(host, exchange), sv_str::ABSENT);
    call!(host, error_text(without_provenance_mut(exchange), &mut text));
    // SAFETY: the server's promise.
    let text = if text.len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(text.ptr, text.len) } };
    (status, String::from_utf8_lossy(text).into_owned())
}

/// A function that changes nothing.
pub fn touch(host: &sv_host, exchange: usize) -> sv_status {
    let mut status = 0;
    call!(host, response_status(without_provenance_mut(exchange), &mut status))
}

pub fn take_waker(host: &sv_host, exchange: usize) -> usize {
    call!(host, waker(without_provenance_mut(exchange))).addr()
}

pub fn wake(host: &sv_host, waker: usize) {
    call!(host, waker_wake(without_provenance_mut(waker), 1));
}

pub fn drop_waker(host: &sv_host, waker: usize) {
    call!(host, waker_drop(without_provenance_mut(waker)));
}

/// What of the response can be seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    status: u32,
    committed: i32,
    fields: [Option<u64>; 4],
}

impl Head {
    pub fn of(host: &sv_host, exchange: usize) -> Head {
        let x: *mut sv_exchange = without_provenance_mut(exchange);
        let mut status = 0;
        call!(host, response_status(x, &mut status));
        let field = |name: &str| {
            let mut value = sv_str::ABSENT;
            let found = call!(host, response_header(x, name.as_ptr(), name.len(), 0, &mut value));
            (found == SV_OK).then(|| sum(value))
        };
        let fields = ["content-type", "content-length", "x-a", "set-cookie"].map(field);
        Head { status, committed: call!(host, committed(x)), fields }
    }
}

/// Calls one function.
pub fn call(run: &Arc<Run>, handles: &Handles, program: &mut Program) -> Called {
    let host = handles.host;
    let function = program.byte();
    let (address, handle) = match program.byte() {
        0..230 => (handles.exchange, Given::Own),
        230..235 => (0, Given::Null),
        235..240 => (program.number() as usize & !(3 << 21) | 1, Given::Wrong),
        240..245 => (handles.context, Given::Wrong),
        _ => match run.an_old_handle(program.byte()) {
            Some(old) => (old, Given::Old),
            None => (handles.exchange, Given::Own),
        },
    };
    let x: *mut sv_exchange = without_provenance_mut(address);
    let s: *mut sv_session = match program.byte() {
        0..230 if handles.session != 0 => without_provenance_mut(handles.session),
        0..230 => without_provenance_mut(run.session.load(Ordering::SeqCst)),
        230..240 => null_mut(),
        _ => without_provenance_mut(address),
    };
    let c: *mut sv_context = match program.byte() {
        0..240 => without_provenance_mut(handles.context),
        240..248 => null_mut(),
        _ => without_provenance_mut(address),
    };
    let (text, other) = (Text::take(program), Text::take(program));
    let (t, o) = (text.view(), other.view());
    let mut view = None;
    let mut out = Place::new(program, BEFORE);
    let mut count = Place::new(program, 7_usize);
    let mut pairs = Place::new(program, null::<sv_pair>().wrapping_add(1));
    macro_rules! by_name {
        ($name:ident) => {{
            let status = call!(host, $name(x, t.ptr, t.len, out.out()));
            view = text_result(&out, status);
            (status, Kind::Atomic)
        }};
    }
    macro_rules! all_pairs {
        ($name:ident($handle:expr)) => {{
            let status = call!(host, $name($handle, pairs.out(), count.out()));
            match (status, pairs.result(), count.result()) {
                (SV_OK, Some(first), Some(count)) => read_pairs(first, count),
                (SV_OK, ..) => panic!("SV_OK without a place for the result"),
                (_, first, count) => {
                    assert!(first.is_none_or(|first| first.is_null()), "a result with status {status}");
                    assert!(count.is_none_or(|count| count == 0), "a count with status {status}");
                }
            }
            status
        }};
    }
    let (status, kind) = match function % 82 {
        0 => {
            call!(host, extension(c"example.none/1".as_ptr().cast()));
            (SV_OK, Kind::Other)
        }
        1 => (call!(host, log_enabled(c, i32::from(program.byte()) - 1)).min(0), Kind::Other),
        2 => (call!(host, log_message(c, x, i32::from(program.byte() % 7), t.ptr, t.len)), Kind::Other),
        3 => (call!(host, report_panic(c, t.ptr, t.len, o.ptr, o.len, 7)), Kind::Other),
        4 => {
            let request = call!(host, request(x));
            if !request.is_null() {
                // SAFETY: the server's promise, which is what is tested.
                let request = unsafe { &*request };
                let texts = [request.target, request.query, request.servlet_path, request.match_value, request.charset];
                texts.into_iter().for_each(look);
                read_pairs(request.headers, request.header_count);
                view = Some(View::of(request.request_uri));
            }
            (SV_OK, Kind::Other)
        }
        5 => {
            assert!(call!(host, tls(x)).is_null());
            (SV_OK, Kind::Other)
        }
        6 => by_name!(header),
        7 => {
            let status = call!(host, parameter(x, t.ptr, t.len, u32::from(program.byte() % 4), out.out()));
            view = text_result(&out, status);
            (status, Kind::Moves)
        }
        8 => (all_pairs!(parameters(x)), Kind::Moves),
        9 => by_name!(path_parameter),
        10 => by_name!(cookie),
        11 => (all_pairs!(cookies(x)), Kind::Atomic),
        12 => (call!(host, part_count(x, count.out())), Kind::Moves),
        13 => {
            let mut part = Place::new(program, null::<sv_part>().wrapping_add(1));
            let status = call!(host, part(x, usize::from(program.byte() % 4), part.out()));
            if let (SV_OK, Some(part)) = (status, part.result()) {
                // SAFETY: the server's promise, which is what is tested.
                let part = unsafe { &*part };
                [part.name, part.file_name, part.content_type, part.data, part.path]
                    .iter()
                    .for_each(|text| look(*text));
                read_pairs(part.headers, part.header_count as usize);
                view = Some(View::of(part.name));
            }
            (status, Kind::Moves)
        }
        14 => by_name!(attribute),
        15 => (all_pairs!(attributes(x)), Kind::Atomic),
        16 => (call!(host, set_attribute(x, t.ptr, t.len, o.ptr, o.len)), Kind::Atomic),
        17 => {
            let mut method = Place::new(program, BEFORE);
            let status = call!(host, principal(x, out.out(), method.out()));
            look_at(&out, status);
            look_at(&method, status);
            (status, Kind::Atomic)
        }
        18 => (call!(host, in_role(x, t.ptr, t.len)), Kind::Atomic),
        19 => (call!(host, login(x, t.ptr, t.len, o.ptr, o.len)), Kind::Atomic),
        20 => (call!(host, logout(x)), Kind::Atomic),
        21 => {
            let mut buffer = vec![0; usize::from(program.byte())];
            let capacity = if program.byte() > 250 { usize::MAX } else { buffer.len() };
            let status = call!(host, read(x, buffer.as_mut_ptr(), capacity, count.out()));
            if let (SV_OK, Some(len)) = (status, count.result()) {
                assert!(len > 0 && len <= buffer.len());
            }
            (status, Kind::Moves)
        }
        22 => {
            let status = call!(host, read_chunk(x, out.out()));
            // It lives until the next read.
            look_at(&out, status);
            (status, Kind::Moves)
        }
        23 => {
            let most = program.pick(&[0, 1, 100, 10_000, usize::MAX]);
            let status = call!(host, read_all(x, most, out.out()));
            let body = text_result(&out, status);
            assert!(body.is_none_or(|body| body.0.len <= most));
            (status, Kind::Moves)
        }
        24 => (all_pairs!(request_trailers(x)), Kind::Moves),
        25 => {
            let headers = [sv_pair { name: t, value: o }];
            let kind = u32::from(program.byte() % 4);
            let mut answer = sv_response {
                struct_size: if program.byte() > 250 { 3 } else { size_of::<sv_response>() as u32 },
                status: u32::from(program.byte()) * 3,
                headers: if program.byte() > 250 { null() } else { headers.as_ptr() },
                header_count: usize::from(program.byte() % 2),
                body: null(),
                body_len: 0,
                body_kind: kind,
                reserved: 0,
                release: None,
                release_arg: null_mut(),
            };
            let status = match kind {
                SV_BODY_OWNED => give(run, program.bytes(), |body, arg| {
                    (answer.body, answer.body_len) = (body.ptr, body.len);
                    answer.release = Some(release);
                    answer.release_arg = arg;
                    call!(host, respond(x, &answer))
                }),
                _ => {
                    let body = program.pick(TEXTS);
                    (answer.body, answer.body_len) = (body.as_ptr(), body.len());
                    call!(host, respond(x, if program.byte() > 250 { null() } else { &answer }))
                }
            };
            (status, Kind::Atomic)
        }
        26 => (call!(host, set_status(x, u32::from(program.byte()) * 3)), Kind::Atomic),
        27 | 28 => {
            let how = i32::from(program.byte() % 5) - 1;
            (call!(host, set_header(x, how, t.ptr, t.len, o.ptr, o.len)), Kind::Atomic)
        }
        29 => {
            let status = call!(host, response_header(x, t.ptr, t.len, u32::from(program.byte() % 3), out.out()));
            view = text_result(&out, status);
            (status, Kind::Atomic)
        }
        30 => {
            let mut number = Place::new(program, 7_u32);
            (call!(host, response_status(x, number.out())), Kind::Atomic)
        }
        31 => (call!(host, set_content_type(x, t.ptr, t.len)), Kind::Atomic),
        32 => (call!(host, set_charset(x, t.ptr, t.len)), Kind::Atomic),
        33 => (call!(host, set_content_length(x, program.pick(&[0, 1, 17, 3000, u64::MAX, 1 << 63]))), Kind::Atomic),
        34 => (call!(host, set_buffer_size(x, program.pick(&[0, 1, 100, 10_000, usize::MAX]))), Kind::Atomic),
        35 => {
            let attributes = [sv_pair { name: t, value: o }];
            let cookie = sv_cookie {
                struct_size: if program.byte() > 250 { 8 } else { size_of::<sv_cookie>() as u32 },
                flags: u32::from(program.byte()),
                name: t,
                value: o,
                path: if program.byte() > 128 { o } else { sv_str::ABSENT },
                domain: if program.byte() > 200 { t } else { sv_str::ABSENT },
                max_age: program.pick(&[0, 1, -1, i64::MAX, i64::MIN]),
                attributes: if program.byte() > 250 { null() } else { attributes.as_ptr() },
                attribute_count: usize::from(program.byte() % 2),
            };
            (call!(host, set_cookie(x, if program.byte() > 250 { null() } else { &cookie })), Kind::Atomic)
        }
        36 => (call!(host, set_trailer(x, t.ptr, t.len, o.ptr, o.len)), Kind::Atomic),
        37 => {
            let headers = [sv_pair { name: t, value: o }];
            let count = usize::from(program.byte() % 2);
            (call!(host, informational(x, 100 + u32::from(program.byte() % 5), headers.as_ptr(), count)), Kind::Moves)
        }
        38..=41 => (
            call!(host, write(x, t.ptr, t.len, if program.byte() > 200 { null_mut() } else { count.out() })),
            Kind::Moves,
        ),
        42 => {
            // Nobody is told.
            let bytes = program.pick(TEXTS);
            (call!(host, write_owned(x, bytes.as_ptr(), bytes.len(), None, null_mut())), Kind::Moves)
        }
        43 => {
            let status = give(run, program.bytes(), |bytes, arg| {
                call!(host, write_owned(x, bytes.ptr, bytes.len, Some(release), arg))
            });
            (status, Kind::Moves)
        }
        44 => (call!(host, flush(x)), Kind::Moves),
        45 => (call!(host, reset(x)), Kind::Atomic),
        46 => (call!(host, reset_buffer(x)), Kind::Atomic),
        47 => (call!(host, send_error(x, u32::from(program.byte()) * 3, t.ptr, t.len)), Kind::Atomic),
        48 => (call!(host, redirect(x, program.pick(&[0, 302, 307, 304, 400]), t.ptr, t.len)), Kind::Atomic),
        49 => (call!(host, committed(x)).min(0), Kind::Atomic),
        50 => by_name!(encode_url),
        51 => {
            let (size, align) =
                (program.pick(&[0, 1, 17, 100_000, usize::MAX, 1 << 40]), program.pick(&[1, 8, 64, 4096, 0, 3]));
            let memory: *mut u8 = call!(host, alloc(x, size, align)).cast();
            if !memory.is_null() {
                assert!(memory.addr().is_multiple_of(align) && size <= 64 << 20);
                // SAFETY: the server's promise, which is what is tested.
                unsafe { memory.write_bytes(0xa5, size) };
                view = Some(View::of(sv_str { ptr: memory, len: size }));
            }
            (SV_OK, Kind::Other)
        }
        52 => {
            let status = call!(host, error_text(x, out.out()));
            view = text_result(&out, status);
            (status, Kind::Atomic)
        }
        53 => (call!(host, fail(x, t.ptr, t.len, o.ptr, o.len)), Kind::Atomic),
        // With a good handle it would end that servlet for the inputs that follow.
        54 if handle != Given::Own => (call!(host, unavailable(x, 1, t.ptr, t.len)), Kind::Atomic),
        54 => (call!(host, fail(x, o.ptr, o.len, t.ptr, t.len)), Kind::Atomic),
        55..=57 => {
            let how = program.pick(&[SV_FORWARD, SV_INCLUDE, SV_FORWARD | SV_BY_NAME, SV_INCLUDE | SV_BY_NAME, 0, 77]);
            (call!(host, dispatch(x, how, t.ptr, t.len)), Kind::Moves)
        }
        58 => (call!(host, cancelled(x)).min(0), Kind::Atomic),
        59 => (call!(host, retiring(x)).min(0), Kind::Atomic),
        60 => {
            // LIMIT: a few bytes for each; `told` may come as long as the process runs.
            let arg: *mut Told = Box::leak(Box::default());
            let status = call!(host, detach(x, if program.byte() > 128 { Some(told) } else { None }, arg.cast()));
            if status == SV_OK {
                run.is_detached(address);
            }
            (status, Kind::Atomic)
        }
        61 => {
            (call!(host, complete(x, program.pick(&[SV_OK, SV_E_FAILED, SV_E_CLOSED, 4711, SV_PENDING]))), Kind::Atomic)
        }
        62 => (call!(host, async_dispatch(x, t.ptr, t.len)), Kind::Atomic),
        63 => (call!(host, set_timeout(x, program.pick(&[1, 20, 0, u64::MAX, 100]))), Kind::Atomic),
        64 => {
            run.keep_waker(call!(host, waker(x)).addr());
            (SV_OK, Kind::Other)
        }
        65 => {
            let old = run.a_waker(program.byte());
            run.keep_waker(call!(host, waker_clone(without_provenance_mut(old))).addr());
            (SV_OK, Kind::Other)
        }
        66 => {
            wake(host, run.a_waker(program.byte()));
            (SV_OK, Kind::Other)
        }
        67 => {
            call!(host, waker_wake(without_provenance_mut(run.a_waker(program.byte())), i32::from(program.byte() % 2)));
            (SV_OK, Kind::Other)
        }
        68 => {
            drop_waker(
                host,
                if program.byte() > 250 { program.number() as usize } else { run.a_waker(program.byte()) },
            );
            (SV_OK, Kind::Other)
        }
        69 => {
            let mut session = Place::new(program, null_mut());
            let status = call!(host, session(x, i32::from(program.byte() % 2), session.out()));
            match (status, session.result()) {
                (SV_OK, Some(session)) => run.session.store(session.addr(), Ordering::SeqCst),
                (_, session) => assert!(session.is_none_or(|session| session.is_null())),
            }
            (status, Kind::Atomic)
        }
        70 => {
            let mut info = Place::new(program, null::<sv_session_info>().wrapping_add(1));
            let status = call!(host, session_info(x, info.out()));
            if let (SV_OK, Some(info)) = (status, info.result()) {
                // SAFETY: the server's promise, which is what is tested.
                let info = unsafe { &*info };
                black_box(sum(info.id) ^ sum(info.requested_id));
            }
            (status, Kind::Atomic)
        }
        71 => {
            let status = call!(host, session_attribute(s, t.ptr, t.len, out.out()));
            look_at(&out, status);
            (status, Kind::Other)
        }
        72 => (all_pairs!(session_attributes(s)), Kind::Other),
        73 => (call!(host, session_set_attribute(s, t.ptr, t.len, o.ptr, o.len)), Kind::Other),
        74 => {
            let status = call!(host, session_change_id(s, out.out()));
            look_at(&out, status);
            (status, Kind::Other)
        }
        75 => match program.byte() % 2 {
            0 => (call!(host, session_invalidate(s)), Kind::Other),
            _ => (call!(host, session_set_max_inactive(s, program.pick(&[0, 1, -1, i64::MAX, i64::MIN]))), Kind::Other),
        },
        76 => {
            black_box(call!(host, context(x)));
            (call!(host, context_path(c, out.out())), Kind::Other)
        }
        77 => {
            let status = match program.byte() % 3 {
                0 => call!(host, context_parameter(c, t.ptr, t.len, out.out())),
                1 => call!(host, context_mime_type(c, t.ptr, t.len, out.out())),
                _ => call!(host, context_resource(c, t.ptr, t.len, out.out())),
            };
            look_at(&out, status);
            (status, Kind::Other)
        }
        78 => match program.byte() % 2 {
            0 => (all_pairs!(context_parameters(c)), Kind::Other),
            _ => {
                let status = call!(host, context_folder(c, i32::from(program.byte() % 5), out.out()));
                look_at(&out, status);
                (status, Kind::Other)
            }
        },
        79 => {
            let mut buffer = vec![0; usize::from(program.byte() % 32)];
            let capacity = if program.byte() > 250 { usize::MAX } else { buffer.len() };
            (call!(host, context_attribute(c, t.ptr, t.len, buffer.as_mut_ptr(), capacity, count.out())), Kind::Other)
        }
        80 => {
            black_box(call!(host, context_generation(c)));
            (call!(host, context_set_attribute(c, t.ptr, t.len, o.ptr, o.len)), Kind::Other)
        }
        _ if program.byte().is_multiple_of(2) => {
            let milliseconds = program.pick(&[0, 1, u64::MAX]);
            (
                call!(host, context_timer(c, milliseconds, without_provenance_mut(run.a_waker(program.byte())))),
                Kind::Other,
            )
        }
        _ => {
            run.owed.fetch_add(1, Ordering::SeqCst);
            let arg = Arc::into_raw(run.clone());
            let status = call!(host, context_post(c, Some(job), arg.cast_mut().cast()));
            if status != SV_OK {
                run.owed.fetch_sub(1, Ordering::SeqCst);
                // SAFETY: the server has not taken it.
                drop(unsafe { Arc::from_raw(arg) });
            }
            (status, Kind::Other)
        }
    };
    let may_block = matches!(function % 82, 7 | 8 | 12 | 13 | 19 | 21..=23 | 38..=44)
        // Its status is that of the target, which is the program's.
        || matches!(function % 82, 55..=57);
    assert!(status != SV_WOULD_BLOCK || may_block, "function {} would block", function % 82);
    Called {
        status,
        handle,
        of_exchange: kind != Kind::Other,
        atomic: kind == Kind::Atomic,
        view,
        function: function % 82,
    }
}
