//! URL patterns as web.toml writes them (SEMANTICS 4; templates as in `servlet.h`, `path_parameter`). Used by
//! `servlets` and `filters`.

use crate::problem::quoted;

/// Accepts the patterns of servlets, templates such as `/items/{id}` among them, or returns what to write instead.
pub(crate) fn check_of_servlet(pattern: &str) -> Result<(), String> {
    check_plain(pattern)?;
    check_template(pattern)
}

/// Accepts the patterns of filters, or returns what to write instead. They have no templates (`servlet.h`, `sv_filter`):
/// `/items/*` covers what `/items/{id}` would.
pub(crate) fn check_of_filter(pattern: &str) -> Result<(), String> {
    // Dispatches by name too.
    if pattern == "*" {
        return Ok(());
    }
    check_plain(pattern)?;
    match pattern.split_once('{') {
        Some((before, _)) => {
            let above = before.rsplit_once('/').map_or("", |(above, _)| above);
            Err(format!("filters know no templates: write {}", quoted(&format!("{above}/*"))))
        }
        None => Ok(()),
    }
}

/// Returns the pattern without what its templates are called: two with the same shape match the same paths.
pub(crate) fn shape(pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn check_plain(pattern: &str) -> Result<(), String> {
    let kinds = "write \"\" for the context's root, \"/\", \"/a/*\", \"/a/b\" or \"*.ext\"";
    if pattern.contains(char::is_control) {
        return Err(kinds.to_owned());
    }
    if pattern.is_empty() || pattern.starts_with('/') {
        return Ok(());
    }
    match pattern.strip_prefix("*.") {
        Some(extension) if !extension.contains('/') => Ok(()),
        Some(_) => Err("write an extension without `/`, as in \"*.ext\"".to_owned()),
        None if pattern.starts_with('*') => Err(kinds.to_owned()),
        None => Err(format!("write {}, with the `/` before it", quoted(&format!("/{pattern}")))),
    }
}

fn check_template(pattern: &str) -> Result<(), String> {
    // No path of a browser's has a brace in it, so one is never meant as itself.
    if !pattern.contains(['{', '}']) {
        return Ok(());
    }
    let mut names: Vec<&str> = Vec::new();
    for segment in pattern.split('/').filter(|segment| segment.contains(['{', '}'])) {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let Some(name) = name.filter(|name| !name.contains(['{', '}'])) else {
            return Err("let a template be a whole segment, as in \"/items/{id}\"".to_owned());
        };
        let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_named) {
            return Err("name a template with letters, digits, `_` and `-`, as in \"/items/{id}\"".to_owned());
        }
        if names.contains(&name) {
            return Err(format!("give the second {} another name", quoted(segment)));
        }
        names.push(name);
    }
    if pattern.contains('*') {
        return Err("write either templates, as in \"/items/{id}\", or `*`, as in \"/items/*\"".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(pattern: &str, by_servlets: &str, by_filters: &str) {
        assert_eq!(check_of_servlet(pattern).err().unwrap_or_default(), by_servlets, "{pattern}");
        assert_eq!(check_of_filter(pattern).err().unwrap_or_default(), by_filters, "{pattern}");
    }

    #[test]
    fn patterns() {
        for good in ["", "/", "/*", "/a", "/a b", "/a/*", "/a*b", "*.a", "*.a.b", "*."] {
            refused(good, "", "");
        }
        let kinds = "write \"\" for the context's root, \"/\", \"/a/*\", \"/a/b\" or \"*.ext\"";
        refused("*", kinds, "");
        refused("**", kinds, kinds);
        refused("/\n", kinds, kinds);
        let slash = "write `/a/*`, with the `/` before it";
        refused("a/*", slash, slash);
        let extension = "write an extension without `/`, as in \"*.ext\"";
        refused("*.a/b", extension, extension);
    }

    #[test]
    fn templates() {
        refused("/{id}", "", "filters know no templates: write `/*`");
        for good in ["/items/{id}", "/items/{item-1}/{b_2}/"] {
            refused(good, "", "filters know no templates: write `/items/*`");
        }
        let whole = "let a template be a whole segment, as in \"/items/{id}\"";
        for part in ["/x{id}", "/{id}.html", "/{a}{b}", "/{{a}}", "/{", "/a}b", "/{a/b}"] {
            assert_eq!(check_of_servlet(part).unwrap_err(), whole, "{part}");
        }
        let named = "name a template with letters, digits, `_` and `-`, as in \"/items/{id}\"";
        for name in ["/{}", "/{a b}", "/{a:[0-9]+}", "/{größe}", "/{rest*}"] {
            assert_eq!(check_of_servlet(name).unwrap_err(), named, "{name}");
        }
        assert_eq!(check_of_servlet("/{a}/b/{a}").unwrap_err(), "give the second `{a}` another name");
        let either = "write either templates, as in \"/items/{id}\", or `*`, as in \"/items/*\"";
        for both in ["/{a}/*", "/a*/{b}"] {
            assert_eq!(check_of_servlet(both).unwrap_err(), either, "{both}");
        }
    }

    #[test]
    fn shapes() {
        for (pattern, expected) in
            [("/a/{b}/c", "/a/{}/c"), ("/{x}", "/{}"), ("", ""), ("/a/*", "/a/*"), ("*.a", "*.a")]
        {
            assert_eq!(shape(pattern), expected);
        }
    }
}
