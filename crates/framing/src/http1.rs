//! The guard of an HTTP/1 connection. It looks once at each byte that the client sends, before hyper does, follows where messages begin
//! and end, shows hyper one message at a time, and stops at the first one that must be refused: hyper never has the end of its head.
//!
//! It refuses what hyper reads otherwise than we answer (SEMANTICS 13): lines that end without CR, Content-Length beside
//! Transfer-Encoding, more than one of either, a `#` in a target, versions that are not known, heads over their bounds. What hyper
//! refuses by itself is left to it. A chunked body that is wrong is cut where that shows, so that hyper never comes to its end.

use memchr::memchr;

/// LIMIT: empty lines before a request line.
const EMPTY_LINES_MAX: u8 = 2;
/// LIMIT: of a request line that is kept for the log.
const KEPT_LINE_BYTES_MAX: usize = 256;

/// What a connection takes, of its listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a head, with all ends of lines.
    pub head_bytes: usize,
    /// Bytes of a target.
    pub target_bytes: usize,
    /// Fields of a head.
    pub fields: usize,
    /// Bytes of a line in a chunked body: the size of a chunk with its extensions, or a trailer.
    pub body_line_bytes: usize,
}

pub struct Guard {
    limits: Limits,
    at: At,
    /// What has come of a line whose end has not come. LIMIT: that of the head, or of a chunk's line.
    partial: Vec<u8>,
    head: Head,
    /// How many requests have begun, and how many have come to their end.
    requests: u64,
    messages: u64,
    empty_lines: u8,
    /// The answer was that another protocol follows.
    switches: bool,
    refusal: Option<Refusal>,
    /// The request line of the last request, cut.
    line: [u8; KEPT_LINE_BYTES_MAX],
    line_len: usize,
}

/// Why a request is not let through. The connection ends behind the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// A sentence without its full stop.
    pub why: &'static str,
}

/// What of the client is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The next request, of which nothing has come.
    Between,
    Head,
    Body,
    /// Nothing: it asks for another protocol, and is to be answered first.
    Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    RequestLine,
    Field,
    /// So much of it is to come.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    /// Behind a chunk's data, with or without its CR.
    ChunkEnd(bool),
    Trailer,
    /// A request for another protocol has come, and no answer to it has been sent.
    Asked,
    /// All is passed on: it is another protocol.
    Through,
    /// The body is wrong, and hyper sees an end in the middle of it.
    Cut,
}

/// What a head has said until now.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    bytes: usize,
    fields: usize,
    is_http_10: bool,
    lengths: u8,
    length: Option<u64>,
    codings: u8,
    coding: Coding,
    upgrades: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Chunked,
    /// `chunked` more than once.
    Repeated,
    Unknown,
}

impl Guard {
    pub fn new(limits: Limits) -> Guard {
        Guard {
            limits,
            at: At::RequestLine,
            partial: Vec::new(),
            head: Head::default(),
            requests: 0,
            messages: 0,
            empty_lines: 0,
            switches: false,
            refusal: None,
            line: [0; KEPT_LINE_BYTES_MAX],
            line_len: 0,
        }
    }

    /// What is waited for, and of which request, from 1 on: the same number for a whole head.
    pub fn place(&self) -> (Place, u64) {
        let is_new = self.at == At::RequestLine;
        let place = match self.at {
            At::RequestLine if self.partial.is_empty() && self.empty_lines == 0 && self.requests > 0 => Place::Between,
            At::RequestLine | At::Field => Place::Head,
            At::Asked => Place::Answer,
            _ => Place::Body,
        };
        (place, self.requests + u64::from(is_new))
    }

    /// Whether a part of a head has come, and no more.
    pub fn has_part_of_a_head(&self) -> bool {
        match self.at {
            At::RequestLine => !self.partial.is_empty() || self.empty_lines > 0,
            At::Field => true,
            _ => false,
        }
    }

    /// Nothing more goes on to hyper: a request is refused, or its body is wrong, which whoever reads that answers.
    pub fn is_over(&self) -> bool {
        self.refusal.is_some() || self.at == At::Cut
    }

    /// The request that is to be answered by whoever has the connection when hyper has done with it.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Lets nothing more through: the client was too slow, or the server has no more time for it.
    pub fn refuse(&mut self, status: u16, why: &'static str) {
        if self.refusal.is_none() {
            if self.at == At::RequestLine && !self.partial.is_empty() {
                let partial = std::mem::take(&mut self.partial);
                self.keep_line(&partial);
            }
            self.refusal = Some(Refusal { status, why });
        }
    }

