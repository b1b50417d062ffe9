//! The answer to a request that hyper was not shown, since its framing cannot be trusted, it has not come in time, or there is no place
//! for its connection. It is the last one of the connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use serval_container::{Container, Peer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::said;
use crate::stream::Stream;

/// How long what the client still sends is taken, so that it comes to read the answer (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// LIMIT: bytes of it.
const LINGER_BYTES_MAX: usize = 256 << 10;

/// Answers, and ends the connection. `line` is the request line, as far as there is one.
pub async fn answer(
    mut stream: Stream,
    line: &[u8],
    (status, why): (u16, &'static str),
    container: &Container,
    peer: &Arc<Peer>,
) {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    said_of(status, why, peer);
    let (head, body) = container.refuse_unread(line, status, why, peer).into_parts();
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")).as_bytes(),
    );
    for (name, value) in &head.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    bytes.extend_from_slice(format!("content-length: {}\r\ndate: {now}\r\n\r\n", body.len()).as_bytes());
    if !line.starts_with(b"HEAD ") {
        bytes.extend_from_slice(&body);
    }
    let written = timeout(peer.listener.write_timeout, async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    });
    if let Ok(Ok(())) = written.await {
        linger(&mut stream).await;
    }
}

/// Takes what a client still sends whose answer is on its way, for a moment: it would lose that with a reset.
pub async fn linger(stream: &mut Stream) {
    let take = async {
        let mut buffer = vec![0; 8 << 10];
        let mut taken = 0;
        while taken < LINGER_BYTES_MAX
            && let Ok(read @ 1..) = stream.read(&mut buffer).await
        {
            taken += read;
        }
    };
    let _ = timeout(LINGER, take).await;
}

/// A bound was reached: the log says of which client. What was only malformed has its line in the access log.
pub fn said_of(status: StatusCode, why: &'static str, peer: &Peer) {
    if matches!(status.as_u16(), 408 | 414 | 431) {
        said::of_client(peer.remote.ip(), why);
    }
}
