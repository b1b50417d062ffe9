//! `reload-soak --library guestbook`: the example application is replaced all the time while visitors read, write, and hold event
//! streams open; with `--browser` two real browsers write instead. Nothing may fail, no entry may get lost, no stream may be cut.

use crate::{Arguments, RESPONSE_WITHIN, TAKEN_OVER_WITHIN, left_mapped};
use anyhow::{Context, Result, bail};
use e2e::http_client::Connection;
use e2e::load::{Counts, Load, Outcome};
use e2e::process;
use e2e::serval::{self, Home, Serval};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// With SQLite, which is compiled for it.
const BUILT_WITHIN: Duration = Duration::from_secs(600);
const BROWSER_WITHIN: Duration = Duration::from_secs(300);
/// Connections that hold an event stream, beside those that ask.
const STREAMS: usize = 20;
/// One request in so many writes an entry.
const WRITES: u64 = 20;
const READY: &str = "/guestbook ready (generation ";

/// Returns whether nothing was failed or wrong.
pub fn soak(arguments: &Arguments) -> Result<bool> {
    let home = Home::new()?;
    home.configure("[build]\nsources = true")?;
    home.copy_example("guestbook")?;
    keep_what_is_compiled(&home)?;
    let serval = Serval::start(&home)?;
    let built = Instant::now() + BUILT_WITHIN;
    let mut connection = Connection::open(serval.address(), RESPONSE_WITHIN)?;
    while connection.get("/guestbook/api/entries")?.status != 200 {
        if Instant::now() > built || serval.program().lines_from(0).iter().any(|line| line.contains("the build failed"))
        {
            bail!("the guestbook was not built: {:#?}", serval.program().lines_from(0));
        }
        thread::sleep(Duration::from_millis(100));
    }
    let library = library(&home)?;

    // The browsers look for their entries among the first ones.
    let load = visit(&serval, arguments.connections, !arguments.browser);
    let streams = hold_streams(&serval);
    let resident_before = process::resident_kb(serval.program().id())?;
    let browser = arguments.browser.then(|| browse(&serval)).transpose()?;
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut reloads = 0_u64;
    while Instant::now() < end || browser.as_ref().is_some_and(|browser| !browser.is_finished()) {
        reload(&serval, &home, &library)?;
        reloads += 1;
    }
    let mut counts = load.stop();
    // A stream ends with its generation.
    let stopped = thread::spawn(move || streams.stop());
    while !stopped.is_finished() {
        reload(&serval, &home, &library)?;
        reloads += 1;
    }
    let Ok(opened) = stopped.join() else { bail!("the event streams' thread panicked") };
    if let Some(browser) = browser {
        match browser.join() {
            Ok(Ok(())) => println!("  two browsers saw each other's entries all the time"),
            Ok(Err(error)) => counts.details.push(format!("the browsers: {error:#}")),
            Err(_) => counts.details.push("the browsers' thread panicked".to_owned()),
        }
    }
    let resident_after = process::resident_kb(serval.program().id())?;
    let left_mapped = left_mapped(&serval);
    let status = serval.stop()?;
    if !status.success() {
        counts.details.push(format!("serval ended with {status} after SIGTERM"));
    }
    counts.failed += opened.failed;
    counts.wrong += opened.wrong;
    counts.details.extend(opened.details);
    for detail in &counts.details {
        println!("  {detail}");
    }
    let Counts { requests, failed, wrong, details } = counts;
    println!(
        "reload-soak: {reloads} reloads of the guestbook, {requests} requests, {} event streams, {failed} failed, {wrong} wrong, \
         left mapped {left_mapped}, rss {resident_before} -> {resident_after} kB",
        opened.requests
    );
    Ok(details.is_empty() && failed == 0 && wrong == 0)
}

