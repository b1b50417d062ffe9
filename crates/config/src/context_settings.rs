//! The limits and permissions of one context: `[defaults.context]` and `[[host.context]]` of server.toml.

use std::time::Duration;

use crate::files::{Coding, codings};
use crate::raw::Table;
use crate::remote_ip::RemoteIp;
use crate::value::is_token;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Of bounds.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// LIMIT: bytes of an upload. More belongs to a servlet that reads the body by itself.
pub(crate) const UPLOAD_BYTES_MAX: u64 = 1024 * GIB;
/// LIMIT: bytes of a part in memory, of which a request may have many.
pub(crate) const PART_MEMORY_BYTES_MAX: u64 = 16 * MIB;
/// LIMIT: parts of a request. Each costs its headers, and maybe a file.
pub(crate) const PART_COUNT_MAX: u64 = 10_000;

/// Holds what a context may use. Every key of it can stand in `[defaults.context]`, for all contexts, and in
/// `[[host.context]]`, for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextSettings {
    /// Threads of the context's pool, 1 to 10000; default 64.
    pub workers_max: usize,
    /// Requests that may wait for such a thread, 0 to 1000000; default 1000. One more is 503.
    pub queue_max: usize,
    /// How long a request waits for such a thread before it is 503, 1 ms to 1 h; default 10 s.
    pub queue_timeout: Duration,
    /// How long a call runs before it is named in the log, 1 ms to 24 h; default 10 s.
    pub slow_after: Duration,
    /// How long requests of an old generation may run on after a reload, 0 to 24 h; default 30 s.
    pub drain_timeout: Duration,
    /// How long a library may take to start, 1 ms to 1 h; default 60 s.
    pub init_timeout: Duration,
    /// Bytes of a request's body, 0 to 1 TiB; default 1 GiB.
    pub request_body_bytes_max: u64,
    /// Bytes of a form that is read into parameters, 0 to 32 MiB; default 2 MiB. Parameters go into the 64 MiB that a library has
    /// for one request.
    pub form_bytes_max: u64,
    /// Parameters of a request, from its query and its form, 0 to 1000000; default 1000.
    pub parameter_count_max: usize,
    /// Methods whose form bodies are read into parameters; default POST.
    pub form_methods: Vec<String>,
    /// Cookies of a request, 0 to 1000; default 200. More is 400.
    pub cookie_count_max: usize,
    /// Bytes of a response that are held back before it is committed, 0 to 64 MiB; default 8 KiB.
    pub response_buffer_bytes: usize,
    /// How long an async exchange may take, 0 (for ever) to 24 h; default 30 s.
    pub async_timeout: Duration,
    /// How long a session may lie unused, 0 (for ever) to 365 d; default 30 min.
    pub session_timeout: Duration,
    /// Sessions at once, 0 to 10000000; default 100000. One more is not made. Times `session_bytes_max` it is the
    /// memory that sessions can take.
    pub sessions_max: usize,
    /// Bytes of one session's attributes, with their names, 1 KiB to 64 MiB; default 1 MiB.
    pub session_bytes_max: usize,
    /// Bytes of one file of a multipart body, 0 to 1 TiB; default 100 MiB.
    pub file_bytes_max: u64,
    /// Bytes of a multipart body, 0 to 1 TiB; default 256 MiB. `request_body_bytes_max` holds too.
    pub multipart_bytes_max: u64,
    /// Parts of a multipart body, 1 to 10000; default 50. `parameter_count_max` holds too.
    pub part_count_max: usize,
    /// Bytes of one part's headers, 256 B to 64 KiB; default 2 KiB.
    pub part_header_bytes_max: usize,
    /// Bytes of a part up to which it stays in memory, and beyond which it is a file, 0 to 16 MiB; default 64 KiB.
    pub part_memory_bytes_max: usize,
    /// How long a changed library, a changed archive or the files of a new folder must be quiet before they are taken, 0 to 1 min;
    /// default 150 ms.
    pub settle_time: Duration,
    /// Unpacked archives that are kept for a rollback, beside those that are in use, 0 to 100; default 3.
    pub generations_kept: usize,
    /// Loads libraries that group or world may write and that belong to another user; default false.
    pub allow_foreign_writable: bool,
    /// Follows symbolic links out of the webapp's folder; default false.
    pub symlinks_outside: bool,
    /// Codings in which answers are compressed while they are sent, by preference; default none. `[compression]` of web.toml
    /// goes before it, and says what is compressed.
    pub compression: Vec<Coding>,
    /// How long an upstream may take to accept a connection, 1 ms to 1 h; default 5 s. Then 504, or 502 if it refuses.
    pub proxy_connect_timeout: Duration,
    /// How long an upstream may take to begin its answer, to send the next piece of it, and to take the next piece of a request, 1 ms to
    /// 24 h; default 60 s. Before the answer that is 504, in it the response is cut.
    pub proxy_timeout: Duration,
    /// How long nothing may pass through a connection that was upgraded, as WebSockets are, 1 ms to 7 d; default 1 h.
    pub proxy_tunnel_timeout: Duration,
    /// Connections to an upstream, each for one request or tunnel at a time, 1 to 100000; default 256. More requests wait as
    /// `queue_max` and `queue_timeout` say.
    pub proxy_connections_max: usize,
    /// The upstream gets the Host that the client asked for, and not its own; default true.
    pub proxy_preserve_host: bool,
    /// `[defaults.context.remote_ip]` or `[host.context.remote_ip]`: what proxies say of the client; None: nothing is believed.
    pub remote_ip: Option<RemoteIp>,
}

