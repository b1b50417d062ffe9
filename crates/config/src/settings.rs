//! Each value of a configuration in force, in the words of the file, and where it is from: for `serval config show`.
//!
//! It is made of the checked settings, so that a value is shown as it was understood. What webapps alone read is never shown, and neither
//! is what came from a `${file:...}`.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::access_log::{AccessLog, Rotate};
use crate::archives::Archives;
use crate::context_settings::ContextSettings;
use crate::listener::{Address, Listener};
use crate::origins::{Origin, Origins, way};
use crate::remote_ip::RemoteIp;
use crate::server::{ContextEntry, Host, LogFormat, Server};
use crate::tls::{CertificateFiles, ClientCertificate, Tls};
use crate::uri_rules::{Escape, UriRules};
use crate::value::{show_bytes, show_duration};
use crate::values::Values;

/// Holds one value in force. Two are equal if the values are, also such as are not shown, wherever they are from.
#[derive(Clone)]
pub struct Setting {
    /// The table, from the top of the file on, with the number of each of several, from 0: `server`, `listener[0]`,
    /// `host[0].context[1].env`.
    pub table: String,
    /// The key in it, in quotes where the file needs them.
    pub key: String,
    pub value: Value,
    pub from: Origin,
    /// What `value` does not show.
    hidden: String,
}

/// What is shown of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// In the form that TOML and JSON share.
    Shown(String),
    /// It may be a secret.
    Hidden,
    /// The key has no default, and no file sets it.
    Unset,
}

impl Setting {
    /// Says whether a server that runs cannot change it.
    pub fn needs_restart(&self) -> bool {
        const KEYS: [(&str, &str); 4] =
            [("server", "var"), ("server", "user"), ("server", "io_threads"), ("log", "format")];
        KEYS.contains(&(&*self.table, &*self.key))
    }
}

impl PartialEq for Setting {
    fn eq(&self, other: &Setting) -> bool {
        let parts = |setting: &Setting| (setting.table.clone(), setting.key.clone(), setting.value.clone());
        parts(self) == parts(other) && self.hidden == other.hidden
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}: {:?}, {:?}", self.table, self.key, self.value, self.from)
    }
}

/// Returns a string in the form that TOML and JSON share.
pub(crate) fn text(text: &str) -> String {
    let mut shown = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => shown.extend(['\\', char]),
            _ if char.is_control() => drop(write!(shown, "\\u{:04X}", u32::from(char))),
            _ => shown.push(char),
        }
    }
    shown.push('"');
    shown
}

fn path(path: &std::path::Path) -> String {
    text(&path.display().to_string())
}

/// Puts another path in the place of one that is shown.
pub(crate) fn set_path(settings: &mut [Setting], (table, key): (&str, &str), other: &std::path::Path) {
    for setting in settings.iter_mut().filter(|setting| setting.table == table && setting.key == key) {
        if let Value::Shown(value) = &mut setting.value {
            *value = path(other);
        }
    }
}

fn texts<T: ToString>(items: &[T]) -> String {
    format!("[{}]", items.iter().map(|item| text(&item.to_string())).collect::<Vec<_>>().join(", "))
}

fn duration(duration: std::time::Duration) -> String {
    text(&show_duration(duration))
}

fn bytes(bytes: impl TryInto<u64>) -> String {
    text(&show_bytes(bytes.try_into().unwrap_or(u64::MAX)))
}

type Pairs = Vec<(&'static str, Option<String>)>;

/// Returns the values of all tables, in the order of the shipped file.
pub(crate) fn of(server: &Server, origins: &Origins<'_>) -> Vec<Setting> {
    let mut all = All { origins, settings: Vec::new() };
    all.table("server", "", of_server(server));
    let format = if server.log.format == LogFormat::Json { "json" } else { "terminal" };
    all.table("log", "", vec![("format", Some(text(format))), ("level", Some(text(&server.log.level)))]);
    let timeout = duration(server.build_timeout);
    all.table("build", "", vec![("sources", Some(server.sources.to_string())), ("timeout", Some(timeout))]);
    let snapshots = duration(server.snapshot_every);
    all.table("sessions", "", vec![("snapshot_every", Some(snapshots))]);
    all.table("archives", "", of_archives(&server.archives));
    all.names("resources", &server.resources);
    // All hosts have the same.
    server.hosts.iter().take(1).for_each(|host| all.context("defaults.context", &host.context_defaults));
    for (number, listener) in server.listeners.iter().enumerate() {
        let table = format!("listener[{number}]");
        all.table(&table, "", of_listener(listener));
        match &listener.tls {
            Some(tls) => all.tls(&way(&table, "tls"), tls),
            None => all.table(&table, "", vec![("tls", None)]),
        }
    }
    for (number, host) in server.hosts.iter().enumerate() {
        all.host(&format!("host[{number}]"), host);
    }
    all.settings
}

struct All<'o> {
    origins: &'o Origins<'o>,
    settings: Vec<Setting>,
}

