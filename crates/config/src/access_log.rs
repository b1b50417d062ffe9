//! `[access_log]` and `[host.access_log]`: a line for each request (SEMANTICS 21).

use std::path::{Path, PathBuf};

use crate::log_pattern::LogPattern;
use crate::raw::Table;
use crate::server::folder;

/// Holds where the requests of a host are logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// `pattern`: `"combined"` (the default), `"common"`, or Tomcat's codes.
    pub pattern: LogPattern,
    /// The same as it is written.
    pub pattern_text: String,
    /// `format = "json"`: an object for each request, with a member for each code of the pattern; default `"text"`.
    pub json: bool,
    /// `folder`: absolute; default `log` in `var`. Made when it is not there.
    pub folder: PathBuf,
    /// `file`: the name of the file that is written; default `<host name>.access.log`. Older ones have the time of their
    /// end before the extension. Where a link leads, as `/dev/stdout` does, nothing is put aside.
    pub file: String,
    /// `rotate`: by day, by hour, or never; default by day.
    pub rotate: Rotate,
    /// `rotate_bytes`: a file that would become longer is put aside too, 64 KiB to 1 TiB; 0: never; default 1 GiB.
    pub rotate_bytes: u64,
    /// `keep`: how many files that were put aside stay, 0 to 100000; default 30.
    pub keep: u32,
    /// `use_remote_ip`: addresses, host, port and protocol are those that `remote_ip` found, not the peer's; default false.
    pub use_remote_ip: bool,
    /// `condition_if`: only requests with this attribute are logged; None (`""` in the file): all.
    pub condition_if: Option<String>,
    /// `condition_unless`: requests with this attribute are not logged; None (`""` in the file): all are.
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

/// LIMIT: bytes of a file's name. The system takes 255, and a file that is put aside has its time in the name too.
const FILE_NAME_BYTES_MAX: usize = 200;

/// The default pattern.
const COMBINED: &str = "combined";

/// Holds what `[access_log]` says, or that and `[host.access_log]` over it.
#[derive(Debug, Clone)]
pub(crate) struct AccessLogKeys {
    enabled: bool,
    /// None: named after the host.
    file: Option<String>,
    /// But for its file.
    log: AccessLog,
}

impl AccessLogKeys {
    pub(crate) fn new(var: &Path) -> AccessLogKeys {
        let log = AccessLog {
            pattern: LogPattern::parse(COMBINED).expect("a pattern's own name"),
            pattern_text: COMBINED.to_owned(),
            json: false,
            folder: var.join("log"),
            file: String::new(),
            rotate: Rotate::Day,
            rotate_bytes: 1 << 30,
            keep: 30,
            use_remote_ip: false,
            condition_if: None,
            condition_unless: None,
        };
        AccessLogKeys { enabled: true, file: None, log }
    }

    /// Reads the keys of a table; those that are not there are as in `self`.
    pub(crate) fn read(&self, table: &Table<'_, '_>, home: &Path) -> AccessLogKeys {
        const ROTATE: [(&str, Rotate); 3] = [("day", Rotate::Day), ("hour", Rotate::Hour), ("never", Rotate::Never)];
        const FORMAT: [(&str, bool); 2] = [("text", false), ("json", true)];
        let d = &self.log;
        let condition = |key: &'static str, default: &Option<String>| match table.text(key, "a string", "\"quiet\"") {
            Some(text) => Some(text.value).filter(|name| !name.is_empty()),
            None => default.clone(),
        };
        let (pattern, pattern_text) = pattern(table).unwrap_or_else(|| (d.pattern.clone(), d.pattern_text.clone()));
        AccessLogKeys {
            enabled: table.flag("enabled", self.enabled),
            log: AccessLog {
                pattern,
                pattern_text,
                json: table.given("format", |key| table.choice(key, &FORMAT)).unwrap_or(d.json),
                folder: folder(table, ("folder", "var/log"), home).unwrap_or_else(|| d.folder.clone()),
                file: String::new(),
                rotate: table.given("rotate", |key| table.choice(key, &ROTATE)).unwrap_or(d.rotate),
                rotate_bytes: table.bytes_or_zero("rotate_bytes", d.rotate_bytes, 64 << 10..=1 << 40),
                keep: table.count("keep", u64::from(d.keep), 0..=100_000) as u32,
                use_remote_ip: table.flag("use_remote_ip", d.use_remote_ip),
                condition_if: condition("condition_if", &d.condition_if),
                condition_unless: condition("condition_unless", &d.condition_unless),
            },
            file: file(table).or_else(|| self.file.clone()),
        }
    }

    /// Returns the log of a host; None if it has none.
    pub(crate) fn of_host(self, name: &str) -> Option<AccessLog> {
        let file = self.file.unwrap_or_else(|| format!("{name}.access.log"));
        self.enabled.then_some(AccessLog { file, ..self.log })
    }
}

