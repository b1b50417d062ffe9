//! One request and its response inside a servlet: what the loader's table asks for, on the container's side.
//!
//! It is made by `dispatch`, owned by the task that runs the servlet, and sends its head to the connection when it commits.

use std::any::Any;
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;
use serval_abi::{
    SV_DISPATCH_REQUEST, SV_E_ARG, SV_E_BUSY, SV_E_CLOSED, SV_E_LIMIT, SV_E_REQUEST, SV_E_STATE, SV_E_TIMEOUT,
};
use serval_loader::exchange::{Answer, Fault, Head, HeaderChange, printable};
use tokio::sync::oneshot;

use crate::body::ResponseBody;
use crate::context::Context;
use crate::execution::{Call, let_connection_go_on, wait};
use crate::generation::Generation;
use crate::mapping::Match;
use crate::parameters::{self, BadParameters};
use crate::sending::{BUFFER_BYTES_MAX, NO_THREAD, Patience, Sending};
use crate::target::Target;
use crate::{Peer, RequestBody, answer};

/// LIMIT: bytes of all request attributes together.
const ATTRIBUTE_BYTES_MAX: usize = 1 << 20;

/// The parts of a request that a servlet sees.
pub struct Request {
    pub id: u64,
    pub method: Method,
    pub version: Version,
    pub headers: HeaderMap,
    pub target: Target,
    pub peer: Arc<Peer>,
    pub body: Option<RequestBody>,
}

pub struct Exchange {
    request: Box<Request>,
    context: Arc<Context>,
    generation: Arc<Generation>,
    found: Match,
    content_length: Option<u64>,
    body_read: u64,
    /// What hindered it and is not the servlet's mistake, with the status to answer.
    hindered: Option<(StatusCode, Fault)>,
    /// Once they were asked for.
    parameters: Option<Answer<Vec<(String, String)>>>,
    cookies: Option<Vec<(String, String)>>,
    attributes: Vec<(String, Vec<u8>)>,
    response: Sending,
    failure: Option<String>,
    unavailable: Option<u32>,
}

