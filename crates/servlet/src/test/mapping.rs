//! From a path to a servlet (Servlet 12.1, and templates after exact patterns).

use serval_abi::{
    SV_MATCH_CONTEXT_ROOT, SV_MATCH_DEFAULT, SV_MATCH_EXACT, SV_MATCH_EXTENSION, SV_MATCH_PATH, SV_MATCH_TEMPLATE,
};

/// How a path was mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Match {
    pub servlet: usize,
    pub kind: i32,
    pub pattern: String,
    /// Where the servlet path ends and the path info begins.
    pub split: usize,
    /// What the names of a template stand for.
    pub values: Vec<(String, String)>,
}

impl Match {
    /// What the wildcard stood for.
    pub fn value<'p>(&self, path: &'p str) -> &'p str {
        match self.kind {
            SV_MATCH_EXACT => &path[1..],
            SV_MATCH_PATH => path[self.split..].trim_start_matches('/'),
            SV_MATCH_EXTENSION => &path[1..path.len() + 1 - self.pattern.len()],
            _ => "",
        }
    }
}

/// Maps a decoded path that begins with a slash; `patterns` are those of all servlets, with their numbers.
pub(super) fn find(patterns: &[(usize, String)], path: &str) -> Option<Match> {
    let best = |kind, rank: &dyn Fn(&str) -> Option<(usize, usize)>| {
        let ranked = patterns
            .iter()
            .filter_map(|(servlet, pattern)| rank(pattern).map(|(rank, split)| (rank, split, *servlet, pattern)));
        // Of equals the first one.
        let (_, split, servlet, pattern) = ranked.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        let values = template(pattern, path).unwrap_or_default();
        Some(Match { servlet, kind, pattern: pattern.clone(), split, values })
    };
    let whole = path.len();
    best(SV_MATCH_CONTEXT_ROOT, &|pattern| (pattern.is_empty() && path == "/").then_some((0, 0)))
        .or_else(|| {
            best(SV_MATCH_EXACT, &|pattern| {
                (pattern == path && pattern != "/" && !is_template(pattern)).then_some((0, whole))
            })
        })
        .or_else(|| {
            // The one with more literal segments goes before.
            best(SV_MATCH_TEMPLATE, &|pattern| {
                let values = template(pattern, path).filter(|_| is_template(pattern))?;
                Some((1000 - values.len().min(1000), whole))
            })
        })
        .or_else(|| {
            best(SV_MATCH_PATH, &|pattern| {
                let prefix = pattern.strip_suffix("/*")?;
                let rest = path.strip_prefix(prefix)?;
                (rest.is_empty() || rest.starts_with('/')).then_some((prefix.len(), prefix.len()))
            })
        })
        .or_else(|| {
            best(SV_MATCH_EXTENSION, &|pattern| {
                let ending = pattern.strip_prefix('*')?;
                let last = path.rsplit('/').next()?;
                let dot = last.rfind('.')?;
                (last[dot..] == *ending).then_some((0, whole))
            })
        })
        .or_else(|| best(SV_MATCH_DEFAULT, &|pattern| (pattern == "/").then_some((0, whole))))
}

/// Whether a filter's pattern takes in a path.
pub(super) fn covers(pattern: &str, path: &str) -> bool {
    pattern == "/*"
        || pattern == "*"
        || find(&[(0, pattern.to_owned())], path).is_some_and(|found| found.kind != SV_MATCH_DEFAULT)
}

fn is_template(pattern: &str) -> bool {
    pattern.split('/').any(|segment| name(segment).is_some())
}

fn name(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// The values of a template's names, if it stands for the path.
fn template(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    if pattern.len() != path.len() {
        return None;
    }
    let mut values = Vec::new();
    for (wanted, found) in pattern.into_iter().zip(path) {
        match name(wanted) {
            Some(name) if !found.is_empty() => values.push((name.to_owned(), found.to_owned())),
            None if wanted == found => {}
            _ => return None,
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<(&str, &str, &str)>) {
        let patterns =
            ["", "/", "/a", "/a/*", "/a/b/*", "*.txt", "/items/{id}", "/items/{id}/{part}", "/items/{id}/new"];
        let patterns: Vec<(usize, String)> = patterns.iter().map(|&pattern| pattern.to_owned()).enumerate().collect();
        let found = find(&patterns, path);
        let found = found.as_ref().map(|found| (&*found.pattern, &path[found.split..], found.value(path)));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn the_best_pattern_wins() {
        check("/", Some(("", "/", "")));
        check("/a", Some(("/a", "", "a")));
        check("/a/x", Some(("/a/*", "/x", "x")));
        check("/a/b", Some(("/a/b/*", "", "")));
        check("/a/b/c.txt", Some(("/a/b/*", "/c.txt", "c.txt")));
        check("/x/c.txt", Some(("*.txt", "", "x/c")));
        check("/items/7", Some(("/items/{id}", "", "")));
        check("/items/7/new", Some(("/items/{id}/new", "", "")));
        check("/items/7/old", Some(("/items/{id}/{part}", "", "")));
        check("/items/", Some(("/", "", "")));
        assert_eq!(find(&[(0, "/a".to_owned())], "/b"), None);
    }
}
