//! How long a webapp takes to answer with a new version after the last write of its files, and what becomes of the requests that
//! come meanwhile.
//!
//! - All servers run all the time, on all cores; rounds are interleaved over the ways of replacing, and the order turns by one each
//!   round. The first round of each is not counted: it warms up.
//! - One run: half a second of load, the change, the first answer of the new version, and a second more. The load is open: each request
//!   has a time at which it is due, and its latency counts from then, whether those before it were answered or not.
//! - What a library and a class answer is the same text with ten digits, which are overwritten in what was compiled once.
//! - Tomcat looks for changes at intervals; the changes are spread over the interval.
//! - The same load with nothing replaced tells what of it all is the machine.

pub mod report;

mod load;

mod serval;

mod tomcat;

use crate::measure::machine_cpu_time;
use crate::{Arguments, Peer};
use anyhow::{Context, Result, bail};
use e2e::http_client::Connection;
use e2e::process::{self, Program};
use load::{Load, Seen};
use report::{Report, Result as Figures, Run};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(1);
/// With nothing replaced.
const CONTROL: Duration = Duration::from_secs(2);
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// What every webapp answers first; what it was built with.
const STAMP: &str = "version 0000000000";

/// A way of replacing a webapp on a running server.
struct Way<'s> {
    name: &'static str,
    program: &'s Program,
    address: SocketAddr,
    target: &'static str,
    /// How often the server looks for changes, if it is not told of them.
    scan: Duration,
    change: Change<'s>,
}

/// Puts that version in the place of the one before, and returns when the last byte was written. `None`: nothing is changed.
type Change<'s> = Option<Box<dyn Fn(u64) -> Result<Instant> + 's>>;

/// Measures Serval and those peers that are installed. Serval comes first: it is what others are compared with.
pub fn all(arguments: &Arguments) -> Result<Report> {
    let serval = if arguments.without_serval {
        None
    } else {
        println!("building serval ...");
        Some(serval::Server::start()?)
    };
    let mut tomcats = Vec::new();
    if arguments.peers().contains(&Peer::Tomcat) {
        match tomcat::Installed::find() {
            Ok(installed) => {
                let classes = installed.compile()?;
                for scan in tomcat::SCANS {
                    println!("starting tomcat, which looks for changes every {scan:?} ...");
                    tomcats.push(tomcat::Server::start(&installed, &classes, scan)?);
                }
            }
            Err(missing) => println!("tomcat is left out: {missing}"),
        }
    }
    let ways: Vec<Way> =
        serval.iter().flat_map(serval::Server::ways).chain(tomcats.iter().flat_map(tomcat::Server::ways)).collect();
    if ways.is_empty() {
        bail!("there is nothing to measure");
    }
    let results = measure(&ways, arguments)?;
    drop(ways);
    for tomcat in tomcats {
        tomcat.stop()?;
    }
    if let Some(serval) = serval {
        serval.stop()?;
    }
    Ok(Report { connections: arguments.connections, requests_per_second: load::rate(arguments.connections), results })
}

fn measure(ways: &[Way], arguments: &Arguments) -> Result<Vec<Figures>> {
    let figures = |way: &Way| Figures { name: way.name.to_owned(), runs: Vec::new() };
    let mut results: Vec<Figures> = ways.iter().map(figures).collect();
    let rounds = arguments.rounds();
    for round in 0..=rounds {
        match round {
            0 => println!("warming up ..."),
            _ => println!("round {round} of {rounds} ..."),
        }
        for turn in 0..ways.len() {
            let index = (round + turn) % ways.len();
            let way = &ways[index];
            thread::sleep(way.scan * round as u32 / rounds as u32);
            let run = run(way, round as u64 + 1, arguments.connections).with_context(|| way.name)?;
            if round > 0 {
                results[index].runs.push(run);
            }
        }
    }
    Ok(results)
}

fn run(way: &Way, version: u64, connections: usize) -> Result<Run> {
    let pid = way.program.id();
    let used = || Ok::<_, anyhow::Error>(process::cpu_time(pid)? + process::cpu_time(std::process::id())?);
    let (started, used_before, machine_before) = (Instant::now(), used()?, machine_cpu_time()?);
    let load = Load::start(way.address, way.target, connections, text_of(version));
    thread::sleep(BEFORE);
    let new_answer = match &way.change {
        None => {
            thread::sleep(CONTROL);
            None
        }
        Some(change) => {
            let written = change(version)?;
            let first = first_new_answer(&load, written)?;
            thread::sleep(AFTER);
            Some(first.saturating_duration_since(written))
        }
    };
    let Seen { requests, failed, refused, held, longest, last_error } = load.stop()?;
    let foreign_time = (machine_cpu_time()? - machine_before).saturating_sub(used()? - used_before);
    Ok(Run {
        new_answer_ms: new_answer.map(|time| time.as_secs_f64() * 1e3),
        requests,
        failed,
        refused,
        held,
        longest_ms: longest.as_secs_f64() * 1e3,
        last_error,
        foreign_cores: foreign_time.as_secs_f64() / started.elapsed().as_secs_f64(),
    })
}

fn first_new_answer(load: &Load, written: Instant) -> Result<Instant> {
    while written.elapsed() < ANSWERS_WITHIN {
        if let Some(first) = load.first_new_answer() {
            return Ok(first);
        }
        thread::sleep(LOOK_AFTER);
    }
    bail!("the new version did not answer within {ANSWERS_WITHIN:?}")
}

/// Of a server that says it is ready, and may not be for this webapp.
fn await_first_answer(address: SocketAddr, target: &str) -> Result<()> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        let response = Connection::open(address, ANSWERS_WITHIN)?.get(target)?;
        if response.status == 200 && response.body == STAMP.as_bytes() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{target} is answered with {} {:?}", response.status, String::from_utf8_lossy(&response.body));
        }
        thread::sleep(LOOK_AFTER);
    }
}

fn text_of(version: u64) -> String {
    format!("version {version:010}")
}

/// Overwrites the digits, which have to be there.
fn stamped(built: &[u8], version: u64) -> Result<Vec<u8>> {
    let mut bytes = built.to_vec();
    let place = bytes.windows(STAMP.len()).position(|window| window == STAMP.as_bytes());
    let place = place.with_context(|| format!("the compiler left no {STAMP:?} in what it made"))?;
    bytes[place..place + STAMP.len()].copy_from_slice(text_of(version).as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_written_over_the_first_one() {
        assert_eq!(stamped(b"\0version 0000000000\0", 17).expect("the place"), b"\0version 0000000017\0");
        assert_eq!(STAMP, text_of(0));
        assert!(stamped(b"version 1", 17).is_err());
    }
}
