//! What has come into a webapps folder, until it may be served: a new folder until all of it is at rest, since copies take their time;
//! an archive until it is unpacked.
//!
//! An archive leads to a folder in `var` (an artefact), and a changed one to another folder: to the pass that is a webapp whose folder
//! was replaced, so it becomes the next generation of the same context. The folder of the user stays as he left it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serval_config::{ContextName, Host, Server};
use tokio::task::JoinHandle;

use super::artefacts::{self, Artefact, Print, UnpackError};
use super::kept::Store;
use super::load::{FAULT, Failure, Loading};
use super::{Mounted, RESTLESS, RESTLESS_LOOK, RETRY};
use crate::webapp::{Complaints, Found, Tree, limits};
use crate::{Container, Pass};

/// A host's name, and that of a context in it.
pub type Key = (String, ContextName);

/// Between two looks at an archive that is being unpacked.
const UNPACKING_LOOK: Duration = Duration::from_millis(50);

/// What a pass remembers of what is not served yet.
#[derive(Default)]
pub struct Arriving {
    /// Hosts of which there was a pass before: what comes now may be half of what is to come.
    pub passed: HashSet<String>,
    /// What an earlier process has left was removed.
    pub has_swept: bool,
    folders: HashMap<PathBuf, Folder>,
    archives: HashMap<Key, Archive>,
    /// How many contexts' artefacts were removed.
    gone: u64,
}

/// A folder that is new under its name.
struct Folder {
    host: String,
    tree: Tree,
    since: Instant,
    first: Instant,
    said: bool,
}

/// The archive of a context, and what was made of it.
struct Archive {
    /// Of its artefacts.
    folder: PathBuf,
    /// By their numbers. LIMIT: those in use, and those of generations that are kept (`generations_kept`).
    artefacts: Vec<Artefact>,
    /// The number of the one that is to be served.
    current: Option<u64>,
    /// The number of the next one.
    next: u64,
    now: Option<Print>,
    since: Instant,
    /// What was refused last, and why.
    refused: Option<(Print, Failure)>,
    unpacking: Option<Unpacking>,
    /// Until the pass has done with what was unpacked: the server is not settled before.
    arrived: Option<Loading>,
}

struct Unpacking {
    print: Print,
    task: JoinHandle<Result<Artefact, UnpackError>>,
    loading: Loading,
}

/// What a pass says of what it has found.
pub struct Notes<'p> {
    pub pass: &'p mut Pass,
    pub complaints: &'p mut Complaints,
}

impl Arriving {
    /// Forgets what was of hosts that are not there any more; what they have in `var` goes at the next start.
    pub fn forget_hosts(&mut self, is_known: impl Fn(&str) -> bool) {
        self.archives.retain(|(host, _), _| is_known(host));
        self.passed.retain(|host| is_known(host));
        self.folders.retain(|_, folder| is_known(&folder.host));
    }

    /// Forgets what is not there any more, and removes the artefacts of archives that are gone, once no generation has them.
    pub fn forget(
        &mut self,
        (host, wanted): (&str, &HashMap<ContextName, Found>),
        container: &Container,
        mounted: &HashMap<Key, Mounted>,
        pass: &mut Pass,
    ) {
        let is_wanted =
            |folder: &Path| wanted.values().any(|found| matches!(found, Found::Folder(found) if found == folder));
        self.folders.retain(|folder, seen| seen.host != host || (is_wanted(folder) && folder.is_dir()));
        self.archives.retain(|key, archive| {
            if key.0 != host || matches!(wanted.get(&key.1), Some(Found::Archive(_))) {
                return true;
            }
            let serves = |entry: &Mounted| {
                entry.load.is_some() || entry.context.current.load().webapp.starts_with(&archive.folder)
            };
            let is_used = mounted.get(key).is_some_and(serves)
                || archive.unpacking.as_ref().is_some_and(|unpacking| !unpacking.task.is_finished())
                || container.lives.have(&archive.folder);
            match is_used {
                true => pass.again(RESTLESS_LOOK),
                false => {
                    self.gone += 1;
                    artefacts::remove_all(&archive.folder, self.gone);
                }
            }
            is_used
        });
    }

