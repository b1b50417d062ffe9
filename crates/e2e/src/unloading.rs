//! The libraries that leave something behind, each in its way, and what becomes of them when they are replaced: gone, or mapped for
//! a reason. For a test of a few reloads, and for a soak of many.

use crate::http_client::Connection;
use crate::process::{resident_kb, run};
use crate::serval::{Home, Serval, binary, cargo, repository};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(60);
/// Connections that ask each generation, so that more than one thread of the server runs it.
const CONNECTIONS: usize = 4;
/// What is kept at most: as many generations as `generations_kept` says where nothing is configured, and the current one.
const KEPT_MAX: usize = 3 + 1;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

enum Source {
    Rust,
    C(&'static [&'static str]),
    Cpp(&'static [&'static str]),
}

/// A library that leaves something behind.
pub struct Case {
    pub name: &'static str,
    source: Source,
    /// What it is asked for below its webapp.
    path: &'static str,
    status: u16,
    /// `None`: it goes. Else a part of why it stays.
    stays: Option<&'static str>,
    /// How many of its generations stay, the first ones.
    stay_max: usize,
}

const fn goes(name: &'static str, source: Source, path: &'static str) -> Case {
    Case { name, source, path, status: 200, stays: None, stay_max: 0 }
}

const fn stays(name: &'static str, source: Source, path: &'static str, why: &'static str) -> Case {
    Case { name, source, path, status: 200, stays: Some(why), stay_max: usize::MAX }
}

const HIDDEN: &[&str] = &["-fvisibility=hidden"];

/// Not one of the others: its generations use something up.
pub const INITIAL_EXEC: Case = goes("c-initial-exec", Source::C(&["-DINITIAL_EXEC"]), "/plain");

pub const CASES: &[Case] = &[
    goes("rust-plain", Source::Rust, "/plain"),
    goes("rust-thread-local", Source::Rust, "/thread-local"),
    goes("rust-thread-local-pool", Source::Rust, "/thread-local-pool"),
    goes("rust-current", Source::Rust, "/current"),
    goes("rust-joined", Source::Rust, "/joined"),
    goes("rust-detached", Source::Rust, "/detached"),
    goes("rust-waits", Source::Rust, "/waits"),
    goes("rust-tokio-one", Source::Rust, "/tokio-one"),
    goes("rust-tokio-many", Source::Rust, "/tokio-many"),
    goes("rust-rand", Source::Rust, "/rand"),
    Case { name: "rust-panics", source: Source::Rust, path: "/panics", status: 500, stays: None, stay_max: 0 },
    goes("rust-heap", Source::Rust, "/heap"),
    goes("c-key", Source::C(&[]), "/key"),
    goes("c-key-of-a-constructor", Source::C(&["-DCONSTRUCTOR"]), "/key"),
    goes("c-joined", Source::C(&[]), "/joined"),
    goes("c-detached", Source::C(&[]), "/detached"),
    goes("c-exits", Source::C(&[]), "/exits"),
    stays("c-for-ever", Source::C(&[]), "/for-ever", "of its own threads still run"),
    // The next ones find that the signal has its handler.
    Case { stay_max: 1, ..stays("c-signal", Source::C(&[]), "/signal", "it handles signal 12") },
    stays("c-unseen", Source::C(&["-DUNSEEN"]), "/plain", "it uses tss_create"),
    stays("c-nodelete", Source::C(&["-Wl,-z,nodelete"]), "/plain", "it forbids to be unloaded (DF_1_NODELETE)"),
    goes("cpp-thread-local", Source::Cpp(HIDDEN), "/thread-local"),
    goes("cpp-joined", Source::Cpp(HIDDEN), "/joined"),
    goes("cpp-detached", Source::Cpp(HIDDEN), "/detached"),
    goes("cpp-throws", Source::Cpp(HIDDEN), "/throws"),
    stays("cpp-unique", Source::Cpp(&["-DUNIQUE"]), "/throws", "it has unique symbols such as "),
];

/// What came of a library that was replaced many times, or of several.
#[derive(Default)]
pub struct Replaced {
    pub reloads: usize,
    pub requests: usize,
    pub left_mapped: usize,
    /// Resident memory in kB after the first tenth, and at the end.
    pub resident: (u64, u64),
    /// What the server's folder `var` takes on the disk, in kB, after the first tenth and at the end.
    pub disk: (u64, u64),
}

impl Replaced {
    pub fn add(&mut self, other: &Replaced) {
        self.reloads += other.reloads;
        self.requests += other.requests;
        self.left_mapped += other.left_mapped;
        for (sum, (before, after)) in [(&mut self.resident, other.resident), (&mut self.disk, other.disk)] {
            *sum = (sum.0 + before, sum.1 + after);
        }
    }
}

/// How a library is replaced.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// `serval reload`, of the same file.
    Command,
    /// Another file is renamed over it, which the server sees.
    Rename,
}

