//! Between the C interface and the functions of an author: what `servlet_module_v1` describes, init and destroy of the
//! module, create, service and destroy of a servlet. Nothing unwinds out of here.

use std::any::{Any, TypeId, type_name};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::ptr::{NonNull, null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use serval_abi::{
    SV_ABI_MAJOR, SV_ABI_MINOR, SV_E_FAILED, SV_E_PANIC, SV_E_UNSUPPORTED, SV_HOST_SIZE_1_0, SV_MAGIC, SV_OK,
    sv_config, sv_context, sv_exchange, sv_host, sv_module, sv_pair, sv_servlet, sv_status, sv_str,
};

use crate::handler::{Arguments, Handler};
use crate::host::{self, ContextHandle, Current, Exchange};
use crate::{Body, Context, Request, Response, Result};

// ---------------------------------------------------------------------------------------------- what is declared

/// A pointer in a section. Atomic only to make it writable data in every build: all pieces of a section need the same flags.
#[repr(transparent)]
pub struct Slot<T: 'static>(AtomicPtr<T>, PhantomData<&'static T>);

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

/// Describes a servlet; what `#[servlet]` expands to.
pub const fn servlet<F: Handler<Shape>, Shape: 'static>(
    name: &'static str,
    patterns: &'static [sv_str],
    init: &'static [sv_pair],
    methods: u32,
    flags: u32,
    load_order: i32,
    _handler: F,
) -> sv_servlet {
    sv_servlet {
        struct_size: size_of::<sv_servlet>() as u32,
        flags,
        flags_required: 0,
        methods,
        name: sv_str::new(name),
        patterns: patterns.as_ptr(),
        pattern_count: patterns.len(),
        init: init.as_ptr(),
        init_count: init.len(),
        load_order,
        reserved: 0,
        create: Some(create::<F, Shape>),
        destroy: Some(destroy_servlet),
        service: Some(service::<F, Shape>),
        poll: None,
        drop: None,
        last_modified: None,
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

/// Describes the module.
pub fn describe(
    name: &'static str,
    version: &'static str,
    servlets: &'static [Slot<sv_servlet>],
    init: unsafe extern "C" fn(*const sv_host, *mut sv_context, *mut *mut c_void, *mut sv_str) -> sv_status,
) -> Description {
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
        save: None,
        restore: None,
        // A slot is laid out as the pointer in it.
        servlets: servlets.as_ptr().cast(),
        servlet_count: servlets.len(),
        filters: null(),
        filter_count: 0,
        listeners: null(),
        listener_count: 0,
        extension: None,
    })
}

type State = Box<dyn Any + Send + Sync>;

/// A `#[start]` or `#[stop]` function.
pub struct Hook {
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Start(&'static dyn Start),
    Stop(&'static dyn Stop),
}

/// A function with its types, until it is one of the traits below without them.
pub struct Function<F>(pub F);

#[doc(hidden)]
pub trait Start: Sync {
    fn start(&self, context: &Context) -> Result<State>;
    fn state(&self) -> (TypeId, &'static str);
}

impl<S: Send + Sync + 'static> Start for Function<fn(&Context) -> Result<S>> {
    fn start(&self, context: &Context) -> Result<State> {
        Ok(Box::new((self.0)(context)?))
    }

    fn state(&self) -> (TypeId, &'static str) {
        (TypeId::of::<S>(), type_name::<S>())
    }
}

#[doc(hidden)]
pub trait Stop: Sync {
    fn stop(&self, state: State);
    fn state(&self) -> (TypeId, &'static str);
}

impl<S: Send + Sync + 'static> Stop for Function<fn(S)> {
    fn stop(&self, state: State) {
        if let Ok(state) = state.downcast() {
            (self.0)(*state);
        }
    }

    fn state(&self) -> (TypeId, &'static str) {
        (TypeId::of::<S>(), type_name::<S>())
    }
}

impl Hook {
    pub const fn start<S: Send + Sync + 'static>(
        name: &'static str,
        function: &'static Function<fn(&Context) -> Result<S>>,
    ) -> Hook {
        Hook { name, kind: Kind::Start(function) }
    }

    pub const fn stop<S: Send + Sync + 'static>(name: &'static str, function: &'static Function<fn(S)>) -> Hook {
        Hook { name, kind: Kind::Stop(function) }
    }
}

// ---------------------------------------------------------------------------------------------- panics

/// Runs `body`; a panic becomes its text, at most.
fn caught<T>(body: impl FnOnce() -> T) -> std::result::Result<T, String> {
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
        drop(std::panic::take_hook());
    }
}

/// Leaves a text that lives as long as the library: what a refused generation may cost.
///
/// # Safety
/// `error` is NULL or may be written to.
unsafe fn refuse(error: *mut sv_str, text: String) {
    if !error.is_null() {
        // SAFETY: the caller's promise.
        unsafe { error.write(sv_str::new(text.leak())) };
    }
}

// ---------------------------------------------------------------------------------------------- the module

