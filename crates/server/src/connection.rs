//! One connection: hyper speaks HTTP/1 on it, within the listener's limits, and the container answers.

use std::convert::Infallible;
use std::sync::Arc;

use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serval_config::Listener;
use serval_container::{Container, Peer, ResponseBody};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// hyper's own bound of the header count; to set it, even to the same number, costs 1,700 instructions a request.
const HYPERS_OWN_MAX: usize = 100;

pub async fn serve(
    stream: TcpStream,
    peer: Arc<Peer>,
    settings: Listener,
    container: Arc<Container>,
    mut stopped: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("TCP_NODELAY: {error}");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (container, peer) = (container.clone(), peer.clone());
        let request =
            request.map(|body| if body.is_end_stream() { None } else { Some(body.map_err(Into::into).boxed_unsync()) });
        async move {
            Ok::<_, Infallible>(match request.body().as_ref().and_then(|_| refused_coding(request.headers())) {
                Some(status) => closing(status),
                None => container.handle(request, &peer).await,
            })
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(settings.head_bytes_max.max(8192));
    if settings.header_count_max != HYPERS_OWN_MAX {
        http.max_headers(settings.header_count_max);
    }
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = crate::run::told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection ended: {error}");
    }
}

/// A body is chunked, once, and nothing else (SEMANTICS 13). hyper looks only at the last coding: a servlet would read what is
/// still compressed, and a proxy in front may have seen another end of the body.
fn refused_coding(headers: &HeaderMap) -> Option<StatusCode> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let first = values.next()?;
    if values.next().is_none() && first.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return None;
    }
    let chunked = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.split(',').all(|coding| coding.trim().eq_ignore_ascii_case("chunked")))
    };
    let known = headers.get_all(TRANSFER_ENCODING).iter().all(chunked);
    Some(if known { StatusCode::BAD_REQUEST } else { StatusCode::NOT_IMPLEMENTED })
}

fn closing(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
