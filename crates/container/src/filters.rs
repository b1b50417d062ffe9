//! Which filters a dispatch passes (Servlet 6.2.4, SEMANTICS 10): those whose URL patterns match its path, then those that name its
//! servlet, each in their order and each once.

use serval_abi::SV_DISPATCH_REQUEST;

/// What a filter is mapped to, for some kinds of dispatch.
#[derive(Debug)]
struct Map {
    filter: usize,
    to: To,
    /// SV_DISPATCH_*.
    dispatches: u32,
}

/// A URL pattern, or the name of a servlet.
#[derive(Debug, PartialEq, Eq)]
pub enum To {
    /// `*`: every dispatch, also those by name.
    All,
    Path(String),
    /// `/x/*`, without its ending.
    Below(String),
    /// Without `*.`.
    Extension(String),
    ContextRoot,
    Servlet(String),
    EveryServlet,
}

/// The filters' maps of a generation, in the order in which filters are called.
#[derive(Debug, Default)]
pub struct FilterMaps {
    by_url: Vec<Map>,
    by_servlet: Vec<Map>,
}

impl FilterMaps {
    pub fn is_empty(&self) -> bool {
        self.by_url.is_empty() && self.by_servlet.is_empty()
    }

    /// Adds a map; the filters are added in their order. False: `pattern` is not the URL pattern of a filter.
    pub fn add_pattern(&mut self, filter: usize, pattern: &str, dispatches: u32) -> bool {
        let to = match pattern {
            "*" => To::All,
            "" => To::ContextRoot,
            pattern if pattern.starts_with('/') => match pattern.strip_suffix("/*") {
                Some(below) => To::Below(below.to_owned()),
                None => To::Path(pattern.to_owned()),
            },
            pattern => match pattern.strip_prefix("*.") {
                Some(extension) if !extension.contains('/') => To::Extension(extension.to_owned()),
                _ => return false,
            },
        };
        self.by_url.push(Map { filter, to, dispatches: or_request(dispatches) });
        true
    }

    pub fn add_servlet(&mut self, filter: usize, servlet: &str, dispatches: u32) {
        let to = if servlet == "*" { To::EveryServlet } else { To::Servlet(servlet.to_owned()) };
        self.by_servlet.push(Map { filter, to, dispatches: or_request(dispatches) });
    }

    /// The filters of a dispatch. `path` is inside the context; `None`: a dispatch by name.
    pub fn find(&self, path: Option<&str>, servlet: &str, dispatch: u32) -> Vec<usize> {
        let mut found = Vec::new();
        for map in self.matching(path, servlet, dispatch) {
            if !found.contains(&map.filter) {
                found.push(map.filter);
            }
        }
        found
    }

    /// The same, each with the map that it is there for.
    pub fn find_with_maps(&self, path: Option<&str>, servlet: &str, dispatch: u32) -> Vec<(usize, &To)> {
        let chosen = self.find(path, servlet, dispatch).into_iter();
        let map_of = |filter: usize| self.matching(path, servlet, dispatch).find(|map| map.filter == filter);
        chosen.filter_map(|filter| Some((filter, &map_of(filter)?.to))).collect()
    }

    fn matching(&self, path: Option<&str>, servlet: &str, dispatch: u32) -> impl Iterator<Item = &Map> {
        let all = self.by_url.iter().chain(&self.by_servlet);
        all.filter(move |map| map.dispatches & dispatch != 0 && map.to.matches(path, servlet))
    }
}

fn or_request(dispatches: u32) -> u32 {
    if dispatches == 0 { SV_DISPATCH_REQUEST } else { dispatches }
}

impl To {
    /// The URL pattern, as it is written.
    pub fn pattern(&self) -> Option<String> {
        match self {
            To::All => Some("*".to_owned()),
            To::Path(path) => Some(path.clone()),
            To::Below(path) => Some(format!("{path}/*")),
            To::Extension(extension) => Some(format!("*.{extension}")),
            To::ContextRoot => Some(String::new()),
            To::Servlet(_) | To::EveryServlet => None,
        }
    }

    /// The name of the servlet, or `*`.
    pub fn servlet(&self) -> Option<&str> {
        match self {
            To::Servlet(name) => Some(name),
            To::EveryServlet => Some("*"),
            _ => None,
        }
    }

    fn matches(&self, path: Option<&str>, servlet: &str) -> bool {
        match (self, path) {
            (To::All | To::EveryServlet, _) => true,
            (To::Servlet(name), _) => name == servlet,
            (_, None) => false,
            (To::Path(pattern), Some(path)) => pattern == path,
            (To::Below(below), Some(path)) => {
                path.strip_prefix(below.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            (To::Extension(extension), Some(path)) => {
                let name = path.rsplit('/').next().unwrap_or(path);
                name.rsplit_once('.').is_some_and(|(_, found)| found == extension)
            }
            (To::ContextRoot, Some(path)) => path == "/",
        }
    }
}

#[cfg(test)]
mod tests {
    use serval_abi::{SV_DISPATCH_ERROR, SV_DISPATCH_FORWARD};

    use super::*;

    #[track_caller]
    fn check(path: Option<&str>, servlet: &str, dispatch: u32, expected: &[usize]) {
        let mut maps = FilterMaps::default();
        maps.add_servlet(0, "cart", 0);
        for (filter, pattern) in ["/*", "/a/*", "*.do", "/exact", "", "/"].iter().enumerate() {
            assert!(maps.add_pattern(filter + 1, pattern, 0));
        }
        assert!(maps.add_pattern(7, "*", SV_DISPATCH_FORWARD) && !maps.add_pattern(8, "x", 0));
        maps.add_servlet(1, "*", 0);
        assert_eq!(maps.find(path, servlet, dispatch), expected, "{path:?}");
    }

    #[test]
    fn patterns_and_names() {
        check(Some("/a/b.do"), "cart", SV_DISPATCH_REQUEST, &[1, 2, 3, 0]);
        check(Some("/a"), "x", SV_DISPATCH_REQUEST, &[1, 2]);
        check(Some("/ab"), "x", SV_DISPATCH_REQUEST, &[1]);
        check(Some("/exact"), "x", SV_DISPATCH_REQUEST, &[1, 4]);
        check(Some("/"), "x", SV_DISPATCH_REQUEST, &[1, 5, 6]);
        check(None, "cart", SV_DISPATCH_FORWARD, &[7]);
        check(None, "cart", SV_DISPATCH_REQUEST, &[0, 1]);
        check(Some("/a"), "cart", SV_DISPATCH_ERROR, &[]);
    }
}
