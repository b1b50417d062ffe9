//! From an entry to its line: Tomcat's codes as text, or as the members of a JSON object (SEMANTICS 21;
//! `valves/JsonAccessLogValve`).
//!
//! Values of the JSON form are those of the text form: what is escaped for a line is just what JSON escapes.

use std::io::Write as _;

use bytes::Bytes;
use http::HeaderName;
use jiff::Timestamp;
use serval_config::{AccessLog, LogItem, LogPattern, LogValue, Moment, TimeUnit};

use super::entry::{Entry, Reading, State, Values, protocol};
use super::local_time::LocalTime;
use crate::remote_ip::Client;

/// A pattern, ready to be used.
pub struct Format {
    pub items: Vec<Item>,
    condition_if: Option<String>,
    condition_unless: Option<String>,
    asks_exchange: bool,
}

/// One piece of a line.
pub enum Item {
    Text(Vec<u8>),
    RequestHeader(HeaderName),
    ResponseHeader(HeaderName),
    Value(LogValue),
}

/// What only the exchange knows, at its end.
pub enum Question<'f> {
    SessionId,
    RequestAttribute(&'f str),
    SessionAttribute(&'f str),
}

impl Format {
    pub fn new(settings: &AccessLog) -> Format {
        let LogPattern(pattern) = &settings.pattern;
        let mut items = if settings.json { json(pattern) } else { text(pattern) };
        items.push(Item::Text(b"\n".to_vec()));
        let (condition_if, condition_unless) = (settings.condition_if.clone(), settings.condition_unless.clone());
        let asks_exchange = condition_if.is_some() || condition_unless.is_some() || items.iter().any(asks);
        Format { items, condition_if, condition_unless, asks_exchange }
    }

    /// Whether a line needs what only the exchange knows.
    pub fn asks_exchange(&self) -> bool {
        self.asks_exchange
    }

    /// Asks all that only the exchange knows; None: by its attributes the request is not to be logged.
    pub fn ask(&self, answer: &mut dyn FnMut(Question) -> Option<Bytes>) -> Option<Values> {
        let mut values = Values::default();
        if !self.asks_exchange {
            return Some(values);
        }
        let mut has =
            |name: &Option<String>| name.as_ref().map(|name| answer(Question::RequestAttribute(name)).is_some());
        if has(&self.condition_if) == Some(false) || has(&self.condition_unless) == Some(true) {
            return None;
        }
        for question in self.items.iter().filter_map(question) {
            values.note(answer(question).as_deref());
        }
        Some(values)
    }

    pub fn write(&self, entry: &Entry, time: &mut LocalTime, out: &mut Vec<u8>) {
        let mut of_request = entry.of_request.read();
        let mut of_response = entry.of_response.read();
        let mut of_exchange = entry.of_exchange.read();
        for item in &self.items {
            match item {
                Item::Text(text) => out.extend_from_slice(text),
                Item::RequestHeader(_) => octets(of_request.next(), out),
                Item::ResponseHeader(_) => octets(of_response.next(), out),
                item if asks(item) => unicode(of_exchange.next(), out),
                Item::Value(value) => write_value(value, entry, &mut of_request, time, out),
            }
        }
    }
}

fn write_value(value: &LogValue, entry: &Entry, of_request: &mut Reading, time: &mut LocalTime, out: &mut Vec<u8>) {
    let _ = match value {
        LogValue::PeerAddress => return octets(Some(entry.peer.remote_text.as_bytes()), out),
        LogValue::LocalAddress => return octets(Some(entry.peer.local_text.as_bytes()), out),
        LogValue::RemotePort => write!(out, "{}", entry.peer.remote.port()),
        LogValue::ConnectionId => write!(out, "{}", entry.peer.connection_id),
        // There is no realm yet, so nobody has logged in: the usual formats ask no exchange.
        LogValue::LogicalUser | LogValue::User => return out.push(b'-'),
        LogValue::Protocol => return out.extend_from_slice(protocol(entry.version).as_bytes()),
        LogValue::Status => write!(out, "{}", entry.status),
        LogValue::BytesOrDash if entry.bytes == 0 => return out.push(b'-'),
        LogValue::BytesOrDash | LogValue::Bytes => write!(out, "{}", entry.bytes),
        LogValue::Taken(unit) => match unit {
            TimeUnit::Nanoseconds => write!(out, "{}", entry.taken.as_nanos()),
            TimeUnit::Microseconds => write!(out, "{}", entry.taken.as_micros()),
            TimeUnit::Milliseconds => write!(out, "{}", entry.taken.as_millis()),
            TimeUnit::Seconds => write!(out, "{}", entry.taken.as_secs()),
            TimeUnit::SecondsAndMillis => {
                write!(out, "{}.{:03}", entry.taken.as_secs(), entry.taken.subsec_millis())
            }
        },
        LogValue::Committed => match entry.committed {
            Some(committed) => write!(out, "{}", committed.as_millis()),
            None => return out.push(b'-'),
        },
        LogValue::Time { at, format } => {
            let at = match at {
                Moment::Begin => entry.ended.checked_sub(entry.taken).unwrap_or(entry.ended),
                Moment::End => entry.ended,
            };
            return time.write(Timestamp::try_from(at).unwrap_or_default(), format, out);
        }
        LogValue::ConnectionState => {
            return out.push(match entry.state {
                State::Aborted => b'X',
                State::Kept => b'+',
                State::Closed => b'-',
            });
        }
        LogValue::Unknown(marks) => return unicode(Some(marks.as_bytes()), out),
        value => {
            let noted = of_request.next();
            let believed = entry.client.as_ref().and_then(|client| of_client(value, client));
            return octets(believed.as_ref().map(String::as_bytes).or(noted), out);
        }
    };
}

/// What proxies have said of the client, and of the server that it meant.
fn of_client(value: &LogValue, client: &Client) -> Option<String> {
    match value {
        LogValue::RemoteAddress | LogValue::RemoteHost => client.address.clone(),
        LogValue::ServerName => client.server_name.clone(),
        LogValue::LocalPort => client.port.map(|port| port.to_string()),
        _ => None,
    }
}

/// Whether only the exchange knows it.
fn asks(item: &Item) -> bool {
    question(item).is_some()
}

fn question(item: &Item) -> Option<Question<'_>> {
    let Item::Value(value) = item else { return None };
    match value {
        LogValue::SessionId => Some(Question::SessionId),
        LogValue::RequestAttribute(name) => Some(Question::RequestAttribute(name)),
        LogValue::SessionAttribute(name) => Some(Question::SessionAttribute(name)),
        _ => None,
    }
}

