//! What a request asks for: the clean-up of its target and Host (SEMANTICS 2 and 3; RFC 9112 3.2; Servlet 3.5.2).
//!
//! Called once for each request, before anything is looked up; what it lets through is safe to map and to open.

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri, Version};

/// Why a request is refused before any host or context sees it; a sentence for the log and for developers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRequest(pub &'static str);

/// A target, cleaned.
#[derive(Debug, Clone)]
pub struct Target {
    /// As sent: path and query.
    raw: PathAndQuery,
    /// Decoded, normalised, without parameters; begins with a slash, or is the `*` of OPTIONS. `None`: as the path in `raw`, which most are.
    cleaned: Option<String>,
    /// Length of the context path, which is not part of [`Target::path`], and of what means it in `raw`.
    context_len: usize,
    raw_context_len: usize,
    /// Lower case, without port.
    pub server_name: String,
    pub server_port: u16,
}

impl Target {
    pub fn read(
        method: &Method,
        uri: Uri,
        version: Version,
        headers: &HeaderMap,
        secure: bool,
    ) -> Result<Target, BadRequest> {
        let (server_name, server_port) = server(&uri, version, headers, secure)?;
        if method == Method::CONNECT {
            return Err(BadRequest("CONNECT is not for this server"));
        }
        // An absolute-form target may have no path: RFC 9112 3.2.2.
        let raw = uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let for_the_server = raw.path() == "*" && method == Method::OPTIONS;
        let cleaned = if for_the_server || is_clean(raw.path()) { None } else { Some(clean(raw.path())?) };
        Ok(Target { raw, cleaned, context_len: 0, raw_context_len: 0, server_name, server_port })
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

    /// Decoded, normalised, without parameters, and without the path of the context that was entered.
    pub fn path(&self) -> &str {
        let whole = self.cleaned.as_deref().unwrap_or(self.raw.path());
        &whole[self.context_len..]
    }

    /// From here on [`Target::path`] is what is behind the path of this context, with which it begins.
    pub fn enter(&mut self, context_path: &str) {
        self.context_len = context_path.len();
        self.raw_context_len = match self.cleaned {
            None => context_path.len(),
            Some(_) => raw_context_len(self.raw.path(), context_path),
        };
    }

    /// Goes to another path of the context that was entered.
    pub fn go_to(&mut self, path: String) {
        (self.cleaned, self.context_len) = (Some(path), 0);
    }

    /// The target of a dispatch to a path inside the context, maybe with a query of its own.
    pub fn of_dispatch(&self, context_path: &str, path: &str, query: Option<&str>) -> Target {
        let context = self.raw_context_path();
        let query = query.or(self.query()).map(|query| format!("?{query}")).unwrap_or_default();
        let raw = format!("{context}{}{query}", Target::encoded(path));
        let Ok(raw) = PathAndQuery::try_from(raw) else { return self.clone() };
        Target {
            raw,
            cleaned: Some(format!("{context_path}{path}")),
            context_len: context_path.len(),
            raw_context_len: context.len(),
            server_name: self.server_name.clone(),
            server_port: self.server_port,
        }
    }

    /// A path that a library has written, decoded and normalised; `None`: it leads above the root, or is no path.
    pub fn clean_path(path: &str) -> Option<String> {
        clean(path).ok().filter(|path| path.starts_with('/'))
    }

    /// A decoded path as it is sent.
    pub fn encoded(path: &str) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/".contains(&byte);
        path.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    }

    /// The value of a path parameter, as sent: `/cart;jsessionid=1`.
    pub fn path_parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.raw.path().split('/').flat_map(|segment| segment.split(';').skip(1));
        parameters
            .find_map(|parameter| parameter.split_once('=').filter(|(known, _)| *known == name).map(|(_, value)| value))
    }

    /// The path of the context that was entered, as sent.
    pub fn raw_context_path(&self) -> &str {
        &self.raw.path()[..self.raw_context_len]
    }
}

/// Length of the shortest raw prefix that means `context_path`, which is a prefix of the path (SEMANTICS 5).
fn raw_context_len(raw: &str, context_path: &str) -> usize {
    if context_path.is_empty() {
        return 0;
    }
    let mut found = None;
    // Cleaned once already, without an error.
    let _ = walk(raw, |end, path| {
        if found.is_none() && path == context_path.as_bytes() {
            found = Some(end);
        }
    });
    found.unwrap_or(raw.len())
}

/// Name and port that the client meant.
fn server(uri: &Uri, version: Version, headers: &HeaderMap, secure: bool) -> Result<(String, u16), BadRequest> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(BadRequest("there is more than one Host header"));
    }
    if host.is_none() && version == Version::HTTP_11 {
        return Err(BadRequest("an HTTP/1.1 request needs a Host header"));
    }
    let default_port = if secure { 443 } else { 80 };
    let host = host.map(|host| authority(host.as_bytes(), default_port)).transpose()?;
    if let Some(target) = uri.authority() {
        let target = authority(target.as_str().as_bytes(), default_port)?;
        if host.as_ref().is_some_and(|host| *host != target) {
            return Err(BadRequest("the authority of the target and the Host header differ"));
        }
        return Ok(target);
    }
    Ok(host.unwrap_or((String::new(), default_port)))
}

const BAD_HOST: BadRequest = BadRequest("the Host header is malformed");