impl All<'_> {
    /// The keys of a table; what it does not set itself is from another one, if that sets it.
    fn table(&mut self, table: &str, else_of: &str, pairs: Pairs) {
        for (key, value) in pairs {
            let own = self.origins.get(&way(table, key));
            let from = own.or_else(|| self.origins.get(&way(else_of, key))).cloned().unwrap_or(Origin::Default);
            let is_of_file =
                matches!(&from, Origin::File { put_in, .. } if put_in.iter().any(|what| what.starts_with("${file:")));
            let (value, hidden) = match value {
                None => (Value::Unset, String::new()),
                Some(value) if is_of_file => (Value::Hidden, value),
                Some(value) => (Value::Shown(value), String::new()),
            };
            self.settings.push(Setting { table: table.to_owned(), key: key.to_owned(), value, from, hidden });
        }
    }

    /// Values that webapps alone read.
    fn names(&mut self, table: &str, values: &Values) {
        for (name, value) in values.iter() {
            let from = self.origins.get(&way(table, name)).cloned().unwrap_or(Origin::Default);
            let (table, key, hidden) = (table.to_owned(), way("", name), value.clone());
            self.settings.push(Setting { table, key, value: Value::Hidden, from, hidden });
        }
    }

    fn tls(&mut self, table: &str, tls: &Tls) {
        self.table(table, "", of_tls(tls));
        // The first may be that of the table itself.
        let mut own = tls.certificates.iter().filter(|files| !files.of_folder).peekable();
        if self.origins.get(&way(table, "certificate")).is_some() {
            let pair = own.next();
            let file = |file: fn(&CertificateFiles) -> &PathBuf| pair.map(|pair| path(file(pair)));
            self.table(
                table,
                "",
                vec![("certificate", file(|pair| &pair.certificate)), ("key", file(|pair| &pair.key))],
            );
        }
        for (number, files) in own.enumerate() {
            let keys = vec![
                ("certificate", Some(path(&files.certificate))),
                ("key", Some(path(&files.key))),
                ("names", files.names.as_deref().map(texts)),
            ];
            self.table(&format!("{table}.certificates[{number}]"), "", keys);
        }
    }

    fn host(&mut self, table: &str, host: &Host) {
        let keys = vec![
            ("name", Some(text(&host.name))),
            ("aliases", Some(texts(&host.aliases))),
            ("webapps", Some(path(&host.webapps))),
            ("auto_deploy", Some(host.auto_deploy.to_string())),
            ("deploy_ignore", Some(texts(&host.deploy_ignore))),
            ("undeploy_old_versions", Some(host.undeploy_old_versions.to_string())),
        ];
        self.table(table, "", keys);
        let inner = way(table, "access_log");
        match &host.access_log {
            Some(log) => self.table(&inner, "access_log", of_access_log(log)),
            None => self.table(&inner, "access_log", vec![("enabled", Some("false".to_owned()))]),
        }
        for (number, page) in host.error_pages.iter().enumerate() {
            let keys = vec![("status", page.status.map(|status| status.to_string())), ("file", Some(path(&page.file)))];
            self.table(&format!("{table}.error_page[{number}]"), "", keys);
        }
        for (number, entry) in host.contexts.iter().enumerate() {
            self.entry(&format!("{table}.context[{number}]"), entry);
        }
    }

    fn entry(&mut self, table: &str, entry: &ContextEntry) {
        let webapp = entry.upstream.is_none().then(|| path(&entry.webapp));
        let upstream = entry.upstream.as_ref().map(|upstream| text(&upstream.to_string()));
        self.table(table, "", vec![("path", Some(text(&entry.path))), ("webapp", webapp), ("proxy", upstream)]);
        self.context(table, &entry.settings);
        self.names(&way(table, "params"), &entry.params);
        self.names(&way(table, "env"), &entry.env);
    }

    fn context(&mut self, table: &str, settings: &ContextSettings) {
        self.table(table, "defaults.context", of_context(settings));
        match &settings.remote_ip {
            Some(rules) => self.table(&way(table, "remote_ip"), "defaults.context.remote_ip", of_remote_ip(rules)),
            None => self.table(table, "defaults.context", vec![("remote_ip", None)]),
        }
    }
}

