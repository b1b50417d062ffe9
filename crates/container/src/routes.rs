//! Which host, which context and which of its versions a request is for (SEMANTICS 2). Each step says by which rule it has decided.
//!
//! `Container::answer` walks them for each request, `deploy` changes what is mounted.

use std::io;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use foldhash::{HashMap, HashMapExt as _};
use http::HeaderMap;
use serval_config::AccessLog;

use crate::access_log::Log;
use crate::context::{Context, OfHost};
use crate::error_page::HostPages;
use crate::exchange::requested_sessions;
use crate::mapping;
use crate::target::Target;

/// The number of the host that has what no other has.
pub const DEFAULT_HOST: usize = 0;

pub struct Host {
    /// Its name, as servlets are told it when the client names none, and its error pages.
    pub of: Arc<OfHost>,
    /// Its contexts hold it weakly.
    pub routes: Arc<ArcSwap<Routes>>,
    pub log: Option<Arc<Log>>,
    log_settings: Option<AccessLog>,
}

/// All hosts; the first is the default one.
pub struct Hosts {
    pub all: Vec<Host>,
    /// Names and aliases, in lower case, to hosts.
    names: HashMap<String, usize>,
    /// What stands behind `*.` in an alias: one label more.
    wildcards: HashMap<String, usize>,
    /// Of configurations before this one: requests that have begun then are logged there.
    old_logs: Vec<Weak<Log>>,
    /// Where the server itself tells of its readiness, before any context.
    pub ready_path: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRule {
    /// Its name, or an alias.
    Name,
    /// An alias `*.example.com`.
    Wildcard,
    /// No host has the name.
    Default,
}

impl Host {
    /// `before`: the same host in the configuration before this one. What is the same goes on.
    fn new(settings: &serval_config::Host, before: Option<&Host>) -> io::Result<Host> {
        let log = match before.filter(|before| before.log_settings == settings.access_log) {
            Some(before) => before.log.clone(),
            None => settings.access_log.as_ref().map(Log::start).transpose()?,
        };
        Ok(Host { log, ..Host::without_log(settings, before) })
    }

    fn without_log(settings: &serval_config::Host, before: Option<&Host>) -> Host {
        let pages = HostPages::read(&settings.name, &settings.error_pages);
        Host {
            of: Arc::new(OfHost { name: settings.name.clone(), pages }),
            routes: before.map_or_else(Arc::default, |before| before.routes.clone()),
            log: None,
            log_settings: settings.access_log.clone(),
        }
    }
}

impl Hosts {
    /// Those of the start: one whose log cannot be had goes without.
    pub fn new(config: &serval_config::Server) -> Hosts {
        let new = |settings: &serval_config::Host| {
            Host::new(settings, None).unwrap_or_else(|error| {
                let name = &settings.name;
                tracing::error!("host {name}: the thread of its access log cannot be started: {error}");
                Host { log: None, ..Host::without_log(settings, None) }
            })
        };
        Hosts::of(config, config.hosts.iter().map(new).collect(), Vec::new())
    }

    /// Those of another configuration; nothing of these is changed. `was`: which of these each of them is, if any.
    ///
    /// # Errors
    /// The thread of an access log cannot be started.
    pub fn next(&self, config: &serval_config::Server, was: &[Option<usize>]) -> Result<Hosts, String> {
        let mut all = Vec::new();
        for (settings, was) in config.hosts.iter().zip(was) {
            let host = Host::new(settings, was.and_then(|was| self.all.get(was)));
            let name = &settings.name;
            all.push(
                host.map_err(|error| format!("host {name}: the thread of its access log cannot be started: {error}"))?,
            );
        }
        let goes = |log: &Arc<Log>| !all.iter().any(|host| host.log.as_ref().is_some_and(|new| Arc::ptr_eq(new, log)));
        let old_logs = self.logs().iter().filter(|log| goes(log)).map(Arc::downgrade).collect();
        Ok(Hosts::of(config, all, old_logs))
    }

