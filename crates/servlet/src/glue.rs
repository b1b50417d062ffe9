//! Between the C interface and the functions of an author: what `servlet_module_v1` describes, init and destroy of the
//! module, create, service and destroy of a servlet. Nothing unwinds out of here.

use std::any::Any;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicPtr;
use std::sync::{Arc, Mutex, PoisonError};

use serval_abi::{
    SV_ABI_MAJOR, SV_ABI_MINOR, SV_E_FAILED, SV_E_PANIC, SV_E_UNSUPPORTED, SV_HOST_SIZE_1_0, SV_MAGIC, SV_OK,
    sv_config, sv_context, sv_exchange, sv_filter, sv_host, sv_listener, sv_module, sv_pair, sv_servlet, sv_status,
    sv_str,
};

use crate::background::Background;
use crate::handler::{Arguments, AsyncArguments, AsyncHandler, Handler};
use crate::hooks::{Hook, Hooks, Type, differs, type_of};
use crate::host::{self, ContextHandle, Current, Exchange};
use crate::{AsyncBody, Body, Context, Request, Response, Result, task};

// ---------------------------------------------------------------------------------------------- what is declared

/// A pointer in a section. Atomic only to make it writable data in every build: all pieces of a section need the same flags.
#[repr(transparent)]
pub struct Slot<T: 'static>(pub(crate) AtomicPtr<T>, PhantomData<&'static T>);

impl<T: Sync> Slot<T> {
    pub const fn new(target: &'static T) -> Slot<T> {
        Slot(AtomicPtr::new(std::ptr::from_ref(target).cast_mut()), PhantomData)
    }
}

/// The slots between two symbols of the linker.
///
/// # Safety
/// They bound one section, which holds nothing but slots of `T`.
pub unsafe fn section<T>(start: *const Slot<T>, stop: *const Slot<T>) -> &'static [Slot<T>] {
    let bytes = stop.addr() - start.addr();
    // SAFETY: the caller's promise; a section lives as long as the library.
    unsafe { std::slice::from_raw_parts(start, bytes / size_of::<Slot<T>>()) }
}

pub const fn pair(name: &'static str, value: &'static str) -> sv_pair {
    sv_pair { name: sv_str::new(name), value: sv_str::new(value) }
}

/// The author's function: it is a type without bytes, so the library's tables need not carry it.
pub(crate) fn the<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0, "it is a function, or a closure that captures nothing") };
    // SAFETY: `F` has no bytes and is Copy, and a value of it was given to the function that made the table's entry.
    unsafe { std::mem::zeroed::<F>() }
}

/// What is written in the attribute of a servlet.
#[derive(Clone, Copy)]
pub struct Declared {
    pub name: &'static str,
    pub patterns: &'static [sv_str],
    pub init: &'static [sv_pair],
    pub methods: u32,
    pub flags: u32,
    pub load_order: i32,
}

impl Declared {
    const fn servlet(self) -> sv_servlet {
        sv_servlet {
            struct_size: size_of::<sv_servlet>() as u32,
            flags: self.flags,
            flags_required: 0,
            methods: self.methods,
            name: sv_str::new(self.name),
            patterns: self.patterns.as_ptr(),
            pattern_count: self.patterns.len(),
            init: self.init.as_ptr(),
            init_count: self.init.len(),
            load_order: self.load_order,
            reserved: 0,
            create: None,
            destroy: Some(destroy_servlet),
            service: None,
            poll: None,
            drop: None,
            last_modified: None,
        }
    }
}

/// Describes a servlet; what `#[servlet]` expands to.
pub const fn servlet<F: Handler<Shape>, Shape: 'static>(declared: Declared, _handler: F) -> sv_servlet {
    sv_servlet { create: Some(create::<F, Shape>), service: Some(service::<F, Shape>), ..declared.servlet() }
}

/// The same on an async function.
pub const fn async_servlet<F: AsyncHandler<Shape>, Shape: 'static>(declared: Declared, _handler: F) -> sv_servlet {
    sv_servlet {
        create: Some(create_async::<F, Shape>),
        service: Some(service_async::<F, Shape>),
        poll: Some(task::poll),
        drop: Some(task::drop_task),
        ..declared.servlet()
    }
}

/// What `servlet_module_v1` returns.
pub struct Description(sv_module);

// SAFETY: constant data; its pointers lead to constant data and functions of the same library.
unsafe impl Send for Description {}
// SAFETY: as above.
unsafe impl Sync for Description {}

impl Description {
    pub fn as_ptr(&self) -> *const sv_module {
        &raw const self.0
    }
}

/// All that a package and its dependencies declare.
#[derive(Clone, Copy)]
pub struct Sections {
    pub servlets: &'static [Slot<sv_servlet>],
    pub filters: &'static [Slot<sv_filter>],
    pub listeners: &'static [Slot<sv_listener>],
    pub hooks: &'static [Slot<Hook>],
}

