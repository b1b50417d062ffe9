//! What fuzzers, and the tests that replay their seeds, call: functions on bytes that panic when a rule does not hold.

use std::path::Path;

use serval_abi::{SV_MATCH_CONTEXT_ROOT, SV_MATCH_DEFAULT, SV_MATCH_EXACT, SV_MATCH_EXTENSION, SV_MATCH_PATH};
use serval_config::{Escape, MultipartSettings, UriRules, WithoutEquals};
use serval_loader::exchange::PartContent;

use crate::mapping::{By, Mapper};
use crate::multipart::{Bad, Reader};
use crate::parameters::{self, BadParameters, Charset};
use crate::snapshots::format;
use crate::target::{Target, clean, raw_context_len};

/// A byte for the rules, and a path as it is sent.
pub fn path_clean_up(bytes: &[u8]) {
    let Some((&rules, path)) = bytes.split_first() else { return };
    let (rules, Ok(path)) = (rules_of(rules), std::str::from_utf8(path)) else { return };
    let Ok(cleaned) = clean(path, &rules) else { return };
    assert!(cleaned.starts_with('/'), "{path:?}: {cleaned:?}");
    assert!(!cleaned.contains("//") && !cleaned.contains('\0'), "{path:?}: {cleaned:?}");
    assert!(!cleaned.split('/').any(|segment| segment == "." || segment == ".."), "{path:?}: {cleaned:?}");
    assert!(!cleaned.contains('\\'), "{path:?}: {cleaned:?}");
    if rules == UriRules::default() {
        let again = clean(&Target::encoded(&cleaned), &rules);
        assert_eq!(again.as_ref(), Ok(&cleaned), "{path:?}");
        assert!(!cleaned.bytes().any(|byte| byte.is_ascii_control()), "{path:?}: {cleaned:?}");
        // What the strictest let in is the same to all others that decode.
        let lax = UriRules { allow_suspicious: true, encoded_slash: Escape::Decode, ..rules.clone() };
        assert_eq!(clean(path, &lax).as_ref(), Ok(&cleaned), "{path:?}");
    }
    // Any folder above could be a context.
    for (end, _) in cleaned.match_indices('/').chain([(cleaned.len(), "")]) {
        let context = &cleaned[..end];
        let len = raw_context_len(path, context, &rules);
        assert!(len <= path.len() && path.is_char_boundary(len), "{path:?}: {context:?} has {len}");
        if !context.is_empty() && context != "/" && !context.ends_with('/') {
            let prefix = clean(&path[..len], &UriRules { allow_suspicious: true, ..rules.clone() });
            assert_eq!(prefix.as_deref(), Ok(context), "{path:?}");
        }
    }
}

/// All combinations of the rules, by the bits of a number.
fn rules_of(bits: u8) -> UriRules {
    let escape = |bits: u8| match bits % 3 {
        0 => Escape::Reject,
        1 => Escape::Decode,
        _ => Escape::Passthrough,
    };
    let chars = if bits & 0x80 == 0 { "" } else { "\"<>[\\]^`{|}" };
    UriRules {
        allow_suspicious: bits & 1 != 0,
        allow_backslash: bits & 2 != 0,
        encoded_slash: escape(bits >> 2 & 3),
        encoded_backslash: escape(bits >> 4 & 3),
        relaxed_path_chars: chars.to_owned(),
        relaxed_query_chars: chars.to_owned(),
    }
}

