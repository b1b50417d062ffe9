//! What lies on disk: which webapps a host should have, and what a generation of one is made from. Only looks, and remembers
//! nothing; called by `deploy` at each pass.

use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serval_archive::Limits;
use serval_config::{ContextName, Host, NoContext, Server};
use serval_loader::private_copy::Fingerprint;

use crate::given::{Given, Named};

/// What an operator should know of a path, in a sentence. Each is said once, for as long as it is true.
pub type Complaints = HashMap<PathBuf, String>;

/// Where a webapp lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Folder(PathBuf),
    /// A zip file of one.
    Archive(PathBuf),
    /// An upstream in the place of one; nothing lies there.
    Upstream(PathBuf),
}

impl Found {
    pub fn path(&self) -> &Path {
        match self {
            Found::Folder(path) | Found::Archive(path) | Found::Upstream(path) => path,
        }
    }
}

/// The webapps that a host should have, by their names: what the configuration names, archives, and folders; of those of one name the
/// first (SEMANTICS 24). `None`: it cannot be seen now, which says nothing of what is there.
pub fn wanted(host: &Host, complaints: &mut Complaints) -> Option<HashMap<ContextName, Found>> {
    let entries = match entries(&host.webapps) {
        Ok(entries) => entries,
        // What server.toml names may lie elsewhere.
        Err(_) if !host.auto_deploy => Vec::new(),
        Err(error) => {
            let sentence = format!("{} cannot be read: {error}; what was there serves on", host.webapps.display());
            complaints.insert(host.webapps.clone(), sentence);
            return None;
        }
    };
    let mut found: Vec<Found> = entries.into_iter().filter_map(|path| found(host, path)).collect();
    found.sort_by(|one, other| {
        let is_folder = |found: &Found| matches!(found, Found::Folder(_));
        (is_folder(one), one.path()).cmp(&(is_folder(other), other.path()))
    });
    let mut wanted = HashMap::new();
    let mut taken: Vec<PathBuf> = Vec::new();
    for entry in &host.contexts {
        let name = ContextName { path: entry.path.clone(), version: None };
        let archive = || found.iter().find(|found| is_archive_of(found, &entry.webapp)).cloned();
        let folder = || entry.webapp.is_dir().then(|| Found::Folder(entry.webapp.clone()));
        if entry.upstream.is_some() {
            wanted.insert(name, Found::Upstream(entry.webapp.clone()));
            continue;
        }
        match archive().or_else(folder) {
            Some(found) => {
                taken.extend([found.path().to_owned(), entry.webapp.clone()]);
                let folder = matches!(&found, Found::Archive(_)).then(folder).flatten();
                if let Some(folder) = folder {
                    complain_of_twin(folder.path(), found.path(), complaints);
                }
                wanted.insert(name, found);
            }
            None => {
                let why = "server.toml names it, and there is no such folder; make it, or name another one as `webapp`";
                complaints.insert(entry.webapp.clone(), format!("{:?} is not served: {why}", entry.webapp));
            }
        }
    }
    for webapp in found.into_iter().filter(|found| host.auto_deploy && !taken.iter().any(|path| path == found.path())) {
        match context_name(host, &webapp) {
            Ok(Some(name)) => match wanted.get(&name).map(|first: &Found| first.path().to_owned()) {
                Some(first) => complain_of_twin(webapp.path(), &first, complaints),
                None => drop(wanted.insert(name, webapp)),
            },
            Ok(None) => {}
            Err(why) => {
                complaints.insert(webapp.path().to_owned(), format!("{:?} is not served: {why}", webapp.path()));
            }
        }
    }
    Some(wanted)
}

fn complain_of_twin(webapp: &Path, first: &Path, complaints: &mut Complaints) {
    let first = first.file_name().unwrap_or(first.as_os_str());
    complaints
        .insert(webapp.to_owned(), format!("{webapp:?} is not served: {first:?} beside it goes before; remove one"));
}

/// What lies at a path of a webapps folder, if it could be a webapp.
fn found(host: &Host, path: PathBuf) -> Option<Found> {
    if path.file_name().is_some_and(|name| host.ignores(&name.to_string_lossy())) {
        return None;
    }
    match std::fs::metadata(&path) {
        Ok(file) if file.is_dir() => Some(Found::Folder(path)),
        Ok(file) if file.is_file() && archive_name(&path).is_some() => Some(Found::Archive(path)),
        _ => None,
    }
}

