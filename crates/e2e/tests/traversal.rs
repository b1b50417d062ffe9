//! No spelling of a path reaches what is not to be served: what lies outside of a webapp's folder, in its WEB-INF or META-INF, in
//! dot files, or behind links that lead there.
//!
//! Thousands of spellings are made from the ways that separators, dot segments and names have been written to get past servers. Each
//! is sent to several mounts and to listeners of every leniency, over connections that stay open. None may bring the marker that
//! stands in all that is hidden, or change a file that is not to be written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

const SHORT: Duration = Duration::from_secs(60);
/// In no name: what an answer repeats of its request is no leak.
const MARKER: &str = "marker-of-what-is-hidden";

/// Behind the one that each home has, with Serval's defaults.
const LISTENERS: &str = r#"
[[listener]]
address = "127.0.0.1:0"
allow_suspicious_uris = true

[[listener]]
address = "127.0.0.1:0"
encoded_slash = "decode"
encoded_backslash = "decode"

[[listener]]
address = "127.0.0.1:0"
allow_suspicious_uris = true
encoded_slash = "decode"
encoded_backslash = "decode"
allow_backslash = true
relaxed_path_chars = "\"[\\]^{|}"

[[listener]]
address = "127.0.0.1:0"
allow_suspicious_uris = true
encoded_slash = "passthrough"
encoded_backslash = "passthrough"
allow_backslash = true
"#;
const DEFAULT: usize = 0;
const SUSPICIOUS: usize = 1;
const DECODES: usize = 2;
const TAKES_ALL: usize = 3;
const PASSES: usize = 4;

/// Mounts: the root, an application, a servlet of class `default` under a path, and one under an extension.
const WEB_TOML: &str = r#"
[[servlet]]
name = "again"
class = "default"
url_patterns = ["/static/*", "*.txt"]

[files]
listings = true
precompressed = ["gzip"]
"#;
const MOUNTS: [&str; 4] = ["/", "/app/", "/static/", "/app/sub/"];

/// What is hidden, from the folder of a webapp; `..` is written in all ways that a dot segment is, and so is each name.
const HIDDEN: [&str; 15] = [
    "WEB-INF/hidden.txt",
    "META-INF/hidden.txt",
    "web-inf/hidden.txt",
    ".hidden",
    ".git/hidden.txt",
    "sub/../WEB-INF/hidden.txt",
    "../../outside/hidden.txt",
    "../../../outside/hidden.txt",
    "../app/WEB-INF/hidden.txt",
    "out/hidden.txt",
    "out-file.txt",
    "inside-out/hidden.txt",
    "parent/app/WEB-INF/hidden.txt",
    "self/WEB-INF/hidden.txt",
    "sub/private/hidden.txt",
];

const SEPARATORS: [&[u8]; 18] = [
    b"/",
    b"//",
    b"\\",
    b"/\\",
    b"%2f",
    b"%5c",
    b"%252f",
    b"/./",
    b"/%2e/",
    b"/;/",
    b"/;x=y/",
    b"/%3b/",
    b"/x/../",
    b"/x/%2e%2e/",
    b"%c0%af",
    b"%ef%bc%8f",      // U+FF0F, a fullwidth slash
    b"%u2215",         // U+2215, as some servers have decoded it
    b"/\xe2\x80\x8b/", // U+200B, not encoded
];

const DOT_DOT: [&[u8]; 14] = [
    b"..",
    b"%2e%2e",
    b".%2e",
    b"..;",
    b"..;x=y",
    b"%2e%2e;",
    b".;x/..",
    b"%252e%252e",
    b"..%00",
    b"..%20",
    b"...",
    b"%c0%ae%c0%ae",
    b"%ef%bc%8e%ef%bc%8e", // U+FF0E, a fullwidth full stop
    b"%e2%80%a5",          // U+2025, which is compatible with two dots
];

/// What follows a path, or a name in it.
const TAILS: [&[u8]; 20] = [
    b"/",
    b"//",
    b"/.",
    b"/..",
    b"%2f",
    b"%5c",
    b".",
    b"..",
    b"%20",
    b"+",
    b"%00",
    b"%00.html",
    b"%0d%0a",
    b";",
    b";x.html",
    b"~",
    b"::$DATA",
    b".gz",
    b"?x=/../",
    b"#x",
];

#[test]
fn no_spelling_reaches_what_is_hidden() {
    let home = home();
    let serval = Serval::start(&home).unwrap();
    what_is_allowed_is_served(&serval);
    let spellings = spellings(&MOUNTS);
    assert!(spellings.len() > 5_000, "{} spellings", spellings.len());
    thread::scope(|scope| {
        for &address in serval.addresses() {
            let spellings = &spellings;
            scope.spawn(move || ask_all(address, b"GET", spellings));
        }
    });
    assert!(serval.stop().unwrap().success());
}

