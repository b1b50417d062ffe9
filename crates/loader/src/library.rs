//! A servlet library: from a file in the private copy to a module that runs.
//!
//! Called by the container on control threads, which close it when its generation is over ([`unload`](crate::unload)). One that is
//! dropped without that stays mapped.

use std::ffi::{OsStr, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::Duration;

use serval_abi::*;

pub use crate::description::{Declared, DeclaredFilter, DeclaredServlet, Promise};
use crate::description::{TEXT_BYTES_MAX, declared, read_module};
use crate::elf;
use crate::error::Refusal;
use crate::exchange::Context;
use crate::module::Module;
use crate::slots::ContextHandle;
use crate::table::{HOST, last_panic, starting};
use crate::unload::{self, Loaded};

/// A loaded library and what it declares.
pub struct Library {
    path: PathBuf,
    module: sv_module,
    declared: Declared,
    loaded: Loaded,
    /// Why it cannot be closed; a clause.
    stays: Option<String>,
}

// SAFETY: a description is constant data, and its functions are called as servlet.h tags them.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Loads a file of the private copy. `None`: it has no entry symbol, so it is a dependency of the others.
    pub fn open(path: &Path) -> Result<Option<Library>, Refusal> {
        let facts = elf::read_file(path)?;
        if !facts.entry {
            return match facts.other_entries.first() {
                Some(other) => Err(Refusal::OtherMajor(other.clone())),
                None => Ok(None),
            };
        }
        let loaded = Loaded::open(path, &facts).map_err(|error| refusal(path, &error))?;
        match describe(&loaded) {
            Ok((module, declared)) => {
                let by_itself = declared.no_unload.then(|| "it asks to stay (SV_MODULE_NO_UNLOAD)".to_owned());
                let stays = by_itself.or_else(|| elf::why_it_stays(&facts));
                Ok(Some(Library { path: path.to_owned(), module, declared, loaded, stays }))
            }
            Err(refusal) => {
                let closed = match elf::why_it_stays(&facts) {
                    None => loaded.close(Duration::ZERO, &|_| true),
                    Some(reason) => Err(reason),
                };
                if let Err(reason) = closed {
                    tracing::warn!("{}, which is refused, stays mapped: {reason}", path.display());
                }
                Err(refusal)
            }
        }
    }

    /// Unloads it, unless that cannot be: then the error is the reason, a clause. Blocks, for `within` at most; called on a control
    /// thread. `nudge` is told what it waits for, and lets as many threads of the server as there are callers come to
    /// [`unload::let_go`](crate::unload::let_go) soon; false: it is not worth waiting any more.
    pub fn close(self, within: Duration, nudge: &dyn Fn(&unload::Waits) -> bool) -> Result<(), String> {
        // Nothing can call it: its modules hold it, and what they have made holds them.
        match self.stays {
            Some(reason) => Err(reason),
            None => self.loaded.close(within, nudge),
        }
    }

    /// The calling thread is about to call it.
    pub(crate) fn calls(&self) {
        unload::calls(self.loaded.number());
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    pub(crate) fn module(&self) -> &sv_module {
        &self.module
    }

    /// Runs the library's init. May block; called on a control thread.
    pub fn start(self: &Arc<Self>, context: Arc<dyn Context>) -> Result<Module, Refusal> {
        let handle = ContextHandle::open(context);
        let mut this = null_mut();
        self.calls();
        if let Some(init) = self.module.init {
            let mut error = sv_str::ABSENT;
            // SAFETY: by servlet.h: a control thread, once per module, with places for the results.
            let status = starting(handle.raw(), || unsafe { init(&HOST, handle.raw(), &mut this, &mut error) });
            if status != SV_OK {
                return Err(Refusal::Init(failure_text(status, error)));
            }
        }
        Ok(Module::new(self.clone(), this, handle))
    }
}

fn describe(loaded: &Loaded) -> Result<(sv_module, Declared), Refusal> {
    let entry = loaded.symbol(ENTRY);
    if entry.is_null() {
        return Err(Refusal::NoEntry);
    }
    // SAFETY: its type is fixed by its name (servlet.h).
    let entry = unsafe { std::mem::transmute::<*mut c_void, sv_module_fn>(entry) };
    // SAFETY: the entry does nothing but return constant data.
    let module = unsafe { entry() };
    // SAFETY: the library's promise: NULL, or a description that begins with magic and struct_size.
    let module = unsafe { read_module(module) }?;
    // SAFETY: read_module has checked magic, version and size.
    let declared = unsafe { declared(&module) }?;
    Ok((module, declared))
}

/// Why the linker has not loaded it.
fn refusal(path: &Path, error: &libloading::Error) -> Refusal {
    // The error itself only says that it was one.
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let text = text.trim_start_matches(&*path.to_string_lossy()).trim_start_matches(": ");
    match text.split_once(": cannot open shared object file") {
        Some((name, _)) => Refusal::MissingDependency(name.to_owned()),
        None if text.contains("static TLS") => Refusal::StaticTls,
        None if is_noexec(path) => Refusal::NoExec(path.parent().unwrap_or(path).to_owned()),
        None => Refusal::Load(text.to_owned()),
    }
}

fn is_noexec(path: &Path) -> bool {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

pub(crate) fn failure_text(status: sv_status, error: sv_str) -> String {
    if status == SV_E_PANIC
        && let Some(panic) = last_panic()
    {
        return panic;
    }
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

/// Whether a file name is one of a library that is to be looked at.
pub fn is_library_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}
