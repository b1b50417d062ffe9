//! `serval inspect LIBRARY`: what a library declares, without running its init.

use std::fmt::Write as _;
use std::path::Path;

use crate::elf;
use crate::error::Refusal;
use crate::library::{Library, Promise};

/// A text for people, or why a server would refuse the library.
pub fn describe(path: &Path) -> Result<String, Refusal> {
    let bytes = std::fs::read(path).map_err(Refusal::Read)?;
    let facts = elf::read(&bytes)?;
    // The linker takes a name without a slash for one to search for.
    let path = path.canonicalize().map_err(Refusal::Read)?;
    let library = Library::open(&path)?.ok_or(Refusal::NoEntry)?;
    let declared = library.declared();
    let mut out = String::new();
    let _ = writeln!(out, "{} {}", declared.name, declared.version);
    let _ = writeln!(out, "  ABI         {}.{}", declared.abi.0, declared.abi.1);
    let _ = writeln!(out, "  built with  {}", declared.built_with);
    let _ = writeln!(out, "  needs       {}", facts.needed.join(", "));
    for servlet in &declared.servlets {
        let promise = match servlet.promise {
            Promise::Nonblocking => "non-blocking",
            Promise::Blocking => "blocking",
            Promise::Nothing => "promises nothing",
        };
        let patterns: Vec<String> = servlet.patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect();
        let _ = writeln!(out, "servlet {} at {} ({promise})", servlet.name, patterns.join(", "));
        for (name, value) in &servlet.init {
            let _ = writeln!(out, "  init {name} = {value:?}");
        }
    }
    for filter in &declared.filters {
        let _ = writeln!(out, "filter {filter}");
    }
    if declared.listeners > 0 {
        let _ = writeln!(out, "{} listener functions", declared.listeners);
    }
    if let Err(refusal) = declared.runs_here() {
        let _ = writeln!(out, "warning: it would be refused: {refusal}");
    }
    for warning in elf::warnings(&facts) {
        let _ = writeln!(out, "warning: {warning}");
    }
    Ok(out)
}
