//! What proxies say of the client (SEMANTICS 20; `valves/RemoteIpValve`; RFC 7239 where the header is named `Forwarded`).
//!
//! Called by `Container::answer` when the context is known and has `remote_ip`: [`found`] looks, [`Client::apply`] changes the request.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use serval_config::RemoteIp;

use crate::Peer;
use crate::exchange::Request;
use crate::target::authority;

/// LIMIT: proxies that are looked at. Of a longer way the last of them is the client.
const HOPS_MAX: usize = 64;
/// LIMIT: of a client's name that is no address.
const NAME_BYTES_MAX: usize = 255;

/// What a proxy that is believed has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// An address, or whatever name the nearest proxy that is believed gives it; None: the peer's.
    pub address: Option<String>,
    /// None: as the connection is.
    pub secure: Option<bool>,
    /// Lower case.
    pub server_name: Option<String>,
    pub port: Option<u16>,
    /// The headers that the servlet is to see in place of what was sent; None: none.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// The stations from the client on, the client first, without the peer.
    pub way: Vec<String>,
}

/// One station of the way, as a proxy has written it.
struct Hop {
    /// All that was written of it.
    text: String,
    /// Address or name.
    node: String,
    /// Only of `Forwarded`.
    protocol: Option<String>,
    host: Option<String>,
}

/// Looks at the headers; None: the peer is no proxy that is believed, or has said nothing.
pub fn found(rules: &RemoteIp, headers: &HeaderMap, peer: &Peer) -> Option<Client> {
    let is_internal = |ip| holds(&rules.internal_proxies, ip);
    let is_trusted = |ip| holds(&rules.trusted_proxies, ip);
    let from = peer.remote.ip().to_canonical();
    if !is_internal(from) && !is_trusted(from) {
        return None;
    }
    let mut client = Client::default();
    let mut proxies = if is_internal(from) { Vec::new() } else { vec![from.to_string()] };
    let mut hops = hops(&rules.remote_ip_header, headers);
    let mut last = None;
    for _ in 0..HOPS_MAX {
        let Some(hop) = hops.pop() else { break };
        let ip = ip_of(&hop.node);
        client.way.insert(0, named(&hop.node));
        let hop = last.insert(hop);
        match ip {
            Some(ip) if is_internal(ip) => {}
            Some(ip) if is_trusted(ip) => proxies.push(hop.node.clone()),
            _ => break,
        }
    }
    if let Some(hop) = &last {
        client.address = Some(named(&hop.node));
        proxies.reverse();
        let rest: Vec<String> = hops.into_iter().map(|hop| hop.text).collect();
        client.set_header(&rules.proxies_header, &proxies);
        client.set_header(&rules.remote_ip_header, &rest);
    }
    let said = |name: &Option<String>| headers.get(name.as_ref()?).and_then(|value| value.to_str().ok());
    let (protocol, host) = last.map_or((None, None), |hop| (hop.protocol, hop.host));
    if let Some(protocol) = protocol.or_else(|| joined(rules.protocol_header.as_ref()?, headers)) {
        let mut parts = protocol.split(',').map(str::trim).filter(|part| !part.is_empty()).peekable();
        let secure = parts.peek().is_some() && parts.all(|part| part.eq_ignore_ascii_case(&rules.protocol_https_value));
        let usual = if secure { rules.https_port } else { rules.http_port };
        client.secure = Some(secure);
        client.port = Some(said(&rules.port_header).and_then(|port| port.trim().parse().ok()).unwrap_or(usual));
    }
    if let Some(host) = host.as_deref().or(said(&rules.host_header)).filter(|host| !host.is_empty()) {
        client.server_name = authority(host.as_bytes(), 0).ok().map(|(name, _)| name);
    }
    (client != Client::default()).then_some(client)
}

impl Client {
    /// The request is the client's from here on.
    pub fn apply(mut self, request: &mut Request) {
        for (name, value) in std::mem::take(&mut self.headers) {
            match value {
                Some(value) => drop(request.headers.insert(name, value)),
                None => drop(request.headers.remove(name)),
            }
        }
        if let Some(name) = &self.server_name {
            request.target.server_name.clone_from(name);
        }
        if let Some(port) = self.port {
            request.target.server_port = port;
        }
        request.client = Some(Box::new(self));
    }

