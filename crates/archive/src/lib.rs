//! A zip archive to a folder, all of it or nothing.
//!
//! An archive comes from elsewhere, so all of it is looked at before anything is written: [`check`] reads the list of its entries and
//! refuses what could leave the folder, hide behind another entry, or fill the disk; [`Checked::unpack`] then writes beside the folder,
//! compares each entry with its checksum, and renames last. What it writes are ordinary files and folders of this user and nothing
//! else, so it cannot follow a link of the archive's: there are none.
//!
//! It knows nothing of webapps. The container calls it at a deployment, and `serval deploy` before it asks for one. Everything here
//! blocks, for as long as the disk takes; the memory it needs is that of the entries' names, whatever is in them.
#![forbid(unsafe_code)]

mod check;
#[doc(hidden)]
pub mod fuzz;
mod name;
mod refusal;
mod unpack;

use std::fs::File;
use std::path::Path;

pub use check::{Checked, check};
pub use refusal::{Fault, Refusal};

/// What an archive may cost. Each is a key of server.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files, unpacked.
    pub bytes_max: u64,
    /// How many times longer they may be than the archive. Not looked at below a mebibyte: no bomb is so small.
    pub ratio_max: u64,
    /// Files and folders, also those that are named only as a part of others' paths.
    pub entry_count_max: usize,
    /// Folders in each other, with the file in them.
    pub depth_max: usize,
}

/// What is in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    pub files: usize,
    pub folders: usize,
    /// Of all files.
    pub bytes: u64,
}

/// Unpacks an archive into a folder that must not exist, whose parent does. It is there with all that is in the archive, or not at all.
/// `….tmp` beside it is what was not finished when the process ended.
///
/// # Errors
///
/// Why not; then nothing is left of what was begun.
pub fn unpack(archive: &Path, into: &Path, limits: &Limits) -> Result<Facts, Refusal> {
    check(open(archive)?, limits)?.unpack(into)
}

/// Opens an archive. Anything but an ordinary file is refused: opening a named pipe would wait for ever.
///
/// # Errors
///
/// [`Refusal::Read`].
pub fn open(archive: &Path) -> Result<File, Refusal> {
    match std::fs::metadata(archive) {
        Ok(found) if found.is_file() => File::open(archive).map_err(Refusal::Read),
        Ok(_) => Err(Refusal::NotAFile),
        Err(error) => Err(Refusal::Read(error)),
    }
}
