//! The URLs that a servlet hands to its client: made absolute, and with the id of the session (SEMANTICS 6, 12).

use http::header::LOCATION;
use http::{HeaderValue, Uri};

use super::Exchange;
use crate::target::Target;

impl Exchange {
    /// As its client understands a URL: relative ones by the path that it has asked for. `None`: it leads above the root.
    fn absolute(&self, url: &str) -> Option<String> {
        let target = &self.request.target;
        let is_scheme = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
            name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.bytes().all(plain)
        };
        if url.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)) {
            return Some(url.to_owned());
        }
        let origin = target.origin(self.request.is_secure());
        if url.starts_with("//") {
            let (scheme, _) = origin.split_once(':')?;
            return Some(format!("{scheme}:{url}"));
        }
        let (path, rest) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
        let (folder, _) = target.client_uri().rsplit_once('/')?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") };
        Some(format!("{origin}{}{rest}", without_dots(&path)?))
    }

    /// A URL of this context carries the id, when the client does not send it otherwise.
    pub(super) fn with_session_id(&mut self, url: &str) -> String {
        self.encoded_url(url).unwrap_or_else(|| url.to_owned())
    }

    fn encoded_url(&mut self, url: &str) -> Option<String> {
        let id = self.id_for_urls()?;
        let absolute = self.absolute(url)?;
        let parameter = format!(";{}={id}", self.generation.session_parameter());
        if !self.is_of_this_context(&absolute) || absolute.contains(&parameter) {
            return None;
        }
        let url = if url.is_empty() { &absolute } else { url };
        let (path, rest) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
        let is_bare = path.split_once("://").is_some_and(|(_, host)| !host.contains('/'));
        let slash = if is_bare { "/" } else { "" };
        // Alone a parameter is no path.
        (!path.is_empty()).then(|| format!("{path}{slash}{parameter}{rest}"))
    }

    fn is_of_this_context(&self, absolute: &str) -> bool {
        let (target, secure) = (&self.request.target, self.request.is_secure());
        let Ok(url) = absolute.parse::<Uri>() else { return false };
        let (scheme, port) = if secure { ("https", 443) } else { ("http", 80) };
        let is_host = url.host().is_some_and(|host| host.eq_ignore_ascii_case(&target.server_name));
        let below = |path: String| {
            path.strip_prefix(&*self.context.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        url.scheme_str() == Some(scheme)
            && is_host
            && url.port_u16().unwrap_or(port) == target.server_port
            && Target::clean_path(url.path()).is_some_and(below)
    }

    /// HTTP/1.0 knows no relative Location.
    pub(super) fn make_location_absolute(&mut self) {
        let Some(location) = self.response.headers.get(LOCATION).and_then(|value| value.to_str().ok()) else { return };
        if self.request.target.server_name.is_empty() {
            return;
        }
        let absolute = self.absolute(location).and_then(|absolute| HeaderValue::try_from(absolute).ok());
        if let Some(absolute) = absolute {
            self.response.headers.insert(LOCATION, absolute);
        }
    }
}

/// A path without its dot segments (RFC 3986 5.2.4), as it is written otherwise. `None`: it leads above the root.
fn without_dots(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()?),
            segment => kept.push(segment),
        }
    }
    if ends_in_folder {
        kept.push("");
    }
    Some(format!("/{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments() {
        for (path, expected) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a//b/", Some("/a//b/")),
            ("/a/./b/.", Some("/a/b/")),
            ("/a/b/../c;x", Some("/a/c;x")),
            ("/a/b/..", Some("/a/")),
            ("/a/..", Some("/")),
            ("/a/../..", None),
            ("/..", None),
        ] {
            assert_eq!(without_dots(path).as_deref(), expected, "{path}");
        }
    }
}
