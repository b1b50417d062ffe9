//! The functions of the table that any thread may call: the log, and the context.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null;
use std::sync::OnceLock;

use serval_abi::*;

use super::{Out, argument, bytes, caught, on_context, on_open, text};
use crate::exchange::{Answer, Fault, Level, Place, printable};
use crate::unload;
use crate::{backtrace, slots};

const LOG_BYTES_MAX: usize = 64 << 10;

pub unsafe extern "C" fn extension(_id: *const u8) -> *const c_void {
    null()
}

fn level(level: i32) -> Answer<Level> {
    match level {
        SV_LOG_ERROR => Ok(Level::Error),
        SV_LOG_WARN => Ok(Level::Warn),
        SV_LOG_INFO => Ok(Level::Info),
        SV_LOG_DEBUG => Ok(Level::Debug),
        SV_LOG_TRACE => Ok(Level::Trace),
        _ => Err(argument("this is not a level of SV_LOG_*")),
    }
}

pub unsafe extern "C" fn log_enabled(context: *mut sv_context, wanted: i32) -> i32 {
    let mut enabled = false;
    on_context("log_enabled", context, |context| {
        enabled = context.log_enabled(level(wanted)?);
        Ok(SV_OK)
    });
    enabled.into()
}

/// As much of it as the log takes.
fn cut(text: &[u8]) -> String {
    printable(&String::from_utf8_lossy(&text[..text.len().min(LOG_BYTES_MAX)]))
}

pub unsafe extern "C" fn log_message(
    context: *mut sv_context,
    exchange: *mut sv_exchange,
    wanted: i32,
    text: *const u8,
    len: usize,
) -> sv_status {
    on_context("log_message", context, |context| {
        let level = level(wanted)?;
        // SAFETY: the library's promise (servlet.h 3, 4), here and in all functions below.
        let text = unsafe { bytes(text, len) }?;
        // Of another thread, which may be writing to a slow client, or of an exchange that has ended: the line is worth more than its id.
        let id = slots::with_frame_at_once(exchange, |frame| Ok(frame.exchange.head().id)).ok();
        context.log(id, level, &cut(text));
        Ok(SV_OK)
    })
}

thread_local! {
    /// What was reported on this thread, for the line that tells which servlet and which request it was.
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
    /// A function runs on this thread whose failure refuses the generation, and the refusal says why.
    static STARTS: Cell<bool> = const { Cell::new(false) };
}

/// Calls a function whose failure refuses the generation: the line about that has the place of its panic.
pub(crate) fn starting(context: *mut sv_context, call: impl FnOnce() -> sv_status) -> sv_status {
    LAST_PANIC.set(None);
    STARTS.set(true);
    let status = call();
    STARTS.set(false);
    if status != SV_E_PANIC
        && let Some(caught) = LAST_PANIC.take()
        && let Ok(open) = slots::context(context)
    {
        open.context.log(None, Level::Error, &caught);
    }
    status
}

/// Whether panics of libraries come with a backtrace, as a program's own do.
fn wants_backtrace() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0"))
}

/// The calling thread's name as the system has it: a library's threads are none of our standard library's.
fn thread_name() -> String {
    let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
    if name.trim().is_empty() { "?".to_owned() } else { printable(name.trim()) }
}

/// The panic that was reported last on this thread, if nobody has asked for it yet.
pub(crate) fn last_panic() -> Option<String> {
    LAST_PANIC.take()
}

/// How the text of a failure begins that the log has by [`report_panic`].
pub const REPORTED_PANIC: &str = "it panicked";

pub unsafe extern "C" fn report_panic(
    context: *mut sv_context,
    text: *const u8,
    len: usize,
    file: *const u8,
    file_len: usize,
    line: u32,
) -> sv_status {
    caught("report_panic", || {
        // SAFETY: as in `log_message`.
        let text = cut(unsafe { bytes(text, len) }.unwrap_or(b"(no text)"));
        // SAFETY: as in `log_message`.
        let file = cut(unsafe { bytes(file, file_len) }.unwrap_or(b"?"));
        let place = if file.is_empty() { String::new() } else { format!(" at {file}:{line}") };
        let last = format!("{REPORTED_PANIC}{place}: {text}");
        let hint = match wants_backtrace() {
            true => "",
            false => " (RUST_BACKTRACE=1 in the server's environment shows the calls that led there)",
        };
        let said = slots::with_innermost(|frame| {
            let request = frame.exchange.head().id;
            Ok((frame.exchange.says_panic(frame.who, &format!("{last}{hint}")), request))
        });
        LAST_PANIC.set(Some(last));
        let (is_said, request) = said.map_or((STARTS.get(), None), |(is_said, request)| (is_said, Some(request)));
        let log = |message: &str| match slots::context(context) {
            Ok(open) => open.context.log(request, Level::Error, message),
            // A panic is worth a line whatever it comes with.
            Err(_) => tracing::error!(target: "serval::servlet", "a library {message}"),
        };
        if !is_said {
            log(&format!("panicked{place} on thread {}: {text}{hint}", thread_name()));
        }
        if wants_backtrace() {
            let calls = cut(backtrace::of_library(report_panic as *const ()).as_bytes());
            log(&format!("the calls that led to a panic: {calls}"));
        }
        SV_OK
    })
}

pub unsafe extern "C" fn context_path(context: *mut sv_context, out: *mut sv_str) -> sv_status {
    // SAFETY: as in `log_message`.
    let out = unsafe { Out::new(out, sv_str::ABSENT) };
    on_context("context_path", context, |context| out.put(sv_str::new(context.path())))
}

