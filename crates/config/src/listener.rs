//! `[[listener]]`: an address that accepts connections, what is spoken there, and its bounds.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::problem::quoted;
use crate::raw::{Document, Table, Text};
use crate::remote_ip::ranges;
use crate::server::host_name;
use crate::tls::{Tls, hsts, https_redirect_port, tls};
use crate::uri_rules::{UriRules, uri_rules};
use crate::value::is_token;

/// Holds one `[[listener]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it accepts connections; default `127.0.0.1:8080`. Port 0 lets the system choose a free one.
    pub address: Address,
    /// `unix_mode`: the permissions of a Unix socket, up to 0o777; default 0o660.
    pub unix_mode: u32,
    /// `unix_owner`: user and group of a Unix socket, `user`, `user:group` or `:group`; default None: those of the server.
    pub unix_owner: Option<String>,
    /// What is spoken; default both. HTTP/2 without TLS begins by prior knowledge (RFC 9113 3.3).
    pub protocols: Protocols,
    /// Bytes of a request's line and headers, 8 KiB to 1 MiB; default 8 KiB.
    pub head_bytes_max: usize,
    /// Bytes of a request's target, 256 B to 63 KiB; default 8 KiB. More is 414.
    pub target_bytes_max: usize,
    /// Headers of a request, 1 to 10000; default 100.
    pub header_count_max: usize,
    /// Connections at once, 1 to 1000000; default 8192.
    pub connections_max: usize,
    /// Connections at once of one client's address, 1 to 1000000; default half of `connections_max`, and 100 at
    /// least.
    pub connections_per_address_max: usize,
    /// How long a head may take to arrive, 1 ms to 1 h; default 20 s.
    pub head_timeout: Duration,
    /// How long a connection may be idle between two requests, 1 ms to 1 h; default: as `head_timeout`.
    pub keep_alive_timeout: Duration,
    /// Requests of one connection, up to 1000000000; default 0: any number.
    pub requests_per_connection_max: u64,
    /// Bytes of a body that nobody has read, which are still taken for the sake of the connection, up to 1 GiB; default 2 MiB.
    pub unread_body_bytes_max: u64,
    /// Bytes of the trailers of a request, up to 16 KiB; default 8 KiB. More is 400.
    pub trailer_bytes_max: usize,
    /// Names, in lower case, of the trailers of requests that servlets are told; default none.
    pub trailers: Vec<String>,
    /// How long the next piece of a body may take to arrive, 1 ms to 1 h; default 20 s.
    pub body_timeout: Duration,
    /// Bytes that a body has to come with in each second, on average, once it has taken `body_timeout`; up to 1 GiB; default 240; 0: any.
    pub body_rate_min: u64,
    /// How long a client may read nothing of a response, 1 ms to 24 h; default 60 s.
    pub write_timeout: Duration,
    /// Connections the system holds until they are accepted, 1 to 65535; default 1024.
    pub backlog: u32,
    /// Takes connections of IPv6 only at `[::]`; default false: of IPv4 too.
    pub ipv6_only: bool,
    /// When the system asks a client that is silent whether it is still there, 0 to 24 h, in whole seconds; default 0: never.
    pub tcp_keepalive: Duration,
    /// Bytes of a connection's send buffer, up to 64 MiB; default 0: as the system has it.
    pub send_buffer_bytes: u32,
    /// Bytes of a connection's receive buffer, up to 64 MiB; default 0: as the system has it.
    pub receive_buffer_bytes: u32,
    /// `proxy_protocol`: whose connections begin with the head of the PROXY protocol, 1 or 2, and no others; default none.
    pub proxy_protocol: Vec<IpNet>,
    /// Requests at once on a connection of HTTP/2, 1 to 10000; default 100.
    pub h2_streams_max: u32,
    /// Bytes of one body that an HTTP/2 client may send ahead, 64 KiB to 16 MiB; default 256 KiB. Of all of a connection four times as many.
    pub h2_window_bytes: u32,
    /// How many frames that carry nothing are taken of an HTTP/2 client at once, up to 1000000; default 1000; 0: any number.
    pub h2_overhead_max: u32,
    /// How it reads targets.
    pub uri: UriRules,
    /// `server_header`: the header Server of all responses; default None: that of a servlet, or none.
    pub server_header: Option<String>,
    /// `secure`: TLS ends at a proxy in front, and servlets are told `https`; default false.
    pub secure: bool,
    /// `allow_trace`: TRACE is answered with the request's head; default false: 405.
    pub allow_trace: bool,
    /// `proxy_name`: what servlets are told as the server's name, whatever the Host header says; default None.
    pub proxy_name: Option<String>,
    /// `proxy_port`: what servlets are told as the server's port; default None.
    pub proxy_port: Option<u16>,
    /// `https_redirect_port`: plain requests are sent to this port by https; default None (0 in the file).
    pub https_redirect_port: Option<u16>,
    /// `hsts`: the header Strict-Transport-Security of all responses; default None (`""` in the file).
    pub hsts: Option<String>,
    /// `[listener.tls]`; None: it speaks no TLS.
    pub tls: Option<Arc<Tls>>,
}

