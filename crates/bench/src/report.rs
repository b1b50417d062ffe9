//! Figures, as a table and as JSON. The first result is what the others are compared with.

use serde::Serialize;

/// Everything that was measured.
#[derive(Serialize)]
pub struct Report {
    pub client: String,
    /// Server and load had a core each.
    pub pinned: bool,
    pub connections: usize,
    /// Of one run.
    pub seconds: u64,
    pub results: Vec<Result>,
}

/// The figures of one subject.
#[derive(Serialize)]
pub struct Result {
    pub name: String,
    /// Resident, started and asked once.
    pub idle_memory_kb: u64,
    /// From the start of the program to its first good answer.
    pub start_ups_ms: Vec<f64>,
    /// One for each round.
    pub runs: Vec<Run>,
}

/// One run of the load.
#[derive(Clone, Serialize)]
pub struct Run {
    pub cpu_us_per_request: f64,
    pub requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub answers: u64,
    /// Cores used by neither server nor client meanwhile.
    pub foreign_cores: f64,
}

/// A median, and the least and the most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of nothing: not a number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Spread { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Spread { median, min: *min, max: *max }
    }
}

/// Prints the tables.
pub fn print(report: &Report) {
    let placed =
        if report.pinned { "server on core 0, load on core 1" } else { "not pinned (no taskset, or one core)" };
    println!("\nload: {}, {} connections, {} s a run; {placed}", report.client, report.connections, report.seconds);
    println!("medians over the rounds, (least..most)\n");
    println!(
        "{:<24} {:>26} {:>12} {:>16} {:>11} {:>26} {:>14}",
        "", "CPU us/request", "requests/s", "p50/p99 us", "idle kB", "start-up ms", "foreign cores"
    );
    for result in &report.results {
        let of = |figure: fn(&Run) -> f64| Spread::of(result.runs.iter().map(figure));
        let (cpu, start) = (of(|run| run.cpu_us_per_request), Spread::of(result.start_ups_ms.iter().copied()));
        println!(
            "{:<24} {:>26} {:>12.0} {:>16} {:>11} {:>26} {:>14}",
            result.name,
            format!("{:.2} ({:.2}..{:.2})", cpu.median, cpu.min, cpu.max),
            of(|run| run.requests_per_second).median,
            format!("{:.0}/{:.0}", of(|run| run.p50_us).median, of(|run| run.p99_us).median),
            result.idle_memory_kb,
            format!("{:.1} ({:.1}..{:.1})", start.median, start.min, start.max),
            format!("{:.2} at most", of(|run| run.foreign_cores).max),
        );
    }
    let Some((base, others)) = report.results.split_first() else { return };
    if others.is_empty() {
        return;
    }
    println!("\nratios to {} of the same round\n", base.name);
    println!("{:<24} {:>26} {:>26} {:>26}", "", "CPU/request", "requests/s", "p99");
    for result in others {
        let ratio = |figure: fn(&Run) -> f64| {
            let pairs = result.runs.iter().zip(&base.runs);
            let Spread { median, min, max } = Spread::of(pairs.map(|(run, base)| figure(run) / figure(base)));
            format!("{median:.3} ({min:.3}..{max:.3})")
        };
        println!(
            "{:<24} {:>26} {:>26} {:>26}",
            result.name,
            ratio(|run| run.cpu_us_per_request),
            ratio(|run| run.requests_per_second),
            ratio(|run| run.p99_us),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_and_the_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert!(Spread::of([]).median.is_nan());
    }
}
