//! The host's side of `sv_host`: each function checks the handle, the thread, and the arguments, and then asks the
//! [`Exchange`] or the [`Context`]. It knows nothing of HTTP connections and of how exchanges wait.
//!
//! Called by servlet libraries, through the table that they get in `init`; nothing unwinds out of here.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;

use bumpalo::Bump;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serval_abi::*;

use crate::exchange::{Answer, Context, Exchange, Fault, HeaderChange, Level, Place};
use crate::misuse;
use crate::slots;

/// LIMIT: what one dispatch may take by `alloc` and by strings returned to it.
const ARENA_BYTES_MAX: usize = 64 << 20;
const LOG_BYTES_MAX: usize = 64 << 10;
/// Bodies that a library keeps (SV_BODY_STATIC) are copied up to here: cheaper than counting a reference to its generation.
const STATIC_COPY_MAX: usize = 16 << 10;

/// One dispatch of an exchange to a servlet: what its handle leads to.
pub struct Frame<'a> {
    exchange: &'a mut dyn Exchange,
    context: *mut sv_context,
    servlet: &'a str,
    arena: Bump,
    request: *const sv_request,
    parameters: Option<(*const sv_pair, usize)>,
    cookies: Option<(*const sv_pair, usize)>,
    /// What has come of the body and was not given away yet.
    chunk: Bytes,
    /// The chunk that the library looks at, until its next read.
    lent: Bytes,
    body: Option<Bytes>,
    error: String,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(exchange: &'a mut dyn Exchange, context: *mut sv_context, servlet: &'a str) -> Frame<'a> {
        let arena = Bump::new();
        arena.set_allocation_limit(Some(ARENA_BYTES_MAX));
        Frame {
            exchange,
            context,
            servlet,
            arena,
            request: null(),
            parameters: None,
            cookies: None,
            chunk: Bytes::new(),
            lent: Bytes::new(),
            body: None,
            error: String::new(),
        }
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

    fn keep_pairs(&self, pairs: &[(String, String)]) -> Answer<(*const sv_pair, usize)> {
        let mut kept = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            kept.push(sv_pair { name: self.keep(name.as_bytes())?, value: self.keep(value.as_bytes())? });
        }
        self.keep_all(&kept)
    }

    /// The view of the request, built at the first call.
    fn request(&mut self) -> Answer<*const sv_request> {
        if !self.request.is_null() {
            return Ok(self.request);
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
        let (headers, header_count) = self.keep_all(&headers)?;
        let text = sv_str::new;
        let optional = |value: Option<&str>| value.map_or(sv_str::ABSENT, sv_str::new);
        let content_type = head.headers.get(http::header::CONTENT_TYPE);
        let view = sv_request {
            struct_size: size_of::<sv_request>() as u32,
            method: method_bit(head.method),
            method_name: text(head.method),
            http_version: head.http_version,
            dispatch: head.dispatch,
            scheme: text(head.scheme),
            server_name: text(head.server_name),
            server_port: head.server_port.into(),
            secure: head.secure.into(),
            target: text(head.target),
            request_uri: text(head.request_uri),
            query: optional(head.query),
            context_path: text(head.context_path),
            servlet_path: text(head.servlet_path),
            path_info: optional(head.path_info),
            match_kind: head.match_kind,
            reserved: 0,
            match_pattern: text(head.match_pattern),
            match_value: optional(head.match_value),
            servlet_name: text(head.servlet_name),
            headers,
            header_count,
            content_length: head.content_length.and_then(|length| i64::try_from(length).ok()).unwrap_or(-1),
            content_type: content_type.map_or(sv_str::ABSENT, |value| sv_str::from_bytes(value.as_bytes())),
            remote_addr: text(head.remote_addr),
            local_addr: text(head.local_addr),
            remote_port: head.remote_port.into(),
            local_port: head.local_port.into(),
            id: head.id,
            connection_id: head.connection_id,
        };
        self.request = match self.arena.try_alloc(view) {
            Ok(view) => view,
            Err(_) => return Err(no_memory()),
        };
        Ok(self.request)
    }

    fn parameters(&mut self) -> Answer<(*const sv_pair, usize)> {
        if self.parameters.is_none() {
            let all = self.exchange.parameters()?.to_vec();
            self.parameters = Some(self.keep_pairs(&all)?);
        }
        self.parameters.ok_or_else(no_memory)
    }

    fn cookies(&mut self) -> Answer<(*const sv_pair, usize)> {
        if self.cookies.is_none() {
            let all = self.exchange.cookies()?.to_vec();
            self.cookies = Some(self.keep_pairs(&all)?);
        }
        self.cookies.ok_or_else(no_memory)
    }

    fn fill_chunk(&mut self) -> Answer<bool> {
        if self.chunk.is_empty() {
            match self.exchange.read_chunk()? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
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
    work: impl FnOnce(&mut Frame<'static>) -> Answer<sv_status>,
) -> sv_status {
    let result = catch_unwind(AssertUnwindSafe(|| {
        slots::with_frame(exchange, |frame| {
            let result = work(frame);
            if let Err(fault) = &result {
                misuse::report(function, fault, Some(frame.servlet));
                frame.error.clear();
                frame.error.push_str(&fault.text);
            }
            Ok(result)
        })
    }));
    match result {
        Ok(Ok(Ok(status))) => status,
        Ok(Ok(Err(fault))) => fault.status,
        Ok(Err(fault)) => {
            misuse::report(function, &fault, None);
            fault.status
        }
        Err(_) => {
            misuse::report(function, &Fault::new(SV_E_INTERNAL, "the server panicked; please report it"), None);
            SV_E_INTERNAL
        }
    }
}

fn on_context(
    function: &'static str,
    context: *mut sv_context,
    work: impl FnOnce(&dyn Context) -> Answer<sv_status>,
) -> sv_status {
    let result = catch_unwind(AssertUnwindSafe(|| work(&*slots::context(context)?)))
        .unwrap_or_else(|_| Err(Fault::new(SV_E_INTERNAL, "the server panicked; please report it")));
    result.unwrap_or_else(|fault| {
        misuse::report(function, &fault, None);
        fault.status
    })
}

fn not_yet(function: &'static str) -> sv_status {
    misuse::report(function, &Fault::new(SV_E_UNSUPPORTED, "this server does not have it yet"), None);
    SV_E_UNSUPPORTED
}

fn argument(text: &'static str) -> Fault {
    Fault::new(SV_E_ARG, text)
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

/// # Safety
/// As [`bytes`].
unsafe fn required<'a>(ptr: *const u8, len: usize) -> Answer<&'a str> {
    if ptr.is_null() {
        return Err(argument("a pointer is NULL"));
    }
    // SAFETY: the caller's promise.
    unsafe { text(ptr, len) }
}

/// # Safety
/// `out` is NULL or a place that may be written.
unsafe fn put<T>(out: *mut T, value: T) -> Answer<sv_status> {
    if out.is_null() {
        return Err(argument("the place for the result is NULL"));
    }
    // SAFETY: the caller's promise, and it is not NULL.
    unsafe { out.write(value) };
    Ok(SV_OK)
}

/// # Safety
/// As [`put`], for both.
unsafe fn put_pairs(
    out: *mut *const sv_pair,
    count: *mut usize,
    (pairs, len): (*const sv_pair, usize),
) -> Answer<sv_status> {
    if out.is_null() || count.is_null() {
        return Err(argument("the place for the result is NULL"));
    }
    // SAFETY: the caller's promise, and it is not NULL.
    unsafe { out.write(pairs) };
    // SAFETY: as above.
    unsafe { count.write(len) };
    Ok(SV_OK)
}

/// The nth value of a name in an array of pairs that this table made.
///
/// # Safety
/// `pairs` came from the frame that still lives.
unsafe fn nth(pairs: (*const sv_pair, usize), name: &str, nth: usize) -> Option<sv_str> {
    // SAFETY: the array lies in the frame's arena.
    let pairs = unsafe { std::slice::from_raw_parts(pairs.0, pairs.1) };
    let mut left = nth;
    for pair in pairs {
        // SAFETY: so does its text.
        let known = unsafe { std::slice::from_raw_parts(pair.name.ptr, pair.name.len) };
        if known == name.as_bytes() {
            if left == 0 {
                return Some(pair.value);
            }
            left -= 1;
        }
    }
    None
}

fn header_name(name: &[u8]) -> Answer<HeaderName> {
    HeaderName::from_bytes(name)
        .map_err(|_| Fault::new(SV_E_ARG, format!("`{}` is not the name of a header", name.escape_ascii())))
}

fn header_value(value: &[u8]) -> Answer<HeaderValue> {
    HeaderValue::from_bytes(value).map_err(|_| argument("a header value has CR, LF, NUL or another control character"))
}

/// What frames the message or belongs to the connection is the server's (RFC 9110 7.6.1, RFC 9112 6).
fn settable(name: &HeaderName) -> Answer {
    match name.as_str() {
        "connection" | "transfer-encoding" | "upgrade" | "keep-alive" => {
            Err(Fault::new(SV_E_ARG, format!("the header {name} is the server's")))
        }
        _ => Ok(()),
    }
}

// ---------------------------------------------------------------------------------------------- extension, log

unsafe extern "C" fn extension(_id: *const u8) -> *const c_void {
    null()
}

fn level(level: i32) -> Answer<Level> {
    match level {
        SV_LOG_ERROR => Ok(Level::Error),
        SV_LOG_WARN => Ok(Level::Warn),
        SV_LOG_INFO => Ok(Level::Info),
        SV_LOG_DEBUG => Ok(Level::Debug),
        SV_LOG_TRACE => Ok(Level::Trace),
        _ => Err(argument("this is not a level of SV_LOG_*")),
    }
}

unsafe extern "C" fn log_enabled(context: *mut sv_context, wanted: i32) -> i32 {
    let mut enabled = false;
    on_context("log_enabled", context, |context| {
        enabled = context.log_enabled(level(wanted)?);
        Ok(SV_OK)
    });
    enabled.into()
}

/// Cuts at a character's border.
fn cut(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&text[..text.len().min(LOG_BYTES_MAX)])
}

unsafe extern "C" fn log(
    context: *mut sv_context,
    exchange: *mut sv_exchange,
    wanted: i32,
    text: *const u8,
    len: usize,
) -> sv_status {
    on_context("log", context, |context| {
        let level = level(wanted)?;
        // SAFETY: the library's promise (servlet.h 3).
        let text = unsafe { bytes(text, len) }?;
        let mut id = None;
        if !exchange.is_null() {
            slots::with_frame(exchange, |frame| {
                id = Some(frame.exchange.head().id);
                Ok(())
            })?;
        }
        context.log(id, level, &cut(text));
        Ok(SV_OK)
    })
}

unsafe extern "C" fn report_panic(
    context: *mut sv_context,
    text: *const u8,
    len: usize,
    file: *const u8,
    file_len: usize,
    line: u32,
) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3).
    let text = cut(unsafe { bytes(text, len) }.unwrap_or(b"(no text)"));
    // SAFETY: as above.
    let file = cut(unsafe { bytes(file, file_len) }.unwrap_or(b"?"));
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("?");
    let message = format!("panicked at {file}:{line} on thread {thread}: {text}");
    if context.is_null() {
        tracing::error!(target: "serval::servlet", "a library {message}");
        return SV_OK;
    }
    on_context("report_panic", context, |context| {
        context.log(None, Level::Error, &message);
        Ok(SV_OK)
    })
}

// ---------------------------------------------------------------------------------------------- the request

unsafe extern "C" fn request(exchange: *mut sv_exchange) -> *const sv_request {
    let mut view = null();
    on_exchange("request", exchange, |frame| {
        view = frame.request()?;
        Ok(SV_OK)
    });
    view
}

unsafe extern "C" fn tls(exchange: *mut sv_exchange) -> *const sv_tls {
    on_exchange("tls", exchange, |_| Ok(SV_OK));
    null()
}

unsafe extern "C" fn header(exchange: *mut sv_exchange, name: *const u8, len: usize, value: *mut sv_str) -> sv_status {
    on_exchange("header", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = unsafe { required(name, len) }?;
        let Some(found) = frame.exchange.head().headers.get(name) else {
            return Ok(SV_NONE);
        };
        // SAFETY: the library's promise.
        unsafe { put(value, sv_str::from_bytes(found.as_bytes())) }
    })
}

