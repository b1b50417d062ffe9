//! `[defaults.context.remote_ip]` and `[host.context.remote_ip]`: whose word counts about where a request came from
//! (SEMANTICS 20).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::raw::Table;
use crate::value::is_token;

/// Holds what is believed of headers that proxies set. Only requests of a peer that is internal or trusted are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteIp {
    /// Proxies that are not worth a mention; default the private, link-local, shared (100.64.0.0/10) and loopback ranges.
    pub internal_proxies: Vec<IpNet>,
    /// Proxies that are believed, and listed in `proxies_header`; default none.
    pub trusted_proxies: Vec<IpNet>,
    /// The header with the addresses; default `X-Forwarded-For`; lower case. `forwarded` is read as RFC 7239 has it: what it says of the
    /// scheme and the name goes before the other headers.
    pub remote_ip_header: String,
    /// The header that lists the trusted proxies on the way, for the servlet; default `X-Forwarded-By`.
    pub proxies_header: String,
    /// The header with the client's scheme; default `X-Forwarded-Proto`; None (`""` in the file): not read.
    pub protocol_header: Option<String>,
    /// What it says for https; default `https`.
    pub protocol_https_value: String,
    /// The header with the name that the client asked for; default None.
    pub host_header: Option<String>,
    /// The header with the port that the client asked for; default None.
    pub port_header: Option<String>,
    /// The port of a request by http that has no other; default 80.
    pub http_port: u16,
    /// The port of a request by https that has no other; default 443.
    pub https_port: u16,
}

/// Private, link-local, shared and loopback addresses (RFC 1918, 3927, 6598, 4193, 4291).
const INTERNAL: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "::1/128",
    "fe80::/10",
    "fc00::/7",
];

impl Default for RemoteIp {
    fn default() -> Self {
        Self {
            internal_proxies: INTERNAL.map(|range| range.parse().expect("a range")).to_vec(),
            trusted_proxies: Vec::new(),
            remote_ip_header: "x-forwarded-for".to_owned(),
            proxies_header: "x-forwarded-by".to_owned(),
            protocol_header: Some("x-forwarded-proto".to_owned()),
            protocol_https_value: "https".to_owned(),
            host_header: None,
            port_header: None,
            http_port: 80,
            https_port: 443,
        }
    }
}

impl RemoteIp {
    /// Reads the keys of a table; those that are not there are as in `defaults`.
    pub(crate) fn read(table: &Table<'_, '_>, defaults: &RemoteIp) -> RemoteIp {
        let d = defaults;
        RemoteIp {
            internal_proxies: ranges(table, "internal_proxies").unwrap_or_else(|| d.internal_proxies.clone()),
            trusted_proxies: ranges(table, "trusted_proxies").unwrap_or_else(|| d.trusted_proxies.clone()),
            remote_ip_header: header(table, "remote_ip_header").unwrap_or_else(|| d.remote_ip_header.clone()),
            proxies_header: header(table, "proxies_header").unwrap_or_else(|| d.proxies_header.clone()),
            protocol_header: header_or_none(table, "protocol_header", &d.protocol_header),
            protocol_https_value: https_value(table).unwrap_or_else(|| d.protocol_https_value.clone()),
            host_header: header_or_none(table, "host_header", &d.host_header),
            port_header: header_or_none(table, "port_header", &d.port_header),
            http_port: table.count("http_port", u64::from(d.http_port), 1..=65_535) as u16,
            https_port: table.count("https_port", u64::from(d.https_port), 1..=65_535) as u16,
        }
    }
}

pub(crate) fn ranges(table: &Table<'_, '_>, key: &'static str) -> Option<Vec<IpNet>> {
    let mut ranges = Vec::new();
    for text in table.texts(key, "[\"10.0.0.0/8\"]")? {
        let range = text.value.parse::<IpNet>().map(|range| range.trunc());
        match range.or_else(|_| text.value.parse::<IpAddr>().map(IpNet::from)) {
            Ok(range) => ranges.push(range),
            Err(_) => {
                let instead = "write an address, as in `192.0.2.7`, or a range, as in `10.0.0.0/8` or `fd00::/8`";
                table.wrong(&text, key, "is not a range of addresses", instead);
            }
        }
    }
    Some(ranges)
}

fn header(table: &Table<'_, '_>, key: &'static str) -> Option<String> {
    let instead = "write its name without the colon, as in `X-Forwarded-For`";
    let name = table.checked(key, "\"X-Forwarded-For\"", is_token, ("is not the name of a header", instead));
    name.map(|name| name.to_ascii_lowercase())
}

fn header_or_none(table: &Table<'_, '_>, key: &'static str, default: &Option<String>) -> Option<String> {
    let instead = "write its name without the colon, as in `X-Forwarded-Proto`, or \"\" for none";
    let is_good = |name: &str| name.is_empty() || is_token(name);
    let name = table.checked(key, "\"X-Forwarded-Proto\"", is_good, ("is not the name of a header", instead));
    match name {
        Some(name) => Some(name.to_ascii_lowercase()).filter(|name| !name.is_empty()),
        None => default.clone(),
    }
}

