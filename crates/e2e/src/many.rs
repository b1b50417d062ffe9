//! Sockets by the thousand.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// From one address there are 28,000 ports to come from, and one that was used is not free at once.
const ADDRESSES: usize = 8;

/// Connects to a loopback address, from one of several by the number. `receive_buffer`: bytes that the kernel takes at the most before the
/// program asks for them; the system may take twice as many.
pub fn connect_from(number: usize, address: SocketAddr, receive_buffer: Option<usize>) -> Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        // Before it connects, so that the server's kernel never sees a large window.
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    let from = Ipv4Addr::new(127, 0, 1, (number % ADDRESSES) as u8 + 1);
    bind(&socket, &SocketAddr::from((from, 0)))?;
    connect(&socket, &address).with_context(|| format!("connection {number}"))?;
    Ok(TcpStream::from(socket))
}

/// Lets this program have so many open files, and the servers that it starts; an error says that it may not.
pub fn raise_file_limit(files: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < files) {
        ensure!(
            maximum.is_none_or(|maximum| maximum >= files),
            "there may be no {files} open files: raise `ulimit -Hn`"
        );
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum })?;
    }
    Ok(())
}