/// Lines: a path inside a context, then URL patterns without templates, each of a servlet of its own.
pub fn mapping(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let path = lines.next().unwrap_or("");
    if !path.is_empty() && (!path.starts_with('/') || path.contains("//")) {
        return;
    }
    let (mut mapper, mut patterns) = (Mapper::default(), Vec::new());
    for pattern in lines.filter(|pattern| !pattern.contains(['{', '}'])) {
        if mapper.add(pattern, By::Servlet(patterns.len())).is_ok() {
            patterns.push(pattern);
        }
    }
    let found = mapper.find_named(path).or_else(|| mapper.find_extension(path)).unwrap_or(mapper.find_default(path));
    let (kind, pattern) = reference(&patterns, path);
    let (servlet_path, path_info) = (found.servlet_path(path), found.path_info(path));
    assert_eq!((found.kind, mapper.pattern(found)), (kind, pattern), "{path:?} in {patterns:?}");
    let expected = patterns.iter().position(|known| *known == pattern);
    assert_eq!(found.by.servlet(), expected, "{path:?} in {patterns:?}");
    match kind {
        SV_MATCH_CONTEXT_ROOT => assert_eq!((servlet_path, path_info), ("", Some("/"))),
        _ => assert_eq!(format!("{servlet_path}{}", path_info.unwrap_or("")), path),
    }
    let value = found.value(path);
    match kind {
        SV_MATCH_EXACT => assert_eq!(value, Some(&pattern[1..])),
        SV_MATCH_PATH => assert_eq!(value, path_info.map(|info| &info[1..])),
        SV_MATCH_EXTENSION => {
            assert_eq!(value.map(|value| format!("/{value}{}", &pattern[1..])).as_deref(), Some(path));
        }
        _ => assert_eq!(value, Some("")),
    }
}

/// SEMANTICS 4, read aloud: kind and pattern.
fn reference<'p>(patterns: &[&'p str], path: &str) -> (i32, &'p str) {
    let is_exact = |pattern: &str| pattern.starts_with('/') && pattern != "/" && !pattern.ends_with("/*");
    if let Some(pattern) = patterns.iter().find(|pattern| pattern.is_empty() && path.len() <= 1) {
        return (SV_MATCH_CONTEXT_ROOT, pattern);
    }
    if let Some(pattern) = patterns.iter().find(|pattern| is_exact(pattern) && **pattern == path) {
        return (SV_MATCH_EXACT, pattern);
    }
    let covers = |pattern: &str| {
        let folder = pattern.strip_suffix("/*").filter(|_| pattern.starts_with('/'));
        folder.is_some_and(|folder| path == folder || path.starts_with(&format!("{folder}/")))
    };
    if let Some(pattern) = patterns.iter().filter(|pattern| covers(pattern)).max_by_key(|pattern| pattern.len()) {
        return (SV_MATCH_PATH, pattern);
    }
    let (_, name) = path.rsplit_once('/').unwrap_or(("", ""));
    if let Some((_, extension)) = name.rsplit_once('.')
        && let Some(pattern) = patterns.iter().find(|pattern| pattern.strip_prefix("*.") == Some(extension))
    {
        return (SV_MATCH_EXTENSION, pattern);
    }
    (SV_MATCH_DEFAULT, "/")
}

/// A byte for how many there may be, then a query and, behind a line break, a form.
pub fn parameters(bytes: &[u8]) {
    let Some((&most, text)) = bytes.split_first() else { return };
    let (query, form) = text.split_at(text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len()));
    let (form, most) = (form.strip_prefix(b"\n").unwrap_or_default(), usize::from(most));
    let mut all = Vec::new();
    let mut parse = |text| parameters::parse(text, Charset::Utf8, most, &mut all);
    let read = parse(query).and_then(|()| parse(form));
    assert!(all.len() <= most);
    let mut expected = Vec::new();
    let good = [query, form].into_iter().all(|text| parameters_by_the_book(text, most, &mut expected));
    assert_eq!((read.is_ok(), &all), (good, &expected), "{:?}", text.escape_ascii().to_string());
    if read == Err(BadParameters::TooMany) {
        assert_eq!(all.len(), most);
    }
}

