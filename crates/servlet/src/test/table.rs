//! The table that the library is given in a test. Handles are numbers that are looked up, so that wrong use gets the status
//! of servlet.h, as from a server.
//!
//! Its functions are `unsafe` for the pointers they are given: to texts that live for the call, and to places for results.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serval_abi::*;

use super::exchange::{Dispatch, Exchange, Failed, Inner, Phase, Wake};
use super::session::{COOKIE, Session};
use super::webapp::{Generation, Told, lock, text};
use crate::host;

#[derive(Clone)]
pub(super) enum Handle {
    Context(Arc<Generation>),
    Dispatch(Arc<Dispatch>),
    Session(Arc<Session>, Arc<Exchange>),
}

static HANDLES: Mutex<BTreeMap<usize, Handle>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

pub(super) fn register(handle: Handle) -> usize {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    lock(&HANDLES).insert(number, handle);
    number
}

pub(super) fn register_dispatch(make: impl FnOnce(usize) -> Dispatch) -> Arc<Dispatch> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dispatch = Arc::new(make(number));
    lock(&HANDLES).insert(number, Handle::Dispatch(dispatch.clone()));
    dispatch
}

pub(super) fn unregister(number: usize) {
    let handle = lock(&HANDLES).remove(&number);
    drop(handle);
}

/// Ends all handles of an exchange.
pub(super) fn unregister_of(exchange: u64) {
    let mut handles = lock(&HANDLES);
    let ended: Vec<usize> = handles
        .iter()
        .filter(|(_, handle)| match handle {
            Handle::Dispatch(dispatch) => dispatch.exchange.id == exchange,
            Handle::Session(_, of) => of.id == exchange,
            Handle::Context(_) => false,
        })
        .map(|(number, _)| *number)
        .collect();
    let ended: Vec<Option<Handle>> = ended.iter().map(|number| handles.remove(number)).collect();
    drop(handles);
    drop(ended);
}

type Status<T = ()> = Result<T, sv_status>;

fn status(result: Status) -> sv_status {
    result.map_or_else(|status| status, |()| SV_OK)
}

fn of_context(context: *mut sv_context) -> Status<Arc<Generation>> {
    match lock(&HANDLES).get(&context.addr()) {
        Some(Handle::Context(generation)) => Ok(generation.clone()),
        _ => Err(SV_E_STALE),
    }
}

/// The dispatch, if this thread may use it, and whether waiting functions answer SV_WOULD_BLOCK.
fn of_exchange(exchange: *mut sv_exchange) -> Status<(Arc<Dispatch>, bool)> {
    let found = match lock(&HANDLES).get(&exchange.addr()) {
        Some(Handle::Dispatch(dispatch)) => dispatch.clone(),
        _ => return Err(SV_E_STALE),
    };
    let polls = owned(&found.exchange)?;
    Ok((found, polls))
}

fn owned(exchange: &Exchange) -> Status<bool> {
    let this = thread::current().id();
    match *lock(&exchange.phase) {
        Phase::Waits(thread) if thread == this => Ok(false),
        Phase::Polls(thread) if thread == this => Ok(true),
        Phase::Detached => Ok(false),
        _ => Err(SV_E_THREAD),
    }
}

fn of_session(session: *mut sv_session) -> Status<(Arc<Session>, Arc<Exchange>)> {
    let (session, exchange) = match lock(&HANDLES).get(&session.addr()) {
        Some(Handle::Session(session, exchange)) => (session.clone(), exchange.clone()),
        _ => return Err(SV_E_STALE),
    };
    owned(&exchange)?;
    if lock(&session.data).valid { Ok((session, exchange)) } else { Err(SV_E_STATE) }
}

/// # Safety
/// NULL, or text that lives for the call.
unsafe fn bytes<'a>(ptr: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { host::bytes(sv_str { ptr, len }) }.unwrap_or_default()
}

/// # Safety
/// As [`bytes`].
unsafe fn name<'a>(ptr: *const u8, len: usize) -> Status<&'a str> {
    // SAFETY: the caller's promise.
    std::str::from_utf8(unsafe { bytes(ptr, len) }).map_err(|_| SV_E_ARG)
}

/// # Safety
/// `out` is NULL or may be written to.
unsafe fn put<T>(out: *mut T, value: T) -> Status {
    if out.is_null() {
        return Err(SV_E_ARG);
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(value) };
    Ok(())
}

/// Runs `body` with the dispatch and what changes in it.
fn with(exchange: *mut sv_exchange, body: impl FnOnce(&Dispatch, &mut Inner) -> Status) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        let mut inner = lock(&dispatch.exchange.inner);
        body(&dispatch, &mut inner)
    }))
}

/// The same for what changes the response's head: not in an include, and not when it is too late.
fn head(exchange: *mut sv_exchange, body: impl FnOnce(&Dispatch, &mut Inner) -> Status) -> sv_status {
    with(exchange, |dispatch, inner| {
        if dispatch.kind == SV_DISPATCH_INCLUDE {
            return Ok(());
        }
        if inner.committed {
            return Err(say(inner, SV_E_STATE, "the response is committed"));
        }
        body(dispatch, inner)
    })
}

/// The same for what finishes the response; it can be finished once.
fn finish(exchange: *mut sv_exchange, body: impl FnOnce(&Dispatch, &mut Inner) -> Status) -> sv_status {
    head(exchange, |dispatch, inner| {
        if inner.finished {
            return Err(say(inner, SV_E_STATE, "the response is finished"));
        }
        body(dispatch, inner)
    })
}

fn say(inner: &mut Inner, status: sv_status, said: &str) -> sv_status {
    said.clone_into(&mut inner.said);
    status
}

// ---------------------------------------------------------------------------------------------- log

const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

unsafe extern "C" fn extension(_: *const u8) -> *const c_void {
    null()
}

unsafe extern "C" fn log_enabled(_: *mut sv_context, level: i32) -> i32 {
    i32::from((SV_LOG_ERROR..=SV_LOG_DEBUG).contains(&level))
}

