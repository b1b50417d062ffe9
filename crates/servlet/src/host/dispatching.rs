//! The table's functions for dispatches and for users.

use std::ptr::null;

use serval_abi::{SV_BY_NAME, SV_E_LIMIT, SV_E_STATE, SV_E_UNSUPPORTED, SV_WOULD_BLOCK, sv_pair, sv_str};

use super::Exchange;
use crate::{Error, Result};

impl Exchange {
    /// `false`: there is no such target. `how` is SV_FORWARD or SV_INCLUDE, maybe with SV_BY_NAME.
    pub fn dispatch(self, how: i32, target: &str) -> Result<bool> {
        let status = call!(self.host, dispatch(self.handle, how, target.as_ptr(), target.len()) or SV_E_UNSUPPORTED);
        let doing = if how & SV_BY_NAME == 0 { "dispatch" } else { "dispatch by name" };
        self.check(status, doing).map_err(|error| match status {
            // What the server itself said of the call.
            SV_E_STATE | SV_E_LIMIT | SV_E_UNSUPPORTED | SV_WOULD_BLOCK => error,
            _ => Error::said(status, error.text()),
        })
    }

    /// `None`: the path that was asked for.
    pub fn async_dispatch(self, path: Option<&str>) -> Result {
        let (ptr, len) = path.map_or((null(), 0), |path| (path.as_ptr(), path.len()));
        let status = call!(self.host, async_dispatch(self.handle, ptr, len) or SV_E_UNSUPPORTED);
        self.done(status, "async_dispatch")
    }

    pub fn attributes(self) -> Result<(*const sv_pair, usize)> {
        self.list("attributes", |out, count| call!(self.host, attributes(self.handle, out, count) or SV_E_UNSUPPORTED))
    }

    /// Name and method; `None`: nobody is logged in.
    pub fn principal(self) -> Result<Option<(sv_str, sv_str)>> {
        let (mut name, mut method) = (sv_str::ABSENT, sv_str::ABSENT);
        let status = call!(self.host, principal(self.handle, &raw mut name, &raw mut method) or SV_E_UNSUPPORTED);
        Ok(self.check(status, "principal")?.then_some((name, method)))
    }

    pub fn in_role(self, role: &str) -> Result<bool> {
        let status = call!(self.host, in_role(self.handle, role.as_ptr(), role.len()) or SV_E_UNSUPPORTED);
        self.check(status, "in_role")
    }

    /// `false`: a wrong name or password.
    pub fn login(self, name: &str, password: &str) -> Result<bool> {
        let status = call!(
            self.host,
            login(self.handle, name.as_ptr(), name.len(), password.as_ptr(), password.len()) or SV_E_UNSUPPORTED
        );
        self.check(status, "login")
    }

    pub fn logout(self) -> Result {
        let status = call!(self.host, logout(self.handle) or SV_E_UNSUPPORTED);
        self.done(status, "logout")
    }
}