/// SEMANTICS 15, read aloud. False: the request is refused, by what follows `all`.
fn parameters_by_the_book(text: &[u8], most: usize, all: &mut Vec<(String, String)>) -> bool {
    // Each escape begins a piece of its own.
    let decoded = |text: &[u8]| {
        let mut pieces = text.split(|&byte| byte == b'%');
        let plain = |text: &[u8]| text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect::<Vec<u8>>();
        let mut decoded = plain(pieces.next()?);
        for piece in pieces {
            let digits = std::str::from_utf8(piece.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            decoded.extend(plain(&piece[2..]));
        }
        String::from_utf8(decoded).ok()
    };
    for pair in text.split(|&byte| byte == b'&') {
        if pair.is_empty() {
            continue;
        }
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        let (name, value) = (halves.next().and_then(decoded), decoded(halves.next().unwrap_or_default()));
        match (name, value) {
            (Some(name), Some(value)) if !name.is_empty() && all.len() < most => all.push((name, value)),
            _ => return false,
        }
    }
    true
}

/// A byte that says which way. In: a Cookie header. Out: a cookie of a servlet, as [`serval_loader::fuzz::cookie_out`] takes it,
/// which has to come back as it was.
pub fn cookies(bytes: &[u8]) {
    match bytes.split_first() {
        Some((b'i', header)) => cookies_in(header, WithoutEquals::Name),
        Some((b'I', header)) => cookies_in(header, WithoutEquals::Ignore),
        Some((b'o', cookie)) => {
            let Some((name, value)) = serval_loader::fuzz::cookie_out(cookie) else { return };
            let mut all = Vec::new();
            parameters::cookies(format!("a=b; {name}={value}; c=d").as_bytes(), WithoutEquals::Name, &mut all);
            let found = all.get(1).map(|(found, value)| (found.as_str(), value.as_str()));
            assert_eq!((all.len(), found), (3, Some((name.as_str(), value.as_str()))));
        }
        _ => {}
    }
}

/// SEMANTICS 16, read aloud.
fn cookies_in(header: &[u8], without_equals: WithoutEquals) {
    let mut all = Vec::new();
    parameters::cookies(header, without_equals, &mut all);
    let is_token = |text: &str| {
        !text.is_empty() && !text.contains(|c: char| !c.is_ascii_graphic() || "()<>@,;:\\\"/[]?={}".contains(c))
    };
    let is_value = |text: &str| !text.contains(|c: char| c.is_ascii_control() || " \",;\\".contains(c));
    let mut expected = Vec::new();
    for piece in header.split(|&byte| byte == b';') {
        let Ok(piece) = std::str::from_utf8(piece) else { continue };
        if without_equals == WithoutEquals::Ignore && !piece.contains('=') {
            continue;
        }
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let trimmed = |text: &str| text.trim_matches(|c: char| c.is_ascii_whitespace()).to_owned();
        let (name, value) = (trimmed(name), trimmed(value));
        let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&value);
        if is_token(&name) && is_value(inner) {
            expected.push((name, value));
        }
    }
    assert_eq!(all, expected, "{:?}", header.escape_ascii().to_string());
}

/// Five bytes for the limits and the cuts, then a body whose boundary is `B`. It means the same however it is cut, and never takes more
/// memory than the limits say.
pub fn multipart(bytes: &[u8]) {
    let Some((&[file, request, memory, count, cuts], body)) = bytes.split_first_chunk() else { return };
    let limits = MultipartSettings {
        file_bytes_max: u64::from(file) * 8,
        request_bytes_max: u64::from(request) * 64,
        memory_bytes_max: usize::from(memory),
        part_count_max: usize::from(count % 8) + 1,
        part_header_bytes_max: 256,
    };
    let folder = std::env::temp_dir().join(format!("serval-fuzz-multipart-{}", std::process::id()));
    let at_once = multipart_in_pieces(body, usize::MAX, limits, &folder);
    let cut = multipart_in_pieces(body, usize::from(cuts % 16) + 1, limits, &folder);
    // What is wrong may be found at another place first.
    let answer = |read: &Result<Vec<Found>, Bad>| read.as_ref().map_err(|Bad(status, _)| *status).cloned();
    match at_once {
        // It is too long as a whole, whatever is in it.
        Err(_) if body.len() as u64 > limits.request_bytes_max => assert!(cut.is_err()),
        _ => assert_eq!(answer(&at_once), answer(&cut), "{:?}", body.escape_ascii().to_string()),
    }
    assert_eq!(std::fs::read_dir(&folder).map_or(0, Iterator::count), 0, "no file is left");
}

