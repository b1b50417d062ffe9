//! A folder shown as a list: a page for people, JSON for programs.
//!
//! Off unless a webapp asks for it; the container calls [`Folder::list`] where a folder was found that has no welcome file. What the
//! page looks like is `page`.

mod page;

use std::cmp::Ordering;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response};
use rustix::fs::{Dir, OFlags};
use serde::{Serialize, Serializer};

use crate::accept::prefers_to_html;
use crate::file::HTTP_DATE_SECONDS_MAX;
use crate::folder::{Folder, Found, found_by, is_hidden, visible};
use crate::resolve::is_private;

/// LIMIT: so many entries of a folder are looked at; a page of them has 3 MB.
const ENTRIES_MAX: usize = 10_000;

/// What a request may see of a folder, as it was when it was read.
#[derive(Debug)]
pub struct Listing {
    /// From the root of the webapp; begins and ends with `/`.
    path: String,
    entries: Vec<Entry>,
    /// There are more of them.
    is_cut: bool,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    kind: Kind,
    /// In bytes; none of a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(serialize_with = "as_text")]
    modified: SystemTime,
}

/// Directories come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Directory,
    File,
}

impl Folder {
    /// Returns what is in the directory at `path`, of the form that [`Folder::lookup`] takes. `None`: there is none that may be seen.
    ///
    /// An entry is in the list if `lookup` would find a file or a directory there: hidden names, links that lead outside, devices, and
    /// names that are not UTF-8, which no request can have, are not. Of a directory with more than 10,000 entries so many are looked at.
    ///
    /// Blocks for two system calls an entry, which is up to a tenth of a second: not for an I/O thread.
    ///
    /// # Errors
    ///
    /// The system's; `PermissionDenied` when this process may not read the directory.
    pub fn list(&self, path: &str) -> io::Result<Option<Listing>> {
        self.list_at_most(path, ENTRIES_MAX)
    }

    fn list_at_most(&self, path: &str, entries_max: usize) -> io::Result<Option<Listing>> {
        let Some(relative) = visible(path) else { return Ok(None) };
        let directory = match self.root.open_beneath(relative, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK) {
            Ok(directory) => directory,
            Err(errno) => match found_by(errno) {
                Found::Forbidden | Found::Failed(_) => return Err(errno.into()),
                _ => return Ok(None),
            },
        };
        let below = if relative == "." { String::new() } else { format!("{relative}/") };
        let mut listing = Listing { path: format!("/{below}"), entries: Vec::new(), is_cut: false };
        let mut looked_at = 0;
        for entry in Dir::new(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if is_hidden(name) || (below.is_empty() && is_private(name.as_bytes())) {
                continue;
            }
            if looked_at == entries_max {
                listing.is_cut = true;
                break;
            }
            looked_at += 1;
            listing.entries.extend(self.entry(&below, name));
        }
        Ok(Some(listing))
    }

    /// One that has gone meanwhile, or that cannot be looked at, is not there.
    fn entry(&self, below: &str, name: &str) -> Option<Entry> {
        let metadata = self.root.open_beneath(&format!("{below}{name}"), OFlags::PATH).ok()?.metadata().ok()?;
        let (kind, size) = match metadata.file_type() {
            kind if kind.is_dir() => (Kind::Directory, None),
            kind if kind.is_file() => (Kind::File, Some(metadata.len())),
            _ => return None,
        };
        Some(Entry { name: name.to_owned(), kind, size, modified: metadata.modified().ok()? })
    }
}

