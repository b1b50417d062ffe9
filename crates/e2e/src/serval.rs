//! The real `serval`, in a home of its own.
//!
//! [`Home`] is a temporary `--home` folder to be filled; [`Serval`] is the program running in it, built once for each
//! process that asks.

use crate::process::Program;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// How long a start may take, without the building of webapps.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Longer than the drain of the shipped configuration.
const STOP_WITHIN: Duration = Duration::from_secs(45);

const LISTENING: &str = "listening on http";

const CONFIGURATION: &str = r#"[[listener]]
address = "127.0.0.1:0"
"#;

/// A folder for `--home`, with `conf/server.toml` and an empty `webapps/`. Dropped, it is removed.
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// Makes one with one listener on a free loopback port, and nothing else configured.
    pub fn new() -> Result<Home> {
        let folder = tempfile::Builder::new().prefix("serval-e2e-").tempdir().context("make a temporary home")?;
        let home = Home { folder };
        fs::create_dir(home.path("webapps"))?;
        home.write("conf/server.toml", CONFIGURATION)?;
        Ok(home)
    }

    /// Adds to `conf/server.toml`.
    pub fn configure(&self, toml: &str) -> Result<()> {
        let written = fs::read_to_string(self.path("conf/server.toml"))?;
        self.write("conf/server.toml", format!("{written}\n{toml}\n"))
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        fs::write(&path, contents).with_context(|| format!("write {}", path.display()))
    }

    /// Copies an example webapp of the repository, without what was built in it.
    pub fn copy_example(&self, name: &str) -> Result<()> {
        copy_source(&repository().join("webapps").join(name), &self.path(&format!("webapps/{name}")))
    }

    /// Returns a path in it.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }
}

/// A running `serval`. Dropped, it is killed; [`Serval::stop`] ends it as an operator would.
pub struct Serval {
    program: Program,
    addresses: Vec<SocketAddr>,
}

impl Serval {
    /// Starts it and waits until it says that it is ready.
    pub fn start(home: &Home) -> Result<Serval> {
        Serval::start_under(home, &[])
    }

    /// Starts it beneath another program, such as `taskset -c 0`, which must become it (exec).
    pub fn start_under(home: &Home, wrapper: &[OsString]) -> Result<Serval> {
        let binary = binary()?;
        let command = match wrapper.split_first() {
            None => Command::new(binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
        };
        Serval::start_by(home, command, "run")
    }

    /// Starts it by another command than `run`: `dev`.
    pub fn start_command(home: &Home, word: &str) -> Result<Serval> {
        Serval::start_by(home, Command::new(binary()?), word)
    }

    /// Starts it with a variable in its environment.
    pub fn start_with(home: &Home, name: &str, value: &str) -> Result<Serval> {
        let mut command = Command::new(binary()?);
        command.env(name, value);
        Serval::start_by(home, command, "run")
    }

    /// Starts it as a service manager does that holds a socket for it (`LISTEN_FDS`), with these variables.
    pub fn start_inheriting(home: &Home, socket: &TcpListener, variables: &[(&str, &str)]) -> Result<Serval> {
        let mut command = inheriting("1");
        command.arg(binary()?).envs(variables.iter().copied());
        Serval::start_on(Stdio::from(OwnedFd::from(socket.try_clone()?)), home, command, "run")
    }

    fn start_by(home: &Home, command: Command, word: &str) -> Result<Serval> {
        Serval::start_on(Stdio::null(), home, command, word)
    }

    fn start_on(stdin: Stdio, home: &Home, mut command: Command, word: &str) -> Result<Serval> {
        // A log that is read by programs has no colours, and no backtraces unless the test asks for them.
        if !command.get_envs().any(|(name, _)| name == "RUST_BACKTRACE") {
            command.env_remove("RUST_BACKTRACE");
        }
        command.env("NO_COLOR", "1").arg(word).arg("--home").arg(home.folder.path());
        let program = Program::start_on(stdin, "serval", command)?;
        // Plain, or the message of a line of JSON.
        let says = |line: &str, what: &str| line.starts_with(what) || line.contains(&format!("\"{what}"));
        program.wait_for_line(0, READY_WITHIN, |line| says(line, "ready in "))?;
        let listening = |line: &String| {
            says(line, LISTENING).then(|| address_of(line.split_once("://").map_or("", |(_, address)| address)))
        };
        let addresses: Vec<SocketAddr> = program.lines_from(0).iter().filter_map(listening).collect::<Result<_>>()?;
        if addresses.is_empty() {
            bail!("serval is ready but names no address to connect to");
        }
        Ok(Serval { program, addresses })
    }

    /// Returns the address of the first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Returns the addresses of all listeners, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the process, with what it prints (both streams).
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Returns the process, to wait for its end.
    pub fn program_mut(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Waits for a printed or logged line, from the start on, that contains this.
    pub fn wait_for_log(&self, text: &str, within: Duration) -> Result<String> {
        self.program.wait_for_line(0, within, |line| line.contains(text)).with_context(|| format!("wait for {text:?}"))
    }

    /// Sends SIGTERM and waits for the exit.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.program.stop(STOP_WITHIN)
    }

    /// Waits until it has ended, which it was asked to.
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.program.wait(STOP_WITHIN)
    }

