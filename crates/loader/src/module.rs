//! A library after its init, in one generation of a context: its events, and what it hands over.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use serval_abi::*;

use crate::error::Refusal;
use crate::exchange::{Exchange, Fault, Session};
use crate::filter::Failed;
use crate::library::Library;
use crate::misuse;
use crate::servlet::{Outcome, Scope};
use crate::sized::sized;
use crate::slots::{ContextHandle, Handle};
use crate::table::{last_panic, starting};

/// LIMIT: bytes that a module hands over (servlet.h, save).
const SAVED_BYTES_MAX: usize = 16 << 20;
/// What is tried first: most hand over little.
const SAVED_BYTES: usize = 64 << 10;
/// LIMIT: events that are told inside of each other.
const NESTED_MAX: usize = 20;

type OnEvent = unsafe extern "C" fn(*mut c_void, *const sv_event) -> sv_status;

/// Dropping it runs its destroy: on a control thread, after its servlets and filters.
pub struct Module {
    library: Arc<Library>,
    this: *mut c_void,
    context: ContextHandle,
    /// Copies: descriptions of another version may be shorter.
    listeners: Vec<sv_listener>,
}

// SAFETY: the pointer belongs to the library, which servlet.h lets be called from the threads that its tags name.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// Something that listener functions are told.
pub struct Event<'a> {
    /// One of SV_EVENT_*.
    pub kind: u32,
    pub exchange: Option<&'a mut dyn Exchange>,
    /// A session without an exchange.
    pub session: Option<&'a mut dyn Session>,
    /// It is about a session: the exchange's, or the one above.
    pub has_session: bool,
    pub session_id: &'a str,
    pub name: &'a str,
    pub value: Option<&'a [u8]>,
    pub old_value: Option<&'a [u8]>,
}

/// Whether it is the end of something, of which listener functions are told in reverse order (Servlet 11.3.3).
pub fn is_end(kind: u32) -> bool {
    kind & (SV_EVENT_CONTEXT_DESTROYED | SV_EVENT_REQUEST_DESTROYED | SV_EVENT_SESSION_DESTROYED) != 0
}

thread_local! {
    static NESTED: Cell<usize> = const { Cell::new(0) };
}

/// An event that is being told on this thread.
struct Nested;

impl Nested {
    /// `None`: it is not told. A listener function that causes the event that it is called for would never come to an end.
    fn begin(who: &str) -> Option<Nested> {
        let outer = NESTED.get();
        if outer >= NESTED_MAX {
            let fault = Fault::new(SV_E_STATE, "20 events are told inside of each other: this one is not");
            misuse::report("on_event", &fault, Some(who));
            return None;
        }
        NESTED.set(outer + 1);
        Some(Nested)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        NESTED.set(NESTED.get() - 1);
    }
}

impl Module {
    pub(crate) fn new(library: Arc<Library>, this: *mut c_void, context: ContextHandle) -> Module {
        let module = library.module();
        let listener = |index| {
            // SAFETY: inside of the array, which was read when the library was opened.
            unsafe { sized(*module.listeners.add(index), SV_LISTENER_SIZE_1_0) }
        };
        let listeners = (0..library.declared().listeners.len()).filter_map(listener).collect();
        Module { library, this, context, listeners }
    }

    pub fn name(&self) -> &str {
        &self.library.declared().name
    }

    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    pub(crate) fn this(&self) -> *mut c_void {
        self.this
    }

    pub(crate) fn context(&self) -> *mut sv_context {
        self.context.raw()
    }

    /// All kinds of events of its listener functions.
    pub fn listens_to(&self) -> u32 {
        self.listeners.iter().fold(0, |kinds, listener| kinds | listener.kinds)
    }

    /// Tells each listener function of that kind, on the calling thread; of an end the last one first. An error of one keeps it from
    /// no other: the first error is returned.
    pub fn event(&self, event: &mut Event<'_>) -> Result<(), Failed> {
        let Some(_nested) = Nested::begin(self.name()) else { return Ok(()) };
        let kind = event.kind;
        let mut told = Ok(());
        let mut tell = |listener: &sv_listener| {
            let Some(on_event) = listener.on_event.filter(|_| listener.kinds & kind != 0) else { return };
            let status = match kind {
                SV_EVENT_CONTEXT_INITIALIZED => starting(self.context(), || self.tell(on_event, event)),
                _ => self.tell(on_event, event),
            };
            let failed = match Outcome::of(status) {
                Outcome::Done => return,
                Outcome::Failed(status, text) => (status, text),
                _ => (SV_E_STATE, "it returned a status that means nothing here".to_owned()),
            };
            if told.is_ok() {
                told = Err(failed);
            }
        };
        match is_end(kind) {
            true => self.listeners.iter().rev().for_each(&mut tell),
            false => self.listeners.iter().for_each(&mut tell),
        }
        told
    }

