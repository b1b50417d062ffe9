//! The beginning of a connection: who is behind a balancer (the PROXY protocol), whether it may have a place, and what it speaks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ppp::{HeaderResult, PartialResult as _, v1, v2};
use serval_config::Listener;
use serval_container::{Container, Peer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep_until, timeout};

use crate::connection::{Born, Place};
use crate::stream::{Stream, Way};
use crate::tls::Acceptor;
use crate::{http1, http2, refused, said};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// LIMIT: bytes of a PROXY head, nearly all of them for what nobody reads.
const PROXY_HEAD_BYTES_MAX: usize = 4 << 10;

/// LIMIT: answers to clients that have too many connections; more are only closed.
static ANSWERING: Semaphore = Semaphore::const_new(64);

/// A connection that was accepted.
pub struct Arrival {
    pub stream: Stream,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub number: u64,
    pub settings: Arc<Listener>,
    pub tls: Option<Arc<Acceptor>>,
    pub container: Arc<Container>,
    pub stopped: watch::Receiver<bool>,
    /// Its place at the listener.
    pub permit: OwnedSemaphorePermit,
    pub addresses: Arc<Addresses>,
}

/// What has shown of it.
struct Arrived {
    stream: Stream,
    peer: Arc<Peer>,
    place: Place,
    speaks: Speaks,
}

#[derive(PartialEq)]
enum Speaks {
    Http1,
    Http2,
}

/// How many connections each client of a listener has.
#[derive(Default)]
pub struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One of them; given back when it is dropped.
pub struct OfAddress(Arc<Addresses>, IpAddr);

impl Addresses {
    /// `None`: it has `max` already.
    fn enter(self: &Arc<Addresses>, client: IpAddr, max: usize) -> Option<OfAddress> {
        let client = network(client);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        // LIMIT: entries; each has a connection, of which there are connections_max.
        (*count < max).then(|| {
            *count += 1;
            OfAddress(self.clone(), client)
        })
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// One client has a whole network of IPv6 addresses (RFC 6177).
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        client => client,
    }
}

/// Serves a connection to its end.
pub async fn serve(arrival: Arrival) {
    let born = Born::now();
    let (container, mut stopped, settings) =
        (arrival.container.clone(), arrival.stopped.clone(), arrival.settings.clone());
    // Boxed, since a connection is past it for nearly all its time.
    let arrived = Box::pin(arrive(arrival));
    let arrived = tokio::select! {
        biased;
        arrived = timeout(settings.head_timeout, arrived) => arrived,
        () = async { crate::run::told(&mut stopped).await; sleep_until(born.is_grown()).await } => return,
    };
    match arrived {
        Ok(Ok(Some(Arrived { stream, peer, place, speaks: Speaks::Http1 }))) => {
            http1::serve(stream, peer, container, (stopped, born), place).run().await;
        }
        Ok(Ok(Some(Arrived { stream, peer, place, speaks: Speaks::Http2 }))) => {
            Box::pin(http2::serve(stream, peer, container, (stopped, born), place)).await;
        }
        // It was answered, has said nothing in time, or has gone.
        Ok(Ok(None)) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!("a connection ended before its first request: {error}"),
    }
}