unsafe extern "C" fn log_message(
    context: *mut sv_context,
    _: *mut sv_exchange,
    level: i32,
    line: *const u8,
    len: usize,
) -> sv_status {
    status(of_context(context).map(|generation| {
        let level = usize::try_from(level - SV_LOG_ERROR).ok().and_then(|at| LEVELS.get(at)).unwrap_or(&"?");
        // SAFETY: the caller's promise.
        generation.webapp.log(format!("{level} {}", String::from_utf8_lossy(unsafe { bytes(line, len) })));
    }))
}

unsafe extern "C" fn report_panic(
    context: *mut sv_context,
    said: *const u8,
    len: usize,
    file: *const u8,
    file_len: usize,
    line: u32,
) -> sv_status {
    // SAFETY: the caller's promise.
    let (said, file) = unsafe { (bytes(said, len), bytes(file, file_len)) };
    let (said, file) = (String::from_utf8_lossy(said), String::from_utf8_lossy(file));
    // A test's own panic comes here too: it has to be seen.
    eprintln!("thread {:?} panicked at {file}:{line}:\n{said}", thread::current().name().unwrap_or("unnamed"));
    if let Ok(generation) = of_context(context) {
        generation.webapp.panicked(thread::current().id(), said.clone().into_owned());
        generation.webapp.log(format!("ERROR panic: {said} ({file}:{line})"));
    }
    SV_OK
}

// ---------------------------------------------------------------------------------------------- the request

unsafe extern "C" fn request(exchange: *mut sv_exchange) -> *const sv_request {
    of_exchange(exchange).map_or(null(), |(dispatch, _)| dispatch.head.0)
}

unsafe extern "C" fn tls(_: *mut sv_exchange) -> *const sv_tls {
    null()
}

/// One value of a list by its name.
fn find<V: AsRef<[u8]>>(
    dispatch: &Dispatch,
    pairs: impl IntoIterator<Item = (String, V)>,
    wanted: impl Fn(&str) -> bool,
    nth: u32,
) -> Status<sv_str> {
    let found = pairs.into_iter().filter(|(name, _)| wanted(name)).nth(nth as usize);
    found.map(|(_, value)| dispatch.exchange.arena.bytes(value.as_ref())).ok_or(SV_NONE)
}

unsafe extern "C" fn header(exchange: *mut sv_exchange, ptr: *const u8, len: usize, value: *mut sv_str) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let headers = dispatch.exchange.sent.headers.clone();
        // SAFETY: as above.
        unsafe { put(value, find(&dispatch, headers, |name| name.eq_ignore_ascii_case(wanted), 0)?) }
    }))
}

unsafe extern "C" fn parameter(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    nth: u32,
    value: *mut sv_str,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let all = dispatch.exchange.parameters(&dispatch, polls)?;
        // SAFETY: as above.
        unsafe { put(value, find(&dispatch, all, |name| name == wanted, nth)?) }
    }))
}

/// # Safety
/// `out` and `count` may be written to.
unsafe fn put_list((first, length): (*const sv_pair, usize), out: *mut *const sv_pair, count: *mut usize) -> Status {
    // SAFETY: the caller's promise.
    unsafe { put(out, first).and_then(|()| put(count, length)) }
}

unsafe extern "C" fn parameters(exchange: *mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        let all = dispatch.exchange.parameters(&dispatch, polls)?;
        // SAFETY: the caller's promise.
        unsafe { put_list(dispatch.exchange.arena.pairs(all), out, count) }
    }))
}

unsafe extern "C" fn path_parameter(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let values = dispatch.found.as_ref().map(|found| found.values.clone()).unwrap_or_default();
        // SAFETY: as above.
        unsafe { put(value, find(&dispatch, values, |name| name == wanted, 0)?) }
    }))
}

unsafe extern "C" fn cookie(exchange: *mut sv_exchange, ptr: *const u8, len: usize, value: *mut sv_str) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        // SAFETY: as above.
        unsafe { put(value, find(&dispatch, dispatch.exchange.cookies(), |name| name == wanted, 0)?) }
    }))
}

unsafe extern "C" fn cookies(exchange: *mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        let pairs = dispatch.exchange.arena.pairs(dispatch.exchange.cookies());
        // SAFETY: the caller's promise.
        unsafe { put_list(pairs, out, count) }
    }))
}

unsafe extern "C" fn part_count(exchange: *mut sv_exchange, count: *mut usize) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        if !dispatch.multipart {
            return Err(say(
                &mut lock(&dispatch.exchange.inner),
                SV_E_STATE,
                "the servlet is not declared for multipart",
            ));
        }
        let parts = dispatch.exchange.parts().ok_or(SV_NONE)?;
        dispatch.exchange.rest(&mut lock(&dispatch.exchange.inner), polls, usize::MAX)?;
        // SAFETY: the caller's promise.
        unsafe { put(count, parts.len()) }
    }))
}

unsafe extern "C" fn part(exchange: *mut sv_exchange, index: usize, out: *mut *const sv_part) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        let exchange = &dispatch.exchange;
        let part = exchange.parts().and_then(|parts| parts.get(index)).ok_or(SV_E_ARG)?;
        let arena = &exchange.arena;
        let (headers, count) = arena.pairs(part.headers.iter().map(|(name, value)| (name, value)));
        let limit = exchange.webapp.setup.part_bytes_in_memory.unwrap_or(usize::MAX);
        let mut spilled = None;
        if part.data.len() > limit {
            let path = exchange.webapp.folder("temp").join(format!("part-{}-{index}", exchange.id));
            // Once is enough: a servlet may have moved it meanwhile.
            if !path.exists() {
                std::fs::write(&path, &part.data).map_err(|_| SV_E_IO)?;
            }
            spilled = path.to_str().map(str::to_owned);
        }
        let view = sv_part {
            struct_size: size_of::<sv_part>() as u32,
            header_count: u32::try_from(count).unwrap_or(u32::MAX),
            headers,
            name: arena.text(&part.name),
            file_name: arena.optional(part.file_name.as_deref()),
            content_type: arena.optional(part.content_type.as_deref()),
            data: if spilled.is_some() { sv_str::ABSENT } else { arena.bytes(&part.data) },
            path: arena.optional(spilled.as_deref()),
            size: part.data.len() as u64,
        };
        // SAFETY: the caller's promise.
        unsafe { put(out, arena.list(vec![view])) }
    }))
}

