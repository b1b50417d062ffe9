//! The head of a request as the upstream gets it: its target, and its headers without those that end here (RFC 9110 7.6).

use http::header::{CONNECTION, EXPECT, HOST, HeaderName, MAX_FORWARDS, TE, TRANSFER_ENCODING, UPGRADE, VIA};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use serval_config::{ContextSettings, Upstream};

use super::Proxy;
use super::forwarded;
use crate::context::Context;
use crate::exchange;
use crate::problem::Problem;
use crate::target::Target;
use crate::tokens::has_token;

/// A request's head, and whether the client has asked for another protocol that it may get.
pub struct Outgoing {
    pub head: Parts,
    pub upgrades: bool,
    /// The client sends its body when it is asked for it.
    pub expects: bool,
}

/// Makes it. The request loses its headers.
pub fn head(
    request: &mut exchange::Request,
    context: &Context,
    proxy: &Proxy,
    settings: &ContextSettings,
) -> Result<Outgoing, Box<Problem>> {
    let target = target(&request.target, context, &proxy.upstream);
    let target = PathAndQuery::try_from(target).map_err(|_| Problem::new(StatusCode::URI_TOO_LONG))?;
    let mut headers = std::mem::take(&mut request.headers);
    let upgrade = upgrade(request, &headers);
    let takes_trailers = has_token(&headers, TE, "trailers");
    // With a body that is waited for; else there is nothing to ask for.
    let expects = request.body.is_some() && has_token(&headers, EXPECT, "100-continue");
    remove_hop_by_hop(&mut headers);
    headers.remove(EXPECT);
    if expects {
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    // hyper sends no body of a GET of which the headers say nothing.
    if request.body.as_ref().is_some_and(|body| http_body::Body::size_hint(body).exact().is_none()) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    forwarded::say(request, settings.remote_ip.as_ref(), &mut headers);
    let host = match settings.proxy_preserve_host && !request.target.server_name.is_empty() {
        true => forwarded::host(request),
        false => proxy.upstream.authority(),
    };
    headers.insert(HOST, HeaderValue::from_str(&host).map_err(|_| Problem::new(StatusCode::BAD_REQUEST))?);
    pass_via(request.version, &proxy.name, &mut headers);
    if let Some(forwards) = max_forwards(request.method.clone(), &headers) {
        headers.insert(MAX_FORWARDS, HeaderValue::from(forwards.saturating_sub(1)));
    }
    let mut connection = Vec::new();
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        connection.push("te");
    }
    let upgrades = upgrade.is_some();
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        connection.push("upgrade");
    }
    if let Ok(connection) = HeaderValue::from_str(&connection.join(", "))
        && !connection.is_empty()
    {
        headers.insert(CONNECTION, connection);
    }
    let (mut head, ()) = Request::new(()).into_parts();
    (head.method, head.uri, head.headers) = (request.method.clone(), Uri::from(target), headers);
    Ok(Outgoing { head, upgrades, expects })
}

/// Path and query. As they were sent, but for what means the context; where dots in the path lead back, it is cleaned, so that what the
/// upstream makes of it is what was looked up here.
pub fn target(target: &Target, context: &Context, upstream: &Upstream) -> String {
    let behind = target.raw_behind_context();
    let behind = if has_dots(behind) { Target::encoded(target.path()) } else { behind.to_owned() };
    let before = match &upstream.path {
        Some(path) => path.clone(),
        None => Target::encoded(&context.path),
    };
    // A parameter may stand behind the path of the context.
    let slash = if before.is_empty() && !behind.starts_with('/') { "/" } else { "" };
    let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{before}{slash}{behind}{query}")
}

/// Whether a segment of a raw path is `.` or `..`, in any way in which somebody may read it.
fn has_dots(path: &str) -> bool {
    let is_slash = |char| matches!(char, '/' | '\\');
    let mut decoded = path.to_ascii_lowercase();
    for (escape, char) in [("%2e", "."), ("%2f", "/"), ("%5c", "\\"), ("%3b", ";")] {
        if decoded.contains(escape) {
            decoded = decoded.replace(escape, char);
        }
    }
    let mut segments = decoded.split(is_slash).map(|segment| segment.split(';').next().unwrap_or(""));
    segments.any(|segment| matches!(segment, "." | ".."))
}

