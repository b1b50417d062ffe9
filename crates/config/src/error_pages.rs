//! `[[error_page]]` and `[error_report]` of web.toml, and `[[host.error_page]]` of server.toml.

use std::path::{Path, PathBuf};

use crate::raw::Table;

/// Bytes of a file of `[[host.error_page]]`, 1 MiB at most: it is held in memory.
pub const ERROR_FILE_BYTES_MAX: u64 = 1 << 20;

/// Holds one `[[error_page]]`: who makes the page for some errors of a webapp (Servlet 10.9.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebErrorPage {
    /// For which errors; no two pages have one.
    pub of: ErrorsOf,
    /// A path of the context, which begins with `/`: a servlet's, or a file's. It may have a query.
    pub location: String,
}

/// Errors that have one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorsOf {
    /// Those of a status, 400 to 599.
    Status(u16),
    /// Failures of a kind, such as `io`, and of all kinds below it, such as `io/not-found`.
    Kind(String),
    /// All that no other page is for.
    Rest,
}

/// Holds one `[[host.error_page]]`: a file for errors that no webapp has a page for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostErrorPage {
    /// 400 to 599; None: all that no other file is for. No two pages have one.
    pub status: Option<u16>,
    /// Absolute; when it was read in the configuration it was there, and not longer than [`ERROR_FILE_BYTES_MAX`].
    pub file: PathBuf,
}

/// Returns the pages in the order of the file.
pub(crate) fn error_pages(top: &Table<'_, '_>) -> Vec<WebErrorPage> {
    let mut pages: Vec<WebErrorPage> = Vec::new();
    for table in top.tables("error_page").unwrap_or_default() {
        let (status, kind, location) = (status(&table), kind(&table), location(&table));
        table.finish();
        let of = match (status, kind) {
            (Some(_), Some(_)) => {
                let what = "[[error_page]] has both `status` and `kind`";
                let instead = "write two [[error_page]], one for each: an error is looked up by its kind first";
                table.document.problem(table.place_of("kind"), what, instead);
                continue;
            }
            (Some(status), None) => ErrorsOf::Status(status),
            (None, Some(kind)) => ErrorsOf::Kind(kind),
            // One that has been noted as wrong is not left out.
            (None, None) if table.place_of("status").or(table.place_of("kind")).is_some() => continue,
            (None, None) => ErrorsOf::Rest,
        };
        let Some(location) = location else { continue };
        if pages.iter().any(|other| other.of == of) {
            let (at, shown) = match &of {
                ErrorsOf::Status(status) => (table.place_of("status"), format!("for {status}")),
                ErrorsOf::Kind(_) => {
                    (table.place_of("kind"), format!("for the kind {}", table.written("kind").unwrap_or_default()))
                }
                ErrorsOf::Rest => (table.at, "without `status` and `kind`".to_owned()),
            };
            table.document.problem(at, format!("a second [[error_page]] {shown}"), "remove one of the two");
        }
        pages.push(WebErrorPage { of, location });
    }
    pages
}

/// Returns `reason` of `[error_report]`, if it is there.
pub(crate) fn error_report(top: &Table<'_, '_>) -> Option<bool> {
    let table = top.table("error_report")?;
    let reason = table.given("reason", |key| table.flag(key, false));
    table.finish();
    reason
}

/// Returns the pages of a host, in the order of the file; relative files lie in `home`.
pub(crate) fn host_error_pages(host: &Table<'_, '_>, home: &Path) -> Vec<HostErrorPage> {
    let mut pages: Vec<HostErrorPage> = Vec::new();
    for table in host.tables("error_page").unwrap_or_default() {
        let (status, file) = (status(&table), file(&table, home));
        table.finish();
        let Some(file) = file.filter(|_| status.is_some() || table.place_of("status").is_none()) else { continue };
        if pages.iter().any(|other| other.status == status) {
            let shown = status.map_or("without `status`".to_owned(), |status| format!("for {status}"));
            let at = table.place_of("status").or(table.at);
            table.document.problem(at, format!("a second [[host.error_page]] {shown}"), "remove one of the two");
        }
        pages.push(HostErrorPage { status, file });
    }
    pages
}

/// None too for one that has been noted as wrong.
fn status(table: &Table<'_, '_>) -> Option<u16> {
    const NONE: u64 = 0;
    let status = table.count_or("status", 404, NONE, 400..=599);
    (status != NONE).then_some(status as u16)
}

fn kind(table: &Table<'_, '_>) -> Option<String> {
    let instead = "write words with `/` between them, as in `kind = \"io/not-found\"`";
    let is_kind = |kind: &str| !kind.split('/').any(str::is_empty);
    table.checked("kind", "\"io/not-found\"", is_kind, ("is not the kind of an error", instead))
}

fn location(table: &Table<'_, '_>) -> Option<String> {
    let example = "\"/errors/404.html\"";
    if table.place_of("location").is_none() {
        let instead = format!("write a path of the webapp, as in `location = {example}`");
        table.document.problem(table.at, "[[error_page]] has no `location`", instead);
    }
    let instead = "write it from the webapp's root on, as in `location = \"/errors/404.html\"`";
    table.checked("location", example, |path| path.starts_with('/'), ("does not begin with `/`", instead))
}

