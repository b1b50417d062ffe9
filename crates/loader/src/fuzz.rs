//! What fuzzers, and the tests that replay their seeds, call: functions on bytes that panic when a rule does not hold.

use std::mem::size_of;
use std::ptr::null;
use std::time::SystemTime;

use serval_abi::{SV_COOKIE_HTTP_ONLY, SV_COOKIE_SECURE, sv_cookie, sv_pair, sv_str};

use crate::exchange::CookieDefaults;
use crate::table::set_cookie_value;

/// A byte for the cookie's flags and what it has, eight for its age (little end first), then lines: name, value, path, domain, and names and values
/// of attributes. Returns what a client would send back, where the cookie is taken.
pub fn cookie_out(data: &[u8]) -> Option<(String, String)> {
    let (&has, data) = data.split_first()?;
    let (age, lines) = data.split_first_chunk()?;
    let lines: Vec<&[u8]> = lines.split(|&byte| byte == b'\n').collect();
    let line = |number: usize| lines.get(number).copied().unwrap_or_default();
    let text = |bytes: &[u8]| sv_str { ptr: bytes.as_ptr(), len: bytes.len() };
    let optional = |bit: u8, bytes: &[u8]| if has & bit != 0 { text(bytes) } else { sv_str::ABSENT };
    let pairs = lines.get(4..).unwrap_or_default().chunks(2);
    let attributes: Vec<sv_pair> = pairs
        .map(|pair| sv_pair { name: text(pair[0]), value: text(pair.get(1).copied().unwrap_or_default()) })
        .collect();
    let cookie = sv_cookie {
        struct_size: size_of::<sv_cookie>() as u32,
        flags: u32::from(has & 7),
        name: text(line(0)),
        value: text(line(1)),
        path: optional(8, line(2)),
        domain: optional(16, line(3)),
        max_age: i64::from_le_bytes(*age),
        attributes: if attributes.is_empty() { null() } else { attributes.as_ptr() },
        attribute_count: attributes.len(),
    };
    // SAFETY: all members lead into `data` and `attributes`.
    let header = unsafe { set_cookie_value(&cookie, &CookieDefaults::default()) }.ok()?;

    assert!(!header.contains(|c: char| c.is_ascii_control()), "{header:?}");
    // RFC 6265 4.1.1, read strictly: what stands between semicolons, each behind one space.
    let mut parts = header.split("; ");
    assert_eq!(header.matches(';').count(), header.matches("; ").count(), "{header:?}");
    let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
    assert_eq!((name.as_bytes(), value.as_bytes()), (line(0), line(1)), "{header:?}");
    let mut rest: Vec<&str> = parts.collect();
    let expected = attributes_by_the_book(lines.get(4..).unwrap_or_default());
    let others = rest.split_off(rest.len().checked_sub(expected.len()).expect("all attributes"));
    assert_eq!(others.iter().map(|other| other.as_bytes()).collect::<Vec<_>>(), expected, "{header:?}");
    let mut take = |name: &str| {
        let is_it = |part: &&str| part.split_once('=').map_or(**part == *name, |(known, _)| known == name);
        rest.first().copied().filter(|part| is_it(part)).map(|part| {
            rest.remove(0);
            part.split_once('=').map_or("", |(_, value)| value)
        })
    };
    if let Some(age) = take("Max-Age") {
        let seconds: u64 = age.parse().expect("digits");
        let expires = httpdate::parse_http_date(take("Expires").expect("both, or neither")).expect("a date");
        assert_eq!(seconds == 0, expires < SystemTime::now(), "{header:?}");
    }
    let domain = take("Domain");
    assert_eq!(
        domain.map(str::as_bytes),
        Some(line(3)).filter(|domain| has & 16 != 0 && !domain.is_empty()),
        "{header:?}"
    );
    let path = take("Path");
    assert_eq!(path.map(str::as_bytes), Some(line(2)).filter(|path| has & 8 != 0 && !path.is_empty()), "{header:?}");
    for (flag, name) in [(SV_COOKIE_SECURE, "Secure"), (SV_COOKIE_HTTP_ONLY, "HttpOnly")] {
        assert_eq!(take(name).is_some(), cookie.flags & flag != 0, "{header:?}");
    }
    assert!(rest.is_empty(), "{header:?}");
    Some((name.to_owned(), value.to_owned()))
}

/// SEMANTICS 16, read aloud: SameSite, Partitioned (there or not), and the others in their order.
fn attributes_by_the_book(lines: &[&[u8]]) -> Vec<Vec<u8>> {
    let is = |text: &[u8], name: &str| text.eq_ignore_ascii_case(name.as_bytes());
    let rank =
        |pair: &(&[u8], &[u8])| [is(pair.0, "SameSite"), is(pair.0, "Partitioned"), true].iter().position(|fits| *fits);
    let mut pairs: Vec<_> = lines.chunks(2).map(|pair| (pair[0], pair.get(1).copied().unwrap_or_default())).collect();
    pairs.sort_by_key(rank);
    pairs.retain(|pair| !(rank(pair) == Some(1) && is(pair.1, "false")));
    let written = |pair: &(&[u8], &[u8])| match *pair {
        (name, value) if value.is_empty() || rank(pair) == Some(1) => name.to_vec(),
        (name, value) => [name, b"=", value].concat(),
    };
    pairs.iter().map(written).collect()
}