    fn of(config: &serval_config::Server, all: Vec<Host>, old_logs: Vec<Weak<Log>>) -> Hosts {
        let (mut names, mut wildcards) = (HashMap::new(), HashMap::new());
        for (number, host) in config.hosts.iter().enumerate() {
            for name in std::iter::once(&host.name).chain(&host.aliases) {
                let name = name.to_ascii_lowercase();
                match name.strip_prefix("*.") {
                    Some(rest) => wildcards.entry(rest.to_owned()).or_insert(number),
                    None => names.entry(name).or_insert(number),
                };
            }
        }
        Hosts { all, names, wildcards, old_logs, ready_path: config.ready_path.clone() }
    }

    pub fn named(&self, name: &str) -> Option<&Host> {
        self.all.iter().find(|host| host.of.name == name)
    }

    /// All that may still have something to write.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        let old = self.old_logs.iter().filter_map(Weak::upgrade);
        self.all.iter().filter_map(|host| host.log.clone()).chain(old).collect()
    }

    /// The number of the host of that name, which is in lower case.
    pub fn find(&self, name: Option<&str>) -> (usize, HostRule) {
        let Some(name) = name else { return (DEFAULT_HOST, HostRule::Default) };
        let by_wildcard = || self.wildcards.get(name.split_once('.')?.1);
        match self.names.get(name) {
            Some(number) => (*number, HostRule::Name),
            None => by_wildcard().map_or((DEFAULT_HOST, HostRule::Default), |number| (*number, HostRule::Wildcard)),
        }
    }

    /// All contexts of all hosts.
    pub fn contexts(&self) -> Vec<Arc<Context>> {
        self.all.iter().flat_map(|host| host.routes.load().contexts().cloned().collect::<Vec<_>>()).collect()
    }
}

/// The contexts of one host by path; replaced as a whole by a deployment.
#[derive(Clone, Default)]
pub struct Routes {
    by_path: HashMap<String, Versions>,
    /// Bytes of the longest path that there ever was: what a request has beyond is not looked at.
    longest: usize,
}

impl Routes {
    /// What is mounted at the longest path that this one is inside of.
    pub fn find(&self, path: &str) -> Option<&Versions> {
        mapping::prefixes(path, self.longest).find_map(|prefix| self.by_path.get(prefix))
    }

    pub fn contexts(&self) -> impl Iterator<Item = &Arc<Context>> {
        self.by_path.values().flat_map(Versions::all)
    }

    pub fn insert(&mut self, context: Arc<Context>) {
        self.longest = self.longest.max(context.path.len());
        match self.by_path.get_mut(&context.path) {
            Some(versions) => versions.insert(context),
            None => drop(self.by_path.insert(context.path.clone(), Versions::new(context))),
        }
    }

    /// Takes this context out, and no other one that has its name by now.
    pub fn remove(&mut self, context: &Arc<Context>) {
        let Some(versions) = self.by_path.remove(&context.path) else { return };
        let stay = versions.all().filter(|other| !Arc::ptr_eq(other, context));
        stay.for_each(|other| self.insert(other.clone()));
    }
}

/// The contexts of one path. Most often there is one.
#[derive(Clone)]
pub struct Versions {
    newest: Arc<Context>,
    /// Newest first.
    older: Vec<Arc<Context>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionRule {
    Only,
    /// The client has a session with it.
    Session,
    Newest,
}

impl Versions {
    fn new(only: Arc<Context>) -> Versions {
        Versions { newest: only, older: Vec::new() }
    }

    /// Newest first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Context>> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// Another one of the same version takes the place of this one.
    fn insert(&mut self, context: Arc<Context>) {
        let mut all: Vec<Arc<Context>> = self.all().filter(|other| other.version != context.version).cloned().collect();
        all.push(context);
        // Versions are compared as text, and none is before all others (SEMANTICS 1).
        all.sort_by(|one, other| other.version.cmp(&one.version));
        (self.newest, self.older) = (all[0].clone(), all[1..].to_vec());
    }

