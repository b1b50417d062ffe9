//! The SDK for writing servlets in Rust: functions that answer HTTP requests, built as a library that a server such as
//! Serval loads, and replaces while requests flow.
//!
//! ```standalone_crate
//! use servlet::prelude::*;
//!
//! #[servlet("/hello/*")]
//! fn hello(request: &Request, response: &mut Response) -> Result {
//!     let name = request.path_info().unwrap_or("/").trim_start_matches('/');
//!     response.text(format!("Hello, {name}!"))
//! }
//!
//! servlet::module!();
//! # fn main() {}
//! ```
//!
//! The package is a library of the kind `cdylib`, in the folder `WEB-INF` of a webapp:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//! ```
//!
//! # What there is
//!
//! | to | there is | feature | example |
//! |---|---|---|---|
//! | answer a path | [`servlet`](macro@servlet), [`Request`], [`Response`] | | [`Request`] |
//! | take apart a path such as `/items/{id}` | [`Request::path`] | | [`Request::path`] |
//! | read a query and a form | [`Request::param`], [`Request::params`] | | [`Request::params`] |
//! | the same as a value of your own type | `Request::form`, `Request::query_as` | `forms` | there |
//! | read a body | [`Body`], [`AsyncBody`] | | [`mod@test`] |
//! | speak JSON | `Body::json`, `Response::json` | `json` | there |
//! | take uploads | [`Request::parts`], [`Part`] | | [`Request::parts`] |
//! | write HTML | [`Response::html`], [`escape`](fn@escape) | | [`escape`](fn@escape) |
//! | say no | [`error`](fn@error), [`unavailable`], [`Error`] | | [`Error`] |
//! | know a client again | [`Request::session`], [`Session`] | (`json` for values of your own) | [`Session`] |
//! | let another servlet go on | [`Request::forward`], [`Request::include`], [`Request::async_dispatch`] | | there |
//! | know who is logged in | [`Request::user`], [`Request::has_role`] | | there |
//! | know how a connection is protected, and by which certificate | [`Request::tls`], [`Tls`] | | there |
//! | set and read cookies | [`Cookie`], [`Request::cookie`] | | [`Cookie`] |
//! | wait without a thread | `async fn`, [`time`], [`Stream`] | (`tokio` for its crates) | [`Response::stream`] |
//! | keep a page up to date | [`Response::events`], [`EventStream`], [`Broadcast`] | | [`Response::events`] |
//! | do something around all servlets | [`filter`](macro@filter), [`Filter`] | | [`Filter`] |
//! | be told of sessions, requests, attributes | [`on`](macro@on) | | [`on`](macro@on) |
//! | keep something between requests | [`start`](macro@start), [`stop`](macro@stop) | | [`start`](macro@start) |
//! | hand it over at a reload | [`carry`](macro@carry), [`restore`](macro@restore) | | [`carry`](macro@carry) |
//! | work beside requests | [`job`](macro@job), [`Context::spawn`], [`Context::spawn_thread`] | | [`Context::spawn`] |
//! | be configured | [`Request::init`], [`Context::param`] | | [`servlet`](macro@servlet) |
//! | write to the log | [`mod@log`] | (`log`, `tracing` for their crates) | [`mod@log`] |
//! | test without a server | [`mod@test`] | | [`mod@test`] |
//!
//! `TUTORIAL.md` beside this crate's source makes a small application of these.
//!
//! # What to know
//! - [`macro@servlet`] declares a servlet; its arguments are chosen by their types. [`module!`] stands once in the library
//!   and exports what was declared.
//! - What is lent to a servlet ([`Request`], [`Body`], [`Response`]) ends with the call, and so does what it returns by
//!   reference; the compiler sees to it.
//! - `?` turns each error into an answer: see [`Error`]. A panic is answered with 500 and logged.
//! - In a servlet reading and writing wait while the client is slow. An `async fn` waits without holding a thread, and needs
//!   no runtime.
//! - What runs beside requests ends with its generation. Threads that a library starts on its own have to end in
//!   [`macro@stop`], for nothing of it may run when it is gone.
//!
//! # Features
//! It is a thin layer over the C interface of `servlet.h`. Without features, the default, it depends on nothing else, so
//! that a new webapp builds offline. In Cargo.toml: `servlet = { ..., features = ["json"] }`.
//!
//! | feature | what it adds |
//! |---|---|
//! | `json` | `Body::json`, `Response::json`, serde values in a [`Session`]; `serde_json` |
//! | `forms` | `Request::form` and `Request::query_as`: forms and queries as serde values; `serde` |
//! | `log` | the library's lines through the crate `log` go to the server's log |
//! | `tracing` | its events of the crate `tracing` go there too, with their fields and spans |
//! | `tokio` | a runtime of the library's own around its async servlets, jobs and spawned futures, so that what is made for tokio works in them; see [`module!`] |
//! | `full` | all of these but `tokio` |
//!
//! Tests without a server are in [`mod@test`], which needs no feature.

