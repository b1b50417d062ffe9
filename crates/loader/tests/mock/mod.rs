//! What stands in for the container when a library is opened, started and called here: a context and an exchange that keep just
//! enough state for a library to see whether something has changed.

#![allow(dead_code, reason = "each test uses a part")]

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serval_abi::{SV_DISPATCH_REQUEST, SV_E_LIMIT, SV_E_STATE, SV_E_UNSUPPORTED, SV_MATCH_PATH, SV_NONE, sv_status};
use serval_loader::exchange::{
    Answer, Context, Dispatch, Exchange, Fault, Head, HeaderChange, Level, Part, Place, Session, SessionInfo, Wake,
};

/// Compiles a library that needs these others. `cc` is what the README asks for.
#[track_caller]
pub fn compile(source: &Path, needed: &[&Path], output: &Path) {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../abi/include");
    let result = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-I"])
        .args([&include, &PathBuf::from("-o"), &output.to_owned(), &source.to_owned()])
        .args(needed)
        .output()
        .unwrap_or_else(|error| panic!("this test needs `cc`: {error}"));
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
}

pub struct MockContext;

impl Context for MockContext {
    fn log_enabled(&self, _: Level) -> bool {
        true
    }
    fn log(&self, _: Option<u64>, _: Level, _: &str) {}
    fn path(&self) -> &str {
        "/misuse"
    }
    fn parameters(&self) -> &[(String, String)] {
        &[]
    }
    fn folder(&self, place: Place) -> Option<&str> {
        (place == Place::Root).then_some("/nowhere")
    }
    fn mime_type(&self, _: &str) -> Option<&str> {
        None
    }
    fn attribute(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
    fn set_attribute(&self, _: &str, _: Option<&[u8]>) -> Answer {
        Ok(())
    }
    fn generation(&self) -> u64 {
        7
    }
    fn post(&self, job: Box<dyn FnOnce() + Send>) -> Answer {
        std::thread::spawn(job).join().map_err(|_| Fault::new(SV_E_STATE, "the job panicked"))
    }
    fn resource(&self, _: &str) -> Option<&str> {
        None
    }
}

/// Counts how often it was woken.
#[derive(Default)]
pub struct MockWake {
    pub woken: AtomicUsize,
    pub timers: Mutex<Vec<Duration>>,
}

impl Wake for MockWake {
    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
    fn wake_after(&self, after: Duration) -> Answer {
        self.timers.lock().unwrap().push(after);
        Ok(())
    }
}

/// A session until it is invalidated.
#[derive(Default)]
pub struct MockSession {
    pub id: u64,
    pub attributes: Vec<(String, Bytes)>,
    pub max_inactive: i64,
    pub has_ended: bool,
}

impl MockSession {
    fn open(&mut self) -> Answer<&mut MockSession> {
        if self.has_ended { Err(Fault::new(SV_E_STATE, "the session was invalidated")) } else { Ok(self) }
    }
}

impl Session for MockSession {
    fn session_attribute(&mut self, name: &str) -> Answer<Option<Bytes>> {
        Ok(self.open()?.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }
    fn session_attributes(&mut self) -> Answer<Vec<(String, Bytes)>> {
        Ok(self.open()?.attributes.clone())
    }
    fn set_session_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Answer {
        let session = self.open()?;
        session.attributes.retain(|(known, _)| known != name);
        session.attributes.extend(value.map(|value| (name.to_owned(), Bytes::copy_from_slice(value))));
        Ok(())
    }
    fn change_session_id(&mut self) -> Answer<String> {
        let session = self.open()?;
        session.id += 1;
        Ok(session.id.to_string())
    }
    fn set_max_inactive(&mut self, seconds: i64) -> Answer {
        self.open()?.max_inactive = seconds;
        Ok(())
    }
    fn invalidate_session(&mut self) -> Answer {
        self.open()?.has_ended = true;
        Ok(())
    }
}

/// An exchange whose response is committed by `flush` and `respond`.
pub struct MockExchange {
    pub path: String,
    pub headers: HeaderMap,
    pub attributes: Vec<(String, Vec<u8>)>,
    pub status: u16,
    pub answer: HeaderMap,
    pub written: usize,
    pub committed: bool,
    pub failure: Option<String>,
    pub refused_body: bool,
    /// `None`: it is not multipart.
    pub parts: Option<Vec<Part>>,
    pub session: Option<MockSession>,
    pub trailers: HeaderMap,
    /// How much is taken before it would block; `None`: all.
    pub room: Option<usize>,
    /// What writing answers instead.
    pub write_fails: Option<sv_status>,
    /// What it has of `write_owned`, when it keeps that.
    pub owned: Option<Vec<Bytes>>,
    /// Its servlet has a poll.
    pub wake: Option<Arc<MockWake>>,
    pub is_detached: bool,
    pub completions: Arc<Mutex<Vec<sv_status>>>,
    pub goes_to: Option<Option<String>>,
    pub timeout: Option<Duration>,
    /// As if the container had a bug: flush panics.
    pub panics: bool,
}

impl MockExchange {
    pub fn new(path: &str) -> MockExchange {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost"));
        MockExchange {
            path: path.to_owned(),
            headers,
            attributes: Vec::new(),
            status: 200,
            answer: HeaderMap::new(),
            written: 0,
            committed: false,
            failure: None,
            refused_body: false,
            parts: None,
            session: None,
            trailers: HeaderMap::new(),
            room: None,
            write_fails: None,
            owned: None,
            wake: None,
            is_detached: false,
            completions: Arc::default(),
            goes_to: None,
            timeout: None,
            panics: false,
        }
    }

