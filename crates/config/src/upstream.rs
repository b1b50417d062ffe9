//! `proxy` of a `[[host.context]]`: the server that answers in the place of a webapp.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use crate::raw::Table;

/// Where the requests of a context go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub address: UpstreamAddress,
    /// What takes the place of the context's path, without a slash at its end; None: nothing does, the path goes on as it came.
    pub path: Option<String>,
}

/// Plain HTTP/1.1 is spoken there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// A name or an address, an IPv6 address without its brackets, and a port.
    Tcp(String, u16),
    /// A socket in the file system; absolute.
    Unix(PathBuf),
}

/// As it is written in server.toml.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            UpstreamAddress::Tcp(..) => write!(f, "http://{}", self.authority())?,
            UpstreamAddress::Unix(path) => write!(f, "unix:{}", path.display())?,
        }
        f.write_str(self.path.as_deref().map_or("", |path| if path.is_empty() { "/" } else { path }))
    }
}

impl Upstream {
    /// Returns the name and port as they stand in a URL, without the port 80; for a socket in the file system `localhost`.
    pub fn authority(&self) -> String {
        match &self.address {
            UpstreamAddress::Tcp(host, port) => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                if *port == 80 { host } else { format!("{host}:{port}") }
            }
            UpstreamAddress::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Reads the key, if it is there. A relative path of a socket lies in `home`.
    pub(crate) fn read(table: &Table<'_, '_>, home: &Path) -> Option<Upstream> {
        let text = table.text("proxy", "a string", "\"http://127.0.0.1:9090\"")?;
        let parsed = parse(&text.value, home);
        if let Err((why, instead)) = &parsed {
            table.wrong(&text, "proxy", why, *instead);
        }
        parsed.ok()
    }
}

const EXAMPLES: &str = "write such as `http://127.0.0.1:9090`, `http://127.0.0.1:9090/app` or `unix:/run/app.sock`";

fn parse(text: &str, home: &Path) -> Result<Upstream, (&'static str, &'static str)> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err(("names no socket", EXAMPLES));
        }
        return Ok(Upstream { address: UpstreamAddress::Unix(home.join(path)), path: None });
    }
    if text.starts_with("https:") {
        let instead = "write `http://`, and put a program that speaks TLS between, if the way there is not your own";
        return Err(("is an upstream with TLS, which Serval does not speak as a client", instead));
    }
    let rest = text.strip_prefix("http://").ok_or(("is not the address of an upstream", EXAMPLES))?;
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(&rest[at..])),
        None => (rest, None),
    };
    let address = address(authority).ok_or(("names no host and port", EXAMPLES))?;
    let path = path.map(|path| path.strip_suffix('/').unwrap_or(path).to_owned());
    if !path.as_deref().is_none_or(is_path) {
        let instead = "write a path of letters, digits and `-._~` without a query, as in `http://127.0.0.1:9090/app`";
        return Err(("has a path that cannot be put before others", instead));
    }
    Ok(Upstream { address, path })
}

fn address(authority: &str) -> Option<UpstreamAddress> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port.strip_prefix(':').or(port.is_empty().then_some("80"))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "80")),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() || !(host.contains(':') || host.bytes().all(is_name)) {
        return None;
    }
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|&port: &u16| is_number && port != 0)?;
    Some(UpstreamAddress::Tcp(host.to_ascii_lowercase(), port))
}

/// Says whether it is empty, or in normal form without anything that is escaped: then it means the same to everybody.
fn is_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    path.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{check, good};

    #[test]
    fn addresses() {
        let tcp = |host: &str, port, path: Option<&str>| {
            Ok(Upstream { address: UpstreamAddress::Tcp(host.into(), port), path: path.map(str::to_owned) })
        };
        let unix =
            |path: &str| Ok(Upstream { address: UpstreamAddress::Unix(Path::new("/home").join(path)), path: None });
        for (text, expected, shown) in [
            ("http://127.0.0.1:9090", tcp("127.0.0.1", 9090, None), "http://127.0.0.1:9090"),
            ("http://App.test", tcp("app.test", 80, None), "http://app.test"),
            ("http://[::1]:9090/", tcp("::1", 9090, Some("")), "http://[::1]:9090/"),
            ("http://[::1]", tcp("::1", 80, None), "http://[::1]"),
            ("http://a:1/app/v2/", tcp("a", 1, Some("/app/v2")), "http://a:1/app/v2"),
            ("unix:/run/app.sock", unix("/run/app.sock"), "unix:/run/app.sock"),
            ("unix:app.sock", unix("app.sock"), "unix:/home/app.sock"),
        ] {
            let found = parse(text, Path::new("/home")).map_err(|(why, _)| why);
            assert_eq!(found, expected, "{text}");
            assert_eq!(found.unwrap().to_string(), shown);
        }
        for text in [
            "",
            "127.0.0.1:9090",
            "http://",
            "http:///a",
            "http://:1",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://u@a",
            "http://a b",
            "http://[::1",
            "http://[a]",
            "http://::1",
            "http://a?q",
            "http://a/../b",
            "http://a//b",
            "http://a/b%2fc",
            "http://a/b?c",
            "http://a/b;c",
            "ftp://a",
            "unix:",
        ] {
            assert!(parse(text, Path::new("/")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_context_with_an_upstream() {
        let server = good(
            r#"
            [defaults.context]
            proxy_timeout = "5s"
            [[host]]
            [[host.context]]
            path = "/legacy"
            proxy = "http://127.0.0.1:9090"
            proxy_connections_max = 7
            proxy_preserve_host = false
            "#,
        );
        let entry = &server.hosts[0].contexts[0];
        assert_eq!(entry.upstream.as_ref().unwrap().to_string(), "http://127.0.0.1:9090");
        let settings = &entry.settings;
        assert_eq!((settings.proxy_timeout.as_secs(), settings.proxy_connections_max), (5, 7));
        assert!(!settings.proxy_preserve_host);
    }

    #[test]
    fn problems() {
        check(
            r#"
[[host]]
[[host.context]]
path = "/a"
proxy = "https://127.0.0.1:9090"
[[host.context]]
path = "/b"
webapp = "shop"
proxy = "http://127.0.0.1:9090"
[[host.context]]
path = "/c"
proxy = "127.0.0.1:9090"
proxy_timeout = "0s"
[[host.context]]
path = "/d"
proxy = "http://a"
[host.context.params]
a = "1"
[host.context.env]
b = "1"
----
server.toml:5:9: `proxy` in [[host.context]]: `https://127.0.0.1:9090` is an upstream with TLS, which Serval does not speak as a client; write `http://`, and put a program that speaks TLS between, if the way there is not your own
server.toml:8:10: `webapp` in [[host.context]] stands beside `proxy`, and one context is not both; remove one of the two
server.toml:12:9: `proxy` in [[host.context]]: `127.0.0.1:9090` is not the address of an upstream; write such as `http://127.0.0.1:9090`, `http://127.0.0.1:9090/app` or `unix:/run/app.sock`
server.toml:13:17: `proxy_timeout` in [[host.context]]: `0s` is out of bounds; write 1ms to 24h, as in `proxy_timeout = "1m"`
server.toml:17:1: `params` in [[host.context]] stands beside `proxy`, whose context has no webapp to read it; remove one of the two
server.toml:19:1: `env` in [[host.context]] stands beside `proxy`, whose context has no webapp to read it; remove one of the two
"#,
        );
    }
}
