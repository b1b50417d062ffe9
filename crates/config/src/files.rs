//! `[files]`, `[compression]` and `[redirects]` of web.toml: how the static files of a webapp are served (SEMANTICS 6, 14).

use crate::problem::{list, quoted};
use crate::raw::{Table, Text};
use crate::url_pattern;
use crate::value::is_token;
use crate::web::{is_file_of_a_folder, is_media_type};

/// Holds `[files]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebFiles {
    /// `writable`: PUT and DELETE change files (Tomcat: `readonly=false`); default false.
    pub writable: bool,
    /// `partial_put`: a PUT with Content-Range changes a part of a file (`allowPartialPut`); default true.
    pub partial_put: bool,
    /// `post_as_get`: POST is answered as GET (`allowPostAsGet`); default true. False: 405.
    pub post_as_get: bool,
    /// `strong_etags`: entity tags are the SHA-256 of the content (`useStrongETags`); default false.
    pub strong_etags: bool,
    /// `listings`: a folder without a welcome file is shown as a list; default false: 404.
    pub listings: bool,
    /// `precompressed`: files beside a file that are the same, coded, in the order of preference; default none. In the file
    /// each is a coding, `"br"`, `"zstd"` or `"gzip"`, or a coding and an extension, `"gzip=.gz"`.
    pub precompressed: Vec<Precompressed>,
    /// `fallback`: the file that answers GET and HEAD, with 200, for paths that nothing else answers, as single-page applications
    /// need it; for a name with an extension, as of a script that is missing, only when the client asks for `text/html` by name.
    /// Relative to the webapp's folder, without a slash before it; default None.
    pub fallback: Option<String>,
    /// `[[files.cache_control]]`: the first that fits is sent; none that fits: no header.
    pub cache_control: Vec<CacheControl>,
}

/// A file beside another one: `app.js.br` for `app.js`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precompressed {
    /// The content coding, lower case: `br`.
    pub coding: String,
    /// With its dot: `.br`.
    pub extension: String,
}

/// Holds one `[[files.cache_control]]`: for a file that one of the patterns or one of the types fits; with neither, for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheControl {
    /// `url_patterns`: as a filter's: `/assets/*`, `*.js`, `/index.html`.
    pub url_patterns: Vec<String>,
    /// `types`: media types without parameters, `text/html` or `image/*`; lower case.
    pub types: Vec<String>,
    /// `value`: the header's, as in `"public, max-age=31536000, immutable"`.
    pub value: String,
}

/// Holds `[compression]`: what is compressed while it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebCompression {
    /// `codings`: in the order of preference; `[]`: nothing is compressed; None: as the context's settings say.
    pub codings: Option<Vec<Coding>>,
    /// `bytes_min`: what is known to be shorter is sent as it is, 0 to 1 GiB; default 2 KiB.
    pub bytes_min: u64,
    /// `types`: media types, `text/*` or `application/json`; lower case; default [`COMPRESSED_TYPES`].
    pub types: Vec<String>,
}

/// What is compressed when a webapp names no types: text, by its nature.
pub const COMPRESSED_TYPES: [&str; 13] = [
    "text/*",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/geo+json",
    "application/problem+json",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "image/svg+xml",
];

/// A content coding that we can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
    /// `gzip` (RFC 1952).
    Gzip,
}

impl Coding {
    const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// Returns what it is called in Content-Encoding, and in web.toml.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// Returns what files are called that were coded beforehand, where web.toml names the coding alone.
    fn extension(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
        }
    }

    fn named(name: &str) -> Option<Coding> {
        Coding::ALL.into_iter().find(|coding| coding.name() == name)
    }
}

