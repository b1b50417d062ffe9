//! Answers of the static servlet: the files of a webapp, after its servlets had their chance (SEMANTICS 14).
//!
//! Called by `dispatch`, and by `exchange` where filters or an include are around it.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serval_static_files::{File, Found, respond, status_when_missing};

use crate::answer;
use crate::body::ResponseBody;
use crate::context::{Context, Waiting};
use crate::exchange::Request;

/// Answers by the static files of a context, after the servlets had their chance.
pub fn answer(request: &Request, context: &Context, path: &str) -> Response<ResponseBody> {
    match context.folder.load().lookup(path) {
        Found::File(file) => static_answer(request, file),
        Found::Directory if !path.ends_with('/') => {
            let mut location = format!("{}/", request.target.request_uri());
            if let Some(query) = request.target.query() {
                location.push('?');
                location.push_str(query);
            }
            answer::redirect(StatusCode::FOUND, &location)
        }
        Found::Directory | Found::Missing => missing(request, context),
        Found::Forbidden => answer::page(StatusCode::FORBIDDEN, ""),
        Found::Failed(error) => {
            tracing::error!(context = %context.name, request = request.id, "a file cannot be opened: {error}");
            answer::page(StatusCode::INTERNAL_SERVER_ERROR, "")
        }
    }
}

/// The content of a file, and its type; `None`: there is none.
pub fn content(context: &Context, path: &str) -> Option<(ResponseBody, Option<HeaderValue>)> {
    let Found::File(file) = context.folder.load().lookup(path) else { return None };
    let (head, body) = respond(file, &Method::GET, &HeaderMap::new()).into_parts();
    Some((ResponseBody::File(body), head.headers.get(CONTENT_TYPE).cloned()))
}

fn missing(request: &Request, context: &Context) -> Response<ResponseBody> {
    match context.waiting() {
        Waiting::No => answer::page(status_when_missing(&request.headers), ""),
        Waiting::Starting => answer::unavailable(1, "This application is starting."),
        Waiting::Building => answer::unavailable(2, "This application is being built. Try again in a moment."),
        Waiting::Failed => answer::unavailable(10, "This application has not started; the server's log says why."),
    }
}

fn static_answer(request: &Request, file: File) -> Response<ResponseBody> {
    match request.method {
        Method::GET | Method::HEAD | Method::POST => {
            let method = if request.method == Method::HEAD { Method::HEAD } else { Method::GET };
            let (head, body) = respond(file, &method, &request.headers).into_parts();
            if head.status.is_client_error() || head.status.is_server_error() {
                let mut page = answer::page(head.status, "");
                page.headers_mut().extend(head.headers);
                return page;
            }
            Response::from_parts(head, ResponseBody::File(body))
        }
        Method::OPTIONS => answer::options("OPTIONS, GET, HEAD, POST"),
        _ => answer::not_allowed("OPTIONS, GET, HEAD, POST"),
    }
}
