//! One request and its response inside a servlet: what the loader's table asks for, on the container's side.
//!
//! It is made by `dispatch`, owned by the task that runs the servlet, and sends its head to the connection when it commits.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;
use serval_loader::exchange::{Answer, Fault, Head, HeaderChange};
use tokio::sync::{mpsc, oneshot};

use crate::body::{self, ResponseBody, StreamWriter};
use crate::context::Context;
use crate::execution::{Call, NoThread, Pool, let_connection_go_on, wait};
use crate::generation::Generation;
use crate::mapping::Match;
use crate::parameters::{self, BadParameters};
use crate::target::Target;
use crate::{Peer, RequestBody, answer};

const SV_E_ARG: i32 = -1;
const SV_E_STATE: i32 = -2;
const SV_E_LIMIT: i32 = -6;
const SV_E_CLOSED: i32 = -7;
const SV_E_TIMEOUT: i32 = -8;
const SV_E_REQUEST: i32 = -14;
const SV_E_BUSY: i32 = -15;

/// What a streamed response has under way: this many pieces of at most this size.
const PIECES: usize = 2;
const PIECE_BYTES: usize = 32 << 10;
/// LIMIT: bytes of all request attributes together.
const ATTRIBUTE_BYTES_MAX: usize = 1 << 20;
const NO_THREAD: &str = "all threads of this context are busy (workers_max), so there is none to wait on";
const DISPATCH_REQUEST: u32 = 1;

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
    parameters: Option<Vec<(String, String)>>,
    cookies: Option<Vec<(String, String)>>,
    attributes: Vec<(String, Vec<u8>)>,
    response: Sending,
    failure: Option<String>,
    unavailable: Option<u32>,
}

/// How long to wait for a client that does not read, and on whose thread.
struct Patience<'a> {
    pool: &'a Pool,
    limit: Duration,
}

