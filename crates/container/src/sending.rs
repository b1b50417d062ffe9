//! The response of an exchange on its way: held in a buffer while it can still be changed, then sent piece by piece.
//!
//! Owned by `exchange`, which says what is allowed when, and leads bodies through filters; this keeps length and body true to each
//! other.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRAILER, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serval_abi::{SV_E_ARG, SV_E_LIMIT};
use serval_loader::exchange::{Answer, Fault, HeaderChange};
use serval_loader::table::HEADERS_MAX;
use tokio::sync::oneshot;

use crate::body::{ResponseBody, Stream};
use crate::compression;
use crate::pipe::{Gone, Writer, pipe};
use crate::tokens::has_token;

/// LIMIT: what a servlet may hold back (servlet.h, set_buffer_size).
pub const BUFFER_BYTES_MAX: usize = 16 << 20;

pub struct Sending {
    /// Until the response is committed.
    head: Option<oneshot::Sender<Response<ResponseBody>>>,
    pub stream: Option<Writer>,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    charset: Option<String>,
    /// What was written and not sent yet.
    pub buffer: BytesMut,
    pub buffer_size: usize,
    /// Bytes that the servlet has written.
    pub written: u64,
    /// The Content-Length that the servlet has set.
    length: Option<u64>,
    /// Filters change the body.
    length_unknown: bool,
    /// Nothing more is taken of the servlet.
    pub finished: bool,
    /// The client could not be written to any more.
    failed: bool,
    pub for_head: bool,
    pub compressing: Option<compression::Wanted>,
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
            trailers: HeaderMap::new(),
            charset: None,
            buffer: BytesMut::new(),
            buffer_size,
            written: 0,
            length: None,
            length_unknown: false,
            finished: false,
            failed: false,
            for_head,
            compressing: None,
        }
    }

    pub fn is_committed(&self) -> bool {
        self.head.is_none()
    }

    /// All of it was sent: what is written now is past its length, or of an answer without a body.
    pub fn is_whole(&self) -> bool {
        self.head.is_none() && self.stream.is_none() && !self.failed
    }

    /// The head has named this trailer: others are not sent after it (RFC 9110 6.6.2).
    pub fn announces(&self, name: &HeaderName) -> bool {
        has_token(&self.headers, TRAILER, name.as_str())
    }

    /// Whether it goes out without a body, whatever was written (RFC 9110 9.3.2, 15.3.5, 15.3.6, 15.4.5).
    pub fn has_no_body(&self) -> bool {
        const NO_BODY: [StatusCode; 3] = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
        self.for_head || NO_BODY.contains(&self.status)
    }

    /// Nobody waits for it any more.
    pub fn is_unwanted(&self) -> bool {
        match (&self.head, &self.stream) {
            (Some(head), _) => head.is_closed(),
            // Nobody takes the body of an answer to HEAD, and that is no sign.
            (None, Some(_)) if self.for_head => self.failed,
            (None, Some(stream)) => stream.is_gone(),
            (None, None) => self.failed,
        }
    }

    /// What of these bytes is inside of the content length that the servlet has set.
    pub fn within_length<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let left = self.length.map_or(u64::MAX, |length| length.saturating_sub(self.written));
        &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))]
    }

    /// What it had announced is there.
    pub fn has_reached_length(&self) -> bool {
        self.length == Some(self.written)
    }

    /// Keeps bytes back, if they fit and nothing was sent yet.
    pub fn hold(&mut self, bytes: &[u8]) -> bool {
        let fits = self.head.is_some() && self.buffer.len() + bytes.len() <= self.buffer_size;
        if fits {
            self.buffer.extend_from_slice(bytes);
            self.written += bytes.len() as u64;
        }
        fits
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

    /// The head of a whole answer; [`Sending::may_respond`] has been asked.
    pub fn set_answer(&mut self, status: u16, headers: HeaderMap, body_len: usize) {
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
        self.written = body_len as u64;
    }

    /// Takes status and headers of an answer that is not the servlet's; what was set before stays, under other names.
    pub fn adopt(&mut self, status: StatusCode, mut headers: HeaderMap) {
        self.reset_buffer();
        self.headers.remove(CONTENT_LENGTH);
        self.headers.remove(CONTENT_TYPE);
        (self.length, self.charset) = (None, None);
        self.status = status;
        if self.headers.is_empty() {
            self.headers = headers;
        } else {
            // Both depend on what they name.
            for value in self.headers.get_all(VARY) {
                headers.append(VARY, value.clone());
            }
            self.headers.extend(headers);
        }
    }

    pub fn redirect(&mut self, status: StatusCode, location: HeaderValue) {
        self.reset_buffer();
        self.headers.remove(CONTENT_LENGTH);
        self.length = None;
        self.status = status;
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

    /// The body of before is not sent; what says how long and how coded it is goes with it.
    pub fn forget_body(&mut self) {
        self.reset_buffer();
        (self.length, self.charset) = (None, None);
        for name in [CONTENT_LENGTH, CONTENT_ENCODING] {
            self.headers.remove(name);
        }
    }

    pub fn reset_buffer(&mut self) {
        self.buffer.clear();
        self.written = 0;
    }

    /// Drops what is past a content length that was set after it was written: more than was announced would be read as the
    /// next response.
    pub fn drop_surplus(&mut self) {
        if let Some(length) = self.length.filter(|&length| length < self.written) {
            self.written = length;
            self.buffer.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
    }

    /// Whether the servlet has written less than it announced, now that it has nothing more to say.
    pub fn short(&self) -> Option<Short> {
        let length = self.length.filter(|&length| self.written < length && !self.has_no_body())?;
        Some(Short { written: self.written, length })
    }

    /// Hands the head to the connection: from here on status and headers are fixed.
    pub fn send_head(&mut self, body: ResponseBody) {
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
        if let Some(wanted) = &self.compressing {
            wanted.apply(&mut response);
        }
        // The client has gone: nobody is left to tell.
        let _ = head.send(response);
        self.finished = self.stream.is_none();
    }

    /// Sends all of it at once.
    pub fn send_whole(&mut self, body: Bytes) {
        if self.for_head && !self.length_unknown && !self.headers.contains_key(CONTENT_LENGTH) {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.written));
        }
        let body = if self.has_no_body() { Bytes::new() } else { body };
        self.send_head(ResponseBody::Full(body));
    }

    /// Sends the head; the body follows, if there is one.
    pub fn send_stream(&mut self) {
        if self.has_no_body() && !self.for_head {
            self.buffer.clear();
            self.send_whole(Bytes::new());
            self.finished = false;
            return;
        }
        let (writer, reader) = pipe();
        self.stream = Some(writer);
        self.send_head(ResponseBody::Stream(Stream(reader)));
    }

    /// Nobody is told a length any more, because filters change the body.
    pub fn forget_length(&mut self) {
        self.headers.remove(CONTENT_LENGTH);
        self.length = None;
        self.length_unknown = true;
    }

    /// Hands on a piece of the body.
    pub fn push(&mut self, piece: Bytes) -> Result<(), Gone> {
        let pushed = self.stream.as_ref().map_or(Err(Gone), |stream| stream.push(piece));
        if pushed.is_err() {
            self.give_up();
        }
        pushed
    }

    /// What was not sent is not sent; the client sees a cut, if anything had been sent.
    pub fn give_up(&mut self) {
        (self.stream, self.failed) = (None, true);
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
