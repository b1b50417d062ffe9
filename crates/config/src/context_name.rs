//! From the name of a folder in `webapps/` to the path and version it is served under (SEMANTICS 1), and back.

use std::fmt;

/// Names a context within its host: its path and, if it has one, its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContextName {
    /// `""` for ROOT, else `/a` or `/a/b`.
    pub path: String,
    /// What follows `##`. Versions are compared as plain strings, none before all others.
    pub version: Option<String>,
}

/// Why a folder is no webapp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoContext {
    /// META-INF and WEB-INF in any case, and names that start with `.` or end in `.tmp`, `.part` or `~`: never meant as one.
    Ignored,
    /// No request could have its path (`a#`, `a##` followed by nothing, `a#..#b`, `a\\b`, a control character); with the reason.
    Unnameable(&'static str),
}

impl ContextName {
    /// Reads the name of a folder: `ROOT` is `/`, `a#b` is `/a/b`, `shop##2` is version 2 of `/shop`.
    ///
    /// # Errors
    ///
    /// Why it is no webapp; see [`NoContext`].
    pub fn from_folder(name: &str) -> Result<ContextName, NoContext> {
        let lower = name.to_ascii_lowercase();
        let never = lower == "meta-inf"
            || lower == "web-inf"
            || name.starts_with('.')
            || name.contains('/')
            || [".tmp", ".part", "~"].iter().any(|end| lower.ends_with(end));
        if never {
            return Err(NoContext::Ignored);
        }
        let (base, version) = match name.split_once("##") {
            Some((_, "")) => return Err(NoContext::Unnameable("nothing follows its `##`")),
            Some((base, version)) => (base, Some(version.to_owned())),
            None => (name, None),
        };
        // `##2` is a version of the root, as in Tomcat.
        let root = base == "ROOT" || (base.is_empty() && version.is_some());
        let path = if root { String::new() } else { format!("/{}", base.replace('#', "/")) };
        if base != "ROOT" && !path.is_empty() {
            check_segments(&path[1..]).map_err(NoContext::Unnameable)?;
        }
        Ok(ContextName { path, version })
    }

    /// Reads a path as people write it, and a version.
    ///
    /// # Errors
    ///
    /// Why no webapp can be served so.
    pub fn from_path(path: &str, version: Option<&str>) -> Result<ContextName, &'static str> {
        let name = ContextName { path: normal_path(path)?, version: version.map(str::to_owned) };
        match ContextName::from_folder(&name.folder()) {
            Ok(again) if again == name => Ok(name),
            Err(NoContext::Unnameable(why)) => Err(why),
            _ => Err("a folder of that name is no webapp, or another one"),
        }
    }

    /// Returns the name of the folder that is served under this name.
    pub fn folder(&self) -> String {
        let base = if self.path.is_empty() { "ROOT".to_owned() } else { self.path[1..].replace('/', "#") };
        match &self.version {
            Some(version) => format!("{base}##{version}"),
            None => base,
        }
    }

    /// Returns the name as it is shown to people: `/` for the root, `/shop##2`.
    pub fn display(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.path.is_empty() { "/" } else { &self.path })?;
        match &self.version {
            Some(version) => write!(f, "##{version}"),
            None => Ok(()),
        }
    }
}

/// Returns a written context path as it is kept (`/` and `/ROOT` are `""`), or what is wrong with it.
pub(crate) fn normal_path(written: &str) -> Result<String, &'static str> {
    if matches!(written, "" | "/" | "/ROOT") {
        return Ok(String::new());
    }
    let Some(rest) = written.strip_prefix('/') else { return Err("it does not start with `/`") };
    if rest.ends_with('/') {
        return Err("it ends with `/`");
    }
    check_segments(rest)?;
    if rest.contains(['?', '#', ';']) {
        return Err("it contains `?`, `#` or `;`");
    }
    Ok(written.to_owned())
}

/// The rules for a path that a request can have, encoded as it needs to be.
fn check_segments(rest: &str) -> Result<(), &'static str> {
    for segment in rest.split('/') {
        match segment {
            "" => return Err("a segment is empty"),
            "." | ".." => return Err("a segment is `.` or `..`"),
            _ => {}
        }
    }
    if rest.contains('\\') || rest.contains(char::is_control) {
        return Err("it contains a backslash or a control character");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(folder: &str, shown: &str, path: &str) {
        let name = ContextName::from_folder(folder).expect("a context");
        assert_eq!((name.display().as_str(), name.path.as_str()), (shown, path));
        assert_eq!(ContextName::from_folder(&name.folder()), Ok(name));
    }

    #[test]
    fn folder_names() {
        check("ROOT", "/", "");
        check("shop", "/shop", "/shop");
        check("shop#eu", "/shop/eu", "/shop/eu");
        check("shop##2", "/shop##2", "/shop");
        check("a#b##x", "/a/b##x", "/a/b");
        check("a##b##c", "/a##b##c", "/a");
        check("ROOT##A", "/##A", "");
        check("##A", "/##A", "");
        check("ROOT#deep", "/ROOT/deep", "/ROOT/deep");
        check("root", "/root", "/root");
        check("My Shop 1.0", "/My Shop 1.0", "/My Shop 1.0");
        check("a;b?", "/a;b?", "/a;b?");
        check("größe", "/größe", "/größe");
        check("a~b.tmp.d", "/a~b.tmp.d", "/a~b.tmp.d");
    }

    #[test]
    fn paths_as_people_write_them() {
        for (path, version, folder) in [
            ("/", None, "ROOT"),
            ("", None, "ROOT"),
            ("/ROOT", Some("2"), "ROOT##2"),
            ("/shop", None, "shop"),
            ("/a/b", Some("x"), "a#b##x"),
        ] {
            assert_eq!(
                ContextName::from_path(path, version).map(|name| name.folder()).as_deref(),
                Ok(folder),
                "{path}"
            );
        }
        for (path, version) in [
            ("shop", None),
            ("/shop/", None),
            ("/../x", None),
            ("/a#b", None),
            ("/.git", None),
            ("/x.tmp", None),
            ("/WEB-INF", None),
            ("/shop", Some("")),
            ("/shop", Some("a/b")),
            ("/shop", Some("1~")),
        ] {
            assert!(ContextName::from_path(path, version).is_err(), "{path} {version:?}");
        }
    }

    #[test]
    fn never_a_webapp() {
        for name in [
            "",
            "META-INF",
            "web-inf",
            "Web-Inf",
            ".git",
            ".",
            "..",
            "shop.tmp",
            "shop.TMP",
            "shop.part",
            "shop~",
            "#",
            "##",
            "a#",
            "#a",
            "a##",
            "a#..#b",
            "a\\b",
            "a\nb",
            "a###",
            "a/",
        ] {
            // `a###` is version `#` of /a.
            assert_eq!(ContextName::from_folder(name).is_ok(), name == "a###", "{name}");
        }
    }
}
