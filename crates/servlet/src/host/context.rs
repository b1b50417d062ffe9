//! What the table offers for contexts.

use std::ptr::null;
use std::time::Duration;

use serval_abi::{SV_E_UNSUPPORTED, SV_NONE, SV_OK, sv_context, sv_host, sv_pair, sv_status, sv_str, sv_waker};

use crate::{Error, Result};

/// A handle of a context with the table that knows it. Strings that it returns by view live until destroy returns.
#[derive(Clone, Copy)]
pub(crate) struct ContextHandle {
    host: &'static sv_host,
    handle: *mut sv_context,
}

// SAFETY: as for `Exchange`; functions of contexts may be called on any thread.
unsafe impl Send for ContextHandle {}
// SAFETY: as above.
unsafe impl Sync for ContextHandle {}

impl ContextHandle {
    pub fn new(host: &'static sv_host, handle: *mut sv_context) -> ContextHandle {
        ContextHandle { host, handle }
    }

    pub fn handle(self) -> *mut sv_context {
        self.handle
    }

    fn value(self, ask: impl FnOnce(*mut sv_str) -> sv_status) -> Option<sv_str> {
        let mut value = sv_str::ABSENT;
        (ask(&raw mut value) == SV_OK).then_some(value)
    }

    pub fn path(self) -> Option<sv_str> {
        self.value(|out| call!(self.host, context_path(self.handle, out) or SV_E_UNSUPPORTED))
    }

    pub fn parameter(self, name: &str) -> Option<sv_str> {
        self.value(|value| {
            call!(self.host, context_parameter(self.handle, name.as_ptr(), name.len(), value) or SV_E_UNSUPPORTED)
        })
    }

    pub fn parameters(self) -> (*const sv_pair, usize) {
        let (mut first, mut count) = (null(), 0);
        let status =
            call!(self.host, context_parameters(self.handle, &raw mut first, &raw mut count) or SV_E_UNSUPPORTED);
        if status == SV_OK { (first, count) } else { (null(), 0) }
    }

    pub fn folder(self, which: i32) -> Option<sv_str> {
        self.value(|path| call!(self.host, context_folder(self.handle, which, path) or SV_E_UNSUPPORTED))
    }

    pub fn mime_type(self, file_name: &str) -> Option<sv_str> {
        self.value(|found| {
            call!(
                self.host,
                context_mime_type(self.handle, file_name.as_ptr(), file_name.len(), found) or SV_E_UNSUPPORTED
            )
        })
    }

    pub fn resource(self, name: &str) -> Option<sv_str> {
        self.value(|value| {
            call!(self.host, context_resource(self.handle, name.as_ptr(), name.len(), value) or SV_E_UNSUPPORTED)
        })
    }

    /// Copies an attribute; tries again when it has grown meanwhile.
    pub fn attribute(self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut copy = vec![0; 256];
        loop {
            let mut len = 0;
            let status = call!(
                self.host,
                context_attribute(
                    self.handle,
                    name.as_ptr(),
                    name.len(),
                    copy.as_mut_ptr(),
                    copy.len(),
                    &raw mut len
                ) or SV_E_UNSUPPORTED
            );
            match status {
                SV_NONE => return Ok(None),
                SV_OK | serval_abi::SV_E_LIMIT if len > copy.len() => copy.resize(len, 0),
                SV_OK => {
                    copy.truncate(len);
                    return Ok(Some(copy));
                }
                _ => return Err(Error::of_host(status, "context_attribute", "")),
            }
        }
    }

    pub fn set_attribute(self, name: &str, value: Option<&[u8]>) -> Result {
        let (ptr, len) = value.map_or((null(), 0), |value| (value.as_ptr(), value.len()));
        let status = call!(self.host, context_set_attribute(self.handle, name.as_ptr(), name.len(), ptr, len) or SV_E_UNSUPPORTED);
        match status {
            SV_OK | SV_NONE => Ok(()),
            _ => Err(Error::of_host(status, "context_set_attribute", "")),
        }
    }

    /// Wakes after that time, once; takes the waker.
    pub fn timer(self, after: Duration, waker: *mut sv_waker) -> Result {
        // A part of a millisecond would be too early.
        let milliseconds = u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        match call!(self.host, context_timer(self.handle, milliseconds, waker) or SV_E_UNSUPPORTED) {
            SV_OK => Ok(()),
            status => Err(Error::of_host(status, "context_timer", "")),
        }
    }

    pub fn generation(self) -> u64 {
        call!(self.host, context_generation(self.handle) or 0)
    }
}
