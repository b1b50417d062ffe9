//! What `serval check` warns of: what is allowed, and most often not meant.

use std::collections::BTreeSet;
use std::path::Path;

use serval_config::lines::{Part, line_of, line_of_server};
use serval_config::{LogItem, LogValue, Server, Web, WebServlet};

/// The class of the servlet that serves a webapp's files.
const FILES: &str = "default";

/// In server.toml.
pub fn of_server(config: &Server) -> BTreeSet<String> {
    let mut doubts = BTreeSet::new();
    for (number, host) in config.hosts.iter().enumerate() {
        let items = host.access_log.iter().flat_map(|log| &log.pattern.0);
        for item in items {
            let LogItem::Code { code, key, value: LogValue::Unknown(written) } = item else { continue };
            let pattern = [Part::Key("access_log"), Part::Key("pattern")];
            let place = line_of_server(config, &[&[Part::Key("host"), Part::Nth(number)], &pattern[..]].concat())
                .or_else(|| line_of_server(config, &pattern));
            // What is in the braces may have been put in from elsewhere.
            let code = key.as_ref().map_or_else(|| format!("%{code}"), |_| format!("%{{…}}{code}"));
            let why =
                format!("`pattern` in [access_log]: `{code}` stands for nothing, so each line will have `{written}`");
            let (file, line) = place.map_or((config.file.clone(), None), |(file, line)| (file, Some(line)));
            doubts.insert(placed(&file, line, &why));
        }
    }
    doubts
}

/// In the web.toml of a webapp.
pub fn of_web(file: &Path, webapp: &Path, web: &Web) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut doubt = |parts: &[Part<'_>], why: String| doubts.push(placed(file, line_of(file, parts), &why));
    if let Some(fallback) = web.files.fallback.as_ref().filter(|fallback| !webapp.join(fallback).is_file()) {
        let why = format!("`fallback` in [files]: there is no `{fallback}` in the webapp, so nothing stands in");
        doubt(&[Part::Key("files"), Part::Key("fallback")], why);
    }
    for (number, rule) in web.files.cache_control.iter().enumerate() {
        for pattern in rule.url_patterns.iter().filter(|pattern| is_one_path_with_a_star(pattern)) {
            let why = format!(
                "`url_patterns` in [[files.cache_control]]: `{pattern}` is only the path of these letters: `*` stands for more in \
                 `/assets/*` and `*.js` alone"
            );
            let table = [Part::Key("files"), Part::Key("cache_control"), Part::Nth(number)];
            doubt(&[table[0], table[1], table[2], Part::Key("url_patterns"), Part::Text(pattern)], why);
        }
    }
    let has_code = has_code(webapp);
    for servlet in web.servlets.iter().filter(|servlet| servlet.enabled) {
        let (name, class) = (&servlet.name, class_of(servlet));
        let table = [Part::Key("servlet"), Part::Named(name)];
        if class == FILES && !servlet.init.is_empty() {
            let why = format!(
                "`init` of the servlet `{name}`: the files have none; the keys of [files] say how they are served"
            );
            doubt(&[table[0], table[1], Part::Key("init")], why);
        }
        if class == FILES && name != FILES && servlet.url_patterns.is_none() {
            doubt(&table, format!("the servlet `{name}` has no `url_patterns`, so it serves nothing"));
        }
        if class != FILES && !has_code {
            let why =
                format!("no library declares `{class}`: WEB-INF has none in `lib`, and no source to build one from");
            doubt(&table, why);
        }
    }
    for filter in web.filters.iter().filter(|filter| filter.enabled && !has_code) {
        let class = filter.class.as_ref().unwrap_or(&filter.name);
        let why = format!("no library declares `{class}`: WEB-INF has none in `lib`, and no source to build one from");
        doubt(&[Part::Key("filter"), Part::Named(&filter.name)], why);
    }
    doubts
}

fn class_of(servlet: &WebServlet) -> &str {
    servlet.class.as_ref().unwrap_or(&servlet.name)
}

/// `/assets/**`, `/assets/*.js`: to the specification, each is an exact path.
fn is_one_path_with_a_star(pattern: &str) -> bool {
    let path = pattern.strip_suffix("/*").unwrap_or(pattern);
    path.starts_with('/') && path.contains('*')
}

/// Says whether a webapp has libraries, or what they are built from.
fn has_code(webapp: &Path) -> bool {
    let inside = webapp.join("WEB-INF");
    let libraries = std::fs::read_dir(inside.join("lib")).into_iter().flatten().flatten();
    let mut libraries = libraries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "so"));
    inside.join("Cargo.toml").is_file() || inside.join("src").is_dir() || libraries.next().is_some()
}

fn placed(file: &Path, line: Option<usize>, why: &str) -> String {
    line.map_or_else(|| format!("{}: {why}", file.display()), |line| format!("{}:{line}: {why}", file.display()))
}