/// The response on its way.
struct Sending {
    head: Option<oneshot::Sender<Response<ResponseBody>>>,
    stream: Option<StreamWriter>,
    status: StatusCode,
    headers: HeaderMap,
    charset: Option<String>,
    buffer: BytesMut,
    buffer_size: usize,
    /// Bytes that the servlet has written.
    written: u64,
    length: Option<u64>,
    /// send_error: the error page is made at the end.
    error: Option<String>,
    finished: bool,
    for_head: bool,
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
        let response = Sending {
            head: Some(head),
            stream: None,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            charset: None,
            buffer: BytesMut::new(),
            buffer_size: context.settings.response_buffer_bytes,
            written: 0,
            length: None,
            error: None,
            finished: false,
            for_head: request.method == Method::HEAD,
        };
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
        if self.response.head.is_none() {
            if let Some(stream) = self.response.stream.take() {
                stream.finish();
            }
            return;
        }
        if let Some(text) = self.response.error.take() {
            let reason = if self.context.development { text.as_str() } else { "" };
            let page = answer::page(self.response.status, reason);
            self.response.headers.remove(CONTENT_LENGTH);
            self.response.headers.extend(page.headers().clone());
            self.response.send_head(page.into_body());
            return;
        }
        let body = std::mem::take(&mut self.response.buffer).freeze();
        self.response.send_whole(body);
    }

    /// The servlet has returned an error status; `text` is for the log.
    pub fn failed(mut self, returned: i32, text: &str) {
        // Another error than the one that it met is the servlet's own.
        self.hindered = self.hindered.take().filter(|(_, met)| met.status == returned);
        let reason = self.failure.as_deref().unwrap_or(text);
        let (context, generation) = (&self.generation.context, self.generation.number);
        let (servlet, request) = (self.servlet_name(), self.request.id);
        match &self.hindered {
            None => tracing::error!(%context, generation, %servlet, request, "a servlet failed: {reason}"),
            Some((StatusCode::SERVICE_UNAVAILABLE, why)) => {
                tracing::warn!(%context, generation, %servlet, request, "a request was given up: {}", why.text);
            }
            // What clients do is no error of ours.
            Some((_, why)) => tracing::debug!(%context, generation, %servlet, request, "a request ended: {}", why.text),
        }
        if self.response.head.is_none() {
            // What was sent is cut, so that the client sees it is not whole.
            return;
        }
        let shown = if self.context.development { reason } else { "" };
        let page = match (self.unavailable, &self.hindered) {
            (Some(seconds), _) => answer::unavailable(seconds, shown),
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
    pub fn call(&self) -> Call {
        Call {
            generation: self.generation.clone(),
            servlet: self.found.servlet,
            exchange_id: self.request.id,
            slow_after: self.context.settings.slow_after,
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
        if self.response.head.is_none() {
            return Err(Fault::new(SV_E_STATE, "the response is committed"));
        }
        self.open()
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

    fn body_failed(&mut self, status: StatusCode, code: i32, text: &'static str) -> Fault {
        self.request.body = None;
        self.hindered(status, Fault::new(code, text))
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

impl Sending {
    /// Hands the head to the connection: from here on status and headers are fixed.
    fn send_head(&mut self, body: ResponseBody) {
        let Some(head) = self.head.take() else { return };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        if let (Some(charset), Some(content_type)) = (&self.charset, self.headers.get(CONTENT_TYPE))
            && let Ok(text) = content_type.to_str()
            && !text.contains("charset=")
            && let Ok(both) = HeaderValue::from_str(&format!("{text}; charset={charset}"))
        {
            self.headers.insert(CONTENT_TYPE, both);
        }
        *response.headers_mut() = std::mem::take(&mut self.headers);
        // The client has gone: nobody is left to tell.
        let _ = head.send(response);
        self.finished = self.stream.is_none();
    }

    fn send_whole(&mut self, body: Bytes) {
        if self.for_head && !self.headers.contains_key(CONTENT_LENGTH) {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.written.max(body.len() as u64)));
        }
        let body = if self.for_head { Bytes::new() } else { body };
        self.send_head(ResponseBody::Full(body));
    }

    fn answer(&mut self, response: Response<ResponseBody>) {
        if let Some(head) = self.head.take() {
            let _ = head.send(response);
        }
        self.finished = true;
    }

    fn commit(&mut self) {
        if self.head.is_some() {
            let (writer, stream) = body::stream(PIECES);
            self.stream = Some(writer);
            self.send_head(ResponseBody::Stream(stream));
        }
    }

    /// Hands on a piece, and waits as long as the client is slow.
    fn send(&mut self, piece: Bytes, patience: &Patience<'_>) -> Answer {
        const GONE: Fault = Fault { status: SV_E_CLOSED, text: std::borrow::Cow::Borrowed("the client has gone") };
        let Some(stream) = &self.stream else { return Err(GONE) };
        let piece = match stream.pieces.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(GONE),
            Err(mpsc::error::TrySendError::Full(piece)) => piece,
        };
        let failed = match wait(patience.pool, tokio::time::timeout(patience.limit, stream.pieces.send(piece))) {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(_))) => GONE,
            Ok(Err(_)) => Fault::new(SV_E_TIMEOUT, "the client has not read for write_timeout"),
            Err(NoThread) => Fault::new(SV_E_BUSY, NO_THREAD),
        };
        self.stream = None;
        Err(failed)
    }

    fn write(&mut self, bytes: &[u8], patience: &Patience<'_>) -> Answer {
        let left = self.length.map_or(u64::MAX, |length| length.saturating_sub(self.written));
        let mut bytes = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        self.written += bytes.len() as u64;
        if self.for_head {
            return Ok(());
        }
        if self.head.is_some() && self.buffer.len() + bytes.len() <= self.buffer_size {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.commit();
        self.drain(patience)?;
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES));
            self.send(Bytes::copy_from_slice(piece), patience)?;
            bytes = rest;
        }
        Ok(())
    }

    fn drain(&mut self, patience: &Patience<'_>) -> Answer {
        while !self.buffer.is_empty() {
            let piece = self.buffer.split_to(self.buffer.len().min(PIECE_BYTES)).freeze();
            self.send(piece, patience)?;
        }
        Ok(())
    }
}

impl serval_loader::exchange::Exchange for Exchange {
    fn head(&self) -> Head<'_> {
        let Request { id, method, version, headers, target, peer, .. } = &*self.request;
        Head {
            method: method.as_str(),
            http_version: if *version == Version::HTTP_10 { 10 } else { 11 },
            dispatch: DISPATCH_REQUEST,
            scheme: if peer.secure { "https" } else { "http" },
            server_name: &target.server_name,
            server_port: target.server_port,
            secure: peer.secure,
            target: target.raw(),
            request_uri: target.request_uri(),
            query: target.query(),
            context_path: target.raw_context_path(&self.context.path),
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
            let count_max = self.context.settings.parameter_count_max;
            let form = self.form()?;
            let mut all = Vec::new();
            let query = self.request.target.query().unwrap_or("").as_bytes();
            let parsed = parameters::parse(query, count_max, &mut all)
                .and_then(|()| parameters::parse(&form, count_max, &mut all));
            parsed.map_err(|bad| {
                let fault = match bad {
                    BadParameters::Malformed(text) => Fault::new(SV_E_REQUEST, text),
                    BadParameters::TooMany => Fault::new(SV_E_LIMIT, "more parameters than parameter_count_max"),
                };
                self.hindered(StatusCode::BAD_REQUEST, fault)
            })?;
            self.parameters = Some(all);
        }
        Ok(self.parameters.as_deref().unwrap_or_default())
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
        self.attributes.retain(|(known, _)| known != name);
        let Some(value) = value else { return Ok(()) };
        let used: usize = self.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        if used + name.len() + value.len() > ATTRIBUTE_BYTES_MAX {
            return Err(Fault::new(SV_E_LIMIT, "the request attributes are over 1 MiB"));
        }
        self.attributes.push((name.to_owned(), value.to_vec()));
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

