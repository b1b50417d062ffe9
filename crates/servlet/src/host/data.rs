//! The table's functions for parts and sessions.

use std::ptr::{null, null_mut};

use serval_abi::{SV_E_UNSUPPORTED, sv_pair, sv_part, sv_session, sv_session_info, sv_str};

use super::Exchange;
use crate::Result;

/// A session's handle; valid as long as the exchange's (servlet.h).
#[derive(Clone, Copy)]
pub(crate) struct SessionHandle(*mut sv_session);

// SAFETY: a handle is a checked value, not an address; the server answers calls of a wrong thread with SV_E_THREAD.
unsafe impl Send for SessionHandle {}
// SAFETY: as above.
unsafe impl Sync for SessionHandle {}

impl Exchange {
    /// `None`: the body is of another type.
    pub fn part_count(self) -> Result<Option<usize>> {
        let mut count = 0;
        let status = call!(self.host, part_count(self.handle, &raw mut count) or SV_E_UNSUPPORTED);
        Ok(self.check(status, "part_count")?.then_some(count))
    }

    /// It lives until `service` returns.
    pub fn part(self, index: usize) -> Result<*const sv_part> {
        let mut part = null();
        let status = call!(self.host, part(self.handle, index, &raw mut part) or SV_E_UNSUPPORTED);
        self.done(status, "part")?;
        Ok(part)
    }

    /// `None`: there is none, and none was to be made.
    pub fn session(self, create: bool) -> Result<Option<SessionHandle>> {
        let mut session = null_mut();
        let status = call!(self.host, session(self.handle, create.into(), &raw mut session) or SV_E_UNSUPPORTED);
        Ok(self.check(status, "session")?.then_some(SessionHandle(session)))
    }

    /// It lives until `service` returns; NULL is a fault of the server.
    pub fn session_info(self) -> Result<*const sv_session_info> {
        let mut info = null();
        let status = call!(self.host, session_info(self.handle, &raw mut info) or SV_E_UNSUPPORTED);
        self.done(status, "session_info")?;
        Ok(info)
    }

    pub fn session_attribute(self, session: SessionHandle, name: &str) -> Result<Option<sv_str>> {
        self.value(
            "session_attribute",
            |value| call!(self.host, session_attribute(session.0, name.as_ptr(), name.len(), value) or SV_E_UNSUPPORTED),
        )
    }

    pub fn session_attributes(self, session: SessionHandle) -> Result<(*const sv_pair, usize)> {
        self.list(
            "session_attributes",
            |out, count| call!(self.host, session_attributes(session.0, out, count) or SV_E_UNSUPPORTED),
        )
    }

    pub fn session_set_attribute(self, session: SessionHandle, name: &str, value: Option<&[u8]>) -> Result {
        let (ptr, len) = value.map_or((null(), 0), |value| (value.as_ptr(), value.len()));
        let status =
            call!(self.host, session_set_attribute(session.0, name.as_ptr(), name.len(), ptr, len) or SV_E_UNSUPPORTED);
        self.done(status, "session_set_attribute")
    }

    pub fn session_change_id(self, session: SessionHandle) -> Result<Option<sv_str>> {
        self.value("session_change_id", |id| call!(self.host, session_change_id(session.0, id) or SV_E_UNSUPPORTED))
    }

    /// 0 or less: it never times out.
    pub fn session_set_max_inactive(self, session: SessionHandle, seconds: i64) -> Result {
        let status = call!(self.host, session_set_max_inactive(session.0, seconds) or SV_E_UNSUPPORTED);
        self.done(status, "session_set_max_inactive")
    }

    pub fn session_invalidate(self, session: SessionHandle) -> Result {
        let status = call!(self.host, session_invalidate(session.0) or SV_E_UNSUPPORTED);
        self.done(status, "session_invalidate")
    }
}
