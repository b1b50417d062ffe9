//! What is measured, and how.
//!
//! - All servers run all the time, each on the server's core, the load on another; rounds are interleaved over them, and
//!   the order turns by one each round.
//! - CPU time per request is the server's CPU clock over a run, divided by the answers. It is by far the steadiest
//!   figure; requests per second are the client's limit as much as the server's.
//! - A ratio is made of two figures of the same round; reported are the median of the rounds, and their spread.
//! - CPU used by neither server nor client is watched. A run with more than a little of it is repeated.
//! - Before anything each server is asked once, and a wrong answer ends it; so does an error during a run.

use crate::client::Client;
use crate::driver::Driven;
use crate::peers::{self, HYPER, Server, Subject};
use crate::pin::Pin;
use crate::report::{Report, Result as Figures, Run};
use crate::{Arguments, Peer, Work};
use anyhow::{Result, bail};
use e2e::process;
use e2e::serval::Home;
use std::fs;
use std::time::{Duration, Instant};

/// Starts of each server, for the start-up time.
const STARTS: usize = 5;
/// Not counted: caches, and Serval's learning where to run a servlet.
const WARM_UP_SECONDS: u64 = 1;
/// Cores used by others, from which on a run is repeated, and how often at most.
const FOREIGN_CORES_MAX: f64 = 0.12;
const REPEATS_MAX: usize = 2;

/// Where there is no Serval to take the headers from.
const HEADER: &str = "content-type: text/plain";

/// A server and how it is started; what it is asked for.
struct Contender {
    server: Server,
    start_ups_ms: Vec<f64>,
    subjects: &'static [Subject],
}

/// Measures Serval and the peers. The peers come first: the first result is what others are compared with.
pub fn all(arguments: &Arguments) -> Result<Report> {
    let work = arguments.work;
    let pin = Pin::find();
    let client = Client::new(pin.clone(), arguments.connections, arguments.own_driver);
    let mut headers = vec![HEADER.to_owned()];
    let mut contenders = Vec::new();
    let home = if arguments.without_serval {
        None
    } else {
        println!("building serval, and letting it build its examples ...");
        let home = peers::build_serval_home(work)?;
        headers = headers_of_serval(&pin, work, &home)?;
        Some(home)
    };
    println!("starting each server {STARTS} times ...");
    if arguments.peers().contains(&Peer::Hyper) {
        contenders.push(contender(work, HYPER, || peers::start_hyper(&pin, work, &headers))?);
    }
    if let Some(home) = &home {
        contenders.push(contender(work, work.subjects(), || peers::start_serval(&pin, home))?);
    }
    let results = measure(&contenders, &client, arguments)?;
    for contender in contenders {
        contender.server.stop()?;
    }
    Ok(Report {
        client: client.name().to_owned(),
        pinned: pin.is_pinned(),
        connections: arguments.connections,
        seconds: arguments.seconds,
        results,
    })
}

fn measure(contenders: &[Contender], client: &Client, arguments: &Arguments) -> Result<Vec<Figures>> {
    let mut results = Vec::new();
    let mut asked = Vec::new();
    for contender in contenders {
        let idle_memory_kb = process::resident_kb(contender.server.process().id())?;
        for subject in contender.subjects {
            peers::check(contender.server.address, arguments.work, subject)?;
            let (name, start_ups_ms) = (subject.name.to_owned(), contender.start_ups_ms.clone());
            asked.push((&contender.server, subject));
            results.push(Figures { name, idle_memory_kb, start_ups_ms, runs: Vec::new() });
        }
    }
    for (server, subject) in &asked {
        client.drive(&url(server, subject), WARM_UP_SECONDS)?;
    }
    let rounds = arguments.rounds();
    for round in 0..rounds {
        println!("round {} of {} ...", round + 1, rounds);
        for turn in 0..asked.len() {
            let index = (round + turn) % asked.len();
            let (server, subject) = asked[index];
            results[index].runs.push(quiet_run(client, server, subject, arguments.seconds)?);
        }
    }
    Ok(results)
}

/// The peer sends the same bytes.
fn headers_of_serval(pin: &Pin, work: Work, home: &Home) -> Result<Vec<String>> {
    let serval = peers::start_serval(pin, home)?;
    let headers = peers::check(serval.address, work, &work.subjects()[0])?;
    serval.stop()?;
    Ok(headers)
}

/// Starts it a few times for the start-up times, and leaves the last one running.
fn contender(work: Work, subjects: &'static [Subject], start: impl Fn() -> Result<Server>) -> Result<Contender> {
    let mut start_ups_ms = Vec::new();
    loop {
        let server = start()?;
        start_ups_ms.push(peers::time_to_first_answer(&server, work, &subjects[0])?.as_secs_f64() * 1e3);
        if start_ups_ms.len() == STARTS {
            return Ok(Contender { server, start_ups_ms, subjects });
        }
        server.stop()?;
    }
}

/// Runs the load, again if others were using the machine; the quietest run counts.
fn quiet_run(client: &Client, server: &Server, subject: &Subject, seconds: u64) -> Result<Run> {
    let mut best: Option<Run> = None;
    for _ in 0..=REPEATS_MAX {
        let run = run(client, server, subject, seconds)?;
        if best.as_ref().is_none_or(|best| run.foreign_cores < best.foreign_cores) {
            best = Some(run);
        }
        if best.as_ref().is_some_and(|best| best.foreign_cores <= FOREIGN_CORES_MAX) {
            break;
        }
    }
    Ok(best.expect("at least one run was made"))
}

fn run(client: &Client, server: &Server, subject: &Subject, seconds: u64) -> Result<Run> {
    let pid = server.process().id();
    let started = Instant::now();
    let (server_before, machine_before) = (process::cpu_time(pid)?, machine_cpu_time()?);
    let (driven, client_time) = client.drive(&url(server, subject), seconds)?;
    let server_time = process::cpu_time(pid)?.saturating_sub(server_before);
    let machine_time = machine_cpu_time()?.saturating_sub(machine_before);
    let elapsed = started.elapsed().as_secs_f64();
    let Driven { answers, errors, seconds, p50_us, p99_us } = driven;
    if errors > 0 || answers == 0 {
        bail!("{}: {errors} errors beside {answers} answers, so the figures say nothing", subject.name);
    }
    let foreign_time = machine_time.saturating_sub(server_time + client_time);
    Ok(Run {
        cpu_us_per_request: server_time.as_secs_f64() * 1e6 / answers as f64,
        requests_per_second: answers as f64 / seconds,
        p50_us,
        p99_us,
        answers,
        foreign_cores: foreign_time.as_secs_f64() / elapsed,
    })
}

fn url(server: &Server, subject: &Subject) -> String {
    format!("http://{}{}", server.address, subject.target)
}

/// Returns the CPU time that the whole machine has used: user, nice, system, irq and softirq.
pub fn machine_cpu_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, irq, soft_irq, ..] = ticks[..] else {
        bail!("/proc/stat begins with {first:?}, which are no CPU times");
    };
    Ok(process::ticks_to_time(user + nice + system + irq + soft_irq))
}
