//! How a webapp's source becomes its library: Rust (`WEB-INF/Cargo.toml`), C and C++ (`WEB-INF/src`), or what `[build] command`
//! of web.toml says. Its output goes whole to the terminal. Called by `sources`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serval_container::Source;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};

use crate::dev::{TEXT_BYTES_MAX, dev};
use crate::{sdk, user};

/// The priority of builds, as of `nice`: requests go before.
const NICE: i32 = 10;
/// LIMIT: what cargo says about a build, beside what it shows.
const SAID_BYTES_MAX: u64 = 64 << 20;
/// The library that is built. One name for all webapps, so that a copied webapp replaces what was copied with it.
const LIBRARY: &str = "servlets.so";

pub struct Build {
    /// WEB-INF, where the commands run.
    folder: PathBuf,
    /// What they make, and where it belongs.
    library: PathBuf,
    /// Where the SDK is unpacked.
    var: PathBuf,
    /// In this order; the last one makes the library.
    commands: Vec<Command>,
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
    pub fn of(source: &Source, var: &Path) -> Result<Option<Build>, String> {
        let folder = source.webapp.join("WEB-INF");
        let library = folder.join("lib").join(LIBRARY);
        let scratch = source.folder.clone();
        std::fs::create_dir_all(&scratch).map_err(|error| format!("{} cannot be made: {error}", scratch.display()))?;
        let header = sdk::folder(var).join("abi/include");
        let web = serval_config::load_web(&folder.join("web.toml")).map_err(|problems| problems.to_string())?;
        let own = web.build.map(|build| build.command).unwrap_or_default();
        let (by, mut commands) = if let Some((program, arguments)) = own.split_first() {
            let mut command = guarded(program);
            command.args(arguments);
            (Tool::Own, vec![command])
        } else if folder.join("Cargo.toml").is_file() {
            let mut command = guarded("cargo");
            command.args(["build", "--release", "--message-format=json-render-diagnostics"]);
            command.stdout(Stdio::piped());
            (Tool::Cargo, vec![command])
        } else {
            (Tool::Compiler, compile(&folder.join("src"), &header, &scratch, &unfinished(&library)))
        };
        for command in &mut commands {
            command.env_clear().stdin(Stdio::piped()).process_group(0).kill_on_drop(true);
            command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_passed_on)));
            command.envs(user::home().map(|home| ("HOME", home)));
            command.env("CARGO_TARGET_DIR", &scratch).env("SERVAL_INCLUDE", &header);
            if command.as_std().get_current_dir().is_none() {
                command.current_dir(&folder);
            }
        }
        let build = Build { folder, library, var: var.to_owned(), commands, by };
        Ok(Some(build).filter(|build| !build.commands.is_empty()))
    }

    /// Runs the commands. Dropped before the end, it ends all that they started.
    pub async fn run(mut self) -> Result<(), String> {
        sdk::unpack(&self.var)
            .map_err(|error| format!("the SDK cannot be written into {}: {error}", self.var.display()))?;
        let in_lib = |error| format!("{} cannot be written: {error}", self.folder.join("lib").display());
        std::fs::create_dir_all(self.folder.join("lib")).map_err(in_lib)?;
        let mut said = String::new();
        for command in &mut self.commands {
            said = run(command).await?;
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
        std::fs::rename(&unfinished, &self.library).map_err(in_lib)
    }
}

/// Returns what it said on its standard output, if that is for us.
async fn run(command: &mut Command) -> Result<String, String> {
    // Behind `serval guard`.
    let program = command.as_std().get_args().nth(1).unwrap_or_default().to_string_lossy().into_owned();
    if dev().is_some() {
        command.stderr(Stdio::piped());
        if std::io::stderr().is_terminal() {
            command.env("CARGO_TERM_COLOR", "always");
        }
    }
    let mut child = command.spawn().map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    let group = Group::of(&child);
    // Closed when this server ends, in whatever way; a wait would close it at once.
    let _alive = child.stdin.take();
    let (mut said, mut shown) = (Vec::new(), Vec::new());
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let read = async {
        match output {
            Some(output) => output.take(SAID_BYTES_MAX).read_to_end(&mut said).await,
            None => Ok(0),
        }
    };
    let ended = async {
        let status = child.wait().await;
        // What it has left behind would hold the pipes open.
        drop(group);
        status
    };
    let (status, read, ()) = tokio::join!(ended, read, show(errors, &mut shown));
    read.map_err(|error| format!("the output of `{program}` cannot be read: {error}"))?;
    let status = status.map_err(|error| format!("`{program}` cannot be waited for: {error}"))?;
    if !status.success() {
        dev().inspect(|dev| dev.heard(&shown));
        return Err(format!("`{program}` ended with {status}, as shown above"));
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Shows what a command says of errors, and keeps the beginning of it: that is what is mended first.
async fn show(errors: Option<ChildStderr>, shown: &mut Vec<u8>) {
    let Some(mut errors) = errors else { return };
    let mut piece = [0; 4096];
    while let Ok(len @ 1..) = errors.read(&mut piece).await {
        // Nobody may be there any more: that is no reason to stop.
        let _ = std::io::stderr().write_all(&piece[..len]);
        let room = TEXT_BYTES_MAX.saturating_sub(shown.len());
        shown.extend_from_slice(&piece[..len.min(room)]);
    }
}

/// A command that ends with the server.
fn guarded(program: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["guard", program]);
    command
}

/// Where a library is until it is whole; the loader does not look at hidden files.
fn unfinished(library: &Path) -> PathBuf {
    library.with_file_name(format!(".{}", library.file_name().unwrap_or_default().to_string_lossy()))
}

/// The compilers' commands for the C and C++ files in `src`: one, or one more when there are both.
fn compile(src: &Path, header: &Path, scratch: &Path, output: &Path) -> Vec<Command> {
    const FLAGS: [&str; 3] = ["-O2", "-fPIC", "-fvisibility=hidden"];
    let (c, cpp) = (files(src, &["c"]), files(src, &["cpp", "cc", "cxx"]));
    let mut commands = Vec::new();
    let mut linked = cpp;
    let linker = if linked.is_empty() { ("cc", "-std=gnu11") } else { ("c++", "-std=gnu++17") };
    if linked.is_empty() {
        linked = c;
    } else if !c.is_empty() {
        let objects = scratch.join("objects");
        // A leftover is of an earlier build; what fails here fails in the compiler, with a message.
        let _ = std::fs::remove_dir_all(&objects).and(std::fs::create_dir_all(&objects));
        linked.extend(c.iter().filter_map(|file| Some(objects.join(file.file_name()?).with_extension("o"))));
        let mut command = guarded("cc");
        command.current_dir(&objects).args(["-std=gnu11", "-c"]).args(FLAGS).arg("-I").arg(header).args(c);
        commands.push(command);
    }
    if !linked.is_empty() {
        let mut command = guarded(linker.0);
        command.args([linker.1, "-shared"]).args(FLAGS).arg("-I").arg(header).arg("-o").arg(output).args(linked);
        commands.push(command);
    }
    commands
}

fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let is_one = |file: &PathBuf| file.extension().is_some_and(|own| endings.iter().any(|ending| own == *ending));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|file| file.path()).filter(is_one).collect();
    files.sort();
    files
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
