//! `conf/server.toml`: the settings of the whole server, its listeners, its hosts and their contexts.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use crate::context_name::{ContextName, normal_path};
use crate::context_settings::ContextSettings;
use crate::problem::{Problem, Problems, list, near_miss, quoted};
use crate::raw::{self, Document, Table, Text};
use crate::substitute::Sources;

/// Holds all of server.toml, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The file that was read; absolute.
    pub file: PathBuf,
    /// The folder that relative paths of the file lie in; absolute.
    pub home: PathBuf,
    /// What Serval writes: private copies, logs, sessions, the SDK. Absolute; default `var` in the home. It need not
    /// exist.
    pub var: PathBuf,
    /// How long requests may run on at shutdown, 0 to 24 h; default 30 s.
    pub shutdown_timeout: Duration,
    /// I/O threads, 1 to 1024; default (and 0 in the file) one more than there are cores.
    pub io_threads: usize,
    /// `[build] sources`: build webapps that carry their source; default false.
    pub sources: bool,
    /// `[build] timeout`: how long one build may take, 1 s to 24 h; default 10 min.
    pub build_timeout: Duration,
    /// `[log]`.
    pub log: Log,
    /// Shows the reasons of errors on error pages; default false.
    pub development: bool,
    /// Never empty; default one with its defaults. No two have one address, but for port 0.
    pub listeners: Vec<Listener>,
    /// Never empty; default one with its defaults. The first is the default host.
    pub hosts: Vec<Host>,
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

/// Holds one `[[listener]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it accepts connections; default `127.0.0.1:8080`. Port 0 lets the system choose a free one.
    pub address: SocketAddr,
    /// Bytes of a request's line and headers, 8 KiB to 1 MiB; default 8 KiB.
    pub head_bytes_max: usize,
    /// Headers of a request, 1 to 10000; default 100.
    pub header_count_max: usize,
    /// Connections at once, 1 to 1000000; default 8192.
    pub connections_max: usize,
    /// How long a head may take to arrive, and how long a connection may be idle between two requests, 1 ms to 1 h;
    /// default 20 s.
    pub head_timeout: Duration,
    /// How long the next piece of a body may take to arrive, 1 ms to 1 h; default 20 s.
    pub body_timeout: Duration,
    /// How long a client may read nothing of a response, 1 ms to 24 h; default 60 s.
    pub write_timeout: Duration,
    /// Connections the system holds until they are accepted, 1 to 65535; default 1024.
    pub backlog: u32,
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
    /// Mounts every folder of `webapps`, as they come and go; default true. False: only those of `contexts`.
    pub auto_deploy: bool,
    /// `[[host.context]]`; no two have one path.
    pub contexts: Vec<ContextEntry>,
    /// `[defaults.context]`: for contexts without an entry.
    pub context_defaults: ContextSettings,
}

/// Holds one `[[host.context]]`: what the name of a folder cannot say. It may be about a context that `auto_deploy`
/// mounts, and configures it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextEntry {
    /// `""` for the root, or `/a/b` in normal form.
    pub path: String,
    /// The webapp's folder; absolute. The default is the folder of `webapps` with the path's name. It need not exist if
    /// it lies in `webapps`.
    pub webapp: PathBuf,
    /// Its settings, with `[defaults.context]` for what the entry does not say.
    pub settings: ContextSettings,
}

impl Host {
    /// Returns the settings of the context at a path: its entry's, else those of `[defaults.context]`.
    pub fn settings_for(&self, context_path: &str) -> ContextSettings {
        let entry = self.contexts.iter().find(|entry| entry.path == context_path);
        entry.map_or(&self.context_defaults, |entry| &entry.settings).clone()
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            head_bytes_max: 8192,
            header_count_max: 100,
            connections_max: 8192,
            head_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(60),
            backlog: 1024,
        }
    }
}

/// Reads a server.toml. Relative paths in it, `${file:...}` too, lie in `home`.
///
/// The folders of webapps are looked for; nothing is created, and no address is tried.
pub fn load_server(path: &Path, home: &Path) -> Result<Server, Problems> {
    let unreadable = |what: &str, instead: String| {
        Problems(vec![Problem { file: path.into(), line: None, column: None, what: what.into(), instead }])
    };
    let place = |path: &Path| absolute(path).map_err(|error| unreadable("has no absolute path", error.to_string()));
    let (file, home) = (place(path)?, place(home)?);
    let Some(text) = raw::read(path)? else {
        let instead = "create it (an empty file will do), or name another one with --config";
        return Err(unreadable("does not exist", instead.to_owned()));
    };
    let sources = Sources { environment: &|name| std::env::var(name), folder: &home };
    Document::load(path, &text, sources, |document, top| server(document, top, (&file, &home)))
}