/// In the target folder beside this program, where the tests keep it too: SQLite is compiled once.
fn keep_what_is_compiled(home: &Home) -> Result<()> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("this program is in a target folder")?;
    let (kept, build) = (target.join("tmp/guestbook"), home.path("var/build/localhost/guestbook"));
    fs::create_dir_all(&kept)?;
    fs::create_dir_all(&build)?;
    Ok(std::os::unix::fs::symlink(kept, build.join("release"))?)
}

fn library(home: &Home) -> Result<PathBuf> {
    let files = fs::read_dir(home.path("webapps/guestbook/WEB-INF/lib"))?.flatten().map(|file| file.path());
    let mut libraries = files.filter(|file| file.extension().is_some_and(|extension| extension == "so"));
    libraries.next().context("the build left no library")
}

/// Puts a library of one more byte, which means nothing, in the place of the one that serves.
fn reload(serval: &Serval, home: &Home, library: &PathBuf) -> Result<()> {
    let (position, next) = (serval.program().position(), home.path("next.so"));
    fs::copy(library, &next)?;
    OpenOptions::new().append(true).open(&next)?.write_all(b"\n")?;
    fs::rename(&next, library)?;
    serval.program().wait_for_line(position, TAKEN_OVER_WITHIN, |line| line.starts_with(READY))?;
    Ok(())
}

/// Visitors: what is wrong is an entry that was there and is not any more.
fn visit(serval: &Serval, connections: usize, writes: bool) -> Load {
    let most = Arc::new(AtomicU64::new(0));
    Load::start(serval.address(), connections, RESPONSE_WITHIN, move |number, connection| {
        let before = most.load(Ordering::SeqCst);
        let response = if writes && number.is_multiple_of(WRITES) {
            let entry = format!("{{\"name\":\"Visitor {number}\",\"message\":\"I was here.\"}}");
            let head = "POST /guestbook/api/entries HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
            connection.send(format!("{head}Content-Length: {}\r\n\r\n{entry}", entry.len()).as_bytes())?;
            let response = connection.read_response()?;
            if response.status == 201 {
                return Ok(Outcome::Good);
            }
            response
        } else {
            connection.get("/guestbook/api/entries?limit=5")?
        };
        let text = String::from_utf8_lossy(&response.body);
        let page: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        match page.and_then(|page| page["count"].as_u64()).filter(|_| response.status == 200) {
            // The browsers delete some.
            Some(count) if writes && count < before => {
                Ok(Outcome::Wrong(format!("{count} entries, and there were {before}")))
            }
            Some(count) => {
                most.fetch_max(count, Ordering::SeqCst);
                Ok(Outcome::Good)
            }
            None => Ok(Outcome::Failed(format!(
                "status {}, {:?}",
                response.status,
                text.chars().take(100).collect::<String>()
            ))),
        }
    })
}

/// Event streams that are opened again when they end. One that was cut fails as it is read.
fn hold_streams(serval: &Serval) -> Load {
    // Each lives as long as a generation.
    Load::start(serval.address(), STREAMS, TAKEN_OVER_WITHIN * 3, |_, connection| {
        let response = connection.get("/guestbook/api/events")?;
        Ok(match response.status {
            200 => Outcome::Good,
            status => Outcome::Failed(format!("an event stream was answered with {status}")),
        })
    })
}

/// Two browsers that read, write and look, while somebody else replaces the library.
fn browse(serval: &Serval) -> Result<JoinHandle<Result<()>>> {
    let folder = serval::repository().join("crates/e2e/browser");
    if !folder.join("node_modules").exists() {
        bail!("playwright-core is missing: run `npm ci` in crates/e2e/browser (it also needs node and chromium)");
    }
    let mut command = Command::new("node");
    command.current_dir(&folder).arg("guestbook.mjs").arg(format!("http://{}/guestbook/", serval.address()));
    command.arg("-").arg(std::env::temp_dir().join("serval-guestbook-screenshots"));
    Ok(thread::spawn(move || process::run(command, BROWSER_WITHIN)))
}
