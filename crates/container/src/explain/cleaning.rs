//! What the clean-up of a path has done, and which keys would let a refused one in, in words.

use serval_config::{Escape, UriRules};

/// LIMIT: changes of one kind that are shown; nobody reads more of them.
const SHOWN_MAX: usize = 6;

/// What was changed in a path that was taken: sentences without an end; none: nothing was.
pub fn changes(raw: &str, rules: &UriRules) -> Vec<String> {
    let segments = || raw.split('/');
    let cut: Vec<String> =
        segments().filter_map(|segment| Some(format!("`{}`", &segment[segment.find(';')?..]))).collect();
    let names: Vec<&str> = segments().map(|segment| segment.split(';').next().unwrap_or("")).collect();
    let mut changes = Vec::new();
    if !cut.is_empty() {
        changes.push(format!("path parameters are cut: {}", some(&cut)));
    }
    let (mut decoded, mut kept) = (Vec::new(), Vec::new());
    for run in names.iter().flat_map(|name| escapes(name)) {
        match (run.to_ascii_uppercase().as_str(), rules) {
            ("%2F", UriRules { encoded_slash: Escape::Passthrough, .. })
            | ("%5C", UriRules { encoded_backslash: Escape::Passthrough, .. }) => kept.push(format!("`{run}`")),
            _ => decoded.push(format!("`{run}` is `{}`", text_of(run))),
        }
    }
    if !decoded.is_empty() {
        changes.push(format!("escapes are decoded: {}", some(&decoded)));
    }
    if !kept.is_empty() {
        changes.push(format!(
            "escapes that stay as they are, by `encoded_slash` and `encoded_backslash`: {}",
            some(&kept)
        ));
    }
    if raw.contains('\\') {
        changes.push("a backslash is a slash, by `allow_backslash`".to_owned());
    }
    let decoded: Vec<String> = names.iter().map(|name| text_of(name)).collect();
    if decoded.iter().any(|name| name == "..") {
        changes.push("each `..` takes the segment before it away".to_owned());
    }
    if decoded.iter().any(|name| name == ".") {
        changes.push("each `.` is left out".to_owned());
    }
    if decoded.len() > 2 && decoded[1..decoded.len() - 1].iter().any(String::is_empty) {
        changes.push("of several slashes one is left".to_owned());
    }
    changes
}

/// The keys of `[[listener]]` that would let a refused target in, as few as will do, as they are written; none: no key does.
pub fn keys_that_allow(raw: &str, rules: &UriRules, takes: impl Fn(&UriRules) -> bool) -> Vec<String> {
    let (path, query) = raw.split_once('?').unwrap_or((raw, ""));
    let odd = |text: &str| {
        let mut odd: Vec<char> = text.chars().filter(|char| "\"<>[\\]^`{|}".contains(*char)).collect();
        odd.sort_unstable();
        odd.dedup();
        odd.into_iter().collect::<String>()
    };
    let (path, query) = (odd(path), odd(query));
    let relaxes = |key: &str, chars: &str| format!("{key} = '{chars}'");
    type Change<'a> = (String, &'a dyn Fn(&mut UriRules));
    let changes: [Change<'_>; 6] = [
        ("allow_suspicious_uris = true".to_owned(), &|rules| rules.allow_suspicious = true),
        ("encoded_slash = \"decode\"".to_owned(), &|rules| rules.encoded_slash = Escape::Decode),
        ("encoded_backslash = \"passthrough\"".to_owned(), &|rules| rules.encoded_backslash = Escape::Passthrough),
        ("allow_backslash = true".to_owned(), &|rules| rules.allow_backslash = true),
        (relaxes("relaxed_path_chars", &path), &|rules| rules.relaxed_path_chars.push_str(&path)),
        (relaxes("relaxed_query_chars", &query), &|rules| rules.relaxed_query_chars.push_str(&query)),
    ];
    let with = |chosen: &[usize]| {
        let mut rules = rules.clone();
        chosen.iter().for_each(|&number| changes[number].1(&mut rules));
        rules
    };
    let mut chosen: Vec<usize> = (0..changes.len()).collect();
    if !takes(&with(&chosen)) {
        return Vec::new();
    }
    for number in 0..changes.len() {
        let fewer: Vec<usize> = chosen.iter().copied().filter(|&other| other != number).collect();
        if takes(&with(&fewer)) {
            chosen = fewer;
        }
    }
    chosen.into_iter().map(|number| changes[number].0.clone()).collect()
}

