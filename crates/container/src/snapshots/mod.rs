//! Sessions on disk: each context's in a file of its own, `snapshot` in its folder of `var/sessions`. It is read when the context is
//! mounted, before anybody asks for a session; written now and then, when something has changed, and at the stop; and removed when the
//! context is gone.
//!
//! A new one is written beside, synced, and renamed: there is never half of one. All of this blocks.

pub mod format;

use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sessions::{Sessions, now};
use format::{Damaged, Snapshot};

/// LIMIT: snapshots of one context that were set aside; the oldest goes.
const DAMAGED_MAX: usize = 3;

/// The snapshots of all contexts.
#[derive(Default)]
pub struct Snapshots {
    /// By their folders.
    kept: Mutex<HashMap<PathBuf, Arc<Kept>>>,
    /// Folders of hosts in which what belongs to no context was looked for.
    looked: Mutex<HashSet<PathBuf>>,
}

/// The snapshot of one context.
struct Kept {
    context: Arc<str>,
    folder: PathBuf,
    sessions: Arc<Sessions>,
    /// Locked while the folder is changed.
    place: Mutex<Place>,
    /// Why it could not be written last.
    failed: Mutex<Option<String>>,
}

enum Place {
    /// It may be written.
    Free,
    /// A snapshot is there that could be neither read nor set aside: it is not written over.
    Blocked,
    /// The context is gone.
    Gone,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Snapshots {
    /// Takes the sessions of a context from its folder, if there are any, and keeps them there from now on.
    pub fn open(&self, folder: PathBuf, context: Arc<str>, sessions: Arc<Sessions>) {
        let kept = Kept { context, folder, sessions, place: Mutex::new(Place::Free), failed: Mutex::default() };
        kept.load();
        lock(&self.kept).insert(kept.folder.clone(), Arc::new(kept));
    }

    /// The context of this folder is gone, and so are its sessions.
    pub fn forget(&self, folder: &Path) {
        let Some(kept) = lock(&self.kept).remove(folder) else { return };
        *lock(&kept.place) = Place::Gone;
        remove(folder);
    }

    /// The folder of a context has another name. What lies at that one was of another context.
    pub fn moved(&self, from: &Path, to: PathBuf) {
        let Some(kept) = lock(&self.kept).remove(from) else { return };
        let mut place = lock(&kept.place);
        remove(&to);
        let made = to.parent().map_or(Ok(()), |above| DirBuilder::new().recursive(true).mode(0o700).create(above));
        match made.and_then(|()| std::fs::rename(from, &to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(context = %kept.context, "{} cannot be moved: {error}; it is written anew", from.display());
                remove(from);
                kept.sessions.set_changed();
            }
            _ => {}
        }
        let next = Kept {
            context: kept.context.clone(),
            folder: to.clone(),
            sessions: kept.sessions.clone(),
            place: Mutex::new(std::mem::replace(&mut place, Place::Gone)),
            failed: Mutex::default(),
        };
        lock(&self.kept).insert(to, Arc::new(next));
    }

    /// Removes, once for each host, what contexts have left that were removed while no server ran: those whose folder's name is not
    /// known. Sessions of a webapp are not those of another one that is put in its place later.
    pub fn forget_others(&self, host: &Path, is_known: impl Fn(&str) -> bool) {
        if !lock(&self.looked).insert(host.to_owned()) {
            return;
        }
        let entries = host.read_dir().into_iter().flatten().flatten();
        for entry in entries.filter(|entry| !entry.file_name().to_str().is_some_and(&is_known)) {
            tracing::info!("{} is removed: its webapp is gone", entry.path().display());
            remove(&entry.path());
        }
    }

    /// Writes those of which something has changed; false: not all could be.
    pub fn save(&self) -> bool {
        let all: Vec<Arc<Kept>> = lock(&self.kept).values().cloned().collect();
        // All of them, also after one that fails.
        all.iter().filter(|kept| !kept.save()).count() == 0
    }

    /// A sentence for each that could not be written.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> =
            lock(&self.kept).values().filter_map(|kept| lock(&kept.failed).clone()).collect();
        problems.sort();
        problems
    }
}

fn remove(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::error!(
                "{} cannot be removed: {error}; it has sessions of a webapp that is gone: remove it",
                folder.display()
            );
        }
        _ => {}
    }
}

