//! From a path inside a context to a servlet (SEMANTICS 4 and 5; Servlet 12). Built once per generation, walked by each request.

use std::collections::HashMap;

use serval_abi_kinds::*;

/// The values of `sv_request.match_kind`, which are the ABI's.
mod serval_abi_kinds {
    pub const CONTEXT_ROOT: i32 = 1;
    pub const DEFAULT: i32 = 2;
    pub const EXACT: i32 = 3;
    pub const EXTENSION: i32 = 4;
    pub const PATH: i32 = 5;
}

/// URL patterns to the numbers of servlets.
#[derive(Debug, Default)]
pub struct Mapper {
    exact: HashMap<String, usize>,
    /// Patterns that end in `/*`, without that ending.
    paths: HashMap<String, usize>,
    /// Without `*.`.
    extensions: HashMap<String, usize>,
    context_root: Option<usize>,
    default: Option<usize>,
}

/// How a path was mapped. Paths are context-relative and decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub servlet: usize,
    pub kind: i32,
    pub pattern: String,
    pub value: Option<String>,
    pub servlet_path: String,
    pub path_info: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum PatternError {
    /// Not a URL pattern at all.
    Malformed,
    /// Already mapped to this servlet.
    Taken(usize),
}

impl Mapper {
    pub fn add(&mut self, pattern: &str, servlet: usize) -> Result<(), PatternError> {
        let (map, key) = if pattern.is_empty() {
            return set(&mut self.context_root, servlet);
        } else if pattern == "/" {
            return set(&mut self.default, servlet);
        } else if pattern.starts_with('/') {
            match pattern.strip_suffix("/*") {
                Some(path) => (&mut self.paths, path),
                None => (&mut self.exact, pattern),
            }
        } else if let Some(extension) = pattern.strip_prefix("*.") {
            (&mut self.extensions, extension)
        } else {
            return Err(PatternError::Malformed);
        };
        match map.insert(key.to_owned(), servlet) {
            Some(other) if other != servlet => {
                map.insert(key.to_owned(), other);
                Err(PatternError::Taken(other))
            }
            _ => Ok(()),
        }
    }

    /// Maps a path that begins with a slash. `None`: nothing but the static files is left.
    pub fn find(&self, path: &str) -> Option<Match> {
        self.find_root(path)
            .or_else(|| self.find_exact(path))
            .or_else(|| self.find_path(path))
            .or_else(|| self.find_extension(path))
    }

    fn find_root(&self, path: &str) -> Option<Match> {
        let servlet = self.context_root.filter(|_| path == "/")?;
        Some(Match {
            servlet,
            kind: CONTEXT_ROOT,
            pattern: String::new(),
            value: Some(String::new()),
            servlet_path: String::new(),
            path_info: Some("/".to_owned()),
        })
    }

    pub fn find_exact(&self, path: &str) -> Option<Match> {
        let servlet = *self.exact.get(path)?;
        Some(Match {
            servlet,
            kind: EXACT,
            pattern: path.to_owned(),
            value: Some(path[1..].to_owned()),
            servlet_path: path.to_owned(),
            path_info: None,
        })
    }

    /// The longest one, by segments.
    pub fn find_path(&self, path: &str) -> Option<Match> {
        if self.paths.is_empty() {
            return None;
        }
        let mut end = path.len();
        loop {
            if let Some(&servlet) = self.paths.get(&path[..end]) {
                let info = &path[end..];
                return Some(Match {
                    servlet,
                    kind: PATH,
                    pattern: format!("{}/*", &path[..end]),
                    value: info.strip_prefix('/').map(str::to_owned),
                    servlet_path: path[..end].to_owned(),
                    path_info: (!info.is_empty()).then(|| info.to_owned()),
                });
            }
            end = path[..end].rfind('/')?;
        }
    }

    pub fn find_extension(&self, path: &str) -> Option<Match> {
        let name = &path[path.rfind('/')? + 1..];
        let extension = &name[name.rfind('.')? + 1..];
        let servlet = *self.extensions.get(extension)?;
        Some(Match {
            servlet,
            kind: EXTENSION,
            pattern: format!("*.{extension}"),
            value: Some(path[1..path.len() - extension.len() - 1].to_owned()),
            servlet_path: path.to_owned(),
            path_info: None,
        })
    }

    /// The servlet on `/`, if a library declares one in place of the static files.
    pub fn find_default(&self, path: &str) -> Option<Match> {
        Some(Match {
            servlet: self.default?,
            kind: DEFAULT,
            pattern: "/".to_owned(),
            value: Some(String::new()),
            servlet_path: path.to_owned(),
            path_info: None,
        })
    }
}

fn set(place: &mut Option<usize>, servlet: usize) -> Result<(), PatternError> {
    match *place {
        Some(other) if other != servlet => Err(PatternError::Taken(other)),
        _ => {
            *place = Some(servlet);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: &[&str] =
        &["/red", "/red/green", "/a b", "/red/*", "/red/green/blue/*", "*.do", "*.gz", "/st*r", "", "*.tar.gz"];

    #[track_caller]
    fn check(path: &str, pattern: Option<&str>, servlet_path: &str, path_info: Option<&str>) {
        let mut mapper = Mapper::default();
        for (number, pattern) in PATTERNS.iter().enumerate() {
            mapper.add(pattern, number).unwrap();
        }
        let found = mapper.find(path);
        assert_eq!(found.as_ref().map(|found| found.pattern.as_str()), pattern, "{path}");
        if let Some(found) = found {
            assert_eq!((found.servlet_path.as_str(), found.path_info.as_deref()), (servlet_path, path_info), "{path}");
            assert_eq!(PATTERNS[found.servlet], found.pattern);
        }
    }

    #[test]
    fn patterns_match_as_servlet_12_says() {
        check("/red", Some("/red"), "/red", None);
        check("/red/", Some("/red/*"), "/red", Some("/"));
        check("/red/x.do", Some("/red/*"), "/red", Some("/x.do"));
        check("/redx", None, "", None);
        check("/red/green/blue", Some("/red/green/blue/*"), "/red/green/blue", None);
        check("/x/y.do", Some("*.do"), "/x/y.do", None);
        check("/x.DO", None, "", None);
        check("/x.do/more", None, "", None);
        check("/x.tar.gz", Some("*.gz"), "/x.tar.gz", None);
        check("/st*r", Some("/st*r"), "/st*r", None);
        check("/star", None, "", None);
        check("/", Some(""), "", Some("/"));
        check("/a b", Some("/a b"), "/a b", None);
    }

    #[test]
    fn a_pattern_belongs_to_one_servlet() {
        let mut mapper = Mapper::default();
        mapper.add("/x", 0).unwrap();
        assert_eq!(mapper.add("/x", 1), Err(PatternError::Taken(0)));
        assert_eq!(mapper.find("/x").unwrap().servlet, 0);
        assert_eq!(mapper.add("x", 1), Err(PatternError::Malformed));
    }
}
