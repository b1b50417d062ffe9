//! The response of an exchange on its way: held in a buffer while it can still be changed, then sent piece by piece.
//!
//! Owned by `exchange`, which says what is allowed when; this keeps length and body true to each other.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serval_abi::{SV_E_ARG, SV_E_BUSY, SV_E_CLOSED, SV_E_LIMIT, SV_E_TIMEOUT};
use serval_loader::exchange::{Answer, Fault, HeaderChange};
use serval_loader::table::HEADERS_MAX;
use tokio::sync::{mpsc, oneshot};

use crate::answer;
use crate::body::{self, ResponseBody, StreamWriter};
use crate::execution::{NoThread, Pool, let_connection_go_on, wait};

/// What a streamed response has under way: this many pieces of at most this size.
const PIECES: usize = 2;
const PIECE_BYTES: usize = 32 << 10;
/// LIMIT: what a servlet may hold back (servlet.h, set_buffer_size).
pub const BUFFER_BYTES_MAX: usize = 16 << 20;
pub const NO_THREAD: &str = "all threads of this context are busy (workers_max), so there is none to wait on";

/// How long to wait for a client that does not read, and on whose thread.
pub struct Patience<'a> {
    pub pool: &'a Pool,
    pub limit: Duration,
}

pub struct Sending {
    /// Until the response is committed.
    head: Option<oneshot::Sender<Response<ResponseBody>>>,
    stream: Option<StreamWriter>,
    pub status: StatusCode,
    pub headers: HeaderMap,
    charset: Option<String>,
    buffer: BytesMut,
    pub buffer_size: usize,
    /// Bytes that the servlet has written.
    pub written: u64,
    /// The Content-Length that the servlet has set.
    length: Option<u64>,
    /// send_error: the error page is made at the end.
    pub error: Option<String>,
    /// Nothing more is taken of the servlet.
    pub finished: bool,
    /// The client could not be written to any more.
    failed: bool,
    for_head: bool,
}

/// The servlet wrote less than it had announced.
#[derive(Debug, thiserror::Error)]
#[error("the servlet has written {written} bytes, and had set the content length to {length}")]
pub struct Short {
    written: u64,
    length: u64,
}

impl Sending {
    pub fn new(head: oneshot::Sender<Response<ResponseBody>>, buffer_size: usize, for_head: bool) -> Sending {
        Sending {
            head: Some(head),
            stream: None,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            charset: None,
            buffer: BytesMut::new(),
            buffer_size,
            written: 0,
            length: None,
            error: None,
            finished: false,
            failed: false,
            for_head,
        }
    }

    pub fn is_committed(&self) -> bool {
        self.head.is_none()
    }

    /// Whether it goes out without a body, whatever was written (RFC 9110 9.3.2, 15.3.5, 15.3.6, 15.4.5).
    fn has_no_body(&self) -> bool {
        const NO_BODY: [StatusCode; 3] = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
        self.for_head || NO_BODY.contains(&self.status)
    }

    /// Nobody waits for it any more.
    pub fn is_unwanted(&self) -> bool {
        match (&self.head, &self.stream) {
            (Some(head), _) => head.is_closed(),
            // Nobody takes the body of an answer to HEAD, and that is no sign.
            (None, Some(_)) if self.for_head => self.failed,
            (None, Some(stream)) => stream.pieces.is_closed(),
            (None, None) => self.failed,
        }
    }

    pub fn set_header(&mut self, change: HeaderChange, name: HeaderName, value: Option<HeaderValue>) -> Answer {
        // All that can fail comes before the first change.
        let kept = match change {
            HeaderChange::Add => self.headers.len(),
            HeaderChange::Set | HeaderChange::Remove => self.headers.len() - self.headers.get_all(&name).iter().count(),
        };
        if change != HeaderChange::Remove && kept >= HEADERS_MAX {
            return Err(Fault::new(SV_E_LIMIT, "a response has at most 1,000 headers"));
        }
        if name == CONTENT_LENGTH {
            self.length = value.as_ref().map(content_length).transpose()?;
        }
        if name == CONTENT_TYPE && value.as_ref().is_some_and(has_charset) {
            self.charset = None;
        }
        match (change, value) {
            (HeaderChange::Set, Some(value)) => drop(self.headers.insert(name, value)),
            (HeaderChange::Add, Some(value)) => drop(self.headers.append(name, value)),
            _ => drop(self.headers.remove(name)),
        }
        Ok(())
    }

