//! The host's side of `sv_host`: each function checks the handle, the thread, and the arguments, and then asks the
//! [`Exchange`] or the [`Context`]. It knows nothing of HTTP connections and of how exchanges wait.
//!
//! Called by servlet libraries, through the table that they get in `init`; nothing unwinds out of here. What all functions share
//! stands here; the functions are in `request`, `response`, `exchange` (the exchange as a whole, async, sessions) and `context`.

mod asynchronous;
mod context;
mod cookie;
mod exchange;
mod request;
mod response;
mod session;

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex};

use bumpalo::Bump;
use bytes::Bytes;
use serval_abi::*;

pub use context::REPORTED_PANIC;
pub(crate) use context::{last_panic, starting};
pub(crate) use cookie::set_cookie_value;
pub use response::HEADERS_MAX;

use crate::exchange::{Answer, Context, Exchange, Fault, Session};
use crate::misuse;
use crate::slots;
use crate::unload;

/// LIMIT: what one dispatch may take by `alloc` and by strings returned to it.
const ARENA_BYTES_MAX: usize = 64 << 20;

/// What the libraries were given for one dispatch, as long as its handle lives.
pub struct Memory {
    context: *mut sv_context,
    arena: Bump,
    request: *const sv_request,
    tls: *const sv_tls,
    parameters: Option<(*const sv_pair, usize)>,
    cookies: Option<(*const sv_pair, usize)>,
    /// The views of the parts that were asked for.
    parts: Option<(*const sv_part, usize)>,
    /// The chunk that the library looks at, until its next read.
    lent: Bytes,
    /// What `read_all` has of the body so far.
    pieces: Vec<Bytes>,
    body: Option<Bytes>,
    error: String,
    /// It was detached: whom to tell.
    pub(crate) told: Option<Arc<Mutex<Option<Told>>>>,
    /// What `complete` said while service was still running.
    pub(crate) completed: Option<sv_status>,
    /// Service has not returned yet.
    pub(crate) in_service: bool,
    /// Nothing waits.
    pub(crate) in_poll: bool,
    /// The thread on which it runs, as long as others give it a moment to return; 0: nobody does.
    pub(crate) awaited: u64,
}

// SAFETY: its pointers lead into its arena, which moves with it, and to a context's number; one thread uses it at a time.
unsafe impl Send for Memory {}

/// What a detached exchange is told by.
pub struct Told {
    tell: unsafe extern "C" fn(*mut c_void, sv_status),
    arg: *mut c_void,
    has_retired: bool,
}

// SAFETY: servlet.h: it is called on any thread.
unsafe impl Send for Told {}

impl Told {
    /// SV_OK, that it retires, is told once.
    pub(crate) fn tell(&mut self, why: sv_status) {
        if why == SV_OK && std::mem::replace(&mut self.has_retired, true) {
            return;
        }
        unload::calls_function(self.tell as usize);
        // SAFETY: servlet.h: not after complete has returned, which waits for the lock that this is called under.
        slots::telling(|| unsafe { (self.tell)(self.arg, why) });
    }
}

impl Memory {
    pub(crate) fn new() -> Memory {
        let arena = Bump::new();
        arena.set_allocation_limit(Some(ARENA_BYTES_MAX));
        Memory {
            context: null_mut(),
            arena,
            request: null(),
            tls: null(),
            parameters: None,
            cookies: None,
            parts: None,
            lent: Bytes::new(),
            pieces: Vec::new(),
            body: None,
            error: String::new(),
            told: None,
            completed: None,
            in_service: false,
            in_poll: false,
            awaited: 0,
        }
    }

    pub(crate) fn set_context(&mut self, context: *mut sv_context) {
        self.context = context;
    }

    /// Copies bytes to where they stay until the dispatch ends.
    fn keep(&self, bytes: &[u8]) -> Answer<sv_str> {
        match self.arena.try_alloc_slice_copy(bytes) {
            Ok(kept) => Ok(sv_str::from_bytes(kept)),
            Err(_) => Err(no_memory()),
        }
    }

    fn keep_all<T: Copy>(&self, items: &[T]) -> Answer<(*const T, usize)> {
        match self.arena.try_alloc_slice_copy(items) {
            Ok(kept) => Ok((kept.as_ptr(), kept.len())),
            Err(_) => Err(no_memory()),
        }
    }

    fn keep_value<T: Copy>(&self, value: T) -> Answer<*const T> {
        match self.arena.try_alloc(value) {
            Ok(kept) => Ok(kept),
            Err(_) => Err(no_memory()),
        }
    }

