//! The conditional headers of RFC 9110 13, in the order of its section 13.2.2.
//!
//! Where the RFC leaves malformed fields open, they are answered as Tomcat does: a malformed list of
//! tags is 400, a date that does not parse and one of several dates are ignored. Called by `respond`.

use std::time::UNIX_EPOCH;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{Method, StatusCode};

/// What conditions are compared with.
#[derive(Debug)]
pub(crate) struct Validators {
    /// An entity tag, weak or strong, as it is sent.
    pub(crate) etag: HeaderValue,
    /// The last modification since 1970; none when no date was sent.
    pub(crate) modified_seconds: Option<i64>,
}

/// Returns the status that ends the request (304, 400 or 412), or none when it goes on.
pub(crate) fn evaluate(validators: &Validators, method: &Method, headers: &HeaderMap) -> Option<StatusCode> {
    let Validators { etag, modified_seconds } = validators;
    let reads = method == Method::GET || method == Method::HEAD;
    match tags(headers, &IF_MATCH) {
        Tags::Malformed => return Some(StatusCode::BAD_REQUEST),
        Tags::Any => {}
        Tags::Listed(lists) if lists.contain(etag, Comparison::Strong) => {}
        Tags::Listed(_) => return Some(StatusCode::PRECONDITION_FAILED),
        Tags::Absent => match (date_seconds(headers, &IF_UNMODIFIED_SINCE), modified_seconds) {
            (Some(since), Some(modified)) if *modified > since => return Some(StatusCode::PRECONDITION_FAILED),
            _ => {}
        },
    }
    let unchanged = match tags(headers, &IF_NONE_MATCH) {
        Tags::Malformed => return Some(StatusCode::BAD_REQUEST),
        Tags::Any => true,
        Tags::Listed(lists) => lists.contain(etag, Comparison::Weak),
        Tags::Absent if reads => {
            let since = date_seconds(headers, &IF_MODIFIED_SINCE);
            since.zip(*modified_seconds).is_some_and(|(since, modified)| modified <= since)
        }
        Tags::Absent => false,
    };
    match (unchanged, reads) {
        (false, _) => None,
        (true, true) => Some(StatusCode::NOT_MODIFIED),
        (true, false) => Some(StatusCode::PRECONDITION_FAILED),
    }
}

/// As [`evaluate`], where nothing is.
pub(crate) fn evaluate_missing(headers: &HeaderMap) -> Option<StatusCode> {
    match tags(headers, &IF_MATCH) {
        Tags::Malformed => return Some(StatusCode::BAD_REQUEST),
        Tags::Any | Tags::Listed(_) => return Some(StatusCode::PRECONDITION_FAILED),
        Tags::Absent => {}
    }
    matches!(tags(headers, &IF_NONE_MATCH), Tags::Malformed).then_some(StatusCode::BAD_REQUEST)
}

/// What an If-Range says about the Range beside it (RFC 9110 13.1.5).
#[derive(Debug, PartialEq)]
pub(crate) enum IfRange {
    /// The client's part is of this file, or it sent no condition.
    Same,
    /// The client's part may be of another state: it gets the whole.
    Changed,
    /// Neither a tag nor a date: 400.
    Malformed,
}

pub(crate) fn evaluate_if_range(validators: &Validators, headers: &HeaderMap) -> IfRange {
    let Some(value) = headers.get(IF_RANGE) else {
        return IfRange::Same;
    };
    if headers.get_all(IF_RANGE).iter().count() > 1 {
        return IfRange::Malformed;
    }
    let same = match next_tag(value.as_bytes()) {
        Some((tag, [])) => equal(tag, validators.etag.as_bytes(), Comparison::Strong),
        Some(_) => return IfRange::Malformed,
        None => match parse_seconds(value) {
            Some(date) => Some(date) == validators.modified_seconds,
            None => return IfRange::Malformed,
        },
    };
    if same { IfRange::Same } else { IfRange::Changed }
}

/// The value of If-Match or If-None-Match.
enum Tags<'a> {
    Absent,
    /// `*`
    Any,
    Listed(Lists<'a>),
    Malformed,
}

/// Lists that are well-formed, one for each line of the header. They stay text: a request has a few tags
/// and each is compared once.
struct Lists<'a>(http::header::GetAll<'a, HeaderValue>);

#[derive(Clone, Copy)]
enum Comparison {
    Strong,
    Weak,
}

fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Tags<'a> {
    let lines = headers.get_all(name);
    let mut lines_count = 0;
    let mut tags_count = 0;
    let mut any = false;
    for line in &lines {
        lines_count += 1;
        if line.as_bytes() == b"*" {
            any = true;
            continue;
        }
        for tag in TagIter::of(line) {
            match tag {
                Ok(_) => tags_count += 1,
                Err(Malformed) => return Tags::Malformed,
            }
        }
    }
    match (lines_count, any, tags_count) {
        (0, ..) => Tags::Absent,
        (1, true, 0) => Tags::Any,
        // `*` with others, or nothing but commas.
        (_, true, _) | (_, false, 0) => Tags::Malformed,
        (_, false, _) => Tags::Listed(Lists(lines)),
    }
}

