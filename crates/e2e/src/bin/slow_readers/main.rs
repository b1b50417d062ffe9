//! `slow-readers`: a thousand clients that read a response of 10 MiB at about 1 KiB/s, while another client is served, and what that
//! costs: memory for each of them, and threads. Fails when an answer is wrong, or a bound is passed.
//!
//! Four times: from a servlet that waits while it writes, which needs a thread for each reader (`workers_max` is raised); from one that
//! is polled, which needs none; from a file; and from the one that waits with the `workers_max` that is shipped, where the others wait in
//! the queue, are answered 503 after `queue_timeout`, and another context is served all the while.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use e2e::http_client::Connection;
use e2e::many::{connect_from, raise_file_limit};
use e2e::process::resident_kb;
use e2e::serval::{Home, Serval};

const BODY_BYTES: usize = 10 << 20;
/// How much each of them reads, and how often: 1 KiB/s.
const SIP_BYTES: usize = 102;
const SIP_EVERY: Duration = Duration::from_millis(100);
/// What a client's kernel takes before its program asks for it.
const RECEIVE_BUFFER_BYTES: usize = 4096;
const BUILT_WITHIN: Duration = Duration::from_secs(120);
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// As conf/server.toml says.
const WORKERS_MAX: usize = 64;
/// Shorter than shipped, so that this ends.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// Measures what clients cost that read slowly.
#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 1000)]
    readers: usize,
    /// How long they read, each time.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

struct Way {
    name: &'static str,
    path: &'static str,
    /// Memory for each reader, at the most.
    kb_max: u64,
    /// Threads beside one for each reader, if it needs those.
    thread_for_each: bool,
}

const WAYS: [Way; 3] = [
    Way { name: "a servlet that waits", path: "/x/blocking", kb_max: 400, thread_for_each: true },
    Way { name: "a servlet that is polled", path: "/x/polled", kb_max: 300, thread_for_each: false },
    Way { name: "a file", path: "/x/large.bin", kb_max: 300, thread_for_each: false },
];
/// The I/O threads, and those that come and go.
const OTHER_THREADS_MAX: usize = 64;

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slow-readers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    raise_file_limit(arguments.readers as u64 + 100)?;
    let home = Home::new()?;
    let pattern: Vec<u8> = (0..BODY_BYTES).map(|at| (at % 251) as u8).collect();
    for webapp in ["x", "y"] {
        home.write(&format!("webapps/{webapp}/WEB-INF/src/writers.c"), include_str!("writers.c"))?;
        home.write(&format!("webapps/{webapp}/large.bin"), &pattern)?;
    }
    home.configure(&format!(
        "[build]\nsources = true\n[defaults.context]\nqueue_timeout = \"{}s\"\n[[host]]\n[[host.context]]\n\
         path = \"/x\"\nwebapp = \"x\"\nworkers_max = {}",
        QUEUE_TIMEOUT.as_secs(),
        arguments.readers + 10
    ))?;
    for way in &WAYS {
        read_slowly(&home, arguments, way).with_context(|| format!("from {}", way.name))?;
    }
    queue(&home, arguments).context("with the workers_max that is shipped")
}

/// A thousand readers of one kind.
fn read_slowly(home: &Home, arguments: &Arguments, way: &Way) -> Result<()> {
    let serval = start(home)?;
    let program = serval.program().id();
    let (before, mut peak, mut threads) = (resident_kb(program)?, 0, 0);
    let mut readers = Reader::open_all(&serval, arguments.readers, way.path)?;
    let others = served_beside(serval.address(), "/x/hello", || {
        let (end, late) = (Instant::now() + Duration::from_secs(arguments.seconds), Instant::now() + ANSWERED_WITHIN);
        // A thousand threads may take longer to begin, beside what else the machine does.
        while Instant::now() < end || (Instant::now() < late && readers.iter().any(|reader| reader.read == 0)) {
            sip(&mut readers)?;
            peak = peak.max(resident_kb(program)?);
            threads = threads.max(thread_count(program)?);
        }
        Ok(())
    })?;
    let wrong = readers.iter().filter(|reader| reader.status != Some(200)).count();
    let least = readers.iter().map(|reader| reader.read).min().unwrap_or_default();
    drop(readers);
    let after = settled_kb(program, before)?;
    let each = peak.saturating_sub(before) / arguments.readers as u64;
    println!(
        "{} readers of {}: rss {before} -> {peak} -> {after} kB, {each} kB each, {threads} threads; each has read {least} bytes or more; \
         beside them {others}",
        arguments.readers, way.name
    );
    ensure!(wrong == 0, "{wrong} were not answered 200");
    ensure!(least > 0, "one of them has got nothing");
    ensure!(each <= way.kb_max, "a reader may cost {} kB", way.kb_max);
    let threads_max = OTHER_THREADS_MAX + if way.thread_for_each { arguments.readers } else { 0 };
    ensure!(threads <= threads_max, "there may be {threads_max} threads");
    ensure!(serval.stop()?.success(), "the server did not stop as it should");
    Ok(())
}

