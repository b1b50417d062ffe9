//! An address that accepts connections, within its bound, until the server stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serval_config::Listener;
use serval_container::{Container, Peer};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};

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

/// Accepts until `stopped` turns true, then waits for its connections to end.
pub async fn serve(
    socket: TcpListener,
    settings: Arc<Listener>,
    container: Arc<Container>,
    mut stopped: watch::Receiver<bool>,
) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let mut said: Option<Instant> = None;
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await;
            (place, socket.accept().await)
        };
        let (place, accepted) = tokio::select! {
            (Ok(place), accepted) = accept => (place, accepted),
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
                        settings.address
                    );
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let local = stream.local_addr().unwrap_or(settings.address);
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer::new(remote, local, number, settings.secure, settings.clone()));
        let io = connection::serve(stream, peer, container.clone(), stopped.clone(), place);
        tokio::spawn(io.run());
    }
    drop(socket);
    // Each connection has a place, whatever task it runs in, and gives it back at its end.
    let _ = places.acquire_many(settings.connections_max as u32).await;
}