impl Default for ContextSettings {
    fn default() -> Self {
        Self {
            workers_max: 64,
            queue_max: 1000,
            queue_timeout: Duration::from_secs(10),
            slow_after: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            init_timeout: Duration::from_secs(60),
            request_body_bytes_max: GIB,
            form_bytes_max: 2 * MIB,
            parameter_count_max: 1000,
            form_methods: vec!["POST".to_owned()],
            cookie_count_max: 200,
            response_buffer_bytes: 8 * KIB as usize,
            async_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(30 * 60),
            sessions_max: 100_000,
            session_bytes_max: MIB as usize,
            file_bytes_max: 100 * MIB,
            multipart_bytes_max: 256 * MIB,
            part_count_max: 50,
            part_header_bytes_max: 2 * KIB as usize,
            part_memory_bytes_max: 64 * KIB as usize,
            settle_time: Duration::from_millis(150),
            generations_kept: 3,
            allow_foreign_writable: false,
            symlinks_outside: false,
            compression: Vec::new(),
            proxy_connect_timeout: Duration::from_secs(5),
            proxy_timeout: Duration::from_secs(60),
            proxy_tunnel_timeout: Duration::from_secs(3600),
            proxy_connections_max: 256,
            proxy_preserve_host: true,
            remote_ip: None,
        }
    }
}

