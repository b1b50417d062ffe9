//! The way of a dispatch: through the filters to the servlet, its task, and back.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr};
use std::time::Instant;

use serval_abi::{
    SV_BY_NAME, SV_DELETE, SV_DISPATCH_ASYNC, SV_DISPATCH_FORWARD, SV_DISPATCH_INCLUDE, SV_DISPATCH_REQUEST, SV_E_ARG,
    SV_E_CLOSED, SV_E_FAILED, SV_E_INTERNAL, SV_E_LIMIT, SV_E_STATE, SV_E_TIMEOUT, SV_FORWARD, SV_GET, SV_HEAD,
    SV_INCLUDE, SV_KEEP, SV_MATCH_DEFAULT, SV_METHOD_OTHER, SV_MULTIPART, SV_NEXT, SV_NONE, SV_OK, SV_OPTIONS,
    SV_PATCH, SV_PENDING, SV_POST, SV_PUT, SV_TRACE, SV_WOULD_BLOCK, sv_request, sv_servlet, sv_status,
};

use super::{DEPTH_MAX, Dispatch, Exchange, Failed, Head, Layer, Phase, Target, WAIT_MAX};
use crate::decode;
use crate::test::mapping::Match;
use crate::test::webapp::{lock, text, texts};
use crate::test::{mapping, table};

impl Exchange {
    /// Filters, servlet, and the end of both; with the whole answer when it is the first dispatch.
    pub(super) fn serve(
        self: &Arc<Exchange>,
        kind: u32,
        target: &Target,
        named: Option<usize>,
        depth: usize,
    ) -> sv_status {
        let found = match named {
            Some(_) => None,
            None => mapping::find(&self.live.patterns, &target.path),
        };
        let servlet = named.or(found.as_ref().map(|found| found.servlet));
        let base = lock(&self.layers).len();
        let mut status = SV_NEXT;
        for filter in 0..self.live.filters.len() {
            if !self.applies(filter, kind, target, servlet, named.is_some()) {
                continue;
            }
            let dispatch = self.make(kind, target, found.clone(), depth);
            let mut state = null_mut();
            let instance = &self.live.filters[filter];
            if let Some(on_request) = instance.declared.on_request {
                // SAFETY: as servlet.h says of on_request.
                status = dispatch.own(|| unsafe { on_request(instance.pointer, dispatch.pointer(), &raw mut state) });
            }
            if status != SV_NEXT {
                break;
            }
            lock(&self.layers).push(Arc::new(Layer {
                live: self.live.clone(),
                filter,
                dispatch,
                state: AtomicPtr::new(state),
                responded: AtomicBool::new(false),
            }));
        }
        if status == SV_NEXT {
            status = match servlet {
                Some(servlet) => {
                    let dispatch = self.make(kind, target, found, depth);
                    self.call(servlet, dispatch)
                }
                None => SV_NEXT,
            };
            if status == SV_NEXT {
                status = self.not_found(kind, &target.path);
            }
        }
        let again = lock(&self.inner).redispatch.take();
        if let Some(again) = again.filter(|_| status >= 0) {
            status = match Target::parse(again.as_deref().unwrap_or(&self.sent.target)) {
                Ok(target) if depth < DEPTH_MAX => self.serve(SV_DISPATCH_ASYNC, &target, None, depth + 1),
                _ => SV_E_LIMIT,
            };
        }
        if depth == 0 {
            self.settle(status);
            self.commit();
        }
        self.close(base, status);
        if depth == 0 {
            lock(&self.inner).finished = true;
        }
        status
    }

    /// A listener function does not want the request.
    pub(super) fn refuse(&self, status: sv_status) -> sv_status {
        self.settle(status);
        self.commit();
        lock(&self.inner).finished = true;
        status
    }

    /// What the default servlet answers: there are no files.
    pub(super) fn not_found(&self, kind: u32, path: &str) -> sv_status {
        let mut inner = lock(&self.inner);
        if kind == SV_DISPATCH_INCLUDE {
            inner.failed =
                Some(Failed { kind: "io/not-found".into(), text: format!("no file {path}"), unavailable: None });
            return SV_E_FAILED;
        }
        inner.error = Some((404, format!("nothing is mapped to {path}")));
        SV_OK
    }

    pub(super) fn applies(
        &self,
        filter: usize,
        kind: u32,
        target: &Target,
        servlet: Option<usize>,
        named: bool,
    ) -> bool {
        let declared = self.live.filters[filter].declared;
        let dispatches = if declared.dispatches == 0 { SV_DISPATCH_REQUEST } else { declared.dispatches };
        if dispatches & kind == 0 {
            return false;
        }
        let patterns = texts(declared.patterns, declared.pattern_count);
        let by_path = match named {
            true => patterns.iter().any(|pattern| pattern == "*"),
            false => patterns.iter().any(|pattern| mapping::covers(pattern, &target.path)),
        };
        let name = servlet.map(|servlet| &self.live.servlets[servlet].name);
        let servlets = texts(declared.servlets, declared.servlet_count);
        by_path || servlets.iter().any(|wanted| wanted == "*" || Some(wanted) == name)
    }

