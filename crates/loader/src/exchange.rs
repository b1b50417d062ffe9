//! What the host's table needs of whoever runs exchanges: the container, a mock in a test, or a worker process.
//!
//! The table has checked handles, threads, pointers and lengths, names and values of headers before it calls these. All
//! functions are called on the thread that owns the exchange; those that say *waits* may block it.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serval_abi::sv_status;

/// An error status with its text, which `error_text` tells the library.
#[derive(Debug, Clone)]
pub struct Fault {
    pub status: sv_status,
    pub text: Cow<'static, str>,
}

impl Fault {
    pub fn new(status: sv_status, text: impl Into<Cow<'static, str>>) -> Fault {
        Fault { status, text: text.into() }
    }
}

/// A library's text for the log: one line, of which no part looks like another line or moves a terminal's cursor.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

pub type Answer<T = ()> = Result<T, Fault>;

/// The request as one dispatch sees it; the text behind it stays where it is until the dispatch ends.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a str,
    pub http_version: u32,
    pub dispatch: u32,
    pub scheme: &'a str,
    pub server_name: &'a str,
    pub server_port: u16,
    pub secure: bool,
    pub target: &'a str,
    pub request_uri: &'a str,
    pub query: Option<&'a str>,
    pub context_path: &'a str,
    pub servlet_path: &'a str,
    pub path_info: Option<&'a str>,
    pub match_kind: i32,
    pub match_pattern: &'a str,
    pub match_value: Option<&'a str>,
    pub servlet_name: &'a str,
    pub headers: &'a HeaderMap,
    pub content_length: Option<u64>,
    pub remote_addr: &'a str,
    pub local_addr: &'a str,
    pub remote_port: u16,
    pub local_port: u16,
    pub id: u64,
    pub connection_id: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderChange {
    Set,
    Add,
    Remove,
}

pub trait Exchange {
    fn head(&self) -> Head<'_>;
    /// Names and values, query before form. Waits for a form body.
    fn parameters(&mut self) -> Answer<&[(String, String)]>;
    fn cookies(&mut self) -> Answer<&[(String, String)]>;
    fn attribute(&self, name: &str) -> Option<&[u8]>;
    fn attributes(&self) -> Vec<(&str, &[u8])>;
    fn set_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Answer;
    /// The next piece of the body, never empty; `None` at its end. Waits.
    fn read_chunk(&mut self) -> Answer<Option<Bytes>>;

    /// Notes that the body is longer than the servlet takes: this and each later read is SV_E_LIMIT, and 413 if it returns that.
    fn refuse_body(&mut self, text: String) -> Fault;

    /// Whether `respond` with these may follow now, which then does not fail.
    fn may_respond(&self, status: u16, headers: &HeaderMap, body_len: usize) -> Answer;
    /// Replaces what was buffered by a whole answer, and finishes.
    fn respond(&mut self, status: u16, headers: HeaderMap, body: Bytes);
    fn set_status(&mut self, status: u16) -> Answer;
    /// Content-Type and Content-Length are never added, only set or removed.
    fn set_header(&mut self, change: HeaderChange, name: HeaderName, value: Option<HeaderValue>) -> Answer;
    fn response_headers(&self) -> &HeaderMap;
    fn response_status(&self) -> u16;
    fn set_charset(&mut self, charset: Option<&str>) -> Answer;
    fn set_buffer_size(&mut self, bytes: usize) -> Answer;
    /// Takes all of it. Waits while the client is slow.
    fn write(&mut self, bytes: &[u8]) -> Answer;
    fn flush(&mut self) -> Answer;
    fn reset(&mut self) -> Answer;
    fn reset_buffer(&mut self) -> Answer;
    fn send_error(&mut self, status: u16, text: &str) -> Answer;
    fn redirect(&mut self, location: HeaderValue) -> Answer;
    fn committed(&self) -> bool;

    /// Why the servlet is about to return an error.
    fn fail(&mut self, kind: &str, text: &str);
    fn unavailable(&mut self, seconds: u32, text: &str);
    fn cancelled(&self) -> bool;
    fn retiring(&self) -> bool;
    /// Keeps the generation, and so the library, from being destroyed.
    fn lease(&self) -> Arc<dyn Any + Send + Sync>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Root,
    Work,
    Temp,
}

/// One generation of a context, as its libraries see it. Called on any thread. What is returned by reference stays where it
/// is as long as the context lives.
pub trait Context: Send + Sync {
    fn log_enabled(&self, level: Level) -> bool;
    fn log(&self, exchange_id: Option<u64>, level: Level, text: &str);
    fn path(&self) -> &str;
    fn parameters(&self) -> &[(String, String)];
    fn folder(&self, place: Place) -> Option<&str>;
    fn mime_type(&self, file_name: &str) -> Option<&str>;
    fn attribute(&self, name: &str) -> Option<Vec<u8>>;
    fn set_attribute(&self, name: &str, value: Option<&[u8]>) -> Answer;
    fn generation(&self) -> u64;
}
