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
//! # What to know
//! - [`macro@servlet`] declares a servlet; its arguments are chosen by their types. [`module!`] stands once in the library
//!   and exports what was declared.
//! - What is lent to a servlet ([`Request`], [`Body`], [`Response`]) ends with the call, and so does what it returns by
//!   reference; the compiler sees to it.
//! - `?` turns each error into an answer: see [`Error`]. A panic is answered with 500 and logged.
//! - In a servlet reading and writing wait while the client is slow.
//! - What a library keeps between requests is its state: see [`macro@start`].
//! - A library is unloaded when the next generation has taken over. Threads that it starts have to end in [`macro@stop`].
//!
//! It is a thin layer over the C interface of `servlet.h` and depends on nothing else.

#[cfg(panic = "abort")]
compile_error!(
    "servlets are built with panic = \"unwind\": with \"abort\" one panic in one servlet would end the whole server. \
     Remove `panic = \"abort\"` from the profile in Cargo.toml"
);
#[cfg(any(target_vendor = "apple", windows))]
compile_error!("servlets are built for Linux so far: they are found through sections of an ELF library");

pub use serval_macros::{servlet, start, stop};

pub use crate::body::Body;
pub use crate::context::Context;
pub use crate::cookie::Cookie;
pub use crate::error::{Error, Result, error, unavailable};
pub use crate::handler::Handler;
pub use crate::html::escape;
pub use crate::method::Method;
pub use crate::request::Request;
pub use crate::response::Response;

mod body;
mod context;
mod cookie;
mod error;
mod glue;
mod handler;
mod host;
pub mod html;
pub mod log;
mod method;
mod request;
mod response;

/// What nearly every servlet needs: `use servlet::prelude::*;`.
pub mod prelude {
    pub use crate::{Body, Context, Cookie, Error, Method, Request, Response, Result, error, escape};
    pub use crate::{servlet, start, stop};
}

/// For the macros, and nobody else: it changes without notice.
#[doc(hidden)]
pub mod __glue {
    pub use crate::glue::{Description, Function, Hook, Slot, describe, destroy, init, pair, section, servlet};
    pub use serval_abi::{
        SV_BLOCKING, SV_MULTIPART, SV_NONBLOCKING, sv_context, sv_host, sv_module, sv_pair, sv_servlet, sv_status,
        sv_str,
    };
}

/// Makes the package a servlet library. It stands once in it, on its own: `servlet::module!();`.
///
/// It exports `servlet_module_v1`, with the package's name and version and all servlets that the package and its
/// dependencies declare.
#[macro_export]
macro_rules! module {
    () => {
        const _: () = {
            // Empty, but they make the sections, so that a library without servlets links too.
            #[used]
            #[unsafe(link_section = "sv_servlets")]
            static NO_SERVLETS: [$crate::__glue::Slot<$crate::__glue::sv_servlet>; 0] = [];
            #[used]
            #[unsafe(link_section = "sv_hooks")]
            static NO_HOOKS: [$crate::__glue::Slot<$crate::__glue::Hook>; 0] = [];

            // The linker defines them for each section whose name is a C identifier.
            unsafe extern "C" {
                static __start_sv_servlets: $crate::__glue::Slot<$crate::__glue::sv_servlet>;
                static __stop_sv_servlets: $crate::__glue::Slot<$crate::__glue::sv_servlet>;
                static __start_sv_hooks: $crate::__glue::Slot<$crate::__glue::Hook>;
                static __stop_sv_hooks: $crate::__glue::Slot<$crate::__glue::Hook>;
            }

            unsafe extern "C" fn init(
                host: *const $crate::__glue::sv_host,
                context: *mut $crate::__glue::sv_context,
                module: *mut *mut ::core::ffi::c_void,
                error: *mut $crate::__glue::sv_str,
            ) -> $crate::__glue::sv_status {
                // SAFETY: the two symbols bound a section that holds only slots of that type.
                let hooks = unsafe { $crate::__glue::section(&raw const __start_sv_hooks, &raw const __stop_sv_hooks) };
                // SAFETY: as servlet.h says of init.
                unsafe { $crate::__glue::init(host, context, module, error, hooks) }
            }

            #[unsafe(no_mangle)]
            pub extern "C" fn servlet_module_v1() -> *const $crate::__glue::sv_module {
                static MODULE: ::std::sync::OnceLock<$crate::__glue::Description> = ::std::sync::OnceLock::new();
                let module = MODULE.get_or_init(|| {
                    // SAFETY: as for the hooks.
                    let servlets = unsafe {
                        $crate::__glue::section(&raw const __start_sv_servlets, &raw const __stop_sv_servlets)
                    };
                    $crate::__glue::describe(
                        ::core::env!("CARGO_PKG_NAME"),
                        ::core::env!("CARGO_PKG_VERSION"),
                        servlets,
                        init,
                    )
                });
                module.as_ptr()
            }
        };
    };
}
