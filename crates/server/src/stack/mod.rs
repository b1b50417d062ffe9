//! The native stack of one of our threads, for the log line of a call that takes long (the container's watch asks for it).
//!
//! A process of its own, `serval stack PROCESS THREAD`, stops the thread by ptrace for as long as it takes to copy its registers and its
//! stack, some ten microseconds, lets it go, and then finds out the calls and their names from the files that are mapped. The other way
//! would be a signal whose handler copies the same; but a handler makes a servlet's `nanosleep`, `poll` or `select` return early with
//! EINTR, whatever the flags say, and runs on the servlet's stack. A stop by ptrace lets the kernel take them up again by itself, but for
//! the few that any stop ends (signal(7): `epoll_wait`, `semop`, `sigtimedwait`, and sockets with a timeout of their own). And what reads
//! debugging tables, hundreds of megabytes maybe and maybe broken, is not the process that serves: it can crash, and ends by itself in
//! time.

mod calls;
mod snapshot;

use std::io::Read as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{
    DumpableBehavior, PTracer, Pid, Resource, Rlimit, getpid, set_dumpable_behavior, set_ptracer, setrlimit,
};
use rustix::thread::Pid as Thread;

use snapshot::Snapshot;

/// How long it may take to find the names of all calls: far more than it takes, since a machine on which calls are slow may be busy.
const WITHIN: Duration = Duration::from_secs(10);
/// LIMIT: bytes that are read of what the other process says.
const TEXT_BYTES_MAX: u64 = 64 << 10;
/// LIMIT: bytes of memory for debugging tables, which may be compressed. Files that are mapped do not count.
const MEMORY_BYTES_MAX: u64 = 2 << 30;

/// What a thread of this process is doing: its calls, innermost first, in a line. May take `WITHIN`; one at a time, since only one
/// process at once may look at us.
pub fn of_thread(thread: Thread) -> String {
    ask(thread).unwrap_or_else(|why| {
        // Most often it is the same each time.
        static SAID: Mutex<String> = Mutex::new(String::new());
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if *said == why {
            return format!("not known; {}", in_kernel(thread));
        }
        said.clone_from(&why);
        format!("not known: {why}; {}", in_kernel(thread))
    })
}

fn ask(thread: Thread) -> Result<String, String> {
    let wrong = |error| format!("the process that reads it cannot be started: {error}");
    let (process, thread) = (getpid().to_string(), thread.to_string());
    let mut child = Command::new("/proc/self/exe")
        .args(["stack", &process, &thread])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(wrong)?;
    // Where only parents may look (Yama); elsewhere there is no such setting. It waits for the end of its input.
    let _ = set_ptracer(Pid::from_raw(child.id() as i32).map_or(PTracer::None, PTracer::ProcessID));
    drop(child.stdin.take());
    let mut text = String::new();
    let read = child.stdout.take().map(|out| out.take(TEXT_BYTES_MAX).read_to_string(&mut text));
    let ended = child.wait().map_err(wrong)?;
    let _ = set_ptracer(PTracer::None);
    let lines: Vec<&str> = text.lines().collect();
    match read {
        Some(Ok(_)) if ended.success() && !lines.is_empty() => Ok(lines.join("; ")),
        _ if !ended.success() && !lines.is_empty() => Err(lines.join("; ")),
        _ => Err(format!("the process that reads it has ended with {ended}")),
    }
}

/// What is known without ptrace.
fn in_kernel(thread: Thread) -> String {
    let read = |file| std::fs::read_to_string(format!("/proc/self/task/{thread}/{file}")).unwrap_or_default();
    let call = read("syscall");
    match call.split_whitespace().next().map(str::parse::<u32>) {
        Some(Ok(number)) => {
            let place = read("wchan");
            let place = if matches!(&*place, "" | "0") { String::new() } else { format!(", in {place}") };
            format!("it waits in the kernel (system call {number}{place})")
        }
        _ => "it does not wait in the kernel".to_owned(),
    }
}

/// `serval stack PROCESS THREAD`, which the server starts, and nobody else. Prints a call a line, or, when it fails, why.
pub fn run(process: i32, thread: i32) -> ExitCode {
    // A core would hold a servlet's stack, and no limit of cores holds where the kernel pipes them to a program.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let max = Some(MEMORY_BYTES_MAX);
    // Refused where the limit is lower.
    let _ = setrlimit(Resource::Data, Rlimit { current: max, maximum: max });
    std::thread::spawn(|| {
        std::thread::sleep(WITHIN);
        println!("it was not read within {WITHIN:?}");
        // What was stopped goes on with that.
        std::process::exit(1);
    });
    let _ = std::io::stdin().read(&mut [0]);
    match Snapshot::take(process, thread) {
        Ok(snapshot) => {
            for call in calls::of(&snapshot) {
                println!("{call}");
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