impl Listing {
    /// Returns the answer to a GET or HEAD: JSON if the client likes it better, else a page.
    ///
    /// `query` may have `sort=name`, `size` or `time`, and `order=asc` or `desc`; `context_path` is shown before the path. Links are
    /// relative to the request's path, which has to end with the slash of the directory.
    ///
    /// JSON is an array of `{"name", "type": "file" | "directory", "size", "modified"}`, without a size for directories; one of 10,000
    /// may not be all.
    pub fn respond(
        mut self,
        method: &Method,
        query: Option<&str>,
        headers: &HeaderMap,
        context_path: &str,
    ) -> Response<Bytes> {
        let order = Order::read(query.unwrap_or_default());
        self.entries.sort_by(|one, other| order.compare(one, other));
        let mut response = Response::new(Bytes::new());
        let body = if prefers_to_html(headers, &["application/json"]) {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            serde_json::to_string(&self.entries).expect("strings and numbers can be written")
        } else {
            const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            page::write(&self, order, context_path)
        };
        let head = response.headers_mut();
        head.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        head.insert(VARY, HeaderValue::from_static("accept"));
        // Without a validator it is read anew each time; `no-store` would take it from the browser's way back too.
        head.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        head.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if method != Method::HEAD {
            *response.body_mut() = body.into();
        }
        response
    }
}

/// What the list is sorted by; directories stay before files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    by: Column,
    descends: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    Size,
    Time,
}

impl Order {
    /// Takes the first of each, and the default for what it does not know.
    fn read(query: &str) -> Order {
        let value = |name| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let by = match value("sort") {
            Some("size") => Column::Size,
            Some("time") => Column::Time,
            _ => Column::Name,
        };
        Order { by, descends: value("order") == Some("desc") }
    }

    fn compare(self, one: &Entry, other: &Entry) -> Ordering {
        let by_name = || natural(&one.name, &other.name);
        let ordering = match self.by {
            Column::Name => by_name(),
            Column::Size => one.size.cmp(&other.size),
            Column::Time => one.modified.cmp(&other.modified),
        };
        let ordering = if self.descends { ordering.reverse() } else { ordering };
        one.kind.cmp(&other.kind).then(ordering).then_with(by_name)
    }
}

/// Compares as people do: `9.txt` before `10.txt`, and letters without their case.
fn natural(one: &str, other: &str) -> Ordering {
    let (mut ones, mut others) = (one.chars().peekable(), other.chars().peekable());
    loop {
        let (Some(&a), Some(&b)) = (ones.peek(), others.peek()) else {
            let ended = ones.peek().is_some().cmp(&others.peek().is_some());
            return ended.then_with(|| one.cmp(other));
        };
        let ordering = if a.is_ascii_digit() && b.is_ascii_digit() {
            let (a, b) = (number(&mut ones), number(&mut others));
            // Without zeros before them the longer one is the greater one.
            a.len().cmp(&b.len()).then_with(|| a.cmp(&b))
        } else {
            ones.next();
            others.next();
            a.to_lowercase().cmp(b.to_lowercase())
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
}

/// Takes the digits that come next, without the zeros before them.
fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let digits: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).collect();
    digits.trim_start_matches('0').to_owned()
}

