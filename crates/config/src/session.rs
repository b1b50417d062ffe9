//! `[session]` of web.toml, and what becomes of it with the settings of the context.

use std::time::Duration;

use crate::context_settings::{ContextSettings, DAY, YEAR};
use crate::cookies::same_site;
use crate::raw::Table;
use crate::value::is_token;
use crate::web::Web;

/// The name of the session cookie where web.toml gives none (Servlet 7.1.1).
const COOKIE_NAME: &str = "JSESSIONID";
/// No browser keeps a cookie for longer (RFC 6265bis 5.5).
const COOKIE_AGE_MAX: Duration = Duration::from_secs(400 * 86_400);

/// Holds `[session]` as it is written. None: not said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebSession {
    /// How long a session may lie unused, up to 365 d; zero: for ever.
    pub timeout: Option<Duration>,
    /// Whether cookies carry the session's id; Some(false) only with `url_rewriting`.
    pub cookies: Option<bool>,
    /// A token (RFC 9110 5.6.2).
    pub cookie_name: Option<String>,
    /// Starts with `/`; without control characters and `;`.
    pub cookie_path: Option<String>,
    /// Ends the cookie's path in `/`.
    pub cookie_path_slash: Option<bool>,
    /// Shares the ids of the host's other webapps; Some(true) only with the `cookie_path` `/`.
    pub shared_id: Option<bool>,
    /// A host name in lower case, without a dot before it.
    pub cookie_domain: Option<String>,
    /// How long a browser keeps the cookie, 1 s to 400 d.
    pub cookie_max_age: Option<Duration>,
    /// Hides the cookie from scripts.
    pub http_only: Option<bool>,
    /// When the cookie may travel over protected connections alone.
    pub secure: Option<Secure>,
    /// Which requests of other sites bring the cookie; Some(None): `"unset"`, the attribute is not sent.
    pub same_site: Option<Option<SameSite>>,
    /// Gives the cookie the attribute `Partitioned`.
    pub partitioned: Option<bool>,
    /// Carries the session's id in URLs too, for clients without cookies.
    pub url_rewriting: Option<bool>,
}

/// How sessions of a context are kept and tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// How long a session may lie unused; None: for ever. Default 30 min.
    pub timeout: Option<Duration>,
    /// Whether cookies carry the id; default true. False: the URL alone does, and cookies are not looked at.
    pub cookies: bool,
    /// A token; default `JSESSIONID`.
    pub cookie_name: String,
    /// None, the default: the context's path, so that other webapps of the host do not see it.
    pub cookie_path: Option<String>,
    /// Ends the cookie's path in `/`, so that browsers do not send it to `/foobar` with the requests for `/foo/`, nor to
    /// `/foo` itself; default false.
    pub cookie_path_slash: bool,
    /// A new session takes the id that a cookie has brought, if another webapp of the host has a live session of that id; default
    /// false. Each keeps attributes of its own.
    pub shared_id: bool,
    /// None, the default: the host alone that was asked.
    pub cookie_domain: Option<String>,
    /// Whole seconds are sent. None, the default: until the browser is closed.
    pub cookie_max_age: Option<Duration>,
    /// Hides the cookie from scripts, so that an injected one cannot carry it away; default true.
    pub http_only: bool,
    /// Default [`Secure::Auto`].
    pub secure: Secure,
    /// Default [`SameSite::Lax`]: a form of another site (CSRF) then comes without the session, and a link with it.
    /// None: the attribute is not sent, and the browser decides.
    pub same_site: Option<SameSite>,
    /// Where pages of other sites embed this one, each of them gets a cookie of its own; default false.
    pub partitioned: bool,
    /// Carries the id in URLs too (`;jsessionid=`); default false, for URLs are logged, shared, and sent as `Referer`.
    pub url_rewriting: bool,
    /// Sessions at once, of [`ContextSettings::sessions_max`].
    pub sessions_max: usize,
    /// Bytes of one session's attributes, with their names, of [`ContextSettings::session_bytes_max`].
    pub session_bytes_max: usize,
}

