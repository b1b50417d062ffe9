//! `[cookies]` of web.toml: how a webapp's cookies are read, and what of those is sent that do not say it themselves (SEMANTICS 16).

use crate::raw::Table;
use crate::session::SameSite;

/// Holds `[cookies]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebCookies {
    /// For cookies without the attribute; Some(None): `"unset"`, it is not sent. None: not said, which for the session's cookie
    /// is another default.
    pub same_site: Option<Option<SameSite>>,
    /// Adds `Partitioned` to cookies without the attribute; default false.
    pub partitioned: bool,
    /// What `a` means in `Cookie: a; b=1`; default [`WithoutEquals::Name`].
    pub without_equals: WithoutEquals,
}

/// What a cookie is that has no `=` (RFC 6265bis 5.6 lets a server choose).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WithoutEquals {
    /// A name, whose value is empty.
    #[default]
    Name,
    /// Nothing.
    Ignore,
}

/// `same_site`, with its default before the others.
pub(crate) fn same_site(table: &Table<'_, '_>, default: (&'static str, Option<SameSite>)) -> Option<Option<SameSite>> {
    const ALL: [(&str, Option<SameSite>); 4] = [
        ("lax", Some(SameSite::Lax)),
        ("strict", Some(SameSite::Strict)),
        ("none", Some(SameSite::None)),
        ("unset", None),
    ];
    let others = ALL.into_iter().filter(|known| *known != default);
    let choices: Vec<_> = std::iter::once(default).chain(others).collect();
    table.given("same_site", |key| table.choice(key, &choices))
}

pub(crate) fn cookies(top: &Table<'_, '_>) -> WebCookies {
    let Some(table) = top.table("cookies") else { return WebCookies::default() };
    let words = [("name", WithoutEquals::Name), ("ignore", WithoutEquals::Ignore)];
    let cookies = WebCookies {
        same_site: same_site(&table, ("unset", None)),
        partitioned: table.flag("partitioned", false),
        without_equals: table.choice("without_equals", &words),
    };
    table.finish();
    cookies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context_settings::ContextSettings;
    use crate::web::tests::{check, load};

    #[test]
    fn cookies_are_as_tomcats_unless_it_is_said() {
        assert_eq!(load("[cookies]").unwrap().cookies, WebCookies::default());
        let web = load("[cookies]\nsame_site = \"strict\"\npartitioned = true\nwithout_equals = \"ignore\"").unwrap();
        let expected = WebCookies {
            same_site: Some(Some(SameSite::Strict)),
            partitioned: true,
            without_equals: WithoutEquals::Ignore,
        };
        assert_eq!(web.cookies, expected);
    }

    #[test]
    fn the_cookie_of_the_session_is_one_of_them() {
        let same_site = |toml: &str| load(toml).unwrap().session_settings(&ContextSettings::default()).same_site;
        assert_eq!(same_site(""), Some(SameSite::Lax));
        assert_eq!(same_site("[cookies]"), Some(SameSite::Lax));
        assert_eq!(same_site("[cookies]\nsame_site = \"unset\""), None);
        assert_eq!(
            same_site("[cookies]\nsame_site = \"unset\"\n[session]\nsame_site = \"strict\""),
            Some(SameSite::Strict)
        );
    }

    #[test]
    fn problems() {
        check(
            r#"
[cookies]
same_site = "laxx"
partitioned = "yes"
without_equals = "value"
----
web.toml:3:13: `same_site` in [cookies]: `laxx` is not known; did you mean `lax`?
web.toml:4:15: `partitioned` in [cookies] is the string `yes`, but true or false is needed; write for example `partitioned = false`
web.toml:5:18: `without_equals` in [cookies]: `value` is not known; write one of `name`, `ignore`
"#,
        );
    }
}
