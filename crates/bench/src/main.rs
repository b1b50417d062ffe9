//! `bench`: Serval beside its peers, driven in turns by the same load, in one run.
//!
//! How it measures is written down in `measure`; the same binary is also the bare hyper server (`--serve-hyper`) and,
//! where wrk is not installed, the load (`--drive`). Figures are reported, never asserted: the machine decides them.
#![forbid(unsafe_code)]

mod peers;

mod measure;

mod reload;

mod client;

mod driver;

mod hyper_peer;

mod pin;

mod report;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures Serval beside its peers.
#[derive(Parser)]
pub struct Arguments {
    /// Servers to compare with. Without it: hyper; for reload, tomcat.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Measures the peers alone.
    #[arg(long)]
    without_serval: bool,
    /// What they are asked for.
    #[arg(long, value_enum, default_value = "hello")]
    work: Work,
    /// Each round drives every server once. Without it: 5; for reload, 10.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long one server is driven in a round; a reload takes as long as it takes.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Writes everything measured to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Uses the driver of this program even where wrk is installed.
    #[arg(long)]
    own_driver: bool,
    /// Is the bare hyper server, for the program itself.
    #[arg(long, value_name = "ADDRESS", hide = true)]
    serve_hyper: Option<SocketAddr>,
    /// A header that the bare hyper server sends.
    #[arg(long, value_name = "NAME: VALUE", hide = true)]
    header: Vec<String>,
    /// Is the load, for the program itself.
    #[arg(long, value_name = "URL", hide = true)]
    drive: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// A server of a few lines over hyper: what Serval stands on.
    Hyper,
    /// Tomcat 10, if it and a JDK are installed; for reload.
    Tomcat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// 13 bytes of text, from a servlet that runs inline.
    Hello,
    /// The same, with a line in the access log.
    HelloLog,
    /// A file of 1 KiB.
    Static,
    /// Nothing but a version, while the webapp is replaced.
    Reload,
}

impl Arguments {
    fn peers(&self) -> &[Peer] {
        match self.peers.is_empty() {
            true => self.work.peers(),
            false => &self.peers,
        }
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.work == Work::Reload { 10 } else { 5 })
    }
}

impl Work {
    /// Those that can do it.
    fn peers(self) -> &'static [Peer] {
        if self == Work::Reload { &[Peer::Tomcat] } else { &[Peer::Hyper] }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(address) = arguments.serve_hyper {
        return hyper_peer::serve(address, &arguments.header, arguments.work.body());
    }
    if let Some(url) = &arguments.drive {
        return driver::drive(url, arguments.connections, arguments.seconds);
    }
    if arguments.rounds() == 0 || arguments.seconds == 0 || arguments.connections == 0 {
        bail!("--rounds, --seconds and --connections are at least 1");
    }
    if arguments.peers().iter().any(|peer| !arguments.work.peers().contains(peer)) {
        bail!("hyper is a peer of every work but reload, and tomcat of reload alone");
    }
    if arguments.work == Work::Reload {
        let report = reload::all(arguments)?;
        reload::report::print(&report);
        return write_json(arguments, &report);
    }
    let report = measure::all(arguments)?;
    report::print(&report);
    write_json(arguments, &report)
}

fn write_json(arguments: &Arguments, report: &impl Serialize) -> Result<()> {
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(report)?;
        std::fs::write(path, json + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
