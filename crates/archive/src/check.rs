//! The list of an archive's entries, looked at as a whole before anything is written.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::fs::File;
use std::time::{Duration, SystemTime};

use rawzip::time::{UtcDateTime, ZipDateTimeKind};
use rawzip::{
    CompressionMethod, Error, ErrorKind, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder,
    ZipFileHeaderRecord,
};

use crate::refusal::shown;
use crate::{Facts, Fault, Limits, Refusal, name};

/// Below, the ratio is not looked at: a page of one letter is no bomb.
const RATIO_FROM_BYTES: u64 = 1 << 20;
/// LIMIT: what stands before an entry's content: its name and extra fields, of 64 KiB each.
const LOCAL_HEADER_BYTES_MAX: usize = 2 << 16;

/// An archive whose entries are as they should be; their content has not been read yet.
pub struct Checked {
    pub(crate) archive: ZipArchive<FileReader>,
    pub(crate) entries: Vec<Entry>,
    /// For files whose time the archive does not tell.
    pub(crate) modified: SystemTime,
    facts: Facts,
}

pub(crate) struct Entry {
    /// Inside of the folder, without a `/` at either end.
    pub path: String,
    pub kind: Kind,
}

pub(crate) enum Kind {
    Folder,
    File(Content),
}

pub(crate) struct Content {
    pub place: ZipArchiveEntryWayfinder,
    pub is_deflated: bool,
    pub is_executable: bool,
    pub modified: Option<SystemTime>,
}

impl Checked {
    pub fn facts(&self) -> Facts {
        self.facts
    }
}

/// Looks at all entries of an archive. Reads its list, and the heads of its entries.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn check(file: File, limits: &Limits) -> Result<Checked, Refusal> {
    let found = file.metadata().map_err(Refusal::Read)?;
    let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE.max(rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE)];
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(unreadable)?;
    let mut seen = Seen::new(limits);
    let mut list = archive.entries(&mut buffer);
    let mut count = 0u64;
    while let Some(record) = list.next_entry().map_err(unreadable)? {
        count += 1;
        seen.take(&record)?;
    }
    if count != archive.entries_hint() {
        let told = archive.entries_hint();
        return Err(Refusal::Damaged(format!("it has {count} entries and says that it has {told}")));
    }
    seen.check_size(found.len())?;
    seen.check_places(&archive)?;
    let Seen { entries, facts, .. } = seen;
    Ok(Checked { archive, entries, modified, facts })
}

/// What the library could not read.
pub(crate) fn unreadable(error: Error) -> Refusal {
    match error.into_kind() {
        ErrorKind::IO(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Refusal::Read(error),
        kind => Refusal::Damaged(kind.to_string().to_lowercase()),
    }
}

/// What was seen of the entries so far.
struct Seen<'l> {
    limits: &'l Limits,
    entries: Vec<Entry>,
    /// Where each file's or folder's bytes begin, and its place in `entries`.
    places: Vec<(ZipArchiveEntryWayfinder, u64, usize)>,
    /// By what no other may be called.
    names: HashMap<String, Named>,
    facts: Facts,
}

/// How a name is written, and what for.
struct Named {
    path: String,
    is_file: bool,
    /// Not only a part of another's path.
    is_listed: bool,
}

