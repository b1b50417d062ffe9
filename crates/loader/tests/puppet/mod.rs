//! A library whose functions are closures of a test, by puppet.c.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::type_complexity, reason = "the closures have the shapes of the functions of servlet.h")]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use libloading::os::unix;
use serval_abi::*;
use serval_loader::library::Library;
use serval_loader::module::Module;
use serval_loader::servlet::Servlet;

use crate::mock::{self, MockContext};

/// Calls a function of the host's table.
#[macro_export]
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        let function = serval_loader::table::HOST.$function.expect("the table is full");
        // SAFETY: of what servlet.h asks for, the tests break only what the host promises to find out.
        #[allow(unused_unsafe, reason = "one may be an argument of another")]
        unsafe {
            function($($argument),*)
        }
    }};
}

/// A handle that tests hand to other threads.
pub struct Raw<T>(usize, PhantomData<fn() -> T>);

impl<T> Raw<T> {
    pub fn of(handle: *mut T) -> Raw<T> {
        Raw(handle.addr(), PhantomData)
    }
    pub fn raw(self) -> *mut T {
        std::ptr::without_provenance_mut(self.0)
    }
}

impl<T> Clone for Raw<T> {
    fn clone(&self) -> Raw<T> {
        *self
    }
}
impl<T> Copy for Raw<T> {}
impl<T> PartialEq for Raw<T> {
    fn eq(&self, other: &Raw<T>) -> bool {
        self.0 == other.0
    }
}

pub type X = Raw<sv_exchange>;

impl X {
    /// Any function that does nothing.
    pub fn touch(self) -> sv_status {
        let mut value = sv_str::ABSENT;
        call!(header(self.raw(), "host".as_ptr(), 4, &mut value))
    }
    pub fn write(self, text: &str) -> sv_status {
        call!(write(self.raw(), text.as_ptr(), text.len(), std::ptr::null_mut()))
    }
    pub fn complete(self, result: sv_status) -> sv_status {
        call!(complete(self.raw(), result))
    }
    pub fn detach(self) -> sv_status {
        call!(detach(self.raw(), None, std::ptr::null_mut()))
    }
    /// `release` is a closure that is called once.
    pub fn write_owned(self, bytes: &'static [u8], release: impl FnOnce() + Send + 'static) -> sv_status {
        let closure: Box<Box<dyn FnOnce() + Send>> = Box::new(Box::new(release));
        let arg = Box::into_raw(closure);
        let status = call!(write_owned(self.raw(), bytes.as_ptr(), bytes.len(), Some(run), arg.cast()));
        if status != SV_OK {
            // SAFETY: the caller still owns it.
            drop(unsafe { Box::from_raw(arg) });
        }
        status
    }
}

/// Runs a boxed closure once, as `release`.
pub unsafe extern "C" fn run(closure: *mut c_void) {
    // SAFETY: made of one by whoever gave it to the host, which calls it once.
    let closure = unsafe { Box::from_raw(closure.cast::<Box<dyn FnOnce() + Send>>()) };
    closure();
}

/// Runs a leaked closure, as `told`.
pub unsafe extern "C" fn tell(closure: *mut c_void, why: sv_status) {
    // SAFETY: made of one by whoever gave it to the host.
    let closure = unsafe { &*closure.cast::<Box<dyn Fn(sv_status) + Send + Sync>>() };
    closure(why);
}

pub struct Body<'a> {
    pub state: usize,
    pub bytes: &'a [u8],
    pub last: i32,
}

/// What the library does. A panic in one of these ends the test's process.
pub struct Acts {
    /// With the place for a task.
    pub service: Box<dyn Fn(X, &mut usize) -> sv_status + Send + Sync>,
    pub poll: Box<dyn Fn(usize, X) -> sv_status + Send + Sync>,
    pub drop: Box<dyn Fn(usize) + Send + Sync>,
    /// With the place for the state.
    pub on_request: Box<dyn Fn(X, &mut usize) -> sv_status + Send + Sync>,
    pub on_response: Box<dyn Fn(X, usize) -> sv_status + Send + Sync>,
    pub on_body: Box<dyn Fn(X, Body<'_>) -> sv_status + Send + Sync>,
    pub on_end: Box<dyn Fn(X, usize, sv_status) + Send + Sync>,
    pub on_event: Box<dyn Fn(&sv_event) -> sv_status + Send + Sync>,
    pub save: Box<dyn Fn(&mut [u8], &mut usize) -> sv_status + Send + Sync>,
    pub restore: Box<dyn Fn(&[u8]) -> sv_status + Send + Sync>,
}

impl Default for Acts {
    fn default() -> Acts {
        Acts {
            service: Box::new(|_, _| SV_OK),
            poll: Box::new(|_, _| SV_OK),
            drop: Box::new(|_| {}),
            on_request: Box::new(|_, _| SV_NEXT),
            on_response: Box::new(|_, _| SV_OK),
            on_body: Box::new(|_, _| SV_OK),
            on_end: Box::new(|_, _, _| {}),
            on_event: Box::new(|_| SV_OK),
            save: Box::new(|_, _| SV_NONE),
            restore: Box::new(|_| SV_OK),
        }
    }
}

/// As in puppet.c.
#[repr(C)]
struct Strings {
    test: *const Acts,
    service: unsafe extern "C" fn(*const Acts, *mut sv_exchange, *mut *mut c_void) -> sv_status,
    poll: unsafe extern "C" fn(*const Acts, *mut c_void, *mut sv_exchange) -> sv_status,
    drop: unsafe extern "C" fn(*const Acts, *mut c_void),
    on_request: unsafe extern "C" fn(*const Acts, *mut sv_exchange, *mut *mut c_void) -> sv_status,
    on_response: unsafe extern "C" fn(*const Acts, *mut sv_exchange, *mut c_void) -> sv_status,
    on_body: unsafe extern "C" fn(*const Acts, *mut sv_exchange, *mut c_void, *const u8, usize, i32) -> sv_status,
    on_end: unsafe extern "C" fn(*const Acts, *mut sv_exchange, *mut c_void, sv_status),
    on_event: unsafe extern "C" fn(*const Acts, *const sv_event) -> sv_status,
    save: unsafe extern "C" fn(*const Acts, *mut u8, usize, *mut usize) -> sv_status,
    restore: unsafe extern "C" fn(*const Acts, *const u8, usize) -> sv_status,
}

/// SAFETY of all below: the host calls them as servlet.h says, and the acts are leaked.
mod strings {
    use super::*;