    fn tell(&self, on_event: OnEvent, event: &mut Event<'_>) -> sv_status {
        let optional = |value: Option<&[u8]>| value.map_or(sv_str::ABSENT, sv_str::from_bytes);
        let text = |text: &str| if text.is_empty() { sv_str::ABSENT } else { sv_str::from_bytes(text.as_bytes()) };
        let mut view = sv_event {
            struct_size: size_of::<sv_event>() as u32,
            kind: event.kind,
            context: self.context.raw(),
            exchange: null_mut(),
            session: null_mut(),
            session_id: text(event.session_id),
            name: text(event.name),
            value: optional(event.value),
            old_value: optional(event.old_value),
        };
        self.library.calls();
        let mut scope = Scope::new();
        scope.memory.set_context(self.context.raw());
        let who = self.name();
        let call = |view: &sv_event| {
            // SAFETY: by servlet.h: after init, with an event that lives until it returns.
            unsafe { on_event(self.this, view) }
        };
        // Without a handle there is nothing to look at, but the event is told.
        scope.handle = Handle::open().ok();
        match (&scope.handle, &mut event.exchange, &mut event.session) {
            (Some(handle), Some(exchange), _) => {
                view.exchange = handle.raw();
                view.session = if event.has_session { handle.raw_session() } else { null_mut() };
                let _entry = handle.enter(&mut **exchange, &mut scope.memory, who);
                call(&view)
            }
            (Some(handle), None, Some(session)) => {
                view.session = handle.raw_session();
                let _entry = handle.enter_session(&mut **session, &mut scope.memory, who);
                call(&view)
            }
            _ => call(&view),
        }
    }

    /// What it hands over to the next generation; `None`: nothing. May block; called on a control thread.
    pub fn save(&self) -> Option<Vec<u8>> {
        let save = self.library.module().save?;
        self.library.calls();
        let mut buffer = vec![0_u8; SAVED_BYTES];
        loop {
            let mut len = 0;
            // SAFETY: by servlet.h: after init, with a buffer of that capacity.
            let status = unsafe { save(self.this, buffer.as_mut_ptr(), buffer.len(), &mut len) };
            let failed = |text: String| {
                let fault = Fault::new(SV_E_STATE, text);
                misuse::report("save", &fault, Some(self.name()));
            };
            match status {
                SV_OK if len <= buffer.len() => {
                    buffer.truncate(len);
                    return (len > 0).then_some(buffer);
                }
                // At least twice as much, so that there is an end to it.
                SV_OK if len <= SAVED_BYTES_MAX => buffer.resize(len.max(2 * buffer.len()).min(SAVED_BYTES_MAX), 0),
                SV_OK => {
                    failed(format!("{len} bytes are more than the 16 MiB that are handed over: nothing is"));
                    return None;
                }
                SV_NONE => return None,
                // The log has the panic.
                SV_E_PANIC if last_panic().is_some() => return None,
                status => {
                    failed(format!("it returned status {status}: nothing is handed over"));
                    return None;
                }
            }
        }
    }

    /// Gives it what the module of its name in the generation before has handed over. May block; called on a control thread.
    pub fn restore(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let Some(restore) = self.library.module().restore else { return Ok(()) };
        // SAFETY: by servlet.h: after init, before its servlets are created.
        match starting(self.context(), || unsafe { restore(self.this, bytes.as_ptr(), bytes.len()) }) {
            SV_OK => Ok(()),
            status => Err(Refusal::Restore(crate::library::failure_text(status, sv_str::ABSENT))),
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if let Some(destroy) = self.library.module().destroy {
            self.library.calls();
            // SAFETY: init has succeeded, and everything of this module, which holds it, is gone.
            unsafe { destroy(self.this) };
        }
    }
}
