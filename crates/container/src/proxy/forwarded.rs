//! What the upstream is told of the client: X-Forwarded-For, -Proto, -Host and -Port, and Forwarded (RFC 7239).
//!
//! What came with the request is dropped, since anybody may write it. What `remote_ip` has found, of proxies that it believes, comes in
//! its place: the addresses from the client on, the client first, and behind them the one that the connection is from.

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};

use serval_config::RemoteIp;

use crate::exchange::Request;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Puts it into the headers of a request. `rules` are what is believed.
pub fn say(request: &Request, rules: Option<&RemoteIp>, headers: &mut HeaderMap) {
    let is_of_rules = |name: &str| {
        rules.is_some_and(|rules| {
            let others = [&rules.protocol_header, &rules.host_header, &rules.port_header];
            let all = [&rules.remote_ip_header, &rules.proxies_header];
            all.into_iter().chain(others.into_iter().flatten()).any(|known| known.replace('_', "-") == name)
        })
    };
    // Applications that know headers as CGI does read `_` as `-`.
    let is_forwarded = |name: &HeaderName| {
        let name = name.as_str().replace('_', "-");
        name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-") || is_of_rules(&name)
    };
    let all: Vec<HeaderName> = headers.keys().filter(|name| is_forwarded(name)).cloned().collect();
    all.iter().for_each(|name| drop(headers.remove(name)));
    let before = request.client.as_ref().map_or(&[][..], |client| &client.way);
    let way: Vec<&str> = before.iter().map(String::as_str).chain([&*request.peer.remote_text]).collect();
    let (scheme, host) = (if request.is_secure() { "https" } else { "http" }, host(request));
    let mut stations = way.iter().map(|node| format!("for={}", value(&node_of(node))));
    let first = stations.next().unwrap_or_default();
    let first = format!("{first};host={};proto={scheme}", value(&host));
    let forwarded = [first].into_iter().chain(stations).collect::<Vec<_>>().join(", ");
    for (name, value) in [
        (FOR, way.join(", ")),
        (PROTO, scheme.to_owned()),
        (HOST, host),
        (PORT, request.target.server_port.to_string()),
        (FORWARDED, forwarded),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// The name and port that the client has asked for, as in Host.
pub fn host(request: &Request) -> String {
    let usual = if request.is_secure() { 443 } else { 80 };
    let (name, port) = (&request.target.server_name, request.target.server_port);
    if port == usual { name.clone() } else { format!("{name}:{port}") }
}

/// RFC 7239 6.
fn node_of(text: &str) -> String {
    if text.is_empty() {
        return "unknown".to_owned();
    }
    if text.contains(':') { format!("[{text}]") } else { text.to_owned() }
}

/// A token, or a quoted string.
fn value(text: &str) -> String {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
