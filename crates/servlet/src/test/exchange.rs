//! One request of a test and its response: the way through filters to a servlet, the buffer, the commit, and async tasks.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use serval_abi::*;

use super::Answer;
use super::call::Sent;
use super::mapping::{self, Match};
use super::session::{COOKIE, Session};
use super::table::{self, Handle};
use super::webapp::{Arena, Live, Told, Webapp, lock, text, texts};
use crate::decode::{self, Plus};

/// LIMIT: how long a test waits for an async servlet.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// LIMIT: dispatches inside of dispatches.
const DEPTH_MAX: usize = 20;

#[derive(Debug, Clone)]
pub(super) struct Part {
    pub name: String,
    pub file_name: Option<String>,
    pub content_type: Option<String>,
    pub headers: Vec<(String, String)>,
    pub data: Vec<u8>,
}

/// Who may call exchange functions now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Nobody,
    Waits(ThreadId),
    /// In `poll`, where nothing waits.
    Polls(ThreadId),
    Detached,
}

/// What a waker wakes: the one who drives the task.
#[derive(Default)]
pub(super) struct Wake {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    pub fn wake(&self) {
        *lock(&self.woken) = true;
        self.changed.notify_all();
    }

    /// Returns whether it was woken before that time.
    fn wait_until(&self, end: Instant) -> bool {
        let mut woken = lock(&self.woken);
        loop {
            if std::mem::take(&mut *woken) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            woken = self.changed.wait_timeout(woken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A filter that let the dispatch pass, until its end.
struct Layer {
    live: Arc<Live>,
    filter: usize,
    dispatch: Arc<Dispatch>,
    state: AtomicPtr<c_void>,
    responded: AtomicBool,
}

/// Why the answer is an error.
pub(super) struct Failed {
    pub kind: String,
    pub text: String,
    /// `Some`: unavailable for so many seconds.
    pub unavailable: Option<u32>,
}

/// What changes while the exchange runs.
pub(super) struct Inner {
    pub pieces: VecDeque<Vec<u8>>,
    /// How many of the pieces have come; the others are under way.
    pub come: usize,
    pub body_error: Option<sv_status>,
    pub parameters: Option<Result<Vec<(String, String)>, sv_status>>,
    pub attributes: BTreeMap<String, Vec<u8>>,
    pub session: Option<(usize, Arc<Session>)>,
    pub said: String,

    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub content_type: Option<String>,
    pub charset: Option<String>,
    pub content_length: Option<u64>,
    pub written: u64,
    buffer: Vec<(usize, Vec<u8>)>,
    pub buffer_bytes_max: usize,
    committing: bool,
    pub committed: bool,
    pub finished: bool,
    floor: usize,
    budget: usize,
    head: Vec<(String, Vec<u8>)>,
    received: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
    pub informational: Vec<u16>,
    pub error: Option<(u16, String)>,
    pub failed: Option<Failed>,
    gone: bool,

    pub told: Option<(unsafe extern "C" fn(*mut c_void), usize)>,
    pub complete: Option<sv_status>,
    pub redispatch: Option<Option<String>>,
    pub timeout: Option<Instant>,
}

pub(super) struct Exchange {
    pub webapp: Arc<Webapp>,
    pub live: Arc<Live>,
    pub sent: Sent,
    pub id: u64,
    pub wake: Arc<Wake>,
    pub arena: Arena,
    pub phase: Mutex<Phase>,
    pub inner: Mutex<Inner>,
    layers: Mutex<Vec<Arc<Layer>>>,
}

/// What one servlet or filter sees of the exchange: what a handle leads to.
pub(super) struct Dispatch {
    pub handle: usize,
    pub exchange: Arc<Exchange>,
    pub kind: u32,
    pub head: Head,
    pub path: String,
    /// Of the dispatch's own target; they go before those of the request.
    pub query: Vec<(String, String)>,
    pub found: Option<Match>,
    pub multipart: bool,
    depth: usize,
    /// How many filters see what it writes.
    level: usize,
    pub in_body: AtomicBool,
}

/// The head, which lives in the exchange's arena.
#[derive(Clone, Copy)]
pub(super) struct Head(pub *const sv_request);

// SAFETY: plain memory that nobody changes.
unsafe impl Send for Head {}
// SAFETY: as above.
unsafe impl Sync for Head {}

/// A target inside the webapp, taken apart.
struct Target {
    uri: String,
    path: String,
    query: Option<String>,
}

impl Target {
    fn parse(target: &str) -> Result<Target, String> {
        let target = target.split('#').next().unwrap_or_default();
        let (uri, query) = match target.split_once('?') {
            Some((uri, query)) => (uri, Some(query.to_owned())),
            None => (target, None),
        };
        if !uri.starts_with('/') {
            return Err(format!("{uri:?} does not begin with a slash"));
        }
        let plain: Vec<&str> = uri.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
        let path = decode::decode(plain.join("/").as_bytes(), Plus::Plus)?;
        Ok(Target { uri: uri.to_owned(), path, query })
    }
}

impl Exchange {
    #[track_caller]
    pub fn run(webapp: &Arc<Webapp>, sent: Sent) -> Answer {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let live = webapp.live().expect("the app runs until it is dropped");
        let target = match Target::parse(&sent.target) {
            Ok(target) => target,
            Err(text) => panic!("the target {:?} of the request is wrong: {text}", sent.target),
        };
        let exchange = Arc::new(Exchange {
            webapp: webapp.clone(),
            id: COUNT.fetch_add(1, Ordering::Relaxed) + 1,
            wake: Arc::default(),
            arena: Arena::default(),
            phase: Mutex::new(Phase::Nobody),
            inner: Mutex::new(Inner {
                pieces: sent.body.iter().filter(|piece| !piece.is_empty()).cloned().collect(),
                come: 1,
                body_error: None,
                parameters: None,
                attributes: BTreeMap::new(),
                session: None,
                said: String::new(),
                status: 200,
                headers: Vec::new(),
                content_type: None,
                charset: None,
                content_length: None,
                written: 0,
                buffer: Vec::new(),
                buffer_bytes_max: 8 * 1024,
                committing: false,
                committed: false,
                finished: false,
                floor: 0,
                budget: sent.takes.unwrap_or(usize::MAX),
                head: Vec::new(),
                received: Vec::new(),
                trailers: Vec::new(),
                informational: Vec::new(),
                error: None,
                failed: None,
                gone: false,
                told: None,
                complete: None,
                redispatch: None,
                timeout: None,
            }),
            layers: Mutex::default(),
            live,
            sent,
        });
        let found = mapping::find(&exchange.live.patterns, &target.path);
        let whole = exchange.make(SV_DISPATCH_REQUEST, &target, found, 0);
        whole.tell(SV_EVENT_REQUEST_INITIALIZED);
        // A test that fails inside must not leave handles behind; the panic goes on after.
        let run = catch_unwind(AssertUnwindSafe(|| exchange.serve(SV_DISPATCH_REQUEST, &target, None, 0)));
        whole.tell(SV_EVENT_REQUEST_DESTROYED);
        exchange.end(&whole);
        if let Err(panic) = run {
            resume_unwind(panic);
        }
        exchange.answer()
    }

    fn end(&self, whole: &Dispatch) {
        table::unregister(whole.handle);
        table::unregister_of(self.id);
    }

    // ------------------------------------------------------------------------------------------ dispatches

    /// Filters, servlet, and the end of both; with the whole answer when it is the first dispatch.
    fn serve(self: &Arc<Exchange>, kind: u32, target: &Target, named: Option<usize>, depth: usize) -> sv_status {
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

    /// What the default servlet answers: there are no files.
    fn not_found(&self, kind: u32, path: &str) -> sv_status {
        let mut inner = lock(&self.inner);
        if kind == SV_DISPATCH_INCLUDE {
            inner.failed =
                Some(Failed { kind: "io/not-found".into(), text: format!("no file {path}"), unavailable: None });
            return SV_E_FAILED;
        }
        inner.error = Some((404, format!("nothing is mapped to {path}")));
        SV_OK
    }

    fn applies(&self, filter: usize, kind: u32, target: &Target, servlet: Option<usize>, named: bool) -> bool {
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
    fn make(self: &Arc<Exchange>, kind: u32, target: &Target, found: Option<Match>, depth: usize) -> Arc<Dispatch> {
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
    fn call(self: &Arc<Exchange>, servlet: usize, dispatch: Arc<Dispatch>) -> sv_status {
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

    fn method_not_allowed(&self, allowed: u32, method: u32) -> sv_status {
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

    fn drive(&self, declared: &sv_servlet, dispatch: &Dispatch, task: *mut c_void) -> sv_status {
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

    fn fail(&self, kind: &str, text: &str) {
        let failed = Failed { kind: kind.to_owned(), text: text.to_owned(), unavailable: None };
        lock(&self.inner).failed.get_or_insert(failed);
    }

    /// Waits until another thread has called complete or async_dispatch. It is owed, so there is no other end.
    fn wait_for_completion(&self) -> sv_status {
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
                if let Some((call, argument)) = call {
                    // SAFETY: as servlet.h says of told: once, and before complete.
                    unsafe { call(std::ptr::with_exposed_provenance_mut(argument)) };
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

    // ------------------------------------------------------------------------------------------ the response

    /// Turns an error status into an answer, if it is not too late.
    fn settle(&self, status: sv_status) {
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

    fn status_of(&self, status: sv_status, inner: &Inner) -> u16 {
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

    fn has_body(&self, inner: &Inner) -> bool {
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
    fn put(&self, level: usize, bytes: &[u8]) {
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
    fn close(&self, base: usize, result: sv_status) {
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

    fn is_gone_by(&self, inner: &Inner) -> bool {
        inner.gone || self.sent.leave_at.is_some_and(|at| at <= Instant::now())
    }

    pub fn is_gone(&self) -> bool {
        self.is_gone_by(&lock(&self.inner))
    }

    fn answer(&self) -> Answer {
        let inner = lock(&self.inner);
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let texts =
            |pairs: &[(String, Vec<u8>)]| pairs.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let short = inner.content_length.is_some_and(|length| inner.written < length && self.has_body(&inner));
        Answer {
            status: inner.status,
            headers: texts(&inner.head),
            body: inner.received.clone(),
            trailers: texts(&inner.trailers),
            informational: inner.informational.clone(),
            cut: self.is_gone_by(&inner) || short,
            error: inner
                .failed
                .as_ref()
                .map(|failed| failed.text.clone())
                .or(inner.error.clone().map(|(_, text)| text)),
            error_kind: inner.failed.as_ref().map(|failed| failed.kind.clone()),
        }
    }

    // ------------------------------------------------------------------------------------------ the request

    /// `true`: the next piece, or the end, is here. In poll each further piece is only here with the next poll.
    fn has_come(&self, inner: &mut Inner, polls: bool, wanted: usize) -> bool {
        if !polls || inner.pieces.len() <= inner.come && wanted <= inner.come || inner.pieces.is_empty() {
            return true;
        }
        if inner.come >= wanted {
            return true;
        }
        inner.come += 1;
        self.wake.wake();
        false
    }

    /// What has come, to its end: `None`.
    pub fn next_piece(&self, inner: &mut Inner, polls: bool, max: usize) -> Result<Option<Vec<u8>>, sv_status> {
        self.check_body(inner)?;
        if !self.has_come(inner, polls, 1) {
            return Err(SV_WOULD_BLOCK);
        }
        let Some(piece) = inner.pieces.front_mut() else { return Ok(None) };
        let taken: Vec<u8> = piece.drain(..piece.len().min(max)).collect();
        if piece.is_empty() {
            inner.pieces.pop_front();
            inner.come = inner.come.saturating_sub(1);
        }
        Ok(Some(taken))
    }

    /// The rest of the body.
    pub fn rest(&self, inner: &mut Inner, polls: bool, max: usize) -> Result<Vec<u8>, sv_status> {
        self.check_body(inner)?;
        let length: usize = inner.pieces.iter().map(Vec::len).sum();
        let wanted = inner.pieces.len();
        if !self.has_come(inner, polls, wanted) {
            return Err(SV_WOULD_BLOCK);
        }
        if length > max {
            return Err(SV_E_LIMIT);
        }
        Ok(inner.pieces.drain(..).flatten().collect())
    }

    fn check_body(&self, inner: &mut Inner) -> Result<(), sv_status> {
        if self.is_gone_by(inner) && !inner.pieces.is_empty() {
            inner.body_error = Some(SV_E_CLOSED);
        }
        inner.body_error.map_or(Ok(()), Err)
    }

    fn has_type(&self, wanted: &str) -> bool {
        let found = self.sent.headers.iter().find(|(name, _)| name == "content-type");
        found.is_some_and(|(_, value)| {
            let essence = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
            essence.eq_ignore_ascii_case(wanted.as_bytes())
        })
    }

    pub fn parameters(&self, dispatch: &Dispatch, polls: bool) -> Result<Vec<(String, String)>, sv_status> {
        let mut inner = lock(&self.inner);
        if inner.parameters.is_none() {
            let found = self.read_parameters(&mut inner, dispatch, polls);
            if found == Err(SV_WOULD_BLOCK) {
                return found;
            }
            inner.parameters = Some(found);
        }
        let mut all = dispatch.query.clone();
        all.extend(inner.parameters.clone().unwrap_or(Ok(Vec::new()))?);
        Ok(all)
    }

    fn read_parameters(
        &self,
        inner: &mut Inner,
        dispatch: &Dispatch,
        polls: bool,
    ) -> Result<Vec<(String, String)>, sv_status> {
        let query = self.sent.target.split_once('?').map_or("", |(_, query)| query);
        let decode = |inner: &mut Inner, text: &[u8]| {
            decode::pairs(text).map_err(|wrong| {
                inner.said = wrong;
                SV_E_REQUEST
            })
        };
        let mut all = decode(inner, query.as_bytes())?;
        if self.has_type("application/x-www-form-urlencoded") {
            let body = self.rest(inner, polls, 2 * 1024 * 1024)?;
            all.extend(decode(inner, &body)?);
        } else if let Some(parts) = self.sent.parts.as_ref().filter(|_| dispatch.multipart) {
            let fields = parts.iter().filter(|part| part.file_name.is_none());
            all.extend(fields.map(|part| (part.name.clone(), String::from_utf8_lossy(&part.data).into_owned())));
        }
        Ok(all)
    }

    /// The parts that the test gave; `None`: a body of another type.
    pub fn parts(&self) -> Option<&[Part]> {
        self.sent.parts.as_deref().filter(|_| self.has_type("multipart/form-data"))
    }

    pub fn cookies(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        for (_, header) in self.sent.headers.iter().filter(|(name, _)| name == "cookie") {
            for pair in String::from_utf8_lossy(header).split(';') {
                let (name, value) = pair.trim().split_once('=').unwrap_or((pair.trim(), ""));
                all.push((name.to_owned(), value.to_owned()));
            }
        }
        all
    }

    /// The session; asked of a dispatch, but the same for all of them.
    pub fn session(&self, dispatch: &Dispatch, create: bool) -> Result<Option<usize>, sv_status> {
        let mut inner = lock(&self.inner);
        if let Some((handle, session)) = &inner.session {
            if lock(&session.data).valid {
                return Ok(Some(*handle));
            }
        }
        let sent = self.requested_session();
        // An id that was given up in this request is not asked for once more: `find` does not have it.
        let mut session = sent.and_then(|id| Session::find(&self.webapp, &id));
        let mut created = false;
        if session.is_none() && create {
            if inner.committed {
                return Err(SV_E_STATE);
            }
            session = Some(Session::create(&self.webapp));
            created = true;
        }
        let Some(session) = session else { return Ok(None) };
        let handle = table::register(Handle::Session(session.clone(), dispatch.exchange.clone()));
        inner.session = Some((handle, session.clone()));
        if created {
            self.send_session_cookie(&mut inner, &session);
            drop(inner);
            let session_id = self.arena.text(&lock(&session.data).id);
            let told = Told { exchange: dispatch.handle, session: handle, session_id, ..Told::default() };
            self.live.tell(SV_EVENT_SESSION_CREATED, &told);
        }
        Ok(Some(handle))
    }

    pub fn requested_session(&self) -> Option<String> {
        self.cookies().into_iter().find(|(name, _)| name == COOKIE).map(|(_, id)| id)
    }

    pub fn send_session_cookie(&self, inner: &mut Inner, session: &Session) {
        let path = if self.webapp.setup.path.is_empty() { "/" } else { &self.webapp.setup.path };
        let value = format!("{COOKIE}={}; Path={path}; HttpOnly", lock(&session.data).id);
        let ours = format!("{COOKIE}=");
        inner.headers.retain(|(name, value)| name != "set-cookie" || !value.starts_with(ours.as_bytes()));
        inner.headers.push(("set-cookie".to_owned(), value.into_bytes()));
    }
}

impl Layer {
    fn filter(&self) -> &'static sv_filter {
        self.live.filters[self.filter].declared
    }

    fn pointer(&self) -> *mut c_void {
        self.live.filters[self.filter].pointer
    }

    fn body(&self, bytes: &[u8], last: bool) {
        let Some(on_body) = self.filter().on_body else { return };
        let (pointer, handle) = (self.pointer(), self.dispatch.pointer());
        let state = self.state.load(Ordering::Acquire);
        self.dispatch.in_body.store(true, Ordering::Release);
        // SAFETY: as servlet.h says of on_body.
        let status =
            self.dispatch.own(|| unsafe { on_body(pointer, handle, state, bytes.as_ptr(), bytes.len(), last.into()) });
        self.dispatch.in_body.store(false, Ordering::Release);
        if status < 0 {
            self.dispatch.exchange.settle(status);
        }
    }
}

impl Dispatch {
    pub fn pointer(&self) -> *mut sv_exchange {
        std::ptr::without_provenance_mut(self.handle)
    }

    /// Runs a function of the library for which this thread owns the exchange.
    fn own<T>(&self, body: impl FnOnce() -> T) -> T {
        self.own_as(Phase::Waits, body)
    }

    fn own_as<T>(&self, phase: fn(ThreadId) -> Phase, body: impl FnOnce() -> T) -> T {
        let before = std::mem::replace(&mut *lock(&self.exchange.phase), phase(std::thread::current().id()));
        let result = body();
        let mut now = lock(&self.exchange.phase);
        if *now != Phase::Detached {
            *now = before;
        }
        result
    }

    fn tell(&self, kind: u32) {
        self.own(|| self.exchange.live.tell(kind, &Told { exchange: self.handle, ..Told::default() }));
    }
}
