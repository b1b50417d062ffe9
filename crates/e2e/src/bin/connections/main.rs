//! `connections`: thousands of connections that lie idle or are slow, while others ask as one should: none of those fails, their times stand
//! beside those without, and what an idle connection costs beside what it costs others. Fails when it is not so.
//!
//! Twice: with times so long that all of them stay, and with times after which the server ends each of them by itself.
#![forbid(unsafe_code)]

mod clients;
mod peers;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use e2e::http_client::Connection;
use e2e::many::raise_file_limit;
use e2e::process::resident_kb;
use e2e::serval::{Home, Serval};

use clients::{CONNECTIONS, Idle, Slow, Traffic, WAYS};

const BUILT_WITHIN: Duration = Duration::from_secs(120);
/// Further files that a program has open, here and in the server.
const OTHER_FILES: u64 = 300;
/// How long the server's own times may be exceeded, on a machine that is busy.
const GRACE: Duration = Duration::from_secs(30);
/// Memory for each idle connection, at the most, in a build that is not optimised too.
const KB_MAX: f64 = 32.0;

/// Measures what connections cost that do nothing, or little.
#[derive(Parser)]
struct Arguments {
    /// Half of them have sent nothing, half have had an answer
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// A third each sends a head, sends a body, and reads an answer, slowly
    #[arg(long, default_value_t = 2_000)]
    slow: usize,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Ends them after two seconds, and not after the times that are shipped, which takes 90 seconds
    #[arg(long)]
    short: bool,
    /// Measures what an idle connection costs bare hyper and nginx, too
    #[arg(long)]
    peers: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let files = (arguments.idle + arguments.slow) as u64 + OTHER_FILES;
    match raise_file_limit(files).and_then(|()| measure(&arguments)) {
        Ok(summary) => {
            println!("connections: {summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("connections: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<String> {
    let held = held(arguments).context("with times so long that they stay")?;
    let cut = cut(arguments).context("with times after which they are ended")?;
    if arguments.peers {
        beside(arguments).context("beside others")?;
    }
    Ok(format!("{held}; {cut}"))
}

fn home(times: &str, takers: usize) -> Result<Home> {
    let home = Home::new()?;
    for webapp in ["x", "y"] {
        home.write(&format!("webapps/{webapp}/WEB-INF/src/attack.c"), include_str!("attack.c"))?;
    }
    home.write("webapps/x/page.txt", [b'p'; 1024])?;
    home.write("webapps/x/large.bin", vec![b'l'; 10 << 20])?;
    home.write(
        "conf/server.toml",
        format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\nconnections_max = 100000\nconnections_per_address_max = 100000\n{times}\n\
             [build]\nsources = true\n[[host]]\n[[host.context]]\npath = \"/y\"\nwebapp = \"y\"\nworkers_max = {takers}\n"
        ),
    )?;
    Ok(home)
}

fn started(home: &Home) -> Result<Serval> {
    let serval = Serval::start(home)?;
    let end = Instant::now() + BUILT_WITHIN;
    for webapp in ["x", "y"] {
        while Connection::open(serval.address(), BUILT_WITHIN)?.get(&format!("/{webapp}/hello"))?.status != 200 {
            ensure!(Instant::now() < end, "/{webapp} is not there: {:#?}", serval.program().lines_from(0));
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(serval)
}

fn for_some_time(arguments: &Arguments) -> impl Fn() -> bool + Sync + use<> {
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    move || Instant::now() >= end
}

/// Opens the idle ones, and says what each of them costs in kB: of those that are silent, and of those that are kept alive.
fn open_idle(serval: (u32, std::net::SocketAddr, &str), count: usize) -> Result<(Idle, [f64; 2])> {
    let (process, address, target) = serval;
    let (half, mut idle) = (count / 2, Idle::default());
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / half.max(1) as f64;
    let at_first = resident_kb(process)?;
    idle.open_silent(address, half, target)?;
    let between = resident_kb(process)?;
    idle.open_kept(address, count - half, target)?;
    let at_last = resident_kb(process)?;
    Ok((idle, [each(at_first, between), each(between, at_last)]))
}

/// All of them stay, and others are served.
fn held(arguments: &Arguments) -> Result<String> {
    let times = "head_timeout = \"1h\"\nkeep_alive_timeout = \"1h\"\nbody_timeout = \"1h\"\nbody_rate_min = 0\nwrite_timeout = \"1h\"";
    let home = home(times, arguments.slow.max(1))?;
    let serval = started(&home)?;
    let (address, process) = (serval.address(), serval.program().id());
    let alone = Traffic::of(address, for_some_time(arguments));
    alone.check().context("alone")?;
    println!("alone: {}", alone.shown());
    let (mut idle, [silent, kept]) = open_idle((process, address, "/x/hello"), arguments.idle)?;
    println!(
        "{} idle connections: {silent:.1} kB for one on which nothing was sent, {kept:.1} kB for one that is kept alive",
        arguments.idle
    );
    let mut slow = Slow::open_all(address, arguments.slow)?;
    let over = AtomicBool::new(false);
    let beside = thread::scope(|threads| {
        let dripping = threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                clients::sip(&mut slow);
            }
        });
        let beside = Traffic::of(address, for_some_time(arguments));
        over.store(true, Ordering::Relaxed);
        dripping.join().expect("it does not panic");
        beside
    });
    println!("beside {} idle and {} slow ones: {}", arguments.idle, arguments.slow, beside.shown());
    beside.check().context("beside them")?;
    ensure!(idle.left() == arguments.idle, "{} idle connections are left", idle.left());
    let over = slow.iter().filter(|slow| slow.is_over).count();
    ensure!(over == 0, "{over} slow ones were ended");
    ensure!(silent.max(kept) <= KB_MAX, "an idle connection may cost {KB_MAX} kB");
    drop((idle, slow));
    ensure!(serval.stop()?.success(), "the server did not stop as it should");
    Ok(format!(
        "{} idle and {} slow ones: alone {}; beside them {}; an idle one costs {silent:.1} and {kept:.1} kB",
        arguments.idle,
        arguments.slow,
        alone.shown(),
        beside.shown()
    ))
}

/// The server ends each of them by itself, and others are served meanwhile.
fn cut(arguments: &Arguments) -> Result<String> {
    // The longest of those that are shipped is `write_timeout`.
    let (times, longest) = match arguments.short {
        true => {
            let keys = ["head_timeout", "keep_alive_timeout", "body_timeout", "write_timeout"];
            (keys.map(|key| format!("{key} = \"2s\"\n")).concat(), Duration::from_secs(2))
        }
        false => (String::new(), Duration::from_secs(60)),
    };
    let home = home(&times, 64)?;
    let serval = started(&home)?;
    let (address, process, began) = (serval.address(), serval.program().id(), Instant::now());
    // Those of the requests beside them, and one that has just ended.
    let most = sockets(process)? + CONNECTIONS + 1;
    let (mut idle, _) = open_idle((process, address, "/x/hello"), arguments.idle)?;
    let mut slow = Slow::open_all(address, arguments.slow)?;
    let deadline = Instant::now() + longest + GRACE;
    let over = AtomicBool::new(false);
    let beside = thread::scope(|threads| {
        threads.spawn(|| {
            // One that reads slowly is not told: what is on its way to it comes first.
            while Instant::now() < deadline && sockets(process).is_ok_and(|count| count > most) {
                clients::sip(&mut slow);
            }
            over.store(true, Ordering::Relaxed);
            // Answers that came meanwhile.
            clients::sip(&mut slow);
        });
        Traffic::of(address, || over.load(Ordering::Relaxed))
    });
    let took = began.elapsed();
    println!("while they are ended, {:.0} s: {}", took.as_secs_f64(), beside.shown());
    for way in WAYS {
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for slow in slow.iter().filter(|slow| slow.way == way) {
            let status = slow.status().map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            *answers.entry(status).or_default() += 1;
        }
        println!("  {way:?}: {answers:?}");
    }
    beside.check().context("beside those that are ended")?;
    ensure!(idle.left() == 0, "{} idle connections are left", idle.left());
    let left = sockets(process)?.saturating_sub(most);
    ensure!(left == 0, "the server still has {left} connections");
    ensure!(serval.stop()?.success(), "the server did not stop as it should");
    Ok(format!("all were ended within {:.0} s, and meanwhile {}", took.as_secs_f64(), beside.shown()))
}

/// How many sockets a process has open.
fn sockets(process: u32) -> Result<usize> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd"))?.flatten();
    let is_socket = |path: std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
    Ok(files.filter(|file| std::fs::read_link(file.path()).is_ok_and(is_socket)).count())
}

fn beside(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nginx = peers::nginx(folder.path(), arguments.idle)?;
    if nginx.is_none() {
        println!("nginx is not installed, and not measured");
    }
    for peer in [Some(peers::hyper()?), nginx].into_iter().flatten() {
        let (mut idle, [silent, kept]) = open_idle((peer.program.id(), peer.address, peer.target), arguments.idle)?;
        ensure!(idle.left() == arguments.idle, "{} has ended some", peer.name);
        println!(
            "{}: {silent:.1} kB for one on which nothing was sent, {kept:.1} kB for one that is kept alive",
            peer.name
        );
    }
    Ok(())
}
