//! The head of an upstream's answer as the client gets it: without what ends here, and with what names the upstream, or its path,
//! naming this server and the context.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, HeaderName, LOCATION, SET_COOKIE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use serval_config::Upstream;

use super::forwarded;
use super::outgoing::remove_hop_by_hop;
use crate::context::Context;
use crate::exchange::Request;
use crate::target::Target;

/// How the answer to one request is changed.
pub struct Rewriting {
    /// The path of the upstream, and the context's; without a slash at their ends.
    from: String,
    to: String,
    /// What names the upstream, and what the client has asked for, as in Host.
    upstream: String,
    host: String,
    /// Scheme and authority of the client's URL.
    origin: String,
}

impl Rewriting {
    pub fn of(request: &Request, context: &Context, upstream: &Upstream) -> Rewriting {
        let to = Target::encoded(&context.path);
        Rewriting {
            from: upstream.path.clone().unwrap_or_else(|| to.clone()),
            to,
            upstream: upstream.authority(),
            host: forwarded::host(request),
            origin: request.target.origin(request.is_secure()),
        }
    }

    pub fn head(&self, headers: &mut HeaderMap) {
        if headers.contains_key(TRANSFER_ENCODING) {
            // hyper goes by that (RFC 9112 6.3), and the body is as long as it is.
            headers.remove(CONTENT_LENGTH);
        }
        remove_hop_by_hop(headers);
        for name in [LOCATION, CONTENT_LOCATION] {
            self.change(headers, &name, |value| self.location(value));
        }
        if self.from != self.to {
            self.change(headers, &SET_COOKIE, |value| self.cookie(value));
        }
    }

    fn change(&self, headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&str) -> Option<String>) {
        let http::header::Entry::Occupied(mut values) = headers.entry(name) else { return };
        for value in values.iter_mut() {
            let changed = value.to_str().ok().and_then(&change);
            if let Some(changed) = changed.and_then(|changed| HeaderValue::from_str(&changed).ok()) {
                *value = changed;
            }
        }
    }

    /// `None`: it leads elsewhere, or is right as it is.
    fn location(&self, location: &str) -> Option<String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return self.path(location);
        }
        let (scheme, rest) = location.split_once("://")?;
        // The path may be missing.
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let is_secure = scheme.eq_ignore_ascii_case("https");
        if !is_secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let plain = authority.strip_suffix(if is_secure { ":443" } else { ":80" }).unwrap_or(authority);
        let origin = match plain {
            own if own.eq_ignore_ascii_case(&self.upstream) && !is_secure => self.origin.clone(),
            // An upstream sees no TLS, unless it reads what it is told of that.
            own if own.eq_ignore_ascii_case(&self.host) && is_secure => format!("https://{}", self.host),
            own if own.eq_ignore_ascii_case(&self.host) => self.origin.clone(),
            _ => return None,
        };
        Some(format!("{origin}{}", self.path(&path).unwrap_or(path)))
    }

    /// A path of the upstream as one of the context's; `None`: it is none of its own, or the same.
    fn path(&self, path: &str) -> Option<String> {
        if self.from == self.to {
            return None;
        }
        let behind = path.strip_prefix(&*self.from)?;
        let is_own = behind.is_empty() || behind.starts_with(['/', '?', '#', ';']);
        is_own.then(|| match &*self.to {
            // What is behind two slashes names a host, and to browsers backslashes are slashes.
            "" => format!("/{}", behind.trim_start_matches(['/', '\\'])),
            to => format!("{to}{behind}"),
        })
    }

    fn cookie(&self, cookie: &str) -> Option<String> {
        let mut changed = false;
        let attributes = cookie.split(';').enumerate().map(|(number, attribute)| {
            let Some((name, path)) = attribute.split_once('=').filter(|_| number > 0) else {
                return attribute.to_owned();
            };
            let moved = name.trim().eq_ignore_ascii_case("path").then(|| self.path(path.trim())).flatten();
            let Some(moved) = moved else { return attribute.to_owned() };
            changed = true;
            // The cookie of the root is that of the whole context, also without a slash behind it.
            let moved = if path.trim() == "/" && moved.len() > 1 { moved.trim_end_matches('/') } else { &moved };
            format!("{name}={moved}")
        });
        let attributes = attributes.collect::<Vec<_>>().join(";");
        changed.then_some(attributes)
    }
}