#[cfg(panic = "abort")]
compile_error!(
    "servlets are built with panic = \"unwind\": with \"abort\" one panic in one servlet would end the whole server. \
     Remove `panic = \"abort\"` from the profile in Cargo.toml"
);
#[cfg(any(target_vendor = "apple", windows))]
compile_error!("servlets are built for Linux so far: they are found through sections of an ELF library");

pub use serval_macros::{carry, filter, job, on, restore, servlet, start, stop};

pub use crate::background::Stopping;
pub use crate::body::{AsyncBody, Body};
pub use crate::broadcast::{Broadcast, Receiver, RecvError};
pub use crate::context::Context;
pub use crate::cookie::{Cookie, SameSite};
pub use crate::dispatch::Dispatcher;
pub use crate::error::{Error, Result, error, unavailable};
pub use crate::events::{Event, EventStream};
pub use crate::failed::FailedRequest;
pub use crate::filter::{BodyWriter, Chunk, Filter, FilterConfig, FilterEnd, Flow, ResponseHead};
pub use crate::handler::{AsyncHandler, Handler};
pub use crate::html::escape;
pub use crate::job::{Async, Ended, JobFunction};
pub use crate::listener::{AttributeEvent, Change, ContextEvent, Happened, Listener, RequestEvent, SessionEvent};
pub use crate::method::Method;
pub use crate::multipart::{Part, PartReader, Parts};
pub use crate::request::Request;
pub use crate::response::Response;
pub use crate::session::{RequestedSession, Session};
pub use crate::stream::Stream;
pub use crate::tls::Tls;

mod background;
mod body;
mod broadcast;
mod context;
mod cookie;
mod decode;
mod dispatch;
mod error;
mod events;
mod failed;
mod filter;
#[cfg(feature = "forms")]
mod form;
mod glue;
mod handler;
mod hooks;
mod host;
pub mod html;
mod job;
#[cfg(feature = "json")]
mod json;
mod listener;
pub mod log;
#[cfg(feature = "log")]
mod log_adapter;
mod method;
mod module;
mod multipart;
mod request;
mod response;
#[cfg(feature = "tokio")]
mod runtime;
mod session;
mod stream;
mod task;
pub mod test;
pub mod time;
mod tls;
#[cfg(feature = "tracing")]
mod tracing_adapter;
mod user;

/// Makes other ways to log end in the server's log; when a module begins.
fn adapters_install() {
    #[cfg(feature = "log")]
    log_adapter::install();
    #[cfg(feature = "tracing")]
    tracing_adapter::install();
}

/// What nearly every servlet needs: `use servlet::prelude::*;`.
pub mod prelude {
    pub use crate::{
        AsyncBody, Body, BodyWriter, Broadcast, Chunk, Context, Cookie, Error, Event, EventStream, Filter,
        FilterConfig, FilterEnd, Flow, Method, Receiver, RecvError, Request, Response, ResponseHead, Result, SameSite,
        Session, Stopping, error, escape,
    };
    pub use crate::{AttributeEvent, ContextEvent, RequestEvent, SessionEvent};
    pub use crate::{carry, filter, job, on, restore, servlet, start, stop};
}

/// For the macros, and nobody else: it changes without notice.
#[doc(hidden)]
pub mod __glue {
    pub use crate::filter::{DeclaredFilter, by_default, filter};
    pub use crate::glue::{
        Declared, Description, Sections, Slot, async_servlet, describe, last_modified, pair, section, servlet,
    };
    pub use crate::hooks::{Function, Hook};
    pub use crate::job::{Job, job};
    pub use crate::listener::{OfAttribute, OfContext, OfRequest, OfSession, listener, listener_state};
    pub use crate::module::{destroy, init};
    pub use serval_abi::{
        SV_BLOCKING, SV_DISPATCH_ASYNC, SV_DISPATCH_ERROR, SV_DISPATCH_FORWARD, SV_DISPATCH_INCLUDE,
        SV_DISPATCH_REQUEST, SV_EVENT_CONTEXT_ATTRIBUTE, SV_EVENT_CONTEXT_DESTROYED, SV_EVENT_CONTEXT_INITIALIZED,
        SV_EVENT_REQUEST_ATTRIBUTE, SV_EVENT_REQUEST_DESTROYED, SV_EVENT_REQUEST_INITIALIZED,
        SV_EVENT_SESSION_ATTRIBUTE, SV_EVENT_SESSION_CREATED, SV_EVENT_SESSION_DESTROYED, SV_EVENT_SESSION_ID_CHANGED,
        SV_KEEP, SV_MULTIPART, SV_NONBLOCKING, sv_context, sv_filter, sv_host, sv_listener, sv_module, sv_pair,
        sv_servlet, sv_status, sv_str,
    };