unsafe extern "C" fn parameter(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    index: u32,
    value: *mut sv_str,
) -> sv_status {
    on_exchange("parameter", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = unsafe { required(name, len) }?;
        let all = frame.parameters()?;
        // SAFETY: made by this frame.
        match unsafe { nth(all, name, index as usize) } {
            // SAFETY: the library's promise.
            Some(found) => unsafe { put(value, found) },
            None => Ok(SV_NONE),
        }
    })
}

unsafe extern "C" fn parameters(exchange: *mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3).
    on_exchange("parameters", exchange, |frame| unsafe { put_pairs(out, count, frame.parameters()?) })
}

unsafe extern "C" fn path_parameter(exchange: *mut sv_exchange, _: *const u8, _: usize, _: *mut sv_str) -> sv_status {
    on_exchange("path_parameter", exchange, |_| Ok(SV_NONE))
}

unsafe extern "C" fn cookie(exchange: *mut sv_exchange, name: *const u8, len: usize, value: *mut sv_str) -> sv_status {
    on_exchange("cookie", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = unsafe { required(name, len) }?;
        let all = frame.cookies()?;
        // SAFETY: made by this frame.
        match unsafe { nth(all, name, 0) } {
            // SAFETY: the library's promise.
            Some(found) => unsafe { put(value, found) },
            None => Ok(SV_NONE),
        }
    })
}

