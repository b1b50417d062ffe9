//! The module: what `init` makes and `destroy` takes apart, hand-over to the next generation, and how panics are reported.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::ptr::{NonNull, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

use serval_abi::{
    SV_E_FAILED, SV_E_PANIC, SV_E_UNSUPPORTED, SV_HOST_SIZE_1_0, SV_OK, sv_context, sv_exchange, sv_host, sv_status,
    sv_str,
};

use crate::Context;
use crate::background::Background;
use crate::glue::{Slot, State};
use crate::hooks::{Hook, Hooks};
use crate::host::{self, ContextHandle, Current};

// ---------------------------------------------------------------------------------------------- panics

/// Runs `body`; a panic becomes its text, at most.
pub(crate) fn caught<T>(body: impl FnOnce() -> T) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let text = panic_text(&*payload).to_owned();
        // What was thrown may throw once more when it is dropped; that is enough.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        text
    })
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "a panic without text",
    }
}

/// Tells the server, which writes the line and takes the backtrace: std's own hook would cost tens of megabytes in each
/// generation when it prints one.
fn panic_hook(panic: &PanicHookInfo<'_>) {
    let text = panic_text(panic.payload());
    let (file, line) = panic.location().map_or(("", 0), |place| (place.file(), place.line()));
    if !host::report_panic(text, file, line) {
        eprintln!("{panic}");
    }
}

/// How many modules of this library live. It is one in a server; tests may have several.
static MODULES: Mutex<usize> = Mutex::new(0);

fn module_begins(host: &'static sv_host, context: *mut sv_context) {
    let mut count = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    host::connect(host, context);
    crate::adapters_install();
    if *count == 0 {
        std::panic::set_hook(Box::new(panic_hook));
    }
    *count += 1;
}

fn module_ends() {
    let mut count = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    *count -= 1;
    if *count == 0 {
        host::disconnect();
        // In a test that fails it cannot be changed any more.
        if !std::thread::panicking() {
            drop(std::panic::take_hook());
        }
    }
}

/// Leaves a text that lives as long as the library: what a refused generation may cost.
///
/// # Safety
/// `error` is NULL or may be written to.
pub(crate) unsafe fn refuse(error: *mut sv_str, text: String) {
    if !error.is_null() {
        // SAFETY: the caller's promise.
        unsafe { error.write(sv_str::new(text.leak())) };
    }
}

// ---------------------------------------------------------------------------------------------- the module

/// What `init` makes: the module's state, and what belongs to it.
pub(crate) struct Module {
    context: Context,
    background: Arc<Background>,
    state: Option<State>,
    pub hooks: Hooks,
}

impl Module {
    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn background(&self) -> &Arc<Background> {
        &self.background
    }

    pub fn state(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.state.as_deref()
    }

    /// Makes its context this thread's, for the log.
    pub fn enter(&self, exchange: *mut sv_exchange) -> impl Drop + use<> {
        Current::of(self.background.context(), exchange).enter()
    }
}

/// The module, for its jobs: they are ended before it.
#[derive(Clone, Copy)]
pub struct ModulePointer(NonNull<Module>);

// SAFETY: the module is Sync.
unsafe impl Send for ModulePointer {}
// SAFETY: as above.
unsafe impl Sync for ModulePointer {}

impl ModulePointer {
    /// INVARIANT: only asked for by a job whose type of state was compared with the module's.
    pub(crate) fn state<S: 'static>(&self) -> &S {
        // SAFETY: `destroy` stops all jobs before it drops the module.
        let module = unsafe { self.0.as_ref() };
        let state = module.state().and_then(|state| state.downcast_ref());
        state.expect("the state's type was checked when the module was started")
    }
}

