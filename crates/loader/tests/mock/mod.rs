//! What stands in for the container when a library is opened, started and called here: a context and an exchange that keep just
//! enough state for a library to see whether something has changed.

#![allow(dead_code, reason = "each test uses a part")]

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serval_abi::{SV_DISPATCH_REQUEST, SV_E_LIMIT, SV_E_STATE, SV_MATCH_PATH};
use serval_loader::exchange::{Answer, Context, Exchange, Fault, Head, HeaderChange, Level, Place};

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
}

/// An exchange whose response is committed by `flush` and `respond`.
pub struct MockExchange {
    path: String,
    headers: HeaderMap,
    attributes: Vec<(String, Vec<u8>)>,
    pub status: u16,
    pub answer: HeaderMap,
    pub written: usize,
    pub committed: bool,
    pub failure: Option<String>,
    pub refused_body: bool,
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
        }
    }

    fn open(&self) -> Answer {
        if self.committed { Err(Fault::new(SV_E_STATE, "committed")) } else { Ok(()) }
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
            remote_addr: "127.0.0.1",
            local_addr: "127.0.0.1",
            remote_port: 1,
            local_port: 80,
            id: 1,
            connection_id: 1,
        }
    }
    fn parameters(&mut self) -> Answer<&[(String, String)]> {
        Ok(&[])
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
    fn read_chunk(&mut self) -> Answer<Option<Bytes>> {
        Ok(None)
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
    fn write(&mut self, bytes: &[u8]) -> Answer {
        self.written += bytes.len();
        Ok(())
    }
    fn flush(&mut self) -> Answer {
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
    fn redirect(&mut self, location: HeaderValue) -> Answer {
        self.open()?;
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
    fn cancelled(&self) -> bool {
        false
    }
    fn retiring(&self) -> bool {
        false
    }
    fn lease(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(())
    }
}
