//! `[[servlet]]` of web.toml.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::context_settings::DAY;
use crate::raw::{Table, Text};
use crate::url_pattern;
use crate::values::Values;
use crate::web::name_of;

/// Holds one `[[servlet]]`: changes to a servlet that a library declares, or another servlet of the same class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebServlet {
    /// Its name; never empty.
    pub name: String,
    /// The servlet declared by the library, or `default`, which serves the webapp's files; None: the one called `name`.
    pub class: Option<String>,
    /// URL patterns, which replace the library's own. Each is `""`, or starts with `/` or `*.`. One that starts with
    /// `/` may have templates, as in `/items/{id}`: whole segments, each with a name of its own of ASCII letters,
    /// digits, `_` and `-`, and no `*` beside them.
    pub url_patterns: Option<Vec<String>>,
    /// Init parameters, `[servlet.init]`, in the order of the file; they go before the library's own.
    pub init: Values,
    /// The order in which servlets are started: 0 and above, lower first; negative: after those.
    pub load_on_startup: Option<i32>,
    /// Reads `multipart/form-data` bodies, as `[multipart]` limits them; None: as the library says.
    pub multipart: Option<bool>,
    /// How long an async exchange of this servlet may take, up to 24 h, zero: for ever; None: `async_timeout` of the
    /// context's settings.
    pub async_timeout: Option<Duration>,
    /// A welcome file that it takes by its extension must be there (`resourceOnlyServlets`); default false.
    pub resource_only: bool,
    /// False takes the servlet out of service; default true.
    pub enabled: bool,
}

pub(crate) fn servlets(top: &Table<'_, '_>) -> Vec<WebServlet> {
    let mut servlets: Vec<WebServlet> = Vec::new();
    // The shape of each pattern of a servlet that is in service, and whose it is, as it is written.
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for table in top.tables("servlet").unwrap_or_default() {
        let name = name_of(&table, "\"cart\"", |name| servlets.iter().any(|other| other.name == name));
        let enabled = table.flag("enabled", true);
        let url_patterns = url_patterns(&table);
        let servlet = WebServlet {
            name,
            class: table.text("class", "a string", "\"cart\"").map(|text| text.value),
            url_patterns: url_patterns.as_ref().map(|texts| texts.iter().map(|text| text.value.clone()).collect()),
            init: table.pairs("init", "greeting = \"Hello\"").into(),
            load_on_startup: table.signed("load_on_startup", "1"),
            multipart: table.given("multipart", |key| table.flag(key, true)),
            async_timeout: table
                .given("async_timeout", |key| table.duration(key, Duration::from_secs(30), Duration::ZERO..=DAY)),
            resource_only: table.flag("resource_only", false),
            enabled,
        };
        table.finish();
        for pattern in url_patterns.iter().flatten().filter(|_| servlet.enabled) {
            let shown = table.written("name").unwrap_or_default();
            if let Some(owner) = owners.insert(url_pattern::shape(&pattern.value), shown) {
                let what = format!("{} is a URL pattern of the servlet {owner} already", pattern.shown());
                table.document.problem(Some(pattern.at), what, "remove it from one of the two");
            }
        }
        servlets.push(servlet);
    }
    servlets
}

/// Returns the patterns that are good, each once.
fn url_patterns(table: &Table<'_, '_>) -> Option<Vec<Text>> {
    let mut patterns: Vec<Text> = Vec::new();
    for text in table.texts("url_patterns", "[\"/cart/*\"]")? {
        match url_pattern::check_of_servlet(&text.value) {
            Err(instead) => table.wrong(&text, "url_patterns", "is not a URL pattern", text.advice(instead)),
            Ok(()) if patterns.iter().any(|other| other.value == text.value) => {}
            Ok(()) => patterns.push(text),
        }
    }
    Some(patterns)
}
