//! From a setup of the vectors to hosts, contexts, a listener and web.toml: nothing is written to disk here.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::format::{App, ErrorPage, Filter, Multipart, Scalar, Servlet, Session, Setup};
use super::keys::{self, As, Means, text, texts};

/// Keys and values of one table of TOML.
pub type Table = BTreeMap<&'static str, String>;

/// A setup, in Serval's words.
pub struct Plan {
    pub listener: Table,
    pub hosts: Vec<HostPlan>,
    /// It changes its folders or the server, so it has a process of its own.
    pub alone: bool,
}

pub struct HostPlan {
    pub name: String,
    pub aliases: Vec<String>,
    /// `[host.access_log]`, but for its file.
    pub access_log: Option<Table>,
    pub webapps: Vec<Webapp>,
}

pub struct Webapp {
    pub folder: String,
    /// Without version.
    pub path: String,
    /// `[[host.context]]`, but for its path.
    pub context: Table,
    pub remote_ip: Option<Table>,
    /// The text of web.toml.
    pub web: String,
    pub lacks: Vec<Lack>,
}

/// Why cases of a webapp do not show what they should.
#[derive(Clone, PartialEq, Eq)]
pub enum Lack {
    /// A key that is not there yet: all its cases fail.
    Missing(&'static str),
    NotApplicable(&'static str),
}

impl Plan {
    pub fn of(name: &str, setup: &Setup) -> Result<Plan> {
        let mut shared = Settings::default();
        for (key, value) in keys::LISTENER_DEFAULTS {
            shared.listener.insert(key, value.to_owned());
        }
        for (key, value) in keys::CONTEXT_DEFAULTS {
            shared.context.insert(key, value.to_owned());
        }
        shared.all(keys::CONNECTOR, &setup.connector).context("connector")?;
        if setup.manager {
            shared.lacks.push(Lack::Missing(keys::MANAGER));
        }
        let access_log = setup.access_log.as_ref().map(|pattern| access_log(setup, pattern));
        let own = format!("{}.test", name.replace('_', "-"));
        let named: Vec<(&str, &[String], &[App])> = match (&setup.apps, &setup.hosts) {
            (Some(apps), None) => vec![(&own, &[], apps)],
            (None, Some(hosts)) => hosts.iter().map(|(name, host)| (&**name, &*host.aliases, &*host.apps)).collect(),
            _ => bail!("a setup has either `apps` or `hosts`"),
        };
        let mut hosts = Vec::new();
        for (name, aliases, apps) in named {
            let webapps = apps.iter().map(|app| webapp(app, &shared)).collect::<Result<_>>()?;
            let (name, aliases) = (name.to_owned(), aliases.to_vec());
            hosts.push(HostPlan { name, aliases, access_log: access_log.clone(), webapps });
        }
        ensure!(!hosts.is_empty(), "a setup has a host");
        if let Some(host) = hosts.iter().find(|host| host.name.contains('/') || host.name.starts_with('.')) {
            bail!("{:?} is not the name of a host", host.name);
        }
        Ok(Plan { listener: shared.listener, hosts, alone: setup.auto_deploy || setup.manager })
    }

    /// Returns the host that is asked where a request names none.
    pub fn first_host(&self) -> &str {
        &self.hosts[0].name
    }

    /// Returns what is lacking of the webapp that a request belongs to, as far as its target shows.
    pub fn lacks(&self, host: Option<&str>, target: &str) -> Vec<Lack> {
        let host = self.hosts.iter().find(|plan| Some(&*plan.name) == host).unwrap_or(&self.hosts[0]);
        let covers = |webapp: &&Webapp| {
            let rest = target.strip_prefix(&webapp.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ';', '?']))
        };
        let longest = host.webapps.iter().filter(covers).map(|webapp| webapp.path.len()).max();
        let meant = host.webapps.iter().filter(covers).filter(|webapp| Some(webapp.path.len()) == longest);
        meant.flat_map(|webapp| webapp.lacks.iter().cloned()).collect()
    }
}

