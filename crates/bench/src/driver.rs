//! The load where wrk is not installed: one thread, connections that are kept, one request at a time on each.
//!
//! It runs as a process of its own, pinned like wrk, and prints its figures as one line of JSON. It costs a little more
//! than wrk does, so requests per second are the client's limit more often; CPU time per request does not depend on it.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// LIMIT: bytes of a response; the work is small answers.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// LIMIT: a latency at or above it is counted as this much. In microseconds, one counter each.
const LATENCY_US_MAX: usize = 1_000_000;
/// An answer that takes longer is an error.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What a run of load came to, whoever made it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Driven {
    pub answers: u64,
    pub errors: u64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Drives the URL and prints [`Driven`].
pub fn drive(url: &str, connections: usize, seconds: u64) -> Result<()> {
    let (address, target) = split(url)?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let driven = runtime.block_on(async {
        let started = Instant::now();
        let until = started + Duration::from_secs(seconds);
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(connection(address, request.clone(), until));
        }
        let mut all = Tally::new();
        while let Some(tally) = tasks.join_next().await {
            all.add(&tally.context("a connection's task panicked")?);
        }
        Ok::<_, anyhow::Error>(all.driven(started.elapsed()))
    })?;
    println!("{}", serde_json::to_string(&driven)?);
    Ok(())
}

/// Reads `http://127.0.0.1:80/path`.
fn split(url: &str) -> Result<(SocketAddr, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url:?} does not begin with http://"))?;
    let (address, _) = rest.split_once('/').with_context(|| format!("{url:?} has no path"))?;
    Ok((address.parse()?, &rest[address.len()..]))
}

async fn connection(address: SocketAddr, request: String, until: Instant) -> Tally {
    let mut tally = Tally::new();
    while Instant::now() < until {
        if exchanges(address, request.as_bytes(), until, &mut tally).await.is_err() {
            tally.errors += 1;
            // So that a dead server is not hammered.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tally
}

/// Exchanges on one connection until the time is over or something is wrong.
async fn exchanges(address: SocketAddr, request: &[u8], until: Instant, tally: &mut Tally) -> Result<()> {
    let mut stream = tokio::time::timeout(ANSWER_WITHIN, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    while Instant::now() < until {
        let sent = Instant::now();
        stream.write_all(request).await?;
        buffer.clear();
        tokio::time::timeout(ANSWER_WITHIN, read_response(&mut stream, &mut buffer)).await??;
        tally.answer(sent.elapsed());
    }
    Ok(())
}

async fn read_response(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    loop {
        if let Some(len) = response_len(buffer)? {
            match buffer.len() {
                got if got == len => return Ok(()),
                got if got > len => bail!("more came than one response"),
                _ => {}
            }
        }
        if buffer.len() > RESPONSE_BYTES_MAX {
            bail!("the response is too long");
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!("closed before the end of a response");
        }
    }
}

/// Returns the length of the response that begins here, when its head is complete; it has to be a 200.
fn response_len(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("not a 200");
    }
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    let body_len = head.lines().find_map(value).context("no Content-Length")?;
    Ok(Some(end + 4 + body_len))
}

/// Counts, with a counter for each microsecond of latency.
struct Tally {
    answers: u64,
    errors: u64,
    latencies: Vec<u64>,
}

impl Tally {
    fn new() -> Tally {
        Tally { answers: 0, errors: 0, latencies: Vec::new() }
    }

    fn answer(&mut self, latency: Duration) {
        self.answers += 1;
        let us = (latency.as_micros() as usize).min(LATENCY_US_MAX);
        if self.latencies.len() <= us {
            self.latencies.resize(us + 1, 0);
        }
        self.latencies[us] += 1;
    }

    fn add(&mut self, other: &Tally) {
        self.answers += other.answers;
        self.errors += other.errors;
        if self.latencies.len() < other.latencies.len() {
            self.latencies.resize(other.latencies.len(), 0);
        }
        for (sum, count) in self.latencies.iter_mut().zip(&other.latencies) {
            *sum += count;
        }
    }

    fn driven(&self, elapsed: Duration) -> Driven {
        let seconds = elapsed.as_secs_f64();
        let (p50_us, p99_us) = (self.percentile(0.50), self.percentile(0.99));
        Driven { answers: self.answers, errors: self.errors, seconds, p50_us, p99_us }
    }

    fn percentile(&self, part: f64) -> f64 {
        let wanted = (self.answers as f64 * part).ceil() as u64;
        let mut seen = 0;
        let reached = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        self.latencies.iter().position(reached).unwrap_or(0) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_latencies() {
        let mut tally = Tally::new();
        (1..=100).for_each(|us| tally.answer(Duration::from_micros(us)));
        let driven = tally.driven(Duration::from_secs(1));
        assert_eq!((driven.answers, driven.p50_us, driven.p99_us), (100, 50.0, 99.0));
        assert_eq!(Tally::new().percentile(0.5), 0.0);
    }

    #[test]
    fn a_response_ends_where_its_length_says() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(response_len(head.as_bytes()).expect("good"), Some(head.len() + 3));
        assert_eq!(response_len(b"HTTP/1.1 200 OK\r\n").expect("not yet"), None);
        assert!(response_len(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").is_err());
    }

    #[test]
    fn a_url_is_an_address_and_a_target() {
        assert_eq!(split("http://127.0.0.1:80/a/b").expect("a url"), ("127.0.0.1:80".parse().expect("it"), "/a/b"));
        assert!(split("https://127.0.0.1/").is_err());
    }
}
