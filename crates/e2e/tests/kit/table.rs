//! Tests as data: conversations of requests and expected answers, in a text file.
//!
//! ```text
//! # A title; the conversation runs on one connection, and a new one after an answer that closes it.
//! >> POST {app}/form?a=1          a request; {app} is the path of the webapp
//! > Content-Type: text/plain      its headers; Host and Content-Length are added where they are missing
//! >
//! > the body                      lines are joined by \n; \r, \n and \\ are escapes
//! << 200                          the answer; after 1xx another one follows
//! <<? 103                         an answer that may also be left out
//! < Content-Type: text/plain      headers that it has
//! < !ETag                         and has not
//! <
//! < hello {name}                  the body, exactly, but {name} is any text: kept, and the same wherever it stands
//! again <= 1048576 abc                  or: the body is this text over and over, up to that length
//! <+ X-Count: 3                   a trailer
//! ```
//!
//! A title that begins with `#!` in place of `#` is of what the server does not do yet: its failure is expected.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use e2e::http_client::{Connection, Response};

const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Clone)]
pub struct Conversation {
    pub title: String,
    pub line: usize,
    /// It fails, until the server has what it is about.
    pub fails: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Default, Clone)]
struct Step {
    line: usize,
    request: Request,
    answers: Vec<Answer>,
}

#[derive(Debug, Default, Clone)]
struct Request {
    first: String,
    headers: Vec<String>,
    body: Option<String>,
}

#[derive(Debug, Default, Clone)]
struct Answer {
    status: u16,
    optional: bool,
    headers: Vec<String>,
    body: Option<String>,
    repeated: Option<(usize, String)>,
    trailers: Vec<String>,
}

/// What was answered, with the webapp's path and the kept texts under their names, so that two of them can be compared.
pub type Transcript = Vec<String>;

/// Reads a table. It panics with the line that is wrong: it is part of the test.
pub fn read(text: &str) -> Vec<Conversation> {
    let mut all: Vec<Conversation> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let fails = line.starts_with("#! ");
        if let Some(title) = line.strip_prefix(if fails { "#! " } else { "# " }) {
            all.push(Conversation { title: title.to_owned(), line: number, fails, steps: Vec::new() });
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let conversation = all.last_mut().unwrap_or_else(|| panic!("line {number}: before the first title"));
        if let Some(first) = line.strip_prefix(">> ") {
            let request = Request { first: first.to_owned(), ..Request::default() };
            conversation.steps.push(Step { line: number, request, answers: Vec::new() });
            continue;
        }
        let step = conversation.steps.last_mut().unwrap_or_else(|| panic!("line {number}: before the first request"));
        let optional = line.starts_with("<<? ");
        if let Some(status) = line.strip_prefix(if optional { "<<? " } else { "<< " }) {
            let status = status.parse().unwrap_or_else(|_| panic!("line {number}: no status"));
            step.answers.push(Answer { status, optional, ..Answer::default() });
        } else if let Some(rest) = line.strip_prefix('>') {
            let request = &mut step.request;
            add(rest, &mut request.headers, &mut request.body);
        } else {
            let answer = step.answers.last_mut().unwrap_or_else(|| panic!("line {number}: before the first answer"));
            if let Some(rest) = line.strip_prefix("<= ") {
                let (len, text) = rest.split_once(' ').unwrap_or_else(|| panic!("line {number}: length and text"));
                answer.repeated = Some((len.parse().unwrap_or_else(|_| panic!("line {number}: length")), text.into()));
            } else if let Some(trailer) = line.strip_prefix("<+ ") {
                answer.trailers.push(trailer.to_owned());
            } else if let Some(rest) = line.strip_prefix('<') {
                add(rest, &mut answer.headers, &mut answer.body);
            } else {
                panic!("line {number}: it begins with none of # >> > << < <= <+");
            }
        }
    }
    all
}

/// A line of a head, or of a body after an empty one.
fn add(rest: &str, headers: &mut Vec<String>, body: &mut Option<String>) {
    let text = rest.strip_prefix(' ').unwrap_or(rest);
    match body {
        None if text.is_empty() => *body = Some(String::new()),
        None => headers.push(text.to_owned()),
        Some(body) => {
            if !body.is_empty() {
                body.push('\n');
            }
            body.push_str(&unescaped(text));
        }
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('r') => out.push('\r'),
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            (other, _) => out.push(other),
        }
    }
    out
}

impl Conversation {
    /// Runs it against one webapp, and says in words what was not as expected.
    pub fn run(&self, address: SocketAddr, app: &str) -> Result<Transcript, String> {
        match (self.run_as_it_is(address, app), self.fails) {
            (Ok(_), true) => Err(format!("line {} ({}): it holds now; write `#` for `#!`", self.line, self.title)),
            (Err(_), true) => Ok(Transcript::new()),
            (result, false) => result,
        }
    }