    /// Whether something will soon be served that is not yet.
    pub fn is_busy(&self) -> bool {
        let is_unpacked = |archive: &Archive| archive.unpacking.is_none() && archive.arrived.is_none();
        self.folders.values().any(|folder| !folder.said) || !self.archives.values().all(is_unpacked)
    }

    /// Whether nothing in a folder changes any more, or it was there before we came.
    fn is_at_rest(&mut self, host: &str, folder: &Path, settle: Duration, pass: &mut Pass) -> bool {
        if !self.passed.contains(host) {
            return true;
        }
        let (tree, now) = (Tree::of(folder), Instant::now());
        let seen = self.folders.entry(folder.to_owned());
        let seen = seen.or_insert_with(|| Folder {
            host: host.to_owned(),
            tree: tree.clone(),
            since: now,
            first: now,
            said: false,
        });
        if seen.tree != tree {
            (seen.tree, seen.since) = (tree, now);
        }
        let quiet = seen.since.elapsed();
        if quiet >= settle {
            self.folders.remove(folder);
            return true;
        }
        let is_restless = seen.first.elapsed() > RESTLESS;
        if is_restless && !std::mem::replace(&mut seen.said, true) {
            tracing::warn!(
                "{folder:?} keeps changing; it is served when it has been at rest for {settle:?} (settle_time)"
            );
        }
        pass.again(if is_restless { RESTLESS_LOOK } else { (settle - quiet).max(Duration::from_millis(20)) });
        false
    }

    /// How it stands with the archive of this print: `None`: its turn has not come; else where it was unpacked, or why it was refused.
    pub fn outcome_of(&self, key: &Key, print: &Print) -> Option<Result<&Path, &str>> {
        let archive = self.archives.get(key)?;
        if let Some((of, failure)) = &archive.refused
            && of == print
        {
            return Some(Err(&failure.reason));
        }
        archive
            .current_artefact()
            .filter(|artefact| artefact.record.archive == *print)
            .map(|artefact| Ok(&*artefact.folder))
    }
}

impl Container {
    /// The folder to serve what was found from; `None`: not yet.
    pub(super) async fn arrived(
        self: &Arc<Self>,
        arriving: &mut Arriving,
        (key, found): (&Key, &Found),
        entry: Option<&Mounted>,
        notes: &mut Notes<'_>,
    ) -> Option<PathBuf> {
        match found {
            Found::Archive(file) => self.unpacked(arriving, (key, file), entry, notes).await,
            Found::Upstream(nothing) => Some(nothing.clone()),
            Found::Folder(folder) if entry.is_some_and(|entry| entry.now.is_of_folder(folder)) => {
                arriving.folders.remove(folder);
                Some(folder.clone())
            }
            Found::Folder(folder) => {
                let settle = self.deployment.settings_of(key).settle_time;
                arriving.is_at_rest(&key.0, folder, settle, notes.pass).then(|| folder.clone())
            }
        }
    }

    /// The folder of an archive that is to be served, once there is one.
    async fn unpacked(
        self: &Arc<Self>,
        arriving: &mut Arriving,
        (key, file): (&Key, &Path),
        entry: Option<&Mounted>,
        notes: &mut Notes<'_>,
    ) -> Option<PathBuf> {
        let has_passed = arriving.passed.contains(&key.0);
        let archive = arriving.archives.entry(key.clone()).or_insert_with(|| {
            let folder = artefacts_folder(&self.deployment.config.load(), key);
            let known = artefacts::read(&folder);
            artefacts::sweep(&folder, &known);
            Archive::new(known, folder)
        });
        archive.arrived = None;
        let store = Store(self.deployment.folder_in("generations", &key.0, &key.1.folder()));
        archive.take_unpacked(self, entry).await;
        match Print::of(file) {
            Ok(print) => archive.look(self, file, print, has_passed, (key, entry), notes),
            // Its folder will tell.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                notes.complaints.insert(file.to_owned(), format!("{file:?} cannot be read: {error}"));
                notes.pass.again(RETRY);
            }
        }
        archive.fall_back(entry, &store);
        archive.complain(file, entry, notes.complaints);
        let current = archive.current_artefact().map(|artefact| artefact.folder.clone());
        match entry {
            // What is loaded may be any of them.
            Some(entry) if entry.load.is_none() => archive.tidy(self, entry, &store),
            _ if current.is_some() => notes.pass.again(UNPACKING_LOOK),
            _ => {}
        }
        current
    }

    /// Removes what is left in `var/webapps` of hosts and archives that are not there any more.
    pub(super) fn sweep_artefacts(&self, wanted: &[(&Host, HashMap<ContextName, Found>)]) {
        let config = self.deployment.config.load();
        let all = config.var.join("webapps");
        let of_host = |folder: &Path| {
            config.hosts.iter().find(|host| folder.file_name().is_some_and(|name| name == host.name.as_str()))
        };
        for folder in folders_in(&all) {
            let Some(host) = of_host(&folder) else {
                artefacts::remove_any(&folder);
                continue;
            };
            // What could not be seen is not gone.
            let Some((_, wanted)) = wanted.iter().find(|(known, _)| known.name == host.name) else { continue };
            let is_wanted = |folder: &Path| {
                wanted.iter().any(|(name, found)| {
                    matches!(found, Found::Archive(_))
                        && folder.file_name().is_some_and(|of| of == name.folder().as_str())
                })
            };
            folders_in(&folder)
                .iter()
                .filter(|folder| !is_wanted(folder))
                .for_each(|folder| artefacts::remove_any(folder));
        }
    }
}

