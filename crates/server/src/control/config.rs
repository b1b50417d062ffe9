//! `/config` of the control socket, and `serval config`: what is in force, where it is from, and whether the files say otherwise.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use http::{Method, StatusCode};
use serde_json::{Value as Json, json};
use serval_config::{Origin, Server, Setting, Value, read_server};
use serval_loader::exchange::printable;

use super::client::{NOT_AS_ASKED, ask, list, say, text, unreached};
use crate::dev;
use crate::live::{Applied, Live, Loaded, changed};

#[derive(Subcommand)]
pub enum Command {
    /// Show each value of the files and where it is from, and what the running server has otherwise
    Show(Show),
    /// Have the running server put in force what the files say, and wait until it is
    Reload(Reload),
}

#[derive(Args)]
pub struct Show {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Reload {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// The answer to `GET /config`.
pub async fn in_force(live: &Arc<Live>) -> Json {
    let (config, known) = (live.container.config(), live.known());
    let home = config.home.clone();
    let read = tokio::task::spawn_blocking(move || read_server(&config.file, &config.home).settings).await;
    let (differs, problems) = match read {
        Ok(Ok((mut server, mut settings))) => {
            dev::adapt(&mut server, &mut settings);
            (changed(&known.settings, &settings), Json::Null)
        }
        Ok(Err(problems)) => (Vec::new(), problems.to_string().into()),
        Err(error) => (Vec::new(), error.to_string().into()),
    };
    let settings: Vec<Json> = known.settings.iter().map(|setting| as_json(setting, &home)).collect();
    json!({ "process": std::process::id(), "settings": settings, "differs": differs, "problems": problems })
}

/// The answer to `POST /config`.
pub async fn reload(live: &Arc<Live>) -> (StatusCode, Json) {
    match live.reload().await {
        Ok(Applied { changed, needs_restart, not_taken }) => {
            let not_taken: Vec<Json> = not_taken
                .iter()
                .map(|context| json!({ "host": context.host, "context": context.context, "reason": context.reason }))
                .collect();
            (StatusCode::OK, json!({ "changed": changed, "needs_restart": needs_restart, "not_taken": not_taken }))
        }
        Err(sentence) => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "error": sentence })),
    }
}

fn as_json(setting: &Setting, home: &Path) -> Json {
    let mut shown = json!({ "key": format!("{}.{}", setting.table, setting.key) });
    match &setting.value {
        Value::Shown(value) => shown["value"] = serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into()),
        Value::Hidden => (shown["value"], shown["hidden"]) = (Json::Null, true.into()),
        Value::Unset => shown["value"] = Json::Null,
    }
    match &setting.from {
        Origin::Default => shown["from"] = "default".into(),
        Origin::Command(command) => shown["from"] = (*command).into(),
        Origin::File { file, line, put_in } => {
            shown["from"] = format!("{}:{line}", below(home, file)).into();
            if !put_in.is_empty() {
                shown["put_in"] = put_in.as_slice().into();
            }
        }
    }
    shown
}

fn below(home: &Path, path: &Path) -> String {
    path.strip_prefix(home).unwrap_or(path).display().to_string()
}

/// 3: a server runs, and has not all of it in force.
pub fn show(arguments: &Show, Loaded { server, settings, .. }: &Loaded) -> ExitCode {
    let (told, unreached) = match ask(server, Method::GET, "/config", &Json::Null) {
        Ok((StatusCode::OK, told)) => (told, String::new()),
        Ok((_, told)) => (Json::Null, text(&told["error"])),
        Err(sentence) => (Json::Null, sentence),
    };
    let files: Vec<Json> = settings.iter().map(|setting| as_json(setting, &server.home)).collect();
    let differs = differing(&files, &told);
    if arguments.json {
        let running = match &told {
            Json::Null => Json::Null,
            told => json!({ "process": told["process"], "settings": told["settings"], "differs": differs }),
        };
        say(&format!("{:#}\n", json!({ "settings": files, "running": running })));
    } else {
        say(&as_toml(settings, &server.home));
        say(&match told {
            Json::Null => format!("\n# {unreached}\n"),
            told => of_running(&told, &differs),
        });
    }
    if differs.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_ASKED) }
}

