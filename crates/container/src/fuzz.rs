//! What fuzzers, and the tests that replay their seeds, call: functions on bytes that panic when a rule does not hold.

use serval_abi::{SV_MATCH_CONTEXT_ROOT, SV_MATCH_DEFAULT, SV_MATCH_EXACT, SV_MATCH_EXTENSION, SV_MATCH_PATH};
use serval_config::{Escape, UriRules};

use crate::mapping::{By, Mapper};
use crate::target::{Target, clean, raw_context_len};

/// A byte for the rules, and a path as it is sent.
pub fn path_clean_up(bytes: &[u8]) {
    let Some((&rules, path)) = bytes.split_first() else { return };
    let (rules, Ok(path)) = (rules_of(rules), std::str::from_utf8(path)) else { return };
    let Ok(cleaned) = clean(path, &rules) else { return };
    assert!(cleaned.starts_with('/'), "{path:?}: {cleaned:?}");
    assert!(!cleaned.contains("//") && !cleaned.contains('\0'), "{path:?}: {cleaned:?}");
    assert!(!cleaned.split('/').any(|segment| segment == "." || segment == ".."), "{path:?}: {cleaned:?}");
    assert!(!cleaned.contains('\\'), "{path:?}: {cleaned:?}");
    if rules == UriRules::default() {
        let again = clean(&Target::encoded(&cleaned), &rules);
        assert_eq!(again.as_ref(), Ok(&cleaned), "{path:?}");
        assert!(!cleaned.bytes().any(|byte| byte.is_ascii_control()), "{path:?}: {cleaned:?}");
        // What the strictest let in is the same to all others that decode.
        let lax = UriRules { allow_suspicious: true, encoded_slash: Escape::Decode, ..rules.clone() };
        assert_eq!(clean(path, &lax).as_ref(), Ok(&cleaned), "{path:?}");
    }
    // Any folder above could be a context.
    for (end, _) in cleaned.match_indices('/').chain([(cleaned.len(), "")]) {
        let context = &cleaned[..end];
        let len = raw_context_len(path, context, &rules);
        assert!(len <= path.len() && path.is_char_boundary(len), "{path:?}: {context:?} has {len}");
        if !context.is_empty() && context != "/" && !context.ends_with('/') {
            let prefix = clean(&path[..len], &UriRules { allow_suspicious: true, ..rules.clone() });
            assert_eq!(prefix.as_deref(), Ok(context), "{path:?}");
        }
    }
}

/// All combinations of the rules, by the bits of a number.
fn rules_of(bits: u8) -> UriRules {
    let escape = |bits: u8| match bits % 3 {
        0 => Escape::Reject,
        1 => Escape::Decode,
        _ => Escape::Passthrough,
    };
    let chars = if bits & 0x80 == 0 { "" } else { "\"<>[\\]^`{|}" };
    UriRules {
        allow_suspicious: bits & 1 != 0,
        allow_backslash: bits & 2 != 0,
        encoded_slash: escape(bits >> 2 & 3),
        encoded_backslash: escape(bits >> 4 & 3),
        relaxed_path_chars: chars.to_owned(),
        relaxed_query_chars: chars.to_owned(),
    }
}

