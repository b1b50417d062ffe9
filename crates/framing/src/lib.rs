//! What is looked at beneath hyper before it is shown a byte: which messages are framed so that nobody in front of us can have read
//! them otherwise (SEMANTICS 13), and which frames a client sends only to keep us busy.
//!
//! No sockets: bytes in, a verdict out. A crate of its own so that it can be fuzzed.
#![forbid(unsafe_code)]

pub mod http1;
pub mod http2;
