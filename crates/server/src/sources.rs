//! Builds webapps that carry their source, one at a time, and puts the library into WEB-INF/lib, where the deployment finds it
//! like any other. Off unless `[build] sources` is set.
//!
//! Rust (`WEB-INF/Cargo.toml`), C and C++ (`WEB-INF/src`), or what `[build] command` of web.toml says.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serval_config::Server;
use serval_container::{Container, Source};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};

use crate::sdk;

/// LIMIT: source files of one webapp that are looked at.
const FILES_MAX: usize = 10_000;

/// Builds what `queue` brings until `stopped` turns true; a build that runs then is ended.
pub async fn build_all(
    config: Arc<Server>,
    container: Arc<Container>,
    mut queue: mpsc::Receiver<Vec<Source>>,
    mut stopped: watch::Receiver<bool>,
) {
    let header = sdk::folder(&config.var).join("abi/include");
    let targets = config.var.join("work/build");
    let mut failed: Vec<(PathBuf, SystemTime)> = Vec::new();
    loop {
        let sources = tokio::select! {
            sources = queue.recv() => sources,
            () = crate::run::told(&mut stopped) => return,
        };
        let Some(sources) = sources else { return };
        if !config.sources {
            continue;
        }
        if let Err(error) = sdk::unpack(&config.var) {
            tracing::error!(
                "sources cannot be built, since the SDK cannot be written into {}: {error}",
                config.var.display()
            );
            continue;
        }
        for source in sources {
            let Some((library, mut command)) = command(&source, &header, &targets) else { continue };
            let Some(newest) = newest(&source.webapp.join("WEB-INF")) else { continue };
            let built = std::fs::metadata(&library).and_then(|file| file.modified()).ok();
            if built.is_some_and(|built| built >= newest) || failed.contains(&(source.webapp.clone(), newest)) {
                continue;
            }
            failed.retain(|(webapp, _)| *webapp != source.webapp);
            container.set_building(&source.webapp, built.is_none());
            let built = tokio::select! {
                built = tokio::time::timeout(config.build_timeout, build(&source, &library, &mut command)) => built,
                () = crate::run::told(&mut stopped) => return,
            };
            if !built.unwrap_or_else(|_| {
                tracing::error!("{}: the build took longer than build_timeout and was ended", source.context);
                false
            }) {
                failed.push((source.webapp.clone(), newest));
            }
            mount(&container).await;
            container.set_building(&source.webapp, false);
        }
    }
}

/// Has the new library loaded before anybody is told that nothing is being built any more.
async fn mount(container: &Arc<Container>) {
    // LIMIT: the webapps of others may keep changing; they are not waited for.
    for _ in 0..20 {
        match container.deploy_pass().await.again_after {
            Some(after) => tokio::time::sleep(after).await,
            None => break,
        }
    }
    container.settled().await;
}

/// The library that a webapp's source makes, and the command for it, which runs in WEB-INF.
fn command(source: &Source, header: &Path, targets: &Path) -> Option<(PathBuf, Command)> {
    let inside = source.webapp.join("WEB-INF");
    let name = source.webapp.file_name()?.to_string_lossy().into_owned();
    let library = inside.join("lib").join(format!("{name}.so"));
    let target = targets.join(&name);
    let mut command = match &source.command {
        Some(words) => {
            let mut command = Command::new(words.first()?);
            command.args(&words[1..]);
            command
        }
        None if inside.join("Cargo.toml").is_file() => {
            let mut command = Command::new("cargo");
            command.args(["build", "--release"]);
            command
        }
        None => {
            let files = |ending: &str| -> Vec<PathBuf> {
                let entries = std::fs::read_dir(inside.join("src")).into_iter().flatten().flatten();
                entries
                    .map(|file| file.path())
                    .filter(|file| file.extension().is_some_and(|own| own == ending))
                    .collect()
            };
            let (c, cpp) = (files("c"), files("cpp"));
            let (compiler, standard, files) =
                if c.is_empty() { ("c++", "-std=c++17", cpp) } else { ("cc", "-std=c99", c) };
            if files.is_empty() {
                return None;
            }
            let mut command = Command::new(compiler);
            command.args([standard, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]).arg(header);
            command.arg("-o").arg(library.with_file_name(format!(".{name}.so"))).args(files);
            command
        }
    };
    command.current_dir(&inside).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.envs(std::env::vars_os().filter(|(name, _)| {
        ["PATH", "HOME", "LANG", "TMPDIR", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"]
            .iter()
            .any(|kept| name.to_str() == Some(kept))
    }));
    command.env("CARGO_TARGET_DIR", target);
    Some((library, command))
}

/// The library that cargo has made: the only one of its kind in the folder of the build.
fn made_by_cargo(command: &Command) -> Option<PathBuf> {
    let target = command.as_std().get_envs().find(|(name, _)| *name == "CARGO_TARGET_DIR")?.1?;
    let made = std::fs::read_dir(Path::new(target).join("release")).ok()?.flatten();
    made.map(|file| file.path()).find(|file| file.extension().is_some_and(|own| own == "so"))
}

/// Runs the command; its output goes whole to the terminal.
async fn build(source: &Source, library: &Path, command: &mut Command) -> bool {
    let began = Instant::now();
    println!("{} building", source.context);
    let unfinished = library.with_file_name(format!(".{}", library.file_name().unwrap_or_default().to_string_lossy()));
    let run = async {
        std::fs::create_dir_all(library.parent().unwrap_or(library))?;
        let status = command.status().await?;
        if let (true, Some(made)) = (status.success(), made_by_cargo(command)) {
            std::fs::copy(made, &unfinished)?;
        }
        if status.success() && unfinished.exists() {
            std::fs::rename(&unfinished, library)?;
        }
        Ok::<bool, std::io::Error>(status.success())
    };
    match run.await {
        Ok(true) => {
            println!("{} built in {:.1} s", source.context, began.elapsed().as_secs_f64());
            true
        }
        Ok(false) => {
            let context = &source.context;
            tracing::error!("{context}: the build failed, as shown above; what served before serves on");
            false
        }
        Err(error) => {
            let program = command.as_std().get_program().to_string_lossy();
            tracing::error!("{}: `{program}` cannot be run: {error}; is it installed?", source.context);
            false
        }
    }
}

/// When the newest file under src, or web.toml, was changed.
fn newest(inside: &Path) -> Option<SystemTime> {
    let mut folders = vec![inside.join("src")];
    let of = |name| std::fs::metadata(inside.join(name)).and_then(|file| file.modified()).ok();
    let mut newest = of("web.toml").max(of("Cargo.toml"));
    let mut left = FILES_MAX;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            left = left.checked_sub(1)?;
            let Ok(file) = entry.metadata() else { continue };
            if file.is_dir() {
                folders.push(entry.path());
            } else {
                newest = newest.max(file.modified().ok());
            }
        }
    }
    newest
}
