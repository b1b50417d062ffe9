//! `WEB-INF/web.toml`: what a webapp overrides of, and adds to, what its libraries declare.

use std::cell::RefCell;
use std::path::Path;

use crate::cookies::{WebCookies, cookies};
use crate::error_pages::{WebErrorPage, error_pages, error_report};
use crate::files::{WebCompression, WebFiles, WebRedirects, compression, files, redirects};
use crate::filters::{WebFilter, filters};
use crate::join::File;
use crate::multipart::{WebMultipart, multipart};
use crate::problem::Problems;
use crate::raw::{self, Document, Table};
use crate::servlets::{WebServlet, servlets};
use crate::session::{WebSession, session};
use crate::substitute::{Named, Sources};
use crate::values::{self, Given, Values};

/// The welcome files of a webapp that names none.
pub const DEFAULT_WELCOME_FILES: [&str; 2] = ["index.html", "index.htm"];

/// Holds a webapp's descriptor. The default is that of a webapp without one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Web {
    /// The name that people see.
    pub display_name: Option<String>,
    /// Files that answer for a folder, in this order, relative to it; None: [`DEFAULT_WELCOME_FILES`].
    pub welcome_files: Option<Vec<String>>,
    /// A path in the context, with its slash, that has to answer 2xx before a new generation takes over; None: none is asked.
    pub check: Option<String>,
    /// `switch`: how the next generation takes over; default [`Switch::BlueGreen`].
    pub switch: Switch,
    /// The context's parameters: those of server.toml, then `[params]`.
    pub params: Values,
    /// The named values of the webapp: those of server.toml, then `[env]`, with each link to a global resource resolved.
    pub env: Values,
    /// `[mime]`: media types by extension, which is lower case and without its dot.
    pub mime: Vec<(String, String)>,
    /// `[[servlet]]`, in the order of the file; no two have one name.
    pub servlets: Vec<WebServlet>,
    /// `[[filter]]`, in the order of the file; no two have one name.
    pub filters: Vec<WebFilter>,
    /// Paths that servlets dispatch to are taken as they stand (`dispatchersUseEncodedPaths` is false); default false: they
    /// are percent-encoded, as those of URLs are.
    pub plain_dispatch_paths: bool,
    /// `[[error_page]]`, in the order of the file.
    pub error_pages: Vec<WebErrorPage>,
    /// `[error_report] reason`: whether pages for errors that the server makes show reasons; None: as server.toml's `development`.
    pub error_reason: Option<bool>,
    /// `[session]`; see [`Web::session_settings`].
    pub session: WebSession,
    /// `[cookies]`.
    pub cookies: WebCookies,
    /// `[multipart]`; see [`Web::multipart_settings`].
    pub multipart: WebMultipart,
    /// `[files]`.
    pub files: WebFiles,
    /// `[compression]`.
    pub compression: WebCompression,
    /// `[redirects]`.
    pub redirects: WebRedirects,
    /// `[build]`.
    pub build: Option<WebBuild>,
}

/// How the next generation takes over from the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Switch {
    /// The next one starts beside the current one, and then gets the requests.
    #[default]
    BlueGreen,
    /// Requests are held while the current one ends and the next one starts: for libraries that own what only one can have, such as a
    /// port or a file.
    StopStart,
}

/// Holds `[build]`: how the libraries of a webapp are made from its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebBuild {
    /// The program and its arguments; never empty. Run in WEB-INF, without a shell; it must leave libraries in `lib/`.
    pub command: Vec<String>,
}

/// Reads a web.toml by itself. A missing file is a webapp without a descriptor: `Ok(Web::default())`.
///
/// A relative `${file:...}` lies in the folder of the file. Links to global resources are left out: see
/// [`Server::load_web`](crate::Server::load_web) for a webapp that is served.
pub fn load_web(path: &Path) -> Result<Web, Problems> {
    load(path, path.parent().unwrap_or(Path::new("")), None, &RefCell::default())
}