    fn keep_optional(&self, text: Option<&str>) -> Answer<sv_str> {
        text.map_or(Ok(sv_str::ABSENT), |text| self.keep(text.as_bytes()))
    }

    /// Pairs of a name and bytes.
    fn keep_pairs<'p>(&self, pairs: impl Iterator<Item = (&'p str, &'p [u8])>) -> Answer<(*const sv_pair, usize)> {
        let kept: Answer<Vec<sv_pair>> = pairs
            .map(|(name, value)| Ok(sv_pair { name: self.keep(name.as_bytes())?, value: self.keep(value)? }))
            .collect();
        self.keep_all(&kept?)
    }
}

/// One call of a function of the table: what its handle leads to.
pub struct Frame<'a> {
    pub(crate) exchange: &'a mut dyn Exchange,
    pub(crate) memory: &'a mut Memory,
    /// The servlet, filter or listener function that calls, for the log.
    pub(crate) who: &'a str,
    pub(crate) ending: &'a mut slots::Ending,
}

impl Frame<'_> {
    fn keep(&self, bytes: &[u8]) -> Answer<sv_str> {
        self.memory.keep(bytes)
    }

    /// The view of the request, built at the first call.
    fn request(&mut self) -> Answer<*const sv_request> {
        if !self.memory.request.is_null() {
            return Ok(self.memory.request);
        }
        let head = self.exchange.head();
        let headers: Vec<sv_pair> = head
            .headers
            .iter()
            .map(|(name, value)| sv_pair {
                name: sv_str::new(name.as_str()),
                value: sv_str::from_bytes(value.as_bytes()),
            })
            .collect();
        let (headers, header_count) = self.memory.keep_all(&headers)?;
        let text = sv_str::new;
        // What the target holds goes with the dispatch.
        let kept = |value: &str| if head.is_nested { self.keep(value.as_bytes()) } else { Ok(sv_str::new(value)) };
        let optional = |value: Option<&str>| value.map_or(Ok(sv_str::ABSENT), kept);
        let content_type = head.headers.get(http::header::CONTENT_TYPE);
        let view = sv_request {
            struct_size: size_of::<sv_request>() as u32,
            method: method_bit(head.method),
            method_name: text(head.method),
            http_version: head.http_version,
            dispatch: head.dispatch,
            scheme: text(head.scheme),
            server_name: kept(head.server_name)?,
            server_port: head.server_port.into(),
            secure: head.secure.into(),
            target: kept(head.target)?,
            request_uri: kept(head.request_uri)?,
            query: optional(head.query)?,
            context_path: kept(head.context_path)?,
            servlet_path: kept(head.servlet_path)?,
            path_info: optional(head.path_info)?,
            match_kind: head.match_kind,
            reserved: 0,
            match_pattern: text(head.match_pattern),
            match_value: optional(head.match_value)?,
            servlet_name: text(head.servlet_name),
            headers,
            header_count,
            content_length: head.content_length.and_then(|length| i64::try_from(length).ok()).unwrap_or(-1),
            content_type: content_type.map_or(sv_str::ABSENT, |value| sv_str::from_bytes(value.as_bytes())),
            charset: content_type
                .and_then(|value| charset(value.as_bytes()))
                .map_or(sv_str::ABSENT, sv_str::from_bytes),
            remote_addr: head.remote_addr.map_or(sv_str::ABSENT, text),
            local_addr: head.local_addr.map_or(sv_str::ABSENT, text),
            remote_port: head.remote_port.into(),
            local_port: head.local_port.into(),
            id: head.id,
            connection_id: head.connection_id,
        };
        self.memory.request = self.memory.keep_value(view)?;
        Ok(self.memory.request)
    }

    /// The facts of TLS, built at the first call; NULL: there are none.
    fn tls(&mut self) -> Answer<*const sv_tls> {
        if let (true, Some(tls)) = (self.memory.tls.is_null(), self.exchange.tls()) {
            let certificates: Vec<sv_str> = tls.certificates.iter().map(|der| sv_str::from_bytes(der)).collect();
            let (certificates, certificate_count) = self.memory.keep_all(&certificates)?;
            let known = |text: &str| if text.is_empty() { sv_str::ABSENT } else { sv_str::new(text) };
            self.memory.tls = self.memory.keep_value(sv_tls {
                struct_size: size_of::<sv_tls>() as u32,
                certificate_count: certificate_count as u32,
                certificates,
                protocol: known(tls.protocol),
                cipher: known(tls.cipher),
                server_name: tls.server_name.map_or(sv_str::ABSENT, sv_str::new),
            })?;
        }
        Ok(self.memory.tls)
    }

    fn parameters(&mut self) -> Answer<(*const sv_pair, usize)> {
        if self.memory.parameters.is_none() {
            let all = self.exchange.parameters()?;
            self.memory.parameters = Some(self.memory.keep_pairs(as_bytes(all))?);
        }
        self.memory.parameters.ok_or_else(no_memory)
    }

    fn cookies(&mut self) -> Answer<(*const sv_pair, usize)> {
        if self.memory.cookies.is_none() {
            let all = self.exchange.cookies()?;
            self.memory.cookies = Some(self.memory.keep_pairs(as_bytes(all))?);
        }
        self.memory.cookies.ok_or_else(no_memory)
    }
}

