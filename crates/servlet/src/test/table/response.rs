//! The table's functions for the response.

use std::ffi::c_void;

use serval_abi::{
    SV_BODY_OWNED, SV_COOKIE_HTTP_ONLY, SV_COOKIE_MAX_AGE, SV_COOKIE_SECURE, SV_DISPATCH_INCLUDE, SV_E_ARG,
    SV_E_CLOSED, SV_E_STATE, SV_HEADER_ADD, SV_HEADER_REMOVE, SV_HEADER_SET, sv_cookie, sv_exchange, sv_pair,
    sv_response, sv_status, sv_str,
};

use super::{Status, bytes, find, finish, head, name, of_exchange, put, say, status, with};
use crate::host;
use crate::test::exchange::Inner;
use crate::test::webapp::{lock, text};

pub(super) unsafe extern "C" fn respond(exchange: *mut sv_exchange, response: *const sv_response) -> sv_status {
    // SAFETY: the caller's promise.
    let Some(response) = (unsafe { response.as_ref() }) else { return SV_E_ARG };
    // SAFETY: as above.
    let (body, headers) =
        unsafe { (bytes(response.body, response.body_len), host::pairs(response.headers, response.header_count)) };
    let result = of_exchange(exchange).and_then(|(dispatch, polls)| {
        if dispatch.kind == SV_DISPATCH_INCLUDE {
            return dispatch.exchange.write(&dispatch, body, polls).map(|_| ());
        }
        {
            let mut inner = lock(&dispatch.exchange.inner);
            if inner.committed || inner.finished {
                return Err(say(&mut inner, SV_E_STATE, "the response is committed"));
            }
            inner.status = check_status(response.status)?;
            for header in headers {
                // SAFETY: the caller's promise.
                let value = unsafe { host::bytes(header.value) }.unwrap_or_default();
                set_response_header(&mut inner, SV_HEADER_ADD, &text(header.name), value)?;
            }
            inner.written = response.body_len as u64;
        }
        dispatch.exchange.respond(&dispatch, body);
        Ok(())
    });
    if result.is_ok() {
        if let Some(release) = response.release.filter(|_| response.body_kind == SV_BODY_OWNED) {
            // SAFETY: taken over, and released once.
            unsafe { release(response.release_arg) };
        }
    }
    status(result)
}

fn check_status(status: u32) -> Status<u16> {
    u16::try_from(status).ok().filter(|status| (200..=599).contains(status)).ok_or(SV_E_ARG)
}

fn set_response_header(inner: &mut Inner, how: i32, name: &str, value: &[u8]) -> Status {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(say(inner, SV_E_ARG, &format!("{name:?} is not the name of a header")));
    }
    if value.iter().any(|&byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
        return Err(say(inner, SV_E_ARG, &format!("the value of the header {name} has a control character")));
    }
    let name = name.to_ascii_lowercase();
    let text = String::from_utf8_lossy(value);
    match &*name {
        "connection" | "transfer-encoding" | "upgrade" | "keep-alive" => {
            return Err(say(inner, SV_E_ARG, &format!("the header {name} is the server's")));
        }
        "content-type" => {
            inner.content_type = (how != SV_HEADER_REMOVE).then(|| text.into_owned());
            return Ok(());
        }
        "content-length" => {
            inner.content_length = match how {
                SV_HEADER_REMOVE => None,
                _ => Some(text.trim().parse().map_err(|_| SV_E_ARG)?),
            };
            return Ok(());
        }
        _ => {}
    }
    if how != SV_HEADER_ADD {
        inner.headers.retain(|(found, _)| *found != name);
    }
    if how != SV_HEADER_REMOVE {
        inner.headers.push((name, value.to_vec()));
    }
    Ok(())
}

pub(super) unsafe extern "C" fn set_status(exchange: *mut sv_exchange, status: u32) -> sv_status {
    head(exchange, |_, inner| {
        inner.status = check_status(status)?;
        Ok(())
    })
}

