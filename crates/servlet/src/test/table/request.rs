//! The table's functions for the request, its parameters, parts and body.

use std::ptr::null;

use serval_abi::{
    SV_E_ARG, SV_E_IO, SV_E_STATE, SV_END, SV_EVENT_REQUEST_ATTRIBUTE, SV_NONE, sv_exchange, sv_pair, sv_part,
    sv_request, sv_status, sv_str, sv_tls,
};

use super::{change, find, name, of_exchange, put, put_list, say, set, status, with};
use crate::host;
use crate::test::webapp::{Told, lock};

pub(super) unsafe extern "C" fn request(exchange: *mut sv_exchange) -> *const sv_request {
    of_exchange(exchange).map_or(null(), |(dispatch, _)| dispatch.head.0)
}

pub(super) unsafe extern "C" fn tls(exchange: *mut sv_exchange) -> *const sv_tls {
    of_exchange(exchange).map_or(null(), |(dispatch, _)| {
        let Some((protocol, certificates)) = &dispatch.exchange.sent.tls else { return null() };
        let arena = &dispatch.exchange.arena;
        let certificates: Vec<sv_str> = certificates.iter().map(|certificate| arena.bytes(certificate)).collect();
        arena.list(vec![sv_tls {
            struct_size: size_of::<sv_tls>() as u32,
            certificate_count: u32::try_from(certificates.len()).unwrap_or(u32::MAX),
            certificates: arena.list(certificates),
            protocol: arena.text(protocol),
            cipher: arena.text("TLS_AES_256_GCM_SHA384"),
            server_name: arena.text("localhost"),
        }])
    })
}

pub(super) unsafe extern "C" fn header(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let headers = dispatch.exchange.sent.headers.clone();
        // SAFETY: as above.
        unsafe { put(value, find(&dispatch, headers, |name| name.eq_ignore_ascii_case(wanted), 0)?) }
    }))
}

pub(super) unsafe extern "C" fn parameter(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    nth: u32,
    value: *mut sv_str,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let all = dispatch.exchange.parameters(&dispatch, polls)?;
        // SAFETY: as above.
        unsafe { put(value, find(&dispatch, all, |name| name == wanted, nth)?) }
    }))
}

pub(super) unsafe extern "C" fn parameters(
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        let all = dispatch.exchange.parameters(&dispatch, polls)?;
        // SAFETY: the caller's promise.
        unsafe { put_list(dispatch.exchange.arena.pairs(all), out, count) }
    }))
}

pub(super) unsafe extern "C" fn path_parameter(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let values = dispatch.found.as_ref().map(|found| found.values.clone()).unwrap_or_default();
        // SAFETY: as above.
        unsafe { put(value, find(&dispatch, values, |name| name == wanted, 0)?) }
    }))
}

pub(super) unsafe extern "C" fn cookie(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        // SAFETY: as above.
        unsafe { put(value, find(&dispatch, dispatch.exchange.cookies(), |name| name == wanted, 0)?) }
    }))
}

pub(super) unsafe extern "C" fn cookies(
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        let pairs = dispatch.exchange.arena.pairs(dispatch.exchange.cookies());
        // SAFETY: the caller's promise.
        unsafe { put_list(pairs, out, count) }
    }))
}

pub(super) unsafe extern "C" fn part_count(exchange: *mut sv_exchange, count: *mut usize) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        if !dispatch.multipart {
            return Err(say(
                &mut lock(&dispatch.exchange.inner),
                SV_E_STATE,
                "the servlet is not declared for multipart",
            ));
        }
        let parts = dispatch.exchange.parts().ok_or(SV_NONE)?;
        dispatch.exchange.rest(&mut lock(&dispatch.exchange.inner), polls, usize::MAX)?;
        // SAFETY: the caller's promise.
        unsafe { put(count, parts.len()) }
    }))
}

pub(super) unsafe extern "C" fn part(exchange: *mut sv_exchange, index: usize, out: *mut *const sv_part) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        let exchange = &dispatch.exchange;
        let part = exchange.parts().and_then(|parts| parts.get(index)).ok_or(SV_E_ARG)?;
        let arena = &exchange.arena;
        let (headers, count) = arena.pairs(part.headers.iter().map(|(name, value)| (name, value)));
        let limit = exchange.webapp.setup.part_bytes_in_memory.unwrap_or(usize::MAX);
        let mut spilled = None;
        if part.data.len() > limit {
            let path = exchange.webapp.folder("temp").join(format!("part-{}-{index}", exchange.id));
            // Once is enough: a servlet may have moved it meanwhile.
            if !path.exists() {
                std::fs::write(&path, &part.data).map_err(|_| SV_E_IO)?;
            }
            spilled = path.to_str().map(str::to_owned);
        }
        let view = sv_part {
            struct_size: size_of::<sv_part>() as u32,
            header_count: u32::try_from(count).unwrap_or(u32::MAX),
            headers,
            name: arena.text(&part.name),
            file_name: arena.optional(part.file_name.as_deref()),
            content_type: arena.optional(part.content_type.as_deref()),
            data: if spilled.is_some() { sv_str::ABSENT } else { arena.bytes(&part.data) },
            path: arena.optional(spilled.as_deref()),
            size: part.data.len() as u64,
        };
        // SAFETY: the caller's promise.
        unsafe { put(out, arena.list(vec![view])) }
    }))
}

