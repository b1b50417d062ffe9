//! Strong entity tags: the SHA-256 of a file's content, as in Tomcat's `useStrongETags` (RFC 9110 8.8.3).
//!
//! Called by `respond` where an operator has chosen them. A file is read whole for its tag once for each of its states; what was
//! found is kept. A small file is read where the request runs, since that takes no longer than other work there. A large one
//! takes its time, so its tag is only made on a thread that may block, by one request at a time: others that
//! meet it meanwhile answer with the weak tag, which says less and is never wrong. Thus a large file costs a webapp at most one thread,
//! whoever asks for it.

use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use sha2::{Digest, Sha256};

use crate::file::{File, Stamp};

/// Bytes that are read where the request runs: less than a millisecond of work, or five without the processor's help.
const AT_ONCE_BYTES_MAX: u64 = 1024 * 1024;

/// LIMIT: states whose tags are kept, of about 200 bytes each. Beyond it one is forgotten, and is made again when it is needed.
const KEPT_MAX: usize = 8192;

/// How long a file has to have been at rest for its tag to be kept: a change within a tick of the file system's clock, 10 ms
/// at most, leaves no trace in its times.
const AT_REST: Duration = Duration::from_secs(1);

const PIECE_BYTES: usize = 64 * 1024;

/// The tags of one folder's files.
#[derive(Debug, Default)]
pub(crate) struct StrongTags {
    known: Mutex<HashMap<Stamp, Known>>,
}

#[derive(Debug, Clone)]
enum Known {
    /// A request makes it.
    Making,
    Tag(HeaderValue),
}

/// Whether a request is where it may block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Patience {
    /// On a thread that must not wait for a large file.
    None,
    Long,
}

/// What became of a tag.
#[derive(Debug, PartialEq)]
pub(crate) enum Tag {
    Strong(HeaderValue),
    /// Somebody else makes it.
    NotYet,
    /// It has to be made where one may block.
    TakesLong,
    /// The file changed while it was read.
    Changed,
}

impl StrongTags {
    /// Returns the tag of a file, from what is kept or by reading it.
    pub(crate) fn of(&self, file: &File, patience: Patience) -> io::Result<Tag> {
        let small = file.len() <= AT_ONCE_BYTES_MAX;
        {
            let mut known = self.lock();
            match known.get(&file.stamp()) {
                Some(Known::Tag(tag)) => return Ok(Tag::Strong(tag.clone())),
                Some(Known::Making) => return Ok(Tag::NotYet),
                None if small => {}
                None if patience == Patience::None => return Ok(Tag::TakesLong),
                None => keep(&mut known, file.stamp(), Known::Making),
            }
        }
        // From here on, whatever happens, nobody waits for it in vain.
        let making = (!small).then_some(Making(self, file.stamp()));
        let began = SystemTime::now();
        let tag = read(file)?;
        if file.changed()? {
            return Ok(Tag::Changed);
        }
        drop(making);
        if file.stamp().is_older_than(AT_REST, began) {
            keep(&mut self.lock(), file.stamp(), Known::Tag(tag.clone()));
        }
        Ok(Tag::Strong(tag))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Stamp, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says, while it lives, that a tag is being made.
struct Making<'t>(&'t StrongTags, Stamp);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

fn keep(known: &mut HashMap<Stamp, Known>, stamp: Stamp, state: Known) {
    if known.len() >= KEPT_MAX
        && let Some(any) = known.iter().find(|(_, state)| matches!(state, Known::Tag(_))).map(|(stamp, _)| *stamp)
    {
        known.remove(&any);
    }
    known.insert(stamp, state);
}

/// Reads the whole file.
fn read(file: &File) -> io::Result<HeaderValue> {
    let mut digest = Sha256::new();
    let mut offset = 0;
    loop {
        let piece = file.read_at(offset, PIECE_BYTES)?;
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        digest.update(&piece);
    }
    let mut tag = String::with_capacity(66);
    tag.push('"');
    for byte in digest.finalize() {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::try_from(tag).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::file;

    const OF_ABC: &str = "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
    const OF_NOTHING: &str = "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";

    fn strong(text: &'static str) -> Tag {
        Tag::Strong(HeaderValue::from_static(text))
    }

    #[test]
    fn it_is_the_digest_of_the_content() {
        let tags = StrongTags::default();
        assert_eq!(tags.of(&file("abc", 1, 0), Patience::None).unwrap(), strong(OF_ABC));
        assert_eq!(tags.of(&file("", 1, 0), Patience::None).unwrap(), strong(OF_NOTHING));
    }

    #[test]
    fn a_file_that_was_just_written_is_read_again() {
        let tags = StrongTags::default();
        // Its ctime is now, whatever its mtime says.
        tags.of(&file("abc", 1, 0), Patience::Long).unwrap();
        assert!(tags.lock().is_empty());
    }

    #[test]
    fn a_large_file_is_read_only_where_one_may_block_and_by_one() {
        let tags = StrongTags::default();
        let large = file(&"x".repeat(AT_ONCE_BYTES_MAX as usize + 1), 1, 0);
        assert_eq!(tags.of(&large, Patience::None).unwrap(), Tag::TakesLong);
        assert!(matches!(tags.of(&large, Patience::Long).unwrap(), Tag::Strong(_)));
        keep(&mut tags.lock(), large.stamp(), Known::Making);
        for patience in [Patience::None, Patience::Long] {
            assert_eq!(tags.of(&large, patience).unwrap(), Tag::NotYet);
        }
        drop(Making(&tags, large.stamp()));
        assert_eq!(tags.of(&large, Patience::None).unwrap(), Tag::TakesLong);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut known = HashMap::new();
        let one = file("abc", 1, 0);
        keep(&mut known, one.stamp(), Known::Making);
        for number in 0..KEPT_MAX as u64 + 10 {
            let stamp = one.stamp().numbered(number);
            keep(&mut known, stamp, Known::Tag(HeaderValue::from_static(OF_ABC)));
        }
        assert_eq!(known.len(), KEPT_MAX);
        assert!(matches!(known[&one.stamp()], Known::Making));
    }

    #[test]
    fn what_is_kept_is_not_read_again() {
        let tags = StrongTags::default();
        let one = file("abc", 1, 0);
        keep(&mut tags.lock(), one.stamp(), Known::Tag(HeaderValue::from_static(OF_NOTHING)));
        assert_eq!(tags.of(&one, Patience::None).unwrap(), strong(OF_NOTHING));
    }
}