fn access_log(setup: &Setup, pattern: &str) -> Table {
    let json = !matches!(setup.access_log_json, Value::Null | Value::Bool(false));
    Table::from([
        ("pattern", text(pattern)),
        ("format", text(if json { "json" } else { "text" })),
        ("rotate", text("never")),
        ("use_remote_ip", setup.access_log_use_proxy.to_string()),
    ])
}

/// What the tables of `keys` make of Tomcat's settings.
#[derive(Default, Clone)]
struct Settings {
    listener: Table,
    context: Table,
    remote_ip: Table,
    web: BTreeMap<&'static str, Table>,
    /// Flags of `[[servlet]]`, with the names of the servlets that have them.
    flags: Vec<(&'static str, String)>,
    lacks: Vec<Lack>,
}

impl Settings {
    fn all(&mut self, table: &[(&str, Means)], given: &BTreeMap<String, Scalar>) -> Result<()> {
        for (name, Scalar(value)) in given {
            self.one(keys::find(table, name)?, value).with_context(|| name.clone())?;
        }
        Ok(())
    }

    fn one(&mut self, means: Means, value: &str) -> Result<()> {
        match means {
            Means::Listener(key, how) => drop(self.listener.insert(key, how.toml(value)?)),
            Means::Context(key, how) => drop(self.context.insert(key, how.toml(value)?)),
            Means::RemoteIp(key, how) => drop(self.remote_ip.insert(key, how.toml(value)?)),
            Means::Web(table, key, how) => drop(self.web.entry(table).or_default().insert(key, how.toml(value)?)),
            Means::Servlets(key) => {
                self.flags.extend(value.split(',').map(|name| (key, name.trim().to_owned())));
            }
            Means::Nothing(_) => {}
            Means::NotYet(key) => self.lacks.push(Lack::Missing(key)),
            Means::NotApplicable(reason) => self.lacks.push(Lack::NotApplicable(reason)),
        }
        Ok(())
    }

