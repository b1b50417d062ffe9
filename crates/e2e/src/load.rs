//! Steady load: connections that repeat one exchange until they are stopped, and count what went wrong.
//!
//! A thread for each connection: at the tens of connections of a soak nothing is simpler. What an exchange is, and
//! what makes its answer wrong, is the caller's; the benchmark has a driver of its own, which costs less.

use crate::http_client::Connection;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// LIMIT: faults kept as text; the others are only counted.
const DETAILS_MAX: usize = 20;
/// After a failure, so that a dead server is not hammered.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// What one exchange came to.
pub enum Outcome {
    /// Answered, complete, and right.
    Good,
    /// No complete answer, or one that is an error.
    Failed(String),
    /// A complete answer that must not have been given.
    Wrong(String),
}

/// What a run of load came to.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub requests: u64,
    pub failed: u64,
    pub wrong: u64,
    /// The first faults, in words.
    pub details: Vec<String>,
}

/// Running load. Dropped without [`Load::stop`], its threads end after the exchange they are in.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    requests: AtomicU64,
    failed: AtomicU64,
    wrong: AtomicU64,
    details: Mutex<Vec<String>>,
}

impl Load {
    /// Starts it. `exchange` sends one request, its number given, on a connection that is open, and judges the answer;
    /// its error is a failed exchange.
    pub fn start<E>(address: SocketAddr, connections: usize, timeout: Duration, exchange: E) -> Load
    where
        E: Fn(u64, &mut Connection) -> io::Result<Outcome> + Send + Sync + 'static,
    {
        let shared = Arc::new(Shared::default());
        let exchange = Arc::new(exchange);
        let threads = (0..connections)
            .map(|_| {
                let (shared, exchange) = (Arc::clone(&shared), Arc::clone(&exchange));
                thread::spawn(move || drive(&shared, address, timeout, exchange.as_ref()))
            })
            .collect();
        Load { shared, threads }
    }

    /// Returns what it came to so far.
    pub fn counts(&self) -> Counts {
        let details = self.shared.details.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Counts {
            requests: self.shared.requests.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            wrong: self.shared.wrong.load(Ordering::Relaxed),
            details,
        }
    }

    /// Lets each connection finish its exchange, and returns what it all came to.
    pub fn stop(mut self) -> Counts {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            if thread.join().is_err() {
                self.shared.count(&self.shared.failed, "a connection's thread panicked".to_owned());
            }
        }
        self.counts()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn count(&self, counter: &AtomicU64, detail: String) {
        counter.fetch_add(1, Ordering::Relaxed);
        let mut details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        if details.len() < DETAILS_MAX {
            details.push(detail);
        }
    }
}

/// One connection's life: exchange after exchange, on a new connection where the old one is over.
fn drive<E>(shared: &Shared, address: SocketAddr, timeout: Duration, exchange: &E)
where
    E: Fn(u64, &mut Connection) -> io::Result<Outcome>,
{
    let mut open: Option<Connection> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => match Connection::open(address, timeout) {
                Ok(connection) => connection,
                Err(error) => {
                    shared.count(&shared.failed, format!("connect: {error}"));
                    thread::sleep(RETRY_AFTER);
                    continue;
                }
            },
        };
        let number = shared.requests.fetch_add(1, Ordering::Relaxed);
        match exchange(number, &mut connection) {
            Ok(Outcome::Good) => {}
            Ok(Outcome::Failed(detail)) => shared.count(&shared.failed, format!("request {number}: {detail}")),
            Ok(Outcome::Wrong(detail)) => shared.count(&shared.wrong, format!("request {number}: {detail}")),
            Err(error) => {
                shared.count(&shared.failed, format!("request {number}: {error}"));
                thread::sleep(RETRY_AFTER);
                continue;
            }
        }
        if !connection.is_over() {
            open = Some(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    /// Answers its first connection with these bytes for each request, and the others with nothing at all.
    fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|len| len > 0) {
                if line == "\r\n" && stream.write_all(answer).is_err() {
                    break;
                }
                line.clear();
            }
        });
        address
    }

    fn is_x(number: u64, connection: &mut Connection) -> io::Result<Outcome> {
        let response = connection.get("/")?;
        Ok(match (response.status, response.body.as_slice()) {
            (200, b"x") => Outcome::Good,
            (200, _) => Outcome::Wrong(format!("{number} is no x")),
            (status, _) => Outcome::Failed(format!("status {status}")),
        })
    }

    #[track_caller]
    fn check(answer: &'static [u8], until: impl Fn(&Counts) -> bool) -> Counts {
        let load = Load::start(server(answer), 1, Duration::from_secs(10), is_x);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !until(&load.counts()) {
            assert!(Instant::now() < deadline, "{:?}", load.counts());
            thread::yield_now();
        }
        load.stop()
    }

    #[test]
    fn good_answers_are_requests_and_nothing_else() {
        let counts = check(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", |counts| counts.requests > 100);
        assert_eq!((counts.failed, counts.wrong), (0, 0), "{:?}", counts.details);
    }

    #[test]
    fn failed_and_wrong_answers_are_told_apart_and_the_first_are_kept() {
        let wrong = check(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny", |counts| counts.wrong > 30);
        assert_eq!((wrong.failed, wrong.details.len()), (0, DETAILS_MAX));
        assert_eq!(wrong.details[0], "request 0: 0 is no x");
        let failed = check(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", |counts| counts.failed > 3);
        assert_eq!((failed.wrong, failed.details[0].as_str()), (0, "request 0: status 503"));
    }
}
