//! A detached exchange: any thread of the library may use it, one after the other, until it calls complete.

use std::cell::UnsafeCell;
use std::sync::{Arc, Mutex, PoisonError};

use serval_abi::{SV_OK, sv_status};

use crate::exchange::Exchange;
use crate::servlet::Scope;
use crate::slots::Slot;
use crate::table::Told;

pub struct Detached<E> {
    /// The handle's: the library's calls hold it.
    slot: &'static Slot,
    /// INVARIANT: read and written only while `slot` is held; so is what it points to, until it is taken.
    inside: UnsafeCell<Option<Inside<E>>>,
    told: Option<Arc<Mutex<Option<Told>>>>,
    /// For the log; the slot points to it.
    who: String,
}

/// Both came from a box.
struct Inside<E> {
    scope: *mut Scope,
    exchange: *mut E,
}

// SAFETY: what is inside is `Send`, and touched by one thread at a time, by the invariant.
unsafe impl<E: Send> Send for Detached<E> {}
// SAFETY: as above.
unsafe impl<E: Send> Sync for Detached<E> {}

impl<E: Exchange + 'static> Detached<E> {
    /// After service has returned [`Outcome::Detached`](crate::servlet::Outcome::Detached): lets the library's threads in.
    /// `None`: the scope was never used.
    pub fn begin(scope: Scope, exchange: Box<E>) -> Option<Arc<Detached<E>>> {
        let who = exchange.head().servlet_name.to_owned();
        let told = scope.memory.told.clone();
        let slot = scope.handle.as_ref()?.slot();
        let inside = Inside { scope: Box::into_raw(Box::new(scope)), exchange: Box::into_raw(exchange) };
        let (scope, exchange) = (inside.scope, inside.exchange);
        let detached = Arc::new(Detached { slot, inside: UnsafeCell::new(Some(inside)), told, who });
        // SAFETY: it came from a box a moment ago, and nobody else has it yet. The handle is not in what threads change.
        let (handle, memory) = unsafe { (&(*scope).handle, &raw mut (*scope).memory) };
        if let Some(handle) = handle {
            // SAFETY: both stay where they are until `take`, which ends the handle first; the text does as long as `detached`,
            // which takes at the latest when it is dropped.
            unsafe { handle.enter_detached(exchange, memory, &raw const *detached.who) };
        }
        Some(detached)
    }

    /// Looks at the exchange, after the call of the library that is under way. `None`: it was taken.
    pub fn with<T>(&self, work: impl FnOnce(&mut E) -> T) -> Option<T> {
        let _held = self.slot.hold()?;
        // SAFETY: the slot is held.
        let inside = unsafe { (*self.inside.get()).as_ref() }?;
        // SAFETY: as above.
        Some(work(unsafe { &mut *inside.exchange }))
    }

    /// Tells the library that its exchange retires (SV_OK), or why it is over: once each, nothing after the latter, and never after
    /// complete has returned.
    pub fn tell(&self, why: sv_status) {
        let Some(told) = &self.told else { return };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = &mut *told {
            told.tell(why);
        }
        if why != SV_OK {
            *told = None;
        }
    }

    /// Takes the exchange back: after it was completed, or to give it up, which ends the handle.
    pub fn take(&self) -> Option<(Scope, Box<E>)> {
        self.close().map(|(scope, exchange)| (*scope, exchange))
    }
}

impl<E> Detached<E> {
    /// Waits for the library's call that is under way, and lets no other in.
    fn close(&self) -> Option<(Box<Scope>, Box<E>)> {
        let inside = {
            let _held = self.slot.hold()?;
            // SAFETY: the slot is held.
            unsafe { (*self.inside.get()).take() }?
        };
        // SAFETY: the handle is not in what threads change, and only this thread has what was inside now.
        if let Some(handle) = unsafe { &(*inside.scope).handle } {
            handle.leave_detached();
        }
        // SAFETY: both came from boxes, and nobody gets through the handle any more.
        Some(unsafe { (Box::from_raw(inside.scope), Box::from_raw(inside.exchange)) })
    }
}

impl<E> Drop for Detached<E> {
    fn drop(&mut self) {
        // The scope before the exchange, into which its memory points.
        if let Some((scope, exchange)) = self.close() {
            drop(scope);
            drop(exchange);
        }
    }
}
