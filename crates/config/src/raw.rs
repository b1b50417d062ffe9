//! A configuration file as it is written: every value with its place, unknown keys refused.
//!
//! `server` and `web` read their settings from it, key by key; what they ask a [`Table`] for are the keys it may have.
//! Each mistake is noted with its line and column, and a default stands in, so that one run finds all of them. It is
//! not serde, which stops at the first mistake, and knows places only where a type carries them.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::join::{self, Clash, File};
use crate::problem::{Problem, Problems, list, near_miss, quoted};
use crate::substitute::{Sources, substitute};
use crate::value;

/// LIMIT: no configuration is nearly this long, and a wrong file must not fill the memory.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// LIMIT: nobody reads more of them at once, and finding the line of each costs time by the length of the file.
const PROBLEMS_MAX: usize = 50;

/// A file being read, or several as one, and what was found to be wrong with it so far.
pub(crate) struct Document<'a> {
    /// Never empty; by their places.
    files: &'a [File],
    sources: Sources<'a>,
    problems: RefCell<Vec<(Option<usize>, Problem)>>,
    problems_left_off: Cell<usize>,
}

/// A string of the file. It has no `Debug`, which would show what may be a secret.
#[derive(Clone)]
pub(crate) struct Text {
    /// With `${...}` replaced.
    pub value: String,
    /// As it stands in the file: a message shows this one, for the other may hold a secret.
    pub written: String,
    /// The byte of the file at which it starts.
    pub at: usize,
}

impl Text {
    /// Returns true if something was put in, so that the string may stand for a number or a boolean.
    fn is_substituted(&self) -> bool {
        self.written.contains("${")
    }

    pub(crate) fn shown(&self) -> String {
        quoted(&self.written)
    }

    /// Returns advice that was made of the value, but where that was put in, since it may be a secret.
    pub(crate) fn advice(&self, made_of_value: String) -> String {
        match self.is_substituted() {
            true => "correct what is put in".to_owned(),
            false => made_of_value,
        }
    }
}

/// What a key of the user's own has.
pub(crate) enum Entry<'d, 'a> {
    Text(Text),
    Table(Table<'d, 'a>),
}

/// Reads a file's text. `Ok(None)` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Problems> {
    let refuse = |what: String, instead: &str| {
        let file = path.to_owned();
        Err(Problems(vec![Problem { file, line: None, column: None, what, instead: instead.to_owned() }]))
    };
    let unreadable = |error: io::Error| {
        refuse(format!("cannot be read: {error}"), "let the user that Serval runs as read it, and its folders")
    };
    // Looked at first: opening a named pipe would wait for ever.
    match fs::metadata(path) {
        // A link to nowhere is a mistake, not the absence of a file.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return refuse("is a link to a file that does not exist".to_owned(), "correct the link, or remove it");
        }
        Err(error) => return unreadable(error),
        Ok(found) if found.is_dir() => {
            return refuse("is a folder, but a file is needed".to_owned(), "name the file inside it");
        }
        Ok(found) if !found.is_file() => {
            return refuse("is not an ordinary file".to_owned(), "name a file of text");
        }
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            return refuse("is larger than 1MiB".to_owned(), "name a configuration file");
        }
        Ok(_) => {}
    }
    match fs::read(path).map(String::from_utf8) {
        Err(error) => unreadable(error),
        Ok(Ok(text)) => Ok(Some(text)),
        Ok(Err(error)) => {
            let good = error.utf8_error().valid_up_to();
            let (line, column) = place(&String::from_utf8_lossy(&error.as_bytes()[..good]), good);
            Err(Problems(vec![Problem {
                file: path.to_owned(),
                line: Some(line),
                column: Some(column),
                what: "a byte that is not UTF-8".to_owned(),
                instead: "save the file as UTF-8".to_owned(),
            }]))
        }
    }
}