    /// Of this and the charset in the content type, the later one counts.
    pub fn set_charset(&mut self, charset: Option<&str>) {
        if let Some(content_type) = self.headers.get_mut(CONTENT_TYPE)
            && has_charset(content_type)
            && let Some(bare) = without_charset(content_type)
        {
            *content_type = bare;
        }
        self.charset = charset.map(str::to_owned);
    }

    pub fn may_respond(&self, status: u16, headers: &HeaderMap, body_len: usize) -> Answer {
        if let Some(value) = headers.get(CONTENT_LENGTH) {
            // The answers without a body may tell the length of the one that they leave out (RFC 9110 8.6).
            let without_body = self.for_head || status == 304;
            if content_length(value)? != body_len as u64 && !without_body {
                return Err(Fault::new(SV_E_ARG, "the content-length is not the length of the body"));
            }
        }
        if self.headers.len() + headers.len() > HEADERS_MAX {
            return Err(Fault::new(SV_E_LIMIT, "a response has at most 1,000 headers"));
        }
        Ok(())
    }

    /// A whole answer; [`Sending::may_respond`] has been asked.
    pub fn respond(&mut self, status: u16, headers: HeaderMap, body: Bytes) {
        self.reset_buffer();
        self.status = StatusCode::from_u16(status).unwrap_or(self.status);
        // One that was set before is of another body.
        self.headers.remove(CONTENT_LENGTH);
        self.length = None;
        if headers.get(CONTENT_TYPE).is_some_and(has_charset) {
            self.charset = None;
        }
        if self.headers.is_empty() {
            self.headers = headers;
        } else {
            if headers.contains_key(CONTENT_TYPE) {
                self.headers.remove(CONTENT_TYPE);
            }
            let mut last = None;
            for (name, value) in headers {
                last = name.or(last);
                if let Some(name) = &last {
                    self.headers.append(name.clone(), value);
                }
            }
        }
        self.written = body.len() as u64;
        self.send_whole(body);
    }

    pub fn redirect(&mut self, location: HeaderValue) {
        self.reset_buffer();
        self.headers.remove(CONTENT_LENGTH);
        self.length = None;
        self.status = StatusCode::FOUND;
        self.headers.insert(LOCATION, location);
        self.finished = true;
    }

    pub fn reset(&mut self) {
        self.status = StatusCode::OK;
        self.headers.clear();
        self.charset = None;
        self.length = None;
        self.reset_buffer();
    }

    pub fn reset_buffer(&mut self) {
        self.buffer.clear();
        self.written = 0;
    }