impl Lists<'_> {
    fn contain(&self, etag: &HeaderValue, comparison: Comparison) -> bool {
        let mut tags = self.0.iter().flat_map(TagIter::of).flatten();
        tags.any(|tag| equal(tag, etag.as_bytes(), comparison))
    }
}

/// Compares two well-formed tags (RFC 9110 8.8.3.2).
fn equal(one: &[u8], other: &[u8], comparison: Comparison) -> bool {
    match comparison {
        Comparison::Strong => one == other && !one.starts_with(b"W/"),
        Comparison::Weak => opaque(one) == opaque(other),
    }
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

struct Malformed;

/// The tags of one line. As in Tomcat none may be missing between, before or after commas, though RFC 9110 5.6.1.2 would skip
/// empty elements. None: the end.
struct TagIter<'a>(Option<&'a [u8]>);

impl<'a> TagIter<'a> {
    fn of(line: &'a HeaderValue) -> TagIter<'a> {
        TagIter(Some(line.as_bytes()))
    }
}

impl<'a> Iterator for TagIter<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some((tag, rest)) = next_tag(self.0.take()?.trim_ascii_start()) else {
            return Some(Err(Malformed));
        };
        match rest.trim_ascii_start() {
            [] => {}
            [b',', rest @ ..] => self.0 = Some(rest),
            _ => return Some(Err(Malformed)),
        }
        Some(Ok(tag))
    }
}

/// Returns the tag at the start of the text, and what follows it (RFC 9110 8.8.3; as in Tomcat white space may be in it).
fn next_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = opaque(text).strip_prefix(b"\"")?;
    let is_tag_byte = |byte: &u8| matches!(byte, b'\t' | 0x20 | 0x21 | 0x23..=0x7E | 0x80..);
    let len = quoted.iter().position(|byte| !is_tag_byte(byte))?;
    let rest = quoted[len..].strip_prefix(b"\"")?;
    Some((&text[..text.len() - rest.len()], rest))
}

/// Returns the date of a header as seconds since 1970, when there is exactly one that parses.
fn date_seconds(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => parse_seconds(line),
        _ => None,
    }
}