    /// Makes a handle, with the head that belongs to it.
    pub(super) fn make(
        self: &Arc<Exchange>,
        kind: u32,
        target: &Target,
        found: Option<Match>,
        depth: usize,
    ) -> Arc<Dispatch> {
        let (sent, arena, setup) = (&self.sent, &self.arena, &self.webapp.setup);
        let split = found.as_ref().map_or(target.path.len(), |found| found.split);
        let (servlet_path, path_info) = target.path.split_at(split);
        let header = |name: &str| {
            let value = sent.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value);
            value.and_then(|value| std::str::from_utf8(value).ok())
        };
        let content_type = header("content-type");
        let charset = content_type
            .and_then(|content_type| content_type.split_once("charset="))
            .map(|(_, rest)| rest.split(';').next().unwrap_or_default().trim().trim_matches('"'));
        let (headers, header_count) = arena.pairs(sent.headers.iter().map(|(name, value)| (name, value)));
        let name = found.as_ref().map(|found| &*self.live.servlets[found.servlet].name);
        let head = sv_request {
            struct_size: size_of::<sv_request>() as u32,
            method: sent.method.bits(),
            method_name: arena.text(&sent.method_name),
            http_version: 11,
            dispatch: kind,
            scheme: arena.text(if sent.secure { "https" } else { "http" }),
            server_name: arena.text("localhost"),
            server_port: 8080,
            secure: sent.secure.into(),
            target: arena.text(&format!("{}{}", setup.path, sent.target)),
            request_uri: arena.text(&format!("{}{}", setup.path, target.uri)),
            query: arena.optional(target.query.as_deref()),
            context_path: arena.text(&setup.path),
            servlet_path: arena.text(servlet_path),
            path_info: arena.optional(Some(path_info).filter(|info| !info.is_empty())),
            match_kind: found.as_ref().map_or(SV_MATCH_DEFAULT, |found| found.kind),
            reserved: 0,
            match_pattern: arena.text(found.as_ref().map_or("/", |found| &found.pattern)),
            match_value: arena.optional(found.as_ref().map(|found| found.value(&target.path))),
            servlet_name: arena.text(name.unwrap_or("default")),
            headers,
            header_count,
            content_length: header("content-length").and_then(|length| length.parse().ok()).unwrap_or(-1),
            content_type: arena.optional(content_type),
            charset: arena.optional(charset),
            remote_addr: arena.text(&sent.remote_addr),
            local_addr: arena.text("127.0.0.1"),
            remote_port: 50_000,
            local_port: 8080,
            id: self.id,
            connection_id: self.id,
        };
        let query = target.query.as_deref().filter(|_| depth > 0).unwrap_or_default();
        let multipart =
            found.as_ref().is_some_and(|found| self.live.servlets[found.servlet].declared.flags & SV_MULTIPART != 0);
        let head = Head(arena.list(vec![head]));
        table::register_dispatch(|handle| Dispatch {
            handle,
            exchange: self.clone(),
            kind,
            head,
            path: target.path.clone(),
            query: decode::pairs(query.as_bytes()).unwrap_or_default(),
            found,
            multipart,
            depth,
            level: lock(&self.layers).len(),
            in_body: AtomicBool::new(false),
        })
    }

    /// Calls a servlet, and drives its task to the end.
    pub(super) fn call(self: &Arc<Exchange>, servlet: usize, dispatch: Arc<Dispatch>) -> sv_status {
        let servlet = &self.live.servlets[servlet];
        let (declared, method) = (servlet.declared, self.sent.method.bits());
        let allowed = match declared.methods {
            0 => u32::MAX,
            methods if methods & SV_GET != 0 => methods | SV_HEAD,
            methods => methods,
        };
        if allowed & method == 0 {
            return self.method_not_allowed(allowed, method);
        }
        let Some(service) = declared.service else { return SV_NEXT };
        let mut task = null_mut();
        // SAFETY: as servlet.h says of service.
        let status = dispatch.own(|| unsafe { service(servlet.pointer, dispatch.pointer(), &raw mut task) });
        let detached = *lock(&self.phase) == Phase::Detached;
        match status {
            SV_PENDING if !task.is_null() => self.drive(servlet.declared, &dispatch, task),
            SV_PENDING | SV_OK if detached => self.wait_for_completion(),
            status if status < 0 && detached => status,
            SV_PENDING => SV_E_INTERNAL,
            status => status,
        }
    }

    pub(super) fn method_not_allowed(&self, allowed: u32, method: u32) -> sv_status {
        let names = [
            (SV_GET, "GET"),
            (SV_HEAD, "HEAD"),
            (SV_POST, "POST"),
            (SV_PUT, "PUT"),
            (SV_DELETE, "DELETE"),
            (SV_PATCH, "PATCH"),
            (SV_TRACE, "TRACE"),
        ];
        let mut allow: Vec<&str> = names.iter().filter(|(bit, _)| allowed & bit != 0).map(|(_, name)| *name).collect();
        allow.push("OPTIONS");
        let mut inner = lock(&self.inner);
        inner.headers.push(("allow".to_owned(), allow.join(", ").into_bytes()));
        if method != SV_OPTIONS {
            let status = if method == SV_METHOD_OTHER { 501 } else { 405 };
            inner.error = Some((status, format!("the servlet does not handle {}", self.sent.method_name)));
        }
        SV_OK
    }

    pub(super) fn drive(&self, declared: &sv_servlet, dispatch: &Dispatch, task: *mut c_void) -> sv_status {
        let end = Instant::now() + WAIT_MAX;
        let status = loop {
            let (timeout, leave_at) = (lock(&self.inner).timeout, self.sent.leave_at);
            let woken = self.wake.wait_until([timeout, leave_at].into_iter().flatten().fold(end, Instant::min));
            if self.is_gone() && declared.flags & SV_KEEP == 0 {
                break SV_E_CLOSED;
            }
            if woken {
                let Some(poll) = declared.poll else { break SV_E_INTERNAL };
                // SAFETY: as servlet.h says of poll; never two at once, for this is the only place that calls it.
                let status = dispatch.own_as(Phase::Polls, || unsafe { poll(task, dispatch.pointer()) });
                if status != SV_PENDING && status != SV_WOULD_BLOCK {
                    break status;
                }
                if lock(&self.inner).redispatch.is_some() {
                    break SV_OK;
                }
            } else if timeout.is_some_and(|timeout| timeout <= Instant::now()) {
                self.fail("servlet/timeout", "the servlet did not finish in the time of set_timeout");
                break SV_E_FAILED;
            } else if end <= Instant::now() {
                break SV_E_INTERNAL;
            }
        };
        if let Some(drop) = declared.drop {
            // SAFETY: as servlet.h says of drop: once, and last.
            dispatch.own_as(Phase::Polls, || unsafe { drop(task) });
        }
        assert!(end > Instant::now(), "{} did not finish in {WAIT_MAX:?}", text(declared.name));
        status
    }

    pub(super) fn fail(&self, kind: &str, text: &str) {
        let failed = Failed { kind: kind.to_owned(), text: text.to_owned(), unavailable: None };
        lock(&self.inner).failed.get_or_insert(failed);
    }

    /// Waits until another thread has called complete or async_dispatch. It is owed, so there is no other end.
    pub(super) fn wait_for_completion(&self) -> sv_status {
        let end = Instant::now() + WAIT_MAX;
        let mut told = false;
        loop {
            {
                let mut inner = lock(&self.inner);
                if let Some(status) = inner.complete.take() {
                    *lock(&self.phase) = Phase::Nobody;
                    return status;
                }
                if inner.redispatch.is_some() {
                    *lock(&self.phase) = Phase::Nobody;
                    return SV_OK;
                }
            }
            let (timeout, leave_at) = (lock(&self.inner).timeout, self.sent.leave_at);
            let alarm = [timeout, leave_at].into_iter().flatten().filter(|_| !told).fold(end, Instant::min);
            if !self.wake.wait_until(alarm) {
                assert!(end > Instant::now(), "a detached exchange was not completed in {WAIT_MAX:?}");
                told = true;
                let call = lock(&self.inner).told;
                let why = if self.is_gone() { SV_E_CLOSED } else { SV_E_TIMEOUT };
                if let Some((call, argument)) = call {
                    // SAFETY: as servlet.h says of told: once, and before complete.
                    unsafe { call(std::ptr::with_exposed_provenance_mut(argument), why) };
                }
            }
        }
    }

    /// Forward and include (Servlet 9).
    pub fn dispatch(self: &Arc<Exchange>, from: &Dispatch, how: i32, to: &str) -> sv_status {
        let kind = match how & !SV_BY_NAME {
            SV_FORWARD => SV_DISPATCH_FORWARD,
            SV_INCLUDE => SV_DISPATCH_INCLUDE,
            _ => return SV_E_ARG,
        };
        if from.depth >= DEPTH_MAX {
            return SV_E_LIMIT;
        }
        let named = match how & SV_BY_NAME {
            0 => None,
            _ => match self.live.servlets.iter().position(|servlet| servlet.name == to) {
                Some(found) => Some(found),
                None => return SV_NONE,
            },
        };
        let target = if named.is_some() {
            Target { uri: from.path.clone(), path: from.path.clone(), query: None }
        } else {
            let folder = from.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let absolute = if to.starts_with('/') { to.to_owned() } else { format!("{folder}/{to}") };
            match Target::parse(&absolute) {
                Ok(target) if !target.path.split('/').any(|segment| segment == "..") => target,
                _ => return SV_NONE,
            }
        };
        let base = lock(&self.layers).len();
        if kind == SV_DISPATCH_FORWARD {
            let mut inner = lock(&self.inner);
            if inner.committed {
                return SV_E_STATE;
            }
            inner.buffer.clear();
            inner.written = 0;
        }
        let phase = *lock(&self.phase);
        let status = self.serve(kind, &target, named, from.depth + 1);
        debug_assert_eq!(base, lock(&self.layers).len());
        *lock(&self.phase) = phase;
        if kind == SV_DISPATCH_FORWARD {
            lock(&self.inner).finished = true;
        }
        status
    }
}