/// Lines: a path inside a context, then URL patterns without templates, each of a servlet of its own.
pub fn mapping(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let path = lines.next().unwrap_or("");
    if !path.is_empty() && (!path.starts_with('/') || path.contains("//")) {
        return;
    }
    let (mut mapper, mut patterns) = (Mapper::default(), Vec::new());
    for pattern in lines.filter(|pattern| !pattern.contains(['{', '}'])) {
        if mapper.add(pattern, By::Servlet(patterns.len())).is_ok() {
            patterns.push(pattern);
        }
    }
    let found = mapper.find_named(path).or_else(|| mapper.find_extension(path)).unwrap_or(mapper.find_default(path));
    let (kind, pattern) = reference(&patterns, path);
    let (servlet_path, path_info) = (found.servlet_path(path), found.path_info(path));
    assert_eq!((found.kind, mapper.pattern(found)), (kind, pattern), "{path:?} in {patterns:?}");
    let expected = patterns.iter().position(|known| *known == pattern);
    assert_eq!(found.by.servlet(), expected, "{path:?} in {patterns:?}");
    match kind {
        SV_MATCH_CONTEXT_ROOT => assert_eq!((servlet_path, path_info), ("", Some("/"))),
        _ => assert_eq!(format!("{servlet_path}{}", path_info.unwrap_or("")), path),
    }
    let value = found.value(path);
    match kind {
        SV_MATCH_EXACT => assert_eq!(value, Some(&pattern[1..])),
        SV_MATCH_PATH => assert_eq!(value, path_info.map(|info| &info[1..])),
        SV_MATCH_EXTENSION => {
            assert_eq!(value.map(|value| format!("/{value}{}", &pattern[1..])).as_deref(), Some(path));
        }
        _ => assert_eq!(value, Some("")),
    }
}

/// SEMANTICS 4, read aloud: kind and pattern.
fn reference<'p>(patterns: &[&'p str], path: &str) -> (i32, &'p str) {
    let is_exact = |pattern: &str| pattern.starts_with('/') && pattern != "/" && !pattern.ends_with("/*");
    if let Some(pattern) = patterns.iter().find(|pattern| pattern.is_empty() && path.len() <= 1) {
        return (SV_MATCH_CONTEXT_ROOT, pattern);
    }
    if let Some(pattern) = patterns.iter().find(|pattern| is_exact(pattern) && **pattern == path) {
        return (SV_MATCH_EXACT, pattern);
    }
    let covers = |pattern: &str| {
        let folder = pattern.strip_suffix("/*").filter(|_| pattern.starts_with('/'));
        folder.is_some_and(|folder| path == folder || path.starts_with(&format!("{folder}/")))
    };
    if let Some(pattern) = patterns.iter().filter(|pattern| covers(pattern)).max_by_key(|pattern| pattern.len()) {
        return (SV_MATCH_PATH, pattern);
    }
    let (_, name) = path.rsplit_once('/').unwrap_or(("", ""));
    if let Some((_, extension)) = name.rsplit_once('.')
        && let Some(pattern) = patterns.iter().find(|pattern| pattern.strip_prefix("*.") == Some(extension))
    {
        return (SV_MATCH_EXTENSION, pattern);
    }
    (SV_MATCH_DEFAULT, "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rules_and_some_paths() {
        // Each piece may come after each other.
        let pieces =
            ["/", "a", ".", "..", "%2e", ";x=1", "%2F", "%5C", "\\", "%25", "%00", "ä", "%C3%A4", "%ff", "%0a", "{"];
        for rules in (0..=u8::MAX).filter(|bits| bits & 0x40 == 0 && bits >> 2 & 3 < 3 && bits >> 4 & 3 < 3) {
            for first in pieces {
                for second in pieces {
                    for third in pieces {
                        let path = format!("/a/{first}/{second}{third}");
                        path_clean_up(&[&[rules], path.as_bytes()].concat());
                    }
                }
            }
        }
    }

    #[test]
    fn some_patterns_and_paths() {
        let patterns = "/red\n/red/*\n/red/green/*\n*.do\n*.tar.gz\n/*\n\n/\n/st*r\n*.";
        let all: Vec<&str> = patterns.split('\n').collect();
        for path in [
            "",
            "/",
            "/red",
            "/red/",
            "/red/x.do",
            "/x.do",
            "/x.tar.gz",
            "/a.do/b",
            "/st*r",
            "/a b",
            "/x.",
            "/x/",
            "/x",
            "/red/*",
        ] {
            for set in 0..1 << all.len() {
                let some = all.iter().enumerate().filter(|(number, _)| set >> number & 1 != 0);
                let some: Vec<&str> = some.map(|(_, pattern)| *pattern).collect();
                mapping([&[path], &some[..]].concat().join("\n").as_bytes());
            }
        }
    }
}
