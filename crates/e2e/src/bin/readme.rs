//! Walks README.md as a new user would: its commands as they stand, in a fresh clone, in order, and what they print against
//! what it says. Needs git, bash and curl, and the ports that README names.
//!
//! A block that starts the server is the first terminal, and replaces the server of before; what takes minutes and is run by
//! `.ci/run` on its own (the tests, the measurements) is left out by name.
#![forbid(unsafe_code)]

use std::io::Seek as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::process::{self, Program};
use e2e::serval;

/// A first start builds the server, and the server builds the examples.
const STARTED_WITHIN: Duration = Duration::from_secs(900);
const STEP_WITHIN: Duration = Duration::from_secs(300);
const START: &str = "cargo run --release";
const LEFT_OUT: [&str; 3] = ["cargo test", "-p bench", "-p e2e"];

struct Step {
    line: usize,
    command: String,
    /// The `text` block behind it.
    prints: Option<String>,
}

fn main() -> ExitCode {
    match walk() {
        Ok((done, left_out)) => {
            println!("readme: {done} steps as README says, {left_out} left out");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("readme: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn walk() -> Result<(usize, usize)> {
    let folder = tempfile::Builder::new().prefix("serval-readme-").tempdir()?;
    let clone = folder.path().join("serval");
    let mut git = Command::new("git");
    git.args(["clone", "--quiet"]).arg(serval::repository()).arg(&clone);
    process::run(git, STEP_WITHIN).context("this program needs git")?;
    let steps = steps(&std::fs::read_to_string(clone.join("README.md"))?);
    ensure!(!steps.is_empty(), "README.md has no steps");
    let mut server: Option<Program> = None;
    let (mut done, mut left_out) = (0, 0);
    for step in &steps {
        let shown = format!("README.md:{}", step.line);
        if let Some(what) = LEFT_OUT.iter().find(|what| step.command.contains(**what)) {
            println!("{shown}: left out ({what})");
            left_out += 1;
            continue;
        }
        println!("{shown}: {}", step.command.lines().next().unwrap_or_default());
        if let Some(before) = step.command.strip_suffix(START) {
            if let Some(mut old) = server.take() {
                let status = old.stop(STEP_WITHIN)?;
                ensure!(status.success(), "{shown}: the server of before stopped with {status}");
            }
            run(&clone, before, None).context(shown.clone())?;
            server = Some(start(&clone, step).context(shown)?);
        } else {
            run(&clone, &step.command, step.prints.as_deref()).with_context(|| match &server {
                Some(server) => format!("{shown}; the server's log:\n{}", server.lines_from(0).join("\n")),
                None => shown,
            })?;
        }
        done += 1;
    }
    if let Some(mut server) = server {
        ensure!(server.stop(STEP_WITHIN)?.success(), "the server did not stop well");
    }
    Ok((done, left_out))
}

/// The blocks of shell commands, each with what it prints.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        match (kind, steps.last_mut()) {
            ("sh", _) => steps.push(Step { line: number + 2, command: block.join("\n"), prints: None }),
            ("text", Some(step)) if step.prints.is_none() => step.prints = Some(block.join("\n")),
            _ => {}
        }
    }
    steps
}

/// Until the address is printed and the examples are built.
fn start(clone: &Path, step: &Step) -> Result<Program> {
    let mut command = Command::new("bash");
    command.current_dir(clone).args(["-c", &format!("exec {START}")]);
    let server = Program::start("the server of README", command)?;
    let says = step.prints.as_deref().unwrap_or("listening on http://");
    let line = server.wait_for_line(0, STARTED_WITHIN, |line| line.contains(says))?;
    let address = line.trim_start_matches("listening on ").to_owned();
    let deadline = Instant::now() + STARTED_WITHIN;
    for servlet in ["/hello/plain", "/hello-c/plain"] {
        let mut curl = Command::new("curl");
        curl.args(["-fs", &format!("{address}{servlet}")]);
        curl.stdout(std::process::Stdio::null());
        while !curl.status().context("this program needs curl")?.success() {
            if Instant::now() >= deadline {
                bail!("{servlet} is not there; the log:\n{}", server.lines_from(0).join("\n"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(server)
}

fn run(clone: &Path, commands: &str, prints: Option<&str>) -> Result<()> {
    let mut command = Command::new("bash");
    command.current_dir(clone).args(["-o", "pipefail", "-c", commands]);
    let mut printed = tempfile::tempfile()?;
    command.stdout(printed.try_clone()?);
    process::run(command, STEP_WITHIN)?;
    printed.rewind()?;
    let printed = std::io::read_to_string(printed)?;
    match prints {
        Some(says) if says.trim() != printed.trim() => bail!("it says:\n{says}\nand it printed:\n{printed}"),
        _ => Ok(()),
    }
}