fn file(table: &Table<'_, '_>, home: &Path) -> Option<PathBuf> {
    let example = "\"conf/404.html\"";
    if table.place_of("file").is_none() {
        let instead = format!("write the name of a file, as in `file = {example}`");
        table.document.problem(table.at, "[[host.error_page]] has no `file`", instead);
    }
    let text = table.text("file", "a string", example)?;
    let path = home.join(&text.value);
    table.document.depends_on(&path);
    let problem = match path.metadata() {
        Ok(found) if !found.is_file() => ("is not a file", "name a file"),
        Ok(found) if found.len() > ERROR_FILE_BYTES_MAX => ("is larger than 1MiB", "name a smaller one"),
        Ok(_) => return Some(path),
        Err(_) => {
            ("is not there, or cannot be read", "create it, or name another one; a relative path lies in the home")
        }
    };
    table.wrong(&text, "file", problem.0, problem.1);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{self as server, good};
    use crate::web::tests::{check, load};

    #[test]
    fn everything_set() {
        let web = load(
            r#"
            [[error_page]]
            status = 404
            location = "/404.html"
            [[error_page]]
            kind = "io/not-found"
            location = "/failed?why=io"
            [[error_page]]
            location = "/failed"
            [error_report]
            reason = true
            "#,
        )
        .unwrap();
        let page = |of, location: &str| WebErrorPage { of, location: location.to_owned() };
        let expected = [
            page(ErrorsOf::Status(404), "/404.html"),
            page(ErrorsOf::Kind("io/not-found".to_owned()), "/failed?why=io"),
            page(ErrorsOf::Rest, "/failed"),
        ];
        assert_eq!(web.error_pages, expected);
        assert_eq!(web.error_reason, Some(true));
    }

    #[test]
    fn problems() {
        check(
            r#"
[[error_page]]
status = 404
kind = "io"
location = "/a"
[[error_page]]
status = 200
location = "/a"
[[error_page]]
status = "404"
location = "a.html"
[[error_page]]
kind = "/io"
location = "/a"
[[error_page]]
kind = ""
[[error_page]]
status = 404
location = "/a"
[[error_page]]
status = 404
location = "/b"
[[error_page]]
kind = "io"
location = "/a"
[[error_page]]
kind = "io"
location = "/b"
[[error_page]]
location = "/a"
[[error_page]]
location = "/b"
code = 3
[error_report]
reason = "yes"
show = true
----
web.toml:4:8: [[error_page]] has both `status` and `kind`; write two [[error_page]], one for each: an error is looked up by its kind first
web.toml:7:10: `status` in [[error_page]]: `200` is out of bounds; write 400 to 599, as in `status = 404`
web.toml:10:10: `status` in [[error_page]]: `404` is not a whole number; write for example `status = 404`
web.toml:11:12: `location` in [[error_page]]: `a.html` does not begin with `/`; write it from the webapp's root on, as in `location = "/errors/404.html"`
web.toml:13:8: `kind` in [[error_page]]: `/io` is not the kind of an error; write words with `/` between them, as in `kind = "io/not-found"`
web.toml:15:1: [[error_page]] has no `location`; write a path of the webapp, as in `location = "/errors/404.html"`
web.toml:16:8: `kind` in [[error_page]]: `""` is not the kind of an error; write words with `/` between them, as in `kind = "io/not-found"`
web.toml:21:10: a second [[error_page]] for 404; remove one of the two
web.toml:27:8: a second [[error_page]] for the kind `io`; remove one of the two
web.toml:31:1: a second [[error_page]] without `status` and `kind`; remove one of the two
web.toml:33:1: unknown key `code` in [[error_page]]; its keys are `status`, `kind`, `location`
web.toml:35:10: `reason` in [error_report] is the string `yes`, but true or false is needed; write for example `reason = false`
web.toml:36:1: unknown key `show` in [error_report]; its keys are `reason`
"#,
        );
    }

    #[test]
    fn pages_of_a_host() {
        let pages = good(
            "[[host]]\n[[host.error_page]]\nstatus = 404\nfile = \"conf/404.html\"\n[[host.error_page]]\nfile = \"file\"",
        );
        let page = |status, file: &str| HostErrorPage { status, file: PathBuf::from("HOME").join(file) };
        assert_eq!(pages.hosts[0].error_pages, [page(Some(404), "conf/404.html"), page(None, "file")]);
        server::check(
            r#"
[[host]]
[[host.error_page]]
status = 302
file = "conf/404.html"
[[host.error_page]]
status = 404
[[host.error_page]]
file = "conf"
[[host.error_page]]
file = "none"
[[host.error_page]]
file = "file"
[[host.error_page]]
file = "file"
kind = "io"
----
server.toml:4:10: `status` in [[host.error_page]]: `302` is out of bounds; write 400 to 599, as in `status = 404`
server.toml:6:1: [[host.error_page]] has no `file`; write the name of a file, as in `file = "conf/404.html"`
server.toml:9:8: `file` in [[host.error_page]]: `conf` is not a file; name a file
server.toml:11:8: `file` in [[host.error_page]]: `none` is not there, or cannot be read; create it, or name another one; a relative path lies in the home
server.toml:14:1: a second [[host.error_page]] without `status`; remove one of the two
server.toml:16:1: unknown key `kind` in [[host.error_page]]; its keys are `status`, `file`
"#,
        );
    }
}