/// Reads the web.toml of a webapp to which server.toml gives something. `folder`: where a relative `${file:...}` lies; `named` gets the
/// files that are named so.
pub(crate) fn load(
    path: &Path,
    folder: &Path,
    given: Option<Given<'_>>,
    named: &RefCell<Named>,
) -> Result<Web, Problems> {
    let none = Values::default();
    let (params, env) = given.map_or((&none, &none), |given| (given.params, given.env));
    let Some(text) = raw::read(path)? else {
        return Ok(Web { params: params.clone(), env: env.clone(), ..Web::default() });
    };
    let sources = Sources { environment: &|name| std::env::var(name), folder, files: named };
    let file = [File { path: path.to_owned(), text, begins: 0 }];
    Document::load(&file, sources, |_, top| Web {
        display_name: top.text("display_name", "a string", "\"My shop\"").map(|text| text.value),
        welcome_files: welcome_files(top),
        check: check(top),
        switch: top.choice("switch", &[("blue-green", Switch::BlueGreen), ("stop-start", Switch::StopStart)]),
        params: params.before(top.pairs("params", "currency = \"EUR\"").into()),
        env: values::env(top, env, given.map(|given| given.resources)),
        mime: mime(top),
        servlets: servlets(top),
        filters: filters(top),
        plain_dispatch_paths: top.flag("plain_dispatch_paths", false),
        error_pages: error_pages(top),
        error_reason: error_report(top),
        session: session(top),
        cookies: cookies(top),
        multipart: multipart(top),
        files: files(top),
        compression: compression(top),
        redirects: redirects(top),
        build: build(top),
    })
}

fn welcome_files(top: &Table<'_, '_>) -> Option<Vec<String>> {
    let files = top.texts("welcome_files", "[\"index.html\"]")?;
    for file in &files {
        if !is_file_of_a_folder(&file.value) {
            let what = format!("`welcome_files`: {} is not the name of a file in a folder", file.shown());
            top.document.problem(Some(file.at), what, "write a name without a `/` before it, as in `index.html`");
        }
    }
    Some(files.into_iter().map(|file| file.value).collect())
}

fn check(top: &Table<'_, '_>) -> Option<String> {
    let path = top.text("check", "a path", "\"/health\"")?;
    let is_odd = |byte: u8| byte <= b' ' || byte >= 0x7f || byte == b'#';
    let leads_elsewhere = |segment: &str| matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..");
    let before_query = path.value.split('?').next().unwrap_or("");
    if !path.value.starts_with('/') || path.value.bytes().any(is_odd) || before_query.split('/').any(leads_elsewhere) {
        let what = format!("`check`: {} is not a path in the context", path.shown());
        top.document.problem(Some(path.at), what, "write it as in a URL, behind the context's path, as in `/health`");
    }
    Some(path.value)
}

/// Returns true for a path that leads from a folder to something in it.
pub(crate) fn is_file_of_a_folder(path: &str) -> bool {
    !path.split('/').any(|segment| matches!(segment, "" | "." | ".."))
}

fn mime(top: &Table<'_, '_>) -> Vec<(String, String)> {
    let example = "wasm = \"application/wasm\"";
    let pairs = top.pairs("mime", example);
    for (extension, media_type) in &pairs {
        if extension.value.is_empty() || extension.value.contains(['.', '/']) {
            let what = format!("[mime]: {} is not an extension", extension.shown());
            let instead = format!("write it without its dot, as in `{example}`");
            top.document.problem(Some(extension.at), what, instead);
        }
        if !is_media_type(&media_type.value) {
            let what = format!("[mime]: {} is not a media type", media_type.shown());
            top.document.problem(Some(media_type.at), what, format!("write type/subtype, as in `{example}`"));
        }
    }
    pairs.into_iter().map(|(extension, media_type)| (extension.value.to_lowercase(), media_type.value)).collect()
}

/// Returns true for text that can be the value of Content-Type: `type/subtype`, and what follows in printable ASCII.
pub(crate) fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or("").trim_end();
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    printable && essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

