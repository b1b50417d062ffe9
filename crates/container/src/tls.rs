//! What TLS brings along: which hosts a connection is for, the way from http to https, and the header that keeps browsers there.

use std::fmt;
use std::sync::Arc;

use http::header::LOCATION;
use http::{HeaderValue, Method, Response, StatusCode};

use crate::Peer;
use crate::body::ResponseBody;
use crate::target::Target;

/// Where the protocol that gives out certificates looks for its answers, which it asks for without TLS (RFC 8555 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Says whether a connection is for a host. The name is in lower case, without a port.
#[derive(Clone)]
pub struct Serves(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl Serves {
    pub fn new(serves: impl Fn(&str) -> bool + Send + Sync + 'static) -> Serves {
        Serves(Arc::new(serves))
    }

    pub fn host(&self, name: &str) -> bool {
        (self.0)(name)
    }
}

impl fmt::Debug for Serves {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Serves")
    }
}

/// What is known of a connection by TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// `TLSv1.3`.
    pub protocol: &'static str,
    /// The IANA name of the suite.
    pub cipher: String,
    /// The host that the client has named (SNI).
    pub server_name: Option<String>,
    /// The client's, in DER, its own first; empty if it has shown none. They have been verified.
    pub certificates: Vec<Vec<u8>>,
    /// `None`: for all hosts.
    pub serves: Option<Serves>,
}

/// Says whether a connection is for the host that its request is for.
pub fn serves(peer: &Peer, host: Option<&str>) -> bool {
    let serves = peer.tls.as_ref().and_then(|tls| tls.serves.as_ref());
    match (serves, host) {
        (Some(serves), Some(host)) if !host.is_empty() => serves.host(host),
        _ => true,
    }
}

/// Returns the answer that sends a request to https, where the listener has such a port and the request does not come by it.
pub fn to_https(
    peer: &Peer,
    method: &Method,
    target: &Target,
    is_secure: impl FnOnce() -> bool,
) -> Option<Response<ResponseBody>> {
    let port = peer.listener.https_redirect_port?;
    if peer.secure || is_secure() || target.path().starts_with(CHALLENGES) {
        return None;
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let location = format!("https://{}{port}{}", target.server_name, target.raw());
    let mut response = Response::new(ResponseBody::empty());
    // To another method than these, a client may change at 301 (RFC 9110 15.4.2).
    *response.status_mut() = match *method {
        Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
        _ => StatusCode::PERMANENT_REDIRECT,
    };
    match HeaderValue::from_str(&location) {
        Ok(location) => drop(response.headers_mut().insert(LOCATION, location)),
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Some(response)
}