fn of_server(server: &Server) -> Pairs {
    vec![
        ("var", Some(path(&server.var))),
        ("shutdown_timeout", Some(duration(server.shutdown_timeout))),
        ("stop_delay", Some(duration(server.stop_delay))),
        ("ready_path", Some(text(server.ready_path.as_deref().unwrap_or("")))),
        ("user", Some(text(&server.user.as_ref().map_or_else(String::new, ToString::to_string)))),
        ("io_threads", Some(server.io_threads.to_string())),
        ("development", Some(server.development.to_string())),
    ]
}

fn of_archives(archives: &Archives) -> Pairs {
    vec![
        ("bytes_max", Some(bytes(archives.bytes_max))),
        ("ratio_max", Some(archives.ratio_max.to_string())),
        ("entry_count_max", Some(archives.entry_count_max.to_string())),
        ("depth_max", Some(archives.depth_max.to_string())),
    ]
}

fn of_listener(listener: &Listener) -> Pairs {
    let l = listener;
    let mut pairs = vec![
        ("address", Some(text(&l.address.to_string()))),
        ("unix_mode", matches!(l.address, Address::Unix(_)).then(|| text(&format!("{:04o}", l.unix_mode)))),
        ("unix_owner", l.unix_owner.as_deref().map(text)),
        ("protocols", Some(texts(&l.protocols.names()))),
        ("head_bytes_max", Some(bytes(l.head_bytes_max))),
        ("target_bytes_max", Some(bytes(l.target_bytes_max))),
        ("header_count_max", Some(l.header_count_max.to_string())),
        ("connections_max", Some(l.connections_max.to_string())),
        ("connections_per_address_max", Some(l.connections_per_address_max.to_string())),
        ("head_timeout", Some(duration(l.head_timeout))),
        ("keep_alive_timeout", Some(duration(l.keep_alive_timeout))),
        ("requests_per_connection_max", Some(l.requests_per_connection_max.to_string())),
        ("unread_body_bytes_max", Some(bytes(l.unread_body_bytes_max))),
        ("trailer_bytes_max", Some(bytes(l.trailer_bytes_max))),
        ("trailers", Some(texts(&l.trailers))),
        ("body_timeout", Some(duration(l.body_timeout))),
        ("body_rate_min", Some(bytes(l.body_rate_min))),
        ("write_timeout", Some(duration(l.write_timeout))),
        ("backlog", Some(l.backlog.to_string())),
        ("ipv6_only", Some(l.ipv6_only.to_string())),
        ("tcp_keepalive", Some(duration(l.tcp_keepalive))),
        ("send_buffer_bytes", Some(bytes(l.send_buffer_bytes))),
        ("receive_buffer_bytes", Some(bytes(l.receive_buffer_bytes))),
        ("proxy_protocol", Some(texts(&l.proxy_protocol.iter().map(ToString::to_string).collect::<Vec<_>>()))),
        ("h2_streams_max", Some(l.h2_streams_max.to_string())),
        ("h2_window_bytes", Some(bytes(l.h2_window_bytes))),
        ("h2_overhead_max", Some(l.h2_overhead_max.to_string())),
    ];
    pairs.extend(of_uri_rules(&l.uri));
    pairs.extend([
        ("server_header", l.server_header.as_deref().map(text)),
        ("secure", Some(l.secure.to_string())),
        ("allow_trace", Some(l.allow_trace.to_string())),
        ("proxy_name", l.proxy_name.as_deref().map(text)),
        ("proxy_port", l.proxy_port.map(|port| port.to_string())),
        ("https_redirect_port", Some(l.https_redirect_port.unwrap_or(0).to_string())),
        ("hsts", Some(text(l.hsts.as_deref().unwrap_or("")))),
    ]);
    pairs
}

