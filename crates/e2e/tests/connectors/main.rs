//! Listeners and connections from outside: what is spoken, by whom, and what a client may not do, over raw sockets and with the client
//! of the `h2` crate.

mod addresses;
mod floods;
mod framing;
mod http2;
mod proxy_protocol;
mod slow;
mod unix_sockets;

use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};

pub const LONG: Duration = Duration::from_secs(60);
const LOG: &str = "[access_log]\npattern = '%a \"%r\" %s %{serval.refused}r'";

/// `listener` are keys of the listener.
pub fn start(listener: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/src/connectors.c", include_str!("connectors.c")).unwrap();
    home.write("webapps/ROOT/index.html", "welcome").unwrap();
    home.write("webapps/ROOT/large.bin", vec![7; 3 << 20]).unwrap();
    home.configure(&format!("{listener}\n[build]\nsources = true\n{LOG}")).unwrap();
    let serval = Serval::start(&home).unwrap();
    serval.wait_for_log("/x ready (generation 2", LONG).unwrap();
    (home, serval)
}

pub fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), LONG).unwrap()
}

/// Waits until the access log has a line that ends so.
#[track_caller]
pub fn logged(home: &Home, end: &str) {
    let deadline = Instant::now() + LONG;
    loop {
        let text = std::fs::read_to_string(home.path("var/log/localhost.access.log")).unwrap_or_default();
        if text.lines().any(|line| line.ends_with(end)) {
            return;
        }
        assert!(Instant::now() < deadline, "no line ends with {end:?}: {text}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