    /// For code that is compiled and never run.
    pub fn any<T>() -> T {
        unreachable!("it is only compiled")
    }

    /// Shows an author what of a future is not Send, and over which `.await`.
    pub fn moves_between_threads<T: Send>(_future: T) {}
}

/// Makes the package a servlet library. It stands once in it, on its own: `servlet::module!();`.
///
/// It exports `servlet_module_v1`, with the package's name and version and all that the package and its dependencies declare.
///
/// With the feature `tokio`, `servlet::module!(tokio_workers = 4);` gives the library's runtime so many threads; there is one
/// unless it says otherwise. The runtime is made when it is needed first, is there in async servlets, jobs, spawned futures and
/// `#[start]`, and has ended when the library is unloaded.
#[macro_export]
macro_rules! module {
    () => {
        $crate::module!(@workers 1);
    };
    (tokio_workers = $workers:expr) => {
        $crate::__only_with_tokio!();
        $crate::module!(@workers $workers);
    };
    (@workers $workers:expr) => {
        const _: () = {
            // Empty, but they make the sections, so that a library without servlets links too.
            #[used]
            #[unsafe(link_section = "sv_servlets")]
            static NO_SERVLETS: [$crate::__glue::Slot<$crate::__glue::sv_servlet>; 0] = [];
            #[used]
            #[unsafe(link_section = "sv_filters")]
            static NO_FILTERS: [$crate::__glue::Slot<$crate::__glue::sv_filter>; 0] = [];
            #[used]
            #[unsafe(link_section = "sv_listeners")]
            static NO_LISTENERS: [$crate::__glue::Slot<$crate::__glue::sv_listener>; 0] = [];
            #[used]
            #[unsafe(link_section = "sv_hooks")]
            static NO_HOOKS: [$crate::__glue::Slot<$crate::__glue::Hook>; 0] = [];

            // The linker defines them for each section whose name is a C identifier.
            unsafe extern "C" {
                static __start_sv_servlets: $crate::__glue::Slot<$crate::__glue::sv_servlet>;
                static __stop_sv_servlets: $crate::__glue::Slot<$crate::__glue::sv_servlet>;
                static __start_sv_filters: $crate::__glue::Slot<$crate::__glue::sv_filter>;
                static __stop_sv_filters: $crate::__glue::Slot<$crate::__glue::sv_filter>;
                static __start_sv_listeners: $crate::__glue::Slot<$crate::__glue::sv_listener>;
                static __stop_sv_listeners: $crate::__glue::Slot<$crate::__glue::sv_listener>;
                static __start_sv_hooks: $crate::__glue::Slot<$crate::__glue::Hook>;
                static __stop_sv_hooks: $crate::__glue::Slot<$crate::__glue::Hook>;
            }

            fn sections() -> $crate::__glue::Sections {
                use $crate::__glue::section;
                // SAFETY: each two symbols bound a section that holds only slots of that type.
                unsafe {
                    $crate::__glue::Sections {
                        servlets: section(&raw const __start_sv_servlets, &raw const __stop_sv_servlets),
                        filters: section(&raw const __start_sv_filters, &raw const __stop_sv_filters),
                        listeners: section(&raw const __start_sv_listeners, &raw const __stop_sv_listeners),
                        hooks: section(&raw const __start_sv_hooks, &raw const __stop_sv_hooks),
                    }
                }
            }

            unsafe extern "C" fn init(
                host: *const $crate::__glue::sv_host,
                context: *mut $crate::__glue::sv_context,
                module: *mut *mut ::core::ffi::c_void,
                error: *mut $crate::__glue::sv_str,
            ) -> $crate::__glue::sv_status {
                // SAFETY: as servlet.h says of init.
                unsafe { $crate::__glue::init(host, context, module, error, sections().hooks, $workers) }
            }

            #[unsafe(no_mangle)]
            pub extern "C" fn servlet_module_v1() -> *const $crate::__glue::sv_module {
                static MODULE: ::std::sync::OnceLock<$crate::__glue::Description> = ::std::sync::OnceLock::new();
                let module = MODULE.get_or_init(|| {
                    let (name, version) = (::core::env!("CARGO_PKG_NAME"), ::core::env!("CARGO_PKG_VERSION"));
                    $crate::__glue::describe(name, version, sections(), init)
                });
                module.as_ptr()
            }
        };
    };
}

#[cfg(feature = "tokio")]
#[doc(hidden)]
#[macro_export]
macro_rules! __only_with_tokio {
    () => {};
}

#[cfg(not(feature = "tokio"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __only_with_tokio {
    () => {
        ::core::compile_error!(
            "tokio_workers is for the feature `tokio`; write servlet = { ..., features = [\"tokio\"] } in Cargo.toml"
        );
    };
}
