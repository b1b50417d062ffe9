//! Clients that people use (curl, wget, nghttp; requests and httpx of Python; fetch, undici and http2 of Node), by HTTP/1.1 and HTTP/2,
//! with TLS and without: files, uploads with and without a length, HEAD, ranges, many at once, and answers that are given up. What the
//! last two groups do is in `crates/e2e/clients`.
//!
//! Needs curl, wget, nghttp, python3 with venv, npm and node. Packages are installed into `clients` in the target folder.
#![forbid(unsafe_code)]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::process;
use e2e::serval::{self, Home, Serval};

const INSTALLED_WITHIN: Duration = Duration::from_secs(300);
const CHECKED_WITHIN: Duration = Duration::from_secs(120);
const LARGE_BYTES: usize = 3 << 20;

fn main() -> ExitCode {
    match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clients: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<()> {
    let installed = install(&serval::repository().join("crates/e2e/clients"))?;
    let home = Home::new()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let certificates = home.path("conf/tls");
    let mut made = Command::new(serval::binary()?);
    made.args(["cert", "self-signed", "localhost", "--out"]).arg(&certificates).stdout(std::process::Stdio::null());
    process::run(made, CHECKED_WITHIN)?;
    home.configure(&format!(
        "[[listener]]\naddress = \"127.0.0.1:{port}\"\n[listener.tls]\nfolder = \"conf/tls\"\n[build]\nsources = true"
    ))?;
    home.write("webapps/x/WEB-INF/src/connectors.c", include_str!("../../tests/connectors/connectors.c"))?;
    home.write("webapps/ROOT/index.html", "welcome")?;
    home.write("webapps/ROOT/large.bin", vec![7; LARGE_BYTES])?;
    let serval = Serval::start(&home)?;
    serval.wait_for_log("/x ready (generation 2", CHECKED_WITHIN)?;

    let (plain, secure) = (format!("http://{}", serval.address()), format!("https://localhost:{port}"));
    let authority = certificates.join("localhost/cert.pem");
    by_command(&home, (&plain, &secure), &authority)?;
    let mut python = Command::new(installed.join("venv/bin/python"));
    python.arg(installed.join("check.py")).args([&plain, &secure]).arg(&authority);
    process::run(python, CHECKED_WITHIN)?;
    let mut node = Command::new("node");
    node.current_dir(&installed).env("NODE_EXTRA_CA_CERTS", &authority);
    node.arg("check.mjs").args([&plain, &secure]).arg(&authority);
    process::run(node, CHECKED_WITHIN)?;
    ensure!(serval.stop()?.success(), "the server did not stop well");
    Ok(())
}

fn by_command(home: &Home, (plain, secure): (&str, &str), authority: &Path) -> Result<()> {
    let upload = home.path("upload");
    fs::write(&upload, vec![1; 1 << 20])?;
    let upload = format!("@{}", upload.display());
    for (base, version, told) in [
        (plain, "--http1.0", "10 "),
        (plain, "--http1.1", "11 "),
        (plain, "--http2-prior-knowledge", "20 "),
        // Asked for by Upgrade, which is not followed.
        (plain, "--http2", "11 "),
        (secure, "--http1.1", "11 "),
        (secure, "--http2", "20 "),
    ] {
        let curl = |arguments: &[&str]| {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--fail", version, "--cacert"]).arg(authority).args(arguments);
            said(curl)
        };
        let what = format!("curl {version} of {base}");
        let looked = curl(&[&format!("{base}/x/look")])?;
        ensure!(looked.starts_with(told.as_bytes()), "{what}: {}", String::from_utf8_lossy(&looked));
        // Two on one connection; curl 7.88 cannot do that by prior knowledge, with whatever server.
        let large = format!("{base}/large.bin");
        let times = if version == "--http2-prior-knowledge" { 1 } else { 2 };
        let got = curl(&[&*large; 2][..times])?;
        ensure!(got == vec![7; times * LARGE_BYTES], "{what}: {} bytes of {times} large files", got.len());
        let sent = curl(&["--data-binary", &upload, &format!("{base}/x/length")])?;
        ensure!(sent == b"1048576", "{what}: an upload is {}", String::from_utf8_lossy(&sent));
        let head = curl(&["-I", &format!("{base}/large.bin")])?;
        let head = String::from_utf8_lossy(&head).to_lowercase();
        ensure!(head.contains(&format!("content-length: {LARGE_BYTES}")), "{what}: {head}");
    }
    for (base, trust) in [(plain, None), (secure, Some(authority))] {
        let mut wget = Command::new("wget");
        wget.args(["-q", "-O", "-", &format!("{base}/large.bin")]);
        if let Some(authority) = trust {
            wget.arg(format!("--ca-certificate={}", authority.display()));
        }
        ensure!(said(wget)? == vec![7; LARGE_BYTES], "wget of {base}");
        let mut nghttp = Command::new("nghttp");
        nghttp.args(["--no-verify-peer", "-m", "10", &format!("{base}/large.bin")]);
        ensure!(said(nghttp)?.len() == 10 * LARGE_BYTES, "nghttp of {base}");
    }
    println!("curl, wget and nghttp: as expected");
    Ok(())
}

/// What a command says on its standard output. LIMIT: that is of this server.
fn said(mut command: Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("{command:?} needs to be installed"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {told}", output.status);
    Ok(output.stdout)
}

/// Returns the folder with the packages, and what uses them.
fn install(ours: &Path) -> Result<PathBuf> {
    let binary = serval::binary()?;
    let target = binary.parent().and_then(Path::parent).context("serval lies in a target folder")?;
    let folder = target.join("clients");
    fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json", "check.mjs", "check.py", "requirements.txt"] {
        fs::copy(ours.join(file), folder.join(file)).with_context(|| format!("copy {file}"))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(&folder).args(["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]);
    process::run(npm, INSTALLED_WITHIN).context("this program needs npm")?;
    let mut venv = Command::new("python3");
    venv.current_dir(&folder).args(["-m", "venv", "venv"]);
    process::run(venv, INSTALLED_WITHIN).context("this program needs python3 and its module venv")?;
    let mut pip = Command::new(folder.join("venv/bin/pip"));
    pip.current_dir(&folder).args(["install", "-q", "--disable-pip-version-check", "-r", "requirements.txt"]);
    process::run(pip, INSTALLED_WITHIN)?;
    Ok(folder)
}