impl<'a> Document<'a> {
    /// Parses the files and lets `interpret` make settings of them. Any problem noted meanwhile refuses them all.
    pub(crate) fn load<T>(
        files: &'a [File],
        sources: Sources<'a>,
        interpret: impl FnOnce(&Self, &Table<'_, 'a>) -> T,
    ) -> Result<T, Problems> {
        let document = Self::new(files, sources);
        let root = document.parse();
        // What the parser made of broken text would only bring up problems that are none.
        let is_good = document.problems.borrow().is_empty();
        let settings = is_good.then(|| {
            let table = Table::new(&document, &root, None, String::new());
            let settings = interpret(&document, &table);
            table.finish();
            settings
        });
        match settings {
            Some(settings) if document.problems.borrow().is_empty() => Ok(settings),
            _ => Err(document.into_problems()),
        }
    }

    pub(crate) fn new(files: &'a [File], sources: Sources<'a>) -> Self {
        Self { files, sources, problems: RefCell::default(), problems_left_off: Cell::default() }
    }

    /// Returns the tables of all files that are TOML.
    pub(crate) fn parse(&self) -> DeTable<'a> {
        let mut all = DeTable::new();
        for file in self.files {
            let (root, errors) = DeTable::parse_recoverable(&file.text);
            for error in &errors {
                let (what, instead) = syntax(error.message());
                self.problem(error.span().map(|span| span.start + file.begins), what, instead);
            }
            if errors.is_empty() {
                let root = join::moved(root.into_inner(), file.begins);
                for Clash { what, first, second } in join::join(&mut all, root, &|host| self.host_name(host)) {
                    let what = format!("{what}, at {}", self.shown(first));
                    self.problem(Some(second), what, "remove one of the two");
                }
            }
        }
        all
    }

    /// The name of a `[[host]]`, by which those of several files are one. None: it cannot be told, and is a problem later.
    fn host_name(&self, host: &DeTable<'_>) -> Option<String> {
        match host.get("name") {
            None => Some("localhost".to_owned()),
            Some(name) => Some(substitute(name.get_ref().as_str()?, self.sources).ok()?.to_lowercase()),
        }
    }

    /// Returns the file of a place, the line and the column.
    pub(crate) fn place(&self, at: usize) -> (&'a Path, usize, usize) {
        let after = self.files.partition_point(|file| file.begins <= at);
        let file = &self.files[after.saturating_sub(1)];
        let (line, column) = place(&file.text, at - file.begins);
        (&file.path, line, column)
    }

    fn shown(&self, at: usize) -> String {
        let (file, line, column) = self.place(at);
        format!("{}:{line}:{column}", file.display())
    }

    /// Returns where the first of two stands, for a problem at the second, if that is in another file.
    pub(crate) fn first_elsewhere(&self, first: Option<usize>, second: Option<usize>) -> String {
        match (first, second) {
            (Some(first), Some(second)) if self.place(first).0 != self.place(second).0 => {
                format!(" (the first is at {})", self.shown(first))
            }
            _ => String::new(),
        }
    }

    /// Notes that the settings depend on a file that a value names.
    pub(crate) fn depends_on(&self, file: &Path) {
        self.sources.files.borrow_mut().all.insert(file.to_owned());
    }

    /// Notes that something is wrong at a byte of the file, or, without one, with the file as a whole.
    pub(crate) fn problem(&self, at: Option<usize>, what: impl Into<String>, instead: impl Into<String>) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() == PROBLEMS_MAX {
            self.problems_left_off.set(self.problems_left_off.get() + 1);
            return;
        }
        let place = at.map(|at| self.place(at));
        problems.push((
            at,
            Problem {
                file: place.map_or_else(|| self.first(), |(file, ..)| file.to_owned()),
                line: place.map(|(_, line, _)| line),
                column: place.map(|(.., column)| column),
                what: what.into(),
                instead: instead.into(),
            },
        ));
    }

    fn first(&self) -> PathBuf {
        self.files[0].path.clone()
    }

    fn into_problems(self) -> Problems {
        let file = self.first();
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(at, _)| (at.is_none(), *at));
        let mut problems: Vec<Problem> = problems.into_iter().map(|(_, problem)| problem).collect();
        let left_off = self.problems_left_off.get();
        if left_off > 0 {
            problems.push(Problem {
                file,
                line: None,
                column: None,
                what: format!("and {left_off} more problems"),
                instead: "correct these first".to_owned(),
            });
        }
        Problems(problems)
    }

    fn text(&self, written: &str, at: usize) -> Option<Text> {
        match substitute(written, self.sources) {
            Ok(value) => Some(Text { value, written: written.to_owned(), at }),
            Err((what, instead)) => {
                self.problem(Some(at), what, instead);
                None
            }
        }
    }
}

