//! Opens, calls and retires servlet libraries, and is the host's side of the table that they call.
//!
//! Reading order: [`exchange`] (what it needs of the container), [`library`] and `description` (from a file to a module),
//! [`servlet`], [`filter`] and [`module`] (what can be called), [`table`] and `slots` (what a library may call, and how handles are checked), then [`elf`],
//! [`private_copy`] and [`unload`]. It knows nothing of HTTP connections, mapping, or where calls run.

mod backtrace;
mod config;
mod description;
pub mod detached;
pub mod elf;
mod error;
pub mod exchange;
pub mod filter;
#[doc(hidden)]
pub mod fuzz;
pub mod inspect;
pub mod library;
mod misuse;
pub mod module;
pub mod private_copy;
pub mod servlet;
mod sized;
mod slots;
pub mod symbols;
pub mod table;
pub mod unload;
mod waker;

pub use error::{Refusal, Refused};
