//! What a library says of itself: its descriptions, which another version of the header may have made, checked and put into words of
//! this process. Called by `library`, after the entry has returned them and before anything else of the library runs.

use serval_abi::*;

use crate::error::Refusal;
use crate::sized::sized;
use crate::table::SERVER;

/// LIMIT: declarations of each kind in one library (servlet.h, sv_module).
const DECLARED_MAX: usize = 1000;
/// The flags that this server knows.
const SERVLET_FLAGS: u32 = SV_NONBLOCKING | SV_BLOCKING | SV_KEEP | SV_MULTIPART;
const FILTER_FLAGS: u32 = SV_NONBLOCKING | SV_BLOCKING;
/// LIMIT: length of a text in a description.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// What a library says of itself, in words of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    pub version: String,
    pub built_with: String,
    pub abi: (u16, u16),
    /// Its language's runtime cannot be unloaded.
    pub no_unload: bool,
    /// It hands over to the next generation, or takes over from the one before.
    pub saves: bool,
    pub restores: bool,
    pub servlets: Vec<DeclaredServlet>,
    pub filters: Vec<DeclaredFilter>,
    /// SV_EVENT_* of each listener function.
    pub listeners: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredServlet {
    pub name: String,
    pub patterns: Vec<String>,
    pub init: Vec<(String, String)>,
    pub load_order: i32,
    pub promise: Promise,
    /// SV_GET | ...; 0: it answers every method itself.
    pub methods: u32,
    /// It goes on when the client has gone.
    pub keeps: bool,
    pub multipart: bool,
    /// It may return tasks.
    pub polls: bool,
    pub last_modified: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredFilter {
    pub name: String,
    pub patterns: Vec<String>,
    /// Names of servlets; "*": all.
    pub servlets: Vec<String>,
    /// SV_DISPATCH_*; never 0.
    pub dispatches: u32,
    pub init: Vec<(String, String)>,
    pub order: i32,
    pub promise: Promise,
    /// The names of the hooks that it has.
    pub hooks: Vec<&'static str>,
}

/// What a servlet or filter promises about its calls; where they run is the container's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    Nonblocking,
    Blocking,
    Nothing,
}

/// Copies a description that may be shorter than ours (rules in servlet.h, 6).
///
/// # Safety
/// NULL, or a pointer to what begins with magic and struct_size, and is struct_size bytes long.
pub unsafe fn read_module(module: *const sv_module) -> Result<sv_module, Refusal> {
    let wrong = |text: &str| Err(Refusal::Description(text.to_owned()));
    if module.is_null() {
        return wrong("it is NULL");
    }
    // SAFETY: the caller's promise.
    let magic = unsafe { (&raw const (*module).magic).read_unaligned() };
    if magic != SV_MAGIC {
        return wrong("it does not begin with SV_MAGIC");
    }
    // SAFETY: the caller's promise.
    let Some(module) = (unsafe { sized(module, SV_MODULE_SIZE_1_0) }) else {
        return wrong("its struct_size is not that of sv_module; set it to sizeof(sv_module)");
    };
    if module.abi_major != SV_ABI_MAJOR {
        return Err(Refusal::OtherMajor(format!("{}.{}", module.abi_major, module.abi_minor)));
    }
    if module.need_minor > SV_ABI_MINOR {
        return Err(Refusal::NewerMinor { needs: module.need_minor, speaks: SV_ABI_MINOR, server: SERVER });
    }
    if module.flags_required & !SV_MODULE_NO_UNLOAD != 0 {
        return wrong("it requires module flags that this server does not know");
    }
    if module.reserved != 0 {
        return wrong("its reserved member is not 0");
    }
    Ok(module)
}

/// # Safety
/// The text lies in the library's constant data.
unsafe fn text(given: sv_str, what: &str) -> Result<String, Refusal> {
    if given.ptr.is_null() {
        return match given.len {
            0 => Ok(String::new()),
            _ => Err(Refusal::Description(format!("{what} is NULL and its length is not 0"))),
        };
    }
    if given.len > TEXT_BYTES_MAX {
        return Err(Refusal::Description(format!("{what} is longer than 64 KiB")));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(given.ptr, given.len) };
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Refusal::Description(format!("{what} is not UTF-8"))),
    }
}