    fn set_header(&mut self, name: &str, values: &[String]) {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return };
        let value = (!values.is_empty()).then(|| HeaderValue::from_str(&values.join(",")).ok()).flatten();
        self.headers.push((name, value));
    }
}

fn holds(ranges: &[IpNet], ip: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&ip))
}

/// The stations of the way, the nearest one last.
fn hops(name: &str, headers: &HeaderMap) -> Vec<Hop> {
    let values = headers.get_all(name).iter().map(text_of);
    if name == FORWARDED.as_str() {
        return values.flat_map(|value| split(&value, ',').map(forwarded).collect::<Vec<_>>()).collect();
    }
    let plain = |text: &str| Hop { text: text.to_owned(), node: text.to_owned(), protocol: None, host: None };
    let listed =
        |value: String| value.split(',').map(str::trim).filter(|text| !text.is_empty()).map(plain).collect::<Vec<_>>();
    values.flat_map(listed).collect()
}

/// Several headers are one list: one that is sent first must not hide another.
fn joined(name: &str, headers: &HeaderMap) -> Option<String> {
    let values: Vec<String> = headers.get_all(name).iter().map(text_of).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// As characters, whatever was sent: what stands left of an address may be anybody's.
fn text_of(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|&byte| char::from(byte)).collect()
}

/// What is between separators that do not stand in quotes, without what is empty. A quote that nothing ends is none: a client could
/// open it, to hide what proxies add behind it.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quotes = Quotes::default();
    text.chars().for_each(|char| quotes.pass(char));
    let believed = !quotes.open;
    let mut quotes = Quotes::default();
    let separates = move |char: char| {
        quotes.pass(char);
        char == separator && !(believed && quotes.open)
    };
    text.split(separates).map(str::trim).filter(|part| !part.is_empty())
}

/// Where a text is in its quoted strings (RFC 9110 5.6.4).
#[derive(Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    fn pass(&mut self, char: char) {
        self.open ^= char == '"' && !self.escaped;
        self.escaped = self.open && !self.escaped && char == '\\';
    }
}

/// One element of `Forwarded` (RFC 7239 4).
fn forwarded(element: &str) -> Hop {
    let mut hop = Hop { text: element.to_owned(), node: String::new(), protocol: None, host: None };
    for (name, value) in split(element, ';').filter_map(|pair| pair.split_once('=')) {
        let value = unquoted(value.trim());
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.node = value,
            "proto" => hop.protocol = Some(value),
            "host" => hop.host = Some(value),
            _ => {}
        }
    }
    hop
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    let is_content = |char: &char| {
        escaped = !escaped && *char == '\\';
        !escaped
    };
    inner.chars().filter(is_content).collect()
}

