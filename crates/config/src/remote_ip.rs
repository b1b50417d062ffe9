//! `[defaults.context.remote_ip]` and `[host.context.remote_ip]`: whose word counts about where a request came from
//! (SEMANTICS 20).

use ipnet::IpNet;

/// Holds what is believed of headers that proxies set. Only requests of a peer that is internal or trusted are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteIp {
    /// Proxies that are not worth a mention; default the private, link-local, shared (100.64.0.0/10) and loopback ranges.
    pub internal_proxies: Vec<IpNet>,
    /// Proxies that are believed, and listed in `proxies_header`; default none.
    pub trusted_proxies: Vec<IpNet>,
    /// The header with the addresses; default `X-Forwarded-For`; lower case.
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