/// Where a listener accepts connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// The absolute path of a Unix socket, of 107 bytes at most.
    Unix(PathBuf),
}

/// What a listener speaks; one at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.1 and HTTP/1.0.
    pub http1: bool,
    pub http2: bool,
}

impl Protocols {
    /// Returns their names, as ALPN has them, the preferred one first.
    pub fn names(self) -> Vec<&'static str> {
        [(self.http2, "h2"), (self.http1, "http/1.1")].into_iter().filter_map(|(is, name)| is.then_some(name)).collect()
    }
}

impl Address {
    /// Returns it as servlets and logs are told it: a Unix socket is 127.0.0.1, port 0.
    pub fn as_told(&self) -> SocketAddr {
        match self {
            Address::Tcp(address) => *address,
            Address::Unix(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        }
    }

    /// Returns the port; `None` of a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Tcp(address) => Some(address.port()),
            Address::Unix(_) => None,
        }
    }
}

/// As it is written in the file.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(formatter),
            Address::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080)),
            unix_mode: 0o660,
            unix_owner: None,
            protocols: Protocols { http1: true, http2: true },
            head_bytes_max: 8192,
            target_bytes_max: 8192,
            header_count_max: 100,
            connections_max: 8192,
            connections_per_address_max: 4096,
            head_timeout: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(20),
            requests_per_connection_max: 0,
            unread_body_bytes_max: 2 * 1024 * 1024,
            trailer_bytes_max: 8192,
            trailers: Vec::new(),
            body_timeout: Duration::from_secs(20),
            body_rate_min: 240,
            write_timeout: Duration::from_secs(60),
            backlog: 1024,
            ipv6_only: false,
            tcp_keepalive: Duration::ZERO,
            send_buffer_bytes: 0,
            receive_buffer_bytes: 0,
            proxy_protocol: Vec::new(),
            h2_streams_max: 100,
            h2_window_bytes: 256 * 1024,
            h2_overhead_max: 1000,
            uri: UriRules::default(),
            server_header: None,
            secure: false,
            allow_trace: false,
            proxy_name: None,
            proxy_port: None,
            https_redirect_port: None,
            hsts: None,
            tls: None,
        }
    }
}

pub(crate) fn listeners(document: &Document<'_>, top: &Table<'_, '_>, home: &Path) -> Vec<Listener> {
    let Some(tables) = top.tables("listener") else { return vec![Listener::default()] };
    if tables.is_empty() {
        let instead = "write [[listener]] and `address = \"127.0.0.1:8080\"`, or leave `listener` out for that one";
        document.problem(top.place_of("listener"), "no listener", instead);
    }
    // Each with its address as it is written, and where.
    let mut listeners: Vec<(Listener, String, Option<usize>)> = Vec::new();
    for table in &tables {
        let listener = listener(table, home);
        table.finish();
        let shown = table.written("address").unwrap_or_else(|| quoted(&listener.address.to_string()));
        let at = table.place_of("address").or(table.at);
        let twin = listeners.iter().find(|(other, ..)| cannot_both_listen(other, &listener));
        if let Some((twin, twin_shown, twin_at)) = twin {
            let elsewhere = document.first_elsewhere(*twin_at, at);
            let what = match twin.address == listener.address {
                true => format!("a second [[listener]] at {shown}{elsewhere}"),
                false => format!("the listener {shown} takes the port of {twin_shown}{elsewhere}"),
            };
            document.problem(at, what, "give it another port, or remove it");
        }
        listeners.push((listener, shown, at));
    }
    listeners.into_iter().map(|(listener, ..)| listener).collect()
}

