//! Public scanners of TLS (sslscan, testssl.sh) against Serval and Debian's nginx beside it, both with one certificate and TLS 1.2 and 1.3:
//! nothing that they find is worse here than there.
//!
//! Needs sslscan, testssl.sh, nginx and openssl. sslscan lists what a server accepts: each line about Serval has to stand in the list of
//! nginx too. testssl.sh judges: each of its findings has to be as good as that about nginx, or better.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::process::{self, Program};
use e2e::serval::{Home, Serval};
use serde_json::Value;

const SHORT: Duration = Duration::from_secs(60);
const SCANNED_WITHIN: Duration = Duration::from_secs(600);
/// From good to bad; a finding of another one has not been made.
const SEVERITIES: [&str; 6] = ["OK", "INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL"];

/// By the id of each: how bad it is, and what was found.
type Findings = BTreeMap<String, (usize, String)>;

fn main() -> ExitCode {
    match scan() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls-scan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn scan() -> Result<()> {
    let home = Home::new()?;
    home.write("webapps/ROOT/index.html", "hello")?;
    make_certificate(&home)?;
    let pair = "certificate = \"conf/cert.pem\"\nkey = \"conf/key.pem\"";
    home.write("conf/server.toml", format!("[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\n{pair}\n"))?;
    let serval = Serval::start(&home)?;
    let (mut nginx, beside) = start_nginx(&home)?;
    let ports = [serval.address().port(), beside];

    let [ours, theirs] = ports.map(sslscan);
    let (ours, theirs) = (ours?, theirs?);
    let more: Vec<&String> = ours.difference(&theirs).collect();
    ensure!(ours.len() > 20, "sslscan has seen too little: {ours:#?}");
    ensure!(more.is_empty(), "sslscan says of Serval, and not of nginx: {more:#?}");

    let ca = home.path("conf/ca.pem");
    let [ours, theirs] = thread::scope(|scans| {
        ports
            .map(|port| (port, home.path(&format!("{port}.json"))))
            .map(|(port, report)| {
                scans.spawn({
                    let ca = &ca;
                    move || testssl(port, ca, &report)
                })
            })
            .map(|scan| scan.join().unwrap_or_else(|_| bail!("a scan has panicked")))
    });
    let (ours, theirs) = (ours?, theirs?);
    ensure!(ours.len() > 40, "testssl.sh has found too little: {ours:#?}");
    let (mut worse, mut better) = (Vec::new(), 0);
    for (id, (severity, finding)) in &ours {
        // What it does not look for there is no trouble there.
        let there = theirs.get(id).map_or(0, |(severity, _)| *severity);
        // Between good and neutral there is no order: one of the two may have nothing to be judged.
        match severity {
            severity if *severity > 1 && *severity > there => worse.push(format!("{id}: {finding}")),
            severity if *severity < there && there > 1 => better += 1,
            _ => {}
        }
    }
    ensure!(worse.is_empty(), "testssl.sh finds worse at Serval than at nginx: {worse:#?}");
    println!("tls-scan: {} findings, none worse than nginx's, {better} better", ours.len());
    nginx.stop(SHORT)?;
    ensure!(serval.stop()?.success(), "the server did not stop well");
    Ok(())
}

/// As most have it: RSA, signed by somebody.
fn make_certificate(home: &Home) -> Result<()> {
    home.write("conf/of-servers", "subjectAltName = DNS:localhost\nextendedKeyUsage = serverAuth\n")?;
    for words in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 9 -subj /CN=ca",
        "req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 90 -extfile of-servers -out cert.pem",
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args(words.split(' ')).current_dir(home.path("conf")).stderr(Stdio::null()).stdout(Stdio::null());
        process::run(openssl, SHORT)?;
    }
    Ok(())
}

fn start_nginx(home: &Home) -> Result<(Program, u16)> {
    // Free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let folder = home.path("nginx");
    fs::create_dir(&folder)?;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};", folder.join(name).display()));
    let settings = format!(
        "daemon off; pid {pid}; error_log stderr;\nevents {{}}\nhttp {{ access_log off; {temporary}\nssl_protocols TLSv1.2 TLSv1.3;\n\
         server {{ listen 127.0.0.1:{port} ssl http2; server_name localhost; root {root};\n\
         ssl_certificate {conf}/cert.pem; ssl_certificate_key {conf}/key.pem; }} }}\n",
        pid = folder.join("pid").display(),
        temporary = temporary.join(" "),
        root = home.path("webapps/ROOT").display(),
        conf = home.path("conf").display(),
    );
    home.write("nginx/nginx.conf", settings)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(folder.join("nginx.conf"));
    let program = Program::start("nginx", command)?;
    let deadline = Instant::now() + SHORT;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(Instant::now() < deadline, "nginx does not listen: {:#?}", program.lines_from(0));
        thread::sleep(Duration::from_millis(20));
    }
    Ok((program, port))
}

/// The lines of its report that are about the server, and not about who it is.
fn sslscan(port: u16) -> Result<BTreeSet<String>> {
    let output = Command::new("sslscan").args(["--no-colour", &format!("localhost:{port}")]).output();
    let output = output.context("start sslscan")?;
    ensure!(output.status.success(), "sslscan ended with {}", output.status);
    let report = String::from_utf8_lossy(&output.stdout).replace(&format!("port {port}"), "port");
    // Which of those that it accepts is asked for first depends on the client.
    let line = |line: &str| line.replacen("Preferred", "Accepted", 1).trim().to_owned();
    Ok(report.lines().map(line).filter(|line| !line.is_empty()).collect())
}

/// Protocols, preferences, what is said of the certificate, and vulnerabilities.
fn testssl(port: u16, ca: &Path, report: &Path) -> Result<Findings> {
    let mut command = Command::new("testssl");
    command.args(["--quiet", "--color", "0", "--warnings", "off", "-p", "-P", "-S", "-U", "--add-ca"]).arg(ca);
    command.arg("--jsonfile").arg(report).arg(format!("localhost:{port}")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdin(Stdio::null()).spawn().context("start testssl")?;
    // Its exit code counts what it did not like.
    if process::wait_for_exit(&mut child, SCANNED_WITHIN)?.is_none() {
        child.kill()?;
        child.wait()?;
        bail!("testssl took more than {SCANNED_WITHIN:?}");
    }
    let text = fs::read_to_string(report).with_context(|| format!("read {}", report.display()))?;
    let all: Vec<Value> = serde_json::from_str(&text).context("read what testssl has found")?;
    let finding = |finding: &Value| {
        let severity = SEVERITIES.iter().position(|known| finding["severity"] == **known)?;
        Some((finding["id"].as_str()?.to_owned(), (severity, finding["finding"].as_str()?.to_owned())))
    };
    Ok(all.iter().filter_map(finding).collect())
}