/// `None`: it has ended.
async fn arrive(arrival: Arrival) -> io::Result<Option<Arrived>> {
    let Arrival { mut stream, mut remote, mut local, number, settings, tls, container, permit, addresses, .. } =
        arrival;
    let balancer = remote.ip().to_canonical();
    if settings.proxy_protocol.iter().any(|range| range.contains(&balancer)) {
        match proxy_head(&mut stream).await? {
            Ok(Some(told)) => (remote, local) = told,
            Ok(None) => {}
            Err(why) => {
                said::of_client(balancer, why);
                return Ok(None);
            }
        }
    }
    let is_secure = settings.secure || tls.is_some();
    let mut peer = Peer::new(remote, local, number, is_secure, settings.clone());
    // Those who come by a Unix socket have none.
    let has_address = !peer.remote_text.is_empty();
    let of_address = has_address.then(|| addresses.enter(remote.ip(), settings.connections_per_address_max));
    let Some(of_address) = of_address.map_or(Some(None), |entered| entered.map(Some)) else {
        const WHY: &str = "it has connections_per_address_max connections";
        said::of_client(remote.ip(), WHY);
        // It has no place any more; and by TLS, an answer costs more than the client may have.
        drop(permit);
        if let (Ok(_answering), None) = (ANSWERING.try_acquire(), &tls) {
            refused::answer(stream, &[], (503, WHY), &container, &Arc::new(peer)).await;
        }
        return Ok(None);
    };
    let mut negotiated = None;
    if let Some(tls) = tls {
        if is_plain(&mut stream).await? {
            const WHY: &str = "the listener speaks TLS, and the request has come without";
            let line = stream.ahead().split(|byte| *byte == b'\r').next().unwrap_or_default().to_vec();
            refused::answer(stream, &line, (400, WHY), &container, &Arc::new(peer)).await;
            return Ok(None);
        }
        let (protected, facts) = tls.accept(stream).await?;
        negotiated = protected.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        peer.tls = Some(facts);
        stream = Stream::new(Way::Tls(Box::new(protected)));
    }
    let speaks = match settings.protocols {
        _ if negotiated.as_deref() == Some(b"h2") => Speaks::Http2,
        _ if negotiated.is_some() => Speaks::Http1,
        protocols if !protocols.http2 => Speaks::Http1,
        protocols if !protocols.http1 || has_preface(&mut stream).await? => Speaks::Http2,
        _ => Speaks::Http1,
    };
    Ok(Some(Arrived { stream, peer: Arc::new(peer), place: Place::new(permit, of_address), speaks }))
}

/// Whether a client begins with the name of a method, where those of TLS begin with no letter.
async fn is_plain(stream: &mut Stream) -> io::Result<bool> {
    if stream.ahead().is_empty() {
        stream.read_ahead().await?;
    }
    Ok(stream.ahead().first().is_some_and(u8::is_ascii_uppercase))
}

/// Whether a client speaks HTTP/2 by prior knowledge (RFC 9113 3.3).
async fn has_preface(stream: &mut Stream) -> io::Result<bool> {
    loop {
        let ahead = stream.ahead();
        let len = ahead.len().min(PREFACE.len());
        if ahead[..len] != PREFACE[..len] {
            return Ok(false);
        }
        if len == PREFACE.len() {
            return Ok(true);
        }
        if stream.read_ahead().await? == 0 {
            return Ok(false);
        }
    }
}

/// The client, and where it has connected to, as a balancer tells them; `None`: it tells of itself. An error is a clause.
async fn proxy_head(stream: &mut Stream) -> io::Result<Result<Option<(SocketAddr, SocketAddr)>, &'static str>> {
    const WRONG: &str = "its connection begins with no PROXY head, and proxy_protocol says that it does";
    loop {
        let ahead = stream.ahead();
        let head = if ahead.is_empty() { None } else { Some(HeaderResult::parse(ahead)) };
        match head {
            Some(head) if head.is_complete() => {
                let (length, told) = match &head {
                    HeaderResult::V1(Ok(head)) => (v1_length(ahead), of_version_1(&head.addresses)),
                    HeaderResult::V2(Ok(head)) => (head.len(), of_version_2(head)),
                    _ => return Ok(Err(WRONG)),
                };
                stream.skip(length);
                return Ok(Ok(told));
            }
            _ if ahead.len() > PROXY_HEAD_BYTES_MAX => return Ok(Err("its PROXY head is longer than 4 KiB")),
            _ => {}
        }
        if stream.read_ahead().await? == 0 {
            return Ok(Err(WRONG));
        }
    }
}

fn v1_length(ahead: &[u8]) -> usize {
    memchr::memchr(b'\n', ahead).map_or(ahead.len(), |end| end + 1)
}

fn of_version_1(addresses: &v1::Addresses) -> Option<(SocketAddr, SocketAddr)> {
    match addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
        v1::Addresses::Tcp6(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
    }
}

fn of_version_2(head: &v2::Header<'_>) -> Option<(SocketAddr, SocketAddr)> {
    match head.addresses {
        // A balancer that looks whether we are there.
        _ if head.command == v2::Command::Local => None,
        v2::Addresses::IPv4(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
        v2::Addresses::IPv6(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}