/// A table of the file, and the keys that it was asked for.
pub(crate) struct Table<'d, 'a> {
    pub document: &'d Document<'a>,
    pub entries: &'d DeTable<'a>,
    /// Where its header stands; None for the top of the file.
    pub at: Option<usize>,
    /// As it is written: `[server]`, `[[host.context]]`; empty for the top of the file.
    pub name: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'d, 'a> Table<'d, 'a> {
    pub(crate) fn new(document: &'d Document<'a>, entries: &'d DeTable<'a>, at: Option<usize>, name: String) -> Self {
        Self { document, entries, at, name, asked: RefCell::default() }
    }

    /// Notes every key that was never asked for.
    pub(crate) fn finish(&self) {
        let asked = self.asked.borrow();
        for key in self.entries.keys().filter(|key| !asked.contains(&key.get_ref().as_ref())) {
            let written = key.get_ref();
            let (place, whose) = match self.name.as_str() {
                "" => (String::new(), "the file's".to_owned()),
                name => (format!(" in {name}"), "its".to_owned()),
            };
            let instead = match near_miss(written, asked.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("{whose} keys are {}", list(asked.iter().copied())),
            };
            self.document.problem(Some(key.span().start), format!("unknown key {}{place}", quoted(written)), instead);
        }
    }

    /// Returns a duration within its bounds, or the default.
    pub(crate) fn duration(&self, key: &'static str, default: Duration, bounds: RangeInclusive<Duration>) -> Duration {
        let example = value::show_duration(default);
        let quoted_example = format!("\"{example}\"");
        let Some(text) = self.text(key, "a duration", &quoted_example) else { return default };
        let Some(found) = value::duration(&text.value) else {
            self.wrong(
                &text,
                key,
                "is not a duration",
                format!("write a whole number with ms, s, m, h or d, as in `{key} = {quoted_example}`"),
            );
            return default;
        };
        if bounds.contains(&found) {
            return found;
        }
        self.wrong(
            &text,
            key,
            "is out of bounds",
            format!(
                "write {} to {}, as in `{key} = {quoted_example}`",
                value::show_duration(*bounds.start()),
                value::show_duration(*bounds.end()),
            ),
        );
        default
    }

    /// Returns a number of bytes within its bounds, or the default.
    pub(crate) fn bytes(&self, key: &'static str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let example = format!("\"{}\"", value::show_bytes(default));
        let found = self.number(key, "a byte size", &example, |text| value::bytes(text).map(i128::from));
        let advice = format!("{} to {}", value::show_bytes(*bounds.start()), value::show_bytes(*bounds.end()));
        self.bounded(key, found, default, bounds, (&advice, &example))
    }

    /// As [`Table::bytes`], with 0 beside the bounds, for a limit that can be switched off.
    pub(crate) fn bytes_or_zero(&self, key: &'static str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let example = format!("\"{}\"", value::show_bytes(default));
        let found = self.number(key, "a byte size", &example, |text| value::bytes(text).map(i128::from));
        let (least, most) = (value::show_bytes(*bounds.start()), value::show_bytes(*bounds.end()));
        match found {
            Some((0, ..)) => 0,
            found => self.bounded(key, found, default, bounds, (&format!("0, or {least} to {most}"), &example)),
        }
    }

    /// Returns one of a few whole numbers, or the first of them, the default.
    pub(crate) fn one_of(&self, key: &'static str, numbers: &[u64]) -> u64 {
        let (default, example) = (numbers[0], numbers[0].to_string());
        let Some((number, written, at)) = self.number(key, "a whole number", &example, |_| None) else {
            return default;
        };
        if let Some(found) = numbers.iter().find(|known| i128::from(**known) == number) {
            return *found;
        }
        let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let what = format!("`{key}` in {}: {written} is not known", self.name);
        self.document.problem(Some(at), what, format!("write one of {}", list(words.iter().map(String::as_str))));
        default
    }

    /// Returns a whole number within its bounds, or the default.
    pub(crate) fn count(&self, key: &'static str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        self.count_or(key, default, default, bounds)
    }

    /// Returns a whole number within its bounds, or `none` where there is no such one.
    pub(crate) fn count_or(&self, key: &'static str, example: u64, none: u64, bounds: RangeInclusive<u64>) -> u64 {
        let example = example.to_string();
        let found = self.number(key, "a whole number", &example, |_| None);
        let advice = format!("{} to {}", bounds.start(), bounds.end());
        self.bounded(key, found, none, bounds, (&advice, &example))
    }

    /// Returns a whole number that may be negative, if the key is there.
    pub(crate) fn signed(&self, key: &'static str, example: &str) -> Option<i32> {
        let (number, written, at) = self.number(key, "a whole number", example, |_| None)?;
        let found = i32::try_from(number).ok();
        if found.is_none() {
            let what = format!("`{key}` in {}: {written} is out of bounds", self.name);
            self.document.problem(Some(at), what, format!("write {} to {}", i32::MIN, i32::MAX));
        }
        found
    }

    /// Returns a boolean, or the default.
    pub(crate) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(found) = self.ask(key) else { return default };
        match found.get_ref() {
            DeValue::Boolean(flag) => *flag,
            DeValue::String(written) if written.contains("${") => {
                let Some(text) = self.document.text(written, found.span().start) else { return default };
                text.value.parse().unwrap_or_else(|_| {
                    self.wrong(&text, key, "does not become true or false", format!("write `{key} = {default}`"));
                    default
                })
            }
            _ => {
                self.wrong_type(key, found, "true or false", &default.to_string());
                default
            }
        }
    }