    fn respond(&mut self, status: u16, headers: HeaderMap, body: Bytes) -> Answer {
        self.uncommitted()?;
        self.response.buffer.clear();
        self.response.status = StatusCode::from_u16(status).map_err(|_| Fault::new(SV_E_ARG, "not a status"))?;
        if self.response.headers.is_empty() {
            self.response.headers = headers;
        } else {
            let mut last = None;
            for (name, value) in headers {
                last = name.or(last);
                if let Some(name) = &last {
                    self.response.headers.append(name.clone(), value);
                }
            }
        }
        self.response.send_whole(body);
        Ok(())
    }

    fn set_status(&mut self, status: u16) -> Answer {
        self.uncommitted()?;
        self.response.status = StatusCode::from_u16(status).map_err(|_| Fault::new(SV_E_ARG, "not a status"))?;
        Ok(())
    }

    fn set_header(&mut self, change: HeaderChange, name: HeaderName, value: Option<HeaderValue>) -> Answer {
        self.uncommitted()?;
        if name == CONTENT_LENGTH {
            let length = value.as_ref().and_then(|value| value.to_str().ok()?.parse().ok());
            if value.is_some() && length.is_none() {
                return Err(Fault::new(SV_E_ARG, "Content-Length is not a number"));
            }
            self.response.length = length;
        }
        match (change, value) {
            (HeaderChange::Set, Some(value)) => drop(self.response.headers.insert(name, value)),
            (HeaderChange::Add, Some(value)) => drop(self.response.headers.append(name, value)),
            _ => drop(self.response.headers.remove(name)),
        }
        Ok(())
    }

    fn response_headers(&self) -> &HeaderMap {
        &self.response.headers
    }

    fn response_status(&self) -> u16 {
        self.response.status.as_u16()
    }

    fn set_content_type(&mut self, content_type: &str) -> Answer {
        let value = HeaderValue::from_str(content_type).map_err(|_| Fault::new(SV_E_ARG, "not a content type"))?;
        self.set_header(HeaderChange::Set, CONTENT_TYPE, Some(value))
    }

    fn set_charset(&mut self, charset: Option<&str>) -> Answer {
        self.uncommitted()?;
        self.response.charset = charset.map(str::to_owned);
        Ok(())
    }

    fn set_content_length(&mut self, bytes: u64) -> Answer {
        self.set_header(HeaderChange::Set, CONTENT_LENGTH, Some(HeaderValue::from(bytes)))
    }

    fn set_buffer_size(&mut self, bytes: usize) -> Answer {
        self.uncommitted()?;
        if self.response.written > 0 {
            return Err(Fault::new(SV_E_STATE, "there is output already"));
        }
        // LIMIT: what a servlet may hold back, 16 MiB.
        self.response.buffer_size = bytes.min(16 << 20);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Answer {
        self.open()?;
        let patience = Patience { pool: &self.context.pool, limit: self.request.peer.write_timeout };
        self.response.write(bytes, &patience).map_err(|fault| self.client_failed(fault))
    }

    fn flush(&mut self) -> Answer {
        self.open()?;
        if self.response.for_head {
            return Ok(());
        }
        let patience = Patience { pool: &self.context.pool, limit: self.request.peer.write_timeout };
        self.response.commit();
        self.response.drain(&patience).map_err(|fault| self.client_failed(fault))?;
        let_connection_go_on();
        Ok(())
    }

    fn reset(&mut self) -> Answer {
        self.uncommitted()?;
        self.response.status = StatusCode::OK;
        self.response.headers.clear();
        self.response.charset = None;
        self.response.length = None;
        self.reset_buffer()
    }

    fn reset_buffer(&mut self) -> Answer {
        self.uncommitted()?;
        self.response.buffer.clear();
        self.response.written = 0;
        Ok(())
    }

    fn send_error(&mut self, status: u16, text: &str) -> Answer {
        self.reset_buffer()?;
        self.set_status(status)?;
        self.response.error = Some(text.to_owned());
        self.response.finished = true;
        Ok(())
    }

    fn redirect(&mut self, location: &str) -> Answer {
        self.reset_buffer()?;
        self.set_status(302)?;
        let value = HeaderValue::from_str(location).map_err(|_| Fault::new(SV_E_ARG, "not a location"))?;
        self.set_header(HeaderChange::Set, LOCATION, Some(value))?;
        self.response.finished = true;
        Ok(())
    }

    fn committed(&self) -> bool {
        self.response.head.is_none()
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
        match (&self.response.head, &self.response.stream) {
            (Some(head), _) => head.is_closed(),
            (None, Some(stream)) => stream.pieces.is_closed(),
            (None, None) => false,
        }
    }

    fn retiring(&self) -> bool {
        self.generation.retired.load(Ordering::Relaxed)
    }

    fn lease(&self) -> Arc<dyn Any + Send + Sync> {
        self.generation.clone()
    }
}
