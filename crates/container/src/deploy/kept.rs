//! What generations were made from, kept so that one can go back to it: by an operator (`serval rollback`), or by the server, when a
//! generation has ended for the sake of one that does not start (`stop-start`).
//!
//! `var/generations/<host>/<context>/<number>/` has the shape of a WEB-INF (`lib`, `web.toml`) and a record beside, `kept.json`. Static
//! files are those of the webapp as it lies there; those of an archive were unpacked for this generation. It is made beside and renamed, and
//! renamed before it is removed: what bears a number is whole, whenever the server ends. All functions block for as long as small files take.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serval_loader::private_copy::PrivateCopy;

use crate::webapp::Inputs;

const RECORD: &str = "kept.json";
/// Which one an operator has gone back to, and from what.
const PINNED: &str = "pinned.json";

/// The folder of one context.
pub struct Store(pub PathBuf);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    /// Of the generation that was the first one made from it.
    pub number: u64,
    /// Where its static files lie.
    pub webapp: PathBuf,
    /// What lay there when it was made.
    inputs: String,
    /// Seconds since 1970.
    pub since: u64,
    #[serde(skip)]
    pub inside: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Pin {
    number: u64,
    inputs: String,
}

impl Kept {
    /// What a generation is made from that goes back to it.
    pub fn inputs(&self) -> Result<Inputs, String> {
        if !self.webapp.is_dir() {
            return Err(format!("its files, in {}, are not there any more", self.webapp.display()));
        }
        Inputs::of_kept(&self.webapp, &self.inside)
    }
}

impl Store {
    /// The last one first. What is not whole is left out.
    pub fn all(&self) -> Vec<Kept> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut all: Vec<Kept> = entries.filter_map(|entry| read(&entry.path())).collect();
        all.sort_by_key(|kept| std::cmp::Reverse(kept.number));
        all
    }

    pub fn find(&self, number: u64) -> Option<Kept> {
        read(&self.0.join(number.to_string()))
    }

    /// The one that was made from the same.
    pub fn same(&self, inputs: &Inputs) -> Option<Kept> {
        let inputs = inputs.shown();
        self.all().into_iter().find(|kept| kept.inputs == inputs)
    }

    /// Where one is made, and removed.
    fn beside(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number}.tmp"))
    }

    /// Keeps what a generation was made from: its private copy, which has links to it from now on, and web.toml, if it is still the same.
    pub fn keep(&self, number: u64, inputs: &Inputs, copy: Option<&PrivateCopy>) -> io::Result<()> {
        let (beside, place) = (self.beside(number), self.0.join(number.to_string()));
        for old in [&beside, &place] {
            match std::fs::remove_dir_all(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let kept = make(&beside, number, inputs, copy).and_then(|()| std::fs::rename(&beside, &place));
        if kept.is_err() {
            let _ = std::fs::remove_dir_all(&beside);
        }
        kept
    }

    /// Keeps the last `count` of those before the current one, and that.
    pub fn prune(&self, count: usize, current: u64) {
        let others = self.all().into_iter().filter(|kept| kept.number != current);
        for old in others.skip(count) {
            if let Err(error) = self.discard(&old) {
                tracing::warn!("{} cannot be removed: {error}", old.inside.display());
            }
        }
    }

    fn discard(&self, old: &Kept) -> io::Result<()> {
        let beside = self.beside(old.number);
        std::fs::rename(&old.inside, &beside)?;
        std::fs::remove_dir_all(beside)
    }

    /// Removes what a server that has ended was making or removing.
    pub fn sweep(&self) {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let half = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "tmp"));
        for half in half {
            let removed = if half.is_dir() { std::fs::remove_dir_all(&half) } else { std::fs::remove_file(&half) };
            if let Err(error) = removed {
                tracing::warn!("{} cannot be removed: {error}", half.display());
            }
        }
    }

    /// An operator has gone back to this one while these inputs lay there: also after a restart they are not tried again.
    pub fn pin(&self, number: u64, inputs: &Inputs) -> io::Result<()> {
        let beside = self.0.join(format!("{PINNED}.tmp"));
        write(&beside, &Pin { number, inputs: inputs.shown() })?;
        std::fs::rename(beside, self.0.join(PINNED))
    }

    /// Its webapp is gone. Returns what is to be removed, which may take a while; another webapp of that name has nothing of it.
    pub fn put_aside(&self) -> Option<PathBuf> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let aside = self.0.with_file_name(format!(".gone-{}", LAST.fetch_add(1, Ordering::Relaxed)));
        // Of an earlier process.
        let _ = std::fs::remove_dir_all(&aside);
        std::fs::rename(&self.0, &aside).ok().map(|()| aside)
    }

    pub fn unpin(&self) {
        let _ = std::fs::remove_file(self.0.join(PINNED));
    }

    /// The one to which an operator has gone back from these inputs.
    pub fn pinned(&self, inputs: &Inputs) -> Option<Kept> {
        let pin: Pin = serde_json::from_slice(&std::fs::read(self.0.join(PINNED)).ok()?).ok()?;
        (pin.inputs == inputs.shown()).then(|| self.find(pin.number)).flatten()
    }
}

/// Removes what is kept in the folder of a host for webapps that were removed while no server ran.
pub fn forget_others(host: &Path, is_known: impl Fn(&str) -> bool) {
    let entries = std::fs::read_dir(host).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| !entry.file_name().to_str().is_some_and(&is_known)) {
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!("{} cannot be removed: {error}", entry.path().display());
        }
    }
}

fn make(beside: &Path, number: u64, inputs: &Inputs, copy: Option<&PrivateCopy>) -> io::Result<()> {
    let lib = beside.join("lib");
    std::fs::create_dir_all(&lib)?;
    for entry in copy.iter().map(|copy| std::fs::read_dir(&copy.folder)) {
        for file in entry? {
            let file = file?;
            std::fs::hard_link(file.path(), lib.join(file.file_name()))?;
        }
    }
    match std::fs::copy(inputs.inside.join("web.toml"), beside.join("web.toml")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if !inputs.look_again().is_ok_and(|now| now.has_files_of(inputs)) {
        return Err(io::Error::other("its files have changed meanwhile"));
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (webapp, shown) = (inputs.webapp.clone(), inputs.shown());
    let record = Kept { number, webapp, inputs: shown, since, inside: PathBuf::new() };
    write(&beside.join(RECORD), &record)
}

fn write(file: &Path, record: &impl Serialize) -> io::Result<()> {
    std::fs::write(file, serde_json::to_vec(record)?)
}

fn read(folder: &Path) -> Option<Kept> {
    let mut kept: Kept = serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()?;
    // One that is being made, or that somebody has put there.
    (folder.file_name()?.to_str()? == kept.number.to_string()).then_some(())?;
    kept.inside = folder.to_owned();
    Some(kept)
}
