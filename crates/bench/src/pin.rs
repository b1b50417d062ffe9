//! Server and load on a core each, so that neither takes the other's time. Without `taskset`, or with one core, both run
//! free, and the report says so.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// Which part of a measure a program is.
#[derive(Clone, Copy)]
pub enum Role {
    Server,
    Load,
}

/// How programs are pinned on this machine.
#[derive(Clone)]
pub struct Pin {
    taskset: Option<PathBuf>,
}

impl Pin {
    /// Looks at what there is.
    pub fn find() -> Pin {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Pin { taskset: find_program("taskset").filter(|_| cores > 1) }
    }

    pub fn is_pinned(&self) -> bool {
        self.taskset.is_some()
    }

    /// Returns what to put before a program's name; it becomes that program, so the process id stays.
    pub fn wrapper(&self, role: Role) -> Vec<OsString> {
        let core = match role {
            Role::Server => "0",
            Role::Load => "1",
        };
        self.taskset.iter().flat_map(|path| [path.into(), "-c".into(), core.into()]).collect()
    }

    /// Returns the command, pinned.
    pub fn command(&self, role: Role, program: impl Into<OsString>) -> Command {
        let mut words = self.wrapper(role);
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

/// Looks for a program on the path.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