fn text(pattern: &[LogItem]) -> Vec<Item> {
    let items = pattern.iter().map(|item| match item {
        LogItem::Text(text) => Item::Text(text.clone().into_bytes()),
        LogItem::Code { value, .. } => of_value(value),
    });
    items.collect()
}

/// A header that has no name is never there.
fn of_value(value: &LogValue) -> Item {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
    let header = match value {
        LogValue::RequestHeader(header) => name(header).map(Item::RequestHeader),
        LogValue::ResponseHeader(header) => name(header).map(Item::ResponseHeader),
        other => Some(Item::Value(other.clone())),
    };
    header.unwrap_or_else(|| Item::Text(b"-".to_vec()))
}

/// The members of the JSON form that are objects, in the order in which Tomcat writes them.
const OBJECTS: [(char, &str); 6] = [
    ('r', "requestAttributes"),
    ('c', "cookies"),
    ('s', "sessionAttributes"),
    ('i', "requestHeaders"),
    ('L', "identifier"),
    ('o', "responseHeaders"),
];

/// The names of the other members. A code that has no name is `other-` and itself.
const MEMBERS: [(char, &str); 22] = [
    ('a', "remoteAddr"),
    ('A', "localAddr"),
    ('b', "size"),
    ('B', "byteSentNC"),
    ('D', "elapsedTime"),
    ('F', "firstByteTime"),
    ('h', "host"),
    ('H', "protocol"),
    ('I', "threadName"),
    ('l', "logicalUserName"),
    ('m', "method"),
    ('p', "port"),
    ('q', "query"),
    ('r', "request"),
    ('s', "statusCode"),
    ('S', "sessionId"),
    ('t', "time"),
    ('T', "elapsedTimeS"),
    ('u', "user"),
    ('U', "path"),
    ('v', "localServerName"),
    ('X', "connectionStatus"),
];