fn listener(table: &Table<'_, '_>, home: &Path) -> Listener {
    let d = Listener::default();
    let (least, hour, day) = (Duration::from_millis(1), Duration::from_secs(3600), Duration::from_secs(86_400));
    // Stands in for an address that has been noted as wrong; with port 0 it is nobody's twin.
    let refused = Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    let address = match table.text("address", "an address", "\"127.0.0.1:8080\"") {
        Some(text) => address(table, &text).unwrap_or(refused),
        None if table.place_of("address").is_some() => refused,
        None => d.address,
    };
    let connections_max = table.count("connections_max", d.connections_max as u64, 1..=1_000_000) as usize;
    let head_timeout = table.duration("head_timeout", d.head_timeout, least..=hour);
    let is_printable = |text: &str| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let (tls, secure) = (tls(table, home), table.flag("secure", d.secure));
    let is_secure = secure || table.place_of("tls").is_some();
    const SERVER: &str = "write printable ASCII, as in `server_header = \"Serval\"`, or leave it out";
    Listener {
        unix_mode: unix_mode(table).unwrap_or(d.unix_mode),
        unix_owner: unix_owner(table),
        address,
        protocols: protocols(table),
        head_bytes_max: table.bytes("head_bytes_max", d.head_bytes_max as u64, 8192..=1024 * 1024) as usize,
        target_bytes_max: table.bytes("target_bytes_max", d.target_bytes_max as u64, 256..=63 * 1024) as usize,
        header_count_max: table.count("header_count_max", d.header_count_max as u64, 1..=10_000) as usize,
        connections_max,
        connections_per_address_max: table.count(
            "connections_per_address_max",
            connections_max.div_ceil(2).max(100) as u64,
            1..=1_000_000,
        ) as usize,
        head_timeout,
        keep_alive_timeout: table.duration("keep_alive_timeout", head_timeout, least..=hour),
        requests_per_connection_max: table.count("requests_per_connection_max", 0, 0..=1_000_000_000),
        unread_body_bytes_max: table.bytes("unread_body_bytes_max", d.unread_body_bytes_max, 0..=1 << 30),
        trailer_bytes_max: table.bytes("trailer_bytes_max", d.trailer_bytes_max as u64, 0..=16 * 1024) as usize,
        trailers: trailers(table),
        body_timeout: table.duration("body_timeout", d.body_timeout, least..=hour),
        body_rate_min: table.bytes("body_rate_min", d.body_rate_min, 0..=1 << 30),
        write_timeout: table.duration("write_timeout", d.write_timeout, least..=day),
        backlog: table.count("backlog", u64::from(d.backlog), 1..=65_535) as u32,
        ipv6_only: table.flag("ipv6_only", d.ipv6_only),
        tcp_keepalive: table.duration("tcp_keepalive", d.tcp_keepalive, Duration::ZERO..=day),
        send_buffer_bytes: table.bytes("send_buffer_bytes", 0, 0..=64 << 20) as u32,
        receive_buffer_bytes: table.bytes("receive_buffer_bytes", 0, 0..=64 << 20) as u32,
        proxy_protocol: ranges(table, "proxy_protocol").unwrap_or_default(),
        h2_streams_max: table.count("h2_streams_max", u64::from(d.h2_streams_max), 1..=10_000) as u32,
        h2_window_bytes: table.bytes("h2_window_bytes", u64::from(d.h2_window_bytes), 64 * 1024..=16 << 20) as u32,
        h2_overhead_max: table.count("h2_overhead_max", u64::from(d.h2_overhead_max), 0..=1_000_000) as u32,
        uri: uri_rules(table),
        server_header: table.checked(
            "server_header",
            "\"Serval\"",
            is_printable,
            ("is not the value of a header", SERVER),
        ),
        secure,
        allow_trace: table.flag("allow_trace", d.allow_trace),
        proxy_name: table
            .text("proxy_name", "a string", "\"www.example.com\"")
            .map(|text| host_name(table, "proxy_name", &text)),
        proxy_port: table.given("proxy_port", |key| table.count(key, 443, 1..=65_535) as u16),
        https_redirect_port: https_redirect_port(table, is_secure),
        hsts: hsts(table, is_secure),
        tls: tls.map(Arc::new),
    }
}

/// LIMIT: bytes of the path of a Unix socket (`sun_path`, with its NUL 108).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// `None`: it has been noted as wrong.
fn address(table: &Table<'_, '_>, text: &Text) -> Option<Address> {
    let Some(path) = text.value.strip_prefix("unix:") else {
        let address = text.value.parse().map(Address::Tcp);
        return address.ok().or_else(|| {
            table.wrong(
                text,
                "address",
                "is not an address",
                text.advice(format!("write {}", address_advice(&text.value))),
            );
            None
        });
    };
    let (what, instead) = match path {
        path if !Path::new(path).is_absolute() => {
            ("is not the absolute path of a socket", "write such as `unix:/run/serval/http.sock`")
        }
        path if path.len() > UNIX_PATH_BYTES_MAX => {
            ("is a longer path than the system takes for a socket", "write one of 107 bytes at most")
        }
        path => return Some(Address::Unix(PathBuf::from(path))),
    };
    table.wrong(text, "address", what, instead);
    None
}