unsafe extern "C" fn attribute(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        let found = inner.attributes.get(unsafe { name(ptr, len) }?).ok_or(SV_NONE)?;
        // SAFETY: as above.
        unsafe { put(value, dispatch.exchange.arena.bytes(found)) }
    })
}

unsafe extern "C" fn attributes(exchange: *mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status {
    with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        unsafe { put_list(dispatch.exchange.arena.pairs(&inner.attributes), out, count) }
    })
}

unsafe extern "C" fn set_attribute(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    let mut told = None;
    let status = with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        let name = unsafe { name(ptr, len) }?;
        if name.starts_with("servlet.") {
            return Err(say(inner, SV_E_ARG, "attributes that begin with \"servlet.\" are the server's"));
        }
        // SAFETY: as above.
        let value = unsafe { host::bytes(sv_str { ptr: value, len: value_len }) };
        let before = set(&mut inner.attributes, name, value);
        told = Some((dispatch.exchange.clone(), change(&dispatch.exchange.arena, name, value, before)));
        Ok(())
    });
    if let Some((of, change)) = told {
        of.live.tell(SV_EVENT_REQUEST_ATTRIBUTE, &Told { exchange: exchange.addr(), ..change });
    }
    status
}

/// Sets or removes; returns what was there.
fn set(attributes: &mut BTreeMap<String, Vec<u8>>, name: &str, value: Option<&[u8]>) -> Option<Vec<u8>> {
    match value {
        Some(value) => attributes.insert(name.to_owned(), value.to_vec()),
        None => attributes.remove(name),
    }
}

fn change(arena: &super::webapp::Arena, name: &str, value: Option<&[u8]>, before: Option<Vec<u8>>) -> Told {
    let optional = |bytes: Option<&[u8]>| bytes.map_or(sv_str::ABSENT, |bytes| arena.bytes(bytes));
    Told { name: arena.text(name), value: optional(value), old_value: optional(before.as_deref()), ..Told::default() }
}

unsafe extern "C" fn principal(exchange: *mut sv_exchange, user: *mut sv_str, method: *mut sv_str) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        let (found, _) = dispatch.exchange.sent.user.as_ref().ok_or(SV_NONE)?;
        let arena = &dispatch.exchange.arena;
        // SAFETY: the caller's promise.
        unsafe { put(user, arena.text(found)).and_then(|()| put(method, arena.text("TEST"))) }
    }))
}

unsafe extern "C" fn in_role(exchange: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let user = dispatch.exchange.sent.user.as_ref();
        user.filter(|(_, roles)| roles.iter().any(|role| role == wanted)).map(|_| ()).ok_or(SV_NONE)
    }))
}

unsafe extern "C" fn login(exchange: *mut sv_exchange, _: *const u8, _: usize, _: *const u8, _: usize) -> sv_status {
    status(
        of_exchange(exchange)
            .and_then(|(dispatch, _)| Err(if dispatch.exchange.sent.user.is_some() { SV_E_STATE } else { SV_NONE })),
    )
}

unsafe extern "C" fn logout(exchange: *mut sv_exchange) -> sv_status {
    status(of_exchange(exchange).map(|_| ()))
}

// ---------------------------------------------------------------------------------------------- its body

unsafe extern "C" fn read(exchange: *mut sv_exchange, buffer: *mut u8, capacity: usize, len: *mut usize) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        let piece = dispatch.exchange.next_piece(&mut lock(&dispatch.exchange.inner), polls, capacity)?;
        let piece = piece.ok_or(SV_END)?;
        // SAFETY: the caller's buffer has room for `capacity` bytes, and a piece is no longer.
        unsafe { buffer.copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
        // SAFETY: the caller's promise.
        unsafe { put(len, piece.len()) }
    }))
}

unsafe extern "C" fn read_chunk(exchange: *mut sv_exchange, chunk: *mut sv_str) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        let piece = dispatch.exchange.next_piece(&mut lock(&dispatch.exchange.inner), polls, usize::MAX)?;
        // SAFETY: the caller's promise.
        unsafe { put(chunk, dispatch.exchange.arena.bytes(&piece.ok_or(SV_END)?)) }
    }))
}

unsafe extern "C" fn read_all(exchange: *mut sv_exchange, bytes_max: usize, body: *mut sv_str) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        let rest = dispatch.exchange.rest(&mut lock(&dispatch.exchange.inner), polls, bytes_max)?;
        // SAFETY: the caller's promise.
        unsafe { put(body, dispatch.exchange.arena.bytes(&rest)) }
    }))
}

unsafe extern "C" fn request_trailers(
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    // SAFETY: the caller's promise.
    status(of_exchange(exchange).and_then(|_| unsafe { put_list(super::webapp::NO_PAIRS, out, count) }))
}

// ---------------------------------------------------------------------------------------------- the response

unsafe extern "C" fn respond(exchange: *mut sv_exchange, response: *const sv_response) -> sv_status {
    // SAFETY: the caller's promise.
    let Some(response) = (unsafe { response.as_ref() }) else { return SV_E_ARG };
    // SAFETY: as above.
    let (body, headers) =
        unsafe { (bytes(response.body, response.body_len), host::pairs(response.headers, response.header_count)) };
    let result = of_exchange(exchange).and_then(|(dispatch, polls)| {
        if dispatch.kind == SV_DISPATCH_INCLUDE {
            return dispatch.exchange.write(&dispatch, body, polls).map(|_| ());
        }
        {
            let mut inner = lock(&dispatch.exchange.inner);
            if inner.committed || inner.finished {
                return Err(say(&mut inner, SV_E_STATE, "the response is committed"));
            }
            inner.status = check_status(response.status)?;
            for header in headers {
                // SAFETY: the caller's promise.
                let value = unsafe { host::bytes(header.value) }.unwrap_or_default();
                set_response_header(&mut inner, SV_HEADER_ADD, &text(header.name), value)?;
            }
            inner.written = response.body_len as u64;
        }
        dispatch.exchange.respond(&dispatch, body);
        Ok(())
    });
    if result.is_ok() {
        if let Some(release) = response.release.filter(|_| response.body_kind == SV_BODY_OWNED) {
            // SAFETY: taken over, and released once.
            unsafe { release(response.release_arg) };
        }
    }
    status(result)
}

