//! `mutate`: requests of HTTP/1 and frames of HTTP/2, as they should be, wrong in ways that must be refused, and spoilt anyhow, against the
//! real program. Each has its number, and with the same seed and number the same bytes.
//!
//! No answer comes from `/smuggled`, which stands in bodies and behind what must be refused, and nowhere else; what is right is answered, and
//! what must be refused is, and no more behind it; each connection ends in time; others are served meanwhile; memory stays flat; nothing
//! panics; and the stop is clean. What is not so is shown with the bytes that lead to it.
#![forbid(unsafe_code)]

mod answers;
mod case;
mod http1;
mod http2;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use e2e::http_client::Connection;
use e2e::many::connect_from;
use e2e::process::resident_kb;
use e2e::serval::{Home, Serval};
use fastrand::Rng;

use case::{Answers, CANARY, Case};

const BUILT_WITHIN: Duration = Duration::from_secs(120);
/// How long a connection may last: the server's times are all two seconds, and the machine may be busy.
const ENDED_WITHIN: Duration = Duration::from_secs(30);
const CLIENTS: usize = 6;
/// What is right is asked once in so many requests.
const WELL_EVERY: u64 = 1000;
/// Memory that may come when all has been seen once.
const GROWTH_KB_MAX: u64 = 16 << 10;
/// LIMIT: bytes that come back on one connection.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// After so many it ends.
const FAILURES_MAX: usize = 20;
/// LIMIT: of what failed, that is shown.
const SHOWN_BYTES_MAX: usize = 16 << 10;

/// Sends requests that are wrong in many ways, and looks that nothing comes of it.
#[derive(Parser)]
struct Arguments {
    /// Of all that is sent
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// The connection of this number alone, as it is named when it fails
    #[arg(long)]
    only: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(summary) => {
            println!("mutate: {summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mutate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String> {
    let home = home()?;
    let serval = Serval::start(&home)?;
    let (address, process) = (serval.address(), serval.program().id());
    let end = Instant::now() + BUILT_WITHIN;
    while Connection::open(address, BUILT_WITHIN)?.get("/x/hello")?.status != 200 {
        ensure!(Instant::now() < end, "/x is not there: {:#?}", serval.program().lines_from(0));
        thread::sleep(Duration::from_millis(50));
    }
    let began = Instant::now();
    let run = Run { arguments, address, process, next: AtomicU64::new(0), counts: Mutex::default() };
    match arguments.only {
        Some(number) => {
            let case = case_of(arguments.seed, number);
            println!("{}", shown(&case.pieces.concat()));
            run.one(number)?;
        }
        None => thread::scope(|threads| {
            for _ in 0..CLIENTS {
                threads.spawn(|| run.all());
            }
        }),
    }
    let took = began.elapsed().as_secs_f64();
    let counts = run.counts.into_inner().expect("nobody has panicked");
    let failures = &counts.failures;
    ensure!(
        failures.is_empty(),
        "{} of {} connections have failed\n{}",
        failures.len(),
        counts.connections,
        failures.join("\n")
    );
    let (early, late) = (counts.early_kb.unwrap_or(resident_kb(process)?), resident_kb(process)?);
    let lines = serval.stop_and_read()?;
    let is_wrong = |line: &&String| ["panic", "ERROR", "please report it"].iter().any(|word| line.contains(word));
    let wrong: Vec<&String> = lines.iter().filter(is_wrong).take(5).collect();
    ensure!(wrong.is_empty(), "the log has {wrong:#?}");
    let log = std::fs::read_to_string(home.path("var/log/localhost.access.log"))?;
    let reached = log.lines().find(|line| line.starts_with("/smuggled "));
    ensure!(reached.is_none(), "the access log has {reached:?}");
    let grown = late.saturating_sub(early);
    ensure!(grown <= GROWTH_KB_MAX, "memory has grown from {early} to {late} kB, by more than {GROWTH_KB_MAX} kB");
    Ok(format!(
        "seed {}: {} requests on {} connections in {took:.0} s ({} right, {} refused, {} anyhow): none was smuggled, each ended in time; \
         memory {early} -> {late} kB",
        arguments.seed, counts.requests, counts.connections, counts.good, counts.refused, counts.anyhow
    ))
}

fn home() -> Result<Home> {
    let home = Home::new()?;
    home.write("webapps/x/WEB-INF/src/attack.c", include_str!("../connections/attack.c"))?;
    home.write("webapps/ROOT/page.txt", "a page")?;
    home.write("webapps/ROOT/smuggled", CANARY)?;
    let times = ["head_timeout", "keep_alive_timeout", "body_timeout", "write_timeout"];
    let times = times.map(|key| format!("{key} = \"2s\"\n")).concat();
    home.write(
        "conf/server.toml",
        format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{times}[build]\nsources = true\n[access_log]\npattern = \"%U %m %s\"\n"),
    )?;
    Ok(home)
}

#[derive(Default)]
struct Counts {
    requests: u64,
    connections: u64,
    good: u64,
    refused: u64,
    anyhow: u64,
    failures: Vec<String>,
    /// Memory when a fifth was sent.
    early_kb: Option<u64>,
}

struct Run<'a> {
    arguments: &'a Arguments,
    address: SocketAddr,
    process: u32,
    next: AtomicU64,
    counts: Mutex<Counts>,
}

