//! `serval guard COMMAND...`, which the server starts a build's command through, and nobody else: it ends the command, and all that
//! it has started, when the server has gone, however that went.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Signal, getpgrp, kill_process_group};

/// Our standard input is a pipe of the server's, and ends with it. We lead a process group of our own.
pub fn run(words: &[String]) -> ExitCode {
    std::thread::spawn(|| {
        // Nothing is ever written into it.
        let _ = std::io::stdin().read(&mut [0]);
        let _ = kill_process_group(getpgrp(), Signal::KILL);
    });
    let Some((program, arguments)) = words.split_first() else { return ExitCode::FAILURE };
    match Command::new(program).args(arguments).stdin(Stdio::null()).status() {
        // As shells tell it.
        Ok(status) => {
            ExitCode::from(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1).clamp(0, 255) as u8)
        }
        Err(error) => {
            eprintln!("`{program}` cannot be run: {error}; is it installed?");
            ExitCode::from(127)
        }
    }
}