impl ContextSettings {
    /// Reads the keys of a table; those that are not there are as in `defaults`.
    pub(crate) fn read(table: &Table<'_, '_>, defaults: &ContextSettings) -> ContextSettings {
        let d = defaults;
        let (zero, least) = (Duration::ZERO, Duration::from_millis(1));
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        ContextSettings {
            workers_max: table.count("workers_max", d.workers_max as u64, 1..=10_000) as usize,
            queue_max: table.count("queue_max", d.queue_max as u64, 0..=1_000_000) as usize,
            queue_timeout: table.duration("queue_timeout", d.queue_timeout, least..=hour),
            slow_after: table.duration("slow_after", d.slow_after, least..=DAY),
            drain_timeout: table.duration("drain_timeout", d.drain_timeout, zero..=DAY),
            init_timeout: table.duration("init_timeout", d.init_timeout, least..=hour),
            request_body_bytes_max: table.bytes("request_body_bytes_max", d.request_body_bytes_max, 0..=1024 * GIB),
            form_bytes_max: table.bytes("form_bytes_max", d.form_bytes_max, 0..=32 * MIB),
            parameter_count_max: table.count("parameter_count_max", d.parameter_count_max as u64, 0..=1_000_000)
                as usize,
            form_methods: form_methods(table).unwrap_or_else(|| d.form_methods.clone()),
            cookie_count_max: table.count("cookie_count_max", d.cookie_count_max as u64, 0..=1000) as usize,
            response_buffer_bytes: table.bytes("response_buffer_bytes", d.response_buffer_bytes as u64, 0..=64 * MIB)
                as usize,
            async_timeout: table.duration("async_timeout", d.async_timeout, zero..=DAY),
            session_timeout: table.duration("session_timeout", d.session_timeout, zero..=YEAR),
            sessions_max: table.count("sessions_max", d.sessions_max as u64, 0..=10_000_000) as usize,
            session_bytes_max: table.bytes("session_bytes_max", d.session_bytes_max as u64, KIB..=64 * MIB) as usize,
            file_bytes_max: table.bytes("file_bytes_max", d.file_bytes_max, 0..=UPLOAD_BYTES_MAX),
            multipart_bytes_max: table.bytes("multipart_bytes_max", d.multipart_bytes_max, 0..=UPLOAD_BYTES_MAX),
            part_count_max: table.count("part_count_max", d.part_count_max as u64, 1..=PART_COUNT_MAX) as usize,
            part_header_bytes_max: table.bytes("part_header_bytes_max", d.part_header_bytes_max as u64, 256..=64 * KIB)
                as usize,
            part_memory_bytes_max: table.bytes(
                "part_memory_bytes_max",
                d.part_memory_bytes_max as u64,
                0..=PART_MEMORY_BYTES_MAX,
            ) as usize,
            settle_time: table.duration("settle_time", d.settle_time, zero..=minute),
            generations_kept: table.count("generations_kept", d.generations_kept as u64, 0..=100) as usize,
            allow_foreign_writable: table.flag("allow_foreign_writable", d.allow_foreign_writable),
            symlinks_outside: table.flag("symlinks_outside", d.symlinks_outside),
            compression: codings(table, "compression").unwrap_or_else(|| d.compression.clone()),
            proxy_connect_timeout: table.duration("proxy_connect_timeout", d.proxy_connect_timeout, least..=hour),
            proxy_timeout: table.duration("proxy_timeout", d.proxy_timeout, least..=DAY),
            proxy_tunnel_timeout: table.duration("proxy_tunnel_timeout", d.proxy_tunnel_timeout, least..=7 * DAY),
            proxy_connections_max: table.count("proxy_connections_max", d.proxy_connections_max as u64, 1..=100_000)
                as usize,
            proxy_preserve_host: table.flag("proxy_preserve_host", d.proxy_preserve_host),
            remote_ip: match table.table("remote_ip") {
                Some(inner) => {
                    let remote_ip = RemoteIp::read(&inner, &d.remote_ip.clone().unwrap_or_default());
                    inner.finish();
                    Some(remote_ip)
                }
                None => d.remote_ip.clone(),
            },
        }
    }
}

fn form_methods(table: &Table<'_, '_>) -> Option<Vec<String>> {
    let methods = table.texts("form_methods", "[\"POST\", \"PUT\"]")?;
    for method in &methods {
        // A TRACE has no body (RFC 9110 9.3.8).
        if !is_token(&method.value) || method.value == "TRACE" {
            table.wrong(
                method,
                "form_methods",
                "is not a method with a body",
                "write its name, as in `[\"POST\", \"PUT\"]`",
            );
        }
    }
    Some(methods.into_iter().map(|method| method.value).collect())
}
