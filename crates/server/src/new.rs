//! `serval new NAME`: makes a webapp that runs as it is, from the files in `templates/`.
//!
//! In a home it is made in the folder of its webapps. Elsewhere it becomes a home of its own, so that two commands are
//! enough to see it. It is made beside its place and moved there whole; what is there already is never touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serval_config::{Address, ContextName, Host, Server};

use crate::{load, sdk};

/// LIMIT: bytes of a name. It becomes part of the names of files.
const NAME_BYTES_MAX: usize = 64;
const CONFIGURATION: &str = "conf/server.toml";
/// Names that Rust or our SDK has taken for itself.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "serval-abi",
    "serval-macros",
    "serval-servlet",
    "servlet",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

macro_rules! template {
    ($($path:literal from $file:literal,)*) => {
        &[$(($path, include_str!(concat!("../templates/", $file)))),*]
    };
}
/// Paths in a folder, and the files' text.
type Files = &'static [(&'static str, &'static str)];
const PAGE: Files = template! {
    "index.html" from "page/index.html",
    "style.css" from "page/style.css",
    "WEB-INF/web.toml" from "page/web.toml",
    "WEB-INF/.gitignore" from "page/gitignore",
};
const RUST: Files = template! {
    "WEB-INF/Cargo.toml" from "rust/Cargo.toml",
    "WEB-INF/src/lib.rs" from "rust/lib.rs",
};
const C: Files = template! {
    "WEB-INF/compile_flags.txt" from "c/compile_flags.txt",
    "WEB-INF/src/servlets.c" from "c/servlets.c",
};
const CPP: Files = template! {
    "WEB-INF/compile_flags.txt" from "cpp/compile_flags.txt",
    "WEB-INF/src/servlets.cpp" from "cpp/servlets.cpp",
};
const HOME: Files = template! {
    "conf/server.toml" from "../../../conf/server.toml",
    ".gitignore" from "home/gitignore",
};

#[derive(Args)]
pub struct New {
    /// Its name, and the path it is served under: `shop` is /shop, `ROOT` is /, `shop#eu` is /shop/eu
    name: String,
    /// What its servlets are written in
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// The folder to make it in [default: the webapps of the home; without a home, this folder]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Language {
    Rust,
    C,
    Cpp,
}

