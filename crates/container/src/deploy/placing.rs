//! `serval deploy` and `serval undeploy`: they change what lies in a webapps folder, which stays the truth, and wait for what becomes of
//! it. A deployment that is refused is taken back, so that a restart serves what served before.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serval_archive::Limits;
use serval_config::{ContextName, Host};

use super::arriving::Key;
use super::artefacts::{Print, remove_any};
use super::load::FAULT;
use super::{Mounted, Named};
use crate::context::Waiting;
use crate::webapp::{Complaints, Found, archive_name, limits, wanted};
use crate::{Container, Pass};

/// Between two looks at what becomes of a deployment.
const LOOK: Duration = Duration::from_millis(20);
/// How long what was replaced stays for requests that are in it. Its generation may live longer, by a stream, without its files.
const LINGER: Duration = Duration::from_secs(1);
/// What is on its way is called `.shop.war.serval.tmp`: no webapp, and swept at the next start.
const ON_ITS_WAY: &str = ".serval.tmp";
/// A deployment that replaces something has a mark until its end, `.shop.war.serval.mark`: what was there, and what came, a line each.
const MARK: &str = ".serval.mark";

/// Why a command was not done; a sentence.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("{0}")]
    Wrong(String),
    #[error("{0}")]
    Unknown(String),
    /// What is there, or somebody else's command, is in the way.
    #[error("{0}")]
    InTheWay(String),
    #[error("{0}")]
    Refused(String),
}

#[derive(Debug)]
pub struct Deployed {
    /// For people: "/shop##2".
    pub context: String,
    pub generation: u64,
    /// What was put into the webapps folder.
    pub webapp: PathBuf,
}

#[derive(Debug)]
pub struct Undeployed {
    pub context: String,
    /// What was removed.
    pub removed: PathBuf,
    /// What is served under its name now: it stood behind.
    pub instead: Option<PathBuf>,
}

/// The contexts at which a command works: two at once would take back each other's.
#[derive(Default)]
pub struct Busy(StdMutex<HashSet<Key>>);

struct Held<'b>(&'b Busy, Key);

