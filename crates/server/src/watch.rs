//! Looks at the webapps folders: soon after each event, again while something settles, and every ten seconds anyway.
//!
//! The events are inotify's, without the opening of files that other libraries ask for: each file that is sent would wake somebody.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use serval_container::{Container, Pass, Source};
use tokio::sync::{mpsc, watch};

const ANYWAY: Duration = Duration::from_secs(10);
const UNWATCHED: Duration = Duration::from_secs(1);
/// How soon a request for builds that found the queue full is made again.
const RETRY: Duration = Duration::from_millis(500);
const QUIET: Duration = Duration::from_millis(30);
/// Room for events, each with a name of at most 255 bytes.
const EVENTS_BYTES: usize = 4096;

const CHANGES: WatchMask = WatchMask::ATTRIB
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MODIFY)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::MOVE)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// Runs until `stopped` turns true. `first`: what the pass at the start has said.
pub async fn watch(
    container: Arc<Container>,
    first: Pass,
    builds: mpsc::Sender<Vec<Source>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut watcher = match Watcher::new() {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!("changes are only seen at a look each second, since folders cannot be watched: {error}");
            None
        }
    };
    let mut pass = first;
    loop {
        // While a build runs, one request for the next is enough.
        let asked = builds.try_send(std::mem::take(&mut pass.sources)).is_ok();
        let followed = watcher.as_mut().map_or(Ok(false), |watcher| watcher.follow(&pass.watch));
        if followed == Ok(true) {
            pass = container.deploy_pass().await;
            continue;
        }
        if let Err(why) = followed {
            tracing::warn!("changes are only seen at a look each second, since not all folders can be watched: {why}");
            // Half a view is no help: events would come for some folders and not for others.
            watcher = None;
        }
        let anyway = if watcher.is_some() { ANYWAY } else { UNWATCHED };
        tokio::select! {
            () = happened(&mut watcher) => tokio::time::sleep(QUIET).await,
            () = tokio::time::sleep(pass.again_after.unwrap_or(if asked { anyway } else { RETRY })) => {}
            () = crate::run::told(&mut stopped) => return,
        }
        pass = container.deploy_pass().await;
    }
}

async fn happened(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(watcher) => poll_fn(|task| watcher.poll_happened(task)).await,
        None => pending().await,
    }
}

/// Which folder it is: another one may come under its name.
type Identity = (u64, u64);

/// The folders that are watched.
struct Watcher {
    events: EventStream<[u8; EVENTS_BYTES]>,
    watched: HashMap<Identity, WatchDescriptor>,
}

impl Watcher {
    fn new() -> std::io::Result<Watcher> {
        let events = Inotify::init()?.into_event_stream([0; EVENTS_BYTES])?;
        Ok(Watcher { events, watched: HashMap::new() })
    }

    /// Watches the wanted folders and no others, or says why it cannot. Returns whether there are new ones: something may have
    /// happened in them between the look and the watch.
    fn follow(&mut self, wanted: &[(PathBuf, bool)]) -> Result<bool, String> {
        let (wanted, mut watches) = (folders(wanted), self.events.watches());
        self.watched.retain(|identity, watch| {
            let stays = wanted.contains_key(identity);
            if !stays {
                // It may be gone already.
                let _ = watches.remove(watch.clone());
            }
            stays
        });
        let mut new = false;
        for (identity, folder) in wanted {
            if self.watched.contains_key(&identity) {
                continue;
            }
            match watches.add(&folder, CHANGES) {
                Ok(watch) => {
                    new = true;
                    self.watched.insert(identity, watch);
                }
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    return Err("the system allows no more watches (raise fs.inotify.max_user_watches)".to_owned());
                }
                // Gone meanwhile, or not readable: the next look will tell.
                Err(error) => tracing::debug!("{} is not watched: {error}", folder.display()),
            }
        }
        Ok(new)
    }

    /// Ready when there were events, all of which it takes: one is as good as many.
    fn poll_happened(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let mut happened = Poll::Pending;
        while let Poll::Ready(Some(event)) = Pin::new(&mut self.events).poll_next(task) {
            happened = Poll::Ready(());
            match event {
                // A folder that is gone is watched no more, and the next one may have its identity.
                Ok(event) if event.mask.contains(EventMask::IGNORED) => {
                    self.watched.retain(|_, watch| *watch != event.wd)
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        happened
    }
}

/// The folders that are there, and where it is said, those below them.
fn folders(wanted: &[(PathBuf, bool)]) -> HashMap<Identity, PathBuf> {
    let mut found = HashMap::new();
    let mut rest = wanted.to_vec();
    while let Some((folder, below)) = rest.pop() {
        let Some(identity) = identity(&folder).filter(|identity| !found.contains_key(identity)) else { continue };
        if below && let Ok(entries) = std::fs::read_dir(&folder) {
            rest.extend(entries.flatten().map(|entry| (entry.path(), true)));
        }
        found.insert(identity, folder);
    }
    found
}

/// `None`: there is no such folder.
fn identity(folder: &Path) -> Option<Identity> {
    let found = std::fs::metadata(folder).ok().filter(|found| found.is_dir())?;
    Some((found.dev(), found.ino()))
}