/// Holds `[redirects]`: those that add a slash, and those that servlets send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebRedirects {
    /// `context_root`: `/shop` is redirected to `/shop/` (`mapperContextRootRedirectEnabled`), unless a servlet answers it;
    /// default true.
    pub context_root: bool,
    /// `status` of those that add a slash: 301, 302, 307 or 308; default 302. 307 and 308 keep the method.
    pub status: u16,
    /// `relative`: the Location that a servlet gives is sent as it stands (`useRelativeRedirects`); default true. False: it
    /// is made absolute, as it always is for HTTP/1.0.
    pub relative: bool,
}

impl Default for WebFiles {
    fn default() -> Self {
        Self {
            writable: false,
            partial_put: true,
            post_as_get: true,
            strong_etags: false,
            listings: false,
            precompressed: Vec::new(),
            fallback: None,
            cache_control: Vec::new(),
        }
    }
}

impl Default for WebCompression {
    fn default() -> Self {
        Self { codings: None, bytes_min: 2048, types: COMPRESSED_TYPES.map(str::to_owned).to_vec() }
    }
}

impl Default for WebRedirects {
    fn default() -> Self {
        Self { context_root: true, status: 302, relative: true }
    }
}

const GIB: u64 = 1 << 30;

/// Reads a list of codings that we can make, each once, if the key is there.
pub(crate) fn codings(table: &Table<'_, '_>, key: &'static str) -> Option<Vec<Coding>> {
    let mut codings = Vec::new();
    for text in table.texts(key, "[\"br\", \"gzip\"]")? {
        match Coding::named(&text.value) {
            Some(coding) if codings.contains(&coding) => {}
            Some(coding) => codings.push(coding),
            None => {
                let instead = format!("write some of {}", list(Coding::ALL.map(Coding::name)));
                table.wrong(&text, key, "is not a coding that can be made", instead);
            }
        }
    }
    Some(codings)
}

pub(crate) fn files(top: &Table<'_, '_>) -> WebFiles {
    let d = WebFiles::default();
    let Some(table) = top.table("files") else { return d };
    let files = WebFiles {
        writable: table.flag("writable", d.writable),
        partial_put: table.flag("partial_put", d.partial_put),
        post_as_get: table.flag("post_as_get", d.post_as_get),
        strong_etags: table.flag("strong_etags", d.strong_etags),
        listings: table.flag("listings", d.listings),
        precompressed: precompressed(&table),
        fallback: fallback(&table),
        cache_control: table.tables("cache_control").unwrap_or_default().iter().map(cache_control).collect(),
    };
    table.finish();
    files
}

pub(crate) fn compression(top: &Table<'_, '_>) -> WebCompression {
    let d = WebCompression::default();
    let Some(table) = top.table("compression") else { return d };
    let compression = WebCompression {
        codings: codings(&table, "codings"),
        bytes_min: table.bytes("bytes_min", d.bytes_min, 0..=GIB),
        types: media_types(&table).unwrap_or(d.types),
    };
    table.finish();
    compression
}

pub(crate) fn redirects(top: &Table<'_, '_>) -> WebRedirects {
    let d = WebRedirects::default();
    let Some(table) = top.table("redirects") else { return d };
    let redirects = WebRedirects {
        context_root: table.flag("context_root", d.context_root),
        status: table.one_of("status", &[302, 301, 307, 308]) as u16,
        relative: table.flag("relative", d.relative),
    };
    table.finish();
    redirects
}

fn precompressed(table: &Table<'_, '_>) -> Vec<Precompressed> {
    let mut variants: Vec<Precompressed> = Vec::new();
    for text in table.texts("precompressed", "[\"br\", \"gzip\"]").unwrap_or_default() {
        match variant(&text.value) {
            Err(instead) => table.wrong(&text, "precompressed", "is not a coding of files", text.advice(instead)),
            Ok(variant) if variants.contains(&variant) => {}
            Ok(variant) => variants.push(variant),
        }
    }
    variants
}

