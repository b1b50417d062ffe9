//! Extension to `Content-Type`.
//!
//! An operator's own types, then the list of `mime_guess`. A file whose extension neither knows gets
//! no `Content-Type` (RFC 9110 8.3 leaves the guess to the client). Called by `folder` for each file.

use std::collections::HashMap;
use std::io;

use http::HeaderValue;

/// Returns the media type that everybody gives to files of this name, without parameters.
pub fn media_type(file_name: &str) -> Option<&'static str> {
    mime_guess::from_path(file_name).first_raw()
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
        let name = path.rsplit('/').next()?;
        let (stem, extension) = name.rsplit_once('.')?;
        if stem.is_empty() || extension.is_empty() {
            return None;
        }
        if !self.overrides.is_empty()
            && let Some(value) = self.overrides.get(&extension.to_ascii_lowercase())
        {
            return Some(value.clone());
        }
        let media_type = mime_guess::from_ext(extension).first_raw()?;
        if is_utf8_text(media_type) {
            return HeaderValue::try_from(format!("{media_type}; charset=utf-8")).ok();
        }
        Some(HeaderValue::from_static(media_type))
    }
}

/// Says whether a client should be told UTF-8. XML is not among them: it declares its own encoding,
/// which a charset in the header would overrule (RFC 7303 3), and is UTF-8 when it does not.
fn is_utf8_text(media_type: &str) -> bool {
    let text = media_type.starts_with("text/") && media_type != "text/xml";
    text || matches!(media_type, "application/javascript" | "application/json" | "application/manifest+json")
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

    #[test]
    fn built_in_types() {
        check(&[], "/a.txt", Some("text/plain; charset=utf-8"));
        check(&[], "/index.html", Some("text/html; charset=utf-8"));
        check(&[], "/INDEX.HTML", Some("text/html; charset=utf-8"));
        check(&[], "/a.css", Some("text/css; charset=utf-8"));
        check(&[], "/a.js", Some("text/javascript; charset=utf-8"));
        check(&[], "/a.json", Some("application/json; charset=utf-8"));
        check(&[], "/a.xml", Some("text/xml"));
        check(&[], "/a.svg", Some("image/svg+xml"));
        check(&[], "/a.png", Some("image/png"));
        check(&[], "/a.wasm", Some("application/wasm"));
        check(&[], "/a.tar.gz", Some("application/gzip"));
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
    }

    #[test]
    fn an_override_that_is_no_header() {
        let error = MediaTypes::with_overrides(&[("x".into(), "a\nb".into())]).unwrap_err();
        assert_eq!(error.to_string(), r#"the media type "a\nb" of extension "x" cannot be sent in a header"#);
    }
}
