//! Where a value stands in a configuration file, for people: `serval explain` shows the line that decided.
//!
//! Settings carry no places: the file is read again, when a line is to be shown.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::join;
use crate::raw::{self, Document};
use crate::server::Server;
use crate::substitute::Sources;

/// One step from the top of a file to a value in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The value of a key.
    Key(&'a str),
    /// The nth of a list, from 0.
    Nth(usize),
    /// The table of a list that has this `name`.
    Named(&'a str),
    /// The string of a list that is this one.
    Text(&'a str),
}

/// Returns the line, from 1, of the value that the parts lead to. None: there is none, or the file cannot be read.
///
/// Strings are compared as they are written, `${...}` not replaced.
pub fn line_of(file: &Path, parts: &[Part<'_>]) -> Option<usize> {
    let text = raw::read(file).ok()??;
    let (root, _) = DeTable::parse_recoverable(&text);
    Some(raw::place(&text, find(root.get_ref(), parts)?).0)
}

/// Returns the file and the line of a value of the server's configuration, which may stand in a file of `conf.d`.
pub fn line_of_server(server: &Server, parts: &[Part<'_>]) -> Option<(PathBuf, usize)> {
    let named = RefCell::default();
    let files = join::read(&server.file, &named).ok().filter(|files| !files.is_empty())?;
    let sources = Sources { environment: &|name| std::env::var(name), folder: &server.home, files: &named };
    let document = Document::new(&files, sources);
    let (file, line, _) = document.place(find(&document.parse(), parts)?);
    Some((file.to_owned(), line))
}

/// Returns the place of a value.
fn find(root: &DeTable<'_>, parts: &[Part<'_>]) -> Option<usize> {
    let (Part::Key(key), rest) = parts.split_first()? else { return None };
    let mut found = root.get(*key)?;
    for part in rest {
        let value = found.get_ref();
        found = match part {
            Part::Key(key) => value.as_table()?.get(*key)?,
            Part::Nth(number) => value.as_array()?.get(*number)?,
            Part::Named(name) => value.as_array()?.iter().find(|item| {
                let found = item.get_ref().as_table().and_then(|table| table.get("name"));
                found.and_then(|found| found.get_ref().as_str()) == Some(*name)
            })?,
            Part::Text(text) => value.as_array()?.iter().find(|item| item.get_ref().as_str() == Some(*text))?,
        };
    }
    // What has no header of its own begins where the first of its keys does.
    Some(match found.get_ref() {
        DeValue::Table(table) if found.span().is_empty() => {
            table.iter().map(|(key, _)| key.span().start).min().unwrap_or(found.span().start)
        }
        _ => found.span().start,
    })
}

#[cfg(test)]
mod tests {
    use super::Part::{Key, Named, Nth, Text};
    use super::*;

    const FILE: &str = r#"
welcome_files = [
    "a.html",
    "b.html",
]
[files]
listings = true
[[files.cache_control]]
value = "one"
[[files.cache_control]]
value = "two"
[[servlet]]
name = "cart"
url_patterns = ["/cart/*"]
[[filter]]
name = "log"
[[filter.map]]
url_patterns = ["/a"]
[[filter.map]]
url_patterns = [
    "/b",
    "/c",
]
[defaults.context.remote_ip]
http_port = 80
"#;

    #[track_caller]
    fn check(parts: &[Part<'_>], line: Option<usize>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.toml");
        std::fs::write(&file, FILE).unwrap();
        assert_eq!(line_of(&file, parts), line, "{parts:?}");
    }

    #[test]
    fn values_are_found() {
        check(&[Key("welcome_files"), Text("b.html")], Some(4));
        check(&[Key("welcome_files"), Nth(0)], Some(3));
        check(&[Key("files")], Some(6));
        check(&[Key("files"), Key("listings")], Some(7));
        check(&[Key("files"), Key("cache_control"), Nth(1)], Some(10));
        check(&[Key("files"), Key("cache_control"), Nth(1), Key("value")], Some(11));
        check(&[Key("servlet"), Named("cart")], Some(12));
        check(&[Key("servlet"), Named("cart"), Key("url_patterns"), Text("/cart/*")], Some(14));
        check(&[Key("filter"), Named("log"), Key("map"), Nth(1), Key("url_patterns"), Text("/c")], Some(22));
        check(&[Key("defaults"), Key("context"), Key("remote_ip"), Key("http_port")], Some(25));
        check(&[Key("defaults"), Key("context"), Key("remote_ip")], Some(24));
    }

    #[test]
    fn what_is_not_there_has_no_line() {
        check(&[], None);
        check(&[Nth(0)], None);
        check(&[Key("none")], None);
        check(&[Key("welcome_files"), Text("c.html")], None);
        check(&[Key("welcome_files"), Nth(2)], None);
        check(&[Key("welcome_files"), Key("a")], None);
        check(&[Key("servlet"), Named("none")], None);
        check(&[Key("files"), Key("cache_control"), Named("one")], None);
        assert_eq!(line_of(Path::new("/nowhere"), &[Key("files")]), None);
    }
}