fn check_status(status: u32) -> Status<u16> {
    u16::try_from(status).ok().filter(|status| (200..=599).contains(status)).ok_or(SV_E_ARG)
}

fn set_response_header(inner: &mut Inner, how: i32, name: &str, value: &[u8]) -> Status {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(say(inner, SV_E_ARG, &format!("{name:?} is not the name of a header")));
    }
    if value.iter().any(|&byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
        return Err(say(inner, SV_E_ARG, &format!("the value of the header {name} has a control character")));
    }
    let name = name.to_ascii_lowercase();
    let text = String::from_utf8_lossy(value);
    match &*name {
        "connection" | "transfer-encoding" | "upgrade" | "keep-alive" => {
            return Err(say(inner, SV_E_ARG, &format!("the header {name} is the server's")));
        }
        "content-type" => {
            inner.content_type = (how != SV_HEADER_REMOVE).then(|| text.into_owned());
            return Ok(());
        }
        "content-length" => {
            inner.content_length = match how {
                SV_HEADER_REMOVE => None,
                _ => Some(text.trim().parse().map_err(|_| SV_E_ARG)?),
            };
            return Ok(());
        }
        _ => {}
    }
    if how != SV_HEADER_ADD {
        inner.headers.retain(|(found, _)| *found != name);
    }
    if how != SV_HEADER_REMOVE {
        inner.headers.push((name, value.to_vec()));
    }
    Ok(())
}

unsafe extern "C" fn set_status(exchange: *mut sv_exchange, status: u32) -> sv_status {
    head(exchange, |_, inner| {
        inner.status = check_status(status)?;
        Ok(())
    })
}

unsafe extern "C" fn set_header(
    exchange: *mut sv_exchange,
    how: i32,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    // SAFETY: the caller's promise.
    head(exchange, |_, inner| unsafe { set_response_header(inner, how, name(ptr, len)?, bytes(value, value_len)) })
}

unsafe extern "C" fn response_header(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    nth: u32,
    value: *mut sv_str,
) -> sv_status {
    with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let mut headers = inner.headers.clone();
        headers.extend(inner.content_type.iter().map(|found| ("content-type".to_owned(), found.clone().into_bytes())));
        let length = inner.content_length.map(|length| ("content-length".to_owned(), length.to_string().into_bytes()));
        headers.extend(length);
        // SAFETY: as above.
        unsafe { put(value, find(dispatch, headers, |name| name.eq_ignore_ascii_case(wanted), nth)?) }
    })
}

unsafe extern "C" fn response_status(exchange: *mut sv_exchange, out: *mut u32) -> sv_status {
    // SAFETY: the caller's promise.
    with(exchange, |_, inner| unsafe { put(out, inner.status.into()) })
}

unsafe extern "C" fn set_content_type(exchange: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    head(exchange, |_, inner| {
        // SAFETY: the caller's promise.
        let found = unsafe { name(ptr, len) }?;
        inner.content_type = Some(found).filter(|found| !found.is_empty()).map(str::to_owned);
        Ok(())
    })
}

unsafe extern "C" fn set_charset(exchange: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    head(exchange, |_, inner| {
        // SAFETY: the caller's promise.
        let found = unsafe { name(ptr, len) }?;
        inner.charset = Some(found).filter(|found| !found.is_empty()).map(str::to_owned);
        Ok(())
    })
}

unsafe extern "C" fn set_content_length(exchange: *mut sv_exchange, bytes: u64) -> sv_status {
    head(exchange, |_, inner| {
        inner.content_length = Some(bytes);
        Ok(())
    })
}

unsafe extern "C" fn set_buffer_size(exchange: *mut sv_exchange, bytes: usize) -> sv_status {
    head(exchange, |_, inner| {
        if inner.written > 0 {
            return Err(SV_E_STATE);
        }
        inner.buffer_bytes_max = bytes;
        Ok(())
    })
}

unsafe extern "C" fn set_cookie(exchange: *mut sv_exchange, cookie: *const sv_cookie) -> sv_status {
    // SAFETY: the caller's promise.
    let Some(cookie) = (unsafe { cookie.as_ref() }) else { return SV_E_ARG };
    head(exchange, |_, inner| {
        let (name, value) = (text(cookie.name), text(cookie.value));
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(say(inner, SV_E_ARG, &format!("{name:?} is not the name of a cookie")));
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)) {
            return Err(say(
                inner,
                SV_E_ARG,
                &format!("the value of the cookie {name} has a character that is not allowed"),
            ));
        }
        let mut line = format!("{name}={value}");
        for (name, value) in [("Path", cookie.path), ("Domain", cookie.domain)] {
            if !value.ptr.is_null() {
                line.push_str(&format!("; {name}={}", text(value)));
            }
        }
        match cookie.max_age {
            0 => {}
            seconds => line.push_str(&format!("; Max-Age={}", seconds.max(0))),
        }
        if cookie.flags & SV_COOKIE_SECURE != 0 {
            line.push_str("; Secure");
        }
        if cookie.flags & SV_COOKIE_HTTP_ONLY != 0 {
            line.push_str("; HttpOnly");
        }
        // SAFETY: the caller's promise.
        for attribute in unsafe { host::pairs(cookie.attributes, cookie.attribute_count) } {
            line.push_str(&format!("; {}", text(attribute.name)));
            if !attribute.value.ptr.is_null() {
                line.push_str(&format!("={}", text(attribute.value)));
            }
        }
        inner.headers.push(("set-cookie".to_owned(), line.into_bytes()));
        Ok(())
    })
}

unsafe extern "C" fn set_trailer(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    with(exchange, |_, inner| {
        // SAFETY: the caller's promise.
        let (name, value) = unsafe { (name(ptr, len)?.to_ascii_lowercase(), bytes(value, value_len).to_vec()) };
        inner.trailers.push((name, value));
        Ok(())
    })
}

