//! The table's functions for the context.

use std::ffi::c_void;
use std::ptr::null_mut;

use serval_abi::{
    SV_E_ARG, SV_E_IO, SV_E_LIMIT, SV_EVENT_CONTEXT_ATTRIBUTE, SV_NONE, SV_PATH_ROOT, SV_PATH_TEMP, SV_PATH_WORK,
    sv_context, sv_exchange, sv_pair, sv_status, sv_str,
};

use super::{change, name, of_context, of_exchange, put, put_list, set, status};
use crate::host;
use crate::test::webapp::lock;

pub(super) unsafe extern "C" fn context(exchange: *mut sv_exchange) -> *mut sv_context {
    of_exchange(exchange).map_or(null_mut(), |(dispatch, _)| dispatch.exchange.live.context_handle())
}

pub(super) unsafe extern "C" fn context_path(context: *mut sv_context, out: *mut sv_str) -> sv_status {
    status(of_context(context).and_then(|generation| {
        // SAFETY: the caller's promise.
        unsafe { put(out, generation.arena.text(&generation.webapp.setup.path)) }
    }))
}

/// # Safety
/// As of `context_parameter` in servlet.h.
unsafe fn setting(
    context: *mut sv_context,
    of: fn(&crate::test::Setup) -> &[(String, String)],
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { name(ptr, len) }?;
        let found = of(&generation.webapp.setup).iter().find(|(name, _)| name == wanted).ok_or(SV_NONE)?;
        // SAFETY: as above.
        unsafe { put(value, generation.arena.text(&found.1)) }
    }))
}

pub(super) unsafe extern "C" fn context_parameter(
    context: *mut sv_context,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    // SAFETY: the caller's promise.
    unsafe { setting(context, |setup| &setup.params, ptr, len, value) }
}

pub(super) unsafe extern "C" fn context_parameters(
    context: *mut sv_context,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        let pairs = generation.arena.pairs(generation.webapp.setup.params.iter().map(|(name, value)| (name, value)));
        // SAFETY: the caller's promise.
        unsafe { put_list(pairs, out, count) }
    }))
}

pub(super) unsafe extern "C" fn context_folder(context: *mut sv_context, which: i32, out: *mut sv_str) -> sv_status {
    status(of_context(context).and_then(|generation| {
        let name = match which {
            SV_PATH_ROOT => "root",
            SV_PATH_WORK => "work",
            SV_PATH_TEMP => "temp",
            _ => return Err(SV_E_ARG),
        };
        let path = generation.webapp.folder(name).to_str().ok_or(SV_E_IO)?;
        // SAFETY: the caller's promise.
        unsafe { put(out, generation.arena.text(path)) }
    }))
}

pub(super) unsafe extern "C" fn context_mime_type(
    context: *mut sv_context,
    ptr: *const u8,
    len: usize,
    out: *mut sv_str,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        // SAFETY: the caller's promise.
        let file = unsafe { name(ptr, len) }?;
        let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
        let found = match extension.to_ascii_lowercase().as_str() {
            "html" | "htm" => "text/html",
            "css" => "text/css",
            "js" => "text/javascript",
            "json" => "application/json",
            "txt" => "text/plain",
            "png" => "image/png",
            "jpg" | "jpeg" => "image/jpeg",
            "svg" => "image/svg+xml",
            "pdf" => "application/pdf",
            _ => return Err(SV_NONE),
        };
        // SAFETY: as above.
        unsafe { put(out, generation.arena.text(found)) }
    }))
}

pub(super) unsafe extern "C" fn context_resource(
    context: *mut sv_context,
    ptr: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    // SAFETY: the caller's promise.
    unsafe { setting(context, |setup| &setup.resources, ptr, len, value) }
}

pub(super) unsafe extern "C" fn context_attribute(
    context: *mut sv_context,
    ptr: *const u8,
    name_len: usize,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        let attributes = lock(&generation.webapp.attributes);
        // SAFETY: the caller's promise.
        let found = attributes.get(unsafe { name(ptr, name_len) }?).ok_or(SV_NONE)?;
        if !buffer.is_null() {
            // SAFETY: the caller's buffer has room for `capacity` bytes.
            unsafe { buffer.copy_from_nonoverlapping(found.as_ptr(), found.len().min(capacity)) };
        }
        // SAFETY: as above.
        unsafe { put(len, found.len()) }
    }))
}

pub(super) unsafe extern "C" fn context_set_attribute(
    context: *mut sv_context,
    ptr: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    status(of_context(context).and_then(|generation| {
        // SAFETY: the caller's promise.
        let (name, value) = unsafe { (name(ptr, len)?, host::bytes(sv_str { ptr: value, len: value_len })) };
        let before = set(&mut lock(&generation.webapp.attributes), name, value);
        if let Some(live) = generation.webapp.live() {
            live.tell(SV_EVENT_CONTEXT_ATTRIBUTE, &change(&generation.arena, name, value, before));
        }
        Ok(())
    }))
}

pub(super) unsafe extern "C" fn context_generation(context: *mut sv_context) -> u64 {
    of_context(context).map_or(0, |generation| generation.number)
}

pub(super) unsafe extern "C" fn context_post(
    context: *mut sv_context,
    job: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
) -> sv_status {
    struct Job(unsafe extern "C" fn(*mut c_void), *mut c_void);
    // SAFETY: the library says that any thread may run it (servlet.h, context_post).
    unsafe impl Send for Job {}
    impl Job {
        fn run(self) {
            // SAFETY: as servlet.h says of a job: once.
            unsafe { self.0(self.1) };
        }
    }
    status(of_context(context).and_then(|generation| {
        let job = Job(job.ok_or(SV_E_ARG)?, argument);
        if generation.webapp.post(move || job.run()) { Ok(()) } else { Err(SV_E_LIMIT) }
    }))
}
