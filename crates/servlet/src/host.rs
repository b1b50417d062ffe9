//! The host's table, made safe: the one place that calls its functions on exchanges and contexts.
//!
//! The server checks handles, threads and arguments of each call and answers wrong ones with a status (servlet.h 5), so these
//! functions may be called on any thread, at any time between init and destroy. What has to be ensured here is how long
//! the memory behind a returned view lives; each function says so in its lifetime.

use std::cell::Cell;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use serval_abi::{
    SV_BODY_COPY, SV_BODY_OWNED, SV_BODY_STATIC, SV_E_STALE, SV_E_THREAD, SV_E_UNSUPPORTED, SV_END, SV_NONE, SV_OK,
    SV_WOULD_BLOCK, sv_context, sv_cookie, sv_exchange, sv_host, sv_pair, sv_request, sv_response, sv_session,
    sv_status, sv_str, sv_tls, sv_waker,
};

use crate::task::Turn;
use crate::{Error, Result};

/// Between init and destroy.
static HOST: AtomicPtr<sv_host> = AtomicPtr::new(null_mut());

/// The context of the module that was started last, for logging on threads that run no exchange.
static CONTEXT: AtomicPtr<sv_context> = AtomicPtr::new(null_mut());

thread_local! {
    // It has no destructor: one would keep the library mapped, or worse, when it is unloaded.
    static CURRENT: Cell<Current> = const { Cell::new(Current::of(null_mut(), null_mut())) };
}

/// What this thread works for: for the log, for panics, and for what waits in a task.
#[derive(Clone, Copy)]
pub(crate) struct Current {
    pub context: *mut sv_context,
    pub exchange: *mut sv_exchange,
    /// INVARIANT: NULL, or the turn of the task that is polled on this thread, which lives until the guard is dropped.
    turn: *const Turn,
}

impl Current {
    pub const fn of(context: *mut sv_context, exchange: *mut sv_exchange) -> Current {
        Current { context, exchange, turn: null() }
    }

    /// For a turn of a task. The turn has to outlive the guard of `enter`.
    pub fn in_turn(self, turn: &Turn) -> Current {
        Current { turn, ..self }
    }

    /// Looks at the turn of the task that is polled on this thread, if one is.
    pub fn with_turn<T>(look: impl FnOnce(Option<&Turn>) -> T) -> T {
        // SAFETY: by the invariant of `turn`; the reference ends with this call, and so before the guard.
        look(unsafe { CURRENT.get().turn.as_ref() })
    }

    /// Makes it this thread's until the returned guard is dropped; dispatches may nest.
    pub fn enter(self) -> impl Drop {
        struct Restore(Current);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        Restore(CURRENT.replace(self))
    }

    pub fn get() -> Current {
        let mut current = CURRENT.get();
        if current.context.is_null() {
            current.context = CONTEXT.load(Ordering::Acquire);
        }
        current
    }
}

/// Calls a function of the table; `or` is the answer of a table that lacks it.
macro_rules! call {
    ($host:expr, $function:ident($($argument:expr),*) or $missing:expr) => {
        match $host.$function {
            // SAFETY: servlet.h asks for a handle (checked by the server), pointers to memory that lives for the call, and
            // their lengths; the arguments here are made of references and slices.
            Some(function) => unsafe { function($($argument),*) },
            None => $missing,
        }
    };
}

mod context;
mod data;
mod dispatching;
mod waiting;
pub(crate) use context::ContextHandle;
pub(crate) use data::SessionHandle;
pub(crate) use waiting::{waiting, waker_clone, waker_drop, waker_wake};

pub(crate) fn connect(host: &'static sv_host, context: *mut sv_context) {
    HOST.store(std::ptr::from_ref(host).cast_mut(), Ordering::Release);
    CONTEXT.store(context, Ordering::Release);
}

pub(crate) fn disconnect() {
    HOST.store(null_mut(), Ordering::Release);
    CONTEXT.store(null_mut(), Ordering::Release);
}

pub(crate) fn host() -> Option<&'static sv_host> {
    // SAFETY: NULL, or the table that init was given, which is constant data of the server and outlives the library.
    unsafe { HOST.load(Ordering::Acquire).as_ref() }
}

pub(crate) fn log_enabled(level: i32) -> bool {
    host().is_some_and(|host| call!(host, log_enabled(Current::get().context, level) or 0) == 1)
}