impl<'l> Seen<'l> {
    fn new(limits: &'l Limits) -> Seen<'l> {
        Seen { limits, entries: Vec::new(), places: Vec::new(), names: HashMap::new(), facts: Facts::default() }
    }

    fn take(&mut self, record: &ZipFileHeaderRecord<'_>) -> Result<(), Refusal> {
        let file_path = record.file_path();
        let raw = file_path.as_bytes();
        let refused = |fault| Refusal::Entry { name: shown(raw), fault };
        let path = name::read(raw, self.limits.depth_max).map_err(refused)?;
        check_kind(record).map_err(refused)?;
        let is_file = !record.is_dir();
        self.claim_names(path, is_file).map_err(refused)?;
        if self.names.len() > self.limits.entry_count_max {
            return Err(Refusal::TooMany(self.limits.entry_count_max));
        }
        self.places.push((record.wayfinder(), record.local_header_offset(), self.entries.len()));
        let kind = match is_file {
            false => Kind::Folder,
            true => {
                self.facts.files += 1;
                self.facts.bytes = self.facts.bytes.saturating_add(record.uncompressed_size_hint());
                Kind::File(Content {
                    place: record.wayfinder(),
                    is_deflated: record.compression_method() == CompressionMethod::DEFLATE,
                    is_executable: record.mode().permissions() & 0o100 != 0,
                    modified: modified(record),
                })
            }
        };
        self.facts.folders = self.names.len() - self.facts.files;
        self.entries.push(Entry { path: path.to_owned(), kind });
        Ok(())
    }

    /// Notes an entry's path, and those of the folders that it lies in.
    fn claim_names(&mut self, path: &str, is_file: bool) -> Result<(), Fault> {
        for (end, _) in path.match_indices('/') {
            self.claim(&path[..end], Claim::Part)?;
        }
        self.claim(path, if is_file { Claim::File } else { Claim::Folder })
    }

    fn claim(&mut self, path: &str, claim: Claim) -> Result<(), Fault> {
        let (is_file, is_listed) = (claim == Claim::File, claim != Claim::Part);
        match self.names.entry(name::folded(path)) {
            Place::Vacant(place) => {
                place.insert(Named { path: path.to_owned(), is_file, is_listed });
            }
            Place::Occupied(mut place) => {
                let named = place.get_mut();
                if named.path != path {
                    return Err(Fault::Clash(shown(named.path.as_bytes())));
                }
                if named.is_file != is_file {
                    return Err(Fault::FileAndFolder);
                }
                if named.is_listed && is_listed {
                    return Err(Fault::Twice);
                }
                named.is_listed |= is_listed;
            }
        }
        Ok(())
    }

    fn check_size(&self, archive_bytes: u64) -> Result<(), Refusal> {
        let (bytes, most) = (self.facts.bytes, self.limits.bytes_max);
        if bytes > most {
            return Err(Refusal::TooLong { bytes, most });
        }
        let (ratio, most) = (bytes / archive_bytes.max(1), self.limits.ratio_max);
        match bytes > RATIO_FROM_BYTES && ratio > most {
            true => Err(Refusal::Bomb { ratio, most }),
            false => Ok(()),
        }
    }

    /// No byte of the archive is of two entries, or of one and the list; and each is called the same at both places.
    fn check_places(&mut self, archive: &ZipArchive<FileReader>) -> Result<(), Refusal> {
        self.places.sort_unstable_by_key(|(_, begin, _)| *begin);
        let mut buffer = vec![0; LOCAL_HEADER_BYTES_MAX];
        let mut free_from = 0;
        for &(place, begin, number) in &self.places {
            let Entry { path, kind } = &self.entries[number];
            let refused = |fault| Refusal::Entry { name: shown(path.as_bytes()), fault };
            let damaged = |error| match unreadable(error) {
                Refusal::Damaged(what) => refused(Fault::Damaged(what)),
                other => other,
            };
            let content = archive.get_entry(place).map_err(damaged)?;
            let head = content.local_header(&mut buffer).map_err(damaged)?;
            let local = head.file_path();
            let local = local.as_bytes();
            let is_same = match kind {
                Kind::Folder => local.strip_suffix(b"/") == Some(path.as_bytes()),
                Kind::File(_) => local == path.as_bytes(),
            };
            if !is_same {
                return Err(refused(Fault::TwoNames));
            }
            let (_, end) = content.compressed_data_range();
            if begin < free_from || end > archive.directory_offset() {
                return Err(refused(Fault::Overlap));
            }
            free_from = end;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Claim {
    File,
    Folder,
    /// A folder, as a part of another's path.
    Part,
}

/// What the entry is, and that it can be read.
fn check_kind(record: &ZipFileHeaderRecord<'_>) -> Result<(), Fault> {
    // Whoever has written it: where these bits mean nothing, they are 0.
    match (record.external_attributes() >> 16) & 0o170_000 {
        0o120_000 => return Err(Fault::Link),
        0o010_000 | 0o020_000 | 0o060_000 | 0o140_000 => return Err(Fault::Special),
        0o040_000 if !record.is_dir() => return Err(Fault::FileAndFolder),
        _ => {}
    }
    let flags = record.flags();
    if flags.is_encrypted() || flags.has_strong_encryption() || flags.is_masked() {
        return Err(Fault::Encrypted);
    }
    if record.is_dir() && record.uncompressed_size_hint() > 0 {
        return Err(Fault::FolderWithContent);
    }
    match record.compression_method() {
        CompressionMethod::STORE | CompressionMethod::DEFLATE => Ok(()),
        method => Err(Fault::Method(method.to_string())),
    }
}

/// When the file was changed. None where the archive does not tell: builds that shall always make the same archive write a time of
/// 1980, and with it validators would stay the same whatever changes. A time without a zone counts as UTC, wherever it is unpacked.
fn modified(record: &ZipFileHeaderRecord<'_>) -> Option<SystemTime> {
    let utc = match record.last_modified() {
        ZipDateTimeKind::Utc(time) => time,
        ZipDateTimeKind::Local(time) => UtcDateTime::from_components(
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.nanosecond(),
        )?,
    };
    let seconds = u64::try_from(utc.to_unix()).ok().filter(|_| utc.year() > 1980)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, utc.nanosecond()))
}