/// As RFC 3339 has it, in whole seconds; of a time that it has no year for, the nearest one that it has.
fn text_of(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(HTTP_DATE_SECONDS_MAX);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

fn as_text<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text_of(*time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Options;
    use http::header::ACCEPT;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn folder(temp: &TempDir) -> Folder {
        Folder::open(&temp.path().join("root"), Options::default()).unwrap()
    }

    /// A folder `root` with these files; those that end in a slash are folders.
    fn tree(files: &[&str]) -> TempDir {
        let temp = tempfile::tempdir().unwrap();
        for name in files {
            let path = temp.path().join("root").join(name);
            fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
            if !name.ends_with('/') {
                fs::write(&path, "x".repeat(name.len())).unwrap();
                let modified = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + name.len() as u64);
                fs::File::open(&path).unwrap().set_modified(modified).unwrap();
            }
        }
        temp
    }

    fn headers(accept: &str) -> HeaderMap {
        let accept = (!accept.is_empty()).then(|| (ACCEPT, HeaderValue::from_str(accept).unwrap()));
        accept.into_iter().collect()
    }

    fn answer(folder: &Folder, path: &str, query: &str, accept: &str) -> String {
        let listing = folder.list(path).unwrap().unwrap();
        let response = listing.respond(&Method::GET, Some(query), &headers(accept), "/shop");
        String::from_utf8(response.into_body().into()).unwrap()
    }

    fn names(folder: &Folder, path: &str, query: &str) -> Vec<String> {
        let json: serde_json::Value = serde_json::from_str(&answer(folder, path, query, "application/json")).unwrap();
        json.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn only_what_a_request_may_see() {
        let temp =
            tree(&["a.txt", ".secret", ".well-known/x", "WEB-INF/web.toml", "meta-inf/x", "sub/WEB-INF/x", "sub/.y"]);
        let root = temp.path().join("root");
        fs::write(temp.path().join("outside"), "").unwrap();
        symlink("../outside", root.join("outside")).unwrap();
        symlink("/etc", root.join("etc")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("sub", root.join("link")).unwrap();
        symlink(root.join("a.txt"), root.join("absolute")).unwrap();
        symlink(&root, root.join("self")).unwrap();
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff")), "").unwrap();
        drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
        let folder = folder(&temp);
        assert_eq!(names(&folder, "/", ""), [".well-known", "link", "self", "sub", "a.txt", "absolute"]);
        assert_eq!(names(&folder, "/sub/", ""), ["WEB-INF"]);
        assert_eq!(names(&folder, "/self/", ""), names(&folder, "/", ""));
        for path in ["/nowhere/", "/a.txt", "/a.txt/", "/.secret", "/etc/", "/sub/../", "sub", ""] {
            assert!(folder.list(path).unwrap().is_none(), "{path}");
        }
    }

    #[test]
    fn orders() {
        let temp = tree(&["10.txt", "9.txt", "B", "a", "b2", "b10", "b010x", "z/", "Y/"]);
        let folder = folder(&temp);
        for (query, expected) in [
            ("", "Y z 9.txt 10.txt a B b2 b10 b010x"),
            ("sort=name&order=desc", "z Y b010x b10 b2 B a 10.txt 9.txt"),
            ("sort=size", "Y z a B b2 b10 9.txt b010x 10.txt"),
            ("sort=size&order=desc", "Y z 10.txt 9.txt b010x b10 b2 a B"),
            ("order=desc&sort=what", "z Y b010x b10 b2 B a 10.txt 9.txt"),
            ("sort&=&%zz&sortx=size", "Y z 9.txt 10.txt a B b2 b10 b010x"),
        ] {
            assert_eq!(names(&folder, "/", query).join(" "), expected, "{query}");
        }
        let by_time = names(&folder, "/", "sort=time&order=desc");
        assert_eq!(by_time[2..].join(" "), "10.txt 9.txt b010x b10 b2 a B");
    }

    #[test]
    fn names_are_only_names() {
        let odd = ["a b", "\"><script>alert(1)<", "javascript:x", "a%2fb", "?x#y", "a\nb", "ü&amp;'"];
        let temp = tree(&odd);
        let page = answer(&folder(&temp), "/", "", "");
        for (link, text) in [
            ("./a%20b", "a b"),
            ("./%22%3E%3Cscript%3Ealert%281%29%3C", "&quot;&gt;&lt;script&gt;alert(1)&lt;"),
            ("./javascript%3Ax", "javascript:x"),
            ("./a%252fb", "a%2fb"),
            ("./%3Fx%23y", "?x#y"),
            ("./a%0Ab", "a\nb"),
            ("./%C3%BC%26amp%3B%27", "ü&amp;amp;&#39;"),
        ] {
            assert!(page.contains(&format!("<a href=\"{link}\">")), "{link}\n{page}");
            assert!(page.contains(&format!("<bdi>{text}</bdi>")), "{text}\n{page}");
        }
        assert!(!page.contains("<script"));
    }

    #[test]
    fn a_page_shows_the_way_and_what_is_there() {
        let temp = tree(&["docs/old & new/a.txt", "docs/old & new/deep/"]);
        let folder = folder(&temp);
        let page = answer(&folder, "/docs/old & new/", "", "text/html");
        for part in [
            "<title>/shop/docs/old &amp; new/</title>",
            "<li><a href=\"../../\"><bdi>shop</bdi></a></li><li><a href=\"../\"><bdi>docs</bdi></a></li>\
             <li aria-current=\"page\"><bdi>old &amp; new</bdi></li>",
            "<p>1 folder, 1 file, 20 B</p>",
            "<a href=\"../\"><svg aria-hidden=\"true\"><use href=\"#d\"/></svg><span>Parent folder</span></a>",
            "<a href=\"./deep/\">",
            "<td class=\"size\" title=\"20 bytes\">20 B</td>",
            "<time datetime=\"2023-11-14T22:13:40Z\" title=\"2023-11-14T22:13:40Z\">2023-11-14<span class=\"clock\"> 22:13</span>",
            "class=\"name\" aria-sort=\"ascending\"><a href=\"?sort=name&amp;order=desc\">Name</a>",
            "class=\"size\"><a href=\"?sort=size&amp;order=asc\">Size</a>",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!answer(&folder, "/", "", "").contains("Parent folder"));
        assert!(answer(&folder, "/docs/old & new/deep/", "", "").contains("<p>Nothing is here.</p>"));
    }

    #[test]
    fn json_for_programs() {
        let temp = tree(&["\"quoted\".txt", "sub/"]);
        let sub = fs::File::open(temp.path().join("root/sub")).unwrap();
        sub.set_modified(UNIX_EPOCH - Duration::from_secs(1)).unwrap();
        let expected = concat!(
            r#"[{"name":"sub","type":"directory","modified":"1970-01-01T00:00:00Z"},"#,
            r#"{"name":"\"quoted\".txt","type":"file","size":12,"modified":"2023-11-14T22:13:32Z"}]"#
        );
        assert_eq!(answer(&folder(&temp), "/", "", "application/json"), expected);
    }

    #[test]
    fn json_is_sent_to_those_who_like_it_better() {
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("application/json", true),
            ("Application/JSON; Q=0.5", true),
            ("application/json, text/plain, */*", true),
            ("application/*", true),
            ("application/json;q=0.5, text/html", false),
            ("text/html;q=0.5, application/json;version=1;q=0.6", true),
            ("application/json, text/html", false),
            ("application/json;q=0", false),
            ("application/json;q=0, */*", false),
            ("text/html;q=0, */*;q=0.1", true),
            ("image/png", false),
            (",;,q=,/,*", false),
        ] {
            assert_eq!(prefers_to_html(&headers(accept), &["application/json"]), expected, "{accept}");
        }
    }

    #[test]
    fn heads_are_those_of_the_bodies() {
        let temp = tree(&["a"]);
        for (accept, content_type) in [("", "text/html; charset=utf-8"), ("application/json", "application/json")] {
            let list = || folder(&temp).list("/").unwrap().unwrap();
            let get = list().respond(&Method::GET, None, &headers(accept), "");
            let head = list().respond(&Method::HEAD, None, &headers(accept), "");
            assert_eq!(get.headers(), head.headers());
            assert_eq!(get.headers()[CONTENT_TYPE], content_type);
            assert_eq!(get.headers()[VARY], "accept");
            assert_eq!(get.headers()[CONTENT_LENGTH], get.body().len().to_string().as_str());
            assert!(head.body().is_empty());
        }
    }

    #[test]
    fn a_large_folder_is_shown_in_part() {
        let temp = tree(&["a", "b", "c", ".hidden"]);
        let list = |max| folder(&temp).list_at_most("/", max).unwrap().unwrap();
        assert_eq!((list(3).entries.len(), list(3).is_cut), (3, false));
        assert_eq!((list(2).entries.len(), list(2).is_cut), (2, true));
        let page = list(2).respond(&Method::GET, None, &HeaderMap::new(), "").into_body();
        let said = "2 files, 2 B. There are more: only so many are shown.";
        assert!(String::from_utf8_lossy(&page).contains(said));
    }
}