unsafe extern "C" fn informational(exchange: *mut sv_exchange, status: u32, _: *const sv_pair, _: usize) -> sv_status {
    head(exchange, |_, inner| {
        inner.informational.push(u16::try_from(status).ok().filter(|status| *status == 103).ok_or(SV_E_ARG)?);
        Ok(())
    })
}

unsafe extern "C" fn write(exchange: *mut sv_exchange, ptr: *const u8, len: usize, taken: *mut usize) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        // SAFETY: the caller's promise.
        let count = dispatch.exchange.write(&dispatch, unsafe { bytes(ptr, len) }, polls)?;
        if taken.is_null() {
            return if count == len { Ok(()) } else { Err(SV_E_ARG) };
        }
        // SAFETY: as above.
        unsafe { put(taken, count) }
    }))
}

unsafe extern "C" fn write_owned(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
) -> sv_status {
    let result = of_exchange(exchange).and_then(|(dispatch, polls)| {
        // SAFETY: the caller's promise.
        let owned = unsafe { bytes(ptr, len) };
        // All or nothing: it waits like a piece, and then goes whole.
        let turn = dispatch.exchange.write(&dispatch, &owned[..owned.len().min(1)], polls)?;
        dispatch.exchange.write(&dispatch, &owned[turn..], false).map(|_| ())
    });
    if let (Ok(()), Some(release)) = (result, release) {
        // SAFETY: taken over, and released once.
        unsafe { release(argument) };
    }
    status(result)
}

unsafe extern "C" fn flush(exchange: *mut sv_exchange) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        dispatch.exchange.commit();
        if dispatch.exchange.is_gone() { Err(SV_E_CLOSED) } else { Ok(()) }
    }))
}

unsafe extern "C" fn reset(exchange: *mut sv_exchange) -> sv_status {
    head(exchange, |dispatch, inner| {
        dispatch.exchange.reset_buffer(inner);
        inner.headers.clear();
        (inner.status, inner.content_type, inner.charset, inner.content_length) = (200, None, None, None);
        Ok(())
    })
}

unsafe extern "C" fn reset_buffer(exchange: *mut sv_exchange) -> sv_status {
    head(exchange, |dispatch, inner| {
        dispatch.exchange.reset_buffer(inner);
        Ok(())
    })
}

unsafe extern "C" fn send_error(exchange: *mut sv_exchange, status: u32, ptr: *const u8, len: usize) -> sv_status {
    finish(exchange, |_, inner| {
        let status = check_status(status)?;
        if status < 400 {
            return Err(SV_E_ARG);
        }
        // SAFETY: the caller's promise.
        let said = String::from_utf8_lossy(unsafe { bytes(ptr, len) }).into_owned();
        (inner.error, inner.finished) = (Some((status, said)), true);
        Ok(())
    })
}

unsafe extern "C" fn redirect(exchange: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    finish(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        set_response_header(inner, SV_HEADER_SET, "location", unsafe { bytes(ptr, len) })?;
        dispatch.exchange.reset_buffer(inner);
        (inner.status, inner.finished) = (302, true);
        Ok(())
    })
}

unsafe extern "C" fn committed(exchange: *mut sv_exchange) -> i32 {
    match of_exchange(exchange) {
        Ok((dispatch, _)) => {
            let inner = lock(&dispatch.exchange.inner);
            i32::from(inner.committed)
        }
        Err(status) => status,
    }
}

unsafe extern "C" fn encode_url(exchange: *mut sv_exchange, ptr: *const u8, len: usize, out: *mut sv_str) -> sv_status {
    // Ids travel in cookies here.
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        unsafe { put(out, dispatch.exchange.arena.bytes(bytes(ptr, len))) }
    }))
}

// ---------------------------------------------------------------------------------------------- the exchange

unsafe extern "C" fn alloc(exchange: *mut sv_exchange, size: usize, align: usize) -> *mut c_void {
    /// LIMIT: as in servlet.h 4.
    const MAX: usize = 64 * 1024 * 1024;
    match of_exchange(exchange) {
        Ok((dispatch, _)) if align.is_power_of_two() && size <= MAX && align <= 4096 => {
            let first = dispatch.exchange.arena.list(vec![0_u8; size + align]).cast_mut();
            first.wrapping_add(first.align_offset(align)).cast()
        }
        _ => null_mut(),
    }
}

unsafe extern "C" fn error_text(exchange: *mut sv_exchange, out: *mut sv_str) -> sv_status {
    with(exchange, |dispatch, inner| {
        let said = std::mem::take(&mut inner.said);
        // SAFETY: the caller's promise.
        unsafe { put(out, dispatch.exchange.arena.text(&said)) }
    })
}

unsafe extern "C" fn fail(
    exchange: *mut sv_exchange,
    kind: *const u8,
    kind_len: usize,
    said: *const u8,
    len: usize,
) -> sv_status {
    with(exchange, |_, inner| {
        // SAFETY: the caller's promise.
        let (kind, said) = unsafe { (name(kind, kind_len)?.to_owned(), bytes(said, len)) };
        let said = String::from_utf8_lossy(said).into_owned();
        inner.failed = Some(Failed { kind, text: said, unavailable: None });
        Ok(())
    })
}

unsafe extern "C" fn unavailable(exchange: *mut sv_exchange, seconds: u32, said: *const u8, len: usize) -> sv_status {
    with(exchange, |_, inner| {
        // SAFETY: the caller's promise.
        let said = String::from_utf8_lossy(unsafe { bytes(said, len) }).into_owned();
        inner.failed = Some(Failed { kind: "unavailable".to_owned(), text: said, unavailable: Some(seconds) });
        Ok(())
    })
}

unsafe extern "C" fn dispatch(exchange: *mut sv_exchange, how: i32, ptr: *const u8, len: usize) -> sv_status {
    match of_exchange(exchange) {
        // SAFETY: the caller's promise.
        Ok((from, _)) => match unsafe { name(ptr, len) } {
            Ok(target) => from.exchange.dispatch(&from, how, target),
            Err(status) => status,
        },
        Err(status) => status,
    }
}

