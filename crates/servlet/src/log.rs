//! The server's log: `servlet::log::info!("{count} items")`.
//!
//! A line carries the webapp and, in a servlet, the request. It may be written on any thread. Arguments are only formatted
//! when the level is on.
//!
//! ```
//! use servlet::prelude::*;
//!
//! #[servlet("/buy", methods = [POST])]
//! fn buy(request: &Request, response: &mut Response) -> Result {
//!     servlet::log::info!("{} buys", request.remote_addr());
//!     response.redirect("thanks")
//! }
//! ```
//!
//! # Other ways to log
//! With the feature `log`, what the library and the crates that it uses log through the crate `log` goes to the server's log,
//! and with the feature `tracing` so do events of the crate `tracing`. Both are there from before `#[start]` on, without a line
//! of the author's; a logger of the author's own that was set before stays. Lines begin with their target. An event's line
//! has the spans that it is in before that, from the outermost with their fields, and its own fields after the message.
//!
#![cfg_attr(feature = "log", doc = "```")]
#![cfg_attr(not(feature = "log"), doc = "```ignore")]
//! use servlet::prelude::*;
//!
//! #[servlet("/buy", methods = [POST])]
//! fn buy(_: &Request, response: &mut Response) -> Result {
//!     log::info!(target: "till", "{} sold", 3);
//!     response.text("sold")
//! }
//!
//! servlet::module!();
//! # fn main() {
//! let app = servlet::test::App::new();
//! app.post("/buy").send();
//! assert_eq!(app.log(), ["INFO till: 3 sold"]);
//! # }
//! ```
//!
#![cfg_attr(feature = "tracing", doc = "```")]
#![cfg_attr(not(feature = "tracing"), doc = "```ignore")]
//! use servlet::prelude::*;
//!
//! #[servlet("/buy", methods = [POST])]
//! fn buy(_: &Request, response: &mut Response) -> Result {
//!     let _order = tracing::info_span!("order", id = 7).entered();
//!     tracing::info!(target: "till", count = 3, "sold");
//!     response.text("sold")
//! }
//!
//! servlet::module!();
//! # fn main() {
//! let app = servlet::test::App::new();
//! app.post("/buy").send();
//! assert_eq!(app.log(), ["INFO order{id=7}: till: sold count=3"]);
//! # }
//! ```

use std::fmt;

use serval_abi::{SV_LOG_DEBUG, SV_LOG_ERROR, SV_LOG_INFO, SV_LOG_WARN};

use crate::host;

pub use crate::{__log_debug as debug, __log_error as error, __log_info as info, __log_warn as warn};

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Something failed.
    Error = SV_LOG_ERROR,
    /// Something may fail.
    Warn = SV_LOG_WARN,
    /// What an operator likes to know.
    Info = SV_LOG_INFO,
    /// What a developer likes to know.
    Debug = SV_LOG_DEBUG,
}

/// Tells whether lines of that level are kept.
pub fn enabled(level: Level) -> bool {
    host::log_enabled(level as i32)
}

/// Writes a line; the macros are shorter.
pub fn write(level: Level, text: fmt::Arguments<'_>) {
    match text.as_str() {
        Some(text) => host::log(level as i32, text),
        None => host::log(level as i32, &fmt::format(text)),
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $($text:tt)+) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::log::write($crate::log::Level::$level, ::core::format_args!($($text)+));
        }
    };
}

/// Logs that something failed.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($text:tt)+) => { $crate::__log!(Error, $($text)+) };
}

/// Logs that something may fail.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($text:tt)+) => { $crate::__log!(Warn, $($text)+) };
}

/// Logs what an operator likes to know.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($text:tt)+) => { $crate::__log!(Info, $($text)+) };
}

/// Logs what a developer likes to know.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($text:tt)+) => { $crate::__log!(Debug, $($text)+) };
}