unsafe extern "C" fn cookies(exchange: *mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3).
    on_exchange("cookies", exchange, |frame| unsafe { put_pairs(out, count, frame.cookies()?) })
}

unsafe extern "C" fn part_count(_: *mut sv_exchange, _: *mut usize) -> sv_status {
    not_yet("part_count")
}

unsafe extern "C" fn part(_: *mut sv_exchange, _: usize, _: *mut *const sv_part) -> sv_status {
    not_yet("part")
}

unsafe extern "C" fn attribute(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    on_exchange("attribute", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = unsafe { required(name, len) }?;
        match frame.exchange.attribute(name) {
            // SAFETY: the library's promise.
            Some(found) => unsafe { put(value, frame.keep(found)?) },
            None => Ok(SV_NONE),
        }
    })
}

unsafe extern "C" fn attributes(exchange: *mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status {
    on_exchange("attributes", exchange, |frame| {
        let mut kept = Vec::new();
        for (name, value) in frame.exchange.attributes() {
            kept.push(sv_pair { name: frame.keep(name.as_bytes())?, value: frame.keep(value)? });
        }
        // SAFETY: the library's promise (servlet.h 3).
        unsafe { put_pairs(out, count, frame.keep_all(&kept)?) }
    })
}

unsafe extern "C" fn set_attribute(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    on_exchange("set_attribute", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = unsafe { required(name, len) }?;
        // SAFETY: as above.
        let given = unsafe { bytes(value, value_len) }?;
        frame.exchange.set_attribute(name, (!value.is_null()).then_some(given))?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn principal(exchange: *mut sv_exchange, _: *mut sv_str, _: *mut sv_str) -> sv_status {
    on_exchange("principal", exchange, |_| Ok(SV_NONE))
}

unsafe extern "C" fn in_role(exchange: *mut sv_exchange, _: *const u8, _: usize) -> sv_status {
    on_exchange("in_role", exchange, |_| Ok(SV_NONE))
}

unsafe extern "C" fn login(_: *mut sv_exchange, _: *const u8, _: usize, _: *const u8, _: usize) -> sv_status {
    not_yet("login")
}

unsafe extern "C" fn logout(_: *mut sv_exchange) -> sv_status {
    not_yet("logout")
}

// ---------------------------------------------------------------------------------------------- the request's body

unsafe extern "C" fn read(exchange: *mut sv_exchange, buffer: *mut u8, capacity: usize, len: *mut usize) -> sv_status {
    on_exchange("read", exchange, |frame| {
        if buffer.is_null() || capacity == 0 || capacity > isize::MAX as usize {
            return Err(argument("the buffer is NULL, or its capacity is 0 or over PTRDIFF_MAX"));
        }
        // SAFETY: the library's promise (servlet.h 3).
        unsafe { put(len, 0) }?;
        if !frame.fill_chunk()? {
            return Ok(SV_END);
        }
        let given = frame.chunk.split_to(frame.chunk.len().min(capacity));
        // SAFETY: `given` is not longer than the capacity, which the library promises to be writable.
        unsafe { std::ptr::copy_nonoverlapping(given.as_ptr(), buffer, given.len()) };
        // SAFETY: as above.
        unsafe { put(len, given.len()) }
    })
}

unsafe extern "C" fn read_chunk(exchange: *mut sv_exchange, chunk: *mut sv_str) -> sv_status {
    on_exchange("read_chunk", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        unsafe { put(chunk, sv_str::ABSENT) }?;
        if !frame.fill_chunk()? {
            return Ok(SV_END);
        }
        frame.lent = std::mem::take(&mut frame.chunk);
        // SAFETY: the library's promise.
        unsafe { put(chunk, sv_str::from_bytes(&frame.lent)) }
    })
}

unsafe extern "C" fn read_all(exchange: *mut sv_exchange, bytes_max: usize, body: *mut sv_str) -> sv_status {
    on_exchange("read_all", exchange, |frame| {
        if frame.body.is_none() {
            frame.body = Some(whole_body(frame, bytes_max)?);
        }
        let view = frame.body.as_deref().map_or(sv_str::ABSENT, sv_str::from_bytes);
        // SAFETY: the library's promise (servlet.h 3); the frame keeps the body.
        unsafe { put(body, view) }
    })
}

/// The rest of the body in one piece; not copied when it came in one.
fn whole_body(frame: &mut Frame<'_>, bytes_max: usize) -> Answer<Bytes> {
    let too_long = || Fault::new(SV_E_LIMIT, format!("the body is longer than {bytes_max} bytes"));
    if frame.exchange.head().content_length.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_long());
    }
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while frame.fill_chunk()? {
        let chunk = std::mem::take(&mut frame.chunk);
        if first.len() + all.len() + chunk.len() > bytes_max {
            return Err(too_long());
        }
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

unsafe extern "C" fn request_trailers(_: *mut sv_exchange, _: *mut *const sv_pair, _: *mut usize) -> sv_status {
    not_yet("request_trailers")
}

// ---------------------------------------------------------------------------------------------- the response

/// A library's memory that goes out in place: released once, and its generation kept until then.
struct Owned {
    ptr: *const u8,
    len: usize,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
    release_arg: *mut c_void,
    /// Dropped after `release` has run.
    _lease: std::sync::Arc<dyn std::any::Any + Send + Sync>,
}

// SAFETY: servlet.h lets `release` run on any thread, and nobody writes the bytes.
unsafe impl Send for Owned {}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the library keeps the bytes valid until `release`, or for SV_BODY_STATIC until its destroy, which waits for
        // the lease.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: called once, by the contract of SV_BODY_OWNED.
            unsafe { release(self.release_arg) };
        }
    }
}

