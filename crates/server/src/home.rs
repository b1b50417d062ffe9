//! The home that a running server has for itself, and what it needs of the system.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};

use rustix::fs::{FlockOperation, Mode, StatVfsMountFlags, flock, statvfs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use serval_config::Server;

/// Files that are open beside connections: libraries, static files, watches, logs.
const OTHER_FILES: u64 = 256;

/// A home's `var` folder, which no other server uses until this is dropped.
pub struct Lock {
    _file: File,
}

/// Makes `var/run` and locks it, or says in a sentence why not.
pub fn lock(config: &Server) -> Result<Lock, String> {
    let run = config.var.join("run");
    let file = run.join("serval.lock");
    let open = || {
        std::fs::create_dir_all(&run)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file)
    };
    let mut file = open().map_err(|error| {
        let var = config.var.display();
        format!("{var} cannot be written: {error}; make it a folder that Serval may write, or name another one as `var` in [server]")
    })?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(format!("{} cannot be locked: {error}", run.join("serval.lock").display()));
        }
        let mut other = String::new();
        let _ = file.read_to_string(&mut other);
        return Err(format!(
            "Serval already runs in {} (process {}): stop that one first, or start this one with another --home",
            config.home.display(),
            other.trim()
        ));
    }
    // For whoever finds it locked; the lock itself is the kernel's, and ends with the process.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Lock { _file: file })
}

/// What Serval writes, others may not: a umask that lets them has been forgotten by whoever has started it. While there is one thread.
pub fn mind_the_umask() {
    let others_write = Mode::WOTH;
    let (usual, given) = (Mode::WGRP | others_write, umask(Mode::WGRP | others_write));
    let mask = if given.contains(others_write) { given } else { given | usual };
    umask(mask);
}

/// Libraries run from copies in `var`, and so do the programs of builds.
pub fn warn_of_noexec(config: &Server) {
    let var = &config.var;
    if statvfs(var).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        tracing::warn!(
            "{} lies on a file system that is mounted noexec: no servlet library can be loaded from there; name a folder of another one \
             as `var` in [server], or mount it without",
            var.display()
        );
    }
}

/// Raises the limit of open files as far as the system lets, and warns if the connections do not fit.
pub fn raise_file_limit(config: &Server) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!("the limit of open files cannot be raised: {error}");
    }
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    let connections: u64 = config.listeners.iter().map(|listener| listener.connections_max as u64).sum();
    if limit < connections + OTHER_FILES {
        tracing::warn!(
            "this process may open {limit} files, too few for {connections} connections and {OTHER_FILES} other files: \
             raise the limit (ulimit -n), or lower connections_max"
        );
    }
}
