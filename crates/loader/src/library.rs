//! A servlet library: from a file in the private copy to a module that runs, and to servlets that can be called.
//!
//! Called by the container on control threads. Nothing is ever closed yet: a library whose code the host's threads may still
//! need at their end cannot simply go (its thread-local destructors, ABI-EVIDENCE B), so it counts as left mapped.

use std::ffi::{OsStr, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use libloading::os::unix;
use serval_abi::*;

pub use crate::description::{Declared, DeclaredServlet, Promise};
use crate::description::{TEXT_BYTES_MAX, declared, read_module};
use crate::elf;
use crate::error::Refusal;
use crate::exchange::{Context, Exchange, Fault};
use crate::misuse;
use crate::slots::{ContextHandle, ExchangeHandle};
use crate::table::{Frame, HOST, last_panic};

/// A loaded library and what it declares.
pub struct Library {
    path: PathBuf,
    module: sv_module,
    declared: Declared,
    /// Never closed, see above.
    _handle: ManuallyDrop<unix::Library>,
}

// SAFETY: a description is constant data, and its functions are called as servlet.h tags them.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Loads a file of the private copy. `None`: it has no entry symbol, so it is a dependency of the others.
    pub fn open(path: &Path) -> Result<Option<Library>, Refusal> {
        let bytes = std::fs::read(path).map_err(Refusal::Read)?;
        let facts = elf::read(&bytes)?;
        drop(bytes);
        if !facts.entry {
            return match facts.other_entries.first() {
                Some(other) => Err(Refusal::OtherMajor(other.clone())),
                None => Ok(None),
            };
        }
        // Not closed after a refusal either: its constructors have run.
        let handle = ManuallyDrop::new(load(path)?);
        // SAFETY: the symbol was seen in the dynamic symbol table, and its type is fixed by its name (servlet.h).
        let entry = unsafe { handle.get::<sv_module_fn>(ENTRY.to_bytes_with_nul()) }.map_err(|_| Refusal::NoEntry)?;
        // SAFETY: the entry does nothing but return constant data.
        let module = unsafe { entry() };
        // SAFETY: the library's promise: NULL, or a description that begins with magic and struct_size.
        let module = unsafe { read_module(module) }?;
        // SAFETY: read_module has checked magic, version and size.
        let declared = unsafe { declared(&module) }?;
        Ok(Some(Library { path: path.to_owned(), module, declared, _handle: handle }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Runs the library's init. May block; called on a control thread.
    pub fn start(self: &Arc<Self>, context: Arc<dyn Context>) -> Result<Module, Refusal> {
        self.declared.runs_here()?;
        let handle = ContextHandle::open(context);
        let mut this = null_mut();
        if let Some(init) = self.module.init {
            let mut error = sv_str::ABSENT;
            // SAFETY: by servlet.h: a control thread, once per module, with places for the results.
            let status = unsafe { init(&HOST, handle.raw(), &mut this, &mut error) };
            if status != SV_OK {
                return Err(Refusal::Init(failure_text(status, error)));
            }
        }
        Ok(Module { library: self.clone(), this, context: handle })
    }
}

fn load(path: &Path) -> Result<unix::Library, Refusal> {
    // SAFETY: this runs the library's constructors: that is what loading a servlet library means.
    unsafe { unix::Library::open(Some(path), unix::RTLD_NOW | unix::RTLD_LOCAL) }.map_err(|error| {
        // The error itself only says that it was one.
        let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        let text = text.trim_start_matches(&*path.to_string_lossy()).trim_start_matches(": ");
        match text.split_once(": cannot open shared object file") {
            Some((name, _)) => Refusal::MissingDependency(name.to_owned()),
            None => Refusal::Load(text.to_owned()),
        }
    })
}

fn failure_text(status: sv_status, error: sv_str) -> String {
    if error.ptr.is_null() || error.len == 0 || error.len > TEXT_BYTES_MAX {
        return match status {
            SV_E_PANIC => "it panicked; the log has the place".to_owned(),
            _ => format!("status {status}, and no text"),
        };
    }
    // SAFETY: the library's promise: the text lives as long as the library.
    let bytes = unsafe { std::slice::from_raw_parts(error.ptr, error.len) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// A library after its init, in one generation of a context. Dropping it runs its destroy: on a control thread, after its
/// servlets.
pub struct Module {
    library: Arc<Library>,
    this: *mut c_void,
    context: ContextHandle,
}

// SAFETY: the pointer belongs to the library, which servlet.h lets be called from the threads that its tags name.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        if let Some(destroy) = self.library.module.destroy {
            // SAFETY: init has succeeded, and every servlet of this module, which holds it, is gone.
            unsafe { destroy(self.this) };
        }
    }
}

/// A servlet that was created. Dropping it runs its destroy: on a control thread, after its last call.
pub struct Servlet {
    name: String,
    promise: Promise,
    methods: u32,
    this: *mut c_void,
    description: *const sv_servlet,
    service: unsafe extern "C" fn(*mut c_void, *mut sv_exchange, *mut *mut c_void) -> sv_status,
    config: Box<Config>,
    module: Arc<Module>,
    /// 0: available; else the second from which on it is again.
    unavailable_until: AtomicU64,
    /// It has kept an I/O thread too long.
    off_io_threads: AtomicBool,
}

/// What an sv_config points to; its address is fixed.
struct Config {
    name: String,
    init: Vec<(String, String)>,
    pairs: Vec<sv_pair>,
    view: sv_config,
}

// SAFETY: as `Module`; the config is never written after it was made.
unsafe impl Send for Servlet {}
// SAFETY: as above.
unsafe impl Sync for Servlet {}

/// How a call of a servlet ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Not the servlet's: answer as the default servlet would.
    Next,
    /// An error status, which the exchange may know more about.
    Failed(sv_status, String),
}

const FOR_GOOD: u64 = u64::MAX;

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
        let declared = &module.library.declared.servlets[index];
        // SAFETY: `declared` was made of this array, so index is inside and the pointer valid.
        let description = unsafe { *module.library.module.servlets.add(index) };
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
            let status = unsafe { create(module.context.raw(), module.this, &config.view, &mut this, &mut error) };
            if status != SV_OK {
                return Err(Refusal::Create { servlet: name.to_owned(), text: failure_text(status, error) });
            }
        }
        Ok(Servlet {
            name: name.to_owned(),
            promise: declared.promise,
            methods: declared.methods,
            this,
            description,
            service,
            config,
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
        self.promise == Promise::Nonblocking && !self.off_io_threads.load(Ordering::Relaxed)
    }

    /// Its promise does not hold. Returns whether that is news.
    pub fn keep_off_io_threads(&self) -> bool {
        !self.off_io_threads.swap(true, Ordering::Relaxed)
    }

    pub fn methods(&self) -> u32 {
        self.methods
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

    /// Runs service on the calling thread, which owns the exchange meanwhile.
    pub fn service(&self, exchange: &mut dyn Exchange) -> Outcome {
        let mut frame = Frame::new(exchange, self.module.context.raw(), &self.name);
        let handle = match ExchangeHandle::open(&mut frame) {
            Ok(handle) => handle,
            Err(fault) => return Outcome::Failed(fault.status, fault.text.into_owned()),
        };
        let mut task = null_mut();
        // SAFETY: by servlet.h: after create, with an open handle that this thread owns.
        let status = unsafe { (self.service)(self.this, handle.raw(), &mut task) };
        drop(handle);
        if status != SV_PENDING && !task.is_null() {
            let text = "it has set *task and not returned SV_PENDING: the task is lost";
            misuse::report("service", &Fault::new(SV_E_STATE, text), Some(&self.name));
        }
        match status {
            SV_OK => Outcome::Done,
            SV_NEXT => Outcome::Next,
            SV_PENDING => {
                self.drop_task(task);
                let text = "it returned SV_PENDING, and this server does not run async servlets yet";
                Outcome::Failed(SV_E_UNSUPPORTED, text.to_owned())
            }
            SV_E_PANIC => Outcome::Failed(status, last_panic().unwrap_or_else(|| "it panicked".to_owned())),
            _ => Outcome::Failed(status, format!("it returned status {status}")),
        }
    }

    fn drop_task(&self, task: *mut c_void) {
        // SAFETY: the description lives as long as the library.
        let drop = unsafe { (*self.description).drop };
        if let (Some(drop), false) = (drop, task.is_null()) {
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
        // The config and the module go after it, as fields.
        let _ = &self.config;
    }
}

impl Config {
    fn new(name: &str, init: Vec<(String, String)>) -> Box<Config> {
        let empty = sv_config {
            struct_size: size_of::<sv_config>() as u32,
            reserved: 0,
            name: sv_str::ABSENT,
            init: std::ptr::null(),
            init_count: 0,
        };
        let mut config = Box::new(Config { name: name.to_owned(), init, pairs: Vec::new(), view: empty });
        config.pairs = config
            .init
            .iter()
            .map(|(name, value)| sv_pair { name: sv_str::new(name), value: sv_str::new(value) })
            .collect();
        config.view.name = sv_str::new(&config.name);
        config.view.init = config.pairs.as_ptr();
        config.view.init_count = config.pairs.len();
        config
    }
}

/// Whether a file name is one of a library that is to be looked at.
pub fn is_library_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}
