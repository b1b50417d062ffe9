//! Archives that were unpacked: in `var/webapps/<host>/<name>/`, each in a folder that is called by its number, with a record beside it.
//!
//! ```text
//! var/webapps/localhost/shop/7/          the webapp
//! var/webapps/localhost/shop/7.json      Record; written last, so a folder without one is rubbish
//! ```
//!
//! Here is what stands on disk; when to make one and when to remove one is `arriving`'s. What does not say otherwise blocks.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serval_archive::{Limits, Refusal};

/// One unpacked archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Artefact {
    pub folder: PathBuf,
    pub record: Record,
}

/// What is known of it, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Of all artefacts of its context that there ever were: a later one has a higher one.
    pub number: u64,
    /// Seconds since 1970.
    pub unpacked: u64,
    pub archive: Print,
    pub files: usize,
    /// Of the files.
    pub bytes: u64,
}

/// What tells one state of an archive from another without reading it. Not when its inode changed: that a file is moved and comes back
/// is no change; and not its device, which has another number after a restart of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Print {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Print {
    pub fn of(file: &Path) -> io::Result<Print> {
        let found = fs::metadata(file)?;
        let modified = (found.mtime(), found.mtime_nsec());
        Ok(Print { inode: found.ino(), len: found.len(), modified })
    }
}

pub enum UnpackError {
    Refused(Refusal),
    /// The archive was written to meanwhile.
    Changed,
}

/// The artefacts in a context's folder, by their numbers.
pub fn read(folder: &Path) -> Vec<Artefact> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let artefact = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.parse().ok()?;
        let record = read_record(folder, number)?;
        path.is_dir().then_some(Artefact { folder: path, record })
    };
    let mut artefacts: Vec<Artefact> = entries.filter_map(artefact).collect();
    artefacts.sort_by_key(|artefact| artefact.record.number);
    artefacts
}

/// Removes what is not of these artefacts: what an end of the process has left half done.
pub fn sweep(folder: &Path, artefacts: &[Artefact]) {
    let is_of = |path: &Path, artefact: &Artefact| {
        path == artefact.folder || path == record_file(folder, artefact.record.number)
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let rubbish = entries.filter(|path| !artefacts.iter().any(|artefact| is_of(path, artefact)));
    rubbish.for_each(|path| remove_any(&path));
}

fn record_file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.json"))
}

fn read_record(folder: &Path, number: u64) -> Option<Record> {
    let text = fs::read(record_file(folder, number)).ok()?;
    serde_json::from_slice(&text).ok().filter(|record: &Record| record.number == number)
}

/// Unpacks an archive into a folder of that number, if it stays as it was at `print`.
pub fn unpack(
    archive: &Path,
    print: Print,
    folder: &Path,
    number: u64,
    limits: &Limits,
) -> Result<Artefact, UnpackError> {
    let refused = |path: &Path, error| UnpackError::Refused(Refusal::Write { path: path.to_owned(), error });
    fs::create_dir_all(folder).map_err(|error| refused(folder, error))?;
    let into = folder.join(number.to_string());
    let facts = serval_archive::unpack(archive, &into, limits);
    // What is wrong with an archive that is being written is no news.
    if !Print::of(archive).is_ok_and(|now| now == print) {
        remove_any(&into);
        return Err(UnpackError::Changed);
    }
    let facts = facts.map_err(UnpackError::Refused)?;
    let unpacked = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (files, bytes) = (facts.files, facts.bytes);
    let record = Record { number, unpacked, archive: print, files, bytes };
    let artefact = Artefact { folder: into, record };
    // A record that survives the machine says that its files have.
    let kept = fs::File::open(folder).and_then(|opened| Ok(rustix::fs::syncfs(opened)?));
    if let Err(error) = kept.and_then(|()| artefact.write_record()) {
        artefact.remove();
        return Err(refused(folder, error));
    }
    Ok(artefact)
}

impl Artefact {
    fn write_record(&self) -> io::Result<()> {
        let folder = self.folder.parent().unwrap_or(&self.folder);
        let file = record_file(folder, self.record.number);
        let beside = file.with_extension("json.tmp");
        fs::write(&beside, serde_json::to_vec(&self.record)?)?;
        fs::rename(&beside, &file)
    }

    /// Its record first: what is left then is swept at the next start.
    pub fn remove(&self) {
        let folder = self.folder.parent().unwrap_or(&self.folder);
        remove_any(&record_file(folder, self.record.number));
        remove_any(&self.folder);
    }
}

/// Removes all artefacts of a context. Does not block: they are out of the way at once, under a name that no context has, since the same
/// archive may come again; what the end of the process leaves is swept at the next start. `number`: of no other one.
pub fn remove_all(folder: &Path, number: u64) {
    let aside = folder.with_file_name(format!(".gone-{number}"));
    match fs::rename(folder, &aside) {
        Ok(()) => drop(tokio::task::spawn_blocking(move || remove_any(&aside))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("{} cannot be removed: {error}", folder.display()),
    }
}

/// Removes a file or a folder, whose links are not followed. One that is not there is no error, and others are only noted: it is tried
/// again at the next start.
pub fn remove_any(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{} cannot be removed: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_half_done_is_removed_and_the_rest_is_read_in_order() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("shop");
        let archive = Print { inode: 2, len: 3, modified: (4, 5) };
        let artefact = |number: u64| {
            let folder = folder.join(number.to_string());
            fs::create_dir_all(&folder).unwrap();
            let record = Record { number, unpacked: 6, archive: archive.clone(), files: 1, bytes: 2 };
            let artefact = Artefact { folder, record };
            artefact.write_record().unwrap();
            artefact
        };
        let expected = [artefact(9), artefact(10)];
        for rubbish in ["11.tmp/a", "12/a", "x/y"] {
            fs::create_dir_all(folder.join(rubbish)).unwrap();
        }
        for rubbish in ["12.json.tmp", "13.json", "note"] {
            fs::write(folder.join(rubbish), "{}").unwrap();
        }
        artefact(14);
        fs::write(folder.join("14.json"), "{ half").unwrap();
        let found = read(&folder);
        assert_eq!(found, expected);
        sweep(&folder, &found);
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["10", "10.json", "9", "9.json"]);
        expected[0].remove();
        assert_eq!(read(&folder), expected[1..]);
        assert_eq!(read(&home.path().join("none")), []);
    }
}
