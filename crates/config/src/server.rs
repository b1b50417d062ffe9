//! `conf/server.toml`: the settings of the whole server, its listeners, its hosts and their contexts.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::num::NonZero;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::Duration;

use glob::Pattern;

use toml::de::DeTable;

use crate::access_log::{AccessLog, AccessLogKeys};
use crate::archives::{Archives, deploy_ignore};
use crate::context_name::{ContextName, normal_path};
use crate::context_settings::ContextSettings;
use crate::error_pages::{HostErrorPage, host_error_pages};
use crate::join::{self, File};
use crate::listener::{Listener, listeners};
use crate::origins::Origins;
use crate::problem::{Problem, Problems, list, near_miss, quoted};
use crate::raw::{Document, Table, Text};
use crate::settings::{self, Setting};
use crate::substitute::{Named, Sources, substitute};
use crate::upstream::Upstream;
use crate::values::{self, Given, Values};
use crate::web::{self, Web};

/// Holds all of server.toml, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The file that was read, `conf.d` lies beside it; absolute.
    pub file: PathBuf,
    /// The folder that relative paths of the file lie in; absolute.
    pub home: PathBuf,
    /// What Serval writes: private copies, logs, sessions, the SDK. Absolute; default `var` in the home. It need not
    /// exist.
    pub var: PathBuf,
    /// How long requests may run on at shutdown, 0 to 24 h; default 30 s.
    pub shutdown_timeout: Duration,
    /// How long Serval goes on to accept and answer when it was told to stop, while it says that it is not ready, 0 to 10 min; default 0.
    pub stop_delay: Duration,
    /// The path at which Serval itself says on every host whether it is ready, in canonical form; default None: nowhere.
    pub ready_path: Option<String>,
    /// Whom a server that is started as root becomes when its addresses are open; default None.
    pub user: Option<User>,
    /// I/O threads, 1 to 1024; default (and 0 in the file) one more than there are cores.
    pub io_threads: usize,
    /// `[build] sources`: build webapps that carry their source; default false.
    pub sources: bool,
    /// `[build] timeout`: how long one build may take, 1 s to 24 h; default 10 min.
    pub build_timeout: Duration,
    /// `[archives]`: what the archive of a webapp may cost.
    pub archives: Archives,
    /// `[sessions] snapshot_every`: how often sessions that have changed are written to `var/sessions`, 0 (only at the stop) to 1 h;
    /// default 10 s.
    pub snapshot_every: Duration,
    /// `[log]`.
    pub log: Log,
    /// Shows the reasons of errors on error pages; default false.
    pub development: bool,
    /// `[resources]`: named values of the whole server, of which a webapp sees those that it links.
    pub resources: Values,
    /// Never empty; default one with its defaults. No two have one address, but for port 0.
    pub listeners: Vec<Listener>,
    /// Never empty; default one with its defaults. The first is the default host.
    pub hosts: Vec<Host>,
}

/// Holds `user` of `[server]`: the name or number of a user, and maybe of a group. Whether there is such a one is not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// None: the user's own group.
    pub group: Option<String>,
}

/// Holds `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines look; default [`LogFormat::Terminal`].
    pub format: LogFormat,
    /// An env-filter directive: a level, or a list such as `info,serval_loader=debug`; default `info`.
    pub level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Terminal,
    /// One JSON object a line.
    Json,
}

/// Holds one `[[host]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name in lower case; default `localhost`.
    pub name: String,
    /// Other names in lower case; `*.example.com` stands for one more label. No two hosts share a name.
    pub aliases: Vec<String>,
    /// The folder of its webapps; absolute, and it exists; default `webapps` in the home.
    pub webapps: PathBuf,
    /// Mounts every folder and archive of `webapps`, as they come and go; default true. False: only those of `contexts`.
    pub auto_deploy: bool,
    /// Names in `webapps` that are no webapps; default none. See [`Host::ignores`].
    pub deploy_ignore: Vec<Pattern>,
    /// Removes a version of a context from `webapps` when a newer one serves and it has no sessions any more; default false.
    pub undeploy_old_versions: bool,
    /// `[[host.context]]`; no two have one path.
    pub contexts: Vec<ContextEntry>,
    /// `[defaults.context]`: for contexts without an entry.
    pub context_defaults: ContextSettings,
    /// `[host.access_log]`, with `[access_log]` for what it does not say; None: neither is there, or `enabled = false`.
    pub access_log: Option<AccessLog>,
    /// `[[host.error_page]]`, in the order of the file.
    pub error_pages: Vec<HostErrorPage>,
}

/// Holds one `[[host.context]]`: what the name of a folder cannot say. It may be about a context that `auto_deploy`
/// mounts, and configures it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextEntry {
    /// `""` for the root, or `/a/b` in normal form.
    pub path: String,
    /// The webapp's folder; absolute. The default is the folder of `webapps` with the path's name. It need not exist if
    /// it lies in `webapps`. With an upstream, a place in `var` where nothing ever lies.
    pub webapp: PathBuf,
    /// `proxy`: what answers in the place of a webapp; default None.
    pub upstream: Option<Arc<Upstream>>,
    /// Its settings, with `[defaults.context]` for what the entry does not say.
    pub settings: ContextSettings,
    /// `[host.context.params]`; they go before the webapp's own.
    pub params: Values,
    /// `[host.context.env]`, with each link to a global resource resolved; they go before the webapp's own.
    pub env: Values,
}

/// As it is written.
impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Server {
    /// Takes over from another one what a running server cannot change; [`Setting::needs_restart`] says of which keys. `settings`, its own,
    /// change with it where the value of another key goes with those.
    pub fn keep_until_restart(&mut self, settings: &mut [Setting], in_force: &Server) {
        // Where they lie by default goes with `var`.
        let (logs, own) = (self.var.join("log"), in_force.var.join("log"));
        for (number, host) in self.hosts.iter_mut().enumerate() {
            let Some(log) = host.access_log.as_mut().filter(|log| log.folder == logs) else { continue };
            log.folder.clone_from(&own);
            let table = format!("host[{number}].access_log");
            settings::set_path(settings, (&table, "folder"), &own);
        }
        self.var.clone_from(&in_force.var);
        self.user.clone_from(&in_force.user);
        (self.io_threads, self.log.format) = (in_force.io_threads, in_force.log.format);
    }

    /// Returns the host of that name, which is no alias.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// Reads the web.toml of a webapp that is served at a path of a host of this server, with what they give it.
    pub fn load_web(&self, host: &Host, context_path: &str, webapp: &Path) -> Result<Web, Problems> {
        self.read_web(host, context_path, webapp, &webapp.join("WEB-INF/web.toml")).settings
    }

    /// The same, and which files it names, from any file: one that the webapp had before.
    pub fn read_web(&self, host: &Host, context_path: &str, webapp: &Path, file: &Path) -> Read<Web> {
        let none = Values::default();
        let entry = host.entry(context_path);
        let (params, env) = entry.map_or((&none, &none), |entry| (&entry.params, &entry.env));
        let (named, given) = (RefCell::default(), Given { params, env, resources: &self.resources });
        let settings = web::load(file, &webapp.join("WEB-INF"), Some(given), &named);
        Read::new(settings, named)
    }
}

impl Host {
    /// Returns the settings of the context at a path: its entry's, else those of `[defaults.context]`.
    pub fn settings_for(&self, context_path: &str) -> ContextSettings {
        self.entry(context_path).map_or(&self.context_defaults, |entry| &entry.settings).clone()
    }

    /// Returns true if a name in `webapps` is in `deploy_ignore`.
    pub fn ignores(&self, name: &str) -> bool {
        self.deploy_ignore.iter().any(|pattern| pattern.matches(name))
    }

    /// Returns the upstream of the context at a path, if what is served there is that of its entry: of another version it is a webapp.
    pub fn upstream_for(&self, context_path: &str, webapp: &Path) -> Option<&Arc<Upstream>> {
        self.entry(context_path).filter(|entry| entry.webapp == webapp)?.upstream.as_ref()
    }