pub(super) unsafe extern "C" fn set_header(
    exchange: *mut sv_exchange,
    how: i32,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    // SAFETY: the caller's promise.
    head(exchange, |_, inner| unsafe { set_response_header(inner, how, name(ptr, len)?, bytes(value, value_len)) })
}

pub(super) unsafe extern "C" fn response_header(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    nth: u32,
    value: *mut sv_str,
) -> sv_status {
    with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let mut headers = inner.headers.clone();
        headers.extend(inner.content_type.iter().map(|found| ("content-type".to_owned(), found.clone().into_bytes())));
        let length = inner.content_length.map(|length| ("content-length".to_owned(), length.to_string().into_bytes()));
        headers.extend(length);
        // SAFETY: as above.
        unsafe { put(value, find(dispatch, headers, |name| name.eq_ignore_ascii_case(wanted), nth)?) }
    })
}

pub(super) unsafe extern "C" fn response_status(exchange: *mut sv_exchange, out: *mut u32) -> sv_status {
    // SAFETY: the caller's promise.
    with(exchange, |_, inner| unsafe { put(out, inner.status.into()) })
}

pub(super) unsafe extern "C" fn set_content_type(exchange: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    head(exchange, |_, inner| {
        // SAFETY: the caller's promise.
        let found = unsafe { name(ptr, len) }?;
        inner.content_type = Some(found).filter(|found| !found.is_empty()).map(str::to_owned);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn set_charset(exchange: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    head(exchange, |_, inner| {
        // SAFETY: the caller's promise.
        let found = unsafe { name(ptr, len) }?;
        inner.charset = Some(found).filter(|found| !found.is_empty()).map(str::to_owned);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn set_content_length(exchange: *mut sv_exchange, bytes: u64) -> sv_status {
    head(exchange, |_, inner| {
        inner.content_length = Some(bytes);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn set_buffer_size(exchange: *mut sv_exchange, bytes: usize) -> sv_status {
    head(exchange, |_, inner| {
        if inner.written > 0 {
            return Err(SV_E_STATE);
        }
        inner.buffer_bytes_max = bytes;
        Ok(())
    })
}

pub(super) unsafe extern "C" fn set_cookie(exchange: *mut sv_exchange, cookie: *const sv_cookie) -> sv_status {
    // SAFETY: the caller's promise.
    let Some(cookie) = (unsafe { cookie.as_ref() }) else { return SV_E_ARG };
    head(exchange, |_, inner| {
        let (name, value) = (text(cookie.name), text(cookie.value));
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(say(inner, SV_E_ARG, &format!("{name:?} is not the name of a cookie")));
        }
        // UTF-8 and quotes around it, as the server takes them.
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(&value);
        if !unquoted.bytes().all(|byte| byte > b' ' && byte != 0x7f && !b"\",;\\".contains(&byte)) {
            return Err(say(
                inner,
                SV_E_ARG,
                &format!("the value of the cookie {name} has a character that is not allowed"),
            ));
        }
        let mut line = format!("{name}={value}");
        for (name, value) in [("Path", cookie.path), ("Domain", cookie.domain)] {
            let value = text(value);
            if !value.is_empty() {
                line.push_str(&format!("; {name}={value}"));
            }
        }
        if cookie.flags & SV_COOKIE_MAX_AGE != 0 {
            line.push_str(&format!("; Max-Age={}", cookie.max_age.max(0)));
        }
        if cookie.flags & SV_COOKIE_SECURE != 0 {
            line.push_str("; Secure");
        }
        if cookie.flags & SV_COOKIE_HTTP_ONLY != 0 {
            line.push_str("; HttpOnly");
        }
        // SAFETY: the caller's promise.
        for attribute in unsafe { host::pairs(cookie.attributes, cookie.attribute_count) } {
            line.push_str(&format!("; {}", text(attribute.name)));
            let value = text(attribute.value);
            if !value.is_empty() {
                line.push_str(&format!("={value}"));
            }
        }
        inner.headers.push(("set-cookie".to_owned(), line.into_bytes()));
        Ok(())
    })
}

pub(super) unsafe extern "C" fn set_trailer(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    with(exchange, |_, inner| {
        // SAFETY: the caller's promise.
        let (name, value) = unsafe { (name(ptr, len)?.to_ascii_lowercase(), bytes(value, value_len).to_vec()) };
        inner.trailers.push((name, value));
        Ok(())
    })
}

pub(super) unsafe extern "C" fn informational(
    exchange: *mut sv_exchange,
    status: u32,
    _: *const sv_pair,
    _: usize,
) -> sv_status {
    head(exchange, |_, inner| {
        inner.informational.push(u16::try_from(status).ok().filter(|status| *status == 103).ok_or(SV_E_ARG)?);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn write(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    taken: *mut usize,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        // SAFETY: the caller's promise.
        let count = dispatch.exchange.write(&dispatch, unsafe { bytes(ptr, len) }, polls)?;
        if taken.is_null() {
            return if count == len { Ok(()) } else { Err(SV_E_ARG) };
        }
        // SAFETY: as above.
        unsafe { put(taken, count) }
    }))
}

pub(super) unsafe extern "C" fn write_owned(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
) -> sv_status {
    let result = of_exchange(exchange).and_then(|(dispatch, polls)| {
        // SAFETY: the caller's promise.
        let owned = unsafe { bytes(ptr, len) };
        // All or nothing: it waits like a piece, and then goes whole.
        let turn = dispatch.exchange.write(&dispatch, &owned[..owned.len().min(1)], polls)?;
        dispatch.exchange.write(&dispatch, &owned[turn..], false).map(|_| ())
    });
    if let (Ok(()), Some(release)) = (result, release) {
        // SAFETY: taken over, and released once.
        unsafe { release(argument) };
    }
    status(result)
}

pub(super) unsafe extern "C" fn flush(exchange: *mut sv_exchange) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        dispatch.exchange.commit();
        if dispatch.exchange.is_gone() { Err(SV_E_CLOSED) } else { Ok(()) }
    }))
}

pub(super) unsafe extern "C" fn reset(exchange: *mut sv_exchange) -> sv_status {
    head(exchange, |dispatch, inner| {
        dispatch.exchange.reset_buffer(inner);
        inner.headers.clear();
        (inner.status, inner.content_type, inner.charset, inner.content_length) = (200, None, None, None);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn reset_buffer(exchange: *mut sv_exchange) -> sv_status {
    head(exchange, |dispatch, inner| {
        dispatch.exchange.reset_buffer(inner);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn send_error(
    exchange: *mut sv_exchange,
    status: u32,
    ptr: *const u8,
    len: usize,
) -> sv_status {
    finish(exchange, |_, inner| {
        let status = check_status(status)?;
        if status < 400 {
            return Err(SV_E_ARG);
        }
        // SAFETY: the caller's promise.
        let said = String::from_utf8_lossy(unsafe { bytes(ptr, len) }).into_owned();
        (inner.error, inner.finished) = (Some((status, said)), true);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn redirect(
    exchange: *mut sv_exchange,
    status: u32,
    ptr: *const u8,
    len: usize,
) -> sv_status {
    finish(exchange, |dispatch, inner| {
        let status = match status {
            0 => 302,
            300..=303 | 305..=399 => status as u16,
            _ => return Err(SV_E_ARG),
        };
        // SAFETY: the caller's promise.
        set_response_header(inner, SV_HEADER_SET, "location", unsafe { bytes(ptr, len) })?;
        dispatch.exchange.reset_buffer(inner);
        (inner.status, inner.finished) = (status, true);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn committed(exchange: *mut sv_exchange) -> i32 {
    match of_exchange(exchange) {
        Ok((dispatch, _)) => {
            let inner = lock(&dispatch.exchange.inner);
            i32::from(inner.committed)
        }
        Err(status) => status,
    }
}

pub(super) unsafe extern "C" fn encode_url(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    out: *mut sv_str,
) -> sv_status {
    // Ids travel in cookies here.
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        unsafe { put(out, dispatch.exchange.arena.bytes(bytes(ptr, len))) }
    }))
}