impl Case {
    /// Replaces the library that many times, and asks each generation. An error tells what was not as it should be: an answer, or
    /// what became of an old generation.
    pub fn run(&self, reloads: usize, by: By) -> Result<Replaced> {
        let home = Home::new()?;
        home.configure("[defaults.context]\nsettle_time = \"1ms\"\ndrain_timeout = \"5s\"")?;
        let bytes = std::fs::read(self.build()?)?;
        let lib = home.path("webapps/x/WEB-INF/lib");
        std::fs::create_dir_all(&lib)?;
        let write = |number: usize| -> Result<()> {
            let unfinished = home.path("unfinished");
            // What is behind its last section is nobody's, and makes it another file.
            std::fs::write(&unfinished, [&bytes[..], number.to_string().as_bytes()].concat())?;
            Ok(std::fs::rename(unfinished, lib.join("x.so"))?)
        };
        write(1)?;
        let serval = Serval::start(&home)?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(serval.address(), WITHIN)?);
        }
        let (mut position, mut resident_early, mut disk_early) = (0, 0, 0);
        for number in 1..=reloads + 1 {
            let ready = |line: &str| line.starts_with(&format!("/x ready (generation {number},"));
            serval.program().wait_for_line(position, WITHIN, ready)?;
            for connection in &mut connections {
                let answer = connection.get(&format!("/x{}", self.path))?;
                ensure!(answer.status == self.status, "{}: {} from generation {number}", self.name, answer.status);
            }
            // Nearer to it than to those of all generations before.
            position = serval.program().position().saturating_sub(50);
            if number == 1 + reloads / 10 {
                resident_early = resident_kb(serval.program().id())?;
                disk_early = disk_kb(&home.path("var"))?;
            }
            match by {
                _ if number > reloads => {}
                By::Rename => write(number + 1)?,
                By::Command => {
                    let mut command = Command::new(binary()?);
                    command.args(["reload", "/x", "--home"]).arg(home.path("")).stdout(Stdio::null());
                    run(command, WITHIN)?;
                }
            }
        }
        for number in 1..=reloads {
            self.check_end(&serval, number)?;
        }
        self.check_kept(&home)?;
        let (resident_late, disk_late) = (resident_kb(serval.program().id())?, disk_kb(&home.path("var"))?);
        let status = serval.stop()?;
        ensure!(status.success(), "{}: the server ended with {status}", self.name);
        let left_mapped = reloads.min(self.stay_max);
        let requests = (reloads + 1) * CONNECTIONS;
        let (resident, disk) = ((resident_early, resident_late), (disk_early, disk_late));
        Ok(Replaced { reloads, requests, left_mapped, resident, disk })
    }

    /// Of the generations before, the server's folder has what it keeps, and no copy that was loaded; both go a little later than they.
    fn check_kept(&self, home: &Home) -> Result<()> {
        let count = |folder| std::fs::read_dir(home.path(folder)).map(Iterator::count);
        let deadline = Instant::now() + WITHIN;
        loop {
            let (kept, copies) = (count("var/generations/localhost/x")?, count("var/run/generations/localhost/x")?);
            if kept <= KEPT_MAX && copies <= 1 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{}: {kept} generations are kept, and {copies} copies", self.name);
            thread::sleep(LOOK_AGAIN_AFTER);
        }
    }

    fn check_end(&self, serval: &Serval, number: usize) -> Result<()> {
        let generation = format!("generation={number} ");
        let is_end = |line: &str| {
            line.contains(&generation)
                && (line.contains("the generation is gone") || line.contains("but stays mapped: "))
        };
        let line = serval.program().wait_for_line(0, WITHIN, is_end)?;
        let is_right = match self.stays.filter(|_| number <= self.stay_max) {
            None => line.contains("the generation is gone"),
            Some(why) => line.contains(why),
        };
        ensure!(is_right, "{}: {line}", self.name);
        Ok(())
    }

    /// Returns the library.
    pub fn build(&self) -> Result<PathBuf> {
        let fixtures = repository().join("crates/e2e/fixtures/unloading");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
        let target = repository().join(target).join("unloading");
        match self.source {
            Source::Rust => {
                // Another test of this process may build it: cargo waits for another cargo, and then finds it built.
                let package = fixtures.join("rust/Cargo.toml");
                let mut command = Command::new(cargo());
                command.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]).arg(package);
                command.arg("--target-dir").arg(&target);
                finish(command)?;
                Ok(target.join("release/libleaves.so"))
            }
            Source::C(flags) => self.compile("cc", "-std=gnu11", &fixtures.join("leaves.c"), flags, &target),
            Source::Cpp(flags) => self.compile("c++", "-std=c++17", &fixtures.join("leaves.cpp"), flags, &target),
        }
    }

    fn compile(&self, compiler: &str, standard: &str, source: &Path, flags: &[&str], target: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(target)?;
        let library = target.join(format!("{}.so", self.name));
        let mut command = Command::new(compiler);
        command.args([standard, "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-shared", "-fPIC", "-pthread"]);
        command.arg("-I").arg(repository().join("crates/abi/include")).args(flags).arg(source).arg("-o").arg(&library);
        finish(command)?;
        Ok(library)
    }
}

/// A file with several names takes its place once, and what goes meanwhile takes none.
fn disk_kb(folder: &Path) -> Result<u64> {
    let (mut folders, mut seen, mut blocks) = (vec![folder.to_owned()], HashSet::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let entry = entry?;
            let Ok(file) = entry.metadata() else { continue };
            if file.is_dir() {
                folders.push(entry.path());
            }
            if seen.insert(file.ino()) {
                blocks += file.blocks();
            }
        }
    }
    Ok(blocks / 2)
}

fn finish(mut command: Command) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("a library does not build: {command:?} ended with {status}");
    }
    Ok(())
}
