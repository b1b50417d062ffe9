//! The Rust SDK in the running server: one webapp of many small servlets, built once by the host, as an author's would be.
//!
//! What the SDK alone can show stands in its own tests; here is what takes sockets, reloads and the server's log.

mod data;
mod inspect;
mod kitchen;
mod lives;
mod streams;
mod tls;
mod troubles;