fn parse_seconds(value: &HeaderValue) -> Option<i64> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const TAG: &str = "W/\"3-784111777500\"";
    const STRONG: &str = "\"3-784111777500\"";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn weak() -> Validators {
        Validators { etag: HeaderValue::from_static(TAG), modified_seconds: Some(784_111_777) }
    }

    fn strong() -> Validators {
        Validators { etag: HeaderValue::from_static(STRONG), ..weak() }
    }

    #[track_caller]
    fn check_for(method: Method, lines: &[(&str, &str)], expected: u16) {
        let found = evaluate(&weak(), &method, &headers(lines));
        assert_eq!(found.map_or(200, |status| status.as_u16()), expected, "{lines:?}");
    }

    #[track_caller]
    fn check(lines: &[(&str, &str)], expected: u16) {
        check_for(Method::GET, lines, expected);
        check_for(Method::HEAD, lines, expected);
    }

    #[test]
    fn if_match() {
        check(&[], 200);
        check(&[("if-match", "*")], 200);
        check(&[("if-match", TAG)], 412);
        check(&[("if-match", STRONG)], 412);
        check(&[("if-match", "\"other\"")], 412);
        check(&[("if-match", "*"), ("if-none-match", TAG)], 304);
    }

    #[test]
    fn if_unmodified_since() {
        check(&[("if-unmodified-since", BEFORE)], 412);
        check(&[("if-unmodified-since", SAME)], 200);
        check(&[("if-unmodified-since", AFTER)], 200);
        check(&[("if-unmodified-since", "yesterday")], 200);
        check(&[("if-unmodified-since", "")], 200);
        check(&[("if-unmodified-since", BEFORE), ("if-unmodified-since", BEFORE)], 200);
        check(&[("if-match", "*"), ("if-unmodified-since", BEFORE)], 200);
    }

    #[test]
    fn if_none_match() {
        check(&[("if-none-match", TAG)], 304);
        check(&[("if-none-match", STRONG)], 304);
        check(&[("if-none-match", "*")], 304);
        check(&[("if-none-match", "\"other\"")], 200);
        check(&[("if-none-match", "\"a\", \"b,c\" ,W/\"3-784111777500\"")], 304);
        check(&[("if-none-match", "W/\"3-784111777500\" , \"zz\"")], 304);
        check(&[("if-none-match", "\"a\""), ("if-none-match", TAG)], 304);
        check_for(Method::PUT, &[("if-none-match", TAG)], 412);
        check_for(Method::POST, &[("if-none-match", "*")], 412);
        check_for(Method::PUT, &[("if-none-match", "\"other\"")], 200);
    }

    #[test]
    fn if_modified_since() {
        check(&[("if-modified-since", BEFORE)], 200);
        check(&[("if-modified-since", SAME)], 304);
        check(&[("if-modified-since", AFTER)], 304);
        check(&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], 304);
        check(&[("if-modified-since", "Sun Nov  6 08:49:37 1994")], 304);
        check(&[("if-modified-since", "784111777")], 200);
        check(&[("if-modified-since", "Sün")], 200);
        check(&[("if-modified-since", AFTER), ("if-modified-since", AFTER)], 200);
        check(&[("if-none-match", "\"other\""), ("if-modified-since", AFTER)], 200);
        check_for(Method::PUT, &[("if-modified-since", AFTER)], 200);
        check_for(Method::POST, &[("if-modified-since", SAME)], 200);
        check(&[("if-unmodified-since", BEFORE), ("if-modified-since", AFTER)], 412);
    }

    #[test]
    fn malformed_tags() {
        for name in ["if-match", "if-none-match"] {
            for value in [
                "",
                ",",
                "abc",
                "\"abc",
                "abc\"",
                "\"a\"b",
                "\"a\" \"b\"",
                "w/\"a\"",
                "W/",
                "W/abc",
                "W/ \"a\"",
                "*, \"a\"",
                "\"a\", *",
                "**",
                "\"a\",",
                ",\"a\"",
                "\"a\",,\"b\"",
                "W",
                "\"a\"x",
                "\"x\" y",
                "'a'",
                "\"a\", b",
            ] {
                check(&[(name, value)], 400);
            }
            check(&[(name, "*"), (name, "\"a\"")], 400);
            check(&[(name, "*"), (name, "*")], 400);
        }
        check(&[("if-none-match", "\"\"")], 200);
        check(&[("if-none-match", "\"ü\"")], 200);
        check(&[("if-none-match", "\"a b\"")], 200);
    }

    #[test]
    fn missing_files() {
        for (lines, expected) in [
            (&[][..], 404),
            (&[("if-match", "*")], 412),
            (&[("if-match", "\"a\"")], 412),
            (&[("if-match", "a")], 400),
            (&[("if-none-match", "*")], 404),
            (&[("if-none-match", "\"a\"")], 404),
            (&[("if-none-match", "a")], 400),
            (&[("if-unmodified-since", BEFORE)], 404),
            (&[("if-modified-since", AFTER)], 404),
        ] {
            let found = evaluate_missing(&headers(lines));
            assert_eq!(found.map_or(404, |status| status.as_u16()), expected, "{lines:?}");
        }
    }

    #[test]
    fn if_range() {
        for (lines, expected) in [
            (&[][..], IfRange::Same),
            (&[("if-range", SAME)], IfRange::Same),
            (&[("if-range", BEFORE)], IfRange::Changed),
            (&[("if-range", AFTER)], IfRange::Changed),
            (&[("if-range", TAG)], IfRange::Changed),
            (&[("if-range", STRONG)], IfRange::Changed),
            (&[("if-range", "\"other\"")], IfRange::Changed),
            (&[("if-range", "\"a\", \"b\"")], IfRange::Malformed),
            (&[("if-range", "*")], IfRange::Malformed),
            (&[("if-range", "")], IfRange::Malformed),
            (&[("if-range", "soon")], IfRange::Malformed),
            (&[("if-range", "\"123\"W")], IfRange::Malformed),
            (&[("if-range", "W\"123\"")], IfRange::Malformed),
            (&[("if-range", SAME), ("if-range", SAME)], IfRange::Malformed),
        ] {
            assert_eq!(evaluate_if_range(&weak(), &headers(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn strong_tags() {
        for (lines, expected) in [
            (&[("if-match", STRONG)][..], 200),
            (&[("if-match", TAG)], 412),
            (&[("if-match", "\"zz\", \"3-784111777500\"")], 200),
            (&[("if-none-match", STRONG)], 304),
            (&[("if-none-match", TAG)], 304),
        ] {
            let found = evaluate(&strong(), &Method::GET, &headers(lines));
            assert_eq!(found.map_or(200, |status| status.as_u16()), expected, "{lines:?}");
        }
        for (value, expected) in [(STRONG, IfRange::Same), (TAG, IfRange::Changed), ("\"zz\"", IfRange::Changed)] {
            assert_eq!(evaluate_if_range(&strong(), &headers(&[("if-range", value)])), expected, "{value}");
        }
    }

    #[test]
    fn a_file_without_a_date_has_no_conditions_on_it() {
        let validators = Validators { modified_seconds: None, ..weak() };
        for name in ["if-modified-since", "if-unmodified-since"] {
            assert_eq!(evaluate(&validators, &Method::GET, &headers(&[(name, SAME)])), None, "{name}");
        }
        assert_eq!(evaluate_if_range(&validators, &headers(&[("if-range", SAME)])), IfRange::Changed);
    }
}
