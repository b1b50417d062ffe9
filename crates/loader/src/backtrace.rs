//! The calls of a library that are on the stack, by name: for the log line of its panic.
//!
//! Neither the standard library nor the backtrace crate knows libraries that were loaded after the first backtrace, which here are
//! all but the first. So the file of each address is asked of the linker, and its names are read from there, and forgotten.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::symbols::Symbols;

/// LIMIT: calls that are told; an endless recursion has more.
const CALLS_MAX: usize = 100;

/// Innermost first, on one line: from the library's call of the host, whose function `this` is, to the host's call of the library.
pub(crate) fn of_library(this: *const ()) -> String {
    let Some((host, _)) = file_of(this.addr()) else {
        return String::new();
    };
    let mut addresses = Vec::new();
    let mut outside = false;
    backtrace::trace(|frame| {
        // The call, and not what comes after it.
        let address = frame.ip().addr().wrapping_sub(1);
        let is_host = file_of(address).is_some_and(|(base, _)| base == host);
        outside |= !is_host;
        if outside && !is_host {
            addresses.push(address);
        }
        addresses.len() < CALLS_MAX && !(outside && is_host)
    });
    let mut files = HashMap::new();
    let mut calls: Vec<String> = Vec::new();
    for address in addresses {
        let Some((base, name)) = file_of(address) else {
            calls.push(format!("{address:#x}"));
            continue;
        };
        let path = Path::new(OsStr::from_bytes(name.to_bytes()));
        let symbols = files.entry(base).or_insert_with(|| Symbols::of_file(path));
        let at = (address - base) as u64;
        let mut named = symbols.as_ref().map(|symbols| symbols.calls(at)).unwrap_or_default();
        if named.is_empty() {
            named.push(format!("{}+{at:#x}", path.file_name().unwrap_or_default().display()));
        }
        if named[0].starts_with("core::panicking::") {
            // What Rust's own panic does with itself is of no interest.
            calls.clear();
        }
        calls.extend(named);
    }
    calls.join("; ")
}

/// Where the file with this address is mapped, and its name.
fn file_of(address: usize) -> Option<(usize, &'static CStr)> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: any address may be asked for.
    let found = unsafe { libc::dladdr(std::ptr::without_provenance(address), &mut info) };
    // SAFETY: the linker's string lives as long as the file is mapped, and what is on this thread's stack stays mapped.
    (found != 0 && !info.dli_fname.is_null())
        .then(|| (info.dli_fbase.addr(), unsafe { CStr::from_ptr(info.dli_fname) }))
}
