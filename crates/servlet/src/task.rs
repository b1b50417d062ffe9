//! A task: the future of an async servlet, from its first poll inside of `service` to its `drop`.
//!
//! The future owns the request, the body and the response and lends them to the author's function, so they cannot escape it
//! and end with it. What wakes it is a [`Waker`] over a waker of the server.

use std::cell::RefCell;
use std::ffi::c_void;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::{NonNull, from_ref, null};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, RawWaker, RawWakerVTable, Waker};

use serval_abi::{SV_E_FAILED, SV_E_PANIC, SV_E_UNSUPPORTED, SV_PENDING, sv_exchange, sv_status, sv_waker};

use crate::background::Background;
use crate::host::{self, Current, Exchange};
use crate::module::caught;

/// What one poll knows of its task.
pub(crate) struct Turn {
    /// Inside of `service`, where functions of the table would hold the thread.
    first: bool,
    /// Who waits for something that makes the server poll the task, but has a waker that is not the task's, as in a set of
    /// futures: woken when the server polls. LIMIT: one for each place of the future that waits.
    others: RefCell<Vec<Waker>>,
}

impl Turn {
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// Wakes `waker` as well when the server polls the task the next time.
    pub fn wake_with_next(&self, waker: &Waker) {
        if !is_task(waker) && !self.others.borrow().iter().any(|other| other.will_wake(waker)) {
            let waker = waker.clone();
            self.others.borrow_mut().push(waker);
        }
    }
}

/// What the servlet does; its output is what `service` returns.
pub(crate) type Serving = Pin<Box<dyn Future<Output = sv_status> + Send>>;

struct Task {
    /// `None`: it has panicked or is done.
    future: Option<Serving>,
    waker: Waker,
    turn: Turn,
    /// INVARIANT: of the module, and so outlives its tasks.
    background: NonNull<Background>,
}

/// Polls a new future once, inside of `service`, which is all that many need; otherwise it becomes a task.
///
/// # Safety
/// `task` may be written to. `background` outlives the task.
pub(crate) unsafe fn begin(
    exchange: Exchange,
    background: &Background,
    task: *mut *mut c_void,
    future: impl FnOnce() -> Serving,
) -> sv_status {
    let turn = Turn { first: true, others: RefCell::default() };
    let early = Early { exchange, woken: AtomicBool::new(false) };
    let polled = caught(|| {
        let _tokio = background.enter();
        let _current = Current::of(background.context(), exchange.handle()).in_turn(&turn).enter();
        let mut future = future();
        match early.poll(future.as_mut()) {
            Poll::Ready(status) => {
                drop(future);
                Begun::Done(status)
            }
            Poll::Pending => Begun::Waits(future),
        }
    });
    let future = match polled {
        Ok(Begun::Waits(future)) => future,
        Ok(Begun::Done(status)) => return status,
        Err(_) => return SV_E_PANIC,
    };
    let Some(waker) = task_waker(exchange) else {
        let _ = exchange.fail("servlet/unsupported", "the server gives no waker for an async servlet");
        discard(future);
        return SV_E_UNSUPPORTED;
    };
    if early.woken.into_inner() {
        waker.wake_by_ref();
    }
    let turn = Turn { first: false, ..turn };
    let made = Task { future: Some(future), waker, turn, background: NonNull::from(background) };
    // SAFETY: the caller's promise.
    unsafe { task.write(Box::into_raw(Box::new(made)).cast()) };
    SV_PENDING
}

enum Begun {
    Done(sv_status),
    Waits(Serving),
}

/// A panic while it is dropped was reported by the hook.
fn discard(future: Serving) {
    let _ = caught(|| drop(future));
}

pub(crate) unsafe extern "C" fn poll(task: *mut c_void, exchange: *mut sv_exchange) -> sv_status {
    // SAFETY: made by `begin`, and never polled by two threads at once (servlet.h).
    let Some(task) = (unsafe { task.cast::<Task>().as_mut() }) else { return SV_E_FAILED };
    let Some(mut future) = task.future.take() else { return SV_E_FAILED };
    // SAFETY: by its invariant.
    let background = unsafe { task.background.as_ref() };
    for waker in task.turn.others.take() {
        waker.wake();
    }
    let polled = caught(|| {
        let _tokio = background.enter();
        let _current = Current::of(background.context(), exchange).in_turn(&task.turn).enter();
        future.as_mut().poll(&mut TaskContext::from_waker(&task.waker))
    });
    match polled {
        Ok(Poll::Pending) => {
            task.future = Some(future);
            SV_PENDING
        }
        Ok(Poll::Ready(status)) => {
            discard(future);
            status
        }
        Err(_) => {
            discard(future);
            SV_E_PANIC
        }
    }
}

