//! `[[filter]]` of web.toml.

use crate::problem::{list, near_miss};
use crate::raw::Table;
use crate::url_pattern;
use crate::values::Values;
use crate::web::name_of;

/// Holds one `[[filter]]`: changes to a filter that a library declares, or another filter of the same class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebFilter {
    /// Its name; never empty.
    pub name: String,
    /// The filter declared by the library; None: the one called `name`.
    pub class: Option<String>,
    /// What it is called for, in place of the library's own; never empty. None: the library's own stays.
    pub maps: Option<Vec<WebFilterMap>>,
    /// Init parameters, `[filter.init]`, in the order of the file; they go before the library's own.
    pub init: Values,
    /// Filters are called in ascending order; None: the library's own.
    pub order: Option<i32>,
    /// False takes the filter out of service; default true.
    pub enabled: bool,
}

/// Holds one `[[filter.map]]`, or the map that stands in `[[filter]]` itself: dispatches that a filter is called for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebFilterMap {
    /// Each is `""`, `*` (all, dispatches by name too), or starts with `/` or `*.`. No templates.
    pub url_patterns: Vec<String>,
    /// Names of servlets; `*`: all. Not both this and `url_patterns` are empty.
    pub servlets: Vec<String>,
    /// Each once; empty: [`Dispatcher::Request`].
    pub dispatchers: Vec<Dispatcher>,
}

/// Why a servlet is called (Servlet 6.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatcher {
    /// A client asks for it.
    Request,
    /// Another servlet hands its request over.
    Forward,
    /// Another servlet takes its output into its own.
    Include,
    /// It makes an error page.
    Error,
    /// It goes on with a request that was async.
    Async,
}

const DISPATCHERS: [(&str, Dispatcher); 5] = [
    ("REQUEST", Dispatcher::Request),
    ("FORWARD", Dispatcher::Forward),
    ("INCLUDE", Dispatcher::Include),
    ("ERROR", Dispatcher::Error),
    ("ASYNC", Dispatcher::Async),
];
const MAP_KEYS: [&str; 3] = ["url_patterns", "servlets", "dispatchers"];

pub(crate) fn filters(top: &Table<'_, '_>) -> Vec<WebFilter> {
    let mut filters: Vec<WebFilter> = Vec::new();
    for table in top.tables("filter").unwrap_or_default() {
        let filter = WebFilter {
            name: name_of(&table, "\"log\"", |name| filters.iter().any(|other| other.name == name)),
            class: table.text("class", "a string", "\"log\"").map(|text| text.value),
            maps: maps(&table),
            init: table.pairs("init", "level = \"high\"").into(),
            order: table.signed("order", "1"),
            enabled: table.flag("enabled", true),
        };
        table.finish();
        filters.push(filter);
    }
    filters
}

fn maps(table: &Table<'_, '_>) -> Option<Vec<WebFilterMap>> {
    // Always asked for, so that they are known keys.
    let direct = map(table);
    let tables = table.tables("map");
    let first_direct = MAP_KEYS.into_iter().find(|key| table.place_of(key).is_some());
    let problem = |at: Option<usize>, what: String, instead: &str| table.document.problem(at, what, instead);
    match (first_direct, tables) {
        (None, None) => None,
        (Some(_), None) if table.place_of("map").is_none() => {
            check_map(table);
            Some(vec![direct])
        }
        (Some(key), _) => {
            let what = format!("[[filter]] has both `{key}` and [[filter.map]]");
            problem(table.place_of(key), what, "write it below a [[filter.map]] of its own");
            None
        }
        (None, Some(tables)) => {
            if tables.is_empty() {
                let instead = "write [[filter.map]] and its keys below it, or remove `map` for the library's own maps";
                problem(table.place_of("map"), "`map` in [[filter]] is empty".into(), instead);
            }
            let read = |inner: &Table<'_, '_>| {
                let map = map(inner);
                check_map(inner);
                inner.finish();
                map
            };
            Some(tables.iter().map(read).collect())
        }
    }
}

