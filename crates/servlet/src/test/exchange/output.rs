//! The response: the buffer, the commit, and the way of the body through the filters to the client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serval_abi::{
    SV_E_BUSY, SV_E_CLOSED, SV_E_LIMIT, SV_E_PANIC, SV_E_REQUEST, SV_E_STATE, SV_E_TIMEOUT, SV_HEAD, SV_WOULD_BLOCK,
    sv_status,
};

use super::{Dispatch, Exchange, Failed, Inner, Layer};
use crate::test::webapp::lock;

impl Exchange {
    /// Turns an error status into an answer, if it is not too late.
    pub(super) fn settle(&self, status: sv_status) {
        let mut inner = lock(&self.inner);
        if inner.committed {
            inner.gone |= status < 0;
            return;
        }
        let error = match (status, inner.error.clone()) {
            (status, Some(error)) if status >= 0 => error,
            (status, _) if status >= 0 => return,
            _ => {
                let text = inner.failed.as_ref().map(|failed| failed.text.clone());
                let panic = || self.webapp.panic_of(std::thread::current().id());
                let text = match status {
                    SV_E_PANIC => text.or_else(|| panic().map(|text| format!("panicked: {text}"))),
                    SV_E_REQUEST | SV_E_LIMIT => text.or_else(|| Some(inner.last_said.clone())),
                    _ => text,
                };
                (self.status_of(status, &inner), text.unwrap_or_else(|| format!("service returned {status}")))
            }
        };
        inner.gone |= status == SV_E_CLOSED && self.is_gone_by(&inner);
        (inner.status, inner.error) = (error.0, Some(error));
        inner.buffer.clear();
        (inner.written, inner.content_length, inner.content_type, inner.charset) = (0, None, None, None);
        inner.headers.retain(|(name, _)| status >= 0 || name == "set-cookie");
        if let Some(seconds) =
            inner.failed.as_ref().and_then(|failed| failed.unavailable).filter(|&seconds| seconds > 0)
        {
            inner.headers.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
        }
    }

    pub(super) fn status_of(&self, status: sv_status, inner: &Inner) -> u16 {
        match (status, inner.failed.as_ref()) {
            (_, Some(Failed { unavailable: Some(0), .. })) => 404,
            (_, Some(Failed { unavailable: Some(_), .. })) => 503,
            (_, Some(_)) => 500,
            (SV_E_LIMIT, _) => 413,
            (SV_E_CLOSED | SV_E_REQUEST, _) => 400,
            (SV_E_TIMEOUT, _) => 408,
            (SV_E_BUSY, _) => 503,
            _ => 500,
        }
    }

    pub(super) fn has_body(&self, inner: &Inner) -> bool {
        self.sent.method.bits() != SV_HEAD && !matches!(inner.status, 204 | 304)
    }

    /// Fixes the head, after the filters had a look at it, and lets the buffer go.
    pub fn commit(&self) {
        {
            let mut inner = lock(&self.inner);
            if inner.committed || inner.committing {
                return;
            }
            inner.committing = true;
        }
        let layers = lock(&self.layers).clone();
        for layer in layers.iter().rev().filter(|layer| !layer.responded.swap(true, Ordering::AcqRel)) {
            let Some(on_response) = layer.filter().on_response else { continue };
            let (pointer, state) = (layer.pointer(), layer.state.load(Ordering::Acquire));
            // SAFETY: as servlet.h says of on_response.
            let status = layer.dispatch.own(|| unsafe { on_response(pointer, layer.dispatch.pointer(), state) });
            if status < 0 {
                self.settle(status);
            }
        }
        let changed = layers.iter().any(|layer| layer.filter().on_body.is_some());
        let buffer = {
            let mut inner = lock(&self.inner);
            inner.committed = true;
            inner.head = inner.headers.clone();
            if let Some(content_type) = &inner.content_type {
                let charset = inner.charset.as_ref().filter(|_| !content_type.contains("charset="));
                let charset = charset.map_or(String::new(), |charset| format!("; charset={charset}"));
                let value = format!("{content_type}{charset}").into_bytes();
                inner.head.push(("content-type".to_owned(), value));
            }
            if let Some(length) = inner.content_length.filter(|_| !changed) {
                inner.head.push(("content-length".to_owned(), length.to_string().into_bytes()));
            }
            std::mem::take(&mut inner.buffer)
        };
        for (level, bytes) in buffer {
            self.put(level, &bytes);
        }
    }

