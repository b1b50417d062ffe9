//! Why an archive is refused, in a sentence: which entry, what is wrong with it, what to do.

use std::io;
use std::path::PathBuf;

/// Why an archive was not unpacked. `Display` goes on behind the name of the archive.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    #[error("is not an ordinary file")]
    NotAFile,
    #[error("is no zip archive, or not all of it: {0}; copy it anew")]
    Damaged(String),
    #[error("has an entry `{name}` that {fault}")]
    Entry { name: String, fault: Fault },
    #[error("has more than {0} files and folders; put less into it, or raise entry_count_max in [archives]")]
    TooMany(usize),
    #[error("would take {bytes} bytes, more than {most}; put less into it, or raise bytes_max in [archives]")]
    TooLong { bytes: u64, most: u64 },
    #[error(
        "would become {ratio} times as long, which looks like a bomb; if it is none, raise ratio_max in [archives] above {most}"
    )]
    Bomb { ratio: u64, most: u64 },
    #[error("cannot be unpacked: {} cannot be written: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
}

impl Refusal {
    /// Whether it is the system that has failed, so that the same archive may be taken a moment later.
    pub fn is_of_the_system(&self) -> bool {
        matches!(self, Refusal::Read(_) | Refusal::Write { .. })
    }
}

/// What is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error(
        "would lie outside of the folder; make the archive in the folder of the webapp, as in `cd shop && zip -r ../shop.war .`"
    )]
    Outside,
    #[error("has a backslash, a colon behind a letter, or a control character in its name; rename it")]
    Unsafe,
    #[error("has an empty name, or an empty folder's name; make the archive with `zip -r`, which writes none")]
    Empty,
    #[error("has a name that is not UTF-8; rename it")]
    NotUtf8,
    #[error("has a name that is too long for a file; rename it")]
    TooLong,
    #[error("lies deeper than {0} folders; put it elsewhere, or raise depth_max in [archives]")]
    TooDeep(usize),
    #[error("is a link; put the file itself into the archive, as `zip` does without -y")]
    Link,
    #[error("is a device, a named pipe or a socket; leave it out")]
    Special,
    #[error("is encrypted; make the archive without a password")]
    Encrypted,
    #[error("is compressed by method {0}; make the archive with `zip -r`, which deflates")]
    Method(String),
    #[error("is there twice; make the archive anew")]
    Twice,
    #[error("differs from `{0}` in the case of letters, or in how accents are written; rename one")]
    Clash(String),
    #[error("is a file and a folder; make the archive anew")]
    FileAndFolder,
    #[error("is a folder that has content; make the archive anew")]
    FolderWithContent,
    #[error("shares bytes with another entry; make the archive anew")]
    Overlap,
    #[error("is called otherwise where its content lies; make the archive anew")]
    TwoNames,
    #[error("is damaged: {0}; copy the archive anew")]
    Damaged(String),
}

/// LIMIT: of a name in a sentence.
const SHOWN_CHARS_MAX: usize = 200;

/// A name as it can stand in a log: what could move a cursor is escaped.
pub(crate) fn shown(name: &[u8]) -> String {
    let text = match std::str::from_utf8(name) {
        Ok(text) => text.chars().flat_map(escaped).collect::<String>(),
        Err(_) => name.escape_ascii().to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn escaped(character: char) -> Vec<char> {
    match character.is_control() || matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}') {
        true => character.escape_default().collect(),
        false => vec![character],
    }
}
