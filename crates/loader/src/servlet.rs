//! A servlet that was created, and the calls of it: service, and the polls of what it leaves to go on.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serval_abi::*;

use crate::config::Config;
use crate::description::{DeclaredServlet, Promise};
use crate::error::Refusal;
use crate::exchange::{Exchange, Fault};
use crate::library::failure_text;
use crate::misuse;
use crate::module::Module;
use crate::slots::{Entry, Handle};
use crate::table::{Memory, last_panic, starting};

/// What one dispatch of an exchange to a servlet, a filter or a listener function has: a handle, which stays the same over its calls,
/// and the memory that was given to the library for it. Both end when it is dropped.
pub struct Scope {
    pub(crate) handle: Option<Handle>,
    pub(crate) memory: Memory,
}

impl Scope {
    #[expect(clippy::new_without_default, reason = "it begins a dispatch, and is no value")]
    pub fn new() -> Scope {
        Scope { handle: None, memory: Memory::new() }
    }

    /// Lets the calling thread use the exchange by the handle, until the returned value is dropped.
    pub(crate) fn enter<'e>(
        &'e mut self,
        exchange: &'e mut dyn Exchange,
        module: &Module,
        who: &'e str,
    ) -> Result<Entry<'e>, Fault> {
        module.library().calls();
        self.memory.set_context(module.context());
        let handle = match &mut self.handle {
            Some(handle) => handle,
            none => none.insert(Handle::open()?),
        };
        Ok(handle.enter(exchange, &mut self.memory, who))
    }
}

/// How a call of a servlet or filter ended.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// A servlet: not mine, answer as the default servlet would. A filter: go on.
    Next,
    /// To be polled.
    Pending(Task),
    /// A thread of the library will complete it.
    Detached,
    /// An error status, which the exchange may know more about, and a text for the log.
    Failed(sv_status, String),
}

impl Outcome {
    /// Of a status that neither passes on nor goes on.
    pub(crate) fn of(status: sv_status) -> Outcome {
        match status {
            SV_OK => Outcome::Done,
            SV_NEXT => Outcome::Next,
            SV_E_PANIC => Outcome::Failed(status, last_panic().unwrap_or_else(|| "it panicked".to_owned())),
            _ => Outcome::Failed(status, format!("it returned status {status}")),
        }
    }
}

pub struct Servlet {
    name: String,
    declared: DeclaredServlet,
    this: *mut c_void,
    description: *const sv_servlet,
    service: unsafe extern "C" fn(*mut c_void, *mut sv_exchange, *mut *mut c_void) -> sv_status,
    /// The library keeps its view.
    _config: Box<Config>,
    module: Arc<Module>,
    /// 0: available; else the second from which on it is again.
    unavailable_until: AtomicU64,
    /// It has kept an I/O thread too long.
    off_io_threads: AtomicBool,
}

// SAFETY: as `Module`; the config is never written after it was made.
unsafe impl Send for Servlet {}
// SAFETY: as above.
unsafe impl Sync for Servlet {}

const FOR_GOOD: u64 = u64::MAX;
/// The first millisecond since 1970 that no date of HTTP can tell: that of the year 10000.
const MODIFIED_END: i64 = 253_402_300_800_000;

/// Seconds since this was first asked, and one.
fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_secs() + 1
}

