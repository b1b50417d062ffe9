//! A disk that is full: `var` and `webapps` on small file systems of their own, which are filled under load. No request fails that needs no
//! room; what needs some is refused in words, and is done when there is room again; nothing is half.
//!
//! Mounts them in a mount namespace of its own, so nobody else sees them, and they go with this program whatever happens. For that it has
//! to be root, or the system has to let users have namespaces; it says so where neither is the case.
#![forbid(unsafe_code)]

mod full;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

/// Set for the program in its own namespace.
const INSIDE: &str = "DISK_FULL_INSIDE";

fn main() -> ExitCode {
    let done = match std::env::var_os(INSIDE) {
        Some(_) => {
            full::check().map(|steps| println!("disk-full: {steps} steps, no request failed, nothing was lost or half"))
        }
        None => in_a_namespace(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("disk-full: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this program anew where it may mount file systems.
fn in_a_namespace() -> Result<()> {
    let unshare = || {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // The kernel ends it with this one.
        command.args(["--mount", "--propagation", "private", "--kill-child"]);
        command
    };
    let tried = unshare().arg("true").output().context("this program needs `unshare`, of util-linux")?;
    let why = String::from_utf8_lossy(&tried.stderr);
    ensure!(
        tried.status.success(),
        "to mount file systems it has to be root, or users may have namespaces: {}",
        why.trim()
    );
    let status = unshare().arg(std::env::current_exe()?).env(INSIDE, "1").status()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