fn server(document: &Document<'_>, top: &Table<'_, '_>, (file, home): (&Path, &Path)) -> Server {
    let seconds = Duration::from_secs;
    let day = seconds(86_400);
    let mut server = Server {
        file: file.to_owned(),
        home: home.to_owned(),
        var: home.join("var"),
        shutdown_timeout: seconds(30),
        io_threads: 0,
        sources: false,
        build_timeout: seconds(600),
        log: Log { format: LogFormat::Terminal, level: "info".to_owned() },
        development: false,
        listeners: Vec::new(),
        hosts: Vec::new(),
    };
    if let Some(table) = top.table("server") {
        if let Some(var) = folder(&table, "var", home) {
            server.var = var;
        }
        server.shutdown_timeout = table.duration("shutdown_timeout", server.shutdown_timeout, Duration::ZERO..=day);
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
    if server.io_threads == 0 {
        server.io_threads = std::thread::available_parallelism().map_or(1, NonZero::get) + 1;
    }
    let defaults = context_defaults(top);
    server.listeners = listeners(document, top);
    server.hosts = hosts(document, top, home, &defaults);
    server
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

fn listeners(document: &Document<'_>, top: &Table<'_, '_>) -> Vec<Listener> {
    let Some(tables) = top.tables("listener") else { return vec![Listener::default()] };
    if tables.is_empty() {
        let instead = "write [[listener]] and `address = \"127.0.0.1:8080\"`, or leave `listener` out for that one";
        document.problem(top.place_of("listener"), "no listener", instead);
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for table in &tables {
        let listener = listener(table);
        table.finish();
        let twin = listeners.iter().find(|other| cannot_both_listen(other.address, listener.address));
        if let Some(twin) = twin {
            let what = if twin.address == listener.address {
                format!("a second [[listener]] at `{}`", listener.address)
            } else {
                format!("the listener `{}` takes the port of `{}`", listener.address, twin.address)
            };
            document.problem(table.place_of("address").or(table.at), what, "give it another port, or remove it");
        }
        listeners.push(listener);
    }
    listeners
}

fn listener(table: &Table<'_, '_>) -> Listener {
    let d = Listener::default();
    let (least, hour, day) = (Duration::from_millis(1), Duration::from_secs(3600), Duration::from_secs(86_400));
    let mut address = d.address;
    if let Some(text) = table.text("address", "an address", "\"127.0.0.1:8080\"") {
        match text.value.parse() {
            Ok(found) => address = found,
            Err(_) => {
                table.wrong(&text, "address", "is not an address", format!("write {}", address_advice(&text.value)));
            }
        }
    }
    Listener {
        address,
        head_bytes_max: table.bytes("head_bytes_max", d.head_bytes_max as u64, 8192..=1024 * 1024) as usize,
        header_count_max: table.count("header_count_max", d.header_count_max as u64, 1..=10_000) as usize,
        connections_max: table.count("connections_max", d.connections_max as u64, 1..=1_000_000) as usize,
        head_timeout: table.duration("head_timeout", d.head_timeout, least..=hour),
        body_timeout: table.duration("body_timeout", d.body_timeout, least..=hour),
        write_timeout: table.duration("write_timeout", d.write_timeout, least..=day),
        backlog: table.count("backlog", u64::from(d.backlog), 1..=65_535) as u32,
    }
}

/// Returns what to write for an address that is none, as near to what is there as we can guess.
fn address_advice(written: &str) -> String {
    if let Ok(ip) = written.trim_matches(['[', ']']).parse::<IpAddr>() {
        return format!("the port too, as in `{}`", SocketAddr::new(ip, 8080));
    }
    let (host, port) = written.rsplit_once(':').unwrap_or(("", written));
    match (host, port.parse::<u16>()) {
        ("" | "*", Ok(port)) => {
            format!("`127.0.0.1:{port}` for this machine only, or `0.0.0.0:{port}` for all networks")
        }
        ("localhost", Ok(port)) => format!("`127.0.0.1:{port}`"),
        (host, Ok(port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("`[{host}]:{port}`"),
        _ => "an IP address and a port up to 65535, as in `127.0.0.1:8080` or `[::1]:8080`".to_owned(),
    }
}

/// Returns true if the system would refuse the second of two addresses.
fn cannot_both_listen(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || (same_family && any))
}

fn hosts(document: &Document<'_>, top: &Table<'_, '_>, home: &Path, defaults: &ContextSettings) -> Vec<Host> {
    let Some(tables) = top.tables("host") else {
        let webapps = home.join("webapps");
        check_webapps(document, &webapps, None);
        return vec![Host {
            name: "localhost".to_owned(),
            aliases: Vec::new(),
            webapps,
            auto_deploy: true,
            contexts: Vec::new(),
            context_defaults: defaults.clone(),
        }];
    };
    if tables.is_empty() {
        let instead = "write [[host]] and `name = \"localhost\"`, or leave `host` out for that one";
        document.problem(top.place_of("host"), "no host", instead);
    }
    let mut names: Vec<String> = Vec::new();
    let mut hosts = Vec::new();
    for table in &tables {
        hosts.push(host(table, home, defaults, &mut names));
        table.finish();
    }
    hosts
}

fn host(table: &Table<'_, '_>, home: &Path, defaults: &ContextSettings, names: &mut Vec<String>) -> Host {
    let name = match table.text("name", "a string", "\"localhost\"") {
        Some(text) => host_name(table, "name", &text),
        None => "localhost".to_owned(),
    };
    take_name(table, &name, table.place_of("name"), names);
    let mut aliases = Vec::new();
    for text in table.texts("aliases", "[\"www.example.com\"]").unwrap_or_default() {
        let alias = host_name(table, "aliases", &text);
        take_name(table, &alias, Some(text.at), names);
        aliases.push(alias);
    }
    let webapps = folder(table, "webapps", home).unwrap_or_else(|| home.join("webapps"));
    check_webapps(table.document, &webapps, table.place_of("webapps").or(table.at));
    let auto_deploy = table.flag("auto_deploy", true);
    let mut contexts: Vec<ContextEntry> = Vec::new();
    for inner in table.tables("context").unwrap_or_default() {
        let entry = context(&inner, &webapps, auto_deploy, defaults);
        inner.finish();
        let Some(entry) = entry else { continue };
        if contexts.iter().any(|other| other.path == entry.path) {
            let shown = if entry.path.is_empty() { "/" } else { &entry.path };
            let what = format!("a second [[host.context]] at {} in the host {}", quoted(shown), quoted(&name));
            inner.document.problem(inner.place_of("path"), what, "give it another path, or join the two");
        }
        contexts.push(entry);
    }
    Host { name, aliases, webapps, auto_deploy, contexts, context_defaults: defaults.clone() }
}

/// Returns the name in lower case, and notes what no request could ask for.
fn host_name(table: &Table<'_, '_>, key: &str, text: &Text) -> String {
    let name = text.value.to_lowercase();
    let plain = match key {
        "aliases" => name.strip_prefix("*.").unwrap_or(&name),
        _ => &name,
    };
    let labels_good = plain.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    });
    let address = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if !labels_good && address.is_none_or(|address| address.parse::<std::net::Ipv6Addr>().is_err()) {
        let instead = if plain.is_ascii() {
            "write a name without port and path, as in `www.example.com`"
        } else {
            "write it as browsers send it, in its `xn--` form"
        };
        table.wrong(text, key, "is not the name of a host", instead);
    }
    name
}

fn take_name(table: &Table<'_, '_>, name: &str, at: Option<usize>, names: &mut Vec<String>) {
    if names.iter().any(|other| other == name) {
        let what = format!("a second host with the name {}", quoted(name));
        table.document.problem(at.or(table.at), what, "give it another `name`, or remove one of the two");
    }
    names.push(name.to_owned());
}

fn context(
    table: &Table<'_, '_>,
    webapps: &Path,
    auto_deploy: bool,
    defaults: &ContextSettings,
) -> Option<ContextEntry> {
    let path = table.text("path", "a string", "\"/shop\"");
    let webapp = table.text("webapp", "a string", "\"shop\"");
    let settings = ContextSettings::read(table, defaults);
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
    let webapp_path = match &webapp {
        Some(text) if text.value.is_empty() => {
            table.wrong(text, "webapp", "is not a folder", format!("write its name, as in `webapp = \"{by_name}\"`"));
            return None;
        }
        Some(text) => webapps.join(&text.value),
        None => webapps.join(by_name),
    };
    // A folder of `webapps` may come and go; no other is looked at again.
    let comes_and_goes = auto_deploy && webapp_path.parent() == Some(webapps);
    if !comes_and_goes && let Err(why) = look_into(&webapp_path) {
        let what = format!("the webapp {} {why}", quoted(&webapp_path.display().to_string()));
        let at = webapp.as_ref().map(|text| text.at).or(table.at);
        table.document.problem(at, what, "create it, or correct `webapp`, which is relative to the host's `webapps`");
    }
    Some(ContextEntry { path: normal, webapp: webapp_path, settings })
}

/// Returns the absolute path of a folder, if the key is there.
fn folder(table: &Table<'_, '_>, key: &'static str, home: &Path) -> Option<PathBuf> {
    let text = table.text(key, "a string", &format!("\"{key}\""))?;
    if text.value.is_empty() {
        table.wrong(&text, key, "is not a folder", format!("write its path, as in `{key} = \"{key}\"`"));
        return None;
    }
    let path = home.join(&text.value);
    if path.is_file() {
        table.wrong(&text, key, "is a file, but a folder is needed", "name another one");
        return None;
    }
    Some(path)
}

fn check_webapps(document: &Document<'_>, webapps: &Path, at: Option<usize>) {
    if let Err(why) = look_into(webapps) {
        let what = format!("the webapps folder {} {why}", quoted(&webapps.display().to_string()));
        document.problem(at, what, "create it, or set `webapps` in [[host]] to the folder of your webapps");
    }
}

fn look_into(folder: &Path) -> Result<(), String> {
    fs::read_dir(folder).map(drop).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::NotADirectory => "is not a folder".to_owned(),
        _ => format!("cannot be read ({error})"),
    })
}
