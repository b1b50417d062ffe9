//! The servers that are measured: how each is started, and what it must answer.

use crate::Work;
use crate::pin::{Pin, Role};
use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;
use e2e::http_client::Connection;
use e2e::process::Program;
use e2e::serval::{Home, Serval};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// The first build of the examples compiles the SDK too.
const BUILT_WITHIN: Duration = Duration::from_secs(600);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(45);
const ASK_AGAIN_AFTER: Duration = Duration::from_micros(500);
const BUILD_POLL: Duration = Duration::from_millis(50);

/// One thing that is asked for: a server may have several.
pub struct Subject {
    pub name: &'static str,
    pub target: &'static str,
}

pub const HYPER: &[Subject] = &[Subject { name: "hyper", target: "/hello/plain" }];

impl Work {
    /// What Serval is asked for; a reload has its own.
    pub fn subjects(self) -> &'static [Subject] {
        match self {
            Work::Hello | Work::HelloLog => &[
                Subject { name: "serval, hello in Rust", target: "/hello/plain" },
                Subject { name: "serval, hello in C", target: "/hello-c/plain" },
            ],
            Work::Static => &[Subject { name: "serval, a file", target: "/file.txt" }],
            Work::Reload => &[],
        }
    }

    /// What everybody answers; of a reload, each version something else.
    pub fn body(self) -> &'static [u8] {
        match self {
            Work::Hello | Work::HelloLog => b"Hello, World!",
            Work::Static => &[b'x'; 1024],
            Work::Reload => b"",
        }
    }
}

/// A running server.
pub struct Server {
    program: Running,
    pub address: SocketAddr,
}

enum Running {
    Hyper(Program),
    Serval(Serval),
}

impl Server {
    pub fn process(&self) -> &Program {
        match &self.program {
            Running::Hyper(program) => program,
            Running::Serval(serval) => serval.program(),
        }
    }

    /// Ends it, and waits until it has.
    pub fn stop(self) -> Result<()> {
        match self.program {
            // It has no other end than the signal.
            Running::Hyper(mut program) => program.stop(STOP_WITHIN).map(drop),
            Running::Serval(serval) => match serval.stop()? {
                status if status.success() => Ok(()),
                status => bail!("serval ended with {status} after SIGTERM"),
            },
        }
    }
}

/// Starts the bare server, which sends these headers.
pub fn start_hyper(pin: &Pin, work: Work, headers: &[String]) -> Result<Server> {
    let mut command = pin.command(Role::Server, std::env::current_exe()?);
    let work = work.to_possible_value().context("a work without a name")?;
    command.args(["--serve-hyper", "127.0.0.1:0", "--work", work.get_name()]);
    for header in headers {
        command.args(["--header", header]);
    }
    let program = Program::start("the hyper peer", command)?;
    let line = program.wait_for_line(0, ANSWER_WITHIN, |line| line.starts_with("listening on http://"))?;
    let address = line.trim_start_matches("listening on http://").parse().context("the peer's address")?;
    Ok(Server { program: Running::Hyper(program), address })
}

/// Starts Serval in a home whose webapps are built.
pub fn start_serval(pin: &Pin, home: &Home) -> Result<Server> {
    let serval = Serval::start_under(home, &pin.wrapper(Role::Server))?;
    let address = serval.address();
    Ok(Server { program: Running::Serval(serval), address })
}

/// Makes a home with the examples, and lets Serval itself build them, on all cores. Later starts find them built, and
/// build nothing, so that a start-up is a start-up.
pub fn build_serval_home(work: Work) -> Result<Home> {
    let home = Home::new()?;
    home.copy_example("hello")?;
    home.copy_example("hello-c")?;
    home.write("webapps/ROOT/file.txt", Work::Static.body())?;
    let configuration = std::fs::read_to_string(home.path("conf/server.toml"))?;
    home.configure("[build]\nsources = true")?;
    let serval = Serval::start(&home)?;
    let deadline = Instant::now() + BUILT_WITHIN;
    for subject in work.subjects() {
        while let Err(error) = check(serval.address(), work, subject) {
            if Instant::now() >= deadline {
                let log = serval.program().lines_from(0).join("\n");
                return Err(
                    error.context(format!("{} was not built within {BUILT_WITHIN:?}; the log:\n{log}", subject.name))
                );
            }
            thread::sleep(BUILD_POLL);
        }
    }
    serval.stop()?;
    let access_log = if work == Work::HelloLog { "[access_log]\n" } else { "" };
    home.write("conf/server.toml", format!("{configuration}\n[build]\nsources = false\n{access_log}"))?;
    Ok(home)
}

/// Asks once, and looks at the whole answer. Returns its headers, without those that hyper makes itself.
pub fn check(address: SocketAddr, work: Work, subject: &Subject) -> Result<Vec<String>> {
    let mut connection = Connection::open(address, ANSWER_WITHIN).context("connect")?;
    let response = connection.get(subject.target).with_context(|| format!("ask {}", subject.name))?;
    if response.status != 200 || response.body != work.body() || response.closes() {
        let body = String::from_utf8_lossy(&response.body);
        bail!("{} answers {} {body:?} at {}, so it is not measured", subject.name, response.status, subject.target);
    }
    let made_by_hyper = |name: &str| ["date", "content-length"].iter().any(|own| name.eq_ignore_ascii_case(own));
    let others = response.headers.iter().filter(|(name, _)| !made_by_hyper(name));
    Ok(others.map(|(name, value)| format!("{name}: {value}")).collect())
}

/// Returns how long it took from the start of the program to its first good answer.
pub fn time_to_first_answer(server: &Server, work: Work, subject: &Subject) -> Result<Duration> {
    let started = server.process().started();
    loop {
        match check(server.address, work, subject) {
            Ok(_) => return Ok(started.elapsed()),
            Err(error) if started.elapsed() > ANSWER_WITHIN => return Err(error.context("no answer after the start")),
            Err(_) => thread::sleep(ASK_AGAIN_AFTER),
        }
    }
}
