//! Lists of tokens in headers, as in Connection, Vary and Cache-Control (RFC 9110 5.6.1).

use http::{HeaderMap, HeaderName};

/// Whether one of the header's values has this token, in any case of letters.
pub fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.any(|value| {
        let mut named = value.as_bytes().split(|&byte| byte == b',');
        named.any(|named| named.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}