/// # Safety
/// NULL or an array of that length in the library's constant data.
unsafe fn array<'a, T>(ptr: *const T, len: usize, what: &str) -> Result<&'a [T], Refusal> {
    if !ptr.is_aligned() {
        return Err(Refusal::Description(format!("the array of its {what} is not aligned")));
    }
    if len > DECLARED_MAX {
        return Err(Refusal::Description(format!("it has more than {DECLARED_MAX} {what}")));
    }
    if ptr.is_null() {
        return match len {
            0 => Ok(&[]),
            _ => Err(Refusal::Description(format!("its {what} are NULL and their count is {len}"))),
        };
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(ptr, len) })
}

/// # Safety
/// `module` was returned by `read_module`, and its library stays mapped.
pub unsafe fn declared(module: &sv_module) -> Result<Declared, Refusal> {
    let mut servlets = Vec::new();
    // SAFETY: the library's promise, here and below.
    for &servlet in unsafe { array(module.servlets, module.servlet_count, "servlets") }? {
        // SAFETY: as above.
        servlets.push(unsafe { declared_servlet(servlet) }?);
    }
    let mut filters = Vec::new();
    // SAFETY: as above.
    for &filter in unsafe { array(module.filters, module.filter_count, "filters") }? {
        // SAFETY: as above.
        filters.push(unsafe { declared_filter(filter) }?);
    }
    let mut listeners = Vec::new();
    // SAFETY: as above.
    for &listener in unsafe { array(module.listeners, module.listener_count, "listener functions") }? {
        let wrong = |what: &str| Err(Refusal::Description(format!("one of its listener functions {what}")));
        let listener = if listener.is_aligned() { listener } else { std::ptr::null() };
        // SAFETY: as above.
        let Some(listener) = (unsafe { sized(listener, SV_LISTENER_SIZE_1_0) }) else {
            return wrong("is NULL or not aligned, or its struct_size is too small");
        };
        if listener.on_event.is_none() {
            return wrong("has no on_event function");
        }
        if listener.flags_required != 0 {
            return wrong("requires flags that this server does not know");
        }
        listeners.push(listener.kinds);
    }
    Ok(Declared {
        // SAFETY: as above.
        name: unsafe { text(module.name, "its name") }?,
        // SAFETY: as above.
        version: unsafe { text(module.version, "its version") }?,
        // SAFETY: as above.
        built_with: unsafe { text(module.built_with, "built_with") }?,
        abi: (module.abi_major, module.abi_minor),
        no_unload: (module.flags | module.flags_required) & SV_MODULE_NO_UNLOAD != 0,
        saves: module.save.is_some(),
        restores: module.restore.is_some(),
        servlets,
        filters,
        listeners,
    })
}

/// # Safety
/// As [`array`].
unsafe fn texts(ptr: *const sv_str, len: usize, what: &str, of_one: &str) -> Result<Vec<String>, Refusal> {
    // SAFETY: the caller's promise.
    let all = unsafe { array(ptr, len, what) }?;
    // SAFETY: as above.
    all.iter().map(|&given| unsafe { text(given, of_one) }).collect()
}

/// # Safety
/// As [`array`].
unsafe fn init_parameters(ptr: *const sv_pair, len: usize) -> Result<Vec<(String, String)>, Refusal> {
    let mut init = Vec::new();
    // SAFETY: the caller's promise.
    for pair in unsafe { array(ptr, len, "init parameters") }? {
        // SAFETY: as above.
        let key = unsafe { text(pair.name, "an init parameter") }?;
        // SAFETY: as above.
        init.push((key, unsafe { text(pair.value, "an init parameter") }?));
    }
    Ok(init)
}

fn promise(flags: u32) -> Option<Promise> {
    match flags & (SV_NONBLOCKING | SV_BLOCKING) {
        SV_NONBLOCKING => Some(Promise::Nonblocking),
        SV_BLOCKING => Some(Promise::Blocking),
        0 => Some(Promise::Nothing),
        _ => None,
    }
}