/// When the session cookie has the attribute `Secure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secure {
    /// When the request that made the session was secure.
    Auto,
    /// Always: behind a proxy that speaks TLS.
    Always,
    /// Never.
    Never,
}

/// Which requests of other sites bring a cookie (RFC 6265bis 5.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Those that a link or the address bar makes.
    Lax,
    /// None.
    Strict,
    /// All. Browsers take it only with `Secure`.
    None,
}

impl SameSite {
    /// Returns the value of the cookie's attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        }
    }
}

impl Web {
    /// Returns how sessions are kept: as this descriptor says, else as the context's settings say.
    pub fn session_settings(&self, defaults: &ContextSettings) -> SessionSettings {
        let session = self.session.clone();
        let timeout = session.timeout.unwrap_or(defaults.session_timeout);
        SessionSettings {
            timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
            cookies: session.cookies.unwrap_or(true),
            cookie_name: session.cookie_name.unwrap_or_else(|| COOKIE_NAME.to_owned()),
            cookie_path: session.cookie_path,
            cookie_path_slash: session.cookie_path_slash.unwrap_or(false),
            shared_id: session.shared_id.unwrap_or(false),
            cookie_domain: session.cookie_domain,
            cookie_max_age: session.cookie_max_age,
            http_only: session.http_only.unwrap_or(true),
            secure: session.secure.unwrap_or(Secure::Auto),
            same_site: session.same_site.or(self.cookies.same_site).unwrap_or(Some(SameSite::Lax)),
            partitioned: session.partitioned.unwrap_or(self.cookies.partitioned),
            url_rewriting: session.url_rewriting.unwrap_or(false),
            sessions_max: defaults.sessions_max,
            session_bytes_max: defaults.session_bytes_max,
        }
    }
}

pub(crate) fn session(top: &Table<'_, '_>) -> WebSession {
    let Some(table) = top.table("session") else { return WebSession::default() };
    let (half_hour, second) = (Duration::from_secs(1800), Duration::from_secs(1));
    let session = WebSession {
        timeout: table.given("timeout", |key| table.duration(key, half_hour, Duration::ZERO..=YEAR)),
        cookies: table.given("cookies", |key| table.flag(key, true)),
        cookie_name: cookie_name(&table),
        cookie_path: cookie_path(&table),
        cookie_path_slash: table.given("cookie_path_slash", |key| table.flag(key, false)),
        shared_id: table.given("shared_id", |key| table.flag(key, false)),
        cookie_domain: cookie_domain(&table),
        cookie_max_age: table.given("cookie_max_age", |key| table.duration(key, 30 * DAY, second..=COOKIE_AGE_MAX)),
        http_only: table.given("http_only", |key| table.flag(key, true)),
        secure: table.given("secure", |key| match table.flag_or_word(key, "auto") {
            None => Secure::Auto,
            Some(true) => Secure::Always,
            Some(false) => Secure::Never,
        }),
        same_site: same_site(&table, ("lax", Some(SameSite::Lax))),
        partitioned: table.given("partitioned", |key| table.flag(key, false)),
        url_rewriting: table.given("url_rewriting", |key| table.flag(key, false)),
    };
    let problem = |key, what, instead| table.document.problem(table.place_of(key), what, instead);
    if session.same_site == Some(Some(SameSite::None)) && session.secure == Some(Secure::Never) {
        let what = "`same_site = \"none\"` in [session] with `secure = false`: browsers drop such a cookie";
        problem("same_site", what, "write `secure = true`, or another `same_site`");
    }
    if session.partitioned == Some(true) && session.secure == Some(Secure::Never) {
        let what = "`partitioned` in [session] with `secure = false`: browsers drop such a cookie";
        problem("partitioned", what, "write `secure = true`, or remove `partitioned`");
    }
    if session.shared_id == Some(true) && session.cookie_path.as_deref() != Some("/") {
        let what = "`shared_id` in [session] without `cookie_path = \"/\"`: no other webapp gets the cookie";
        problem("shared_id", what, "write `cookie_path = \"/\"`, or remove `shared_id`");
    }
    if session.cookies == Some(false) && session.url_rewriting != Some(true) {
        let what = "`cookies = false` in [session] without `url_rewriting = true`: nobody would find a session again";
        problem("cookies", what, "write `url_rewriting = true`, or remove `cookies`");
    }
    table.finish();
    session
}

