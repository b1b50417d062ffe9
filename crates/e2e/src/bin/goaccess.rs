//! The access log as goaccess reads it: each request of a mixed load is a line that it takes, with the status and the bytes that the
//! client saw. Needs goaccess, which Debian has.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};
use serde_json::Value;

const SHORT: Duration = Duration::from_secs(20);
const ROUNDS: usize = 10;

/// Requests without their Host, and the status of each.
const REQUESTS: [(&str, u16); 26] = [
    ("GET / HTTP/1.1\r\n", 200),
    ("GET /?q=a+b&c=%22d%22 HTTP/1.1\r\n", 200),
    ("HEAD / HTTP/1.1\r\n", 200),
    ("POST / HTTP/1.1\r\nContent-Length: 3\r\n", 200),
    ("GET /page.txt HTTP/1.1\r\nRange: bytes=1-3\r\n", 206),
    ("GET /page.txt HTTP/1.1\r\nRange: bytes=0-1,4-5\r\n", 206),
    ("GET /page.txt HTTP/1.1\r\nRange: bytes=900-\r\n", 416),
    ("GET /page.txt HTTP/1.1\r\nIf-None-Match: *\r\n", 304),
    ("GET /page.txt HTTP/1.1\r\nIf-Match: \"another\"\r\n", 412),
    ("GET /page.txt HTTP/1.0\r\n", 200),
    ("GET /app HTTP/1.1\r\n", 302),
    (
        "GET /app/ HTTP/1.1\r\nReferer: http://localhost/\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101\r\n",
        200,
    ),
    ("GET /gr%C3%BC%C3%9Fe.txt HTTP/1.1\r\nReferer: https://example.com/se%C3%A4rch?q=%22x%22\r\n", 200),
    ("GET /gr%C3%BC%C3%9Fe%22%5B%5D.txt HTTP/1.1\r\n", 404),
    ("GET /%E6%97%A5%E6%9C%AC HTTP/1.1\r\nUser-Agent: \u{65e5}\u{672c}\u{8a9e} \u{1f98a}\r\n", 404),
    ("GET /none HTTP/1.1\r\nUser-Agent: says \"hello\", and \\ backslash\r\n", 404),
    ("GET /none HTTP/1.1\r\nUser-Agent: \"\r\nReferer: \"\r\n", 404),
    ("GET /none HTTP/1.1\r\nUser-Agent: \\\r\nReferer: \\\"\r\n", 404),
    ("GET /none HTTP/1.1\r\nUser-Agent: a\tb %{x}i %s [01/Jan/1970:00:00:00 +0000]\r\n", 404),
    ("GET /none HTTP/1.1\r\nUser-Agent:\r\nReferer:\r\n", 404),
    ("GET /none HTTP/1.1\r\nUser-Agent: -\r\nReferer: -\r\nAuthorization: Basic YTpi\r\n", 404),
    ("PUT /page.txt HTTP/1.1\r\nContent-Length: 3\r\n", 405),
    ("PROPFIND / HTTP/1.1\r\n", 501),
    ("OPTIONS * HTTP/1.1\r\n", 200),
    ("GET /%2e%2e/etc/passwd HTTP/1.1\r\nReferer: \" 200 1 \"-\" \"-\r\n", 400),
    ("GET /a%00b HTTP/1.1\r\n", 400),
];

fn main() -> ExitCode {
    match check() {
        Ok(lines) => {
            println!("goaccess: {lines} lines of the access log read, none of them invalid");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("goaccess: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<u64> {
    let home = Home::new()?;
    home.configure("[access_log]\npattern = \"combined\"\nfile = \"access.log\"")?;
    home.write("webapps/ROOT/index.html", "a welcome")?;
    home.write("webapps/ROOT/page.txt", "0123456789".repeat(50))?;
    home.write("webapps/ROOT/gr\u{fc}\u{df}e.txt", "greetings")?;
    home.write("webapps/app/index.html", "an application")?;
    let serval = Serval::start(&home)?;
    let mut sent = Sent::default();
    for _ in 0..ROUNDS {
        for (request, status) in REQUESTS {
            sent.ask(&serval, request, status)?;
        }
    }
    ensure!(serval.stop()?.success(), "the server did not stop well");

    let log = home.path("var/log/access.log");
    let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
    let invalid = home.path("invalid");
    let mut goaccess = Command::new("goaccess");
    goaccess.arg(&log).args(["--log-format=COMBINED", "--no-global-config", "-o", "json"]);
    goaccess.arg(format!("--invalid-requests={}", invalid.display())).env("LC_ALL", "C");
    let output = goaccess.output().context("this program needs goaccess")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "goaccess ended with {}: {errors}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("read its report: {errors}"))?;
    let refused = fs::read_to_string(&invalid).unwrap_or_default();
    let general = &report["general"];
    ensure!(general["failed_requests"] == 0, "{} invalid lines:\n{refused}", general["failed_requests"]);
    let lines = sent.by_status.values().map(|(count, _)| count).sum();
    ensure!(general["valid_requests"] == lines, "{lines} requests were sent; the report: {general}; the log:\n{text}");
    let read = by_status(&report).context("the report has no panel of statuses")?;
    ensure!(read == sent.by_status, "count and bytes by status: goaccess read {read:?}, sent was {:?}", sent.by_status);
    Ok(lines)
}

/// What clients have got: by status, how many answers, and bytes of their bodies.
#[derive(Default)]
struct Sent {
    by_status: BTreeMap<u16, (u64, u64)>,
}

impl Sent {
    fn ask(&mut self, serval: &Serval, request: &str, status: u16) -> Result<()> {
        let mut connection = Connection::open(serval.address(), SHORT)?;
        let body = if request.contains("Content-Length: 3") { "abc" } else { "" };
        connection.send(format!("{request}Host: localhost\r\nConnection: close\r\n\r\n{body}").as_bytes())?;
        let answer =
            if request.starts_with("HEAD") { connection.read_response_of_head() } else { connection.read_response() };
        let answer = answer.with_context(|| request.to_owned())?;
        ensure!(answer.status == status, "{request:?} was answered {}", answer.status);
        let (count, bytes) = self.by_status.entry(status).or_default();
        *count += 1;
        *bytes += answer.body.len() as u64;
        Ok(())
    }
}

/// The same, of goaccess's report.
fn by_status(report: &Value) -> Option<BTreeMap<u16, (u64, u64)>> {
    let classes = report["status_codes"]["data"].as_array()?;
    let statuses = classes.iter().filter_map(|class| class["items"].as_array()).flatten();
    let read = |status: &Value| {
        let code = status["data"].as_str()?.get(..3)?.parse().ok()?;
        Some((code, (status["hits"]["count"].as_u64()?, status["bytes"]["count"].as_u64()?)))
    };
    statuses.map(read).collect()
}
