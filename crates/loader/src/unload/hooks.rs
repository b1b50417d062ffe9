//! The four libc functions that the executable puts itself in front of, so that every library that it loads calls ours: the
//! registrations that decide whether a library can ever be unloaded (ABI-EVIDENCE B: thread-local destructors, keys, threads).
//!
//! What a servlet library registers goes into [`records`], and so do the executable's own destructors of thread-locals once one was
//! loaded; everything else to libc's own. They run before `main` and at the start of every thread: until a library is loaded they take no
//! lock, allocate nothing and use no thread-local. The executable's build script exports exactly these names; [`self_test`] says whether
//! that has worked. Under a fuzzer they bear other names: the address sanitizer stands there itself.

use std::ffi::{CStr, c_int, c_uint, c_ulong, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::objects;
use super::records::{self, Key};

pub(super) type Destructor = unsafe extern "C" fn(*mut c_void);
type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;
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

static THREAD_ATEXIT: Next = Next::new(c"__cxa_thread_atexit_impl");
static KEY_CREATE: Next = Next::new(c"pthread_key_create");
static KEY_DELETE: Next = Next::new(c"pthread_key_delete");
static CREATE: Next = Next::new(c"pthread_create");

/// Looks them all up: later, a thread that waits for a library's constructor may wait for the linker, which that constructor holds.
pub(super) fn look_up() {
    for next in [&THREAD_ATEXIT, &KEY_CREATE, &KEY_DELETE, &CREATE] {
        next.get();
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
    // libc counts by the handle, which is the library's also where the destructor is one of the C++ library's.
    let owner = records::owner(dso.addr()).or_else(|| records::owner(destructor as usize));
    if let Some(owner) = owner {
        records::add_destructor(owner, destructor, object);
        return 0;
    }
    // libc waits for the linker to count it, which a library holds while its constructors and finalizers run: for so long no thread of
    // the server could begin, or use a thread-local for the first time.
    if records::is_used() && objects::is_program(dso.addr()) {
        records::add_destructor(records::PROGRAM, destructor, object);
        return 0;
    }
    // SAFETY: this is the type that libc gives it.
    let next = unsafe { std::mem::transmute::<*mut c_void, AtExit>(THREAD_ATEXIT.get()) };
    // SAFETY: the caller's promise.
    unsafe { next(destructor, object, dso) }
}

/// A key of the server's own, whose value libc hands to `destructor` when a thread ends.
pub(super) fn own_key(destructor: Destructor) -> c_uint {
    let mut key = 0;
    // SAFETY: this is the type that libc gives it.
    let create = unsafe { std::mem::transmute::<*mut c_void, KeyCreate>(KEY_CREATE.get()) };
    // SAFETY: there is a place for the key.
    if unsafe { create(&mut key, Some(destructor)) } != 0 {
        // There are a thousand, and this is the first one.
        std::process::abort();
    }
    key
}

/// # Safety
/// As libc's own.
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn pthread_key_create(key: *mut c_uint, destructor: Option<Destructor>) -> c_int {
    // SAFETY: this is the type that libc gives it.
    let next = unsafe { std::mem::transmute::<*mut c_void, KeyCreate>(KEY_CREATE.get()) };
    // What a library that it needs creates on its behalf is not its own: that one stays, and has the key for all.
    let by_address = destructor.and_then(|destructor| records::owner(destructor as usize));
    let Some(owner) = by_address.or_else(|| caller_of(pthread_key_create as *const (), Some(1))) else {
        // SAFETY: the caller's promise.
        return unsafe { next(key, destructor) };
    };
    // Its values are taken by us, also at the end of a thread: libc would do it when the library may be gone.
    // SAFETY: the caller's promise.
    let status = unsafe { next(key, None) };
    if status == 0 {
        // SAFETY: libc has written it.
        records::add_key(owner, Key { key: unsafe { *key }, destructor });
    }
    status
}

/// # Safety
/// As libc's own.
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn pthread_key_delete(key: c_uint) -> c_int {
    if records::is_used() {
        records::remove_key(key);
    }
    // SAFETY: the caller's promise.
    unsafe { key_delete()(key) }
}

fn key_delete() -> KeyDelete {
    // SAFETY: this is the type that libc gives it.
    unsafe { std::mem::transmute::<*mut c_void, KeyDelete>(KEY_DELETE.get()) }
}

/// Of a library that goes.
pub(super) fn delete_keys(keys: Vec<Key>) {
    for key in keys {
        // SAFETY: the key was the library's, which has not deleted it.
        unsafe { key_delete()(key.key) };
    }
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
    // SAFETY: this is the type that libc gives it.
    let next = unsafe { std::mem::transmute::<*mut c_void, Create>(CREATE.get()) };
    // A thread of C++ begins in the C++ library, whoever has asked for it; and one that a library's own thread makes is its own, too.
    let by_address = records::owner(start as usize);
    let by_caller = || caller_of(pthread_create as *const (), None).or_else(records::own_thread_of);
    let is_ours = !records::is_used() || objects::is_program(start as usize);
    let Some(owner) = by_address.or_else(|| if is_ours { None } else { by_caller() }) else {
        // SAFETY: the caller's promise.
        return unsafe { next(thread, attributes, start, argument) };
    };
    records::add_thread(owner);
    let own = Box::into_raw(Box::new(Own { owner, start, argument }));
    // SAFETY: the caller's promise; the box is the thread's.
    let status = unsafe { next(thread, attributes, begin, own.cast()) };
    if status != 0 {
        records::remove_thread(owner);
        // SAFETY: there is no thread that has it.
        drop(unsafe { Box::from_raw(own) });
    }
    status
}

/// How a thread of a library begins.
struct Own {
    owner: u32,
    start: Start,
    argument: *mut c_void,
}

/// It counts as the library's until its last destructor has run ([`records`]): also if it leaves by pthread_exit, which unwinds.
unsafe extern "C-unwind" fn begin(own: *mut c_void) -> *mut c_void {
    // SAFETY: it came from a box, for this thread.
    let Own { owner, start, argument } = *unsafe { Box::from_raw(own.cast::<Own>()) };
    records::is_own_thread(owner);
    // SAFETY: the library's promise to pthread_create.
    unsafe { start(argument) }
}

/// The library that has called one of our functions, which is on the stack, by `most` calls; `None`: this program has, maybe for a
/// library.
fn caller_of(hook: *const (), most: Option<usize>) -> Option<u32> {
    if !records::is_used() {
        return None;
    }
    let (mut is_past, mut owner, mut left) = (false, None, most.unwrap_or(usize::MAX));
    let look = |frame: &backtrace::Frame| {
        if !is_past {
            is_past = std::ptr::addr_eq(frame.symbol_address(), hook);
            return true;
        }
        let address = frame.ip().addr();
        owner = records::owner(address);
        left -= 1;
        owner.is_none() && left > 0 && !objects::is_program(address)
    };
    // SAFETY: nothing is resolved: it only walks the stack of this thread.
    unsafe { backtrace::trace_unsynchronized(look) };
    owner
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
