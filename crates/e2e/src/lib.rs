//! What the end-to-end tests and the benchmarks share: the real program in a home of its own, and clients that
//! notice everything.
//!
//! Nothing here knows a rule of servlets. Tests live in `tests/`, and longer runs in `src/bin/`.
#![forbid(unsafe_code)]

pub mod serval;

pub mod browser;

pub mod commands;

pub mod unloading;

pub mod process;

pub mod http_client;

pub mod load;
pub mod many;

pub mod steady;

pub mod conformance;
