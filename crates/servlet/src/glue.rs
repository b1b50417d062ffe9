//! Between the C interface and the functions of an author: what `servlet_module_v1` describes, and create, service and destroy of
//! a servlet. Nothing unwinds out of here.

use std::any::Any;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::AtomicPtr;
use std::time::SystemTime;

use serval_abi::{
    SV_ABI_MAJOR, SV_ABI_MINOR, SV_E_FAILED, SV_E_PANIC, SV_MAGIC, SV_OK, sv_config, sv_context, sv_exchange,
    sv_filter, sv_host, sv_listener, sv_module, sv_pair, sv_servlet, sv_status, sv_str,
};

use crate::handler::{Arguments, AsyncArguments, AsyncHandler, Handler};
use crate::hooks::{Hook, Hooks, Type, differs, type_of};
use crate::host::{self, Exchange};
use crate::module::{Module, caught, destroy, refuse, restore, save};
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

pub type LastModified = unsafe extern "C" fn(*mut c_void, *mut sv_exchange) -> i64;

/// What is written in the attribute of a servlet.
#[derive(Clone, Copy)]
pub struct Declared {
    pub name: &'static str,
    pub patterns: &'static [sv_str],
    pub init: &'static [sv_pair],
    pub methods: u32,
    pub flags: u32,
    pub load_order: i32,
    pub last_modified: Option<LastModified>,
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
            last_modified: self.last_modified,
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

/// What `last_modified = function` in the attribute of a servlet expands to.
pub const fn last_modified<F>(_function: F) -> LastModified
where
    F: Fn(&Request) -> Option<SystemTime> + Copy + Send + Sync + 'static,
{
    changed_at::<F>
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

unsafe extern "C" fn changed_at<F>(servlet: *mut c_void, exchange: *mut sv_exchange) -> i64
where
    F: Fn(&Request) -> Option<SystemTime> + Copy + Send + Sync + 'static,
{
    /// Not known (servlet.h); and after a panic, which was reported.
    const UNKNOWN: i64 = -1;
    // SAFETY: as in `serve`: servlet.h says the same of `last_modified`.
    let instance: Option<&'static Instance> = unsafe { servlet.cast::<Instance>().as_ref() };
    let (Some(instance), Some(table)) = (instance, host::host()) else { return UNKNOWN };
    let asked = caught(|| {
        let _current = instance.module().enter(exchange);
        the::<F>()(&Request::new(Exchange::new(table, exchange), instance))
    });
    let since_1970 = asked.ok().flatten().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since_1970.and_then(|time| i64::try_from(time.as_millis()).ok()).unwrap_or(UNKNOWN)
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
                Ok(()) => response.settle(&request).await,
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