/// Of an address, with a port or without.
fn ip_of(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
    let ip = bare.parse().ok().or_else(|| node.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}

/// Proxies may hide an address behind a name (RFC 7239 6.3), which servlets print as they would an address.
fn named(node: &str) -> String {
    let in_names = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    let is_name = !node.is_empty() && node.len() <= NAME_BYTES_MAX && node.bytes().all(in_names);
    match ip_of(node) {
        Some(ip) => ip.to_string(),
        None if is_name => node.to_owned(),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(remote: &str) -> Peer {
        let listener = std::sync::Arc::new(serval_config::Listener::default());
        let remote = SocketAddr::new(remote.parse().unwrap(), 4000);
        Peer::new(remote, "127.0.0.1:8080".parse().unwrap(), 1, false, listener)
    }

    fn headers(text: &str) -> HeaderMap {
        let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
        lines.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn rules() -> RemoteIp {
        RemoteIp { trusted_proxies: vec!["203.0.113.0/24".parse().unwrap()], ..RemoteIp::default() }
    }

    /// `expected`: address, headers as the servlet sees them.
    #[track_caller]
    fn check(rules: &RemoteIp, remote: &str, sent: &str, expected: (Option<&str>, &str)) {
        let mut map = headers(sent);
        let client = found(rules, &map, &peer(remote));
        for (name, value) in client.iter().flat_map(|client| client.headers.clone()) {
            match value {
                Some(value) => drop(map.insert(name, value)),
                None => drop(map.remove(name)),
            }
        }
        assert_eq!(client.as_ref().and_then(|client| client.address.as_deref()), expected.0, "{sent}");
        let mut seen: Vec<String> =
            map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        seen.sort();
        assert_eq!(seen.join("\n"), expected.1, "{sent}");
    }

    #[test]
    fn the_first_that_is_not_believed_is_the_client() {
        const INSIDE: &str = "127.0.0.1";
        for (sent, address, seen) in [
            ("198.51.100.7", "198.51.100.7", ""),
            ("198.51.100.7, 10.0.0.3", "198.51.100.7", ""),
            ("198.51.100.7\nx-forwarded-for: 10.0.0.3", "198.51.100.7", ""),
            ("198.51.100.7, 203.0.113.1, 203.0.113.2", "198.51.100.7", "x-forwarded-by: 203.0.113.1,203.0.113.2"),
            ("9.9.9.9, 198.51.100.7, 10.0.0.3", "198.51.100.7", "x-forwarded-for: 9.9.9.9"),
            ("9.9.9.9,8.8.8.8, 198.51.100.7", "198.51.100.7", "x-forwarded-for: 9.9.9.9,8.8.8.8"),
            ("10.0.0.9, 10.0.0.3", "10.0.0.9", ""),
            ("172.31.0.1, 172.32.0.1", "172.32.0.1", "x-forwarded-for: 172.31.0.1"),
            ("198.51.100.7, fc00::1, fe80::1, ::1, ::ffff:10.0.0.1", "198.51.100.7", ""),
            ("198.51.100.7:8000, [::1]:80, [::1]", "198.51.100.7", ""),
            ("2001:DB8::1", "2001:db8::1", ""),
            (" , 198.51.100.7,,", "198.51.100.7", ""),
            ("198.51.100.7, unknown", "unknown", "x-forwarded-for: 198.51.100.7"),
            ("198.51.100.7, a b", "unknown", "x-forwarded-for: 198.51.100.7"),
            ("198.51.100.7, <b>", "unknown", "x-forwarded-for: 198.51.100.7"),
            ("198.51.100.7, _hidden-1:80", "_hidden-1:80", "x-forwarded-for: 198.51.100.7"),
            // Quotes are nothing in this header.
            ("\"9.9.9.9, 198.51.100.7", "198.51.100.7", "x-forwarded-for: \"9.9.9.9"),
            ("\"9.9.9.9,198.51.100.7, \"10.0.0.1\"", "unknown", "x-forwarded-for: \"9.9.9.9,198.51.100.7"),
        ] {
            check(&rules(), INSIDE, &format!("x-forwarded-for: {sent}"), (Some(address), seen));
        }
        check(&rules(), INSIDE, "x-forwarded-for: ,", (None, "x-forwarded-for: ,"));
        check(&rules(), INSIDE, "x-forwarded-by: me", (None, "x-forwarded-by: me"));
    }

    #[test]
    fn only_proxies_that_are_believed_are_heard() {
        let sent = "x-forwarded-for: 198.51.100.7\nx-forwarded-proto: https";
        check(&rules(), "192.0.2.1", sent, (None, sent));
        check(&rules(), "::ffff:127.0.0.1", "x-forwarded-for: 198.51.100.7", (Some("198.51.100.7"), ""));
        let by = "x-forwarded-by: 203.0.113.2,203.0.113.9";
        check(&rules(), "203.0.113.9", "x-forwarded-for: 198.51.100.7, 203.0.113.2", (Some("198.51.100.7"), by));
    }

    #[test]
    fn a_way_of_many_proxies_is_cut() {
        let long = format!("x-forwarded-for: 198.51.100.7{}", ", 10.0.0.1".repeat(HOPS_MAX));
        let client = found(&rules(), &headers(&long), &peer("127.0.0.1")).unwrap();
        assert_eq!(client.address.as_deref(), Some("10.0.0.1"));
        assert_eq!(client.headers[1].1.as_ref().unwrap(), "198.51.100.7");
    }

    #[test]
    fn scheme_port_and_name() {
        let all = RemoteIp {
            host_header: Some("x-forwarded-host".to_owned()),
            port_header: Some("x-forwarded-port".to_owned()),
            https_port: 9443,
            http_port: 9080,
            ..rules()
        };
        let off = RemoteIp { protocol_header: None, ..all.clone() };
        for (rules, sent, secure, port, name) in [
            (&all, "x-forwarded-proto: https", Some(true), Some(9443), None),
            (&all, "x-forwarded-proto: HTTPS", Some(true), Some(9443), None),
            (&all, "x-forwarded-proto: https,https", Some(true), Some(9443), None),
            (&all, "x-forwarded-proto: https,http", Some(false), Some(9080), None),
            (&all, "x-forwarded-proto: https\nx-forwarded-proto: http", Some(false), Some(9080), None),
            (&all, "x-forwarded-proto: http", Some(false), Some(9080), None),
            (&all, "x-forwarded-proto: ,", Some(false), Some(9080), None),
            (&all, "x-forwarded-port: 8443", None, None, None),
            (&all, "x-forwarded-proto: https\nx-forwarded-port: 8443", Some(true), Some(8443), None),
            (&all, "x-forwarded-proto: https\nx-forwarded-port: 65536", Some(true), Some(9443), None),
            (&all, "x-forwarded-host: Shop.test:81", None, None, Some("shop.test")),
            (&all, "x-forwarded-host: [::1]:81", None, None, Some("[::1]")),
            (&all, "x-forwarded-host: bad host", None, None, None),
            (&all, "x-forwarded-host: a, b", None, None, None),
            (&off, "x-forwarded-proto: https", None, None, None),
        ] {
            let client = found(rules, &headers(sent), &peer("127.0.0.1")).unwrap_or_default();
            assert_eq!((client.secure, client.port, client.server_name.as_deref()), (secure, port, name), "{sent}");
        }
    }

    #[test]
    fn forwarded_is_read_when_it_is_the_header() {
        let rules = RemoteIp { remote_ip_header: "forwarded".to_owned(), ..rules() };
        for (sent, address, secure, name, rest) in [
            ("for=198.51.100.7", "198.51.100.7", None, None, None),
            ("For=\"[2001:db8::1]:47\";proto=https;host=a.test:81", "2001:db8::1", Some(true), Some("a.test"), None),
            (
                "for=9.9.9.9;proto=http, for=_x;host=\"b.test\";proto=https, for=10.0.0.1;proto=http",
                "_x",
                Some(true),
                Some("b.test"),
                Some("for=9.9.9.9;proto=http"),
            ),
            (
                "for=\"9.9.9.9, \\\" for=1.1.1.1\", for=8.8.8.8",
                "8.8.8.8",
                None,
                None,
                Some("for=\"9.9.9.9, \\\" for=1.1.1.1\""),
            ),
            ("by=9.9.9.9", "unknown", None, None, None),
            // What a client leaves open does not hide what a proxy adds.
            ("for=\"9.9.9.9, for=8.8.8.8", "8.8.8.8", None, None, Some("for=\"9.9.9.9")),
            ("for=\"\\, for=\"[2001:db8::1]:47\"", "2001:db8::1", None, None, Some("for=\"\\")),
        ] {
            let client = found(&rules, &headers(&format!("forwarded: {sent}")), &peer("127.0.0.1")).unwrap();
            assert_eq!(client.address.as_deref(), Some(address), "{sent}");
            assert_eq!((client.secure, client.server_name.as_deref()), (secure, name), "{sent}");
            let kept = client.headers[1].1.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(kept, rest, "{sent}");
        }
    }
}
