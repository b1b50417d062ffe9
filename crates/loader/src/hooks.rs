//! The four libc functions that the executable puts itself in front of, so that every library that it loads calls ours: the
//! registrations that decide whether a library can ever be unloaded (ABI-EVIDENCE B: thread-local destructors, keys, threads).
//!
//! Now in forward-only mode: each calls libc's own and nothing else. They run before `main` and at the start of every thread, so
//! they take no lock, allocate nothing and use no thread-local. The executable's build script exports exactly these names;
//! [`self_test`] says whether that has worked. Under a fuzzer they bear other names: the address sanitizer stands there itself.

use std::ffi::{CStr, c_int, c_uint, c_ulong, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

type Destructor = unsafe extern "C" fn(*mut c_void);
type Start = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type AtExit = unsafe extern "C" fn(Destructor, *mut c_void, *mut c_void) -> c_int;
type KeyCreate = unsafe extern "C" fn(*mut c_uint, Option<Destructor>) -> c_int;
type KeyDelete = unsafe extern "C" fn(c_uint) -> c_int;
type Create = unsafe extern "C" fn(*mut c_ulong, *const c_void, Start, *mut c_void) -> c_int;

/// The next definition of a function after ours, looked up once.
struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    const fn new(name: &'static CStr) -> Next {
        Next { name, found: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Two threads may look it up at once: both find the same.
    fn get(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        // SAFETY: the name is NUL-terminated.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            // Every libc that this program was linked with has them; without, nothing can go on.
            std::process::abort();
        }
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// # Safety
/// As libc's own.
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn __cxa_thread_atexit_impl(
    destructor: Destructor,
    object: *mut c_void,
    dso: *mut c_void,
) -> c_int {
    static NEXT: Next = Next::new(c"__cxa_thread_atexit_impl");
    // SAFETY: this is the type that libc gives it.
    let next = unsafe { std::mem::transmute::<*mut c_void, AtExit>(NEXT.get()) };
    // SAFETY: the caller's promise.
    unsafe { next(destructor, object, dso) }
}

/// # Safety
/// As libc's own.
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn pthread_key_create(key: *mut c_uint, destructor: Option<Destructor>) -> c_int {
    static NEXT: Next = Next::new(c"pthread_key_create");
    // SAFETY: this is the type that libc gives it.
    let next = unsafe { std::mem::transmute::<*mut c_void, KeyCreate>(NEXT.get()) };
    // SAFETY: the caller's promise.
    unsafe { next(key, destructor) }
}

/// # Safety
/// As libc's own.
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn pthread_key_delete(key: c_uint) -> c_int {
    static NEXT: Next = Next::new(c"pthread_key_delete");
    // SAFETY: this is the type that libc gives it.
    let next = unsafe { std::mem::transmute::<*mut c_void, KeyDelete>(NEXT.get()) };
    // SAFETY: the caller's promise.
    unsafe { next(key) }
}

/// # Safety
/// As libc's own.
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn pthread_create(
    thread: *mut c_ulong,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    static NEXT: Next = Next::new(c"pthread_create");
    // SAFETY: this is the type that libc gives it.
    let next = unsafe { std::mem::transmute::<*mut c_void, Create>(NEXT.get()) };
    // SAFETY: the caller's promise.
    unsafe { next(thread, attributes, start, argument) }
}

/// Whether the libraries that this process loads will find ours; otherwise a sentence which one they will not.
pub fn self_test() -> Result<(), String> {
    let ours: [(&CStr, *const ()); 4] = [
        (c"__cxa_thread_atexit_impl", __cxa_thread_atexit_impl as *const ()),
        (c"pthread_key_create", pthread_key_create as *const ()),
        (c"pthread_key_delete", pthread_key_delete as *const ()),
        (c"pthread_create", pthread_create as *const ()),
    ];
    for (name, ours) in ours {
        // SAFETY: the name is NUL-terminated.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if !std::ptr::addr_eq(found, ours) {
            return Err(format!(
                "libraries will not find this program's {}: it was linked without exporting it, or another library was \
                 preloaded; generations that are replaced will stay mapped",
                name.to_string_lossy()
            ));
        }
    }
    Ok(())
}
