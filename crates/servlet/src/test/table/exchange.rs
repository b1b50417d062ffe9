//! The table's functions for the exchange itself: memory, failure, dispatches, and async tasks with their wakers and timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serval_abi::{SV_E_ARG, SV_E_STATE, SV_OK, sv_context, sv_exchange, sv_status, sv_str, sv_waker};

use super::{NEXT, bytes, name, of_context, of_exchange, put, with};
use crate::host;
use crate::test::exchange::{Failed, Phase, Wake};
use crate::test::webapp::lock;

pub(super) unsafe extern "C" fn alloc(exchange: *mut sv_exchange, size: usize, align: usize) -> *mut c_void {
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

pub(super) unsafe extern "C" fn error_text(exchange: *mut sv_exchange, out: *mut sv_str) -> sv_status {
    with(exchange, |dispatch, inner| {
        inner.last_said = std::mem::take(&mut inner.said);
        // SAFETY: the caller's promise.
        unsafe { put(out, dispatch.exchange.arena.text(&inner.last_said)) }
    })
}

pub(super) unsafe extern "C" fn fail(
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

pub(super) unsafe extern "C" fn unavailable(
    exchange: *mut sv_exchange,
    seconds: u32,
    said: *const u8,
    len: usize,
) -> sv_status {
    with(exchange, |_, inner| {
        // SAFETY: the caller's promise.
        let said = String::from_utf8_lossy(unsafe { bytes(said, len) }).into_owned();
        inner.failed = Some(Failed { kind: "unavailable".to_owned(), text: said, unavailable: Some(seconds) });
        Ok(())
    })
}

pub(super) unsafe extern "C" fn dispatch(
    exchange: *mut sv_exchange,
    how: i32,
    ptr: *const u8,
    len: usize,
) -> sv_status {
    match of_exchange(exchange) {
        // SAFETY: the caller's promise.
        Ok((from, _)) => match unsafe { name(ptr, len) } {
            Ok(target) => from.exchange.dispatch(&from, how, target),
            Err(status) => status,
        },
        Err(status) => status,
    }
}

pub(super) unsafe extern "C" fn cancelled(exchange: *mut sv_exchange) -> i32 {
    of_exchange(exchange).map_or_else(
        |status| status,
        |(dispatch, _)| {
            let late = lock(&dispatch.exchange.inner).timeout.is_some_and(|timeout| timeout <= Instant::now());
            i32::from(late || dispatch.exchange.is_gone())
        },
    )
}

pub(super) unsafe extern "C" fn retiring(exchange: *mut sv_exchange) -> i32 {
    of_exchange(exchange).map_or_else(|status| status, |(dispatch, _)| dispatch.exchange.webapp.is_retiring().into())
}

pub(super) unsafe extern "C" fn detach(
    exchange: *mut sv_exchange,
    told: Option<unsafe extern "C" fn(*mut c_void, sv_status)>,
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

pub(super) unsafe extern "C" fn complete(exchange: *mut sv_exchange, result: sv_status) -> sv_status {
    with(exchange, |dispatch, inner| {
        if *lock(&dispatch.exchange.phase) != Phase::Detached || inner.complete.is_some() {
            return Err(SV_E_STATE);
        }
        inner.complete = Some(result);
        dispatch.exchange.wake.wake();
        Ok(())
    })
}

pub(super) unsafe extern "C" fn async_dispatch(exchange: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        let path = unsafe { host::bytes(sv_str { ptr, len }) }.map(|path| String::from_utf8_lossy(path).into_owned());
        inner.redispatch = Some(path);
        dispatch.exchange.wake.wake();
        Ok(())
    })
}

pub(super) unsafe extern "C" fn set_timeout(exchange: *mut sv_exchange, milliseconds: u64) -> sv_status {
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

pub(super) unsafe extern "C" fn waker(exchange: *mut sv_exchange) -> *mut sv_waker {
    of_exchange(exchange).map_or(null_mut(), |(dispatch, _)| give(dispatch.exchange.wake.clone()))
}

pub(super) unsafe extern "C" fn waker_clone(waker: *mut sv_waker) -> *mut sv_waker {
    if !waker.is_null() {
        // SAFETY: made by `give`, and not given back yet.
        unsafe { Arc::increment_strong_count(waker.cast::<Wake>()) };
    }
    waker
}

pub(super) unsafe extern "C" fn waker_wake(waker: *mut sv_waker, consume: i32) {
    // SAFETY: NULL, or made by `give`, and not given back yet.
    if let Some(wake) = unsafe { waker.cast::<Wake>().as_ref() } {
        wake.wake();
        if consume != 0 {
            // SAFETY: as above; it is given back now.
            unsafe { waker_drop(waker) };
        }
    }
}

pub(super) unsafe extern "C" fn waker_drop(waker: *mut sv_waker) {
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

pub(super) unsafe extern "C" fn context_timer(
    context: *mut sv_context,
    milliseconds: u64,
    waker: *mut sv_waker,
) -> sv_status {
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
