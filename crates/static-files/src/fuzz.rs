//! What the fuzz targets call: each takes bytes as a client could send them, and checks what must hold for all of them.

use http::header::{
    ACCEPT_ENCODING, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::coding::preferred;
use crate::conditions::{IfRange, Validators, evaluate, evaluate_if_range, evaluate_missing};
use crate::range::{Part, Wanted, wanted};

/// The length of the file in 8 bytes, little end first, then the value of Range.
pub fn range(data: &[u8]) {
    let Some((len, value)) = data.split_first_chunk() else { return };
    let (file_len, mut headers) = (u64::from_le_bytes(*len), HeaderMap::new());
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    headers.insert(RANGE, value);
    let inside = |part: &Part| part.first <= part.last && part.last < file_len;
    match wanted(&headers, file_len) {
        Wanted::Whole => {}
        Wanted::Refused => assert!(file_len > 0, "an empty file has no ranges to refuse"),
        Wanted::Part(part) => assert!(inside(&part), "{part:?} of {file_len}"),
        Wanted::Several(parts) => {
            assert!((2..=1024).contains(&parts.len()) && parts.iter().all(inside), "{parts:?} of {file_len}");
            let sum: u128 = parts.iter().map(|part| u128::from(part.len())).sum();
            assert!(sum <= 2 * u128::from(file_len), "{parts:?} are more than twice {file_len}");
        }
    }
}

/// A byte for the method and the kind of tag, then lines of a letter for the header's name and its value.
pub fn conditional(data: &[u8]) {
    let Some((&kind, lines)) = data.split_first() else { return };
    let method = [Method::GET, Method::HEAD, Method::POST, Method::PUT][usize::from(kind % 4)].clone();
    let etag = HeaderValue::from_static(if kind & 4 == 0 { "W/\"3-784111777500\"" } else { "\"3-784111777500\"" });
    let modified_seconds = (kind & 8 == 0).then_some(784_111_777);
    let mut headers = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let (name, value): (HeaderName, _) = match line {
            [b'm', value @ ..] => (IF_MATCH, value),
            [b'n', value @ ..] => (IF_NONE_MATCH, value),
            [b's', value @ ..] => (IF_MODIFIED_SINCE, value),
            [b'u', value @ ..] => (IF_UNMODIFIED_SINCE, value),
            [b'r', value @ ..] => (IF_RANGE, value),
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let validators = Validators { etag, modified_seconds };
    let reads = method == Method::GET || method == Method::HEAD;
    match evaluate(&validators, &method, &headers) {
        None | Some(StatusCode::BAD_REQUEST | StatusCode::PRECONDITION_FAILED) => {}
        Some(StatusCode::NOT_MODIFIED) => assert!(reads, "304 to {method}"),
        Some(other) => panic!("{other} is no answer to a condition"),
    }
    let tags = [IF_MATCH, IF_NONE_MATCH].iter().any(|name| headers.contains_key(name));
    if evaluate_missing(&headers).is_some() {
        assert!(tags, "what is missing has no date");
    }
    if evaluate_if_range(&validators, &headers) != IfRange::Same {
        assert!(headers.contains_key(IF_RANGE));
    }
}

/// The lines of Accept-Encoding.
pub fn accept_encoding(data: &[u8]) {
    const AVAILABLE: [&str; 3] = ["br", "zstd", "gzip"];
    let mut headers = HeaderMap::new();
    let lines = data.split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    for line in lines {
        headers.append(ACCEPT_ENCODING, line);
    }
    let Some(chosen) = preferred(&headers, &AVAILABLE) else { return };
    assert!(AVAILABLE.contains(&chosen));
    // Without the others it is chosen too; and it is named, or any is.
    assert_eq!(preferred(&headers, &[chosen]), Some(chosen));
    let mut named = false;
    for element in headers.get_all(ACCEPT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
    {
        let mut fields = element.split(|&byte| byte == b';').map(|field| field.trim_ascii().to_ascii_lowercase());
        let name = fields.next().unwrap_or_default();
        let name = name.strip_prefix(b"x-").filter(|name| name == b"gzip").unwrap_or(&name);
        let refused = fields.next().is_some_and(|weight| weight == b"q=0");
        assert!(!refused || name != chosen.as_bytes(), "{chosen} was refused");
        named |= name == chosen.as_bytes() || name == b"*";
    }
    assert!(named, "{chosen} was not asked for");
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_as_they_come() {
        for seed in [&b""[..], b"\n", b"\xff\x00", b"bytes=0-1,5-", b"nW/\"3\", \"4\"\nu*", b"gzip;q=0,br, *"] {
            for len in [0u64, 1, 10, u64::MAX] {
                super::range(&[&len.to_le_bytes()[..], seed].concat());
                super::conditional(&[&[len as u8][..], seed].concat());
            }
            super::accept_encoding(seed);
        }
    }
}
