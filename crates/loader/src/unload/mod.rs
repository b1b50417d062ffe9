//! Unloading a servlet library, so that its memory comes back: the one place where code goes away under a running process.
//!
//! What keeps a library from going is what it has left on threads that live longer than it: destructors of thread-locals, values of
//! thread-specific keys, and threads of its own. libc either counts these and never unloads, or does not and crashes later
//! (ABI-EVIDENCE B). So the executable stands in front of the four libc functions that they are registered with ([`hooks`]), and
//! keeps a record of them here, for each library and thread ([`records`]).
//!
//! A library is closed when nothing can call it any more: its module is destroyed, and every exchange of its generation has ended.
//! Then
//! 1. its own threads have to end;
//! 2. each thread of the server that has called it runs what it has left there ([`let_go`]): only that thread can, since thread-locals
//!    are its own. It does so after its next call, when it has nothing to do, or when it ends; whoever closes nudges it;
//! 3. it is closed, and then asked for: gone, or not;
//! 4. its keys are deleted.
//!
//! What does not come to pass in time leaves the library mapped, with the reason. Nothing is ever unmapped by force, and what was
//! left on a thread is still run there later, in code that is still there.
//!
//! LIMIT: what a library registers past these functions cannot be known. A library that handles a signal, or that imports one of the
//! functions that [`elf`](crate::elf) names, is not closed. But with another library that stays (a callback, a codec, a thread pool that
//! others made before), or by `dlsym`, it can leave what nobody sees: its destroy has to take that back, or it says SV_MODULE_NO_UNLOAD.
//! Its constructors and finalizers run while nothing else can be loaded: one that never returns stops all reloads, but no thread of the
//! server, none of which waits for the linker.

mod hooks;
mod objects;
mod records;

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libloading::os::unix;

use crate::elf;

pub use hooks::self_test;
pub use records::{Waits, let_go};
pub(crate) use records::{calls, calls_function};

/// Libraries are opened and closed one at a time: a new one could come to lie where one that is closed is still known to be.
static CHANGING: Mutex<()> = Mutex::new(());

/// Between two nudges of threads that have not let go.
const NUDGE: Duration = Duration::from_millis(2);
/// They become rarer.
const NUDGE_MAX: Duration = Duration::from_millis(100);

/// A library that is loaded. Dropping it leaves it mapped for ever.
pub(crate) struct Loaded {
    handle: *mut c_void,
    path: CString,
    number: u32,
    /// No other library has brought it along.
    is_alone: bool,
}

// SAFETY: the handle is libc's, which takes it on any thread.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Loaded {
    /// Loads a library of this absolute path, which must be new, after those that it needs: runs their constructors.
    pub(crate) fn open(path: &Path, facts: &elf::Facts) -> Result<Loaded, libloading::Error> {
        let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        records::begin();
        for needed in elf::loaded_before(facts).filter_map(|needed| CString::new(needed).ok()) {
            // SAFETY: the library brings it along anyway, and says better what is wrong if it cannot be loaded.
            unsafe { libc::dlopen(needed.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE) };
        }
        let before = objects::names();
        let is_alone = !before.contains(&name);
        let number = records::begin_loading(name.clone());
        // SAFETY: this runs the library's constructors: that is what loading a servlet library means.
        let library = unsafe { unix::Library::open(Some(path), unix::RTLD_NOW | unix::RTLD_LOCAL) };
        records::end_loading(number, library.is_ok());
        let handle = library?.into_raw();
        // What it has brought along is left to libc, and stays: nobody keeps a record of what that leaves on threads.
        for other in objects::names().iter().filter(|other| !before.contains(other) && **other != name) {
            // SAFETY: it is loaded already: nothing runs.
            unsafe { libc::dlopen(other.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE) };
        }
        Ok(Loaded { handle, path: name, number, is_alone })
    }

    /// The address of a symbol; NULL: there is none.
    pub(crate) fn symbol(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the handle is open, the name NUL-terminated.
        unsafe { libc::dlsym(self.handle, name.as_ptr()) }
    }

    /// To be known when a thread of the server calls the library.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Unloads it. Blocks, for `within` at most: for a control thread. `nudge` is told what it waits for, and lets as many threads of
    /// the server as there are callers come to [`let_go`] soon; false: it is not worth waiting any more. An error is the reason why
    /// the library stays mapped, a clause.
    ///
    /// INVARIANT: nothing of the library is called or read any more, but by its own threads and by what it has left on others.
    pub(crate) fn close(self, within: Duration, nudge: &dyn Fn(&Waits) -> bool) -> Result<(), String> {
        if self_test().is_err() {
            return Err("the server's own functions for thread-locals and threads are not in place".to_owned());
        }
        if !self.is_alone {
            return Err("another library needs it".to_owned());
        }
        let deadline = Instant::now() + within;
        records::ask_to_let_go(self.number);
        let mut pause = NUDGE;
        loop {
            let waits = records::what_is_left(self.number);
            if waits.threads == 0 && waits.callers.is_empty() {
                break;
            }
            if !nudge(&waits) || Instant::now() >= deadline {
                records::withdraw(self.number);
                return Err(waits.to_string());
            }
            records::wait_for_less(self.number, pause.min(deadline.saturating_duration_since(Instant::now())));
            pause = (pause * 2).min(NUDGE_MAX);
        }
        if let Some(signal) = objects::handled_signal(&records::range(self.number)) {
            return Err(format!("it handles signal {signal}"));
        }
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the handle is open, and the caller promises that nobody needs the library.
        unsafe { libc::dlclose(self.handle) };
        // SAFETY: it is not loaded by that, if it is gone.
        let still = unsafe { libc::dlopen(self.path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        if still.is_null() {
            // Nobody has a value of them any more; those that it has deleted itself at its end are not here.
            hooks::delete_keys(records::forget(self.number));
            return Ok(());
        }
        // SAFETY: this handle was opened a moment ago.
        unsafe { libc::dlclose(still) };
        Err("something else in the process still holds it".to_owned())
    }
}