/// What `init` makes: the module's state, and what made it.
struct Module {
    context: Context,
    state: Option<(State, &'static str)>,
    stop: Option<&'static dyn Stop>,
}

/// # Safety
/// As servlet.h says of `init`.
pub unsafe fn init(
    host: *const sv_host,
    context: *mut sv_context,
    module: *mut *mut c_void,
    error: *mut sv_str,
    hooks: &'static [Slot<Hook>],
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
    let _current = Current { context, exchange: null_mut() }.enter();
    let (status, text) = match caught(|| start(Context::new(ContextHandle::new(host, context)), hooks)) {
        Ok(Ok(started)) => {
            // SAFETY: not NULL; the caller's promise.
            unsafe { module.write(Box::into_raw(Box::new(started)).cast()) };
            return SV_OK;
        }
        Ok(Err(text)) => (SV_E_FAILED, text),
        Err(text) => (SV_E_PANIC, format!("panicked: {text}")),
    };
    module_ends();
    // SAFETY: the caller's promise.
    unsafe { refuse(error, text) };
    status
}

fn start(context: Context, hooks: &'static [Slot<Hook>]) -> std::result::Result<Module, String> {
    let (mut start, mut stop) = (None, None);
    for slot in hooks {
        // SAFETY: `Slot::new` is given a reference to a static.
        let hook: &'static Hook = unsafe { &*slot.0.load(Ordering::Relaxed) };
        let (word, before) = match hook.kind {
            Kind::Start(function) => ("#[start]", start.replace((hook.name, function)).map(|(name, _)| name)),
            Kind::Stop(function) => ("#[stop]", stop.replace((hook.name, function)).map(|(name, _)| name)),
        };
        if let Some(before) = before {
            return Err(format!("a module has one {word} function, but this has {before} and {}", hook.name));
        }
    }
    if let Some((name, stop)) = stop {
        let (wanted, wanted_name) = stop.state();
        match start.map(|(_, start)| start.state()) {
            Some((made, _)) if made == wanted => {}
            Some((_, made_name)) => {
                return Err(format!("{name} takes {wanted_name}, but the #[start] function returns {made_name}"));
            }
            None => return Err(format!("{name} takes {wanted_name}, but there is no #[start] function")),
        }
    }
    let state = match start {
        Some((_, start)) => {
            let state = start.start(&context).map_err(|error| error.text().to_owned())?;
            Some((state, start.state().1))
        }
        None => None,
    };
    Ok(Module { context, state, stop: stop.map(|(_, stop)| stop) })
}

/// # Safety
/// As servlet.h says of a module's `destroy`.
pub unsafe extern "C" fn destroy(module: *mut c_void) {
    if module.is_null() {
        return;
    }
    // SAFETY: made by `init`, and this is its last use.
    let mut module = unsafe { Box::from_raw(module.cast::<Module>()) };
    let _current = Current { context: module.context.handle().handle(), exchange: null_mut() }.enter();
    // A panic was reported by the hook; there is nobody to tell a result.
    let _ = caught(|| match (module.state.take(), module.stop) {
        (Some((state, _)), Some(stop)) => stop.stop(state),
        (state, _) => drop(state),
    });
    module_ends();
}

// ---------------------------------------------------------------------------------------------- a servlet

/// One instance of a servlet: what `create` makes.
pub(crate) struct Instance {
    /// INVARIANT: made by `init`; lives until the module's `destroy`, which comes after that of all instances.
    module: NonNull<Module>,
    /// INVARIANT: lives until this instance's `destroy` returns.
    config: NonNull<sv_config>,
}

// SAFETY: both are only read, and what is behind them is Sync.
unsafe impl Sync for Instance {}

impl Instance {
    fn module(&self) -> &Module {
        // SAFETY: by its invariant.
        unsafe { self.module.as_ref() }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.module().context
    }

    pub(crate) fn init(&self, name: &str) -> Option<&str> {
        // SAFETY: by its invariant.
        let config = unsafe { self.config.as_ref() };
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

/// Refuses a servlet whose state has another type than the module's.
///
/// # Safety
/// As servlet.h says of `create`.
unsafe fn create_checked(
    wanted: Option<(TypeId, &'static str)>,
    module: *mut c_void,
    config: *const sv_config,
    servlet: *mut *mut c_void,
    error: *mut sv_str,
) -> sv_status {
    let (Some(module), Some(config)) = (NonNull::new(module.cast::<Module>()), NonNull::new(config.cast_mut())) else {
        // SAFETY: the caller's promise.
        unsafe { refuse(error, "create was called without a module or a configuration".to_owned()) };
        return SV_E_FAILED;
    };
    let instance = Instance { module, config };
    if let Some((wanted, wanted_name)) = wanted {
        let text = match &instance.module().state {
            Some((state, _)) if (**state).type_id() == wanted => None,
            Some((_, made)) => Some(format!("takes &{wanted_name}, but the #[start] function returns {made}")),
            None => Some(format!("takes &{wanted_name}, but no #[start] function makes one")),
        };
        if let Some(text) = text {
            // SAFETY: the configuration's name lives as long as it does.
            let name = unsafe { host::text(config.as_ref().name) };
            // SAFETY: the caller's promise.
            unsafe { refuse(error, format!("the servlet {} {text}", name.unwrap_or_default())) };
            return SV_E_FAILED;
        }
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
    const { assert!(size_of::<F>() == 0, "a servlet is a function, or a closure that captures nothing") };
    // SAFETY: `F` has no bytes and is Copy, and a value of it was given to `servlet` above.
    let handler = unsafe { std::mem::zeroed::<F>() };
    // SAFETY: as servlet.h says of `service`.
    unsafe { serve(servlet, exchange, |arguments| handler.call(arguments)) }
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
        let _current = Current { context: module.context.handle().handle(), exchange: handle }.enter();
        let result = handler(Arguments {
            state: module.state.as_ref().map(|(state, _)| &**state),
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
