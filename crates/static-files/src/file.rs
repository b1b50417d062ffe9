//! One opened file and the validators that follow from its metadata.
//!
//! Made by `folder`, used by `respond`, kept open by `body`.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use rustix::io::Errno;

/// The last second that a date of HTTP can hold: the end of the year 9999.
pub(crate) const HTTP_DATE_SECONDS_MAX: u64 = 253_402_300_799;

/// A regular file, opened for reading, as it was when [`Folder::lookup`](crate::Folder::lookup) found it.
#[derive(Debug)]
pub struct File {
    opened: std::fs::File,
    stamp: Stamp,
    pub(crate) content_type: Option<HeaderValue>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    /// Seconds since 1970, and nanoseconds.
    modified: (i64, i64),
    /// As for `modified`. It also changes when the file gets another name or is replaced, so `changed` does not look at it.
    status_changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            status_changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Says whether the file had been at rest for this long at that time, so that a later change shows in its times.
    pub(crate) fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let newest = self.modified.max(self.status_changed);
        now.checked_sub(age).is_some_and(|then| time_of(newest) < then)
    }
}

/// A time that no calendar has is 1970.
fn time_of((seconds, nanoseconds): (i64, i64)) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let second = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    let nanoseconds = Duration::from_nanos(nanoseconds.unsigned_abs());
    second.and_then(|second| second.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

impl File {
    pub(crate) fn new(opened: std::fs::File, metadata: &Metadata, content_type: Option<HeaderValue>) -> File {
        File { opened, stamp: Stamp::of(metadata), content_type }
    }

    /// Returns the length in bytes.
    #[allow(clippy::len_without_is_empty)] // A file is not a collection.
    pub fn len(&self) -> u64 {
        self.stamp.len
    }

    /// Returns the media type by the name, as it is sent; none for a name that nobody knows.
    pub fn content_type(&self) -> Option<&HeaderValue> {
        self.content_type.as_ref()
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns the weak entity tag, `W/"<length>-<modified, in ms>"` (RFC 9110 8.8.1): two changes within the file system's
    /// tick that keep the length have one tag.
    pub(crate) fn etag(&self) -> String {
        let (seconds, nanoseconds) = self.stamp.modified;
        let milliseconds = i128::from(seconds) * 1000 + i128::from(nanoseconds / 1_000_000);
        format!("W/\"{}-{}\"", self.stamp.len, milliseconds)
    }

    /// Returns the second of the last modification since 1970, to compare with a date of HTTP; none before.
    pub(crate) fn modified_seconds(&self) -> Option<i64> {
        Some(self.stamp.modified.0).filter(|&seconds| seconds >= 0)
    }

    /// Returns the date for `Last-Modified`; none before 1970, and never one that is still to come
    /// (RFC 9110 8.8.2.1).
    pub(crate) fn last_modified(&self) -> Option<String> {
        let seconds = u64::try_from(self.stamp.modified.0).ok()?;
        let now_seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let seconds = seconds.min(now_seconds).min(HTTP_DATE_SECONDS_MAX);
        Some(httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds)))
    }

    /// Reads up to `len_max` bytes; none at the end of the file.
    pub(crate) fn read_at(&self, offset: u64, len_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len_max);
        loop {
            match rustix::io::pread(&self.opened, rustix::buffer::spare_capacity(&mut bytes), offset) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                // The allocator may have given more room than was asked for.
                Ok(_) => {
                    bytes.truncate(len_max);
                    return Ok(bytes);
                }
            }
        }
    }

    /// Says whether the file changed since it was looked up or last refreshed.
    ///
    /// LIMIT: a change within one tick of the file system's clock that keeps the length is not seen.
    pub(crate) fn changed(&self) -> io::Result<bool> {
        let now = Stamp::of(&self.opened.metadata()?);
        Ok((now.len, now.modified) != (self.stamp.len, self.stamp.modified))
    }

    /// Takes the file as it is now.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.stamp = Stamp::of(&self.opened.metadata()?);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file of this text, modified at this time since 1970.
    pub(crate) fn file(text: &str, seconds: i64, milliseconds: u32) -> File {
        let opened = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&opened, text.as_bytes(), 0).unwrap();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let second = if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance };
        opened.set_modified(second + Duration::from_millis(milliseconds.into())).unwrap();
        let metadata = opened.metadata().unwrap();
        File::new(opened, &metadata, None)
    }

    impl Stamp {
        /// One of many that differ.
        pub(crate) fn numbered(self, inode: u64) -> Stamp {
            Stamp { device: u64::MAX, inode, ..self }
        }
    }

    #[track_caller]
    fn check(seconds: i64, milliseconds: u32, etag: &str, last_modified: Option<&str>) {
        let file = file("12345", seconds, milliseconds);
        assert_eq!(file.etag(), etag);
        assert_eq!(file.last_modified().as_deref(), last_modified);
        assert_eq!(time_of(file.stamp.modified), file.opened.metadata().unwrap().modified().unwrap());
    }

    #[test]
    fn validators() {
        check(784_111_777, 0, "W/\"5-784111777000\"", Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        check(784_111_777, 999, "W/\"5-784111777999\"", Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        check(0, 0, "W/\"5-0\"", Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        check(-1, 250, "W/\"5--750\"", None);
    }

    #[test]
    fn a_time_to_come_is_sent_as_now() {
        let file = file("", 9_000_000_000, 0);
        let sent = httpdate::parse_http_date(&file.last_modified().unwrap()).unwrap();
        assert!(sent <= SystemTime::now());
    }

    #[test]
    fn times_beyond_every_calendar_do_not_panic() {
        for modified_seconds in [i64::MIN, i64::MAX] {
            let mut file = file("", 0, 0);
            file.stamp.modified = (modified_seconds, 999_999_999);
            file.etag();
            file.stamp.is_older_than(Duration::ZERO, SystemTime::now());
            file.last_modified();
        }
    }
}
