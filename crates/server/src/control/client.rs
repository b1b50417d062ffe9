//! The commands that ask a running server over its control socket. They return when the answer is true, and exit with 0 if all is as
//! asked, 1 if the server cannot be reached, 3 if it is not as asked: a webapp is not as it should be, a reload was refused, there is no
//! such context.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use serval_config::Server;
use serval_loader::exchange::printable;
use tokio::net::UnixStream;

use super::{Folder, NAME};
use crate::tls::days_shown;

pub(super) const NOT_AS_ASKED: u8 = 3;
/// What only asks has its answer at once. A reload takes as long as the library's init.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct Status {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Which context a command is about.
#[derive(Args)]
pub struct Named {
    /// The context's path, with its version if it has one: /, /shop, /shop##2
    context: String,
    /// The name of its host, if more than one has such a context
    #[arg(long)]
    host: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Rollback {
    #[command(flatten)]
    named: Named,
    /// The number of a generation; those that are kept stand in `serval status` [default: the last one before the current one]
    #[arg(long)]
    to: Option<u64>,
}

#[derive(Args)]
pub struct Deploy {
    /// An archive (.war, .zip) or the folder of a webapp; it is copied
    file: PathBuf,
    /// Where it is to be served: /, /shop, /a/b
    #[arg(long)]
    path: String,
    /// Beside other versions of the same path, each with its sessions
    #[arg(long)]
    version: Option<String>,
    /// The name of its host, if there is more than one
    #[arg(long)]
    host: Option<String>,
    /// Return when it serves, or is refused: it does anyway
    #[arg(long, hide = true)]
    wait: bool,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Undeploy {
    /// The context's path: /, /shop, /a/b
    path: String,
    /// Which version of it
    #[arg(long)]
    version: Option<String>,
    /// The name of its host, if there is more than one
    #[arg(long)]
    host: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// 3: the server is starting or stopping, the configuration or a certificate was refused, a context is not ready, its last change was refused,
/// or a webapp is not served.
pub fn status(arguments: &Status, config: &Server) -> ExitCode {
    let told = match ask(config, Method::GET, "/status", &Value::Null) {
        Ok((StatusCode::OK, told)) => told,
        Ok((_, told)) => return unreached(&text(&told["error"])),
        Err(sentence) => return unreached(&sentence),
    };
    match arguments.json {
        true => say(&format!("{told}\n")),
        false => say(&table(&told)),
    }
    let is_well = |context: &Value| context["state"] == "ready" && context["refused"].is_null();
    let is_good = told["readiness"] == "ready"
        && told["configuration"]["refused"].is_null()
        && list(&told["tls"]["refused"]).is_empty();
    match is_good && list(&told["problems"]).is_empty() && list(&told["contexts"]).iter().all(is_well) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_AS_ASKED),
    }
}

/// 3: it is refused, and what served before serves on.
pub fn reload(named: &Named, config: &Server) -> ExitCode {
    of_context("/reload", named, None, config)
}

/// 3: there is nothing to go back to, or it is refused, and what served before serves on.
pub fn rollback(arguments: &Rollback, config: &Server) -> ExitCode {
    of_context("/rollback", &arguments.named, arguments.to, config)
}

/// 3: it is not stopped, or it is refused, and requests are answered 503.
pub fn start(named: &Named, config: &Server) -> ExitCode {
    of_context("/start", named, None, config)
}

/// 3: it is stopped, and its last generation does not end.
pub fn stop(named: &Named, config: &Server) -> ExitCode {
    of_context("/stop", named, None, config)
}

/// 3: it is refused, and what served before serves on.
pub fn deploy(arguments: &Deploy, config: &Server) -> ExitCode {
    let Deploy { file, path, version, host, wait: _, json } = arguments;
    let file = match std::path::absolute(file).map(PathBuf::into_os_string).map(OsString::into_string) {
        Ok(Ok(file)) => file,
        _ => return unreached(&format!("{file:?} has no absolute path in UTF-8: copy it to another place")),
    };
    let context = full_name(path, version.as_deref());
    let question = json!({ "file": file, "context": context, "host": host });
    let done = |told: &Value| format!("{} serves generation {}\n", text(&told["context"]), told["generation"]);
    place("/deploy", &question, *json, &done, config)
}

/// 3: there is no such context, or it is not for this command to remove.
pub fn undeploy(arguments: &Undeploy, config: &Server) -> ExitCode {
    let context = full_name(&arguments.path, arguments.version.as_deref());
    let question = json!({ "context": context, "host": arguments.host });
    let done = |told: &Value| {
        let instead = match &*text(&told["instead"]) {
            "" => String::new(),
            other => format!("; {other}, which stood behind it, is served instead"),
        };
        format!("{}: {} is removed{instead}\n", text(&told["context"]), text(&told["removed"]))
    };
    place("/undeploy", &question, arguments.json, &done, config)
}

fn full_name(path: &str, version: Option<&str>) -> String {
    version.map_or(path.to_owned(), |version| format!("{path}##{version}"))
}

fn place(command: &str, question: &Value, json: bool, done: &dyn Fn(&Value) -> String, config: &Server) -> ExitCode {
    let (status, told) = match ask(config, Method::POST, command, question) {
        Ok(answer) => answer,
        Err(sentence) => return unreached(&sentence),
    };
    let is_done = status == StatusCode::OK;
    match (json, is_done) {
        (true, _) => say(&format!("{told}\n")),
        (_, true) => say(&done(&told)),
        _ => eprintln!("{}: {}", text(&question["context"]), text(&told["error"])),
    }
    if is_done { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_ASKED) }
}