/// `var/webapps/<host>/<name>`.
fn artefacts_folder(config: &Server, (host, name): &Key) -> PathBuf {
    config.var.join("webapps").join(host).join(name.folder())
}

/// Where the archive of a context was unpacked last, for who asks without a server.
pub fn unpacked_last(config: &Server, key: &Key) -> Option<PathBuf> {
    artefacts::read(&artefacts_folder(config, key)).pop().map(|artefact| artefact.folder)
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

impl Archive {
    fn new(artefacts: Vec<Artefact>, folder: PathBuf) -> Archive {
        let next = artefacts.last().map_or(1, |artefact| artefact.record.number + 1);
        Archive {
            folder,
            artefacts,
            next,
            current: None,
            now: None,
            since: Instant::now(),
            refused: None,
            unpacking: None,
            arrived: None,
        }
    }

    fn current_artefact(&self) -> Option<&Artefact> {
        self.artefacts.iter().find(|artefact| Some(artefact.record.number) == self.current)
    }

    /// Remembers how the unpacking ended, if it has.
    async fn take_unpacked(&mut self, container: &Container, entry: Option<&Mounted>) {
        let Some(Unpacking { print, task, loading }) = self.unpacking.take_if(|unpacking| unpacking.task.is_finished())
        else {
            return;
        };
        let failure = match task.await {
            Ok(Ok(artefact)) => {
                self.current = Some(artefact.record.number);
                self.artefacts.push(artefact);
                self.refused = None;
                self.arrived = Some(loading);
                return;
            }
            Ok(Err(UnpackError::Changed)) => return,
            Ok(Err(UnpackError::Refused(refusal))) => {
                let retry_at = refusal.is_of_the_system().then(|| Instant::now() + RETRY);
                Failure { reason: format!("the archive {refusal}"), retry_at, is_down: false }
            }
            Err(error) => {
                tracing::error!("an archive's unpacking ended by a fault of the server: {error}");
                Failure { reason: FAULT.to_owned(), retry_at: None, is_down: false }
            }
        };
        let is_news = self.refused.as_ref().is_none_or(|(_, before)| before.reason != failure.reason);
        if let Some(entry) = entry.filter(|_| is_news) {
            container.refused(&entry.context, entry.context.next_number(), &entry.now.webapp, &failure);
        }
        self.refused = Some((print, failure));
    }

    /// Starts to unpack the archive as it lies there, if it is not what was unpacked or refused, and has been at rest.
    fn look(
        &mut self,
        container: &Arc<Container>,
        file: &Path,
        print: Print,
        has_passed: bool,
        (key, entry): (&Key, Option<&Mounted>),
        notes: &mut Notes<'_>,
    ) {
        if self.now.as_ref() != Some(&print) {
            // What lay there before we came is not being written.
            let quiet = if has_passed { Duration::ZERO } else { Duration::from_secs(60) };
            self.since = Instant::now().checked_sub(quiet).unwrap_or_else(Instant::now);
            self.now = Some(print.clone());
        }
        if self.unpacking.is_some() {
            return notes.pass.again(UNPACKING_LOOK);
        }
        if let Some((of, failure)) = &self.refused
            && *of == print
        {
            let left = failure.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
            match left {
                None => return,
                Some(Duration::ZERO) => {}
                Some(left) => return notes.pass.again(left),
            }
        } else if let Some(known) = self.artefacts.iter().rfind(|artefact| artefact.record.archive == print) {
            if self.current != Some(known.record.number) || self.refused.is_some() {
                // The one before has come back: what was refused meanwhile is.
                self.refused = None;
                entry.inspect(|entry| entry.context.set_refused(None));
            }
            self.current = Some(known.record.number);
            return;
        }
        let settings = container.deployment.settings_of(key);
        let (settle, quiet) = (settings.settle_time, self.since.elapsed());
        if quiet < settle {
            return notes.pass.again((settle - quiet).max(Duration::from_millis(20)));
        }
        let number = self.next;
        self.next += 1;
        let (file, folder, limits, of) =
            (file.to_owned(), self.folder.clone(), limits(&container.deployment.config.load()), print.clone());
        let task = tokio::task::spawn_blocking(move || artefacts::unpack(&file, of, &folder, number, &limits));
        self.unpacking = Some(Unpacking { print, task, loading: Loading::begin(container) });
        notes.pass.again(UNPACKING_LOOK);
    }

    /// Goes back to what has served before, where nothing else would serve: after a restart with an archive that is refused.
    fn fall_back(&mut self, entry: Option<&Mounted>, store: &Store) {
        let failure = match entry {
            None if self.current.is_none() => self.refused.clone(),
            None => None,
            Some(entry) => {
                let failure = entry.refused.clone().filter(|failure| failure.retry_at.is_none());
                // Not of one that stands in for it already.
                let is_of_archive = self.current_artefact().is_some_and(|artefact| {
                    artefact.folder == entry.tried.webapp && Some(&artefact.record.archive) == self.now.as_ref()
                });
                self.now.clone().zip(failure.filter(|_| is_of_archive && entry.has_never_served()))
            }
        };
        if failure.is_none() {
            return;
        }
        let others = || self.artefacts.iter().filter(|artefact| Some(artefact.record.number) != self.current);
        let of = |webapp: &Path| others().find(|artefact| artefact.folder == webapp);
        if let Some(before) =
            store.all().iter().find_map(|kept| of(&kept.webapp)).map(|artefact| artefact.record.number)
        {
            (self.current, self.refused) = (Some(before), failure);
        }
    }

    /// A sentence for what is refused and for what its context does not tell of.
    fn complain(&self, file: &Path, entry: Option<&Mounted>, complaints: &mut Complaints) {
        let Some((print, failure)) = &self.refused else { return };
        let instead = self.current_artefact().filter(|artefact| artefact.record.archive != *print);
        let reason = &failure.reason;
        match (entry, instead) {
            (None, None) => {
                complaints.insert(file.to_owned(), format!("{file:?} is not served: {reason}"));
            }
            (Some(entry), Some(artefact)) if entry.context.refused().is_none() => {
                let number = artefact.record.number;
                let sentence = format!("{file:?} is not served, but what was unpacked before it ({number}): {reason}");
                complaints.insert(file.to_owned(), sentence);
            }
            _ => {}
        }
    }

    /// Removes the artefacts that are of no use any more: all but the current one, those that generations have, and those of
    /// generations that are kept.
    fn tidy(&mut self, container: &Container, entry: &Mounted, store: &Store) {
        // The least is the current one, and nothing else.
        if self.artefacts.len() < 2 {
            return;
        }
        let (serving, kept) = (entry.context.current.load_full(), store.all());
        let is_useless = |artefact: &mut Artefact| {
            let folder = &artefact.folder;
            Some(artefact.record.number) != self.current
                && *folder != serving.webapp
                && !kept.iter().any(|kept| kept.webapp == *folder)
                && !container.lives.have(folder)
        };
        let removed: Vec<Artefact> = self.artefacts.extract_if(.., is_useless).collect();
        if removed.is_empty() {
            return;
        }
        // Nobody waits: what the end of the process leaves is swept at the next start.
        drop(tokio::task::spawn_blocking(move || removed.iter().for_each(Artefact::remove)));
    }
}