    /// A piece of the body on its way out, when it has left `level` filters to go.
    pub(super) fn put(&self, level: usize, bytes: &[u8]) {
        let mut inner = lock(&self.inner);
        if !inner.committed && level <= inner.floor {
            inner.buffer.push((level, bytes.to_vec()));
            return;
        }
        if level == 0 {
            let left =
                self.sent.leave_after_bytes.map_or(usize::MAX, |bytes| bytes.saturating_sub(inner.received.len()));
            if self.has_body(&inner) && !self.is_gone_by(&inner) {
                let taken = bytes.len().min(left);
                inner.received.extend_from_slice(&bytes[..taken]);
                inner.gone |= self.sent.leave_after_bytes.is_some_and(|max| inner.received.len() >= max);
            }
            return;
        }
        let has_body = self.has_body(&inner);
        drop(inner);
        let layer = lock(&self.layers)[level - 1].clone();
        match layer.filter().on_body {
            Some(_) if has_body => layer.body(bytes, false),
            _ => self.put(level - 1, bytes),
        }
    }

    /// Ends the dispatches of the filters over `base`: the end of their bodies, then of themselves.
    pub(super) fn close(&self, base: usize, result: sv_status) {
        let layers: Vec<Arc<Layer>> = lock(&self.layers)[base..].to_vec();
        let (has_body, held) = {
            let mut inner = lock(&self.inner);
            inner.floor = base;
            let mut held = Vec::new();
            if !inner.committed && !layers.is_empty() {
                held = std::mem::take(&mut inner.buffer);
            }
            (self.has_body(&inner), held)
        };
        for (level, bytes) in held {
            self.put(level, &bytes);
        }
        for layer in layers.iter().rev().filter(|layer| has_body && layer.filter().on_body.is_some()) {
            layer.body(b"", true);
        }
        lock(&self.inner).floor = 0;
        for layer in layers.iter().rev() {
            let Some(on_end) = layer.filter().on_end else { continue };
            let (pointer, state) = (layer.pointer(), layer.state.load(Ordering::Acquire));
            // SAFETY: as servlet.h says of on_end: once, and last.
            layer.dispatch.own(|| unsafe { on_end(pointer, layer.dispatch.pointer(), state, result) });
        }
        lock(&self.layers).truncate(base);
    }

    /// Returns how many bytes are taken; `Err` is the status.
    pub fn write(&self, dispatch: &Dispatch, bytes: &[u8], polls: bool) -> Result<usize, sv_status> {
        if dispatch.in_body.load(Ordering::Acquire) {
            self.put(dispatch.level, bytes);
            return Ok(bytes.len());
        }
        let mut inner = lock(&self.inner);
        if inner.finished || inner.committing && !inner.committed {
            return Err(SV_E_STATE);
        }
        if self.is_gone_by(&inner) {
            return Err(SV_E_CLOSED);
        }
        let mut taken = bytes.len();
        if inner.committed && polls && self.sent.takes.is_some() && taken > 0 {
            if inner.budget == 0 {
                inner.budget = self.sent.takes.unwrap_or(usize::MAX);
                self.wake.wake();
                return Err(SV_WOULD_BLOCK);
            }
            taken = taken.min(inner.budget);
            inner.budget -= taken;
        }
        let room = inner.content_length.map_or(u64::MAX, |length| length.saturating_sub(inner.written));
        let kept = &bytes[..taken.min(usize::try_from(room).unwrap_or(usize::MAX))];
        inner.written += kept.len() as u64;
        if inner.committed {
            drop(inner);
            self.put(dispatch.level, kept);
            return Ok(taken);
        }
        inner.buffer.push((dispatch.level, kept.to_vec()));
        let full = inner.buffer.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > inner.buffer_bytes_max;
        drop(inner);
        if full {
            self.commit();
        }
        Ok(taken)
    }

    /// A whole answer, whose head was set before.
    pub fn respond(&self, dispatch: &Dispatch, body: &[u8]) {
        let mut inner = lock(&self.inner);
        inner.buffer.clear();
        inner.buffer.push((dispatch.level, body.to_vec()));
        inner.finished = true;
        drop(inner);
        self.commit();
    }

    pub fn reset_buffer(&self, inner: &mut Inner) {
        inner.buffer.clear();
        inner.written = 0;
    }
}
