//! Parameters of a query or a form, and cookies (SEMANTICS 15 and 16; Servlet 3.1; RFC 6265 5.4).

use http::HeaderMap;
use http::header::COOKIE;
use serval_config::WithoutEquals;

/// Why parameters cannot be given.
#[derive(Debug, PartialEq, Eq)]
pub enum BadParameters {
    Malformed(&'static str),
    TooMany,
}

/// What a form is written in. A query is UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    Utf8,
    Latin1,
}

impl Charset {
    /// What is not known is read as UTF-8, as Tomcat does; others than these two no browser sends unless it is told to.
    pub fn named(name: &str) -> Charset {
        let is_latin1 = ["iso-8859-1", "iso8859-1", "latin1"].iter().any(|known| name.eq_ignore_ascii_case(known));
        if is_latin1 { Charset::Latin1 } else { Charset::Utf8 }
    }
}

/// Adds the parameters of `text` to `all`, in order.
pub fn parse(
    text: &[u8],
    charset: Charset,
    count_max: usize,
    all: &mut Vec<(String, String)>,
) -> Result<(), BadParameters> {
    for pair in text.split(|&b| b == b'&').filter(|pair| !pair.is_empty()) {
        if all.len() >= count_max {
            return Err(BadParameters::TooMany);
        }
        let equals = pair.iter().position(|&b| b == b'=').unwrap_or(pair.len());
        let name = decode(&pair[..equals], charset)?;
        if name.is_empty() {
            return Err(BadParameters::Malformed("a parameter has no name"));
        }
        all.push((name, decode(pair.get(equals + 1..).unwrap_or_default(), charset)?));
    }
    Ok(())
}

/// Of a name or a value.
pub fn decode(text: &[u8], charset: Charset) -> Result<String, BadParameters> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |at: usize| text.get(at).and_then(|&b| (b as char).to_digit(16));
                let (Some(high), Some(low)) = (digit(at), digit(at + 1)) else {
                    return Err(BadParameters::Malformed("a parameter has a broken percent-encoding"));
                };
                at += 2;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    if charset == Charset::Latin1 {
        return Ok(out.into_iter().map(char::from).collect());
    }
    String::from_utf8(out).map_err(|_| BadParameters::Malformed("a parameter is not UTF-8"))
}

/// Whether a request has more cookies than that, malformed ones with them.
pub fn has_more_cookies(headers: &HeaderMap, count_max: usize) -> bool {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|header| header.as_bytes().split(|&b| b == b';'));
    pairs.filter(|pair| !pair.trim_ascii().is_empty()).nth(count_max).is_some()
}

/// The cookies of one Cookie header; what is malformed drops only that cookie.
pub fn cookies(header: &[u8], without_equals: WithoutEquals, all: &mut Vec<(String, String)>) {
    for pair in header.split(|&b| b == b';') {
        let pair = pair.trim_ascii();
        if without_equals == WithoutEquals::Ignore && !pair.contains(&b'=') {
            continue;
        }
        let equals = pair.iter().position(|&b| b == b'=').unwrap_or(pair.len());
        let (name, value) = (pair[..equals].trim_ascii(), pair.get(equals + 1..).unwrap_or_default().trim_ascii());
        let token =
            !name.is_empty() && name.iter().all(|&b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        let quoted = value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"");
        let inner = if quoted { &value[1..value.len() - 1] } else { value };
        let allowed = inner.iter().all(|&b| b > b' ' && b != 0x7f && !b"\",\\;".contains(&b));
        if let (true, true, Ok(name), Ok(value)) =
            (token, allowed, std::str::from_utf8(name), std::str::from_utf8(value))
        {
            all.push((name.to_owned(), value.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[(&str, &str)], BadParameters>) {
        let mut all = Vec::new();
        let result = parse(text.as_bytes(), Charset::Utf8, 4, &mut all).map(|()| all);
        let expected =
            expected.map(|pairs| pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>());
        assert_eq!(result, expected, "{text}");
    }

    #[test]
    fn forms() {
        check("a=1&b=&c&a=x%20+y", Ok(&[("a", "1"), ("b", ""), ("c", ""), ("a", "x  y")]));
        check("&&a=b=c&", Ok(&[("a", "b=c")]));
        check("=x", Err(BadParameters::Malformed("a parameter has no name")));
        check("a=%f", Err(BadParameters::Malformed("a parameter has a broken percent-encoding")));
        check("a=%ff", Err(BadParameters::Malformed("a parameter is not UTF-8")));
        check("a&b&c&d&e", Err(BadParameters::TooMany));
        // Those of a dispatch may be more by themselves.
        let mut all = vec![(String::new(), String::new()); 5];
        assert_eq!(parse(b"a", Charset::Utf8, 4, &mut all), Err(BadParameters::TooMany));
    }

    #[test]
    fn cookie_headers() {
        let mut all = Vec::new();
        cookies(b"a=1; b=\"q\"; bad name=2; c=x y; d", WithoutEquals::Name, &mut all);
        cookies(b"e;f=; g =x;=h; i=%=\xc3\xa9;;j=\xff", WithoutEquals::Ignore, &mut all);
        let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(all, [("a", "1"), ("b", "\"q\""), ("d", ""), ("f", ""), ("g", "x"), ("i", "%=\u{e9}")]);
    }

    #[test]
    fn cookies_are_counted_before_they_are_read() {
        let mut headers = HeaderMap::new();
        for header in ["a; =; b=1;", " ;;", "c=1"] {
            headers.append(COOKIE, header.parse().unwrap());
        }
        assert!(has_more_cookies(&headers, 3) && !has_more_cookies(&headers, 4));
    }
}
