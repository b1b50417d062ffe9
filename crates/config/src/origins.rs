//! Where the values of a configuration stand in its files, and what was put in there. Used by `settings`.

use std::collections::HashMap;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use crate::join::File;
use crate::raw::Table;
use crate::substitute::references;

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No file sets it.
    Default,
    /// The command that started the server does, as it is written, whatever the files say.
    Command(&'static str),
    /// A file sets it.
    File {
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What was put in there, as it is written, without defaults: `${env:NAME}`, `${file:path}`.
        put_in: Vec<String>,
    },
}

/// The places of all values and tables of a configuration, each by its way from the top: `listener[0].address`.
#[derive(Default)]
pub(crate) struct Origins<'a> {
    files: &'a [File],
    /// Of each file, where its lines end: a file may have many values.
    ends: Vec<Vec<usize>>,
    all: HashMap<String, Origin>,
}

impl<'a> Origins<'a> {
    pub(crate) fn of(files: &'a [File], top: &Table<'_, '_>) -> Origins<'a> {
        let ends = files.iter().map(|file| file.text.match_indices('\n').map(|(at, _)| at).collect()).collect();
        let mut origins = Origins { files, ends, all: HashMap::new() };
        origins.table("", top.entries);
        origins
    }

    pub(crate) fn get(&self, way: &str) -> Option<&Origin> {
        self.all.get(way)
    }

    fn table(&mut self, outer: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let way = way(outer, key.get_ref());
            // What has no header of its own stands where its key does.
            let at = if value.span().is_empty() { key.span().start } else { value.span().start };
            self.value(way, value.get_ref(), at);
        }
    }

    fn value(&mut self, way: String, value: &DeValue<'_>, at: usize) {
        match value {
            DeValue::Table(inner) => self.table(&way, inner),
            DeValue::Array(items) => {
                for (number, item) in items.iter().enumerate().filter(|(_, item)| item.get_ref().is_table()) {
                    self.value(format!("{way}[{number}]"), item.get_ref(), item.span().start);
                }
            }
            _ => {}
        }
        let texts = match value {
            DeValue::Array(items) => items.iter().filter_map(|item| item.get_ref().as_str()).collect(),
            value => Vec::from_iter(value.as_str()),
        };
        let put_in = texts.into_iter().flat_map(references).collect();
        let number = self.files.partition_point(|file| file.begins <= at).saturating_sub(1);
        let Some(file) = self.files.get(number) else { return };
        let line = self.ends[number].partition_point(|end| file.begins + end < at) + 1;
        self.all.insert(way, Origin::File { file: file.path.clone(), line, put_in });
    }
}

/// Returns the way to a key of a table; names of the user's own may have to stand in quotes.
pub(crate) fn way(outer: &str, key: &str) -> String {
    let is_bare =
        |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let key = if is_bare(key) { key.to_owned() } else { crate::settings::text(key) };
    if outer.is_empty() { key } else { format!("{outer}.{key}") }
}
