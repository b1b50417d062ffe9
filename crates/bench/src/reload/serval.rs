//! Serval with its shipped defaults, and the example in C, whose library is replaced.

use super::{STAMP, Way, await_first_answer, stamped};
use anyhow::{Context, Result, ensure};
use e2e::process;
use e2e::serval::{Home, Serval, binary, repository};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const COMPILED_WITHIN: Duration = Duration::from_secs(60);
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// What the example answers, in its source.
const HELLO: &str = "Hello, World!";

/// A running Serval with a webapp for each way.
pub struct Server {
    serval: Serval,
    home: Home,
    built: Vec<u8>,
}

impl Server {
    pub fn start() -> Result<Server> {
        let home = Home::new()?;
        let built = compile(&home)?;
        for webapp in ["seen", "told"] {
            home.write(&library(webapp), stamped(&built, 0)?)?;
        }
        let serval = Serval::start(&home)?;
        for target in ["/seen/plain", "/told/plain"] {
            await_first_answer(serval.address(), target)?;
        }
        Ok(Server { serval, home, built })
    }

    pub fn ways(&self) -> Vec<Way<'_>> {
        let seen = move |version| self.write("seen", version);
        let told = move |version| {
            let written = self.write("told", version)?;
            let mut command = Command::new(binary()?);
            command.args(["reload", "/told", "--home"]).arg(self.home.path("")).stdout(Stdio::null());
            process::run(command, COMMAND_WITHIN)?;
            Ok(written)
        };
        let way = |name, target, change| {
            let (program, address) = (self.serval.program(), self.serval.address());
            Way { name, program, address, target, scan: Duration::ZERO, change }
        };
        vec![
            way("serval, library replaced", "/seen/plain", Some(Box::new(seen))),
            way("serval, and serval reload", "/told/plain", Some(Box::new(told))),
            way("serval, nothing replaced", "/seen/plain", None),
        ]
    }

    pub fn stop(self) -> Result<()> {
        let status = self.serval.stop()?;
        ensure!(status.success(), "serval ended with {status} after SIGTERM");
        Ok(())
    }

    /// As `cp` does: into the file that is there.
    fn write(&self, webapp: &str, version: u64) -> Result<Instant> {
        self.home.write(&library(webapp), stamped(&self.built, version)?)?;
        Ok(Instant::now())
    }
}

fn library(webapp: &str) -> String {
    format!("webapps/{webapp}/WEB-INF/lib/hello.so")
}

/// The example, which answers with a version.
fn compile(home: &Home) -> Result<Vec<u8>> {
    let example = repository().join("webapps/hello-c/WEB-INF/src/hello.c");
    let source = fs::read_to_string(&example).with_context(|| format!("read {}", example.display()))?;
    home.write("hello.c", source.replace(HELLO, STAMP))?;
    let library: PathBuf = home.path("hello.so");
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]);
    command.arg(repository().join("crates/abi/include")).arg(home.path("hello.c")).arg("-o").arg(&library);
    process::run(command, COMPILED_WITHIN)?;
    Ok(fs::read(library)?)
}
