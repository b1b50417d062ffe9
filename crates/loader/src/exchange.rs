//! What the host's table needs of whoever runs exchanges: the container, a mock in a test, or a worker process.
//!
//! The table has checked handles, threads, pointers and lengths, names and values of headers before it calls these. All
//! functions are called on the thread that owns the exchange; those that say *waits* may block it.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serval_abi::{SV_WOULD_BLOCK, sv_status};

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

    /// No fault: in a poll, nothing could be moved now, and the task is polled again when it is worth trying.
    pub fn would_block() -> Fault {
        Fault { status: SV_WOULD_BLOCK, text: Cow::Borrowed("") }
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

/// The request as one dispatch sees it; the text behind it stays where it is until that dispatch ends.
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
    /// `None`: a Unix socket has none.
    pub remote_addr: Option<&'a str>,
    pub local_addr: Option<&'a str>,
    pub remote_port: u16,
    pub local_port: u16,
    pub id: u64,
    pub connection_id: u64,
    /// This dispatch is inside of another one, and may end before the handle that asks: one of a filter of the outer one.
    pub is_nested: bool,
}

/// What is known of a connection by TLS; it stays where it is as long as the exchange.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// `TLSv1.3`.
    pub protocol: &'a str,
    /// The IANA name of the suite.
    pub cipher: &'a str,
    /// The host that the client has named (SNI).
    pub server_name: Option<&'a str>,
    /// The client's, in DER, its own first, and verified.
    pub certificates: &'a [Vec<u8>],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderChange {
    Set,
    Add,
    Remove,
}

/// Where a dispatch inside of a dispatch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    Forward,
    Include,
    ForwardByName,
    IncludeByName,
}

/// One part of a multipart body.
#[derive(Debug)]
pub struct Part {
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    pub name: String,
    /// As sent.
    pub file_name: Option<String>,
    pub content_type: Option<String>,
    pub content: PartContent,
    pub size: u64,
}

#[derive(Debug)]
pub enum PartContent {
    Data(Bytes),
    /// The path of a file, which lives as long as the exchange.
    File(String),
}

/// What cookies have that do not say it themselves, as web.toml says.
#[derive(Debug, Clone, Default)]
pub struct CookieDefaults {
    pub same_site: Option<&'static str>,
    pub partitioned: bool,
}

/// Facts of an exchange's session.
#[derive(Debug, Clone, Default)]
pub struct SessionInfo {
    /// `None`: there is no session.
    pub id: Option<String>,
    pub is_new: bool,
    /// What the client sent.
    pub requested_id: Option<String>,
    pub requested_by_cookie: bool,
    pub requested_by_url: bool,
    pub requested_valid: bool,
    /// Milliseconds since 1970.
    pub created: i64,
    pub accessed: i64,
    /// Seconds; 0: it never times out.
    pub max_inactive: i64,
}

/// The current session of an exchange, or the one that an event is about. SV_E_STATE: it was invalidated.
pub trait Session {
    fn session_attribute(&mut self, name: &str) -> Answer<Option<Bytes>>;
    fn session_attributes(&mut self) -> Answer<Vec<(String, Bytes)>>;
    fn set_session_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Answer;
    /// Returns the new id.
    fn change_session_id(&mut self) -> Answer<String>;
    fn set_max_inactive(&mut self, seconds: i64) -> Answer;
    fn invalidate_session(&mut self) -> Answer;
}

/// What wakes a task. Wakes come at any time and from any thread; many count as one, and late ones do nothing.
pub trait Wake: Send + Sync {
    fn wake(&self);
    fn wake_after(&self, after: Duration) -> Answer;
}

