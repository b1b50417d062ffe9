//! Clients: those that do nothing, those that are slow, and those that ask as one should.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::http_client::Connection;
use e2e::many::connect_from;

const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// What the kernel of a slow reader takes before its program asks for it.
const RECEIVE_BUFFER_BYTES: usize = 4096;
/// Of those who ask as one should.
pub const CONNECTIONS: usize = 4;
/// How often a slow client sends a byte, or reads a few.
const SIP_EVERY: Duration = Duration::from_secs(1);
const SIP_BYTES: usize = 16;
/// So many of them do at once, and then a pause: all of them in `SIP_EVERY`.
const SIPS: usize = 20;
/// How many open one after the other before one waits to be answered: the listener accepts as fast as they come.
const OPENED_AT_ONCE: usize = 32;

/// Says whether the server has ended a connection, and how it was answered before.
fn look(stream: &mut TcpStream, most: usize, head: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 1024];
    match stream.read(&mut bytes[..most]) {
        Ok(0) => true,
        Ok(len) => {
            if head.len() < 12 {
                head.extend_from_slice(&bytes[..len]);
            }
            false
        }
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Connections that lie idle.
#[derive(Default)]
pub struct Idle(Vec<TcpStream>);

impl Idle {
    /// Opens so many on which nothing is sent.
    pub fn open_silent(&mut self, address: SocketAddr, count: usize, target: &str) -> Result<()> {
        let mut pace = Connection::open(address, ANSWERED_WITHIN)?;
        for number in 0..count {
            let stream = connect_from(number, address, None)?;
            stream.set_nonblocking(true)?;
            self.0.push(stream);
            if number.is_multiple_of(OPENED_AT_ONCE) {
                pace.get(target)?;
            }
        }
        pace.get(target)?;
        Ok(())
    }

    /// Opens so many that have had an answer and are kept alive.
    pub fn open_kept(&mut self, address: SocketAddr, count: usize, target: &str) -> Result<()> {
        for number in 0..count {
            let mut stream = connect_from(number, address, None)?;
            stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
            stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
            let mut bytes = [0; 1024];
            let len = stream.read(&mut bytes)?;
            ensure!(bytes[..len].starts_with(b"HTTP/1.1 200 "), "{target} was not answered on connection {number}");
            stream.set_nonblocking(true)?;
            self.0.push(stream);
        }
        Ok(())
    }

    /// Takes out those that the server has closed, and returns how many are left.
    pub fn left(&mut self) -> usize {
        self.0.retain_mut(|stream| !look(stream, 1024, &mut Vec::new()));
        self.0.len()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Sends a head a byte at a time.
    Head,
    /// Sends a body so.
    Body,
    /// Reads a long answer so.
    Read,
}

pub const WAYS: [Way; 3] = [Way::Head, Way::Body, Way::Read];

pub struct Slow {
    stream: TcpStream,
    pub way: Way,
    head: Vec<u8>,
    pub is_over: bool,
}

impl Slow {
    /// A third each.
    pub fn open_all(address: SocketAddr, count: usize) -> Result<Vec<Slow>> {
        (0..count).map(|number| Slow::open(address, number, WAYS[number % WAYS.len()])).collect()
    }

    fn open(address: SocketAddr, number: usize, way: Way) -> Result<Slow> {
        let mut stream = connect_from(number, address, (way == Way::Read).then_some(RECEIVE_BUFFER_BYTES))?;
        stream.write_all(match way {
            Way::Head => b"GET /x/hello HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            Way::Body => b"POST /y/take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
            Way::Read => b"GET /x/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n",
        })?;
        stream.set_nonblocking(true)?;
        // As in `Idle`: those who wait to be accepted are few.
        if number.is_multiple_of(OPENED_AT_ONCE) {
            Connection::open(address, ANSWERED_WITHIN)?.get("/x/hello")?;
        }
        Ok(Slow { stream, way, head: Vec::new(), is_over: false })
    }

    fn sip(&mut self) {
        if self.is_over {
            return;
        }
        let sent = match self.way {
            Way::Read => Ok(0),
            Way::Head | Way::Body => self.stream.write(b"x"),
        };
        let is_gone = sent.is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
        let most = if self.way == Way::Read { SIP_BYTES } else { 1024 };
        self.is_over = look(&mut self.stream, most, &mut self.head) || is_gone;
    }

    /// The status that it was answered with.
    pub fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.head.get(9..12)?).ok()?.parse().ok()
    }
}

/// Each of them sends a byte or reads a few, in a second.
pub fn sip(all: &mut [Slow]) {
    let size = all.len().div_ceil(SIPS).max(1);
    for some in all.chunks_mut(size) {
        let next = Instant::now() + SIP_EVERY / SIPS as u32;
        some.iter_mut().for_each(Slow::sip);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// How requests were answered that are as they should be.
#[derive(Default)]
pub struct Traffic {
    pub failures: Vec<String>,
    times: Vec<Duration>,
}

impl Traffic {
    /// Asks until `is_over` says so, on some connections, on each of them every five milliseconds.
    pub fn of(address: SocketAddr, is_over: impl Fn() -> bool + Sync) -> Traffic {
        const EVERY: Duration = Duration::from_millis(5);
        const WANTED: [(&str, &[u8]); 2] = [("/x/hello", b"hello"), ("/x/page.txt", &[b'p'; 1024])];
        let ask = || {
            let (mut seen, mut connection, mut number) = (Traffic::default(), None, 0);
            let mut next = Instant::now();
            while !is_over() {
                let (target, body) = WANTED[number % WANTED.len()];
                let asked = Instant::now();
                let answer = (|| {
                    let connection = match &mut connection {
                        Some(connection) => connection,
                        none => none.insert(Connection::open(address, ANSWERED_WITHIN)?),
                    };
                    connection.get(target)
                })();
                match answer {
                    Ok(answer) if answer.status == 200 && answer.body == body => seen.times.push(asked.elapsed()),
                    Ok(answer) => seen.failures.push(format!("{target}: {}", answer.status)),
                    Err(error) => {
                        seen.failures.push(format!("{target}: {error}"));
                        connection = None;
                    }
                }
                number += 1;
                next = (next + EVERY).max(Instant::now());
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            seen
        };
        let mut all = Traffic::default();
        thread::scope(|threads| {
            let askers: Vec<_> = (0..CONNECTIONS).map(|_| threads.spawn(ask)).collect();
            for asker in askers {
                let seen = asker.join().expect("it does not panic");
                all.failures.extend(seen.failures);
                all.times.extend(seen.times);
            }
        });
        all.times.sort_unstable();
        all
    }

    pub fn count(&self) -> usize {
        self.times.len()
    }

    fn percentile(&self, percent: usize) -> Duration {
        let at = (self.times.len() * percent).div_ceil(100).saturating_sub(1);
        self.times.get(at).copied().unwrap_or_default()
    }

    pub fn shown(&self) -> String {
        let ms = |percent| format!("{:.2} ms", self.percentile(percent).as_secs_f64() * 1000.0);
        format!("{} requests, p50 {}, p99 {}", self.count(), ms(50), ms(99))
    }

    /// None has failed, and there were some.
    pub fn check(&self) -> Result<()> {
        let failures = &self.failures;
        ensure!(
            failures.is_empty(),
            "{} requests have failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
        ensure!(self.count() > 0, "no request was answered");
        Ok(())
    }
}
