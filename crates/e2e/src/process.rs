//! A program under test: started, listened to, measured, and never left behind.
//!
//! Every wait has a deadline. Used by `serval`, and by the peers of the benchmark.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// LIMIT: lines of output kept for one program; the oldest go first.
const LINES_MAX: usize = 100_000;
/// LIMIT: bytes of one line; a longer one is read as several.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How often an exit is looked for: there is no blocking wait with a deadline without unsafe code.
const EXIT_POLL: Duration = Duration::from_millis(2);
/// How much of the output an error shows.
const TAIL_LINES: usize = 30;

/// A running program. Dropped, it is killed.
pub struct Program {
    name: String,
    child: Child,
    output: Arc<Output>,
    started: Instant,
}

impl Program {
    /// Starts the command with its standard output and error captured.
    pub fn start(name: &str, command: Command) -> Result<Program> {
        Program::start_on(Stdio::null(), name, command)
    }

    /// Starts it with something as its standard input.
    pub fn start_on(stdin: Stdio, name: &str, mut command: Command) -> Result<Program> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("start {name}: {command:?}"))?;
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("stdout was piped");
        let stderr = child.stderr.take().expect("stderr was piped");
        output.state().open_streams = 2;
        read_lines(stdout, Arc::clone(&output));
        read_lines(stderr, Arc::clone(&output));
        Ok(Program { name: name.to_owned(), child, output, started })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Returns the number of lines so far: where to begin, for [`Program::wait_for_line`].
    pub fn position(&self) -> usize {
        let state = self.output.state();
        state.dropped + state.lines.len()
    }

    /// Returns the lines from that position on, of both streams, as they came.
    pub fn lines_from(&self, position: usize) -> Vec<String> {
        let state = self.output.state();
        state.lines.iter().skip(position.saturating_sub(state.dropped)).cloned().collect()
    }

    /// Waits for a line that matches, from that position on, and returns it.
    pub fn wait_for_line(&self, position: usize, within: Duration, matches: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + within;
        let mut next = position;
        let mut state = self.output.state();
        loop {
            if let Some(line) = state.lines.iter().skip(next.saturating_sub(state.dropped)).find(|line| matches(line)) {
                return Ok(line.clone());
            }
            next = state.dropped + state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match (state.open_streams, left.is_zero()) {
                (0, _) => "ended first",
                (_, true) => "did not say it in time",
                _ => {
                    state = self.output.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                    continue;
                }
            };
            drop(state);
            bail!("{} {why} ({within:?}); its last lines:\n{}", self.name, self.tail());
        }
    }

    /// Returns all lines once it, and whoever holds its streams, has ended.
    pub fn all_lines(&self, within: Duration) -> Result<Vec<String>> {
        let state = self.output.state();
        let waits = |state: &mut OutputState| state.open_streams > 0;
        let waited = self.output.changed.wait_timeout_while(state, within, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(state.open_streams == 0, "{} still has its streams open after {within:?}", self.name);
        Ok(state.lines.iter().cloned().collect())
    }

    /// Ends it as an operator would: SIGTERM, and waits for the exit.
    pub fn stop(&mut self, within: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("send SIGTERM")?;
        match wait_for_exit(&mut self.child, within)? {
            Some(status) => Ok(status),
            None => {
                self.child.kill()?;
                self.child.wait()?;
                bail!("{} did not stop within {within:?} of SIGTERM; its last lines:\n{}", self.name, self.tail())
            }
        }
    }

    /// Waits for the exit.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        wait_for_exit(&mut self.child, within)?.with_context(|| format!("{} did not end within {within:?}", self.name))
    }

    /// Returns the exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    fn tail(&self) -> String {
        let lines = self.lines_from(0);
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child to exit; `None` when it still runs at the deadline.
pub fn wait_for_exit(child: &mut Child, within: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(EXIT_POLL);
    }
}

/// Runs a command to its end, which has to be a success; its output goes where ours goes.
pub fn run(mut command: Command, within: Duration) -> Result<()> {
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("start {command:?}"))?;
    match wait_for_exit(&mut child, within)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{command:?} ended with {status}"),
        None => {
            child.kill()?;
            child.wait()?;
            bail!("{command:?} took more than {within:?}")
        }
    }
}

/// Asks a process to end, and does not wait for it.
pub fn terminate(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(pid as i32).context("no process has the number 0")?;
    Ok(kill_process(pid, Signal::TERM)?)
}

/// Returns the CPU time that a process, with all of its threads, has used so far. A zombie still tells.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name is in parentheses and may hold anything; after it, utime and stime are the 12th and 13th field.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks: Vec<u64> = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    let [user, system] = ticks[..] else { bail!("{path} has no CPU times: {stat}") };
    Ok(ticks_to_time(user + system))
}

/// Returns the resident memory of a process in kB (VmRSS).
pub fn resident_kb(pid: u32) -> Result<u64> {
    memory_kb(pid, "VmRSS:")
}

/// Returns the most resident memory that a process has had since [`forget_peak`], or its start, in kB (VmHWM).
pub fn peak_kb(pid: u32) -> Result<u64> {
    memory_kb(pid, "VmHWM:")
}

/// Lets the peak of a process begin anew at what it has now (proc_pid_clear_refs(5)).
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("forget the peak of a process's memory")
}

fn memory_kb(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kb = line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|number| number.trim().parse().ok());
    kb.with_context(|| format!("{path} has no {name}"))
}

/// Returns a number of the kernel's clock ticks as time.
pub fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[derive(Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Default)]
struct OutputState {
    lines: VecDeque<String>,
    dropped: usize,
    open_streams: usize,
}

impl Output {
    fn state(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a stream to its end on a thread of its own, which ends with the stream.
fn read_lines(stream: impl Read + Send + 'static, output: Arc<Output>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let mut state = output.state();
            if state.lines.len() == LINES_MAX {
                state.lines.pop_front();
                state.dropped += 1;
            }
            state.lines.push_back(text);
            drop(state);
            output.changed.notify_all();
        }
        output.state().open_streams -= 1;
        output.changed.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Program::start("sh", command).expect("sh starts")
    }

    #[test]
    fn lines_of_both_streams_are_seen() {
        let program = shell("echo one; echo two >&2");
        let within = Duration::from_secs(10);
        assert_eq!(program.wait_for_line(0, within, |line| line.starts_with('o')).expect("one"), "one");
        assert_eq!(program.wait_for_line(0, within, |line| line.starts_with('t')).expect("two"), "two");
    }

    #[test]
    fn a_program_that_ends_first_is_shown_with_its_last_lines() {
        let program = shell("echo no such key");
        let error = program.wait_for_line(0, Duration::from_secs(10), |line| line == "ready").expect_err("it ended");
        assert_eq!(error.to_string(), "sh ended first (10s); its last lines:\nno such key");
    }

    #[test]
    fn a_program_is_stopped_and_measured() {
        let mut program = shell("echo up; exec sleep 60");
        program.wait_for_line(0, Duration::from_secs(10), |line| line == "up").expect("up");
        assert!(resident_kb(program.id()).expect("a size") > 0);
        assert!(cpu_time(program.id()).expect("a time") < Duration::from_secs(10));
        assert!(!program.stop(Duration::from_secs(10)).expect("it stops").success());
    }
}