unsafe extern "C" fn cancelled(exchange: *mut sv_exchange) -> i32 {
    of_exchange(exchange).map_or_else(
        |status| status,
        |(dispatch, _)| {
            let late = lock(&dispatch.exchange.inner).timeout.is_some_and(|timeout| timeout <= Instant::now());
            i32::from(late || dispatch.exchange.is_gone())
        },
    )
}

unsafe extern "C" fn retiring(exchange: *mut sv_exchange) -> i32 {
    of_exchange(exchange).map_or_else(|status| status, |(dispatch, _)| dispatch.exchange.webapp.is_retiring().into())
}

// ---------------------------------------------------------------------------------------------- async

unsafe extern "C" fn detach(
    exchange: *mut sv_exchange,
    told: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
) -> sv_status {
    with(exchange, |dispatch, inner| {
        let mut phase = lock(&dispatch.exchange.phase);
        if !matches!(*phase, Phase::Waits(_)) {
            return Err(SV_E_STATE);
        }
        *phase = Phase::Detached;
        inner.told = told.map(|told| (told, argument.expose_provenance()));
        Ok(())
    })
}

unsafe extern "C" fn complete(exchange: *mut sv_exchange, result: sv_status) -> sv_status {
    with(exchange, |dispatch, inner| {
        if *lock(&dispatch.exchange.phase) != Phase::Detached || inner.complete.is_some() {
            return Err(SV_E_STATE);
        }
        inner.complete = Some(result);
        dispatch.exchange.wake.wake();
        Ok(())
    })
}

unsafe extern "C" fn async_dispatch(exchange: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        let path = unsafe { host::bytes(sv_str { ptr, len }) }.map(|path| String::from_utf8_lossy(path).into_owned());
        inner.redispatch = Some(path);
        dispatch.exchange.wake.wake();
        Ok(())
    })
}

unsafe extern "C" fn set_timeout(exchange: *mut sv_exchange, milliseconds: u64) -> sv_status {
    with(exchange, |_, inner| {
        let end = Instant::now().checked_add(Duration::from_millis(milliseconds));
        inner.timeout = end.filter(|_| milliseconds > 0);
        Ok(())
    })
}

/// A waker is a counted [`Wake`].
fn give(wake: Arc<Wake>) -> *mut sv_waker {
    Arc::into_raw(wake).cast_mut().cast()
}

unsafe extern "C" fn waker(exchange: *mut sv_exchange) -> *mut sv_waker {
    of_exchange(exchange).map_or(null_mut(), |(dispatch, _)| give(dispatch.exchange.wake.clone()))
}

unsafe extern "C" fn waker_clone(waker: *mut sv_waker) -> *mut sv_waker {
    if !waker.is_null() {
        // SAFETY: made by `give`, and not given back yet.
        unsafe { Arc::increment_strong_count(waker.cast::<Wake>()) };
    }
    waker
}

unsafe extern "C" fn waker_wake(waker: *mut sv_waker, consume: i32) {
    // SAFETY: NULL, or made by `give`, and not given back yet.
    if let Some(wake) = unsafe { waker.cast::<Wake>().as_ref() } {
        wake.wake();
        if consume != 0 {
            // SAFETY: as above; it is given back now.
            unsafe { waker_drop(waker) };
        }
    }
}

unsafe extern "C" fn waker_drop(waker: *mut sv_waker) {
    if !waker.is_null() {
        // SAFETY: made by `give`, and given back now.
        drop(unsafe { Arc::from_raw(waker.cast::<Wake>().cast_const()) });
    }
}

/// A time, a number that keeps equal times apart, and what to wake.
struct Timer(Instant, usize, Arc<Wake>);

impl PartialEq for Timer {
    fn eq(&self, other: &Timer) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Timer) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Timer) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

#[derive(Default)]
struct Timers {
    all: Mutex<BinaryHeap<Reverse<Timer>>>,
    changed: Condvar,
}

/// One thread for all timers of the test's process; it ends with it.
fn timers() -> &'static Timers {
    static TIMERS: OnceLock<Timers> = OnceLock::new();
    let mut first = false;
    let timers = TIMERS.get_or_init(|| {
        first = true;
        Timers::default()
    });
    if first {
        thread::spawn(|| timers.run());
    }
    timers
}

impl Timers {
    fn run(&self) {
        let mut all: MutexGuard<'_, _> = lock(&self.all);
        loop {
            let now = Instant::now();
            while all.peek().is_some_and(|Reverse(Timer(at, ..))| *at <= now) {
                if let Some(Reverse(Timer(_, _, wake))) = all.pop() {
                    wake.wake();
                }
            }
            let rest = all.peek().map_or(Duration::from_secs(3600), |Reverse(Timer(at, ..))| at.duration_since(now));
            all = self.changed.wait_timeout(all, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

unsafe extern "C" fn context_timer(context: *mut sv_context, milliseconds: u64, waker: *mut sv_waker) -> sv_status {
    if waker.is_null() {
        return SV_E_ARG;
    }
    // SAFETY: made by `give`, and given back with this call.
    let wake = unsafe { Arc::from_raw(waker.cast::<Wake>().cast_const()) };
    let end = Instant::now().checked_add(Duration::from_millis(milliseconds));
    match (of_context(context), end) {
        (Ok(_), Some(end)) => {
            let timers = timers();
            lock(&timers.all).push(Reverse(Timer(end, NEXT.fetch_add(1, Ordering::Relaxed), wake)));
            timers.changed.notify_all();
            SV_OK
        }
        (Ok(_), None) => SV_E_ARG,
        (Err(status), _) => status,
    }
}

// ---------------------------------------------------------------------------------------------- sessions

unsafe extern "C" fn session(exchange: *mut sv_exchange, create: i32, out: *mut *mut sv_session) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        let handle = dispatch.exchange.session(&dispatch, create != 0)?.ok_or(SV_NONE)?;
        // SAFETY: the caller's promise.
        unsafe { put(out, std::ptr::without_provenance_mut(handle)) }
    }))
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

unsafe extern "C" fn session_info(exchange: *mut sv_exchange, out: *mut *const sv_session_info) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        dispatch.exchange.session(&dispatch, false)?;
        let (exchange, arena) = (&dispatch.exchange, &dispatch.exchange.arena);
        let session = lock(&exchange.inner).session.as_ref().map(|(_, session)| session.clone());
        let data = session.as_ref().map(|session| lock(&session.data)).filter(|data| data.valid);
        let requested = exchange.cookies().into_iter().find(|(name, _)| name == COOKIE).map(|(_, id)| id);
        let info = sv_session_info {
            struct_size: size_of::<sv_session_info>() as u32,
            is_new: data.as_ref().is_some_and(|data| data.is_new).into(),
            id: arena.optional(data.as_ref().map(|data| &*data.id)),
            requested_id: arena.optional(requested.as_deref()),
            requested_by_cookie: requested.is_some().into(),
            requested_by_url: 0,
            requested_valid: (requested.is_some() && data.as_ref().is_some_and(|data| !data.is_new)).into(),
            reserved: 0,
            created: data.as_ref().map_or(0, |data| milliseconds(data.created)),
            accessed: data.as_ref().map_or(0, |data| milliseconds(data.accessed)),
            max_inactive: data.as_ref().map_or(0, |data| data.max_inactive_seconds),
        };
        // SAFETY: the caller's promise.
        unsafe { put(out, arena.list(vec![info])) }
    }))
}

