//! The check of a generation that is about to take over: a request of the server's own, for the path that web.toml names. Called by
//! `deploy`, before the swap.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Method, Request, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::answering::Answering;
use crate::context::Context;
use crate::generation::Generation;
use crate::target::{Authority, Refused, Target};
use crate::turn::Turn;
use crate::{Container, Peer, exchange, within};

/// LIMIT: bytes of an answer that are waited for; the rest is not.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A client that leaves at its end.
struct Leaves(Arc<Turn>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.client_leaves();
    }
}

impl Container {
    /// Asks a generation that serves nobody yet, on its context's pool. An error is a clause behind "its check /path".
    pub(crate) async fn check(&self, context: &Arc<Context>, next: &Arc<Generation>, path: &str) -> Result<(), String> {
        let host = context.host.load().name.clone();
        let wrong = |why: &str| format!("is not a path that can be asked for: {why}");
        let mut request =
            Request::builder().method(Method::GET).uri(format!("{}{path}", Target::encoded(&context.path))).body(());
        if let (Ok(request), Ok(host)) = (&mut request, HeaderValue::from_str(&host)) {
            request.headers_mut().insert(HOST, host);
        }
        let (mut head, ()) = request.map_err(|error| wrong(&error.to_string()))?.into_parts();
        let peer = self.peer_of_check();
        let server = Authority { name: Some(host), port: peer.local.port() };
        let target = Target::read(&mut head, server, &peer.listener.uri).map_err(|Refused(_, why)| wrong(why))?;
        // It would mean another context.
        let is_inside = |rest: &str| rest.is_empty() || rest.starts_with('/');
        if !target.path().strip_prefix(&context.path).is_some_and(is_inside) {
            return Err(wrong("it leads out of the context"));
        }
        let request = Box::new(exchange::Request {
            id: self.exchanges.fetch_add(1, Ordering::Relaxed),
            method: head.method,
            version: Version::HTTP_11,
            headers: head.headers,
            target,
            peer,
            client: None,
            body: None,
            noting: None,
        });
        let turn = Turn::alone(self);
        // What goes on by itself ends when nobody waits for it, also in time that is up.
        let _leaves = Leaves(turn.clone());
        let answer = within(context.clone(), next.clone(), request, &turn);
        let Ok(response) = Answering::new(answer, None, &turn).await;
        let (head, mut body) = response.into_parts();
        let mut read = 0;
        while read < ANSWER_BYTES_MAX && !body.is_end_stream() {
            match body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => return Err("was cut".to_owned()),
                None => break,
            }
        }
        match head.status.is_success() {
            true => Ok(()),
            false => Err(format!("answered {}", head.status)),
        }
    }

    /// The server itself, at its first listener.
    fn peer_of_check(&self) -> Arc<Peer> {
        let listener = self.deployment.first_listener();
        let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Arc::new(Peer::new(here, listener.address.as_told(), 0, listener.secure, listener))
    }
}
