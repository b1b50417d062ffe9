//! A request of the vectors as bytes on a socket, and the whole answer.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::format::Request;
use crate::http_client::{Connection, Response};

/// For a whole answer.
const WITHIN: Duration = Duration::from_secs(60);

/// Returns the bytes of a request. `host` is the name that is asked where the request says nothing.
pub fn bytes(request: &Request, host: &str) -> Result<Vec<u8>> {
    let body = request.body.as_ref().map(|body| body.bytes()).transpose()?;
    let has = |name: &str| request.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let mut head = format!("{} {} {}\r\n", request.method, request.target, request.version);
    match request.host.as_deref().unwrap_or(host) {
        "-" => {}
        host => head += &format!("Host: {host}\r\n"),
    }
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body.as_ref().filter(|_| !has("content-length") && !has("transfer-encoding")) {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    if !has("connection") {
        head += "Connection: close\r\n";
    }
    head += "\r\n";
    Ok([head.into_bytes(), body.unwrap_or_default()].concat())
}

/// Sends the bytes, and reads the answer to the end of the connection, where it is to be closed.
pub fn exchange(address: SocketAddr, request: &Request, bytes: &[u8]) -> Result<Response> {
    let mut connection = Connection::open(address, WITHIN).context("connect")?;
    // A server may answer and close before it has read all.
    match connection.send(bytes) {
        Err(error) if !is_closed(&error) => return Err(error).context("send"),
        _ => {}
    }
    let mut response = loop {
        let response = match &*request.method {
            "HEAD" => connection.read_response_of_head(),
            // A servlet that fails after the commit gets its answer cut: what came of it is compared.
            _ => connection.read_response_or_what_came(),
        };
        let response = response.context("read the answer")?;
        if response.status >= 200 {
            break response;
        }
    };
    let framed = |name: &str| response.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name)).count();
    let (lengths, codings) = (framed("content-length"), framed("transfer-encoding"));
    ensure!(lengths + codings <= 1, "the answer has {lengths} Content-Length and {codings} Transfer-Encoding");
    let keeps = request.headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("connection") && value != "close");
    if !keeps {
        let rest = match connection.read_to_close() {
            Err(error) if is_closed(&error) => Vec::new(),
            Err(error) => return Err(error).context("wait for the connection's end"),
            Ok(rest) => rest,
        };
        if !rest.is_empty() && request.method == "HEAD" {
            // So that a case can say that there is none.
            response.body = rest;
        } else if !rest.is_empty() {
            bail!("{} bytes follow the answer", rest.len());
        }
    }
    Ok(response)
}

fn is_closed(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
