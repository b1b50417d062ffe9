//! From a path inside a context to a servlet (SEMANTICS 4 and 5; Servlet 12). Built once per generation, walked by each request.

use std::sync::Arc;

use foldhash::HashMap;

use serval_abi::{
    SV_MATCH_CONTEXT_ROOT as CONTEXT_ROOT, SV_MATCH_DEFAULT as DEFAULT, SV_MATCH_EXACT as EXACT,
    SV_MATCH_EXTENSION as EXTENSION, SV_MATCH_PATH as PATH, SV_MATCH_TEMPLATE as TEMPLATE,
};

/// A servlet's number, and the pattern that leads to it.
#[derive(Debug, Clone)]
struct Entry {
    servlet: usize,
    pattern: Arc<str>,
}

/// URL patterns to the numbers of servlets.
#[derive(Debug, Default)]
pub struct Mapper {
    exact: HashMap<String, Entry>,
    /// Patterns that end in `/*`, without that ending.
    paths: HashMap<String, Entry>,
    /// Bytes of the longest of them.
    longest: usize,
    /// Without `*.`.
    extensions: HashMap<String, Entry>,
    context_root: Option<Entry>,
    default: Option<Entry>,
    /// Patterns with `{name}` segments; of two that match, the one that first has a literal where the other has a name.
    templates: Vec<Entry>,
}

/// How a path was mapped. Paths are context-relative and decoded; the parts are read from the path that was mapped.
#[derive(Debug, Clone)]
pub struct Match {
    pub servlet: usize,
    pub kind: i32,
    pub pattern: Arc<str>,
    /// Where the servlet path ends and the path info begins.
    split: usize,
}

impl Match {
    fn new(entry: &Entry, kind: i32, split: usize) -> Match {
        Match { servlet: entry.servlet, kind, pattern: entry.pattern.clone(), split }
    }

