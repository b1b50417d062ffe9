//! The Range header (RFC 9110 14.1.2 and 14.2) against the length of a file.
//!
//! The RFC lets a server ignore a malformed Range; Tomcat refuses it, and so does this. Called by
//! `respond`, after If-Range.

use http::header::{HeaderMap, RANGE};

/// What of the file is wanted.
#[derive(Debug, PartialEq)]
pub(crate) enum Wanted {
    /// All of it: no Range, a unit that is not `bytes`, or an empty file.
    Whole,
    /// One part, not empty and within the file.
    Part(Part),
    /// Several parts that can be served.
    Several,
    /// Malformed, or no part of it is within the file: 416.
    Refused,
}

/// Positions of bytes, both of them included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

pub(crate) fn wanted(headers: &HeaderMap, file_len: u64) -> Wanted {
    let mut lines = headers.get_all(RANGE).iter();
    let Some(line) = lines.next() else {
        return Wanted::Whole;
    };
    if file_len == 0 {
        return Wanted::Whole;
    }
    if lines.next().is_some() {
        return Wanted::Refused;
    }
    let line = line.as_bytes();
    let Some(equals) = line.iter().position(|&byte| byte == b'=') else {
        return Wanted::Refused;
    };
    if !line[..equals].eq_ignore_ascii_case(b"bytes") {
        return Wanted::Whole;
    }
    select(&line[equals + 1..], file_len)
}

fn select(set: &[u8], file_len: u64) -> Wanted {
    let mut wanted = Wanted::Refused;
    for spec in set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        if spec.is_empty() {
            continue;
        }
        match parse(spec, file_len) {
            Spec::Malformed => return Wanted::Refused,
            Spec::Outside => {}
            Spec::Inside(part) if wanted == Wanted::Refused => wanted = Wanted::Part(part),
            Spec::Inside(_) => wanted = Wanted::Several,
        }
    }
    wanted
}

enum Spec {
    Inside(Part),
    Outside,
    Malformed,
}

/// Reads `first-last`, `first-` or `-suffix length`.
fn parse(spec: &[u8], file_len: u64) -> Spec {
    let Some(dash) = spec.iter().position(|&byte| byte == b'-') else {
        return Spec::Malformed;
    };
    let end = file_len - 1;
    let part = match (number(&spec[..dash]), number(&spec[dash + 1..])) {
        (Number::Of(first), Number::Of(last)) if first <= last => Part { first, last: last.min(end) },
        (Number::Of(first), Number::None) => Part { first, last: end },
        (Number::None, Number::Of(0)) => return Spec::Outside,
        (Number::None, Number::Of(suffix_len)) => Part { first: file_len.saturating_sub(suffix_len), last: end },
        _ => return Spec::Malformed,
    };
    if part.first > end { Spec::Outside } else { Spec::Inside(part) }
}

enum Number {
    None,
    Of(u64),
    Malformed,
}

/// Reads digits; a number too large for any file is as good as the largest.
fn number(digits: &[u8]) -> Number {
    if digits.is_empty() {
        return Number::None;
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return Number::Malformed;
    }
    Number::Of(digits.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[track_caller]
    fn check_len(range: &str, file_len: u64, expected: Wanted) {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_bytes(range.as_bytes()).unwrap());
        assert_eq!(wanted(&headers, file_len), expected, "{range:?} of {file_len}");
    }

    #[track_caller]
    fn check(range: &str, expected: Wanted) {
        check_len(range, 10, expected);
    }

    fn part(first: u64, last: u64) -> Wanted {
        Wanted::Part(Part { first, last })
    }

    #[test]
    fn one_part() {
        check("bytes=0-0", part(0, 0));
        check("bytes=2-5", part(2, 5));
        check("bytes=2-", part(2, 9));
        check("bytes=9-", part(9, 9));
        check("bytes=0-9", part(0, 9));
        check("bytes=0-10", part(0, 9));
        check("bytes=5-99999999999999999999999999", part(5, 9));
        check("bytes=-3", part(7, 9));
        check("bytes=-10", part(0, 9));
        check("bytes=-99999999999999999999999999", part(0, 9));
        check("Bytes=2-5", part(2, 5));
        check("bytes= 2-5 ", part(2, 5));
        check("bytes=,2-5,", part(2, 5));
        check_len("bytes=0-0", 1, part(0, 0));
    }

    #[test]
    fn several_parts() {
        check("bytes=0-1,4-5", Wanted::Several);
        check("bytes=0-1, -1", Wanted::Several);
        check("bytes=0-1,50-60", part(0, 1));
        check("bytes=50-60,0-1", part(0, 1));
        check("bytes=50-60,70-", Wanted::Refused);
        check("bytes=0-1,x", Wanted::Refused);
    }

    #[test]
    fn no_part_of_the_file() {
        check("bytes=10-", Wanted::Refused);
        check("bytes=10-20", Wanted::Refused);
        check("bytes=99999999999999999999999999-", Wanted::Refused);
        check("bytes=-0", Wanted::Refused);
    }

    #[test]
    fn malformed() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5",
            "bytes=5-2",
            "bytes=1-2-3",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=0x1-2",
            "bytes=1-2;3-4",
            "bytes=\u{663}-5",
        ] {
            check(range, Wanted::Refused);
        }
        let mut headers = HeaderMap::new();
        headers.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        headers.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(wanted(&headers, 10), Wanted::Refused);
    }

    #[test]
    fn ignored() {
        check("lines=1-2", Wanted::Whole);
        check("bytes =1-2", Wanted::Whole);
        check_len("bytes=0-0", 0, Wanted::Whole);
        check_len("nonsense", 0, Wanted::Whole);
        assert_eq!(wanted(&HeaderMap::new(), 10), Wanted::Whole);
    }
}