    fn web(&mut self, table: &'static str, key: &'static str, value: String) {
        self.web.entry(table).or_default().insert(key, value);
    }
}

/// Also for a webapp that a step writes.
pub fn webapp_alone(app: &App) -> Result<Webapp> {
    webapp(app, &Settings::default())
}

fn webapp(app: &App, shared: &Settings) -> Result<Webapp> {
    let of = || format!("the webapp {:?}", app.dir);
    let mut settings = shared.clone();
    for (table, key, value) in keys::WEB_DEFAULTS {
        settings.web(table, key, value.to_owned());
    }
    settings.all(keys::CONTEXT, &app.context).with_context(of)?;
    if app.context.get("sessionCookiePath").is_some_and(|Scalar(path)| path == "/") {
        // The path of a descriptor shares no ids in Tomcat.
        settings.web("session", "shared_id", "true".to_owned());
    }
    settings.all(keys::COOKIES, &app.cookie_processor).with_context(of)?;
    session(&mut settings, &app.session).with_context(of)?;
    let mut remote_ip = None;
    for valve in &app.valves {
        if let Some(found) = valve_of(&mut settings, valve).with_context(of)? {
            remote_ip = Some(found);
        }
    }
    let mut blocks = Vec::new();
    for servlet in &app.servlets {
        blocks.push(servlet_block(&mut settings, servlet).with_context(of)?);
    }
    for (place, filter) in app.filters.iter().enumerate() {
        blocks.extend(filter_block(&mut settings, filter, place).with_context(of)?);
    }
    for page in &app.error_pages {
        blocks.push(error_page_block(page).with_context(of)?);
    }
    if app.login.is_some() || !app.roles.is_empty() {
        settings.lacks.push(Lack::Missing(keys::LOGIN));
    }
    if !app.constraints.is_empty() || app.deny_uncovered {
        settings.lacks.push(Lack::Missing(keys::CONSTRAINTS));
    }
    Ok(Webapp {
        folder: app.dir.clone(),
        path: context_path(&app.dir),
        context: settings.context.clone(),
        remote_ip,
        web: web_toml(app, &settings.web, &blocks),
        lacks: settings.lacks,
    })
}

/// As SEMANTICS 1 says.
fn context_path(folder: &str) -> String {
    match folder.split("##").next().unwrap_or_default() {
        "ROOT" | "" => String::new(),
        name => format!("/{}", name.replace('#', "/")),
    }
}

fn session(settings: &mut Settings, session: &Session) -> Result<()> {
    let mut put = |key, how: As, value: &str| -> Result<()> {
        settings.web("session", key, how.toml(value).with_context(|| format!("session: {key}"))?);
        Ok(())
    };
    let texts = [("cookie_name", &session.name), ("cookie_path", &session.path), ("cookie_domain", &session.domain)];
    for (key, value) in texts {
        value.iter().try_for_each(|value| put(key, As::Text, value))?;
    }
    let scalars = [
        ("timeout", As::Minutes, &session.timeout_min),
        ("http_only", As::Flag, &session.http_only),
        ("secure", As::Flag, &session.secure),
        ("cookie_max_age", As::Seconds, &session.max_age),
    ];
    for (key, how, value) in scalars {
        // Tomcat's cookie is Secure on secure connections, and HttpOnly by its Context, also where its descriptor says no; a negative
        // age is none.
        let said = value.iter().filter(|Scalar(value)| {
            !(matches!(key, "secure" | "http_only") && value == "false"
                || key == "cookie_max_age" && value.starts_with('-'))
        });
        said.into_iter().try_for_each(|Scalar(value)| put(key, how, value))?;
    }
    let modes: Vec<&str> = session.tracking.iter().flatten().map(String::as_str).collect();
    match (modes.contains(&"COOKIE"), modes.contains(&"URL")) {
        // None is said.
        (false, false) => {}
        (true, by_url) => settings.web("session", "url_rewriting", by_url.to_string()),
        (false, true) => settings.web("session", "cookies", "false".to_owned()),
    }
    Ok(())
}

fn valve_of(settings: &mut Settings, valve: &BTreeMap<String, Value>) -> Result<Option<Table>> {
    let kind = valve.get("kind").and_then(Value::as_str).unwrap_or_default();
    let attributes = valve.iter().filter(|(name, _)| *name != "kind");
    let attributes = attributes.map(|(name, value)| Ok((name.clone(), serde_json::from_value(value.clone())?)));
    match kind {
        "remote-ip" => {
            let mut of_valve = Settings::default();
            of_valve.all(keys::REMOTE_IP, &attributes.collect::<Result<_>>()?)?;
            settings.lacks.append(&mut of_valve.lacks);
            return Ok(Some(of_valve.remote_ip));
        }
        "error-report" => settings.all(keys::ERROR_REPORT, &attributes.collect::<Result<_>>()?)?,
        kind => settings.one(keys::find(keys::VALVES, kind)?, "")?,
    }
    Ok(None)
}

fn error_page_block(page: &ErrorPage) -> Result<String> {
    let of = match (&page.code, &page.exception) {
        (Some(Scalar(code)), None) => format!("status = {}\n", As::Count.toml(code)?),
        (None, Some(class)) => {
            let kind = keys::KINDS.iter().find(|(known, _)| known == class);
            let (_, kind) =
                kind.with_context(|| format!("{class} is no kind of crates/e2e/src/conformance/keys.rs"))?;
            format!("kind = {}\n", text(kind))
        }
        (None, None) => String::new(),
        (Some(_), Some(_)) => bail!("an error page has either `code` or `exception`"),
    };
    Ok(format!("[[error_page]]\n{of}location = {}\n", text(&page.location)))
}

fn servlet_block(settings: &mut Settings, servlet: &Servlet) -> Result<String> {
    let class = match (&*servlet.kind, &servlet.script) {
        ("act", Some(script)) if is_async(script) => "act-async",
        ("echo" | "act" | "http" | "lastmod" | "default", _) => &*servlet.kind,
        (kind, _) => bail!("the servlet {:?} is of the unknown kind {kind:?}", servlet.name),
    };
    let mut init: BTreeMap<&str, String> = BTreeMap::new();
    if class == "default" {
        settings.all(keys::DEFAULT_SERVLET, &servlet.init).with_context(|| servlet.name.clone())?;
    } else {
        init.extend(servlet.init.iter().map(|(name, Scalar(value))| (&**name, value.clone())));
    }
    init.extend(servlet.script.iter().map(|script| ("do", script.join("\n"))));
    let patterns = texts(servlet.patterns.iter().map(String::as_str));
    let mut block = format!("[[servlet]]\nname = {}\nclass = {}\n", text(&servlet.name), text(class));
    block += &format!("url_patterns = {patterns}\n");
    for (key, _) in settings.flags.iter().filter(|(_, name)| *name == servlet.name) {
        block += &format!("{key} = true\n");
    }
    if let Some(order) = servlet.load_on_startup {
        block += &format!("load_on_startup = {order}\n");
    }
    if let Some(multipart) = servlet.multipart {
        block += "multipart = true\n";
        limits(settings, multipart);
    }
    Ok(block + &init_block("servlet", &init))
}

fn is_async(script: &[String]) -> bool {
    script.iter().any(|line| line.trim_start_matches("try:").starts_with("async"))
}

/// Below zero: no limit, and Serval's own default.
fn limits(settings: &mut Settings, multipart: Multipart) {
    let limits = [
        ("file_bytes_max", multipart.max_file_size),
        ("request_bytes_max", multipart.max_request_size),
        ("memory_bytes_max", multipart.threshold),
    ];
    for (key, limit) in limits {
        if let Some(limit) = limit.filter(|limit| *limit >= 0) {
            settings.web("multipart", key, limit.to_string());
        }
    }
}

fn filter_block(settings: &mut Settings, filter: &Filter, place: usize) -> Result<Option<String>> {
    let kind = filter.kind.as_deref().unwrap_or("trace");
    if kind != "trace" {
        settings.one(keys::find(keys::FILTERS, kind)?, "")?;
        return Ok(None);
    }
    let mut block = format!("[[filter]]\nname = {}\nclass = \"trace\"\norder = {place}\n", text(&filter.name));
    let init = filter.init.iter().map(|(name, Scalar(value))| (&**name, value.clone())).collect();
    block += &init_block("filter", &init);
    for map in &filter.maps {
        block += "[[filter.map]]\n";
        block += &match (&map.url, &map.servlet) {
            (Some(url), None) => format!("url_patterns = {}\n", texts([&**url])),
            (None, Some(servlet)) => format!("servlets = {}\n", texts([&**servlet])),
            _ => bail!("a map of the filter {:?} has either `url` or `servlet`", filter.name),
        };
        if !map.on.is_empty() {
            block += &format!("dispatchers = {}\n", texts(map.on.iter().map(String::as_str)));
        }
    }
    Ok(Some(block))
}

fn init_block(of: &str, init: &BTreeMap<&str, String>) -> String {
    if init.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = init.iter().map(|(name, value)| format!("{} = {}\n", text(name), text(value))).collect();
    format!("[{of}.init]\n{}", lines.concat())
}

fn web_toml(app: &App, tables: &BTreeMap<&'static str, Table>, blocks: &[String]) -> String {
    let mut web = String::new();
    if let Some(welcome) = &app.welcome {
        web += &format!("welcome_files = {}\n", texts(welcome.iter().map(String::as_str)));
    }
    web += &tables.get("").map(lines).unwrap_or_default();
    // The parameter that tells webapps apart is its folder, unless the webapp says otherwise.
    let mut params: BTreeMap<&str, &str> = BTreeMap::from([("app", &*app.dir)]);
    params.extend(app.context_params.iter().map(|(name, value)| (&**name, &**value)));
    web += "[params]\n";
    for (name, value) in params {
        web += &format!("{} = {}\n", text(name), text(value));
    }
    if !app.mime.is_empty() {
        web += "[mime]\n";
        for (extension, media_type) in &app.mime {
            web += &format!("{} = {}\n", text(extension), text(media_type));
        }
    }
    for (name, keys) in tables.iter().filter(|(name, _)| !name.is_empty()) {
        web += &format!("[{name}]\n{}", lines(keys));
    }
    web + &blocks.concat()
}

/// Writes the keys of a table.
pub fn lines(table: &Table) -> String {
    table.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}