    fn open(&self) -> Answer {
        if self.committed { Err(Fault::new(SV_E_STATE, "committed")) } else { Ok(()) }
    }

    fn current(&mut self) -> Answer<&mut MockSession> {
        self.session.as_mut().ok_or_else(|| Fault::new(SV_E_STATE, "there is no session"))
    }

    /// How many of so many bytes are taken now.
    fn taken(&mut self, len: usize) -> Answer<usize> {
        if let Some(status) = self.write_fails {
            return Err(Fault::new(status, "writing fails"));
        }
        let Some(room) = &mut self.room else { return Ok(len) };
        let taken = len.min(*room);
        if taken == 0 && len > 0 {
            return Err(Fault::would_block());
        }
        *room -= taken;
        Ok(taken)
    }
}

impl Session for MockExchange {
    fn session_attribute(&mut self, name: &str) -> Answer<Option<Bytes>> {
        self.current()?.session_attribute(name)
    }
    fn session_attributes(&mut self) -> Answer<Vec<(String, Bytes)>> {
        self.current()?.session_attributes()
    }
    fn set_session_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Answer {
        self.current()?.set_session_attribute(name, value)
    }
    fn change_session_id(&mut self) -> Answer<String> {
        self.current()?.change_session_id()
    }
    fn set_max_inactive(&mut self, seconds: i64) -> Answer {
        self.current()?.set_max_inactive(seconds)
    }
    fn invalidate_session(&mut self) -> Answer {
        self.current()?.invalidate_session()
    }
}

impl Exchange for MockExchange {
    fn head(&self) -> Head<'_> {
        Head {
            method: "GET",
            http_version: 11,
            dispatch: SV_DISPATCH_REQUEST,
            scheme: "http",
            server_name: "localhost",
            server_port: 80,
            secure: false,
            target: &self.path,
            request_uri: &self.path,
            query: None,
            context_path: "/misuse",
            servlet_path: "",
            path_info: Some(&self.path),
            match_kind: SV_MATCH_PATH,
            match_pattern: "/*",
            match_value: None,
            servlet_name: "misuse",
            headers: &self.headers,
            content_length: Some(0),
            remote_addr: Some("127.0.0.1"),
            local_addr: Some("127.0.0.1"),
            remote_port: 1,
            local_port: 80,
            id: 1,
            connection_id: 1,
            is_nested: false,
        }
    }
    fn parameters(&mut self) -> Answer<&[(String, String)]> {
        Ok(&[])
    }
    fn path_parameter(&self, _: &str) -> Option<&str> {
        None
    }
    fn parts(&mut self) -> Answer<Option<&[Part]>> {
        match &self.parts {
            Some(parts) => Ok(Some(parts)),
            None => Err(Fault::new(SV_E_STATE, "the servlet takes no multipart bodies")),
        }
    }
    fn principal(&self) -> Option<(&str, &str)> {
        None
    }
    fn in_role(&self, _: &str) -> bool {
        false
    }
    fn login(&mut self, _: &str, _: &str) -> Answer<bool> {
        Err(Fault::new(SV_E_UNSUPPORTED, "there is no realm"))
    }
    fn logout(&mut self) -> Answer {
        Ok(())
    }
    fn cookies(&mut self) -> Answer<&[(String, String)]> {
        Ok(&[])
    }
    fn attribute(&self, name: &str) -> Option<&[u8]> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }
    fn attributes(&self) -> Vec<(&str, &[u8])> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
    }
    fn set_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Answer {
        if value.is_some_and(|value| value.len() > 1 << 20) {
            return Err(Fault::new(SV_E_LIMIT, "too long"));
        }
        self.attributes.retain(|(known, _)| known != name);
        self.attributes.extend(value.map(|value| (name.to_owned(), value.to_vec())));
        Ok(())
    }
    fn read_chunk(&mut self, _: usize) -> Answer<Option<Bytes>> {
        Ok(None)
    }
    fn trailers(&mut self) -> Answer<&HeaderMap> {
        Ok(&self.trailers)
    }
    fn refuse_body(&mut self, text: String) -> Fault {
        self.refused_body = true;
        Fault::new(SV_E_LIMIT, text)
    }
    fn may_respond(&self, _: u16, _: &HeaderMap, _: usize) -> Answer {
        self.open()
    }
    fn respond(&mut self, status: u16, headers: HeaderMap, body: Bytes) {
        self.status = status;
        self.answer.extend(headers);
        self.written = body.len();
        self.committed = true;
    }
    fn set_status(&mut self, status: u16) -> Answer {
        self.open()?;
        self.status = status;
        Ok(())
    }
    fn set_header(&mut self, change: HeaderChange, name: HeaderName, value: Option<HeaderValue>) -> Answer {
        self.open()?;
        match (change, value) {
            (HeaderChange::Set, Some(value)) => drop(self.answer.insert(name, value)),
            (HeaderChange::Add, Some(value)) => drop(self.answer.append(name, value)),
            _ => drop(self.answer.remove(name)),
        }
        Ok(())
    }
    fn response_headers(&self) -> &HeaderMap {
        &self.answer
    }
    fn response_status(&self) -> u16 {
        self.status
    }
    fn set_charset(&mut self, _: Option<&str>) -> Answer {
        self.open()
    }
    fn set_buffer_size(&mut self, _: usize) -> Answer {
        self.open()?;
        if self.written > 0 { Err(Fault::new(SV_E_STATE, "there is output already")) } else { Ok(()) }
    }
    fn write(&mut self, bytes: &[u8]) -> Answer<usize> {
        let taken = self.taken(bytes.len())?;
        self.written += taken;
        Ok(taken)
    }
    fn write_owned(&mut self, bytes: Bytes) -> Answer {
        if self.room.is_some_and(|room| room < bytes.len()) {
            return Err(Fault::would_block());
        }
        self.written += self.taken(bytes.len())?;
        self.owned.iter_mut().for_each(|owned| owned.push(bytes.clone()));
        Ok(())
    }
    fn set_trailer(&mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.trailers.insert(name, value);
        Ok(())
    }
    fn informational(&mut self, _: u16, _: HeaderMap) -> Answer {
        Err(Fault::new(SV_E_UNSUPPORTED, "not here"))
    }
    fn encode_url(&mut self, url: &str) -> String {
        url.to_owned()
    }
    fn flush(&mut self) -> Answer {
        assert!(!self.panics, "the mock panics, as it was told to");
        self.committed = true;
        Ok(())
    }
    fn reset(&mut self) -> Answer {
        self.open()?;
        (self.status, self.written) = (200, 0);
        self.answer.clear();
        Ok(())
    }
    fn reset_buffer(&mut self) -> Answer {
        self.open()?;
        self.written = 0;
        Ok(())
    }
    fn send_error(&mut self, status: u16, _: &str) -> Answer {
        self.open()?;
        (self.status, self.committed) = (status, true);
        Ok(())
    }
    fn redirect(&mut self, status: u16, location: HeaderValue) -> Answer {
        self.open()?;
        self.status = status;
        self.answer.insert("location", location);
        self.committed = true;
        Ok(())
    }
    fn committed(&self) -> bool {
        self.committed
    }
    fn fail(&mut self, kind: &str, text: &str) {
        self.failure = Some(format!("{kind}: {text}"));
    }
    fn unavailable(&mut self, _: u32, text: &str) {
        self.failure = Some(format!("unavailable: {text}"));
    }
    fn dispatch(&mut self, _: Dispatch, _: &str) -> Answer<sv_status> {
        Ok(SV_NONE)
    }
    fn cancelled(&self) -> bool {
        false
    }
    fn retiring(&self) -> bool {
        false
    }
    fn detach(&mut self) -> Answer {
        if std::mem::replace(&mut self.is_detached, true) {
            return Err(Fault::new(SV_E_STATE, "the exchange is detached already"));
        }
        Ok(())
    }
    fn completed(&mut self, result: sv_status) {
        self.completions.lock().unwrap().push(result);
    }
    fn async_dispatch(&mut self, path: Option<&str>) -> Answer {
        if !self.is_detached && self.wake.is_none() {
            return Err(Fault::new(SV_E_STATE, "the exchange is neither a task's nor detached"));
        }
        self.goes_to = Some(path.map(str::to_owned));
        Ok(())
    }
    fn set_timeout(&mut self, after: Option<Duration>) -> Answer {
        self.timeout = after;
        Ok(())
    }
    fn waker(&mut self) -> Option<Arc<dyn Wake>> {
        self.wake.clone().filter(|_| !self.is_detached).map(|wake| wake as Arc<dyn Wake>)
    }
    fn session(&mut self, create: bool) -> Answer<bool> {
        if self.session.is_none() && create {
            self.open()?;
            self.session = Some(MockSession::default());
        }
        Ok(self.session.is_some())
    }
    fn session_info(&mut self) -> SessionInfo {
        let id = self.session.as_ref().map(|session| session.id.to_string());
        SessionInfo { id, is_new: true, ..SessionInfo::default() }
    }
    fn lease(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(())
    }
}