fn as_bytes(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &[u8])> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// The parameter `charset` of a content type (RFC 9110 8.3).
fn charset(content_type: &[u8]) -> Option<&[u8]> {
    content_type.split(|&b| b == b';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.trim_ascii().split_at_checked("charset=".len())?;
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        name.eq_ignore_ascii_case(b"charset=").then_some(value).filter(|value| !value.is_empty())
    })
}

fn no_memory() -> Fault {
    Fault::new(SV_E_NOMEM, "the memory of this dispatch (64 MiB) is used up")
}

pub(crate) fn method_bit(name: &str) -> u32 {
    match name {
        "GET" => SV_GET,
        "HEAD" => SV_HEAD,
        "POST" => SV_POST,
        "PUT" => SV_PUT,
        "DELETE" => SV_DELETE,
        "PATCH" => SV_PATCH,
        "OPTIONS" => SV_OPTIONS,
        "TRACE" => SV_TRACE,
        "CONNECT" => SV_CONNECT,
        _ => SV_METHOD_OTHER,
    }
}

// ---------------------------------------------------------------------------------------------- the frame of each function

/// Runs `work` on the frame of a handle: errors become a status, a text on the frame, and a log line; a panic is caught.
fn on_exchange(
    function: &'static str,
    exchange: *mut sv_exchange,
    work: impl FnOnce(&mut Frame<'_>) -> Answer<sv_status>,
) -> sv_status {
    caught(function, || {
        let result = slots::with_frame(exchange, |frame| {
            let result = work(frame);
            if let Err(fault) = &result
                && fault.status != SV_WOULD_BLOCK
            {
                misuse::report(function, fault, Some(frame.who));
                frame.memory.error.clear();
                frame.memory.error.push_str(&fault.text);
            }
            Ok(result)
        });
        match result {
            Ok(Ok(status)) => status,
            Ok(Err(fault)) => fault.status,
            Err(fault) => {
                misuse::report(function, &fault, None);
                fault.status
            }
        }
    })
}

/// A function that looks up one text by its name: `None` is SV_NONE.
///
/// # Safety
/// As [`text`] for the name, and as [`Out::new`] for the value.
unsafe fn by_name(
    function: &'static str,
    exchange: *mut sv_exchange,
    (name, len): (*const u8, usize),
    value: *mut sv_str,
    find: impl FnOnce(&mut Frame<'_>, &str) -> Answer<Option<sv_str>>,
) -> sv_status {
    // SAFETY: the caller's promise.
    let value = unsafe { Out::new(value, sv_str::ABSENT) };
    on_exchange(function, exchange, |frame| {
        value.checked()?;
        // SAFETY: the caller's promise.
        let name = unsafe { text(name, len) }?;
        match find(frame, name)? {
            Some(found) => value.put(found),
            None => Ok(SV_NONE),
        }
    })
}

/// As [`on_exchange`], for a function on its session.
fn on_session(
    function: &'static str,
    session: *mut sv_session,
    work: impl FnOnce(&mut dyn Session, &mut Memory) -> Answer<sv_status>,
) -> sv_status {
    caught(function, || {
        let result = slots::with_session(session, |session, memory| {
            let result = work(session, memory);
            if let Err(fault) = &result {
                memory.error.clear();
                memory.error.push_str(&fault.text);
            }
            result
        });
        result.unwrap_or_else(|fault| {
            misuse::report(function, &fault, None);
            fault.status
        })
    })
}

fn on_context(
    function: &'static str,
    context: *mut sv_context,
    work: impl FnOnce(&dyn Context) -> Answer<sv_status>,
) -> sv_status {
    on_open(function, context, |open| work(&*open.context))
}

fn on_open(
    function: &'static str,
    context: *mut sv_context,
    work: impl FnOnce(&slots::OpenContext) -> Answer<sv_status>,
) -> sv_status {
    caught(function, || {
        slots::context(context).and_then(|open| work(&open)).unwrap_or_else(|fault| {
            misuse::report(function, &fault, None);
            fault.status
        })
    })
}

/// Nothing unwinds into a library.
fn caught(function: &'static str, work: impl FnOnce() -> sv_status) -> sv_status {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let fault = Fault::new(SV_E_INTERNAL, "the server panicked; please report it");
        let _ = catch_unwind(AssertUnwindSafe(|| misuse::report(function, &fault, None)));
        SV_E_INTERNAL
    })
}