fn https_value(table: &Table<'_, '_>) -> Option<String> {
    let instead = "write what the proxy sends for https, as in `protocol_https_value = \"https\"`";
    table.checked("protocol_https_value", "\"https\"", is_token, ("is not a word", instead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{check, good};

    fn of(toml: &str, path: &str) -> Option<RemoteIp> {
        good(toml).hosts[0].settings_for(path).remote_ip
    }

    #[test]
    fn its_presence_switches_it_on() {
        assert_eq!(of("", "/shop"), None);
        assert_eq!(of("[defaults.context.remote_ip]", "/shop"), Some(RemoteIp::default()));
        let one = "[[host]]\n[[host.context]]\npath = \"/shop\"\n[host.context.remote_ip]\nhttp_port = 8000";
        assert_eq!(of(one, "/shop"), Some(RemoteIp { http_port: 8000, ..RemoteIp::default() }));
        assert_eq!(of(one, "/other"), None);
    }

    #[test]
    fn everything_set() {
        let toml = r#"
            [defaults.context.remote_ip]
            internal_proxies = ["10.9.8.7/8", "::1"]
            trusted_proxies = ["203.0.113.9", "2001:db8::/32"]
            remote_ip_header = "X-Real-IP"
            proxies_header = "X-Via"
            protocol_header = "X-Scheme"
            protocol_https_value = "on"
            host_header = "X-Forwarded-Host"
            port_header = "X-Forwarded-Port"
            http_port = 9080
            https_port = 9443
            [[host]]
            [[host.context]]
            path = "/shop"
            [host.context.remote_ip]
            internal_proxies = []
            protocol_header = ""
            host_header = ""
            "#;
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let defaults = RemoteIp {
            internal_proxies: ranges(&["10.0.0.0/8", "::1/128"]),
            trusted_proxies: ranges(&["203.0.113.9/32", "2001:db8::/32"]),
            remote_ip_header: "x-real-ip".into(),
            proxies_header: "x-via".into(),
            protocol_header: Some("x-scheme".into()),
            protocol_https_value: "on".into(),
            host_header: Some("x-forwarded-host".into()),
            port_header: Some("x-forwarded-port".into()),
            http_port: 9080,
            https_port: 9443,
        };
        assert_eq!(of(toml, "/other").as_ref(), Some(&defaults));
        let shop = RemoteIp { internal_proxies: Vec::new(), protocol_header: None, host_header: None, ..defaults };
        assert_eq!(of(toml, "/shop"), Some(shop));
    }

    #[test]
    fn problems() {
        check(
            r#"
[defaults.context.remote_ip]
internal_proxies = ["10.0.0.0/33", "10\\.\\d+", "proxy.example.com", 10]
trusted_proxies = "10.0.0.0/8"
remote_ip_header = ""
proxies_header = "X Forwarded By"
protocol_header = "X-Forwarded-Proto:"
protocol_https_value = ""
host_header = true
http_port = 0
https_port = 65536
enabled = true
[[host]]
[[host.context]]
path = "/shop"
remote_ip = "10.0.0.0/8"
----
server.toml:3:21: `internal_proxies` in [defaults.context.remote_ip]: `10.0.0.0/33` is not a range of addresses; write an address, as in `192.0.2.7`, or a range, as in `10.0.0.0/8` or `fd00::/8`
server.toml:3:36: `internal_proxies` in [defaults.context.remote_ip]: `10\.\d+` is not a range of addresses; write an address, as in `192.0.2.7`, or a range, as in `10.0.0.0/8` or `fd00::/8`
server.toml:3:49: `internal_proxies` in [defaults.context.remote_ip]: `proxy.example.com` is not a range of addresses; write an address, as in `192.0.2.7`, or a range, as in `10.0.0.0/8` or `fd00::/8`
server.toml:3:70: `internal_proxies` in [defaults.context.remote_ip] is the number `10`, but a list of strings is needed; write for example `internal_proxies = ["10.0.0.0/8"]`
server.toml:4:19: `trusted_proxies` in [defaults.context.remote_ip] is the string `10.0.0.0/8`, but a list of strings is needed; write for example `trusted_proxies = ["10.0.0.0/8"]`
server.toml:5:20: `remote_ip_header` in [defaults.context.remote_ip]: `""` is not the name of a header; write its name without the colon, as in `X-Forwarded-For`
server.toml:6:18: `proxies_header` in [defaults.context.remote_ip]: `X Forwarded By` is not the name of a header; write its name without the colon, as in `X-Forwarded-For`
server.toml:7:19: `protocol_header` in [defaults.context.remote_ip]: `X-Forwarded-Proto:` is not the name of a header; write its name without the colon, as in `X-Forwarded-Proto`, or "" for none
server.toml:8:24: `protocol_https_value` in [defaults.context.remote_ip]: `""` is not a word; write what the proxy sends for https, as in `protocol_https_value = "https"`
server.toml:9:15: `host_header` in [defaults.context.remote_ip] is `true`, but a string is needed; write for example `host_header = "X-Forwarded-Proto"`
server.toml:10:13: `http_port` in [defaults.context.remote_ip]: `0` is out of bounds; write 1 to 65535, as in `http_port = 80`
server.toml:11:14: `https_port` in [defaults.context.remote_ip]: `65536` is out of bounds; write 1 to 65535, as in `https_port = 443`
server.toml:12:1: unknown key `enabled` in [defaults.context.remote_ip]; its keys are `internal_proxies`, `trusted_proxies`, `remote_ip_header`, `proxies_header`, `protocol_header`, `protocol_https_value`, `host_header`, `port_header`, `http_port`, `https_port`
server.toml:16:13: `remote_ip` in [[host.context]] is a string, but a table is needed; write [host.context.remote_ip], and its keys below it
"#,
        );
    }
}