pub type Init = unsafe extern "C" fn(*const sv_host, *mut sv_context, *mut *mut c_void, *mut sv_str) -> sv_status;

/// Describes the module.
pub fn describe(name: &'static str, version: &'static str, sections: Sections, init: Init) -> Description {
    // What contradicts itself is refused by init, with a text.
    let hooks = Hooks::collect(sections.hooks).unwrap_or_default();
    Description(sv_module {
        magic: SV_MAGIC,
        struct_size: size_of::<sv_module>() as u32,
        abi_major: SV_ABI_MAJOR,
        abi_minor: SV_ABI_MINOR,
        need_minor: 0,
        reserved: 0,
        flags: 0,
        flags_required: 0,
        name: sv_str::new(name),
        version: sv_str::new(version),
        built_with: sv_str::new(concat!(
            "rustc ",
            env!("SERVLET_RUSTC_VERSION"),
            ", servlet ",
            env!("CARGO_PKG_VERSION")
        )),
        init: Some(init),
        destroy: Some(destroy),
        save: hooks.carry.is_some().then_some(save as _),
        restore: hooks.restore.is_some().then_some(restore as _),
        // A slot is laid out as the pointer in it.
        servlets: sections.servlets.as_ptr().cast(),
        servlet_count: sections.servlets.len(),
        filters: sections.filters.as_ptr().cast(),
        filter_count: sections.filters.len(),
        listeners: sections.listeners.as_ptr().cast(),
        listener_count: sections.listeners.len(),
        extension: None,
    })
}

/// A module's state, without its type.
pub type State = Box<dyn Any + Send + Sync>;

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
    state: Option<(State, &'static str)>,
    hooks: Hooks,
}

impl Module {
    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn background(&self) -> &Arc<Background> {
        &self.background
    }

    pub fn state(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.state.as_ref().map(|(state, _)| &**state)
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
        Some((_, start)) => {
            let state = start.start(&context).map_err(|error| error.text().to_owned())?;
            Some((state, start.state().1))
        }
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
            (Some((state, _)), Some((_, stop))) => stop.stop(state),
            (state, _) => drop(state),
        }
    });
    background.end();
    module_ends();
}

/// # Safety
/// As servlet.h says of `save`.
unsafe extern "C" fn save(module: *mut c_void, buffer: *mut u8, capacity: usize, len: *mut usize) -> sv_status {
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
unsafe extern "C" fn restore(module: *mut c_void, bytes: *const u8, len: usize) -> sv_status {
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

// ---------------------------------------------------------------------------------------------- a servlet

/// One instance of a servlet or filter: what `create` makes. For a listener function, the module alone.
pub(crate) struct Instance {
    /// INVARIANT: made by `init`; lives until the module's `destroy`, which comes after that of all instances.
    module: NonNull<Module>,
    /// INVARIANT: NULL, or lives until this instance's `destroy` returns.
    config: *const sv_config,
}

// SAFETY: both are only read, and what is behind them is Sync.
unsafe impl Sync for Instance {}
// SAFETY: as above.
unsafe impl Send for Instance {}

impl Instance {
    /// # Safety
    /// Both are what servlet.h says of `create`, or of `on_event`, which has no configuration.
    pub(crate) unsafe fn new(module: *mut c_void, config: *const sv_config) -> Option<Instance> {
        Some(Instance { module: NonNull::new(module.cast::<Module>())?, config })
    }

    pub(crate) fn module(&self) -> &Module {
        // SAFETY: by its invariant.
        unsafe { self.module.as_ref() }
    }

    /// The name of the servlet or filter, of its declaration or of web.toml.
    pub(crate) fn name(&self) -> &str {
        // SAFETY: by its invariant; the name lives as long as the configuration.
        unsafe { self.config.as_ref().and_then(|config| host::text(config.name)) }.unwrap_or_default()
    }

    pub(crate) fn context(&self) -> &Context {
        self.module().context()
    }

    pub(crate) fn state<S: Send + Sync + 'static>(&self) -> Result<&S> {
        let module = self.module();
        module.state().and_then(|state| state.downcast_ref()).ok_or_else(|| {
            let made = module.hooks.start.map(|(_, start)| start.state());
            let text = differs(made, type_of::<S>()).unwrap_or_else(|| "nothing".to_owned());
            crate::error(500, format!("{} wants {text}", self.name()))
        })
    }

    pub(crate) fn init(&self, name: &str) -> Option<&str> {
        // SAFETY: by its invariant.
        let config = unsafe { self.config.as_ref() }?;
        // SAFETY: init parameters live as long as their configuration.
        let parameters = unsafe { host::pairs(config.init, config.init_count) };
        // SAFETY: as above.
        let found = parameters.iter().find(|pair| unsafe { host::text(pair.name) } == Some(name))?;
        // SAFETY: as above.
        unsafe { host::text(found.value) }
    }
}

unsafe extern "C" fn create<F: Handler<Shape>, Shape: 'static>(
    _context: *mut sv_context,
    module: *mut c_void,
    config: *const sv_config,
    servlet: *mut *mut c_void,
    error: *mut sv_str,
) -> sv_status {
    // SAFETY: as servlet.h says of `create`; the state's type is the one that this handler wants.
    unsafe { create_checked(F::state(), module, config, servlet, error) }
}

