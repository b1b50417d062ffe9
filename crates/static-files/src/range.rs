//! The Range header (RFC 9110 14.1.2 and 14.2) against the length of a file.
//!
//! The RFC lets a server ignore a malformed Range; Tomcat refuses it, and so does this. It takes white space where Tomcat does,
//! and no empty elements, as Tomcat. Parts outside of the file are left out when others are inside (RFC 9110 14.1.2), where
//! Tomcat refuses all. Called by `respond`, after If-Range.

use http::header::{HeaderMap, RANGE};

/// LIMIT: parts of one answer; more is 416. Tomcat's bound is that of the request's head, which has room for about 2000.
const PARTS_MAX: usize = 1024;

/// What of the file is wanted.
#[derive(Debug, PartialEq)]
pub(crate) enum Wanted {
    /// All of it: no Range, a unit that is not `bytes`, or an empty file.
    Whole,
    /// One part, not empty and within the file.
    Part(Part),
    /// Several such parts, in the order in which they are asked for.
    Several(Vec<Part>),
    /// Malformed, no part of it is within the file, or the parts are more than a client needs: 416.
    Refused,
}

/// Positions of bytes, both of them included; never empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Part {
    pub(crate) fn len(self) -> u64 {
        self.last - self.first + 1
    }
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
    let (unit, set) = (line[..equals].trim_ascii(), line[equals + 1..].trim_ascii());
    if unit.is_empty() || set.is_empty() {
        return Wanted::Refused;
    }
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return Wanted::Whole;
    }
    select(set, file_len)
}

fn select(set: &[u8], file_len: u64) -> Wanted {
    let mut first = None;
    // Most requests have one part, and need no list.
    let mut several = Vec::new();
    for spec in set.split(|&byte| byte == b',') {
        let part = match parse(spec, file_len) {
            Spec::Malformed => return Wanted::Refused,
            Spec::Outside => continue,
            Spec::Inside(part) => part,
        };
        match first {
            None => first = Some(part),
            Some(first) if several.is_empty() => several.extend([first, part]),
            Some(_) => several.push(part),
        }
        if several.len() > PARTS_MAX {
            return Wanted::Refused;
        }
    }
    match first {
        None => Wanted::Refused,
        Some(part) if several.is_empty() => Wanted::Part(part),
        Some(_) if overlap_too_much(&several) => Wanted::Refused,
        Some(_) => Wanted::Several(several),
    }
}

/// Says whether more than two parts overlap, which only an attack asks for (RFC 9110 17.15): an answer could be many times
/// as long as the file.
fn overlap_too_much(parts: &[Part]) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable_by_key(|part| (part.first, part.last));
    let mut overlaps = 0;
    let mut last = sorted[0].last;
    for part in &sorted[1..] {
        overlaps += usize::from(part.first <= last);
        last = last.max(part.last);
    }
    // Two that overlap are one overlap.
    overlaps > 1
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
    let part = match (number(spec[..dash].trim_ascii()), number(spec[dash + 1..].trim_ascii())) {
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

    #[track_caller]
    fn check_several(range: &str, expected: &[(u64, u64)]) {
        let parts = expected.iter().map(|&(first, last)| Part { first, last }).collect();
        check(range, Wanted::Several(parts));
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
        check("BYTES=2-5", part(2, 5));
        check("bytes= 2-5 ", part(2, 5));
        check("bytes = 2 - 5", part(2, 5));
        check_len("bytes=0-0", 1, part(0, 0));
    }

    #[test]
    fn several_parts() {
        check_several("bytes=0-1,4-5", &[(0, 1), (4, 5)]);
        check_several("bytes=4-5,0-1", &[(4, 5), (0, 1)]);
        check_several("bytes=0-1, -1", &[(0, 1), (9, 9)]);
        check_several("bytes=0-1\t,\t4-", &[(0, 1), (4, 9)]);
        check_several("bytes=0-0,1-1,2-2,3-3", &[(0, 0), (1, 1), (2, 2), (3, 3)]);
        check("bytes=0-1,50-60", part(0, 1));
        check("bytes=50-60,0-1", part(0, 1));
        check("bytes=50-60,70-", Wanted::Refused);
        check("bytes=0-1,x", Wanted::Refused);
    }

    #[test]
    fn two_parts_may_overlap_and_three_may_not() {
        check_several("bytes=1-8,3-5", &[(1, 8), (3, 5)]);
        check_several("bytes=1-8,7-9", &[(1, 8), (7, 9)]);
        check_several("bytes=0-,0-", &[(0, 9), (0, 9)]);
        check_several("bytes=0-1,1-2,4-5,7-8", &[(0, 1), (1, 2), (4, 5), (7, 8)]);
        for range in
            ["bytes=1-8,3-5,2-3", "bytes=1-5,4-8,2-3", "bytes=0-0,0-0,0-0", "bytes=0-1,1-2,4-5,5-6", "bytes=0-,-5,-6"]
        {
            check(range, Wanted::Refused);
        }
    }

    #[test]
    fn parts_are_counted() {
        let list = |count: usize| (0..count).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
        let all = |count: usize| (0..count as u64).map(|at| Part { first: at, last: at }).collect();
        check_len(&format!("bytes={}", list(PARTS_MAX)), 10_000, Wanted::Several(all(PARTS_MAX)));
        check_len(&format!("bytes={}", list(PARTS_MAX + 1)), 10_000, Wanted::Refused);
        check_len(&format!("bytes={}", list(PARTS_MAX + 1)), 900, Wanted::Several(all(900)));
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
            "bytes= ",
            "bytes=,",
            "bytes=,2-5",
            "bytes=2-5,",
            "bytes=0-1,,4-5",
            "bytes=-",
            "bytes=a-b",
            "bytes=10-b",
            "bytes=b-10",
            "bytes=5",
            "bytes=5-2",
            "bytes=1-2-3",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1 2-3",
            "bytes=0x1-2",
            "bytes=1-2;3-4",
            "bytes=\u{663}-5",
            "bytes 1-10",
            "bytes1-10",
            "bytes10-",
            "bytes-10",
            "unknown",
            "unknown=",
            "=1-2",
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
        check("bytesX=1-2", Wanted::Whole);
        check("Xbytes=1-2", Wanted::Whole);
        check_len("bytes=0-0", 0, Wanted::Whole);
        check_len("nonsense", 0, Wanted::Whole);
        assert_eq!(wanted(&HeaderMap::new(), 10), Wanted::Whole);
    }
}