    unsafe fn place(place: *mut *mut c_void, act: impl FnOnce(&mut usize) -> sv_status) -> sv_status {
        let mut number = unsafe { *place }.addr();
        let status = act(&mut number);
        unsafe { *place = std::ptr::without_provenance_mut(number) };
        status
    }
    pub unsafe extern "C" fn service(acts: *const Acts, x: *mut sv_exchange, task: *mut *mut c_void) -> sv_status {
        unsafe { place(task, |task| ((*acts).service)(Raw::of(x), task)) }
    }
    pub unsafe extern "C" fn poll(acts: *const Acts, task: *mut c_void, x: *mut sv_exchange) -> sv_status {
        unsafe { ((*acts).poll)(task.addr(), Raw::of(x)) }
    }
    pub unsafe extern "C" fn drop(acts: *const Acts, task: *mut c_void) {
        unsafe { ((*acts).drop)(task.addr()) }
    }
    pub unsafe extern "C" fn on_request(acts: *const Acts, x: *mut sv_exchange, state: *mut *mut c_void) -> sv_status {
        unsafe { place(state, |state| ((*acts).on_request)(Raw::of(x), state)) }
    }
    pub unsafe extern "C" fn on_response(acts: *const Acts, x: *mut sv_exchange, state: *mut c_void) -> sv_status {
        unsafe { ((*acts).on_response)(Raw::of(x), state.addr()) }
    }
    pub unsafe extern "C" fn on_body(
        acts: *const Acts,
        x: *mut sv_exchange,
        state: *mut c_void,
        bytes: *const u8,
        len: usize,
        last: i32,
    ) -> sv_status {
        let bytes = unsafe { std::slice::from_raw_parts(bytes, len) };
        unsafe { ((*acts).on_body)(Raw::of(x), Body { state: state.addr(), bytes, last }) }
    }
    pub unsafe extern "C" fn on_end(acts: *const Acts, x: *mut sv_exchange, state: *mut c_void, result: sv_status) {
        unsafe { ((*acts).on_end)(Raw::of(x), state.addr(), result) }
    }
    pub unsafe extern "C" fn on_event(acts: *const Acts, event: *const sv_event) -> sv_status {
        unsafe { ((*acts).on_event)(&*event) }
    }
    pub unsafe extern "C" fn save(acts: *const Acts, buffer: *mut u8, capacity: usize, len: *mut usize) -> sv_status {
        unsafe { ((*acts).save)(std::slice::from_raw_parts_mut(buffer, capacity), &mut *len) }
    }
    pub unsafe extern "C" fn restore(acts: *const Acts, bytes: *const u8, len: usize) -> sv_status {
        unsafe { ((*acts).restore)(std::slice::from_raw_parts(bytes, len)) }
    }
}

pub struct Puppet {
    pub module: Arc<Module>,
    /// It has a poll and a drop.
    pub tasks: Servlet,
    /// It has neither.
    pub plain: Servlet,
    pub context: Raw<sv_context>,
}

/// Opens a copy of the library that does this.
pub fn puppet(acts: Acts) -> Puppet {
    static COMPILED: OnceLock<tempfile::TempDir> = OnceLock::new();
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let folder = COMPILED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/puppet/puppet.c");
        mock::compile(&source, &[], &folder.path().join("puppet.so"));
        folder
    });
    let copy = folder.path().join(format!("puppet{}.so", COPIES.fetch_add(1, Ordering::Relaxed)));
    std::fs::copy(folder.path().join("puppet.so"), &copy).unwrap();
    let library = Arc::new(Library::open(&copy).unwrap().expect("it has an entry"));
    let strings = Strings {
        test: Box::leak(Box::new(acts)),
        service: strings::service,
        poll: strings::poll,
        drop: strings::drop,
        on_request: strings::on_request,
        on_response: strings::on_response,
        on_body: strings::on_body,
        on_end: strings::on_end,
        on_event: strings::on_event,
        save: strings::save,
        restore: strings::restore,
    };
    // SAFETY: the same library, whose constructors have run; the variable has this type.
    let context = unsafe {
        let same = unix::Library::open(Some(&copy), unix::RTLD_NOW).unwrap();
        **same.get::<*mut Strings>(b"strings\0").unwrap() = strings;
        same.into_raw()
    };
    let module = Arc::new(library.start(Arc::new(MockContext)).unwrap());
    // SAFETY: as above; init has set it.
    let context = unsafe {
        let same = unix::Library::from_raw(context);
        let context = **same.get::<*mut *mut sv_context>(b"puppet_context\0").unwrap();
        std::mem::forget(same);
        Raw::of(context)
    };
    let servlet = |index, name| Servlet::create(&module, index, name, Vec::new()).unwrap();
    let (tasks, plain) = (servlet(0, "tasks"), servlet(1, "plain"));
    Puppet { module, tasks, plain, context }
}