/// The keys that the running server has otherwise: by what it says itself, since it does not show all, and by what it shows, since it may
/// have another environment.
fn differing(files: &[Json], told: &Json) -> Vec<String> {
    if told.is_null() {
        return Vec::new();
    }
    let running = list(&told["settings"]);
    let same = |one: &Json, other: &Json| (&one["key"], &one["value"]) == (&other["key"], &other["value"]);
    let lacks = |from: &[Json], of: &[Json]| -> Vec<String> {
        from.iter().filter(|one| !of.iter().any(|other| same(one, other))).map(|one| text(&one["key"])).collect()
    };
    let mut keys: Vec<String> = list(&told["differs"]).iter().map(text).collect();
    keys.extend(lacks(files, running));
    keys.extend(lacks(running, files));
    keys.sort();
    keys.dedup();
    keys
}

/// As a file of the same values would be, each with where it is from.
fn as_toml(settings: &[Setting], home: &Path) -> String {
    let (mut out, mut table) = (String::new(), "");
    for setting in settings {
        if setting.table != table {
            table = &setting.table;
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}{}", header(table));
        }
        let line = match &setting.value {
            Value::Shown(value) => format!("{} = {value}", setting.key),
            Value::Hidden => format!("# {} is not shown", setting.key),
            Value::Unset => format!("# {} is not set", setting.key),
        };
        let from = match &setting.from {
            Origin::Default => "default".to_owned(),
            Origin::Command(command) => (*command).to_owned(),
            Origin::File { file, line, put_in } => {
                let at = format!("{}:{line}", below(home, file));
                [vec![at], put_in.clone()].concat().join(", ")
            }
        };
        let _ = writeln!(out, "{:<40} # {}", printable(&line), printable(&from));
    }
    out
}

/// `[[host.context]]` for `host[0].context[1]`.
fn header(table: &str) -> String {
    let mut name = String::new();
    let mut rest = table;
    while let Some((before, behind)) = rest.split_once('[') {
        name.push_str(before);
        rest = behind.split_once(']').map_or("", |(_, rest)| rest);
    }
    name.push_str(rest);
    if table.ends_with(']') { format!("[[{name}]]") } else { format!("[{name}]") }
}

fn of_running(told: &Json, differs: &[String]) -> String {
    let mut out = String::new();
    let process = &told["process"];
    if differs.is_empty() {
        let _ = writeln!(out, "\n# The server that runs (process {process}) has all of it in force.");
        return out;
    }
    let _ = writeln!(out, "\n# The server that runs (process {process}) has otherwise, see `serval status`:");
    for key in differs {
        let of = |settings: &[Json]| {
            let found = settings.iter().find(|setting| setting["key"] == **key);
            found.map_or_else(
                || "nothing".to_owned(),
                |found| match found["hidden"] == true {
                    true => "another value, which is not shown".to_owned(),
                    false => format!("{} ({})", found["value"], text(&found["from"])),
                },
            )
        };
        let _ = writeln!(out, "# {key}: {}", printable(&of(list(&told["settings"]))));
    }
    out
}

/// 3: it is refused, and the one before stays in force; or a context has refused what it gives it.
pub fn reload_running(arguments: &Reload, config: &Server) -> ExitCode {
    let (status, told) = match ask(config, Method::POST, "/config", &Json::Null) {
        Ok(answer) => answer,
        Err(sentence) => return unreached(&sentence),
    };
    let not_taken = list(&told["not_taken"]);
    let is_done = status == StatusCode::OK && not_taken.is_empty();
    if arguments.json {
        say(&format!("{told}\n"));
    } else if status != StatusCode::OK {
        let sentence = told["error"].as_str().unwrap_or_default();
        eprintln!("refused as a whole; the configuration before stays in force:");
        sentence.lines().for_each(|line| eprintln!("{}", printable(line)));
    } else {
        let mut out = match list(&told["changed"]) {
            [] => "in force: nothing has changed\n".to_owned(),
            keys => format!("in force: {}\n", keys.iter().map(text).collect::<Vec<_>>().join(", ")),
        };
        for key in list(&told["needs_restart"]) {
            let _ = writeln!(out, "{} needs a restart", text(key));
        }
        for context in not_taken {
            let (host, name, reason) = (text(&context["host"]), text(&context["context"]), text(&context["reason"]));
            let _ = writeln!(out, "{host}{name} has refused it, and its last generation serves on: {reason}");
        }
        say(&out);
    }
    if is_done { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_ASKED) }
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn headers_are_written_as_in_the_file() {
        for (table, expected) in [
            ("server", "[server]"),
            ("listener[0]", "[[listener]]"),
            ("host[12].context[0]", "[[host.context]]"),
            ("host[0].context[3].remote_ip", "[host.context.remote_ip]"),
        ] {
            assert_eq!(header(table), expected);
        }
    }
}
