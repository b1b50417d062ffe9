//! Builds webapps that carry their source, one at a time, and puts the library into WEB-INF/lib, where the deployment finds it
//! like any other. Off unless `[build] sources` is set.
//!
//! Rust (`WEB-INF/Cargo.toml`), C and C++ (`WEB-INF/src`), or what `[build] command` of web.toml says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serval_config::Server;
use serval_container::{Container, Source};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use crate::sdk;

/// LIMIT: source files of one webapp that are looked at.
const FILES_MAX: usize = 10_000;
/// The priority of builds, as of `nice`: requests go before.
const NICE: i32 = 10;

/// Builds what `queue` brings until `stopped` turns true; a build that runs then is ended.
pub async fn build_all(
    config: Arc<Server>,
    container: Arc<Container>,
    mut queue: mpsc::Receiver<Vec<Source>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut failed: HashMap<PathBuf, SystemTime> = HashMap::new();
    loop {
        let sources = tokio::select! {
            sources = queue.recv() => sources,
            () = crate::run::told(&mut stopped) => return,
        };
        let Some(sources) = sources else { return };
        if !config.sources {
            continue;
        }
        failed.retain(|webapp, _| sources.iter().any(|source| source.webapp == *webapp));
        for source in sources {
            let Some(build) = Build::of(&source, &config.var) else { continue };
            let built = std::fs::metadata(&build.library).and_then(|file| file.modified()).ok();
            if built.is_some_and(|built| built >= build.newest) || failed.get(&source.webapp) == Some(&build.newest) {
                continue;
            }
            let newest = build.newest;
            container.set_building(&source.webapp, built.is_none());
            println!("{} building", source.context);
            let began = Instant::now();
            let result = tokio::select! {
                result = tokio::time::timeout(config.build_timeout, build.run(&config.var)) => result,
                () = crate::run::told(&mut stopped) => return,
            };
            let result = result.unwrap_or_else(|_| Err("it took longer than build_timeout and was ended".to_owned()));
            match result {
                Ok(()) => println!("{} built in {:.1} s", source.context, began.elapsed().as_secs_f64()),
                Err(why) => {
                    let context = &source.context;
                    tracing::error!("{context}: the build failed: {why}; what served before serves on");
                    failed.insert(source.webapp.clone(), newest);
                }
            }
            mount(&container).await;
            container.set_building(&source.webapp, false);
        }
    }
}

/// Has the new library loaded before anybody is told that nothing is being built any more.
async fn mount(container: &Arc<Container>) {
    // LIMIT: the webapps of others may keep changing; they are not waited for.
    for _ in 0..20 {
        match container.deploy_pass().await.again_after {
            Some(after) => tokio::time::sleep(after).await,
            None => break,
        }
    }
    container.settled().await;
}

/// How a webapp's source becomes its library.
struct Build {
    /// WEB-INF, where the command runs.
    folder: PathBuf,
    /// What the command makes, and where it belongs.
    library: PathBuf,
    /// When the newest source was changed; the library gets the same time, so that a change during the build is seen after it.
    newest: SystemTime,
    command: Command,
    by: Tool,
}

#[derive(PartialEq)]
enum Tool {
    /// The command of web.toml, which puts the library into `lib` by itself.
    Own,
    /// Says on its standard output where the library is.
    Cargo,
    /// Writes beside the library.
    Compiler,
}

