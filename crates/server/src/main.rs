//! The program `serval`: its command line. What it does on `run` stands in `run`.
#![forbid(unsafe_code)]

mod arriving;
mod build;
mod check;
mod connection;
mod control;
mod dev;
mod doubts;
mod explain;
mod guard;
mod home;
mod http1;
mod http2;
mod inherited;
mod listener;
mod listeners;
mod live;
mod new;
mod notify;
mod patient;
mod refused;
mod run;
mod said;
mod sdk;
mod sessions;
mod socket;
mod sources;
mod stack;
mod stream;
mod tls;
mod upstream;
mod user;
mod watch;

use std::collections::BTreeSet;
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
    /// Show the configuration, or put it in force
    #[command(subcommand)]
    Config(control::config::Command),
    /// Make a certificate
    #[command(subcommand)]
    Cert(tls::self_signed::Command),
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
    let files = Files::of(home, config);
    if let Some(Command::Cert(tls::self_signed::Command::SelfSigned(arguments))) = &command {
        return tls::self_signed::run(arguments, &files.home);
    }
    // Where a server runs has to be known, and no more: it says itself what is wrong with its configuration.
    let running = || serval_config::of_running(&files.file, &files.home);
    match command {
        Some(Command::Status(arguments)) => return control::client::status(&arguments, &running()),
        Some(Command::Deploy(arguments)) => return control::client::deploy(&arguments, &running()),
        Some(Command::Undeploy(arguments)) => return control::client::undeploy(&arguments, &running()),
        Some(Command::Reload(arguments)) => return control::client::reload(&arguments, &running()),
        Some(Command::Rollback(arguments)) => return control::client::rollback(&arguments, &running()),
        Some(Command::Stop(arguments)) => return control::client::stop(&arguments, &running()),
        Some(Command::Start(arguments)) => return control::client::start(&arguments, &running()),
        Some(Command::Config(control::config::Command::Reload(arguments))) => {
            return control::config::reload_running(&arguments, &running());
        }
        _ => {}
    }
    match files.load() {
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
        Ok(mut loaded) => match command {
            Some(Command::Check) => check::run(&loaded.server),
            Some(Command::Explain(arguments)) => explain::run(&arguments, &loaded.server),
            Some(Command::Config(control::config::Command::Show(arguments))) => {
                control::config::show(&arguments, &loaded)
            }
            Some(Command::Dev) => {
                dev::begin();
                dev::adapt(&mut loaded.server, &mut loaded.settings);
                run::run(loaded)
            }
            _ => run::run(loaded),
        },
    }
}

/// Reads the configuration of a home, or says in a sentence for each problem what is wrong.
fn load(home: Option<PathBuf>, config: Option<PathBuf>) -> Result<serval_config::Server, String> {
    Files::of(home, config).load().map(|loaded| loaded.server)
}

/// Where the configuration of a home is.
struct Files {
    file: PathBuf,
    home: PathBuf,
}

impl Files {
    fn of(home: Option<PathBuf>, config: Option<PathBuf>) -> Files {
        let file = config.unwrap_or_else(|| home.clone().unwrap_or_default().join("conf/server.toml"));
        let file = std::path::absolute(&file).unwrap_or(file);
        let above = file.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let home = home.unwrap_or_else(|| above.to_owned());
        Files { home: std::path::absolute(&home).unwrap_or(home), file }
    }

    /// Reads it, or says in a sentence for each problem what is wrong.
    fn load(&self) -> Result<live::Loaded, String> {
        if !self.file.is_file() {
            return Err(format!(
                "there is no {}: start serval in a folder that has conf/server.toml, or name one with --home or --config",
                self.file.display()
            ));
        }
        let (read, stamp) = live::read_as_one(&self.file, &self.home, &BTreeSet::new());
        let serval_config::Read { settings, files, empty } = read?;
        let (server, settings) = settings.map_err(|problems| problems.to_string())?;
        Ok(live::Loaded { server, settings, files: live::Files { all: files, empty }, stamp })
    }
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