unsafe extern "C" fn respond(exchange: *mut sv_exchange, response: *const sv_response) -> sv_status {
    on_exchange("respond", exchange, |frame| {
        // SAFETY: NULL or a valid struct (servlet.h 3).
        let Some(given) = (unsafe { response.as_ref() }) else {
            return Err(argument("the response is NULL"));
        };
        if (given.struct_size as usize) < size_of::<sv_response>() {
            return Err(argument("struct_size of the response is too small; set it to sizeof(sv_response)"));
        }
        let status = checked_status(given.status)?;
        // SAFETY: the library's promise.
        let pairs = unsafe { pairs(given.headers, given.header_count) }?;
        let mut headers = HeaderMap::with_capacity(pairs.len() + 2);
        for pair in pairs {
            // SAFETY: as above.
            let name = header_name(unsafe { bytes(pair.name.ptr, pair.name.len) }?)?;
            settable(&name)?;
            // SAFETY: as above.
            let value = header_value(unsafe { bytes(pair.value.ptr, pair.value.len) }?)?;
            headers.append(name, value);
        }
        // SAFETY: as above.
        let body = unsafe { bytes(given.body, given.body_len) }?;
        if frame.exchange.committed() {
            return Err(Fault::new(SV_E_STATE, "the response is committed"));
        }
        let (release, keeps) = match given.body_kind {
            SV_BODY_COPY => (None, false),
            SV_BODY_STATIC => (None, body.len() > STATIC_COPY_MAX),
            SV_BODY_OWNED => (given.release, true),
            _ => return Err(argument("body_kind is not one of SV_BODY_*")),
        };
        let body = if keeps {
            Bytes::from_owner(Owned {
                ptr: given.body,
                len: given.body_len,
                release,
                release_arg: given.release_arg,
                _lease: frame.exchange.lease(),
            })
        } else {
            Bytes::copy_from_slice(body)
        };
        // What can fail has been checked: from here the body is the server's, whatever happens to the client.
        frame.exchange.respond(status, headers, body)?;
        Ok(SV_OK)
    })
}