/// # Safety
/// NULL or a description in the library's constant data.
unsafe fn declared_filter(filter: *const sv_filter) -> Result<DeclaredFilter, Refusal> {
    // It is not only copied here, but also called through later.
    let filter = if filter.is_aligned() { filter } else { std::ptr::null() };
    // SAFETY: the caller's promise.
    let Some(filter) = (unsafe { sized(filter, SV_FILTER_SIZE_1_0) }) else {
        let what = "one of its filters is NULL or not aligned, or its struct_size is too small";
        return Err(Refusal::Description(what.to_owned()));
    };
    // SAFETY: the caller's promise.
    let name = unsafe { text(filter.name, "the name of a filter") }?;
    if name.is_empty() {
        return Err(Refusal::Description("one of its filters has no name".to_owned()));
    }
    let wrong = |text: &str| Err(Refusal::Description(format!("the filter `{name}` {text}")));
    if filter.flags_required & !FILTER_FLAGS != 0 {
        return wrong("requires flags that this server does not know");
    }
    if filter.reserved != 0 {
        return wrong("has a reserved member that is not 0");
    }
    let Some(promise) = promise(filter.flags) else { return wrong("promises both SV_NONBLOCKING and SV_BLOCKING") };
    let hooks = [
        ("on_request", filter.on_request.is_some()),
        ("on_response", filter.on_response.is_some()),
        ("on_body", filter.on_body.is_some()),
        ("on_end", filter.on_end.is_some()),
    ];
    // SAFETY: the caller's promise, here and below.
    let patterns = unsafe { texts(filter.patterns, filter.pattern_count, "URL patterns", "a URL pattern") }?;
    // SAFETY: as above.
    let servlets =
        unsafe { texts(filter.servlets, filter.servlet_count, "names of servlets", "the name of a servlet") }?;
    // SAFETY: as above.
    let init = unsafe { init_parameters(filter.init, filter.init_count) }?;
    Ok(DeclaredFilter {
        patterns,
        servlets,
        dispatches: if filter.dispatches == 0 { SV_DISPATCH_REQUEST } else { filter.dispatches },
        init,
        order: filter.order,
        promise,
        hooks: hooks.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect(),
        name,
    })
}

/// # Safety
/// NULL or a description in the library's constant data.
unsafe fn declared_servlet(servlet: *const sv_servlet) -> Result<DeclaredServlet, Refusal> {
    // It is not only copied here, but also called through later.
    let servlet = if servlet.is_aligned() { servlet } else { std::ptr::null() };
    // SAFETY: the caller's promise.
    let Some(servlet) = (unsafe { sized(servlet, SV_SERVLET_SIZE_1_0) }) else {
        let what = "one of its servlets is NULL or not aligned, or its struct_size is too small";
        return Err(Refusal::Description(what.to_owned()));
    };
    // SAFETY: the caller's promise.
    let name = unsafe { text(servlet.name, "the name of a servlet") }?;
    if name.is_empty() {
        return Err(Refusal::Description("one of its servlets has no name".to_owned()));
    }
    let wrong = |text: &str| Err(Refusal::Description(format!("the servlet `{name}` {text}")));
    if servlet.service.is_none() {
        return wrong("has no service function");
    }
    if servlet.flags_required & !SERVLET_FLAGS != 0 {
        return wrong("requires flags that this server does not know");
    }
    if servlet.reserved != 0 {
        return wrong("has a reserved member that is not 0");
    }
    let Some(promise) = promise(servlet.flags) else { return wrong("promises both SV_NONBLOCKING and SV_BLOCKING") };
    if servlet.poll.is_none() && servlet.drop.is_some() {
        return wrong("has a drop and no poll");
    }
    // SAFETY: the caller's promise, here and below.
    let patterns = unsafe { texts(servlet.patterns, servlet.pattern_count, "URL patterns", "a URL pattern") }?;
    // SAFETY: as above.
    let init = unsafe { init_parameters(servlet.init, servlet.init_count) }?;
    Ok(DeclaredServlet {
        name,
        patterns,
        init,
        load_order: servlet.load_order,
        promise,
        methods: servlet.methods,
        keeps: servlet.flags & SV_KEEP != 0,
        multipart: servlet.flags & SV_MULTIPART != 0,
        polls: servlet.poll.is_some(),
        last_modified: servlet.last_modified.is_some(),
    })
}
