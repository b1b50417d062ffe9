//! From a path inside a context to who answers it (SEMANTICS 4 and 6 to 8): the redirect of the context's root, servlets, welcome
//! files, and what is never served.
//!
//! `Container::answer` and the dispatches of an exchange walk the steps; each is a function of its own, and shows its rule by what it
//! returns.

use serval_static_files::{Found, is_private};

use crate::answer::{self, Answered};
use crate::context::Context;
use crate::exchange::{Request, requested_sessions};
use crate::generation::Generation;
use crate::mapping::Match;
use crate::target::Target;

/// Who answers a path.
pub struct Mapped {
    pub found: Match,
    /// The path that was found in place of the folder's: a welcome file, or a servlet that is there in the place of one.
    pub welcome: Option<String>,
}

/// Whether a path is the context's root without a slash behind it that no servlet takes as it is (Tomcat 11 asks the pattern `""` as
/// well as `/*`).
pub fn lacks_slash(generation: &Generation, path: &str) -> bool {
    path.is_empty() && generation.web.redirects.context_root && generation.mapper.find_named(path).is_none()
}

/// Sends the client to the context's root, with its query, and its session where the URL carries it.
pub fn redirect_to_root(request: &Request, context: &Context, generation: &Generation) -> Answered {
    let Request { target, headers, .. } = request;
    let mut location = format!("{}/", Target::encoded(&context.path));
    let requested = requested_sessions(target, headers, generation);
    if let Some(id) = requested.ids.first().filter(|_| requested.by_url) {
        location.push_str(&format!(";{}={id}", generation.session_parameter()));
    }
    if let Some(query) = target.query() {
        location.push_str(&format!("?{query}"));
    }
    answer::redirect(request, generation.redirect_status(), &location)
}

/// Finds who answers, in the order of SEMANTICS 4.
pub fn find(generation: &Generation, path: &str) -> Mapped {
    let mapper = &generation.mapper;
    if let Some(found) = mapper.find_named(path).or_else(|| mapper.find_extension(path)) {
        return Mapped { found, welcome: None };
    }
    if path.ends_with('/')
        && let Some((found, path)) = welcome(generation, path)
    {
        return Mapped { found, welcome: Some(path) };
    }
    Mapped { found: mapper.find_default(path), welcome: None }
}

/// Who a path that ends in a slash may stand for (SEMANTICS 8).
fn welcome(generation: &Generation, folder: &str) -> Option<(Match, String)> {
    let mapper = &generation.mapper;
    for entry in generation.welcome_files() {
        let path = format!("{folder}{entry}");
        if let Some(found) = mapper.find_exact(&path).or_else(|| mapper.find_path(&path)) {
            return Some((found, path));
        }
        if let Found::File(_) = generation.folder.lookup(&path) {
            let found = mapper.find_extension(&path).unwrap_or_else(|| mapper.find_default(&path));
            return Some((found, path));
        }
    }
    // No such file: whoever takes its extension, as `index.do`, and does not need a file.
    let mut entries = generation.welcome_files().map(|entry| format!("{folder}{entry}"));
    entries.find_map(|path| {
        let found = mapper.find_extension(&path)?;
        (!generation.needs_files(found.by)).then_some((found, path))
    })
}

/// WEB-INF and META-INF at the top of a webapp, in any case (SEMANTICS 7). Dispatches inside of the webapp may reach them.
pub fn is_protected(path: &str) -> bool {
    is_private(path.strip_prefix('/').unwrap_or(path).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_folders() {
        for (path, expected) in [
            ("/WEB-INF", true),
            ("/WEB-INF/", true),
            ("/web-inf/lib/a.so", true),
            ("/Meta-Inf/x", true),
            ("/WEB-INFO/x", false),
            ("/sub/WEB-INF/x", false),
            ("/", false),
            ("", false),
        ] {
            assert_eq!(is_protected(path), expected, "{path}");
        }
    }
}
