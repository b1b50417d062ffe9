//! From a path inside a context to a servlet (SEMANTICS 4 and 5; Servlet 12). Built once per generation, walked by each request.

use foldhash::HashMap;

use serval_abi::{
    SV_MATCH_CONTEXT_ROOT as CONTEXT_ROOT, SV_MATCH_DEFAULT as DEFAULT, SV_MATCH_EXACT as EXACT,
    SV_MATCH_EXTENSION as EXTENSION, SV_MATCH_PATH as PATH, SV_MATCH_TEMPLATE as TEMPLATE,
};

/// Who answers a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A library's servlet, by its number in the generation.
    Servlet(usize),
    /// The static files, by the number of the name that they have for it.
    Files(usize),
}

impl By {
    pub fn servlet(self) -> Option<usize> {
        match self {
            By::Servlet(number) => Some(number),
            By::Files(_) => None,
        }
    }
}

/// Who answers, and the number of the pattern that leads there.
#[derive(Debug, Clone, Copy)]
struct Entry {
    by: By,
    pattern: usize,
}

/// URL patterns to those who answer.
#[derive(Debug)]
pub struct Mapper {
    /// As they are written.
    patterns: Vec<Box<str>>,
    exact: HashMap<String, Entry>,
    /// Patterns that end in `/*`, without that ending.
    paths: HashMap<String, Entry>,
    /// Bytes of the longest of them.
    longest: usize,
    /// Without `*.`.
    extensions: HashMap<String, Entry>,
    context_root: Option<Entry>,
    /// The pattern `/`: the static files, unless a servlet takes it.
    default: Entry,
    /// Patterns with `{name}` segments; of two that match, the one that first has a literal where the other has a name.
    templates: Vec<Entry>,
}

/// The static files, under the name that every webapp has for them.
pub const BUILT_IN: By = By::Files(0);

impl Default for Mapper {
    fn default() -> Mapper {
        Mapper {
            patterns: vec!["/".into()],
            exact: HashMap::default(),
            paths: HashMap::default(),
            longest: 0,
            extensions: HashMap::default(),
            context_root: None,
            default: Entry { by: BUILT_IN, pattern: 0 },
            templates: Vec::new(),
        }
    }
}

/// How a path was mapped. Paths are context-relative and decoded; the parts are read from the path that was mapped.
#[derive(Debug, Clone, Copy)]
pub struct Match {
    pub by: By,
    pub kind: i32,
    /// In the mapper that made it.
    pattern: usize,
    /// Where the servlet path ends and the path info begins.
    split: usize,
}

impl Match {
    fn new(entry: Entry, kind: i32, split: usize) -> Match {
        Match { by: entry.by, kind, pattern: entry.pattern, split }
    }

    pub fn servlet_path<'p>(&self, path: &'p str) -> &'p str {
        &path[..self.split]
    }

    pub fn path_info<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.kind {
            // Also where the path is empty, and there was no redirect.
            CONTEXT_ROOT => Some("/"),
            _ => Some(&path[self.split..]).filter(|info| !info.is_empty()),
        }
    }

    /// What the pattern's wildcard stood for, or the exact path, without its slash (Servlet 12, HttpServletMapping).
    pub fn value<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.kind {
            EXACT | TEMPLATE => Some(&path[1..]),
            PATH => path[self.split..].strip_prefix('/'),
            EXTENSION => Some(&path[1..path.rfind('.').unwrap_or(path.len())]),
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
    /// Already mapped to this one.
    Taken(By),
}

impl Mapper {
    pub fn add(&mut self, pattern: &str, by: By) -> Result<(), PatternError> {
        let entry = Entry { by, pattern: self.patterns.len() };
        let known = if pattern.starts_with('/') && pattern.contains(['{', '}']) {
            self.add_template(pattern, entry)?
        } else if pattern.is_empty() {
            *self.context_root.get_or_insert(entry)
        } else if pattern == "/" {
            if self.default.by == BUILT_IN {
                self.default = entry;
            }
            self.default
        } else if pattern.starts_with('/') {
            let (map, key) = match pattern.strip_suffix("/*") {
                Some(path) => (&mut self.paths, path),
                None => (&mut self.exact, pattern),
            };
            self.longest = self.longest.max(key.len());
            *map.entry(key.to_owned()).or_insert(entry)
        } else if let Some(extension) = pattern.strip_prefix("*.") {
            *self.extensions.entry(extension.to_owned()).or_insert(entry)
        } else {
            return Err(PatternError::Malformed);
        };
        if known.by != by {
            return Err(PatternError::Taken(known.by));
        }
        self.patterns.push(pattern.into());
        Ok(())
    }

    /// The template that there is now for the paths that this one matches.
    fn add_template(&mut self, pattern: &str, entry: Entry) -> Result<Entry, PatternError> {
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
        let same = |known: &&Entry| shape(&self.patterns[known.pattern]) == shape(pattern);
        if let Some(known) = self.templates.iter().find(same) {
            return Ok(*known);
        }
        self.templates.push(entry);
        // Literals before names, from the left.
        let patterns = &self.patterns;
        self.templates.sort_by_cached_key(|entry| {
            let pattern = patterns.get(entry.pattern).map_or(pattern, |known| known.as_ref());
            pattern.split('/').map(|segment| parameter_name(segment).is_some()).collect::<Vec<_>>()
        });
        Ok(entry)
    }