/// Returns what one word of `precompressed` stands for, or what to write instead.
fn variant(word: &str) -> Result<Precompressed, String> {
    let Some((coding, extension)) = word.split_once('=') else {
        return match Coding::named(word) {
            Some(coding) => Ok(Precompressed { coding: coding.name().into(), extension: coding.extension().into() }),
            None => Err("write `br`, `zstd` or `gzip`, or a coding and an extension, as in `gzip=.gz`".to_owned()),
        };
    };
    // Neither is a coding that changes a file.
    if !is_token(coding) || matches!(coding, "identity" | "*") {
        return Err("write the name of a coding before the `=`, as in `gzip=.gz`".to_owned());
    }
    let rest = extension.trim_start_matches('.');
    if rest.is_empty() || extension.contains('/') || extension.contains(char::is_control) {
        return Err("write an extension behind the `=`, as in `gzip=.gz`".to_owned());
    }
    if !extension.starts_with('.') {
        return Err(format!("write {}, with the dot", quoted(&format!("{coding}=.{extension}"))));
    }
    Ok(Precompressed { coding: coding.to_ascii_lowercase(), extension: extension.to_owned() })
}

fn fallback(table: &Table<'_, '_>) -> Option<String> {
    let is_served = |path: &str| {
        let first = path.split('/').next().unwrap_or("");
        !["WEB-INF", "META-INF"].iter().any(|name| first.eq_ignore_ascii_case(name))
    };
    let is_good = |path: &str| is_file_of_a_folder(path) && is_served(path);
    let instead = "write its path in the webapp, without a `/` before it, as in `fallback = \"index.html\"`";
    table.checked("fallback", "\"index.html\"", is_good, ("is not a file that is served", instead))
}

fn cache_control(table: &Table<'_, '_>) -> CacheControl {
    let mut url_patterns: Vec<String> = Vec::new();
    for text in table.texts("url_patterns", "[\"/assets/*\"]").unwrap_or_default() {
        match url_pattern::check_of_filter(&text.value) {
            Err(instead) => table.wrong(&text, "url_patterns", "is not a URL pattern", text.advice(instead)),
            Ok(()) => url_patterns.push(text.value),
        }
    }
    let types = media_types(table).unwrap_or_default();
    let example = "\"public, max-age=3600\"";
    let value = table.text("value", "a string", example);
    if value.is_none() && table.place_of("value").is_none() {
        let instead = format!("write what is sent, as in `value = {example}`");
        table.document.problem(table.at, format!("{} has no `value`", table.name), instead);
    }
    if let Some(text) = value.as_ref().filter(|text| !is_header_value(text)) {
        let instead = format!("write printable ASCII, as in `value = {example}`");
        table.wrong(text, "value", "cannot be the value of a header", instead);
    }
    table.finish();
    CacheControl { url_patterns, types, value: value.map(|text| text.value).unwrap_or_default() }
}

/// Returns true for the value of a field (RFC 9110 5.5), but for what is not ASCII.
fn is_header_value(text: &Text) -> bool {
    let is_good = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    let value = &text.value;
    !value.is_empty() && value.bytes().all(is_good) && value.trim_matches([' ', '\t']) == value
}

