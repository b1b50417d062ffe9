//! Walks README.md and the tutorial as a new user would, in a fresh clone and in order: runs their commands, writes the files
//! that they show, and compares what is printed with what they say. Needs git, bash and curl, and the ports that they name.
//!
//! | block | what it is |
//! |---|---|
//! | `sh` | commands, as they stand; they have to succeed |
//! | `text` | what the block of commands before it prints, whole |
//! | any language with `file=PATH` | the contents of a file, whole |
//! | any language with `add=PATH` | lines at the end of a file |
//!
//! A block that starts the server is the first terminal, and replaces the server of before. What takes minutes and is run by
//! `.ci/run` on its own (the tests, the measurements) is left out by name.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::{Component, Path};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use e2e::process::{self, Program};
use e2e::serval;

/// A first start builds the server, and the server builds the examples.
const STARTED_WITHIN: Duration = Duration::from_secs(1200);
const STEP_WITHIN: Duration = Duration::from_secs(600);
const START: &str = "cargo run --release";
const LEFT_OUT: [&str; 4] = ["cargo test --workspace", "-p bench", "-p e2e", "cargo +nightly fuzz"];
/// Each is there once it is built.
const EXAMPLES: [&str; 3] = ["/hello/plain", "/hello-c/plain", "/guestbook/api/entries"];

#[derive(Parser)]
#[command(about = "Walks README.md and the tutorial in a fresh clone, and compares what they say")]
struct Arguments {
    /// A file to walk, from the top of the repository. It may be given more than once.
    #[arg(long = "file", value_name = "FILE", default_values_t = ["README.md", "crates/servlet/TUTORIAL.md"].map(String::from))]
    files: Vec<String>,
}

struct Step {
    line: usize,
    does: Does,
}

#[derive(Debug, PartialEq)]
enum Does {
    Run {
        commands: String,
        /// The `text` block behind it.
        prints: Option<String>,
    },
    /// In place of the file that is there, or at its end.
    Write { path: String, adds: bool, text: String },
}