unsafe extern "C" fn create_async<F: AsyncHandler<Shape>, Shape: 'static>(
    _context: *mut sv_context,
    module: *mut c_void,
    config: *const sv_config,
    servlet: *mut *mut c_void,
    error: *mut sv_str,
) -> sv_status {
    // SAFETY: as above.
    unsafe { create_checked(F::state(), module, config, servlet, error) }
}

/// Refuses a servlet whose state has another type than the module's.
///
/// # Safety
/// As servlet.h says of `create`.
unsafe fn create_checked(
    wanted: Option<Type>,
    module: *mut c_void,
    config: *const sv_config,
    servlet: *mut *mut c_void,
    error: *mut sv_str,
) -> sv_status {
    // SAFETY: the caller's promise.
    let Some(instance) = (unsafe { Instance::new(module, config) }).filter(|_| !config.is_null()) else {
        // SAFETY: the caller's promise.
        unsafe { refuse(error, "create was called without a module or a configuration".to_owned()) };
        return SV_E_FAILED;
    };
    let made = instance.module().hooks.start.map(|(_, start)| start.state());
    if let Some(text) = wanted.and_then(|wanted| differs(made, wanted)) {
        // SAFETY: the caller's promise.
        unsafe { refuse(error, format!("the servlet {} takes &{text}", instance.name())) };
        return SV_E_FAILED;
    }
    // SAFETY: the caller's promise.
    unsafe { servlet.write(Box::into_raw(Box::new(instance)).cast()) };
    SV_OK
}

unsafe extern "C" fn destroy_servlet(servlet: *mut c_void) {
    if !servlet.is_null() {
        // SAFETY: made by `create_checked`, and this is its last use.
        drop(unsafe { Box::from_raw(servlet.cast::<Instance>()) });
    }
}

unsafe extern "C" fn service<F: Handler<Shape>, Shape: 'static>(
    servlet: *mut c_void,
    exchange: *mut sv_exchange,
    _task: *mut *mut c_void,
) -> sv_status {
    // SAFETY: as servlet.h says of `service`.
    unsafe { serve(servlet, exchange, |arguments| the::<F>().call(arguments)) }
}

/// # Safety
/// As servlet.h says of `service`.
unsafe fn serve(
    servlet: *mut c_void,
    exchange: *mut sv_exchange,
    handler: impl FnOnce(Arguments<'_>) -> Result,
) -> sv_status {
    // SAFETY: made by `create_checked`; its `destroy` comes after the last call of `service`. See `Request::new`.
    let instance: Option<&'static Instance> = unsafe { servlet.cast::<Instance>().as_ref() };
    let (Some(instance), Some(table)) = (instance, host::host()) else { return SV_E_FAILED };
    let handle = exchange;
    let exchange = Exchange::new(table, handle);
    let served = caught(|| {
        let module = instance.module();
        let _current = module.enter(handle);
        let result = handler(Arguments {
            state: module.state(),
            request: &Request::new(exchange, instance),
            body: &mut Body::new(exchange),
            response: &mut Response::new(exchange),
        });
        match result {
            Ok(()) => SV_OK,
            Err(error) => error.answer(exchange),
        }
    });
    served.unwrap_or(SV_E_PANIC)
}

unsafe extern "C" fn service_async<F: AsyncHandler<Shape>, Shape: 'static>(
    servlet: *mut c_void,
    exchange: *mut sv_exchange,
    task: *mut *mut c_void,
) -> sv_status {
    // SAFETY: as in `serve`; tasks are dropped before their servlet.
    let instance: Option<&'static Instance> = unsafe { servlet.cast::<Instance>().as_ref() };
    let (Some(instance), Some(table)) = (instance, host::host()) else { return SV_E_FAILED };
    let exchange = Exchange::new(table, exchange);
    let serving = || -> task::Serving {
        Box::pin(async move {
            let request = Request::new(exchange, instance);
            let (mut body, mut response) = (AsyncBody::new(exchange), Response::held(exchange));
            let state = instance.module().state();
            let given = AsyncArguments { state, request: &request, body: &mut body, response: &mut response };
            let result = match the::<F>().call(given).await {
                Ok(()) => response.settle().await,
                wrong => wrong,
            };
            match result {
                Ok(()) => SV_OK,
                Err(error) => error.answer(exchange),
            }
        })
    };
    // SAFETY: as servlet.h says of `service`; the module, and so its background, outlives the task.
    unsafe { task::begin(exchange, instance.module().background(), task, serving) }
}
