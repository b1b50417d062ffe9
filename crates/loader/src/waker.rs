//! The wakers that libraries hold. Like the other handles, each is the number of a place and the generation of its use, so that one
//! that was given back twice, or was made up, is found out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serval_abi::{SV_E_LIMIT, SV_E_STALE, sv_context, sv_waker};

use crate::exchange::{Fault, Wake};
use crate::slots::{KIND_WAKER, decode, encode, next};

/// LIMIT: wakers of all libraries at once.
const WAKERS_MAX: usize = 1_000_000;

/// What a waker wakes, and the context that it was made in.
type Waking = (Arc<dyn Wake>, usize);

/// The wakers that libraries hold, each by a handle of its own.
struct Wakers {
    /// The generation of its use, and what it is.
    places: Vec<(u64, Option<Waking>)>,
    free: Vec<u32>,
}

static WAKERS: Mutex<Wakers> = Mutex::new(Wakers { places: Vec::new(), free: Vec::new() });

impl Wakers {
    fn add(&mut self, wake: Arc<dyn Wake>, context: usize) -> Result<*mut sv_waker, Fault> {
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None if self.places.len() < WAKERS_MAX => {
                self.places.push((0, None));
                self.places.len() - 1
            }
            None => return Err(Fault::new(SV_E_LIMIT, "libraries hold a million wakers; give them back")),
        };
        let place = &mut self.places[index];
        place.0 = next(place.0);
        place.1 = Some((wake, context));
        Ok(std::ptr::without_provenance_mut(encode(KIND_WAKER, index, place.0)))
    }

    fn find(&self, waker: *mut sv_waker) -> Result<(usize, &Waking), Fault> {
        let (index, generation) = decode(waker.addr(), KIND_WAKER)?;
        match self.places.get(index) {
            Some((current, Some(found))) if *current == generation => Ok((index, found)),
            _ => Err(Fault::new(SV_E_STALE, "the waker was given back already")),
        }
    }

    fn take(&mut self, waker: *mut sv_waker) -> Result<Arc<dyn Wake>, Fault> {
        let (index, _) = self.find(waker)?;
        let place = &mut self.places[index];
        place.0 = next(place.0);
        let taken = place.1.take();
        self.free.push(index as u32);
        taken.map(|(wake, _)| wake).ok_or_else(|| Fault::new(SV_E_STALE, "the waker was given back already"))
    }

    /// Forgets what a library has not given back.
    fn purge(&mut self, context: usize) {
        for (index, place) in self.places.iter_mut().enumerate() {
            if place.1.as_ref().is_some_and(|(_, of)| *of == context) {
                *place = (next(place.0), None);
                self.free.push(index as u32);
            }
        }
    }
}

fn wakers() -> MutexGuard<'static, Wakers> {
    WAKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn add(wake: Arc<dyn Wake>, context: *mut sv_context) -> Result<*mut sv_waker, Fault> {
    wakers().add(wake, context.addr())
}

pub(crate) fn clone(waker: *mut sv_waker) -> Result<*mut sv_waker, Fault> {
    let mut wakers = wakers();
    let (_, (wake, context)) = wakers.find(waker)?;
    let (wake, context) = (wake.clone(), *context);
    wakers.add(wake, context)
}

/// What a waker wakes. Waking is done outside of the lock.
pub(crate) fn get(waker: *mut sv_waker) -> Result<Arc<dyn Wake>, Fault> {
    wakers().find(waker).map(|(_, (wake, _))| wake.clone())
}

/// As [`get`], and the handle is given back.
pub(crate) fn take(waker: *mut sv_waker) -> Result<Arc<dyn Wake>, Fault> {
    wakers().take(waker)
}

/// Forgets the wakers of a context that has ended, which its libraries have not given back.
pub(crate) fn purge(context: usize) {
    wakers().purge(context);
}