unsafe extern "C" fn session_attribute(
    session: *mut sv_session,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    status(of_session(session).and_then(|(session, exchange)| {
        let data = lock(&session.data);
        // SAFETY: the caller's promise.
        let found = data.attributes.get(unsafe { name(ptr, len) }?).ok_or(SV_NONE)?;
        // SAFETY: as above.
        unsafe { put(value, exchange.arena.bytes(found)) }
    }))
}

unsafe extern "C" fn session_attributes(
    session: *mut sv_session,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    status(of_session(session).and_then(|(session, exchange)| {
        let pairs = exchange.arena.pairs(&lock(&session.data).attributes);
        // SAFETY: the caller's promise.
        unsafe { put_list(pairs, out, count) }
    }))
}

unsafe extern "C" fn session_set(
    handle: *mut sv_session,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    status(of_session(handle).and_then(|(session, exchange)| {
        // SAFETY: the caller's promise.
        let (name, value) = unsafe { (name(ptr, len)?, host::bytes(sv_str { ptr: value, len: value_len })) };
        let before = set(&mut lock(&session.data).attributes, name, value);
        let told = change(&exchange.arena, name, value, before);
        exchange.live.tell(SV_EVENT_SESSION_ATTRIBUTE, &of(&exchange, handle, &session, told));
        Ok(())
    }))
}

fn of(exchange: &Exchange, handle: *mut sv_session, session: &Session, told: Told) -> Told {
    Told { session: handle.addr(), session_id: exchange.arena.text(&lock(&session.data).id), ..told }
}

unsafe extern "C" fn session_change_id(handle: *mut sv_session, id: *mut sv_str) -> sv_status {
    status(of_session(handle).and_then(|(session, exchange)| {
        let before = session.change_id(&exchange.webapp);
        exchange.send_session_cookie(&mut lock(&exchange.inner), &session);
        let told = Told { old_value: exchange.arena.text(&before), ..Told::default() };
        let told = of(&exchange, handle, &session, told);
        exchange.live.tell(SV_EVENT_SESSION_ID_CHANGED, &told);
        // SAFETY: the caller's promise.
        unsafe { put(id, told.session_id) }
    }))
}

unsafe extern "C" fn session_max_inactive(session: *mut sv_session, seconds: i64) -> sv_status {
    status(of_session(session).map(|(session, _)| lock(&session.data).max_inactive_seconds = seconds))
}

unsafe extern "C" fn session_invalidate(handle: *mut sv_session) -> sv_status {
    status(of_session(handle).map(|(session, exchange)| {
        // Attributes may still be read in the event.
        let told = of(&exchange, handle, &session, Told::default());
        exchange.live.tell(SV_EVENT_SESSION_DESTROYED, &told);
        session.invalidate(&exchange.webapp);
    }))
}

// ---------------------------------------------------------------------------------------------- the context

unsafe extern "C" fn context(exchange: *mut sv_exchange) -> *mut sv_context {
    of_exchange(exchange).map_or(null_mut(), |(dispatch, _)| dispatch.exchange.live.context_handle())
}

unsafe extern "C" fn context_path(context: *mut sv_context, out: *mut sv_str) -> sv_status {
    status(of_context(context).and_then(|generation| {
        // SAFETY: the caller's promise.
        unsafe { put(out, generation.arena.text(&generation.webapp.setup.path)) }
    }))
}

/// # Safety
/// As of `context_parameter` in servlet.h.
unsafe fn setting(
    context: *mut sv_context,
    of: fn(&super::Setup) -> &[(String, String)],
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let found = of(&generation.webapp.setup).iter().find(|(name, _)| name == wanted).ok_or(SV_NONE)?;
        // SAFETY: as above.
        unsafe { put(value, generation.arena.text(&found.1)) }
    }))
}

unsafe extern "C" fn context_parameter(
    context: *mut sv_context,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    // SAFETY: the caller's promise.
    unsafe { setting(context, |setup| &setup.params, ptr, len, value) }
}

unsafe extern "C" fn context_parameters(
    context: *mut sv_context,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        let pairs = generation.arena.pairs(generation.webapp.setup.params.iter().map(|(name, value)| (name, value)));
        // SAFETY: the caller's promise.
        unsafe { put_list(pairs, out, count) }
    }))
}

unsafe extern "C" fn context_folder(context: *mut sv_context, which: i32, out: *mut sv_str) -> sv_status {
    status(of_context(context).and_then(|generation| {
        let name = match which {
            SV_PATH_ROOT => "root",
            SV_PATH_WORK => "work",
            SV_PATH_TEMP => "temp",
            _ => return Err(SV_E_ARG),
        };
        let path = generation.webapp.folder(name).to_str().ok_or(SV_E_IO)?;
        // SAFETY: the caller's promise.
        unsafe { put(out, generation.arena.text(path)) }
    }))
}

