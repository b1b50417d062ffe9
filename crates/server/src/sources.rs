//! Builds webapps that carry their source, one at a time, and puts the library into WEB-INF/lib, where the deployment finds it
//! like any other. Off unless `[build] sources` is set.
//!
//! This decides what is to be built, and when; `build` says how.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serval_config::Server;
use serval_container::{BuildState, Container, Source};
use tokio::sync::{mpsc, watch};

use crate::build::Build;
use crate::dev;
use crate::run::{say, told};

/// LIMIT: source files of one webapp that are looked at.
const FILES_MAX: usize = 10_000;
/// How soon sources that change are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// LIMIT: how long the next build waits for the library of this one to be loaded.
const LOADED_WITHIN: Duration = Duration::from_secs(5);

/// What is known of a webapp's sources.
struct Known {
    /// How they looked last, and since when.
    seen: u64,
    since: Instant,
    /// How they looked when they were built, or failed to.
    built: Option<u64>,
}

/// Builds what `queue` brings until `stopped` turns true; a build that runs then is ended.
pub async fn build_all(
    container: Arc<Container>,
    mut queue: mpsc::Receiver<Vec<Source>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut known: HashMap<PathBuf, Known> = HashMap::new();
    let mut sources: Vec<Source> = Vec::new();
    let mut again = false;
    loop {
        let settled = tokio::time::sleep(if again { LOOK_AGAIN } else { Duration::from_secs(3600) });
        tokio::select! {
            brought = queue.recv() => match brought {
                Some(brought) => sources = brought,
                None => return,
            },
            () = settled => {}
            () = told(&mut stopped) => return,
        }
        let config = container.config();
        if !config.sources {
            continue;
        }
        known.retain(|webapp, _| sources.iter().any(|source| source.webapp == *webapp));
        let mut due = Vec::new();
        again = false;
        for source in &sources {
            match look(source, &mut known) {
                Look::AtRest => {}
                Look::Changing => again = true,
                Look::Due(looks) => due.push((source, looks)),
            }
        }
        for (source, _) in &due {
            container.set_build_state(&source.webapp, BuildState::Waits);
        }
        for (source, looks) in due {
            tokio::select! {
                () = build(source, looks, &config, &container) => {}
                () = told(&mut stopped) => return,
            }
            if let Some(known) = known.get_mut(&source.webapp) {
                known.built = Some(looks);
            }
            // They may have been changed meanwhile.
            again = true;
        }
    }
}

enum Look {
    AtRest,
    Changing,
    Due(u64),
}

fn look(source: &Source, known: &mut HashMap<PathBuf, Known>) -> Look {
    let looks = fingerprint(&source.webapp.join("WEB-INF"));
    let known = known.entry(source.webapp.clone()).or_insert_with(|| {
        // What lay there before we came is not being written.
        let since = Instant::now().checked_sub(source.settle_time).unwrap_or_else(Instant::now);
        Known { seen: looks, since, built: stamped(source) }
    });
    if known.seen != looks {
        (known.seen, known.since) = (looks, Instant::now());
    }
    match known.built == Some(looks) {
        true => Look::AtRest,
        false if known.since.elapsed() < source.settle_time => Look::Changing,
        false => Look::Due(looks),
    }
}

async fn build(source: &Source, looks: u64, config: &Server, container: &Arc<Container>) {
    let context = &source.context;
    let began = Instant::now();
    let result = match Build::of(source, &config.var) {
        Ok(Some(build)) => {
            say(format_args!("{context} building"));
            match tokio::time::timeout(config.build_timeout, build.run()).await {
                Ok(result) => result,
                Err(_) => Err(format!(
                    "it took longer than {:?} and was ended (`timeout` in [build] of server.toml)",
                    config.build_timeout
                )),
            }
        }
        // Nothing to build after all.
        Ok(None) => return container.set_build_state(&source.webapp, BuildState::Ended),
        Err(why) => Err(why),
    };
    match result {
        Ok(()) => {
            dev::built(context);
            stamp(source, looks);
            say(format_args!("{context} built in {:.1} s", began.elapsed().as_secs_f64()));
            loaded(container).await;
            container.set_build_state(&source.webapp, BuildState::Ended);
        }
        Err(why) => {
            tracing::error!("{context}: the build failed: {why}; what served before serves on");
            dev::build_failed(context, &why);
            container.set_build_state(&source.webapp, BuildState::Failed);
        }
    }
}

/// Has the new library loaded before anybody is told that nothing is being built any more.
async fn loaded(container: &Arc<Container>) {
    let loads = async {
        while let Some(after) = container.deploy_pass().await.again_after {
            tokio::time::sleep(after).await;
        }
        container.settled().await;
    };
    // The webapps of others may keep changing, or never start: they are not waited for.
    let _ = tokio::time::timeout(LOADED_WITHIN, loads).await;
}

/// How the sources looked from which the library was built, by an earlier process too.
fn stamped(source: &Source) -> Option<u64> {
    let text = std::fs::read_to_string(source.folder.join("built")).ok()?;
    let has_library =
        std::fs::read_dir(source.webapp.join("WEB-INF/lib")).is_ok_and(|mut files| files.next().is_some());
    text.trim().parse().ok().filter(|_| has_library)
}

fn stamp(source: &Source, looks: u64) {
    // Without it the next start builds once more.
    if let Err(error) = std::fs::write(source.folder.join("built"), looks.to_string()) {
        tracing::debug!("{}: the stamp of a build cannot be written: {error}", source.context);
    }
}

/// Of all files under src, and those beside it that say how to build: names, sizes, times. Another one after each change.
fn fingerprint(inside: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut add = |path: &Path| -> bool {
        // Through a link: what it leads to is what is compiled.
        let Ok(file) = std::fs::metadata(path) else { return false };
        if !file.is_dir() {
            path.hash(&mut hasher);
            (file.len(), file.ino(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec())
                .hash(&mut hasher);
        }
        file.is_dir()
    };
    for name in ["web.toml", "Cargo.toml", "build.rs"] {
        add(&inside.join(name));
    }
    let mut folders = vec![inside.join("src")];
    let mut left = FILES_MAX;
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).take(left).collect();
        left -= paths.len();
        paths.sort();
        folders.extend(paths.into_iter().filter(|path| add(path)));
    }
    if left == 0 {
        tracing::warn!("{} has more than {FILES_MAX} files: changes of the rest are not seen", inside.display());
    }
    hasher.finish()
}