/// A part: name, name of a file, headers, whether it is a file, content.
type Found = (String, Option<String>, Vec<(String, Vec<u8>)>, bool, Vec<u8>);

fn multipart_in_pieces(body: &[u8], most: usize, limits: MultipartSettings, folder: &Path) -> Result<Vec<Found>, Bad> {
    let mut reader = Reader::new("B", limits, folder);
    let (mut rest, mut number) = (body, 0);
    while !rest.is_empty() {
        // Of all lengths up to the most.
        let (piece, after) =
            rest.split_at(rest.len().min(number % most + 1).max(if most == usize::MAX { rest.len() } else { 1 }));
        reader.feed(piece)?;
        let (unread, part) = reader.held_bytes();
        assert!(unread <= limits.part_header_bytes_max && part <= limits.memory_bytes_max, "{unread} {part}");
        (rest, number) = (after, number + 7);
    }
    let parts = reader.finish()?;
    assert!(parts.0.len() <= limits.part_count_max);
    let found = parts.0.iter().map(|part| {
        let content = match &part.content {
            PartContent::Data(data) => data.to_vec(),
            PartContent::File(path) => std::fs::read(path).expect("the file of a part"),
        };
        assert!(content.len() as u64 == part.size && part.size <= limits.file_bytes_max);
        let is_file = matches!(part.content, PartContent::File(_));
        assert_eq!(is_file, content.len() > limits.memory_bytes_max);
        (part.name.clone(), part.file_name.clone(), part.headers.clone(), is_file, content)
    });
    Ok(found.collect())
}

/// What is read of a snapshot of sessions is what was written, and nothing else is read: the bytes, as they are and with the checksum
/// that they should have.
pub fn snapshot(bytes: &[u8]) {
    let mut summed = bytes.to_vec();
    if let Some(end) = summed.len().checked_sub(4) {
        let sum = crc32fast::hash(&summed[..end]);
        summed[end..].copy_from_slice(&sum.to_le_bytes());
    }
    for bytes in [bytes, &summed] {
        let Ok(read) = format::read(bytes, bytes.len() as u64) else { continue };
        let mut written = Vec::new();
        let count = read.sessions.len() as u64;
        assert!(format::write(&mut written, read.written, read.sessions.into_iter()).is_ok_and(|wrote| wrote == count));
        assert_eq!(written, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rules_and_some_paths() {
        // Each piece may come after each other.
        let pieces =
            ["/", "a", ".", "..", "%2e", ";x=1", "%2F", "%5C", "\\", "%25", "%00", "ä", "%C3%A4", "%ff", "%0a", "{"];
        for rules in (0..=u8::MAX).filter(|bits| bits & 0x40 == 0 && bits >> 2 & 3 < 3 && bits >> 4 & 3 < 3) {
            for first in pieces {
                for second in pieces {
                    for third in pieces {
                        let path = format!("/a/{first}/{second}{third}");
                        path_clean_up(&[&[rules], path.as_bytes()].concat());
                    }
                }
            }
        }
    }

    #[test]
    fn some_patterns_and_paths() {
        let patterns = "/red\n/red/*\n/red/green/*\n*.do\n*.tar.gz\n/*\n\n/\n/st*r\n*.";
        let all: Vec<&str> = patterns.split('\n').collect();
        for path in [
            "",
            "/",
            "/red",
            "/red/",
            "/red/x.do",
            "/x.do",
            "/x.tar.gz",
            "/a.do/b",
            "/st*r",
            "/a b",
            "/x.",
            "/x/",
            "/x",
            "/red/*",
        ] {
            for set in 0..1 << all.len() {
                let some = all.iter().enumerate().filter(|(number, _)| set >> number & 1 != 0);
                let some: Vec<&str> = some.map(|(_, pattern)| *pattern).collect();
                mapping([&[path], &some[..]].concat().join("\n").as_bytes());
            }
        }
    }
}
