//! A webapp mounted at a path of a host: what stays the same while its generations come and go.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use serval_config::ContextName;

use crate::error_page::HostPages;
use crate::generation::{Gate, Generation};
use crate::routes::Routes;
use crate::sessions::Sessions;

pub struct Context {
    /// "" for the root context.
    pub path: String,
    /// What follows `##` in the folder's name: of several contexts of one path, which one it is.
    pub version: Option<String>,
    /// For people and logs: "/" for the root context, "/shop##2".
    pub name: Arc<str>,
    /// They stay when its generations go.
    pub sessions: Arc<Sessions>,
    /// What requests get; replaced as a whole.
    pub current: ArcSwap<Generation>,
    pub host: ArcSwap<OfHost>,
    /// What is mounted at its host, once it is.
    pub beside: OnceLock<Weak<ArcSwap<Routes>>>,
    /// Of its last generation.
    pub last_number: AtomicU64,
    /// Requests that are held at its gate.
    pub held: AtomicUsize,
    waiting: AtomicU8,
    /// The generation that is on its way.
    next: Mutex<Option<Next>>,
    refused: Mutex<Option<String>>,
    gone: AtomicBool,
}

/// What a context has of its host; replaced as a whole when the configuration changes.
pub struct OfHost {
    pub name: String,
    pub pages: HostPages,
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

/// A generation that is on its way.
#[derive(Debug, Clone, Copy)]
pub struct Next {
    pub number: u64,
    pub since: Instant,
    /// `starting`; `draining` the current one before, which `stop-start` does; `checking`.
    pub state: &'static str,
}

impl Context {
    pub fn new(name: ContextName, first: Arc<Generation>, host: Arc<OfHost>) -> Context {
        let (current, waiting) = (ArcSwap::new(first), AtomicU8::new(Waiting::No as u8));
        let number = current.load().number;
        let sessions = Arc::default();
        let shown = name.display().into();
        let ContextName { path, version } = name;
        Context {
            path,
            version,
            name: shown,
            sessions,
            current,
            host: ArcSwap::new(host),
            beside: OnceLock::new(),
            last_number: AtomicU64::new(number),
            held: AtomicUsize::new(0),
            waiting,
            next: Mutex::default(),
            refused: Mutex::default(),
            gone: AtomicBool::new(false),
        }
    }

    /// The number of its next generation.
    pub fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// As the folder of a webapp of this path and version is named: `ROOT`, `a#b##2`.
    pub fn folder_name(&self) -> String {
        ContextName { path: self.path.clone(), version: self.version.clone() }.folder()
    }

    /// Whether another context of its host has a live session of that id.
    pub fn is_known_beside(&self, id: &str) -> bool {
        let Some(beside) = self.beside.get().and_then(Weak::upgrade) else { return false };
        let routes = beside.load();
        routes.contexts().any(|other| other.name != self.name && other.sessions.knows(id))
    }

    pub fn waiting(&self) -> Waiting {
        match self.waiting.load(Ordering::Relaxed) {
            1 => Waiting::Starting,
            2 => Waiting::Building,
            3 => Waiting::Failed,
            _ => Waiting::No,
        }
    }

    /// It is unmounted: no generation takes over any more.
    pub fn goes(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Requests are held: its current generation has ended, and the next one is on its way.
    pub fn is_held(&self) -> bool {
        matches!(self.current.load().gate, Some(Gate::Held(_)))
    }

    pub fn is_stopped(&self) -> bool {
        matches!(self.current.load().gate, Some(Gate::Stopped))
    }

    pub fn next(&self) -> Option<Next> {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One is on its way, or none any more.
    pub fn set_next(&self, number: Option<u64>) {
        let next = number.map(|number| Next { number, since: Instant::now(), state: "starting" });
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    pub fn set_state_of_next(&self, state: &'static str) {
        if let Some(next) = &mut *self.next.lock().unwrap_or_else(PoisonError::into_inner) {
            next.state = state;
        }
    }

    /// Why the last change was refused.
    pub fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `None`: it is not there any more, so what serves is as it should be.
    pub fn set_refused(&self, why: Option<String>) {
        if why.is_none() && self.waiting() == Waiting::Failed {
            self.set_waiting(Waiting::No);
        }
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub fn set_waiting(&self, waiting: Waiting) {
        self.waiting.store(waiting as u8, Ordering::Relaxed);
    }
}