/// As text between which the values stand. What was written between the codes of the pattern is dropped.
fn json(pattern: &[LogItem]) -> Vec<Item> {
    let mut members = Vec::new();
    let mut objects = OBJECTS.map(|_| Vec::new());
    for item in pattern {
        let LogItem::Code { code, key, value } = item else { continue };
        let key = key.as_deref().filter(|key| !key.is_empty());
        let object = key.and_then(|_| OBJECTS.iter().position(|(of, _)| of == code));
        let name = match (object, key) {
            (Some(_), Some(key)) => key.to_owned(),
            (_, Some(key)) => format!("{}-{key}", member(*code)),
            (_, None) => member(*code),
        };
        let into = object.map_or(&mut members, |at| &mut objects[at]);
        // Of several members of one name, readers take any.
        if !into.iter().any(|(known, _)| *known == name) {
            into.push((name, value));
        }
    }
    let mut items = vec![Item::Text(b"{".to_vec())];
    let mut first = true;
    put_members(&members, &mut first, &mut items);
    for ((_, name), members) in OBJECTS.iter().zip(&objects).filter(|(_, members)| !members.is_empty()) {
        let comma = if std::mem::take(&mut first) { "" } else { "," };
        items.push(Item::Text(format!("{comma}\"{name}\": {{").into_bytes()));
        put_members(members, &mut true, &mut items);
        items.push(Item::Text(b"}".to_vec()));
    }
    items.push(Item::Text(b"}".to_vec()));
    items
}

fn put_members(members: &[(String, &LogValue)], first: &mut bool, items: &mut Vec<Item>) {
    for (name, value) in members {
        let mut before = if std::mem::take(first) { b"\"".to_vec() } else { b",\"".to_vec() };
        unicode(Some(name.as_bytes()), &mut before);
        before.extend_from_slice(b"\":\"");
        items.extend([Item::Text(before), of_value(value), Item::Text(b"\"".to_vec())]);
    }
}

fn member(code: char) -> String {
    MEMBERS.iter().find(|(of, _)| *of == code).map_or_else(|| format!("other-{code}"), |(_, name)| (*name).to_owned())
}

/// Bytes that came in a head, each a character; `-` for none.
fn octets(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        None | Some(b"") => out.push(b'-'),
        Some(value) if value.iter().all(|&byte| is_plain(byte)) => out.extend_from_slice(value),
        Some(value) => value.iter().for_each(|&byte| escape(byte.into(), out)),
    }
}

/// Text of a servlet, or of a pattern; `-` for none.
pub fn unicode(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value.map(std::str::from_utf8) {
        Some(Ok(text)) if !text.is_empty() => text.encode_utf16().for_each(|unit| escape(unit, out)),
        _ => octets(value, out),
    }
}

fn is_plain(byte: u8) -> bool {
    (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Nothing that a client has sent ends a line or a field of it.
fn escape(unit: u16, out: &mut Vec<u8>) {
    match u8::try_from(unit) {
        Ok(byte) if is_plain(byte) => out.push(byte),
        Ok(byte @ (b'"' | b'\\')) => out.extend([b'\\', byte]),
        Ok(0x0c) => out.extend(b"\\f"),
        Ok(b'\n') => out.extend(b"\\n"),
        Ok(b'\r') => out.extend(b"\\r"),
        Ok(b'\t') => out.extend(b"\\t"),
        _ => {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
}
