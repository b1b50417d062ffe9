//! What is said of a client once, and again only after a while: reaching a bound is no reason to fill the log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same of the same client is said again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// LIMIT: clients and reasons that are remembered; while there are more, those are not told of.
const REMEMBERED_MAX: usize = 4096;

static SAID: Mutex<Option<HashMap<(IpAddr, &'static str), Instant>>> = Mutex::new(None);

/// Says in the log why a client was refused or cut; not more often than once a minute of each client and
/// reason.
pub fn of_client(client: IpAddr, why: &'static str) {
    if is_news(client, why) {
        tracing::warn!(%client, "a client was cut off or refused: {why} (said at most once a minute of each client)");
    }
}

fn is_news(client: IpAddr, why: &'static str) -> bool {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    let said = said.get_or_insert_default();
    if said.len() >= REMEMBERED_MAX {
        said.retain(|_, at| at.elapsed() < AGAIN_AFTER);
    }
    let is_known = said.get(&(client, why)).is_some_and(|at| at.elapsed() < AGAIN_AFTER);
    if is_known || said.len() >= REMEMBERED_MAX {
        return false;
    }
    said.insert((client, why), Instant::now());
    true
}