    fn entry(&self, context_path: &str) -> Option<&ContextEntry> {
        self.contexts.iter().find(|entry| entry.path == context_path)
    }
}

/// What was read, and of which files.
#[derive(Debug)]
pub struct Read<T> {
    pub settings: Result<T, Problems>,
    /// Each file that the settings depend on, or would, if it were there; absolute, but for those of a relative path that was handed
    /// in. Not the folder `conf.d` itself.
    pub files: BTreeSet<PathBuf>,
    /// Those of them that have been read, and had not one byte. Not a web.toml.
    pub empty: BTreeSet<PathBuf>,
}

impl<T> Read<T> {
    fn new(settings: Result<T, Problems>, named: RefCell<Named>) -> Read<T> {
        let Named { all, empty } = named.into_inner();
        Read { settings, files: all, empty }
    }
}

/// Reads a server.toml, with the files of `conf.d` beside it. Relative paths in them, `${file:...}` too, lie in `home`.
///
/// The folders of webapps are looked for; nothing is created, and no address is tried.
pub fn load_server(path: &Path, home: &Path) -> Result<Server, Problems> {
    read_server(path, home).settings.map(|(server, _)| server)
}

/// Returns settings that say where a server of this file runs (`home`, `var`), whatever else is wrong with it; all others are defaults.
pub fn of_running(path: &Path, home: &Path) -> Server {
    let (file, home) = (absolute(path).unwrap_or(path.into()), absolute(home).unwrap_or(home.into()));
    let named = RefCell::default();
    let (files, _) = join::read_all(path, &named);
    let sources = Sources { environment: &|name| std::env::var(name), folder: &home, files: &named };
    // What it says of `var`, as it was read before something that is wrong.
    let var = files.iter().find_map(|file| {
        let (root, _) = DeTable::parse_recoverable(&file.text);
        let var = root.get_ref().get("server")?.get_ref().as_table()?.get("var")?.get_ref().as_str()?.to_owned();
        substitute(&var, sources).ok()
    });
    let nothing = [File { path: file.clone(), text: String::new(), begins: 0 }];
    let (document, none) = (Document::new(&nothing, sources), DeTable::new());
    let mut server = server(&document, &Table::new(&document, &none, None, String::new()), (&file, &home));
    if let Some(var) = var.filter(|var| !var.is_empty()) {
        server.var = home.join(var);
    }
    server
}

/// Reads it as [`load_server`], and says where each value is from, and on which files they depend.
pub fn read_server(path: &Path, home: &Path) -> Read<(Server, Vec<Setting>)> {
    let named = RefCell::default();
    let settings = read(path, home, &named);
    Read::new(settings, named)
}

fn read(path: &Path, home: &Path, named: &RefCell<Named>) -> Result<(Server, Vec<Setting>), Problems> {
    let unreadable = |what: &str, instead: String| {
        Problems(vec![Problem { file: path.into(), line: None, column: None, what: what.into(), instead }])
    };
    let place = |path: &Path| absolute(path).map_err(|error| unreadable("has no absolute path", error.to_string()));
    let (file, home) = (place(path)?, place(home)?);
    let files = join::read(path, named)?;
    if files.is_empty() {
        let instead = "create it (an empty file will do), or name another one with --config";
        return Err(unreadable("does not exist", instead.to_owned()));
    }
    let sources = Sources { environment: &|name| std::env::var(name), folder: &home, files: named };
    Document::load(&files, sources, |document, top| {
        let server = server(document, top, (&file, &home));
        let settings = settings::of(&server, &Origins::of(&files, top));
        (server, settings)
    })
}

fn server(document: &Document<'_>, top: &Table<'_, '_>, (file, home): (&Path, &Path)) -> Server {
    let seconds = Duration::from_secs;
    let day = seconds(86_400);
    let mut server = Server {
        file: file.to_owned(),
        home: home.to_owned(),
        var: home.join("var"),
        shutdown_timeout: seconds(30),
        stop_delay: Duration::ZERO,
        ready_path: None,
        user: None,
        io_threads: 0,
        sources: false,
        build_timeout: seconds(600),
        archives: Archives::default(),
        snapshot_every: seconds(10),
        log: Log { format: LogFormat::Terminal, level: "info".to_owned() },
        development: false,
        resources: Values::default(),
        listeners: Vec::new(),
        hosts: Vec::new(),
    };
    if let Some(table) = top.table("server") {
        if let Some(var) = folder(&table, ("var", "var"), home) {
            server.var = var;
        }
        server.shutdown_timeout = table.duration("shutdown_timeout", server.shutdown_timeout, Duration::ZERO..=day);
        server.stop_delay = table.duration("stop_delay", server.stop_delay, Duration::ZERO..=seconds(600));
        server.ready_path = ready_path(&table);
        server.user = user(&table);
        server.io_threads = table.count("io_threads", 0, 0..=1024) as usize;
        server.development = table.flag("development", false);
        table.finish();
    }
    if let Some(table) = top.table("log") {
        server.log.format = table.choice("format", &[("terminal", LogFormat::Terminal), ("json", LogFormat::Json)]);
        server.log.level = level(&table).unwrap_or(server.log.level);
        table.finish();
    }
    if let Some(table) = top.table("build") {
        server.sources = table.flag("sources", false);
        server.build_timeout = table.duration("timeout", server.build_timeout, seconds(1)..=day);
        table.finish();
    }
    if let Some(table) = top.table("archives") {
        server.archives = Archives::read(&table);
        table.finish();
    }
    if let Some(table) = top.table("sessions") {
        server.snapshot_every = table.duration("snapshot_every", server.snapshot_every, Duration::ZERO..=seconds(3600));
        table.finish();
    }
    if server.io_threads == 0 {
        server.io_threads = std::thread::available_parallelism().map_or(1, NonZero::get) + 1;
    }
    let access_log = top.table("access_log").map(|table| access_log(&table, &AccessLogKeys::new(&server.var), home));
    server.resources = top.pairs("resources", "database = \"postgres://db.example.com/shop\"").into();
    let (var, context, resources) = (server.var.clone(), context_defaults(top), &server.resources);
    let defaults = Defaults { home, var, context, access_log, resources };
    server.listeners = listeners(document, top, home);
    server.hosts = hosts(document, top, &defaults);
    server
}

/// What a host has when it does not say otherwise.
struct Defaults<'a> {
    home: &'a Path,
    var: PathBuf,
    context: ContextSettings,
    access_log: Option<AccessLogKeys>,
    resources: &'a Values,
}

fn access_log(table: &Table<'_, '_>, defaults: &AccessLogKeys, home: &Path) -> AccessLogKeys {
    let keys = defaults.read(table, home);
    table.finish();
    keys
}

fn context_defaults(top: &Table<'_, '_>) -> ContextSettings {
    let mut defaults = ContextSettings::default();
    if let Some(table) = top.table("defaults") {
        if let Some(context) = table.table("context") {
            defaults = ContextSettings::read(&context, &defaults);
            context.finish();
        }
        table.finish();
    }
    defaults
}

/// Returns `ready_path`; `""` is none.
fn ready_path(table: &Table<'_, '_>) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let is_good =
        |path: &str| path.is_empty() || (path.len() > 1 && path.bytes().all(is_plain) && normal_path(path).is_ok());
    const INSTEAD: &str = "write one of letters, digits and - . _ ~, as in `ready_path = \"/ready\"`, or \"\" for none";
    let path = table.checked("ready_path", "\"/ready\"", is_good, ("is not a path", INSTEAD))?;
    Some(path).filter(|path| !path.is_empty())
}

