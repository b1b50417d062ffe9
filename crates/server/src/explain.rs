//! `serval explain`: what a request means, step by step, by the files of a home as they lie there now.
//!
//! Nothing is started and nothing is asked of a server that runs. The steps are the container's, who takes them with what a request
//! goes through; here they are printed.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use serval_config::Server;
use serval_container::explain::{Asked, Step, explain};

#[derive(Args)]
pub struct Explain {
    /// The Host header [default: as in URL, else the name of the first host]
    #[arg(long)]
    host: Option<String>,
    /// A further header, as in 'Accept: text/html'; may be given again
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Print an object with all steps
    #[arg(long)]
    json: bool,
    /// As in the request line: GET
    method: String,
    /// As in the request line: /shop/cart?id=7, or http://example.com/shop/cart
    url: String,
}

pub fn run(arguments: &Explain, config: &Server) -> ExitCode {
    let Explain { host, headers, method, url, .. } = arguments;
    // Contexts have pools of threads, of which none is started here.
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no thread can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _inside = runtime.enter();
    let steps = explain(config, &Asked { method, url, host: host.as_deref(), headers });
    if arguments.json {
        println!("{}", as_json(&steps, &config.home));
    } else {
        print!("{}", as_text(&steps, &config.home));
    }
    ExitCode::SUCCESS
}

/// A line for each step, and one for each note below it.
fn as_text(steps: &[Step], home: &Path) -> String {
    let width = steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (number, step) in steps.iter().enumerate() {
        let _ = writeln!(out, "{:>2}  {:width$}  {}", number + 1, step.name, printable(&step.result));
        for note in &step.notes {
            let at = note.at.as_ref().map(|at| at.shown(home));
            let by: Vec<&str> = note.rule.into_iter().chain(at.as_deref()).collect();
            let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join("; ")) };
            let _ = writeln!(out, "    {:width$}  {}{by}", "", printable(&note.text));
        }
    }
    out
}

/// What came from the command line must not move the cursor of a terminal.
fn printable(text: &str) -> String {
    text.chars().flat_map(|char| if char.is_control() { char.escape_default().collect() } else { vec![char] }).collect()
}

fn as_json(steps: &[Step], home: &Path) -> String {
    let steps = steps.iter().map(|step| {
        let notes = step.notes.iter().map(|note| {
            let mut shown = json!({ "text": note.text });
            if let Some(rule) = note.rule {
                shown["rule"] = rule.into();
            }
            if let Some(at) = &note.at {
                shown["at"] = at.shown(home).into();
            }
            shown
        });
        json!({ "step": step.name, "result": step.result, "notes": notes.collect::<Vec<_>>() })
    });
    format!("{:#}", json!({ "steps": steps.collect::<Vec<_>>() }))
}
