//! `${env:NAME:-default}` and `${file:path}` in the strings of a configuration file.
//!
//! What is put in is not looked at again, so a secret may contain `${`. It is never shown in a message either.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env::VarError;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// LIMIT: a password, a key or a certificate is far smaller; a device or a log file named by mistake is not read whole.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where the values come from.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// `std::env::var`, but for tests.
    pub environment: &'a dyn Fn(&str) -> Result<String, VarError>,
    /// The folder that a relative `${file:...}` lies in.
    pub folder: &'a Path,
    pub files: &'a RefCell<Named>,
}

/// Files that settings depend on.
#[derive(Default)]
pub(crate) struct Named {
    /// Each that was asked for, whether it is there or not.
    pub all: BTreeSet<PathBuf>,
    /// Those that were read, and had not one byte.
    pub empty: BTreeSet<PathBuf>,
}

/// Why a value cannot be put in: what is wrong, and what to write instead.
pub(crate) type Refusal = (String, String);

/// Returns `text` with each `${...}` replaced. `$${` stands for `${`.
pub(crate) fn substitute(text: &str, sources: Sources<'_>) -> Result<String, Refusal> {
    let mut done = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if let Some(before) = rest[..start].strip_suffix('$') {
            done.push_str(before);
            done.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        done.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let Some(end) = inner.find('}') else {
            return Err((
                "`${` without its `}`".to_owned(),
                "add the `}`, or write `$${` for the two characters themselves".to_owned(),
            ));
        };
        done.push_str(&look_up(&inner[..end], sources)?);
        rest = &inner[end + 1..];
    }
    done.push_str(rest);
    Ok(done)
}

/// Returns what a text has put in, as it is written, but without defaults, which may be secrets.
pub(crate) fn references(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, inner) = (&rest[..start], &rest[start + 2..]);
        let Some(end) = inner.find('}').filter(|_| !before.ends_with('$')) else {
            rest = inner;
            continue;
        };
        let what = &inner[..end];
        found.push(format!(
            "${{{}}}",
            if what.starts_with("env:") { what.split(":-").next().unwrap_or(what) } else { what }
        ));
        rest = &inner[end + 1..];
    }
    found
}

fn look_up(inner: &str, sources: Sources<'_>) -> Result<String, Refusal> {
    if let Some(variable) = inner.strip_prefix("env:") {
        return environment_value(variable, sources.environment);
    }
    if let Some(path) = inner.strip_prefix("file:") {
        let path = sources.folder.join(path);
        sources.files.borrow_mut().all.insert(path.clone());
        return file_value(&path, sources.files);
    }
    Err((
        format!("{} names no value", crate::problem::quoted(&format!("${{{inner}}}"))),
        "write `${env:NAME}`, `${env:NAME:-default}` or `${file:path}`, or `$${` for the two characters themselves"
            .to_owned(),
    ))
}

fn environment_value(
    variable: &str,
    environment: &dyn Fn(&str) -> Result<String, VarError>,
) -> Result<String, Refusal> {
    let (name, default) = match variable.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (variable, None),
    };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err((
            format!("{} cannot be the name of an environment variable", crate::problem::quoted(name)),
            "write letters, digits and `_` only, as in `${env:NAME:-default}`".to_owned(),
        ));
    }
    match environment(name) {
        // As in a shell: `:-` stands in for an empty value too.
        Ok(value) if !value.is_empty() => Ok(value),
        Err(VarError::NotUnicode(_)) => {
            Err((format!("the environment variable `{name}` is not UTF-8"), "set it to UTF-8 text".to_owned()))
        }
        found => match (found, default) {
            (_, Some(default)) => Ok(default.to_owned()),
            (Ok(empty), None) => Ok(empty),
            (Err(_), None) => Err((
                format!("the environment variable `{name}` is not set"),
                format!("set it, or write a default, as in `${{env:{name}:-default}}`"),
            )),
        },
    }
}

