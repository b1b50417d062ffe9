//! Sockets that listen: made, inherited or taken over, at an address of IP or of a file.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Group, User};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_keepalive, set_tcp_keepidle};
use serval_config::{Address, Listener};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use crate::inherited::Inherited;
use crate::stream::{Stream, Way};
use crate::user;

/// Ports from here on are everybody's (ip_unprivileged_port_start of Linux, as it is shipped).
const FIRST_OF_ALL: u16 = 1024;

/// What a client is called that comes by a Unix socket, which has no address.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, File),
}

/// The file of a Unix socket. It goes with the socket, if it is still that one's.
pub struct File(Option<(PathBuf, (u64, u64))>);

/// A connection that was accepted: where from, and where to.
pub type Accepted = (Stream, SocketAddr, SocketAddr);

impl Socket {
    /// Opens the address, or says in a sentence why not. One that was inherited is open, with a backlog, a mode and an owner of its own.
    pub fn bind(settings: &Listener, inherited: &Inherited) -> Result<Socket, String> {
        let address = &settings.address;
        if let Some(socket) = inherited.at(address) {
            return socket.map_err(|error| format!("the inherited socket {address} cannot be used: {error}"));
        }
        let opened = match address {
            Address::Tcp(tcp) => open_tcp(*tcp, settings).map(Socket::Tcp),
            Address::Unix(path) => return open_unix(path, settings),
        };
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "{address} is in use by another program: stop that one, or give this listener another address in conf/server.toml"
            ),
            io::ErrorKind::PermissionDenied if address.port().is_some_and(|port| port < FIRST_OF_ALL) => format!(
                "{address} cannot be opened: {error}; ports below {FIRST_OF_ALL} are root's: {}, or give it another port",
                user::how_to_open_ports_of_root()
            ),
            _ => format!("{address} cannot be opened: {error}"),
        })
    }

    pub fn of_tcp(socket: std::net::TcpListener) -> io::Result<Socket> {
        socket.set_nonblocking(true)?;
        Ok(Socket::Tcp(TcpListener::from_std(socket)?))
    }

    /// Its file is another one's.
    pub fn of_unix(socket: unix::UnixListener) -> io::Result<Socket> {
        socket.set_nonblocking(true)?;
        Ok(Socket::Unix(UnixListener::from_std(socket)?, File(None)))
    }

    /// For people: the address, with the port that the system has chosen.
    pub fn shown(&self, settings: &Listener) -> String {
        match (self, &settings.address) {
            (Socket::Tcp(socket), Address::Tcp(address)) => {
                let scheme = if settings.tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", socket.local_addr().unwrap_or(*address))
            }
            (_, address) => address.to_string(),
        }
    }

    pub async fn accept(&self, settings: &Listener) -> io::Result<Accepted> {
        match self {
            Socket::Tcp(socket) => {
                let (stream, remote) = socket.accept().await?;
                Ok(of_tcp(stream, remote, settings))
            }
            Socket::Unix(socket, _) => {
                let (stream, _) = socket.accept().await?;
                Ok((Stream::new(Way::Unix(stream)), HERE, HERE))
            }
        }
    }

    /// Those that the system has let in, `most` of them at most; the socket is closed then.
    pub fn accept_waiting(self, most: u32, settings: &Listener, mut begin: impl FnMut(Accepted) -> bool) {
        // Kept until its last one is accepted.
        let (waiting, _file): (Box<dyn Fn() -> io::Result<Accepted>>, Option<File>) = match self {
            Socket::Tcp(socket) => {
                let Ok(socket) = socket.into_std() else { return };
                let accept = move || {
                    let (stream, remote) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    Ok(of_tcp(TcpStream::from_std(stream)?, remote, settings))
                };
                (Box::new(accept), None)
            }
            Socket::Unix(socket, file) => {
                let Ok(socket) = socket.into_std() else { return };
                let accept = move || {
                    let (stream, _) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    Ok((Stream::new(Way::Unix(UnixStream::from_std(stream)?)), HERE, HERE))
                };
                (Box::new(accept), Some(file))
            }
        };
        for _ in 0..=most {
            let Ok(accepted) = waiting() else { return };
            if !begin(accepted) {
                return;
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket, _) => socket.as_fd(),
        }
    }
}