/// Of a Host header or a target (RFC 3986 3.2.2): a name in lower case, and a port.
fn authority(text: &[u8], default_port: u16) -> Result<(String, u16), BadRequest> {
    let end = match text {
        [] => return Ok((String::new(), default_port)),
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

/// The bytes of a registered name or an IPv4 address.
const IN_NAME: [bool; 256] = {
    let mut in_name = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        in_name[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~!$&'()*+,;=%";
    let mut at = 0;
    while at < others.len() {
        in_name[others[at] as usize] = true;
        at += 1;
    }
    in_name
};

/// Cleans a raw path: parameters off, decoded, normalised; refuses what could fool a proxy in front of us.
pub fn clean(raw: &str) -> Result<String, BadRequest> {
    let mut path = walk(raw, |_, _| ())?;
    if path.is_empty() {
        path.push(b'/');
    }
    String::from_utf8(path).map_err(|_| BadRequest("the target is not UTF-8"))
}

/// Cleans segment by segment, and shows what there is after each one, with its end in `raw`.
fn walk(raw: &str, mut after_segment: impl FnMut(usize, &[u8])) -> Result<Vec<u8>, BadRequest> {
    let Some(rest) = raw.strip_prefix('/') else {
        return Err(BadRequest("the target does not begin with a slash"));
    };
    if raw.bytes().any(|b| b <= b' ' || b >= 0x7f || b"\"<>\\^`{|}#".contains(&b)) {
        return Err(BadRequest("the target has a character that has to be percent-encoded"));
    }
    let mut path: Vec<u8> = Vec::with_capacity(raw.len());
    let mut segments = rest.split('/').peekable();
    let mut end = 0;
    while let Some(segment) = segments.next() {
        end += 1 + segment.len();
        let last = segments.peek().is_none();
        let (name, has_parameters) = match segment.split_once(';') {
            Some((name, parameters)) => {
                decode(parameters, &mut Vec::new())?;
                (name, true)
            }
            None => (segment, false),
        };
        let from = path.len();
        path.push(b'/');
        decode(name, &mut path)?;
        match &path[from + 1..] {
            b"" if last => {}
            b"" if has_parameters => return Err(BadRequest("an empty path segment has parameters")),
            b"" => path.truncate(from),
            b"." | b".." if has_parameters || name.contains('%') => {
                return Err(BadRequest("a dot segment is encoded or has parameters"));
            }
            b"." => path.truncate(from),
            b".." => {
                path.truncate(from);
                let Some(parent) = path.iter().rposition(|&b| b == b'/') else {
                    return Err(BadRequest("the target leaves the root"));
                };
                path.truncate(parent);
            }
            _ => {}
        }
        after_segment(end, &path);
    }
    Ok(path)
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

fn decode(text: &str, out: &mut Vec<u8>) -> Result<(), BadRequest> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |at: usize| bytes.get(at).and_then(|&b| (b as char).to_digit(16));
        let (Some(high), Some(low)) = (digit(at), digit(at + 1)) else {
            return Err(BadRequest("the target has a broken percent-encoding"));
        };
        at += 2;
        match (high * 16 + low) as u8 {
            b'/' => return Err(BadRequest("the target has an encoded slash")),
            b'\\' => return Err(BadRequest("the target has an encoded backslash")),
            byte if byte < 0x20 || byte == 0x7f => {
                return Err(BadRequest("the target has an encoded control character"));
            }
            byte => out.push(byte),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        assert_eq!(clean(raw).as_deref(), Ok(expected), "{raw}");
        assert!(!is_clean(raw) || raw == expected, "{raw}");
    }

    #[track_caller]
    fn refused(raw: &str) {
        assert!(clean(raw).is_err() && !is_clean(raw), "{raw} gave {:?}", clean(raw));
    }

    #[test]
    fn paths_are_cleaned() {
        check("/", "/");
        check("/a/b.c/-_~/", "/a/b.c/-_~/");
        check("/a//b", "/a/b");
        check("/a/./b/", "/a/b/");
        check("/a/b/.", "/a/b");
        check("/a/b/..", "/a");
        check("/a/../b", "/b");
        check("/a;x=1/b;y", "/a/b");
        check("/a%20b/%C3%A4", "/a b/ä");
        check("/a%3Bb", "/a;b");
        check("/a/..", "/");
        check("/;x", "/");
    }

    #[test]
    fn authorities() {
        for (text, expected) in [
            ("", Ok(("", 80))),
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
        for (raw, context, expected) in [
            ("/app/x", "/app", "/app"),
            ("/a%70p/x", "/app", "/a%70p"),
            ("//x/..//app;v=1//y", "/app", "//x/..//app;v=1"),
            ("/app", "/app", "/app"),
            ("/a/b%20c/d", "/a/b c", "/a/b%20c"),
            ("/x%20/y", "", ""),
        ] {
            assert_eq!(&raw[..raw_context_len(raw, context)], expected, "{raw}");
        }
    }

    #[test]
    fn paths_that_fool_proxies_are_refused() {
        for raw in [
            "a",
            "/..",
            "/a/../..",
            "/%2e%2e/a",
            "/a/%2e/b",
            "/..;/a",
            "/;/a",
            "/%2f",
            "/%5c",
            "/%00",
            "/%0d",
            "/%",
            "/%zz",
            "/%ff",
            "/a b",
            "/\\",
            "/a;%2fx",
            "/\"",
            "/{a}",
        ] {
            refused(raw);
        }
    }
}
