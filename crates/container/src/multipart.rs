//! multipart/form-data (RFC 7578, RFC 2046 5.1), piece by piece: small parts stay in memory, larger ones go to files, which are removed
//! with the value. Own code, since a library would have to take pieces from a body that may say "not yet", and bound each part's head.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serval_config::MultipartSettings;
use serval_loader::exchange::{Part, PartContent};

use crate::parameters::{self, Charset};

/// LIMIT: bytes of a boundary (RFC 2046 5.1.1 says 70).
const BOUNDARY_MAX: usize = 200;
/// LIMIT: header fields of one part.
const HEADERS_MAX: usize = 32;

/// Why the parts cannot be given: the status to answer, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad(pub StatusCode, pub String);

fn malformed<T>(text: &str) -> Result<T, Bad> {
    Err(Bad(StatusCode::BAD_REQUEST, format!("the multipart body is malformed: {text}")))
}

fn too_large<T>(text: String) -> Result<T, Bad> {
    Err(Bad(StatusCode::PAYLOAD_TOO_LARGE, text))
}

/// The boundary of a content type, if it is multipart/form-data.
pub fn boundary(content_type: &str) -> Option<Result<String, Bad>> {
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary").filter(|found| (1..=BOUNDARY_MAX).contains(&found.len()));
    Some(boundary.map_or_else(|| malformed("its content type has no boundary"), Ok))
}

/// The value of a parameter, in quotes or not (RFC 9110 5.6.6).
pub fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (found, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim_end().to_owned(), &after[end..])
            }
            Some(quoted) => {
                let mut value = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next()? {
                        // Browsers send a backslash as it is (HTML 4.10.21.8), and quotes as %22.
                        (at, '\\') if quoted[at + 1..].starts_with(['"', '\\']) => value.push(chars.next()?.1),
                        (at, '"') => break at + 1,
                        (_, other) => value.push(other),
                    }
                };
                (value, &quoted[end..])
            }
        };
        if found.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// Where the reader is.
enum State {
    /// Before the first boundary, and at the start of the body: it may begin without a line break.
    Preamble,
    /// Behind a boundary: a line break, or two dashes.
    Boundary,
    Head,
    Content,
    Epilogue,
}

/// Takes the body, piece by piece.
pub struct Reader {
    /// CR LF and two dashes before the boundary.
    delimiter: Vec<u8>,
    limits: MultipartSettings,
    folder: PathBuf,
    state: State,
    /// What has come and was not used yet: at most a part's head, or a delimiter that has begun.
    rest: BytesMut,
    total: u64,
    part: Option<Begun>,
    parts: Parts,
}

/// The parts that were read; their files go with it.
#[derive(Default)]
pub struct Parts(pub Vec<Part>);

