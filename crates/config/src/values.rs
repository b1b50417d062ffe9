//! Named values that nobody but a webapp reads: `[params]`, `[env]`, `[resources]` and `init` of both files. They may be
//! secrets. Used by `server`, `web`, `servlets` and `filters`.

use std::fmt;
use std::ops::Deref;

use crate::problem::{list, near_miss, quoted};
use crate::raw::{Entry, Table, Text};

/// Holds names with their values, in the order of the file; no two have one name. Its `Debug` shows the names alone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Values(Vec<(String, String)>);

impl Values {
    /// Returns the value of a name, whose case counts.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns these, and behind them those of `others` whose names are not here.
    pub(crate) fn before(&self, mut others: Values) -> Values {
        others.0.retain(|(name, _)| self.get(name).is_none());
        Values([self.0.clone(), others.0].concat())
    }
}

impl Deref for Values {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<Vec<(String, String)>> for Values {
    fn from(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }
}

impl From<Vec<(Text, Text)>> for Values {
    fn from(pairs: Vec<(Text, Text)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.value, value.value)).collect())
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// What server.toml gives a webapp; it goes before what web.toml says itself.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    /// `[host.context.params]`.
    pub params: &'a Values,
    /// `[host.context.env]`.
    pub env: &'a Values,
    /// `[resources]`, of which a webapp gets what it links.
    pub resources: &'a Values,
}

/// Reads an `[env]` table. What is in `before` already needs no value, and so no resource.
pub(crate) fn env(table: &Table<'_, '_>, before: &Values, resources: Option<&Values>) -> Values {
    let mut values = Vec::new();
    for (name, entry) in table.entries("env", "a string or { resource = \"name\" }", "mail_from = \"shop@example.com\"")
    {
        let value = match entry {
            Entry::Text(text) => Some(text.value),
            Entry::Table(link) => linked(&link, resources.filter(|_| before.get(&name.value).is_none())),
        };
        values.extend(value.map(|value| (name.value, value)));
    }
    before.before(Values(values))
}

