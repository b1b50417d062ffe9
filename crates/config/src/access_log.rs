//! `[access_log]` and `[host.access_log]`: a line for each request (SEMANTICS 21).

use std::path::PathBuf;

use crate::log_pattern::LogPattern;

/// Holds where the requests of a host are logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// `pattern`: `"combined"` (the default), `"common"`, or Tomcat's codes.
    pub pattern: LogPattern,
    /// `format = "json"`: an object for each request, with a member for each code of the pattern; default `"text"`.
    pub json: bool,
    /// `folder`: absolute; default `log` in `var`. Made when it is not there.
    pub folder: PathBuf,
    /// `file`: the name of the file that is written; default `<host name>.access.log`. Older ones have the time of their
    /// end before the extension.
    pub file: String,
    /// `rotate`: by day, by hour, or never; default by day.
    pub rotate: Rotate,
    /// `rotate_bytes`: a file that would become longer is put aside too, 64 KiB to 1 TiB; 0: never; default 1 GiB.
    pub rotate_bytes: u64,
    /// `keep`: how many files that were put aside stay, 0 to 100000; default 30.
    pub keep: u32,
    /// `use_remote_ip`: addresses, host, port and protocol are those that `remote_ip` found, not the peer's; default false.
    pub use_remote_ip: bool,
    /// `condition_if`: only requests with this attribute are logged.
    pub condition_if: Option<String>,
    /// `condition_unless`: requests with this attribute are not logged.
    pub condition_unless: Option<String>,
}

/// When the next file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotate {
    /// At midnight, local time.
    Day,
    /// At each full hour.
    Hour,
    Never,
}
