//! A request that a test makes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Answer;
use super::exchange::{Exchange, Part};
use super::webapp::Webapp;
use crate::Method;

/// A request that a test makes; [`send`](Call::send) sends it. See [`App`](super::App).
#[must_use = "a request is sent by send()"]
pub struct Call<'a> {
    pub(super) webapp: &'a Arc<Webapp>,
    pub(super) sent: Sent,
}

/// What the client sends, and how it behaves.
pub(super) struct Sent {
    pub method: Method,
    pub method_name: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<Vec<u8>>,
    pub parts: Option<Vec<Part>>,
    pub user: Option<(String, Vec<String>)>,
    pub takes: Option<usize>,
    pub leave_after_bytes: Option<usize>,
    pub leave_at: Option<Instant>,
    pub remote_addr: String,
    pub secure: bool,
    /// Its version, and the certificates of the client.
    pub tls: Option<(String, Vec<Vec<u8>>)>,
}

/// Between the parts of the multipart bodies that tests send.
const BOUNDARY: &str = "----serval-test-boundary";

impl<'a> Call<'a> {
    pub(super) fn new(webapp: &'a Arc<Webapp>, method: Method, target: &str) -> Call<'a> {
        let name = match method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            Method::PATCH => "PATCH",
            Method::OPTIONS => "OPTIONS",
            Method::TRACE => "TRACE",
            Method::CONNECT => "CONNECT",
            _ => "OTHER",
        };
        Call {
            webapp,
            sent: Sent {
                method,
                method_name: name.to_owned(),
                target: target.to_owned(),
                headers: vec![("host".to_owned(), b"localhost:8080".to_vec())],
                body: Vec::new(),
                parts: None,
                user: None,
                takes: None,
                leave_after_bytes: None,
                leave_at: None,
                remote_addr: "127.0.0.1".to_owned(),
                secure: false,
                tls: None,
            },
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Call<'a> {
        self.sent.headers.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self
    }

    fn content_type(mut self, content_type: &str) -> Call<'a> {
        if !self.sent.headers.iter().any(|(name, _)| name == "content-type") {
            self = self.header("content-type", content_type);
        }
        self
    }