/// Runs of escapes that stand together, for one character may have several.
fn escapes(name: &str) -> Vec<&str> {
    let mut runs = Vec::new();
    let mut rest = name;
    while let Some(start) = rest.find('%') {
        let is_escape = |at: usize| rest.as_bytes().get(at) == Some(&b'%') && rest.is_char_boundary(at + 3);
        let mut end = start;
        while rest.len() >= end + 3 && is_escape(end) {
            end += 3;
        }
        if end == start {
            break;
        }
        runs.push(&rest[start..end]);
        rest = &rest[end..];
    }
    runs
}

/// With its escapes decoded.
fn text_of(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match digits.filter(|_| byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &behind[2..];
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Each once, and not too many.
fn some(items: &[String]) -> String {
    let mut once: Vec<&str> = Vec::new();
    for item in items {
        if !once.contains(&item.as_str()) {
            once.push(item);
        }
        if once.len() > SHOWN_MAX {
            once[SHOWN_MAX] = "…";
            break;
        }
    }
    once.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::clean;

    #[track_caller]
    fn changed(raw: &str, expected: &[&str]) {
        let rules = UriRules {
            allow_suspicious: true,
            encoded_slash: Escape::Passthrough,
            encoded_backslash: Escape::Passthrough,
            allow_backslash: true,
            relaxed_path_chars: "\\".to_owned(),
            relaxed_query_chars: String::new(),
        };
        assert!(clean(raw, &rules).is_ok(), "{raw}");
        assert_eq!(changes(raw, &rules), expected, "{raw}");
        assert_eq!(expected.is_empty(), clean(raw, &rules).as_deref() == Ok(raw), "{raw}");
    }

    #[test]
    fn each_change_is_named() {
        changed("/a/b.c", &[]);
        changed("/a/", &[]);
        changed("/a;x=1/b;y;z", &["path parameters are cut: `;x=1`, `;y;z`"]);
        changed("/c%61rt/%C3%A4%20", &["escapes are decoded: `%61` is `a`, `%C3%A4%20` is `ä `"]);
        changed("/a//b", &["of several slashes one is left"]);
        changed("/a/./b/../c", &["each `..` takes the segment before it away", "each `.` is left out"]);
        changed(
            "/%2e%2E/;/x".trim_start_matches("/%2e%2E"),
            &["path parameters are cut: `;`", "of several slashes one is left"],
        );
        changed("/a\\b", &["a backslash is a slash, by `allow_backslash`"]);
        let many: String = ('a'..'j').map(|char| format!("/;{char}")).collect();
        changed(
            &many,
            &["path parameters are cut: `;a`, `;b`, `;c`, `;d`, `;e`, `;f`, …", "of several slashes one is left"],
        );
    }

    #[test]
    fn escapes_that_stay() {
        let rules = UriRules { encoded_slash: Escape::Passthrough, ..UriRules::default() };
        assert_eq!(
            changes("/a%2Fb", &rules),
            ["escapes that stay as they are, by `encoded_slash` and `encoded_backslash`: `%2F`"]
        );
    }

    #[track_caller]
    fn allowed(raw: &str, expected: &[&str]) {
        let found = keys_that_allow(raw, &UriRules::default(), |rules| clean(raw, rules).is_ok());
        assert_eq!(found, expected, "{raw}");
    }

    #[test]
    fn keys_that_let_a_path_in() {
        allowed("/a/..;/b", &["allow_suspicious_uris = true"]);
        allowed("/%2e/b", &["allow_suspicious_uris = true"]);
        allowed("/a%2Fb", &["encoded_slash = \"decode\""]);
        allowed("/a%5cb", &["encoded_backslash = \"passthrough\""]);
        allowed("/a\\b", &["allow_backslash = true", "relaxed_path_chars = '\\'"]);
        allowed("/{a}", &["relaxed_path_chars = '{}'"]);
        allowed("/..;/a%2f{", &[]);
        allowed(
            "/x/..;/a%2f{",
            &["allow_suspicious_uris = true", "encoded_slash = \"decode\"", "relaxed_path_chars = '{'"],
        );
        allowed("/..", &[]);
        allowed("/%00", &[]);
        allowed("/%zz", &[]);
        allowed("/ä", &[]);
    }
}
