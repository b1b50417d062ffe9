//! `set_cookie`: a Set-Cookie header from its parts (RFC 6265 4.1, SEMANTICS 16).

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::SET_COOKIE;
use serval_abi::*;

use super::{argument, on_exchange, quoted, text};
use crate::exchange::{Answer, CookieDefaults, Fault, HeaderChange};
use crate::sized;

/// LIMIT: attributes beside the known ones.
const ATTRIBUTES_MAX: usize = 100;
/// Browsers keep none for longer (RFC 6265bis 5.5).
const MAX_AGE_MAX: i64 = 400 * 86_400;
const SAME_SITE: &str = "SameSite";
const PARTITIONED: &str = "Partitioned";
/// When a cookie has expired that is deleted: not at 0, which some clients take for no date at all.
const LONG_AGO: Duration = Duration::from_secs(10);

pub unsafe extern "C" fn set_cookie(exchange: *mut sv_exchange, cookie: *const sv_cookie) -> sv_status {
    on_exchange("set_cookie", exchange, |frame| {
        // SAFETY: NULL or a struct that is as long as it says (servlet.h 6), here and below.
        let given = unsafe { sized::argument(cookie, SV_COOKIE_SIZE_1_0, "cookie") }?;
        // SAFETY: as above.
        let value = unsafe { set_cookie_value(&given, &frame.exchange.cookie_defaults()) }?;
        let value =
            HeaderValue::from_str(&value).map_err(|_| argument("the cookie has a character that is not allowed"))?;
        frame.exchange.set_header(HeaderChange::Add, SET_COOKIE, Some(value))?;
        Ok(SV_OK)
    })
}

fn wrong<T>(what: &str, given: &str, why: &str) -> Answer<T> {
    Err(Fault::new(SV_E_ARG, format!("the cookie's {what} {} {why}", quoted(given.as_bytes()))))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Returns the header's value.
///
/// # Safety
/// The members are as servlet.h says.
pub(crate) unsafe fn set_cookie_value(cookie: &sv_cookie, defaults: &CookieDefaults) -> Answer<String> {
    // SAFETY: the caller's promise, here and below.
    let part = |given: sv_str| unsafe { text(given.ptr, given.len) };
    let optional = |given: sv_str| if given.ptr.is_null() && given.len == 0 { Ok(None) } else { part(given).map(Some) };
    let (name, value) = (part(cookie.name)?, part(cookie.value)?);
    if !is_token(name) {
        return wrong("name", name, "is not a token");
    }
    // Beyond RFC 6265 UTF-8, as browsers and Tomcat take it.
    let octet = |b: u8| b > b' ' && b != 0x7f && !b"\",;\\".contains(&b);
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    if !inner.bytes().all(octet) {
        return wrong("value", value, "has a character that is not allowed: encode it");
    }
    let mut out = format!("{name}={value}");
    if cookie.flags & SV_COOKIE_MAX_AGE != 0 {
        let age = cookie.max_age.clamp(0, MAX_AGE_MAX).unsigned_abs();
        let expires = match age {
            0 => SystemTime::UNIX_EPOCH + LONG_AGO,
            _ => SystemTime::now() + Duration::from_secs(age),
        };
        out.push_str(&format!("; Max-Age={age}; Expires={}", httpdate::fmt_http_date(expires)));
    }
    if let Some(domain) = optional(cookie.domain)?.filter(|domain| !domain.is_empty()) {
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !domain.split('.').all(label) {
            return wrong("domain", domain, "is not a domain");
        }
        out.push_str(&format!("; Domain={domain}"));
    }
    if let Some(path) = optional(cookie.path)?.filter(|path| !path.is_empty()) {
        if path.bytes().any(|b| !(b' '..0x7f).contains(&b) || b == b';') {
            return wrong("path", path, "has a character that is not allowed");
        }
        out.push_str(&format!("; Path={path}"));
    }
    for (bit, name) in [(SV_COOKIE_SECURE, "; Secure"), (SV_COOKIE_HTTP_ONLY, "; HttpOnly")] {
        if cookie.flags & bit != 0 {
            out.push_str(name);
        }
    }
    if cookie.attribute_count > ATTRIBUTES_MAX || (cookie.attributes.is_null() && cookie.attribute_count > 0) {
        return Err(argument("the attributes of the cookie are NULL and their count is not 0, or there are too many"));
    }
    let mut attributes = Vec::with_capacity(cookie.attribute_count);
    for at in 0..cookie.attribute_count {
        // SAFETY: inside of the array that the library promises.
        let attribute = unsafe { cookie.attributes.add(at).read_unaligned() };
        let (name, value) = (part(attribute.name)?, part(attribute.value)?);
        if !is_token(name) {
            return wrong("attribute", name, "is not a token");
        }
        if value.bytes().any(|b| !(b' '..0x7f).contains(&b) || b == b';') {
            return wrong("attribute", value, "has a character that is not allowed");
        }
        attributes.push((name, value));
    }
    let says = |known: &str| attributes.iter().any(|(name, _)| name.eq_ignore_ascii_case(known));
    let same_site = defaults.same_site.filter(|_| !says(SAME_SITE));
    let partitioned = defaults.partitioned && !says(PARTITIONED);
    attributes.extend(same_site.map(|value| (SAME_SITE, value)));
    attributes.extend(partitioned.then_some((PARTITIONED, "")));
    // Stable: the others stay in their order.
    attributes.sort_by_key(|(name, _)| {
        let place = [SAME_SITE, PARTITIONED].iter().position(|known| known.eq_ignore_ascii_case(name));
        place.unwrap_or(usize::MAX)
    });
    for (name, value) in attributes {
        // This one is there or not (CHIPS).
        let is_partitioned = name.eq_ignore_ascii_case(PARTITIONED);
        if is_partitioned && value.eq_ignore_ascii_case("false") {
            continue;
        }
        out.push_str(&if value.is_empty() || is_partitioned {
            format!("; {name}")
        } else {
            format!("; {name}={value}")
        });
    }
    Ok(out)
}
