//! Jobs that libraries post to their context's pool (servlet.h, context_post). A generation waits for its own before it is destroyed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serval_abi::{SV_E_LIMIT, SV_E_STATE};
use serval_loader::exchange::{Answer, Fault};

use crate::execution::Pool;

/// How often it is said that a generation still waits for a job.
const SAID_EVERY: Duration = Duration::from_secs(30);

pub struct Jobs {
    pool: Arc<Pool>,
    /// LIMIT: jobs that wait or run.
    count_max: usize,
    state: Mutex<State>,
    fewer: Condvar,
}

#[derive(Default)]
struct State {
    count: usize,
    closed: bool,
}

/// Counts as one until it is dropped.
struct One(Arc<Jobs>);

impl Drop for One {
    fn drop(&mut self) {
        self.0.lock().count -= 1;
        self.0.fewer.notify_all();
    }
}

impl Jobs {
    pub fn new(pool: Arc<Pool>, count_max: usize) -> Arc<Jobs> {
        Arc::new(Jobs { pool, count_max, state: Mutex::default(), fewer: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn post(self: &Arc<Self>, job: Box<dyn FnOnce() + Send>) -> Answer {
        let mut state = self.lock();
        if state.closed {
            return Err(Fault::new(SV_E_STATE, "the generation is being destroyed"));
        }
        if state.count >= self.count_max {
            return Err(Fault::new(SV_E_LIMIT, format!("{} jobs wait or run, and that is queue_max", state.count)));
        }
        state.count += 1;
        drop(state);
        let (one, pool) = (One(self.clone()), self.pool.clone());
        self.pool.runtime().spawn(async move {
            let permit = pool.enter_patiently().await;
            // It is awaited by `close`.
            drop(tokio::task::spawn_blocking(move || {
                let (_one, _permit) = (one, permit);
                job();
            }));
        });
        Ok(())
    }

    /// Lets the generation wait for the caller, who is about to call a module; `None`: it is being destroyed.
    pub fn hold(self: &Arc<Self>) -> Option<impl Drop + use<>> {
        let mut state = self.lock();
        (!state.closed).then(|| {
            state.count += 1;
            One(self.clone())
        })
    }

    /// Takes no more, and waits for those that were posted, and for who holds it.
    pub fn close(&self, context: &str, generation: u64) {
        let mut state = self.lock();
        state.closed = true;
        while state.count > 0 {
            let waited = self.fewer.wait_timeout(state, SAID_EVERY).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if waited.1.timed_out() {
                tracing::warn!(
                    context,
                    generation,
                    "{} posted jobs of an old generation still run; it is destroyed when they have returned",
                    state.count
                );
            }
        }
    }
}
