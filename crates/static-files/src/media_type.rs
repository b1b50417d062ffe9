//! Extension to `Content-Type`.
//!
//! An operator's own types come first, then a few of ours, then the list of `new_mime_guess`. A file whose extension none
//! of them knows gets no `Content-Type` (RFC 9110 8.3 leaves the guess to the client). Called by `folder` for each file.

use std::collections::HashMap;
use std::io;

use http::HeaderValue;

/// What the crate's list does not know, or knows by a name that is not the registered one. Short, since all of it is compared
/// with each extension.
const OWN: [(&str, &str); 11] = [
    ("cjs", "text/javascript"),                    // RFC 9239
    ("mjs", "text/javascript"), // RFC 9239; no browser runs a module of a type that is not JavaScript's
    ("jsonl", "application/jsonl"), // lines of JSON have no registered type
    ("m3u8", "application/vnd.apple.mpegurl"), // RFC 8216
    ("mvt", "application/vnd.mapbox-vector-tile"), // as registered
    ("ndjson", "application/x-ndjson"), // as its specification says
    ("tgz", "application/gzip"), // RFC 6713
    ("vcf", "text/vcard"),      // RFC 6350
    ("wgsl", "text/wgsl"),      // as registered
    ("yaml", "application/yaml"), // RFC 9512
    ("yml", "application/yaml"), // RFC 9512
];

/// Returns the media type of files of this name, without parameters, as it is known without an operator's own types.
pub fn media_type(file_name: &str) -> Option<&'static str> {
    by_extension(extension(file_name)?)
}

/// The same, as the value of Content-Type.
pub fn content_type(file_name: &str) -> Option<HeaderValue> {
    media_type(file_name).map(in_utf8)
}

/// Returns what stands behind the last dot of the last segment, unless the dot begins that segment.
fn extension(path: &str) -> Option<&str> {
    let (stem, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(extension)
}

/// Extensions are compared in any case, as Tomcat does.
fn by_extension(extension: &str) -> Option<&'static str> {
    match OWN.iter().find(|(own, _)| own.eq_ignore_ascii_case(extension)) {
        Some((_, media_type)) => Some(media_type),
        None => new_mime_guess::from_ext(extension).first_raw(),
    }
}

#[derive(Debug)]
pub(crate) struct MediaTypes {
    /// By extension in lower case.
    overrides: HashMap<String, HeaderValue>,
}

impl MediaTypes {
    pub(crate) fn with_overrides(list: &[(String, String)]) -> io::Result<MediaTypes> {
        let mut overrides = HashMap::with_capacity(list.len());
        for (extension, media_type) in list {
            let value = HeaderValue::try_from(media_type.as_str()).map_err(|_| {
                let message =
                    format!("the media type {media_type:?} of extension {extension:?} cannot be sent in a header");
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?;
            overrides.insert(extension.to_ascii_lowercase(), value);
        }
        Ok(MediaTypes { overrides })
    }

    /// Returns the type by the extension of the last segment of `path`.
    pub(crate) fn of(&self, path: &str) -> Option<HeaderValue> {
        let extension = extension(path)?;
        if !self.overrides.is_empty()
            && let Some(value) = self.overrides.get(&extension.to_ascii_lowercase())
        {
            return Some(value.clone());
        }
        by_extension(extension).map(in_utf8)
    }
}

/// Tells the client that text is UTF-8. JSON needs no charset (RFC 8259 11), and XML declares its own, which one in the header
/// would overrule (RFC 7303 3).
fn in_utf8(media_type: &'static str) -> HeaderValue {
    match media_type {
        // What most requests are for, without an allocation.
        "text/html" => HeaderValue::from_static("text/html; charset=utf-8"),
        "text/css" => HeaderValue::from_static("text/css; charset=utf-8"),
        "text/javascript" => HeaderValue::from_static("text/javascript; charset=utf-8"),
        "text/plain" => HeaderValue::from_static("text/plain; charset=utf-8"),
        text if text.starts_with("text/") && text != "text/xml" => {
            HeaderValue::try_from(format!("{text}; charset=utf-8")).expect("a media type of a list is ASCII")
        }
        other => HeaderValue::from_static(other),
    }
}

/// A media type, or all of a kind: `text/html`, `image/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypePattern {
    One(String),
    /// `image/`
    AllOf(String),
}

impl TypePattern {
    pub fn new(pattern: &str) -> TypePattern {
        match pattern.strip_suffix('*') {
            Some(kind) if kind.ends_with('/') => TypePattern::AllOf(kind.to_owned()),
            _ => TypePattern::One(pattern.to_owned()),
        }
    }