impl Drop for Parts {
    fn drop(&mut self) {
        for part in &self.0 {
            if let PartContent::File(path) = &part.content {
                // It may have been moved away, which is what it is for.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// A part that is being read.
struct Begun {
    part: Part,
    data: Vec<u8>,
    file: Option<Spilled>,
}

/// Removed, unless its part has been taken over.
struct Spilled(File, Option<String>);

impl Drop for Spilled {
    fn drop(&mut self) {
        if let Some(path) = &self.1 {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Reader {
    /// `folder` is made when a part is the first to need it.
    pub fn new(boundary: &str, limits: MultipartSettings, folder: &Path) -> Reader {
        Reader {
            delimiter: [b"\r\n--", boundary.as_bytes()].concat(),
            limits,
            folder: folder.to_owned(),
            state: State::Preamble,
            // As if a line had just ended, for the first boundary.
            rest: BytesMut::from(&b"\r\n"[..]),
            total: 0,
            part: None,
            parts: Parts::default(),
        }
    }

    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Bad> {
        self.total += piece.len() as u64;
        if self.total > self.limits.request_bytes_max {
            let most = self.limits.request_bytes_max;
            return too_large(format!("the multipart body is longer than {most} bytes (multipart_bytes_max)"));
        }
        self.rest.extend_from_slice(piece);
        while self.step()? {}
        Ok(())
    }

    /// Bytes that it holds: unread ones, and those of the part that is being read.
    pub fn held_bytes(&self) -> (usize, usize) {
        (self.rest.len(), self.part.as_ref().map_or(0, |begun| begun.data.len()))
    }

    /// The body has ended.
    pub fn finish(self) -> Result<Parts, Bad> {
        match self.state {
            State::Epilogue => Ok(self.parts),
            _ => malformed("it ends before its last boundary"),
        }
    }

    /// Uses what it can of the rest; true: there may be more to use.
    fn step(&mut self) -> Result<bool, Bad> {
        match self.state {
            State::Preamble => match find(&self.rest, &self.delimiter) {
                Some(at) => {
                    drop(self.rest.split_to(at + self.delimiter.len()));
                    self.state = State::Boundary;
                    Ok(true)
                }
                None => {
                    let kept = self.rest.len().min(self.delimiter.len() - 1);
                    drop(self.rest.split_to(self.rest.len() - kept));
                    Ok(false)
                }
            },
            State::Boundary => {
                // RFC 2046 lets white space stand behind a boundary.
                let blank = self.rest.iter().take_while(|&&b| b == b' ' || b == b'\t').count();
                if blank > BOUNDARY_MAX {
                    return malformed("there is too much white space behind a boundary");
                }
                match self.rest[blank..] {
                    [b'\r', b'\n', ..] => {
                        drop(self.rest.split_to(blank + 2));
                        self.state = State::Head;
                        Ok(true)
                    }
                    [b'-', b'-', ..] if blank == 0 => {
                        self.state = State::Epilogue;
                        Ok(true)
                    }
                    [] | [b'\r'] | [b'-'] => Ok(false),
                    _ => malformed("a boundary is followed by something else than a line break"),
                }
            }
            State::Head => self.head(),
            State::Content => self.content(),
            State::Epilogue => {
                self.rest.clear();
                Ok(false)
            }
        }
    }

    fn head(&mut self) -> Result<bool, Bad> {
        let most = self.limits.part_header_bytes_max;
        // A head may be empty: then the line break is all of it.
        let end = if self.rest.starts_with(b"\r\n") { Some(2) } else { find(&self.rest, b"\r\n\r\n").map(|at| at + 4) };
        if end.unwrap_or(self.rest.len()) > most {
            return too_large(format!("the head of a part is longer than {most} bytes (part_header_bytes_max)"));
        }
        let Some(end) = end else { return Ok(false) };
        if self.parts.0.len() >= self.limits.part_count_max {
            let most = self.limits.part_count_max;
            return too_large(format!("the body has more than {most} parts (part_count_max)"));
        }
        let head = self.rest.split_to(end);
        self.part = Some(Begun { part: part(&head)?, data: Vec::new(), file: None });
        // The line break before the delimiter may be the one that ended the head.
        self.state = State::Content;
        Ok(true)
    }

    fn content(&mut self) -> Result<bool, Bad> {
        match find(&self.rest, &self.delimiter) {
            Some(at) => {
                let content = self.rest.split_to(at);
                self.add(&content)?;
                drop(self.rest.split_to(self.delimiter.len()));
                if let Some(begun) = self.part.take() {
                    self.parts.0.push(begun.finish());
                }
                self.state = State::Boundary;
                Ok(true)
            }
            None => {
                let kept = self.rest.len().min(self.delimiter.len() - 1);
                let content = self.rest.split_to(self.rest.len() - kept);
                self.add(&content)?;
                Ok(false)
            }
        }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), Bad> {
        let Some(begun) = &mut self.part else { return Ok(()) };
        begun.part.size += bytes.len() as u64;
        if begun.part.size > self.limits.file_bytes_max {
            let (name, most) = (&begun.part.name, self.limits.file_bytes_max);
            return too_large(format!("the part {name:?} is longer than {most} bytes (file_bytes_max)"));
        }
        let failed = |error: std::io::Error| {
            let status = match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            Bad(status, format!("a part could not be written to a file: {error}"))
        };
        if begun.file.is_none() && begun.data.len() + bytes.len() > self.limits.memory_bytes_max {
            let (mut file, path) = spill(&self.folder).map_err(failed)?;
            let written = file.write_all(&begun.data);
            begun.data = Vec::new();
            begun.file = Some(Spilled(file, Some(path)));
            written.map_err(failed)?;
        }
        match &mut begun.file {
            Some(Spilled(file, _)) => file.write_all(bytes).map_err(failed),
            None => {
                begun.data.extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

impl Begun {
    fn finish(mut self) -> Part {
        self.part.content = match self.file.as_mut().and_then(|spilled| spilled.1.take()) {
            Some(path) => PartContent::File(path),
            None => PartContent::Data(Bytes::from(std::mem::take(&mut self.data))),
        };
        self.part
    }
}

/// A new file for one part, and its path.
fn spill(folder: &Path) -> std::io::Result<(File, String)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("part-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let text = path.to_str().ok_or_else(|| std::io::Error::other("the path of the folder is not UTF-8"))?.to_owned();
    Ok((File::options().write(true).create_new(true).open(&path)?, text))
}

fn part(head: &[u8]) -> Result<Part, Bad> {
    let mut fields = Vec::new();
    let text = std::str::from_utf8(head);
    let Ok(text) = text else { return malformed("the head of a part is not UTF-8") };
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            return malformed("a line of a part's head has no colon");
        };
        let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        if !token || value.bytes().any(|b| b.is_ascii_control() && b != b'\t') || fields.len() == HEADERS_MAX {
            return malformed("a part's head has a field that is not allowed");
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).as_bytes().to_vec()));
    }
    let field = |name: &str| {
        let found = fields.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok()).map(str::to_owned)
    };
    let disposition = field("content-disposition").unwrap_or_default();
    let (kind, parameters) = disposition.split_once(';').unwrap_or((&disposition, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return malformed("a part has no Content-Disposition: form-data");
    }
    let Some(name) = parameter(parameters, "name") else { return malformed("a part has no name") };
    Ok(Part {
        file_name: parameter(parameters, "filename").or_else(|| extended(&parameter(parameters, "filename*")?)),
        content_type: field("content-type"),
        name,
        content: PartContent::Data(Bytes::new()),
        size: 0,
        headers: fields,
    })
}

/// A value with its charset (RFC 8187 3.2.1). RFC 7578 4.2 forbids it to clients, and some send it.
fn extended(text: &str) -> Option<String> {
    let (charset, rest) = text.split_once('\'')?;
    let encoded = rest.split_once('\'')?.1;
    // A plus stands for itself here.
    parameters::decode(encoded.replace('+', "%2B").as_bytes(), Charset::named(charset)).ok()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> MultipartSettings {
        MultipartSettings {
            file_bytes_max: 100,
            request_bytes_max: 1000,
            memory_bytes_max: 10,
            part_count_max: 3,
            part_header_bytes_max: 200,
        }
    }

    /// The parts of a body that comes in pieces of one size, as `name|file name|content`.
    fn read(body: &str, piece: usize, folder: &Path) -> Result<Vec<String>, Bad> {
        let mut reader = Reader::new("B", limits(), folder);
        for piece in body.as_bytes().chunks(piece) {
            reader.feed(piece)?;
        }
        let parts = reader.finish()?;
        let content = |part: &Part| match &part.content {
            PartContent::Data(data) => String::from_utf8(data.to_vec()).unwrap(),
            PartContent::File(path) => format!("@{}", std::fs::read_to_string(path).unwrap()),
        };
        let shown = |part: &Part| {
            let file = part.file_name.as_deref().unwrap_or("-");
            format!("{}|{file}|{}|{}", part.name, part.size, content(part))
        };
        Ok(parts.0.iter().map(shown).collect())
    }

    #[track_caller]
    fn check(body: &str, expected: Result<&[&str], (u16, &str)>) {
        let folder = std::env::temp_dir().join(format!("serval-multipart-{}", std::process::id()));
        for piece in [1, 2, 3, 7, 1000] {
            let found = read(body, piece, &folder);
            match &expected {
                Ok(parts) => assert_eq!(
                    found.as_deref(),
                    Ok(&parts.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                    "{body}"
                ),
                Err((status, text)) => {
                    let Bad(found, why) = found.expect_err(body);
                    assert_eq!(found.as_u16(), *status, "{body}: {why}");
                    assert!(why.contains(text), "{body}: {why}");
                }
            }
        }
        assert!(std::fs::read_dir(&folder).map_or(0, Iterator::count) == 0, "no file is left");
    }

    const HEAD: &str = "Content-Disposition: form-data; name=\"a\"";

    #[test]
    fn parts_come_whole_whatever_the_pieces_are() {
        check(&format!("--B\r\n{HEAD}\r\n\r\nx\r\n--B--\r\n"), Ok(&["a|-|1|x"]));
        check(
            &format!("before\r\n--B \r\n{HEAD}; filename=\"C:\\\\f \\\"q\\\".txt\"\r\n\r\n\r\n--B--after"),
            Ok(&["a|C:\\f \"q\".txt|0|"]),
        );
        check(&format!("--B\r\n{HEAD}\r\n\r\n\r\n--Bx\r\n\r\n-\r\n--B--"), Err((400, "followed by something else")));
        check(
            &format!("--B\r\n{HEAD}\r\n\r\n01234567\r\n--90123456789\r\n--B\r\n{HEAD}\r\n\r\n\r\n--B--"),
            Ok(&["a|-|23|@01234567\r\n--90123456789", "a|-|0|"]),
        );
        check("--B--\r\n", Ok(&[]));
    }

    #[test]
    fn nonsense_and_too_much_are_refused() {
        check("", Err((400, "ends before its last boundary")));
        check(&format!("--B\r\n{HEAD}\r\n\r\nx"), Err((400, "ends before its last boundary")));
        check("--B\r\n\r\nx\r\n--B--", Err((400, "no Content-Disposition")));
        check("--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--", Err((400, "a part has no name")));
        check("--B\r\nno colon\r\n\r\nx\r\n--B--", Err((400, "has no colon")));
        check(&format!("--B\r\n{HEAD}\r\n\r\n{}\r\n--B--", "x".repeat(101)), Err((413, "longer than 100 bytes")));
        check(&format!("--B\r\nX: {}\r\n{HEAD}\r\n\r\n\r\n--B--", "x".repeat(200)), Err((413, "the head of a part")));
        check(&"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".repeat(4), Err((413, "more than 3 parts")));
        check(&"x".repeat(1001), Err((413, "longer than 1000 bytes")));
    }

    /// Bodies made of what means something, cut anywhere: what comes of them depends on their bytes alone.
    #[test]
    fn cuts_mean_nothing() {
        let folder = std::env::temp_dir().join(format!("serval-multipart-cuts-{}", std::process::id()));
        let mut random = 1_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let words = [
            "--B",
            "\r\n--B\r\n",
            "\r\n",
            "--",
            "-",
            "x",
            HEAD,
            "; filename=\"",
            ":",
            "\r\n\r\n",
            "B",
            "\r",
            "\n",
            " ",
            "--B--",
        ];
        let mut good = 0;
        for round in 0..20_000 {
            let mut body = if round % 2 == 0 { format!("--B\r\n{HEAD}\r\n\r\n") } else { String::new() };
            (0..next(8)).for_each(|_| body.push_str(words[next(words.len())]));
            if round % 4 == 0 {
                body.push_str("\r\n--B--");
            }
            let whole = read(&body, body.len().max(1), &folder);
            good += usize::from(whole.is_ok());
            let piece = 1 + next(5);
            let cut = read(&body, piece, &folder);
            // What is wrong may be found at another place first.
            let status = |read: &Result<Vec<String>, Bad>| read.as_ref().err().map(|Bad(status, _)| *status);
            assert_eq!((whole.as_ref().ok(), status(&whole)), (cut.as_ref().ok(), status(&cut)), "{body:?} by {piece}");
        }
        assert!(good > 1000, "{good} of them were good");
        assert!(std::fs::read_dir(&folder).map_or(0, Iterator::count) == 0, "no file is left");
    }

    #[test]
    fn boundaries() {
        let found = |content_type| boundary(content_type).map(|found| found.map_err(|Bad(status, _)| status.as_u16()));
        assert_eq!(found("multipart/form-data; boundary=abc"), Some(Ok("abc".to_owned())));
        assert_eq!(found("Multipart/Form-Data;charset=x; Boundary=\"a b\""), Some(Ok("a b".to_owned())));
        assert_eq!(found("multipart/form-data"), Some(Err(400)));
        assert_eq!(found("multipart/form-data; boundary=\"a"), Some(Err(400)));
        assert_eq!(found("text/plain; boundary=a"), None);
    }

    /// Name, size and content of each part of a body that comes in pieces of these sizes, over and over.
    fn pieces(body: &[u8], sizes: &[usize], folder: &Path) -> Result<Vec<(String, u64, Vec<u8>)>, Bad> {
        let mut reader = Reader::new("B", MultipartSettings { memory_bytes_max: 40, ..limits() }, folder);
        let (mut rest, mut sizes) = (body, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            reader.feed(piece)?;
            rest = after;
        }
        let parts = reader.finish()?;
        let content = |part: &Part| match &part.content {
            PartContent::Data(data) => data.to_vec(),
            PartContent::File(path) => std::fs::read(path).unwrap(),
        };
        Ok(parts.0.iter().map(|part| (part.name.clone(), part.size, content(part))).collect())
    }

    #[test]
    fn random_bodies_mean_the_same_however_they_are_cut() {
        const HEAD: &[u8] = b"Content-Disposition: form-data; name=a\r\n\r\n";
        const TOKENS: [&[u8]; 16] = [
            b"\r\n--B\r\n",
            b"\r\n--B--",
            b"--B\r\n",
            b"--B",
            b"\r\n",
            b"\r",
            b"\n",
            b"-",
            b"--",
            b"B",
            b" ",
            b"\t",
            HEAD,
            b"X: y\r\n",
            b"\xff\0",
            b"some content",
        ];
        let folder = std::env::temp_dir().join(format!("serval-multipart-random-{}", std::process::id()));
        // A generator of its own: the same bodies each time (Knuth, MMIX).
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let (mut whole, mut spilled) = (0, 0);
        for number in 0..100_000 {
            let mut body = Vec::new();
            for _ in 0..random(5) {
                body.extend_from_slice(b"\r\n--B\r\n");
                body.extend_from_slice(HEAD);
                (0..random(6)).for_each(|_| body.extend_from_slice(TOKENS[random(TOKENS.len())]));
            }
            (0..random(4)).for_each(|_| body.extend_from_slice(TOKENS[random(TOKENS.len())]));
            body.extend_from_slice(b"\r\n--B--");
            if random(4) == 0 {
                let at = random(body.len());
                body[at] = random(256) as u8;
            }
            let at_once = pieces(&body, &[usize::MAX], &folder);
            let sizes: Vec<usize> = (0..5).map(|_| 1 + random(12)).collect();
            assert_eq!(pieces(&body, &sizes, &folder), at_once, "{number}: {:?}", body.escape_ascii().to_string());
            if let Ok(parts) = at_once {
                whole += 1;
                spilled += usize::from(parts.iter().any(|(_, size, _)| *size > 40));
            }
        }
        assert!(whole > 10_000 && spilled > 100, "{whole} were whole, {spilled} had files");
        assert_eq!(std::fs::read_dir(&folder).map_or(0, Iterator::count), 0);
        let _ = std::fs::remove_dir(&folder);
    }
}
