//! Other servers, for what an idle connection costs them: the bench's bare hyper, and nginx where it is installed.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::http_client::Connection;
use e2e::process::Program;
use e2e::serval::{cargo, repository};

const STARTED_WITHIN: Duration = Duration::from_secs(600);

pub struct Peer {
    pub name: &'static str,
    pub program: Program,
    pub address: SocketAddr,
    pub target: &'static str,
}

/// Built as this program is; cargo becomes it.
pub fn hyper() -> Result<Peer> {
    let mut run = Command::new(cargo());
    run.current_dir(repository()).args(["run", "--quiet", "-p", "bench"]);
    if !cfg!(debug_assertions) {
        run.arg("--release");
    }
    run.args(["--", "--serve-hyper", "127.0.0.1:0", "--work", "hello"]);
    let program = Program::start("the hyper peer", run)?;
    let line = program.wait_for_line(0, STARTED_WITHIN, |line| line.starts_with("listening on http://"))?;
    let address = line.trim_start_matches("listening on http://").parse().context("its address")?;
    Ok(Peer { name: "bare hyper", program, address, target: "/hello/plain" })
}

/// `None`: it is not installed. `connections`: how many it is to have at once.
pub fn nginx(folder: &std::path::Path, connections: usize) -> Result<Option<Peer>> {
    if Command::new("nginx").arg("-v").output().is_err() {
        return Ok(None);
    }
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    fs::write(folder.join("page.txt"), [b'p'; 1024])?;
    let root = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|kind| format!("{kind}_temp_path {root}/{kind};\n")).collect();
    fs::write(
        folder.join("nginx.conf"),
        format!(
            "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log stderr;\n\
             events {{ worker_connections {}; }}\n\
             http {{\naccess_log off;\nkeepalive_timeout 1h;\nclient_header_timeout 1h;\n{temporary}\
             server {{ listen {address} backlog=1024; root {root}; }}\n}}\n",
            connections + 1000
        ),
    )?;
    let mut run = Command::new("nginx");
    run.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    let program = Program::start("nginx", run)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while Connection::open(address, Duration::from_secs(10)).is_err() {
        ensure!(Instant::now() < deadline, "nginx has not started: {:#?}", program.lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Some(Peer { name: "nginx", program, address, target: "/page.txt" }))
}
