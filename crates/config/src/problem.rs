//! What is wrong with a configuration file, in words an operator can act on.
//!
//! Made by `raw` and its users; printed by `serval check`, and by `serval run` before it refuses a file.

use std::fmt;
use std::path::PathBuf;

/// Names one mistake: where it is, what is wrong, and what to write instead.
///
/// Its `Display` is one line: `conf/server.toml:12:3: unknown key `adress` in [[listener]]; did you mean `address`?`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as its path was handed in.
    pub file: PathBuf,
    /// The line, from 1. None if the problem is not at a place, as with a file that cannot be read.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to write or do instead.
    pub instead: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        write!(f, ": {}; {}", self.what, self.instead)
    }
}

/// Holds everything that is wrong with one file, in the order of its lines. Never empty.
///
/// Its `Display` is one line for each problem, without a newline at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Returns text of the file as a message may show it: in backquotes, on one line, and not longer than a line.
pub(crate) fn quoted(text: &str) -> String {
    const LEN_MAX: usize = 80;
    if text.is_empty() {
        return "`\"\"`".to_owned();
    }
    let mut shown = String::from("`");
    for (index, char) in text.chars().enumerate() {
        if index == LEN_MAX {
            shown.push('…');
            break;
        }
        if char.is_control() { shown.extend(char.escape_default()) } else { shown.push(char) }
    }
    shown.push('`');
    shown
}

/// Returns "`a`, `b`".
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// Returns the name that `written` was probably meant to be.
pub(crate) fn near_miss<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // LIMIT: the comparison takes time by both lengths, and no name of ours is nearly this long.
    if written.len() > 64 {
        return None;
    }
    let meant = written.to_lowercase().replace('-', "_");
    let distance = |name: &str| {
        // `workers` for `workers_max` is near, however many letters are missing.
        let begun = meant.len() >= 4 && name.starts_with(&meant);
        if begun { 1 } else { strsim::damerau_levenshtein(&meant, name) }
    };
    names
        .into_iter()
        .map(|name| (distance(name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