pub fn run(new: &New, home: Option<PathBuf>, config: Option<PathBuf>) -> ExitCode {
    match make(new, home, config) {
        Ok(said) => {
            print!("{said}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Returns what to tell whoever asked for it, or why there is nothing new.
fn make(new: &New, home: Option<PathBuf>, config: Option<PathBuf>) -> Result<String, String> {
    let name = Name::of(&new.name)?;
    let asked = new.path.as_deref().unwrap_or(Path::new("."));
    // Without the `..` of what was typed, for what lies above it.
    let Some(start) = fs::canonicalize(asked).ok().filter(|folder| folder.is_dir()) else {
        let asked = asked.display();
        return Err(format!("there is no folder {asked}: make it first, or name another one with --path"));
    };
    let home = if home.is_none() && config.is_none() { home_above(&start) } else { home };
    if home.is_none() && config.is_none() {
        return make_home(new, &name, &start);
    }
    make_in_home(new, &name, &load(home, config)?)
}

fn make_in_home(new: &New, name: &Name, config: &Server) -> Result<String, String> {
    let seen = |folder: &Path| fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let wanted = new.path.as_deref().unwrap_or(&config.hosts[0].webapps);
    let host = config.hosts.iter().find(|host| seen(&host.webapps) == seen(wanted));
    // Of a folder of webapps, or of any other, which the configuration then has to name.
    let (folder, deployed) = match host {
        Some(host) => (host.webapps.clone(), host.auto_deploy),
        None => (seen(wanted), false),
    };
    let host = host.unwrap_or(&config.hosts[0]);
    let webapp = folder.join(&name.folder);
    let entry = host.contexts.iter().find(|entry| entry.webapp == webapp);
    if let Some(other) = host.contexts.iter().find(|other| other.path == name.path && other.webapp != webapp) {
        let file = config.file.display();
        let other = other.upstream.as_ref().map_or_else(|| other.webapp.display().to_string(), ToString::to_string);
        return Err(format!("{file} serves {other} at {}: take another name", name.shown()));
    }
    // For editors and for cargo by hand, before the server's first build, which does it too.
    if let Err(error) = sdk::unpack(&config.var) {
        let var = config.var.display();
        eprintln!("warning: the SDK cannot be written into {var}: {error}; until serval does, no editor finds it");
    }
    let sdk = sdk_from(&sdk::folder(&config.var), &folder, &config.home);
    put_in_place(&webapp, |unfinished| write_webapp(unfinished, new.lang, name, &sdk))?;

    let served = match entry {
        Some(entry) => entry.path.clone(),
        None => name.path.clone(),
    };
    let mut steps = Vec::new();
    if entry.is_none() && !deployed {
        steps.push(format!(
            "Name it in {}, below [[host]]:\n\n    [[host.context]]\n    path = {served:?}\n    webapp = {:?}\n",
            config.file.display(),
            webapp.display().to_string(),
        ));
    }
    if !config.sources {
        steps.push(format!("Let serval build it: `sources = true` below [build] in {}\n", config.file.display()));
    }
    let run = match config.home.join(CONFIGURATION) == config.file {
        true => format!("serval run --home {}", shell(&config.home)),
        false => format!("serval run --home {} --config {}", shell(&config.home), shell(&config.file)),
    };
    steps.push(match steps.is_empty() {
        true => format!("A serval that runs here builds it now. If none does:\n\n    {run}\n"),
        false => format!("Start serval, or stop it and start it again:\n\n    {run}\n"),
    });
    steps.push(open(config, host, &served));
    steps.push(edit(&webapp, new.lang));
    Ok(format!("Made {}\n\n{}", webapp.display(), steps.join("\n")))
}

/// Makes a home with the webapp in it: a folder of its own, in which `serval` alone is enough.
fn make_home(new: &New, name: &Name, start: &Path) -> Result<String, String> {
    let home = start.join(&name.folder);
    let in_home = Path::new("webapps").join(&name.folder);
    put_in_place(&home, |unfinished| {
        write(unfinished, HOME, &[])?;
        sdk::unpack(&unfinished.join("var"))?;
        let sdk = Path::new("../../..").join(sdk::folder(Path::new("var"))).display().to_string();
        write_webapp(&unfinished.join(&in_home), new.lang, name, &sdk)
    })?;
    let config = load(Some(home.clone()), None)?;
    let run = format!("serval run --home {}", shell(&home));
    Ok(format!(
        "Made {}, with conf/server.toml and the webapp {}\n\nStart it:\n\n    {run}\n\n{}\n{}",
        home.display(),
        in_home.display(),
        open(&config, &config.hosts[0], &name.path),
        edit(&home.join(&in_home), new.lang)
    ))
}

fn open(config: &Server, host: &Host, path: &str) -> String {
    let by_tcp = config.listeners.iter().find_map(|listener| match listener.address {
        Address::Tcp(address) => Some((address, if listener.tls.is_some() { "https" } else { "http" })),
        Address::Unix(_) => None,
    });
    let Some((address, scheme)) = by_tcp.filter(|(address, _)| address.port() != 0) else {
        return format!("Open {path}/ at the address that it prints.\n");
    };
    let authority = match config.hosts[0] == *host {
        true if address.ip().is_unspecified() => format!("localhost:{}", address.port()),
        true => address.to_string(),
        false => format!("{}:{}", host.name, address.port()),
    };
    format!("Open {scheme}://{authority}{path}/\n")
}

fn edit(webapp: &Path, language: Language) -> String {
    format!("Edit {}: each save is built.\n", webapp.join("WEB-INF/src").join(language.source()).display())
}

/// The home that a folder lies in, as `git` and `cargo` find theirs.
fn home_above(start: &Path) -> Option<PathBuf> {
    start.ancestors().find(|folder| folder.join(CONFIGURATION).is_file()).map(Path::to_owned)
}

impl Language {
    fn files(self) -> Files {
        match self {
            Language::Rust => RUST,
            Language::C => C,
            Language::Cpp => CPP,
        }
    }

    /// In WEB-INF/src.
    fn source(self) -> &'static str {
        match self {
            Language::Rust => "lib.rs",
            Language::C => "servlets.c",
            Language::Cpp => "servlets.cpp",
        }
    }
}

/// A name that can be that of a folder, of a context and, more or less, of a package.
#[derive(Debug)]
struct Name {
    folder: String,
    /// `""` for the root.
    path: String,
    package: String,
}

impl Name {
    fn of(written: &str) -> Result<Name, String> {
        let refuse = |why: &str, instead: String| Err(format!("`{}` {why}: {instead}", written.escape_debug()));
        if let Some((folder, last)) = written.trim_end_matches('/').rsplit_once('/') {
            let folder = if folder.is_empty() { "/" } else { folder };
            let instead = format!("write `serval new {last} --path {}`", shell(Path::new(folder)));
            return refuse("is a path, not a name", instead);
        }
        let is_good = |char: char| char.is_ascii_alphanumeric() || "_-#".contains(char);
        let advice = || match suggested(written) {
            Some(name) => format!("write for example `{name}`"),
            None => "write letters, digits, `-` and `_`, as in `shop`".to_owned(),
        };
        if written.is_empty() || !written.chars().all(is_good) {
            return refuse("has characters other than letters, digits, `-` and `_`, or none", advice());
        }
        if written.len() > NAME_BYTES_MAX {
            return refuse("is too long", format!("write {NAME_BYTES_MAX} letters at most"));
        }
        if written.contains("##") {
            return refuse("names a version, which is not supported yet", advice());
        }
        let context = ContextName::from_folder(written).ok();
        let starts_well = written.starts_with(|char: char| char.is_ascii_alphanumeric());
        let Some(context) = context.filter(|_| starts_well) else {
            return refuse("cannot be the name of a webapp", advice());
        };
        let lower = written.to_ascii_lowercase().replace('#', "-");
        let taken =
            TAKEN.contains(&lower.replace('_', "-").as_str()) || lower.starts_with(|c: char| c.is_ascii_digit());
        let package = if taken { format!("app-{lower}") } else { lower };
        Ok(Name { folder: written.to_owned(), path: context.path, package })
    }

    fn shown(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }
}

/// A good name that is near to what was written.
fn suggested(written: &str) -> Option<String> {
    let mut name = String::new();
    for char in written.chars() {
        match char {
            _ if char.is_ascii_alphanumeric() || char == '_' => name.push(char),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(NAME_BYTES_MAX);
    let name = name.trim_matches(['-', '_']);
    Some(name.to_owned()).filter(|name| ContextName::from_folder(name).is_ok())
}

/// How a file in WEB-INF names the SDK: from there if both lie in the home, so that the home can be moved.
fn sdk_from(sdk: &Path, folder: &Path, home: &Path) -> String {
    // A link would lead `..` elsewhere.
    let [sdk, folder, home] =
        [sdk, folder, home].map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
    match (sdk.strip_prefix(&home), folder.strip_prefix(&home)) {
        (Ok(sdk), Ok(folder)) => {
            // Up from the webapp's WEB-INF, and from the webapp.
            let up = "../".repeat(folder.components().count() + 2);
            format!("{up}{}", sdk.display())
        }
        _ => sdk.display().to_string(),
    }
}

fn write_webapp(webapp: &Path, language: Language, name: &Name, sdk: &str) -> io::Result<()> {
    let values = [
        ("@NAME@", name.folder.as_str()),
        ("@PACKAGE@", &name.package),
        ("@SOURCE@", language.source()),
        ("@VERSION@", env!("CARGO_PKG_VERSION")),
    ];
    // Of TOML. The other languages have it in comments and in a list of words.
    let quoted = sdk.replace('\\', "\\\\").replace('"', "\\\"");
    let sdk = ("@SDK@", if language == Language::Rust { quoted.as_str() } else { sdk });
    let values: Vec<(&str, &str)> = values.into_iter().chain([sdk]).collect();
    write(webapp, PAGE, &values)?;
    write(webapp, language.files(), &values)
}

fn write(folder: &Path, files: Files, values: &[(&str, &str)]) -> io::Result<()> {
    for (path, text) in files {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        let text = values.iter().fold((*text).to_owned(), |text, (place, value)| text.replace(place, value));
        fs::write(file, text)?;
    }
    Ok(())
}

/// Has `fill` fill a new folder, and moves it to `place`, where there must be nothing.
fn put_in_place(place: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), String> {
    let there = || format!("{} is there already: take another name, or remove it first", place.display());
    if place.symlink_metadata().is_ok() {
        return Err(there());
    }
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    // Hidden: a server that runs does not take it for a webapp.
    let unfinished = Unfinished(place.with_file_name(format!(".{name}.{}", std::process::id())));
    let made = fs::create_dir(&unfinished.0).and_then(|()| fill(&unfinished.0));
    made.and_then(|()| move_to(&unfinished.0, place)).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => there(),
        _ => {
            let folder = place.parent().unwrap_or(place).display();
            format!("{folder} cannot be written: {error}; let this user write it, or name another folder with --path")
        }
    })
}

/// Never replaces what is there, an empty folder neither.
fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it. We have looked before.
        Err(rustix::io::Errno::INVAL) => fs::rename(from, to),
        moved => Ok(moved?),
    }
}

/// A folder that is removed, unless it has been moved away.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A path as one would type it.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |char: char| char.is_alphanumeric() || "/._-+,:@%".contains(char);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (written, path, package) in [
            ("shop", "/shop", "shop"),
            ("My_Shop-2", "/My_Shop-2", "my_shop-2"),
            ("ROOT", "", "root"),
            ("shop#eu", "/shop/eu", "shop-eu"),
            ("2048", "/2048", "app-2048"),
            ("test", "/test", "app-test"),
            ("proc_macro", "/proc_macro", "app-proc_macro"),
            ("servlet", "/servlet", "app-servlet"),
        ] {
            let name = Name::of(written).unwrap();
            assert_eq!((name.path.as_str(), name.package.as_str()), (path, package), "{written}");
        }
    }

    #[test]
    fn what_cannot_be_a_name() {
        let other = "has characters other than letters, digits, `-` and `_`, or none";
        for (written, expected) in [
            ("", format!("`` {other}: write letters, digits, `-` and `_`, as in `shop`")),
            ("my shop", format!("`my shop` {other}: write for example `my-shop`")),
            ("shop.tmp", format!("`shop.tmp` {other}: write for example `shop-tmp`")),
            ("größe", format!("`größe` {other}: write for example `gr-e`")),
            ("..", format!("`..` {other}: write letters, digits, `-` and `_`, as in `shop`")),
            ("a\nb", format!("`a\\nb` {other}: write for example `a-b`")),
            ("sites/shop", "`sites/shop` is a path, not a name: write `serval new shop --path sites`".into()),
            ("/shop/", "`/shop/` is a path, not a name: write `serval new shop --path /`".into()),
            ("a b/shop", "`a b/shop` is a path, not a name: write `serval new shop --path 'a b'`".into()),
            ("shop##2", "`shop##2` names a version, which is not supported yet: write for example `shop-2`".into()),
            ("_shop", "`_shop` cannot be the name of a webapp: write for example `shop`".into()),
            ("a#", "`a#` cannot be the name of a webapp: write for example `a`".into()),
            (
                "Web-Inf",
                "`Web-Inf` cannot be the name of a webapp: write letters, digits, `-` and `_`, as in `shop`".into(),
            ),
            (&"a".repeat(65), format!("`{}` is too long: write 64 letters at most", "a".repeat(65))),
        ] {
            assert_eq!(Name::of(written).unwrap_err(), expected);
        }
    }

    #[test]
    fn where_the_sdk_is_seen_from() {
        let home = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(home.path()).unwrap();
        let [sdk, webapps, outside] = ["home/var/sdk/1", "home/a/webapps", "outside"].map(|path| home.join(path));
        for folder in [&sdk, &webapps, &outside] {
            fs::create_dir_all(folder).unwrap();
        }
        assert_eq!(sdk_from(&sdk, &webapps, &home.join("home")), "../../../../var/sdk/1");
        assert_eq!(sdk_from(&sdk, &outside, &home.join("home")), sdk.display().to_string());
        std::os::unix::fs::symlink(&outside, home.join("home/link")).unwrap();
        assert_eq!(sdk_from(&sdk, &home.join("home/link"), &home.join("home")), sdk.display().to_string());
    }

    #[test]
    fn no_place_of_a_template_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let name = Name::of("shop").unwrap();
        for (path, language) in [("rust", Language::Rust), ("c", Language::C), ("cpp", Language::Cpp)] {
            let webapp = folder.path().join(path);
            write_webapp(&webapp, language, &name, "a\"b").unwrap();
            assert!(webapp.join("WEB-INF/src").join(language.source()).is_file());
            for (file, _) in PAGE.iter().chain(language.files()) {
                let text = fs::read_to_string(webapp.join(file)).unwrap();
                assert!(!["@NAME@", "@PACKAGE@", "@SOURCE@", "@VERSION@", "@SDK@"].iter().any(|at| text.contains(at)));
            }
        }
        let manifest = fs::read_to_string(folder.path().join("rust/WEB-INF/Cargo.toml")).unwrap();
        assert!(manifest.contains("path = \"a\\\"b/servlet\""), "{manifest}");
    }
}
