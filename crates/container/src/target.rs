//! What a request asks for: its Host, and the clean-up of its target (SEMANTICS 2 and 3; RFC 9112 3.2; Servlet 3.5.2).
//!
//! Called once for each request, before anything is looked up; what it lets through is safe to map and to open. hyper refuses some
//! targets before us, with 400 and without a line in the access log: `<`, `>`, a backtick or a control in a path, `"`, `<` or `>` in a
//! query, what is not UTF-8, and what is no target at all, such as `a/b` or `?q`; so those characters cannot be relaxed. A `#` and what
//! follows is cut off there, after the first request with a chunked body on a connection; before that it is 400.

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};
use serval_config::{Escape, UriRules};

use crate::Peer;

/// Why a request is refused before any context sees it: the status, and a sentence for the log and for developers. The connection
/// is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub StatusCode, pub &'static str);

const fn bad(reason: &'static str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, reason)
}

/// The name and port that a client means the server by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Lower case, without port; an IPv6 address is in its brackets. `None`: an HTTP/1.0 request without Host.
    pub name: Option<String>,
    /// Without one in Host, that of the scheme; without Host, that of the socket.
    pub port: u16,
}

/// A target, cleaned.
#[derive(Debug, Clone)]
pub struct Target {
    /// As sent: path and query.
    raw: PathAndQuery,
    /// Decoded, normalised, without parameters; begins with a slash, or is the `*` of OPTIONS. `None`: as the path in `raw`, which most are.
    cleaned: Option<String>,
    /// Length of the context path, which is not part of [`Target::path`].
    context_len: usize,
    /// Of what means it in `raw`, and how many slashes stand before that which mean nothing.
    raw_context_len: usize,
    raw_slashes: usize,
    /// Of a dispatch: what the client has sent.
    client: Option<PathAndQuery>,
    /// What servlets are told of the server.
    pub server_name: String,
    pub server_port: u16,
}

impl Target {
    /// Reads and cleans the target of a request; `server` is whom the client has asked.
    pub fn read(head: &mut Parts, server: Authority, rules: &UriRules) -> Result<Target, Refused> {
        if head.method == Method::CONNECT {
            return Err(Refused(StatusCode::NOT_IMPLEMENTED, "this server is no proxy, so it knows no CONNECT"));
        }
        let uri = std::mem::take(&mut head.uri).into_parts();
        match uri.scheme.as_ref().map(|scheme| scheme.as_str()) {
            None if uri.authority.is_some() => return Err(bad("the target does not begin with a slash")),
            Some(scheme) if scheme != "http" && scheme != "https" => return Err(bad("the target has another scheme")),
            _ => {}
        }
        let raw = with_path(uri.path_and_query)?;
        let for_the_server = raw.path() == "*" && head.method == Method::OPTIONS;
        let cleaned = if for_the_server || is_clean(raw.path()) { None } else { Some(clean(raw.path(), rules)?) };
        if let Some(query) = raw.query() {
            check_query(query, rules)?;
        }
        let (server_name, server_port) = (server.name.unwrap_or_default(), server.port);
        Ok(Target {
            raw,
            cleaned,
            context_len: 0,
            raw_context_len: 0,
            raw_slashes: 0,
            client: None,
            server_name,
            server_port,
        })
    }

    /// Path and query, as sent.
    pub fn raw(&self) -> &str {
        self.raw.as_str()
    }

    /// The path, as sent.
    pub fn request_uri(&self) -> &str {
        self.raw.path()
    }

    /// Without the question mark; `None`: there was none.
    pub fn query(&self) -> Option<&str> {
        self.raw.query()
    }

    /// As [`Target::query`], but always the client's: the parameters of a dispatch are read from it too. Empty: there is none.
    pub fn client_query(&self) -> &str {
        self.client.as_ref().unwrap_or(&self.raw).query().unwrap_or("")
    }

    /// As [`Target::request_uri`], but always the client's, which its relative URLs are meant by.
    pub fn client_uri(&self) -> &str {
        self.client.as_ref().unwrap_or(&self.raw).path()
    }

    /// Decoded, normalised, without parameters, and without the path of the context that was entered.
    pub fn path(&self) -> &str {
        let whole = self.cleaned.as_deref().unwrap_or(self.raw.path());
        &whole[self.context_len..]
    }