fn of_tls(tls: &Tls) -> Pairs {
    let or_none = |file: &Option<PathBuf>| file.as_deref().map(path);
    let client_certificate = match tls.client_certificate {
        ClientCertificate::No => "none",
        ClientCertificate::Optional => "optional",
        ClientCertificate::Required => "required",
    };
    vec![
        ("folder", or_none(&tls.folder)),
        ("versions", Some(texts(&tls.versions.iter().map(|version| version.name()).collect::<Vec<_>>()))),
        ("client_certificate", Some(text(client_certificate))),
        ("client_ca", or_none(&tls.client_ca)),
        ("client_crl", or_none(&tls.client_crl)),
        ("tickets", Some(tls.tickets.to_string())),
        ("strict_sni", Some(tls.strict_sni.to_string())),
    ]
}

fn of_uri_rules(rules: &UriRules) -> Pairs {
    let escape = |escape: Escape| {
        Some(text(match escape {
            Escape::Reject => "reject",
            Escape::Decode => "decode",
            Escape::Passthrough => "passthrough",
        }))
    };
    vec![
        ("allow_suspicious_uris", Some(rules.allow_suspicious.to_string())),
        ("encoded_slash", escape(rules.encoded_slash)),
        ("encoded_backslash", escape(rules.encoded_backslash)),
        ("allow_backslash", Some(rules.allow_backslash.to_string())),
        ("relaxed_path_chars", Some(text(&rules.relaxed_path_chars))),
        ("relaxed_query_chars", Some(text(&rules.relaxed_query_chars))),
    ]
}

fn of_access_log(log: &AccessLog) -> Pairs {
    let rotate = match log.rotate {
        Rotate::Day => "day",
        Rotate::Hour => "hour",
        Rotate::Never => "never",
    };
    vec![
        ("enabled", Some("true".to_owned())),
        ("pattern", Some(text(&log.pattern_text))),
        ("format", Some(text(if log.json { "json" } else { "text" }))),
        ("folder", Some(path(&log.folder))),
        ("file", Some(text(&log.file))),
        ("rotate", Some(text(rotate))),
        ("rotate_bytes", Some(bytes(log.rotate_bytes))),
        ("keep", Some(log.keep.to_string())),
        ("use_remote_ip", Some(log.use_remote_ip.to_string())),
        ("condition_if", Some(text(log.condition_if.as_deref().unwrap_or("")))),
        ("condition_unless", Some(text(log.condition_unless.as_deref().unwrap_or("")))),
    ]
}

fn of_context(settings: &ContextSettings) -> Pairs {
    let s = settings;
    let codings: Vec<&str> = s.compression.iter().map(|coding| coding.name()).collect();
    vec![
        ("workers_max", Some(s.workers_max.to_string())),
        ("queue_max", Some(s.queue_max.to_string())),
        ("queue_timeout", Some(duration(s.queue_timeout))),
        ("slow_after", Some(duration(s.slow_after))),
        ("drain_timeout", Some(duration(s.drain_timeout))),
        ("init_timeout", Some(duration(s.init_timeout))),
        ("request_body_bytes_max", Some(bytes(s.request_body_bytes_max))),
        ("form_bytes_max", Some(bytes(s.form_bytes_max))),
        ("parameter_count_max", Some(s.parameter_count_max.to_string())),
        ("form_methods", Some(texts(&s.form_methods))),
        ("cookie_count_max", Some(s.cookie_count_max.to_string())),
        ("response_buffer_bytes", Some(bytes(s.response_buffer_bytes))),
        ("async_timeout", Some(duration(s.async_timeout))),
        ("session_timeout", Some(duration(s.session_timeout))),
        ("sessions_max", Some(s.sessions_max.to_string())),
        ("session_bytes_max", Some(bytes(s.session_bytes_max))),
        ("file_bytes_max", Some(bytes(s.file_bytes_max))),
        ("multipart_bytes_max", Some(bytes(s.multipart_bytes_max))),
        ("part_count_max", Some(s.part_count_max.to_string())),
        ("part_header_bytes_max", Some(bytes(s.part_header_bytes_max))),
        ("part_memory_bytes_max", Some(bytes(s.part_memory_bytes_max))),
        ("settle_time", Some(duration(s.settle_time))),
        ("generations_kept", Some(s.generations_kept.to_string())),
        ("allow_foreign_writable", Some(s.allow_foreign_writable.to_string())),
        ("symlinks_outside", Some(s.symlinks_outside.to_string())),
        ("compression", Some(texts(&codings))),
        ("proxy_connect_timeout", Some(duration(s.proxy_connect_timeout))),
        ("proxy_timeout", Some(duration(s.proxy_timeout))),
        ("proxy_tunnel_timeout", Some(duration(s.proxy_tunnel_timeout))),
        ("proxy_connections_max", Some(s.proxy_connections_max.to_string())),
        ("proxy_preserve_host", Some(s.proxy_preserve_host.to_string())),
    ]
}

