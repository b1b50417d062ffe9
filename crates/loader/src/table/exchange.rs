//! The functions of the table on an exchange as a whole: its memory, errors and dispatches.

use std::ffi::c_void;
use std::ptr::null_mut;

use serval_abi::*;

use super::{Out, argument, no_memory, on_exchange, text};
use crate::exchange::Dispatch;

pub unsafe extern "C" fn alloc(exchange: *mut sv_exchange, size: usize, align: usize) -> *mut c_void {
    let mut memory = null_mut();
    on_exchange("alloc", exchange, |frame| {
        let layout = std::alloc::Layout::from_size_align(size, align)
            .map_err(|_| argument("the alignment is not a power of two, or the size is too large"))?;
        memory = frame.memory.arena.try_alloc_layout(layout).map_err(|_| no_memory())?.as_ptr().cast();
        Ok(SV_OK)
    });
    memory
}

pub unsafe extern "C" fn error_text(exchange: *mut sv_exchange, text: *mut sv_str) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4), here and in all functions below.
    let text = unsafe { Out::new(text, sv_str::ABSENT) };
    on_exchange("error_text", exchange, |frame| {
        text.checked()?;
        text.put(frame.keep(frame.memory.error.as_bytes())?)
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

pub unsafe extern "C" fn dispatch(exchange: *mut sv_exchange, how: i32, target: *const u8, len: usize) -> sv_status {
    on_exchange("dispatch", exchange, |frame| {
        let how = match how & !SV_BY_NAME {
            SV_FORWARD if how & SV_BY_NAME == 0 => Dispatch::Forward,
            SV_FORWARD => Dispatch::ForwardByName,
            SV_INCLUDE if how & SV_BY_NAME == 0 => Dispatch::Include,
            SV_INCLUDE => Dispatch::IncludeByName,
            _ => return Err(argument("`how` is neither SV_FORWARD nor SV_INCLUDE, maybe with SV_BY_NAME")),
        };
        // SAFETY: as in `error_text`.
        frame.exchange.dispatch(how, unsafe { text(target, len) }?)
    })
}

pub unsafe extern "C" fn cancelled(exchange: *mut sv_exchange) -> i32 {
    on_exchange("cancelled", exchange, |frame| Ok(frame.exchange.cancelled().into()))
}

pub unsafe extern "C" fn retiring(exchange: *mut sv_exchange) -> i32 {
    on_exchange("retiring", exchange, |frame| Ok(frame.exchange.retiring().into()))
}

pub unsafe extern "C" fn context(exchange: *mut sv_exchange) -> *mut sv_context {
    let mut found = null_mut();
    on_exchange("context", exchange, |frame| {
        found = frame.memory.context;
        Ok(SV_OK)
    });
    found
}
