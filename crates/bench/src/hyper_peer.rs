//! The peer: the least that answers over hyper, with Serval's settings (TCP_NODELAY, workers), so that
//! what is left between the two is the container.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

/// Serves until it is killed. Prints its address as Serval does.
pub fn serve(address: SocketAddr, headers: &[String], body: &'static [u8]) -> Result<()> {
    let headers: HeaderMap = headers.iter().map(|header| parse(header)).collect::<Result<_>>()?;
    let headers = Arc::new(headers);
    // As Serval: one I/O thread more than there are cores.
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get()) + 1;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        println!("listening on http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await.context("accept")?;
            stream.set_nodelay(true)?;
            tokio::spawn(connection(stream, Arc::clone(&headers), body));
        }
    })
}

async fn connection(stream: TcpStream, headers: Arc<HeaderMap>, body: &'static [u8]) {
    let service = service_fn(move |_: Request<Incoming>| {
        let mut response = Response::new(Full::new(Bytes::from_static(body)));
        *response.headers_mut() = headers.as_ref().clone();
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new());
    // An error is a client that went away; the load counts what it misses.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn parse(header: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = header.split_once(": ").with_context(|| format!("{header:?} is no header"))?;
    Ok((name.parse()?, value.parse()?))
}
