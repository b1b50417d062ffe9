//! `server.toml` and the files of `conf.d` beside it as one: their tables joined, each value with its place.
//!
//! Tables that stand in several files are joined key by key, lists of tables one behind the other, and a `[[host]]` of a name that an
//! earlier file has adds to that host. A key that two files set is a mistake: no file goes before another.
//!
//! `raw` calls it. The values of all files lie in one range of places: those of each file behind those of the one before.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::problem::{Problem, Problems, quoted};
use crate::raw;

/// LIMIT: nobody splits a configuration into so many files; a folder of something else is not read whole.
const FILES_MAX: usize = 1000;

/// The folder beside server.toml.
pub(crate) const FOLDER: &str = "conf.d";

/// A file of a configuration, and which places are its own.
pub(crate) struct File {
    pub path: PathBuf,
    pub text: String,
    /// The place of its first byte.
    pub begins: usize,
}

impl File {
    fn end(&self) -> usize {
        self.begins + self.text.len()
    }
}

/// Returns the file and its text, and behind it those of the folder, by their names. `Ok` without any: there is no such file. `named`
/// gets them all, also those that cannot be read.
pub(crate) fn read(path: &Path, named: &RefCell<BTreeSet<PathBuf>>) -> Result<Vec<File>, Problems> {
    named.borrow_mut().insert(path.to_owned());
    let Some(text) = raw::read(path)? else { return Ok(Vec::new()) };
    let mut files = vec![File { path: path.to_owned(), text, begins: 0 }];
    let mut problems = Vec::new();
    for path in beside(path)? {
        named.borrow_mut().insert(path.clone());
        match raw::read(&path) {
            Ok(Some(text)) => {
                let begins = files.last().map_or(0, File::end) + 1;
                files.push(File { path, text, begins });
            }
            // Removed since the folder was listed.
            Ok(None) => {}
            Err(Problems(mut of_file)) => problems.append(&mut of_file),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(Problems(problems)) }
}

/// The files of the folder by their names: `*.toml`, but for hidden ones, which editors leave.
fn beside(path: &Path) -> Result<Vec<PathBuf>, Problems> {
    let folder = path.with_file_name(FOLDER);
    let refuse = |what: String, instead: &str| {
        let file = folder.clone();
        Problems(vec![Problem { file, line: None, column: None, what, instead: instead.to_owned() }])
    };
    let is_one = |path: &PathBuf| {
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !is_hidden && path.extension().is_some_and(|extension| extension == "toml")
    };
    let list = || fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>();
    let mut paths: Vec<PathBuf> = match list() {
        Ok(paths) => paths.into_iter().filter(is_one).collect(),
        // A link to nowhere is a mistake, not the absence of a folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&folder).is_err() => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let instead = "make it a folder of files such as `10-shop.toml`, or remove it";
            return Err(refuse("is not a folder".to_owned(), instead));
        }
        Err(error) => {
            let instead = "let the user that Serval runs as read it, or remove it";
            return Err(refuse(format!("cannot be read: {error}"), instead));
        }
    };
    if paths.len() > FILES_MAX {
        let what = format!("has {} files, but {FILES_MAX} are read at most", paths.len());
        return Err(refuse(what, "join some of them"));
    }
    paths.sort();
    Ok(paths)
}

/// Moves all places of a table, which begin at 0, to where its file begins.
pub(crate) fn moved(table: DeTable<'_>, begins: usize) -> DeTable<'_> {
    let span = |span: std::ops::Range<usize>| span.start + begins..span.end + begins;
    let mut all = DeTable::new();
    for (key, value) in table {
        let (at, found) = (span(value.span()), value.into_inner());
        let found = match found {
            DeValue::Table(inner) => DeValue::Table(moved(inner, begins)),
            DeValue::Array(items) => DeValue::Array(moved_items(items, begins)),
            other => other,
        };
        all.insert(Spanned::new(span(key.span()), key.into_inner()), Spanned::new(at, found));
    }
    all
}

fn moved_items(items: DeArray<'_>, begins: usize) -> DeArray<'_> {
    let mut all = DeArray::new();
    for item in items {
        let span = item.span();
        let found = match item.into_inner() {
            DeValue::Table(inner) => DeValue::Table(moved(inner, begins)),
            DeValue::Array(inner) => DeValue::Array(moved_items(inner, begins)),
            other => other,
        };
        all.push(Spanned::new(span.start + begins..span.end + begins, found));
    }
    all
}

/// A key that two files set.
pub(crate) struct Clash {
    pub what: String,
    pub first: usize,
    pub second: usize,
}

/// Joins the tables of the next file to those of the ones before. `name_of` returns the name of a host.
pub(crate) fn join<'a>(
    all: &mut DeTable<'a>,
    next: DeTable<'a>,
    name_of: &dyn Fn(&DeTable<'_>) -> Option<String>,
) -> Vec<Clash> {
    let mut joining = Joining { name_of, clashes: Vec::new() };
    joining.table("", all, next);
    joining.clashes
}

struct Joining<'n> {
    name_of: &'n dyn Fn(&DeTable<'_>) -> Option<String>,
    clashes: Vec<Clash>,
}

impl Joining<'_> {
    fn table<'a>(&mut self, name: &str, all: &mut DeTable<'a>, next: DeTable<'a>) {
        for (key, value) in next {
            let first = all.get_key_value(&**key.get_ref()).map(|(key, _)| key.span().start);
            let (Some(first), Some(here)) = (first, all.get_mut(&**key.get_ref())) else {
                all.insert(key, value);
                continue;
            };
            let inner = if name.is_empty() { key.get_ref().to_string() } else { format!("{name}.{}", key.get_ref()) };
            let span = value.span();
            match (here.get_mut(), value.into_inner()) {
                (DeValue::Table(here), DeValue::Table(value)) => self.table(&inner, here, value),
                (DeValue::Array(here), DeValue::Array(value)) if are_tables(here, &value) => match inner.as_str() {
                    "host" => self.hosts(here, value),
                    _ => value.into_iter().for_each(|item| here.push(item)),
                },
                _ => {
                    let place = if name.is_empty() { String::new() } else { format!(" in [{name}]") };
                    let what = format!("{}{place} is set already", quoted(key.get_ref()));
                    let second = if key.span().is_empty() { span.start } else { key.span().start };
                    self.clashes.push(Clash { what, first, second });
                }
            }
        }
    }

    /// Two of one file that have one name stay two, which is a mistake of that file.
    fn hosts<'a>(&mut self, all: &mut DeArray<'a>, next: DeArray<'a>) {
        let names = |hosts: &DeArray<'_>| -> Vec<Option<String>> {
            hosts.iter().map(|host| host.get_ref().as_table().and_then(self.name_of)).collect()
        };
        let (known, named) = (names(all), names(&next));
        let mut joined = vec![false; known.len()];
        for (host, name) in next.into_iter().zip(named) {
            let twin = known.iter().position(|known| name.is_some() && *known == name).filter(|twin| !joined[*twin]);
            let Some(twin) = twin else {
                all.push(host);
                continue;
            };
            joined[twin] = true;
            if let (DeValue::Table(all), DeValue::Table(mut host)) = (all.as_mut()[twin].get_mut(), host.into_inner()) {
                host.remove("name");
                self.table("host", all, host);
            }
        }
    }
}

/// Two empty lists are one key that is set twice.
fn are_tables(one: &DeArray<'_>, other: &DeArray<'_>) -> bool {
    let mut items = one.iter().chain(other.iter()).peekable();
    items.peek().is_some() && items.all(|item| item.get_ref().is_table())
}