#[test]
fn no_spelling_changes_what_is_hidden() {
    let home = home();
    home.write("webapps/open/WEB-INF/web.toml", format!("{WEB_TOML}writable = true\n")).unwrap();
    let before = files(&home);
    let serval = Serval::start(&home).unwrap();
    // The control: what may be written is.
    for (method, status) in [(b"PUT".as_slice(), 201), (b"PUT", 204), (b"DELETE", 204), (b"DELETE", 404)] {
        let mut connection = Connection::open(serval.address(), SHORT).unwrap();
        assert_eq!(ask(&mut connection, method, b"/open/new.txt").unwrap().status, status);
    }
    let spellings = spellings(&["/open/"]);
    for method in ["PUT", "DELETE"] {
        thread::scope(|scope| {
            for &address in serval.addresses() {
                let spellings = &spellings;
                scope.spawn(move || ask_all(address, method.as_bytes(), spellings));
            }
        });
    }
    assert!(serval.stop().unwrap().success());
    let after = files(&home);
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
    let hidden = |path: &str| match path.strip_prefix("webapps/open/") {
        Some(path) => path.split('/').any(|name| name.starts_with('.')) || first_is_protected(path),
        None => true,
    };
    assert!(!changed.iter().any(|path| hidden(path)), "{changed:?}");
}

/// The control: without it, a server that refuses everything would pass.
fn what_is_allowed_is_served(serval: &Serval) {
    for (listener, target, expected) in [
        (DEFAULT, "/page.txt", Ok("a page")),
        (DEFAULT, "/sub/../page.txt", Ok("a page")),
        (DEFAULT, "/app//sub/./page.txt", Ok("a page")),
        (DEFAULT, "/static/page.txt", Ok("a page")),
        (DEFAULT, "/inside/page.txt", Ok("a page")),
        (DEFAULT, "/sub/WEB-INF/page.txt", Ok("a page")),
        (DEFAULT, "/sub/%2e%2e/page.txt", Err(400)),
        (DEFAULT, "/sub%2fpage.txt", Err(400)),
        (DEFAULT, "/WEB-INF/hidden.txt", Err(404)),
        (SUSPICIOUS, "/sub/%2e%2e/page.txt", Ok("a page")),
        (SUSPICIOUS, "/sub/..;/;x/page.txt", Ok("a page")),
        (SUSPICIOUS, "/sub%2fpage.txt", Err(400)),
        (DECODES, "/sub%2fpage.txt", Ok("a page")),
        (DECODES, "/x%2f..%2fpage.txt", Ok("a page")),
        (DECODES, "/sub%5cpage.txt", Err(400)),
        (TAKES_ALL, "/sub%2fpage.txt", Ok("a page")),
        (TAKES_ALL, "/sub%5cpage.txt", Ok("a page")),
        (TAKES_ALL, "/sub\\page.txt", Ok("a page")),
        (TAKES_ALL, "/static/..\\%2e.\\page.txt", Err(400)),
        (TAKES_ALL, "/static/x\\%2e.%5cpage.txt", Ok("a page")),
        (PASSES, "/sub%2fpage.txt", Err(404)),
        (PASSES, "/sub%5cpage.txt", Err(404)),
    ] {
        let mut connection = Connection::open(serval.addresses()[listener], SHORT).unwrap();
        let answer = ask(&mut connection, b"GET", target.as_bytes()).unwrap();
        let found = if answer.status == 200 { Ok(str::from_utf8(&answer.body).unwrap()) } else { Err(answer.status) };
        assert_eq!(found, expected, "listener {listener}: {target}");
    }
}

/// Sends all of them over one connection after the other: one that the server closes is followed by the next.
fn ask_all(address: SocketAddr, method: &[u8], spellings: &BTreeSet<Vec<u8>>) {
    let mut connection = Connection::open(address, SHORT).unwrap();
    for target in spellings {
        if connection.is_over() {
            connection = Connection::open(address, SHORT).unwrap();
        }
        let shown = || format!("{address}: {} {}", method.escape_ascii(), target.escape_ascii());
        let answer = ask(&mut connection, method, target).unwrap_or_else(|error| panic!("{}: {error}", shown()));
        let [head, body] = [&answer.head, &answer.body].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(answer.status < 500, "{}: {head}", shown());
        assert!(!head.contains(MARKER) && !body.contains(MARKER), "{}: {head}{body}", shown());
    }
}

fn ask(connection: &mut Connection, method: &[u8], target: &[u8]) -> io::Result<Response> {
    let mut request = [method, b" ", target, b" HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n"].concat();
    request.extend_from_slice(if method == b"PUT" { b"Content-Length: 1\r\n\r\nx" } else { b"\r\n" });
    connection.send(&request)?;
    connection.read_response()
}

