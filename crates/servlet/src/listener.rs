//! Listener functions: what is called when something happens to the webapp, a request, or a session.

use std::ffi::c_void;
use std::fmt;

use serval_abi::{
    SV_E_FAILED, SV_E_PANIC, SV_EVENT_CONTEXT_INITIALIZED, SV_EVENT_REQUEST_INITIALIZED, SV_EVENT_SESSION_CREATED,
    SV_EVENT_SESSION_ID_CHANGED, SV_OK, sv_event, sv_listener, sv_status,
};

use crate::glue::{Instance, the};
use crate::hooks::{Type, type_of};
use crate::host::{self, Exchange};
use crate::module::caught;
use crate::{Context, Request, Result};

/// What happened, in events of the webapp, requests and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The webapp is about to serve, a request to be handled.
    Initialized,
    /// The webapp has served, a request was handled, a session has ended.
    Destroyed,
    /// A session has begun.
    Created,
    /// A session has got another id.
    IdChanged,
}

/// How an attribute has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Added,
    /// It had another value before.
    Replaced,
    /// It is not there any more.
    Removed,
}

/// All that the server says of an event; what is lent lives as long as the call.
pub struct Told<'a> {
    event: &'a sv_event,
    instance: &'a Instance,
    request: Option<Request>,
}

impl Told<'_> {
    fn happened(&self) -> Happened {
        match self.event.kind {
            SV_EVENT_CONTEXT_INITIALIZED | SV_EVENT_REQUEST_INITIALIZED => Happened::Initialized,
            SV_EVENT_SESSION_CREATED => Happened::Created,
            SV_EVENT_SESSION_ID_CHANGED => Happened::IdChanged,
            _ => Happened::Destroyed,
        }
    }

    fn text(&self, view: serval_abi::sv_str) -> &str {
        // SAFETY: what an event carries lives until `on_event` has returned, and `self` ends before.
        unsafe { host::text(view) }.unwrap_or_default()
    }

    fn bytes(&self, view: serval_abi::sv_str) -> Option<&[u8]> {
        // SAFETY: as above.
        unsafe { host::bytes(view) }
    }
}

impl fmt::Debug for Told<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x} of session {:?}", self.event.kind, self.text(self.event.session_id))
    }
}

/// The webapp begins or ends: `context_initialized`, `context_destroyed`.
#[derive(Debug)]
pub struct ContextEvent<'a>(Told<'a>);

/// A request comes into the webapp or leaves it: `request_initialized`, `request_destroyed`.
#[derive(Debug)]
pub struct RequestEvent<'a>(Told<'a>);

/// A session begins, ends, or has got another id: `session_created`, `session_destroyed`, `session_id_changed`.
#[derive(Debug)]
pub struct SessionEvent<'a>(Told<'a>);

/// An attribute was set or removed: `context_attribute`, `request_attribute`, `session_attribute`.
#[derive(Debug)]
pub struct AttributeEvent<'a>(Told<'a>);

macro_rules! common {
    ($($event:ident)*) => {
        $(impl $event<'_> {
            /// Returns the webapp.
            pub fn context(&self) -> &Context {
                self.0.instance.context()
            }

            /// Returns the request that it happened in, if it did in one.
            pub fn request(&self) -> Option<&Request> {
                self.0.request.as_ref()
            }
        })*
    };
}

common!(ContextEvent RequestEvent SessionEvent AttributeEvent);

impl ContextEvent<'_> {
    /// Returns what happened.
    pub fn happened(&self) -> Happened {
        self.0.happened()
    }
}

impl RequestEvent<'_> {
    /// Returns what happened.
    pub fn happened(&self) -> Happened {
        self.0.happened()
    }
}

impl SessionEvent<'_> {
    /// Returns what happened.
    pub fn happened(&self) -> Happened {
        self.0.happened()
    }

    /// Returns the session's id.
    pub fn id(&self) -> &str {
        self.0.text(self.0.event.session_id)
    }

    /// Returns the id that it had before, if it has got another one.
    pub fn old_id(&self) -> Option<&str> {
        (self.happened() == Happened::IdChanged).then(|| self.0.text(self.0.event.old_value))
    }

    /// Returns an attribute of the session, as bytes; also when it was destroyed.
    pub fn attribute(&self, name: &str) -> Option<&[u8]> {
        host::event_session_attribute(self.0.event.session, name).and_then(|value| self.0.bytes(value))
    }
}

impl AttributeEvent<'_> {
    /// Returns how it has changed.
    pub fn change(&self) -> Change {
        match (self.value(), self.old_value()) {
            (None, _) => Change::Removed,
            (_, None) => Change::Added,
            _ => Change::Replaced,
        }
    }

    /// Returns the name of the attribute.
    pub fn name(&self) -> &str {
        self.0.text(self.0.event.name)
    }

    /// Returns the value it has now.
    pub fn value(&self) -> Option<&[u8]> {
        self.0.bytes(self.0.event.value)
    }

    /// Returns the value it had.
    pub fn old_value(&self) -> Option<&[u8]> {
        self.0.bytes(self.0.event.old_value)
    }

    /// Returns the id of the session that it is an attribute of, if it is one of a session.
    pub fn session_id(&self) -> Option<&str> {
        let id = self.0.text(self.0.event.session_id);
        (!id.is_empty()).then_some(id)
    }
}

