//! The functions of the table that read the request: its head, parameters, cookies, attributes, who sent it, and its body.

use std::ptr::null;

use bytes::Bytes;
use serval_abi::*;

use super::{Frame, Out, argument, by_name, bytes, not_yet, on_exchange, text};
use crate::exchange::{Answer, Fault};

pub unsafe extern "C" fn request(exchange: *mut sv_exchange) -> *const sv_request {
    let mut view = null();
    on_exchange("request", exchange, |frame| {
        view = frame.request()?;
        Ok(SV_OK)
    });
    view
}

pub unsafe extern "C" fn tls(exchange: *mut sv_exchange) -> *const sv_tls {
    on_exchange("tls", exchange, |_| Ok(SV_OK));
    null()
}

/// The nth value of a name in an array of pairs that the frame made.
///
/// # Safety
/// `pairs` came from the frame that still lives.
unsafe fn nth(pairs: (*const sv_pair, usize), name: &str, nth: usize) -> Option<sv_str> {
    // SAFETY: the array lies in the frame's arena.
    let pairs = unsafe { std::slice::from_raw_parts(pairs.0, pairs.1) };
    let mut left = nth;
    for pair in pairs {
        // SAFETY: so does its text.
        let known = unsafe { std::slice::from_raw_parts(pair.name.ptr, pair.name.len) };
        if known == name.as_bytes() {
            if left == 0 {
                return Some(pair.value);
            }
            left -= 1;
        }
    }
    None
}

pub unsafe extern "C" fn header(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    let find = |frame: &mut Frame<'static>, name: &str| {
        Ok(frame.exchange.head().headers.get(name).map(|found| sv_str::from_bytes(found.as_bytes())))
    };
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { by_name("header", exchange, (name, len), value, find) }
}

pub unsafe extern "C" fn parameter(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    index: u32,
    value: *mut sv_str,
) -> sv_status {
    let find = |frame: &mut Frame<'static>, name: &str| {
        let all = frame.parameters()?;
        // SAFETY: made by this frame.
        Ok(unsafe { nth(all, name, index as usize) })
    };
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { by_name("parameter", exchange, (name, len), value, find) }
}

/// # Safety
/// As [`Out::new`], for both.
unsafe fn put_pairs(
    function: &'static str,
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
    ask: impl FnOnce(&mut Frame<'static>) -> Answer<(*const sv_pair, usize)>,
) -> sv_status {
    // SAFETY: the caller's promise.
    let (out, count) = unsafe { (Out::new(out, null()), Out::new(count, 0)) };
    on_exchange(function, exchange, |frame| {
        out.checked()?;
        count.checked()?;
        let (pairs, len) = ask(frame)?;
        out.put(pairs)?;
        count.put(len)
    })
}

pub unsafe extern "C" fn parameters(
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { put_pairs("parameters", exchange, out, count, Frame::parameters) }
}

pub unsafe extern "C" fn path_parameter(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    let find = |_: &mut Frame<'static>, _: &str| Ok(None);
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { by_name("path_parameter", exchange, (name, len), value, find) }
}

pub unsafe extern "C" fn cookie(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    let find = |frame: &mut Frame<'static>, name: &str| {
        let all = frame.cookies()?;
        // SAFETY: made by this frame.
        Ok(unsafe { nth(all, name, 0) })
    };
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { by_name("cookie", exchange, (name, len), value, find) }
}

pub unsafe extern "C" fn cookies(exchange: *mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { put_pairs("cookies", exchange, out, count, Frame::cookies) }
}

pub unsafe extern "C" fn part_count(exchange: *mut sv_exchange, count: *mut usize) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let _absent = unsafe { Out::new(count, 0) };
    not_yet("part_count", exchange)
}

pub unsafe extern "C" fn part(exchange: *mut sv_exchange, _: usize, out: *mut *const sv_part) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let _absent = unsafe { Out::new(out, null()) };
    not_yet("part", exchange)
}

pub unsafe extern "C" fn attribute(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    let find = |frame: &mut Frame<'static>, name: &str| {
        frame.exchange.attribute(name).map(|found| frame.keep(found)).transpose()
    };
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { by_name("attribute", exchange, (name, len), value, find) }
}

pub unsafe extern "C" fn attributes(
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe {
        put_pairs("attributes", exchange, out, count, |frame| {
            let mut kept = Vec::new();
            for (name, value) in frame.exchange.attributes() {
                kept.push(sv_pair { name: frame.keep(name.as_bytes())?, value: frame.keep(value)? });
            }
            frame.keep_all(&kept)
        })
    }
}