/// Returns `user`; `""` is none.
fn user(table: &Table<'_, '_>) -> Option<User> {
    let is_name = |name: &str| !name.is_empty() && !name.contains([':', '/']) && !name.contains(char::is_whitespace);
    let is_good = |text: &str| text.is_empty() || text.splitn(2, ':').all(is_name);
    const INSTEAD: &str = "write its name, as in `user = \"serval\"`, or `user = \"serval:www-data\"` with a group";
    let text = table.checked("user", "\"serval\"", is_good, ("is not a user", INSTEAD))?;
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group.to_owned())),
        None => (&*text, None),
    };
    (!name.is_empty()).then(|| User { name: name.to_owned(), group })
}

/// Returns `[log] level`, which the log's own reader would not refuse, but take for the name of a crate.
fn level(table: &Table<'_, '_>) -> Option<String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let text = table.text("level", "a string", "\"info\"")?;
    for directive in text.value.split(',') {
        // A directive with a span is for those who know them.
        if directive.contains('[') {
            continue;
        }
        let word = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim().to_ascii_lowercase();
        if !LEVELS.contains(&word.as_str()) {
            let instead = match near_miss(&word, LEVELS) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("write one of {}, or a list such as `info,serval_loader=debug`", list(LEVELS)),
            };
            table.wrong(&text, "level", "names no level", instead);
            return None;
        }
    }
    Some(text.value)
}

fn hosts(document: &Document<'_>, top: &Table<'_, '_>, defaults: &Defaults<'_>) -> Vec<Host> {
    let Some(tables) = top.tables("host") else {
        let webapps = defaults.home.join("webapps");
        check_webapps(document, &webapps, &quoted(&webapps.display().to_string()), None);
        let name = "localhost".to_owned();
        return vec![Host {
            access_log: defaults.access_log.clone().and_then(|keys| keys.of_host(&name)),
            name,
            aliases: Vec::new(),
            webapps,
            auto_deploy: true,
            deploy_ignore: Vec::new(),
            undeploy_old_versions: false,
            contexts: Vec::new(),
            context_defaults: defaults.context.clone(),
            error_pages: Vec::new(),
        }];
    };
    if tables.is_empty() {
        let instead = "write [[host]] and `name = \"localhost\"`, or leave `host` out for that one";
        document.problem(top.place_of("host"), "no host", instead);
    }
    let mut names: Vec<(String, Option<usize>)> = Vec::new();
    let mut hosts: Vec<Host> = Vec::new();
    for table in &tables {
        let host = host(table, defaults, &mut names);
        table.finish();
        if let Some(twin) = hosts.iter().position(|other| have_one_log(other, &host)) {
            let what = format!("the hosts {} and {} have one access log", name_shown(&tables[twin]), name_shown(table));
            let instead = "give each a `file` of its own in [host.access_log], or leave `file` out";
            document.problem(table.at, what, instead);
        }
        hosts.push(host);
    }
    hosts
}

/// Returns true if both hosts would write their requests to one file, and put it aside.
fn have_one_log(one: &Host, other: &Host) -> bool {
    let file = |host: &Host| host.access_log.as_ref().map(|log| log.folder.join(&log.file));
    file(one).is_some_and(|found| Some(found) == file(other))
}

/// Returns the name of a [[host]] as it is written.
fn name_shown(table: &Table<'_, '_>) -> String {
    table.written("name").unwrap_or_else(|| quoted("localhost"))
}

fn host(table: &Table<'_, '_>, defaults: &Defaults<'_>, names: &mut Vec<(String, Option<usize>)>) -> Host {
    let name = match table.text("name", "a string", "\"localhost\"") {
        Some(text) => host_name(table, "name", &text),
        // A name that has been noted as wrong is nobody's twin.
        None if table.place_of("name").is_some() => String::new(),
        None => "localhost".to_owned(),
    };
    take_name(table, &name, (&name_shown(table), table.place_of("name")), names);
    let mut aliases = Vec::new();
    for text in table.texts("aliases", "[\"www.example.com\"]").unwrap_or_default() {
        let alias = host_name(table, "aliases", &text);
        take_name(table, &alias, (&text.shown(), Some(text.at)), names);
        aliases.push(alias);
    }
    let home = defaults.home;
    let webapps = folder(table, ("webapps", "webapps"), home).unwrap_or_else(|| home.join("webapps"));
    let shown = path_shown(table, "webapps", &webapps);
    check_webapps(table.document, &webapps, &shown, table.place_of("webapps").or(table.at));
    let auto_deploy = table.flag("auto_deploy", true);
    let (deploy_ignore, undeploy_old_versions) = (deploy_ignore(table), table.flag("undeploy_old_versions", false));
    let mut contexts: Vec<ContextEntry> = Vec::new();
    let mut places = Vec::new();
    for inner in table.tables("context").unwrap_or_default() {
        let entry = context(&inner, &webapps, auto_deploy, defaults);
        inner.finish();
        let Some(entry) = entry else { continue };
        let at = inner.place_of("path");
        if let Some(twin) = contexts.iter().position(|other| other.path == entry.path) {
            let (path, elsewhere) =
                (inner.written("path").unwrap_or_default(), inner.document.first_elsewhere(places[twin], at));
            let what = format!("a second [[host.context]] at {path} in the host {}{elsewhere}", name_shown(table));
            inner.document.problem(at, what, "give it another path, or join the two");
        }
        contexts.push(entry);
        places.push(at);
    }
    let log = match table.table("access_log") {
        Some(inner) => {
            let base = defaults.access_log.clone().unwrap_or_else(|| AccessLogKeys::new(&defaults.var));
            Some(access_log(&inner, &base, home))
        }
        None => defaults.access_log.clone(),
    };
    let access_log = log.and_then(|keys| keys.of_host(&name));
    let context_defaults = defaults.context.clone();
    let error_pages = host_error_pages(table, home);
    Host {
        name,
        aliases,
        webapps,
        auto_deploy,
        deploy_ignore,
        undeploy_old_versions,
        contexts,
        context_defaults,
        access_log,
        error_pages,
    }
}

/// Returns the name in lower case, and notes what no request could ask for.
pub(crate) fn host_name(table: &Table<'_, '_>, key: &str, text: &Text) -> String {
    let name = text.value.to_lowercase();
    let plain = match key {
        "aliases" | "names" => name.strip_prefix("*.").unwrap_or(&name),
        _ => &name,
    };
    let labels_good = plain.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    });
    let address = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if !labels_good && address.is_none_or(|address| address.parse::<Ipv6Addr>().is_err()) {
        let instead = if plain.is_ascii() {
            "write a name without port and path, as in `www.example.com`"
        } else {
            "write it as browsers send it, in its `xn--` form"
        };
        table.wrong(text, key, "is not the name of a host", instead);
    }
    name
}

fn take_name(
    table: &Table<'_, '_>,
    name: &str,
    (shown, at): (&str, Option<usize>),
    names: &mut Vec<(String, Option<usize>)>,
) {
    let at = at.or(table.at);
    if let Some((_, first)) = names.iter().find(|(other, _)| !name.is_empty() && other == name) {
        let elsewhere = table.document.first_elsewhere(*first, at);
        let what = format!("a second host with the name {shown}{elsewhere}");
        table.document.problem(at, what, "give it another `name`, or remove one of the two");
    }
    names.push((name.to_owned(), at));
}