/// # Safety
/// A pointer that is not NULL leads to `len` valid pairs.
unsafe fn pairs<'a>(ptr: *const sv_pair, len: usize) -> Answer<&'a [sv_pair]> {
    if len > 10_000 {
        return Err(argument("there are more than 10,000 headers"));
    }
    if ptr.is_null() {
        return if len == 0 { Ok(&[]) } else { Err(argument("a pointer is NULL and its count is not 0")) };
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(ptr, len) })
}

fn checked_status(status: u32) -> Answer<u16> {
    match status {
        200..=599 => Ok(status as u16),
        _ => Err(argument("a status is 200 to 599")),
    }
}

unsafe extern "C" fn set_status(exchange: *mut sv_exchange, status: u32) -> sv_status {
    on_exchange("set_status", exchange, |frame| {
        frame.exchange.set_status(checked_status(status)?)?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn set_header(
    exchange: *mut sv_exchange,
    how: i32,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    on_exchange("set_header", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = header_name(unsafe { bytes(name, len) }?)?;
        settable(&name)?;
        let change = match how {
            SV_HEADER_SET => HeaderChange::Set,
            SV_HEADER_ADD => HeaderChange::Add,
            SV_HEADER_REMOVE => HeaderChange::Remove,
            _ => return Err(argument("`how` is not one of SV_HEADER_*")),
        };
        let value = match change {
            HeaderChange::Remove => None,
            // SAFETY: the library's promise.
            _ => Some(header_value(unsafe { bytes(value, value_len) }?)?),
        };
        frame.exchange.set_header(change, name, value)?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn response_header(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    index: u32,
    value: *mut sv_str,
) -> sv_status {
    on_exchange("response_header", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = unsafe { required(name, len) }?;
        match frame.exchange.response_headers().get_all(name).iter().nth(index as usize) {
            // SAFETY: the library's promise.
            Some(found) => unsafe { put(value, frame.keep(found.as_bytes())?) },
            None => Ok(SV_NONE),
        }
    })
}

unsafe extern "C" fn response_status(exchange: *mut sv_exchange, status: *mut u32) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3).
    on_exchange("response_status", exchange, |frame| unsafe { put(status, frame.exchange.response_status().into()) })
}

unsafe extern "C" fn set_content_type(exchange: *mut sv_exchange, content_type: *const u8, len: usize) -> sv_status {
    on_exchange("set_content_type", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let content_type = unsafe { required(content_type, len) }?;
        header_value(content_type.as_bytes())?;
        frame.exchange.set_content_type(content_type)?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn set_charset(exchange: *mut sv_exchange, charset: *const u8, len: usize) -> sv_status {
    on_exchange("set_charset", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let given = unsafe { text(charset, len) }?;
        header_value(given.as_bytes())?;
        frame.exchange.set_charset((!charset.is_null()).then_some(given))?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn set_content_length(exchange: *mut sv_exchange, length: u64) -> sv_status {
    on_exchange("set_content_length", exchange, |frame| {
        if length > i64::MAX as u64 {
            return Err(argument("a content length is at most 2^63 - 1"));
        }
        frame.exchange.set_content_length(length)?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn set_buffer_size(exchange: *mut sv_exchange, size: usize) -> sv_status {
    on_exchange("set_buffer_size", exchange, |frame| {
        frame.exchange.set_buffer_size(size)?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn set_cookie(_: *mut sv_exchange, _: *const sv_cookie) -> sv_status {
    not_yet("set_cookie")
}

unsafe extern "C" fn set_trailer(_: *mut sv_exchange, _: *const u8, _: usize, _: *const u8, _: usize) -> sv_status {
    not_yet("set_trailer")
}

unsafe extern "C" fn informational(_: *mut sv_exchange, _: u32, _: *const sv_pair, _: usize) -> sv_status {
    not_yet("informational")
}

unsafe extern "C" fn write(exchange: *mut sv_exchange, given: *const u8, len: usize, taken: *mut usize) -> sv_status {
    on_exchange("write", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let given = unsafe { bytes(given, len) }?;
        frame.exchange.write(given)?;
        if !taken.is_null() {
            // SAFETY: the library's promise.
            unsafe { put(taken, given.len()) }?;
        }
        Ok(SV_OK)
    })
}

unsafe extern "C" fn write_owned(
    exchange: *mut sv_exchange,
    given: *const u8,
    len: usize,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
    release_arg: *mut c_void,
) -> sv_status {
    on_exchange("write_owned", exchange, |frame| {
        // Copied for now: the contract is the same, and a servlet that writes much is bounded by its client anyway.
        // SAFETY: the library's promise (servlet.h 3).
        frame.exchange.write(unsafe { bytes(given, len) }?)?;
        if let Some(release) = release {
            // SAFETY: the bytes are the server's now, so this is the once that the contract asks for.
            unsafe { release(release_arg) };
        }
        Ok(SV_OK)
    })
}

unsafe extern "C" fn flush(exchange: *mut sv_exchange) -> sv_status {
    on_exchange("flush", exchange, |frame| frame.exchange.flush().map(|()| SV_OK))
}

unsafe extern "C" fn reset(exchange: *mut sv_exchange) -> sv_status {
    on_exchange("reset", exchange, |frame| frame.exchange.reset().map(|()| SV_OK))
}

unsafe extern "C" fn reset_buffer(exchange: *mut sv_exchange) -> sv_status {
    on_exchange("reset_buffer", exchange, |frame| frame.exchange.reset_buffer().map(|()| SV_OK))
}

unsafe extern "C" fn send_error(exchange: *mut sv_exchange, status: u32, message: *const u8, len: usize) -> sv_status {
    on_exchange("send_error", exchange, |frame| {
        if !(400..=599).contains(&status) {
            return Err(argument("the status of an error is 400 to 599"));
        }
        // SAFETY: the library's promise (servlet.h 3).
        frame.exchange.send_error(status as u16, unsafe { text(message, len) }?)?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn redirect(exchange: *mut sv_exchange, location: *const u8, len: usize) -> sv_status {
    on_exchange("redirect", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let location = unsafe { required(location, len) }?;
        header_value(location.as_bytes())?;
        frame.exchange.redirect(location)?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn committed(exchange: *mut sv_exchange) -> i32 {
    on_exchange("committed", exchange, |frame| Ok(frame.exchange.committed().into()))
}

unsafe extern "C" fn encode_url(exchange: *mut sv_exchange, url: *const u8, len: usize, out: *mut sv_str) -> sv_status {
    on_exchange("encode_url", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let url = unsafe { required(url, len) }?;
        // SAFETY: as above.
        unsafe { put(out, frame.keep(url.as_bytes())?) }
    })
}

// ---------------------------------------------------------------------------------------------- the exchange

unsafe extern "C" fn alloc(exchange: *mut sv_exchange, size: usize, align: usize) -> *mut c_void {
    let mut memory = std::ptr::null_mut();
    on_exchange("alloc", exchange, |frame| {
        let layout = std::alloc::Layout::from_size_align(size, align.max(1))
            .map_err(|_| argument("the alignment is not a power of two, or the size is too large"))?;
        memory = frame.arena.try_alloc_layout(layout).map_err(|_| no_memory())?.as_ptr().cast();
        Ok(SV_OK)
    });
    memory
}

unsafe extern "C" fn error_text(exchange: *mut sv_exchange) -> sv_str {
    let mut text = sv_str::new("");
    on_exchange("error_text", exchange, |frame| {
        text = frame.keep(frame.error.as_bytes())?;
        Ok(SV_OK)
    });
    text
}

unsafe extern "C" fn fail(
    exchange: *mut sv_exchange,
    kind: *const u8,
    kind_len: usize,
    message: *const u8,
    len: usize,
) -> sv_status {
    on_exchange("fail", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        let kind = unsafe { text(kind, kind_len) }?;
        // SAFETY: as above.
        frame.exchange.fail(kind, unsafe { text(message, len) }?);
        Ok(SV_OK)
    })
}

unsafe extern "C" fn unavailable(
    exchange: *mut sv_exchange,
    seconds: u32,
    message: *const u8,
    len: usize,
) -> sv_status {
    on_exchange("unavailable", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3).
        frame.exchange.unavailable(seconds, unsafe { text(message, len) }?);
        Ok(SV_OK)
    })
}

unsafe extern "C" fn dispatch(_: *mut sv_exchange, _: i32, _: *const u8, _: usize) -> sv_status {
    not_yet("dispatch")
}

unsafe extern "C" fn cancelled(exchange: *mut sv_exchange) -> i32 {
    on_exchange("cancelled", exchange, |frame| Ok(frame.exchange.cancelled().into()))
}

unsafe extern "C" fn retiring(exchange: *mut sv_exchange) -> i32 {
    on_exchange("retiring", exchange, |frame| Ok(frame.exchange.retiring().into()))
}

// ---------------------------------------------------------------------------------------------- async

unsafe extern "C" fn detach(_: *mut sv_exchange) -> sv_status {
    not_yet("detach")
}

unsafe extern "C" fn complete(exchange: *mut sv_exchange, _: sv_status) -> sv_status {
    on_exchange("complete", exchange, |_| Err(Fault::new(SV_E_STATE, "the exchange is not detached")))
}

unsafe extern "C" fn async_dispatch(exchange: *mut sv_exchange, _: *const u8, _: usize) -> sv_status {
    on_exchange("async_dispatch", exchange, |_| Err(Fault::new(SV_E_STATE, "the exchange is not detached")))
}

unsafe extern "C" fn set_timeout(_: *mut sv_exchange, _: u64) -> sv_status {
    not_yet("set_timeout")
}

unsafe extern "C" fn waker(_: *mut sv_exchange) -> *mut sv_waker {
    not_yet("waker");
    std::ptr::null_mut()
}

unsafe extern "C" fn waker_clone(_: *mut sv_waker) -> *mut sv_waker {
    not_yet("waker_clone");
    std::ptr::null_mut()
}

unsafe extern "C" fn waker_wake(_: *mut sv_waker, _: i32) {
    not_yet("waker_wake");
}

unsafe extern "C" fn waker_drop(_: *mut sv_waker) {
    not_yet("waker_drop");
}

// ---------------------------------------------------------------------------------------------- sessions

unsafe extern "C" fn session(_: *mut sv_exchange, _: i32, _: *mut *mut sv_session) -> sv_status {
    not_yet("session")
}

unsafe extern "C" fn session_info(_: *mut sv_exchange, _: *mut *const sv_session_info) -> sv_status {
    not_yet("session_info")
}

unsafe extern "C" fn session_attribute(_: *mut sv_session, _: *const u8, _: usize, _: *mut sv_str) -> sv_status {
    not_yet("session_attribute")
}

unsafe extern "C" fn session_attributes(_: *mut sv_session, _: *mut *const sv_pair, _: *mut usize) -> sv_status {
    not_yet("session_attributes")
}

unsafe extern "C" fn session_set(_: *mut sv_session, _: *const u8, _: usize, _: *const u8, _: usize) -> sv_status {
    not_yet("session_set")
}

unsafe extern "C" fn session_change_id(_: *mut sv_session, _: *mut sv_str) -> sv_status {
    not_yet("session_change_id")
}

unsafe extern "C" fn session_max_inactive(_: *mut sv_session, _: i64) -> sv_status {
    not_yet("session_max_inactive")
}

unsafe extern "C" fn session_invalidate(_: *mut sv_session) -> sv_status {
    not_yet("session_invalidate")
}

// ---------------------------------------------------------------------------------------------- the context

unsafe extern "C" fn context(exchange: *mut sv_exchange) -> *mut sv_context {
    let mut found = std::ptr::null_mut();
    on_exchange("context", exchange, |frame| {
        found = frame.context;
        Ok(SV_OK)
    });
    found
}

unsafe extern "C" fn context_path(context: *mut sv_context, out: *mut sv_str) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3).
    on_context("context_path", context, |context| unsafe { put(out, sv_str::new(context.path())) })
}

unsafe extern "C" fn context_parameter(
    context: *mut sv_context,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    on_context("context_parameter", context, |context| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = unsafe { required(name, len) }?;
        match context.parameters().iter().find(|(known, _)| known == name) {
            // SAFETY: as above.
            Some((_, found)) => unsafe { put(value, sv_str::new(found)) },
            None => Ok(SV_NONE),
        }
    })
}

unsafe extern "C" fn context_parameters(_: *mut sv_context, _: *mut *const sv_pair, _: *mut usize) -> sv_status {
    not_yet("context_parameters")
}

unsafe extern "C" fn context_folder(context: *mut sv_context, which: i32, path: *mut sv_str) -> sv_status {
    on_context("context_folder", context, |context| {
        let place = match which {
            SV_PATH_ROOT => Place::Root,
            SV_PATH_WORK => Place::Work,
            SV_PATH_TEMP => Place::Temp,
            _ => return Err(argument("this is not one of SV_PATH_*")),
        };
        match context.folder(place) {
            // SAFETY: the library's promise (servlet.h 3).
            Some(found) => unsafe { put(path, sv_str::new(found)) },
            None => Err(Fault::new(SV_E_UNSUPPORTED, "this server does not have that folder yet")),
        }
    })
}

unsafe extern "C" fn context_mime_type(
    context: *mut sv_context,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    on_context("context_mime_type", context, |context| {
        // SAFETY: the library's promise (servlet.h 3).
        match context.mime_type(unsafe { required(name, len) }?) {
            // SAFETY: as above.
            Some(found) => unsafe { put(value, sv_str::new(found)) },
            None => Ok(SV_NONE),
        }
    })
}

unsafe extern "C" fn context_resource(context: *mut sv_context, _: *const u8, _: usize, _: *mut sv_str) -> sv_status {
    on_context("context_resource", context, |_| Ok(SV_NONE))
}

unsafe extern "C" fn context_attribute(
    context: *mut sv_context,
    name: *const u8,
    name_len: usize,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> sv_status {
    on_context("context_attribute", context, |context| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = unsafe { required(name, name_len) }?;
        if buffer.is_null() && capacity != 0 {
            return Err(argument("the buffer is NULL and its capacity is not 0"));
        }
        let Some(value) = context.attribute(name) else {
            return Ok(SV_NONE);
        };
        let copied = value.len().min(capacity);
        if copied > 0 {
            // SAFETY: not more than the capacity, which the library promises to be writable.
            unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), buffer, copied) };
        }
        // SAFETY: the library's promise.
        unsafe { put(len, value.len()) }
    })
}

unsafe extern "C" fn context_set_attribute(
    context: *mut sv_context,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    on_context("context_set_attribute", context, |context| {
        // SAFETY: the library's promise (servlet.h 3).
        let name = unsafe { required(name, len) }?;
        // SAFETY: as above.
        let given = unsafe { bytes(value, value_len) }?;
        context.set_attribute(name, (!value.is_null()).then_some(given))?;
        Ok(SV_OK)
    })
}

unsafe extern "C" fn context_generation(context: *mut sv_context) -> u64 {
    let mut generation = 0;
    on_context("context_generation", context, |context| {
        generation = context.generation();
        Ok(SV_OK)
    });
    generation
}

unsafe extern "C" fn context_post(
    _: *mut sv_context,
    _: Option<unsafe extern "C" fn(*mut c_void)>,
    _: *mut c_void,
) -> sv_status {
    not_yet("context_post")
}

unsafe extern "C" fn context_timer(_: *mut sv_context, _: u64, _: *mut sv_waker) -> sv_status {
    not_yet("context_timer")
}

pub const SERVER: &str = concat!("serval/", env!("CARGO_PKG_VERSION"));

/// The one table of this process.
pub static HOST: sv_host = sv_host {
    struct_size: size_of::<sv_host>() as u32,
    abi_major: SV_ABI_MAJOR,
    abi_minor: SV_ABI_MINOR,
    server: sv_str::new(SERVER),
    extension: Some(extension),
    log_enabled: Some(log_enabled),
    log: Some(log),
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
