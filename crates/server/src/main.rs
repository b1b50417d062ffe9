//! The program `serval`: its command line. What it does on `run` stands in `run`.
#![forbid(unsafe_code)]

mod build;
mod check;
mod connection;
mod control;
mod dev;
mod doubts;
mod explain;
mod guard;
mod heads;
mod home;
mod inherited;
mod listener;
mod new;
mod notify;
mod patient;
mod run;
mod sdk;
mod sessions;
mod sources;
mod stack;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A servlet container whose servlets are native libraries.
#[derive(Parser)]
#[command(name = "serval", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    /// The folder of conf/, webapps/ and var/ [default: the folder above the configuration's]
    #[arg(long, global = true)]
    home: Option<PathBuf>,
    /// [default: conf/server.toml of the home]
    #[arg(long, global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default)
    Run,
    /// Serve for who develops: sources are built, pages show what does not build or start, and reload when it does
    Dev,
    /// Say what is wrong with server.toml and each web.toml, without starting
    Check,
    /// Say step by step what a request means
    Explain(explain::Explain),
    /// Tell of the running server: contexts, their generations, and what old ones wait for
    Status(control::client::Status),
    /// Make the next generation of a context of the running server, changed or not, and wait until it serves
    Reload(control::client::Named),
    /// Go back to what an older generation of a context was made from, and wait until that serves
    Rollback(control::client::Rollback),
    /// Let no request into a context any more, and wait until its servlets are destroyed
    Stop(control::client::Named),
    /// Start a context that was stopped, and wait until it serves
    Start(control::client::Named),
    /// Put an archive or a folder into the running server's webapps folder, and wait until it serves
    Deploy(control::client::Deploy),
    /// Remove a webapp from the running server's webapps folder, and wait until it is gone
    Undeploy(control::client::Undeploy),
    /// Make a webapp that runs as it is
    New(new::New),
    /// Say what a servlet library declares, without running its init
    Inspect { library: PathBuf },
    #[command(hide = true)]
    Guard {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    #[command(hide = true)]
    Stack { process: i32, thread: i32 },
}

fn main() -> ExitCode {
    let CommandLine { command, home, config } = CommandLine::parse();
    if let Some(Command::Inspect { library }) = &command {
        return inspect(library);
    }
    if let Some(Command::New(new)) = &command {
        return new::run(new, home, config);
    }
    if let Some(Command::Guard { words }) = &command {
        return guard::run(words);
    }
    if let Some(Command::Stack { process, thread }) = command {
        return stack::run(process, thread);
    }
    match load(home, config) {
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
        Ok(config) => match command {
            Some(Command::Check) => check::run(&config),
            Some(Command::Explain(arguments)) => explain::run(&arguments, &config),
            Some(Command::Status(arguments)) => control::client::status(&arguments, &config),
            Some(Command::Deploy(arguments)) => control::client::deploy(&arguments, &config),
            Some(Command::Undeploy(arguments)) => control::client::undeploy(&arguments, &config),
            Some(Command::Reload(arguments)) => control::client::reload(&arguments, &config),
            Some(Command::Rollback(arguments)) => control::client::rollback(&arguments, &config),
            Some(Command::Stop(arguments)) => control::client::stop(&arguments, &config),
            Some(Command::Start(arguments)) => control::client::start(&arguments, &config),
            Some(Command::Dev) => {
                dev::begin();
                run::run(serval_config::Server { development: true, sources: true, ..config })
            }
            _ => run::run(config),
        },
    }
}

/// Reads the configuration of a home, or says in a sentence for each problem what is wrong.
fn load(home: Option<PathBuf>, config: Option<PathBuf>) -> Result<serval_config::Server, String> {
    let file = config.unwrap_or_else(|| home.clone().unwrap_or_default().join("conf/server.toml"));
    let file = std::path::absolute(&file).unwrap_or(file);
    if !file.is_file() {
        return Err(format!(
            "there is no {}: start serval in a folder that has conf/server.toml, or name one with --home or --config",
            file.display()
        ));
    }
    let above = file.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let home = home.unwrap_or_else(|| above.to_owned());
    let home = std::path::absolute(&home).unwrap_or(home);
    serval_config::load_server(&file, &home).map_err(|problems| problems.to_string())
}

fn inspect(library: &Path) -> ExitCode {
    match serval_loader::inspect::describe(library) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            eprintln!("{}: {refusal}", library.display());
            ExitCode::FAILURE
        }
    }
}
