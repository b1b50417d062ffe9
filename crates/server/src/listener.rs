//! An address that accepts connections, within its bound, until the server stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serval_config::Listener;
use serval_container::Container;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};

use crate::arriving::{self, Addresses, Arrival};
use crate::listeners::Terms;
use crate::socket::{Accepted, Socket};
use crate::tls::Acceptor;

/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Accepts until `stopped` turns true, and those that have come by then, and waits for its connections to end. New settings are those of
/// connections from then on.
pub async fn serve(
    socket: Socket,
    mut terms: watch::Receiver<Terms>,
    container: Arc<Container>,
    stopped: watch::Receiver<bool>,
) {
    let Terms { settings: mut now, mut tls } = terms.borrow_and_update().clone();
    let mut places = Places::new(now.connections_max);
    let addresses = Arc::<Addresses>::default();
    let mut said: Option<Instant> = None;
    let begin = |(stream, remote, local): Accepted,
                 (settings, tls): (&Arc<Listener>, &Option<Arc<Acceptor>>),
                 permit| {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let (settings, tls, container) = (settings.clone(), tls.clone(), container.clone());
        let (stopped, addresses) = (stopped.clone(), addresses.clone());
        let arrival = Arrival { stream, remote, local, number, settings, tls, container, stopped, permit, addresses };
        // Each has a place, and `all_given_back` waits for it.
        tokio::spawn(arriving::serve(arrival));
    };
    let mut stops = stopped.clone();
    loop {
        let accept = async { (places.next().await, socket.accept(&now).await) };
        let (place, accepted) = tokio::select! {
            (Ok(place), accepted) = accept => (place, accepted),
            Ok(()) = terms.changed() => {
                let before = now;
                Terms { settings: now, tls } = terms.borrow_and_update().clone();
                places.set_max(now.connections_max);
                if before.backlog != now.backlog && let Err(error) = rustix::net::listen(&socket, now.backlog as i32) {
                    tracing::warn!("{}: its backlog cannot be changed: {error}", now.address);
                }
                continue;
            }
            () = crate::run::told(&mut stops) => break,
        };
        match accepted {
            Ok(accepted) => begin(accepted, (&now, &tls), place),
            Err(error) => {
                // Too few file handles, or a client that left at once: neither may stop or spin the server, or fill the log.
                if said.is_none_or(|said| said.elapsed() > SAID_AGAIN_AFTER) {
                    said = Some(Instant::now());
                    tracing::warn!(
                        "{} could not accept a connection: {error}; it tries again (said at most once a minute)",
                        now.address
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // The system has let them in: with the socket, they would be reset. More than can have waited have come since, and are too many.
    let mut next = places.at_once();
    if next.is_some() {
        socket.accept_waiting(now.backlog, &now, |accepted| {
            let Some(place) = next.take() else { return false };
            begin(accepted, (&now, &tls), place);
            next = places.at_once();
            next.is_some()
        });
    }
    drop(next);
    // Each connection has a place, whatever task it runs in, and gives it back at its end.
    places.all_given_back().await;
}

/// The places of a listener's connections, of which there may come to be more or fewer.
struct Places {
    free: Arc<Semaphore>,
    max: usize,
    /// Those above `max` that connections still have; each goes when it is given back.
    surplus: usize,
}

impl Places {
    fn new(max: usize) -> Places {
        Places { free: Arc::new(Semaphore::new(max)), max, surplus: 0 }
    }

    /// Waits for one. May be given up at any moment.
    async fn next(&mut self) -> Result<OwnedSemaphorePermit, AcquireError> {
        loop {
            let place = self.free.clone().acquire_owned().await?;
            if self.surplus == 0 {
                return Ok(place);
            }
            place.forget();
            self.surplus -= 1;
        }
    }

    /// `None`: there is none that is free.
    fn at_once(&mut self) -> Option<OwnedSemaphorePermit> {
        loop {
            let place = self.free.clone().try_acquire_owned().ok()?;
            if self.surplus == 0 {
                return Some(place);
            }
            place.forget();
            self.surplus -= 1;
        }
    }

    fn set_max(&mut self, max: usize) {
        if let Some(more) = max.checked_sub(self.max) {
            let kept = more.min(self.surplus);
            self.surplus -= kept;
            self.free.add_permits(more - kept);
        } else {
            let fewer = self.max - max;
            self.surplus += fewer - self.free.forget_permits(fewer);
        }
        self.max = max;
    }

    async fn all_given_back(&self) {
        let _ = self.free.acquire_many((self.max + self.surplus) as u32).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_come_and_go_with_the_bound() {
        let mut places = Places::new(2);
        let (one, two) = (places.next().await.unwrap(), places.next().await.unwrap());
        places.set_max(3);
        let three = places.next().await.unwrap();
        places.set_max(1);
        drop((one, two));
        let none = |places: &mut Places| {
            let mut next = Box::pin(places.next());
            let waits =
                std::future::Future::poll(next.as_mut(), &mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert!(waits.is_pending());
        };
        none(&mut places);
        assert_eq!((places.surplus, places.free.available_permits()), (0, 0));
        drop(three);
        let one = places.next().await.unwrap();
        none(&mut places);
        // Fewer, and more again before any has ended.
        places.set_max(3);
        let two = places.next().await.unwrap();
        places.set_max(1);
        assert_eq!((places.surplus, places.free.available_permits()), (1, 0));
        places.set_max(2);
        assert_eq!((places.surplus, places.free.available_permits()), (0, 0));
        none(&mut places);
        drop((one, two));
        places.all_given_back().await;
    }
}
