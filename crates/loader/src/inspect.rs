//! `serval inspect LIBRARY`: what a library declares, without running its init.

use std::fmt::Write as _;
use std::path::Path;

use serval_abi::*;

use crate::elf;
use crate::error::Refusal;
use crate::library::{DeclaredFilter, DeclaredServlet, Library, Promise};

/// A text for people, or why a server would refuse the library.
pub fn describe(path: &Path) -> Result<String, Refusal> {
    let facts = elf::read_file(path)?;
    // The linker takes a name without a slash for one to search for.
    let path = path.canonicalize().map_err(Refusal::Read)?;
    let library = Library::open(&path)?.ok_or(Refusal::NoEntry)?;
    let declared = library.declared();
    let mut out = String::new();
    let _ = writeln!(out, "{} {}", declared.name, declared.version);
    let _ = writeln!(out, "  ABI         {}.{}", declared.abi.0, declared.abi.1);
    let _ = writeln!(out, "  built with  {}", declared.built_with);
    let _ = writeln!(out, "  needs       {}", facts.needed.join(", "));
    if declared.saves || declared.restores {
        let which: Vec<&str> = [("saves", declared.saves), ("restores", declared.restores)]
            .iter()
            .filter(|(_, is)| *is)
            .map(|(n, _)| *n)
            .collect();
        let _ = writeln!(out, "  hands over  {}", which.join(", "));
    }
    declared.servlets.iter().for_each(|servlet| describe_servlet(servlet, &mut out));
    declared.filters.iter().for_each(|filter| describe_filter(filter, &mut out));
    for kinds in &declared.listeners {
        let _ = writeln!(out, "listener function for {}", names(*kinds, &EVENTS));
    }
    if declared.no_unload {
        let _ = writeln!(out, "stays mapped after its last generation (SV_MODULE_NO_UNLOAD)");
    }
    for warning in elf::warnings(&facts) {
        let _ = writeln!(out, "warning: {warning}");
    }
    Ok(out)
}

const METHODS: [(&str, u32); 10] = [
    ("GET", SV_GET),
    ("HEAD", SV_HEAD),
    ("POST", SV_POST),
    ("PUT", SV_PUT),
    ("DELETE", SV_DELETE),
    ("PATCH", SV_PATCH),
    ("OPTIONS", SV_OPTIONS),
    ("TRACE", SV_TRACE),
    ("CONNECT", SV_CONNECT),
    ("others", SV_METHOD_OTHER),
];
const DISPATCHES: [(&str, u32); 5] = [
    ("REQUEST", SV_DISPATCH_REQUEST),
    ("FORWARD", SV_DISPATCH_FORWARD),
    ("INCLUDE", SV_DISPATCH_INCLUDE),
    ("ERROR", SV_DISPATCH_ERROR),
    ("ASYNC", SV_DISPATCH_ASYNC),
];
const EVENTS: [(&str, u32); 10] = [
    ("context initialized", SV_EVENT_CONTEXT_INITIALIZED),
    ("context destroyed", SV_EVENT_CONTEXT_DESTROYED),
    ("request initialized", SV_EVENT_REQUEST_INITIALIZED),
    ("request destroyed", SV_EVENT_REQUEST_DESTROYED),
    ("session created", SV_EVENT_SESSION_CREATED),
    ("session destroyed", SV_EVENT_SESSION_DESTROYED),
    ("session id changed", SV_EVENT_SESSION_ID_CHANGED),
    ("context attribute", SV_EVENT_CONTEXT_ATTRIBUTE),
    ("request attribute", SV_EVENT_REQUEST_ATTRIBUTE),
    ("session attribute", SV_EVENT_SESSION_ATTRIBUTE),
];

/// The names of the bits that are set; what has no name is a number.
fn names(bits: u32, known: &[(&str, u32)]) -> String {
    let mut names: Vec<String> =
        known.iter().filter(|(_, bit)| bits & bit != 0).map(|(name, _)| (*name).to_owned()).collect();
    let rest = known.iter().fold(bits, |bits, (_, bit)| bits & !bit);
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names.join(", ")
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

fn promise_of(promise: Promise) -> &'static str {
    match promise {
        Promise::Nonblocking => "non-blocking",
        Promise::Blocking => "blocking",
        Promise::Nothing => "promises nothing",
    }
}

fn describe_servlet(servlet: &DeclaredServlet, out: &mut String) {
    let at = if servlet.patterns.is_empty() { "no pattern".to_owned() } else { quoted(&servlet.patterns) };
    let _ = writeln!(out, "servlet {} at {at} ({})", servlet.name, promise_of(servlet.promise));
    if servlet.methods != 0 {
        let _ = writeln!(out, "  methods     {}", names(servlet.methods, &METHODS));
    }
    let traits = [
        ("asynchronous", servlet.polls),
        ("multipart", servlet.multipart),
        ("goes on when the client has gone", servlet.keeps),
        ("knows when it was last modified", servlet.last_modified),
    ];
    let traits: Vec<&str> = traits.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    if !traits.is_empty() {
        let _ = writeln!(out, "  is          {}", traits.join(", "));
    }
    if servlet.load_order >= 0 {
        let _ = writeln!(out, "  load order  {}", servlet.load_order);
    }
    describe_init(&servlet.init, out);
}

fn describe_filter(filter: &DeclaredFilter, out: &mut String) {
    let mut at = Vec::new();
    if !filter.patterns.is_empty() {
        at.push(format!("at {}", quoted(&filter.patterns)));
    }
    if !filter.servlets.is_empty() {
        at.push(format!("for servlets {}", quoted(&filter.servlets)));
    }
    let at = if at.is_empty() { "without a map".to_owned() } else { at.join(" and ") };
    let _ = writeln!(out, "filter {} {at} ({})", filter.name, promise_of(filter.promise));
    let _ = writeln!(out, "  dispatches  {}", names(filter.dispatches, &DISPATCHES));
    let _ = writeln!(out, "  order       {}", filter.order);
    let hooks = if filter.hooks.is_empty() { "none".to_owned() } else { filter.hooks.join(", ") };
    let _ = writeln!(out, "  hooks       {hooks}");
    describe_init(&filter.init, out);
}

fn describe_init(init: &[(String, String)], out: &mut String) {
    for (name, value) in init {
        let _ = writeln!(out, "  init {name} = {value:?}");
    }
}
