//! Sockets that whoever started the server has opened for it (sd_listen_fds(3)): connections wait in them while it restarts.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use serval_config::Address;

use crate::socket::Socket;

/// LIMIT: sockets; more is nothing that anybody means.
const SOCKETS_MAX: usize = 1000;

/// Listening sockets, each at another address; they stay open as long as the process, since nobody could open them again.
#[derive(Default)]
pub struct Inherited(Vec<(Address, Given)>);

enum Given {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Inherited {
    /// Takes them by `LISTEN_FDS`, if `LISTEN_PID` says that they are for this process, and removes both variables, so no other
    /// thread may be there yet. No child gets the sockets. Says in a sentence what is wrong with them.
    pub fn take() -> Result<Inherited, String> {
        let variable = |name| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        let Some(count) = variable("LISTEN_FDS") else { return Ok(Inherited::default()) };
        let (own, pid) = (std::process::id().to_string(), variable("LISTEN_PID").unwrap_or_default());
        if pid != own {
            tracing::warn!(
                "the sockets of LISTEN_FDS are not taken: they are for the process {pid:?} (LISTEN_PID), and this is {own}"
            );
            return Ok(Inherited::default());
        }
        let count = count.parse().ok().filter(|&count| count <= SOCKETS_MAX).ok_or_else(|| {
            format!("LISTEN_FDS is {count:?}, where the number of inherited sockets should be, {SOCKETS_MAX} at most")
        })?;
        let mut given = ListenFd::from_env();
        let mut sockets: Vec<(Address, Given)> = Vec::new();
        for number in 0..count {
            let refused = |why: &str| {
                let help = "Serval takes sockets that listen, of TCP and of files, as ListenStream=127.0.0.1:8080 and \
                            ListenStream=/run/serval/http.sock in a .socket unit make them";
                format!("the inherited socket {} of {count} (LISTEN_FDS) {why}: {help}", number + 1)
            };
            let socket = match given.take_tcp_listener(number) {
                Ok(socket) => socket.map(Given::Tcp),
                Err(_) => given.take_unix_listener(number).ok().flatten().map(Given::Unix),
            };
            let socket = socket.ok_or_else(|| refused("is of another kind"))?;
            let (listens, address) = match &socket {
                Given::Tcp(socket) => (socket_acceptconn(socket), socket.local_addr().map(Address::Tcp)),
                Given::Unix(socket) => (socket_acceptconn(socket), of_file(socket)),
            };
            if !listens.unwrap_or(false) {
                return Err(refused("does not listen"));
            }
            let address = address.map_err(|error| refused(&format!("has no address ({error})")))?;
            if sockets.iter().any(|(other, _)| *other == address) {
                return Err(refused(&format!("is a second one at {address}")));
            }
            sockets.push((address, socket));
        }
        Ok(Inherited(sockets))
    }

    /// Says in a sentence which of them no listener has.
    pub fn check(&self, listeners: &[serval_config::Listener]) -> Result<(), String> {
        match self.0.iter().find(|(address, _)| !listeners.iter().any(|listener| listener.address == *address)) {
            Some((address, _)) => Err(format!(
                "the inherited socket {address} (LISTEN_FDS) is no [[listener]]'s: add one with `address = \"{address}\"` to \
                 conf/server.toml, or do not hand the socket over"
            )),
            None => Ok(()),
        }
    }

    pub fn is_at(&self, address: &Address) -> bool {
        self.0.iter().any(|(known, _)| known == address)
    }

    /// The one that is bound to this address.
    pub fn at(&self, address: &Address) -> Option<io::Result<Socket>> {
        let (_, socket) = self.0.iter().find(|(known, _)| known == address)?;
        Some(match socket {
            Given::Tcp(socket) => socket.try_clone().and_then(Socket::of_tcp),
            Given::Unix(socket) => socket.try_clone().and_then(Socket::of_unix),
        })
    }
}

fn of_file(socket: &UnixListener) -> io::Result<Address> {
    let address = socket.local_addr()?;
    let path = address.as_pathname().ok_or_else(|| io::Error::other("it has no file"))?;
    Ok(Address::Unix(path.to_owned()))
}
