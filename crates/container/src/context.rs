//! A webapp mounted at a path of a host: what stays the same while its generations come and go.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwap;
use serval_config::ContextSettings;
use serval_static_files::Folder;

use crate::execution::Pool;
use crate::generation::Generation;

pub struct Context {
    /// "" for the root context.
    pub path: String,
    /// For people and logs: "/" for the root context.
    pub name: Arc<str>,
    pub webapp: PathBuf,
    pub settings: ContextSettings,
    pub development: bool,
    pub folder: Folder,
    pub pool: Pool,
    /// What requests get; replaced as a whole.
    pub current: ArcSwap<Generation>,
    waiting: AtomicU8,
}

/// Why a path that no file answers may be a servlet's that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Waiting {
    No = 0,
    Starting = 1,
    Building = 2,
    Failed = 3,
}

impl Context {
    pub fn new(
        path: String,
        name: Arc<str>,
        webapp: PathBuf,
        settings: ContextSettings,
        development: bool,
        folder: Folder,
        first: Arc<Generation>,
    ) -> Context {
        let pool = Pool::new(settings.workers_max, settings.queue_max, settings.queue_timeout);
        let (current, waiting) = (ArcSwap::new(first), AtomicU8::new(Waiting::No as u8));
        Context { path, name, webapp, settings, development, folder, pool, current, waiting }
    }

    pub fn waiting(&self) -> Waiting {
        match self.waiting.load(Ordering::Relaxed) {
            1 => Waiting::Starting,
            2 => Waiting::Building,
            3 => Waiting::Failed,
            _ => Waiting::No,
        }
    }

    pub fn set_waiting(&self, waiting: Waiting) {
        self.waiting.store(waiting as u8, Ordering::Relaxed);
    }
}