/// Of an answer that changes the protocol.
pub fn of_upgrade(headers: &mut HeaderMap) {
    let protocol = headers.get(UPGRADE).cloned();
    remove_hop_by_hop(headers);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(UPGRADE, protocol);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewriting(from: &str, to: &str) -> Rewriting {
        Rewriting {
            from: from.to_owned(),
            to: to.to_owned(),
            upstream: "127.0.0.1:9090".to_owned(),
            host: "www.test".to_owned(),
            origin: "https://www.test".to_owned(),
        }
    }

    #[test]
    fn locations_lead_back_here() {
        let (same, moved, root) = (rewriting("/app", "/app"), rewriting("/app", "/legacy"), rewriting("", "/legacy"));
        for (location, of_same, of_moved, of_root) in [
            ("/app/x?q#f", None, Some("/legacy/x?q#f"), Some("/legacy/app/x?q#f")),
            ("/app", None, Some("/legacy"), Some("/legacy/app")),
            ("/apple", None, None, Some("/legacy/apple")),
            ("/", None, None, Some("/legacy/")),
            ("x", None, None, None),
            ("../x", None, None, None),
            ("//other.test/app", None, None, None),
            ("http://other.test/app", None, None, None),
            ("https://127.0.0.1:9090/app", None, None, None),
            (
                "http://127.0.0.1:9090/app/x#f",
                Some("https://www.test/app/x#f"),
                Some("https://www.test/legacy/x#f"),
                Some("https://www.test/legacy/app/x#f"),
            ),
            (
                "http://127.0.0.1:9090",
                Some("https://www.test/"),
                Some("https://www.test/"),
                Some("https://www.test/legacy/"),
            ),
            (
                "https://www.test:443/app",
                Some("https://www.test/app"),
                Some("https://www.test/legacy"),
                Some("https://www.test/legacy/app"),
            ),
            (
                "HTTP://127.0.0.1:9090?q",
                Some("https://www.test/?q"),
                Some("https://www.test/?q"),
                Some("https://www.test/legacy/?q"),
            ),
            ("ftp://www.test/app", None, None, None),
            (
                "http://WWW.test:80/app",
                Some("https://www.test/app"),
                Some("https://www.test/legacy"),
                Some("https://www.test/legacy/app"),
            ),
        ] {
            for (rewriting, expected) in [(&same, of_same), (&moved, of_moved), (&root, of_root)] {
                assert_eq!(rewriting.location(location).as_deref(), expected, "{location} {}", rewriting.from);
            }
        }
        assert_eq!(rewriting("/app", "").location("/app").as_deref(), Some("/"));
        assert_eq!(rewriting("/app", "").location("/app/x").as_deref(), Some("/x"));
        assert_eq!(rewriting("/app", "").location("/app/\\/other.test/x").as_deref(), Some("/other.test/x"));
    }

    #[test]
    fn cookies_stay_in_the_context() {
        let (moved, root) = (rewriting("/app", "/legacy"), rewriting("", "/legacy"));
        for (cookie, of_moved, of_root) in [
            (
                "a=/app; Path=/app; HttpOnly",
                Some("a=/app; Path=/legacy; HttpOnly"),
                Some("a=/app; Path=/legacy/app; HttpOnly"),
            ),
            ("a=1; path=/app/x", Some("a=1; path=/legacy/x"), Some("a=1; path=/legacy/app/x")),
            ("a=1; Path=/", None, Some("a=1; Path=/legacy")),
            ("a=1; Path=/other", None, Some("a=1; Path=/legacy/other")),
            ("path=/app", None, None),
            ("a=1", None, None),
        ] {
            assert_eq!(moved.cookie(cookie).as_deref(), of_moved, "{cookie}");
            assert_eq!(root.cookie(cookie).as_deref(), of_root, "{cookie}");
        }
    }
}
