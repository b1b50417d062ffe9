//! Listener functions (Servlet 11): what a generation's modules are told of its context, requests and sessions.

use bytes::Bytes;
use serval_abi::{SV_E_STATE, SV_EVENT_SESSION_ATTRIBUTE, SV_EVENT_SESSION_DESTROYED};
use serval_loader::exchange::{Answer, Exchange, Fault, printable};
use serval_loader::filter::Failed;
use serval_loader::module::{Event, Module};
use serval_loader::table::REPORTED_PANIC;

use crate::generation::Generation;
use crate::sessions::Session;

/// What an attribute's event is about, and of a changed id the one before.
#[derive(Default, Clone, Copy)]
pub struct Change<'a> {
    pub name: &'a str,
    /// `None`: removed.
    pub value: Option<&'a [u8]>,
    /// `None`: added.
    pub old_value: Option<&'a [u8]>,
}

/// Tells one module of its context.
pub fn event_of_context(module: &Module, kind: u32, change: Change<'_>) -> Result<(), Failed> {
    if module.listens_to() & kind == 0 {
        return Ok(());
    }
    module.event(&mut Event {
        kind,
        exchange: None,
        session: None,
        has_session: false,
        session_id: "",
        name: change.name,
        value: change.value,
        old_value: change.old_value,
    })
}

/// A line in the log for an error that changes nothing; a panic has had its own.
pub fn log_failure(context: &str, generation: u64, told: Result<(), Failed>) {
    if let Err((_, text)) = told
        && !text.starts_with(REPORTED_PANIC)
    {
        tracing::error!(context, generation, "a listener function failed: {}", printable(&text));
    }
}

/// All listener functions are told, also after an error of one; the first error is returned.
impl Generation {
    pub fn request_event(&self, kind: u32, exchange: &mut dyn Exchange, change: Change<'_>) -> Result<(), Failed> {
        self.tell(kind, |module| {
            module.event(&mut Event {
                kind,
                exchange: Some(&mut *exchange),
                session: None,
                has_session: false,
                session_id: "",
                name: change.name,
                value: change.value,
                old_value: change.old_value,
            })
        })
    }

    pub fn session_event(
        &self,
        kind: u32,
        exchange: &mut dyn Exchange,
        id: &str,
        change: Change<'_>,
    ) -> Result<(), Failed> {
        self.tell(kind, |module| {
            module.event(&mut Event {
                kind,
                exchange: Some(&mut *exchange),
                session: None,
                has_session: true,
                session_id: id,
                name: change.name,
                value: change.value,
                old_value: change.old_value,
            })
        })
    }
}

/// Tells of a session that has ended without a request, and then that each of its attributes is gone; `tell` calls with each module
/// that listens to that kind of event.
pub fn session_ends(session: &Session, tell: impl Fn(u32, &mut dyn FnMut(&Module) -> Result<(), Failed>)) {
    let id = session.facts().id;
    let event = |kind: u32, name: &str, old_value: Option<&[u8]>| {
        tell(kind, &mut |module| {
            module.event(&mut Event {
                kind,
                exchange: None,
                session: Some(&mut Ending(session)),
                has_session: true,
                session_id: &id,
                name,
                value: None,
                old_value,
            })
        });
    };
    event(SV_EVENT_SESSION_DESTROYED, "", None);
    for (name, value) in session.attributes() {
        event(SV_EVENT_SESSION_ATTRIBUTE, &name, Some(&value));
    }
}

/// A session that has ended: it may be looked at.
struct Ending<'a>(&'a Session);

fn ended<T>() -> Answer<T> {
    Err(Fault::new(SV_E_STATE, "the session has ended"))
}

impl serval_loader::exchange::Session for Ending<'_> {
    fn session_attribute(&mut self, name: &str) -> Answer<Option<Bytes>> {
        Ok(self.0.attribute(name))
    }

    fn session_attributes(&mut self) -> Answer<Vec<(String, Bytes)>> {
        Ok(self.0.attributes())
    }

    fn set_session_attribute(&mut self, _: &str, _: Option<&[u8]>) -> Answer {
        ended()
    }

    fn change_session_id(&mut self) -> Answer<String> {
        ended()
    }

    fn set_max_inactive(&mut self, _: i64) -> Answer {
        ended()
    }

    fn invalidate_session(&mut self) -> Answer {
        ended()
    }
}
