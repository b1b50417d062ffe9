//! What is noted of one request for its line: values of the request when it begins, of the exchange at its end, of the response when
//! its head goes out, and how much of the body was sent.
//!
//! Only what the format asks for is copied, and nothing is formatted here: that is the writer's. An entry is owned by the response's
//! side: by `Answering`, then by the body. Where the format asks for something that only the exchange knows, a [`Noting`] goes with
//! the request, and of the two whoever ends later hands the entry in.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use serval_config::{LogValue, WithoutEquals};

use super::Log;
use super::format::{Item, Question};
use crate::body::ResponseBody;
use crate::remote_ip::Client;
use crate::tokens::has_token;
use crate::{BodyError, Peer, parameters};

/// LIMIT: bytes of a value that are logged. Entries wait in a queue, so one must not hold a whole head.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// What most requests need, so that one allocation is enough.
const VALUES_BYTES: usize = 256;

/// The status of a request whose client had gone before there was an answer, as nginx has it.
const CLIENT_GONE: u16 = 499;

/// The attribute that says why the server has refused a request, which no servlet has seen.
const REFUSED: &str = "serval.refused";

/// One request, on its way to be a line.
pub struct Entry {
    log: Arc<Log>,
    began: Instant,
    pub peer: Arc<Peer>,
    /// What proxies have said of the client, if the log is to believe it.
    pub client: Option<Box<Client>>,
    pub version: Version,
    /// Why the server has refused it.
    refused: Option<&'static str>,
    /// Values in the order of the format.
    pub of_request: Values,
    pub of_response: Values,
    pub of_exchange: Values,
    /// Where the exchange and the response meet at their ends.
    meeting: Option<Arc<Mutex<Meeting>>>,
    pub status: u16,
    pub state: State,
    /// From the beginning to the head of the response; None: it never went out.
    pub committed: Option<Duration>,
    pub taken: Duration,
    pub ended: SystemTime,
    /// Bytes of the body that were sent.
    pub bytes: u64,
    /// How many are all; None: that shows at the end.
    bytes_announced: Option<u64>,
    /// There is no more to come.
    whole: bool,
    body: ResponseBody,
}

/// What became of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Aborted,
    Kept,
    Closed,
}

enum Meeting {
    Nobody,
    /// The exchange has ended; None: the request is not to be logged.
    Exchange(Option<Values>),
    Response(Box<Entry>),
}

/// Owns an entry. Dropped, the request is over.
pub struct Owner(Option<Box<Entry>>);

/// The exchange's part of an entry. Dropped without [`Noting::note`], there is nothing to say.
pub struct Noting {
    log: Arc<Log>,
    /// None: it has happened.
    meeting: Option<Arc<Mutex<Meeting>>>,
}

impl Entry {
    pub fn begin(log: &Arc<Log>, head: &Parts, server_name: &str, peer: &Arc<Peer>) -> Owner {
        let note = |item: &Item, values: &mut Values| note_of_request(item, head, server_name, peer, values);
        let mut entry = Entry::new(log, peer, head.version, note);
        entry.state = if asks_to_close(head.version, &head.headers) { State::Closed } else { State::Kept };
        entry.whole = head.method == Method::HEAD;
        Owner(Some(entry))
    }

    pub fn begin_unread(log: &Arc<Log>, line: &[u8], why: &'static str, peer: &Arc<Peer>) -> Owner {
        let note = |item: &Item, values: &mut Values| note_of_line(item, line, peer, values);
        let mut entry = Entry::new(log, peer, Version::HTTP_11, note);
        entry.state = State::Closed;
        entry.refused = Some(why);
        Owner(Some(entry))
    }

    fn new(log: &Arc<Log>, peer: &Arc<Peer>, version: Version, note: impl Fn(&Item, &mut Values)) -> Box<Entry> {
        let mut of_request = Values(Vec::with_capacity(VALUES_BYTES));
        log.format.items.iter().for_each(|item| note(item, &mut of_request));
        Box::new(Entry {
            log: log.clone(),
            began: Instant::now(),
            peer: peer.clone(),
            client: None,
            version,
            refused: None,
            of_request,
            of_response: Values::default(),
            of_exchange: Values::default(),
            meeting: None,
            status: CLIENT_GONE,
            state: State::Kept,
            committed: None,
            taken: Duration::ZERO,
            ended: SystemTime::UNIX_EPOCH,
            bytes: 0,
            bytes_announced: None,
            whole: false,
            body: ResponseBody::empty(),
        })
    }

