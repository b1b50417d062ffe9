//! The functions of the table on an exchange as a whole: its memory, errors, dispatches, async, and session.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use serval_abi::*;

use super::{Out, argument, no_memory, not_yet, not_yet_at_all, on_exchange, text};
use crate::exchange::Fault;

pub unsafe extern "C" fn alloc(exchange: *mut sv_exchange, size: usize, align: usize) -> *mut c_void {
    let mut memory = null_mut();
    on_exchange("alloc", exchange, |frame| {
        let layout = std::alloc::Layout::from_size_align(size, align)
            .map_err(|_| argument("the alignment is not a power of two, or the size is too large"))?;
        memory = frame.arena.try_alloc_layout(layout).map_err(|_| no_memory())?.as_ptr().cast();
        Ok(SV_OK)
    });
    memory
}

pub unsafe extern "C" fn error_text(exchange: *mut sv_exchange, text: *mut sv_str) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4), here and in all functions below.
    let text = unsafe { Out::new(text, sv_str::ABSENT) };
    on_exchange("error_text", exchange, |frame| {
        text.checked()?;
        text.put(frame.keep(frame.error.as_bytes())?)
    })
}

pub unsafe extern "C" fn fail(
    exchange: *mut sv_exchange,
    kind: *const u8,
    kind_len: usize,
    message: *const u8,
    len: usize,
) -> sv_status {
    on_exchange("fail", exchange, |frame| {
        // SAFETY: as in `error_text`.
        let kind = unsafe { text(kind, kind_len) }?;
        // SAFETY: as above.
        frame.exchange.fail(kind, unsafe { text(message, len) }?);
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn unavailable(
    exchange: *mut sv_exchange,
    seconds: u32,
    message: *const u8,
    len: usize,
) -> sv_status {
    on_exchange("unavailable", exchange, |frame| {
        // SAFETY: as in `error_text`.
        frame.exchange.unavailable(seconds, unsafe { text(message, len) }?);
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn dispatch(exchange: *mut sv_exchange, _: i32, _: *const u8, _: usize) -> sv_status {
    not_yet("dispatch", exchange)
}

pub unsafe extern "C" fn cancelled(exchange: *mut sv_exchange) -> i32 {
    on_exchange("cancelled", exchange, |frame| Ok(frame.exchange.cancelled().into()))
}

pub unsafe extern "C" fn retiring(exchange: *mut sv_exchange) -> i32 {
    on_exchange("retiring", exchange, |frame| Ok(frame.exchange.retiring().into()))
}

// ---------------------------------------------------------------------------------------------- async

pub unsafe extern "C" fn detach(
    exchange: *mut sv_exchange,
    _: Option<unsafe extern "C" fn(*mut c_void)>,
    _: *mut c_void,
) -> sv_status {
    not_yet("detach", exchange)
}

pub unsafe extern "C" fn complete(exchange: *mut sv_exchange, _: sv_status) -> sv_status {
    on_exchange("complete", exchange, |_| Err(Fault::new(SV_E_STATE, "the exchange is not detached")))
}

pub unsafe extern "C" fn async_dispatch(exchange: *mut sv_exchange, _: *const u8, _: usize) -> sv_status {
    on_exchange("async_dispatch", exchange, |_| Err(Fault::new(SV_E_STATE, "the exchange is not detached")))
}

pub unsafe extern "C" fn set_timeout(exchange: *mut sv_exchange, _: u64) -> sv_status {
    not_yet("set_timeout", exchange)
}

pub unsafe extern "C" fn waker(exchange: *mut sv_exchange) -> *mut sv_waker {
    not_yet("waker", exchange);
    null_mut()
}

pub unsafe extern "C" fn waker_clone(_: *mut sv_waker) -> *mut sv_waker {
    not_yet_at_all("waker_clone");
    null_mut()
}

pub unsafe extern "C" fn waker_wake(_: *mut sv_waker, _: i32) {
    not_yet_at_all("waker_wake");
}

pub unsafe extern "C" fn waker_drop(_: *mut sv_waker) {
    not_yet_at_all("waker_drop");
}

// ---------------------------------------------------------------------------------------------- sessions

pub unsafe extern "C" fn session(exchange: *mut sv_exchange, _: i32, out: *mut *mut sv_session) -> sv_status {
    // SAFETY: as in `error_text`.
    let _absent = unsafe { Out::new(out, null_mut()) };
    not_yet("session", exchange)
}

pub unsafe extern "C" fn session_info(exchange: *mut sv_exchange, out: *mut *const sv_session_info) -> sv_status {
    // SAFETY: as in `error_text`.
    let _absent = unsafe { Out::new(out, null()) };
    not_yet("session_info", exchange)
}

pub unsafe extern "C" fn session_attribute(
    _: *mut sv_session,
    _: *const u8,
    _: usize,
    value: *mut sv_str,
) -> sv_status {
    // SAFETY: as in `error_text`.
    let _absent = unsafe { Out::new(value, sv_str::ABSENT) };
    not_yet_at_all("session_attribute")
}

pub unsafe extern "C" fn session_attributes(
    _: *mut sv_session,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    // SAFETY: as in `error_text`.
    let _absent = unsafe { (Out::new(out, null()), Out::new(count, 0)) };
    not_yet_at_all("session_attributes")
}

pub unsafe extern "C" fn session_set(_: *mut sv_session, _: *const u8, _: usize, _: *const u8, _: usize) -> sv_status {
    not_yet_at_all("session_set")
}

pub unsafe extern "C" fn session_change_id(_: *mut sv_session, id: *mut sv_str) -> sv_status {
    // SAFETY: as in `error_text`.
    let _absent = unsafe { Out::new(id, sv_str::ABSENT) };
    not_yet_at_all("session_change_id")
}

pub unsafe extern "C" fn session_max_inactive(_: *mut sv_session, _: i64) -> sv_status {
    not_yet_at_all("session_max_inactive")
}

pub unsafe extern "C" fn session_invalidate(_: *mut sv_session) -> sv_status {
    not_yet_at_all("session_invalidate")
}

pub unsafe extern "C" fn context(exchange: *mut sv_exchange) -> *mut sv_context {
    let mut found = null_mut();
    on_exchange("context", exchange, |frame| {
        found = frame.context;
        Ok(SV_OK)
    });
    found
}