/// Those that find no thread wait, and are told.
fn queue(home: &Home, arguments: &Arguments) -> Result<()> {
    let serval = start(home)?;
    let mut readers = Reader::open_all(&serval, arguments.readers, "/y/blocking")?;
    let others = served_beside(serval.address(), "/x/hello", || {
        let end = Instant::now() + QUEUE_TIMEOUT + ANSWERED_WITHIN;
        while readers.iter().any(|reader| reader.status.is_none()) {
            ensure!(Instant::now() < end, "not all of them are answered");
            sip(&mut readers)?;
        }
        Ok(())
    })?;
    let count = |status| readers.iter().filter(|reader| reader.status == Some(status)).count();
    let (served, told) = (count(200), count(503));
    println!(
        "{} readers of a servlet that waits, workers_max = {WORKERS_MAX}: {served} are served, {told} get 503; beside them {others}",
        arguments.readers
    );
    let served_max = WORKERS_MAX.min(arguments.readers);
    ensure!(served == served_max && served + told == arguments.readers, "{served_max} should be served");
    let says_when = |reader: &Reader| String::from_utf8_lossy(&reader.head).contains("retry-after: ");
    ensure!(readers.iter().all(|reader| reader.status == Some(200) || says_when(reader)), "a 503 without Retry-After");
    drop(readers);
    ensure!(serval.stop()?.success(), "the server did not stop as it should");
    Ok(())
}

fn start(home: &Home) -> Result<Serval> {
    let serval = Serval::start(home)?;
    for webapp in ["x", "y"] {
        let end = Instant::now() + BUILT_WITHIN;
        while Connection::open(serval.address(), ANSWERED_WITHIN)?.get(&format!("/{webapp}/hello"))?.status != 200 {
            ensure!(Instant::now() < end, "/{webapp} is not there: {:#?}", serval.program().lines_from(0));
            thread::sleep(SIP_EVERY);
        }
    }
    Ok(serval)
}

/// Does it while another client asks all the time, and says how that one is served.
fn served_beside(address: SocketAddr, path: &str, work: impl FnOnce() -> Result<()>) -> Result<String> {
    let (over, count, slowest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|threads| {
        let client = threads.spawn(|| {
            let mut connection = Connection::open(address, ANSWERED_WITHIN)?;
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answer = connection.get(path)?;
                if answer.status != 200 || answer.body != b"hello" {
                    bail!("{path} was answered {} {:?}", answer.status, String::from_utf8_lossy(&answer.body));
                }
                count.fetch_add(1, Ordering::Relaxed);
                slowest.fetch_max(asked.elapsed().as_millis() as u64, Ordering::Relaxed);
            }
            Ok(())
        });
        let worked = work();
        over.store(true, Ordering::Relaxed);
        client.join().expect("it does not panic").context("the client beside them")?;
        worked
    })?;
    Ok(format!("{} answers, the slowest after {} ms", count.into_inner(), slowest.into_inner()))
}

/// A client that reads little.
struct Reader {
    stream: TcpStream,
    head: Vec<u8>,
    /// Once the head is there.
    status: Option<u16>,
    /// Bytes of the body.
    read: usize,
}

impl Reader {
    fn open_all(serval: &Serval, count: usize, path: &str) -> Result<Vec<Reader>> {
        (0..count).map(|number| Reader::open(number, serval.address(), path)).collect()
    }

    fn open(number: usize, address: SocketAddr, path: &str) -> Result<Reader> {
        let mut stream = connect_from(number, address, Some(RECEIVE_BUFFER_BYTES))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(Reader { stream, head: Vec::new(), status: None, read: 0 })
    }

    /// Reads a little, and looks whether it is right.
    fn sip(&mut self) -> Result<()> {
        let mut bytes = [0; SIP_BYTES];
        let len = match self.stream.read(&mut bytes) {
            Ok(0) if self.status != Some(503) => bail!("a response was cut after {} bytes", self.read),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for &byte in &bytes[..len] {
            if self.status.is_none() {
                self.head.push(byte);
                if self.head.ends_with(b"\r\n\r\n") {
                    let head = String::from_utf8_lossy(&self.head);
                    self.status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
                    ensure!(self.status.is_some(), "no status: {head}");
                }
                continue;
            }
            let is_right = self.status != Some(200) || byte == (self.read % 251) as u8;
            ensure!(is_right, "byte {} of a response is wrong", self.read);
            self.read += 1;
        }
        Ok(())
    }
}

/// Each of them reads a little, for as long as that takes or a tenth of a second.
fn sip(readers: &mut [Reader]) -> Result<()> {
    let next = Instant::now() + SIP_EVERY;
    readers.iter_mut().try_for_each(Reader::sip)?;
    thread::sleep(next.saturating_duration_since(Instant::now()));
    Ok(())
}

/// When they are gone: what is left of the memory, once it does not become less.
fn settled_kb(program: u32, before: u64) -> Result<u64> {
    let end = Instant::now() + Duration::from_secs(3);
    let mut least = resident_kb(program)?;
    while Instant::now() < end && least > before {
        thread::sleep(SIP_EVERY);
        least = least.min(resident_kb(program)?);
    }
    Ok(least)
}

fn thread_count(program: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{program}/task"))?.count())
}
