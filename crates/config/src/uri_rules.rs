//! How a listener reads the target of a request: the keys of `[[listener]]` that Tomcat's users know from their connectors
//! (SEMANTICS 3).

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
    /// `relaxed_path_chars`: which of `` " < > [ \ ] ^ ` { | } `` may stand in a path unescaped, against RFC 3986; default
    /// none.
    pub relaxed_path_chars: String,
    /// `relaxed_query_chars`: the same in a query.
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
