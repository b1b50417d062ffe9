//! The numbered private copy of a webapp's whole lib folder. Only copies are ever loaded: the user's file may be truncated or
//! overwritten in place, which kills or changes a process that has it mapped (ABI-EVIDENCE C).

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

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
    /// The files of a lib folder, by name; not those that begin with a dot or are being written under another name.
    pub fn of_folder(lib: &Path) -> io::Result<Vec<Fingerprint>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(lib)? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            if name.starts_with('.') || [".tmp", ".part", "~"].iter().any(|end| name.ends_with(end)) {
                continue;
            }
            // A symlink counts as what it leads to; one that leads nowhere is not there.
            let Ok(file) = std::fs::metadata(lib.join(&name)) else { continue };
            if file.is_file() {
                all.push(Fingerprint {
                    name,
                    len: file.len(),
                    modified: (file.mtime(), file.mtime_nsec()),
                    changed: (file.ctime(), file.ctime_nsec()),
                    inode: file.ino(),
                    mode: file.mode(),
                    owner: file.uid(),
                });
            }
        }
        if all.len() > FILES_MAX || all.iter().map(|file| file.len).sum::<u64>() > BYTES_MAX {
            return Err(io::Error::other("a lib folder holds at most 1,000 files and 4 GiB"));
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }
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
    #[error("the lib folder changed while it was copied")]
    Changed,
    #[error("{} cannot be copied: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

#[derive(Debug)]
pub struct PrivateCopy {
    pub folder: PathBuf,
    pub files: Vec<PathBuf>,
    /// Of the originals, in the order of `files`.
    pub fingerprints: Vec<Fingerprint>,
}

impl PrivateCopy {
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.folder)
    }
}

/// Copies the files of `lib`, names kept, into the new folder `to`.
pub fn copy(lib: &Path, to: &Path) -> Result<PrivateCopy, CopyError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| CopyError::Io { path, error }
    };
    let fingerprints = Fingerprint::of_folder(lib).map_err(failed(lib))?;
    DirBuilder::new().mode(0o700).create(to).map_err(failed(to))?;
    let copy = PrivateCopy { folder: to.to_owned(), files: Vec::new(), fingerprints };
    match fill(lib, copy) {
        Ok(copy) => Ok(copy),
        Err(error) => {
            let _ = std::fs::remove_dir_all(to);
            Err(error)
        }
    }
}

fn fill(lib: &Path, mut copy: PrivateCopy) -> Result<PrivateCopy, CopyError> {
    for file in &copy.fingerprints {
        let (from, to) = (lib.join(&file.name), copy.folder.join(&file.name));
        copy_file(&from, &to).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CopyError::Changed,
            _ => CopyError::Io { path: from.clone(), error },
        })?;
        copy.files.push(to);
    }
    match Fingerprint::of_folder(lib) {
        Ok(after) if after == copy.fingerprints => Ok(copy),
        _ => Err(CopyError::Changed),
    }
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
        let lib = home.path().join("lib");
        std::fs::create_dir(&lib).unwrap();
        std::fs::write(lib.join("a.so"), "one").unwrap();
        std::fs::write(lib.join(".b.so"), "hidden").unwrap();
        std::fs::write(lib.join("c.so.tmp"), "unfinished").unwrap();
        let copied = copy(&lib, &home.path().join("g1")).unwrap();
        assert_eq!(copied.files, [home.path().join("g1/a.so")]);
        assert_eq!(std::fs::read_to_string(&copied.files[0]).unwrap(), "one");
        std::fs::write(lib.join("a.so"), "other").unwrap();
        assert_ne!(Fingerprint::of_folder(&lib).unwrap(), copied.fingerprints);
        assert!(
            matches!(copy(&lib, &home.path().join("g1")), Err(CopyError::Io { .. })),
            "a copy is never written over"
        );
        copied.remove().unwrap();
        assert!(!home.path().join("g1").exists());
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