/// Returns the file's text without the newline at its end, which editors and `echo` add.
fn file_value(path: &Path, named: &RefCell<Named>) -> Result<String, Refusal> {
    let refuse = |why: &str, instead: &str| {
        Err((format!("{} {why}", crate::problem::quoted(&path.display().to_string())), instead.to_owned()))
    };
    // Looked at first: opening a named pipe would wait for ever.
    match fs::metadata(path) {
        Err(error) => return refuse(&format!("cannot be read ({error})"), "create it, or correct the path"),
        Ok(found) if !found.is_file() => return refuse("is not a file", "name a file with the value in it"),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Err(error) => return refuse(&format!("cannot be read ({error})"), "let the user that Serval runs as read it"),
        Ok(len) if len as u64 > FILE_BYTES_MAX => {
            return refuse("is larger than 64KiB", "name a file with nothing but the value in it");
        }
        Ok(0) => drop(named.borrow_mut().empty.insert(path.to_owned())),
        Ok(_) => {}
    }
    let Ok(mut text) = String::from_utf8(bytes) else { return refuse("is not UTF-8", "name a text file") };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "pa${ss\n").unwrap();
        fs::write(folder.path().join("binary"), [0xff]).unwrap();
        fs::write(folder.path().join("large"), vec![b'x'; 64 * 1024 + 1]).unwrap();
        fs::write(folder.path().join("windows"), "a\n\r\n").unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        let environment = |name: &str| match name {
            "USER" => Ok("ada".to_owned()),
            "EMPTY" => Ok(String::new()),
            "BYTES" => Err(VarError::NotUnicode(Default::default())),
            _ => Err(VarError::NotPresent),
        };
        let found = match substitute(
            text,
            Sources { environment: &environment, folder: folder.path(), files: &RefCell::default() },
        ) {
            Ok(text) => text,
            Err((what, instead)) => format!("{what}; {instead}"),
        };
        assert_eq!(found.replace(&format!("{}/", folder.path().display()), ""), expected, "{text}");
    }

    #[test]
    fn values_are_put_in() {
        check("", "");
        check("plain $ {} }", "plain $ {} }");
        check("${env:USER}", "ada");
        check("a ${env:USER} b ${env:USER:-eve}!", "a ada b ada!");
        check("${env:NONE:-eve}", "eve");
        check("${env:NONE:-}", "");
        check("${env:EMPTY:-eve}", "eve");
        check("${env:EMPTY}", "");
        check("é${file:secret}é", "épa${ssé");
        check("${file:windows}${file:empty}", "a\n");
        check("$${env:USER}", "${env:USER}");
        check("$$${env:USER}", "$${env:USER}");
    }

    #[test]
    fn what_cannot_be_put_in_says_why() {
        check(
            "${env:NONE}",
            "the environment variable `NONE` is not set; set it, or write a default, as in `${env:NONE:-default}`",
        );
        check(
            "${env:}",
            "`\"\"` cannot be the name of an environment variable; write letters, digits and `_` only, as in `${env:NAME:-default}`",
        );
        check(
            "${env:A=B}",
            "`A=B` cannot be the name of an environment variable; write letters, digits and `_` only, as in `${env:NAME:-default}`",
        );
        check("${env:BYTES:-x}", "the environment variable `BYTES` is not UTF-8; set it to UTF-8 text");
        check(
            "${HOME}",
            "`${HOME}` names no value; write `${env:NAME}`, `${env:NAME:-default}` or `${file:path}`, or `$${` for the two characters themselves",
        );
        check("x${env:USER", "`${` without its `}`; add the `}`, or write `$${` for the two characters themselves");
        check(
            "${file:none}",
            "`none` cannot be read (No such file or directory (os error 2)); create it, or correct the path",
        );
        check("${file:.}", "`.` is not a file; name a file with the value in it");
        check("${file:binary}", "`binary` is not UTF-8; name a text file");
        check("${file:large}", "`large` is larger than 64KiB; name a file with nothing but the value in it");
    }
}
