//! The functions of the table that make the response.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serval_abi::*;

use super::{Frame, Out, argument, by_name, bytes, on_exchange, quoted, text};
use crate::exchange::{Answer, Fault, HeaderChange};
use crate::sized;

/// Bodies that a library keeps (SV_BODY_STATIC) are copied up to here: cheaper than counting a reference to its generation.
const STATIC_COPY_MAX: usize = 16 << 10;
/// LIMIT: headers of one response (servlet.h, set_header and sv_response).
pub const HEADERS_MAX: usize = 1000;

/// A library's memory that goes out in place: released once, and its generation kept until then.
struct Owned {
    ptr: *const u8,
    len: usize,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
    release_arg: *mut c_void,
    /// Dropped after `release` has run.
    #[expect(dead_code, reason = "it is held")]
    lease: Arc<dyn std::any::Any + Send + Sync>,
}

// SAFETY: servlet.h lets `release` run on any thread, and nobody writes the bytes.
unsafe impl Send for Owned {}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the library keeps the bytes valid until `release`, or for SV_BODY_STATIC until its destroy, which waits for
        // the lease.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: called once, by the contract of SV_BODY_OWNED.
            unsafe { release(self.release_arg) };
        }
    }
}

pub unsafe extern "C" fn respond(exchange: *mut sv_exchange, response: *const sv_response) -> sv_status {
    on_exchange("respond", exchange, |frame| {
        // SAFETY: NULL or a struct that is as long as it says (servlet.h 6), here and below.
        let given = unsafe { sized::argument(response, SV_RESPONSE_SIZE_1_0, "response") }?;
        if given.reserved != 0 {
            return Err(argument("the response's reserved member is not 0"));
        }
        let status = checked_status(given.status)?;
        // SAFETY: as above.
        let headers = unsafe { headers(given.headers, given.header_count) }?;
        // SAFETY: as above.
        let body = unsafe { bytes(given.body, given.body_len) }?;
        let (release, keeps) = match given.body_kind {
            SV_BODY_COPY => (None, false),
            SV_BODY_STATIC => (None, body.len() > STATIC_COPY_MAX),
            SV_BODY_OWNED => (given.release, true),
            _ => return Err(argument("body_kind is not one of SV_BODY_*")),
        };
        // All that can fail, before the body is taken: after an error the caller still owns it.
        frame.exchange.may_respond(status, &headers, body.len())?;
        let body = if keeps {
            Bytes::from_owner(Owned {
                ptr: given.body,
                len: given.body_len,
                release,
                release_arg: given.release_arg,
                lease: frame.exchange.lease(),
            })
        } else {
            Bytes::copy_from_slice(body)
        };
        frame.exchange.respond(status, headers, body);
        Ok(SV_OK)
    })
}

