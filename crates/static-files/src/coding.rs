//! The choice of a content coding by Accept-Encoding (RFC 9110 12.5.3).
//!
//! Called for the files beside a file that are the same, coded (`variants`), and by the container for what it compresses
//! while it sends, so that the two never disagree about a client.

use http::header::{ACCEPT_ENCODING, HeaderMap};

/// Returns the coding that the client likes best of those that can be sent, which stand in the server's order of preference and
/// in lower case; `None`: the content as it is, without a coding.
///
/// The highest quality wins, and of equal ones the first of `available`. A coding of quality 0 is never chosen, nor one that is
/// not listed while `*` is not either. The content as it is wins by a higher quality of `identity`, and whenever nothing else
/// may be sent: RFC 9110 lets a server ignore that `identity` is refused, and 406 would help nobody. Without the header no
/// coding is chosen.
///
/// Names are compared without regard to case; `x-gzip` and `x-compress` are `gzip` and `compress` (RFC 9110 8.4.1). Of a coding
/// that is listed twice the lower quality counts. A quality that is malformed is 0, since what it should have been is not known.
pub fn preferred<'a>(headers: &HeaderMap, available: &[&'a str]) -> Option<&'a str> {
    if !headers.contains_key(ACCEPT_ENCODING) {
        return None;
    }
    let any = quality(headers, "*").unwrap_or(0);
    let mut best = None;
    let mut best_quality = 0;
    for &coding in available {
        let quality = quality(headers, coding).unwrap_or(any);
        if quality > best_quality {
            (best, best_quality) = (Some(coding), quality);
        }
    }
    best.filter(|_| quality(headers, "identity").is_none_or(|identity| identity <= best_quality))
}

/// Returns the quality of a coding, 0 to 1000, if it is listed. The header is read anew for each coding instead of being kept: a
/// server has two or three.
fn quality(headers: &HeaderMap, coding: &str) -> Option<u16> {
    let elements = headers.get_all(ACCEPT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    elements.filter_map(|element| listed(element, coding)).min()
}

/// Returns the quality that an element of the list gives, if it is of this coding.
fn listed(element: &[u8], coding: &str) -> Option<u16> {
    let (name, weight) = match element.iter().position(|&byte| byte == b';') {
        Some(at) => (&element[..at], Some(&element[at + 1..])),
        None => (element, None),
    };
    let name = name.trim_ascii();
    let plain = match name {
        [b'x' | b'X', b'-', rest @ ..]
            if rest.eq_ignore_ascii_case(b"gzip") || rest.eq_ignore_ascii_case(b"compress") =>
        {
            rest
        }
        _ => name,
    };
    plain.eq_ignore_ascii_case(coding.as_bytes()).then(|| weight.map_or(1000, thousandths))
}

/// Reads `q=0.5` (RFC 9110 12.4.2), with white space where Tomcat takes it too; digits after the third do not count.
pub(crate) fn thousandths(weight: &[u8]) -> u16 {
    let [b'q' | b'Q', rest @ ..] = weight.trim_ascii() else { return 0 };
    let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else { return 0 };
    let (whole, decimals) = match value.trim_ascii() {
        [whole @ (b'0' | b'1')] => (*whole, &b""[..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] => (*whole, decimals),
        _ => return 0,
    };
    if !decimals.iter().all(u8::is_ascii_digit) || (whole == b'1' && decimals.iter().any(|&digit| digit != b'0')) {
        return 0;
    }
    let digit = |place: usize| u16::from(decimals.get(place).map_or(0, |digit| digit - b'0'));
    u16::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[track_caller]
    fn check_of(available: &[&str], lines: &[&str], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        assert_eq!(preferred(&headers, available), expected, "{lines:?}");
    }

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        check_of(&["br", "gzip"], &[line], expected);
    }

    #[test]
    fn the_highest_quality_wins_and_of_equal_ones_the_servers_first() {
        check("br", Some("br"));
        check("gzip", Some("gzip"));
        check("gzip, br", Some("br"));
        check("gzip, deflate, sdch, br", Some("br"));
        check("br;q=0.5, gzip", Some("gzip"));
        check("br;q=0.5, gzip;q=0.501", Some("gzip"));
        check("br;q=0.50, gzip;q=0.500", Some("br"));
        check("br;q=1.000, gzip;q=0.999", Some("br"));
        check("deflate", None);
        check_of(&["gzip"], &["br, gzip"], Some("gzip"));
        check_of(&["gzip", "br"], &["br, gzip"], Some("gzip"));
        check_of(&[], &["br, gzip"], None);
        check_of(&["br", "gzip"], &["gzip", "br;q=0.1"], Some("gzip"));
    }

    #[test]
    fn without_the_header_nothing_is_coded() {
        check_of(&["br", "gzip"], &[], None);
        check("", None);
        check(",", None);
    }

    #[test]
    fn what_is_refused_is_not_sent() {
        check("gzip;q=0", None);
        check("gzip;q=0.000", None);
        check("gzip;Q=0", None);
        check("br;q=0, gzip", Some("gzip"));
        check("br;q=0, *", Some("gzip"));
        check("br;q=0, gzip;q=0, *", None);
        check("*;q=0", None);
        check("*;q=0, gzip", Some("gzip"));
        check("gzip, gzip;q=0", None);
        check("gzip;q=0, x-gzip", None);
    }

    #[test]
    fn the_star_is_what_is_not_listed() {
        check("*", Some("br"));
        check("gzip;q=0.9,*", Some("br"));
        check("gzip, *;q=0.5", Some("gzip"));
        check("br;q=0.1, *;q=0.5", Some("gzip"));
    }

    #[test]
    fn the_content_as_it_is_wins_by_a_higher_quality() {
        check("gzip;q=0.9,br;q=0,identity", None);
        check("gzip;q=0.9,br;q=0,identity,", None);
        check("identity", None);
        check("gzip, identity", Some("gzip"));
        check("identity;q=0.5, gzip;q=0.4", None);
        check("identity;q=0.5, gzip", Some("gzip"));
        check("identity;q=0, gzip;q=0.1", Some("gzip"));
        check("identity;q=0", None);
        check("identity;q=0, *;q=0", None);
        check("*, identity;q=0.5", Some("br"));
        check("*;q=0.5, identity", None);
    }

    #[test]
    fn names_have_no_case_and_old_ones() {
        check("GZIP", Some("gzip"));
        check("Br", Some("br"));
        check("x-gzip", Some("gzip"));
        check("X-GZip;q=0.1", Some("gzip"));
        check("x-br", None);
        check("gzipped", None);
        check("gz", None);
    }

    #[test]
    fn white_space_and_empty_elements() {
        check(" gzip ,, ", Some("gzip"));
        check("gzip\t; q=0.5", Some("gzip"));
        check("gzip ; q = 0", None);
        check("br ;\tq=0 ,gzip", Some("gzip"));
    }

    #[test]
    fn a_malformed_quality_refuses() {
        for weight in
            ["", "q", "q=", "q=2", "q=1.1", "q=-1", "q=0,5", "q=.5", "q=a", "x=1", "q=0.5;x=1", "q=1e0", "q=0x1"]
        {
            check(&format!("gzip;{weight}"), None);
        }
        check("gzip;q=0.5005", Some("gzip"));
        check("gzip;q=0.0009", None);
        check("gzip;q=1.", Some("gzip"));
        check("br;q=x, gzip", Some("gzip"));
        check("é, gzip", Some("gzip"));
        check("\"gzip\"", None);
        check("gzip br", None);
    }
}
