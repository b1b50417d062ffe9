//! Who makes the page for a problem (SEMANTICS 9): the webapp, by `[[error_page]]`; the host, by a file; or the server itself.
//!
//! A page that a servlet makes, or that filters see, is a dispatch of the exchange (`exchange::error_page`). Here is what needs no
//! exchange.

use std::fs;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use serval_abi::SV_DISPATCH_ERROR;
use serval_config::{ErrorsOf, HostErrorPage, WebErrorPage};
use serval_static_files::content_type;

use crate::body::ResponseBody;
use crate::context::Context;
use crate::files::{self, Content};
use crate::generation::Generation;
use crate::inside::{self, Mapped};
use crate::problem::Problem;
use crate::target::Target;

/// The location of a webapp's page: by the longest part of the problem's kind, by its status, or the one for the rest.
pub fn location<'p>(pages: &'p [WebErrorPage], problem: &Problem) -> Option<&'p str> {
    let mut best: Option<((u8, usize), &str)> = None;
    for WebErrorPage { of, location } in pages {
        let rank = match of {
            ErrorsOf::Kind(kind) if is_of_kind(&problem.kind, kind) => (2, kind.len()),
            ErrorsOf::Status(status) if *status == problem.status => (1, 0),
            ErrorsOf::Rest => (0, 0),
            _ => continue,
        };
        if best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, location));
        }
    }
    best.map(|(_, location)| location)
}

/// Whether the webapp has a page for the problem's kind.
pub fn is_of_its_kind(pages: &[WebErrorPage], problem: &Problem) -> bool {
    pages.iter().any(|page| matches!(&page.of, ErrorsOf::Kind(kind) if is_of_kind(&problem.kind, kind)))
}

fn is_of_kind(kind: &str, general: &str) -> bool {
    kind.strip_prefix(general).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A problem inside of a context: the answer, where neither a servlet nor a filter has a part in it. `None`: they have.
pub fn at_once(
    problem: &Problem,
    headers: &HeaderMap,
    context: &Context,
    generation: &Generation,
) -> Option<Response<ResponseBody>> {
    let Some(location) = location(&generation.web.error_pages, problem) else {
        return Some(without(problem, headers, context, generation));
    };
    let path = path_of_file(generation, location)?;
    Some(file(problem, generation, &path).unwrap_or_else(|| without(problem, headers, context, generation)))
}

/// The answer where no servlet may be asked.
pub fn without_servlet(
    problem: &Problem,
    headers: &HeaderMap,
    context: &Context,
    generation: &Generation,
) -> Response<ResponseBody> {
    at_once(problem, headers, context, generation).unwrap_or_else(|| without(problem, headers, context, generation))
}

/// The answer without a page of the webapp.
pub fn without(
    problem: &Problem,
    headers: &HeaderMap,
    context: &Context,
    generation: &Generation,
) -> Response<ResponseBody> {
    let shows_reasons = generation.web.error_reason.unwrap_or(generation.development);
    context.host.load().pages.page(problem, headers, shows_reasons)
}

/// The path of a page that is one of the webapp's files, and that no filter sees.
fn path_of_file(generation: &Generation, location: &str) -> Option<String> {
    let path = Target::clean_path(location.split(['?', '#']).next().unwrap_or(""))?;
    let Mapped { found, welcome } = inside::find(generation, &path);
    let path = welcome.unwrap_or(path);
    if generation.servlet_of(found.by).is_some() {
        return None;
    }
    let filters = generation.filter_maps.find(Some(&path), generation.name_of(found.by), SV_DISPATCH_ERROR);
    filters.is_empty().then_some(path)
}

/// A file as a page: all of it, whatever the request's headers ask. `None`: it is not there.
pub fn file(problem: &Problem, generation: &Generation, path: &str) -> Option<Response<ResponseBody>> {
    match files::content(generation, path) {
        Content::File(body, content_type) => Some(problem.response(body, content_type)),
        Content::Directory | Content::Missing => None,
    }
}

/// The files of a host for errors (`[[host.error_page]]`).
#[derive(Default)]
pub struct HostPages(Vec<HostPage>);

struct HostPage {
    /// `None`: all that no other is for.
    status: Option<u16>,
    content: Bytes,
    content_type: Option<HeaderValue>,
}

impl HostPages {
    /// Reads them. One that is not there any more is left out, with a line in the log.
    pub fn read(host: &str, pages: &[HostErrorPage]) -> HostPages {
        let read = |HostErrorPage { status, file }: &HostErrorPage| {
            let content = fs::read(file).map_err(|error| {
                tracing::error!("host {host}: the error page {} cannot be read: {error}", file.display());
            });
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
            Some(HostPage { status: *status, content: content.ok()?.into(), content_type: content_type(name) })
        };
        HostPages(pages.iter().filter_map(read).collect())
    }

    /// The answer to a problem by one of them, or by the server's own page.
    pub fn page(&self, problem: &Problem, headers: &HeaderMap, shows_reasons: bool) -> Response<ResponseBody> {
        let of = |status: Option<u16>| self.0.iter().find(|page| page.status == status);
        match of(Some(problem.status.as_u16())).or_else(|| of(None)) {
            Some(HostPage { content, content_type, .. }) => {
                problem.response(ResponseBody::Full(content.clone()), content_type.clone())
            }
            None => problem.page(headers, shows_reasons),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn a_page_is_found_by_kind_then_status_then_for_the_rest() {
        let page = |of, location: &str| WebErrorPage { of, location: location.to_owned() };
        let kind = |kind: &str| ErrorsOf::Kind(kind.to_owned());
        let rest = page(ErrorsOf::Rest, "/rest");
        let pages = [
            page(kind("io"), "/io"),
            page(ErrorsOf::Status(404), "/404"),
            page(kind("io/not-found"), "/io/not-found"),
            page(kind("shop/db"), "/db"),
        ];
        let with_rest = [&pages[..], &[rest]].concat();
        for (status, kind, found, otherwise) in [
            (500, "io", Some("/io"), "/io"),
            (500, "io/other", Some("/io"), "/io"),
            (500, "io/not-found/deep", Some("/io/not-found"), "/io/not-found"),
            (404, "io/not-found", Some("/io/not-found"), "/io/not-found"),
            (404, "iothing", Some("/404"), "/404"),
            (404, "", Some("/404"), "/404"),
            (500, "shop", None, "/rest"),
            (503, "", None, "/rest"),
        ] {
            let problem = Problem::new(StatusCode::from_u16(status).unwrap()).of_kind(kind);
            assert_eq!(location(&pages, &problem), found, "{status} {kind}");
            assert_eq!(location(&with_rest, &problem), Some(otherwise), "{status} {kind}");
        }
    }
}
