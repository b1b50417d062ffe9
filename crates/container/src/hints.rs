//! Informational responses (103, RFC 8297) of the request that a connection is at, until they are sent.
//!
//! hyper knows none, so they are written beneath it, at a moment at which it has nothing in hand: when it flushes, all of the last
//! response is sent, and `Answering` keeps the response back until its hints are. So they come to stand between the two whatever was
//! read ahead, and are never lost. Handed in by `exchange`; the server's side writes them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use serval_abi::SV_E_LIMIT;
use serval_loader::exchange::{Answer, Fault};

/// LIMIT: bytes that wait for a client that does not read. Most clients take no more of them in a head.
const UNSENT_BYTES_MAX: usize = 16 << 10;

#[derive(Default)]
pub struct Hints {
    /// Asked at each poll of a connection.
    are_waiting: AtomicBool,
    unsent: Mutex<BytesMut>,
}

impl Hints {
    /// Whether there is something to be sent before anything else.
    pub fn are_waiting(&self) -> bool {
        self.are_waiting.load(Ordering::Acquire)
    }

    /// What is to be sent; empty: nothing.
    pub fn unsent(&self) -> Bytes {
        Bytes::copy_from_slice(&self.lock())
    }

    /// So much of it has been sent.
    pub fn were_sent(&self, bytes: usize) {
        let mut unsent = self.lock();
        let sent = bytes.min(unsent.len());
        unsent.advance(sent);
        self.are_waiting.store(!unsent.is_empty(), Ordering::Release);
    }

    pub(crate) fn add(&self, status: StatusCode, headers: &HeaderMap) -> Answer {
        let mut head = BytesMut::new();
        let reason = status.canonical_reason().unwrap_or("");
        let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", status.as_str());
        for (name, value) in headers {
            head.put_slice(name.as_str().as_bytes());
            head.put_slice(b": ");
            head.put_slice(value.as_bytes());
            head.put_slice(b"\r\n");
        }
        head.put_slice(b"\r\n");
        let mut unsent = self.lock();
        if unsent.len() + head.len() > UNSENT_BYTES_MAX {
            return Err(Fault::new(SV_E_LIMIT, "of informational responses at most 16 KiB wait to be sent"));
        }
        unsent.put(head);
        self.are_waiting.store(true, Ordering::Release);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BytesMut> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