fn main() -> ExitCode {
    match walk_all(&Arguments::parse().files) {
        Ok((done, left_out)) => {
            println!("readme: {done} steps as they say, {left_out} left out");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("readme: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn walk_all(files: &[String]) -> Result<(usize, usize)> {
    let folder = tempfile::Builder::new().prefix("serval-readme-").tempdir()?;
    let clone = folder.path().join("serval");
    let mut git = Command::new("git");
    git.args(["clone", "--quiet"]).arg(serval::repository()).arg(&clone);
    process::run(git, STEP_WITHIN).context("this program needs git")?;
    let mut counts = (0, 0);
    for file in files {
        let (done, left_out) = walk(&clone, file)?;
        counts = (counts.0 + done, counts.1 + left_out);
        // The next one begins with the clone as it was; what is built stays.
        let mut git = Command::new("git");
        git.current_dir(&clone).args(["checkout", "--quiet", "--", "."]);
        process::run(git, STEP_WITHIN)?;
    }
    Ok(counts)
}

/// Returns how many steps were done and left out.
fn walk(clone: &Path, file: &str) -> Result<(usize, usize)> {
    let text = fs::read_to_string(clone.join(file)).with_context(|| format!("read {file}"))?;
    let steps = steps(&text).with_context(|| file.to_owned())?;
    ensure!(!steps.is_empty(), "{file} has no steps");
    let mut server: Option<Program> = None;
    let (mut done, mut left_out) = (0, 0);
    for step in &steps {
        let shown = format!("{file}:{}", step.line);
        let (commands, prints) = match &step.does {
            Does::Run { commands, prints } => (commands, prints.as_deref()),
            Does::Write { path, adds, text } => {
                println!("{shown}: {path}");
                write(clone, path, *adds, text).context(shown)?;
                done += 1;
                continue;
            }
        };
        if let Some(what) = LEFT_OUT.iter().find(|what| commands.contains(**what)) {
            println!("{shown}: left out ({what})");
            left_out += 1;
            continue;
        }
        println!("{shown}: {}", commands.lines().next().unwrap_or_default());
        if let Some(before) = commands.strip_suffix(START) {
            if let Some(mut old) = server.take() {
                let status = old.stop(STEP_WITHIN)?;
                ensure!(status.success(), "{shown}: the server of before stopped with {status}");
            }
            run(clone, before, None).context(shown.clone())?;
            server = Some(start(clone, prints).context(shown)?);
        } else {
            run(clone, commands, prints).with_context(|| match &server {
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

/// The blocks that are to be done, in order.
fn steps(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(words) = line.strip_prefix("```").filter(|words| !words.is_empty()) else { continue };
        let line = number + 2;
        let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let block = block.join("\n");
        let (language, mark) = words.split_once(' ').unwrap_or((words, ""));
        match (language, mark.split_once('=')) {
            (_, Some((kind @ ("file" | "add"), path))) => {
                let does = Does::Write { path: path.to_owned(), adds: kind == "add", text: block + "\n" };
                steps.push(Step { line, does });
            }
            (_, None) if mark.is_empty() => match (language, steps.last_mut().map(|step| &mut step.does)) {
                ("sh", _) => steps.push(Step { line, does: Does::Run { commands: block, prints: None } }),
                ("text", Some(Does::Run { prints: prints @ None, .. })) => *prints = Some(block),
                ("text", _) => bail!("line {line}: there are no commands that print this"),
                _ => {}
            },
            _ => bail!("line {line}: `{mark}` is not a mark; write `file=PATH` or `add=PATH`"),
        }
    }
    Ok(steps)
}

fn write(clone: &Path, path: &str, adds: bool, text: &str) -> Result<()> {
    let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(is_inside, "{path} is not a path in the repository");
    let place = clone.join(path);
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    let options = if adds { options.append(true) } else { options.write(true).create(true).truncate(true) };
    let mut file = options.open(&place).with_context(|| format!("write {path}"))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// Until the address is printed and the examples are built.
fn start(clone: &Path, prints: Option<&str>) -> Result<Program> {
    let mut command = Command::new("bash");
    command.current_dir(clone).args(["-c", &format!("exec {START}")]);
    let server = Program::start("the server of README", command)?;
    let says = prints.unwrap_or("listening on http://");
    let line = server.wait_for_line(0, STARTED_WITHIN, |line| line.contains(says))?;
    let address = line.trim_start_matches("listening on ").to_owned();
    let deadline = Instant::now() + STARTED_WITHIN;
    for servlet in EXAMPLES {
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
    // A terminal does not show the CR at the end of a header.
    let printed = std::io::read_to_string(printed)?.replace("\r\n", "\n");
    match prints {
        Some(says) if says.trim() != printed.trim() => bail!("it says:\n{says}\nand it printed:\n{printed}"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_a_text() {
        let text = "a\n```sh\necho 1\necho 2\n```\n\n```text\n1\n2\n```\n```toml\nx = 1\n```\n\
                    ```rust file=src/a.rs\nfn a() {}\n```\n```rust add=src/a.rs\nfn b() {}\n```\n";
        let steps: Vec<(usize, Does)> = steps(text).unwrap().into_iter().map(|step| (step.line, step.does)).collect();
        let write = |adds, text: &str| Does::Write { path: "src/a.rs".into(), adds, text: text.into() };
        assert_eq!(
            steps,
            [
                (3, Does::Run { commands: "echo 1\necho 2".into(), prints: Some("1\n2".into()) }),
                (15, write(false, "fn a() {}\n")),
                (18, write(true, "fn b() {}\n")),
            ]
        );
    }

    #[test]
    fn what_would_be_skipped_is_refused() {
        for (text, expected) in [
            ("```text\n1\n```\n", "line 2: there are no commands that print this"),
            ("```sh\ntrue\n```\n```text\n1\n```\n```text\n2\n```\n", "line 8: there are no commands that print this"),
            ("```rust fil=a.rs\n```\n", "line 2: `fil=a.rs` is not a mark; write `file=PATH` or `add=PATH`"),
        ] {
            assert_eq!(steps(text).map(|_| ()).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn nothing_is_written_outside() {
        for path in ["/tmp/a", "../a", "a/../../b"] {
            let wrong = write(Path::new("/nowhere"), path, false, "").unwrap_err();
            assert_eq!(wrong.to_string(), format!("{path} is not a path in the repository"));
        }
    }
}