impl Busy {
    fn hold(&self, key: &Key) -> Result<Held<'_>, PlaceError> {
        let mut busy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match busy.insert(key.clone()) {
            true => Ok(Held(self, key.clone())),
            false => {
                Err(PlaceError::InTheWay(format!("{} is already being deployed; wait until that one has ended", key.1)))
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Container {
    /// Puts an archive or a folder into a host's webapps folder, and waits until it serves, or is refused; what served before serves on
    /// then, and lies where it lay. `file`: absolute; it is copied. Two at once for one context: the second is refused.
    pub async fn deploy(self: &Arc<Self>, file: PathBuf, named: Named<'_>) -> Result<Deployed, PlaceError> {
        let (container, key) = (self.clone(), self.key_of(named)?);
        // It goes on when the client has left: half a deployment is none.
        let task = tokio::spawn(async move { container.deploy_whole(&file, key).await });
        task.await.unwrap_or_else(|_| Err(PlaceError::Refused(FAULT.to_owned())))
    }

    /// Removes what is served under a name from the host's webapps folder, and waits until it is not served any more.
    pub async fn undeploy(self: &Arc<Self>, named: Named<'_>) -> Result<Undeployed, PlaceError> {
        let (container, key) = (self.clone(), self.key_of(named)?);
        let task = tokio::spawn(async move { container.undeploy_whole(key).await });
        task.await.unwrap_or_else(|_| Err(PlaceError::Refused(FAULT.to_owned())))
    }

    async fn deploy_whole(self: &Arc<Self>, file: &Path, key: Key) -> Result<Deployed, PlaceError> {
        let _held = self.deployment.busy.hold(&key)?;
        let host = self.host_of(&key)?;
        let (place, before) = place_for(&host, &key.1, file)?;
        let (way, mark) = (beside(place.path(), ON_ITS_WAY), beside(place.path(), MARK));
        let (from, at, limits) = (file.to_owned(), place.path().to_owned(), limits(&self.deployment.config.load()));
        let copied = tokio::task::spawn_blocking(move || copy_beside(&from, &at, before, &limits));
        copied.await.unwrap_or_else(|_| Err(PlaceError::Refused(FAULT.to_owned())))?;
        let number = self.generation_of(&key).await;
        swap(&way, place.path(), before).map_err(|error| {
            [&way, &mark].into_iter().for_each(|path| remove_any(path));
            PlaceError::Refused(format!("{} cannot be written: {error}", place.path().display()))
        })?;
        let outcome = self.becomes(&key, &place).await;
        let back = match &outcome {
            Ok(_) => Ok(()),
            Err(_) if before => swap_back(&way, place.path()),
            Err(_) => fs::rename(place.path(), &way),
        };
        match &back {
            Ok(()) => remove_any(&mark),
            Err(error) => tracing::error!("{} cannot be put back: {error}", place.path().display()),
        }
        match (&outcome, number) {
            (Err(_), _) if before => self.is_as_before(&key).await,
            (Err(_), _) => self.unmount_at_once(&key).await,
            (Ok(_), Some(number)) => self.linger(&key, number).await,
            (Ok(_), None) => {}
        }
        // What could not be put back stays, and is tried again at the next start.
        if back.is_ok() {
            remove_in_the_background(way);
        }
        let generation = outcome.map_err(PlaceError::Refused)?;
        Ok(Deployed { context: key.1.display(), generation, webapp: place.path().to_owned() })
    }

    async fn undeploy_whole(self: &Arc<Self>, key: Key) -> Result<Undeployed, PlaceError> {
        let _held = self.deployment.busy.hold(&key)?;
        let host = self.host_of(&key)?;
        let Some(found) = found_at(&host, &key.1)? else {
            let why = format!("there is no context `{}` to undeploy: `serval status` lists them", key.1);
            return Err(PlaceError::Unknown(why));
        };
        if let Found::Upstream(_) = found {
            let why = format!("server.toml serves an upstream at `{}`: remove its [[host.context]]", key.1.path);
            return Err(PlaceError::InTheWay(why));
        }
        let removed = found.path().to_owned();
        if removed.parent() != Some(&host.webapps) {
            let why = format!("server.toml names {removed:?}, which is not in `webapps`: remove its [[host.context]]");
            return Err(PlaceError::InTheWay(why));
        }
        let number = self.generation_of(&key).await;
        let way = beside(&removed, ON_ITS_WAY);
        remove_any(&way);
        // A link goes, and not what it leads to.
        fs::rename(&removed, &way)
            .map_err(|error| PlaceError::Refused(format!("{} cannot be removed: {error}", removed.display())))?;
        let instead = found_at(&host, &key.1)?.map(|found| found.path().to_owned());
        if instead.is_none() {
            self.unmount_at_once(&key).await;
        }
        if let Some(number) = number {
            self.linger(&key, number).await;
        }
        remove_in_the_background(way);
        Ok(Undeployed { context: key.1.display(), removed, instead })
    }

    /// Removes versions that nobody has a session with, where a newer one serves (`undeploy_old_versions`). What is gone then is
    /// unmounted by the next pass.
    pub(super) fn undeploy_old_versions(
        &self,
        (host, wanted): (&Host, &HashMap<ContextName, Found>),
        mounted: &HashMap<Key, Mounted>,
        pass: &mut Pass,
    ) {
        for (name, found) in wanted {
            let serves = |other: &ContextName| {
                let entry = mounted.get(&(host.name.clone(), other.clone()));
                entry.is_some_and(|entry| {
                    let is_in_use = entry.context.waiting() == Waiting::No && entry.load.is_none();
                    // Behind a gate nobody is served, as with a newer version that an operator has stopped.
                    is_in_use && !entry.has_never_served() && entry.context.current.load().gate.is_none()
                })
            };
            let has_newer =
                wanted.keys().any(|other| other.path == name.path && other.version > name.version && serves(other));
            let Some(entry) = mounted.get(&(host.name.clone(), name.clone())).filter(|_| has_newer && serves(name))
            else {
                continue;
            };
            if entry.context.sessions.count() > 0 || found.path().parent() != Some(&host.webapps) {
                continue;
            }
            let Ok(_held) = self.deployment.busy.hold(&(host.name.clone(), name.clone())) else { continue };
            let way = beside(found.path(), ON_ITS_WAY);
            remove_any(&way);
            match fs::rename(found.path(), &way) {
                Ok(()) => {
                    tracing::info!(
                        context = %entry.context.name,
                        "{:?} is removed: a newer version serves, and nobody has a session with this one (undeploy_old_versions)",
                        found.path()
                    );
                    pass.again(LOOK);
                }
                Err(error) => tracing::warn!("{} cannot be removed: {error}", found.path().display()),
            }
            remove_in_the_background(way);
        }
    }

    fn key_of(&self, Named { host, context }: Named<'_>) -> Result<Key, PlaceError> {
        let config = self.deployment.config.load();
        let hosts = &config.hosts;
        let names = || hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ");
        let host = match host {
            Some(name) => hosts.iter().find(|host| host.name == name.to_ascii_lowercase()).ok_or_else(|| {
                PlaceError::Unknown(format!("there is no host `{name}`; server.toml has {}", names()))
            })?,
            None if hosts.len() == 1 => &hosts[0],
            None => {
                return Err(PlaceError::Wrong(format!(
                    "there is more than one host: name one of {} with --host",
                    names()
                )));
            }
        };
        let (path, version) = context.split_once("##").map_or((context, None), |(path, version)| (path, Some(version)));
        let name = ContextName::from_path(path, version).map_err(|why| {
            PlaceError::Wrong(format!(
                "no webapp can be served at `{context}`: {why}; write its path as in /shop, or / for ROOT"
            ))
        })?;
        Ok((host.name.clone(), name))
    }

    fn host_of(&self, key: &Key) -> Result<Host, PlaceError> {
        let config = self.deployment.config.load();
        let host = config.hosts.iter().find(|host| host.name == key.0);
        host.cloned().ok_or_else(|| PlaceError::Unknown(format!("there is no host `{}` any more", key.0)))
    }

    /// What serves at a context.
    async fn generation_of(&self, key: &Key) -> Option<u64> {
        self.deployment.mounted.lock().await.get(key).map(|entry| entry.context.current.load().number)
    }

    /// Waits until what was put there serves, and returns the number of its generation, or why it does not.
    async fn becomes(self: &Arc<Self>, key: &Key, place: &Found) -> Result<u64, String> {
        loop {
            // The server's own passes go on; one more does no harm, and none has to be waited for.
            self.deploy_pass().await;
            if let Some(outcome) = self.outcome(key, place).await {
                return outcome;
            }
            if self.lives.end.load(Ordering::Relaxed) {
                return Err("the server stops".to_owned());
            }
            let host = self.host_of(key).map_err(|error| error.to_string())?;
            let found = found_at(&host, &key.1).map_err(|error| error.to_string())?;
            if found.is_none_or(|found| found.path() != place.path()) {
                return Err(format!("{} is not what is served there any more", place.path().display()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn outcome(&self, key: &Key, place: &Found) -> Option<Result<u64, String>> {
        let mounted = self.deployment.mounted.lock().await;
        let arriving = self.deployment.arriving.lock().await;
        let folder = match place {
            Found::Folder(folder) | Found::Upstream(folder) => folder.clone(),
            Found::Archive(file) => {
                let Ok(print) = Print::of(file) else { return Some(Err(format!("{} has gone", file.display()))) };
                match arriving.outcome_of(key, &print)? {
                    Ok(folder) => folder.to_owned(),
                    Err(why) => return Some(Err(why.to_owned())),
                }
            }
        };
        let Some(entry) = mounted.get(key) else {
            return self.deployment.complaint_of(&[&folder, place.path()]).map(Err);
        };
        if entry.context.is_stopped() {
            return Some(Err("its context is stopped: `serval start` starts it".to_owned()));
        }
        if entry.load.is_some() {
            return None;
        }
        if entry.serving.is_of_folder(&folder) && entry.now == entry.serving {
            return Some(Ok(entry.context.current.load().number));
        }
        let refused = entry.refused.as_ref().filter(|_| entry.tried.is_of_folder(&folder));
        let refused = refused.map(|failure| failure.reason.clone());
        // What cannot be looked at is not even tried.
        refused.or_else(|| self.deployment.complaint_of(&[&folder])).map(Err)
    }

    /// Without the time that a pass gives to what may be on its way to the same place.
    async fn unmount_at_once(&self, key: &Key) {
        let mut mounted = self.deployment.mounted.lock().await;
        if let Some(entry) = mounted.remove(key) {
            self.unmount(&entry);
        }
    }

    /// Forgets what was taken back.
    async fn is_as_before(self: &Arc<Self>, key: &Key) {
        self.deploy_pass().await;
        let mut mounted = self.deployment.mounted.lock().await;
        if let Some(entry) = mounted.get_mut(key).filter(|entry| entry.load.is_none() && !entry.has_never_served()) {
            (entry.refused, entry.tried) = (None, entry.serving.clone());
            entry.context.set_refused(None);
        }
    }

    /// Waits a moment for requests that are in generations before this one.
    async fn linger(&self, key: &Key, before: u64) {
        let deadline = Instant::now() + LINGER;
        let name = key.1.display();
        let is_in = || self.lives.old().iter().any(|old| old.context == name && old.generation <= before);
        while is_in() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Where it goes, and whether something lies there that it replaces.
fn place_for(host: &Host, name: &ContextName, file: &Path) -> Result<(Found, bool), PlaceError> {
    let wrong = |why: String| PlaceError::Wrong(why);
    let found = fs::metadata(file).map_err(|error| wrong(format!("{} cannot be read: {error}", file.display())))?;
    let is_folder = found.is_dir();
    if !is_folder && archive_name(file).is_none() {
        return Err(wrong(format!("{} is neither a folder nor an archive: it ends in .war or .zip", file.display())));
    }
    let entry = host.contexts.iter().find(|entry| entry.path == name.path && name.version.is_none());
    let named = host.webapps.join(name.folder());
    if let Some(entry) = entry.filter(|entry| entry.webapp != named) {
        let why = match &entry.upstream {
            Some(upstream) => format!("server.toml serves {upstream} at that path; change it there"),
            None => {
                format!("server.toml serves {:?} at that path; change it there, or remove its `webapp`", entry.webapp)
            }
        };
        return Err(PlaceError::InTheWay(why));
    }
    if entry.is_none() && !host.auto_deploy {
        let why = format!("the host {} serves only what server.toml names (auto_deploy = false)", host.name);
        return Err(PlaceError::InTheWay(why));
    }
    let (place, before) = match found_at(host, name)? {
        Some(found) if matches!(found, Found::Folder(_)) == is_folder => (found, true),
        Some(found) => {
            let kind =
                if is_folder { "a folder beside it would not be served" } else { "the folder would hide behind it" };
            let why = format!("{:?} is served at that path, and {kind}: undeploy it before", found.path());
            return Err(PlaceError::InTheWay(why));
        }
        None if is_folder => (Found::Folder(named), false),
        None => (Found::Archive(host.webapps.join(format!("{}.war", name.folder()))), false),
    };
    if place.path().file_name().is_some_and(|name| host.ignores(&name.to_string_lossy())) {
        return Err(PlaceError::InTheWay(format!("{:?} is among the names of deploy_ignore", place.path())));
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real(&host.webapps).starts_with(real(file)) || real(place.path()) == real(file) {
        return Err(wrong(format!("{} is where it would go, or above it: name another one", file.display())));
    }
    Ok((place, before))
}

fn found_at(host: &Host, name: &ContextName) -> Result<Option<Found>, PlaceError> {
    match wanted(host, &mut Complaints::default()) {
        Some(mut wanted) => Ok(wanted.remove(name)),
        None => Err(PlaceError::Refused(format!("{} cannot be read", host.webapps.display()))),
    }
}

/// What lies beside a place for as long as a command works at it.
fn beside(place: &Path, end: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".{name}{end}"))
}

/// Takes back what an end of the process has cut off, and removes what it has left on its way.
pub fn sweep(webapps: &Path) {
    let left = |end| {
        let entries = fs::read_dir(webapps).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter_map(move |path| Some((place_beside(&path, end)?, path)))
    };
    let mut is_done = true;
    for (place, mark) in left(MARK) {
        match take_back(&place, &mark) {
            Ok(()) => remove_any(&mark),
            Err(error) => {
                is_done = false;
                tracing::error!("{} cannot be put back: {error}; it is tried again at the next start", place.display());
            }
        }
    }
    if is_done {
        left(ON_ITS_WAY).for_each(|(_, path)| remove_any(&path));
    }
}

fn place_beside(path: &Path, end: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some(path.with_file_name(name.strip_prefix('.')?.strip_suffix(end)?))
}

/// Survives the machine: what it tells of is renamed next.
fn write_mark(mark: &Path, place: &Path, new: &Path) -> io::Result<()> {
    fs::write(mark, format!("{}\n{}\n", identity(place)?, identity(new)?))?;
    fs::File::open(mark)?.sync_all()
}

/// Puts back what a deployment has replaced of which nobody knows whether it serves: the process has ended before, or could not put it
/// back. Nothing that has been changed since then is touched.
fn take_back(place: &Path, mark: &Path) -> io::Result<()> {
    let marked = fs::read(mark)?;
    let marked = String::from_utf8_lossy(&marked);
    let mut lines = marked.lines();
    let (Some(was), Some(new)) = (lines.next(), lines.next()) else { return Ok(()) };
    let is = |path: &Path, known: &str| identity(path).is_ok_and(|now| now == known);
    let way = beside(place, ON_ITS_WAY);
    let Some(old) = [aside(&way), way.clone()].into_iter().find(|path| is(path, was)) else { return Ok(()) };
    let is_half_way = || is(&way, new) && fs::symlink_metadata(place).is_err();
    if is(place, new) || is_half_way() {
        swap_back(&old, place)?;
        tracing::warn!(
            "{place:?} is again what it was before a deployment that the end of the server cut off: deploy it again"
        );
    }
    Ok(())
}

/// What tells a file or a folder from others beside it, under whatever name; for a folder, whatever comes and goes in it.
fn identity(path: &Path) -> io::Result<String> {
    let found = fs::symlink_metadata(path)?;
    Ok(match found.is_dir() {
        true => format!("folder {}", found.ino()),
        false => format!("file {} {} {} {}", found.ino(), found.len(), found.mtime(), found.mtime_nsec()),
    })
}

/// Puts `new` at `place`; what lay there is at `new` then. At no moment there is nothing, where the file system can.
fn swap(new: &Path, place: &Path, replaces: bool) -> io::Result<()> {
    if !replaces {
        return Ok(renameat_with(CWD, new, CWD, place, RenameFlags::NOREPLACE)?);
    }
    match renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            let aside = aside(new);
            fs::rename(place, &aside)?;
            fs::rename(new, place).inspect_err(|_| drop(fs::rename(&aside, place)))?;
            fs::rename(&aside, new)
        }
        done => Ok(done?),
    }
}

/// Where what is replaced lies for a moment, where the file system cannot exchange.
fn aside(new: &Path) -> PathBuf {
    new.with_extension("old.serval.tmp")
}

/// Puts back what lies at `old`, also where nothing is in its place any more.
fn swap_back(old: &Path, place: &Path) -> io::Result<()> {
    match swap(old, place, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => swap(old, place, false),
        done => done,
    }
}

/// Copies it to beside its place, and marks what it is to replace there. An error leaves nothing.
fn copy_beside(from: &Path, place: &Path, replaces: bool, limits: &Limits) -> Result<(), PlaceError> {
    let (way, mark) = (beside(place, ON_ITS_WAY), beside(place, MARK));
    let unwritten = |error| PlaceError::Refused(format!("{} cannot be written: {error}", mark.display()));
    remove_any(&way);
    let copied = copy(from, &way, limits);
    let marked = copied.and_then(|()| match replaces {
        true => write_mark(&mark, place, &way).map_err(unwritten),
        false => Ok(()),
    });
    marked.inspect_err(|_| [&way, &mark].into_iter().for_each(|path| remove_any(path)))
}

/// Copies an archive that is as it should be, or a folder.
fn copy(from: &Path, to: &Path, limits: &Limits) -> Result<(), PlaceError> {
    if from.is_dir() {
        let mut left = (limits.entry_count_max, limits.bytes_max);
        return copy_folder(from, to, &mut left)
            .map_err(|error| PlaceError::Refused(format!("{} cannot be copied: {error}", from.display())));
    }
    let checked = serval_archive::open(from).and_then(|archive| serval_archive::check(archive, limits));
    checked.map_err(|refusal| PlaceError::Refused(format!("the archive {refusal}")))?;
    copy_file(from, to, u64::MAX - 1)
        .map(drop)
        .map_err(|error| PlaceError::Refused(format!("{} cannot be copied: {error}", from.display())))
}

/// As it is: its links, its times. `left`: files and folders, and bytes.
fn copy_folder(from: &Path, to: &Path, left: &mut (usize, u64)) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, from, to) = (entry.file_type()?, entry.path(), to.join(entry.file_name()));
        let too_much = || io::Error::other("it has more files or bytes than [archives] allows");
        left.0 = left.0.checked_sub(1).ok_or_else(too_much)?;
        if kind.is_dir() {
            copy_folder(&from, &to, left)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        } else if kind.is_file() {
            left.1 = left.1.checked_sub(copy_file(&from, &to, left.1)?).ok_or_else(too_much)?;
        } else {
            return Err(io::Error::other(format!("{from:?} is a device, a named pipe or a socket; leave it out")));
        }
    }
    Ok(())
}

/// No more than one byte beyond `most`; returns how many.
fn copy_file(from: &Path, to: &Path, most: u64) -> io::Result<u64> {
    let mut source = fs::File::open(from)?;
    let found = source.metadata()?;
    let mode = if found.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
    let mut copy = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    let len = io::copy(&mut (&mut source).take(most.saturating_add(1)), &mut copy)?;
    copy.set_modified(found.modified()?)?;
    Ok(len)
}

/// Nobody waits: what the end of the process leaves is swept at the next start.
fn remove_in_the_background(path: PathBuf) {
    drop(tokio::task::spawn_blocking(move || remove_any(&path)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder in which a deployment of "new" over "old" was cut off.
    fn cut_off() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let webapps = tempfile::tempdir().unwrap();
        let place = webapps.path().join("shop.war");
        let (way, mark) = (beside(&place, ON_ITS_WAY), beside(&place, MARK));
        fs::write(&place, "old").unwrap();
        fs::write(&way, "new").unwrap();
        write_mark(&mark, &place, &way).unwrap();
        swap(&way, &place, true).unwrap();
        (webapps, place, way)
    }

    #[track_caller]
    fn leaves(webapps: &tempfile::TempDir, place: &Path, text: Option<&str>) {
        sweep(webapps.path());
        assert_eq!(fs::read_to_string(place).ok().as_deref(), text);
        assert_eq!(fs::read_dir(webapps.path()).unwrap().count(), usize::from(text.is_some()));
    }

    #[test]
    fn what_was_cut_off_is_taken_back_and_what_came_later_stays() {
        let (webapps, place, _) = cut_off();
        leaves(&webapps, &place, Some("old"));
        leaves(&webapps, &place, Some("old"));

        let (webapps, place, way) = cut_off();
        swap(&way, &place, true).unwrap();
        leaves(&webapps, &place, Some("old"));

        // Where the file system cannot exchange: both are beside it for a moment.
        let (webapps, place, way) = cut_off();
        fs::rename(&way, aside(&way)).unwrap();
        fs::rename(&place, &way).unwrap();
        leaves(&webapps, &place, Some("old"));

        let (webapps, place, _) = cut_off();
        fs::write(&place, "a later one").unwrap();
        leaves(&webapps, &place, Some("a later one"));

        let (webapps, place, _) = cut_off();
        fs::remove_file(&place).unwrap();
        leaves(&webapps, &place, None);

        let (webapps, place, _) = cut_off();
        fs::write(beside(&place, MARK), [0xff, 0]).unwrap();
        leaves(&webapps, &place, Some("new"));
    }
}