fn build(top: &Table<'_, '_>) -> Option<WebBuild> {
    let example = "[\"make\", \"libraries\"]";
    let table = top.table("build")?;
    let command = table.texts("command", example);
    table.finish();
    let missing = match &command {
        None => table.place_of("command").is_none(),
        Some(words) => words.first().is_none_or(|program| program.value.is_empty()),
    };
    if missing {
        let at = table.place_of("command").or(table.at);
        table.document.problem(at, "[build] has no command", format!("write `command = {example}`, or remove [build]"));
    }
    Some(WebBuild { command: command.unwrap_or_default().into_iter().map(|text| text.value).collect() })
}

/// Returns the name of a `[[servlet]]` or `[[filter]]`, empty if it has none, and notes one that is missing or `taken`.
pub(crate) fn name_of(table: &Table<'_, '_>, example: &str, taken: impl Fn(&str) -> bool) -> String {
    let problem = |at: Option<usize>, what: String, instead: &str| table.document.problem(at, what, instead);
    let Some(name) = table.text("name", "a string", example) else {
        // A `name` of a wrong type has been noted already.
        if table.place_of("name").is_none() {
            let instead = format!("write the declared one, as in `name = {example}`");
            problem(table.at, format!("{} has no `name`", table.name), &instead);
        }
        return String::new();
    };
    if name.value.is_empty() {
        let instead = format!("write a name, as in `name = {example}`");
        problem(Some(name.at), format!("`name` in {} is empty", table.name), &instead);
    } else if taken(&name.value) {
        let what = format!("a second {} with the name {}", table.name, name.shown());
        problem(Some(name.at), what, "join the two, or give one another name, and `class` to say what it is");
    }
    name.value
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    pub(crate) fn load(toml: &str) -> Result<Web, String> {
        load_with(toml, None)
    }

    pub(crate) fn load_with(toml: &str, given: Option<Given<'_>>) -> Result<Web, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.toml");
        fs::write(folder.path().join("secret"), "s3cret\n").unwrap();
        fs::write(&path, toml).unwrap();
        let web = super::load(&path, folder.path(), given, &RefCell::default());
        web.map_err(|problems| problems.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    /// The file, a line of dashes, and what is said about it.
    #[track_caller]
    pub(crate) fn check(case: &str) {
        let (toml, expected) = case.split_once("----\n").expect("a line of dashes");
        assert_eq!(load(toml).expect_err("problems").trim(), expected.trim(), "\nfor\n{toml}");
    }

    #[test]
    fn a_check_is_a_path_in_the_context() {
        assert_eq!(load("check = \"/health?deep=yes\"").unwrap().check.unwrap(), "/health?deep=yes");
        for wrong in ["health", "", "/a b", "/a#b", "/a\\n", "/../x", "/a/%2E%2e/b", "/ä"] {
            let problem = load(&format!("check = \"{wrong}\"")).unwrap_err();
            assert!(problem.contains("is not a path in the context; write it as in a URL"), "{problem}");
        }
    }

    #[test]
    fn no_file_and_an_empty_one_are_the_default() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load_web(&folder.path().join("web.toml")), Ok(Web::default()));
        assert_eq!(load_web(&folder.path().join("WEB-INF/web.toml")), Ok(Web::default()));
        assert_eq!(load(""), Ok(Web::default()));
    }

    #[test]
    fn everything_set() {
        let web = load(
            r#"
            display_name = "Shop"
            plain_dispatch_paths = true
            welcome_files = ["start.html", "sub/three.html"]
            [params]
            z = "1"
            "a b.c" = "${file:secret}"
            [mime]
            WASM = "application/wasm"
            txt = "text/plain; charset=utf-8"
            [[servlet]]
            name = "cart"
            class = "Cart"
            url_patterns = ["/cart/*", "*.cart", "", "/", "/cart/*", "/cart/{item}"]
            load_on_startup = -1
            multipart = false
            async_timeout = "0s"
            resource_only = true
            [servlet.init]
            size = "10"
            [[servlet]]
            name = "old"
            url_patterns = ["/cart/*"]
            enabled = false
            [build]
            command = ["make", ""]
            "#,
        )
        .unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(web.display_name.as_deref(), Some("Shop"));
        assert_eq!(web.welcome_files.unwrap(), ["start.html", "sub/three.html"]);
        assert_eq!(*web.params, [pair("z", "1"), pair("a b.c", "s3cret")]);
        assert_eq!(web.mime, [pair("wasm", "application/wasm"), pair("txt", "text/plain; charset=utf-8")]);
        let cart = &web.servlets[0];
        assert_eq!((cart.name.as_str(), cart.class.as_deref()), ("cart", Some("Cart")));
        assert_eq!(cart.url_patterns.as_deref().unwrap(), ["/cart/*", "*.cart", "", "/", "/cart/{item}"]);
        assert_eq!((cart.multipart, cart.async_timeout), (Some(false), Some(Duration::ZERO)));
        assert_eq!((web.servlets[1].multipart, web.servlets[1].async_timeout), (None, None));
        assert_eq!((cart.load_on_startup, cart.enabled), (Some(-1), true));
        assert_eq!((cart.resource_only, web.servlets[1].resource_only, web.plain_dispatch_paths), (true, false, true));
        assert_eq!(*cart.init, [pair("size", "10")]);
        assert!(!web.servlets[1].enabled);
        assert_eq!(web.build.unwrap().command, ["make", ""]);
    }

    #[test]
    fn problems() {
        check(
            r#"
display_nam = "x"
welcome_files = ["/a.html", "", "../b"]
[param]
[params]
a = 1
b = ["c"]
c = "${env:SERVAL_TEST_UNSET}"
[mime]
".a" = "text/plain"
b = "text"
c = "text/plain\n"
[[servlet]]
url_patterns = ["cart/*", "*cart", "*.a/b", 3]
[[servlet]]
name = ""
load_on_startup = 3000000000
[[servlet]]
name = "a"
url_pattern = ["/a"]
enabled = "no"
[servlet.init]
x = true
[[servlet]]
name = "a"
load_on_startup = "first"
[build]
command = "make"
----
web.toml:2:1: unknown key `display_nam`; did you mean `display_name`?
web.toml:3:18: `welcome_files`: `/a.html` is not the name of a file in a folder; write a name without a `/` before it, as in `index.html`
web.toml:3:29: `welcome_files`: `""` is not the name of a file in a folder; write a name without a `/` before it, as in `index.html`
web.toml:3:33: `welcome_files`: `../b` is not the name of a file in a folder; write a name without a `/` before it, as in `index.html`
web.toml:4:2: unknown key `param`; did you mean `params`?
web.toml:6:5: `a` in [params] is a number, but a string is needed; put it in quotes
web.toml:7:5: `b` in [params] is a list, but a string is needed; write for example `currency = "EUR"`
web.toml:8:5: the environment variable `SERVAL_TEST_UNSET` is not set; set it, or write a default, as in `${env:SERVAL_TEST_UNSET:-default}`
web.toml:10:1: [mime]: `.a` is not an extension; write it without its dot, as in `wasm = "application/wasm"`
web.toml:11:5: [mime]: `text` is not a media type; write type/subtype, as in `wasm = "application/wasm"`
web.toml:12:5: [mime]: `text/plain\n` is not a media type; write type/subtype, as in `wasm = "application/wasm"`
web.toml:13:1: [[servlet]] has no `name`; write the declared one, as in `name = "cart"`
web.toml:14:17: `url_patterns` in [[servlet]]: `cart/*` is not a URL pattern; write `/cart/*`, with the `/` before it
web.toml:14:27: `url_patterns` in [[servlet]]: `*cart` is not a URL pattern; write "" for the context's root, "/", "/a/*", "/a/b" or "*.ext"
web.toml:14:36: `url_patterns` in [[servlet]]: `*.a/b` is not a URL pattern; write an extension without `/`, as in "*.ext"
web.toml:14:45: `url_patterns` in [[servlet]] is the number `3`, but a list of strings is needed; write for example `url_patterns = ["/cart/*"]`
web.toml:16:8: `name` in [[servlet]] is empty; write a name, as in `name = "cart"`
web.toml:17:19: `load_on_startup` in [[servlet]]: `3000000000` is out of bounds; write -2147483648 to 2147483647
web.toml:20:1: unknown key `url_pattern` in [[servlet]]; did you mean `url_patterns`?
web.toml:21:11: `enabled` in [[servlet]] is the string `no`, but true or false is needed; write for example `enabled = true`
web.toml:23:5: `x` in [servlet.init] is a boolean, but a string is needed; put it in quotes
web.toml:25:8: a second [[servlet]] with the name `a`; join the two, or give one another name, and `class` to say what it is
web.toml:26:19: `load_on_startup` in [[servlet]]: `first` is not a whole number; write for example `load_on_startup = 1`
web.toml:28:11: `command` in [build] is the string `make`, but a list of strings is needed; write for example `command = ["make", "libraries"]`
"#,
        );
        check(
            r#"
[build]
----
web.toml:2:1: [build] has no command; write `command = ["make", "libraries"]`, or remove [build]
"#,
        );
        check(
            r#"
[build]
command = []
----
web.toml:3:11: [build] has no command; write `command = ["make", "libraries"]`, or remove [build]
"#,
        );
        check(
            r#"
[[servlet]]
name = "a"
url_patterns = ["/x"]
[[servlet]]
name = "b"
url_patterns = ["/y", "/x"]
----
web.toml:7:23: `/x` is a URL pattern of the servlet `a` already; remove it from one of the two
"#,
        );
        check(
            r#"
[[servlet]]
name = "a"
url_patterns = ["/items/{id}", "/{id}/{id}", "/items/{name}"]
async_timeout = "25h"
multipart = "yes"
[[servlet]]
name = "b"
url_patterns = ["/items/{name}", "/items/*"]
----
web.toml:4:32: `url_patterns` in [[servlet]]: `/{id}/{id}` is not a URL pattern; give the second `{id}` another name
web.toml:4:46: `/items/{name}` is a URL pattern of the servlet `a` already; remove it from one of the two
web.toml:5:17: `async_timeout` in [[servlet]]: `25h` is out of bounds; write 0s to 24h, as in `async_timeout = "30s"`
web.toml:6:13: `multipart` in [[servlet]] is the string `yes`, but true or false is needed; write for example `multipart = true`
web.toml:9:17: `/items/{name}` is a URL pattern of the servlet `a` already; remove it from one of the two
"#,
        );
        check(
            r#"
[[servlet]]
name = 3
[servlet.init]
[other]
----
web.toml:3:8: `name` in [[servlet]] is the number `3`, but a string is needed; write for example `name = "cart"`
web.toml:5:2: unknown key `other`; the file's keys are `display_name`, `welcome_files`, `check`, `switch`, `params`, `env`, `mime`, `servlet`, `filter`, `plain_dispatch_paths`, `error_page`, `error_report`, `session`, `cookies`, `multipart`, `files`, `compression`, `redirects`, `build`
"#,
        );
    }

    #[test]
    fn the_readme_mentions_every_key() {
        let readme = include_str!("../../../README.md");
        let section = readme.split_once("### `WEB-INF/web.toml`").expect("its section").1;
        let section = section.split("\n## ").next().unwrap();
        // A message about an unknown key lists the known ones.
        for table in [
            "",
            "[build]",
            "[[servlet]]",
            "[[filter]]",
            "[[error_page]]",
            "[error_report]",
            "[session]",
            "[cookies]",
            "[multipart]",
            "[files]",
            "[[files.cache_control]]",
            "[compression]",
            "[redirects]",
        ] {
            let problems = load(&format!("{table}\nxxxxxxxxxxxxxxx = 1\n")).unwrap_err();
            let keys = problems.lines().find_map(|line| line.split_once("keys are ")).expect("the known keys").1;
            for key in keys.split(", ").map(|key| key.trim_matches('`')) {
                let shown = [format!("`{key}`"), format!("[{key}]"), format!(".{key}]]")];
                let shown = shown.iter().any(|name| section.contains(name));
                // It is read, and shown nowhere.
                assert!(shown || key == "display_name", "{table} {key}");
            }
        }
    }
}
