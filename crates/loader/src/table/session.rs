//! The functions of the table on sessions.

use std::ptr::{null, null_mut};

use serval_abi::*;

use super::{Out, argument, bytes, on_exchange, on_session, text};
use crate::exchange::Answer;
use crate::slots;

/// LIMIT: bytes of an attribute's name.
const NAME_BYTES_MAX: usize = 64 << 10;

pub unsafe extern "C" fn session(exchange: *mut sv_exchange, create: i32, out: *mut *mut sv_session) -> sv_status {
    // SAFETY: the library's promise (servlet.h 3, 4), here and in all functions below.
    let out = unsafe { Out::new(out, null_mut()) };
    let handle = slots::session_of(exchange);
    on_exchange("session", exchange, |frame| {
        out.checked()?;
        if frame.exchange.session(create != 0)? { out.put(handle) } else { Ok(SV_NONE) }
    })
}

pub unsafe extern "C" fn session_info(exchange: *mut sv_exchange, out: *mut *const sv_session_info) -> sv_status {
    // SAFETY: as in `session`.
    let out = unsafe { Out::new(out, null()) };
    on_exchange("session_info", exchange, |frame| {
        out.checked()?;
        let info = frame.exchange.session_info();
        let view = sv_session_info {
            struct_size: size_of::<sv_session_info>() as u32,
            is_new: info.is_new.into(),
            id: frame.memory.keep_optional(info.id.as_deref())?,
            requested_id: frame.memory.keep_optional(info.requested_id.as_deref())?,
            requested_by_cookie: info.requested_by_cookie.into(),
            requested_by_url: info.requested_by_url.into(),
            requested_valid: info.requested_valid.into(),
            reserved: 0,
            created: info.created,
            accessed: info.accessed,
            max_inactive: info.max_inactive,
        };
        out.put(frame.memory.keep_value(view)?)
    })
}

/// # Safety
/// As [`text`].
unsafe fn name<'a>(ptr: *const u8, len: usize) -> Answer<&'a str> {
    // SAFETY: the caller's promise.
    let name = unsafe { text(ptr, len) }?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(argument("the name of an attribute is empty, or longer than 64 KiB"));
    }
    Ok(name)
}

pub unsafe extern "C" fn session_attribute(
    session: *mut sv_session,
    attribute: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    // SAFETY: as in `session`.
    let value = unsafe { Out::new(value, sv_str::ABSENT) };
    on_session("session_attribute", session, |session, memory| {
        value.checked()?;
        // SAFETY: as in `session`.
        match session.session_attribute(unsafe { name(attribute, len) }?)? {
            Some(found) => value.put(memory.keep(&found)?),
            None => Ok(SV_NONE),
        }
    })
}

pub unsafe extern "C" fn session_attributes(
    session: *mut sv_session,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    // SAFETY: as in `session`.
    let (out, count) = unsafe { (Out::new(out, null()), Out::new(count, 0)) };
    on_session("session_attributes", session, |session, memory| {
        out.checked()?;
        count.checked()?;
        let all = session.session_attributes()?;
        let (pairs, len) = memory.keep_pairs(all.iter().map(|(name, value)| (name.as_str(), &value[..])))?;
        out.put(pairs)?;
        count.put(len)
    })
}

pub unsafe extern "C" fn session_set_attribute(
    session: *mut sv_session,
    attribute: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    on_session("session_set_attribute", session, |session, _| {
        // SAFETY: as in `session`.
        let attribute = unsafe { name(attribute, len) }?;
        // SAFETY: as in `session`.
        let given = unsafe { bytes(value, value_len) }?;
        session.set_session_attribute(attribute, (!value.is_null()).then_some(given))?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn session_change_id(session: *mut sv_session, id: *mut sv_str) -> sv_status {
    // SAFETY: as in `session`.
    let id = unsafe { Out::new(id, sv_str::ABSENT) };
    on_session("session_change_id", session, |session, memory| {
        id.checked()?;
        let new = session.change_session_id()?;
        id.put(memory.keep(new.as_bytes())?)
    })
}

pub unsafe extern "C" fn session_set_max_inactive(session: *mut sv_session, seconds: i64) -> sv_status {
    on_session("session_set_max_inactive", session, |session, _| session.set_max_inactive(seconds).map(|()| SV_OK))
}

pub unsafe extern "C" fn session_invalidate(session: *mut sv_session) -> sv_status {
    on_session("session_invalidate", session, |session, _| session.invalidate_session().map(|()| SV_OK))
}
