//! The calls of a library that are on the stack, by name: for the log line of its panic.
//!
//! Neither the standard library nor the backtrace crate knows libraries that were loaded after the first backtrace, which here are
//! all but the first. So the file of each address is asked of the linker, and its names are read from there, and forgotten.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use addr2line::Loader;

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
        let mut out = String::new();
        let Some((base, name)) = file_of(address) else {
            calls.push(format!("{address:#x}"));
            continue;
        };
        let path = Path::new(OsStr::from_bytes(name.to_bytes()));
        let loader = files.entry(base).or_insert_with(|| Loader::new(path).ok());
        let at = (address - base) as u64;
        if !loader.as_ref().is_some_and(|loader| tell(&mut out, loader, at)) {
            let _ = write!(out, "{}+{at:#x}", path.file_name().unwrap_or_default().display());
        }
        if out.starts_with("core::panicking::") {
            // What Rust's own panic does with itself is of no interest.
            calls.clear();
        }
        calls.push(out);
    }
    calls.join("; ")
}

/// The names and places of a call, and of those that were inlined into it. `false`: there are none.
fn tell(out: &mut String, loader: &Loader, at: u64) -> bool {
    let before = out.len();
    if let Ok(mut frames) = loader.find_frames(at) {
        while let Ok(Some(frame)) = frames.next() {
            // Where there are only tables of lines, a function that was not inlined is known by its symbol.
            let named = frame.function.as_ref().and_then(|function| function.demangle().ok());
            let symbol = || Some(addr2line::demangle_auto(loader.find_symbol(at)?.into(), None));
            let Some(name) = named.or_else(symbol) else { continue };
            let _ = write!(out, "{}{name}", if out.len() > before { "; " } else { "" });
            if let Some(addr2line::Location { file: Some(file), line: Some(line), .. }) = frame.location {
                let _ = write!(out, " at {file}:{line}");
            }
        }
    }
    if out.len() == before
        && let Some(symbol) = loader.find_symbol(at)
    {
        out.push_str(&addr2line::demangle_auto(symbol.into(), None));
    }
    out.len() > before
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