    /// The request line of the last request that has begun, or how it begins; without the end of its line.
    pub fn request_line(&self) -> &[u8] {
        &self.line[..self.line_len]
    }

    /// Whether the message that is read asks for another protocol: how the answer begins is to be told then.
    pub fn waits_for_answer(&self) -> bool {
        match self.at {
            At::Asked => true,
            At::RequestLine | At::Field => false,
            _ => self.head.upgrades,
        }
    }

    /// The answer begins with these bytes; it may do so before the body has come.
    pub fn is_answered(&mut self, mut bytes: &[u8]) {
        // The answer may come with what is none yet.
        while bytes.starts_with(b"HTTP/1.1 100") || bytes.starts_with(b"HTTP/1.1 103") {
            bytes = &bytes[memchr::memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |end| end + 4)..];
        }
        if !self.waits_for_answer() || bytes.is_empty() {
            return;
        }
        self.switches = bytes.starts_with(b"HTTP/1.1 101");
        self.head.upgrades = false;
        if self.at == At::Asked {
            self.at = self.behind_a_message();
        }
    }

    /// Looks at the next piece of what the client sends; returns how much of it goes on to hyper. Less than all: the rest is refused, if
    /// it [is over](Guard::is_over); else it is to be shown again, since a message has come to its end.
    pub fn look(&mut self, piece: &[u8]) -> usize {
        let mut at = 0;
        let before = self.messages;
        while at < piece.len() && self.refusal.is_none() && self.messages == before {
            let rest = &piece[at..];
            let here = |bytes: u64| usize::try_from(bytes).map_or(rest.len(), |bytes| bytes.min(rest.len()));
            match self.at {
                At::Through => return piece.len(),
                At::Asked | At::Cut => return at,
                At::Body(bytes) => {
                    let passed = here(bytes);
                    at += passed;
                    self.at = At::Body(bytes - passed as u64);
                    if self.at == At::Body(0) {
                        self.message_ends();
                    }
                }
                At::Chunk(bytes) => {
                    let passed = here(bytes);
                    at += passed;
                    self.at = At::Chunk(bytes - passed as u64);
                    if self.at == At::Chunk(0) {
                        self.at = At::ChunkEnd(false);
                    }
                }
                At::ChunkEnd(has_cr) => match (rest[0], has_cr) {
                    (b'\r', false) => (self.at, at) = (At::ChunkEnd(true), at + 1),
                    (b'\n', true) => (self.at, at) = (At::ChunkSize, at + 1),
                    _ => self.at = At::Cut,
                },
                At::RequestLine | At::Field => {
                    let end = memchr(b'\n', rest);
                    match end {
                        Some(end) => self.head_line(&rest[..end]),
                        None => self.keep(rest),
                    }
                    if self.refusal.is_none() {
                        at += end.map_or(rest.len(), |end| end + 1);
                    }
                }
                At::ChunkSize | At::Trailer => {
                    let end = memchr(b'\n', rest);
                    let line = &rest[..end.unwrap_or(rest.len())];
                    if self.partial.len() + line.len() > self.limits.body_line_bytes {
                        self.at = At::Cut;
                        return at;
                    }
                    self.partial.extend_from_slice(line);
                    if end.is_some() {
                        let line = std::mem::take(&mut self.partial);
                        self.body_line(&line);
                    }
                    if self.at != At::Cut {
                        at += line.len() + usize::from(end.is_some());
                    }
                }
            }
        }
        at
    }

    /// What has come of a line of a head.
    fn keep(&mut self, line: &[u8]) {
        self.count(line.len());
        self.partial.extend_from_slice(line);
        if self.at == At::RequestLine && self.refusal.is_none() {
            self.check_target_length(None);
        }
    }

    /// Counts bytes of a head.
    fn count(&mut self, bytes: usize) {
        self.head.bytes += bytes;
        if self.head.bytes > self.limits.head_bytes {
            match self.at {
                At::RequestLine => self.refuse(414, "the request line is longer than head_bytes_max"),
                _ => self.refuse(431, "the head is longer than head_bytes_max"),
            }
        }
    }

    /// A whole line, without its LF. Most heads come as one piece: nothing is copied then.
    fn head_line(&mut self, line: &[u8]) {
        self.count(line.len() + 1);
        if self.refusal.is_some() {
            return;
        }
        if self.partial.is_empty() {
            return self.whole_line(line);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(line);
        self.whole_line(&whole);
    }

    fn whole_line(&mut self, line: &[u8]) {
        let Some((b'\r', line)) = line.split_last() else {
            if self.at == At::RequestLine {
                self.request_begins(line);
            }
            return self.refuse(400, "a line of the head ends without CR");
        };
        match (self.at, line) {
            (At::RequestLine, []) => {
                self.empty_lines += 1;
                self.head = Head::default();
                if self.empty_lines > EMPTY_LINES_MAX {
                    self.refuse(400, "there are more than two empty lines before a request");
                }
            }
            (At::RequestLine, line) => {
                self.request_begins(line);
                self.check_request_line(line);
                self.at = At::Field;
            }
            (_, []) => self.head_ends(),
            (_, line) => self.field(line),
        }
    }

    fn request_begins(&mut self, line: &[u8]) {
        self.requests += 1;
        self.empty_lines = 0;
        self.keep_line(line);
    }

    fn keep_line(&mut self, line: &[u8]) {
        self.line_len = line.len().min(KEPT_LINE_BYTES_MAX);
        self.line[..self.line_len].copy_from_slice(&line[..self.line_len]);
    }

    fn check_request_line(&mut self, line: &[u8]) {
        // What is no method, target and version is hyper's to refuse.
        let Some(space) = memchr(b' ', line) else { return };
        let rest = &line[space + 1..];
        let Some(end) = memchr(b' ', rest) else { return };
        let (target, version) = (&rest[..end], &rest[end + 1..]);
        self.check_target_length(Some(target.len()));
        if memchr(b'#', target).is_some() {
            return self.refuse(400, "the target has a fragment");
        }
        match version {
            b"HTTP/1.1" => {}
            b"HTTP/1.0" => self.head.is_http_10 = true,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                self.refuse(505, "the version of HTTP is not known");
            }
            _ => {}
        }
    }

    /// `None`: the end of the line has not come.
    fn check_target_length(&mut self, length: Option<usize>) {
        let length = length.unwrap_or_else(|| {
            let begin = memchr(b' ', &self.partial).map_or(0, |space| space + 1);
            let target = &self.partial[begin..];
            memchr(b' ', target).unwrap_or(target.len())
        });
        if length > self.limits.target_bytes {
            self.refuse(414, "the target is longer than target_bytes_max");
        }
    }

    fn field(&mut self, line: &[u8]) {
        self.head.fields += 1;
        if self.head.fields > self.limits.fields {
            return self.refuse(431, "the head has more fields than header_count_max");
        }
        match line[0] | 0x20 {
            b'c' => {
                let Some(value) = value_of(line, b"content-length") else { return };
                self.head.lengths = self.head.lengths.saturating_add(1);
                self.head.length = length(value);
            }
            b't' => {
                let Some(value) = value_of(line, b"transfer-encoding") else { return };
                let coding = coding(value);
                self.head.codings = self.head.codings.saturating_add(1);
                // Two fields are one list.
                self.head.coding = match (self.head.codings, coding) {
                    (1, coding) => coding,
                    (_, Coding::Unknown) => Coding::Unknown,
                    _ if self.head.coding == Coding::Unknown => Coding::Unknown,
                    _ => Coding::Repeated,
                };
            }
            b'u' => self.head.upgrades |= value_of(line, b"upgrade").is_some(),
            _ => {}
        }
    }

    fn head_ends(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.head.upgrades = head.upgrades;
        self.at = match (head.lengths, head.codings) {
            (0, 0) => return self.message_ends(),
            (1, 0) => match head.length {
                Some(0) => return self.message_ends(),
                Some(length) => At::Body(length),
                None => return self.refuse(400, "Content-Length is not a number of bytes"),
            },
            (_, 0) => return self.refuse(400, "there is more than one Content-Length"),
            (0, _) if head.is_http_10 => return self.refuse(400, "HTTP/1.0 knows no Transfer-Encoding"),
            (0, _) => match head.coding {
                Coding::Chunked => At::ChunkSize,
                Coding::Repeated => return self.refuse(400, "the body is chunked more than once"),
                Coding::Unknown => return self.refuse(501, "the body has a transfer coding that is not known"),
            },
            _ => return self.refuse(400, "there are both Content-Length and Transfer-Encoding"),
        };
    }

    fn behind_a_message(&self) -> At {
        match (self.switches, self.head.upgrades) {
            (true, _) => At::Through,
            (false, true) => At::Asked,
            (false, false) => At::RequestLine,
        }
    }

    fn message_ends(&mut self) {
        self.messages += 1;
        self.at = self.behind_a_message();
        self.head = Head::default();
    }

    /// A whole line in a chunked body, without its LF.
    fn body_line(&mut self, line: &[u8]) {
        self.at = match (self.at, line.split_last()) {
            (At::Trailer, Some((b'\r', []))) => return self.message_ends(),
            (At::Trailer, Some((b'\r', _))) => At::Trailer,
            (_, Some((b'\r', line))) => match chunk_size(line) {
                Some(0) => At::Trailer,
                Some(size) => At::Chunk(size),
                None => At::Cut,
            },
            _ => At::Cut,
        };
    }
}

