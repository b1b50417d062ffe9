//! Looks at the webapps folders: soon after each event, again while something settles, and every ten seconds anyway. [`Folders`] is what
//! it watches them by; `live` has another one, for the files of the configuration.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use notify::{EventKind, RecursiveMode, Watcher};
use serval_container::{Container, Pass, Source};
use tokio::sync::{Notify, mpsc, watch};

const ANYWAY: Duration = Duration::from_secs(10);
const UNWATCHED: Duration = Duration::from_secs(1);
/// How soon a request for builds that found the queue full is made again.
const RETRY: Duration = Duration::from_millis(500);
const QUIET: Duration = Duration::from_millis(30);

/// Runs until `stopped` turns true. `first`: what the pass at the start has said; `asked`: for a pass, though no folder has changed.
pub async fn watch(
    container: Arc<Container>,
    first: Pass,
    builds: mpsc::Sender<Vec<Source>>,
    asked: Arc<Notify>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut folders = Folders::new();
    let mut pass = first;
    loop {
        // While a build runs, one request for the next is enough.
        let queued = builds.try_send(std::mem::take(&mut pass.sources)).is_ok();
        if folders.follow(&pass.watch) {
            pass = container.deploy_pass().await;
            continue;
        }
        let anyway = folders.anyway();
        tokio::select! {
            () = folders.changed() => {}
            () = asked.notified() => {}
            () = tokio::time::sleep(pass.again_after.unwrap_or(if queued { anyway } else { RETRY })) => {
                if pass.again_after.is_none() && queued {
                    tracing::debug!("nothing was told for {anyway:?}: all folders are looked at anyway");
                }
            }
            () = crate::run::told(&mut stopped) => return,
        }
        pass = container.deploy_pass().await;
    }
}

/// Folders that are watched.
pub struct Folders {
    /// None: the system does not let us.
    watcher: Option<notify::RecommendedWatcher>,
    happened: mpsc::Receiver<()>,
    /// The system has told that it did not tell of everything.
    overflowed: Arc<AtomicBool>,
    watched: Watched,
}

impl Folders {
    pub fn new() -> Folders {
        let (events, happened) = mpsc::channel(1);
        let overflowed = Arc::new(AtomicBool::new(false));
        let overflows = overflowed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().is_ok_and(notify::Event::need_rescan) {
                overflows.store(true, Ordering::Relaxed);
            }
            // Reading is no change, and one waiting event is as good as many.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(notify::event::AccessKind::Open(_)))) {
                let _ = events.try_send(());
            }
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!("changes are only seen at a look each second, since folders cannot be watched: {error}");
                None
            }
        };
        Folders { watcher, happened, overflowed, watched: HashMap::new() }
    }

    /// Watches these and no others; the flag says: with all below. Returns whether there are new ones: something may have happened in
    /// them between the last look and the watch.
    pub fn follow(&mut self, wanted: &[(PathBuf, bool)]) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        if self.overflowed.swap(false, Ordering::Relaxed) {
            tracing::info!(
                "more has changed than the system tells of at once (fs.inotify.max_queued_events): all folders are looked at"
            );
            // Nor is what was made in them watched yet: they are watched anew.
            self.watched.retain(|folder, (below, _)| {
                if *below {
                    // It may be gone already.
                    let _ = watcher.unwatch(folder);
                }
                !*below
            });
        }
        match follow(watcher, &mut self.watched, wanted) {
            Ok(new) => new,
            Err(why) => {
                tracing::warn!(
                    "changes are only seen at a look each second, since not all folders can be watched: {why}"
                );
                // Half a view is no help: events would come for some folders and not for others.
                self.watcher = None;
                false
            }
        }
    }

    /// After what time to look though nothing has happened.
    pub fn anyway(&self) -> Duration {
        if self.watcher.is_some() { ANYWAY } else { UNWATCHED }
    }

    /// Waits until something has happened in them, and a moment longer: more may come at once.
    pub async fn changed(&mut self) {
        match self.happened.recv().await {
            Some(()) => tokio::time::sleep(QUIET).await,
            // Nobody watches.
            None => std::future::pending().await,
        }
    }
}

/// A folder that is watched: with all below?, and which one it was, since another may come under its name.
type Watched = HashMap<PathBuf, (bool, Identity)>;

/// Device, number, and when it was made: a new folder often has the number of the one that was removed.
type Identity = (u64, u64, Option<SystemTime>);

/// Watches the wanted folders and no others, or says why it cannot. Returns whether there are new ones: something may have
/// happened in them between the look and the watch.
fn follow(
    watcher: &mut notify::RecommendedWatcher,
    watched: &mut Watched,
    wanted: &[(PathBuf, bool)],
) -> Result<bool, String> {
    let mut new = false;
    watched.retain(|folder, (_, identity)| {
        let stays = wanted.iter().any(|(wanted, _)| wanted == folder) && self::identity(folder) == Some(*identity);
        if !stays {
            // It may be gone already.
            let _ = watcher.unwatch(folder);
        }
        stays
    });
    for (folder, below) in wanted {
        if watched.contains_key(folder) {
            continue;
        }
        let Some(identity) = identity(folder) else { continue };
        let mode = if *below { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        match watcher.watch(folder, mode) {
            Ok(()) => {
                new = true;
                watched.insert(folder.clone(), (*below, identity));
            }
            Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                return Err("the system allows no more watches (raise fs.inotify.max_user_watches)".to_owned());
            }
            // Gone meanwhile, or not readable: the next look will tell.
            Err(error) => tracing::debug!("{} is not watched: {error}", folder.display()),
        }
    }
    Ok(new)
}

fn identity(folder: &Path) -> Option<Identity> {
    std::fs::metadata(folder).ok().map(|folder| (folder.dev(), folder.ino(), folder.created().ok()))
}