fn unix_mode(table: &Table<'_, '_>) -> Option<u32> {
    let text = table.text("unix_mode", "permissions", "\"0660\"")?;
    let is_octal = (3..=4).contains(&text.value.len()) && text.value.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(&text.value, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    if mode.is_none() {
        let instead = "write three octal digits, as in `unix_mode = \"0660\"`: for the owner, the group, all others";
        table.wrong(&text, "unix_mode", "are no permissions", instead);
    }
    mode
}

fn unix_owner(table: &Table<'_, '_>) -> Option<String> {
    let text = table.text("unix_owner", "a user", "\"www-data:www-data\"")?;
    let is_name = |name: &str| !name.contains(|c: char| c.is_whitespace() || c == ':' || c == '/');
    let (user, group) = text.value.split_once(':').unwrap_or((&text.value, ""));
    if text.value == ":" || !is_name(user) || !is_name(group) {
        table.wrong(&text, "unix_owner", "is no user", "write `user`, `user:group` or `:group`");
    }
    Some(text.value).filter(|owner| !owner.is_empty())
}

fn protocols(table: &Table<'_, '_>) -> Protocols {
    const EXAMPLE: &str = "[\"h2\", \"http/1.1\"]";
    let Some(names) = table.texts("protocols", EXAMPLE) else { return Listener::default().protocols };
    let mut protocols = Protocols { http1: false, http2: false };
    for name in &names {
        match &*name.value {
            "http/1.1" => protocols.http1 = true,
            "h2" => protocols.http2 = true,
            _ => table.wrong(name, "protocols", "is no protocol", "write \"http/1.1\", \"h2\", or both"),
        }
    }
    if names.is_empty() {
        table.document.problem(
            table.place_of("protocols"),
            "`protocols` names no protocol",
            "write \"http/1.1\", \"h2\", or both",
        );
    }
    protocols
}

fn trailers(table: &Table<'_, '_>) -> Vec<String> {
    /// What frames a message, leads it, or says who sends it: a proxy may have looked at the head alone (RFC 9110 6.5.1).
    const NEVER: [&str; 8] = [
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "trailer",
        "transfer-encoding",
    ];
    let mut names = Vec::new();
    for text in table.texts("trailers", "[\"x-checksum\"]").unwrap_or_default() {
        let name = text.value.to_ascii_lowercase();
        if !is_token(&name) || NEVER.contains(&&*name) {
            table.wrong(&text, "trailers", "is not the name of a trailer", "write such as `[\"x-checksum\"]`");
        }
        names.push(name);
    }
    names
}

/// Returns what to write for an address that is none, as near to what is there as we can guess.
fn address_advice(written: &str) -> String {
    let (host, port) = written.rsplit_once(':').unwrap_or(("", written));
    let port = port.parse::<u16>();
    // `::1:8080` is an address without a port too, but hardly meant as one.
    if let (Ok(host), Ok(port @ 80..)) = (host.parse::<Ipv6Addr>(), &port) {
        return format!("`[{host}]:{port}`");
    }
    if let Ok(ip) = written.trim_matches(['[', ']']).parse::<IpAddr>() {
        return format!("the port too, as in `{}`", SocketAddr::new(ip, 8080));
    }
    match (host, port) {
        ("" | "*", Ok(port)) => {
            format!("`127.0.0.1:{port}` for this machine only, or `0.0.0.0:{port}` for all networks")
        }
        ("localhost", Ok(port)) => format!("`127.0.0.1:{port}`"),
        _ => "an IP address and a port up to 65535, as in `127.0.0.1:8080` or `[::1]:8080`".to_owned(),
    }
}

/// Returns true if the system would refuse the second of two addresses.
fn cannot_both_listen(one: &Listener, other: &Listener) -> bool {
    let (one, other, only_ipv6) = match (&one.address, &other.address) {
        (Address::Tcp(here), Address::Tcp(there)) => (here, there, [one.ipv6_only, other.ipv6_only]),
        (one, other) => return one == other,
    };
    // `[::]` takes the connections of IPv4 as well, unless it is told not to.
    let takes = |one: IpAddr, only_ipv6: bool, other: IpAddr| {
        one.is_unspecified() && one.is_ipv6() >= other.is_ipv6() && !(only_ipv6 && other.is_ipv4())
    };
    let (here, there) = (one.ip(), other.ip());
    one.port() != 0
        && one.port() == other.port()
        && (here == there || takes(here, only_ipv6[0], there) || takes(there, only_ipv6[1], here))
}
