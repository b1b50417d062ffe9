//! `Cache-Control` for files, by path and media type: what `[[files.cache_control]]` of web.toml says.
//!
//! Compiled once, with the folder. Called by `respond`, which sets what is found.

use std::io;

use http::header::CACHE_CONTROL;
use http::{HeaderValue, Response, StatusCode};

use crate::file::File;
use crate::media_type::TypePattern;

/// The rules of a webapp; the first that fits counts.
#[derive(Debug, Default)]
pub(crate) struct CacheRules(Vec<Rule>);

/// One rule as it is written. It is for files that one of the patterns or one of the types fits; with neither, for all.
#[derive(Debug, Clone)]
pub struct CacheRule {
    /// As a filter's: `/assets/*`, `*.js`, `/index.html`.
    pub url_patterns: Vec<String>,
    /// Media types without parameters, `text/html` or `image/*`, in any case.
    pub types: Vec<String>,
    /// As in `public, max-age=31536000, immutable`.
    pub value: String,
}

#[derive(Debug)]
struct Rule {
    paths: Vec<PathPattern>,
    types: Vec<TypePattern>,
    value: HeaderValue,
}

impl CacheRules {
    /// Compiles rules.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when a value cannot be sent in a header.
    pub(crate) fn new(rules: Vec<CacheRule>) -> io::Result<CacheRules> {
        let compile = |rule: CacheRule| {
            let value = HeaderValue::try_from(rule.value.as_str()).map_err(|_| {
                let message = format!("the Cache-Control {:?} cannot be sent in a header", rule.value);
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?;
            Ok(Rule {
                paths: rule.url_patterns.into_iter().map(PathPattern::new).collect(),
                types: rule.types.iter().map(|pattern| TypePattern::new(pattern)).collect(),
                value,
            })
        };
        rules.into_iter().map(compile).collect::<io::Result<_>>().map(CacheRules)
    }

    /// Returns the value for a file. `path` is the file's from the folder, as it was looked up: for a welcome file or a
    /// fallback its own, not the request's.
    pub(crate) fn find(&self, path: &str, file: &File) -> Option<HeaderValue> {
        self.find_by(path, file.content_type.as_ref())
    }

    fn find_by(&self, path: &str, content_type: Option<&HeaderValue>) -> Option<HeaderValue> {
        self.number(path, content_type).map(|number| self.0[number].value.clone())
    }

    /// Returns the number of the rule that counts.
    pub(crate) fn number(&self, path: &str, content_type: Option<&HeaderValue>) -> Option<usize> {
        self.0.iter().position(|rule| rule.fits(path, content_type))
    }
}

/// Sets the value that [`CacheRules::find`] gave, if the response is 200, 206 or 304 (RFC 9110 15.4.5). An error is not cached
/// as long as the file would be.
pub(crate) fn set_cache_control<B>(response: &mut Response<B>, value: HeaderValue) {
    if let StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED = response.status() {
        response.headers_mut().insert(CACHE_CONTROL, value);
    }
}

impl Rule {
    fn fits(&self, path: &str, content_type: Option<&HeaderValue>) -> bool {
        (self.paths.is_empty() && self.types.is_empty())
            || self.paths.iter().any(|pattern| pattern.fits(path))
            || content_type.is_some_and(|value| self.types.iter().any(|pattern| pattern.fits(value.as_bytes())))
    }
}

/// A filter's URL pattern (Servlet 12.2); one that has no known form is a path.
#[derive(Debug)]
enum PathPattern {
    Path(String),
    /// `/x/*`, without its ending.
    Below(String),
    /// With its dot.
    Extension(String),
}

impl PathPattern {
    fn new(pattern: String) -> PathPattern {
        match (pattern.strip_suffix("/*"), pattern.strip_prefix('*')) {
            (Some(below), _) => PathPattern::Below(below.to_owned()),
            // All, as a filter's.
            (None, Some("")) => PathPattern::Below(String::new()),
            (None, Some(extension)) => PathPattern::Extension(extension.to_owned()),
            (None, None) => PathPattern::Path(pattern),
        }
    }

    fn fits(&self, path: &str) -> bool {
        match self {
            PathPattern::Path(whole) => path == whole,
            PathPattern::Below(below) => {
                path.strip_prefix(below.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            PathPattern::Extension(extension) => {
                let name = path.rsplit('/').next().unwrap_or(path);
                name.rfind('.').is_some_and(|dot| name[dot..] == *extension)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(url_patterns: &[&str], types: &[&str], value: &str) -> CacheRule {
        let owned = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
        CacheRule { url_patterns: owned(url_patterns), types: owned(types), value: value.to_owned() }
    }

    #[test]
    fn the_first_rule_that_fits() {
        let rules = CacheRules::new(vec![
            rule(&["/index.html", "/sw.js"], &[], "no-cache"),
            rule(&["/assets/*", "*.woff2"], &[], "immutable"),
            rule(&["*.css"], &["image/*", "TEXT/JavaScript"], "max-age=60"),
            rule(&[], &[], "max-age=1"),
        ])
        .unwrap();
        for (path, content_type, expected) in [
            ("/index.html", "text/html", "no-cache"),
            ("/x/index.html", "text/html", "max-age=1"),
            ("/sw.js", "text/javascript; charset=utf-8", "no-cache"),
            ("/assets", "", "immutable"),
            ("/assets/index.html", "text/html", "immutable"),
            ("/assets/x/y.png", "image/png", "immutable"),
            ("/assetsx/y.txt", "text/plain", "max-age=1"),
            ("/fonts/a.woff2", "font/woff2", "immutable"),
            ("/fonts/a.b.woff2", "font/woff2", "immutable"),
            ("/a.woff2/x", "", "max-age=1"),
            ("/woff2", "", "max-age=1"),
            ("/a.css", "text/css", "max-age=60"),
            ("/a.js", "text/javascript; charset=utf-8", "max-age=60"),
            ("/a.png", "Image/PNG ;x=y", "max-age=60"),
            ("/a.png", "imagery/png", "max-age=1"),
            ("/noext", "", "max-age=1"),
        ] {
            let content_type = Some(HeaderValue::from_static(content_type)).filter(|value| !value.is_empty());
            assert_eq!(rules.find_by(path, content_type.as_ref()).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn nothing_fits() {
        let rules = CacheRules::new(vec![rule(&["/a"], &["text/*"], "no-store")]).unwrap();
        assert_eq!(rules.find_by("/b", None), None);
        assert_eq!(CacheRules::default().find_by("/a", None), None);
    }

    #[test]
    fn patterns_for_all() {
        for pattern in ["/*", "*"] {
            let rules = CacheRules::new(vec![rule(&[pattern], &[], "no-store")]).unwrap();
            for path in ["/", "/a", "/a/b.c"] {
                assert_eq!(rules.find_by(path, None).unwrap(), "no-store", "{pattern} {path}");
            }
        }
    }

    #[test]
    fn errors_are_not_cached() {
        for (status, expected) in [(200, true), (206, true), (304, true), (404, false), (412, false), (416, false)] {
            let mut response = Response::builder().status(status).body(()).unwrap();
            set_cache_control(&mut response, HeaderValue::from_static("max-age=9"));
            assert_eq!(response.headers().contains_key(CACHE_CONTROL), expected, "{status}");
        }
    }

    #[test]
    fn a_value_that_is_no_header() {
        let error = CacheRules::new(vec![rule(&[], &[], "a\nb")]).unwrap_err();
        assert_eq!(error.to_string(), r#"the Cache-Control "a\nb" cannot be sent in a header"#);
    }
}