impl Servlet {
    /// Creates an instance, named `name`, of the servlet that the module's library declares at `index`. May block; called on a
    /// control thread.
    pub fn create(
        module: &Arc<Module>,
        index: usize,
        name: &str,
        init: Vec<(String, String)>,
    ) -> Result<Servlet, Refusal> {
        let declared = module.library().declared().servlets[index].clone();
        // SAFETY: `declared` was made of this array, so index is inside and the pointer valid.
        let description = unsafe { *module.library().module().servlets.add(index) };
        // SAFETY: as above.
        let servlet = unsafe { &*description };
        let Some(service) = servlet.service else {
            return Err(Refusal::Description(format!("the servlet `{name}` has no service function")));
        };
        let config = Config::new(name, init);
        let mut this = null_mut();
        if let Some(create) = servlet.create {
            let mut error = sv_str::ABSENT;
            // SAFETY: by servlet.h: a control thread, after init, with places for the results; the config outlives the servlet.
            let status = starting(module.context(), || unsafe {
                create(module.context(), module.this(), config.view(), &mut this, &mut error)
            });
            if status != SV_OK {
                return Err(Refusal::Create { servlet: name.to_owned(), text: failure_text(status, error) });
            }
        }
        Ok(Servlet {
            name: name.to_owned(),
            declared,
            this,
            description,
            service,
            _config: config,
            module: module.clone(),
            unavailable_until: AtomicU64::new(0),
            off_io_threads: AtomicBool::new(false),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// It promises not to block, and has kept to it.
    pub fn may_run_inline(&self) -> bool {
        self.declared.promise == Promise::Nonblocking && !self.is_off_io_threads()
    }

    pub fn is_off_io_threads(&self) -> bool {
        self.off_io_threads.load(Ordering::Relaxed)
    }

    /// Its promise does not hold. Returns whether that is news.
    pub fn keep_off_io_threads(&self) -> bool {
        !self.off_io_threads.swap(true, Ordering::Relaxed)
    }

    pub fn methods(&self) -> u32 {
        self.declared.methods
    }

    /// It goes on when the client has gone.
    pub fn keeps(&self) -> bool {
        self.declared.keeps
    }

    /// It takes multipart bodies, unless web.toml says otherwise.
    pub fn is_multipart(&self) -> bool {
        self.declared.multipart
    }

    /// It may return tasks.
    pub fn has_poll(&self) -> bool {
        self.declared.polls
    }

    /// It has said so: for this many seconds, or for good when they are 0.
    pub fn is_unavailable_for(&self, seconds: u32) {
        let until = if seconds == 0 { FOR_GOOD } else { now() + u64::from(seconds) };
        self.unavailable_until.store(until, Ordering::Relaxed);
    }

    /// How long it is still unavailable, in seconds; 0: for good.
    pub fn unavailable_for(&self) -> Option<u32> {
        match self.unavailable_until.load(Ordering::Relaxed) {
            0 => None,
            FOR_GOOD => Some(0),
            until => u32::try_from(until.saturating_sub(now())).ok().filter(|&left| left > 0),
        }
    }

    /// When what the request names was last changed, in ms since 1970 and before the year 10000; `None`: not known.
    pub fn last_modified(&self, scope: &mut Scope, exchange: &mut dyn Exchange) -> Option<i64> {
        if !self.declared.last_modified {
            return None;
        }
        // SAFETY: the description lives as long as the library, and is long enough: this member was there.
        let last_modified = unsafe { (*self.description).last_modified }?;
        let entry = scope.enter(exchange, &self.module, &self.name).ok()?;
        // SAFETY: by servlet.h: after create, with a handle that this thread owns.
        let modified = unsafe { last_modified(self.this, entry.raw()) };
        if modified >= MODIFIED_END {
            let text = format!("{modified} ms since 1970 is after the year 9999: are these microseconds?");
            misuse::report("last_modified", &Fault::new(SV_E_ARG, text), Some(&self.name));
        }
        (0..MODIFIED_END).contains(&modified).then_some(modified)
    }

    /// Runs service on the calling thread, which owns the exchange meanwhile.
    pub fn service(&self, scope: &mut Scope, exchange: &mut dyn Exchange) -> Outcome {
        scope.memory.in_service = true;
        let entry = match scope.enter(exchange, &self.module, &self.name) {
            Ok(entry) => entry,
            Err(fault) => return Outcome::Failed(fault.status, fault.text.into_owned()),
        };
        let mut task = null_mut();
        // SAFETY: by servlet.h: after create, with an open handle that this thread owns.
        let status = unsafe { (self.service)(self.this, entry.raw(), &mut task) };
        drop(entry);
        (scope.memory.in_service, scope.memory.awaited) = (false, 0);
        let wrong = |text: &str| {
            misuse::report("service", &Fault::new(SV_E_STATE, text.to_owned()), Some(&self.name));
            Outcome::Failed(SV_E_STATE, text.to_owned())
        };
        if scope.memory.told.is_some() {
            if !task.is_null() {
                self.drop_task(task);
                wrong("it has set *task after detach: the task is dropped");
            }
            let outcome = match (scope.memory.completed, status) {
                (Some(SV_OK), _) => Outcome::Done,
                (Some(result), _) => Outcome::Failed(result, format!("it was completed with status {result}")),
                (None, SV_PENDING) => return Outcome::Detached,
                (None, SV_NEXT) => wrong("it returned SV_NEXT after detach"),
                (None, status) => Outcome::of(status),
            };
            // Nobody else may complete it any more: threads that wait for the end of service learn it now.
            if let Some(handle) = &scope.handle {
                handle.leave_detached();
            }
            return outcome;
        }
        if status != SV_PENDING {
            if !task.is_null() {
                wrong("it has set *task and not returned SV_PENDING: the task is lost");
            }
            return Outcome::of(status);
        }
        // SAFETY: the description lives as long as the library, and is long enough: the members were there.
        let (poll, drop) = unsafe { ((*self.description).poll, (*self.description).drop) };
        match (task.is_null(), poll) {
            (false, Some(poll)) => {
                Outcome::Pending(Task { task, poll, drop, module: self.module.clone(), name: self.name.clone() })
            }
            (true, _) => wrong("it returned SV_PENDING with neither a task nor detach"),
            (false, None) => {
                self.drop_task(task);
                wrong("it returned a task and has no poll")
            }
        }
    }

    fn drop_task(&self, task: *mut c_void) {
        // SAFETY: the description lives as long as the library.
        if let Some(drop) = unsafe { (*self.description).drop } {
            // SAFETY: the task was made by service, and is dropped once.
            unsafe { drop(task) };
        }
    }
}

impl Drop for Servlet {
    fn drop(&mut self) {
        // SAFETY: the description lives as long as the library.
        if let Some(destroy) = unsafe { (*self.description).destroy } {
            // SAFETY: create has succeeded, and this was the last reference.
            unsafe { destroy(self.this) };
        }
    }
}

/// A task of a servlet. It is dropped once, before its [`Scope`], and while the generation lives.
pub struct Task {
    task: *mut c_void,
    poll: unsafe extern "C" fn(*mut c_void, *mut sv_exchange) -> sv_status,
    drop: Option<unsafe extern "C" fn(*mut c_void)>,
    module: Arc<Module>,
    name: String,
}

// SAFETY: servlet.h: a task is polled on any thread, by one at a time.
unsafe impl Send for Task {}

impl std::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Task of {}", self.name)
    }
}

/// How a poll ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    Pending,
    Done,
    Failed(sv_status, String),
}

impl Task {
    /// Goes on with the task, on the calling thread, which owns the exchange meanwhile.
    pub fn poll(&mut self, scope: &mut Scope, exchange: &mut dyn Exchange) -> Polled {
        scope.memory.in_poll = true;
        let entry = match scope.enter(exchange, &self.module, &self.name) {
            Ok(entry) => entry,
            Err(fault) => return Polled::Failed(fault.status, fault.text.into_owned()),
        };
        // SAFETY: by servlet.h: a task of service's, not dropped, with a handle that this thread owns.
        let status = unsafe { (self.poll)(self.task, entry.raw()) };
        drop(entry);
        scope.memory.in_poll = false;
        match Outcome::of(status) {
            _ if status == SV_PENDING => Polled::Pending,
            Outcome::Done => Polled::Done,
            Outcome::Failed(status, text) => Polled::Failed(status, text),
            _ => Polled::Failed(SV_E_STATE, format!("its poll returned status {status}")),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            self.module.library().calls();
            // SAFETY: the task was made by service, and is dropped once.
            unsafe { drop(self.task) };
        }
    }
}
