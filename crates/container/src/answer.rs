//! The container's own answers: errors, redirects, "building". Small HTML pages; a reason only in development.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode, Version};

use crate::body::ResponseBody;
use crate::exchange::Request;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// A page for a status. `reason` is shown as it is, escaped; give one only if the client may know it.
pub fn page(status: StatusCode, reason: &str) -> Response<ResponseBody> {
    let title = format!("{} {}", status.as_str(), status.canonical_reason().unwrap_or(""));
    let mut body = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title>\n<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;\
         padding:0 1rem;color:#3b3226;background:#fbf7ef}}@media(prefers-color-scheme:dark)\
         {{body{{color:#e9dfcd;background:#1d1a16}}}}</style>\n<h1>{title}</h1>\n"
    );
    if !reason.is_empty() {
        body.push_str("<p>");
        escape(reason, &mut body);
        body.push_str("</p>\n");
    }
    let mut response = Response::new(ResponseBody::Full(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HTML);
    response
}

/// A page after which the connection is closed, because its framing cannot be trusted.
pub fn closing(status: StatusCode, reason: &str) -> Response<ResponseBody> {
    let mut response = page(status, reason);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// 503 with the seconds after which it is worth to ask again.
pub fn unavailable(retry_after: u32, reason: &str) -> Response<ResponseBody> {
    let mut response = page(StatusCode::SERVICE_UNAVAILABLE, reason);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

/// What a servlet answers that is unavailable for so long; 0: for good (Servlet 2.3.3.2).
pub fn servlet_unavailable(seconds: u32, reason: &str) -> Response<ResponseBody> {
    match seconds {
        0 => page(StatusCode::NOT_FOUND, reason),
        _ => unavailable(seconds, reason),
    }
}

/// `location` may begin with the target as it was sent. For HTTP/1.0, which knows no other, it is made absolute (RFC 1945 10.11).
pub fn redirect(request: &Request, status: StatusCode, location: &str) -> Response<ResponseBody> {
    let mut location = on_this_host(location);
    if request.version == Version::HTTP_10 {
        location.insert_str(0, &request.target.origin(request.is_secure()));
    }
    let Ok(location) = HeaderValue::from_str(&location) else {
        return page(StatusCode::BAD_REQUEST, "");
    };
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    response
}

/// Of several slashes one is left: what is behind two of them names a host. To browsers backslashes are slashes, so it is the same with
/// those, where a listener lets them in.
fn on_this_host(location: &str) -> String {
    format!("/{}", location.trim_start_matches(['/', '\\']))
}

/// A status that says all.
pub fn empty(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response
}

pub fn not_allowed(allow: &str) -> Response<ResponseBody> {
    let mut response = page(StatusCode::METHOD_NOT_ALLOWED, "");
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// The answer to TRACE: the head of the request, without what only the server may know (RFC 9110 9.3.8).
pub fn trace(request: &Request) -> Response<ResponseBody> {
    const PRIVATE: [&str; 5] = ["authorization", "cookie", "forwarded", "proxy-authorization", "x-forwarded"];
    let Request { target, headers, version, .. } = request;
    let mut text = format!("TRACE {} {version:?}\r\n", target.raw()).into_bytes();
    for (name, value) in headers {
        if !PRIVATE.iter().any(|private| name.as_str().starts_with(private)) {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    let mut response = Response::new(ResponseBody::Full(text.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
    response
}

/// The answer to OPTIONS.
pub fn options(allow: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_on_this_host() {
        for (sent, location) in [
            ("/a/", "/a/"),
            ("//evil.test/../a/", "/evil.test/../a/"),
            ("/\\evil.test\\..\\a/", "/evil.test\\..\\a/"),
            ("/\\/\\evil.test/../a/?q=//x", "/evil.test/../a/?q=//x"),
        ] {
            assert_eq!(on_this_host(sent), location, "{sent}");
        }
    }
}
