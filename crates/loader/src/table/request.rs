//! The functions of the table that read the request: its head, parameters, cookies, attributes, who sent it, and its body.

use std::ptr::null;

use bytes::Bytes;
use serval_abi::*;

use super::{Frame, Memory, Out, argument, by_name, bytes, on_exchange, text};
use crate::exchange::{Answer, Fault, Part, PartContent};

pub unsafe extern "C" fn request(exchange: *mut sv_exchange) -> *const sv_request {
    let mut view = null();
    on_exchange("request", exchange, |frame| {
        view = frame.request()?;
        Ok(SV_OK)
    });
    view
}

pub unsafe extern "C" fn tls(exchange: *mut sv_exchange) -> *const sv_tls {
    let mut facts = null();
    on_exchange("tls", exchange, |frame| {
        facts = frame.tls()?;
        Ok(SV_OK)
    });
    facts
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
    let find = |frame: &mut Frame<'_>, name: &str| {
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
    let find = |frame: &mut Frame<'_>, name: &str| {
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
    ask: impl FnOnce(&mut Frame<'_>) -> Answer<(*const sv_pair, usize)>,
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
    unsafe { put_pairs("parameters", exchange, out, count, |frame| frame.parameters()) }
}

pub unsafe extern "C" fn path_parameter(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    let find = |frame: &mut Frame<'_>, name: &str| {
        let found = frame.exchange.path_parameter(name).map(|value| frame.memory.keep(value.as_bytes()));
        found.transpose()
    };
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { by_name("path_parameter", exchange, (name, len), value, find) }
}

pub unsafe extern "C" fn cookie(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    let find = |frame: &mut Frame<'_>, name: &str| {
        let all = frame.cookies()?;
        // SAFETY: made by this frame.
        Ok(unsafe { nth(all, name, 0) })
    };
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { by_name("cookie", exchange, (name, len), value, find) }
}

pub unsafe extern "C" fn cookies(exchange: *mut sv_exchange, out: *mut *const sv_pair, count: *mut usize) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe { put_pairs("cookies", exchange, out, count, |frame| frame.cookies()) }
}

impl Frame<'_> {
    /// The views of the parts; SV_NONE, as `None`, for a body of another type.
    fn parts(&mut self) -> Answer<Option<(*const sv_part, usize)>> {
        if self.memory.parts.is_none() {
            let memory = &*self.memory;
            let Some(parts) = self.exchange.parts()? else { return Ok(None) };
            let views: Answer<Vec<sv_part>> = parts.iter().map(|part| view_of(part, memory)).collect();
            let views = self.memory.keep_all(&views?)?;
            self.memory.parts = Some(views);
        }
        Ok(self.memory.parts)
    }
}

fn view_of(part: &Part, memory: &Memory) -> Answer<sv_part> {
    let headers = part.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let (headers, header_count) = memory.keep_pairs(headers)?;
    let (path, data) = match &part.content {
        // They stay where they are as long as the exchange.
        PartContent::Data(data) => (sv_str::ABSENT, sv_str::from_bytes(data)),
        PartContent::File(path) => (sv_str::new(path), sv_str::ABSENT),
    };
    Ok(sv_part {
        struct_size: size_of::<sv_part>() as u32,
        header_count: header_count as u32,
        headers,
        name: memory.keep(part.name.as_bytes())?,
        file_name: memory.keep_optional(part.file_name.as_deref())?,
        content_type: memory.keep_optional(part.content_type.as_deref())?,
        path,
        data,
        size: part.size,
    })
}

pub unsafe extern "C" fn part_count(exchange: *mut sv_exchange, count: *mut usize) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let count = unsafe { Out::new(count, 0) };
    on_exchange("part_count", exchange, |frame| {
        count.checked()?;
        match frame.parts()? {
            Some((_, len)) => count.put(len),
            None => Ok(SV_NONE),
        }
    })
}

pub unsafe extern "C" fn part(exchange: *mut sv_exchange, index: usize, out: *mut *const sv_part) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let out = unsafe { Out::new(out, null()) };
    on_exchange("part", exchange, |frame| {
        out.checked()?;
        match frame.parts()? {
            // SAFETY: the index is inside of the array, which lies in the dispatch's memory.
            Some((parts, len)) if index < len => out.put(unsafe { parts.add(index) }),
            _ => Ok(SV_NONE),
        }
    })
}