/// Notes a map that no dispatch can belong to.
fn check_map(table: &Table<'_, '_>) {
    if table.holds_none("url_patterns") && table.holds_none("servlets") {
        let at = MAP_KEYS.into_iter().find_map(|key| table.place_of(key)).or(table.at);
        let what = "a filter's map without `url_patterns` and `servlets`";
        let instead = "say what it is called for, as in `url_patterns = [\"/*\"]`; `enabled = false` takes a filter out \
                       of service";
        table.document.problem(at, what, instead);
    }
}

fn map(table: &Table<'_, '_>) -> WebFilterMap {
    let mut map = WebFilterMap { url_patterns: Vec::new(), servlets: Vec::new(), dispatchers: Vec::new() };
    for text in table.texts("url_patterns", "[\"/*\"]").unwrap_or_default() {
        match url_pattern::check_of_filter(&text.value) {
            Err(instead) => {
                table.wrong(&text, "url_patterns", "is not a URL pattern of a filter", text.advice(instead))
            }
            Ok(()) if map.url_patterns.contains(&text.value) => {}
            Ok(()) => map.url_patterns.push(text.value),
        }
    }
    for text in table.texts("servlets", "[\"cart\"]").unwrap_or_default() {
        match text.value.is_empty() {
            true => table.wrong(&text, "servlets", "is not the name of a servlet", "write a name, or \"*\" for all"),
            false if map.servlets.contains(&text.value) => {}
            false => map.servlets.push(text.value),
        }
    }
    for text in table.texts("dispatchers", "[\"REQUEST\", \"FORWARD\"]").unwrap_or_default() {
        let words = DISPATCHERS.iter().map(|(word, _)| *word);
        match DISPATCHERS.iter().find(|(word, _)| *word == text.value) {
            Some((_, found)) if map.dispatchers.contains(found) => {}
            Some((_, found)) => map.dispatchers.push(*found),
            None => {
                let lower: Vec<String> = words.clone().map(str::to_lowercase).collect();
                let instead = match near_miss(&text.written, lower.iter().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{}`?", meant.to_uppercase()),
                    None => format!("write one of {}", list(words)),
                };
                table.wrong(&text, "dispatchers", "is not known", instead);
            }
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::{check, load};

    fn map(url_patterns: &[&str], servlets: &[&str], dispatchers: &[Dispatcher]) -> WebFilterMap {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        WebFilterMap { url_patterns: owned(url_patterns), servlets: owned(servlets), dispatchers: dispatchers.to_vec() }
    }

    #[test]
    fn everything_set() {
        let web = load(
            r#"
            [[filter]]
            name = "log"
            [[filter]]
            name = "guard"
            class = "Guard"
            url_patterns = ["/a/*", "*", "", "/a/*"]
            servlets = ["cart", "*"]
            dispatchers = ["REQUEST", "FORWARD", "INCLUDE", "ERROR", "ASYNC", "ERROR"]
            order = -5
            enabled = false
            [filter.init]
            realm = "shop"
            [[filter]]
            name = "two"
            [[filter.map]]
            url_patterns = ["*.html"]
            [[filter.map]]
            servlets = ["cart"]
            dispatchers = []
            "#,
        )
        .unwrap();
        use Dispatcher::{Async, Error, Forward, Include, Request};
        let plain = WebFilter {
            name: "log".into(),
            class: None,
            maps: None,
            init: Values::default(),
            order: None,
            enabled: true,
        };
        let one = map(&["/a/*", "*", ""], &["cart", "*"], &[Request, Forward, Include, Error, Async]);
        let guard = WebFilter {
            name: "guard".into(),
            class: Some("Guard".into()),
            maps: Some(vec![one]),
            init: vec![("realm".to_owned(), "shop".to_owned())].into(),
            order: Some(-5),
            enabled: false,
        };
        let maps = Some(vec![map(&["*.html"], &[], &[]), map(&[], &["cart"], &[])]);
        let two = WebFilter { name: "two".into(), maps, ..plain.clone() };
        assert_eq!(web.filters, [plain, guard, two]);
    }

    #[test]
    fn problems() {
        check(
            r#"
[[filter]]
[[filter]]
name = ""
[[filter]]
name = "a"
url_pattern = ["/*"]
[[filter]]
name = "a"
url_patterns = ["/items/{id}", "a", "*"]
servlets = [""]
dispatchers = ["request", "REQUST", "ANY", 1]
order = "first"
[[filter]]
name = "b"
dispatchers = ["ERROR"]
[[filter]]
name = "c"
servlets = []
[[filter]]
name = "d"
map = []
[[filter]]
name = "e"
dispatchers = ["ERROR"]
[[filter.map]]
url_patterns = ["/*"]
[[filter]]
name = "f"
[[filter.map]]
[[filter.map]]
pattern = "/*"
servlets = "x"
[[filter]]
name = "g"
map = { url_patterns = ["/*"] }
----
web.toml:2:1: [[filter]] has no `name`; write the declared one, as in `name = "log"`
web.toml:4:8: `name` in [[filter]] is empty; write a name, as in `name = "log"`
web.toml:7:1: unknown key `url_pattern` in [[filter]]; did you mean `url_patterns`?
web.toml:9:8: a second [[filter]] with the name `a`; join the two, or give one another name, and `class` to say what it is
web.toml:10:17: `url_patterns` in [[filter]]: `/items/{id}` is not a URL pattern of a filter; filters know no templates: write `/items/*`
web.toml:10:32: `url_patterns` in [[filter]]: `a` is not a URL pattern of a filter; write `/a`, with the `/` before it
web.toml:11:13: `servlets` in [[filter]]: `""` is not the name of a servlet; write a name, or "*" for all
web.toml:12:16: `dispatchers` in [[filter]]: `request` is not known; did you mean `REQUEST`?
web.toml:12:27: `dispatchers` in [[filter]]: `REQUST` is not known; did you mean `REQUEST`?
web.toml:12:37: `dispatchers` in [[filter]]: `ANY` is not known; write one of `REQUEST`, `FORWARD`, `INCLUDE`, `ERROR`, `ASYNC`
web.toml:12:44: `dispatchers` in [[filter]] is the number `1`, but a list of strings is needed; write for example `dispatchers = ["REQUEST", "FORWARD"]`
web.toml:13:9: `order` in [[filter]]: `first` is not a whole number; write for example `order = 1`
web.toml:16:15: a filter's map without `url_patterns` and `servlets`; say what it is called for, as in `url_patterns = ["/*"]`; `enabled = false` takes a filter out of service
web.toml:19:12: a filter's map without `url_patterns` and `servlets`; say what it is called for, as in `url_patterns = ["/*"]`; `enabled = false` takes a filter out of service
web.toml:22:7: `map` in [[filter]] is empty; write [[filter.map]] and its keys below it, or remove `map` for the library's own maps
web.toml:25:15: [[filter]] has both `dispatchers` and [[filter.map]]; write it below a [[filter.map]] of its own
web.toml:30:1: a filter's map without `url_patterns` and `servlets`; say what it is called for, as in `url_patterns = ["/*"]`; `enabled = false` takes a filter out of service
web.toml:32:1: unknown key `pattern` in [[filter.map]]; its keys are `url_patterns`, `servlets`, `dispatchers`
web.toml:33:12: `servlets` in [[filter.map]] is the string `x`, but a list of strings is needed; write for example `servlets = ["cart"]`
web.toml:36:7: `map` in [[filter]] is a table, but a list of tables is needed; write [[filter.map]] with two brackets, once for each, and its keys below it
"#,
        );
    }
}
