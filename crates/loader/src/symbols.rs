//! The names of calls, from the file that an address is in: for the log lines of panics (`backtrace`), and for those of calls that take
//! long (the server's `stack`).

use std::path::Path;

use addr2line::{Loader, Location};

/// What a file says of its functions: its tables of lines, if it has some, and its symbols.
pub struct Symbols(Loader);

impl Symbols {
    /// `None`: it cannot be read, or says nothing.
    pub fn of_file(path: &Path) -> Option<Symbols> {
        Loader::new(path).ok().map(Symbols)
    }

    /// The call at an address of the file, as in `module::function at src/lib.rs:12`, after those that were inlined into it. Empty: it is
    /// not known.
    pub fn calls(&self, at: u64) -> Vec<String> {
        let symbol = || Some(addr2line::demangle_auto(self.0.find_symbol(at)?.into(), None).into_owned());
        let mut calls = Vec::new();
        if let Ok(mut frames) = self.0.find_frames(at) {
            while let Ok(Some(frame)) = frames.next() {
                // Where there are only tables of lines, a function that was not inlined is known by its symbol.
                let named = frame.function.as_ref().and_then(|function| Some(function.demangle().ok()?.into_owned()));
                let Some(name) = named.or_else(symbol) else { continue };
                calls.push(match frame.location {
                    Some(Location { file: Some(file), line: Some(line), .. }) => format!("{name} at {file}:{line}"),
                    _ => name,
                });
            }
        }
        if calls.is_empty() {
            calls.extend(symbol());
        }
        calls
    }
}