fn media_types(table: &Table<'_, '_>) -> Option<Vec<String>> {
    let is_good = |text: &str| match text.strip_suffix("/*") {
        Some(kind) => is_media_type(&format!("{kind}/x")) && !kind.contains(['/', ';']),
        None => is_media_type(text) && !text.contains([';', ' ']),
    };
    let mut types: Vec<String> = Vec::new();
    for text in table.texts("types", "[\"text/*\", \"application/json\"]")? {
        match is_good(&text.value) {
            true => types.push(text.value.to_ascii_lowercase()),
            false => {
                let instead = "write type/subtype or type/*, without parameters, as in `text/css` or `image/*`";
                table.wrong(&text, "types", "is not a media type", instead);
            }
        }
    }
    Some(types)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context_settings::ContextSettings;
    use crate::server::tests::{check as check_server, good};
    use crate::web::tests::{check, load};

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn nothing_set() {
        let web = load("[files]\n[compression]\n[redirects]").unwrap();
        assert_eq!(web, load("").unwrap());
        assert_eq!(web.files, WebFiles::default());
        assert_eq!(web.compression, WebCompression::default());
        assert_eq!(web.redirects, WebRedirects::default());
    }

    #[test]
    fn everything_set() {
        let web = load(
            r#"
            [files]
            writable = true
            partial_put = false
            post_as_get = false
            strong_etags = true
            listings = true
            precompressed = ["zstd", "br", "gzip", "GZIP=.gzip", "gzip=.gz"]
            fallback = "app/index.html"
            [[files.cache_control]]
            url_patterns = ["/assets/*", "*.js", "/index.html", ""]
            types = ["image/*", "Text/CSS"]
            value = "public, max-age=31536000, immutable"
            [[files.cache_control]]
            value = "no-cache"
            [compression]
            codings = ["gzip", "zstd", "br", "gzip"]
            bytes_min = "1KiB"
            types = ["text/*", "application/json"]
            [redirects]
            context_root = false
            status = 308
            relative = false
            "#,
        )
        .unwrap();
        let beside =
            |coding: &str, extension: &str| Precompressed { coding: coding.into(), extension: extension.into() };
        let expected = WebFiles {
            writable: true,
            partial_put: false,
            post_as_get: false,
            strong_etags: true,
            listings: true,
            precompressed: vec![
                beside("zstd", ".zst"),
                beside("br", ".br"),
                beside("gzip", ".gz"),
                beside("gzip", ".gzip"),
            ],
            fallback: Some("app/index.html".into()),
            cache_control: vec![
                CacheControl {
                    url_patterns: owned(&["/assets/*", "*.js", "/index.html", ""]),
                    types: owned(&["image/*", "text/css"]),
                    value: "public, max-age=31536000, immutable".into(),
                },
                CacheControl { url_patterns: Vec::new(), types: Vec::new(), value: "no-cache".into() },
            ],
        };
        assert_eq!(web.files, expected);
        let expected = WebCompression {
            codings: Some(vec![Coding::Gzip, Coding::Zstd, Coding::Brotli]),
            bytes_min: 1024,
            types: owned(&["text/*", "application/json"]),
        };
        assert_eq!(web.compression, expected);
        assert_eq!(web.redirects, WebRedirects { context_root: false, status: 308, relative: false });
        assert_eq!(load("[compression]\ncodings = []").unwrap().compression.codings, Some(Vec::new()));
    }

    #[test]
    fn compression_of_a_context() {
        let server = good(
            r#"
            [defaults.context]
            compression = ["br", "gzip"]
            [[host]]
            [[host.context]]
            path = "/a"
            compression = []
            [[host.context]]
            path = "/b"
            "#,
        );
        let of = |path: &str| server.hosts[0].settings_for(path).compression;
        assert_eq!((of("/a"), of("/b")), (Vec::new(), vec![Coding::Brotli, Coding::Gzip]));
        assert_eq!(ContextSettings::default().compression, Vec::new());
        check_server(
            r#"
[defaults.context]
compression = ["br", "deflate", "zstandard", "BR", 1]
[[host]]
[[host.context]]
path = "/a"
compression = "gzip"
----
server.toml:3:22: `compression` in [defaults.context]: `deflate` is not a coding that can be made; write some of `br`, `zstd`, `gzip`
server.toml:3:33: `compression` in [defaults.context]: `zstandard` is not a coding that can be made; write some of `br`, `zstd`, `gzip`
server.toml:3:46: `compression` in [defaults.context]: `BR` is not a coding that can be made; write some of `br`, `zstd`, `gzip`
server.toml:3:52: `compression` in [defaults.context] is the number `1`, but a list of strings is needed; write for example `compression = ["br", "gzip"]`
server.toml:7:15: `compression` in [[host.context]] is the string `gzip`, but a list of strings is needed; write for example `compression = ["br", "gzip"]`
"#,
        );
    }

    #[test]
    fn problems_of_files() {
        check(
            r#"
files = "public"
----
web.toml:2:9: `files` is a string, but a table is needed; write [files], and its keys below it
"#,
        );
        check(
            r#"
[files]
readonly = false
writable = "yes"
partial_put = 0
listings = ["/a"]
precompressed = ["brotli", "gzip=gz", "=.gz", "identity=.id", "gzip=", "gzip=.", "gzip=.a/b", "a b=.x", 1]
fallback = "/index.html"
[files.cache-control]
----
web.toml:3:1: unknown key `readonly` in [files]; its keys are `writable`, `partial_put`, `post_as_get`, `strong_etags`, `listings`, `precompressed`, `fallback`, `cache_control`
web.toml:4:12: `writable` in [files] is the string `yes`, but true or false is needed; write for example `writable = false`
web.toml:5:15: `partial_put` in [files] is the number `0`, but true or false is needed; write for example `partial_put = true`
web.toml:6:12: `listings` in [files] is a list, but true or false is needed; write for example `listings = false`
web.toml:7:18: `precompressed` in [files]: `brotli` is not a coding of files; write `br`, `zstd` or `gzip`, or a coding and an extension, as in `gzip=.gz`
web.toml:7:28: `precompressed` in [files]: `gzip=gz` is not a coding of files; write `gzip=.gz`, with the dot
web.toml:7:39: `precompressed` in [files]: `=.gz` is not a coding of files; write the name of a coding before the `=`, as in `gzip=.gz`
web.toml:7:47: `precompressed` in [files]: `identity=.id` is not a coding of files; write the name of a coding before the `=`, as in `gzip=.gz`
web.toml:7:63: `precompressed` in [files]: `gzip=` is not a coding of files; write an extension behind the `=`, as in `gzip=.gz`
web.toml:7:72: `precompressed` in [files]: `gzip=.` is not a coding of files; write an extension behind the `=`, as in `gzip=.gz`
web.toml:7:82: `precompressed` in [files]: `gzip=.a/b` is not a coding of files; write an extension behind the `=`, as in `gzip=.gz`
web.toml:7:95: `precompressed` in [files]: `a b=.x` is not a coding of files; write the name of a coding before the `=`, as in `gzip=.gz`
web.toml:7:105: `precompressed` in [files] is the number `1`, but a list of strings is needed; write for example `precompressed = ["br", "gzip"]`
web.toml:8:12: `fallback` in [files]: `/index.html` is not a file that is served; write its path in the webapp, without a `/` before it, as in `fallback = "index.html"`
web.toml:9:8: unknown key `cache-control` in [files]; did you mean `cache_control`?
"#,
        );
        for bad in ["", "../x", "a/./b", "app/", "a//b", "web-inf/x.html", "META-INF/a"] {
            let said = load(&format!("[files]\nfallback = \"{bad}\"")).unwrap_err();
            assert!(said.contains("is not a file that is served"), "{bad}: {said}");
        }
    }

    #[test]
    fn problems_of_cache_control() {
        check(
            r#"
[[files.cache_control]]
[[files.cache_control]]
url_patterns = ["assets/*", "/items/{id}", "*js"]
types = ["text", "text/html; charset=utf-8", "*/*", "image/*/*", "*"]
value = "a\nSet-Cookie: b"
[[files.cache_control]]
value = ""
[[files.cache_control]]
value = "größe"
[[files.cache_control]]
value = 3600
max_age = 3
url_patterns = "*.js"
[[files.cache_control]]
value = "no-cache "
----
web.toml:2:1: [[files.cache_control]] has no `value`; write what is sent, as in `value = "public, max-age=3600"`
web.toml:4:17: `url_patterns` in [[files.cache_control]]: `assets/*` is not a URL pattern; write `/assets/*`, with the `/` before it
web.toml:4:29: `url_patterns` in [[files.cache_control]]: `/items/{id}` is not a URL pattern; filters know no templates: write `/items/*`
web.toml:4:44: `url_patterns` in [[files.cache_control]]: `*js` is not a URL pattern; write "" for the context's root, "/", "/a/*", "/a/b" or "*.ext"
web.toml:5:10: `types` in [[files.cache_control]]: `text` is not a media type; write type/subtype or type/*, without parameters, as in `text/css` or `image/*`
web.toml:5:18: `types` in [[files.cache_control]]: `text/html; charset=utf-8` is not a media type; write type/subtype or type/*, without parameters, as in `text/css` or `image/*`
web.toml:5:46: `types` in [[files.cache_control]]: `*/*` is not a media type; write type/subtype or type/*, without parameters, as in `text/css` or `image/*`
web.toml:5:53: `types` in [[files.cache_control]]: `image/*/*` is not a media type; write type/subtype or type/*, without parameters, as in `text/css` or `image/*`
web.toml:5:66: `types` in [[files.cache_control]]: `*` is not a media type; write type/subtype or type/*, without parameters, as in `text/css` or `image/*`
web.toml:6:9: `value` in [[files.cache_control]]: `a\nSet-Cookie: b` cannot be the value of a header; write printable ASCII, as in `value = "public, max-age=3600"`
web.toml:8:9: `value` in [[files.cache_control]]: `""` cannot be the value of a header; write printable ASCII, as in `value = "public, max-age=3600"`
web.toml:10:9: `value` in [[files.cache_control]]: `größe` cannot be the value of a header; write printable ASCII, as in `value = "public, max-age=3600"`
web.toml:12:9: `value` in [[files.cache_control]] is the number `3600`, but a string is needed; write for example `value = "public, max-age=3600"`
web.toml:13:1: unknown key `max_age` in [[files.cache_control]]; its keys are `url_patterns`, `types`, `value`
web.toml:14:16: `url_patterns` in [[files.cache_control]] is the string `*.js`, but a list of strings is needed; write for example `url_patterns = ["/assets/*"]`
web.toml:16:9: `value` in [[files.cache_control]]: `no-cache ` cannot be the value of a header; write printable ASCII, as in `value = "public, max-age=3600"`
"#,
        );
    }

    #[test]
    fn problems_of_compression_and_redirects() {
        check(
            r#"
[compression]
codings = ["deflate", "br"]
bytes_min = "2GiB"
types = ["text/", "json"]
level = 3
[redirects]
context_root = "no"
status = 303
folders = true
----
web.toml:3:12: `codings` in [compression]: `deflate` is not a coding that can be made; write some of `br`, `zstd`, `gzip`
web.toml:4:13: `bytes_min` in [compression]: `2GiB` is out of bounds; write 0B to 1GiB, as in `bytes_min = "2KiB"`
web.toml:5:10: `types` in [compression]: `text/` is not a media type; write type/subtype or type/*, without parameters, as in `text/css` or `image/*`
web.toml:5:19: `types` in [compression]: `json` is not a media type; write type/subtype or type/*, without parameters, as in `text/css` or `image/*`
web.toml:6:1: unknown key `level` in [compression]; its keys are `codings`, `bytes_min`, `types`
web.toml:8:16: `context_root` in [redirects] is the string `no`, but true or false is needed; write for example `context_root = true`
web.toml:9:10: `status` in [redirects]: `303` is not known; write one of `302`, `301`, `307`, `308`
web.toml:10:1: unknown key `folders` in [redirects]; its keys are `context_root`, `status`, `relative`
"#,
        );
        check(
            "[redirects]\nstatus = \"permanent\"\n----\nweb.toml:2:10: `status` in [redirects]: `permanent` is not a whole number; write for example `status = 302`",
        );
    }
}
