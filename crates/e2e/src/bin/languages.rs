//! Servlets in languages that have no SDK: a library in Zig and one in Go, built from servlet.h alone, served and reloaded by the
//! real program. Needs zig (0.14 or 0.15, which read C headers by themselves) and go.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::http_client::{Connection, Response};
use e2e::process;
use e2e::serval::{Home, Serval, copy_source, repository};

const BUILD_WITHIN: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(30);

struct Language {
    name: &'static str,
    /// What tells that it is there.
    version: &'static [&'static str],
    /// The command that makes a library, here, of the source folder.
    build: fn(source: &Path, include: &Path, library: &Path) -> Command,
}

const LANGUAGES: [Language; 2] = [
    Language { name: "Zig", version: &["zig", "version"], build: zig },
    Language { name: "Go", version: &["go", "version"], build: go },
];

fn zig(source: &Path, include: &Path, library: &Path) -> Command {
    let mut command = Command::new("zig");
    command.args(["build-lib", "-dynamic", "-O", "ReleaseSmall", "-fstrip", "-fno-compiler-rt", "-I"]).arg(include);
    command.arg(format!("-femit-bin={}", library.display())).arg(source.join("hello.zig"));
    command
}

fn go(source: &Path, include: &Path, library: &Path) -> Command {
    let mut command = Command::new("go");
    command.args(["build", "-buildmode=c-shared", "-o"]).arg(library).arg(".").current_dir(source);
    command.env("CGO_ENABLED", "1").env("CGO_CFLAGS", format!("-O2 -I{}", include.display()));
    command
}

fn main() -> ExitCode {
    match check() {
        Ok(()) => {
            println!("languages: servlets in Zig and Go are served, and keep their sessions over a reload");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("languages: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<()> {
    let lacking: Vec<&str> =
        LANGUAGES.iter().filter(|language| !is_there(language.version)).map(|language| language.version[0]).collect();
    if !lacking.is_empty() {
        bail!("the PATH of this machine lacks {}", lacking.join(" and "));
    }
    let home = Home::new()?;
    for language in &LANGUAGES {
        build(language, &home).with_context(|| format!("build the servlet in {}", language.name))?;
    }
    let serval = Serval::start(&home)?;
    for language in &LANGUAGES {
        serve(language, &home, &serval).with_context(|| format!("the servlet in {}", language.name))?;
    }
    ensure!(serval.stop()?.success(), "the server did not stop well");
    Ok(())
}

fn is_there(version: &[&str]) -> bool {
    let asked = Command::new(version[0]).args(&version[1..]).stdin(Stdio::null()).output();
    asked.is_ok_and(|output| output.status.success())
}

/// The webapp of a language, whose name is its path.
fn library(home: &Home, language: &Language) -> PathBuf {
    home.path(&format!("webapps/{}/WEB-INF/lib/hello.so", language.name))
}

fn build(language: &Language, home: &Home) -> Result<()> {
    let fixtures = repository().join("crates/e2e/fixtures");
    let source = home.path(&format!("source/{}", language.name));
    copy_source(&fixtures.join(language.name.to_lowercase()), &source)?;
    let built = source.join("hello.so");
    let command = (language.build)(&source, &repository().join("crates/abi/include"), &built);
    process::run(command, BUILD_WITHIN)?;
    home.write(&format!("webapps/{}/WEB-INF/web.toml", language.name), "")?;
    let library = library(home, language);
    fs::create_dir_all(library.parent().context("a library is in a folder")?)?;
    fs::copy(&built, &library)?;
    Ok(())
}

/// Parameters are decoded, the session counts, and a reload goes on counting.
fn serve(language: &Language, home: &Home, serval: &Serval) -> Result<()> {
    let name = language.name;
    let target = format!("/{name}/hello");
    let first = get(serval, &format!("{target}?name=Ad%C3%A4"), "")?;
    says(&first, &format!("hello Ad\u{e4} from {name}, visit 1\n"))?;
    let cookie = first.header("set-cookie").context("no session")?;
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    says(&get(serval, &target, &cookie)?, &format!("hello nobody from {name}, visit 2\n"))?;

    let library = library(home, language);
    let next = library.with_extension("next");
    fs::copy(&library, &next)?;
    fs::rename(&next, &library)?;
    let ready = format!("/{name} ready (generation 2");
    serval.wait_for_log(&ready, SHORT)?;
    says(&get(serval, &target, &cookie)?, &format!("hello nobody from {name}, visit 3\n"))
}

fn says(response: &Response, expected: &str) -> Result<()> {
    let body = String::from_utf8_lossy(&response.body);
    ensure!(body == expected, "{expected:?} expected, {body:?} came with the status {}", response.status);
    Ok(())
}

fn get(serval: &Serval, target: &str, cookie: &str) -> Result<Response> {
    let mut connection = Connection::open(serval.address(), SHORT)?;
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n").as_bytes())?;
    Ok(connection.read_response()?)
}