pub(crate) fn log(level: i32, text: &str) {
    let Some(host) = host() else { return };
    let Current { context, exchange, .. } = Current::get();
    // A line that cannot be logged is lost: there is nobody to tell.
    let _ = call!(host, log_message(context, exchange, level, text.as_ptr(), text.len()) or SV_E_UNSUPPORTED);
}

/// Returns whether there was a host to tell.
pub(crate) fn report_panic(text: &str, file: &str, line: u32) -> bool {
    let Some(host) = host() else { return false };
    let context = Current::get().context;
    let told = call!(
        host,
        report_panic(context, text.as_ptr(), text.len(), file.as_ptr(), file.len(), line) or SV_E_UNSUPPORTED
    );
    told == SV_OK
}

/// Bytes of the server, or of a declaration; absent is `None`.
///
/// # Safety
/// The memory behind `view` is valid and unchanged for `'a`.
pub(crate) unsafe fn bytes<'a>(view: sv_str) -> Option<&'a [u8]> {
    if view.ptr.is_null() {
        return None;
    }
    // SAFETY: not NULL; the rest is the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(view.ptr, view.len) })
}

/// Text of the server, which promises UTF-8. It is checked all the same: that costs a few nanoseconds, and a fault of a
/// server must not become undefined behaviour here.
///
/// # Safety
/// As [`bytes`].
pub(crate) unsafe fn text<'a>(view: sv_str) -> Option<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes(view) }?;
    Some(std::str::from_utf8(bytes).unwrap_or_default())
}

/// # Safety
/// `pairs` leads to `count` pairs that are valid and unchanged for `'a`, or is NULL.
pub(crate) unsafe fn pairs<'a>(pairs: *const sv_pair, count: usize) -> &'a [sv_pair] {
    if pairs.is_null() {
        return &[];
    }
    // SAFETY: not NULL; the rest is the caller's promise.
    unsafe { std::slice::from_raw_parts(pairs, count) }
}

/// A handle of an exchange with the table that knows it. What it returns by view lives until `service` returns, so the
/// types that are lent to servlets hold it, and bind each view to a borrow of themselves.
#[derive(Clone, Copy)]
pub(crate) struct Exchange {
    host: &'static sv_host,
    handle: *mut sv_exchange,
}

// SAFETY: a handle is a checked value, not an address; the server answers calls of a wrong thread with SV_E_THREAD.
unsafe impl Send for Exchange {}
// SAFETY: as above.
unsafe impl Sync for Exchange {}