/// The name of an archive without its ending, which is `.war` or `.zip` in any case.
pub fn archive_name(path: &Path) -> Option<PathBuf> {
    let is_ending = |end: &std::ffi::OsStr| ["war", "zip"].iter().any(|known| end.eq_ignore_ascii_case(known));
    path.extension().filter(|end| is_ending(end)).map(|_| path.with_extension(""))
}

/// Whether it is the archive that server.toml names as a webapp, or that of the folder.
fn is_archive_of(found: &Found, webapp: &Path) -> bool {
    matches!(found, Found::Archive(path) if path == webapp || archive_name(path).is_some_and(|name| name == webapp))
}

/// What no server would serve of the folders and archives as they are now: a sentence for each.
pub fn not_served(config: &Server) -> BTreeSet<String> {
    let mut complaints = Complaints::default();
    for host in &config.hosts {
        for found in wanted(host, &mut complaints).unwrap_or_default().into_values() {
            let Found::Archive(file) = found else { continue };
            if let Err(refusal) =
                serval_archive::open(&file).and_then(|archive| serval_archive::check(archive, &limits(config)))
            {
                let sentence = format!("{file:?} is not served: the archive {refusal}");
                complaints.insert(file, sentence);
            }
        }
    }
    complaints.into_values().collect()
}

/// What server.toml allows an archive.
pub fn limits(config: &Server) -> Limits {
    let serval_config::Archives { bytes_max, ratio_max, entry_count_max, depth_max } = config.archives;
    Limits { bytes_max, ratio_max, entry_count_max, depth_max }
}

/// What is in a folder; nothing when it is not there.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// The path and version that a webapp's name stands for, or why it has none; `Ok(None)`: it is not meant to be served.
fn context_name(host: &Host, webapp: &Found) -> Result<Option<ContextName>, String> {
    let named = match webapp {
        Found::Folder(path) => path.clone(),
        Found::Archive(path) => archive_name(path).unwrap_or_default(),
        // Those have no names.
        Found::Upstream(_) => return Ok(None),
    };
    let Some(name) = named.file_name().and_then(|name| name.to_str()) else {
        return Err("its name is not UTF-8; rename it".to_owned());
    };
    let name = match ContextName::from_folder(name) {
        Ok(name) => name,
        Err(NoContext::Ignored) => return Ok(None),
        Err(NoContext::Unnameable(why)) => {
            return Err(format!("no request could name it: {why}; rename it, or give it a path in server.toml"));
        }
    };
    // What server.toml names is the one without a version.
    match host.contexts.iter().find(|other| other.path == name.path && name.version.is_none()) {
        Some(other) => {
            let what = match &other.upstream {
                Some(upstream) => upstream.to_string(),
                None => other.webapp.display().to_string(),
            };
            Err(format!(
                "server.toml serves {what} at its path `{}`; rename it, or give it another path in server.toml",
                name.path
            ))
        }
        None => Ok(Some(name)),
    }
}

/// Which folder it is: another one may come under the same name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Identity(Option<(u64, u64, Option<SystemTime>)>);

impl Identity {
    /// Without the device, which has another number after the next start of the machine.
    fn lasting(&self) -> Option<(u64, Option<SystemTime>)> {
        self.0.map(|(_, inode, created)| (inode, created))
    }

    pub fn of(webapp: &Path) -> Identity {
        let folder = std::fs::metadata(webapp).ok();
        Identity(folder.map(|folder| (folder.dev(), folder.ino(), folder.created().ok())))
    }
}

/// What a generation is made from, as it lay there at one moment.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Where its files lie.
    pub webapp: PathBuf,
    /// Where `web.toml` and `lib` lie: its WEB-INF, or a folder of what was kept of an older generation.
    pub inside: PathBuf,
    folder: Identity,
    pub libraries: Vec<Fingerprint>,
    web: Option<Fingerprint>,
    /// None: nobody has looked.
    pub given: Option<Arc<Given>>,
    /// The files that `given` was read from, beside web.toml.
    pub named: Vec<Named>,
    /// The configuration that `given` is of.
    pub config: Option<Arc<Server>>,
}

/// Equal ones make the same generation.
impl PartialEq for Inputs {
    fn eq(&self, other: &Inputs) -> bool {
        self.has_files_of(other) && self.given == other.given
    }
}

impl Inputs {
    /// An error is one: what cannot be seen is not what is not there.
    pub fn of(webapp: &Path) -> Result<Inputs, String> {
        Inputs::of_kept(webapp, &webapp.join("WEB-INF"))
    }