impl Exchange {
    pub fn new(
        request: Box<Request>,
        context: Arc<Context>,
        generation: Arc<Generation>,
        found: Match,
        head: oneshot::Sender<Response<ResponseBody>>,
    ) -> Exchange {
        let content_length = match &request.body {
            Some(_) => request.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()),
            None => Some(0),
        };
        let response = Sending::new(head, context.settings.response_buffer_bytes, request.method == Method::HEAD);
        Exchange {
            content_length,
            request,
            context,
            generation,
            found,
            body_read: 0,
            hindered: None,
            parameters: None,
            cookies: None,
            attributes: Vec::new(),
            response,
            failure: None,
            unavailable: None,
        }
    }

    /// The servlet has returned SV_OK.
    pub fn finish(mut self) {
        if let Some(text) = self.response.error.take() {
            let (context, generation) = (&self.generation.context, self.generation.number);
            let (servlet, request, status) = (self.servlet_name(), self.request.id, self.response.status.as_u16());
            // Quoted: it may come from the client.
            if status < 500 {
                tracing::debug!(%context, generation, %servlet, request, status, "a servlet sent an error: {text:?}");
            } else {
                tracing::warn!(%context, generation, %servlet, request, status, "a servlet sent an error: {text:?}");
            }
            let reason = if self.context.development { text.as_str() } else { "" };
            return self.response.error_page(reason);
        }
        if let Err(short) = self.response.finish() {
            let (context, generation) = (&self.generation.context, self.generation.number);
            let (servlet, request) = (self.servlet_name(), self.request.id);
            tracing::error!(%context, generation, %servlet, request, "a response was cut: {short}");
        }
    }

    /// The servlet has returned an error status; `text` is for the log.
    pub fn failed(mut self, returned: i32, text: &str) {
        // Another error than the one that it met is the servlet's own.
        self.hindered = self.hindered.take().filter(|(_, met)| met.status == returned);
        let reason = self.failure.as_deref().unwrap_or(text);
        let (context, generation) = (&self.generation.context, self.generation.number);
        let (servlet, request) = (self.servlet_name(), self.request.id);
        match &self.hindered {
            None => {
                tracing::error!(%context, generation, %servlet, request, "a servlet failed: {}", printable(reason));
            }
            Some((StatusCode::SERVICE_UNAVAILABLE, why)) => {
                tracing::warn!(%context, generation, %servlet, request, "a request was given up: {}", why.text);
            }
            // What clients do is no error of ours.
            Some((_, why)) => tracing::debug!(%context, generation, %servlet, request, "a request ended: {}", why.text),
        }
        if self.response.is_committed() {
            // What was sent is cut, so that the client sees it is not whole.
            return;
        }
        if let (Some(seconds), Some(servlet)) = (self.unavailable, self.generation.servlet(self.found.servlet)) {
            servlet.is_unavailable_for(seconds);
        }
        let shown = if self.context.development { reason } else { "" };
        let page = match (self.unavailable, &self.hindered) {
            (Some(seconds), _) => answer::servlet_unavailable(seconds, shown),
            (None, Some((StatusCode::SERVICE_UNAVAILABLE, _))) => answer::unavailable(1, shown),
            (None, Some((status, _))) => answer::closing(*status, shown),
            (None, None) => answer::page(StatusCode::INTERNAL_SERVER_ERROR, shown),
        };
        self.response.answer(page);
    }

    /// The answer of the static files, when the servlet has passed the request on.
    pub fn next(&self) -> Response<ResponseBody> {
        crate::dispatch::file(&self.request, &self.context, self.request.target.path())
    }

    /// The number of its servlet in the generation.
    pub fn servlet(&self) -> usize {
        self.found.servlet
    }

    /// The call that is about to begin.
    pub fn call(&self, inline: bool) -> Call {
        Call {
            generation: self.generation.clone(),
            servlet: self.found.servlet,
            exchange_id: self.request.id,
            slow_after: self.context.settings.slow_after,
            inline,
        }
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    fn servlet_name(&self) -> &str {
        self.generation.servlet_name(self.found.servlet)
    }

    /// Something else answers in the servlet's place.
    pub fn answer(mut self, response: Response<ResponseBody>) {
        self.response.answer(response);
    }

    fn open(&self) -> Answer {
        if self.response.finished {
            return Err(Fault::new(SV_E_STATE, "the response is finished"));
        }
        Ok(())
    }

    fn uncommitted(&self) -> Answer {
        if self.response.is_committed() {
            return Err(Fault::new(SV_E_STATE, "the response is committed"));
        }
        Ok(())
    }

    /// Notes what the servlet cannot be blamed for.
    fn hindered(&mut self, status: StatusCode, fault: Fault) -> Fault {
        self.hindered = Some((status, fault.clone()));
        fault
    }

    /// The client does not read, or has gone.
    fn client_failed(&mut self, fault: Fault) -> Fault {
        let status =
            if fault.status == SV_E_BUSY { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::REQUEST_TIMEOUT };
        self.hindered(status, fault)
    }

    fn body_failed(&mut self, status: StatusCode, code: i32, text: impl Into<Cow<'static, str>>) -> Fault {
        self.request.body = None;
        self.hindered(status, Fault::new(code, text))
    }

    fn read_parameters(&mut self) -> Answer<Vec<(String, String)>> {
        let count_max = self.context.settings.parameter_count_max;
        let form = self.form()?;
        let mut all = Vec::new();
        let query = self.request.target.query().unwrap_or("").as_bytes();
        let parsed =
            parameters::parse(query, count_max, &mut all).and_then(|()| parameters::parse(&form, count_max, &mut all));
        match parsed {
            Ok(()) => Ok(all),
            Err(BadParameters::Malformed(text)) => {
                Err(self.hindered(StatusCode::BAD_REQUEST, Fault::new(SV_E_REQUEST, text)))
            }
            Err(BadParameters::TooMany) => {
                let fault = Fault::new(SV_E_LIMIT, "more parameters than parameter_count_max");
                Err(self.hindered(StatusCode::BAD_REQUEST, fault))
            }
        }
    }

    /// The form body, when this request has one that parameters are read from (SEMANTICS 15).
    fn form(&mut self) -> Answer<Vec<u8>> {
        let content_type = self.request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_form = content_type.is_some_and(|value| {
            value.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        let mut form = Vec::new();
        if self.request.method != Method::POST || !is_form || self.body_read > 0 {
            return Ok(form);
        }
        let bytes_max = self.context.settings.form_bytes_max;
        while let Some(chunk) = serval_loader::exchange::Exchange::read_chunk(self)? {
            if (form.len() + chunk.len()) as u64 > bytes_max {
                return Err(self.body_failed(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    SV_E_LIMIT,
                    "the form is longer than form_bytes_max",
                ));
            }
            form.extend_from_slice(&chunk);
        }
        Ok(form)
    }
}

impl serval_loader::exchange::Exchange for Exchange {
    fn head(&self) -> Head<'_> {
        let Request { id, method, version, headers, target, peer, .. } = &*self.request;
        Head {
            method: method.as_str(),
            http_version: if *version == Version::HTTP_10 { 10 } else { 11 },
            dispatch: SV_DISPATCH_REQUEST,
            scheme: if peer.secure { "https" } else { "http" },
            server_name: &target.server_name,
            server_port: target.server_port,
            secure: peer.secure,
            target: target.raw(),
            request_uri: target.request_uri(),
            query: target.query(),
            context_path: target.raw_context_path(),
            servlet_path: self.found.servlet_path(target.path()),
            path_info: self.found.path_info(target.path()),
            match_kind: self.found.kind,
            match_pattern: &self.found.pattern,
            match_value: self.found.value(target.path()),
            servlet_name: self.servlet_name(),
            headers,
            content_length: self.content_length,
            remote_addr: &peer.remote_text,
            local_addr: &peer.local_text,
            remote_port: peer.remote.port(),
            local_port: peer.local.port(),
            id: *id,
            connection_id: peer.connection_id,
        }
    }

    fn parameters(&mut self) -> Answer<&[(String, String)]> {
        if self.parameters.is_none() {
            self.parameters = Some(self.read_parameters());
        }
        match &self.parameters {
            Some(Ok(all)) => Ok(all),
            Some(Err(fault)) => Err(fault.clone()),
            None => Ok(&[]),
        }
    }

    fn cookies(&mut self) -> Answer<&[(String, String)]> {
        let headers = &self.request.headers;
        Ok(self.cookies.get_or_insert_with(|| {
            let mut all = Vec::new();
            headers.get_all(COOKIE).iter().for_each(|header| parameters::cookies(header.as_bytes(), &mut all));
            all
        }))
    }

    fn attribute(&self, name: &str) -> Option<&[u8]> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    fn attributes(&self) -> Vec<(&str, &[u8])> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
    }

    fn set_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Answer {
        let others = || self.attributes.iter().filter(|(known, _)| known != name);
        let used: usize = others().map(|(name, value)| name.len() + value.len()).sum();
        if value.is_some_and(|value| used + name.len() + value.len() > ATTRIBUTE_BYTES_MAX) {
            return Err(Fault::new(SV_E_LIMIT, "the request attributes are over 1 MiB"));
        }
        self.attributes.retain(|(known, _)| known != name);
        self.attributes.extend(value.map(|value| (name.to_owned(), value.to_vec())));
        Ok(())
    }

    fn read_chunk(&mut self) -> Answer<Option<Bytes>> {
        let limit = self.request.peer.body_timeout;
        loop {
            let Some(body) = self.request.body.as_mut() else {
                return match &self.hindered {
                    Some((_, fault)) => Err(fault.clone()),
                    None => Ok(None),
                };
            };
            let next = std::future::poll_fn(|task| Pin::new(&mut *body).poll_frame(task));
            let Ok(frame) = wait(&self.context.pool, tokio::time::timeout(limit, next)) else {
                return Err(self.body_failed(StatusCode::SERVICE_UNAVAILABLE, SV_E_BUSY, NO_THREAD));
            };
            match frame {
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if data.is_empty() {
                        continue;
                    }
                    self.body_read += data.len() as u64;
                    if self.body_read > self.context.settings.request_body_bytes_max {
                        return Err(self.body_failed(
                            StatusCode::PAYLOAD_TOO_LARGE,
                            SV_E_LIMIT,
                            "the body is longer than request_body_bytes_max",
                        ));
                    }
                    return Ok(Some(data));
                }
                Ok(None) => {
                    self.request.body = None;
                    return Ok(None);
                }
                Ok(Some(Err(_))) => {
                    return Err(self.body_failed(
                        StatusCode::BAD_REQUEST,
                        SV_E_CLOSED,
                        "the body was cut or is broken",
                    ));
                }
                Err(_) => {
                    return Err(self.body_failed(
                        StatusCode::REQUEST_TIMEOUT,
                        SV_E_TIMEOUT,
                        "the client has not sent its body for body_timeout",
                    ));
                }
            }
        }
    }

    fn refuse_body(&mut self, text: String) -> Fault {
        self.body_failed(StatusCode::PAYLOAD_TOO_LARGE, SV_E_LIMIT, text)
    }

    fn may_respond(&self, status: u16, headers: &HeaderMap, body_len: usize) -> Answer {
        self.uncommitted()?;
        self.open()?;
        self.response.may_respond(status, headers, body_len)
    }

    fn respond(&mut self, status: u16, headers: HeaderMap, body: Bytes) {
        self.response.respond(status, headers, body);
    }

    fn set_status(&mut self, status: u16) -> Answer {
        self.uncommitted()?;
        self.open()?;
        self.response.status = StatusCode::from_u16(status).map_err(|_| Fault::new(SV_E_ARG, "not a status"))?;
        Ok(())
    }

    fn set_header(&mut self, change: HeaderChange, name: HeaderName, value: Option<HeaderValue>) -> Answer {
        self.uncommitted()?;
        self.response.set_header(change, name, value)
    }

    fn response_headers(&self) -> &HeaderMap {
        &self.response.headers
    }

    fn response_status(&self) -> u16 {
        self.response.status.as_u16()
    }

    fn set_charset(&mut self, charset: Option<&str>) -> Answer {
        self.uncommitted()?;
        self.response.set_charset(charset);
        Ok(())
    }

    fn set_buffer_size(&mut self, bytes: usize) -> Answer {
        self.uncommitted()?;
        if self.response.written > 0 {
            return Err(Fault::new(SV_E_STATE, "there is output already"));
        }
        if bytes > BUFFER_BYTES_MAX {
            return Err(Fault::new(SV_E_LIMIT, "a response buffer is at most 16 MiB"));
        }
        self.response.buffer_size = bytes;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Answer {
        self.open()?;
        let patience = Patience { pool: &self.context.pool, limit: self.request.peer.write_timeout };
        self.response.write(bytes, &patience).map_err(|fault| self.client_failed(fault))
    }

    fn flush(&mut self) -> Answer {
        self.open()?;
        let patience = Patience { pool: &self.context.pool, limit: self.request.peer.write_timeout };
        self.response.flush(&patience).map_err(|fault| self.client_failed(fault))
    }

    fn reset(&mut self) -> Answer {
        self.uncommitted()?;
        self.open()?;
        self.response.reset();
        Ok(())
    }

    fn reset_buffer(&mut self) -> Answer {
        self.uncommitted()?;
        self.open()?;
        self.response.reset_buffer();
        Ok(())
    }

    fn send_error(&mut self, status: u16, text: &str) -> Answer {
        self.uncommitted()?;
        self.open()?;
        let status = StatusCode::from_u16(status).map_err(|_| Fault::new(SV_E_ARG, "not a status"))?;
        self.response.reset_buffer();
        self.response.status = status;
        self.response.error = Some(text.to_owned());
        self.response.finished = true;
        Ok(())
    }

    fn redirect(&mut self, location: HeaderValue) -> Answer {
        self.uncommitted()?;
        self.open()?;
        self.response.redirect(location);
        Ok(())
    }

    fn committed(&self) -> bool {
        self.response.is_committed()
    }

    fn fail(&mut self, kind: &str, text: &str) {
        self.failure = Some(if kind.is_empty() { text.to_owned() } else { format!("{kind}: {text}") });
    }

    fn unavailable(&mut self, seconds: u32, text: &str) {
        self.unavailable = Some(seconds);
        self.failure = Some(text.to_owned());
    }

    fn cancelled(&self) -> bool {
        let_connection_go_on();
        self.response.is_unwanted()
    }

    fn retiring(&self) -> bool {
        self.generation.retired.load(Ordering::Relaxed)
    }

    fn lease(&self) -> Arc<dyn Any + Send + Sync> {
        self.generation.clone()
    }
}