impl Kept {
    fn file(&self) -> PathBuf {
        self.folder.join("snapshot")
    }

    /// What is being written.
    fn next(&self) -> PathBuf {
        self.folder.join("snapshot.new")
    }

    fn aside(&self, number: usize) -> PathBuf {
        self.folder.join(format!("snapshot.damaged.{number}"))
    }

    fn load(&self) {
        let file = self.file();
        // Half of one, of a server that was killed.
        let _ = std::fs::remove_file(self.next());
        match read(&file) {
            Ok(None) => {}
            Ok(Some(Snapshot { written, sessions })) => {
                // A clock that was set back says nothing: they have then lain for as long as when they were written.
                let since = Duration::from_millis(u64::try_from(now().saturating_sub(written)).unwrap_or(0));
                self.sessions.restore(sessions, since);
                tracing::info!(context = %self.context, sessions = self.sessions.count(), "sessions are back");
            }
            Err(why) => {
                let aside = match self.set_aside() {
                    Ok(()) => format!("it is set aside as {}", self.aside(1).display()),
                    Err(error) => {
                        *lock(&self.place) = Place::Blocked;
                        format!("it cannot be set aside ({error}), and is not written over")
                    }
                };
                let what = match why {
                    Damaged::Later(_) => "start the later one with it, or remove it",
                    _ => "bring it back from a copy and restart, or remove it",
                };
                let context = &self.context;
                tracing::error!(
                    %context,
                    "the sessions in {} are not taken, and {context} starts without: {why}; {aside}; {what}", file.display()
                );
            }
        }
    }

    /// Puts the snapshot beside, where the last ones of its kind are; the oldest goes.
    fn set_aside(&self) -> io::Result<()> {
        // First, so that those make room for one that comes.
        std::fs::rename(self.file(), self.aside(0))?;
        let oldest = self.aside(DAMAGED_MAX);
        // It may be a folder, too.
        let _ = std::fs::remove_file(&oldest).or_else(|_| std::fs::remove_dir_all(&oldest));
        for number in (1..DAMAGED_MAX).rev() {
            let _ = std::fs::rename(self.aside(number), self.aside(number + 1));
        }
        std::fs::rename(self.aside(0), self.aside(1))
    }

    /// Writes it, if something has changed; false: it could not.
    fn save(&self) -> bool {
        let mut place = lock(&self.place);
        if matches!(*place, Place::Gone) || !self.sessions.take_change() {
            return true;
        }
        let written = self.unblock(&mut place).and_then(|()| self.write());
        let mut failed = lock(&self.failed);
        let context = &self.context;
        match (written, failed.is_some()) {
            (Ok(()), false) => true,
            (Ok(()), true) => {
                tracing::info!(%context, "its sessions are saved again");
                *failed = None;
                true
            }
            (Err(error), known) => {
                self.sessions.set_changed();
                let sentence = format!(
                    "the sessions of {context} cannot be saved in {}: {error}; the last ones that were saved there stay, and it is tried again",
                    self.folder.display()
                );
                if !known {
                    tracing::error!(%context, "{sentence} (said once)");
                }
                *failed = Some(sentence);
                false
            }
        }
    }

    fn unblock(&self, place: &mut Place) -> io::Result<()> {
        if matches!(place, Place::Blocked) {
            match self.set_aside() {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => *place = Place::Free,
            }
        }
        Ok(())
    }

    fn write(&self) -> io::Result<()> {
        if self.sessions.count() == 0 {
            return match std::fs::remove_file(self.file()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let next = self.next();
        let written = write(&next, &self.sessions).and_then(|()| std::fs::rename(&next, self.file()));
        if written.is_err() {
            let _ = std::fs::remove_file(&next);
        }
        written?;
        // The name, too.
        File::open(&self.folder)?.sync_all()
    }
}

fn write(file: &Path, sessions: &Sessions) -> io::Result<()> {
    // Of nobody else, whatever was there.
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        BufWriter::with_capacity(1 << 17, OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?);
    format::write(&mut file, now(), sessions.saved())?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// `None`: there is none.
fn read(file: &Path) -> Result<Option<Snapshot>, Damaged> {
    let about = match file.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    // A pipe would be waited for.
    if !about.is_file() {
        return Err(Damaged::Wrong("it is not a file"));
    }
    format::read(BufReader::with_capacity(1 << 17, File::open(file)?), about.len()).map(Some)
}