    /// The webapp's files, with the libraries and the web.toml that lie in `inside`.
    pub fn of_kept(webapp: &Path, inside: &Path) -> Result<Inputs, String> {
        let unreadable = |path: &Path, error: io::Error| format!("{} cannot be read: {error}", path.display());
        let lib = inside.join("lib");
        let libraries = Fingerprint::of_libraries(&lib).map_err(|error| unreadable(&lib, error))?;
        let web = inside.join("web.toml");
        let print = |file: Metadata| Fingerprint::of("web.toml".to_owned(), &file);
        let folder = Identity::of(webapp);
        let (webapp, inside) = (webapp.to_owned(), inside.to_owned());
        let inputs = |web| Inputs { webapp, inside, folder, libraries, web, ..Inputs::default() };
        match std::fs::metadata(&web) {
            Ok(file) => Ok(inputs(Some(print(file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(inputs(None)),
            Err(error) => Err(unreadable(&web, error)),
        }
    }

    /// Whether the same files lie there; nothing is said of what the configuration gives.
    pub fn has_files_of(&self, other: &Inputs) -> bool {
        self.is_of_one_folder(other) && self.libraries == other.libraries && self.has_web_of(other)
    }

    /// Whether both have the same web.toml.
    pub fn has_web_of(&self, other: &Inputs) -> bool {
        (&self.webapp, &self.inside, &self.web) == (&other.webapp, &other.inside, &other.web)
    }

    /// Whether there is a library that `older` has not.
    pub fn adds_to(&self, older: &Inputs) -> bool {
        self.libraries.iter().any(|new| !older.libraries.iter().any(|old| old.name == new.name))
    }

    /// The first library of `older` that is not here any more.
    pub fn misses<'a>(&self, older: &'a Inputs) -> Option<&'a str> {
        let gone = |old: &&Fingerprint| !self.libraries.iter().any(|new| new.name == old.name);
        older.libraries.iter().find(gone).map(|old| old.name.as_str())
    }

    /// The files as text: equal where the same ones lie there. Nothing of what the configuration gives, which may be secret.
    pub fn shown(&self) -> String {
        format!("{:?}", (&self.webapp, &self.inside, self.folder.lasting(), &self.libraries, &self.web))
    }

    /// The same places, as they are now.
    pub fn look_again(&self) -> Result<Inputs, String> {
        Inputs::of_kept(&self.webapp, &self.inside)
    }

    /// Whether both are of one folder, in which files come and go.
    pub fn is_of_one_folder(&self, other: &Inputs) -> bool {
        (&self.webapp, &self.folder) == (&other.webapp, &other.folder)
    }

    /// Whether it is of what lies at that path now.
    pub fn is_of_folder(&self, webapp: &Path) -> bool {
        self.webapp == webapp && self.folder == Identity::of(webapp)
    }

    /// A file that is not as it was in `older`.
    pub fn changed_from<'a>(&'a self, older: &'a Inputs) -> Option<&'a str> {
        let named = |inputs: &'a Inputs| inputs.named.iter().filter_map(|named| named.print.as_ref());
        let all = |inputs: &'a Inputs| inputs.libraries.iter().chain(&inputs.web).chain(named(inputs));
        let changed = all(self).find(|file| !all(older).any(|old| old == *file));
        let gone = || all(older).find(|old| !all(self).any(|file| file.name == old.name));
        changed.or_else(gone).map(|file| file.name.as_str())
    }
}

/// What tells whether something in a folder has changed between two looks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tree {
    identity: Identity,
    entries: usize,
    bytes: u64,
    changed: (i64, i64),
}

/// LIMIT: what is looked at of a new folder, again and again until it is at rest.
const TREE_ENTRIES_MAX: usize = 5_000;

impl Tree {
    /// Of the first 5,000 files and folders in it; links are not followed.
    pub fn of(folder: &Path) -> Tree {
        let mut tree = Tree { identity: Identity::of(folder), ..Tree::default() };
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if tree.entries == TREE_ENTRIES_MAX {
                    return tree;
                }
                tree.entries += 1;
                let Ok(found) = entry.metadata() else { continue };
                tree.bytes = tree.bytes.wrapping_add(found.len());
                // Also of a file that keeps an older time when it is copied.
                tree.changed = tree.changed.max((found.ctime(), found.ctime_nsec()));
                if found.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        tree
    }
}

/// Whether a webapp carries source that can be built.
pub fn has_source(webapp: &Path) -> bool {
    let inside = webapp.join("WEB-INF");
    inside.join("Cargo.toml").is_file() || inside.join("src").is_dir()
}