pub(super) unsafe extern "C" fn attribute(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        let found = inner.attributes.get(unsafe { name(ptr, len) }?).ok_or(SV_NONE)?;
        // SAFETY: as above.
        unsafe { put(value, dispatch.exchange.arena.bytes(found)) }
    })
}

pub(super) unsafe extern "C" fn attributes(
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        unsafe { put_list(dispatch.exchange.arena.pairs(&inner.attributes), out, count) }
    })
}

pub(super) unsafe extern "C" fn set_attribute(
    exchange: *mut sv_exchange,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    let mut told = None;
    let status = with(exchange, |dispatch, inner| {
        // SAFETY: the caller's promise.
        let name = unsafe { name(ptr, len) }?;
        if name.starts_with("servlet.") {
            return Err(say(inner, SV_E_ARG, "attributes that begin with \"servlet.\" are the server's"));
        }
        // SAFETY: as above.
        let value = unsafe { host::bytes(sv_str { ptr: value, len: value_len }) };
        let before = set(&mut inner.attributes, name, value);
        told = Some((dispatch.exchange.clone(), change(&dispatch.exchange.arena, name, value, before)));
        Ok(())
    });
    if let Some((of, change)) = told {
        of.live.tell(SV_EVENT_REQUEST_ATTRIBUTE, &Told { exchange: exchange.addr(), ..change });
    }
    status
}

pub(super) unsafe extern "C" fn principal(
    exchange: *mut sv_exchange,
    user: *mut sv_str,
    method: *mut sv_str,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        let (found, _) = dispatch.exchange.sent.user.as_ref().ok_or(SV_NONE)?;
        let arena = &dispatch.exchange.arena;
        // SAFETY: the caller's promise.
        unsafe { put(user, arena.text(found)).and_then(|()| put(method, arena.text("TEST"))) }
    }))
}

pub(super) unsafe extern "C" fn in_role(exchange: *mut sv_exchange, ptr: *const u8, len: usize) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, _)| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let user = dispatch.exchange.sent.user.as_ref();
        user.filter(|(_, roles)| roles.iter().any(|role| role == wanted)).map(|_| ()).ok_or(SV_NONE)
    }))
}

pub(super) unsafe extern "C" fn login(
    exchange: *mut sv_exchange,
    _: *const u8,
    _: usize,
    _: *const u8,
    _: usize,
) -> sv_status {
    status(
        of_exchange(exchange)
            .and_then(|(dispatch, _)| Err(if dispatch.exchange.sent.user.is_some() { SV_E_STATE } else { SV_NONE })),
    )
}

pub(super) unsafe extern "C" fn logout(exchange: *mut sv_exchange) -> sv_status {
    status(of_exchange(exchange).map(|_| ()))
}

pub(super) unsafe extern "C" fn read(
    exchange: *mut sv_exchange,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        let piece = dispatch.exchange.next_piece(&mut lock(&dispatch.exchange.inner), polls, capacity)?;
        let piece = piece.ok_or(SV_END)?;
        // SAFETY: the caller's buffer has room for `capacity` bytes, and a piece is no longer.
        unsafe { buffer.copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
        // SAFETY: the caller's promise.
        unsafe { put(len, piece.len()) }
    }))
}

pub(super) unsafe extern "C" fn read_chunk(exchange: *mut sv_exchange, chunk: *mut sv_str) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        let piece = dispatch.exchange.next_piece(&mut lock(&dispatch.exchange.inner), polls, usize::MAX)?;
        // SAFETY: the caller's promise.
        unsafe { put(chunk, dispatch.exchange.arena.bytes(&piece.ok_or(SV_END)?)) }
    }))
}

pub(super) unsafe extern "C" fn read_all(exchange: *mut sv_exchange, bytes_max: usize, body: *mut sv_str) -> sv_status {
    status(of_exchange(exchange).and_then(|(dispatch, polls)| {
        let rest = dispatch.exchange.rest(&mut lock(&dispatch.exchange.inner), polls, bytes_max)?;
        // SAFETY: the caller's promise.
        unsafe { put(body, dispatch.exchange.arena.bytes(&rest)) }
    }))
}

pub(super) unsafe extern "C" fn request_trailers(
    exchange: *mut sv_exchange,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    // SAFETY: the caller's promise.
    status(of_exchange(exchange).and_then(|_| unsafe { put_list(crate::test::webapp::NO_PAIRS, out, count) }))
}
