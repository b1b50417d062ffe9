//! What connections of all protocols have: the places that they take, and how they are told that the server stops.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use serval_container::Turn;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::arriving::OfAddress;

/// The first request of a connection that is younger may be on its way: it is not closed before, when the server stops, so that no
/// client finds it closed that has just been let in.
const YOUNG: Duration = Duration::from_secs(1);

/// A connection's place among those of its client, and at its listener: given back in this order, since the next one is let in by the
/// second, when the last clone is dropped.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "it is given back then")] Arc<(Option<OfAddress>, OwnedSemaphorePermit)>);

impl Place {
    pub fn new(permit: OwnedSemaphorePermit, of_address: Option<OfAddress>) -> Place {
        Place(Arc::new((of_address, permit)))
    }
}

/// When a connection was accepted.
#[derive(Clone, Copy)]
pub struct Born(Instant);

impl Born {
    pub fn now() -> Born {
        Born(Instant::now())
    }

    pub fn at(self) -> Instant {
        self.0
    }

    /// From when on it is not young any more.
    pub fn is_grown(self) -> Instant {
        self.0 + YOUNG
    }
}

/// Tells the exchanges of a connection, or of a stream of one, when it is dropped, that it is over.
pub struct Over(pub Arc<Turn>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.client_leaves();
    }
}

/// Tells a connection once that the server stops. Asked at each poll of it, so it asks the channel only when there is something
/// new, or another task to wake: more than that costs 2 % of a request.
pub struct Stop {
    channel: watch::Receiver<bool>,
    told: Pin<Box<dyn Future<Output = ()> + Send>>,
    wakes: Option<Waker>,
    born: Born,
    /// Told, and waits until the connection is not young any more.
    young: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Stop {
    pub fn new((channel, born): (watch::Receiver<bool>, Born)) -> Stop {
        let mut waiting = channel.clone();
        let told = Box::pin(unconstrained(async move { crate::run::told(&mut waiting).await }));
        Stop { channel, told, wakes: None, born, young: None, over: false }
    }

    /// True once: the connection is to come to its end. `told` is called at the first word of it, which is earlier for a young one.
    pub fn begins(&mut self, task: &mut Context<'_>, told: impl FnOnce()) -> bool {
        if let Some(young) = self.young.as_mut().filter(|_| !self.over) {
            self.over = young.as_mut().poll(task).is_ready();
            return self.over;
        }
        let waits = self.wakes.as_ref().is_some_and(|waker| waker.will_wake(task.waker()));
        if self.over || (waits && matches!(self.channel.has_changed(), Ok(false))) {
            return false;
        }
        self.wakes = Some(task.waker().clone());
        if self.told.as_mut().poll(task).is_pending() {
            return false;
        }
        told();
        let young = self.young.insert(Box::pin(sleep_until(self.born.is_grown())));
        self.over = young.as_mut().poll(task).is_ready();
        self.over
    }
}