fn of_tcp(stream: TcpStream, remote: SocketAddr, settings: &Listener) -> Accepted {
    let said = |option: &str, error: &dyn Display| tracing::debug!("{option}: {error}");
    if let Err(error) = stream.set_nodelay(true) {
        said("TCP_NODELAY", &error);
    }
    if settings.tcp_keepalive > Duration::ZERO {
        let idle = settings.tcp_keepalive.max(Duration::from_secs(1));
        let set = set_socket_keepalive(&stream, true).and_then(|()| set_tcp_keepidle(&stream, idle));
        if let Err(error) = set {
            said("SO_KEEPALIVE", &error);
        }
    }
    let local = stream.local_addr().unwrap_or(settings.address.as_told());
    (Stream::new(Way::Tcp(stream)), remote, local)
}

fn open_tcp(address: SocketAddr, settings: &Listener) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, settings.ipv6_only)?;
    }
    // Its connections inherit both.
    for (bytes, set) in [
        (settings.send_buffer_bytes, TcpSocket::set_send_buffer_size as fn(&TcpSocket, u32) -> io::Result<()>),
        (settings.receive_buffer_bytes, TcpSocket::set_recv_buffer_size),
    ] {
        if bytes > 0 {
            set(&socket, bytes)?;
        }
    }
    socket.bind(address)?;
    socket.listen(settings.backlog)
}

/// Nobody gets in before it has its mode and its owner.
fn open_unix(path: &Path, settings: &Listener) -> Result<Socket, String> {
    let failed = |error: &dyn Display| format!("unix:{} cannot be opened: {error}", path.display());
    let owner = settings.unix_owner.as_deref().map(find_owner).transpose()?;
    remove_stale(path)?;
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(|error| failed(&error))?;
    let address = SocketAddrUnix::new(path).map_err(|error| failed(&error))?;
    bind(&socket, &address).map_err(|error| match error {
        rustix::io::Errno::NOENT => format!("{}; make its folder first", failed(&error)),
        error => failed(&error),
    })?;
    let file = File::of(path);
    // Not by its path again: whoever may write into its folder could have put a link there.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(&error))?;
    let kind = rustix::fs::fstat(&made).map(|found| FileType::from_raw_mode(found.st_mode));
    if kind != Ok(FileType::Socket) {
        return Err(failed(&"something else was put in its place"));
    }
    let by_number = format!("/proc/self/fd/{}", made.as_raw_fd());
    std::fs::set_permissions(&by_number, std::fs::Permissions::from_mode(settings.unix_mode))
        .map_err(|error| failed(&error))?;
    if let Some((user, group)) = owner {
        chown(&by_number, user, group).map_err(|error| {
            format!("{} cannot be given to the `unix_owner` of its listener: {error}; only root may", path.display())
        })?;
    }
    listen(&socket, settings.backlog as i32).map_err(|error| failed(&error))?;
    let socket = UnixListener::from_std(unix::UnixListener::from(socket)).map_err(|error| failed(&error))?;
    Ok(Socket::Unix(socket, file))
}

/// What a server has left that was killed is a file that nobody listens at.
fn remove_stale(path: &Path) -> Result<(), String> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let shown = path.display();
    if !metadata.file_type().is_socket() {
        return Err(format!(
            "{shown} is no socket: remove it, or give this listener another address in conf/server.toml"
        ));
    }
    match unix::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| format!("{shown} is in the way, and cannot be removed: {error}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(format!(
            "unix:{shown} is in use by another program: stop that one, or give this listener another address in conf/server.toml"
        )),
    }
}

/// Whom `user`, `user:group` or `:group` means.
fn find_owner(owner: &str) -> Result<(Option<u32>, Option<u32>), String> {
    let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
    let unknown = |what: &str, name: &str| format!("`unix_owner` in [[listener]]: this machine has no {what} {name:?}");
    let user = match user {
        "" => None,
        name => {
            let found = User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
            Some(found.or_else(|| name.parse().ok()).ok_or_else(|| unknown("user", name))?)
        }
    };
    let group = match group {
        "" => None,
        name => {
            let found = Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
            Some(found.or_else(|| name.parse().ok()).ok_or_else(|| unknown("group", name))?)
        }
    };
    Ok((user, group))
}

impl File {
    fn of(path: &Path) -> File {
        File(identity(path).map(|identity| (path.to_owned(), identity)))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A server that has taken over has made another one.
        if let Some((path, own)) = self.0.take().filter(|(path, own)| identity(path) == Some(*own)) {
            let _ = own;
            let _ = std::fs::remove_file(path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