/// # Safety
/// As servlet.h says of `init`.
pub unsafe fn init(
    host: *const sv_host,
    context: *mut sv_context,
    module: *mut *mut c_void,
    error: *mut sv_str,
    hooks: &'static [Slot<Hook>],
    tokio_workers: usize,
) -> sv_status {
    // SAFETY: NULL, or a table that outlives the library; its first member is there in every version.
    let size = unsafe { host.cast::<u32>().as_ref() }.copied().unwrap_or_default() as usize;
    if size < SV_HOST_SIZE_1_0 || module.is_null() {
        // SAFETY: the caller's promise.
        unsafe { refuse(error, "the server's table is shorter than that of servlet.h 1.0".to_owned()) };
        return SV_E_UNSUPPORTED;
    }
    // SAFETY: as above; only functions of 1.0 are called without asking for its size.
    let host: &'static sv_host = unsafe { &*host };

    module_begins(host, context);
    let _current = Current::of(context, null_mut()).enter();
    let background = Background::begin(ContextHandle::new(host, context), tokio_workers);
    let (status, text) = match caught(|| start(&background, ContextHandle::new(host, context), hooks)) {
        Ok(Ok(started)) => {
            // SAFETY: not NULL; the caller's promise.
            unsafe { module.write(Box::into_raw(started).cast()) };
            return SV_OK;
        }
        Ok(Err(text)) => (SV_E_FAILED, text),
        Err(text) => (SV_E_PANIC, format!("panicked: {text}")),
    };
    background.stop();
    background.end();
    module_ends();
    // SAFETY: the caller's promise.
    unsafe { refuse(error, text) };
    status
}

fn start(
    background: &Arc<Background>,
    context: ContextHandle,
    hooks: &'static [Slot<Hook>],
) -> std::result::Result<Box<Module>, String> {
    let hooks = Hooks::collect(hooks)?;
    let context = Context::new(context, Arc::clone(background));
    let _tokio = background.enter();
    let state = match hooks.start {
        Some((_, start)) => Some(start.start(&context).map_err(|error| error.text().to_owned())?),
        None => None,
    };
    let module = Box::new(Module { context, background: Arc::clone(background), state, hooks });
    let pointer = ModulePointer(NonNull::from(&*module));
    for (name, job) in &module.hooks.jobs {
        if let Err(wrong) = job.begin(name, pointer, background) {
            // Those that have begun look at the module.
            background.stop();
            return Err(wrong.text().to_owned());
        }
    }
    Ok(module)
}

/// # Safety
/// As servlet.h says of a module's `destroy`.
pub unsafe extern "C" fn destroy(module: *mut c_void) {
    if module.is_null() {
        return;
    }
    // SAFETY: made by `init`. While jobs look at it, it is not changed.
    let background = Arc::clone(&unsafe { &*module.cast::<Module>() }.background);
    let _current = Current::of(background.context(), null_mut()).enter();
    background.stop();
    // SAFETY: as above, and this is its last use; its jobs have ended.
    let mut module = unsafe { Box::from_raw(module.cast::<Module>()) };
    // A panic was reported by the hook; there is nobody to tell a result.
    let _ = caught(|| {
        let _tokio = background.enter();
        match (module.state.take(), module.hooks.stop) {
            (Some(state), Some((_, stop))) => stop.stop(state),
            (state, _) => drop(state),
        }
    });
    background.end();
    module_ends();
}

/// # Safety
/// As servlet.h says of `save`.
pub unsafe extern "C" fn save(module: *mut c_void, buffer: *mut u8, capacity: usize, len: *mut usize) -> sv_status {
    // SAFETY: made by `init`, and destroyed later.
    let Some(module) = (unsafe { module.cast::<Module>().as_ref() }) else { return SV_E_FAILED };
    let (Some((_, carry)), Some(state)) = (module.hooks.carry, module.state()) else { return SV_E_FAILED };
    let _current = module.enter(null_mut());
    let Ok(bytes) = caught(|| carry.carry(state)) else { return SV_E_PANIC };
    if len.is_null() || (buffer.is_null() && capacity > 0) {
        return SV_E_FAILED;
    }
    // SAFETY: the caller's: so many bytes at most.
    unsafe { buffer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len().min(capacity)) };
    // SAFETY: not NULL, and the caller's.
    unsafe { len.write(bytes.len()) };
    SV_OK
}

/// # Safety
/// As servlet.h says of `restore`.
pub unsafe extern "C" fn restore(module: *mut c_void, bytes: *const u8, len: usize) -> sv_status {
    // SAFETY: as in `save`.
    let Some(module) = (unsafe { module.cast::<Module>().as_ref() }) else { return SV_E_FAILED };
    let (Some((name, restore)), Some(state)) = (module.hooks.restore, module.state()) else { return SV_E_FAILED };
    let _current = module.enter(null_mut());
    // SAFETY: the caller's, until this returns.
    let bytes = unsafe { host::bytes(sv_str { ptr: bytes, len }) }.unwrap_or_default();
    match caught(|| restore.restore(state, bytes)) {
        Ok(Ok(())) => SV_OK,
        Ok(Err(wrong)) => {
            crate::job::report(name, &wrong);
            SV_E_FAILED
        }
        Err(_) => SV_E_PANIC,
    }
}