    /// The newest that has a session of the client's, else the newest.
    pub fn choose(&self, target: &Target, headers: &HeaderMap) -> (&Arc<Context>, VersionRule) {
        if self.older.is_empty() {
            return (&self.newest, VersionRule::Only);
        }
        let knows = |context: &&Arc<Context>| {
            let requested = requested_sessions(target, headers, &context.current.load());
            requested.ids.iter().any(|id| context.sessions.knows(id))
        };
        match self.all().find(knows) {
            Some(context) => (context, VersionRule::Session),
            None => (&self.newest, VersionRule::Newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};
    use serval_config::{ContextName, ContextSettings, UriRules, Web, WebSession};

    use super::*;
    use crate::generation::{Files, Generation, Ground};
    use crate::target::Authority;

    #[test]
    fn hosts_by_name_alias_and_wildcard() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("webapps")).unwrap();
        let file = home.path().join("server.toml");
        let text = "[[host]]\nname = \"localhost\"\n[[host]]\nname = \"main.test\"\naliases = [\"alias.test\", \"*.wild.test\"]\n\
                    [[host]]\nname = \"b.wild.test\"\n";
        std::fs::write(&file, text).unwrap();
        let hosts = Hosts::new(&serval_config::load_server(&file, home.path()).unwrap());
        for (name, expected) in [
            (Some("localhost"), (0, HostRule::Name)),
            (Some("main.test"), (1, HostRule::Name)),
            (Some("alias.test"), (1, HostRule::Name)),
            (Some("a.wild.test"), (1, HostRule::Wildcard)),
            (Some("b.wild.test"), (2, HostRule::Name)),
            (Some("a.b.wild.test"), (0, HostRule::Default)),
            (Some("wild.test"), (0, HostRule::Default)),
            (Some(""), (0, HostRule::Default)),
            (None, (0, HostRule::Default)),
        ] {
            assert_eq!(hosts.find(name), expected, "{name:?}");
        }
    }

    fn context(folder: &str) -> Arc<Context> {
        let name = ContextName::from_folder(folder).unwrap();
        let (here, settings) = (std::env::temp_dir(), ContextSettings::default());
        let web = Web { session: WebSession { url_rewriting: Some(true), ..WebSession::default() }, ..Web::default() };
        let named = (1, name.display().into());
        let ground = Ground::open(named, Files::Of(&here), (web, settings, false), None, Arc::default()).unwrap();
        let of = OfHost { name: "localhost".to_owned(), pages: HostPages::default() };
        Arc::new(Context::new(name, Generation::of_files(ground), Arc::new(of)))
    }

    /// The version that answers, and why.
    fn chosen(routes: &Routes, target: &str, cookie: &str) -> (String, VersionRule) {
        let request = Request::get(target).version(Version::HTTP_10).header("cookie", cookie).body(()).unwrap();
        let mut head = request.into_parts().0;
        let server = Authority { name: None, port: 80 };
        let target = Target::read(&mut head, server, &UriRules::default()).unwrap();
        let (context, rule) = routes.find(target.path()).unwrap().choose(&target, &head.headers);
        (context.name.to_string(), rule)
    }

    #[tokio::test]
    async fn of_several_versions_the_one_that_knows_the_session() {
        let mut routes = Routes::default();
        let versions: Vec<Arc<Context>> = ["v##1", "v##10", "v", "v##2"].map(context).to_vec();
        versions.iter().for_each(|context| routes.insert(context.clone()));
        routes.insert(context("v#x"));
        let by = |target: &str, cookie: &str| chosen(&routes, target, cookie);
        assert_eq!(by("/v/a", ""), ("/v##2".to_owned(), VersionRule::Newest), "as text");
        assert_eq!(by("/v/x/a", ""), ("/v/x".to_owned(), VersionRule::Only));
        let old = versions[0].sessions.create(None, None, 9).unwrap().facts().id;
        let none = versions[2].sessions.create(None, None, 9).unwrap().facts().id;
        assert_eq!(by("/v/a", &format!("JSESSIONID={old}")), ("/v##1".to_owned(), VersionRule::Session));
        assert_eq!(by(&format!("/v/a;jsessionid={none}"), ""), ("/v".to_owned(), VersionRule::Session));
        assert_eq!(by("/v/a", "JSESSIONID=0"), ("/v##2".to_owned(), VersionRule::Newest));
        let cookies = format!("JSESSIONID=0; JSESSIONID={none}; JSESSIONID={old}");
        assert_eq!(by("/v/a", &cookies), ("/v##1".to_owned(), VersionRule::Session), "the newest of those");

        routes.remove(&versions[3]);
        assert_eq!(chosen(&routes, "/v/a", ""), ("/v##10".to_owned(), VersionRule::Newest));
        versions[..3].iter().for_each(|context| routes.remove(context));
        assert!(routes.find("/v/a").is_none());
    }
}