// ---------------------------------------------------------------------------------------------- for the server

/// Which type of event a kind has.
#[doc(hidden)]
pub trait EventType: Copy + 'static {
    type Event<'a>;
}

macro_rules! event_type {
    ($($marker:ident $event:ident)*) => {
        $(#[doc(hidden)]
        #[derive(Clone, Copy)]
        pub struct $marker;

        impl EventType for $marker {
            type Event<'a> = $event<'a>;
        }

        impl<F, R> Listener<$marker, fn() -> R> for F
        where
            F: Fn(&$event<'_>) -> R + Copy + Send + Sync + 'static,
            R: Returned,
        {
            fn state() -> Option<Type> {
                None
            }

            fn call(self, told: Told<'_>) -> Result {
                self(&$event(told)).result()
            }
        }

        impl<F, S, R> Listener<$marker, fn(&S) -> R> for F
        where
            F: Fn(&S, &$event<'_>) -> R + Copy + Send + Sync + 'static,
            S: Send + Sync + 'static,
            R: Returned,
        {
            fn state() -> Option<Type> {
                Some(type_of::<S>())
            }

            fn call(self, told: Told<'_>) -> Result {
                self(told.instance.state()?, &$event(told)).result()
            }
        })*
    };
}

/// A function that may be a listener function for events of that type; with the module's state or without.
#[diagnostic::on_unimplemented(
    message = "this function cannot be a listener function for events of this kind",
    label = "not the arguments of a listener function for it",
    note = "a listener function is fn(&E) or fn(&State, &E), where E is ContextEvent, RequestEvent, SessionEvent, or \
            AttributeEvent, as the kind is, and returns nothing or a Result; State is returned by the #[start] function"
)]
pub trait Listener<Kind, Shape>: Copy + Send + Sync + 'static {
    #[doc(hidden)]
    fn state() -> Option<Type>;

    #[doc(hidden)]
    fn call(self, told: Told<'_>) -> Result;
}

/// What a listener function returns: nothing, or a [`Result`].
#[doc(hidden)]
pub trait Returned: 'static {
    fn result(self) -> Result;
}

impl Returned for () {
    fn result(self) -> Result {
        Ok(())
    }
}

impl Returned for Result {
    fn result(self) -> Result {
        self
    }
}

event_type! {
    OfContext ContextEvent
    OfRequest RequestEvent
    OfSession SessionEvent
    OfAttribute AttributeEvent
}

/// Describes a listener function; what `#[on]` expands to.
pub const fn listener<Kind: EventType, F: Listener<Kind, Shape>, Shape: 'static>(
    kinds: u32,
    _kind: Kind,
    _function: F,
) -> sv_listener {
    sv_listener {
        struct_size: size_of::<sv_listener>() as u32,
        flags: 0,
        flags_required: 0,
        kinds,
        on_event: Some(on_event::<Kind, F, Shape>),
    }
}

/// The type of state that a listener function wants.
pub const fn listener_state<Kind: EventType, F: Listener<Kind, Shape>, Shape: 'static>(
    _kind: Kind,
    _function: F,
) -> fn() -> Option<Type> {
    F::state
}

unsafe extern "C" fn on_event<Kind: EventType, F: Listener<Kind, Shape>, Shape: 'static>(
    module: *mut c_void,
    event: *const sv_event,
) -> sv_status {
    // SAFETY: as servlet.h says of `on_event`.
    unsafe { tell(module, event, |told| the::<F>().call(told)) }
}

/// # Safety
/// As servlet.h says of `on_event`.
unsafe fn tell(module: *mut c_void, event: *const sv_event, listener: impl FnOnce(Told<'_>) -> Result) -> sv_status {
    // SAFETY: the caller's promise.
    let (Some(event), Some(instance)) = (unsafe { event.as_ref() }, unsafe { Instance::new(module, std::ptr::null()) })
    else {
        return SV_E_FAILED;
    };
    // A panic was reported by the hook.
    let told = caught(|| {
        let _current = instance.module().enter(event.exchange);
        let _tokio = instance.module().background().enter();
        let table = host::host().filter(|_| !event.exchange.is_null());
        // SAFETY: the request ends with `told`, and so before `instance`.
        let lent: &'static Instance = unsafe { &*std::ptr::from_ref(&instance) };
        let exchange = table.map(|table| Exchange::new(table, event.exchange));
        let request = exchange.map(|exchange| Request::new(exchange, lent));
        match (listener(Told { event, instance: &instance, request }), exchange) {
            (Ok(()), _) => SV_OK,
            // Not by send_error: the response is none of its business.
            (Err(wrong), Some(exchange)) => wrong.fail(exchange),
            (Err(wrong), None) => {
                crate::log::error!("a listener function: {wrong}");
                wrong.code()
            }
        }
    });
    told.unwrap_or(SV_E_PANIC)
}