/// Returns the value of the global resource that `{ resource = "name" }` names; None also where nobody asks for it.
fn linked(link: &Table<'_, '_>, resources: Option<&Values>) -> Option<String> {
    let resource = link.text("resource", "a string", "\"database\"");
    if link.place_of("resource").is_none() {
        let instead = "write `{ resource = \"database\" }` for what [resources] of server.toml calls so; a name with a dot stands in quotes";
        link.document.problem(link.at, format!("{} has no `resource`", link.name), instead);
        return None;
    }
    link.finish();
    let (resource, resources) = (resource?, resources?);
    let found = resources.get(&resource.value);
    if found.is_none() {
        let names = resources.iter().map(|(name, _)| name.as_str());
        let instead = match near_miss(&resource.written, names.clone()) {
            Some(meant) => format!("did you mean {}?", quoted(meant)),
            None if resources.is_empty() => "server.toml has no [resources]: add it there".to_owned(),
            None => format!("add it there, or name one of {}", list(names)),
        };
        link.wrong(&resource, "resource", "is not in [resources] of server.toml", instead);
    }
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Web;
    use crate::server::tests::{check as check_server, good, load as load_server};
    use crate::web::tests::load;

    fn values(pairs: &[(&str, &str)]) -> Values {
        Values(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn given(toml: &str) -> Result<Web, String> {
        let resources = values(&[("database", "d"), ("mail.host", "h"), ("empty", "")]);
        let (params, env) = (values(&[("a", "given"), ("z", "given")]), values(&[("e", "given"), ("link", "given")]));
        crate::web::tests::load_with(toml, Some(Given { params: &params, env: &env, resources: &resources }))
    }

    #[track_caller]
    fn check(case: &str) {
        let (toml, expected) = case.split_once("----\n").expect("a line of dashes");
        assert_eq!(given(toml).expect_err("problems").trim(), expected.trim(), "\nfor\n{toml}");
    }

    #[test]
    fn what_the_server_gives_goes_first() {
        let web = given(
            r#"
            [params]
            a = "own"
            b = "own"
            [env]
            e = "own"
            db = { resource = "database" }
            "mail.host" = { resource = "mail.host" }
            empty = { resource = "${env:SERVAL_TEST_UNSET:-empty}" }
            secret = "a ${file:secret} b"
            link = { resource = "it is not asked for" }
            "#,
        )
        .unwrap();
        assert_eq!(web.params, values(&[("a", "given"), ("z", "given"), ("b", "own")]));
        let env = [
            ("e", "given"),
            ("link", "given"),
            ("db", "d"),
            ("mail.host", "h"),
            ("empty", ""),
            ("secret", "a s3cret b"),
        ];
        assert_eq!(web.env, values(&env));
        assert_eq!((web.env.get("db"), web.env.get("database"), web.env.get("DB")), (Some("d"), None, None));
        let without = given("").unwrap();
        assert_eq!(
            (without.params.get("a"), without.env.get("e"), without.env.len()),
            (Some("given"), Some("given"), 2)
        );
    }

    #[test]
    fn by_itself_links_lead_nowhere() {
        let web = load("[env]\na = { resource = \"none\" }\nb = \"own\"").unwrap();
        assert_eq!(web.env, values(&[("b", "own")]));
    }

    #[test]
    fn of_the_server() {
        let server = good(
            r#"
            [resources]
            database = "${env:CARGO_PKG_NAME}"
            [[host]]
            [[host.context]]
            path = "/shop"
            [host.context.params]
            currency = "EUR"
            [host.context.env]
            db = { resource = "database" }
            "#,
        );
        let shop = &server.hosts[0].contexts[0];
        assert_eq!((&shop.params, &shop.env), (&values(&[("currency", "EUR")]), &values(&[("db", "serval-config")])));
        check_server(
            r#"
resources = "s3cret"
----
server.toml:2:13: `resources` is a string, but a table is needed; write [resources], and its keys below it
"#,
        );
        check_server(
            r#"
[resources]
database = "d"
pin = 12345678
other = { resource = "database" }
[[host]]
[[host.context]]
path = "/shop"
[host.context.env]
db = { resource = "databse" }
----
server.toml:4:7: `pin` in [resources] is a number, but a string is needed; put it in quotes
server.toml:5:9: `other` in [resources] is a table, but a string is needed; write for example `database = "postgres://db.example.com/shop"`
server.toml:10:19: `resource` in [host.context.env.db]: `databse` is not in [resources] of server.toml; did you mean `database`?
"#,
        );
        check_server(
            r#"
[[host]]
[[host.context]]
path = "/shop"
[host.context.env]
db = { resource = "database" }
----
server.toml:6:19: `resource` in [host.context.env.db]: `database` is not in [resources] of server.toml; server.toml has no [resources]: add it there
"#,
        );
    }

    #[test]
    fn problems() {
        check(
            r#"
[env]
a = 1
b = ["c"]
c = { resource = "mail.hots" }
d = { resource = "xxxxxxxx" }
e = { resorce = "database" }
f.g = "h"
h = { resource = 1 }
i = { resource = "database", other = 1 }
j = { resource = "${env:CARGO_PKG_NAME}" }
"a\nb" = {}
----
web.toml:3:5: `a` in [env] is a number, but a string or { resource = "name" } is needed; put it in quotes
web.toml:4:5: `b` in [env] is a list, but a string or { resource = "name" } is needed; write for example `mail_from = "shop@example.com"`
web.toml:5:18: `resource` in [env.c]: `mail.hots` is not in [resources] of server.toml; did you mean `mail.host`?
web.toml:6:18: `resource` in [env.d]: `xxxxxxxx` is not in [resources] of server.toml; add it there, or name one of `database`, `mail.host`, `empty`
web.toml:7:5: [env.e] has no `resource`; write `{ resource = "database" }` for what [resources] of server.toml calls so; a name with a dot stands in quotes
web.toml:8:1: [env.f] has no `resource`; write `{ resource = "database" }` for what [resources] of server.toml calls so; a name with a dot stands in quotes
web.toml:9:18: `resource` in [env.h] is the number `1`, but a string is needed; write for example `resource = "database"`
web.toml:10:30: unknown key `other` in [env.i]; its keys are `resource`
web.toml:11:18: `resource` in [env.j]: `${env:CARGO_PKG_NAME}` is not in [resources] of server.toml; add it there, or name one of `database`, `mail.host`, `empty`
web.toml:12:10: [env.a\nb] has no `resource`; write `{ resource = "database" }` for what [resources] of server.toml calls so; a name with a dot stands in quotes
"#,
        );
    }

    #[test]
    fn they_are_not_shown() {
        let shown = format!("{:?}", values(&[("database", "s3cret")]));
        assert_eq!(shown, "{\"database\"}");
    }

    /// Gives the keys of a table what is wrong in many ways, and looks for it in what is said.
    #[track_caller]
    fn stays_hidden(table: &str, load: impl Fn(&str) -> Option<String>) {
        // A message about an unknown key lists the known ones.
        let problems = load(&format!("{table}\nxxxxxxxxxxxxxxx = 1\n")).expect("problems");
        let keys = problems.lines().find_map(|line| line.split_once("keys are ")).expect("the known keys").1;
        for wrong in
            ["S", "S:80", "127.0.0.1:S", "S/x", "/S/{S}/{S}", "*.S/x", "/x{S", "gzip=S", "%{S}t", "%{S}i", "S\\u0000"]
        {
            // Cargo sets this one for every test.
            let wrong = format!("\"{}\"", wrong.replace('S', "${env:CARGO_PKG_NAME}"));
            for wrong in [wrong.clone(), format!("[{wrong}, {wrong}]")] {
                let given = keys.split(", ").map(|key| format!("{} = {wrong}\n", key.trim_matches('`')));
                let toml = format!("{table}\n{}", given.collect::<String>());
                let said = load(&toml).unwrap_or_default();
                assert!(!said.contains("serval-config"), "{toml}\n{said}");
            }
        }
    }

    #[test]
    fn no_problem_shows_what_was_put_in() {
        for table in [
            "",
            "[build]",
            "[[servlet]]",
            "[[filter]]",
            "[[filter]]\n[[filter.map]]",
            "[session]",
            "[cookies]",
            "[multipart]",
            "[[error_page]]",
            "[error_report]",
            "[files]",
            "[[files.cache_control]]",
            "[compression]",
            "[redirects]",
        ] {
            stays_hidden(table, |toml| load(toml).err());
        }
        for table in [
            "",
            "[server]",
            "[log]",
            "[build]",
            "[access_log]",
            "[defaults.context]",
            "[defaults.context.remote_ip]",
            "[[listener]]",
            "[[host]]",
            "[[host]]\nname = \"a\"\n[host.access_log]",
            "[[host]]\nname = \"a\"\n[[host.error_page]]",
            "[[host]]\n[[host.context]]",
            "[[host]]\nname = \"${env:CARGO_PKG_NAME}\"\n[[host]]",
            "[[host]]\n[[host.context]]\npath = \"/${env:CARGO_PKG_NAME}\"\n[[host.context]]",
        ] {
            stays_hidden(table, |toml| load_server(toml.as_bytes()).err());
        }
        for twice in [
            "[[servlet]]\nname = \"${env:CARGO_PKG_NAME}\"\nurl_patterns = [\"/${env:CARGO_PKG_NAME}\"]\n",
            "[[error_page]]\nkind = \"${env:CARGO_PKG_NAME}\"\nlocation = \"/a\"\n",
        ] {
            let said = load(&twice.repeat(2)).unwrap_err();
            assert!(!said.contains("serval-config"), "{said}");
        }
        let listener = "[[listener]]\naddress = \"127.0.0.1:80${env:SERVAL_TEST_UNSET:-99}\"\n";
        let said = load_server(format!("{listener}{listener}").as_bytes()).unwrap_err();
        assert!(!said.contains("8099"), "{said}");
    }
}