pub unsafe extern "C" fn set_attribute(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    on_exchange("set_attribute", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3, 4).
        let name = unsafe { text(name, len) }?;
        if name.starts_with("servlet.") {
            return Err(argument("attributes whose names begin with `servlet.` are the server's"));
        }
        // SAFETY: the library's promise (servlet.h 3, 4).
        let given = unsafe { bytes(value, value_len) }?;
        frame.exchange.set_attribute(name, (!value.is_null()).then_some(given))?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn principal(exchange: *mut sv_exchange, name: *mut sv_str, method: *mut sv_str) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let (name, method) = unsafe { (Out::new(name, sv_str::ABSENT), Out::new(method, sv_str::ABSENT)) };
    on_exchange("principal", exchange, |_| {
        name.checked()?;
        method.checked()?;
        Ok(SV_NONE)
    })
}

pub unsafe extern "C" fn in_role(exchange: *mut sv_exchange, role: *const u8, len: usize) -> sv_status {
    on_exchange("in_role", exchange, |_| {
        // SAFETY: the library's promise (servlet.h 3, 4).
        unsafe { text(role, len) }?;
        Ok(SV_NONE)
    })
}

pub unsafe extern "C" fn login(
    exchange: *mut sv_exchange,
    _: *const u8,
    _: usize,
    _: *const u8,
    _: usize,
) -> sv_status {
    not_yet("login", exchange)
}

pub unsafe extern "C" fn logout(exchange: *mut sv_exchange) -> sv_status {
    not_yet("logout", exchange)
}

// ---------------------------------------------------------------------------------------------- the body

pub unsafe extern "C" fn read(
    exchange: *mut sv_exchange,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let len = unsafe { Out::new(len, 0) };
    on_exchange("read", exchange, |frame| {
        len.checked()?;
        if buffer.is_null() || capacity == 0 || capacity > isize::MAX as usize {
            return Err(argument("the buffer is NULL, or its capacity is 0 or over PTRDIFF_MAX"));
        }
        if !frame.fill_chunk()? {
            return Ok(SV_END);
        }
        let given = frame.chunk.split_to(frame.chunk.len().min(capacity));
        // SAFETY: `given` is not longer than the capacity, which the library promises to be writable.
        unsafe { std::ptr::copy_nonoverlapping(given.as_ptr(), buffer, given.len()) };
        len.put(given.len())
    })
}

pub unsafe extern "C" fn read_chunk(exchange: *mut sv_exchange, chunk: *mut sv_str) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let chunk = unsafe { Out::new(chunk, sv_str::ABSENT) };
    on_exchange("read_chunk", exchange, |frame| {
        chunk.checked()?;
        if !frame.fill_chunk()? {
            return Ok(SV_END);
        }
        frame.lent = std::mem::take(&mut frame.chunk);
        chunk.put(sv_str::from_bytes(&frame.lent))
    })
}

pub unsafe extern "C" fn read_all(exchange: *mut sv_exchange, bytes_max: usize, body: *mut sv_str) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let body = unsafe { Out::new(body, sv_str::ABSENT) };
    on_exchange("read_all", exchange, |frame| {
        body.checked()?;
        if frame.body.is_none() {
            frame.body = Some(rest_of_body(frame, bytes_max)?);
        }
        let kept = frame.body.as_deref().unwrap_or_default();
        if kept.len() > bytes_max {
            return Err(Fault::new(SV_E_LIMIT, format!("the body is longer than {bytes_max} bytes")));
        }
        // The frame keeps it.
        body.put(sv_str::from_bytes(kept))
    })
}

/// The rest of the body in one piece; not copied when it came in one.
fn rest_of_body(frame: &mut Frame<'_>, bytes_max: usize) -> Answer<Bytes> {
    let too_long = |frame: &mut Frame<'_>| {
        frame.chunk.clear();
        frame.exchange.refuse_body(format!("the body is longer than the {bytes_max} bytes that the servlet takes"))
    };
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while frame.fill_chunk()? {
        let chunk = std::mem::take(&mut frame.chunk);
        if first.len() + all.len() + chunk.len() > bytes_max {
            return Err(too_long(frame));
        }
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

pub unsafe extern "C" fn request_trailers(
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let _absent = unsafe { (Out::new(out, null()), Out::new(count, 0)) };
    not_yet("request_trailers", exchange)
}
