//! One line in the log for wrong use of the host's table, and never a flood: once per servlet, function, status and interval,
//! with the number of those that were left out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serval_abi::{SV_E_ARG, SV_E_INTERNAL, SV_E_STALE, SV_E_STATE, SV_E_THREAD, SV_E_UNSUPPORTED, sv_status};

use crate::exchange::Fault;

/// LIMIT: one line per servlet, function and status in this time.
const INTERVAL: Duration = Duration::from_secs(10);

struct Seen {
    last: Instant,
    left_out: u64,
}

/// LIMIT: beyond this many they are forgotten, and may be said again.
const SEEN_MAX: usize = 10_000;
static SEEN: Mutex<Option<HashMap<Key, Seen>>> = Mutex::new(None);

/// Who, which function, and what it answered.
type Key = (String, &'static str, sv_status);

/// Logs `fault` if it is the library's mistake (and not, say, a client that went away).
pub(crate) fn report(function: &'static str, fault: &Fault, who: Option<&str>) {
    if !matches!(fault.status, SV_E_ARG | SV_E_STATE | SV_E_THREAD | SV_E_STALE | SV_E_UNSUPPORTED | SV_E_INTERNAL) {
        return;
    }
    let thread = std::thread::current();
    let who = who.or(thread.name()).unwrap_or("a thread of a library");
    let key = (who.to_owned(), function, fault.status);
    let now = Instant::now();
    let mut locked = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = locked.get_or_insert_default();
    let mut left_out = 0;
    if seen.len() > SEEN_MAX {
        seen.clear();
    }
    if let Some(seen) = seen.get_mut(&key) {
        if now.duration_since(seen.last) < INTERVAL {
            seen.left_out += 1;
            return;
        }
        left_out = seen.left_out;
    }
    seen.insert(key, Seen { last: now, left_out: 0 });
    // The log may be slow, and others have calls to make.
    drop(locked);
    let text = &fault.text;
    tracing::warn!(
        target: "serval::abi",
        status = fault.status, left_out,
        "wrong use of the servlet ABI: {function} called by {who}: {text}"
    );
}