    /// Stops it as [`Serval::stop`], which must succeed, and returns all that it printed: while it runs, the last lines may
    /// still be on their way here when the client has its answer.
    pub fn stop_and_read(mut self) -> Result<Vec<String>> {
        let status = self.program.stop(STOP_WITHIN)?;
        ensure!(status.success(), "serval ended with {status}");
        self.program.all_lines(STOP_WITHIN)
    }
}

/// Says whether a line is the warning that whoever runs it is root, which is the tests' own affair.
pub fn is_of_root(line: &str) -> bool {
    line.contains("Serval runs as root")
}

/// Returns a command to which a program and its arguments are to be added, which becomes that program with its standard input as an
/// inherited socket, or whatever it is (sd_listen_fds(3)).
pub fn inheriting(listen_fds: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$@\"", "sh"]).env("LISTEN_FDS", listen_fds);
    command
}

/// Returns the program, built once for each process in the profile of the caller; or the one that `SERVAL_BINARY` names,
/// so that a released binary can be tested as it is.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let find = || match std::env::var_os("SERVAL_BINARY") {
        Some(path) => Ok(PathBuf::from(path)),
        None => build().map_err(|error| format!("{error:#}")),
    };
    match BINARY.get_or_init(find) {
        Ok(path) => Ok(path),
        Err(text) => bail!("{text}"),
    }
}

/// Returns the root of the repository.
pub fn repository() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).expect("this crate is two folders below the root")
}

/// Returns the cargo that builds us, or the one on the path.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Copies a folder without its `lib` and `target` folders, which hold what was built.
pub fn copy_source(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "lib" || name == "target" {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type()?.is_dir() {
            copy_source(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Cargo itself tells where the binary is, so every way of choosing the target folder is respected. There is no
/// deadline: cargo may wait for another cargo's lock for as long as that one builds, and ends on its own.
fn build() -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.args(["build", "-p", "serval-server", "--bin", "serval", "--message-format=json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.current_dir(repository()).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("serval does not build: {command:?} ended with {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    messages.lines().find_map(executable).context("cargo built serval but did not say where")
}

/// Reads one of cargo's messages: the path, if it is the one about the binary `serval`.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_serval = message["reason"] == "compiler-artifact" && message["target"]["name"] == "serval";
    is_serval.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
}

/// Reads `127.0.0.1:8080`, maybe followed by a slash, by words, or by the end of a text in JSON.
fn address_of(rest: &str) -> Result<SocketAddr> {
    let address = rest.split(['/', ' ', '"']).next().unwrap_or(rest);
    address.parse().with_context(|| format!("serval listens on {rest:?}, which is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_from_the_line_that_names_it() {
        assert_eq!(address_of("127.0.0.1:80").expect("plain").port(), 80);
        assert_eq!(address_of("[::1]:81/ (http)").expect("with more").port(), 81);
        assert_eq!(address_of("127.0.0.1:82\"},\"target\"").expect("in JSON").port(), 82);
        assert!(address_of("localhost").is_err());
    }

    #[test]
    fn a_home_holds_what_was_written_and_goes_away() {
        let home = Home::new().expect("a home");
        home.write("webapps/a/WEB-INF/web.toml", "x").expect("a file");
        home.configure("[build]").expect("configured");
        let configuration = fs::read_to_string(home.path("conf/server.toml")).expect("a configuration");
        assert_eq!(configuration, format!("{CONFIGURATION}\n[build]\n"));
        let folder = home.path("");
        drop(home);
        assert!(!folder.exists());
    }
}