    fn finish(mut self: Box<Entry>) {
        self.taken = self.began.elapsed();
        self.ended = SystemTime::now();
        if self.committed.is_none() || !self.whole {
            self.state = State::Aborted;
        }
        self.body = ResponseBody::empty();
        let Some(meeting) = self.meeting.take() else {
            let refused = self.refused;
            let noted = self.log.format.ask(&mut |question| match question {
                Question::RequestAttribute(REFUSED) => refused.map(|why| Bytes::from_static(why.as_bytes())),
                _ => None,
            });
            return self.hand_in(noted);
        };
        let mut met = meeting.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *met, Meeting::Nobody) {
            Meeting::Exchange(noted) => self.hand_in(noted),
            _ => *met = Meeting::Response(self),
        }
    }

    /// `noted` is what the exchange has said; None: it is not to be logged.
    fn hand_in(mut self: Box<Entry>, noted: Option<Values>) {
        let Some(values) = noted else { return };
        self.of_exchange = values;
        let log = self.log.clone();
        log.send(self);
    }
}

impl Owner {
    /// Of here on address, name and port are those that proxies have said, if the log is to believe it.
    pub fn found_client(&mut self, client: &Client) {
        if let Some(entry) = self.0.as_mut().filter(|entry| entry.log.use_remote_ip) {
            entry.client = Some(Box::new(client.clone()));
        }
    }

    /// The server refuses it.
    pub fn refused(&mut self, why: &'static str) {
        if let Some(entry) = self.0.as_mut() {
            entry.refused = Some(why);
        }
    }

    /// To go with the request, if the format asks for something that the exchange knows.
    pub fn noting(&mut self) -> Option<Noting> {
        let entry = self.0.as_mut().filter(|entry| entry.log.format.asks_exchange())?;
        let meeting = Arc::new(Mutex::new(Meeting::Nobody));
        entry.meeting = Some(meeting.clone());
        Some(Noting { log: entry.log.clone(), meeting: Some(meeting) })
    }

    /// The head goes out: notes it, and counts what is sent of the body from here on.
    pub fn answered(mut self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        let Some(entry) = self.0.as_mut() else { return response };
        let (head, body) = response.into_parts();
        entry.committed = Some(entry.began.elapsed());
        entry.status = head.status.as_u16();
        entry.bytes_announced = body.size_hint().exact().or_else(|| {
            let announced = head.headers.get(CONTENT_LENGTH)?;
            announced.to_str().ok()?.parse().ok()
        });
        entry.whole |= matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || body.is_end_stream()
            || entry.bytes_announced == Some(0);
        if has_token(&head.headers, CONNECTION, "close") {
            entry.state = State::Closed;
        }
        for item in &entry.log.format.items {
            if let Item::ResponseHeader(name) = item {
                let values = head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
                entry.of_response.note_parts(values, b",");
            }
        }
        entry.body = body;
        Response::from_parts(head, ResponseBody::Logged(self))
    }

    pub fn poll_frame(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(entry) = self.0.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(&mut entry.body).poll_frame(task);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                entry.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                entry.whole = entry.body.is_end_stream() || entry.bytes_announced == Some(entry.bytes);
            }
            Poll::Ready(None) => entry.whole = true,
            // One that has failed is at its end too.
            Poll::Ready(Some(Err(_))) => entry.whole = false,
            Poll::Pending => {}
        }
        polled
    }

    pub fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|entry| entry.body.is_end_stream())
    }

    pub fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |entry| entry.body.size_hint())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(entry) = self.0.take() {
            entry.finish();
        }
    }
}

impl Noting {
    /// The exchange ends: `answer` says what it knows.
    pub fn note(mut self, mut answer: impl FnMut(Question) -> Option<Bytes>) {
        let noted = self.log.format.ask(&mut answer);
        self.meet(noted);
    }

    fn meet(&mut self, noted: Option<Values>) {
        let Some(meeting) = self.meeting.take() else { return };
        let mut met = meeting.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *met, Meeting::Nobody) {
            Meeting::Response(entry) => entry.hand_in(noted),
            _ => *met = Meeting::Exchange(noted),
        }
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        if self.meeting.is_some() {
            let noted = self.log.format.ask(&mut |_| None);
            self.meet(noted);
        }
    }
}

/// Values one after another, each behind its length; read in the order in which they were noted.
#[derive(Default)]
pub struct Values(Vec<u8>);

/// The length of a value that there is not.
const MISSING: u32 = u32::MAX;

impl Values {
    pub fn note(&mut self, value: Option<&[u8]>) {
        self.note_parts(value, b"");
    }

