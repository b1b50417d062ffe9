//! What the table offers for tasks: calls that may have to wait, and wakers.

use std::future::{Future, poll_fn};
use std::ptr::null_mut;
use std::task::Poll;

use serval_abi::sv_waker;

use super::{Current, host};
use crate::Result;
use crate::task::Turn;

/// Does in a task what may have to wait: `step` is one call of the table, and repeated with each poll until it need not.
///
/// While the task does not exist yet, in the first poll inside of `service`, the call would hold the thread. So the future
/// lets it be made first.
pub(crate) fn waiting<T>(mut step: impl FnMut() -> Result<T>) -> impl Future<Output = Result<T>> {
    poll_fn(move |context| {
        if Current::with_turn(|turn| turn.is_some_and(Turn::is_first)) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match step() {
            Err(error) if error.would_block() => {
                Current::with_turn(|turn| turn.map(|turn| turn.wake_with_next(context.waker())));
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    })
}

/// A new reference to a waker; NULL when the server has none left.
pub(crate) fn waker_clone(waker: *mut sv_waker) -> *mut sv_waker {
    host().map_or(null_mut(), |host| call!(host, waker_clone(waker) or null_mut()))
}

pub(crate) fn waker_wake(waker: *mut sv_waker, consume: bool) {
    if let Some(host) = host() {
        call!(host, waker_wake(waker, consume.into()) or ());
    }
}

pub(crate) fn waker_drop(waker: *mut sv_waker) {
    if let Some(host) = host() {
        call!(host, waker_drop(waker) or ());
    }
}
