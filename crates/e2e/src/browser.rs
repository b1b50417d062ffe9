//! The scripts of `crates/e2e/browser`, which drive a real Chromium.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process;
use crate::serval::repository;

/// Runs one to its end; what is missing on this machine is named.
pub fn run(script: &str, arguments: &[&str], within: Duration) -> Result<()> {
    let folder = repository().join("crates/e2e/browser");
    let chromium = std::env::var_os("CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    ensure!(chromium.exists(), "{} is missing: install the package chromium, or set CHROMIUM", chromium.display());
    let driver = folder.join("node_modules/playwright-core/package.json");
    ensure!(driver.exists(), "playwright-core is missing: run `npm ci` in {}", folder.display());
    let mut command = Command::new("node");
    command.current_dir(&folder).arg(script).args(arguments);
    process::run(command, within).context("the browser's test (node has to be installed)")?;
    Ok(())
}