fn cookie_name(table: &Table<'_, '_>) -> Option<String> {
    let instead = "write letters and digits, as in `cookie_name = \"SHOPID\"`";
    table.checked("cookie_name", "\"SHOPID\"", is_token, ("is not the name of a cookie", instead))
}

fn cookie_path(table: &Table<'_, '_>) -> Option<String> {
    // A browser that finds another one takes the path of the request in its place.
    let is_printable = |byte: u8| matches!(byte, b' '..=b'~') && byte != b';';
    let is_good = |text: &str| text.starts_with('/') && text.bytes().all(is_printable);
    let instead = "write it as in a URL, with a `/` before it, as in `cookie_path = \"/\"`";
    table.checked("cookie_path", "\"/\"", is_good, ("is not the path of a cookie", instead))
}

fn cookie_domain(table: &Table<'_, '_>) -> Option<String> {
    let is_label = |label: &str| {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_good)
    };
    let is_good = |text: &str| text.split('.').all(is_label);
    let instead = "write a name without dot before it, port and path, as in `cookie_domain = \"example.com\"`";
    let domain = table.checked("cookie_domain", "\"example.com\"", is_good, ("is not the name of a host", instead));
    domain.map(|domain| domain.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::{check, load};

    #[test]
    fn nothing_set() {
        let settings = load("[session]").unwrap().session_settings(&ContextSettings::default());
        let expected = SessionSettings {
            timeout: Some(Duration::from_secs(1800)),
            cookies: true,
            cookie_name: "JSESSIONID".into(),
            cookie_path: None,
            cookie_path_slash: false,
            shared_id: false,
            cookie_domain: None,
            cookie_max_age: None,
            http_only: true,
            secure: Secure::Auto,
            same_site: Some(SameSite::Lax),
            partitioned: false,
            url_rewriting: false,
            sessions_max: 100_000,
            session_bytes_max: 1 << 20,
        };
        assert_eq!(settings, expected);
        let defaults =
            ContextSettings { session_timeout: Duration::ZERO, sessions_max: 7, ..ContextSettings::default() };
        let settings = Web::default().session_settings(&defaults);
        assert_eq!((settings.timeout, settings.sessions_max), (None, 7));
    }

    #[test]
    fn everything_set() {
        let web = load(
            r#"
            [session]
            timeout = "0s"
            cookies = false
            cookie_name = "__Host-id"
            cookie_path = "/"
            cookie_path_slash = true
            shared_id = true
            cookie_domain = "Shop.example.com"
            cookie_max_age = "400d"
            http_only = false
            secure = true
            same_site = "strict"
            partitioned = true
            url_rewriting = true
            "#,
        )
        .unwrap();
        let expected = SessionSettings {
            timeout: None,
            cookies: false,
            cookie_name: "__Host-id".into(),
            cookie_path: Some("/".into()),
            cookie_path_slash: true,
            shared_id: true,
            cookie_domain: Some("shop.example.com".into()),
            cookie_max_age: Some(COOKIE_AGE_MAX),
            http_only: false,
            secure: Secure::Always,
            same_site: Some(SameSite::Strict),
            partitioned: true,
            url_rewriting: true,
            sessions_max: 100_000,
            session_bytes_max: 1 << 20,
        };
        assert_eq!(web.session_settings(&ContextSettings::default()), expected);
    }

    #[test]
    fn words_of_secure_and_same_site() {
        let session = |toml: &str| load(&format!("[session]\n{toml}")).unwrap().session;
        for (written, secure) in [
            ("\"auto\"", Secure::Auto),
            ("true", Secure::Always),
            ("false", Secure::Never),
            ("\"${env:SERVAL_TEST_UNSET:-true}\"", Secure::Always),
            ("\"${env:SERVAL_TEST_UNSET:-false}\"", Secure::Never),
            ("\"${env:SERVAL_TEST_UNSET:-auto}\"", Secure::Auto),
        ] {
            assert_eq!(session(&format!("secure = {written}")).secure, Some(secure), "{written}");
        }
        for (written, same_site) in [
            ("lax", Some(SameSite::Lax)),
            ("strict", Some(SameSite::Strict)),
            ("none", Some(SameSite::None)),
            ("unset", None),
        ] {
            assert_eq!(session(&format!("same_site = \"{written}\"")).same_site, Some(same_site), "{written}");
        }
        assert_eq!([SameSite::Lax, SameSite::Strict, SameSite::None].map(SameSite::as_str), ["Lax", "Strict", "None"]);
    }

    #[test]
    fn problems() {
        check(
            r#"
[session]
timeout = "366d"
cookie_name = "a b"
cookie_path = "shop"
cookie_domain = ".example.com"
cookie_max_age = "0s"
http_only = "yes"
secure = "on"
same_site = "Lax"
url_rewritng = true
----
web.toml:3:11: `timeout` in [session]: `366d` is out of bounds; write 0s to 365d, as in `timeout = "30m"`
web.toml:4:15: `cookie_name` in [session]: `a b` is not the name of a cookie; write letters and digits, as in `cookie_name = "SHOPID"`
web.toml:5:15: `cookie_path` in [session]: `shop` is not the path of a cookie; write it as in a URL, with a `/` before it, as in `cookie_path = "/"`
web.toml:6:17: `cookie_domain` in [session]: `.example.com` is not the name of a host; write a name without dot before it, port and path, as in `cookie_domain = "example.com"`
web.toml:7:18: `cookie_max_age` in [session]: `0s` is out of bounds; write 1s to 400d, as in `cookie_max_age = "30d"`
web.toml:8:13: `http_only` in [session] is the string `yes`, but true or false is needed; write for example `http_only = true`
web.toml:9:10: `secure` in [session]: `on` is not known; write true, false or "auto"
web.toml:10:13: `same_site` in [session]: `Lax` is not known; did you mean `lax`?
web.toml:11:1: unknown key `url_rewritng` in [session]; did you mean `url_rewriting`?
"#,
        );
        check(
            r#"
[session]
cookie_name = ""
cookie_path = "/a;b"
cookie_domain = "a:80"
secure = 1
----
web.toml:3:15: `cookie_name` in [session]: `""` is not the name of a cookie; write letters and digits, as in `cookie_name = "SHOPID"`
web.toml:4:15: `cookie_path` in [session]: `/a;b` is not the path of a cookie; write it as in a URL, with a `/` before it, as in `cookie_path = "/"`
web.toml:5:17: `cookie_domain` in [session]: `a:80` is not the name of a host; write a name without dot before it, port and path, as in `cookie_domain = "example.com"`
web.toml:6:10: `secure` in [session] is the number `1`, but true, false or "auto" is needed; write for example `secure = "auto"`
"#,
        );
        check(
            r#"
[session]
secure = false
same_site = "none"
----
web.toml:4:13: `same_site = "none"` in [session] with `secure = false`: browsers drop such a cookie; write `secure = true`, or another `same_site`
"#,
        );
        check(
            r#"
[session]
secure = false
partitioned = true
cookies = false
shared_id = true
cookie_path = "/a b"
----
web.toml:4:15: `partitioned` in [session] with `secure = false`: browsers drop such a cookie; write `secure = true`, or remove `partitioned`
web.toml:5:11: `cookies = false` in [session] without `url_rewriting = true`: nobody would find a session again; write `url_rewriting = true`, or remove `cookies`
web.toml:6:13: `shared_id` in [session] without `cookie_path = "/"`: no other webapp gets the cookie; write `cookie_path = "/"`, or remove `shared_id`
"#,
        );
    }
}
