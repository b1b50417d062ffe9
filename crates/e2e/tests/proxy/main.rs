//! Contexts that an upstream answers (`proxy` of server.toml): what goes there and what comes back is what was sent, while it is sent,
//! and what goes wrong there is answered, logged, and no harm to anybody else.

mod contexts;
mod framing;
mod heads;
mod messages;
mod streaming;
mod trouble;
mod tunnels;
mod upstream;

use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

use upstream::Upstream;

const LONG: Duration = Duration::from_secs(60);

/// Makes a home whose context `/legacy` has that upstream, which gets further keys of it, and tables behind it.
fn home(upstream: &Upstream, keys: &str) -> Home {
    home_at(&format!("http://{}", upstream.address), keys)
}

fn home_at(proxy: &str, keys: &str) -> Home {
    let home = Home::new().unwrap();
    home.configure(&format!("[[host]]\n[[host.context]]\npath = \"/legacy\"\nproxy = \"{proxy}\"\n{keys}")).unwrap();
    home
}

fn start(upstream: &Upstream, keys: &str) -> (Home, Serval) {
    let home = home(upstream, keys);
    let serval = Serval::start(&home).unwrap();
    (home, serval)
}

fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), LONG).unwrap()
}

/// Sends this on a connection of its own, and returns the answer.
#[track_caller]
fn ask(serval: &Serval, request: &str) -> Response {
    let mut connection = open(serval);
    connection.send(request.as_bytes()).unwrap();
    connection.read_response().unwrap_or_else(|error| panic!("{error}\nof\n{request}"))
}

#[track_caller]
fn get(serval: &Serval, target: &str) -> Response {
    open(serval).get(target).unwrap()
}

fn text(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to be");
        std::thread::sleep(Duration::from_millis(5));
    }
}