pub unsafe extern "C" fn context_parameter(
    context: *mut sv_context,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    // SAFETY: as in `log_message`.
    let value = unsafe { Out::new(value, sv_str::ABSENT) };
    on_context("context_parameter", context, |context| {
        value.checked()?;
        // SAFETY: as in `log_message`.
        let name = unsafe { text(name, len) }?;
        match context.parameters().iter().find(|(known, _)| known == name) {
            Some((_, found)) => value.put(sv_str::new(found)),
            None => Ok(SV_NONE),
        }
    })
}

pub unsafe extern "C" fn context_parameters(
    context: *mut sv_context,
    out: *mut *const sv_pair,
    count: *mut usize,
) -> sv_status {
    // SAFETY: as in `log_message`.
    let (out, count) = unsafe { (Out::new(out, null()), Out::new(count, 0)) };
    on_open("context_parameters", context, |open| {
        out.checked()?;
        count.checked()?;
        let pairs = open.parameters();
        out.put(pairs.as_ptr())?;
        count.put(pairs.len())
    })
}

pub unsafe extern "C" fn context_folder(context: *mut sv_context, which: i32, path: *mut sv_str) -> sv_status {
    // SAFETY: as in `log_message`.
    let path = unsafe { Out::new(path, sv_str::ABSENT) };
    on_context("context_folder", context, |context| {
        let place = match which {
            SV_PATH_ROOT => Place::Root,
            SV_PATH_WORK => Place::Work,
            SV_PATH_TEMP => Place::Temp,
            _ => return Err(argument("this is not one of SV_PATH_*")),
        };
        match context.folder(place) {
            Some(found) => path.put(sv_str::new(found)),
            None => Err(Fault::new(SV_E_IO, "the folder could not be made, or its path is not UTF-8")),
        }
    })
}

pub unsafe extern "C" fn context_mime_type(
    context: *mut sv_context,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    // SAFETY: as in `log_message`.
    let value = unsafe { Out::new(value, sv_str::ABSENT) };
    on_context("context_mime_type", context, |context| {
        value.checked()?;
        // SAFETY: as in `log_message`.
        match context.mime_type(unsafe { text(name, len) }?) {
            Some(found) => value.put(sv_str::new(found)),
            None => Ok(SV_NONE),
        }
    })
}

pub unsafe extern "C" fn context_resource(
    context: *mut sv_context,
    name: *const u8,
    len: usize,
    value: *mut sv_str,
) -> sv_status {
    // SAFETY: as in `log_message`.
    let value = unsafe { Out::new(value, sv_str::ABSENT) };
    on_context("context_resource", context, |context| {
        value.checked()?;
        // SAFETY: as in `log_message`.
        match context.resource(unsafe { text(name, len) }?) {
            Some(found) => value.put(sv_str::new(found)),
            None => Ok(SV_NONE),
        }
    })
}

pub unsafe extern "C" fn context_attribute(
    context: *mut sv_context,
    name: *const u8,
    name_len: usize,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> sv_status {
    // SAFETY: as in `log_message`.
    let len = unsafe { Out::new(len, 0) };
    on_context("context_attribute", context, |context| {
        len.checked()?;
        // SAFETY: as in `log_message`.
        let name = unsafe { text(name, name_len) }?;
        if buffer.is_null() && capacity != 0 || capacity > isize::MAX as usize {
            return Err(argument("the buffer is NULL and its capacity is not 0, or that is over PTRDIFF_MAX"));
        }
        let Some(value) = context.attribute(name) else {
            return Ok(SV_NONE);
        };
        let copied = value.len().min(capacity);
        if copied > 0 {
            // SAFETY: not more than the capacity, which the library promises to be writable.
            unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), buffer, copied) };
        }
        len.put(value.len())
    })
}

pub unsafe extern "C" fn context_set_attribute(
    context: *mut sv_context,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
) -> sv_status {
    on_context("context_set_attribute", context, |context| {
        // SAFETY: as in `log_message`.
        let name = unsafe { text(name, len) }?;
        // SAFETY: as in `log_message`.
        let given = unsafe { bytes(value, value_len) }?;
        context.set_attribute(name, (!value.is_null()).then_some(given))?;
        Ok(SV_OK)
    })
}

pub unsafe extern "C" fn context_generation(context: *mut sv_context) -> u64 {
    let mut generation = 0;
    on_context("context_generation", context, |context| {
        generation = context.generation();
        Ok(SV_OK)
    });
    generation
}

/// A library's job with its argument.
struct Job(unsafe extern "C" fn(*mut c_void), *mut c_void);

// SAFETY: servlet.h: a job runs on a thread of the context's pool.
unsafe impl Send for Job {}

impl Job {
    fn run(self) {
        unload::calls_function(self.0 as usize);
        // SAFETY: once, before the module's destroy, which waits for it.
        unsafe { (self.0)(self.1) };
    }
}

pub unsafe extern "C" fn context_post(
    context: *mut sv_context,
    job: Option<unsafe extern "C" fn(*mut c_void)>,
    arg: *mut c_void,
) -> sv_status {
    on_context("context_post", context, |context| {
        let job = Job(job.ok_or_else(|| argument("the job is NULL"))?, arg);
        context.post(Box::new(move || job.run()))?;
        Ok(SV_OK)
    })
}
