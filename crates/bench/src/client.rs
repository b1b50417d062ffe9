//! Runs the load: wrk where it is installed, this program's own driver otherwise.

use crate::driver::Driven;
use crate::pin::{Pin, Role, find_program};
use anyhow::{Context, Result, bail};
use e2e::process;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a load may take besides the time that it was told.
const END_WITHIN: Duration = Duration::from_secs(30);
const EXIT_POLL: Duration = Duration::from_millis(2);

/// What makes the load.
pub struct Client {
    wrk: Option<PathBuf>,
    pin: Pin,
    connections: usize,
}

impl Client {
    pub fn new(pin: Pin, connections: usize, own_driver: bool) -> Client {
        let wrk = find_program("wrk").filter(|_| !own_driver);
        Client { wrk, pin, connections }
    }

    pub fn name(&self) -> &'static str {
        if self.wrk.is_some() { "wrk" } else { "the driver of bench (wrk is not installed, or not wanted)" }
    }

    /// Drives the URL for that long. Returns what came of it, and the CPU time that the client itself used.
    pub fn drive(&self, url: &str, seconds: u64) -> Result<(Driven, Duration)> {
        let (connections, seconds_text) = (self.connections.to_string(), seconds.to_string());
        let mut command = match &self.wrk {
            Some(wrk) => {
                let mut command = self.pin.command(Role::Load, wrk);
                command.args(["-t1", "--latency", "-c", &connections, "-d", &format!("{seconds}s"), url]);
                command
            }
            None => {
                let mut command = self.pin.command(Role::Load, std::env::current_exe()?);
                command.args(["--drive", url, "--connections", &connections, "--seconds", &seconds_text]);
                command
            }
        };
        let (output, cpu_time) = run(&mut command, Duration::from_secs(seconds) + END_WITHIN)?;
        let driven = if self.wrk.is_some() { parse_wrk(&output) } else { serde_json::from_str(&output).ok() };
        Ok((driven.with_context(|| format!("the load's figures cannot be read:\n{output}"))?, cpu_time))
    }
}

/// Runs it to its end, and returns its output and CPU time.
fn run(command: &mut Command, within: Duration) -> Result<(String, Duration)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start the load")?;
    let ended = wait_without_reaping(&child, within);
    let cpu_time = process::cpu_time(child.id());
    if !matches!(ended, Ok(true)) {
        child.kill()?;
    }
    let status = child.wait()?;
    if !ended? {
        bail!("the load did not end within {within:?}");
    }
    // The few hundred bytes of a report were in the pipe before the end.
    let mut output = String::new();
    child.stdout.take().expect("stdout was piped").read_to_string(&mut output)?;
    if !status.success() {
        bail!("the load ended with {status}:\n{output}");
    }
    Ok((output, cpu_time?))
}

/// Leaves a zombie, whose CPU time can still be read.
fn wait_without_reaping(child: &Child, within: Duration) -> Result<bool> {
    let deadline = Instant::now() + within;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        if waitid(WaitId::Pid(Pid::from_child(child)), options)?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(EXIT_POLL);
    }
}

fn parse_wrk(output: &str) -> Option<Driven> {
    let mut driven = Driven::default();
    for line in output.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["50%", latency] => driven.p50_us = wrk_time_us(latency)?,
            ["99%", latency] => driven.p99_us = wrk_time_us(latency)?,
            [answers, "requests", "in", time, ..] => {
                driven.answers = answers.parse().ok()?;
                driven.seconds = wrk_time_us(time.trim_end_matches(','))? / 1e6;
            }
            ["Socket", "errors:", ..] => {
                let counts = words.iter().filter_map(|word| word.trim_end_matches(',').parse::<u64>().ok());
                driven.errors += counts.sum::<u64>();
            }
            ["Non-2xx", "or", "3xx", "responses:", count] => driven.errors += count.parse::<u64>().ok()?,
            _ => {}
        }
    }
    (driven.answers > 0 && driven.seconds > 0.0).then_some(driven)
}

/// Reads `309.00us`, `1.14ms`, `3.00s` or `1.00m`.
fn wrk_time_us(text: &str) -> Option<f64> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let factor = match &text[unit_at..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        _ => return None,
    };
    Some(text[..unit_at].parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_read() {
        let output = "Running 3s test @ http://127.0.0.1:8080/\n  1 threads and 64 connections\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   353.20us  221.30us   4.50ms   88.99%\n    Req/Sec   144.10k     5.00k  150.00k    70.00%\n  Latency Distribution\n     50%  309.00us\n     75%  400.00us\n     90%  600.00us\n     99%    1.14ms\n  432300 requests in 3.10s, 50.00MB read\n  Socket errors: connect 0, read 2, write 0, timeout 1\n  Non-2xx or 3xx responses: 4\nRequests/sec: 144100.00\nTransfer/sec:     16.00MB\n";
        let expected = Driven { answers: 432_300, errors: 7, seconds: 3.1, p50_us: 309.0, p99_us: 1140.0 };
        assert_eq!(parse_wrk(output), Some(expected));
        assert_eq!(parse_wrk("unable to connect"), None);
    }
}