    pub fn write(&mut self, bytes: &[u8], patience: &Patience<'_>) -> Answer {
        let left = self.length.map_or(u64::MAX, |length| length.saturating_sub(self.written));
        let mut bytes = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        self.written += bytes.len() as u64;
        let all = self.length == Some(self.written);
        if self.for_head {
            if all && self.head.is_some() {
                self.send_whole(Bytes::new());
                self.finished = false;
            }
            return Ok(());
        }
        if self.head.is_some() && self.buffer.len() + bytes.len() <= self.buffer_size {
            self.buffer.extend_from_slice(bytes);
            if all {
                // What it had announced is there: the rest is dropped, and no error.
                let body = std::mem::take(&mut self.buffer).freeze();
                self.send_whole(body);
                self.finished = false;
            }
            return Ok(());
        }
        self.commit();
        if self.has_no_body() {
            return Ok(());
        }
        self.drain(patience)?;
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES));
            self.send(Bytes::copy_from_slice(piece), patience)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Drops what is past a content length that was set after it was written: more than was announced would be read as the
    /// next response.
    fn drop_surplus(&mut self) {
        if let Some(length) = self.length.filter(|&length| length < self.written) {
            self.written = length;
            self.buffer.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
    }

    pub fn flush(&mut self, patience: &Patience<'_>) -> Answer {
        self.commit();
        self.drain(patience)?;
        let_connection_go_on();
        Ok(())
    }

    /// The servlet has nothing more to say.
    pub fn finish(&mut self) -> Result<(), Short> {
        if self.head.is_some() {
            self.drop_surplus();
        }
        let written = self.written;
        let short = self
            .length
            .filter(|&length| written < length && !self.has_no_body())
            .map(|length| Short { written, length });
        if self.head.is_none() {
            if let (Some(stream), None) = (self.stream.take(), &short) {
                stream.finish();
            }
            return short.map_or(Ok(()), Err);
        }
        let body = std::mem::take(&mut self.buffer).freeze();
        match short {
            None => {
                self.send_whole(body);
                Ok(())
            }
            Some(short) => {
                // The length stands, and the client sees that it is not reached: the stream ends without its finish.
                let (writer, stream) = body::stream(1);
                let _ = writer.pieces.try_send(body);
                self.send_head(ResponseBody::Stream(stream));
                Err(short)
            }
        }
    }

    /// The page of a send_error, with the headers of the servlet.
    pub fn error_page(&mut self, reason: &str) {
        let page = answer::page(self.status, reason);
        self.headers.remove(CONTENT_LENGTH);
        self.headers.extend(page.headers().clone());
        self.charset = None;
        self.send_head(page.into_body());
    }

    /// Something else answers.
    pub fn answer(&mut self, response: Response<ResponseBody>) {
        if let Some(head) = self.head.take() {
            let _ = head.send(response);
        }
        self.finished = true;
    }

    /// Hands the head to the connection: from here on status and headers are fixed.
    fn send_head(&mut self, body: ResponseBody) {
        let Some(head) = self.head.take() else { return };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        if self.status == StatusCode::NO_CONTENT {
            // RFC 9110 8.6
            self.headers.remove(CONTENT_LENGTH);
        }
        if let (Some(charset), Some(content_type)) = (&self.charset, self.headers.get(CONTENT_TYPE))
            && let Ok(text) = content_type.to_str()
            && let Ok(both) = HeaderValue::from_str(&format!("{text};charset={charset}"))
        {
            self.headers.insert(CONTENT_TYPE, both);
        }
        // After the end nobody asks for them any more.
        let headers = if self.stream.is_some() { self.headers.clone() } else { std::mem::take(&mut self.headers) };
        *response.headers_mut() = headers;
        // The client has gone: nobody is left to tell.
        let _ = head.send(response);
        self.finished = self.stream.is_none();
    }

    fn send_whole(&mut self, body: Bytes) {
        if self.for_head && !self.headers.contains_key(CONTENT_LENGTH) {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.written));
        }
        let body = if self.has_no_body() { Bytes::new() } else { body };
        self.send_head(ResponseBody::Full(body));
    }

    fn commit(&mut self) {
        if self.head.is_some() {
            self.drop_surplus();
            if self.has_no_body() && !self.for_head {
                self.buffer.clear();
                self.send_whole(Bytes::new());
                self.finished = false;
                return;
            }
            let (writer, stream) = body::stream(PIECES);
            self.stream = Some(writer);
            self.send_head(ResponseBody::Stream(stream));
        }
    }

    fn drain(&mut self, patience: &Patience<'_>) -> Answer {
        while !self.buffer.is_empty() {
            let piece = self.buffer.split_to(self.buffer.len().min(PIECE_BYTES)).freeze();
            self.send(piece, patience)?;
        }
        Ok(())
    }

    /// Hands on a piece, and waits as long as the client is slow.
    fn send(&mut self, piece: Bytes, patience: &Patience<'_>) -> Answer {
        const GONE: Fault = Fault { status: SV_E_CLOSED, text: Cow::Borrowed("the client has gone") };
        let Some(stream) = &self.stream else { return Err(GONE) };
        let piece = match stream.pieces.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(GONE),
            Err(mpsc::error::TrySendError::Full(piece)) => piece,
        };
        let fault = match wait(patience.pool, tokio::time::timeout(patience.limit, stream.pieces.send(piece))) {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(_))) => GONE,
            Ok(Err(_)) => Fault::new(SV_E_TIMEOUT, "the client has not read for write_timeout"),
            Err(NoThread) => Fault::new(SV_E_BUSY, NO_THREAD),
        };
        (self.stream, self.failed) = (None, true);
        Err(fault)
    }
}

fn content_length(value: &HeaderValue) -> Answer<u64> {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or(Fault::new(SV_E_ARG, "the content-length is not a number"))
}

fn has_charset(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().windows(8).any(|part| part.eq_ignore_ascii_case(b"charset="))
}

fn without_charset(content_type: &HeaderValue) -> Option<HeaderValue> {
    let is_charset =
        |parameter: &&str| parameter.trim().get(..8).is_some_and(|name| name.eq_ignore_ascii_case("charset="));
    let kept: Vec<&str> = content_type.to_str().ok()?.split(';').filter(|parameter| !is_charset(parameter)).collect();
    HeaderValue::from_str(&kept.join(";")).ok()
}
