//! Front ends that people serve, as npm installs them (swagger-ui-dist, mathjax, reveal.js, monaco-editor): each file's bytes, type
//! and compression, and a page of each in a real browser. What looks at them is `frontends/check.mjs`.
//!
//! Needs npm, node and Chromium. The packages are installed into `front-ends` in the target folder, not into the repository.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::process;
use e2e::serval::{self, Home, Serval};

const INSTALLED_WITHIN: Duration = Duration::from_secs(300);
const CHECKED_WITHIN: Duration = Duration::from_secs(600);
/// Packages, and the names that they are served under.
const PACKAGES: [(&str, &str); 5] = [
    ("swagger-ui-dist", "swagger-ui"),
    ("mathjax", "mathjax"),
    ("@mathjax/mathjax-newcm-font", "mathjax-newcm-font"),
    ("reveal.js", "reveal.js"),
    ("monaco-editor", "monaco-editor"),
];

fn main() -> ExitCode {
    match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("frontends: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<()> {
    let ours = serval::repository().join("crates/e2e/frontends");
    let installed = install(&ours)?;
    let home = Home::new()?;
    home.configure("[defaults.context]\ncompression = [\"gzip\"]")?;
    for (package, name) in PACKAGES {
        let webapp = home.path("webapps").join(name);
        copy(&installed.join("node_modules").join(package), &webapp)?;
        let pages = ours.join("pages").join(name);
        if pages.exists() {
            copy(&pages, &webapp)?;
        }
    }
    fs::create_dir(home.path("webapps/ROOT"))?;
    // Browsers ask for it by themselves.
    fs::copy(home.path("webapps/swagger-ui/favicon-32x32.png"), home.path("webapps/ROOT/favicon.ico"))?;
    let serval = Serval::start(&home)?;
    let mut node = Command::new("node");
    node.current_dir(&installed).arg("check.mjs").arg(format!("http://{}", serval.address()));
    node.arg(home.path("webapps")).arg(installed.join("screenshots"));
    process::run(node, CHECKED_WITHIN)?;
    ensure!(serval.stop()?.success(), "the server did not stop well");
    Ok(())
}

/// Returns the folder with the packages, and what looks at them.
fn install(ours: &Path) -> Result<PathBuf> {
    let binary = serval::binary()?;
    let target = binary.parent().and_then(Path::parent).context("serval lies in a target folder")?;
    let folder = target.join("front-ends");
    fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json", "check.mjs"] {
        fs::copy(ours.join(file), folder.join(file)).with_context(|| format!("copy {file}"))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(&folder).args(["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]);
    process::run(npm, INSTALLED_WITHIN).context("this program needs npm")?;
    Ok(folder)
}

/// Copies a folder whole, over what is there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.arg("-rT").arg(from).arg(to);
    fs::create_dir_all(to)?;
    process::run(copy, INSTALLED_WITHIN)
}