pub unsafe extern "C" fn attribute(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    let find = |frame: &mut Frame<'_>, name: &str| {
        frame.exchange.attribute(name).map(|found| frame.memory.keep(found)).transpose()
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
            let all = frame.exchange.attributes();
            frame.memory.keep_pairs(all.into_iter())
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
    on_exchange("principal", exchange, |frame| {
        name.checked()?;
        method.checked()?;
        let Some((who, how)) = frame.exchange.principal() else { return Ok(SV_NONE) };
        let (who, how) = (frame.memory.keep(who.as_bytes())?, frame.memory.keep(how.as_bytes())?);
        method.put(how)?;
        name.put(who)
    })
}

pub unsafe extern "C" fn in_role(exchange: *mut sv_exchange, role: *const u8, len: usize) -> sv_status {
    on_exchange("in_role", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3, 4).
        let role = unsafe { text(role, len) }?;
        Ok(if frame.exchange.in_role(role) { SV_OK } else { SV_NONE })
    })
}

pub unsafe extern "C" fn login(
    exchange: *mut sv_exchange,
    name: *const u8,
    len: usize,
    password: *const u8,
    password_len: usize,
) -> sv_status {
    on_exchange("login", exchange, |frame| {
        // SAFETY: the library's promise (servlet.h 3, 4).
        let name = unsafe { text(name, len) }?;
        // SAFETY: as above.
        let password = unsafe { text(password, password_len) }?;
        Ok(if frame.exchange.login(name, password)? { SV_OK } else { SV_NONE })
    })
}

pub unsafe extern "C" fn logout(exchange: *mut sv_exchange) -> sv_status {
    on_exchange("logout", exchange, |frame| frame.exchange.logout().map(|()| SV_OK))
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
        let Some(given) = frame.exchange.read_chunk(capacity)? else { return Ok(SV_END) };
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
        let Some(lent) = frame.exchange.read_chunk(usize::MAX)? else { return Ok(SV_END) };
        frame.memory.lent = lent;
        chunk.put(sv_str::from_bytes(&frame.memory.lent))
    })
}

pub unsafe extern "C" fn read_all(exchange: *mut sv_exchange, bytes_max: usize, body: *mut sv_str) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    let body = unsafe { Out::new(body, sv_str::ABSENT) };
    on_exchange("read_all", exchange, |frame| {
        body.checked()?;
        if frame.memory.body.is_none() {
            frame.memory.body = Some(rest_of_body(frame, bytes_max)?);
        }
        let kept = frame.memory.body.as_deref().unwrap_or_default();
        if kept.len() > bytes_max {
            return Err(Fault::new(SV_E_LIMIT, format!("the body is longer than {bytes_max} bytes")));
        }
        // The dispatch keeps it.
        body.put(sv_str::from_bytes(kept))
    })
}

/// The rest of the body in one piece; not copied when it came in one. In a poll what has come is kept for the next time.
fn rest_of_body(frame: &mut Frame<'_>, bytes_max: usize) -> Answer<Bytes> {
    while let Some(chunk) = frame.exchange.read_chunk(usize::MAX)? {
        let len: usize = frame.memory.pieces.iter().map(Bytes::len).sum();
        if len + chunk.len() > bytes_max {
            frame.memory.pieces = Vec::new();
            let text = format!("the body is longer than the {bytes_max} bytes that the servlet takes");
            return Err(frame.exchange.refuse_body(text));
        }
        // Few large pieces, so that their sum is soon found.
        match frame.memory.pieces.last_mut() {
            Some(last) if last.len() < chunk.len() || last.len() < 64 << 10 => {
                *last = [&last[..], &chunk].concat().into()
            }
            _ => frame.memory.pieces.push(chunk),
        }
    }
    let mut pieces = std::mem::take(&mut frame.memory.pieces);
    Ok(if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() })
}

pub unsafe extern "C" fn request_trailers(
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4).
    unsafe {
        put_pairs("request_trailers", exchange, out, count, |frame| {
            let trailers = frame.exchange.trailers()?.iter();
            frame.memory.keep_pairs(trailers.map(|(name, value)| (name.as_str(), value.as_bytes())))
        })
    }
}
