//! Steady, light and open load: each connection has its requests due at fixed times. One that is late makes the next ones late, and all
//! of them count as such.

use anyhow::{Result, bail};
use e2e::http_client::Connection;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two requests of one connection.
const PERIOD: Duration = Duration::from_millis(100);
/// A request that takes longer was held.
const HELD_AFTER: Duration = Duration::from_millis(100);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Requests per second.
pub fn rate(connections: usize) -> usize {
    connections * (1000 / PERIOD.as_millis() as usize)
}

/// Running load. Dropped without [`Load::stop`], its threads end after the request they are in.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Seen>>,
}

struct Shared {
    address: SocketAddr,
    target: &'static str,
    new: String,
    stop: AtomicBool,
    first_new: OnceLock<Instant>,
}

/// What came of the requests that were due.
#[derive(Debug, Default)]
pub struct Seen {
    pub requests: u64,
    /// Not answered: no connection, or one that was cut.
    pub failed: u64,
    /// Answered with another status than 200.
    pub refused: u64,
    /// Answered with 200, and late.
    pub held: u64,
    pub longest: Duration,
    pub last_error: Option<String>,
}

impl Load {
    /// Starts it, and looks for the first answer that is `new`.
    pub fn start(address: SocketAddr, target: &'static str, connections: usize, new: String) -> Load {
        let (stop, first_new) = (AtomicBool::new(false), OnceLock::new());
        let shared = Arc::new(Shared { address, target, new, stop, first_new });
        let started = Instant::now();
        let threads = (0..connections).map(|index| {
            let (shared, first_due) = (Arc::clone(&shared), started + PERIOD * index as u32 / connections as u32);
            thread::spawn(move || shared.ask_from(first_due))
        });
        Load { threads: threads.collect(), shared }
    }

    /// Returns when the first answer of the new version had come.
    pub fn first_new_answer(&self) -> Option<Instant> {
        self.shared.first_new.get().copied()
    }

    /// Lets each connection finish its request, and returns what came of all.
    pub fn stop(mut self) -> Result<Seen> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for thread in std::mem::take(&mut self.threads) {
            let Ok(seen) = thread.join() else { bail!("a connection's thread panicked") };
            all.requests += seen.requests;
            all.failed += seen.failed;
            all.refused += seen.refused;
            all.held += seen.held;
            all.longest = all.longest.max(seen.longest);
            all.last_error = all.last_error.or(seen.last_error);
        }
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn ask_from(&self, mut due: Instant) -> Seen {
        let (mut seen, mut open) = (Seen::default(), None);
        loop {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.stop.load(Ordering::Relaxed) {
                return seen;
            }
            seen.requests += 1;
            let asked = self.ask(&mut open);
            let latency = due.elapsed();
            seen.longest = seen.longest.max(latency);
            match asked {
                Ok(200) if latency > HELD_AFTER => seen.held += 1,
                Ok(200) => {}
                Ok(status) => {
                    seen.refused += 1;
                    seen.last_error = Some(format!("status {status}"));
                }
                Err(error) => {
                    seen.failed += 1;
                    seen.last_error = Some(error.to_string());
                }
            }
            due += PERIOD;
        }
    }

    /// Returns the status. The connection stays if it may.
    fn ask(&self, open: &mut Option<Connection>) -> io::Result<u16> {
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => Connection::open(self.address, ANSWER_WITHIN)?,
        };
        let response = connection.get(self.target)?;
        if response.status == 200 && response.body == self.new.as_bytes() {
            self.first_new.get_or_init(Instant::now);
        }
        *open = Some(connection).filter(|connection| !connection.is_over());
        Ok(response.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// Answers the requests of its first connection with these, and closes it.
    fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            drop(listener);
            let lines = BufReader::new(stream.try_clone().expect("a clone")).lines();
            let heads = lines.map_while(io::Result::ok).filter(String::is_empty);
            for (_, answer) in heads.zip(answers) {
                stream.write_all(answer.as_bytes()).expect("the client reads");
            }
        });
        address
    }

    #[test]
    fn what_is_refused_and_what_fails_is_counted_and_the_new_version_is_seen() {
        let answers = &[
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold",
            "HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\nnew",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew",
        ];
        let load = Load::start(server(answers), "/", 1, "new".to_owned());
        let deadline = Instant::now() + ANSWER_WITHIN;
        while load.first_new_answer().is_none() {
            assert!(Instant::now() < deadline, "the new version was not seen");
            thread::yield_now();
        }
        let seen = load.stop().expect("its threads");
        assert_eq!((seen.refused, seen.requests - seen.failed), (1, 3), "{seen:?}");
    }
}
