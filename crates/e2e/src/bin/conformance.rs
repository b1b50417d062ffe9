//! `conformance FILE`: runs a file of conformance vectors against the real program, and says what does not hold.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use e2e::conformance::fixtures::Fixtures;
use e2e::conformance::{Selection, run};

/// Runs conformance vectors against serval.
#[derive(Parser)]
struct Arguments {
    /// The file of vectors.
    file: PathBuf,
    /// Only cases of these areas.
    #[arg(long, value_delimiter = ',')]
    area: Vec<String>,
    /// Only this case.
    #[arg(long)]
    case: Option<String>,
    /// The servlets of the cases: those in Rust, those in C, or those of a library that is there.
    #[arg(long, value_name = "rust|c|LIBRARY", default_value = "rust")]
    fixtures: Fixtures,
    /// Writes a list of all cases here, each with what became of it.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// 0: nothing failed; 1: something did; 2: the cases could not be run.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match conform(arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn conform(arguments: Arguments) -> Result<usize> {
    let of = || format!("read {}", arguments.file.display());
    let text = fs::read_to_string(&arguments.file).with_context(of)?;
    let report = run(&text, &Selection { areas: arguments.area, case: arguments.case }, &arguments.fixtures)?;
    print!("{report}");
    if let Some(path) = arguments.json {
        let list = serde_json::to_string_pretty(&report.json())?;
        fs::write(&path, list + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(report.failed())
}