    /// Returns one of a few words, or the first of them, the default.
    pub(crate) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&'static str, T)]) -> T {
        let (example, default) = choices[0];
        let Some(text) = self.text(key, "a string", &format!("\"{example}\"")) else { return default };
        if let Some((_, found)) = choices.iter().find(|(word, _)| *word == text.value) {
            return *found;
        }
        let words = choices.iter().map(|(word, _)| *word);
        let instead = match near_miss(&text.written, words.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write one of {}", list(words)),
        };
        self.wrong(&text, key, "is not known", instead);
        default
    }

    /// Returns what `read` makes of a key, if the key is there.
    pub(crate) fn given<T>(&self, key: &'static str, read: impl FnOnce(&'static str) -> T) -> Option<T> {
        let value = read(key);
        self.entries.contains_key(key).then_some(value)
    }

    /// Returns true if the key is not there, or has an empty list.
    pub(crate) fn holds_none(&self, key: &str) -> bool {
        let list = self.entries.get(key).map(|found| found.get_ref().as_array());
        list.is_none_or(|list| list.is_some_and(|items| items.is_empty()))
    }

    /// Returns a boolean, or `None` for a word that stands for neither, and where the key is not there.
    pub(crate) fn flag_or_word(&self, key: &'static str, word: &str) -> Option<bool> {
        match self.entries.get(key)?.get_ref() {
            DeValue::Boolean(_) => Some(self.flag(key, false)),
            _ => {
                let kind = format!("true, false or \"{word}\"");
                let text = self.text(key, &kind, &format!("\"{word}\""))?;
                match text.value.as_str() {
                    "true" if text.is_substituted() => return Some(true),
                    "false" if text.is_substituted() => return Some(false),
                    value if value == word => {}
                    _ => self.wrong(&text, key, "is not known", format!("write {kind}")),
                }
                None
            }
        }
    }

    /// Returns a string, if the key is there. `example` is TOML; `kind` says what the string is for.
    pub(crate) fn text(&self, key: &'static str, kind: &str, example: &str) -> Option<Text> {
        let found = self.ask(key)?;
        match found.get_ref() {
            DeValue::String(written) => self.document.text(written, found.span().start),
            _ => {
                self.wrong_type(key, found, kind, example);
                None
            }
        }
    }

    /// Returns a string that is good, if the key is there. The last two say why one is not, and what to write instead.
    pub(crate) fn checked(
        &self,
        key: &'static str,
        example: &str,
        is_good: impl Fn(&str) -> bool,
        (why, instead): (&str, &str),
    ) -> Option<String> {
        let text = self.text(key, "a string", example)?;
        if !is_good(&text.value) {
            self.wrong(&text, key, why, instead);
            return None;
        }
        Some(text.value)
    }

    /// Returns a list of strings, if the key is there.
    pub(crate) fn texts(&self, key: &'static str, example: &str) -> Option<Vec<Text>> {
        let found = self.ask(key)?;
        let Some(items) = found.get_ref().as_array() else {
            self.wrong_type(key, found, "a list of strings", example);
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(written) => texts.extend(self.document.text(written, item.span().start)),
                None => self.wrong_type(key, item, "a list of strings", example),
            }
        }
        Some(texts)
    }

    /// Returns the keys and values of a table whose keys are the user's own, in the order of the file.
    pub(crate) fn pairs(&self, key: &'static str, example: &str) -> Vec<(Text, Text)> {
        let mut pairs = Vec::new();
        for (name, entry) in self.entries(key, "a string", example) {
            match entry {
                Entry::Text(text) => pairs.push((name, text)),
                Entry::Table(inner) => {
                    let what =
                        format!("{} in [{}] is a table, but a string is needed", name.shown(), self.inner_name(key));
                    self.document.problem(inner.at, what, format!("write for example `{example}`"));
                }
            }
        }
        pairs
    }

    /// Returns what a table has whose keys are the user's own, in the order of the file: strings and tables. `kind` says which
    /// of them are right.
    pub(crate) fn entries(&self, key: &'static str, kind: &str, example: &str) -> Vec<(Text, Entry<'d, 'a>)> {
        let Some(table) = self.table(key) else { return Vec::new() };
        let mut entries: Vec<_> = table.entries.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut read = Vec::new();
        for (name, found) in entries {
            let at = found.span().start;
            let entry = match found.get_ref() {
                DeValue::String(written) => self.document.text(written, at).map(Entry::Text),
                DeValue::Table(inner) => {
                    let shown = quoted(name.get_ref());
                    let name = format!("[{}]", table.inner_name(shown.trim_matches('`')));
                    Some(Entry::Table(Table::new(self.document, inner, Some(at), name)))
                }
                other => {
                    let (shown, found) = (quoted(name.get_ref()), kind_of(other));
                    let instead = match other {
                        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => "put it in quotes".to_owned(),
                        _ => format!("write for example `{example}`"),
                    };
                    let what = format!("{shown} in {} is {found}, but {kind} is needed", table.name);
                    self.document.problem(Some(at), what, instead);
                    None
                }
            };
            read.extend(entry.map(|entry| (name_text(name), entry)));
        }
        read
    }

    /// Returns a table inside this one, if it is there.
    pub(crate) fn table(&self, key: &'static str) -> Option<Table<'d, 'a>> {
        let found = self.ask(key)?;
        let name = format!("[{}]", self.inner_name(key));
        match found.get_ref() {
            DeValue::Table(entries) => Some(Table::new(self.document, entries, Some(found.span().start), name)),
            other => {
                // Not the value: of what is one here, each may be a secret.
                let what = format!("`{key}`{} is {}, but a table is needed", self.place(), kind_of(other));
                let instead = format!("write {name}, and its keys below it");
                self.document.problem(Some(found.span().start), what, instead);
                None
            }
        }
    }

    /// Returns a list of tables, if it is there.
    pub(crate) fn tables(&self, key: &'static str) -> Option<Vec<Table<'d, 'a>>> {
        let found = self.ask(key)?;
        let name = format!("[[{}]]", self.inner_name(key));
        let refuse = |found: &Spanned<DeValue<'_>>| {
            let kind = describe(found.get_ref());
            let what = format!("`{key}`{} is {kind}, but a list of tables is needed", self.place());
            let instead = format!("write {name} with two brackets, once for each, and its keys below it");
            self.document.problem(Some(found.span().start), what, instead);
        };
        let Some(items) = found.get_ref().as_array() else {
            refuse(found);
            return None;
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(entries) => {
                    tables.push(Table::new(self.document, entries, Some(item.span().start), name.clone()));
                }
                None => refuse(item),
            }
        }
        Some(tables)
    }

    /// Returns where a key of this table has its value, for problems that are found later.
    pub(crate) fn place_of(&self, key: &str) -> Option<usize> {
        self.entries.get(key).map(|found| found.span().start)
    }

    /// Notes a value that is a string, but not a right one.
    pub(crate) fn wrong(&self, text: &Text, key: &str, why: &str, instead: impl Into<String>) {
        self.document.problem(Some(text.at), format!("`{key}` in {}: {} {why}", self.name, text.shown()), instead);
    }

    /// Returns the number, as it was written, and where. `read` says how a string is read that no number stands for.
    fn number(
        &self,
        key: &'static str,
        kind: &str,
        example: &str,
        read: impl Fn(&str) -> Option<i128>,
    ) -> Option<(i128, String, usize)> {
        let found = self.ask(key)?;
        let at = found.span().start;
        match found.get_ref() {
            DeValue::Integer(integer) => {
                // What does not fit is out of every bound.
                let number = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
                Some((number, quoted(&integer.to_string()), at))
            }
            DeValue::String(written) => {
                let text = self.document.text(written, at)?;
                let number = read(&text.value)
                    .or_else(|| text.is_substituted().then(|| text.value.trim().parse().ok()).flatten());
                if number.is_none() {
                    self.wrong(&text, key, &format!("is not {kind}"), format!("write for example `{key} = {example}`"));
                }
                number.map(|number| (number, text.shown(), at))
            }
            _ => {
                self.wrong_type(key, found, kind, example);
                None
            }
        }
    }

    fn bounded(
        &self,
        key: &str,
        found: Option<(i128, String, usize)>,
        default: u64,
        bounds: RangeInclusive<u64>,
        (advice, example): (&str, &str),
    ) -> u64 {
        let Some((number, written, at)) = found else { return default };
        match u64::try_from(number) {
            Ok(number) if bounds.contains(&number) => number,
            _ => {
                let what = format!("`{key}` in {}: {written} is out of bounds", self.name);
                self.document.problem(Some(at), what, format!("write {advice}, as in `{key} = {example}`"));
                default
            }
        }
    }

    fn wrong_type(&self, key: &str, found: &Spanned<DeValue<'_>>, kind: &str, example: &str) {
        let what = format!("`{key}`{} is {}, but {kind} is needed", self.place(), describe(found.get_ref()));
        self.document.problem(Some(found.span().start), what, format!("write for example `{key} = {example}`"));
    }

    fn ask(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().push(key);
        self.entries.get(key)
    }

    fn place(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) }
    }

    /// Returns a string as the file has it, in quotes, if the key is there and has one.
    pub(crate) fn written(&self, key: &str) -> Option<String> {
        self.entries.get(key)?.get_ref().as_str().map(quoted)
    }

    fn inner_name(&self, key: &str) -> String {
        match self.name.trim_matches(['[', ']']) {
            "" => key.to_owned(),
            outer => format!("{outer}.{key}"),
        }
    }
}

fn name_text(name: &Spanned<std::borrow::Cow<'_, str>>) -> Text {
    Text { value: name.get_ref().to_string(), written: name.get_ref().to_string(), at: name.span().start }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {}", quoted(text)),
        DeValue::Integer(number) => format!("the number {}", quoted(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", quoted(number.as_str())),
        DeValue::Boolean(flag) => format!("`{flag}`"),
        DeValue::Datetime(time) => format!("the date {}", quoted(&time.to_string())),
        DeValue::Array(_) | DeValue::Table(_) => kind_of(value).to_owned(),
    }
}

/// The same of what may be a secret.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Returns what is wrong with the text, and what to write instead, for a message of the parser.
fn syntax(message: &str) -> (String, String) {
    let instead = match message {
        "duplicate key" => "remove one of the two, or join the two tables",
        "recursion limit" => "write fewer levels",
        _ => "write `key = value`, `[table]` or `[[table]]`, with strings in quotes",
    };
    (format!("not TOML: {}", message.replace('\n', ", ")), instead.to_owned())
}

/// Returns the line and the column, in characters, of a byte of `text`, both from 1.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[line_start..].chars().count() + 1)
}
