//! What is left of a body when its request was answered: taken and dropped up to a bound, so that the connection can go on behind
//! it, or a client that is still sending comes to read its answer (SEMANTICS 13, 15; RFC 9112 9.6).
//!
//! Whoever drops the body of a request calls it.

use http::HeaderMap;
use http::header::EXPECT;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serval_config::Listener;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::RequestBody;

/// Takes up to `unread_body_bytes_max` of a body, in `body_timeout`. One that is longer is left where it is, which closes the
/// connection.
pub fn take(mut body: RequestBody, headers: &HeaderMap, listener: &Listener) {
    // A client that still waits to be asked for it sends no body now, or the next request in its place (RFC 9110 10.1.1).
    if headers.contains_key(EXPECT) {
        return;
    }
    let most = listener.unread_body_bytes_max;
    // Dropped without a runtime: the server is over.
    let Ok(runtime) = Handle::try_current() else { return };
    if body.is_end_stream() || body.size_hint().lower() > most {
        return;
    }
    let time = listener.body_timeout;
    // LIMIT: one for each connection, or stream of one, which cancels it when it ends; and it has body_timeout.
    drop(runtime.spawn(timeout(time, async move {
        let mut taken = 0;
        while taken <= most
            && let Some(Ok(frame)) = body.frame().await
        {
            taken += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
    })));
}