fn context(table: &Table<'_, '_>, webapps: &Path, auto_deploy: bool, defaults: &Defaults<'_>) -> Option<ContextEntry> {
    let path = table.text("path", "a string", "\"/shop\"");
    let webapp = table.text("webapp", "a string", "\"shop\"");
    let upstream = Upstream::read(table, defaults.home);
    let settings = ContextSettings::read(table, &defaults.context);
    let params = table.pairs("params", "currency = \"EUR\"").into();
    let env = values::env(table, &Values::default(), Some(defaults.resources));
    let Some(path) = path else {
        // A `path` of a wrong type has been noted already.
        if table.place_of("path").is_none() {
            let instead = "write the path it is served under, as in `path = \"/shop\"`, or \"\" for the root";
            table.document.problem(table.at, "[[host.context]] has no `path`", instead);
        }
        return None;
    };
    let normal = match normal_path(&path.value) {
        Ok(normal) => normal,
        Err(why) => {
            let instead = "write \"\" for the root, or a path such as \"/shop\" or \"/shop/eu\"";
            table.wrong(&path, "path", &format!("is not a context path: {why}"), instead);
            return None;
        }
    };
    let by_name = ContextName { path: normal.clone(), version: None }.folder();
    if table.place_of("proxy").is_some() {
        refuse_beside_proxy(table);
        let webapp = defaults.var.join("upstreams").join(by_name);
        return upstream.map(|upstream| ContextEntry {
            path: normal,
            webapp,
            upstream: Some(Arc::new(upstream)),
            settings,
            params,
            env,
        });
    }
    let webapp_path = match &webapp {
        Some(text) if text.value.is_empty() => {
            table.wrong(
                text,
                "webapp",
                "is not a folder",
                path.advice(format!("write its name, as in `webapp = \"{by_name}\"`")),
            );
            return None;
        }
        Some(text) => webapps.join(&text.value),
        None => webapps.join(by_name),
    };
    // A folder of `webapps` may come and go; no other is looked at again.
    let comes_and_goes = auto_deploy && webapp_path.parent() == Some(webapps);
    if !comes_and_goes && let Err((why, instead)) = look_into(&webapp_path) {
        let key = if webapp.is_some() { "webapp" } else { "path" };
        let what = format!("the webapp {} {why}", path_shown(table, key, &webapp_path));
        let at = webapp.as_ref().map(|text| text.at).or(table.at);
        let instead = format!("{instead}, or correct `webapp`, which is relative to the host's `webapps`");
        table.document.problem(at, what, instead);
    }
    Some(ContextEntry { path: normal, webapp: webapp_path, upstream: None, settings, params, env })
}

/// Notes what only a webapp can have.
fn refuse_beside_proxy(table: &Table<'_, '_>) {
    for (key, why) in [
        ("webapp", "and one context is not both"),
        ("params", "whose context has no webapp to read it"),
        ("env", "whose context has no webapp to read it"),
    ] {
        if let Some(at) = table.place_of(key) {
            let what = format!("`{key}` in [[host.context]] stands beside `proxy`, {why}");
            table.document.problem(Some(at), what, "remove one of the two");
        }
    }
}