/// In a poll, functions that say *waits* answer [`Fault::would_block`] instead, and go on where they were when they are called again.
pub trait Exchange: Session + Send {
    fn head(&self) -> Head<'_>;
    /// `None`: the connection is not TLS.
    fn tls(&self) -> Option<Tls<'_>> {
        None
    }
    /// Writes the line of the log about a panic in the servlet or filter `who`; `false`: somebody else is to write it.
    fn says_panic(&mut self, _who: &str, _text: &str) -> bool {
        false
    }
    /// Names and values, query before form. Waits for a form body.
    fn parameters(&mut self) -> Answer<&[(String, String)]>;
    /// What stands for `{name}` in the URL pattern.
    fn path_parameter(&self, name: &str) -> Option<&str>;
    /// The parts of a multipart body, which stay where they are as long as the exchange; `None`: a body of another type. Waits.
    fn parts(&mut self) -> Answer<Option<&[Part]>>;
    /// Who logged in, and how.
    fn principal(&self) -> Option<(&str, &str)>;
    fn in_role(&self, role: &str) -> bool;
    /// Whether name and password are right.
    fn login(&mut self, name: &str, password: &str) -> Answer<bool>;
    fn logout(&mut self) -> Answer;
    fn cookies(&mut self) -> Answer<&[(String, String)]>;
    fn attribute(&self, name: &str) -> Option<&[u8]>;
    fn attributes(&self) -> Vec<(&str, &[u8])>;
    fn set_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Answer;
    /// The next piece of the body, never empty, of so many bytes at most; `None` at its end. Waits. What is left of it is for
    /// whoever reads next, in another dispatch too.
    fn read_chunk(&mut self, bytes_max: usize) -> Answer<Option<Bytes>>;

    /// What followed the body, which must have been read to its end.
    fn trailers(&mut self) -> Answer<&HeaderMap>;

    /// Notes that the body is longer than the servlet takes: this and each later read is SV_E_LIMIT, and 413 if it returns that.
    fn refuse_body(&mut self, text: String) -> Fault;

    /// What a cookie has that does not say it itself.
    fn cookie_defaults(&self) -> CookieDefaults {
        CookieDefaults::default()
    }

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
    /// Returns how many bytes were taken: all, or in a poll fewer. Waits while the client is slow.
    fn write(&mut self, bytes: &[u8]) -> Answer<usize>;
    /// Takes all or nothing, and does not copy. Waits while the client is slow.
    fn write_owned(&mut self, bytes: Bytes) -> Answer;
    fn set_trailer(&mut self, name: HeaderName, value: HeaderValue) -> Answer;
    fn informational(&mut self, status: u16, headers: HeaderMap) -> Answer;
    /// With the session's id, if the client needs it there.
    fn encode_url(&mut self, url: &str) -> String;
    fn flush(&mut self) -> Answer;
    fn reset(&mut self) -> Answer;
    fn reset_buffer(&mut self) -> Answer;
    fn send_error(&mut self, status: u16, text: &str) -> Answer;
    fn redirect(&mut self, status: u16, location: HeaderValue) -> Answer;
    fn committed(&self) -> bool;

    /// Why the servlet is about to return an error.
    fn fail(&mut self, kind: &str, text: &str);
    fn unavailable(&mut self, seconds: u32, text: &str);
    /// Runs another target of this context on this thread; its status, or SV_NONE when there is none. Waits.
    fn dispatch(&mut self, how: Dispatch, target: &str) -> Answer<sv_status>;
    fn cancelled(&self) -> bool;
    fn retiring(&self) -> bool;

    /// Whether the exchange may go on without a thread of the server; from then on functions are called on any thread.
    fn detach(&mut self) -> Answer;
    /// A detached one is over; its handle has ended.
    fn completed(&mut self, result: sv_status);
    /// Of a task or a detached one: ends it, and dispatches to the path; `None`: the original one.
    fn async_dispatch(&mut self, path: Option<&str>) -> Answer;
    /// `None`: it has all the time.
    fn set_timeout(&mut self, after: Option<Duration>) -> Answer;
    /// `None`: there is no task to wake.
    fn waker(&mut self) -> Option<Arc<dyn Wake>>;

    /// Whether there is a session now.
    fn session(&mut self, create: bool) -> Answer<bool>;
    fn session_info(&mut self) -> SessionInfo;
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
    /// Runs a job once on a thread of the context's pool. SV_E_LIMIT: too many wait; SV_E_STATE: its destroy has begun.
    fn post(&self, job: Box<dyn FnOnce() + Send>) -> Answer;
    fn resource(&self, name: &str) -> Option<&str>;
}