/// # Safety
/// A pointer that is not NULL leads to `len` valid pairs.
unsafe fn headers(ptr: *const sv_pair, len: usize) -> Answer<HeaderMap> {
    if len > HEADERS_MAX {
        return Err(Fault::new(SV_E_LIMIT, "a response has at most 1,000 headers"));
    }
    if ptr.is_null() && len > 0 || !ptr.is_aligned() {
        return Err(argument("the headers are NULL and their count is not 0, or they are not aligned"));
    }
    let pairs = if len == 0 {
        &[]
    } else {
        // SAFETY: the caller's promise; it is not NULL, and aligned.
        unsafe { std::slice::from_raw_parts(ptr, len) }
    };
    let mut headers = HeaderMap::with_capacity(len + 2);
    for pair in pairs {
        // SAFETY: the caller's promise.
        let name = header_name(unsafe { bytes(pair.name.ptr, pair.name.len) }?)?;
        settable(&name)?;
        // SAFETY: as above.
        let value = value_of(&name, unsafe { bytes(pair.value.ptr, pair.value.len) }?)?;
        if is_single(&name) {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

fn header_name(name: &[u8]) -> Answer<HeaderName> {
    HeaderName::from_bytes(name)
        .map_err(|_| Fault::new(SV_E_ARG, format!("{} is not the name of a header", quoted(name))))
}

fn header_value(value: &[u8]) -> Answer<HeaderValue> {
    HeaderValue::from_bytes(value).map_err(|_| argument("a header value has CR, LF, NUL or another control character"))
}

/// The value of a header of this name.
fn value_of(name: &HeaderName, value: &[u8]) -> Answer<HeaderValue> {
    if *name == CONTENT_TYPE && value.is_empty() {
        return Err(argument("a content type is not empty; SV_HEADER_REMOVE removes it"));
    }
    if *name == CONTENT_LENGTH {
        let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        // A signed number, for it is one in sv_request too.
        if digits.and_then(|text| text.parse::<i64>().ok()).is_none() {
            return Err(argument("a content length is a number, at most 2^63 - 1"));
        }
    }
    header_value(value)
}

/// What frames the message or belongs to the connection is the server's (RFC 9110 7.6.1, RFC 9112 6).
fn settable(name: &HeaderName) -> Answer {
    match name.as_str() {
        "connection" | "transfer-encoding" | "upgrade" | "keep-alive" => {
            Err(Fault::new(SV_E_ARG, format!("the header {name} is the server's")))
        }
        _ => Ok(()),
    }
}

/// There is one of these in a response.
fn is_single(name: &HeaderName) -> bool {
    *name == CONTENT_TYPE || *name == CONTENT_LENGTH
}

fn checked_status(status: u32) -> Answer<u16> {
    match status {
        200..=599 => Ok(status as u16),
        _ => Err(argument("a status is 200 to 599")),
    }
}

pub unsafe extern "C" fn set_status(exchange: *mut sv_exchange, status: u32) -> sv_status {
    on_exchange("set_status", exchange, |frame| {
        frame.exchange.set_status(checked_status(status)?)?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn set_header(
    exchange: *mut sv_exchange,
    how: i32,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    on_exchange("set_header", exchange, |frame| {
        // SAFETY: as in `respond`.
        let name = header_name(unsafe { bytes(name, len) }?)?;
        settable(&name)?;
        let change = match how {
            SV_HEADER_ADD if is_single(&name) => HeaderChange::Set,
            SV_HEADER_SET => HeaderChange::Set,
            SV_HEADER_ADD => HeaderChange::Add,
            SV_HEADER_REMOVE => HeaderChange::Remove,
            _ => return Err(argument("`how` is not one of SV_HEADER_*")),
        };
        let value = match change {
            HeaderChange::Remove => None,
            // SAFETY: as in `respond`.
            _ => Some(value_of(&name, unsafe { bytes(value, value_len) }?)?),
        };
        frame.exchange.set_header(change, name, value)?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn response_header(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    index: u32,
    value: *mut sv_str,
) -> sv_status {
    let find = |frame: &mut Frame<'_>, name: &str| {
        let found = frame.exchange.response_headers().get_all(name).iter().nth(index as usize);
        found.map(|found| frame.memory.keep(found.as_bytes())).transpose()
    };
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { by_name("response_header", exchange, (name, len), value, find) }
}

pub unsafe extern "C" fn response_status(exchange: *mut sv_exchange, status: *mut u32) -> sv_status {
    // SAFETY: as in `respond`.
    let status = unsafe { Out::new(status, 0) };
    on_exchange("response_status", exchange, |frame| status.put(frame.exchange.response_status().into()))
}

pub unsafe extern "C" fn set_content_type(
    exchange: *mut sv_exchange,
    content_type: *const u8,
    len: usize,
) -> sv_status {
    on_exchange("set_content_type", exchange, |frame| {
        // SAFETY: as in `respond`.
        let content_type = value_of(&CONTENT_TYPE, unsafe { text(content_type, len) }?.as_bytes())?;
        frame.exchange.set_header(HeaderChange::Set, CONTENT_TYPE, Some(content_type))?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn set_charset(exchange: *mut sv_exchange, charset: *const u8, len: usize) -> sv_status {
    on_exchange("set_charset", exchange, |frame| {
        // SAFETY: as in `respond`.
        let given = unsafe { text(charset, len) }?;
        let is_token = given.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !is_token || (given.is_empty() && !charset.is_null()) {
            let given = quoted(given.as_bytes());
            return Err(Fault::new(SV_E_ARG, format!("{given} is not the name of a charset")));
        }
        frame.exchange.set_charset((!charset.is_null()).then_some(given))?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn set_content_length(exchange: *mut sv_exchange, length: u64) -> sv_status {
    on_exchange("set_content_length", exchange, |frame| {
        if length > i64::MAX as u64 {
            return Err(argument("a content length is at most 2^63 - 1"));
        }
        frame.exchange.set_header(HeaderChange::Set, CONTENT_LENGTH, Some(length.into()))?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn set_buffer_size(exchange: *mut sv_exchange, size: usize) -> sv_status {
    on_exchange("set_buffer_size", exchange, |frame| frame.exchange.set_buffer_size(size).map(|()| SV_OK))
}

pub unsafe extern "C" fn set_trailer(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    on_exchange("set_trailer", exchange, |frame| {
        // SAFETY: as in `respond`.
        let name = header_name(unsafe { bytes(name, len) }?)?;
        settable(&name)?;
        if is_single(&name) || name == http::header::TRAILER || name == http::header::SET_COOKIE {
            return Err(Fault::new(SV_E_ARG, format!("{name} is not for trailers (RFC 9110 6.5.1)")));
        }
        // SAFETY: as in `respond`.
        frame.exchange.set_trailer(name, header_value(unsafe { bytes(value, value_len) }?)?)?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn informational(
    exchange: *mut sv_exchange,
    status: u32,
    pairs: *const sv_pair,
    count: usize,
) -> sv_status {
    on_exchange("informational", exchange, |frame| {
        if status != 103 {
            return Err(argument("the status of an informational response is 103"));
        }
        // SAFETY: as in `respond`.
        let headers = unsafe { headers(pairs, count) }?;
        if headers.contains_key(CONTENT_LENGTH) {
            return Err(argument("an informational response has no content-length (RFC 9110 8.6)"));
        }
        frame.exchange.informational(status as u16, headers)?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn write(
    exchange: *mut sv_exchange,
    given: *const u8,
    len: usize,
    taken: *mut usize,
) -> sv_status {
    // SAFETY: as in `respond`.
    let place = unsafe { Out::new(taken, 0) };
    on_exchange("write", exchange, |frame| {
        if !taken.is_null() {
            place.checked()?;
        }
        // SAFETY: as in `respond`.
        let given = unsafe { bytes(given, len) }?;
        if taken.is_null() && frame.memory.in_poll {
            // That only a part was taken could not be told.
            return frame.exchange.write_owned(Bytes::copy_from_slice(given)).map(|()| SV_OK);
        }
        let count = frame.exchange.write(given)?;
        if taken.is_null() { Ok(SV_OK) } else { place.put(count) }
    })
}

pub unsafe extern "C" fn write_owned(
    exchange: *mut sv_exchange,
    given: *const u8,
    len: usize,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
    release_arg: *mut c_void,
) -> sv_status {
    on_exchange("write_owned", exchange, |frame| {
        // SAFETY: as in `respond`.
        let body = unsafe { bytes(given, len) }?;
        let owned = Owned { ptr: body.as_ptr(), len, release, release_arg, lease: frame.exchange.lease() };
        let taken = Arc::new(AtomicBool::new(false));
        // One more reference than the exchange has, so that nothing is released before it is known whether it was taken.
        let bytes = Bytes::from_owner(Offered { owned, taken: taken.clone() });
        frame.exchange.write_owned(bytes.clone())?;
        taken.store(true, Ordering::Release);
        Ok(SV_OK)
    })
}

/// Memory of a library, which still owns it unless it was taken.
struct Offered {
    owned: Owned,
    taken: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Offered {
    fn as_ref(&self) -> &[u8] {
        self.owned.as_ref()
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        if !self.taken.load(Ordering::Acquire) {
            self.owned.release = None;
        }
    }
}

pub unsafe extern "C" fn flush(exchange: *mut sv_exchange) -> sv_status {
    on_exchange("flush", exchange, |frame| frame.exchange.flush().map(|()| SV_OK))
}

pub unsafe extern "C" fn reset(exchange: *mut sv_exchange) -> sv_status {
    on_exchange("reset", exchange, |frame| frame.exchange.reset().map(|()| SV_OK))
}

pub unsafe extern "C" fn reset_buffer(exchange: *mut sv_exchange) -> sv_status {
    on_exchange("reset_buffer", exchange, |frame| frame.exchange.reset_buffer().map(|()| SV_OK))
}

pub unsafe extern "C" fn send_error(
    exchange: *mut sv_exchange,
    status: u32,
    message: *const u8,
    len: usize,
) -> sv_status {
    on_exchange("send_error", exchange, |frame| {
        if !(400..=599).contains(&status) {
            return Err(argument("the status of an error is 400 to 599"));
        }
        // SAFETY: as in `respond`.
        frame.exchange.send_error(status as u16, unsafe { text(message, len) }?)?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn redirect(
    exchange: *mut sv_exchange,
    status: u32,
    location: *const u8,
    len: usize,
) -> sv_status {
    on_exchange("redirect", exchange, |frame| {
        let status = match status {
            0 => 302,
            304 => return Err(argument("304 is no redirect")),
            300..=399 => status as u16,
            _ => return Err(argument("the status of a redirect is 300 to 399, or 0 for 302")),
        };
        // SAFETY: as in `respond`.
        let location = header_value(unsafe { text(location, len) }?.as_bytes())?;
        frame.exchange.redirect(status, location)?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn committed(exchange: *mut sv_exchange) -> i32 {
    on_exchange("committed", exchange, |frame| Ok(frame.exchange.committed().into()))
}

pub unsafe extern "C" fn encode_url(
    exchange: *mut sv_exchange,
    url: *const u8,
    len: usize,
    out: *mut sv_str,
) -> sv_status {
    // SAFETY: as in `respond`.
    let out = unsafe { Out::new(out, sv_str::ABSENT) };
    on_exchange("encode_url", exchange, |frame| {
        out.checked()?;
        // SAFETY: as in `respond`.
        let url = unsafe { text(url, len) }?;
        let url = frame.exchange.encode_url(url);
        out.put(frame.keep(url.as_bytes())?)
    })
}
