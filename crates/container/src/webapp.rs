//! What lies on disk: which webapps a host should have, and what a generation of one is made from. Only looks, and remembers
//! nothing; called by `deploy` at each pass.

use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serval_config::{ContextName, Host, NoContext, Server};
use serval_loader::private_copy::Fingerprint;

use crate::given::{Given, Named};

/// What an operator should know of a path, in a sentence. Each is said once, for as long as it is true.
pub type Complaints = HashMap<PathBuf, String>;

/// The webapps that a host should have, by their names: folders, and what the configuration names. `None`: it cannot be seen
/// now, which says nothing of what is there.
pub fn wanted(host: &Host, complaints: &mut Complaints) -> Option<HashMap<ContextName, PathBuf>> {
    let entries = if host.auto_deploy { entries(&host.webapps) } else { Ok(Vec::new()) };
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            let sentence = format!("{} cannot be read: {error}; what was there serves on", host.webapps.display());
            complaints.insert(host.webapps.clone(), sentence);
            return None;
        }
    };
    let contexts = host.contexts.iter().filter(|entry| entry.webapp.is_dir());
    let named = |path: &str| ContextName { path: path.to_owned(), version: None };
    let mut wanted: HashMap<ContextName, PathBuf> =
        contexts.map(|entry| (named(&entry.path), entry.webapp.clone())).collect();
    for webapp in entries {
        if !webapp.is_dir() || host.contexts.iter().any(|other| other.webapp == webapp) {
            continue;
        }
        match context_name(host, &webapp) {
            Ok(Some(name)) => drop(wanted.insert(name, webapp)),
            Ok(None) => {}
            Err(why) => drop(complaints.insert(webapp.clone(), format!("{webapp:?} is not served: {why}"))),
        }
    }
    for entry in host.contexts.iter().filter(|entry| !wanted.keys().any(|name| name.path == entry.path)) {
        let why = "server.toml names it, and there is no such folder; make it, or name another one as `webapp`";
        complaints.insert(entry.webapp.clone(), format!("{:?} is not served: {why}", entry.webapp));
    }
    Some(wanted)
}

/// What no server would serve of the folders as they are now: a sentence for each.
pub fn not_served(config: &Server) -> BTreeSet<String> {
    let mut complaints = Complaints::default();
    for host in &config.hosts {
        wanted(host, &mut complaints);
    }
    complaints.into_values().collect()
}

/// What is in a folder; nothing when it is not there.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// The path and version that a folder's name stands for, or why it has none; `Ok(None)`: it is not meant to be served.
fn context_name(host: &Host, webapp: &Path) -> Result<Option<ContextName>, String> {
    let Some(name) = webapp.file_name().and_then(|name| name.to_str()) else {
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
        Some(other) => Err(format!(
            "server.toml serves {} at its path `{}`; rename it, or give it another path in server.toml",
            other.webapp.display(),
            name.path
        )),
        None => Ok(Some(name)),
    }
}

/// Which folder it is: another one may come under the same name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Identity(Option<(u64, u64, Option<SystemTime>)>);

impl Identity {
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
        format!("{:?}", (&self.webapp, &self.inside, &self.folder, &self.libraries, &self.web))
    }

    /// The same places, as they are now.
    pub fn look_again(&self) -> Result<Inputs, String> {
        Inputs::of_kept(&self.webapp, &self.inside)
    }

    /// Whether both are of one folder, in which files come and go.
    pub fn is_of_one_folder(&self, other: &Inputs) -> bool {
        (&self.webapp, &self.folder) == (&other.webapp, &other.folder)
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

/// Whether a webapp carries source that can be built.
pub fn has_source(webapp: &Path) -> bool {
    let inside = webapp.join("WEB-INF");
    inside.join("Cargo.toml").is_file() || inside.join("src").is_dir()
}