pub(crate) unsafe extern "C" fn drop_task(task: *mut c_void) {
    if task.is_null() {
        return;
    }
    // SAFETY: made by `begin`, and this is its last use.
    let mut task = unsafe { Box::from_raw(task.cast::<Task>()) };
    // SAFETY: by its invariant.
    let background = unsafe { task.background.as_ref() };
    let _tokio = background.enter();
    let _current = Current::of(background.context(), std::ptr::null_mut()).enter();
    if let Some(future) = task.future.take() {
        discard(future);
    }
}

// ---------------------------------------------------------------------------------------------- wakers

/// A waker of the server; counted there.
static TASK: RawWakerVTable = RawWakerVTable::new(
    |waker| own(host::waker_clone(waker.cast_mut().cast())).unwrap_or_else(nobody),
    |waker| host::waker_wake(waker.cast_mut().cast(), true),
    |waker| host::waker_wake(waker.cast_mut().cast(), false),
    |waker| host::waker_drop(waker.cast_mut().cast()),
);

/// An [`Early`], lent to a future for its first poll.
static EARLY: RawWakerVTable = RawWakerVTable::new(
    // SAFETY: each of them is given what `Early::poll` made, which lives as long as the waker is lent.
    |early| unsafe { &*early.cast::<Early>() }.task_waker(),
    |early| unsafe { &*early.cast::<Early>() }.woken.store(true, Ordering::Release),
    |early| unsafe { &*early.cast::<Early>() }.woken.store(true, Ordering::Release),
    |_| (),
);

/// Wakes nobody: for what the server has no waker for.
static NOBODY: RawWakerVTable = RawWakerVTable::new(|_| nobody(), |_| (), |_| (), |_| ());

fn nobody() -> RawWaker {
    RawWaker::new(null(), &NOBODY)
}

fn own(waker: *mut sv_waker) -> Option<RawWaker> {
    (!waker.is_null()).then(|| RawWaker::new(waker.cast_const().cast(), &TASK))
}

fn task_waker(exchange: Exchange) -> Option<Waker> {
    // SAFETY: the functions of `TASK` keep the contract of wakers: those of the table may be called on any thread, and each
    // waker is given back once.
    own(exchange.waker()).map(|waker| unsafe { Waker::from_raw(waker) })
}

/// The waker of a first poll: one of the server is only asked for when the future keeps it.
struct Early {
    exchange: Exchange,
    woken: AtomicBool,
}

impl Early {
    fn poll(&self, future: Pin<&mut (dyn Future<Output = sv_status> + Send)>) -> Poll<sv_status> {
        // SAFETY: it is only lent, until `self.poll` returns, and the functions of `EARLY` may be called on any thread.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(from_ref(self).cast(), &EARLY)) });
        future.poll(&mut TaskContext::from_waker(&waker))
    }

    fn task_waker(&self) -> RawWaker {
        own(self.exchange.waker()).unwrap_or_else(|| {
            // Another thread asks, which the server does not allow. The next poll gives it a waker that it may clone.
            self.woken.store(true, Ordering::Release);
            nobody()
        })
    }
}

pub(crate) fn is_task(waker: &Waker) -> bool {
    std::ptr::eq(waker.vtable(), &TASK) || std::ptr::eq(waker.vtable(), &EARLY)
}

/// A new waker of the server for the task that `waker` wakes; `None`: it is of another kind.
pub(crate) fn of_server(waker: &Waker) -> Option<NonNull<sv_waker>> {
    NonNull::new(if std::ptr::eq(waker.vtable(), &TASK) {
        host::waker_clone(waker.data().cast_mut().cast())
    } else if std::ptr::eq(waker.vtable(), &EARLY) {
        // SAFETY: by its vtable it is one, and it lives as long as the waker is lent.
        unsafe { &*waker.data().cast::<Early>() }.exchange.waker()
    } else {
        return None;
    })
}
