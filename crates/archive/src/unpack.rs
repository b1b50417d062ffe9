//! From a checked archive to a folder: beside it first, renamed last.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;

use crate::check::{Content, Kind};
use crate::refusal::shown;
use crate::{Checked, Facts, Fault, Refusal};

const PIECE_BYTES: usize = 64 << 10;

impl Checked {
    /// Writes what is in the archive into a folder that must not exist; see [`crate::unpack`].
    ///
    /// # Errors
    ///
    /// An entry is not what its checksum says, or something cannot be written; then nothing is left of what was begun.
    pub fn unpack(&self, into: &Path) -> Result<Facts, Refusal> {
        let cannot = |path: &Path, error| Refusal::Write { path: path.to_owned(), error };
        if into.symlink_metadata().is_ok() {
            return Err(cannot(into, io::ErrorKind::AlreadyExists.into()));
        }
        let mut beside = into.as_os_str().to_owned();
        beside.push(".tmp");
        let beside = PathBuf::from(beside);
        make_folder(&beside).map_err(|error| cannot(&beside, error))?;
        let written = self.write_all(&beside);
        let done = written.and_then(|()| std::fs::rename(&beside, into).map_err(|error| cannot(into, error)));
        if let Err(refusal) = done {
            // What cannot be removed either is swept at the next start.
            let _ = std::fs::remove_dir_all(&beside);
            return Err(refusal);
        }
        Ok(self.facts())
    }

    fn write_all(&self, folder: &Path) -> Result<(), Refusal> {
        let mut piece = vec![0; PIECE_BYTES];
        for entry in &self.entries {
            let path = folder.join(&entry.path);
            let cannot = |error| Refusal::Write { path: path.clone(), error };
            match &entry.kind {
                Kind::Folder => make_folders(&path).map_err(cannot)?,
                Kind::File(content) => {
                    make_folders(path.parent().unwrap_or(folder)).map_err(cannot)?;
                    self.write_file(&path, &entry.path, content, &mut piece)?;
                }
            }
        }
        Ok(())
    }

    fn write_file(&self, path: &Path, name: &str, content: &Content, piece: &mut [u8]) -> Result<(), Refusal> {
        let cannot = |error| Refusal::Write { path: path.to_owned(), error };
        let damaged = |what: String| Refusal::Entry { name: shown(name.as_bytes()), fault: Fault::Damaged(what) };
        let place = self.archive.get_entry(content.place).map_err(|error| damaged(error.to_string()))?;
        let raw = place.reader();
        let plain: Box<dyn Read + '_> = match content.is_deflated {
            true => Box::new(DeflateDecoder::new(raw)),
            false => Box::new(raw),
        };
        // It fails as soon as there is more than the list has said: what is written is never more than was allowed.
        let mut verified = place.verifying_reader(plain);
        let mut file = create(path, content.is_executable).map_err(cannot)?;
        loop {
            match verified.read(piece) {
                Ok(0) => break,
                Ok(len) => file.write_all(&piece[..len]).map_err(cannot)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // By its number, the disk's; else the decoder's.
                Err(error) if error.raw_os_error().is_some() => return Err(Refusal::Read(error)),
                Err(error) => return Err(damaged(error.to_string().to_lowercase())),
            }
        }
        file.set_modified(content.modified.unwrap_or(self.modified)).map_err(cannot)
    }
}

/// Less what the umask takes. An archive's bits of set-user-id and the like mean nothing here.
fn create(path: &Path, is_executable: bool) -> io::Result<File> {
    let mode = if is_executable { 0o755 } else { 0o644 };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

fn make_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).recursive(true).create(path)
}
