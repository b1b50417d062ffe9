//! The libraries of the fixtures: built from their sources, in Rust or in C, or one that is there.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

use crate::serval::{cargo, repository};

/// What the servlets of the cases are written in.
#[derive(Clone)]
pub enum Fixtures {
    /// `fixtures/conformance`, against the SDK.
    Rust,
    /// `fixtures/conformance-c`, against servlet.h.
    C,
    /// A library as it is.
    Library(PathBuf),
}

impl FromStr for Fixtures {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Fixtures, Infallible> {
        Ok(match text {
            "rust" => Fixtures::Rust,
            "c" => Fixtures::C,
            path => Fixtures::Library(path.into()),
        })
    }
}

impl Fixtures {
    /// Returns the library, built once for each process.
    pub(super) fn library(&self) -> Result<PathBuf> {
        static RUST: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static C: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let (once, build): (_, fn() -> Result<PathBuf>) = match self {
            Fixtures::Rust => (&RUST, build_in_rust),
            Fixtures::C => (&C, build_in_c),
            Fixtures::Library(path) if path.is_file() => return Ok(path.clone()),
            Fixtures::Library(path) => bail!("there is no library {}", path.display()),
        };
        once.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(|text| anyhow!(text))
    }
}

fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    repository().join(target).join("conformance-fixtures")
}

fn build_in_rust() -> Result<PathBuf> {
    let package = repository().join("crates/e2e/fixtures/conformance");
    let mut command = Command::new(cargo());
    command.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]).arg(package.join("Cargo.toml"));
    command.arg("--target-dir").arg(target()).current_dir(repository()).stdin(Stdio::null());
    finish(command)?;
    Ok(target().join("release/libfixtures.so"))
}

fn build_in_c() -> Result<PathBuf> {
    let include = repository().join("crates/abi/include");
    fs::create_dir_all(target())?;
    let library = target().join("fixtures-c.so");
    // Put in place whole, for a run beside this one that uses it.
    let unfinished = target().join(format!("fixtures-c.{}.so", std::process::id()));
    compile(&repository().join("crates/e2e/fixtures/conformance-c"), &include, &unfinished)?;
    fs::rename(unfinished, &library)?;
    Ok(library)
}

/// Makes a library of all C files of a folder, with each warning an error. `include` is the folder of servlet.h.
pub fn compile(folder: &Path, include: &Path, library: &Path) -> Result<()> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        sources.push(entry?.path());
    }
    sources.retain(|path| path.extension().is_some_and(|ending| ending == "c"));
    sources.sort();
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-shared", "-fPIC"]);
    command.arg("-fvisibility=hidden").arg("-I").arg(include).arg("-o").arg(library).args(sources);
    finish(command)
}

fn finish(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("the fixtures do not build: {command:?} ended with {status}");
    }
    Ok(())
}
