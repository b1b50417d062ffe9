//! `server.toml` and the files of `conf.d` beside it as one: their tables joined, each value with its place.
//!
//! Tables that stand in several files are joined key by key, lists of tables one behind the other, and a `[[host]]` of a name that an
//! earlier file has adds to that host. A key that two files set is a mistake: no file goes before another.
//!
//! `raw` calls it. The values of all files lie in one range of places: those of each file behind those of the one before.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::problem::{Problem, Problems, quoted};
use crate::raw;
use crate::substitute::Named;

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
pub(crate) fn read(path: &Path, named: &RefCell<Named>) -> Result<Vec<File>, Problems> {
    let (files, problems) = read_all(path, named);
    if problems.is_empty() { Ok(files) } else { Err(Problems(problems)) }
}

/// Returns those that can be read, and why the others cannot.
pub(crate) fn read_all(path: &Path, named: &RefCell<Named>) -> (Vec<File>, Vec<Problem>) {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    let mut read = |path: PathBuf| {
        let mut named = named.borrow_mut();
        named.all.insert(path.clone());
        match raw::read(&path) {
            Ok(Some(text)) => {
                if text.is_empty() {
                    named.empty.insert(path.clone());
                }
                let begins = files.last().map_or(0, |last: &File| last.end() + 1);
                files.push(File { path, text, begins });
                true
            }
            Ok(None) => false,
            Err(Problems(mut of_file)) => {
                problems.append(&mut of_file);
                true
            }
        }
    };
    if !read(path.to_owned()) {
        return (files, problems);
    }
    match beside(path) {
        // One that is not there was removed since the folder was listed.
        Ok(paths) => {
            for path in paths {
                read(path);
            }
        }
        Err(Problems(mut of_folder)) => problems.append(&mut of_folder),
    }
    (files, problems)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::server::{Server, load_server, of_running, read_server};

    /// A home with `webapps/` and these files in `conf/`.
    fn home(files: &[(&str, &str)]) -> TempDir {
        let home = tempfile::tempdir().unwrap();
        for folder in ["webapps/shop", "webapps/blog", "conf/conf.d"] {
            fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        for (file, text) in files {
            fs::write(home.path().join("conf").join(file), text).unwrap();
        }
        home
    }

    fn read_in(home: &TempDir) -> Result<Server, String> {
        let server = load_server(&home.path().join("conf/server.toml"), home.path());
        server.map_err(|problems| problems.to_string().replace(&format!("{}/", home.path().display()), ""))
    }

    fn good(files: &[(&str, &str)]) -> Server {
        read_in(&home(files)).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &str) {
        assert_eq!(read_in(&home(files)).expect_err("problems"), expected.trim());
    }

    #[test]
    fn tables_are_joined_in_the_order_of_the_names() {
        let server = good(&[
            (
                "server.toml",
                "[server]\nio_threads = 2\n[resources]\na = \"1\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n",
            ),
            ("conf.d/20.toml", "[resources]\nb = \"2\"\n[[listener]]\naddress = \"127.0.0.1:3\"\n"),
            (
                "conf.d/10.toml",
                "server.development = true\ndefaults.context.queue_max = 7\n[[listener]]\naddress = \"127.0.0.1:2\"\n",
            ),
            ("conf.d/30.toml", "[defaults.context]\nworkers_max = 3\n[defaults.context.remote_ip]\nhttp_port = 81\n"),
            ("conf.d/.#40.toml", "not TOML"),
            ("conf.d/50.toml~", "not TOML"),
            ("conf.d/60.bak", "not TOML"),
        ]);
        assert_eq!((server.io_threads, server.development), (2, true));
        let ports: Vec<u16> = server.listeners.iter().filter_map(|listener| listener.address.port()).collect();
        assert_eq!(ports, [1, 2, 3]);
        assert_eq!((server.resources.get("a"), server.resources.get("b")), (Some("1"), Some("2")));
        let settings = server.hosts[0].settings_for("/any");
        assert_eq!((settings.queue_max, settings.workers_max), (7, 3));
        assert_eq!(settings.remote_ip.unwrap().http_port, 81);
    }

    #[test]
    fn a_host_of_a_known_name_is_added_to() {
        let server = good(&[
            ("server.toml", "[[host]]\n[[host.context]]\npath = \"/shop\"\n[[host]]\nname = \"b.test\"\n"),
            (
                "conf.d/a.toml",
                "[[host]]\nname = \"${env:SERVAL_TEST_UNSET:-LocalHost}\"\naliases = [\"a.test\"]\n[[host.context]]\npath = \"/blog\"\nqueue_max = 1\n",
            ),
            (
                "conf.d/b.toml",
                "[[host]]\nname = \"b.test\"\nauto_deploy = false\n[host.access_log]\nkeep = 3\n[[host]]\nname = \"c.test\"\n",
            ),
            ("conf.d/c.toml", "[[host]]\nname = \"b.test\"\n[host.access_log]\nrotate = \"never\"\n"),
        ]);
        let names: Vec<&str> = server.hosts.iter().map(|host| &*host.name).collect();
        assert_eq!(names, ["localhost", "b.test", "c.test"]);
        let [first, second, _] = &server.hosts[..] else { panic!() };
        let paths: Vec<&str> = first.contexts.iter().map(|entry| &*entry.path).collect();
        assert_eq!((paths, &*first.aliases[0]), (vec!["/shop", "/blog"], "a.test"));
        let log = second.access_log.as_ref().unwrap();
        assert_eq!((second.auto_deploy, log.keep, log.rotate), (false, 3, crate::Rotate::Never));
        // Without a host in server.toml, and without listeners.
        let server = good(&[("server.toml", ""), ("conf.d/a.toml", "[[host]]\nname = \"a.test\"\n")]);
        assert_eq!((&*server.hosts[0].name, server.hosts.len()), ("a.test", 1));
    }

    #[test]
    fn what_is_set_twice_names_both_places() {
        check(
            &[
                ("server.toml", "[server]\nio_threads = 2\n[log]\nlevel = \"info\"\n[[host]]\naliases = []\n"),
                (
                    "conf.d/a.toml",
                    "# a comment\n[server]\n  io_threads = 3\n[log.level]\na = 1\n[[host]]\naliases = []\n[access_log]\nkeep = 1\n",
                ),
                ("conf.d/b.toml", "access_log.keep = 2\n"),
            ],
            "
conf/conf.d/a.toml:3:3: `io_threads` in [server] is set already, at conf/server.toml:2:1; remove one of the two
conf/conf.d/a.toml:4:6: `level` in [log] is set already, at conf/server.toml:4:1; remove one of the two
conf/conf.d/a.toml:7:1: `aliases` in [host] is set already, at conf/server.toml:6:1; remove one of the two
conf/conf.d/b.toml:1:12: `keep` in [access_log] is set already, at conf/conf.d/a.toml:9:1; remove one of the two
",
        );
        check(
            &[
                ("server.toml", "[[listener]]\n[[host]]\naliases = [\"x.test\"]\n[[host.context]]\npath = \"/shop\"\n"),
                (
                    "conf.d/a.toml",
                    "[[listener]]\n[[host]]\n[[host.context]]\npath = \"/shop\"\n[[host]]\nname = \"x.test\"\n[[host]]\nname = \"x.test\"\n",
                ),
            ],
            "
conf/conf.d/a.toml:1:1: a second [[listener]] at `127.0.0.1:8080` (the first is at conf/server.toml:1:1); give it another port, or remove it
conf/conf.d/a.toml:4:8: a second [[host.context]] at `/shop` in the host `localhost` (the first is at conf/server.toml:5:8); give it another path, or join the two
conf/conf.d/a.toml:6:8: a second host with the name `x.test` (the first is at conf/server.toml:3:12); give it another `name`, or remove one of the two
conf/conf.d/a.toml:8:8: a second host with the name `x.test` (the first is at conf/server.toml:3:12); give it another `name`, or remove one of the two
",
        );
    }

    #[test]
    fn problems_name_their_file() {
        check(
            &[
                ("server.toml", "[server]\nio_thread = 2\n"),
                ("conf.d/a.toml", "[log]\n\nlevel = \"x\"\n[[host]]\nwebapps = \"none\"\n"),
                ("conf.d/b.toml", "[[listener]]\naddress = \"${file:none}\""),
            ],
            "
conf/server.toml:2:1: unknown key `io_thread` in [server]; did you mean `io_threads`?
conf/conf.d/a.toml:3:9: `level` in [log]: `x` names no level; write one of `error`, `warn`, `info`, `debug`, `trace`, `off`, or a list such as `info,serval_loader=debug`
conf/conf.d/a.toml:5:11: the webapps folder `none` does not exist; create it, or set `webapps` in [[host]] to the folder of your webapps
conf/conf.d/b.toml:2:11: `none` cannot be read (No such file or directory (os error 2)); create it, or correct the path
"
            .replace("`none` does", "`HOME/none` does")
            .replace("`none` cannot", "`HOME/none` cannot")
            .replace("HOME/", "")
            .as_str(),
        );
        check(
            &[("server.toml", "[serv"), ("conf.d/a.toml", "a = "), ("conf.d/b.toml", "[wrong]\n")],
            "
conf/server.toml:1:6: not TOML: unclosed table, expected `]`; write `key = value`, `[table]` or `[[table]]`, with strings in quotes
conf/conf.d/a.toml:1:5: not TOML: string values must be quoted, expected literal string; write `key = value`, `[table]` or `[[table]]`, with strings in quotes
",
        );
    }

    #[test]
    fn a_folder_of_something_else() {
        let home = home(&[("server.toml", "")]);
        let folder = home.path().join("conf/conf.d");
        fs::create_dir_all(folder.join("a.toml")).unwrap();
        fs::create_dir_all(folder.join("old")).unwrap();
        symlink("b.toml", folder.join("b.toml")).unwrap();
        symlink("nowhere", folder.join("c.toml")).unwrap();
        fs::write(folder.join("d.toml"), b"a = \"\xff\"").unwrap();
        let expected = "
conf/conf.d/a.toml: is a folder, but a file is needed; name the file inside it
conf/conf.d/b.toml: cannot be read: Too many levels of symbolic links (os error 40); let the user that Serval runs as read it, and its folders
conf/conf.d/c.toml: is a link to a file that does not exist; correct the link, or remove it
conf/conf.d/d.toml:1:6: a byte that is not UTF-8; save the file as UTF-8";
        assert_eq!(read_in(&home).unwrap_err(), expected.trim());
        // Where its server runs is known from those that can be read.
        fs::write(home.path().join("conf/server.toml"), "[server]\nvar = \"elsewhere\"\n").unwrap();
        let running = of_running(&home.path().join("conf/server.toml"), home.path());
        assert_eq!(running.var, home.path().join("elsewhere"));
        fs::remove_dir_all(&folder).unwrap();
        read_in(&home).unwrap();
        fs::write(&folder, "").unwrap();
        let expected = "conf/conf.d: is not a folder; make it a folder of files such as `10-shop.toml`, or remove it";
        assert_eq!(read_in(&home).unwrap_err(), expected);
        fs::remove_file(&folder).unwrap();
        symlink("nowhere", &folder).unwrap();
        assert!(read_in(&home).unwrap_err().starts_with("conf/conf.d: cannot be read: No such file"));
        fs::remove_file(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        (0..=FILES_MAX).for_each(|number| fs::write(folder.join(format!("{number}.toml")), "").unwrap());
        let expected = "conf/conf.d: has 1001 files, but 1000 are read at most; join some of them";
        assert_eq!(read_in(&home).unwrap_err(), expected);
    }

    #[test]
    fn the_files_that_it_depends_on_are_known_also_of_one_that_is_wrong() {
        let server = "[resources]\na = \"${file:conf/a}\"\nb = \"${file:/nowhere}\"\n[[host]]\n[[host.error_page]]\nfile = \"conf/404.html\"\n";
        let home = home(&[("server.toml", server), ("a", "a"), ("404.html", ""), ("conf.d/a.toml", "x = 1")]);
        let read = read_server(&home.path().join("conf/server.toml"), home.path());
        assert!(read.settings.is_err());
        let files: Vec<String> = read.files.iter().map(|file| file.display().to_string()).collect();
        let inside = |file: &str| home.path().join(file).display().to_string();
        let mut expected = vec!["/nowhere".to_owned()];
        expected.extend(["conf/404.html", "conf/a", "conf/conf.d/a.toml", "conf/server.toml"].map(inside));
        expected.sort();
        assert_eq!(files, expected);
    }
}