    /// Adds a cookie to those that the client has.
    pub fn cookie(self, name: &str, value: &str) -> Call<'a> {
        self.header("cookie", format!("{name}={value}"))
    }

    /// Sets the body. A content type is a header: `.header("content-type", "text/plain")`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Call<'a> {
        self.sent.body = vec![body.into()];
        self
    }

    /// Sets a body that comes in pieces: a read gets one piece at most, and an async servlet has to wait for each but the first.
    pub fn send_slowly<P: AsRef<[u8]>>(mut self, pieces: impl IntoIterator<Item = P>) -> Call<'a> {
        self.sent.body = pieces.into_iter().map(|piece| piece.as_ref().to_vec()).collect();
        self
    }

    /// Sets the body to the text of a JSON value, `application/json` unless a content type was given before.
    pub fn json_text(self, json: &str) -> Call<'a> {
        self.content_type("application/json").body(json)
    }

    /// Sets the body to the JSON of a value, `application/json` unless a content type was given before. Panics if it has
    /// none. Feature `json`.
    #[cfg(feature = "json")]
    #[track_caller]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Call<'a> {
        match serde_json::to_string(value) {
            Ok(json) => self.json_text(&json),
            Err(wrong) => panic!("the value has no JSON: {wrong}"),
        }
    }

    /// Sets the body to a form: names and values, not encoded.
    pub fn form(self, pairs: &[(&str, &str)]) -> Call<'a> {
        let body: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        self.content_type("application/x-www-form-urlencoded").body(body.join("&"))
    }

    /// Adds a field to a multipart/form-data body.
    pub fn part(self, name: &str, value: &str) -> Call<'a> {
        let headers = vec![("content-disposition".to_owned(), format!("form-data; name=\"{name}\""))];
        self.any_part(Part {
            name: name.to_owned(),
            file_name: None,
            content_type: None,
            headers,
            data: value.as_bytes().to_vec(),
        })
    }

    /// Adds a file to a multipart/form-data body.
    pub fn file(self, name: &str, file_name: &str, content_type: &str, content: impl AsRef<[u8]>) -> Call<'a> {
        let disposition = format!("form-data; name=\"{name}\"; filename=\"{file_name}\"");
        let headers =
            vec![("content-disposition".to_owned(), disposition), ("content-type".to_owned(), content_type.to_owned())];
        self.any_part(Part {
            name: name.to_owned(),
            file_name: Some(file_name.to_owned()),
            content_type: Some(content_type.to_owned()),
            headers,
            data: content.as_ref().to_vec(),
        })
    }

    fn any_part(mut self, part: Part) -> Call<'a> {
        self.sent.parts.get_or_insert_default().push(part);
        self.content_type(&format!("multipart/form-data; boundary={BOUNDARY}"))
    }

    /// Makes a user be logged in, with these roles.
    pub fn user(mut self, name: &str, roles: &[&str]) -> Call<'a> {
        self.sent.user = Some((name.to_owned(), roles.iter().map(|&role| role.to_owned()).collect()));
        self
    }

    /// Sets the client's address; `127.0.0.1` when left out.
    pub fn from(mut self, address: &str) -> Call<'a> {
        address.clone_into(&mut self.sent.remote_addr);
        self
    }

    /// Makes the connection a protected one: `https`.
    pub fn secure(mut self) -> Call<'a> {
        self.sent.secure = true;
        self
    }

    /// Makes the connection one of TLS, `TLSv1.3` or `TLSv1.2`, whose client has shown these certificates, its own first: see
    /// [`Request::tls`](crate::Request::tls).
    pub fn tls(mut self, protocol: &str, certificates: &[&[u8]]) -> Call<'a> {
        let certificates = certificates.iter().map(|&certificate| certificate.to_vec()).collect();
        self.sent.tls = Some((protocol.to_owned(), certificates));
        self.secure()
    }

    /// Makes the client slow: it takes so many bytes at a time, and an async servlet has to wait for each next time.
    pub fn read_slowly(mut self, bytes: usize) -> Call<'a> {
        self.sent.takes = Some(bytes.max(1));
        self
    }

    /// Makes the client leave when it has received so many bytes of the body.
    pub fn leave_after(mut self, bytes: usize) -> Call<'a> {
        self.sent.leave_after_bytes = Some(bytes);
        self
    }

    /// Makes the client leave after that time, counted from now.
    pub fn cancel_after(mut self, time: Duration) -> Call<'a> {
        self.sent.leave_at = Some(Instant::now() + time);
        self
    }

    /// Sends the request, waits for the end of the answer, and keeps the cookies that it sets.
    ///
    /// Panics if an async servlet has not come to its end after 30 seconds.
    #[track_caller]
    pub fn send(mut self) -> Answer {
        if let Some(parts) = &self.sent.parts {
            self.sent.body = vec![multipart(parts)];
        }
        let kept = self.webapp.cookie_header();
        if !kept.is_empty() {
            self.sent.headers.push(("cookie".to_owned(), kept.into_bytes()));
        }
        let length: usize = self.sent.body.iter().map(Vec::len).sum();
        if length > 0 && !self.sent.headers.iter().any(|(name, _)| name == "content-length") {
            self.sent.headers.push(("content-length".to_owned(), length.to_string().into_bytes()));
        }
        let answer = Exchange::run(self.webapp, self.sent);
        self.webapp.keep_cookies(&answer);
        answer
    }
}

fn multipart(parts: &[Part]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(format!("--{BOUNDARY}\r\n").as_bytes());
        for (name, value) in &part.headers {
            body.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(&part.data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => (byte as char).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Call({} {})", self.sent.method_name, self.sent.target)
    }
}