fn of_remote_ip(rules: &RemoteIp) -> Pairs {
    let or_none = |header: &Option<String>| Some(text(header.as_deref().unwrap_or("")));
    vec![
        ("internal_proxies", Some(texts(&rules.internal_proxies))),
        ("trusted_proxies", Some(texts(&rules.trusted_proxies))),
        ("remote_ip_header", Some(text(&rules.remote_ip_header))),
        ("proxies_header", Some(text(&rules.proxies_header))),
        ("protocol_header", or_none(&rules.protocol_header)),
        ("protocol_https_value", Some(text(&rules.protocol_https_value))),
        ("host_header", or_none(&rules.host_header)),
        ("port_header", or_none(&rules.port_header)),
        ("http_port", Some(rules.http_port.to_string())),
        ("https_port", Some(rules.https_port.to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::server::read_server;

    /// Makes a home of these files, and returns what is said of each key: `table.key = value <- where`.
    fn lines(files: &[(&str, &str)]) -> Vec<String> {
        let home = tempfile::tempdir().unwrap();
        for folder in ["webapps/shop", "conf/conf.d", "conf/tls"] {
            fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        files.iter().for_each(|(file, text)| fs::write(home.path().join(file), text).unwrap());
        let below = format!("{}/", home.path().display());
        let read = read_server(&home.path().join("conf/server.toml"), home.path()).settings;
        let (_, settings) = read.unwrap_or_else(|problems| panic!("{problems}"));
        let line = |setting: Setting| {
            let value = match setting.value {
                Value::Shown(value) => format!("= {value}"),
                Value::Hidden => "is hidden".to_owned(),
                Value::Unset => "is not set".to_owned(),
            };
            let from = match setting.from {
                Origin::Default => "default".to_owned(),
                Origin::Command(command) => (*command).to_owned(),
                Origin::File { file, line, put_in } => format!("{}:{line} {}", file.display(), put_in.join(" ")),
            };
            format!("{}.{} {value} <- {}", setting.table, setting.key, from.trim_end()).replace(&below, "")
        };
        settings.into_iter().map(line).collect()
    }

    #[track_caller]
    fn has(lines: &[String], expected: &[&str]) {
        for expected in expected {
            assert!(lines.iter().any(|line| line == expected), "{expected}\nin\n{}", lines.join("\n"));
        }
    }

    #[test]
    fn each_value_says_where_it_is_from() {
        let server = r#"
[server]
shutdown_timeout = "${env:SERVAL_TEST_UNSET:-90s}"
io_threads = "${file:count}"
[resources]
database = "postgres://shop:${file:secret}@db"
"mail.host" = "${env:SERVAL_TEST_UNSET:-s3cret}"
[defaults.context]
queue_max = 5
[access_log]
rotate = "hour"
[[listener]]
address = "127.0.0.1:${env:SERVAL_TEST_UNSET:-0}"
[[host]]
[[host.context]]
path = "/shop"
workers_max = 3
[host.context.params]
currency = "EUR"
[host.context.env]
db = { resource = "database" }
"#;
        let more = "[log]\nlevel = \"de\\u0062ug\"\n[[host]]\nname = \"LocalHost\"\naliases = [\"a.test\"]\n";
        let files = [("conf/server.toml", server), ("count", "4"), ("secret", "s3cret"), ("conf/conf.d/a.toml", more)];
        let lines = lines(&files);
        has(
            &lines,
            &[
                "server.shutdown_timeout = \"90s\" <- conf/server.toml:3 ${env:SERVAL_TEST_UNSET}",
                "server.io_threads is hidden <- conf/server.toml:4 ${file:count}",
                "server.development = false <- default",
                "log.level = \"debug\" <- conf/conf.d/a.toml:2",
                "resources.database is hidden <- conf/server.toml:6 ${file:secret}",
                "resources.\"mail.host\" is hidden <- conf/server.toml:7 ${env:SERVAL_TEST_UNSET}",
                "defaults.context.queue_max = 5 <- conf/server.toml:9",
                "listener[0].address = \"127.0.0.1:0\" <- conf/server.toml:13 ${env:SERVAL_TEST_UNSET}",
                "listener[0].server_header is not set <- default",
                "host[0].name = \"localhost\" <- default",
                "host[0].aliases = [\"a.test\"] <- conf/conf.d/a.toml:5",
                "host[0].access_log.enabled = true <- default",
                "host[0].access_log.rotate = \"hour\" <- conf/server.toml:11",
                "host[0].access_log.pattern = \"combined\" <- default",
                "host[0].context[0].path = \"/shop\" <- conf/server.toml:16",
                "host[0].context[0].workers_max = 3 <- conf/server.toml:17",
                "host[0].context[0].queue_max = 5 <- conf/server.toml:9",
                "host[0].context[0].remote_ip is not set <- default",
                "host[0].context[0].params.currency is hidden <- conf/server.toml:19",
                "host[0].context[0].env.db is hidden <- conf/server.toml:21",
            ],
        );
        let all = lines.join("\n");
        assert!(!all.contains("s3cret") && !all.contains("EUR"), "{all}");
        assert_eq!(text("a\"\\\n\u{1b}ü"), "\"a\\\"\\\\\\u000A\\u001Bü\"");
    }

    #[test]
    fn values_that_are_not_shown_are_compared() {
        let read = |secret: &str| {
            let home = tempfile::tempdir().unwrap();
            fs::create_dir_all(home.path().join("webapps")).unwrap();
            fs::write(home.path().join("secret"), secret).unwrap();
            fs::write(home.path().join("server.toml"), "[resources]\na = \"${file:secret}\"\n").unwrap();
            let read = read_server(&home.path().join("server.toml"), home.path());
            assert!(read.files.contains(&home.path().join("secret")), "{:?}", read.files);
            assert_eq!(read.empty.contains(&home.path().join("secret")), secret.is_empty());
            let resource = |setting: &Setting| setting.table == "resources";
            let (_, settings) = read.settings.unwrap();
            settings.into_iter().find(resource).unwrap()
        };
        assert_eq!(read("a"), read("a"));
        assert_ne!(read("a"), read("b"));
        assert_eq!(read(""), read("\n"));
        let shown = format!("{:?}", read("s3cret"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn every_key_is_shown() {
        let uncommented = crate::server::tests::uncommented();
        let lines = lines(&[("conf/server.toml", &uncommented), ("conf/404.html", "")]);
        let mut table = String::new();
        for line in uncommented.lines() {
            if let Some(header) = line.strip_prefix('[') {
                let header = header.trim_start_matches('[').split(']').next().unwrap();
                table = header.replace("host", "host[0]").replace("listener", "listener[0]");
                table = table.replace(".context", ".context[0]").replace("defaults.context[0]", "defaults.context");
                table = table.replace("error_page", "error_page[0]").replace("certificates", "certificates[0]");
                // It is shown for each host.
                table = if table == "access_log" { "host[0].access_log".to_owned() } else { table };
            } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.starts_with('#')) {
                let start = format!("{table}.{key} ");
                assert!(lines.iter().any(|line| line.starts_with(&start)), "{start}\nin\n{}", lines.join("\n"));
            }
        }
    }
}