    pub fn servlet_path<'p>(&self, path: &'p str) -> &'p str {
        &path[..self.split]
    }

    pub fn path_info<'p>(&self, path: &'p str) -> Option<&'p str> {
        Some(&path[self.split..]).filter(|info| !info.is_empty())
    }

    /// What stands in the path for `{name}` of the pattern.
    pub fn parameter<'p>(&self, name: &str, path: &'p str) -> Option<&'p str> {
        if self.kind != TEMPLATE {
            return None;
        }
        let both = self.pattern.split('/').zip(path.split('/'));
        both.filter_map(|(segment, value)| Some((parameter_name(segment)?, value)))
            .find_map(|(found, value)| (found == name).then_some(value))
    }

    /// What the pattern's wildcard stood for, or the exact path, without its slash (Servlet 12, HttpServletMapping).
    pub fn value<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.kind {
            EXACT | TEMPLATE => Some(&path[1..]),
            PATH => path[self.split..].strip_prefix('/'),
            EXTENSION => Some(&path[1..path.len() + 1 - self.pattern.len()]),
            _ => Some(""),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum PatternError {
    /// Not a URL pattern at all.
    Malformed,
    /// A `{name}` that is not a whole segment, has no name, or stands there twice.
    Template,
    /// Already mapped to this servlet.
    Taken(usize),
}

impl Mapper {
    pub fn add(&mut self, pattern: &str, servlet: usize) -> Result<(), PatternError> {
        if pattern.starts_with('/') && pattern.contains(['{', '}']) {
            return self.add_template(pattern, servlet);
        }
        let entry = Entry { servlet, pattern: pattern.into() };
        let (map, key) = if pattern.is_empty() {
            return set(&mut self.context_root, entry);
        } else if pattern == "/" {
            return set(&mut self.default, entry);
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
        self.longest = self.longest.max(key.len());
        let known = map.entry(key.to_owned()).or_insert(entry);
        if known.servlet == servlet { Ok(()) } else { Err(PatternError::Taken(known.servlet)) }
    }

    fn add_template(&mut self, pattern: &str, servlet: usize) -> Result<(), PatternError> {
        let mut names: Vec<&str> = Vec::new();
        for segment in pattern.split('/').filter(|segment| segment.contains(['{', '}', '*'])) {
            let name = parameter_name(segment).ok_or(PatternError::Template)?;
            let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if name.is_empty() || !good || names.contains(&name) {
                return Err(PatternError::Template);
            }
            names.push(name);
        }
        // Two that match the same paths are one, whatever their names are.
        let shape = |pattern: &str| {
            let segments =
                pattern.split('/').map(|segment| parameter_name(segment).map_or(Some(segment.to_owned()), |_| None));
            segments.collect::<Vec<_>>()
        };
        if let Some(known) = self.templates.iter().find(|known| shape(&known.pattern) == shape(pattern)) {
            return if known.servlet == servlet { Ok(()) } else { Err(PatternError::Taken(known.servlet)) };
        }
        self.templates.push(Entry { servlet, pattern: pattern.into() });
        // Literals before names, from the left.
        self.templates.sort_by_cached_key(|entry| {
            entry.pattern.split('/').map(|segment| parameter_name(segment).is_some()).collect::<Vec<_>>()
        });
        Ok(())
    }

    /// Maps a path that begins with a slash. `None`: nothing but the static files is left.
    pub fn find(&self, path: &str) -> Option<Match> {
        self.find_root(path)
            .or_else(|| self.find_exact(path))
            .or_else(|| self.find_template(path))
            .or_else(|| self.find_path(path))
            .or_else(|| self.find_extension(path))
    }

    fn find_root(&self, path: &str) -> Option<Match> {
        let entry = self.context_root.as_ref().filter(|_| path == "/")?;
        Some(Match::new(entry, CONTEXT_ROOT, 0))
    }

    pub fn find_exact(&self, path: &str) -> Option<Match> {
        self.exact.get(path).map(|entry| Match::new(entry, EXACT, path.len()))
    }

    fn find_template(&self, path: &str) -> Option<Match> {
        let matches = |pattern: &str| {
            let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
            loop {
                match (wanted.next(), found.next()) {
                    (None, None) => return true,
                    (Some(wanted), Some(found)) if parameter_name(wanted).is_some() && !found.is_empty() => {}
                    (Some(wanted), Some(found)) if wanted == found => {}
                    _ => return false,
                }
            }
        };
        let entry = self.templates.iter().find(|entry| matches(&entry.pattern))?;
        Some(Match::new(entry, TEMPLATE, path.len()))
    }

    /// The longest one, by segments.
    pub fn find_path(&self, path: &str) -> Option<Match> {
        if self.paths.is_empty() {
            return None;
        }
        prefixes(path, self.longest).find_map(|prefix| Some(Match::new(self.paths.get(prefix)?, PATH, prefix.len())))
    }

    pub fn find_extension(&self, path: &str) -> Option<Match> {
        if self.extensions.is_empty() {
            return None;
        }
        let name = &path[path.rfind('/')? + 1..];
        let extension = &name[name.rfind('.')? + 1..];
        self.extensions.get(extension).map(|entry| Match::new(entry, EXTENSION, path.len()))
    }

    /// The servlet on `/`, if a library declares one in place of the static files.
    pub fn find_default(&self, path: &str) -> Option<Match> {
        self.default.as_ref().map(|entry| Match::new(entry, DEFAULT, path.len()))
    }
}

/// The path and what is before each of its slashes, longest first, but nothing longer than `longest`: so one long path does not
/// cost the square of its length.
pub fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let cut_at = |end: usize| path.as_bytes()[..end].iter().rposition(|&b| b == b'/').map(|end| &path[..end]);
    let first = if path.len() <= longest { Some(path) } else { cut_at(longest + 1) };
    std::iter::successors(first, move |prefix| cut_at(prefix.len()))
}

/// The name of a segment `{name}` of a template.
fn parameter_name(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn set(place: &mut Option<Entry>, entry: Entry) -> Result<(), PatternError> {
    match place {
        Some(other) if other.servlet != entry.servlet => Err(PatternError::Taken(other.servlet)),
        _ => {
            *place = Some(entry);
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
        assert_eq!(found.as_ref().map(|found| &*found.pattern), pattern, "{path}");
        if let Some(found) = found {
            assert_eq!((found.servlet_path(path), found.path_info(path)), (servlet_path, path_info), "{path}");
            assert_eq!(PATTERNS[found.servlet], &*found.pattern);
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
    fn prefixes_are_of_whole_segments_and_not_too_long() {
        let all = |path, longest| prefixes(path, longest).collect::<Vec<_>>();
        assert_eq!(all("/a/b/c", 9), ["/a/b/c", "/a/b", "/a", ""]);
        assert_eq!(all("/a/b/c", 4), ["/a/b", "/a", ""]);
        assert_eq!(all("/a/bc/d", 4), ["/a", ""]);
        assert_eq!(all("/ä/ö", 2), [""]);
        assert_eq!(all("/", 0), [""]);
    }

    #[test]
    fn a_pattern_belongs_to_one_servlet() {
        let mut mapper = Mapper::default();
        mapper.add("/x", 0).unwrap();
        assert_eq!(mapper.add("/x", 1), Err(PatternError::Taken(0)));
        assert_eq!(mapper.find("/x").unwrap().servlet, 0);
        assert_eq!(mapper.add("x", 1), Err(PatternError::Malformed));
    }

    #[test]
    fn templates() {
        let mut mapper = Mapper::default();
        for (servlet, pattern) in ["/{a}/new", "/items/{id}", "/items/new", "/items/*", "/{a}/{b}"].iter().enumerate() {
            mapper.add(pattern, servlet).unwrap();
        }
        let found = |path: &str| mapper.find(path).map(|found| found.servlet);
        assert_eq!(found("/items/7"), Some(1));
        assert_eq!(found("/items/new"), Some(2), "an exact pattern goes before a template");
        assert_eq!(found("/x/new"), Some(0));
        assert_eq!(found("/x/y"), Some(4));
        assert_eq!(found("/items/"), Some(3), "a name stands for something");
        assert_eq!(found("/items/7/8"), Some(3));
        assert_eq!(found("/x"), None);
        let item = mapper.find("/items/a b").unwrap();
        assert_eq!((item.parameter("id", "/items/a b"), item.parameter("x", "/items/a b")), (Some("a b"), None));
        assert_eq!((item.servlet_path("/items/a b"), item.path_info("/items/a b")), ("/items/a b", None));
        assert_eq!(mapper.add("/items/{other}", 9), Err(PatternError::Taken(1)));
        for wrong in ["/x/{}", "/x/{a}/{a}", "/x{a}", "/{a}/*", "/{a b}"] {
            assert_eq!(mapper.add(wrong, 9), Err(PatternError::Template), "{wrong}");
        }
    }
}