/// The value of a field of that name, which is in lower case. With white space before the colon it is none, and hyper's to refuse.
fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":").filter(|_| start.eq_ignore_ascii_case(name))?;
    Some(value.trim_ascii())
}

/// Up to 2^63 - 1.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (length <= i64::MAX as u64).then_some(length)
}

fn coding(value: &[u8]) -> Coding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    match codings.all(|coding| coding.eq_ignore_ascii_case(b"chunked")) {
        true => Coding::Repeated,
        false => Coding::Unknown,
    }
}

/// The size in the line of a chunk, as hyper reads it: digits, white space, an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if !matches!(line[digits..].trim_ascii_start(), [] | [b';', ..]) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head_bytes: 120, target_bytes: 40, fields: 4, body_line_bytes: 50 };

    /// What goes on, and the refusal, when it comes in these pieces.
    fn shown(pieces: &[&[u8]]) -> (Vec<u8>, Option<Refusal>, Guard) {
        let mut guard = Guard::new(LIMITS);
        let mut passed = Vec::new();
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() && !guard.is_over() {
                let len = guard.look(piece);
                passed.extend_from_slice(&piece[..len]);
                piece = &piece[len..];
            }
        }
        let refusal = guard.refusal().cloned();
        (passed, refusal, guard)
    }

    /// The same verdict however it is cut; what goes on of a refused head never has its end.
    #[track_caller]
    fn verdict(sent: &str, status: Option<u16>, requests: u64) {
        for first in 0..=sent.len() {
            for second in (first..=sent.len()).step_by(3) {
                let bytes = sent.as_bytes();
                let (passed, refusal, guard) = shown(&[&bytes[..first], &bytes[first..second], &bytes[second..]]);
                let found = (refusal.as_ref().map(|refusal| refusal.status), guard.requests);
                assert_eq!(found, (status, requests), "{sent:?} cut at {first} and {second}: {refusal:?}");
                if status.is_none() {
                    assert_eq!(passed.len(), sent.len(), "{sent:?} cut at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn messages_that_go_through() {
        for (sent, requests) in [
            ("GET /a HTTP/1.1\r\nHost: a#b\r\n\r\nGET / HTTP/1.0\r\n\r\n", 2),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n", 1),
            ("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET / H\n\nGET / HTTP/1.1\r\n\r\n", 2),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n\n\n\r\n0\r\n\r\nG / HTTP/1.1\r\n\r\n", 2),
            (
                "POST / HTTP/1.1\r\ntransfer-ENCODING:Chunked\r\n\r\nA \r\n0123456789\r\n00\r\na: b\r\n\r\nG / HTTP/1.1\r\n",
                2,
            ),
            ("G#T / HTTP/1.1\r\nContent-Length:0\r\n\r\n", 1),
            // hyper's to refuse.
            ("GET /\r\n\r\n", 1),
            ("GET  / HTTP/1.1\r\n\r\n", 1),
            ("GET / HTTP/x.1\r\n\r\n", 1),
            ("P / HTTP/1.1\r\nContent-Length : 5\r\n\r\n", 1),
            ("P / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 1),
        ] {
            verdict(sent, None, requests);
        }
    }

    #[test]
    fn messages_that_are_refused() {
        for (sent, status, requests) in [
            ("GET /a#b HTTP/1.1\r\n\r\n", 400, 1),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400, 1),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, 1),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400, 1),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\n", 400, 1),
            ("\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", 400, 0),
            ("GET / HTTP/2.0\r\n\r\n", 505, 1),
            ("GET / HTTP/1.2\r\n\r\n", 505, 1),
            ("GET / HTTP/1.1\r\n\r\nGET / HTTP/0.9\r\n\r\n", 505, 2),
            ("P / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400, 1),
            ("P / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nx", 400, 1),
            ("P / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", 400, 1),
            ("P / HTTP/1.1\r\nContent-Length:\r\n\r\nx", 400, 1),
            ("P / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\nx", 400, 1),
            ("P / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", 400, 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 501, 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n", 501, 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400, 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 501, 1),
            ("P / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, 1),
            ("GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n", 414, 1),
            ("GET / HTTP/1.1\r\na:b\r\na:b\r\na:b\r\na:b\r\na:b\r\n\r\n", 431, 1),
        ] {
            // The request that is refused as it comes has not begun yet.
            let requests = if status == 414 { None } else { Some(requests) };
            match requests {
                Some(requests) => verdict(sent, Some(status), requests),
                None => assert_eq!(shown(&[sent.as_bytes()]).1.map(|refusal| refusal.status), Some(status)),
            }
        }
        let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(200));
        verdict(&long, Some(431), 1);
    }

    #[test]
    fn a_chunked_body_is_cut_where_it_is_wrong() {
        let head = "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let long = "x".repeat(60);
        for (good, wrong) in [
            ("", "1\nx\r\n0\r\n\r\n".to_owned()),
            ("", "1;x\ny\r\nx\r\n0\r\n\r\n".to_owned()),
            ("", "1x\r\nx\r\n".to_owned()),
            ("1\r\nx", "y\r\n0\r\n".to_owned()),
            ("1\r\nx\r", "\r\n0\r\n".to_owned()),
            ("", "\r\n".to_owned()),
            ("0\r\n", "a: b\n\r\n".to_owned()),
            ("0\r\na: b\r\n", "\n".to_owned()),
            ("", "ffffffffffffffffff\r\n".to_owned()),
            ("", format!("1;{long}\r\nx\r\n")),
            ("0\r\n", format!("a: {long}\r\n\r\n")),
        ] {
            let sent = format!("{head}{good}{wrong}GET / HTTP/1.1\r\n\r\n");
            for cut in 0..sent.len() {
                let (passed, refusal, guard) = shown(&[&sent.as_bytes()[..cut], &sent.as_bytes()[cut..]]);
                assert_eq!((refusal, guard.requests, guard.at), (None, 1, At::Cut), "{wrong:?} cut at {cut}");
                // Of the wrong line there is at most what came before the cut, which is not its end.
                let whole = head.len() + good.len();
                assert!(
                    passed.len() <= whole.max(cut) && passed == sent.as_bytes()[..passed.len()],
                    "{wrong:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_head_is_one_place_however_it_trickles() {
        let mut guard = Guard::new(LIMITS);
        let mut places = vec![guard.place()];
        let sent = b"\r\nG / HTTP/1.1\r\nContent-Length: 2\r\n\r\nxyP / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nG";
        for byte in *sent {
            guard.look(&[byte]);
            places.push(guard.place());
        }
        places.dedup();
        use Place::{Between, Body, Head};
        assert_eq!(places, [(Head, 1), (Body, 1), (Between, 2), (Head, 2), (Body, 2), (Between, 3), (Head, 3)]);
    }

    #[test]
    fn behind_a_request_for_another_protocol_comes_its_answer() {
        let asks = b"GET / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\nb";
        for (answer, then, passes) in [
            ("HTTP/1.1 101 Switching", "\n\n", true),
            ("HTTP/1.1 200 OK", "\n\n", false),
            ("HTTP/1.1 200 OK", "GET / HTTP/1.1\r\n", true),
        ] {
            let mut guard = Guard::new(LIMITS);
            assert_eq!(guard.look(&[asks, then.as_bytes()].concat()), asks.len());
            assert_eq!(guard.place(), (Place::Answer, 1));
            assert!(guard.waits_for_answer());
            guard.is_answered(b"HTTP/1.1 100 Continue");
            assert_eq!(guard.look(then.as_bytes()), 0);
            guard.is_answered(answer.as_bytes());
            let passed = guard.look(then.as_bytes());
            assert_eq!((passed == then.len(), guard.refusal().is_none()), (passes, passes), "{answer} {then:?}");
            // Answered before its body has come.
            let mut guard = Guard::new(LIMITS);
            assert_eq!(guard.look(&asks[..asks.len() - 1]), asks.len() - 1);
            guard.is_answered(answer.as_bytes());
            assert_eq!(guard.look(b"b"), 1);
            let passed = guard.look(then.as_bytes());
            assert_eq!((passed == then.len(), guard.refusal().is_none()), (passes, passes), "{answer} {then:?}");
        }
    }
}