/// The protocol that a client asks for, if it can be passed on. Not HTTP/2: what came through the tunnel then would be requests that
/// nothing here has looked at.
fn upgrade(request: &exchange::Request, headers: &HeaderMap) -> Option<HeaderValue> {
    let is_asked = request.version == Version::HTTP_11 && has_token(headers, CONNECTION, "upgrade");
    let mut values = headers.get_all(UPGRADE).iter();
    let value = values.next().filter(|_| is_asked && request.body.is_none() && values.next().is_none())?;
    let protocol = value.to_str().ok()?.trim().to_ascii_lowercase();
    let is_other_http = protocol.starts_with("h2c") || protocol.starts_with("http/") || protocol.starts_with("tls/");
    (!protocol.is_empty() && !protocol.contains(',') && !is_other_http).then(|| value.clone())
}

/// Removes what is between two neighbours alone: Connection, what it names, and what was meant so before there was Connection
/// (RFC 9110 7.6.1). Of Transfer-Encoding and Content-Length only what the sender makes of the body is left.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let of_proxies = headers.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned();
    let names: Vec<HeaderName> = named.into_iter().chain(of_proxies).collect();
    for name in names.iter().chain(&[CONNECTION, TE, TRANSFER_ENCODING, UPGRADE]) {
        headers.remove(name);
    }
    for name in ["keep-alive", "http2-settings"] {
        headers.remove(name);
    }
}

/// Whether a request has been sent by a proxy of this name before.
pub fn has_passed(headers: &HeaderMap, name: &str) -> bool {
    let is_it = |part: &[u8]| part.trim_ascii().split(|&byte| byte == b' ').any(|word| word == name.as_bytes());
    headers.get_all(VIA).iter().any(|value| value.as_bytes().split(|&byte| byte == b',').any(is_it))
}

/// RFC 9110 7.6.3.
fn pass_via(version: Version, name: &str, headers: &mut HeaderMap) {
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        _ => "1.1",
    };
    if let Ok(via) = HeaderValue::from_str(&format!("{version} {name}")) {
        headers.append(VIA, via);
    }
}

/// Whether a request is not to be sent on (RFC 9110 7.6.2).
pub fn is_at_its_end(request: &exchange::Request) -> bool {
    max_forwards(request.method.clone(), &request.headers) == Some(0)
}

fn max_forwards(method: Method, headers: &HeaderMap) -> Option<u64> {
    if !matches!(method, Method::TRACE | Method::OPTIONS) {
        return None;
    }
    headers.get(MAX_FORWARDS)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_LENGTH;

    use super::*;

    #[test]
    fn dots_are_seen_however_they_are_written() {
        for path in
            ["/..", "/a/../b", "/.;x/b", "/%2e%2E/b", "/a%2f..", "/a\\..\\b", "/a%5C.%2e", "/..%3bx", "/a;/../b"]
        {
            assert!(has_dots(path), "{path}");
        }
        for path in ["", "/", "/a.b/...", "/..a", "/a;x=..", "/%252e%252e/", ";x/a", "/.well-known"] {
            assert!(!has_dots(path), "{path}");
        }
    }

    #[test]
    fn what_is_between_neighbours_is_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-a , content-length"),
            ("connection", "X-B,,\u{7f}"),
            ("x-a", "1"),
            ("x-b", "1"),
            ("x-c", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("trailer", "x-t"),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes());
            headers.append(name, value.unwrap_or(HeaderValue::from_static("x-b")));
        }
        headers.append(CONTENT_LENGTH, HeaderValue::from_static("3"));
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["trailer", "x-c"]);
    }

    #[test]
    fn a_proxy_knows_its_own_requests() {
        let headers = |value| HeaderMap::from_iter([(VIA, HeaderValue::from_static(value))]);
        assert!(has_passed(&headers("1.1 a, 1.0 serval-1 (x)"), "serval-1"));
        assert!(!has_passed(&headers("1.1 serval-12, 1.1 aserval-1"), "serval-1"));
    }
}
