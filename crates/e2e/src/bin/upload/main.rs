//! Long uploads in constant memory: one as a part, which becomes a file, and one that the servlet reads piece by piece. The servlet
//! must have seen each byte, the server's memory must not grow, and no file may be left.
//!
//! Called by `.ci/run` with 2 GiB, and by hand with more: `--bytes 10GiB` needs as much room in the folder for temporary files.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use e2e::http_client::Connection;
use e2e::process::{forget_peak, peak_kb, resident_kb};
use e2e::serval::{Home, Serval};

#[derive(Parser)]
struct Arguments {
    /// Of each upload: a number, with KiB, MiB or GiB.
    #[arg(long, default_value = "2GiB", value_parser = bytes)]
    bytes: u64,
    /// How much the server's memory may grow at most.
    #[arg(long, default_value = "32MiB", value_parser = bytes)]
    growth_max: u64,
}

/// For the servlet to read its file once more, too.
const LONG: Duration = Duration::from_secs(600);
const PIECE_BYTES: usize = 1 << 20;
const CONFIGURATION: &str = "
[build]
sources = true
[defaults.context]
request_body_bytes_max = \"1TiB\"
multipart_bytes_max = \"1TiB\"
file_bytes_max = \"1TiB\"
";

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let home = Home::new()?;
    home.configure(CONFIGURATION)?;
    home.write("webapps/x/WEB-INF/src/upload.c", include_str!("upload.c"))?;
    let serval = Serval::start(&home)?;
    let deadline = Instant::now() + LONG;
    while Connection::open(serval.address(), LONG)?.get("/x/raw")?.status != 200 {
        ensure!(Instant::now() < deadline, "the servlet is not there: {:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    for target in ["/x/parts", "/x/raw"] {
        // What the first request of its kind costs is no growth.
        upload(&serval, target, PIECE_BYTES as u64)?;
    }
    for target in ["/x/parts", "/x/raw"] {
        let pid = serval.program().id();
        forget_peak(pid)?;
        let (before, began) = (resident_kb(pid)?, Instant::now());
        upload(&serval, target, arguments.bytes)?;
        let (after, took) = (peak_kb(pid)?, began.elapsed().as_secs_f64());
        let (gib, grown) = (arguments.bytes as f64 / f64::from(1 << 30), after.saturating_sub(before));
        println!("upload: {gib:.2} GiB to {target} in {took:.1} s: {before} kB resident before, {after} kB at most");
        ensure!(grown << 10 <= arguments.growth_max, "the server's memory has grown by {grown} kB");
        // They go with the exchange, which may be over after its answer.
        let deadline = Instant::now() + LONG;
        while part_files(&home.path("var"))? > 0 {
            ensure!(Instant::now() < deadline, "files of parts are left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    ensure!(serval.stop()?.success(), "the server has not ended well");
    Ok(())
}

/// Sends so many bytes, no two MiB of them equal, and compares what the servlet says of them.
fn upload(serval: &Serval, target: &str, bytes: u64) -> Result<()> {
    let multipart = target.ends_with("parts");
    let (before, behind) = match multipart {
        true => (
            "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"large\"\r\n\r\n".to_owned(),
            "\r\n--B--\r\n",
        ),
        false => (String::new(), ""),
    };
    let media_type = if multipart { "multipart/form-data; boundary=B" } else { "application/octet-stream" };
    let length = before.len() as u64 + bytes + behind.len() as u64;
    let mut connection = Connection::open(serval.address(), LONG)?;
    connection.send(
        format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{before}"
        )
        .as_bytes(),
    )?;
    let mut piece: Vec<u8> = (0..PIECE_BYTES).map(|at| (at % 251) as u8).collect();
    let (mut sent, mut sum) = (0, 0xcbf2_9ce4_8422_2325_u64);
    while sent < bytes {
        piece[..8].copy_from_slice(&sent.to_be_bytes());
        let piece = &piece[..PIECE_BYTES.min(usize::try_from(bytes - sent)?)];
        sum = piece.iter().fold(sum, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        connection.send(piece).with_context(|| format!("{target}: after {sent} bytes"))?;
        sent += piece.len() as u64;
    }
    connection.send(behind.as_bytes())?;
    let answer = connection.read_response()?;
    let (said, expected) = (String::from_utf8_lossy(&answer.body), format!("{bytes} {sum:016x}"));
    if answer.status != 200 || said != expected {
        bail!("{target}: 200 {expected:?} was expected, and {} {said:?} came", answer.status);
    }
    Ok(())
}

fn part_files(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        count += match entry.file_type()?.is_dir() {
            true => part_files(&entry.path())?,
            false => usize::from(entry.file_name().to_string_lossy().starts_with("part-")),
        };
    }
    Ok(count)
}

fn bytes(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        unit => bail!("{unit:?} is none of KiB, MiB, GiB"),
    };
    Ok(text[..digits].parse::<u64>()?.saturating_mul(unit))
}