fn argument(text: &'static str) -> Fault {
    Fault::new(SV_E_ARG, text)
}

/// LIMIT: bytes of what an error quotes of an argument.
const QUOTED_BYTES_MAX: usize = 64;

/// An argument as an error shows it: short, and on one line, whatever is in it.
fn quoted(given: &[u8]) -> String {
    let shown = given[..given.len().min(QUOTED_BYTES_MAX)].escape_ascii();
    if given.len() > QUOTED_BYTES_MAX { format!("`{shown}...`") } else { format!("`{shown}`") }
}

// ---------------------------------------------------------------------------------------------- arguments

/// # Safety
/// A pointer that is not NULL leads to `len` readable bytes for as long as the function of the table runs.
unsafe fn bytes<'a>(ptr: *const u8, len: usize) -> Answer<&'a [u8]> {
    if len > isize::MAX as usize {
        return Err(argument("a length is over PTRDIFF_MAX"));
    }
    if ptr.is_null() {
        return if len == 0 { Ok(&[]) } else { Err(argument("a pointer is NULL and its length is not 0")) };
    }
    // SAFETY: the caller's promise; NULL and lengths that no object has were refused above.
    Ok(unsafe { std::slice::from_raw_parts(ptr, len) })
}

/// # Safety
/// As [`bytes`].
unsafe fn text<'a>(ptr: *const u8, len: usize) -> Answer<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes(ptr, len) }?;
    std::str::from_utf8(bytes).map_err(|_| argument("a text is not UTF-8"))
}

/// A library's place for a result: absent until there is one (servlet.h 5).
struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `out` is NULL or a place that may be written until the function of the table returns.
    unsafe fn new(out: *mut T, absent: T) -> Out<T> {
        if out.is_null() || !out.is_aligned() {
            return Out(std::ptr::null_mut());
        }
        // SAFETY: the caller's promise, and it is not NULL.
        unsafe { out.write(absent) };
        Out(out)
    }

    fn checked(&self) -> Answer {
        if self.0.is_null() { Err(argument("the place for a result is NULL or not aligned")) } else { Ok(()) }
    }

    fn put(&self, value: T) -> Answer<sv_status> {
        self.checked()?;
        // SAFETY: the promise to `new`; it is not NULL.
        unsafe { self.0.write(value) };
        Ok(SV_OK)
    }
}

pub const SERVER: &str = concat!("serval/", env!("CARGO_PKG_VERSION"));

/// The one table of this process.
pub static HOST: sv_host = sv_host {
    struct_size: size_of::<sv_host>() as u32,
    abi_major: SV_ABI_MAJOR,
    abi_minor: SV_ABI_MINOR,
    server: sv_str::new(SERVER),
    extension: Some(context::extension),
    log_enabled: Some(context::log_enabled),
    log_message: Some(context::log_message),
    report_panic: Some(context::report_panic),
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
    set_cookie: Some(cookie::set_cookie),
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
    detach: Some(asynchronous::detach),
    complete: Some(asynchronous::complete),
    async_dispatch: Some(asynchronous::async_dispatch),
    set_timeout: Some(asynchronous::set_timeout),
    waker: Some(asynchronous::waker),
    waker_clone: Some(asynchronous::waker_clone),
    waker_wake: Some(asynchronous::waker_wake),
    waker_drop: Some(asynchronous::waker_drop),
    session: Some(session::session),
    session_info: Some(session::session_info),
    session_attribute: Some(session::session_attribute),
    session_attributes: Some(session::session_attributes),
    session_set_attribute: Some(session::session_set_attribute),
    session_change_id: Some(session::session_change_id),
    session_set_max_inactive: Some(session::session_set_max_inactive),
    session_invalidate: Some(session::session_invalidate),
    context: Some(exchange::context),
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
    context_timer: Some(asynchronous::context_timer),
};
