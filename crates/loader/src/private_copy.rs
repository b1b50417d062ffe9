//! The numbered private copy of a webapp's whole lib folder. Only copies are ever loaded: the user's file may be truncated or
//! overwritten in place, which kills or changes a process that has it mapped (ABI-EVIDENCE C).

use std::fs::{DirBuilder, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::library::is_library_name;

/// LIMIT: files and bytes of one lib folder.
const FILES_MAX: usize = 1000;
const BYTES_MAX: u64 = 4 << 30;

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    pub name: String,
    pub len: u64,
    pub modified: (i64, i64),
    pub changed: (i64, i64),
    pub inode: u64,
    pub mode: u32,
    pub owner: u32,
}

impl Fingerprint {
    pub fn of(name: String, file: &Metadata) -> Fingerprint {
        Fingerprint {
            name,
            len: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
            inode: file.ino(),
            mode: file.mode(),
            owner: file.uid(),
        }
    }

    /// The libraries of a lib folder, by name; no folder is one without libraries.
    pub fn of_libraries(lib: &Path) -> io::Result<Vec<Fingerprint>> {
        let mut all = files(lib)?;
        all.retain(|file| is_library_name(file.name.as_ref()));
        Ok(all)
    }
}

/// The files of a lib folder, by name; not those that begin with a dot or are being written under another name.
fn files(lib: &Path) -> io::Result<Vec<Fingerprint>> {
    let mut all = Vec::new();
    let entries = match std::fs::read_dir(lib) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    for entry in entries {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if name.starts_with('.') || [".tmp", ".part", "~"].iter().any(|end| name.ends_with(end)) {
            continue;
        }
        // A symlink counts as what it leads to; one that leads nowhere is not there.
        match std::fs::metadata(lib.join(&name)) {
            Ok(file) if file.is_file() => all.push(Fingerprint::of(name, &file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if all.len() > FILES_MAX || all.iter().map(|file| file.len).sum::<u64>() > BYTES_MAX {
        return Err(io::Error::other("it holds more than 1,000 files or 4 GiB"));
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The sentence for a group- or world-writable library owned by another user.
pub fn foreign_writable(file: &Fingerprint, user: u32) -> Option<String> {
    (file.owner != user && file.mode & 0o022 != 0).then(|| {
        let owner = file.owner;
        format!(
            "it belongs to another user (id {owner}) and others may write it, so they could run code in this server"
        )
    })
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("WEB-INF/lib changed while it was copied")]
    Changed,
    #[error("{} cannot be copied: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

#[derive(Debug)]
pub struct PrivateCopy {
    pub folder: PathBuf,
    /// The libraries, each with the fingerprint of its original.
    pub libraries: Vec<(PathBuf, Fingerprint)>,
}

impl PrivateCopy {
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.folder)
    }
}

/// Copies the files of `lib`, names kept, into the new folder `to`, if its libraries are the `expected` ones, before and after.
///
/// Other files are copied as they are found: one that keeps changing, such as a log, must not keep the libraries from loading.
pub fn copy(lib: &Path, to: &Path, expected: &[Fingerprint]) -> Result<PrivateCopy, CopyError> {
    DirBuilder::new().mode(0o700).create(to).map_err(|error| CopyError::Io { path: to.to_owned(), error })?;
    let copied = fill(lib, to, expected);
    if copied.is_err() {
        let _ = std::fs::remove_dir_all(to);
    }
    copied
}

fn fill(lib: &Path, to: &Path, expected: &[Fingerprint]) -> Result<PrivateCopy, CopyError> {
    let unreadable = |error| CopyError::Io { path: lib.to_owned(), error };
    let files = files(lib).map_err(unreadable)?;
    let libraries = || files.iter().filter(|file| is_library_name(file.name.as_ref()));
    if !libraries().eq(expected) {
        return Err(CopyError::Changed);
    }
    for file in &files {
        let from = lib.join(&file.name);
        match copy_file(&from, &to.join(&file.name)) {
            Ok(()) => {}
            // If it was a library, the second look tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CopyError::Io { path: from, error }),
        }
    }
    if Fingerprint::of_libraries(lib).map_err(unreadable)? != expected {
        return Err(CopyError::Changed);
    }
    let libraries = libraries().map(|file| (to.join(&file.name), file.clone())).collect();
    Ok(PrivateCopy { folder: to.to_owned(), libraries })
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    // A file may become a FIFO between the look and the open: never wait for one.
    let mut from = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(from)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o500).open(to)?;
    io::copy(&mut from, &mut to)?;
    to.set_permissions(Permissions::from_mode(0o500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_copied_with_its_names() {
        let home = tempfile::tempdir().unwrap();
        let (lib, to) = (home.path().join("lib"), home.path().join("g1"));
        std::fs::create_dir(&lib).unwrap();
        std::fs::write(lib.join("a.so"), "one").unwrap();
        std::fs::write(lib.join(".b.so"), "hidden").unwrap();
        std::fs::write(lib.join("c.so.tmp"), "unfinished").unwrap();
        std::fs::write(lib.join("data"), "kept").unwrap();
        let seen = Fingerprint::of_libraries(&lib).unwrap();
        let copied = copy(&lib, &to, &seen).unwrap();
        assert_eq!(copied.libraries, [(to.join("a.so"), seen[0].clone())]);
        assert_eq!(std::fs::read_to_string(to.join("a.so")).unwrap(), "one");
        assert_eq!(std::fs::read_to_string(to.join("data")).unwrap(), "kept");
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 2);
        assert!(matches!(copy(&lib, &to, &seen), Err(CopyError::Io { .. })), "a copy is never written over");
        copied.remove().unwrap();
        assert!(!to.exists());
    }

    #[test]
    fn libraries_that_are_not_as_they_were_seen_are_not_copied() {
        let home = tempfile::tempdir().unwrap();
        let (lib, to) = (home.path().join("lib"), home.path().join("g1"));
        assert_eq!(Fingerprint::of_libraries(&lib).unwrap(), []);
        std::fs::create_dir(&lib).unwrap();
        std::fs::write(lib.join("a.so"), "one").unwrap();
        std::fs::write(lib.join("b.so"), "two").unwrap();
        let seen = Fingerprint::of_libraries(&lib).unwrap();
        std::fs::write(lib.join("log"), "a file that is no library may come and go").unwrap();
        copy(&lib, &to, &seen).unwrap().remove().unwrap();
        std::fs::write(lib.join("a.so"), "other").unwrap();
        assert!(matches!(copy(&lib, &to, &seen), Err(CopyError::Changed)));
        let seen = Fingerprint::of_libraries(&lib).unwrap();
        std::fs::remove_file(lib.join("b.so")).unwrap();
        assert!(matches!(copy(&lib, &to, &seen), Err(CopyError::Changed)));
        assert!(!to.exists());
    }

    #[test]
    fn a_library_that_others_may_write_is_told_of() {
        let file = |owner, mode| Fingerprint {
            name: "a.so".to_owned(),
            len: 0,
            modified: (0, 0),
            changed: (0, 0),
            inode: 0,
            mode,
            owner,
        };
        assert!(foreign_writable(&file(1000, 0o100666), 0).is_some());
        assert!(foreign_writable(&file(1000, 0o100644), 0).is_none());
        assert!(foreign_writable(&file(0, 0o100666), 0).is_none());
    }
}