    fn run_as_it_is(&self, address: SocketAddr, app: &str) -> Result<Transcript, String> {
        let mut kept = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let mut transcript = Vec::new();
        let mut connection = None;
        for step in &self.steps {
            let failed = |what: String| format!("line {} ({}): {what}", step.line, self.title);
            let io = |error: std::io::Error| failed(format!("{} {error}", step.request.first));
            let open = match connection.take() {
                Some(open) => open,
                None => Connection::open(address, LONG).map_err(io)?,
            };
            let open: &mut Connection = connection.insert(open);
            open.send(step.request.written(&kept).as_bytes()).map_err(io)?;
            let mut read = None;
            for answer in &step.answers {
                let response = match read.take() {
                    Some(response) => response,
                    None if step.request.first.starts_with("HEAD ") => open.read_response_of_head().map_err(io)?,
                    None => open.read_response().map_err(io)?,
                };
                if answer.optional && response.status != answer.status {
                    read = Some(response);
                    continue;
                }
                answer.check(&response, &mut kept).map_err(failed)?;
                transcript.push(told(&response, &kept));
            }
            if open.is_over() {
                connection = None;
            }
        }
        Ok(transcript)
    }
}

impl Request {
    fn written(&self, kept: &BTreeMap<String, String>) -> String {
        let has = |name: &str| self.headers.iter().any(|header| header.to_ascii_lowercase().starts_with(name));
        let mut text = format!("{} HTTP/1.1\r\n", filled(&self.first, kept));
        let body = self.body.as_deref().map(|body| filled(body, kept)).unwrap_or_default();
        if !has("host:") {
            text.push_str("Host: localhost\r\n");
        }
        if self.body.is_some() && !has("transfer-encoding:") && !has("content-length:") {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for header in &self.headers {
            text.push_str(&filled(header, kept));
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.push_str(&body);
        text
    }
}

impl Answer {
    fn check(&self, response: &Response, kept: &mut BTreeMap<String, String>) -> Result<(), String> {
        let body = String::from_utf8_lossy(&response.body).into_owned();
        let shown = || {
            let start: String = body.chars().take(2000).collect();
            format!("\n{}{start}", String::from_utf8_lossy(&response.head))
        };
        if response.status != self.status {
            return Err(format!("{} in place of {}{}", response.status, self.status, shown()));
        }
        for header in &self.headers {
            if let Some(name) = header.strip_prefix('!') {
                if let Some(value) = response.header(name) {
                    return Err(format!("there is {name}: {value}{}", shown()));
                }
                continue;
            }
            let (name, value) = header.split_once(": ").ok_or_else(|| format!("no header: {header}"))?;
            let of_name = response.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
            if !of_name.clone().any(|(_, found)| matches(value, found, kept)) {
                return Err(format!("no `{header}`{}", shown()));
            }
        }
        for trailer in &self.trailers {
            let (name, value) = trailer.split_once(": ").ok_or_else(|| format!("no trailer: {trailer}"))?;
            let is_it = |(found, text): &(String, String)| found.eq_ignore_ascii_case(name) && text == value;
            if !response.trailers.iter().any(is_it) {
                return Err(format!("no trailer `{trailer}` but {:?}{}", response.trailers, shown()));
            }
        }
        if let Some((len, text)) = &self.repeated {
            let wrong = response.body.iter().zip(text.bytes().cycle()).position(|(found, expected)| *found != expected);
            if let Some(at) = wrong {
                return Err(format!("byte {at} of the body is not as expected"));
            }
            if response.body.len() != *len {
                return Err(format!("{} bytes in place of {len}", response.body.len()));
            }
        }
        match &self.body {
            Some(expected) if !matches(expected, body.trim_end_matches('\n'), kept) => {
                Err(format!("the body is not\n{}\nbut{}", filled(expected, kept), shown()))
            }
            _ => Ok(()),
        }
    }
}

/// What can be compared of an answer: all but the time it was made, and but the page of an error: a library that passes
/// an error of the server on gets the server's words into it, and one that answers it by itself does not.
fn told(response: &Response, kept: &BTreeMap<String, String>) -> String {
    if response.status >= 400 {
        return format!("{} of type {:?}", response.status, response.header("content-type"));
    }
    let mut headers: Vec<String> = response
        .headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("date"))
        .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
        .collect();
    headers.sort();
    let body = String::from_utf8_lossy(&response.body);
    let mut text = format!("{}\n{}\n\n{body}", response.status, headers.join("\n"));
    for (name, value) in kept {
        text = text.replace(value.as_str(), &format!("{{{name}}}"));
    }
    text
}

fn filled(text: &str, kept: &BTreeMap<String, String>) -> String {
    kept.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// Whether a text is as its pattern says; what its names stand for is kept.
fn matches(pattern: &str, text: &str, kept: &mut BTreeMap<String, String>) -> bool {
    let pattern = filled(pattern, kept);
    let Some((before, rest)) = pattern.split_once('{') else { return pattern == text };
    let Some((name, after)) = rest.split_once('}') else { return pattern == text };
    let Some(from) = text.strip_prefix(before) else { return false };
    // A name ends where what follows it in the pattern begins for the first time.
    let literal = after.split('{').next().unwrap_or("");
    let end = if literal.is_empty() { Some(from.len()) } else { from.find(literal) };
    let Some(value) = end.map(|end| &from[..end]).filter(|value| !value.is_empty()) else { return false };
    let before_this = kept.clone();
    kept.insert(name.to_owned(), value.to_owned());
    let all = matches(after, &from[value.len()..], kept);
    if !all {
        *kept = before_this;
    }
    all
}
