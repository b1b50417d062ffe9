//! An address that accepts connections, within its bound, until the server stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serval_config::Listener;
use serval_container::{Container, Peer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};

use crate::connection;
use crate::inherited::Inherited;

/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Opens the address, or says in a sentence why not. One that was inherited is open, with a backlog of its own.
pub fn bind(settings: &Listener, inherited: &Inherited) -> Result<TcpListener, String> {
    if let Some(socket) = inherited.at(settings.address) {
        let taken = socket.and_then(TcpListener::from_std);
        return taken.map_err(|error| format!("the inherited socket {} cannot be used: {error}", settings.address));
    }
    let open = |address: SocketAddr| {
        let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(settings.backlog)
    };
    open(settings.address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "{} is in use by another program: stop that one, or give this listener another address in conf/server.toml",
            settings.address
        ),
        _ => format!("{} cannot be opened: {error}", settings.address),
    })
}

/// Accepts until `stopped` turns true, and those that have come by then, and waits for its connections to end. New settings are those of
/// connections from then on.
pub async fn serve(
    socket: TcpListener,
    mut settings: watch::Receiver<Arc<Listener>>,
    container: Arc<Container>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut now = settings.borrow_and_update().clone();
    let mut places = Places::new(now.connections_max);
    let mut said: Option<Instant> = None;
    loop {
        let accept = async { (places.next().await, socket.accept().await) };
        let (place, accepted) = tokio::select! {
            (Ok(place), accepted) = accept => (place, accepted),
            Ok(()) = settings.changed() => {
                let before = std::mem::replace(&mut now, settings.borrow_and_update().clone());
                places.set_max(now.connections_max);
                if before.backlog != now.backlog && let Err(error) = rustix::net::listen(&socket, now.backlog as i32) {
                    tracing::warn!("{}: its backlog cannot be changed: {error}", now.address);
                }
                continue;
            }
            () = crate::run::told(&mut stopped) => break,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
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
                continue;
            }
        };
        begin((stream, remote), &now, &container, &stopped, place);
    }
    // The system has let them in: with the socket, they would be reset. More than can have waited have come since, and are too many.
    if let Ok(socket) = socket.into_std() {
        for _ in 0..=now.backlog {
            let Some(place) = places.at_once() else { break };
            let Ok((stream, remote)) = socket.accept() else { break };
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                begin((stream, remote), &now, &container, &stopped, place);
            }
        }
    }
    // Each connection has a place, whatever task it runs in, and gives it back at its end.
    places.all_given_back().await;
}

/// Serves a connection in a task of its own.
fn begin(
    (stream, remote): (TcpStream, SocketAddr),
    settings: &Arc<Listener>,
    container: &Arc<Container>,
    stopped: &watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    let local = stream.local_addr().unwrap_or(settings.address);
    let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let peer = Arc::new(Peer::new(remote, local, number, settings.secure, settings.clone()));
    let io = connection::serve(stream, peer, container.clone(), stopped.clone(), place);
    tokio::spawn(io.run());
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