    /// Says whether it is the type of this `Content-Type`, whose parameters do not count. In any case of letters
    /// (RFC 9110 8.3.1).
    pub fn fits(&self, content_type: &[u8]) -> bool {
        let end = content_type.iter().position(|&byte| byte == b';').unwrap_or(content_type.len());
        let media_type = content_type[..end].trim_ascii();
        match self {
            TypePattern::One(whole) => media_type.eq_ignore_ascii_case(whole.as_bytes()),
            TypePattern::AllOf(kind) => {
                media_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(overrides: &[(&str, &str)], path: &str, expected: Option<&str>) {
        let overrides: Vec<_> = overrides.iter().map(|(e, t)| (e.to_string(), t.to_string())).collect();
        let found = MediaTypes::with_overrides(&overrides).unwrap().of(path);
        assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), expected, "{path}");
    }

    /// Each extension, and the header that its files get.
    const TYPES: &str = "
        html htm          text/html; charset=utf-8
        xhtml             application/xhtml+xml
        css               text/css; charset=utf-8
        js mjs cjs jsx    text/javascript; charset=utf-8
        wasm              application/wasm
        map json          application/json
        jsonld            application/ld+json
        geojson           application/geo+json
        webmanifest       application/manifest+json
        ndjson            application/x-ndjson
        jsonl             application/jsonl
        xml xsd           application/xml
        xsl xslt          application/xslt+xml
        rss               application/rss+xml
        atom              application/atom+xml
        yaml yml          application/yaml
        toml              application/toml
        txt log ini conf  text/plain; charset=utf-8
        md markdown       text/markdown; charset=utf-8
        csv               text/csv; charset=utf-8
        tsv               text/tab-separated-values; charset=utf-8
        vtt               text/vtt; charset=utf-8
        ics               text/calendar; charset=utf-8
        vcf               text/vcard; charset=utf-8
        wgsl              text/wgsl; charset=utf-8
        woff              font/woff
        woff2             font/woff2
        ttf               font/ttf
        otf               font/otf
        ttc               font/collection
        eot               application/vnd.ms-fontobject
        svg               image/svg+xml
        png               image/png
        apng              image/apng
        jpg jpeg          image/jpeg
        gif               image/gif
        webp              image/webp
        avif              image/avif
        jxl               image/jxl
        heic              image/heic
        bmp               image/bmp
        tiff              image/tiff
        ico               image/vnd.microsoft.icon
        ts                video/mp2t
        m3u8              application/vnd.apple.mpegurl
        mpd               application/dash+xml
        mp4               video/mp4
        webm              video/webm
        ogv               video/ogg
        mov               video/quicktime
        mp3               audio/mpeg
        m4a               audio/mp4
        aac               audio/aac
        ogg opus          audio/ogg
        flac              audio/flac
        wav               audio/wav
        weba              audio/webm
        pdf               application/pdf
        epub              application/epub+zip
        zip               application/zip
        gz tgz            application/gzip
        zst               application/zstd
        bz2               application/x-bzip2
        xz                application/x-xz
        tar               application/x-tar
        7z                application/x-7z-compressed
        apk               application/vnd.android.package-archive
        jar               application/java-archive
        glb               model/gltf-binary
        gltf              model/gltf+json
        obj               model/obj
        stl               model/stl
        usdz              model/vnd.usdz+zip
        ktx2              image/ktx2
        hdr               image/vnd.radiance
        mvt               application/vnd.mapbox-vector-tile
        bin               application/octet-stream
        docx              application/vnd.openxmlformats-officedocument.wordprocessingml.document
        br vue svelte     -
    ";

    #[test]
    fn what_web_pages_are_made_of() {
        for line in TYPES.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (extensions, expected) = line.split_once("  ").unwrap();
            let expected = Some(expected.trim()).filter(|&expected| expected != "-");
            for extension in extensions.split(' ') {
                check(&[], &format!("/a.{extension}"), expected);
                check(&[], &format!("/some/A.min.{}", extension.to_uppercase()), expected);
                let bare = expected.map(|expected| expected.trim_end_matches("; charset=utf-8"));
                assert_eq!(media_type(&format!("a.{extension}")), bare);
            }
        }
    }

    #[test]
    fn names_without_a_known_extension() {
        check(&[], "/README", None);
        check(&[], "/a.no-such-type", None);
        check(&[], "/a.", None);
        check(&[], "/dir.html/file", None);
        check(&[], "/.html", None);
        check(&[], "/a.ü", None);
    }

    #[test]
    fn overrides_are_sent_as_written() {
        check(&[("txt", "text/x-mine")], "/a.txt", Some("text/x-mine"));
        check(&[("TXT", "text/x-mine")], "/a.tXt", Some("text/x-mine"));
        check(&[("foo", "a/b"), ("foo", "c/d")], "/a.foo", Some("c/d"));
        check(&[("foo", "a/b")], "/a.txt", Some("text/plain; charset=utf-8"));
        check(&[("mjs", "a/b")], "/a.mjs", Some("a/b"));
    }

    #[test]
    fn patterns_of_types() {
        for (pattern, content_type, expected) in [
            ("text/html", "text/html; charset=utf-8", true),
            ("text/html", "Text/HTML ;a=b", true),
            ("text/html", "text/htm", false),
            ("text/html", "text/html5", false),
            ("text/*", "TEXT/event-stream", true),
            ("text/*", "texture/x", false),
            ("text/*", "text", false),
            ("*", "text/html", false),
            ("text/html", "", false),
        ] {
            let fits = TypePattern::new(pattern).fits(content_type.as_bytes());
            assert_eq!(fits, expected, "{pattern} {content_type:?}");
        }
    }

    #[test]
    fn an_override_that_is_no_header() {
        let error = MediaTypes::with_overrides(&[("x".into(), "a\nb".into())]).unwrap_err();
        assert_eq!(error.to_string(), r#"the media type "a\nb" of extension "x" cannot be sent in a header"#);
    }
}