fn of_context(command: &str, arguments: &Named, to: Option<u64>, config: &Server) -> ExitCode {
    let question = json!({ "context": arguments.context, "host": arguments.host, "to": to });
    let (status, told) = match ask(config, Method::POST, command, &question) {
        Ok(answer) => answer,
        Err(sentence) => return unreached(&sentence),
    };
    let is_done = status == StatusCode::OK;
    match (arguments.json, is_done) {
        (true, _) => say(&format!("{told}\n")),
        (_, true) if told["generation"].is_null() => say(&format!("{} is stopped\n", arguments.context)),
        (_, true) => say(&format!("{} serves generation {}\n", arguments.context, told["generation"])),
        _ => eprintln!("{}: {}", printable(&arguments.context), text(&told["error"])),
    }
    if is_done { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_ASKED) }
}

pub(super) fn unreached(sentence: &str) -> ExitCode {
    eprintln!("{sentence}");
    ExitCode::FAILURE
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What libraries and folders are called must not move the cursor of a terminal.
pub(super) fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

/// Who reads may have read enough.
pub(super) fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// For people: a line for each context, and one for each thing that is not as it should be for ever.
fn table(told: &Value) -> String {
    const HEAD: [&str; 8] = ["CONTEXT", "STATE", "GENERATION", "SINCE", "SERVLETS", "SESSIONS", "CALLS", "KEPT"];
    let contexts = list(&told["contexts"]);
    let is_one_host = contexts.iter().all(|context| context["host"] == contexts[0]["host"]);
    let host = |context: &Value| if is_one_host { String::new() } else { text(&context["host"]) };
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(contexts.iter().map(|context| {
        [
            host(context) + &text(&context["context"]),
            text(&context["state"]),
            context["generation"].to_string(),
            format!("{} s", context["seconds"]),
            context["servlets"].to_string(),
            context["sessions"].to_string(),
            context["calls"].to_string(),
            list(&context["kept"]).iter().map(Value::to_string).collect::<Vec<_>>().join(","),
        ]
    }));
    let widths: Vec<usize> =
        (0..HEAD.len()).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    if told["readiness"] != "ready" {
        let _ = writeln!(out, "the server is {}", text(&told["readiness"]));
    }
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    let configuration = &told["configuration"];
    if let Some(refused) = configuration["refused"].as_str() {
        let _ = writeln!(out, "the configuration was refused, and the one before stays in force:");
        for line in refused.lines() {
            let _ = writeln!(out, "  {}", printable(line));
        }
    }
    for key in list(&configuration["needs_restart"]) {
        let _ = writeln!(out, "the configuration has another {}, which needs a restart", text(key));
    }
    for certificate in list(&told["tls"]["certificates"]) {
        let names: Vec<String> = list(&certificate["names"]).iter().map(text).collect();
        let (file, days, day) =
            (text(&certificate["certificate"]), &certificate["days"], text(&certificate["expires"]));
        let days = days_shown(days.as_i64().unwrap_or(0));
        let _ = writeln!(out, "the certificate of {} ({file}) has {days} left, until {day}", names.join(", "));
    }
    for sentence in list(&told["tls"]["refused"]).iter().chain(list(&told["tls"]["warnings"])) {
        let _ = writeln!(out, "{}", text(sentence));
    }
    for problem in list(&told["problems"]) {
        let _ = writeln!(out, "{}", text(problem));
    }
    for context in contexts.iter().filter(|context| !context["next"].is_null()) {
        let (name, next) = (host(context) + &text(&context["context"]), &context["next"]);
        let (number, state) = (&next["generation"], text(&next["state"]));
        let _ = writeln!(out, "{name}: the next generation {number} is {state} since {} s", next["seconds"]);
    }
    for context in contexts.iter().filter(|context| !context["refused"].is_null()) {
        let name = host(context) + &text(&context["context"]);
        let meanwhile = match context["state"] == "failed" {
            true => "requests are answered 503".to_owned(),
            false => format!("generation {} serves on", context["generation"]),
        };
        let _ = writeln!(out, "{name}: the last change was refused, and {meanwhile}: {}", text(&context["refused"]));
    }
    for old in list(&told["old"]) {
        let waits = match &*text(&old["waits_for"]) {
            "" => String::new(),
            waits => format!(", waits for {waits}"),
        };
        let (name, number, state) = (text(&old["context"]), &old["generation"], text(&old["state"]));
        let _ = writeln!(out, "{name}: the old generation {number} is {state} since {} s{waits}", old["seconds"]);
    }
    for left in list(&told["left_mapped_last"]) {
        let (name, number, library) = (text(&left["context"]), &left["generation"], text(&left["library"]));
        let _ = writeln!(out, "{name}: {library} of generation {number} stays mapped: {}", text(&left["reason"]));
    }
    out
}

/// Asks the server of this home; an error is a sentence.
pub(super) fn ask(
    config: &Server,
    method: Method,
    path: &str,
    question: &Value,
) -> Result<(StatusCode, Value), String> {
    let socket = config.var.join("run").join(NAME);
    let unreached = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            format!(
                "no Serval runs in {} with its files in {}: start one with `serval run`, or name another home with --home; one \
                 that was started with another `var` in [server] is reached by that one until its restart",
                config.home.display(),
                config.var.display()
            )
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("{} is for the user that Serval runs as, and for root: {error}", socket.display())
        }
        _ => format!("{} cannot be reached: {error}", socket.display()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("there is no thread to ask with: {error}"))?;
    let within = if method == Method::GET { TOLD_WITHIN } else { Duration::MAX };
    let asked = async {
        let folder = Folder::open(config).map_err(unreached)?;
        let stream = UnixStream::connect(folder.path(NAME)).await.map_err(unreached)?;
        let lost = |error: hyper::Error| format!("the server has left without an answer: {error}");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // It ends with the runtime.
        drop(tokio::spawn(connection));
        let body = if question.is_null() { Bytes::new() } else { question.to_string().into() };
        let request =
            Request::builder().method(method).uri(path).header(http::header::HOST, "serval").body(Full::new(body));
        let response = sender.send_request(request.map_err(|error| error.to_string())?).await.map_err(lost)?;
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(lost)?.to_bytes();
        let told =
            serde_json::from_slice(&bytes).map_err(|error| format!("the server's answer is no JSON: {error}"))?;
        Ok((status, told))
    };
    let answer = runtime.block_on(async { tokio::time::timeout(within, asked).await });
    answer.unwrap_or_else(|_| Err(format!("the server has not answered for {within:?}")))
}
