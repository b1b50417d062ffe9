//! What a service manager is told (sd_notify(3)): that the server is ready, that it stops, and that it is alive.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// Where it is told; nobody may want to know. The variables stay: libraries that run here are the same service, and builds get
/// no variables but those that they need.
#[derive(Clone)]
pub struct Notify(Option<Arc<SocketAddr>>);

impl Notify {
    /// By `NOTIFY_SOCKET`: a path, or `@` and the name of an abstract socket.
    pub fn from_env() -> Notify {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Notify(None) };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(&name),
            _ => Err(std::io::Error::other("it is neither an absolute path nor begins with @")),
        };
        match address {
            Ok(address) => Notify(Some(Arc::new(address))),
            Err(error) => {
                not_told(&name, &error);
                Notify(None)
            }
        }
    }

    /// Sends lines as `READY=1`.
    pub fn tell(&self, lines: &str) {
        let Some(address) = &self.0 else { return };
        // A manager that does not read must not hold us.
        let send = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.send_to_addr(lines.as_bytes(), address)
        };
        if let Err(error) = send() {
            not_told(&std::env::var_os("NOTIFY_SOCKET").unwrap_or_default(), &error);
        }
    }

    /// Says that the server is alive twice in the time of `WATCHDOG_USEC`, from an I/O thread, as long as it is polled; for ever, or
    /// not at all if nobody asks for it.
    pub async fn keep_alive(self) {
        let variable = |name| std::env::var(name).ok();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let time = variable("WATCHDOG_USEC").and_then(|time| time.parse().ok()).filter(|&time| time > 0 && is_ours);
        let Some(time) = time.map(Duration::from_micros) else { return std::future::pending().await };
        loop {
            self.tell("WATCHDOG=1");
            tokio::time::sleep(time / 2).await;
        }
    }
}

fn not_told(name: &OsStr, error: &std::io::Error) {
    tracing::warn!("the service manager at {name:?} (NOTIFY_SOCKET) cannot be told: {error}");
}