/// An answer's body, and who owns it.
pub(crate) enum Content<'a> {
    Copied(&'a [u8]),
    Owned(Vec<u8>),
    Static(&'static [u8]),
}

/// LIMIT: up to here a copy is cheaper than to hand over ownership: one allocation and one call back.
pub(crate) const COPY_MAX: usize = 8 * 1024;

unsafe extern "C" fn release_vec(owned: *mut std::ffi::c_void) {
    // SAFETY: made by `Box::into_raw` in `hand_over`; the server calls it once (servlet.h, SV_BODY_OWNED).
    drop(unsafe { Box::from_raw(owned.cast::<Vec<u8>>()) });
}

/// Lends `bytes` to `give`, which tells whether the server took them over; otherwise they are there again.
fn hand_over(bytes: &mut Vec<u8>, give: impl FnOnce(&[u8], *mut std::ffi::c_void) -> sv_status) -> sv_status {
    let owned = Box::into_raw(Box::new(std::mem::take(bytes)));
    // SAFETY: just made; the server may release it inside of `give`, so only its bytes are named before.
    let (first, len) = unsafe { ((*owned).as_ptr(), (*owned).len()) };
    // SAFETY: they are valid until the server releases them, which the call that `give` makes decides.
    let status = give(unsafe { std::slice::from_raw_parts(first, len) }, owned.cast());
    if status != SV_OK {
        // SAFETY: not taken over, so it is still ours, and nothing else looks at it any more.
        *bytes = *unsafe { Box::from_raw(owned) };
    }
    status
}

impl Exchange {
    pub fn new(host: &'static sv_host, handle: *mut sv_exchange) -> Exchange {
        Exchange { host, handle }
    }

    pub fn handle(self) -> *mut sv_exchange {
        self.handle
    }

    /// `true`: done. `false`: there is none, or the end.
    fn check(self, status: sv_status, doing: &str) -> Result<bool> {
        match status {
            SV_OK => Ok(true),
            SV_NONE | SV_END => Ok(false),
            _ => Err(self.error(status, doing)),
        }
    }

    #[cold]
    fn error(self, status: sv_status, doing: &str) -> Error {
        let mut said = sv_str::ABSENT;
        // To ask would be the same fault once more; and a call that would have to wait said nothing.
        if !matches!(status, SV_E_THREAD | SV_E_STALE | SV_WOULD_BLOCK) {
            let _ = call!(self.host, error_text(self.handle, &raw mut said) or SV_E_UNSUPPORTED);
        }
        // SAFETY: it lives until the next error on this handle at least, and is copied before.
        let said = unsafe { text(said) };
        Error::of_host(status, doing, said.unwrap_or_default())
    }

    fn done(self, status: sv_status, doing: &str) -> Result {
        self.check(status, doing).map(|_| ())
    }

    /// One value that a function of the table writes.
    fn value(self, doing: &str, ask: impl FnOnce(*mut sv_str) -> sv_status) -> Result<Option<sv_str>> {
        let mut value = sv_str::ABSENT;
        let status = ask(&raw mut value);
        Ok(self.check(status, doing)?.then_some(value))
    }

    /// A list that a function of the table writes.
    fn list(
        self,
        doing: &str,
        ask: impl FnOnce(*mut *const sv_pair, *mut usize) -> sv_status,
    ) -> Result<(*const sv_pair, usize)> {
        let (mut first, mut count) = (null(), 0);
        let status = ask(&raw mut first, &raw mut count);
        Ok(if self.check(status, doing)? { (first, count) } else { (null(), 0) })
    }

    // --- the request

    pub fn request(self) -> *const sv_request {
        call!(self.host, request(self.handle) or null())
    }

    /// NULL: the connection is not TLS.
    pub fn tls(self) -> *const sv_tls {
        call!(self.host, tls(self.handle) or null())
    }

    pub fn parameter(self, name: &str) -> Result<Option<sv_str>> {
        self.value(
            "parameter",
            |value| call!(self.host, parameter(self.handle, name.as_ptr(), name.len(), 0, value) or SV_E_UNSUPPORTED),
        )
    }

    pub fn parameters(self) -> Result<(*const sv_pair, usize)> {
        self.list("parameters", |out, count| call!(self.host, parameters(self.handle, out, count) or SV_E_UNSUPPORTED))
    }

    pub fn path_parameter(self, name: &str) -> Result<Option<sv_str>> {
        self.value(
            "path_parameter",
            |value| call!(self.host, path_parameter(self.handle, name.as_ptr(), name.len(), value) or SV_E_UNSUPPORTED),
        )
    }

    pub fn cookie(self, name: &str) -> Result<Option<sv_str>> {
        self.value(
            "cookie",
            |value| call!(self.host, cookie(self.handle, name.as_ptr(), name.len(), value) or SV_E_UNSUPPORTED),
        )
    }

    pub fn cookies(self) -> Result<(*const sv_pair, usize)> {
        self.list("cookies", |out, count| call!(self.host, cookies(self.handle, out, count) or SV_E_UNSUPPORTED))
    }

    pub fn attribute(self, name: &str) -> Result<Option<sv_str>> {
        self.value(
            "attribute",
            |value| call!(self.host, attribute(self.handle, name.as_ptr(), name.len(), value) or SV_E_UNSUPPORTED),
        )
    }

    pub fn set_attribute(self, name: &str, value: Option<&[u8]>) -> Result {
        let (ptr, len) = value.map_or((null(), 0), |value| (value.as_ptr(), value.len()));
        let status =
            call!(self.host, set_attribute(self.handle, name.as_ptr(), name.len(), ptr, len) or SV_E_UNSUPPORTED);
        self.done(status, "set_attribute")
    }

    pub fn cancelled(self) -> bool {
        call!(self.host, cancelled(self.handle) or 0) == 1
    }

    pub fn retiring(self) -> bool {
        call!(self.host, retiring(self.handle) or 0) == 1
    }

    /// Of the async phase; `None`: no time-out.
    pub fn set_timeout(self, after: Option<Duration>) -> Result {
        // 0 means none to the table.
        let milliseconds = after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1));
        let status = call!(self.host, set_timeout(self.handle, milliseconds) or SV_E_UNSUPPORTED);
        self.done(status, "set_timeout")
    }

    /// NULL where there is no poll, and on a thread that does not own the exchange.
    pub fn waker(self) -> *mut sv_waker {
        call!(self.host, waker(self.handle) or null_mut())
    }

    // --- its body

    /// How many bytes came; 0 is the end, unless the buffer is empty.
    pub fn read(self, buffer: &mut [u8]) -> Result<usize> {
        let mut len = 0;
        let status =
            call!(self.host, read(self.handle, buffer.as_mut_ptr(), buffer.len(), &raw mut len) or SV_E_UNSUPPORTED);
        Ok(if self.check(status, "read")? { len.min(buffer.len()) } else { 0 })
    }

    /// It lives until the next read.
    pub fn read_chunk(self) -> Result<Option<sv_str>> {
        self.value("read_chunk", |chunk| call!(self.host, read_chunk(self.handle, chunk) or SV_E_UNSUPPORTED))
    }

    pub fn read_all(self, bytes_max: usize) -> Result<Option<sv_str>> {
        self.value("read_all", |body| call!(self.host, read_all(self.handle, bytes_max, body) or SV_E_UNSUPPORTED))
    }

    pub fn request_trailers(self) -> Result<(*const sv_pair, usize)> {
        self.list(
            "request_trailers",
            |out, count| call!(self.host, request_trailers(self.handle, out, count) or SV_E_UNSUPPORTED),
        )
    }

    // --- the response

    pub fn respond(self, status: u16, headers: &[sv_pair], content: Content<'_>) -> Result {
        let respond = |body: &[u8], body_kind, release_arg: *mut std::ffi::c_void| {
            let response = sv_response {
                struct_size: size_of::<sv_response>() as u32,
                status: status.into(),
                headers: headers.as_ptr(),
                header_count: headers.len(),
                body: body.as_ptr(),
                body_len: body.len(),
                body_kind,
                reserved: 0,
                release: (body_kind == SV_BODY_OWNED).then_some(release_vec as _),
                release_arg,
            };
            call!(self.host, respond(self.handle, &raw const response) or SV_E_UNSUPPORTED)
        };
        let status = match content {
            Content::Copied(bytes) => respond(bytes, SV_BODY_COPY, null_mut()),
            Content::Static(bytes) => respond(bytes, SV_BODY_STATIC, null_mut()),
            Content::Owned(bytes) if bytes.len() <= COPY_MAX => respond(&bytes, SV_BODY_COPY, null_mut()),
            Content::Owned(mut bytes) => hand_over(&mut bytes, |bytes, owned| respond(bytes, SV_BODY_OWNED, owned)),
        };
        self.done(status, "respond")
    }

    /// All of it is taken: in `service`, writing waits.
    pub fn write(self, bytes: &[u8]) -> Result {
        let status = call!(self.host, write(self.handle, bytes.as_ptr(), bytes.len(), null_mut()) or SV_E_UNSUPPORTED);
        self.done(status, "write")
    }

    /// How many bytes were taken: in poll, those that the connection has room for.
    pub fn write_some(self, bytes: &[u8]) -> Result<usize> {
        let mut taken = 0;
        let status =
            call!(self.host, write(self.handle, bytes.as_ptr(), bytes.len(), &raw mut taken) or SV_E_UNSUPPORTED);
        self.done(status, "write")?;
        Ok(taken.min(bytes.len()))
    }

    /// All or nothing; when it was taken, `bytes` is empty.
    pub fn write_owned(self, bytes: &mut Vec<u8>) -> Result {
        let status = hand_over(bytes, |bytes, owned| {
            call!(
                self.host,
                write_owned(self.handle, bytes.as_ptr(), bytes.len(), Some(release_vec), owned) or SV_E_UNSUPPORTED
            )
        });
        self.done(status, "write")
    }

    pub fn set_status(self, status: u16) -> Result {
        let status = call!(self.host, set_status(self.handle, status.into()) or SV_E_UNSUPPORTED);
        self.done(status, "set_status")
    }

    pub fn response_status(self) -> Result<u16> {
        let mut found = 200;
        let status = call!(self.host, response_status(self.handle, &raw mut found) or SV_E_UNSUPPORTED);
        self.check(status, "response_status")?;
        Ok(u16::try_from(found).unwrap_or(200))
    }

    pub fn set_header(self, how: i32, name: &str, value: &[u8]) -> Result {
        let status = call!(
            self.host,
            set_header(self.handle, how, name.as_ptr(), name.len(), value.as_ptr(), value.len()) or SV_E_UNSUPPORTED
        );
        self.done(status, "set_header")
    }

    /// It lives as long as the handle.
    pub fn response_header(self, name: &str) -> Result<Option<sv_str>> {
        self.value("response_header", |value| {
            call!(self.host, response_header(self.handle, name.as_ptr(), name.len(), 0, value) or SV_E_UNSUPPORTED)
        })
    }

    pub fn set_content_type(self, content_type: &str) -> Result {
        let status = call!(
            self.host,
            set_content_type(self.handle, content_type.as_ptr(), content_type.len()) or SV_E_UNSUPPORTED
        );
        self.done(status, "set_content_type")
    }

    pub fn set_content_length(self, bytes: u64) -> Result {
        let status = call!(self.host, set_content_length(self.handle, bytes) or SV_E_UNSUPPORTED);
        self.done(status, "set_content_length")
    }

    pub fn set_charset(self, charset: &str) -> Result {
        let status = call!(self.host, set_charset(self.handle, charset.as_ptr(), charset.len()) or SV_E_UNSUPPORTED);
        self.done(status, "set_charset")
    }

    pub fn set_buffer_size(self, bytes: usize) -> Result {
        let status = call!(self.host, set_buffer_size(self.handle, bytes) or SV_E_UNSUPPORTED);
        self.done(status, "set_buffer_size")
    }

    pub fn set_trailer(self, name: &str, value: &[u8]) -> Result {
        let status = call!(
            self.host,
            set_trailer(self.handle, name.as_ptr(), name.len(), value.as_ptr(), value.len()) or SV_E_UNSUPPORTED
        );
        self.done(status, "set_trailer")
    }

    /// Early hints. `false`: they cannot be sent.
    pub fn hint(self, headers: &[sv_pair]) -> Result<bool> {
        let status =
            call!(self.host, informational(self.handle, 103, headers.as_ptr(), headers.len()) or SV_E_UNSUPPORTED);
        if status == SV_E_UNSUPPORTED {
            return Ok(false);
        }
        self.done(status, "informational").map(|()| true)
    }

    /// It lives as long as the handle.
    pub fn encode_url(self, url: &str) -> Result<Option<sv_str>> {
        self.value(
            "encode_url",
            |out| call!(self.host, encode_url(self.handle, url.as_ptr(), url.len(), out) or SV_E_UNSUPPORTED),
        )
    }

    pub fn set_cookie(self, cookie: &sv_cookie) -> Result {
        let status = call!(self.host, set_cookie(self.handle, cookie) or SV_E_UNSUPPORTED);
        self.done(status, "set_cookie")
    }

    pub fn flush(self) -> Result {
        let status = call!(self.host, flush(self.handle) or SV_E_UNSUPPORTED);
        self.done(status, "flush")
    }

    pub fn reset(self) -> Result {
        let status = call!(self.host, reset(self.handle) or SV_E_UNSUPPORTED);
        self.done(status, "reset")
    }

    pub fn reset_buffer(self) -> Result {
        let status = call!(self.host, reset_buffer(self.handle) or SV_E_UNSUPPORTED);
        self.done(status, "reset_buffer")
    }

    pub fn send_error(self, status: u16, text: &str) -> Result {
        let status =
            call!(self.host, send_error(self.handle, status.into(), text.as_ptr(), text.len()) or SV_E_UNSUPPORTED);
        self.done(status, "send_error")
    }

    pub fn redirect(self, status: u16, location: &str) -> Result {
        let status = call!(
            self.host,
            redirect(self.handle, status.into(), location.as_ptr(), location.len()) or SV_E_UNSUPPORTED
        );
        self.done(status, "redirect")
    }

    pub fn committed(self) -> Result<bool> {
        match call!(self.host, committed(self.handle) or SV_E_UNSUPPORTED) {
            0 => Ok(false),
            1 => Ok(true),
            status => Err(self.error(status, "committed")),
        }
    }

    pub fn fail(self, kind: &str, text: &str) -> Result {
        let status = call!(
            self.host,
            fail(self.handle, kind.as_ptr(), kind.len(), text.as_ptr(), text.len()) or SV_E_UNSUPPORTED
        );
        self.done(status, "fail")
    }

    pub fn unavailable(self, seconds: u32, text: &str) -> Result {
        let status = call!(self.host, unavailable(self.handle, seconds, text.as_ptr(), text.len()) or SV_E_UNSUPPORTED);
        self.done(status, "unavailable")
    }
}

/// The session of an event, which may be read until `on_event` returns.
pub(crate) fn event_session_attribute(session: *mut sv_session, name: &str) -> Option<sv_str> {
    let host = host()?;
    let mut value = sv_str::ABSENT;
    let status = call!(host, session_attribute(session, name.as_ptr(), name.len(), &raw mut value) or SV_E_UNSUPPORTED);
    (status == SV_OK).then_some(value)
}