/// Returns the absolute path of a folder, if the key is there.
pub(crate) fn folder(table: &Table<'_, '_>, (key, example): (&'static str, &str), home: &Path) -> Option<PathBuf> {
    let text = table.text(key, "a string", &format!("\"{example}\""))?;
    if text.value.is_empty() {
        table.wrong(&text, key, "is not a folder", format!("write its path, as in `{key} = \"{example}\"`"));
        return None;
    }
    let path = home.join(&text.value);
    if path.is_file() {
        table.wrong(&text, key, "is a file, but a folder is needed", "name another one");
        return None;
    }
    Some(path)
}

/// Returns the path that a key has led to; as it is written, if something was put in.
fn path_shown(table: &Table<'_, '_>, key: &str, path: &Path) -> String {
    table.written(key).filter(|written| written.contains("${")).unwrap_or_else(|| quoted(&path.display().to_string()))
}

fn check_webapps(document: &Document<'_>, webapps: &Path, shown: &str, at: Option<usize>) {
    if let Err((why, instead)) = look_into(webapps) {
        let what = format!("the webapps folder {shown} {why}");
        let instead = format!("{instead}, or set `webapps` in [[host]] to the folder of your webapps");
        document.problem(at, what, instead);
    }
}

/// Returns why a folder cannot be used, and what to do.
fn look_into(folder: &Path) -> Result<(), (String, &'static str)> {
    fs::read_dir(folder).map(drop).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ("does not exist".to_owned(), "create it"),
        io::ErrorKind::NotADirectory => ("is not a folder".to_owned(), "make it one"),
        io::ErrorKind::PermissionDenied => {
            ("cannot be read".to_owned(), "let the user that Serval runs as read it, and the folders above it")
        }
        _ => (format!("cannot be read ({error})"), "name another one"),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::remote_ip::RemoteIp;
    use crate::upstream::UpstreamAddress;

    /// Makes a home with `webapps/` and loads `toml` in it. In messages the home is `HOME`.
    pub(crate) fn load(toml: &[u8]) -> Result<Server, String> {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("webapps/shop")).unwrap();
        fs::create_dir_all(home.path().join("other/blog")).unwrap();
        fs::write(home.path().join("file"), "7\n").unwrap();
        fs::create_dir(home.path().join("conf")).unwrap();
        fs::write(home.path().join("conf/404.html"), "nothing is here").unwrap();
        for file in ["two/key.pem", "one/cert.pem", "one/key.pem", ".three/cert.pem", "four/other.pem"] {
            let file = home.path().join("conf/tls").join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        let path = home.path().join("server.toml");
        fs::write(&path, toml).unwrap();
        let shown = home.path().display().to_string();
        let result = load_server(&path, home.path()).map_err(|problems| {
            assert!(!problems.0.is_empty());
            problems.to_string().replace(&format!("{shown}/server.toml"), "server.toml").replace(&shown, "HOME")
        });
        result.map(|mut server| {
            let below = |path: &Path| {
                path.strip_prefix(home.path()).map_or(path.to_owned(), |path| Path::new("HOME").join(path))
            };
            server.file = below(&server.file);
            server.home = below(&server.home);
            server.var = below(&server.var);
            for tls in server.listeners.iter_mut().filter_map(|listener| Arc::get_mut(listener.tls.as_mut()?)) {
                for files in &mut tls.certificates {
                    (files.certificate, files.key) = (below(&files.certificate), below(&files.key));
                }
                [&mut tls.folder, &mut tls.client_ca, &mut tls.client_crl]
                    .into_iter()
                    .flatten()
                    .for_each(|path| *path = below(path));
            }
            for host in &mut server.hosts {
                host.webapps = below(&host.webapps);
                host.contexts.iter_mut().for_each(|entry| entry.webapp = below(&entry.webapp));
                host.access_log.iter_mut().for_each(|log| log.folder = below(&log.folder));
                host.error_pages.iter_mut().for_each(|page| page.file = below(&page.file));
            }
            server
        })
    }

    /// The file, a line of dashes, and what is said about it.
    #[track_caller]
    pub(crate) fn check(case: &str) {
        let (toml, expected) = case.split_once("----\n").expect("a line of dashes");
        let found = load(toml.as_bytes()).expect_err("problems");
        assert_eq!(found.trim(), expected.trim(), "\nfor\n{toml}");
    }

    #[track_caller]
    pub(crate) fn good(toml: &str) -> Server {
        load(toml.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn an_empty_file_means_all_defaults() {
        let server = good("");
        assert_eq!(server.home, Path::new("HOME"));
        assert_eq!(server.file, Path::new("HOME/server.toml"));
        assert_eq!(server.var, Path::new("HOME/var"));
        assert_eq!(server.shutdown_timeout, Duration::from_secs(30));
        assert_eq!(server.io_threads, std::thread::available_parallelism().unwrap().get() + 1);
        assert!(!server.sources && !server.development);
        assert_eq!(server.log, Log { format: LogFormat::Terminal, level: "info".into() });
        assert_eq!(server.listeners, [Listener::default()]);
        assert_eq!(server.listeners[0].address.to_string(), "127.0.0.1:8080");
        assert_eq!(server.hosts.len(), 1);
        assert_eq!(server.hosts[0].name, "localhost");
        assert_eq!(server.hosts[0].webapps, Path::new("HOME/webapps"));
        assert!(server.hosts[0].auto_deploy);
        assert_eq!(server.hosts[0].settings_for("/any"), ContextSettings::default());
        assert_eq!(good("\u{feff}# a file of another system\r\n"), server);
        assert_eq!(good("[[listener]]\n[[host]]\n[server]\n[log]\n[build]\n[defaults.context]\n"), server);
    }

    #[test]
    fn everything_set() {
        let server = good(
            r#"
            defaults.context = { workers_max = 8, form_bytes_max = "1MiB" }
            listener = [{ address = "127.0.0.1:0" }, { address = "127.0.0.1:0" }, { address = "[::1]:80", backlog = 0x10 }]
            [server]
            var = "state"
            shutdown_timeout = "0s"
            stop_delay = "10m"
            ready_path = "/health/ready"
            user = "serval:33"
            io_threads = 3
            development = true
            [log]
            format = "json"
            level = "WARN,serval_loader=debug,[span{a=b}]=trace"
            [build]
            sources = true
            timeout = "1h"
            [[host]]
            name = "Shop.example.com"
            aliases = ["*.Shop.example.com", "[::1]", "192.168.0.1"]
            webapps = "other"
            auto_deploy = false
            [[host.context]]
            path = "/ROOT"
            webapp = "../webapps/shop"
            queue_max = 1
            form_bytes_max = 5
            [[host.context]]
            path = "/blog"
            symlinks_outside = true
            [[host]]
            "#,
        );
        assert_eq!((server.io_threads, server.development, server.sources), (3, true, true));
        assert_eq!((server.shutdown_timeout, server.build_timeout), (Duration::ZERO, Duration::from_secs(3600)));
        assert_eq!(server.var, Path::new("HOME/state"));
        assert_eq!(server.stop_delay, Duration::from_secs(600));
        assert_eq!(server.ready_path.as_deref(), Some("/health/ready"));
        assert_eq!(server.user, Some(User { name: "serval".into(), group: Some("33".into()) }));
        assert_eq!(server.log.format, LogFormat::Json);
        assert_eq!(server.listeners[2].address.to_string(), "[::1]:80");
        assert_eq!(server.listeners[2].backlog, 16);
        let host = &server.hosts[0];
        assert_eq!(host.name, "shop.example.com");
        assert_eq!(host.aliases, ["*.shop.example.com", "[::1]", "192.168.0.1"]);
        assert_eq!(host.contexts[0].path, "");
        assert_eq!(host.contexts[0].webapp, Path::new("HOME/other/../webapps/shop"));
        assert_eq!(host.contexts[1].webapp, Path::new("HOME/other/blog"));
        let defaults = ContextSettings { workers_max: 8, form_bytes_max: 1 << 20, ..ContextSettings::default() };
        assert_eq!(host.settings_for("/else"), defaults);
        assert_eq!(host.settings_for(""), ContextSettings { queue_max: 1, form_bytes_max: 5, ..defaults.clone() });
        assert_eq!(host.settings_for("/blog"), ContextSettings { symlinks_outside: true, ..defaults });
        assert_eq!(server.hosts[1].name, "localhost");
    }

    #[test]
    fn values_may_come_from_elsewhere() {
        // Cargo sets this one for every test.
        let server = good(
            r#"
            [server]
            var = "${env:CARGO_PKG_NAME}"
            io_threads = "${file:file}"
            development = "${env:SERVAL_TEST_UNSET:-true}"
            shutdown_timeout = "${file:file}ms"
            [defaults.context]
            form_bytes_max = "${file:file}"
            "#,
        );
        assert_eq!(server.var, Path::new("HOME/serval-config"));
        assert_eq!((server.io_threads, server.development), (7, true));
        assert_eq!(server.shutdown_timeout, Duration::from_millis(7));
        assert_eq!(server.hosts[0].context_defaults.form_bytes_max, 7);
        check(
            "[server]\nio_threads = \"${env:CARGO_PKG_NAME}\"\ndevelopment = \"${file:file}\"\nvar = \"${env:SERVAL_TEST_UNSET}\"\n----\n\
             server.toml:2:14: `io_threads` in [server]: `${env:CARGO_PKG_NAME}` is not a whole number; write for example `io_threads = 0`\n\
             server.toml:3:15: `development` in [server]: `${file:file}` does not become true or false; write `development = false`\n\
             server.toml:4:7: the environment variable `SERVAL_TEST_UNSET` is not set; set it, or write a default, as in `${env:SERVAL_TEST_UNSET:-default}`",
        );
    }

    #[test]
    fn unknown_keys() {
        check(
            r#"
[[listener]]
  adress = "127.0.0.1:80"
head-timeout = "3s"
[sever]
[log]
colour = true
[defaults]
contexts = {}
[defaults.context]
workers = 3
"tab\there" = 1
[[host]]
[[host.context]]
path = "/a"
"größe" = { x = 1 }
----
server.toml:3:3: unknown key `adress` in [[listener]]; did you mean `address`?
server.toml:4:1: unknown key `head-timeout` in [[listener]]; did you mean `head_timeout`?
server.toml:5:2: unknown key `sever`; did you mean `server`?
server.toml:7:1: unknown key `colour` in [log]; its keys are `format`, `level`
server.toml:9:1: unknown key `contexts` in [defaults]; did you mean `context`?
server.toml:11:1: unknown key `workers` in [defaults.context]; did you mean `workers_max`?
server.toml:12:1: unknown key `tab\there` in [defaults.context]; its keys are `workers_max`, `queue_max`, `queue_timeout`, `slow_after`, `drain_timeout`, `init_timeout`, `request_body_bytes_max`, `form_bytes_max`, `parameter_count_max`, `form_methods`, `cookie_count_max`, `response_buffer_bytes`, `async_timeout`, `session_timeout`, `sessions_max`, `session_bytes_max`, `file_bytes_max`, `multipart_bytes_max`, `part_count_max`, `part_header_bytes_max`, `part_memory_bytes_max`, `settle_time`, `generations_kept`, `allow_foreign_writable`, `symlinks_outside`, `compression`, `proxy_connect_timeout`, `proxy_timeout`, `proxy_tunnel_timeout`, `proxy_connections_max`, `proxy_preserve_host`, `remote_ip`
server.toml:16:1: unknown key `größe` in [[host.context]]; its keys are `path`, `webapp`, `proxy`, `workers_max`, `queue_max`, `queue_timeout`, `slow_after`, `drain_timeout`, `init_timeout`, `request_body_bytes_max`, `form_bytes_max`, `parameter_count_max`, `form_methods`, `cookie_count_max`, `response_buffer_bytes`, `async_timeout`, `session_timeout`, `sessions_max`, `session_bytes_max`, `file_bytes_max`, `multipart_bytes_max`, `part_count_max`, `part_header_bytes_max`, `part_memory_bytes_max`, `settle_time`, `generations_kept`, `allow_foreign_writable`, `symlinks_outside`, `compression`, `proxy_connect_timeout`, `proxy_timeout`, `proxy_tunnel_timeout`, `proxy_connections_max`, `proxy_preserve_host`, `remote_ip`, `params`, `env`
"#,
        );
        check(
            "a = 1\n----\nserver.toml:1:1: unknown key `a`; the file's keys are `server`, `log`, `build`, `archives`, `sessions`, `access_log`, `resources`, `defaults`, `listener`, `host`",
        );
    }

    #[test]
    fn wrong_types() {
        check(
            r#"
log = 3
defaults = { context = "x" }
[server]
shutdown_timeout = 30
io_threads = "four"
development = "yes"
var = ["a"]
[build]
sources = 1
timeout = 1.5
[listener]
address = "127.0.0.1:80"
[[host]]
aliases = "www.example.com"
name = 1979-05-27
[[host]]
name = "b"
aliases = ["c", 3, { d = 1 }]
context = [1]
----
server.toml:2:7: `log` is a number, but a table is needed; write [log], and its keys below it
server.toml:3:24: `context` in [defaults] is a string, but a table is needed; write [defaults.context], and its keys below it
server.toml:5:20: `shutdown_timeout` in [server] is the number `30`, but a duration is needed; write for example `shutdown_timeout = "30s"`
server.toml:6:14: `io_threads` in [server]: `four` is not a whole number; write for example `io_threads = 0`
server.toml:7:15: `development` in [server] is the string `yes`, but true or false is needed; write for example `development = false`
server.toml:8:7: `var` in [server] is a list, but a string is needed; write for example `var = "var"`
server.toml:10:11: `sources` in [build] is the number `1`, but true or false is needed; write for example `sources = false`
server.toml:11:11: `timeout` in [build] is the number `1.5`, but a duration is needed; write for example `timeout = "10m"`
server.toml:12:1: `listener` is a table, but a list of tables is needed; write [[listener]] with two brackets, once for each, and its keys below it
server.toml:15:11: `aliases` in [[host]] is the string `www.example.com`, but a list of strings is needed; write for example `aliases = ["www.example.com"]`
server.toml:16:8: `name` in [[host]] is the date `1979-05-27`, but a string is needed; write for example `name = "localhost"`
server.toml:19:17: `aliases` in [[host]] is the number `3`, but a list of strings is needed; write for example `aliases = ["www.example.com"]`
server.toml:19:20: `aliases` in [[host]] is a table, but a list of strings is needed; write for example `aliases = ["www.example.com"]`
server.toml:20:12: `context` in [[host]] is the number `1`, but a list of tables is needed; write [[host.context]] with two brackets, once for each, and its keys below it
"#,
        );
    }

    #[test]
    fn out_of_bounds() {
        check(
            r#"
[server]
shutdown_timeout = "2d"
io_threads = 99999999999999999999999999999999999999999
[build]
timeout = "30 seconds"
[[listener]]
head_bytes_max = 4096
header_count_max = -1
connections_max = 0
head_timeout = "0s"
backlog = "1KiB"
[defaults.context]
form_bytes_max = "2MB"
request_body_bytes_max = "2048GiB"
session_timeout = "366d"
session_bytes_max = 1023
part_header_bytes_max = 255
part_count_max = 0
[[host]]
[[host.context]]
form_bytes_max = "33MiB"
path = "/a"
----
server.toml:3:20: `shutdown_timeout` in [server]: `2d` is out of bounds; write 0s to 24h, as in `shutdown_timeout = "30s"`
server.toml:4:14: `io_threads` in [server]: `99999999999999999999999999999999999999999` is out of bounds; write 0 to 1024, as in `io_threads = 0`
server.toml:6:11: `timeout` in [build]: `30 seconds` is not a duration; write a whole number with ms, s, m, h or d, as in `timeout = "10m"`
server.toml:8:18: `head_bytes_max` in [[listener]]: `4096` is out of bounds; write 8KiB to 1MiB, as in `head_bytes_max = "8KiB"`
server.toml:9:20: `header_count_max` in [[listener]]: `-1` is out of bounds; write 1 to 10000, as in `header_count_max = 100`
server.toml:10:19: `connections_max` in [[listener]]: `0` is out of bounds; write 1 to 1000000, as in `connections_max = 8192`
server.toml:11:16: `head_timeout` in [[listener]]: `0s` is out of bounds; write 1ms to 1h, as in `head_timeout = "20s"`
server.toml:12:11: `backlog` in [[listener]]: `1KiB` is not a whole number; write for example `backlog = 1024`
server.toml:14:18: `form_bytes_max` in [defaults.context]: `2MB` is not a byte size; write for example `form_bytes_max = "2MiB"`
server.toml:15:26: `request_body_bytes_max` in [defaults.context]: `2048GiB` is out of bounds; write 0B to 1TiB, as in `request_body_bytes_max = "1GiB"`
server.toml:16:19: `session_timeout` in [defaults.context]: `366d` is out of bounds; write 0s to 365d, as in `session_timeout = "30m"`
server.toml:17:21: `session_bytes_max` in [defaults.context]: `1023` is out of bounds; write 1KiB to 64MiB, as in `session_bytes_max = "1MiB"`
server.toml:18:25: `part_header_bytes_max` in [defaults.context]: `255` is out of bounds; write 256B to 64KiB, as in `part_header_bytes_max = "2KiB"`
server.toml:19:18: `part_count_max` in [defaults.context]: `0` is out of bounds; write 1 to 10000, as in `part_count_max = 50`
server.toml:22:18: `form_bytes_max` in [[host.context]]: `33MiB` is out of bounds; write 0B to 32MiB, as in `form_bytes_max = "2MiB"`
"#,
        );
    }

    #[test]
    fn addresses() {
        check(
            r#"
listener = [
    { address = "" },
    { address = "8080" },
    { address = ":8081" },
    { address = "*:8082" },
    { address = "localhost:8083" },
    { address = "127.0.0.1" },
    { address = "::1" },
    { address = "::1:8084" },
    { address = "127.0.0.1:65536" },
    { address = "http://a/" },
    { address = 8080 },
]
----
server.toml:3:17: `address` in [[listener]]: `""` is not an address; write an IP address and a port up to 65535, as in `127.0.0.1:8080` or `[::1]:8080`
server.toml:4:17: `address` in [[listener]]: `8080` is not an address; write `127.0.0.1:8080` for this machine only, or `0.0.0.0:8080` for all networks
server.toml:5:17: `address` in [[listener]]: `:8081` is not an address; write `127.0.0.1:8081` for this machine only, or `0.0.0.0:8081` for all networks
server.toml:6:17: `address` in [[listener]]: `*:8082` is not an address; write `127.0.0.1:8082` for this machine only, or `0.0.0.0:8082` for all networks
server.toml:7:17: `address` in [[listener]]: `localhost:8083` is not an address; write `127.0.0.1:8083`
server.toml:8:17: `address` in [[listener]]: `127.0.0.1` is not an address; write the port too, as in `127.0.0.1:8080`
server.toml:9:17: `address` in [[listener]]: `::1` is not an address; write the port too, as in `[::1]:8080`
server.toml:10:17: `address` in [[listener]]: `::1:8084` is not an address; write `[::1]:8084`
server.toml:11:17: `address` in [[listener]]: `127.0.0.1:65536` is not an address; write an IP address and a port up to 65535, as in `127.0.0.1:8080` or `[::1]:8080`
server.toml:12:17: `address` in [[listener]]: `http://a/` is not an address; write an IP address and a port up to 65535, as in `127.0.0.1:8080` or `[::1]:8080`
server.toml:13:17: `address` in [[listener]] is the number `8080`, but an address is needed; write for example `address = "127.0.0.1:8080"`
"#,
        );
        check(
            r#"
[[listener]]
[[listener]]
address = "127.0.0.1:8080"
[[listener]]
address = "0.0.0.0:8080"
[[listener]]
address = "127.0.0.1:0"
[[listener]]
address = "127.0.0.1:0"
----
server.toml:4:11: a second [[listener]] at `127.0.0.1:8080`; give it another port, or remove it
server.toml:6:11: the listener `0.0.0.0:8080` takes the port of `127.0.0.1:8080`; give it another port, or remove it
"#,
        );
        check(
            r#"
listener = [
    { address = "[::]:8080" },
    { address = "0.0.0.0:8080" },
    { address = "127.0.0.1:8081" },
    { address = "[::]:8081" },
    { address = "0.0.0.0:8082" },
    { address = "[::1]:8082" },
    { address = "127.0.0.1:8083" },
    { address = "[::1]:8083" },
]
----
server.toml:4:17: the listener `0.0.0.0:8080` takes the port of `[::]:8080`; give it another port, or remove it
server.toml:6:17: the listener `[::]:8081` takes the port of `127.0.0.1:8081`; give it another port, or remove it
"#,
        );
        check(
            r#"
listener = []
host = []
----
server.toml:2:12: no listener; write [[listener]] and `address = "127.0.0.1:8080"`, or leave `listener` out for that one
server.toml:3:8: no host; write [[host]] and `name = "localhost"`, or leave `host` out for that one
"#,
        );
    }

    #[test]
    fn what_is_told_at_the_stop_and_who_it_is() {
        let none = good("[server]\nready_path = \"\"\nuser = \"\"");
        assert_eq!((none.ready_path, none.user), (None, None));
        let user = good("[server]\nuser = \"serval\"").user.unwrap();
        assert_eq!((user.to_string(), user.group), ("serval".to_owned(), None));
        const PATH: &str = "is not a path; write one of letters, digits and - . _ ~, as in `ready_path = \"/ready\"`, or \"\" for none";
        for path in ["ready", "/", "/ready/", "//ready", "/a/../b", "/a%20b", "/a;b", "/a?b"] {
            let told = load(format!("[server]\nready_path = \"{path}\"").as_bytes()).unwrap_err();
            assert_eq!(told, format!("server.toml:2:14: `ready_path` in [server]: `{path}` {PATH}"));
        }
        const USER: &str =
            "is not a user; write its name, as in `user = \"serval\"`, or `user = \"serval:www-data\"` with a group";
        for user in [":", "serval:", ":www-data", "a:b:c", "a b", "/a"] {
            let told = load(format!("[server]\nuser = \"{user}\"").as_bytes()).unwrap_err();
            assert_eq!(told, format!("server.toml:2:8: `user` in [server]: `{user}` {USER}"));
        }
        let told = load(b"[server]\nstop_delay = \"11m\"").unwrap_err();
        assert_eq!(
            told,
            "server.toml:2:14: `stop_delay` in [server]: `11m` is out of bounds; write 0s to 10m, as in `stop_delay = \"0s\"`"
        );
    }

    #[test]
    fn hosts_and_their_contexts() {
        check(
            r#"
[[host]]
name = "a"
aliases = ["b", "A"]
[[host]]
name = "b"
webapps = "missing"
[[host]]
name = "c:80"
webapps = "file"
[[host]]
name = "d"
webapps = ""
[[host]]
[[host]]
[[host]]
name = "*.e"
[[host]]
name = "größe"
webapps = "a\u0000b"
[[host]]
name = 3
[[host]]
name = 4
----
server.toml:4:17: a second host with the name `A`; give it another `name`, or remove one of the two
server.toml:6:8: a second host with the name `b`; give it another `name`, or remove one of the two
server.toml:7:11: the webapps folder `HOME/missing` does not exist; create it, or set `webapps` in [[host]] to the folder of your webapps
server.toml:9:8: `name` in [[host]]: `c:80` is not the name of a host; write a name without port and path, as in `www.example.com`
server.toml:10:11: `webapps` in [[host]]: `file` is a file, but a folder is needed; name another one
server.toml:13:11: `webapps` in [[host]]: `""` is not a folder; write its path, as in `webapps = "webapps"`
server.toml:15:1: a second host with the name `localhost`; give it another `name`, or remove one of the two
server.toml:17:8: `name` in [[host]]: `*.e` is not the name of a host; write a name without port and path, as in `www.example.com`
server.toml:19:8: `name` in [[host]]: `größe` is not the name of a host; write it as browsers send it, in its `xn--` form
server.toml:20:11: the webapps folder `HOME/a\u{0}b` cannot be read (file name contained an unexpected NUL byte); name another one, or set `webapps` in [[host]] to the folder of your webapps
server.toml:22:8: `name` in [[host]] is the number `3`, but a string is needed; write for example `name = "localhost"`
server.toml:24:8: `name` in [[host]] is the number `4`, but a string is needed; write for example `name = "localhost"`
"#,
        );
        check(
            r#"
[[host]]
[[host.context]]
path = "shop"
[[host.context]]
path = "/shop/"
[[host.context]]
path = "/a/../b"
[[host.context]]
path = "//a"
[[host.context]]
path = "/shop##2"
[[host.context]]
webapp = "shop"
[[host.context]]
path = "/shop"
[[host.context]]
path = "/shop"
webapp = "other"
[[host.context]]
path = ""
[[host.context]]
path = "/"
[[host.context]]
path = "/x"
webapp = "../nowhere"
[[host.context]]
path = "/y"
webapp = "/dev/null"
[[host.context]]
path = "/z"
webapp = ""
----
server.toml:4:8: `path` in [[host.context]]: `shop` is not a context path: it does not start with `/`; write "" for the root, or a path such as "/shop" or "/shop/eu"
server.toml:6:8: `path` in [[host.context]]: `/shop/` is not a context path: it ends with `/`; write "" for the root, or a path such as "/shop" or "/shop/eu"
server.toml:8:8: `path` in [[host.context]]: `/a/../b` is not a context path: a segment is `.` or `..`; write "" for the root, or a path such as "/shop" or "/shop/eu"
server.toml:10:8: `path` in [[host.context]]: `//a` is not a context path: a segment is empty; write "" for the root, or a path such as "/shop" or "/shop/eu"
server.toml:12:8: `path` in [[host.context]]: `/shop##2` is not a context path: it contains `?`, `#` or `;`; write "" for the root, or a path such as "/shop" or "/shop/eu"
server.toml:13:1: [[host.context]] has no `path`; write the path it is served under, as in `path = "/shop"`, or "" for the root
server.toml:18:8: a second [[host.context]] at `/shop` in the host `localhost`; give it another path, or join the two
server.toml:23:8: a second [[host.context]] at `/` in the host `localhost`; give it another path, or join the two
server.toml:26:10: the webapp `HOME/webapps/../nowhere` does not exist; create it, or correct `webapp`, which is relative to the host's `webapps`
server.toml:29:10: the webapp `/dev/null` is not a folder; make it one, or correct `webapp`, which is relative to the host's `webapps`
server.toml:32:10: `webapp` in [[host.context]]: `""` is not a folder; write its name, as in `webapp = "z"`
"#,
        );
        // The same path in another host is another context.
        good("[[host]]\n[[host.context]]\npath = \"/a\"\n[[host]]\nname = \"b\"\n[[host.context]]\npath = \"/a\"");
    }

    #[test]
    fn log_levels() {
        check(
            r#"
[log]
level = "inof"
format = "jsonl"
----
server.toml:3:9: `level` in [log]: `inof` names no level; did you mean `info`?
server.toml:4:10: `format` in [log]: `jsonl` is not known; did you mean `json`?
"#,
        );
        check(
            r#"
[log]
level = "info,serval=loud"
format = "pretty"
----
server.toml:3:9: `level` in [log]: `info,serval=loud` names no level; write one of `error`, `warn`, `info`, `debug`, `trace`, `off`, or a list such as `info,serval_loader=debug`
server.toml:4:10: `format` in [log]: `pretty` is not known; write one of `terminal`, `json`
"#,
        );
        check(
            r#"
[log]
level = ""
----
server.toml:3:9: `level` in [log]: `""` names no level; write one of `error`, `warn`, `info`, `debug`, `trace`, `off`, or a list such as `info,serval_loader=debug`
"#,
        );
    }

    #[test]
    fn not_toml() {
        check(
            r#"
[server
var = a
[log]
level = "info
----
server.toml:2:8: not TOML: unclosed table, expected `]`; write `key = value`, `[table]` or `[[table]]`, with strings in quotes
server.toml:5:14: not TOML: invalid basic string, expected `"`; write `key = value`, `[table]` or `[[table]]`, with strings in quotes
"#,
        );
        check(
            r#"
[server]
var = "a"
var = "b"
[server]
----
server.toml:4:1: not TOML: duplicate key; remove one of the two, or join the two tables
server.toml:5:2: not TOML: duplicate key; remove one of the two, or join the two tables
"#,
        );
        check(
            r#"
=
----
server.toml:2:1: not TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`; write `key = value`, `[table]` or `[[table]]`, with strings in quotes
server.toml:2:2: not TOML: string values must be quoted, expected literal string; write `key = value`, `[table]` or `[[table]]`, with strings in quotes
"#,
        );
        check(
            r#"
[log]
level = "a\u{0}b"
----
server.toml:3:13: not TOML: too few unicode value digits, expected unicode hexadecimal value; write `key = value`, `[table]` or `[[table]]`, with strings in quotes
"#,
        );
    }

    #[test]
    fn any_file_is_answered_with_a_problem() {
        assert_eq!(
            load(b"a = 1\n# \xc3\xa9 \xff").unwrap_err(),
            "server.toml:2:5: a byte that is not UTF-8; save the file as UTF-8"
        );
        assert_eq!(
            load(&vec![b'\n'; 1024 * 1024 + 1]).unwrap_err(),
            "server.toml: is larger than 1MiB; name a configuration file"
        );
        assert!(load(&[0; 100]).is_err());
        // Nesting, of every kind, ends in a problem and not in a stack that overflows.
        for (open, tail) in [("a.", "a = 1"), ("a = {", ""), ("[", ""), ("[[", "")] {
            assert!(load(format!("{}{tail}", open.repeat(100_000)).as_bytes()).is_err(), "{open}");
        }
        assert!(load(format!("[{}a]", "a.".repeat(100_000)).as_bytes()).is_err());
        assert!(load(format!("a = {}", "[".repeat(500_000)).as_bytes()).is_err());
        assert!(load(format!("a = {}", "{a=".repeat(300_000)).as_bytes()).is_err());
        // More problems than anyone reads.
        let many: String = (0..60_000).map(|number| format!("key_{number} = 1\n")).collect();
        let problems = load(many.as_bytes()).unwrap_err();
        assert_eq!(problems.lines().count(), 51);
        assert_eq!(problems.lines().last().unwrap(), "server.toml: and 59950 more problems; correct these first");
    }

    #[test]
    fn what_is_no_file() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", home.path().join("link")).unwrap();
        let said = |name: &str| {
            let problems = load_server(&home.path().join(name), home.path()).unwrap_err().to_string();
            problems.replace(&format!("{}/", home.path().display()), "")
        };
        assert_eq!(said(""), ": is a folder, but a file is needed; name the file inside it");
        assert_eq!(
            said("none"),
            "none: does not exist; create it (an empty file will do), or name another one with --config"
        );
        assert_eq!(said("link"), "link: is a link to a file that does not exist; correct the link, or remove it");
        let problems = load_server(Path::new("/dev/null"), home.path()).unwrap_err().to_string();
        assert_eq!(problems, "/dev/null: is not an ordinary file; name a file of text");
        assert!(load_server(Path::new(""), Path::new("")).is_err());
    }

    #[test]
    fn missing_webapps_of_the_default_host() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("server.toml");
        fs::write(&path, "").unwrap();
        let problems = load_server(&path, home.path()).unwrap_err().to_string();
        assert_eq!(
            problems.replace(&home.path().display().to_string(), "HOME"),
            "HOME/server.toml: the webapps folder `HOME/webapps` does not exist; create it, or set `webapps` in [[host]] to the folder of your webapps"
        );
    }

    const SHIPPED: &str = include_str!("../../../conf/server.toml");

    /// Returns the shipped file with every commented key and table in force.
    pub(crate) fn uncommented() -> String {
        let is_toml = |line: &str| {
            let key = line.split(" = ").next().unwrap_or("");
            line.starts_with('[')
                || (line.contains(" = ")
                    && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        };
        let lines = SHIPPED.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_shipped_file_holds_the_defaults() {
        let mut defaults = good("[access_log]");
        defaults.sources = true;
        assert_eq!(good(SHIPPED), defaults);
        let mut shipped = good(&uncommented());
        let entries = std::mem::take(&mut shipped.hosts[0].contexts);
        let pages = std::mem::take(&mut shipped.hosts[0].error_pages);
        assert_eq!(pages, [HostErrorPage { status: Some(404), file: "HOME/conf/404.html".into() }]);
        // What has no default in words: a name as an example, and a table whose presence says something.
        defaults.listeners[0].server_header = Some("Serval".into());
        defaults.listeners[0].proxy_name = Some("www.example.com".into());
        defaults.listeners[0].proxy_port = Some(443);
        let tls = std::mem::take(&mut shipped.listeners[0].tls).unwrap();
        let (in_home, names) = (|file: &str| Path::new("HOME/conf/tls").join(file), tls.certificates[1].names.clone());
        assert_eq!(
            (tls.certificates[0].certificate.clone(), tls.certificates[1].key.clone(), names),
            (in_home("cert.pem"), in_home("shop-key.pem"), Some(vec!["shop.example.com".to_owned()]))
        );
        assert_eq!((tls.folder.clone(), tls.certificates.len()), (Some(in_home("")), 4));
        assert_eq!((&tls.client_ca, &tls.client_crl), (&Some(in_home("clients.pem")), &Some(in_home("revoked.pem"))));
        let tls_defaults = good("[[listener]]\n[listener.tls]\nfolder = \"conf\"").listeners.remove(0).tls.unwrap();
        assert_eq!(
            (&tls.versions, tls.client_certificate, tls.tickets, tls.strict_sni),
            (&tls_defaults.versions, tls_defaults.client_certificate, tls_defaults.tickets, tls_defaults.strict_sni)
        );
        let settings = ContextSettings { remote_ip: Some(RemoteIp::default()), ..ContextSettings::default() };
        defaults.hosts[0].context_defaults = settings.clone();
        // Names of the user's own, as examples.
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| (String::from(*a), String::from(*b))).collect::<Vec<_>>()
        };
        let database = "postgres://db.example.com/shop";
        defaults.resources = pairs(&[("database", database)]).into();
        assert_eq!(shipped, defaults);
        let params = pairs(&[("currency", "EUR")]).into();
        let env = pairs(&[("mail_from", "shop@example.com"), ("db", database)]).into();
        let webapp = "HOME/webapps/shop".into();
        let shop = ContextEntry { path: "/shop".into(), webapp, upstream: None, settings, params, env };
        let (address, path) = (UpstreamAddress::Tcp("127.0.0.1".to_owned(), 9090), None);
        let legacy = ContextEntry {
            path: "/legacy".into(),
            webapp: "HOME/var/upstreams/legacy".into(),
            upstream: Some(Arc::new(Upstream { address, path })),
            settings: shipped.hosts[0].context_defaults.clone(),
            params: Values::default(),
            env: Values::default(),
        };
        assert_eq!(entries, [shop, legacy]);
    }

    #[test]
    fn the_shipped_file_mentions_every_key() {
        // A message about an unknown key lists the known ones.
        let names = [
            "server",
            "log",
            "build",
            "archives",
            "sessions",
            "access_log",
            "defaults.context",
            "defaults.context.remote_ip",
        ];
        let tables = names.map(|name| format!("[{name}]"));
        let lists = ["listener", "host"].map(|name| format!("[[{name}]]"));
        let uncommented = uncommented();
        let inner = ["context", "error_page"].map(|name| format!("[[host]]\n[[host.{name}]]"));
        let tls = ["[listener.tls]", "[[listener.tls.certificates]]"].map(|header| format!("[[listener]]\n{header}"));
        for table in tables.into_iter().chain(lists).chain(inner).chain(tls) {
            let header = table.lines().last().unwrap();
            let section = uncommented.split_once(&format!("{header}\n")).unwrap_or_else(|| panic!("no {header}")).1;
            let section = section.split("\n[").next().unwrap();
            let problems = load(format!("{table}\nxxxxxxxxxxxxxxx = 1\n").as_bytes()).unwrap_err();
            let keys = problems.lines().find_map(|line| line.split_once("keys are ")).expect("the known keys").1;
            for key in keys.split(", ").map(|key| key.trim_matches('`')) {
                let inner = format!("{}.{key}]", header.trim_end_matches(']').replace("[[", "["));
                let elsewhere = (header == "[[host.context]]" && uncommented.contains(&format!("\n{key} = ")))
                    || uncommented.lines().any(|line| line.trim_start_matches('[').starts_with(&inner[1..]));
                assert!(elsewhere || format!("\n{section}").contains(&format!("\n{key} = ")), "{header} {key}");
            }
        }
    }
}