    /// From here on [`Target::path`] is what is behind the path of this context, with which it begins.
    pub fn enter(&mut self, context_path: &str, rules: &UriRules) {
        self.context_len = context_path.len();
        self.raw_context_len = context_path.len();
        if self.cleaned.is_some() {
            let raw = self.raw.path();
            self.raw_context_len = raw_context_len(raw, context_path, rules);
            // What is left of them could be taken for the name of a host, in a redirect.
            let slashes = raw.bytes().take_while(|&byte| byte == b'/' || byte == b'\\').count();
            self.raw_slashes = slashes.saturating_sub(1).min(self.raw_context_len);
        }
    }

    /// Goes to another path of the context that was entered.
    pub fn go_to(&mut self, path: String) {
        (self.cleaned, self.context_len) = (Some(path), 0);
    }

    /// The target of a dispatch inside the context: to `path`, which a library has written as `uri`, maybe with a query. `None`: it
    /// is longer than one can be.
    pub fn of_dispatch(&self, path: &str, uri: &str, query: Option<&str>) -> Option<Target> {
        // What a library has written may be what no client can send.
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>`".contains(&byte);
        let context = self.raw_context_path();
        let query = query.map(|query| format!("?{}", percent_encoded(query, plain))).unwrap_or_default();
        let raw = format!("{context}{}{query}", percent_encoded(uri, plain));
        Some(Target {
            raw: PathAndQuery::try_from(raw).ok()?,
            cleaned: Some(path.to_owned()),
            context_len: 0,
            raw_context_len: context.len(),
            raw_slashes: 0,
            client: Some(self.client.as_ref().unwrap_or(&self.raw).clone()),
            server_name: self.server_name.clone(),
            server_port: self.server_port,
        })
    }

    /// A path that a library has written, decoded and normalised; `None`: it leads above the root, or is no path. What would fool
    /// a proxy is no harm here, since none is between.
    pub fn clean_path(path: &str) -> Option<String> {
        const RULES: UriRules = UriRules {
            allow_suspicious: true,
            encoded_slash: Escape::Decode,
            encoded_backslash: Escape::Decode,
            allow_backslash: true,
            relaxed_path_chars: String::new(),
            relaxed_query_chars: String::new(),
        };
        text(walk(path, &RULES, |_, _| ()).ok()?).ok()
    }

    /// A decoded path as it is sent.
    pub fn encoded(path: &str) -> String {
        percent_encoded(path, |byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/".contains(&byte))
    }

    /// The value of a path parameter, as sent: `/cart;jsessionid=1`. Of several the last one counts.
    pub fn path_parameter(&self, name: &str) -> Option<&str> {
        let path = self.raw.path();
        if !path.contains(';') {
            return None;
        }
        let parameters = path.split('/').flat_map(|segment| segment.split(';').skip(1));
        let named = parameters.filter_map(|parameter| parameter.split_once('=')).filter(|(known, _)| *known == name);
        named.map(|(_, value)| value).last()
    }

    /// The path of the context that was entered, as sent.
    pub fn raw_context_path(&self) -> &str {
        &self.raw.path()[self.raw_slashes..self.raw_context_len]
    }

    /// What is behind the path of the context that was entered, as sent, with the parameters of that; without the query.
    pub fn raw_behind_context(&self) -> &str {
        let raw = self.raw.path();
        let context = &raw[..self.raw_context_len];
        let segment = context.rfind('/').map_or(0, |slash| slash + 1);
        let behind = context[segment..].find(';').map_or(context.len(), |parameters| segment + parameters);
        &raw[behind..]
    }

    /// Scheme, name and port, as an absolute URL begins with them.
    pub fn origin(&self, secure: bool) -> String {
        let (scheme, usual) = if secure { ("https", 443) } else { ("http", 80) };
        let port = if self.server_port == usual { String::new() } else { format!(":{}", self.server_port) };
        format!("{scheme}://{}{port}", self.server_name)
    }
}

/// Escapes the bytes that are not plain; only those of ASCII can be.
pub fn percent_encoded(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match plain(byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// An absolute-form target may have no path (RFC 9112 3.2.2).
fn with_path(raw: Option<PathAndQuery>) -> Result<PathAndQuery, Refused> {
    match raw {
        None => Ok(PathAndQuery::from_static("/")),
        Some(raw) if raw.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", raw.as_str())).map_err(|_| bad("the target is malformed"))
        }
        Some(raw) => Ok(raw),
    }
}

impl Authority {
    /// Whom the client means: the authority of the target, else Host (RFC 9112 3.2).
    pub fn read(head: &Parts, peer: &Peer) -> Result<Authority, Refused> {
        let mut hosts = head.headers.get_all(HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(bad("there is more than one Host header"));
        }
        if host.is_none() && head.version == Version::HTTP_11 {
            return Err(bad("an HTTP/1.1 request needs a Host header"));
        }
        // The target of CONNECT names another server.
        let target = head.uri.authority().filter(|_| head.method != Method::CONNECT).map(|found| found.as_str());
        let default_port = if peer.secure { 443 } else { 80 };
        let asked = match (target, host) {
            (Some(target), Some(host))
                if head.version > Version::HTTP_10 && !host.as_bytes().eq_ignore_ascii_case(target.as_bytes()) =>
            {
                return Err(bad("the authority of the target and the Host header differ"));
            }
            (Some(target), _) => target.as_bytes(),
            (None, Some(host)) => host.as_bytes(),
            (None, None) => return Ok(Authority { name: None, port: peer.local.port() }),
        };
        if asked.is_empty() {
            return Ok(Authority { name: Some(String::new()), port: peer.local.port() });
        }
        let (name, port) = authority(asked, default_port)?;
        Ok(Authority { name: Some(name), port })
    }
}

/// Length of the shortest raw prefix that means `context_path`, which is a prefix of the path (SEMANTICS 5).
pub fn raw_context_len(raw: &str, context_path: &str, rules: &UriRules) -> usize {
    if context_path.is_empty() {
        return 0;
    }
    let mut found = None;
    // Cleaned once already, without an error.
    let _ = walk(raw, rules, |end, path| {
        if found.is_none() && path == context_path.as_bytes() {
            found = Some(end);
        }
    });
    found.unwrap_or(raw.len())
}

const BAD_HOST: Refused = bad("the Host header is malformed");

/// Of a Host header or a target (RFC 3986 3.2.2): a name in lower case, and a port.
pub fn authority(text: &[u8], default_port: u16) -> Result<(String, u16), Refused> {
    let end = match text {
        [b'[', address @ ..] => {
            let len = address.iter().position(|&b| b == b']').ok_or(BAD_HOST)?;
            let address = std::str::from_utf8(&address[..len]).map_err(|_| BAD_HOST)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| BAD_HOST)?;
            len + 2
        }
        _ => match text.iter().position(|&b| !IN_NAME[usize::from(b)]) {
            None => text.len(),
            Some(end @ 1..) if text[end] == b':' => end,
            Some(_) => return Err(BAD_HOST),
        },
    };
    let port = match &text[end..] {
        [] | [b':'] => default_port,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            let value =
                digits.iter().try_fold(0_u16, |port, digit| port.checked_mul(10)?.checked_add((digit - b'0').into()));
            value.ok_or(BAD_HOST)?
        }
        _ => return Err(BAD_HOST),
    };
    let name = text[..end].to_ascii_lowercase();
    Ok((String::from_utf8(name).map_err(|_| BAD_HOST)?, port))
}

/// The bytes of a registered name or an IPv4 address (RFC 3986 3.2.2).
const IN_NAME: [bool; 256] = letters_digits_and(b"-._~!$&'()*+,;=%");
/// The bytes of a path (RFC 3986 3.3), with their escapes.
const IN_PATH: [bool; 256] = letters_digits_and(b"-._~!$&'()*+,;=%:@/");

const fn letters_digits_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// Cleans a raw path: parameters off, decoded, normalised; refuses what the rules do not let in.
pub fn clean(raw: &str, rules: &UriRules) -> Result<String, Refused> {
    let is_good = |byte: u8| IN_PATH[usize::from(byte)] || is_among(byte, &rules.relaxed_path_chars);
    if !raw.bytes().all(is_good) {
        return Err(bad("the target has a character that has to be percent-encoded"));
    }
    if !rules.allow_suspicious {
        check_suspicious(raw, rules)?;
    }
    text(walk(raw, rules, |_, _| ())?)
}

fn is_among(byte: u8, relaxed: &str) -> bool {
    byte.is_ascii() && relaxed.as_bytes().contains(&byte)
}

fn check_query(query: &str, rules: &UriRules) -> Result<(), Refused> {
    let is_good = |byte| IN_PATH[usize::from(byte)] || byte == b'?' || is_among(byte, &rules.relaxed_query_chars);
    match query.bytes().all(is_good) {
        true => Ok(()),
        false => Err(bad("the query has a character that has to be percent-encoded")),
    }
}

fn text(path: Vec<u8>) -> Result<String, Refused> {
    String::from_utf8(path).map_err(|_| bad("the target is not UTF-8"))
}

/// Refuses what a proxy in front of us may read otherwise (SEMANTICS 3, step 6).
fn check_suspicious(raw: &str, rules: &UriRules) -> Result<(), Refused> {
    // Some take a backslash for a slash.
    let mut segments = raw[1.min(raw.len())..].split(['/', '\\']).peekable();
    while let Some(segment) = segments.next() {
        let (name, has_parameters) = segment.split_once(';').map_or((segment, false), |(name, _)| (name, true));
        if name.is_empty() && has_parameters && segments.peek().is_some() {
            return Err(bad("an empty path segment has parameters"));
        }
        let mut behind = name;
        while let Some(rest) = [".", "%2e", "%2E"].iter().find_map(|dot| behind.strip_prefix(dot)) {
            behind = rest;
        }
        let is_dots = behind.is_empty() && !name.is_empty();
        if is_dots && (has_parameters || name.contains('%')) {
            return Err(bad("a dot segment is encoded or has parameters"));
        }
    }
    // Also those that go with the parameters.
    let mut rest = raw.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        rest = &rest[at + 1..];
        match escaped(rest) {
            None => return Err(BROKEN),
            Some(b'/') if rules.encoded_slash == Escape::Reject => return Err(ENCODED_SLASH),
            Some(byte) if byte.is_ascii_control() => return Err(CONTROL),
            Some(_) => {}
        }
    }
    Ok(())
}

const ENCODED_SLASH: Refused = bad("the target has an encoded slash");
const CONTROL: Refused = bad("the target has an encoded control character");
const BROKEN: Refused = bad("the target has a broken percent-encoding");

/// The byte whose escape begins with these two digits.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| (*digits.get(at)? as char).to_digit(16);
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

/// Cleans segment by segment, in one pass (SEMANTICS 3, steps 2 to 4), and shows what there is after each one, with its end in `raw`.
fn walk(raw: &str, rules: &UriRules, mut after_segment: impl FnMut(usize, &[u8])) -> Result<Vec<u8>, Refused> {
    let bytes = raw.as_bytes();
    let is_slash = |byte: u8| byte == b'/' || (byte == b'\\' && rules.allow_backslash);
    if !bytes.first().is_some_and(|&byte| is_slash(byte)) {
        return Err(bad("the target does not begin with a slash"));
    }
    let mut path: Vec<u8> = Vec::with_capacity(raw.len());
    let mut at = 1;
    loop {
        let from = path.len();
        path.push(b'/');
        // The segment's end, and where the next one begins.
        let (end, next) = loop {
            let Some(&byte) = bytes.get(at) else { break (at, None) };
            match byte {
                // A parameter ends at a slash as it is written, before anything is decoded.
                b';' => at += bytes[at..].iter().position(|&byte| byte == b'/').unwrap_or(bytes.len() - at),
                b'%' => match unescape(&bytes[at..], rules)? {
                    Unescaped::Slash => break (at, Some(at + 3)),
                    Unescaped::Byte(byte) => {
                        path.push(byte);
                        at += 3;
                    }
                    Unescaped::Stays => {
                        path.extend_from_slice(&bytes[at..at + 3]);
                        at += 3;
                    }
                },
                0 => return Err(CONTROL),
                b'\\' if !rules.allow_backslash => return Err(BACKSLASH),
                byte if is_slash(byte) => break (at, Some(at + 1)),
                byte => {
                    path.push(byte);
                    at += 1;
                }
            }
        };
        match &path[from + 1..] {
            // The slash at the end of a path is part of it.
            b"" if next.is_none() => {}
            b"" | b"." => path.truncate(from),
            b".." => {
                path.truncate(from);
                let Some(parent) = path.iter().rposition(|&byte| byte == b'/') else {
                    return Err(bad("the target leaves the root"));
                };
                path.truncate(parent);
            }
            _ => {}
        }
        after_segment(end, &path);
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Ok(path)
}

const BACKSLASH: Refused = bad("the target has a backslash");

/// What an escape becomes.
enum Unescaped {
    Byte(u8),
    Slash,
    /// As it is written.
    Stays,
}

fn unescape(escape: &[u8], rules: &UriRules) -> Result<Unescaped, Refused> {
    let passes = rules.encoded_slash == Escape::Passthrough || rules.encoded_backslash == Escape::Passthrough;
    match escaped(&escape[1..]).ok_or(BROKEN)? {
        0 => Err(CONTROL),
        b'/' => match rules.encoded_slash {
            Escape::Reject => Err(ENCODED_SLASH),
            Escape::Decode => Ok(Unescaped::Slash),
            Escape::Passthrough => Ok(Unescaped::Stays),
        },
        b'\\' => match rules.encoded_backslash {
            Escape::Reject => Err(bad("the target has an encoded backslash")),
            Escape::Decode if rules.allow_backslash => Ok(Unescaped::Slash),
            Escape::Decode => Err(BACKSLASH),
            Escape::Passthrough => Ok(Unescaped::Stays),
        },
        // Else what is decoded once more would be another path.
        b'%' if passes => Ok(Unescaped::Stays),
        byte => Ok(Unescaped::Byte(byte)),
    }
}

/// Whether there is nothing to do, as for most paths: letters, digits, `-_.~`, and single slashes with no dot behind them.
fn is_clean(raw: &str) -> bool {
    let mut before = 0;
    raw.starts_with('/')
        && raw.bytes().all(|byte| {
            let after_slash = before == b'/';
            before = byte;
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => true,
                b'/' | b'.' => !after_slash,
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict() -> UriRules {
        UriRules::default()
    }

    /// What Tomcat does by default.
    fn tomcat() -> UriRules {
        UriRules { allow_suspicious: true, encoded_backslash: Escape::Decode, ..strict() }
    }

    /// A target, what the rules of Tomcat make of it, and what ours do; `-`: 400.
    #[track_caller]
    fn check(table: &str, rules: &[&UriRules]) {
        for line in table.trim().lines() {
            let mut words = line.split_whitespace();
            let raw = words.next().unwrap();
            for (rules, expected) in rules.iter().zip(words) {
                let found = clean(raw, rules);
                assert_eq!(
                    found.as_deref().unwrap_or("-"),
                    expected.replace('_', " ").replace("DEL", "\u{7f}"),
                    "{raw} by {rules:?}: {found:?}"
                );
                assert!(!is_clean(raw) || raw == expected, "{raw}");
            }
        }
    }

    #[test]
    fn paths_are_cleaned() {
        check(
            r#"
            /                           /               /
            /a/b.c/-~/                  /a/b.c/-~/      /a/b.c/-~/
            a                           -               -
            ./a                         -               -
            ;/a                         -               -
            /red//blue                  /red/blue       /red/blue
            //red                       /red            /red
            /red/blue/;jsessionid=77    /red/blue/      /red/blue/
            /red;x=1/blue;y             /red/blue       /red/blue
            /red;%2F/blue               /red/blue       -
            /red;%zz/blue               /red/blue       -
            /red;%00/blue               /red/blue       -
            /;/                         /               -
            /;                          /               /
            /;x                         /               /
            /;/red;/;/blue/;/;          /red/blue/      -
            /red/;/../blue              /blue           -
            /./red/blue                 /red/blue       /red/blue
            /red/./blue/                /red/blue/      /red/blue/
            /red/.;/blue                /red/blue       -
            /red/%2e/blue               /red/blue       -
            /red/%2E;/blue              /red/blue       -
            /red/blue/.                 /red/blue       /red/blue
            /red/blue/.;                /red/blue       -
            /red/blue/./                /red/blue/      /red/blue/
            /red/../blue                /blue           /blue
            /red/%2e%2E/blue            /blue           -
            /red/.%2e/blue              /blue           -
            /red/..;/blue               /blue           -
            /red/%2e%2E;/blue           /blue           -
            /red/./../blue              /blue           /blue
            /red/blue/..                /red            /red
            /red/blue/..;               /red            -
            /red/blue/../               /red/           /red/
            /red/..                     /               /
            /red/.../blue               /red/.../blue   /red/.../blue
            /red/...;x/blue             /red/.../blue   -
            /red/%2e%2e%2e/blue         /red/.../blue   -
            /red/.%2ex/blue             /red/..x/blue   /red/..x/blue
            /..                         -               -
            /../red                     -               -
            /red/../..                  -               -
            /red/..%5Cblue              -               -
            /red%20blue                 /red_blue       /red_blue
            /red%2Bblue+                /red+blue+      /red+blue+
            /red%3Bx/%25                /red;x/%        /red;x/%
            /%C3%A4                     /ä              /ä
            /red%ff                     -               -
            /red%c0%ae                  -               -
            /red%                       -               -
            /red%0                      -               -
            /red%XX/blue                -               -
            /red%-1/blue                -               -
            /red%00/blue                -               -
            /red%7Fblue                 /redDELblue     -
            /red%2Fblue                 -               -
            /red%5Cblue                 -               -
            /red\blue                   -               -
            /red{blue}                  -               -
            /red[blue]                  -               -
            /red"blue                   -               -
            /red|blue                   -               -
            /red^blue                   -               -
            /redübl                     -               -
            "#,
            &[&tomcat(), &strict()],
        );
    }

    #[test]
    fn escapes_of_slashes_as_the_rules_say() {
        let rules = |slash, backslash, allow_backslash| UriRules {
            encoded_slash: slash,
            encoded_backslash: backslash,
            allow_backslash,
            relaxed_path_chars: "\\{[".to_owned(),
            ..tomcat()
        };
        let decode = rules(Escape::Decode, Escape::Decode, false);
        let pass = rules(Escape::Passthrough, Escape::Reject, false);
        let pass_backslash = rules(Escape::Reject, Escape::Passthrough, false);
        let backslash = rules(Escape::Reject, Escape::Decode, true);
        check(
            r"
            /x%2fy          /x/y        /x%2fy          -               -
            /x%2F%20y       /x/_y       /x%2F_y         -               -
            /x%2F%25y       /x/%y       /x%2F%25y       -               -
            /x%2f..%2fy     /y          /x%2f..%2fy     -               -
            /x%2f/y         /x/y        /x%2f/y         -               -
            /%2e%2e%2fx     -           /..%2fx         -               -
            /x%2f.          /x          /x%2f.          -               -
            /x%25           /x%         /x%25           /x%25           /x%
            /x%5Cy          -           -               /x%5Cy          /x/y
            /x%5c..%5Cy     -           -               /x%5c..%5Cy     /y
            /x\y            -           -               -               /x/y
            /x;a\b/y        /x/y        /x/y            /x/y            /x/y
            /{[             /{[         /{[             /{[             /{[
            /]              -           -               -               -
            ",
            &[&decode, &pass, &pass_backslash, &backslash],
        );
        for suspicious in ["/x\\%2e%2e\\y", "/x\\..;/y", "/x/;\\y"] {
            let refused = clean(suspicious, &UriRules { allow_suspicious: false, ..backslash.clone() });
            assert!(clean(suspicious, &backslash).is_ok() && refused.is_err(), "{suspicious}");
        }
        // What is asked for is not refused as suspicious.
        assert_eq!(clean("/x%2fy", &UriRules { allow_suspicious: false, ..pass }).as_deref(), Ok("/x%2fy"));
    }

    #[test]
    fn queries() {
        let relaxed = UriRules { relaxed_query_chars: "[]".to_owned(), ..strict() };
        for (query, by_default, lax) in [
            ("", true, true),
            ("a=b&c=%zz/?:@;", true, true),
            ("a[]=1", false, true),
            ("a={}", false, false),
            ("a=\"b\"", false, false),
            ("a=|", false, false),
            ("a=\\", false, false),
            ("a=ä", false, false),
        ] {
            assert_eq!(
                (check_query(query, &strict()).is_ok(), check_query(query, &relaxed).is_ok()),
                (by_default, lax),
                "{query}"
            );
        }
    }

    #[test]
    fn paths_of_libraries_are_cleaned_more_kindly() {
        for (path, expected) in [
            ("/a b/ä", Some("/a b/ä")),
            ("/a%2Fb", Some("/a/b")),
            ("/a/../b;x=1", Some("/b")),
            ("/a/%2e%2e/b", Some("/b")),
            ("/a\\b", Some("/a/b")),
            ("/..", None),
            ("/%zz", None),
            ("a", None),
            ("", None),
            ("/\0", None),
        ] {
            assert_eq!(Target::clean_path(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_dispatch_may_have_any_uri_and_query() {
        let server = Authority { name: None, port: 80 };
        let from = Target::read(&mut head(Method::GET, "/a?b=c", Version::HTTP_11, &["a"]), server, &strict()).unwrap();
        for (uri, query, expected) in [
            ("/x y", None, "/x%20y"),
            ("/z/../x%20y;k=1", Some(""), "/z/../x%20y;k=1?"),
            ("/<\u{e4}>\"`", Some("q=%20&r=[{|}]?/"), "/%3C%C3%A4%3E%22%60?q=%20&r=[{|}]?/"),
            ("/x", Some("q=a b<\u{e4}>\"\n#"), "/x?q=a%20b%3C%C3%A4%3E%22%0A%23"),
        ] {
            let there = from.of_dispatch("/x y", uri, query).unwrap();
            assert_eq!((there.raw(), there.path()), (expected, "/x y"), "{uri} {query:?}");
            let again = there.of_dispatch("/z", "/z", None).unwrap();
            assert_eq!((again.client_uri(), again.client_query()), ("/a", "b=c"));
        }
        assert!(from.of_dispatch("/x", "/x", Some(&"q".repeat(1 << 16))).is_none());
    }

    fn head(method: Method, uri: &str, version: Version, hosts: &[&str]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn targets_of_all_forms() {
        let target = |method: Method, uri: &str| {
            let server = Authority { name: None, port: 80 };
            Target::read(&mut head(method, uri, Version::HTTP_11, &["a"]), server, &strict())
                .map(|target| format!("{} {} {:?}", target.path(), target.request_uri(), target.query()))
                .map_err(|refused| refused.0.as_u16())
        };
        for (method, uri, expected) in [
            (Method::GET, "/a?", Ok("/a /a Some(\"\")")),
            (Method::GET, "/a", Ok("/a /a None")),
            (Method::GET, "http://a/b?c", Ok("/b /b Some(\"c\")")),
            (Method::GET, "http://a", Ok("/ / None")),
            (Method::GET, "HTTP://a?c", Ok("/ / Some(\"c\")")),
            (Method::GET, "https://a/", Ok("/ / None")),
            (Method::GET, "ftp://a/", Err(400)),
            (Method::GET, "a", Err(400)),
            (Method::GET, "a:80", Err(400)),
            (Method::GET, "*", Err(400)),
            (Method::OPTIONS, "*", Ok("* * None")),
            (Method::CONNECT, "a:80", Err(501)),
            (Method::CONNECT, "/a", Err(501)),
        ] {
            assert_eq!(target(method, uri), expected.map(str::to_owned), "{uri}");
        }
    }

    #[test]
    fn the_server_that_is_meant() {
        let listener = std::sync::Arc::new(serval_config::Listener::default());
        let address = ([127, 0, 0, 1], 8080).into();
        let peer = Peer::new(address, address, 1, false, listener);
        let read = |uri: &str, version: Version, hosts: &[&str]| {
            Authority::read(&head(Method::GET, uri, version, hosts), &peer)
                .map(|found| (found.name, found.port))
                .map_err(|refused| refused.0.as_u16())
        };
        let named = |name: &str, port: u16| Ok((Some(name.to_owned()), port));
        let (new, old) = (Version::HTTP_11, Version::HTTP_10);
        assert_eq!(read("/", new, &["Shop.Test"]), named("shop.test", 80));
        assert_eq!(read("/", new, &["a:81"]), named("a", 81));
        assert_eq!(read("/", new, &[""]), named("", 8080));
        assert_eq!(read("/", new, &[]), Err(400));
        assert_eq!(read("/", new, &["a", "a"]), Err(400));
        assert_eq!(read("/", old, &[]), Ok((None, 8080)));
        assert_eq!(read("http://A:81/", new, &["a:81"]), named("a", 81));
        assert_eq!(read("http://a:80/", new, &["a"]), Err(400));
        assert_eq!(read("http://b/", new, &["a"]), Err(400));
        assert_eq!(read("http://b/", new, &[]), Err(400));
        assert_eq!(read("http://b/", old, &["a"]), named("b", 80));
        assert_eq!(read("http://b/", old, &[]), named("b", 80));
        assert_eq!(read("http://u@b/", new, &["u@b"]), Err(400));
    }

    #[test]
    fn of_several_path_parameters_the_last_counts() {
        let parameter = |uri: &str| {
            let server = Authority { name: None, port: 80 };
            let target =
                Target::read(&mut head(Method::GET, uri, Version::HTTP_11, &["a"]), server, &strict()).unwrap();
            target.path_parameter("jsessionid").map(str::to_owned)
        };
        for (uri, expected) in [
            ("/x", None),
            ("/x;jsessionid=77;k", Some("77")),
            ("/x;k;jsessionid=77/y", Some("77")),
            ("/x;jsessionid=1/y;jsessionid=2", Some("2")),
            ("/x;jsessionid", None),
            ("/x;jsessionid=", Some("")),
            ("/x;JSESSIONID=1", None),
            ("/x;jsessionid=a=b%20", Some("a=b%20")),
            ("/x?;jsessionid=1", None),
        ] {
            assert_eq!(parameter(uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn authorities() {
        for (text, expected) in [
            ("Shop.Example", Ok(("shop.example", 80))),
            ("a:", Ok(("a", 80))),
            ("a:8080", Ok(("a", 8080))),
            ("[::1]", Ok(("[::1]", 80))),
            ("[::1]:65535", Ok(("[::1]", 65535))),
            ("a:65536", Err(BAD_HOST)),
            ("a:1x", Err(BAD_HOST)),
            (":80", Err(BAD_HOST)),
            ("[::1", Err(BAD_HOST)),
            ("[::1]x", Err(BAD_HOST)),
            ("a b", Err(BAD_HOST)),
            ("ä", Err(BAD_HOST)),
            ("a@b", Err(BAD_HOST)),
        ] {
            let found = authority(text.as_bytes(), 80);
            assert_eq!(found, expected.map(|(name, port)| (name.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn the_raw_context_path_is_the_shortest_that_means_it() {
        let relaxed_path_chars = "\\".to_owned();
        let decode = UriRules { encoded_slash: Escape::Decode, allow_backslash: true, relaxed_path_chars, ..tomcat() };
        for (raw, context, expected) in [
            ("/app/x", "/app", "/app"),
            ("/\\/app\\x", "/app", "/app"),
            ("/\\app/x", "/app", "\\app"),
            ("/a%70p/x", "/app", "/a%70p"),
            ("//x/..//app;v=1//y", "/app", "/x/..//app;v=1"),
            ("/app", "/app", "/app"),
            ("/a/b%20c/d", "/a/b c", "/a/b%20c"),
            ("/x%20/y", "", ""),
            ("//x%20", "", ""),
            ("/p_q;a=b/abc/x", "/p_q/abc", "/p_q;a=b/abc"),
            ("/.;a=b/p_q/abc/x", "/p_q/abc", "/.;a=b/p_q/abc"),
            ("//p_q/abc/x", "/p_q/abc", "/p_q/abc"),
            ("/p_q//abc/./x", "/p_q/abc", "/p_q//abc"),
            ("/p%5fq/%61bc;x", "/p_q/abc", "/p%5fq/%61bc;x"),
            ("/p_q/x/../abc/../abc/y", "/p_q/abc", "/p_q/x/../abc"),
            ("/p_q%2Fabc%2fx", "/p_q/abc", "/p_q%2Fabc"),
            ("/p_q%5Cabc%5cx", "/p_q/abc", "/p_q%5Cabc"),
            ("/\\x/../app/y", "/app", "\\x/../app"),
        ] {
            let server = Authority { name: None, port: 80 };
            let mut target =
                Target::read(&mut head(Method::GET, raw, Version::HTTP_11, &["a"]), server, &decode).unwrap();
            target.enter(context, &decode);
            assert_eq!(target.raw_context_path(), expected, "{raw}");
        }
    }
}
