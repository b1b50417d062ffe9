//! What reloads took and cost, as a table and as JSON. The first result is what the others are compared with.

use crate::report::Spread;
use serde::Serialize;

/// Everything that was measured.
#[derive(Serialize)]
pub struct Report {
    pub connections: usize,
    /// Of all connections together.
    pub requests_per_second: usize,
    pub results: Vec<Result>,
}

/// The figures of one way of replacing.
#[derive(Serialize)]
pub struct Result {
    pub name: String,
    /// One for each round.
    pub runs: Vec<Run>,
}

/// One change, and the requests around it.
#[derive(Serialize)]
pub struct Run {
    /// From the last write to the first answer of the new version; none where nothing was replaced.
    pub new_answer_ms: Option<f64>,
    pub requests: u64,
    /// Not answered at all.
    pub failed: u64,
    /// Answered with another status than 200.
    pub refused: u64,
    /// Answered after more than 100 ms.
    pub held: u64,
    pub longest_ms: f64,
    pub last_error: Option<String>,
    /// Cores used by neither server nor load meanwhile.
    pub foreign_cores: f64,
}

/// Prints the tables.
pub fn print(report: &Report) {
    println!("\nload: {} connections, {} requests/s; not pinned", report.connections, report.requests_per_second);
    println!("from the last write to the first answer of the new version: medians over the rounds, (least..most)");
    println!(
        "requests from 0.5 s before the change to 1 s after that answer: sums over the rounds; held: more than 100 ms\n"
    );
    println!(
        "{:<28} {:>28} {:>9} {:>7} {:>8} {:>6} {:>11} {:>14}",
        "", "new answer after ms", "requests", "failed", "refused", "held", "longest ms", "foreign cores"
    );
    for Result { name, runs } in &report.results {
        let sum = |figure: fn(&Run) -> u64| runs.iter().map(figure).sum::<u64>();
        let of = |figure: fn(&Run) -> f64| Spread::of(runs.iter().map(figure));
        let times = Spread::of(runs.iter().filter_map(|run| run.new_answer_ms));
        println!(
            "{name:<28} {:>28} {:>9} {:>7} {:>8} {:>6} {:>11.0} {:>14}",
            if times.median.is_nan() {
                "-".to_owned()
            } else {
                format!("{:.0} ({:.0}..{:.0})", times.median, times.min, times.max)
            },
            sum(|run| run.requests),
            sum(|run| run.failed),
            sum(|run| run.refused),
            sum(|run| run.held),
            of(|run| run.longest_ms).max,
            format!("{:.2} at most", of(|run| run.foreign_cores).max),
        );
    }
    for Result { name, runs } in &report.results {
        if let Some(error) = runs.iter().find_map(|run| run.last_error.as_ref()) {
            println!("{name}: {error}, for example");
        }
    }
    let Some((base, others)) = report.results.split_first() else { return };
    if others.is_empty() {
        return;
    }
    println!("\nratios to {:?} of the same round\n", base.name);
    println!("{:<28} {:>28}", "", "new answer");
    for Result { name, runs } in others {
        let ratio = |(run, base): (&Run, &Run)| Some(run.new_answer_ms? / base.new_answer_ms?);
        let Spread { median, min, max } = Spread::of(runs.iter().zip(&base.runs).filter_map(ratio));
        if !median.is_nan() {
            println!("{name:<28} {:>28}", format!("{median:.2} ({min:.2}..{max:.2})"));
        }
    }
}
