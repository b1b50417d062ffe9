//! The container's own answers that are no errors: redirects, OPTIONS, TRACE.

use http::header::{ALLOW, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode, Version};

use crate::body::ResponseBody;
use crate::exchange::Request;
use crate::problem::Problem;

/// An answer, or what is wrong.
pub type Answered = Result<Response<ResponseBody>, Box<Problem>>;

/// `location` may begin with the target as it was sent. For HTTP/1.0, which knows no other, it is made absolute (RFC 1945 10.11).
pub fn redirect(request: &Request, status: StatusCode, location: &str) -> Answered {
    let mut location = on_this_host(location);
    if request.version == Version::HTTP_10 {
        location.insert_str(0, &request.target.origin(request.is_secure()));
    }
    let location = HeaderValue::from_str(&location).map_err(|_| Problem::new(StatusCode::BAD_REQUEST))?;
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
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
