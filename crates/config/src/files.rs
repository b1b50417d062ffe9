//! `[files]`, `[compression]` and `[redirects]` of web.toml: how the static files of a webapp are served (SEMANTICS 6, 14).

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
    /// `fallback`: the file that answers, with 200, for paths that nothing else answers, as single-page applications need
    /// it; relative to the webapp's folder, without a slash before it; default None.
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

/// Holds `[redirects]`: those that add a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebRedirects {
    /// `context_root`: `/shop` is redirected to `/shop/` (`mapperContextRootRedirectEnabled`), unless a servlet answers it;
    /// default true.
    pub context_root: bool,
    /// `status`: 301, 302, 307 or 308; default 302. 307 and 308 keep the method.
    pub status: u16,
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
        Self { context_root: true, status: 302 }
    }
}
