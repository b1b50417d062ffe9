//! Feature `tracing`: events of the crate `tracing`, of the library and of the crates that it uses, go to the server's log.
//!
//! It is there from before `#[start]` on, without a line of the author's. A line is the spans that the event is in, from the
//! outermost, with their fields; the target; the message; and the event's fields as `name=value`:
//!
//! ```text
//! order{id=7}:pay{method="card"}: shop::till: paid amount=12
//! ```
//!
//! A subscriber of its own: those of tracing-subscriber keep values for each thread whose destructors would have to run before
//! the library can be unloaded.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Interest, Level, Metadata, Subscriber, dispatcher};

use crate::host;

#[derive(Default)]
struct Adapter {
    spans: Mutex<Spans>,
}

#[derive(Default)]
struct Spans {
    last: u64,
    /// LIMIT: those that are open; a library that leaks spans leaks the memory of its own tracing.
    open: HashMap<u64, Span>,
}

struct Span {
    metadata: &'static Metadata<'static>,
    parent: Option<u64>,
    fields: String,
    handles: usize,
}

/// The spans that a thread is in: a list on the heap, for a thread-local value with a destructor would keep the library from
/// being unloaded. It is empty, and costs nothing, where no span is entered.
struct Entered {
    span: u64,
    before: *mut Entered,
}

thread_local! {
    static ENTERED: Cell<*mut Entered> = const { Cell::new(null_mut()) };
}

fn push(span: u64) {
    ENTERED.set(Box::into_raw(Box::new(Entered { span, before: ENTERED.get() })));
}

/// Takes out the innermost of that number: spans may be left in another order than they were entered.
fn pop(span: u64) {
    let mut at = ENTERED.get();
    let mut after: *mut Entered = null_mut();
    while !at.is_null() {
        // SAFETY: made by `push` on this thread, and not taken out yet.
        let entered = unsafe { &*at };
        if entered.span != span {
            (after, at) = (at, entered.before);
            continue;
        }
        let before = entered.before;
        if after.is_null() {
            ENTERED.set(before);
        } else {
            // SAFETY: as above.
            unsafe { (*after).before = before };
        }
        // SAFETY: as above; nothing leads to it any more.
        drop(unsafe { Box::from_raw(at) });
        return;
    }
}

fn innermost() -> Option<u64> {
    // SAFETY: as in `pop`.
    unsafe { ENTERED.get().as_ref() }.map(|entered| entered.span)
}

impl Adapter {
    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spans {
    /// The span with those around it, outermost first: `order{id=7}:pay{method="card"}`.
    fn path(&self, span: Option<u64>) -> String {
        let mut names = Vec::new();
        let mut next = span;
        while let Some(span) = next.and_then(|id| self.open.get(&id)) {
            names.push(match span.fields.is_empty() {
                true => span.metadata.name().to_owned(),
                false => format!("{}{{{}}}", span.metadata.name(), span.fields),
            });
            next = span.parent;
        }
        names.reverse();
        names.join(":")
    }
}

fn level(level: &Level) -> i32 {
    match *level {
        Level::ERROR => serval_abi::SV_LOG_ERROR,
        Level::WARN => serval_abi::SV_LOG_WARN,
        Level::INFO => serval_abi::SV_LOG_INFO,
        Level::DEBUG => serval_abi::SV_LOG_DEBUG,
        _ => serval_abi::SV_LOG_TRACE,
    }
}

impl Subscriber for Adapter {
    /// Asked with each event, for the server's level may change.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        host::log_enabled(level(metadata.level()))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if attributes.is_contextual() => innermost(),
            None => None,
        };
        let mut spans = self.spans();
        spans.last += 1;
        let id = spans.last;
        // A span lives as long as those in it, so that their lines can name it.
        if let Some(parent) = parent.and_then(|parent| spans.open.get_mut(&parent)) {
            parent.handles += 1;
        }
        spans.open.insert(id, Span { metadata: attributes.metadata(), parent, fields: fields.text, handles: 1 });
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = self.spans().open.get_mut(&span.into_u64()) {
            if !span.fields.is_empty() && !fields.text.is_empty() {
                span.fields.push(' ');
            }
            span.fields.push_str(&fields.text);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let around = match event.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if event.is_contextual() => innermost(),
            None => None,
        };
        let metadata = event.metadata();
        let mut line = self.spans().path(around);
        for part in [metadata.target(), &fields.message] {
            if !line.is_empty() && !part.is_empty() {
                line.push_str(": ");
            }
            line.push_str(part);
        }
        if !fields.text.is_empty() {
            line.push(' ');
            line.push_str(&fields.text);
        }
        host::log(level(metadata.level()), &line);
    }

    fn enter(&self, span: &Id) {
        push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        pop(span.into_u64());
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some(span) = self.spans().open.get_mut(&span.into_u64()) {
            span.handles += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut spans = self.spans();
        let mut next = Some(span.into_u64());
        let mut closed = false;
        while let Some(id) = next {
            let Some(span) = spans.open.get_mut(&id) else { break };
            span.handles = span.handles.saturating_sub(1);
            if span.handles > 0 {
                break;
            }
            closed = true;
            next = span.parent;
            spans.open.remove(&id);
        }
        closed
    }

    fn current_span(&self) -> Current {
        let spans = self.spans();
        match innermost().and_then(|id| spans.open.get(&id).map(|span| (id, span.metadata))) {
            Some((id, metadata)) => Current::new(Id::from_u64(id), metadata),
            None => Current::none(),
        }
    }
}

/// Fields as text, the message by itself.
#[derive(Default)]
struct Fields {
    message: String,
    text: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail; a Debug that does loses its own text.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name if self.text.is_empty() => write!(self.text, "{name}={value:?}"),
            name => write!(self.text, " {name}={value:?}"),
        };
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Called when a module begins; it stays, and is silent when there is no module.
pub(crate) fn install() {
    // An error: an author, or a test before, has set one. That one stays.
    let _ = dispatcher::set_global_default(Dispatch::new(Adapter::default()));
}