/// Every target: each way to write its dots with each way to write its separators, its first name between the plainest of these, and
/// what may follow.
fn spellings(mounts: &[&str]) -> BTreeSet<Vec<u8>> {
    let mut spellings = BTreeSet::new();
    for mount in mounts {
        for target in HIDDEN {
            let first = target.split('/').find(|segment| *segment != "..").unwrap_or_default();
            let names = names(first);
            let dots = if target.contains("..") { &DOT_DOT[..] } else { &DOT_DOT[..1] };
            let mut add = |separator: &[u8], dots: &[u8], name: &[u8], tail: &[u8]| {
                let spell = |segment| match segment {
                    ".." => dots.to_vec(),
                    segment if segment == first => name.to_vec(),
                    segment => segment.as_bytes().to_vec(),
                };
                let path: Vec<Vec<u8>> = target.split('/').map(spell).collect();
                spellings.insert([mount.as_bytes(), &path.join(separator), tail].concat());
            };
            for separator in SEPARATORS {
                dots.iter().for_each(|dots| add(separator, dots, first.as_bytes(), b""));
            }
            for separator in [&b"/"[..], b"//", b"%2f", b"\\"] {
                names.iter().for_each(|name| add(separator, b"..", name, b""));
            }
            TAILS.iter().for_each(|tail| add(b"/", b"..", first.as_bytes(), tail));
        }
    }
    spellings
}

/// The ways to write a name that have been taken for it.
fn names(name: &str) -> BTreeSet<Vec<u8>> {
    let escaped = |text: &str| {
        let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'%';
        text.bytes().fold(String::new(), |mut escaped, byte| {
            if plain(&byte) {
                escaped.push(byte.into())
            } else {
                write!(escaped, "%{byte:02x}").unwrap()
            }
            escaped
        })
    };
    let every = |text: &str| text.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"));
    let each = |with: fn(char) -> char| escaped(&name.chars().map(with).collect::<String>());
    let fullwidth = |c: char| match c {
        '!'..='~' => char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c),
        _ => c,
    };
    let spellings = [
        name.to_owned(),
        name.to_lowercase(),
        name.to_uppercase(),
        name.replace('-', "%2D"),
        name.replace('.', "%2e"),
        every(name),
        every(name).replace('%', "%25"),
        format!("%{:02x}{}", name.as_bytes()[0], &name[1..]),
        format!("{name}."),
        format!("{name}%20"),
        format!("%20{name}"),
        format!("{name}%00"),
        format!("{name};x"),
        format!("{name}%3b"),
        format!("{name}~1"),
        format!("{name}::$DATA"),
        format!("{name}::$INDEX_ALLOCATION"),
        format!("{name}%e2%80%8b"), // U+200B, of no width
        format!("%ef%bb%bf{name}"), // U+FEFF, which may stand at the start of a text
        format!("%00{name}"),
        name.replace('-', "%c2%ad"),    // U+00AD, a soft hyphen
        name.replace('-', "%e2%80%90"), // U+2010, a hyphen
        name.replace('I', "%c4%b1"),    // U+0131, whose upper case is I
        name.replace('I', "%c4%b0"),    // U+0130, whose lower case begins with i
        name.replace('E', "%45%cc%81"), // with an accent of its own
        name.replace('-', "%2d%cc%80"),
        each(fullwidth),
    ];
    spellings.into_iter().map(String::into_bytes).collect()
}

/// A home with two webapps, and with the marker in all that is hidden.
fn home() -> Home {
    let home = Home::new().unwrap();
    home.configure(&format!("{LISTENERS}\n# {MARKER}")).unwrap();
    home.write("outside/hidden.txt", MARKER).unwrap();
    for webapp in ["ROOT", "app", "open"] {
        let write = |path: &str, text: &str| home.write(&format!("webapps/{webapp}/{path}"), text).unwrap();
        write("WEB-INF/web.toml", &format!("{WEB_TOML}# {MARKER}"));
        for path in [
            "WEB-INF/hidden.txt",
            "WEB-INF/index.html",
            "META-INF/hidden.txt",
            "web-inf/hidden.txt",
            "Meta-Inf/hidden.txt",
            ".hidden",
            ".git/hidden.txt",
            "sub/.hidden",
            "static/.hidden",
        ] {
            write(path, MARKER);
        }
        for path in ["page.txt", "sub/page.txt", "static/page.txt", "sub/WEB-INF/page.txt"] {
            write(path, "a page");
        }
        let link = |to: &str, name: &str| {
            symlink(to, home.path("webapps").join(webapp).join(name)).unwrap();
        };
        link("../../outside", "out");
        link("../../outside/hidden.txt", "out-file.txt");
        link("out", "inside-out");
        link("..", "parent");
        link(".", "self");
        link("sub", "inside");
        link("../WEB-INF", "sub/private");
        link("../../../outside/hidden.txt", "sub/page.txt.gz");
        link("../../outside/hidden.txt", "page.txt.gz");
    }
    home
}

/// Says whether the first segment is a folder that no request may name (SEMANTICS 7).
fn first_is_protected(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    first.eq_ignore_ascii_case("WEB-INF") || first.eq_ignore_ascii_case("META-INF")
}

/// All files of the home but what the server writes by itself, by their paths; of a link, where it leads.
fn files(home: &Home) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![home.path("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let (kind, path) = entry.map(|entry| (entry.file_type().unwrap(), entry.path())).unwrap();
            let name = path.strip_prefix(home.path("")).unwrap().to_string_lossy().into_owned();
            if kind.is_symlink() {
                files.insert(name, fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
            } else if kind.is_file() {
                files.insert(name, fs::read(&path).unwrap());
            } else if Path::new(&name) != Path::new("var") {
                folders.push(path);
            }
        }
    }
    files
}
