//! The file of a log: opened when there is something to write, put aside by time or size, opened anew when somebody has moved it.
//!
//! Owned by `writer`, which hands in whole lines and the time.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serval_config::{AccessLog, Rotate};

/// LIMIT: files that may be put aside in one second.
const SAME_SECOND_MAX: u32 = 10_000;
/// How the time of its end is written in the name of a file that was put aside.
const ASIDE: &str = "%Y-%m-%dT%H-%M-%S";

/// A log's file, and those that were put aside.
pub struct LogFile {
    folder: PathBuf,
    path: PathBuf,
    /// The parts of its name around the time, when it is put aside.
    stem: String,
    extension: String,
    rotate: Rotate,
    rotate_bytes: u64,
    keep: usize,
    zone: fn() -> TimeZone,
    open: Option<Open>,
}

/// What went wrong with the file. The next call tries anew.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("lines could not be written")]
    Write(#[source] io::Error),
    /// The lines are in the file.
    #[error("the file could not be put aside, or an old one not be deleted, so it grows")]
    PutAside(#[source] io::Error),
}

struct Open {
    file: File,
    identity: (u64, u64),
    /// As of before the last write. A device has none, and is never put aside.
    bytes: u64,
    /// When its time is over; None: never.
    until: Option<Timestamp>,
    /// A write has failed in the middle of a line.
    torn: bool,
}

impl LogFile {
    pub fn new(settings: &AccessLog, zone: fn() -> TimeZone) -> LogFile {
        let dot = settings.file.rfind('.').filter(|&at| at > 0).unwrap_or(settings.file.len());
        let (stem, extension) = settings.file.split_at(dot);
        LogFile {
            folder: settings.folder.clone(),
            path: settings.folder.join(&settings.file),
            stem: format!("{stem}."),
            extension: extension.to_owned(),
            rotate: settings.rotate,
            rotate_bytes: settings.rotate_bytes,
            keep: settings.keep as usize,
            zone,
            open: None,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds whole lines. A file that is full, or whose time is over, is put aside before.
    pub fn write(&mut self, lines: &[u8], now: Timestamp) -> Result<(), Trouble> {
        let found = fs::metadata(&self.path).ok();
        // Somebody may have moved it, or made it shorter.
        let mut open = match (self.open.take(), found) {
            (Some(open), Some(found)) if identity(&found) == open.identity => Open { bytes: found.len(), ..open },
            _ => self.open(now).map_err(Trouble::Write)?,
        };
        let mut aside = Ok(());
        let over = open.until.filter(|until| now >= *until);
        let full = self.rotate_bytes > 0 && open.bytes + lines.len() as u64 > self.rotate_bytes;
        // Where a link leads, as /dev/stdout does, is somebody else's file.
        if open.bytes > 0 && (over.is_some() || full) && !self.path.is_symlink() {
            // The last second that was its own.
            let end = over.map_or(now, |until| until - SignedDuration::from_secs(1));
            aside = self.put_aside(end).map_err(Trouble::PutAside);
            open = self.open(now).map_err(Trouble::Write)?;
        } else if over.is_some() {
            open.until = self.end_of_period(now);
        }
        let written = open.append(lines).map_err(Trouble::Write);
        self.open = Some(open);
        written.and(aside)
    }

    fn open(&self, now: Timestamp) -> io::Result<Open> {
        fs::create_dir_all(&self.folder)?;
        let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        let found = file.metadata()?;
        // One of before the start may be of a time that is over.
        let of = if found.len() == 0 { now } else { found.modified()?.try_into().unwrap_or(now) };
        Ok(Open { file, identity: identity(&found), bytes: found.len(), until: self.end_of_period(of), torn: false })
    }

    fn end_of_period(&self, now: Timestamp) -> Option<Timestamp> {
        let local = now.to_zoned_datetime((self.zone)());
        match self.rotate {
            Rotate::Never => None,
            Rotate::Hour => {
                let into = i64::from(local.minute()) * 60 + i64::from(local.second());
                Timestamp::from_second(now.as_second() - into + 3600).ok()
            }
            Rotate::Day => Some(local.tomorrow().ok()?.start_of_day().ok()?.timestamp()),
        }
    }

    fn put_aside(&self, end: Timestamp) -> io::Result<()> {
        let end = end.to_zoned_datetime((self.zone)()).strftime(ASIDE).to_string();
        let number = |number: u32| if number == 1 { String::new() } else { format!("-{number}") };
        let mut names = (1..=SAME_SECOND_MAX).map(|at| format!("{}{end}{}{}", self.stem, number(at), self.extension));
        let free = names.find(|name| self.folder.join(name).symlink_metadata().is_err());
        let free = free.ok_or_else(|| io::Error::other("there is no free name to put it aside"))?;
        fs::rename(&self.path, self.folder.join(free))?;
        self.delete_old()
    }

    /// Of the files that were put aside, `keep` stay.
    fn delete_old(&self) -> io::Result<()> {
        let mut aside: Vec<(String, u32, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if let Some((end, number)) = entry.file_name().to_str().and_then(|name| self.put_aside_when(name)) {
                aside.push((end.to_owned(), number, entry.path()));
            }
        }
        aside.sort_unstable();
        let too_many = aside.len().saturating_sub(self.keep);
        aside[..too_many].iter().try_for_each(|(_, _, path)| fs::remove_file(path))
    }

    /// The time in the name of a file that this log has put aside, and its number within the second.
    fn put_aside_when<'n>(&self, name: &'n str) -> Option<(&'n str, u32)> {
        let time = name.strip_prefix(&self.stem)?.strip_suffix(&self.extension)?;
        let (time, rest) = time.split_at_checked("2026-12-31T23-59-59".len())?;
        let shape = |(byte, like): (u8, u8)| if like == b'0' { byte.is_ascii_digit() } else { byte == like };
        let number = match rest {
            "" => 1,
            rest => rest.strip_prefix('-')?.parse().ok()?,
        };
        time.bytes().zip(*b"0000-00-00T00-00-00").all(shape).then_some((time, number))
    }
}

impl Open {
    fn append(&mut self, mut lines: &[u8]) -> io::Result<()> {
        if std::mem::take(&mut self.torn) {
            self.file.write_all(b"\n").inspect_err(|_| self.torn = true)?;
        }
        while !lines.is_empty() {
            let written = match self.file.write(lines) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => written,
            };
            let written = written.inspect_err(|_| self.torn = true)?;
            lines = &lines[written..];
        }
        Ok(())
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serval_config::LogPattern;

    fn settings(folder: &Path) -> AccessLog {
        AccessLog {
            pattern: LogPattern::parse("common").unwrap(),
            pattern_text: "common".to_owned(),
            json: false,
            folder: folder.join("log"),
            file: "a.access.log".to_owned(),
            rotate: Rotate::Day,
            rotate_bytes: 0,
            keep: 30,
            use_remote_ip: false,
            condition_if: None,
            condition_unless: None,
        }
    }

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// Names in order, each with what is in it.
    #[track_caller]
    fn check(settings: &AccessLog, expected: &[(&str, &str)]) {
        let mut found: Vec<(String, String)> = fs::read_dir(&settings.folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        found.sort();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, text)| (&**name, &**text)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_day_ends_at_midnight_of_local_time() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let mut file = LogFile::new(&settings, berlin);
        file.write(b"1\n", at("2026-06-30T21:59:58Z")).unwrap();
        file.write(b"2\n", at("2026-06-30T21:59:59.9Z")).unwrap();
        file.write(b"3\n", at("2026-06-30T22:00:00Z")).unwrap();
        check(&settings, &[("a.access.2026-06-30T23-59-59.log", "1\n2\n"), ("a.access.log", "3\n")]);
        // Days without a line are no files.
        file.write(b"4\n", at("2026-07-09T10:00:00Z")).unwrap();
        check(
            &settings,
            &[
                ("a.access.2026-06-30T23-59-59.log", "1\n2\n"),
                ("a.access.2026-07-01T23-59-59.log", "3\n"),
                ("a.access.log", "4\n"),
            ],
        );
    }

    #[test]
    fn an_hour_ends_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AccessLog { rotate: Rotate::Hour, file: "log".to_owned(), ..settings(folder.path()) };
        let mut file = LogFile::new(&settings, berlin);
        file.write(b"1\n", at("2026-06-30T10:30:00Z")).unwrap();
        file.write(b"2\n", at("2026-06-30T11:00:00Z")).unwrap();
        check(&settings, &[("log", "2\n"), ("log.2026-06-30T12-59-59", "1\n")]);
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AccessLog { rotate: Rotate::Never, rotate_bytes: 4, keep: 2, ..settings(folder.path()) };
        let mut file = LogFile::new(&settings, berlin);
        let now = at("2026-06-30T10:00:00Z");
        for line in [b"1\n", b"2\n", b"3\n"] {
            file.write(line, now).unwrap();
        }
        check(&settings, &[("a.access.2026-06-30T12-00-00.log", "1\n2\n"), ("a.access.log", "3\n")]);
        let others = settings.folder.join("a.access.old.log");
        fs::write(&others, "mine").unwrap();
        for line in ["4\n", "5\n", "6\n", "a line that is longer\n"] {
            file.write(line.as_bytes(), now).unwrap();
        }
        check(
            &settings,
            &[
                ("a.access.2026-06-30T12-00-00-2.log", "3\n4\n"),
                ("a.access.2026-06-30T12-00-00-3.log", "5\n6\n"),
                ("a.access.log", "a line that is longer\n"),
                ("a.access.old.log", "mine"),
            ],
        );
    }

    #[test]
    fn what_a_link_leads_to_is_not_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AccessLog { rotate_bytes: 1, ..settings(folder.path()) };
        fs::create_dir_all(&settings.folder).unwrap();
        std::os::unix::fs::symlink("../elsewhere", settings.folder.join(&settings.file)).unwrap();
        let mut file = LogFile::new(&settings, berlin);
        file.write(b"1\n", at("2026-06-30T10:00:00Z")).unwrap();
        file.write(b"2\n", at("2026-07-30T10:00:00Z")).unwrap();
        check(&settings, &[("a.access.log", "1\n2\n")]);
        assert_eq!(fs::read_to_string(folder.path().join("elsewhere")).unwrap(), "1\n2\n");
    }

    #[test]
    fn what_an_earlier_start_has_left_goes_on_or_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let path = settings.folder.join(&settings.file);
        let mut file = LogFile::new(&settings, berlin);
        file.write(b"1\n", at("2026-06-30T10:00:00Z")).unwrap();
        let left = |time: &str| File::open(&path).unwrap().set_modified(at(time).try_into().unwrap()).unwrap();
        left("2026-06-30T10:00:00Z");
        let mut file = LogFile::new(&settings, berlin);
        file.write(b"2\n", at("2026-06-30T12:00:00Z")).unwrap();
        check(&settings, &[("a.access.log", "1\n2\n")]);
        left("2026-06-30T10:00:00Z");
        let mut file = LogFile::new(&settings, berlin);
        file.write(b"3\n", at("2026-07-04T12:00:00Z")).unwrap();
        check(&settings, &[("a.access.2026-06-30T23-59-59.log", "1\n2\n"), ("a.access.log", "3\n")]);
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let (path, now) = (settings.folder.join(&settings.file), at("2026-06-30T10:00:00Z"));
        let mut file = LogFile::new(&settings, berlin);
        file.write(b"1\n", now).unwrap();
        fs::rename(&path, settings.folder.join("moved")).unwrap();
        file.write(b"2\n", now).unwrap();
        check(&settings, &[("a.access.log", "2\n"), ("moved", "1\n")]);
        fs::remove_dir_all(&settings.folder).unwrap();
        file.write(b"3\n", now).unwrap();
        check(&settings, &[("a.access.log", "3\n")]);
    }

    #[test]
    fn a_file_that_was_copied_and_emptied_is_not_full() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AccessLog { rotate_bytes: 4, ..settings(folder.path()) };
        let (path, now) = (settings.folder.join(&settings.file), at("2026-06-30T10:00:00Z"));
        let mut file = LogFile::new(&settings, berlin);
        file.write(b"12\n", now).unwrap();
        File::create(&path).unwrap();
        file.write(b"34\n", now).unwrap();
        check(&settings, &[("a.access.log", "34\n")]);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_the_next_line_begins_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        fs::write(&settings.folder, "in its place").unwrap();
        let mut file = LogFile::new(&settings, berlin);
        let now = at("2026-06-30T10:00:00Z");
        file.write(b"1\n", now).unwrap_err();
        fs::remove_file(&settings.folder).unwrap();
        file.write(b"2\nhal", now).unwrap();
        file.open.as_mut().unwrap().torn = true;
        file.write(b"3\n", now).unwrap();
        check(&settings, &[("a.access.log", "2\nhal\n3\n")]);
    }
}