fn case_of(seed: u64, number: u64) -> Case {
    let mut rng = Rng::with_seed(seed.rotate_left(32) ^ number);
    if rng.u8(0..5) == 0 { http2::case(&mut rng) } else { http1::case(&mut rng) }
}

impl Run<'_> {
    /// Sends one after the other until enough was sent, or has failed.
    fn all(&self) {
        let is_over =
            |counts: &Counts| counts.requests >= self.arguments.requests || counts.failures.len() >= FAILURES_MAX;
        while !is_over(&self.counts.lock().expect("nobody has panicked")) {
            if let Err(error) = self.one(self.next.fetch_add(1, Ordering::Relaxed)) {
                let mut counts = self.counts.lock().expect("nobody has panicked");
                counts.failures.push(format!("{error:#}"));
            }
        }
    }

    fn one(&self, number: u64) -> Result<()> {
        let case = case_of(self.arguments.seed, number);
        let came = self
            .send(number as usize, &case)
            .and_then(|came| check(&case, &came).with_context(|| format!("what came back: {}", shown(&came))));
        came.with_context(|| {
            let seed = self.arguments.seed;
            format!("--seed {seed} --only {number}, {:?}: {}", case.answers, shown(&case.pieces.concat()))
        })?;
        let mut counts = self.counts.lock().expect("nobody has panicked");
        let before = counts.requests;
        counts.requests += case.requests;
        counts.connections += 1;
        *match case.answers {
            Answers::Good(_) | Answers::GoodFrames(_) => &mut counts.good,
            Answers::Refused(_) | Answers::CutInBody(_) => &mut counts.refused,
            Answers::Any => &mut counts.anyhow,
        } += 1;
        if counts.early_kb.is_none() && counts.requests > self.arguments.requests / 5 {
            counts.early_kb = Some(resident_kb(self.process)?);
        }
        let is_due = before / WELL_EVERY != counts.requests / WELL_EVERY;
        drop(counts);
        if is_due {
            self.is_well().with_context(|| format!("a request that is right, after connection {number}"))?;
        }
        Ok(())
    }

    /// Sends it, and returns all that comes back until the server ends the connection.
    fn send(&self, number: usize, case: &Case) -> Result<Vec<u8>> {
        let deadline = Instant::now() + ENDED_WITHIN;
        let mut stream = connect_from(number, self.address, None)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ENDED_WITHIN))?;
        let mut is_gone = false;
        for piece in &case.pieces {
            // Refused already, and closed.
            if stream.write_all(piece).is_err() {
                is_gone = true;
                break;
            }
            thread::yield_now();
        }
        // Over HTTP/2, who says nothing more is not answered any more.
        let waits_for = if let Answers::GoodFrames(wanted) = case.answers { wanted } else { 0 };
        let (mut came, mut has_finished) = (Vec::new(), is_gone || !case.finishes);
        let mut bytes = [0; 16 << 10];
        loop {
            if !has_finished && http2::good_answers(&came) >= waits_for {
                has_finished = true;
                let _ = stream.shutdown(Shutdown::Write);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "it has not ended within {ENDED_WITHIN:?}; {} bytes came", came.len());
            stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match stream.read(&mut bytes) {
                Ok(0) => return Ok(came),
                Ok(len) => came.extend_from_slice(&bytes[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // Something was on its way that nobody has read.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(came),
                Err(error) => return Err(error.into()),
            }
            ensure!(came.len() <= ANSWER_BYTES_MAX, "more than {ANSWER_BYTES_MAX} bytes came");
        }
    }

    fn is_well(&self) -> Result<()> {
        let mut connection = Connection::open(self.address, ENDED_WITHIN)?;
        for (target, body) in [("/x/hello", "hello"), ("/page.txt", "a page")] {
            let answer = connection.get(target)?;
            ensure!(answer.status == 200 && answer.body == body.as_bytes(), "{target}: {}", answer.status);
        }
        Ok(())
    }
}

/// What came back is as it should be.
fn check(case: &Case, came: &[u8]) -> Result<()> {
    ensure!(!answers::contains(came, CANARY.as_bytes()), "it was smuggled");
    match case.answers {
        Answers::Any => return Ok(()),
        Answers::GoodFrames(wanted) => {
            let good = http2::good_answers(came);
            ensure!(good == wanted, "{good} of {wanted} requests were answered 200");
            return Ok(());
        }
        _ => {}
    }
    let statuses = answers::statuses(came).context("no answers one behind the other")?;
    let good = statuses.iter().take_while(|&&status| status == 200).count();
    let rest = &statuses[good..];
    let is_right = match case.answers {
        Answers::Good(wanted) => good == wanted && rest.is_empty(),
        Answers::Refused(before) => good == before && matches!(rest, [400..=599]),
        Answers::CutInBody(before) => {
            (good == before && matches!(rest, [] | [400..=599])) || (good == before + 1 && rest.is_empty())
        }
        Answers::Any | Answers::GoodFrames(_) => true,
    };
    if !is_right {
        bail!("it was answered {statuses:?}");
    }
    Ok(())
}

fn shown(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string();
    if bytes.len() > SHOWN_BYTES_MAX { format!("{shown}... ({} bytes)", bytes.len()) } else { shown }
}