impl Build {
    /// `None`: there is no source.
    fn of(source: &Source, var: &Path) -> Option<Build> {
        let folder = source.webapp.join("WEB-INF");
        let name = source.webapp.file_name()?.to_string_lossy().into_owned();
        let library = folder.join("lib").join(format!("{name}.so"));
        let (by, mut command) = match &source.command {
            Some(words) => {
                let mut command = Command::new(words.first()?);
                command.args(&words[1..]);
                (Tool::Own, command)
            }
            None if folder.join("Cargo.toml").is_file() => {
                let mut command = Command::new("cargo");
                command.args(["build", "--release", "--message-format=json-render-diagnostics"]);
                command.stdout(Stdio::piped());
                (Tool::Cargo, command)
            }
            None => (Tool::Compiler, compiler(&folder, &sdk::folder(var).join("abi/include"), &unfinished(&library))?),
        };
        command.current_dir(&folder).env_clear().stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_passed_on)));
        command.env("CARGO_TARGET_DIR", var.join("work/build").join(&name));
        let newest = newest(&folder)?;
        Some(Build { folder, library, newest, command, by })
    }

    /// Runs the command; its output goes whole to the terminal. Dropped before its end, it ends all that it started.
    async fn run(mut self, var: &Path) -> Result<(), String> {
        sdk::unpack(var).map_err(|error| format!("the SDK cannot be written into {}: {error}", var.display()))?;
        let in_lib = |error| format!("{} cannot be written: {error}", self.folder.join("lib").display());
        std::fs::create_dir_all(self.folder.join("lib")).map_err(in_lib)?;
        let program = self.command.as_std().get_program().to_string_lossy().into_owned();
        let mut child =
            self.command.spawn().map_err(|error| format!("`{program}` cannot be run: {error}; is it installed?"))?;
        let group = Group::of(&child);
        let said = async {
            let mut text = String::new();
            match child.stdout.take() {
                Some(mut output) => output.read_to_string(&mut text).await.map(|_| text),
                None => Ok(text),
            }
        };
        let said = said.await.map_err(|error| format!("the output of `{program}` cannot be read: {error}"))?;
        let status = child.wait().await.map_err(|error| format!("`{program}` cannot be waited for: {error}"))?;
        drop(group);
        if !status.success() {
            return Err(format!("`{program}` ended with {status}, as shown above"));
        }
        let unfinished = unfinished(&self.library);
        match self.by {
            Tool::Own => return Ok(()),
            Tool::Compiler => {}
            Tool::Cargo => {
                let made = said.lines().filter_map(made_by_cargo).next_back();
                let made =
                    made.ok_or("cargo made no library: write `crate-type = [\"cdylib\"]` below [lib] in Cargo.toml")?;
                std::fs::copy(made, &unfinished).map_err(in_lib)?;
            }
        }
        let place = || {
            std::fs::File::options().write(true).open(&unfinished)?.set_modified(self.newest)?;
            std::fs::rename(&unfinished, &self.library)
        };
        place().map_err(in_lib)
    }
}

/// Where a library is until it is whole; the loader does not look at hidden files.
fn unfinished(library: &Path) -> PathBuf {
    library.with_file_name(format!(".{}", library.file_name().unwrap_or_default().to_string_lossy()))
}

/// The compiler's command, if there are C or C++ files in `src`.
fn compiler(folder: &Path, header: &Path, output: &Path) -> Option<Command> {
    let files = |ending: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder.join("src")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> =
            entries.map(|file| file.path()).filter(|file| file.extension().is_some_and(|own| own == ending)).collect();
        files.sort();
        files
    };
    let (c, cpp) = (files("c"), files("cpp"));
    let (compiler, standard, files) = if c.is_empty() { ("c++", "-std=c++17", cpp) } else { ("cc", "-std=c99", c) };
    if files.is_empty() {
        return None;
    }
    let mut command = Command::new(compiler);
    command.args([standard, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]).arg(header);
    command.arg("-o").arg(output).args(files);
    Some(command)
}

/// What a build may see of our environment: where the tools are, and how they reach the network.
fn is_passed_on(name: &str) -> bool {
    const NAMES: &[&str] = &["PATH", "HOME", "USER", "LANG", "TERM", "TMPDIR", "CC", "CXX", "CARGO_HOME"];
    const PREFIXES: &[&str] =
        &["LC_", "RUSTUP_", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "SSL_CERT_"];
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.to_ascii_lowercase().ends_with("_proxy")
}

/// Reads one of cargo's messages: the library, if it is about one that a C program could load.
fn made_by_cargo(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let texts = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let is_library = message["reason"] == "compiler-artifact"
        && texts(&message["target"]["crate_types"]).iter().any(|kind| kind == "cdylib");
    let files = is_library.then(|| texts(&message["filenames"]))?;
    files.into_iter().map(PathBuf::from).find(|file| file.extension().is_some_and(|ending| ending == "so"))
}

/// A build and all that it has started, at low priority; dropped, they are ended.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if pid.is_some() {
            let _ = rustix::process::setpriority_process(pid, NICE);
        }
        Group(pid)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Most often nobody is left, after the command itself has ended.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// When the newest file under src, or one beside it that says how to build, was changed.
fn newest(inside: &Path) -> Option<SystemTime> {
    let mut folders = vec![inside.join("src")];
    let of = |name: &&str| std::fs::metadata(inside.join(name)).and_then(|file| file.modified()).ok();
    let mut newest = ["web.toml", "Cargo.toml", "build.rs"].iter().filter_map(of).max();
    let mut left = FILES_MAX;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            left = left.checked_sub(1)?;
            let Ok(file) = entry.metadata() else { continue };
            if file.is_dir() {
                folders.push(entry.path());
            } else {
                newest = newest.max(file.modified().ok());
            }
        }
    }
    newest
}
