//! The table's functions for sessions.

use std::time::SystemTime;

use serval_abi::{
    SV_EVENT_SESSION_ATTRIBUTE, SV_EVENT_SESSION_DESTROYED, SV_EVENT_SESSION_ID_CHANGED, SV_NONE, sv_exchange, sv_pair,
    sv_session, sv_session_info, sv_status, sv_str,
};

use super::{change, name, of_exchange, of_session, put, put_list, set, status};
use crate::host;
use crate::test::exchange::Exchange;
use crate::test::session::{COOKIE, Session};
use crate::test::webapp::{Told, lock};

pub(super) unsafe extern "C" fn session(
    exchange: *mut sv_exchange,
    create: i32,
    out: *mut *mut sv_session,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        let handle = dispatch.exchange.session(&dispatch, create != 0)?.ok_or(SV_NONE)?;
        // SAFETY: the caller's promise.
        unsafe { put(out, std::ptr::without_provenance_mut(handle)) }
    }))
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) unsafe extern "C" fn session_info(
    exchange: *mut sv_exchange,
    out: *mut *const sv_session_info,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        dispatch.exchange.session(&dispatch, false)?;
        let (exchange, arena) = (&dispatch.exchange, &dispatch.exchange.arena);
        let session = lock(&exchange.inner).session.as_ref().map(|(_, session)| session.clone());
        let data = session.as_ref().map(|session| lock(&session.data)).filter(|data| data.valid);
        let requested = exchange.cookies().into_iter().find(|(name, _)| name == COOKIE).map(|(_, id)| id);
        let info = sv_session_info {
            struct_size: size_of::<sv_session_info>() as u32,
            is_new: data.as_ref().is_some_and(|data| data.is_new).into(),
            id: arena.optional(data.as_ref().map(|data| &*data.id)),
            requested_id: arena.optional(requested.as_deref()),
            requested_by_cookie: requested.is_some().into(),
            requested_by_url: 0,
            requested_valid: (requested.is_some() && data.as_ref().is_some_and(|data| !data.is_new)).into(),
            reserved: 0,
            created: data.as_ref().map_or(0, |data| milliseconds(data.created)),
            accessed: data.as_ref().map_or(0, |data| milliseconds(data.accessed)),
            max_inactive: data.as_ref().map_or(0, |data| data.max_inactive_seconds),
        };
        // SAFETY: the caller's promise.
        unsafe { put(out, arena.list(vec![info])) }
    }))
}

pub(super) unsafe extern "C" fn session_attribute(
    session: *mut sv_session,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    status(of_session(session).and_then(|(session, exchange)| {
        let data = lock(&session.data);
        // SAFETY: the caller's promise.
        let found = data.attributes.get(unsafe { name(ptr, len) }?).ok_or(SV_NONE)?;
        // SAFETY: as above.
        unsafe { put(value, exchange.arena.bytes(found)) }
    }))
}

pub(super) unsafe extern "C" fn session_attributes(
    session: *mut sv_session,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    status(of_session(session).and_then(|(session, exchange)| {
        let pairs = exchange.arena.pairs(&lock(&session.data).attributes);
        // SAFETY: the caller's promise.
        unsafe { put_list(pairs, out, count) }
    }))
}

pub(super) unsafe extern "C" fn session_set_attribute(
    handle: *mut sv_session,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    status(of_session(handle).and_then(|(session, exchange)| {
        // SAFETY: the caller's promise.
        let (name, value) = unsafe { (name(ptr, len)?, host::bytes(sv_str { ptr: value, len: value_len })) };
        let before = set(&mut lock(&session.data).attributes, name, value);
        let told = change(&exchange.arena, name, value, before);
        exchange.live.tell(SV_EVENT_SESSION_ATTRIBUTE, &of(&exchange, handle, &session, told));
        Ok(())
    }))
}

fn of(exchange: &Exchange, handle: *mut sv_session, session: &Session, told: Told) -> Told {
    Told { session: handle.addr(), session_id: exchange.arena.text(&lock(&session.data).id), ..told }
}

pub(super) unsafe extern "C" fn session_change_id(handle: *mut sv_session, id: *mut sv_str) -> sv_status {
    status(of_session(handle).and_then(|(session, exchange)| {
        let before = session.change_id(&exchange.webapp);
        exchange.send_session_cookie(&mut lock(&exchange.inner), &session);
        let told = Told { old_value: exchange.arena.text(&before), ..Told::default() };
        let told = of(&exchange, handle, &session, told);
        exchange.live.tell(SV_EVENT_SESSION_ID_CHANGED, &told);
        // SAFETY: the caller's promise.
        unsafe { put(id, told.session_id) }
    }))
}

pub(super) unsafe extern "C" fn session_set_max_inactive(session: *mut sv_session, seconds: i64) -> sv_status {
    status(of_session(session).map(|(session, _)| lock(&session.data).max_inactive_seconds = seconds))
}

pub(super) unsafe extern "C" fn session_invalidate(handle: *mut sv_session) -> sv_status {
    status(of_session(handle).map(|(session, exchange)| {
        // Attributes may still be read in the event.
        let told = of(&exchange, handle, &session, Told::default());
        exchange.live.tell(SV_EVENT_SESSION_DESTROYED, &told);
        session.invalidate(&exchange.webapp);
    }))
}
