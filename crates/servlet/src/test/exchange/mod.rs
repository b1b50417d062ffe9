//! One request of a test and its response: the way through filters to a servlet, the buffer, the commit, and async tasks.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use serval_abi::{
    SV_DISPATCH_REQUEST, SV_EVENT_REQUEST_DESTROYED, SV_EVENT_REQUEST_INITIALIZED, SV_OK, sv_exchange, sv_filter,
    sv_request, sv_status,
};

use crate::decode;
use crate::decode::Plus;
use crate::test::call::Sent;
use crate::test::mapping::Match;
use crate::test::session::Session;
use crate::test::webapp::{Arena, Live, Told, Webapp, lock};
use crate::test::{Answer, mapping, table};

mod input;
mod output;
mod serve;

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
    /// What the servlet has asked for of it, last.
    pub last_said: String,

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

    pub told: Option<(unsafe extern "C" fn(*mut c_void, sv_status), usize)>,
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
                last_said: String::new(),
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
        let told = whole.tell(SV_EVENT_REQUEST_INITIALIZED);
        // A test that fails inside must not leave handles behind; the panic goes on after.
        let run = catch_unwind(AssertUnwindSafe(|| match told {
            SV_OK => exchange.serve(SV_DISPATCH_REQUEST, &target, None, 0),
            status => exchange.refuse(status),
        }));
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

    fn is_gone_by(&self, inner: &Inner) -> bool {
        inner.gone || self.sent.leave_at.is_some_and(|at| at <= Instant::now())
    }

    pub fn is_gone(&self) -> bool {
        self.is_gone_by(&lock(&self.inner))
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

    fn tell(&self, kind: u32) -> sv_status {
        self.own(|| self.exchange.live.tell(kind, &Told { exchange: self.handle, ..Told::default() }))
    }
}
