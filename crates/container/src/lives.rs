//! What has become of generations that are not the current one any more, and of their libraries: for the log, and for `status`.
//!
//! A generation is `draining` while exchanges run in it, then `destroying`, then `unloading`, then gone; or a library stays mapped.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::Notify;

use crate::execution::calls_in;
use crate::generation::Generation;

/// LIMIT: libraries that stay mapped and are named; all are counted.
const NAMED_MAX: usize = 100;

/// What the generations of all contexts share.
#[derive(Default)]
pub struct Lives {
    /// How many there are, the current ones too.
    pub live: AtomicUsize,
    pub changed: Notify,
    /// The server stops: what is still loaded goes with the process.
    pub end: AtomicBool,
    next: AtomicU64,
    retired: Mutex<Vec<Retired>>,
    left: Mutex<Left>,
}

struct Retired {
    id: u64,
    context: Arc<str>,
    number: u64,
    webapp: PathBuf,
    since: Instant,
    state: &'static str,
    waits_for: String,
}

#[derive(Default)]
struct Left {
    count: usize,
    /// The last ones.
    named: VecDeque<LeftMapped>,
}

/// A generation that a newer one has replaced, or whose context is gone.
#[derive(Debug, Serialize)]
pub struct Old {
    pub context: String,
    pub generation: u64,
    /// `draining`, `destroying` or `unloading`.
    pub state: &'static str,
    /// Since it was replaced.
    pub seconds: u64,
    /// A clause; "": for nothing that is known.
    pub waits_for: String,
}

/// A library that could not be unloaded.
#[derive(Debug, Clone, Serialize)]
pub struct LeftMapped {
    pub context: String,
    pub generation: u64,
    pub library: String,
    pub reason: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lives {
    /// A number for a generation, never given twice.
    pub fn begin(&self) -> u64 {
        self.live.fetch_add(1, Ordering::Relaxed);
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub fn end(&self, id: u64) {
        lock(&self.retired).retain(|retired| retired.id != id);
        self.live.fetch_sub(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// It gets no more requests.
    pub fn retire(&self, generation: &Arc<Generation>) {
        lock(&self.retired).push(Retired {
            id: generation.id,
            context: generation.context.clone(),
            number: generation.number,
            webapp: generation.webapp.clone(),
            since: Instant::now(),
            state: "draining",
            waits_for: String::new(),
        });
    }

    /// It serves on.
    pub fn serves_on(&self, id: u64) {
        lock(&self.retired).retain(|retired| retired.id != id);
    }

    /// Whether nothing of a generation that was retired can be called any more, but what unloads it.
    pub fn is_destroyed(&self, id: u64) -> bool {
        lock(&self.retired).iter().all(|retired| retired.id != id || retired.state == "unloading")
    }

    pub fn set(&self, id: u64, state: &'static str, waits_for: String) {
        if let Some(retired) = lock(&self.retired).iter_mut().find(|retired| retired.id == id) {
            (retired.state, retired.waits_for) = (state, waits_for);
        }
    }

    /// Whether a generation that is not gone yet has its files in this folder.
    pub fn have(&self, folder: &Path) -> bool {
        lock(&self.retired).iter().any(|retired| retired.webapp.starts_with(folder))
    }

    pub fn left_mapped(&self, library: LeftMapped) {
        let mut left = lock(&self.left);
        left.count += 1;
        if left.named.len() == NAMED_MAX {
            left.named.pop_front();
        }
        left.named.push_back(library);
    }

    /// How many libraries stay mapped, and the last ones of them.
    pub fn left(&self) -> (usize, Vec<LeftMapped>) {
        let left = lock(&self.left);
        (left.count, left.named.iter().cloned().collect())
    }

    pub fn old(&self) -> Vec<Old> {
        let retired = lock(&self.retired);
        let old = retired.iter().map(|retired| Old {
            context: retired.context.to_string(),
            generation: retired.number,
            state: retired.state,
            seconds: retired.since.elapsed().as_secs(),
            waits_for: match (retired.state, calls_in(retired.id)) {
                ("draining", 0) => "what goes on by itself".to_owned(),
                ("draining", 1) => "1 call".to_owned(),
                ("draining", count) => format!("{count} calls"),
                _ => retired.waits_for.clone(),
            },
        });
        old.collect()
    }
}
