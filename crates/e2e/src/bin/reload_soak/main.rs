//! `reload-soak`: replaces servlet libraries in every way that people and tools do, under steady load, and fails if
//! one request failed or one answer was older than it may be.
//!
//! An answer is wrong if its version is older than one that any connection had received before the request was sent.
#![forbid(unsafe_code)]

mod guestbook;
mod library;
mod ways;

use anyhow::{Context, Result, bail};
use clap::Parser;
use e2e::http_client::Connection;
use e2e::load::{Counts, Load, Outcome};
use e2e::process;
use e2e::serval::{Home, Serval};
use e2e::unloading::{By, CASES, Case, Replaced};
use library::Library;
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How long a replaced library may take until it answers, or a refused one until the log says so.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(30);
/// For each response. A request that takes this long counts as failed.
const RESPONSE_WITHIN: Duration = Duration::from_secs(30);
/// Between two questions for the new version.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// The load runs this long before memory is measured and the first library is replaced.
const WARM_UP: Duration = Duration::from_secs(1);

/// Replaces servlet libraries under load, and looks for failed and outdated answers.
#[derive(Parser)]
struct Arguments {
    /// How long to go on replacing; for those that leave something behind, --reloads counts.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How often each library that leaves something behind is replaced.
    #[arg(long, default_value_t = 1000)]
    reloads: usize,
    /// How it is replaced.
    #[arg(long, value_enum, default_value_t = By::Command)]
    by: By,
    /// Connections that ask all the time.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Leaves out the library in Rust, whose builds take long.
    #[arg(long)]
    only_c: bool,
    /// What is replaced: `small`, libraries in each of the ways; `guestbook`, the example application; or by its name a library that
    /// leaves something behind, such as rust-tokio-many (`all`: each of these).
    #[arg(long, default_value = "small")]
    library: String,
    /// With the guestbook: two real browsers use it meanwhile (needs node, chromium, and `npm ci` in crates/e2e/browser).
    #[arg(long)]
    browser: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let soaked = match &*arguments.library {
        "small" => soak(&arguments),
        "guestbook" => guestbook::soak(&arguments),
        name => leaves(name, arguments.reloads, arguments.by),
    };
    match soaked {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("reload-soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Replaces libraries that leave something behind. Returns whether each went, or stayed, as it should, and none of its answers was
/// anything else than it should be.
fn leaves(name: &str, reloads: usize, by: By) -> Result<bool> {
    let cases: Vec<&Case> = CASES.iter().filter(|case| name == "all" || case.name == name).collect();
    if cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        bail!("there is no library {name}; there are small, guestbook, all, {}", names.join(", "));
    }
    let (mut sum, mut others) = (Replaced::default(), Vec::new());
    for case in &cases {
        match case.run(reloads, by) {
            Ok(replaced) => {
                println!("reload-soak: {}: {}", case.name, told(&replaced));
                sum.add(&replaced);
            }
            Err(error) => {
                println!("reload-soak: {error:#}");
                others.push(case.name);
            }
        }
    }
    if name == "all" {
        let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        println!("reload-soak: {} libraries: {}; not as expected: {others}", cases.len(), told(&sum));
    }
    Ok(others.is_empty())
}

/// A library that had a failed or a wrong answer has no figures, but an error.
fn told(replaced: &Replaced) -> String {
    let Replaced { reloads, requests, left_mapped, resident, disk } = replaced;
    format!(
        "{reloads} reloads, {requests} requests, 0 failed, 0 wrong, left mapped {left_mapped}, rss {} -> {} kB, disk {} -> {} kB",
        resident.0, resident.1, disk.0, disk.1
    )
}

/// Returns whether nothing was failed or wrong.
fn soak(arguments: &Arguments) -> Result<bool> {
    let home = Home::new()?;
    let mut libraries = library::build_all(&home, arguments.only_c)?;
    for library in &mut libraries {
        let first = library.next_version();
        library.install(&first)?;
    }
    let serval = Serval::start(&home)?;
    for library in &libraries {
        wait_for_version(&serval, library, 1)?;
    }

    let load = start_load(&serval, &libraries, arguments.connections);
    thread::sleep(WARM_UP);
    let resident_before = process::resident_kb(serval.program().id())?;
    let (reloads, mut missed) = replace_by_turns(&serval, &mut libraries, Duration::from_secs(arguments.seconds));
    let mut counts = load.stop();
    let resident_after = process::resident_kb(serval.program().id())?;
    let left_mapped = left_mapped(&serval);
    let status = serval.stop()?;
    if !status.success() {
        missed.push(format!("serval ended with {status} after SIGTERM"));
    }

    counts.failed += missed.len() as u64;
    counts.details.extend(missed);
    let Counts { requests, failed, wrong, details } = counts;
    for detail in &details {
        println!("  {detail}");
    }
    println!(
        "reload-soak: {reloads} reloads, {requests} requests, {failed} failed, {wrong} wrong, \
         left mapped {left_mapped}, rss {resident_before} -> {resident_after} kB"
    );
    Ok(failed == 0 && wrong == 0)
}

/// Each connection asks the libraries by turns.
fn start_load(serval: &Serval, libraries: &[Library], connections: usize) -> Load {
    let asked: Vec<_> = libraries.iter().map(|library| (library.target().to_owned(), library.newest_seen())).collect();
    Load::start(serval.address(), connections, RESPONSE_WITHIN, move |number, connection| {
        let (target, newest_seen) = &asked[number as usize % asked.len()];
        let before = newest_seen.get();
        let answered = match ask(connection, target)? {
            Ok(version) => version,
            Err(detail) => return Ok(Outcome::Failed(format!("{target}: {detail}"))),
        };
        if answered == library::NEVER {
            return Ok(Outcome::Wrong(format!("{target}: answered by a library whose init had failed")));
        }
        newest_seen.raise(answered);
        if answered < before {
            let detail = format!("{target}: version {answered}, though {before} was received before it was sent");
            return Ok(Outcome::Wrong(detail));
        }
        Ok(Outcome::Good)
    })
}

/// Replaces one library after another, each in the next way, until the time is over. Returns how often a new version
/// took over, and what did not happen that should have.
fn replace_by_turns(serval: &Serval, libraries: &mut [Library], time: Duration) -> (u64, Vec<String>) {
    let started = Instant::now();
    let mut missed = Vec::new();
    let mut took: Vec<Vec<Duration>> = vec![Vec::new(); ways::ALL.len()];
    for turn in 0.. {
        if started.elapsed() >= time {
            break;
        }
        let library_count = libraries.len();
        let library = &mut libraries[turn % library_count];
        let way_index = turn / library_count % ways::ALL.len();
        let way = &ways::ALL[way_index];
        let replaced = (way.replace)(serval, library).and_then(|version| {
            let written = Instant::now();
            wait_for_version(serval, library, version)?;
            Ok(written.elapsed())
        });
        match replaced {
            Ok(elapsed) => took[way_index].push(elapsed),
            Err(error) => missed.push(format!("{} {}: {error:#}", library.target(), way.name)),
        }
    }
    let reloads = took.iter().map(|took| took.len() as u64).sum();
    for (way, mut took) in ways::ALL.iter().zip(took) {
        took.sort();
        if let (Some(longest), Some(median)) = (took.last(), took.get(took.len() / 2)) {
            let count = took.len();
            println!("  {:<34} {count:>4} times, new answer after {median:.0?}, at most {longest:.0?}", way.name);
        }
    }
    (reloads, missed)
}

/// Asks until that version answers, on a connection of its own.
fn wait_for_version(serval: &Serval, library: &Library, version: u64) -> Result<()> {
    let deadline = Instant::now() + TAKEN_OVER_WITHIN;
    let mut connection = Connection::open(serval.address(), RESPONSE_WITHIN).context("connect")?;
    let mut last = String::from("nothing");
    while Instant::now() < deadline {
        if connection.is_over() {
            connection = Connection::open(serval.address(), RESPONSE_WITHIN).context("connect")?;
        }
        match ask(&mut connection, library.target())? {
            Ok(answered) => {
                library.newest_seen().raise(answered);
                if answered == version {
                    return Ok(());
                }
                last = format!("version {answered}");
            }
            Err(detail) => last = detail,
        }
        thread::sleep(ASK_AGAIN_AFTER);
    }
    bail!("version {version} did not answer within {TAKEN_OVER_WITHIN:?}; the last answer was {last}")
}

/// Asks a library for its version: that, or what is wrong with the answer.
fn ask(connection: &mut Connection, target: &str) -> io::Result<Result<u64, String>> {
    let response = connection.get(target)?;
    let text = String::from_utf8_lossy(&response.body);
    Ok(match library::version_of(&text) {
        Some(version) if response.status == 200 => Ok(version),
        _ => Err(format!("status {}, {:?}", response.status, text.chars().take(100).collect::<String>())),
    })
}

/// Returns how many libraries stay mapped, as the host said last; in words if it never did.
fn left_mapped(serval: &Serval) -> String {
    let lines = serval.program().lines_from(0);
    // The host counts for all contexts together, and lines of two threads may come in any order.
    let counts = lines.iter().filter_map(|line| value_of(line, "left_mapped=")?.parse::<u64>().ok());
    counts.max().map_or("unknown".to_owned(), |count| count.to_string())
}

/// Returns what follows a field's name in a line of the log.
fn value_of<'a>(line: &'a str, field: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(field)?;
    rest.split([' ', ',', '"']).next()
}
