//! A server as a service: how it stops, whom it runs as, and what it needs of the system. What a service manager is told, and what a
//! restart leaves, is in `restart`.

mod hardened;
mod ready;
mod stop;
mod user;

use std::io;

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};
use e2e::steady::{LONG, wait_until};

/// Asks on a connection of its own.
fn ask(serval: &Serval, head: &str) -> io::Result<Response> {
    let mut connection = Connection::open(serval.address(), LONG)?;
    connection.send(format!("{head}\r\nHost: a\r\n\r\n").as_bytes())?;
    if head.starts_with("HEAD ") { connection.read_response_of_head() } else { connection.read_response() }
}

/// Makes `/x/step?drain` wait from now on, until it is released.
fn hold(home: &Home) {
    home.write("var/work/localhost/x/hold-drain", "").unwrap();
}

fn release(home: &Home) {
    std::fs::remove_file(home.path("var/work/localhost/x/hold-drain")).unwrap();
}

/// A request that is held.
fn held(home: &Home, serval: &Serval) -> Connection {
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"GET /x/step?drain HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until("it is in the servlet", || home.path("var/work/localhost/x/at-drain").exists());
    connection
}