    /// The pattern of a match that this mapper made.
    pub fn pattern(&self, found: Match) -> &str {
        &self.patterns[found.pattern]
    }

    /// What stands in the path for `{name}` of the pattern.
    pub fn parameter<'p>(&self, found: Match, name: &str, path: &'p str) -> Option<&'p str> {
        if found.kind != TEMPLATE {
            return None;
        }
        let both = self.pattern(found).split('/').zip(path.split('/'));
        both.filter_map(|(segment, value)| Some((parameter_name(segment)?, value)))
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// By what names the path, or a folder above it. The path may be empty: the context's without a slash behind it.
    pub fn find_named(&self, path: &str) -> Option<Match> {
        self.find_root(path)
            .or_else(|| self.find_exact(path))
            .or_else(|| self.find_template(path))
            .or_else(|| self.find_path(path))
    }

    fn find_root(&self, path: &str) -> Option<Match> {
        let entry = self.context_root.filter(|_| path.len() <= 1)?;
        Some(Match::new(entry, CONTEXT_ROOT, 0))
    }

    pub fn find_exact(&self, path: &str) -> Option<Match> {
        self.exact.get(path).map(|entry| Match::new(*entry, EXACT, path.len()))
    }

    fn find_template(&self, path: &str) -> Option<Match> {
        self.templates_of(path).next()
    }

    fn templates_of<'m>(&'m self, path: &'m str) -> impl Iterator<Item = Match> {
        let matches = move |pattern: &str| {
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
        let fitting = self.templates.iter().filter(move |entry| matches(&self.patterns[entry.pattern]));
        fitting.map(|entry| Match::new(*entry, TEMPLATE, path.len()))
    }

    /// The longest one, by segments.
    pub fn find_path(&self, path: &str) -> Option<Match> {
        if self.paths.is_empty() {
            return None;
        }
        self.paths_of(path).next()
    }

    fn paths_of<'m>(&'m self, path: &'m str) -> impl Iterator<Item = Match> {
        prefixes(path, self.longest).filter_map(|prefix| Some(Match::new(*self.paths.get(prefix)?, PATH, prefix.len())))
    }

    pub fn find_extension(&self, path: &str) -> Option<Match> {
        if self.extensions.is_empty() {
            return None;
        }
        let name = &path[path.rfind('/')? + 1..];
        let extension = &name[name.rfind('.')? + 1..];
        self.extensions.get(extension).map(|entry| Match::new(*entry, EXTENSION, path.len()))
    }

    /// All that match a path, in the order in which they would answer it.
    pub fn find_all(&self, path: &str) -> Vec<Match> {
        let named = self.find_root(path).into_iter().chain(self.find_exact(path));
        let named = named.chain(self.templates_of(path)).chain(self.paths_of(path));
        named.chain(self.find_extension(path)).chain([self.find_default(path)]).collect()
    }

    /// Whoever has the pattern `/`.
    pub fn find_default(&self, path: &str) -> Match {
        Match::new(self.default, DEFAULT, path.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: &[&str] =
        &["/red", "/red/green", "/a b", "/red/*", "/red/green/blue/*", "*.do", "*.gz", "/st*r", "", "*.tar.gz"];

    fn find(mapper: &Mapper, path: &str) -> Option<Match> {
        mapper.find_named(path).or_else(|| mapper.find_extension(path))
    }

    #[track_caller]
    fn check(path: &str, pattern: Option<&str>, servlet_path: &str, path_info: Option<&str>) {
        let mut mapper = Mapper::default();
        for (number, pattern) in PATTERNS.iter().enumerate() {
            mapper.add(pattern, By::Servlet(number)).unwrap();
        }
        let found = find(&mapper, path);
        assert_eq!(found.map(|found| mapper.pattern(found)), pattern, "{path}");
        if let Some(found) = found {
            assert_eq!((found.servlet_path(path), found.path_info(path)), (servlet_path, path_info), "{path}");
            assert_eq!(found.by.servlet().map(|number| PATTERNS[number]), pattern);
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
        check("", Some(""), "", Some("/"));
        check("/a b", Some("/a b"), "/a b", None);
    }

    #[test]
    fn all_that_match_are_in_their_order() {
        let mut mapper = Mapper::default();
        for pattern in ["/*", "*.do", "/a/*", "/{x}/b.do", "/a/{y}", "/a/b.do", "/c", ""] {
            mapper.add(pattern, By::Servlet(0)).unwrap();
        }
        for (path, expected) in [
            ("/a/b.do", &["/a/b.do", "/a/{y}", "/{x}/b.do", "/a/*", "/*", "*.do", "/"][..]),
            ("/", &["", "/*", "/"]),
            ("/x", &["/*", "/"]),
        ] {
            let found = mapper.find_all(path);
            assert_eq!(found.iter().map(|found| mapper.pattern(*found)).collect::<Vec<_>>(), expected, "{path}");
            assert_eq!(mapper.find_named(path).map(|found| mapper.pattern(found)), Some(expected[0]));
        }
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
        let (one, other) = (By::Servlet(0), By::Files(1));
        for pattern in ["/x", "/x/*", "*.x", "", "/"] {
            mapper.add(pattern, one).unwrap();
            assert_eq!(mapper.add(pattern, one), Ok(()), "once more");
            assert_eq!(mapper.add(pattern, other), Err(PatternError::Taken(one)));
        }
        assert_eq!(find(&mapper, "/x").unwrap().by, one);
        assert_eq!(mapper.find_default("/y").by, one);
        assert_eq!(mapper.add("x", one), Err(PatternError::Malformed));
    }

    /// What HttpServletMapping says of each kind of match (SEMANTICS 4), and the path's parts (5).
    #[test]
    fn matches_and_their_parts() {
        let mut mapper = Mapper::default();
        for (number, pattern) in ["", "*.test", "/one/two", "/p/q/*"].iter().enumerate() {
            mapper.add(pattern, By::Servlet(number)).unwrap();
        }
        let wide = {
            let mut mapper = Mapper::default();
            mapper.add("/*", By::Servlet(0)).unwrap();
            mapper
        };
        for (mapper, path, kind, pattern, value, servlet_path, path_info) in [
            (&mapper, "/", CONTEXT_ROOT, "", Some(""), "", Some("/")),
            (&mapper, "", CONTEXT_ROOT, "", Some(""), "", Some("/")),
            (&mapper, "/zip", DEFAULT, "/", Some(""), "/zip", None),
            (&mapper, "/a/b.test", EXTENSION, "*.test", Some("a/b"), "/a/b.test", None),
            (&mapper, "/.test", EXTENSION, "*.test", Some(""), "/.test", None),
            (&mapper, "/a.x/b.c.test", EXTENSION, "*.test", Some("a.x/b.c"), "/a.x/b.c.test", None),
            (&mapper, "/one/two", EXACT, "/one/two", Some("one/two"), "/one/two", None),
            (&mapper, "/p/q", PATH, "/p/q/*", None, "/p/q", None),
            (&mapper, "/p/q/", PATH, "/p/q/*", Some(""), "/p/q", Some("/")),
            (&mapper, "/p/q/r/s", PATH, "/p/q/*", Some("r/s"), "/p/q", Some("/r/s")),
            (&wide, "", PATH, "/*", None, "", None),
            (&wide, "/", PATH, "/*", Some(""), "", Some("/")),
            (&wide, "/a/b", PATH, "/*", Some("a/b"), "", Some("/a/b")),
        ] {
            let found = find(mapper, path).unwrap_or_else(|| mapper.find_default(path));
            let parts = (found.value(path), found.servlet_path(path), found.path_info(path));
            assert_eq!((found.kind, mapper.pattern(found)), (kind, pattern), "{path}");
            assert_eq!(parts, (value, servlet_path, path_info), "{path}");
        }
    }

    #[test]
    fn the_static_files_are_the_default_until_a_servlet_is() {
        let mut mapper = Mapper::default();
        assert_eq!((mapper.find_default("/x").by, mapper.pattern(mapper.find_default("/x"))), (BUILT_IN, "/"));
        mapper.add("/static/*", By::Files(1)).unwrap();
        mapper.add("/", By::Files(1)).unwrap();
        assert_eq!(mapper.find_default("").by, By::Files(1));
        assert_eq!(find(&mapper, "/static/a").unwrap().by, By::Files(1));
    }

    #[test]
    fn templates() {
        let mut mapper = Mapper::default();
        for (servlet, pattern) in ["/{a}/new", "/items/{id}", "/items/new", "/items/*", "/{a}/{b}"].iter().enumerate() {
            mapper.add(pattern, By::Servlet(servlet)).unwrap();
        }
        let found = |path: &str| find(&mapper, path).and_then(|found| found.by.servlet());
        assert_eq!(found("/items/7"), Some(1));
        assert_eq!(found("/items/new"), Some(2), "an exact pattern goes before a template");
        assert_eq!(found("/x/new"), Some(0));
        assert_eq!(found("/x/y"), Some(4));
        assert_eq!(found("/items/"), Some(3), "a name stands for something");
        assert_eq!(found("/items/7/8"), Some(3));
        assert_eq!(found("/x"), None);
        let item = find(&mapper, "/items/a b").unwrap();
        let parameter = |name: &str| mapper.parameter(item, name, "/items/a b");
        assert_eq!((parameter("id"), parameter("x")), (Some("a b"), None));
        assert_eq!((item.servlet_path("/items/a b"), item.path_info("/items/a b")), ("/items/a b", None));
        assert_eq!(mapper.add("/items/{other}", By::Files(0)), Err(PatternError::Taken(By::Servlet(1))));
        for wrong in ["/x/{}", "/x/{a}/{a}", "/x{a}", "/{a}/*", "/{a b}"] {
            assert_eq!(mapper.add(wrong, By::Files(0)), Err(PatternError::Template), "{wrong}");
        }
    }
}
