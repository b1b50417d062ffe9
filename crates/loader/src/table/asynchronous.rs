//! The functions of the table for exchanges that go on after service has returned, and for what wakes them.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serval_abi::*;

use super::{Frame, Told, caught, on_exchange, text};
use crate::exchange::{Answer, Fault};
use crate::{misuse, slots, waker as wakers};

pub unsafe extern "C" fn detach(
    exchange: *mut sv_exchange,
    told: Option<unsafe extern "C" fn(*mut c_void, sv_status)>,
    arg: *mut c_void,
) -> sv_status {
    on_exchange("detach", exchange, |frame| {
        if !frame.memory.in_service {
            return Err(Fault::new(SV_E_STATE, "only service detaches an exchange"));
        }
        frame.exchange.detach()?;
        let told = told.map(|tell| Told { tell, arg, has_retired: false });
        frame.memory.told = Some(Arc::new(Mutex::new(told)));
        frame.memory.awaited = slots::thread();
        frame.ending.detach();
        Ok(SV_OK)
    })
}

/// Ends the handle of a detached exchange. From here on it is not told any more.
fn end(frame: &mut Frame<'_>) -> Answer {
    let Some(told) = &frame.memory.told else {
        return Err(Fault::new(SV_E_STATE, "the exchange is not detached"));
    };
    *told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    frame.ending.end();
    Ok(())
}

pub unsafe extern "C" fn complete(exchange: *mut sv_exchange, result: sv_status) -> sv_status {
    on_exchange("complete", exchange, |frame| {
        end(frame)?;
        if frame.memory.in_service {
            // It takes effect when service has returned.
            frame.memory.completed = Some(result);
        } else {
            frame.exchange.completed(result);
        }
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn async_dispatch(exchange: *mut sv_exchange, path: *const u8, len: usize) -> sv_status {
    on_exchange("async_dispatch", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3, 4).
        let given = unsafe { text(path, len) }?;
        frame.exchange.async_dispatch((!path.is_null()).then_some(given))?;
        if frame.memory.told.is_some() {
            end(frame)?;
            if frame.memory.in_service {
                frame.memory.completed = Some(SV_OK);
            } else {
                frame.exchange.completed(SV_OK);
            }
        }
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn set_timeout(exchange: *mut sv_exchange, milliseconds: u64) -> sv_status {
    on_exchange("set_timeout", exchange, |frame| {
        let after = (milliseconds != 0).then(|| Duration::from_millis(milliseconds));
        frame.exchange.set_timeout(after)?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn waker(exchange: *mut sv_exchange) -> *mut sv_waker {
    let mut made = null_mut();
    on_exchange("waker", exchange, |frame| {
        let Some(wake) = frame.exchange.waker() else {
            return Err(Fault::new(SV_E_STATE, "there is no task to wake: its servlet has no poll"));
        };
        made = wakers::add(wake, frame.memory.context)?;
        Ok(SV_OK)
    });
    made
}

/// A function on a waker: a waker that was given back already is wrong use, and nothing happens.
fn on_waker(function: &'static str, work: impl FnOnce() -> Answer<()>) {
    caught(function, || match work() {
        Ok(()) => SV_OK,
        Err(fault) => {
            misuse::report(function, &fault, None);
            fault.status
        }
    });
}

pub unsafe extern "C" fn waker_clone(waker: *mut sv_waker) -> *mut sv_waker {
    let mut made = null_mut();
    on_waker("waker_clone", || {
        made = wakers::clone(waker)?;
        Ok(())
    });
    made
}

pub unsafe extern "C" fn waker_wake(waker: *mut sv_waker, consume: i32) {
    on_waker("waker_wake", || {
        let wake = if consume == 0 { wakers::get(waker)? } else { wakers::take(waker)? };
        wake.wake();
        Ok(())
    });
}

pub unsafe extern "C" fn waker_drop(waker: *mut sv_waker) {
    on_waker("waker_drop", || wakers::take(waker).map(drop));
}

pub unsafe extern "C" fn context_timer(context: *mut sv_context, milliseconds: u64, waker: *mut sv_waker) -> sv_status {
    // Given back whatever happens.
    caught("context_timer", || match wakers::take(waker) {
        Ok(wake) => super::on_context("context_timer", context, |_| {
            wake.wake_after(Duration::from_millis(milliseconds))?;
            Ok(SV_OK)
        }),
        Err(fault) => {
            misuse::report("context_timer", &fault, None);
            fault.status
        }
    })
}