    /// One value of several parts; of none: there is no value.
    pub fn note_parts<'v>(&mut self, parts: impl IntoIterator<Item = &'v [u8]>, between: &[u8]) {
        let at = self.0.len();
        self.0.extend_from_slice(&MISSING.to_ne_bytes());
        let from = self.0.len();
        let mut len = MISSING;
        for part in parts {
            if len != MISSING {
                self.0.extend_from_slice(between);
            }
            self.0.extend_from_slice(part);
            self.0.truncate(from + VALUE_BYTES_MAX);
            len = (self.0.len() - from) as u32;
        }
        self.0[at..from].copy_from_slice(&len.to_ne_bytes());
    }

    pub fn read(&self) -> Reading<'_> {
        Reading(&self.0)
    }
}

/// What is left to be read.
pub struct Reading<'v>(&'v [u8]);

impl<'v> Reading<'v> {
    /// The next value; None: there is none in its place.
    pub fn next(&mut self) -> Option<&'v [u8]> {
        let (len, rest) = self.0.split_first_chunk()?;
        let len = u32::from_ne_bytes(*len);
        self.0 = rest;
        if len == MISSING {
            return None;
        }
        let (value, rest) = rest.split_at_checked(len as usize)?;
        self.0 = rest;
        Some(value)
    }
}

fn note_of_request(item: &Item, head: &Parts, server_name: &str, peer: &Peer, values: &mut Values) {
    let target = || head.uri.path_and_query().map_or("", |target| target.as_str());
    let mut note = |value: &str| values.note(Some(value.as_bytes()));
    match item {
        Item::RequestHeader(name) => {
            values.note_parts(head.headers.get_all(name).iter().map(HeaderValue::as_bytes), b",");
        }
        Item::Value(LogValue::RemoteAddress | LogValue::RemoteHost) => note(&peer.remote_text),
        Item::Value(LogValue::ServerName) => note(server_name),
        Item::Value(LogValue::LocalPort) => note(&peer.local.port().to_string()),
        Item::Value(LogValue::Method) => note(head.method.as_str()),
        Item::Value(LogValue::Path) => note(head.uri.path()),
        Item::Value(LogValue::Query) => {
            let query = target().find('?').map(|at| &target().as_bytes()[at..]);
            values.note(query);
        }
        Item::Value(LogValue::RequestLine) => {
            let line = [head.method.as_str(), target(), protocol(head.version)];
            values.note_parts(line.map(str::as_bytes), b" ");
        }
        Item::Value(LogValue::Thread) => values.note(std::thread::current().name().map(str::as_bytes)),
        Item::Value(LogValue::Cookie(name)) => {
            let mut all = Vec::new();
            head.headers
                .get_all(COOKIE)
                .iter()
                .for_each(|value| parameters::cookies(value.as_bytes(), WithoutEquals::Name, &mut all));
            let named = all.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_bytes());
            values.note_parts(named, b",");
        }
        _ => {}
    }
}

/// The same of a request of which there is only its line, or a part of it.
fn note_of_line(item: &Item, line: &[u8], peer: &Peer, values: &mut Values) {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next(), words.next());
    let path_len = |target: &[u8]| target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let is_there = |word: &&[u8]| !word.is_empty();
    match item {
        Item::RequestHeader(_) | Item::Value(LogValue::ServerName | LogValue::Cookie(_)) => values.note(None),
        Item::Value(LogValue::RemoteAddress | LogValue::RemoteHost) => values.note(Some(peer.remote_text.as_bytes())),
        Item::Value(LogValue::LocalPort) => values.note(Some(peer.local.port().to_string().as_bytes())),
        Item::Value(LogValue::Method) => values.note(method.filter(is_there)),
        Item::Value(LogValue::Path) => values.note(target.map(|target| &target[..path_len(target)])),
        Item::Value(LogValue::Query) => values.note(target.map(|target| &target[path_len(target)..]).filter(is_there)),
        Item::Value(LogValue::RequestLine) => values.note(Some(line).filter(is_there)),
        Item::Value(LogValue::Thread) => values.note(std::thread::current().name().map(str::as_bytes)),
        _ => {}
    }
}

/// As it is written in a request line.
pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// Whether the client does not want its connection kept (RFC 9112 9.3).
fn asks_to_close(version: Version, headers: &HeaderMap) -> bool {
    match version {
        Version::HTTP_09 => true,
        Version::HTTP_10 => !has_token(headers, CONNECTION, "keep-alive"),
        _ => has_token(headers, CONNECTION, "close"),
    }
}
