//! With the feature `tokio`: a runtime of the library's own, for one generation.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, EnterGuard, Handle};

use crate::background::{Work, lock};

/// LIMIT: how long its threads may take to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Runtime {
    workers: usize,
    /// Made when it is needed first; `None`: it could not be.
    handle: OnceLock<Option<Handle>>,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
}

impl Runtime {
    pub fn new(workers: usize) -> Runtime {
        Runtime { workers: workers.max(1), handle: OnceLock::new(), runtime: Mutex::new(None) }
    }

    fn handle(&self) -> Option<&Handle> {
        let made = || {
            let mut builder = Builder::new_multi_thread();
            let built = builder.worker_threads(self.workers).thread_name("servlet-tokio").enable_all().build();
            match built {
                Ok(runtime) => {
                    let handle = runtime.handle().clone();
                    *lock(&self.runtime) = Some(runtime);
                    Some(handle)
                }
                Err(wrong) => {
                    crate::log::error!("the tokio runtime of the library could not be made: {wrong}");
                    None
                }
            }
        };
        self.handle.get_or_init(made).as_ref()
    }

    pub fn enter(&self) -> Option<EnterGuard<'_>> {
        self.handle().map(Handle::enter)
    }

    /// Gives `work` back when there is no runtime.
    pub fn spawn(&self, work: Work) -> Result<(), Work> {
        match self.handle() {
            Some(handle) => {
                handle.spawn(work);
                Ok(())
            }
            None => Err(work),
        }
    }

    /// Drops all that still runs, and joins its threads.
    pub fn end(&self) {
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
        }
    }
}
