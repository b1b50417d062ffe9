//! How a listener reads the target of a request: the keys of `[[listener]]` that Tomcat's users know from their connectors
//! (SEMANTICS 3).

use crate::raw::Table;

/// Holds what of a target is refused, and what some escapes stand for. The default is the strictest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UriRules {
    /// `allow_suspicious_uris`: takes paths that a proxy in front may read otherwise (`/;/`, `/%2e/`, `/..;/`, escaped
    /// controls) and cleans them, as Tomcat does by default; default false: 400.
    pub allow_suspicious: bool,
    /// `encoded_slash`: what `%2F` in a path becomes; default [`Escape::Reject`].
    pub encoded_slash: Escape,
    /// `encoded_backslash`: what `%5C` in a path becomes; default [`Escape::Reject`]. Decoded, it is a backslash, and
    /// `allow_backslash` says whether that is taken.
    pub encoded_backslash: Escape,
    /// `allow_backslash`: takes a backslash in a path for a slash; default false: 400.
    pub allow_backslash: bool,
    /// `relaxed_path_chars`: which of `` " [ \ ] ^ { | } `` may stand in a path unescaped, against RFC 3986; default none. Tomcat's
    /// `<`, `>` and backtick cannot: the reader of HTTP refuses them.
    pub relaxed_path_chars: String,
    /// `relaxed_query_chars`: which of `` [ \ ] ^ ` { | } `` may stand in a query unescaped; default none.
    pub relaxed_query_chars: String,
}

/// What an escape in a path becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Escape {
    /// 400.
    #[default]
    Reject,
    /// The character, before the path is normalised.
    Decode,
    /// It stays as it is written, and so does `%25`: a servlet can decode the path once more, safely.
    Passthrough,
}

const ESCAPES: [(&str, Escape); 3] =
    [("reject", Escape::Reject), ("decode", Escape::Decode), ("passthrough", Escape::Passthrough)];
/// What may be relaxed: the rest of what RFC 3986 forbids is 400 in any case.
const IN_PATH: &str = "\"[\\]^{|}";
const IN_QUERY: &str = "[\\]^`{|}";

/// Reads the keys that stand in `[[listener]]` itself.
pub(crate) fn uri_rules(table: &Table<'_, '_>) -> UriRules {
    UriRules {
        allow_suspicious: table.flag("allow_suspicious_uris", false),
        encoded_slash: table.choice("encoded_slash", &ESCAPES),
        encoded_backslash: table.choice("encoded_backslash", &ESCAPES),
        allow_backslash: table.flag("allow_backslash", false),
        relaxed_path_chars: relaxed_chars(table, "relaxed_path_chars", IN_PATH),
        relaxed_query_chars: relaxed_chars(table, "relaxed_query_chars", IN_QUERY),
    }
}

fn relaxed_chars(table: &Table<'_, '_>, key: &'static str, relaxable: &str) -> String {
    let is_good = |text: &str| text.chars().all(|char| relaxable.contains(char));
    let instead = format!("write only such as stand in {relaxable}");
    let wrong = ("has a character that cannot be allowed", instead.as_str());
    table.checked(key, "\"{|}\"", is_good, wrong).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{check, good};

    #[test]
    fn everything_set() {
        assert_eq!(good("[[listener]]").listeners[0].uri, UriRules::default());
        let server = good(
            r#"
            [[listener]]
            allow_suspicious_uris = true
            encoded_slash = "decode"
            encoded_backslash = "passthrough"
            allow_backslash = true
            relaxed_path_chars = '"[\]^{|}'
            relaxed_query_chars = "{{}"
            "#,
        );
        let expected = UriRules {
            allow_suspicious: true,
            encoded_slash: Escape::Decode,
            encoded_backslash: Escape::Passthrough,
            allow_backslash: true,
            relaxed_path_chars: IN_PATH.to_owned(),
            relaxed_query_chars: "{{}".to_owned(),
        };
        assert_eq!(server.listeners[0].uri, expected);
        assert_eq!(good("[[listener]]\nencoded_slash = \"reject\"").listeners[0].uri, UriRules::default());
    }

    #[test]
    fn problems() {
        check(
            r##"
[[listener]]
allow_suspicious_uris = "yes"
encoded_slash = "pass"
encoded_backslash = true
allow_backslash = 1
relaxed_path_chars = "<%>"
relaxed_query_chars = ["|"]
[[listener]]
address = "127.0.0.1:0"
encoded_slash = "allow"
relaxed_path_chars = "ü"
relaxed_query_chars = "#"
allow_suspicious = true
----
server.toml:3:25: `allow_suspicious_uris` in [[listener]] is the string `yes`, but true or false is needed; write for example `allow_suspicious_uris = false`
server.toml:4:17: `encoded_slash` in [[listener]]: `pass` is not known; did you mean `passthrough`?
server.toml:5:21: `encoded_backslash` in [[listener]] is `true`, but a string is needed; write for example `encoded_backslash = "reject"`
server.toml:6:19: `allow_backslash` in [[listener]] is the number `1`, but true or false is needed; write for example `allow_backslash = false`
server.toml:7:22: `relaxed_path_chars` in [[listener]]: `<%>` has a character that cannot be allowed; write only such as stand in "[\]^{|}
server.toml:8:23: `relaxed_query_chars` in [[listener]] is a list, but a string is needed; write for example `relaxed_query_chars = "{|}"`
server.toml:11:17: `encoded_slash` in [[listener]]: `allow` is not known; write one of `reject`, `decode`, `passthrough`
server.toml:12:22: `relaxed_path_chars` in [[listener]]: `ü` has a character that cannot be allowed; write only such as stand in "[\]^{|}
server.toml:13:23: `relaxed_query_chars` in [[listener]]: `#` has a character that cannot be allowed; write only such as stand in [\]^`{|}
server.toml:14:1: unknown key `allow_suspicious` in [[listener]]; did you mean `allow_suspicious_uris`?
"##,
        );
    }
}