fn pattern(table: &Table<'_, '_>) -> Option<(LogPattern, String)> {
    let text = table.text("pattern", "a string", "\"combined\"")?;
    match LogPattern::parse(&text.value) {
        Ok(pattern) => Some((pattern, text.value)),
        Err(instead) => {
            table.wrong(&text, "pattern", "is not the pattern of an access log", text.advice(instead));
            None
        }
    }
}

fn file(table: &Table<'_, '_>) -> Option<String> {
    let is_good = |name: &str| {
        let plain = !name.contains('/') && !name.contains(char::is_control) && !matches!(name, "" | "." | "..");
        plain && name.len() <= FILE_NAME_BYTES_MAX
    };
    let instead = "write a name of up to 200 bytes without `/`, as in `file = \"access.log\"`; its folder is `folder`";
    table.checked("file", "\"access.log\"", is_good, ("is not the name of a file", instead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{check, good};

    fn log(toml: &str) -> Option<AccessLog> {
        good(toml).hosts.remove(0).access_log
    }

    fn named(file: &str) -> AccessLog {
        let default = AccessLogKeys::new(Path::new("HOME/var")).of_host("localhost").unwrap();
        AccessLog { file: file.to_owned(), ..default }
    }

    #[test]
    fn its_presence_switches_it_on() {
        assert_eq!(log(""), None);
        assert_eq!(log("[[host]]"), None);
        assert_eq!(log("[access_log]"), Some(named("localhost.access.log")));
        assert_eq!(log("[access_log]\n[[host]]\nname = \"a\""), Some(named("a.access.log")));
        assert_eq!(log("[[host]]\nname = \"[::1]\"\n[host.access_log]"), Some(named("[::1].access.log")));
        assert_eq!(log("[access_log]\nenabled = false"), None);
        assert_eq!(log("[access_log]\n[[host]]\n[host.access_log]\nenabled = false"), None);
        let on = "[access_log]\nenabled = false\nfile = \"x\"\n[[host]]\n[host.access_log]\nenabled = true";
        assert_eq!(log(on), Some(named("x")));
        let server = good("[[host]]\n[host.access_log]\n[[host]]\nname = \"other\"");
        assert_eq!((server.hosts[0].access_log.is_some(), server.hosts[1].access_log.is_some()), (true, false));
    }

    #[test]
    fn everything_set() {
        let all = r#"
            pattern = "%h %s"
            format = "json"
            folder = "logs"
            file = "requests.json"
            rotate = "hour"
            rotate_bytes = "64KiB"
            keep = 0
            use_remote_ip = true
            condition_if = "seen"
            condition_unless = "quiet"
            "#;
        let expected = AccessLog {
            pattern: LogPattern::parse("%h %s").unwrap(),
            pattern_text: "%h %s".into(),
            json: true,
            folder: "HOME/logs".into(),
            file: "requests.json".into(),
            rotate: Rotate::Hour,
            rotate_bytes: 64 << 10,
            keep: 0,
            use_remote_ip: true,
            condition_if: Some("seen".into()),
            condition_unless: Some("quiet".into()),
        };
        assert_eq!(log(&format!("[access_log]{all}")).as_ref(), Some(&expected));
        assert_eq!(log(&format!("[[host]]\n[host.access_log]{all}")).as_ref(), Some(&expected));
        assert_eq!(log(&format!("[access_log]{all}[[host]]\n[host.access_log]")).as_ref(), Some(&expected));
        let over = r#"[[host]]
            [host.access_log]
            pattern = "common"
            format = "text"
            rotate = "never"
            rotate_bytes = 0
            condition_if = ""
            "#;
        let expected = AccessLog {
            pattern: LogPattern::parse("common").unwrap(),
            pattern_text: "common".into(),
            json: false,
            rotate: Rotate::Never,
            rotate_bytes: 0,
            condition_if: None,
            ..expected
        };
        assert_eq!(log(&format!("[access_log]{all}{over}")), Some(expected));
        let var = "[server]\nvar = \"state\"\n[access_log]";
        assert_eq!(log(var).unwrap().folder, Path::new("HOME/state/log"));
    }

    #[test]
    fn problems() {
        check(
            r#"
access_log = true
----
server.toml:2:14: `access_log` is a boolean, but a table is needed; write [access_log], and its keys below it
"#,
        );
        check(
            r#"
[access_log]
enabled = "no"
pattern = 3
format = "jsn"
folder = "file"
file = "logs/access.log"
rotate = "daily"
rotate_bytes = "63KiB"
keep = 100001
use_remote_ip = 1
condition_if = ["a"]
condition_unles = "a"
[[host]]
[host.access_log]
folder = ""
file = ".."
rotate = "week"
rotate_bytes = "2TiB"
[[host]]
name = "b"
access_log = "b.log"
[[host]]
name = "c"
[host.access_log]
file = ""
[[host]]
name = "d"
[host.access_log]
file = "a\nb"
----
server.toml:3:11: `enabled` in [access_log] is the string `no`, but true or false is needed; write for example `enabled = true`
server.toml:4:11: `pattern` in [access_log] is the number `3`, but a string is needed; write for example `pattern = "combined"`
server.toml:5:10: `format` in [access_log]: `jsn` is not known; did you mean `json`?
server.toml:6:10: `folder` in [access_log]: `file` is a file, but a folder is needed; name another one
server.toml:7:8: `file` in [access_log]: `logs/access.log` is not the name of a file; write a name of up to 200 bytes without `/`, as in `file = "access.log"`; its folder is `folder`
server.toml:8:10: `rotate` in [access_log]: `daily` is not known; write one of `day`, `hour`, `never`
server.toml:9:16: `rotate_bytes` in [access_log]: `63KiB` is out of bounds; write 0, or 64KiB to 1TiB, as in `rotate_bytes = "1GiB"`
server.toml:10:8: `keep` in [access_log]: `100001` is out of bounds; write 0 to 100000, as in `keep = 30`
server.toml:11:17: `use_remote_ip` in [access_log] is the number `1`, but true or false is needed; write for example `use_remote_ip = false`
server.toml:12:16: `condition_if` in [access_log] is a list, but a string is needed; write for example `condition_if = "quiet"`
server.toml:13:1: unknown key `condition_unles` in [access_log]; did you mean `condition_unless`?
server.toml:16:10: `folder` in [host.access_log]: `""` is not a folder; write its path, as in `folder = "var/log"`
server.toml:17:8: `file` in [host.access_log]: `..` is not the name of a file; write a name of up to 200 bytes without `/`, as in `file = "access.log"`; its folder is `folder`
server.toml:18:10: `rotate` in [host.access_log]: `week` is not known; write one of `day`, `hour`, `never`
server.toml:19:16: `rotate_bytes` in [host.access_log]: `2TiB` is out of bounds; write 0, or 64KiB to 1TiB, as in `rotate_bytes = "1GiB"`
server.toml:22:14: `access_log` in [[host]] is a string, but a table is needed; write [host.access_log], and its keys below it
server.toml:26:8: `file` in [host.access_log]: `""` is not the name of a file; write a name of up to 200 bytes without `/`, as in `file = "access.log"`; its folder is `folder`
server.toml:30:8: `file` in [host.access_log]: `a\nb` is not the name of a file; write a name of up to 200 bytes without `/`, as in `file = "access.log"`; its folder is `folder`
"#,
        );
    }

    #[test]
    fn patterns_with_dates_that_mean_nothing() {
        check(
            r#"
[access_log]
pattern = "%h %{ww}t"
----
server.toml:3:11: `pattern` in [access_log]: `%h %{ww}t` is not the pattern of an access log; the date pattern counts weeks (`w`), which differ by country: write days
"#,
        );
    }

    #[test]
    fn a_file_has_one_writer() {
        check(
            r#"
[access_log]
file = "access.log"
[[host]]
name = "a"
[[host]]
name = "b"
[[host]]
name = "c"
[host.access_log]
file = "c.log"
[[host]]
name = "d"
[host.access_log]
enabled = false
----
server.toml:6:1: the hosts `a` and `b` have one access log; give each a `file` of its own in [host.access_log], or leave `file` out
"#,
        );
    }
}
