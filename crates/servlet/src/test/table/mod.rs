//! The table that the library is given in a test. Handles are numbers that are looked up, so that wrong use gets the status
//! of servlet.h, as from a server.
//!
//! Its functions are `unsafe` for the pointers they are given: to texts that live for the call, and to places for results.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serval_abi::{
    SV_ABI_MAJOR, SV_ABI_MINOR, SV_DISPATCH_INCLUDE, SV_E_ARG, SV_E_STALE, SV_E_STATE, SV_E_THREAD, SV_LOG_DEBUG,
    SV_LOG_ERROR, SV_NONE, SV_OK, sv_context, sv_exchange, sv_host, sv_pair, sv_session, sv_status, sv_str,
};

use crate::host;
use crate::test::exchange::{Dispatch, Exchange, Inner, Phase};
use crate::test::session::Session;
use crate::test::webapp::{Generation, Told, lock};

mod context;
mod exchange;
mod request;
mod response;
mod session;

#[derive(Clone)]
pub(in crate::test) enum Handle {
    Context(Arc<Generation>),
    Dispatch(Arc<Dispatch>),
    Session(Arc<Session>, Arc<Exchange>),
}

static HANDLES: Mutex<BTreeMap<usize, Handle>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

pub(in crate::test) fn register(handle: Handle) -> usize {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    lock(&HANDLES).insert(number, handle);
    number
}

pub(in crate::test) fn register_dispatch(make: impl FnOnce(usize) -> Dispatch) -> Arc<Dispatch> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dispatch = Arc::new(make(number));
    lock(&HANDLES).insert(number, Handle::Dispatch(dispatch.clone()));
    dispatch
}

pub(in crate::test) fn unregister(number: usize) {
    let handle = lock(&HANDLES).remove(&number);
    drop(handle);
}

/// Ends all handles of an exchange.
pub(in crate::test) fn unregister_of(exchange: u64) {
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

/// # Safety
/// `out` and `count` may be written to.
unsafe fn put_list((first, length): (*const sv_pair, usize), out: *mut *const sv_pair, count: *mut usize) -> Status {
    // SAFETY: the caller's promise.
    unsafe { put(out, first).and_then(|()| put(count, length)) }
}

/// Sets or removes; returns what was there.
fn set(attributes: &mut BTreeMap<String, Vec<u8>>, name: &str, value: Option<&[u8]>) -> Option<Vec<u8>> {
    match value {
        Some(value) => attributes.insert(name.to_owned(), value.to_vec()),
        None => attributes.remove(name),
    }
}

fn change(arena: &crate::test::webapp::Arena, name: &str, value: Option<&[u8]>, before: Option<Vec<u8>>) -> Told {
    let optional = |bytes: Option<&[u8]>| bytes.map_or(sv_str::ABSENT, |bytes| arena.bytes(bytes));
    Told { name: arena.text(name), value: optional(value), old_value: optional(before.as_deref()), ..Told::default() }
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

// ---------------------------------------------------------------------------------------------- the table

/// Lives as long as the process.
pub(in crate::test) fn table() -> *const sv_host {
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
    request: Some(request::request),
    tls: Some(request::tls),
    header: Some(request::header),
    parameter: Some(request::parameter),
    parameters: Some(request::parameters),
    path_parameter: Some(request::path_parameter),
    cookie: Some(request::cookie),
    cookies: Some(request::cookies),
    part_count: Some(request::part_count),
    part: Some(request::part),
    attribute: Some(request::attribute),
    attributes: Some(request::attributes),
    set_attribute: Some(request::set_attribute),
    principal: Some(request::principal),
    in_role: Some(request::in_role),
    login: Some(request::login),
    logout: Some(request::logout),
    read: Some(request::read),
    read_chunk: Some(request::read_chunk),
    read_all: Some(request::read_all),
    request_trailers: Some(request::request_trailers),
    respond: Some(response::respond),
    set_status: Some(response::set_status),
    set_header: Some(response::set_header),
    response_header: Some(response::response_header),
    response_status: Some(response::response_status),
    set_content_type: Some(response::set_content_type),
    set_charset: Some(response::set_charset),
    set_content_length: Some(response::set_content_length),
    set_buffer_size: Some(response::set_buffer_size),
    set_cookie: Some(response::set_cookie),
    set_trailer: Some(response::set_trailer),
    informational: Some(response::informational),
    write: Some(response::write),
    write_owned: Some(response::write_owned),
    flush: Some(response::flush),
    reset: Some(response::reset),
    reset_buffer: Some(response::reset_buffer),
    send_error: Some(response::send_error),
    redirect: Some(response::redirect),
    committed: Some(response::committed),
    encode_url: Some(response::encode_url),
    alloc: Some(exchange::alloc),
    error_text: Some(exchange::error_text),
    fail: Some(exchange::fail),
    unavailable: Some(exchange::unavailable),
    dispatch: Some(exchange::dispatch),
    cancelled: Some(exchange::cancelled),
    retiring: Some(exchange::retiring),
    detach: Some(exchange::detach),
    complete: Some(exchange::complete),
    async_dispatch: Some(exchange::async_dispatch),
    set_timeout: Some(exchange::set_timeout),
    waker: Some(exchange::waker),
    waker_clone: Some(exchange::waker_clone),
    waker_wake: Some(exchange::waker_wake),
    waker_drop: Some(exchange::waker_drop),
    session: Some(session::session),
    session_info: Some(session::session_info),
    session_attribute: Some(session::session_attribute),
    session_attributes: Some(session::session_attributes),
    session_set_attribute: Some(session::session_set_attribute),
    session_change_id: Some(session::session_change_id),
    session_set_max_inactive: Some(session::session_set_max_inactive),
    session_invalidate: Some(session::session_invalidate),
    context: Some(context::context),
    context_path: Some(context::context_path),
    context_parameter: Some(context::context_parameter),
    context_parameters: Some(context::context_parameters),
    context_folder: Some(context::context_folder),
    context_mime_type: Some(context::context_mime_type),
    context_resource: Some(context::context_resource),
    context_attribute: Some(context::context_attribute),
    context_set_attribute: Some(context::context_set_attribute),
    context_generation: Some(context::context_generation),
    context_post: Some(context::context_post),
    context_timer: Some(exchange::context_timer),
};
