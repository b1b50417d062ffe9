//! The limits and permissions of one context: `[defaults.context]` and `[[host.context]]` of server.toml.

use std::time::Duration;

use crate::raw::Table;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

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
    /// Bytes of a form that is read into parameters, 0 to 1 GiB; default 2 MiB.
    pub form_bytes_max: u64,
    /// Parameters of a request, from its query and its form, 0 to 1000000; default 1000.
    pub parameter_count_max: usize,
    /// Bytes of a response that are held back before it is committed, 0 to 64 MiB; default 8 KiB.
    pub response_buffer_bytes: usize,
    /// How long a changed library must be quiet before it is loaded, 0 to 1 min; default 150 ms.
    pub settle_time: Duration,
    /// Loads libraries that group or world may write and that belong to another user; default false.
    pub allow_foreign_writable: bool,
    /// Follows symbolic links out of the webapp's folder; default false.
    pub symlinks_outside: bool,
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
            response_buffer_bytes: 8 * KIB as usize,
            settle_time: Duration::from_millis(150),
            allow_foreign_writable: false,
            symlinks_outside: false,
        }
    }
}

impl ContextSettings {
    /// Reads the keys of a table; those that are not there are as in `defaults`.
    pub(crate) fn read(table: &Table<'_, '_>, defaults: &ContextSettings) -> ContextSettings {
        let d = defaults;
        let (zero, least) = (Duration::ZERO, Duration::from_millis(1));
        let (minute, hour, day) = (Duration::from_secs(60), Duration::from_secs(3600), Duration::from_secs(86_400));
        ContextSettings {
            workers_max: table.count("workers_max", d.workers_max as u64, 1..=10_000) as usize,
            queue_max: table.count("queue_max", d.queue_max as u64, 0..=1_000_000) as usize,
            queue_timeout: table.duration("queue_timeout", d.queue_timeout, least..=hour),
            slow_after: table.duration("slow_after", d.slow_after, least..=day),
            drain_timeout: table.duration("drain_timeout", d.drain_timeout, zero..=day),
            init_timeout: table.duration("init_timeout", d.init_timeout, least..=hour),
            request_body_bytes_max: table.bytes("request_body_bytes_max", d.request_body_bytes_max, 0..=1024 * GIB),
            form_bytes_max: table.bytes("form_bytes_max", d.form_bytes_max, 0..=GIB),
            parameter_count_max: table.count("parameter_count_max", d.parameter_count_max as u64, 0..=1_000_000)
                as usize,
            response_buffer_bytes: table.bytes("response_buffer_bytes", d.response_buffer_bytes as u64, 0..=64 * MIB)
                as usize,
            settle_time: table.duration("settle_time", d.settle_time, zero..=minute),
            allow_foreign_writable: table.flag("allow_foreign_writable", d.allow_foreign_writable),
            symlinks_outside: table.flag("symlinks_outside", d.symlinks_outside),
        }
    }
}
