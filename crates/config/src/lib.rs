//! `conf/server.toml` and a webapp's `web.toml`, read into checked settings.
//!
//! [`load_server`] and [`load_web`] return settings that need no further check: paths are absolute, defaults are
//! applied, durations are durations. Or they return [`Problems`]: every mistake with its file, line and column, what is
//! wrong, and what to write instead. Nothing here watches a file, opens a socket, or knows what a setting is used for.
//! The program `serval` calls it at start, for `serval check`, and when a file has changed.
//!
//! In any string, `${env:NAME}`, `${env:NAME:-default}` and `${file:path}` are replaced, and where a number, a size or
//! true and false are wanted, a string with one of them may stand. A relative `${file:...}` lies in the home for
//! server.toml, and beside web.toml for that. `$${` stands for `${`. What is put in may be a secret: a problem shows the string as
//! it is written, and the `Debug` of [`Values`], which nobody but a webapp reads, shows names alone. What Serval itself goes by
//! (addresses, paths, names) is shown to whoever may see it.
//!
//! Durations are whole numbers with `ms`, `s`, `m`, `h` or `d`; sizes are whole numbers of bytes, or with `B`, `KiB`,
//! `MiB`, `GiB` or `TiB`.
//!
//! Reading order: `server` (with `uri_rules`, `tls`, `context_settings`, `remote_ip`, `archives`, `access_log`, `log_pattern`), `web` (with
//! `servlets`, `filters`, `error_pages`, `session`, `cookies`, `multipart`, `files`, `url_pattern`), `values`, `context_name`, `lines`,
//! `settings`; below them `origins`, `join` (several files as one), `raw` (a file as it is written), `value`, `substitute`, `problem`.

#![forbid(unsafe_code)]

mod server;

mod listener;

mod uri_rules;

mod tls;

mod context_settings;

mod upstream;

mod remote_ip;

mod archives;

mod access_log;

mod log_pattern;

mod web;

mod servlets;

mod filters;

mod error_pages;

mod session;

mod cookies;

mod multipart;

mod files;

mod url_pattern;

mod values;

mod context_name;

pub mod lines;

mod settings;

mod origins;

mod join;

mod raw;

mod value;

mod substitute;

mod problem;

pub use access_log::{AccessLog, Rotate};
pub use archives::Archives;
pub use context_name::{ContextName, NoContext};
pub use context_settings::ContextSettings;
pub use cookies::{WebCookies, WithoutEquals};
pub use error_pages::{ERROR_FILE_BYTES_MAX, ErrorsOf, HostErrorPage, WebErrorPage};
pub use files::{COMPRESSED_TYPES, CacheControl, Coding, Precompressed, WebCompression, WebFiles, WebRedirects};
pub use filters::{Dispatcher, WebFilter, WebFilterMap};
pub use listener::{Address, Listener, Protocols};
pub use log_pattern::{DateField, DateItem, LogItem, LogPattern, LogValue, Moment, TimeFormat, TimeUnit};
pub use multipart::{MultipartSettings, WebMultipart};
pub use origins::Origin;
pub use problem::{Problem, Problems};
pub use remote_ip::RemoteIp;
pub use server::{ContextEntry, Host, Log, LogFormat, Read, Server, User, load_server, of_running, read_server};
pub use servlets::WebServlet;
pub use session::{SameSite, Secure, SessionSettings, WebSession};
pub use settings::{Setting, Value};
pub use tls::{CertificateFiles, ClientCertificate, Tls, TlsVersion};
pub use upstream::{Upstream, UpstreamAddress};
pub use uri_rules::{Escape, UriRules};
pub use values::Values;
pub use web::{DEFAULT_WELCOME_FILES, Switch, Web, WebBuild, load_web};