unsafe extern "C" fn context_mime_type(
    context: *mut sv_context,
    ptr: *const u8,
    len: usize,
    out: *mut sv_str,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        // SAFETY: the caller's promise.
        let file = unsafe { name(ptr, len) }?;
        let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
        let found = match extension.to_ascii_lowercase().as_str() {
            "html" | "htm" => "text/html",
            "css" => "text/css",
            "js" => "text/javascript",
            "json" => "application/json",
            "txt" => "text/plain",
            "png" => "image/png",
            "jpg" | "jpeg" => "image/jpeg",
            "svg" => "image/svg+xml",
            "pdf" => "application/pdf",
            _ => return Err(SV_NONE),
        };
        // SAFETY: as above.
        unsafe { put(out, generation.arena.text(found)) }
    }))
}

unsafe extern "C" fn context_resource(
    context: *mut sv_context,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    // SAFETY: the caller's promise.
    unsafe { setting(context, |setup| &setup.resources, ptr, len, value) }
}

unsafe extern "C" fn context_attribute(
    context: *mut sv_context,
    ptr: *const u8,
    name_len: usize,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        let attributes = lock(&generation.webapp.attributes);
        // SAFETY: the caller's promise.
        let found = attributes.get(unsafe { name(ptr, name_len) }?).ok_or(SV_NONE)?;
        if !buffer.is_null() {
            // SAFETY: the caller's buffer has room for `capacity` bytes.
            unsafe { buffer.copy_from_nonoverlapping(found.as_ptr(), found.len().min(capacity)) };
        }
        // SAFETY: as above.
        unsafe { put(len, found.len()) }
    }))
}

unsafe extern "C" fn context_set_attribute(
    context: *mut sv_context,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        // SAFETY: the caller's promise.
        let (name, value) = unsafe { (name(ptr, len)?, host::bytes(sv_str { ptr: value, len: value_len })) };
        let before = set(&mut lock(&generation.webapp.attributes), name, value);
        if let Some(live) = generation.webapp.live() {
            live.tell(SV_EVENT_CONTEXT_ATTRIBUTE, &change(&generation.arena, name, value, before));
        }
        Ok(())
    }))
}

unsafe extern "C" fn context_generation(context: *mut sv_context) -> u64 {
    of_context(context).map_or(0, |generation| generation.number)
}

unsafe extern "C" fn context_post(
    context: *mut sv_context,
    job: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
) -> sv_status {
    struct Job(unsafe extern "C" fn(*mut c_void), *mut c_void);
    // SAFETY: the library says that any thread may run it (servlet.h, context_post).
    unsafe impl Send for Job {}
    impl Job {
        fn run(self) {
            // SAFETY: as servlet.h says of a job: once.
            unsafe { self.0(self.1) };
        }
    }
    status(of_context(context).and_then(|generation| {
        let job = Job(job.ok_or(SV_E_ARG)?, argument);
        if generation.webapp.post(move || job.run()) { Ok(()) } else { Err(SV_E_LIMIT) }
    }))
}

// ---------------------------------------------------------------------------------------------- the table

/// Lives as long as the process.
pub(super) fn table() -> *const sv_host {
    &raw const TABLE
}

static TABLE: sv_host = sv_host {
    struct_size: size_of::<sv_host>() as u32,
    abi_major: SV_ABI_MAJOR,
    abi_minor: SV_ABI_MINOR,
    server: sv_str::new("servlet-test"),
    extension: Some(extension),
    log_enabled: Some(log_enabled),
    log_message: Some(log_message),
    report_panic: Some(report_panic),
    request: Some(request),
    tls: Some(tls),
    header: Some(header),
    parameter: Some(parameter),
    parameters: Some(parameters),
    path_parameter: Some(path_parameter),
    cookie: Some(cookie),
    cookies: Some(cookies),
    part_count: Some(part_count),
    part: Some(part),
    attribute: Some(attribute),
    attributes: Some(attributes),
    set_attribute: Some(set_attribute),
    principal: Some(principal),
    in_role: Some(in_role),
    login: Some(login),
    logout: Some(logout),
    read: Some(read),
    read_chunk: Some(read_chunk),
    read_all: Some(read_all),
    request_trailers: Some(request_trailers),
    respond: Some(respond),
    set_status: Some(set_status),
    set_header: Some(set_header),
    response_header: Some(response_header),
    response_status: Some(response_status),
    set_content_type: Some(set_content_type),
    set_charset: Some(set_charset),
    set_content_length: Some(set_content_length),
    set_buffer_size: Some(set_buffer_size),
    set_cookie: Some(set_cookie),
    set_trailer: Some(set_trailer),
    informational: Some(informational),
    write: Some(write),
    write_owned: Some(write_owned),
    flush: Some(flush),
    reset: Some(reset),
    reset_buffer: Some(reset_buffer),
    send_error: Some(send_error),
    redirect: Some(redirect),
    committed: Some(committed),
    encode_url: Some(encode_url),
    alloc: Some(alloc),
    error_text: Some(error_text),
    fail: Some(fail),
    unavailable: Some(unavailable),
    dispatch: Some(dispatch),
    cancelled: Some(cancelled),
    retiring: Some(retiring),
    detach: Some(detach),
    complete: Some(complete),
    async_dispatch: Some(async_dispatch),
    set_timeout: Some(set_timeout),
    waker: Some(waker),
    waker_clone: Some(waker_clone),
    waker_wake: Some(waker_wake),
    waker_drop: Some(waker_drop),
    session: Some(session),
    session_info: Some(session_info),
    session_attribute: Some(session_attribute),
    session_attributes: Some(session_attributes),
    session_set: Some(session_set),
    session_change_id: Some(session_change_id),
    session_max_inactive: Some(session_max_inactive),
    session_invalidate: Some(session_invalidate),
    context: Some(context),
    context_path: Some(context_path),
    context_parameter: Some(context_parameter),
    context_parameters: Some(context_parameters),
    context_folder: Some(context_folder),
    context_mime_type: Some(context_mime_type),
    context_resource: Some(context_resource),
    context_attribute: Some(context_attribute),
    context_set_attribute: Some(context_set_attribute),
    context_generation: Some(context_generation),
    context_post: Some(context_post),
    context_timer: Some(context_timer),
};
