//! What is wrong with a request, and the page that the server makes of it: HTML, or to who asks for JSON a problem (RFC 9457).
//!
//! Made where something goes wrong, inside of a context and outside; it becomes a response where it is known that no webapp has a page
//! of its own for it (`error_page`).

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serval_static_files::prefers_to_html;

use crate::body::ResponseBody;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const ACCEPT: HeaderValue = HeaderValue::from_static("accept");

/// An error, 400 to 599, that is to be answered.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// As `fail` of servlet.h has it; empty: none was said.
    pub kind: String,
    /// One sentence, maybe empty.
    pub reason: Cow<'static, str>,
    /// Every client may know the reason, not only who develops.
    pub is_public: bool,
    /// A servlet has failed: its reason is told to a page that is for its kind, and to no other page of the webapp, which may show
    /// what it gets.
    pub is_failure: bool,
    /// What the status goes with, as Allow does with 405.
    pub headers: HeaderMap,
}

impl Problem {
    pub fn new(status: StatusCode) -> Box<Problem> {
        let (kind, reason) = (String::new(), Cow::Borrowed(""));
        Box::new(Problem { status, kind, reason, is_public: false, is_failure: false, headers: HeaderMap::new() })
    }

    /// After it the connection is closed, because its framing cannot be trusted, or the rest of the body is not waited for.
    pub fn closing(status: StatusCode) -> Box<Problem> {
        Problem::new(status).with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// 503 with the seconds after which it is worth to ask again.
    pub fn unavailable(retry_after: u32) -> Box<Problem> {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE).with(RETRY_AFTER, HeaderValue::from(retry_after))
    }

    /// 500 for a servlet that has failed.
    pub fn failure() -> Box<Problem> {
        let mut problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR);
        problem.is_failure = true;
        problem
    }

    /// 405 with the methods that there are.
    pub fn not_allowed(allow: &str) -> Box<Problem> {
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED);
        match HeaderValue::from_str(allow) {
            Ok(allow) => problem.with(ALLOW, allow),
            Err(_) => problem,
        }
    }

    pub fn with(mut self: Box<Problem>, name: http::HeaderName, value: HeaderValue) -> Box<Problem> {
        self.headers.insert(name, value);
        self
    }

    /// Says why, to the page of a webapp and to who develops.
    pub fn because(mut self: Box<Problem>, reason: impl Into<Cow<'static, str>>) -> Box<Problem> {
        self.reason = reason.into();
        self
    }

    /// Says why, to everybody.
    pub fn because_public(mut self: Box<Problem>, reason: impl Into<Cow<'static, str>>) -> Box<Problem> {
        self.is_public = true;
        self.because(reason)
    }

    pub fn of_kind(mut self: Box<Problem>, kind: impl Into<String>) -> Box<Problem> {
        self.kind = kind.into();
        self
    }

    /// The server's own page for it. `headers` are the request's.
    pub fn page(&self, headers: &HeaderMap, shows_reasons: bool) -> Response<ResponseBody> {
        let reason = if self.is_public || shows_reasons { &*self.reason } else { "" };
        let kind = if shows_reasons { &*self.kind } else { "" };
        let wants_json = prefers_to_html(headers, &["application/problem+json", "application/json"]);
        let (content_type, body) = match wants_json {
            true => (PROBLEM, json(self.status, reason, kind)),
            false => (HTML, html(self.status, reason, kind)),
        };
        let mut response = self.response(ResponseBody::Full(Bytes::from(body)), Some(content_type));
        // Caches may keep it, though it is an error (RFC 9110 15.1), and the next client may like the other form.
        if !response.headers().get_all(VARY).iter().any(|value| value == ACCEPT) {
            response.headers_mut().append(VARY, ACCEPT);
        }
        response
    }

    /// An answer with this body and the status and headers of the problem.
    pub fn response(&self, body: ResponseBody, content_type: Option<HeaderValue>) -> Response<ResponseBody> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        if let Some(content_type) = content_type {
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        response
    }
}

fn html(status: StatusCode, reason: &str, kind: &str) -> String {
    let name = status.canonical_reason().map(|name| format!(" – {name}")).unwrap_or_default();
    let title = format!("HTTP Status {}{name}", status.as_str());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title>\n<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;\
         padding:0 1rem;color:#3b3226;background:#fbf7ef}}@media(prefers-color-scheme:dark)\
         {{body{{color:#e9dfcd;background:#1d1a16}}}}</style>\n<h1>{title}</h1>\n"
    );
    for (text, before, after) in [(reason, "<p>", "</p>\n"), (kind, "<p>Kind: <code>", "</code></p>\n")] {
        if !text.is_empty() {
            page.push_str(before);
            escape(text, &mut page);
            page.push_str(after);
        }
    }
    page
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
}

/// RFC 9457 3.1. Of the type `about:blank`, so the title is the status's name (4.2.1).
fn json(status: StatusCode, reason: &str, kind: &str) -> String {
    let mut members = serde_json::Map::new();
    members.insert("type".to_owned(), "about:blank".into());
    members.insert("title".to_owned(), status.canonical_reason().unwrap_or("Error").into());
    members.insert("status".to_owned(), status.as_u16().into());
    for (name, text) in [("detail", reason), ("kind", kind)] {
        if !text.is_empty() {
            members.insert(name.to_owned(), text.into());
        }
    }
    serde_json::Value::from(members).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;

    #[track_caller]
    fn check(problem: &Problem, accept: &str, shows_reasons: bool, content_type: &str, expected: &[&str], not: &str) {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
        let response = problem.page(&headers, shows_reasons);
        assert_eq!(response.headers()[CONTENT_TYPE], content_type);
        assert_eq!((response.status(), &response.headers()[VARY]), (problem.status, &ACCEPT));
        let ResponseBody::Full(body) = response.into_body() else { panic!("it is a whole page") };
        let body = std::str::from_utf8(&body).unwrap();
        expected.iter().for_each(|part| assert!(body.contains(part), "{part} in {body}"));
        assert!(!body.contains(not), "{not} in {body}");
    }

    #[test]
    fn pages_are_html_or_json_and_say_what_they_may() {
        const HTML: &str = "text/html; charset=utf-8";
        const JSON: &str = "application/problem+json";
        let problem = Problem::new(StatusCode::NOT_FOUND).because("no <b> \"é\"").of_kind("io/not-found");
        let title = "<h1>HTTP Status 404 – Not Found</h1>";
        check(&problem, "*/*", true, HTML, &[title, "no &lt;b&gt; &quot;é&quot;", "io/not-found"], "<b>");
        check(&problem, "text/html, application/json", false, HTML, &[title], "é");
        check(&problem, "text/html;q=0.5, application/json", false, JSON, &[r#""status":404"#, "Not Found"], "é");
        check(&problem, JSON, true, JSON, &[r#""detail":"no <b> \"é\"""#, r#""kind":"io/not-found""#], "<h1>");
        let public = Problem::new(StatusCode::from_u16(499).unwrap()).because_public("soon").of_kind("x");
        check(&public, "", false, HTML, &["<h1>HTTP Status 499</h1>", "<p>soon</p>"], "x</code>");
    }
}
