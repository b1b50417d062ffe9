//! What runs beside requests: jobs, spawned futures and threads, and timers for those who are not tasks of an exchange.
//!
//! It belongs to one generation. When the module is destroyed all of it is told, then awaited, then cut off at its next
//! `.await`; and its threads have ended before the module's state is taken apart.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serval_abi::sv_context;

use crate::host::{ContextHandle, Current};
use crate::module::caught;
use crate::{Result, error};

/// LIMIT: how many futures and threads of a library may run at once.
const FUTURES_MAX: u64 = 10_000;
const THREADS_MAX: usize = 64;

/// How long spawned futures may go on after they were told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A lock whose holder panicked is still good: what is done under locks here cannot stop half way.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which thread runs it.
#[derive(Clone, Copy)]
pub enum Lane {
    /// Futures, which do not hold the thread.
    Async,
    /// Jobs that are plain functions, one after the other.
    Blocking,
}

pub(crate) struct Background {
    context: ContextHandle,
    stopping: Stopping,
    /// Told when the grace is over.
    cut_off: Stopping,
    futures: Arc<Count>,
    lanes: [Executor; 2],
    threads: Mutex<Vec<JoinHandle<()>>>,
    #[cfg(feature = "tokio")]
    runtime: crate::runtime::Runtime,
}

/// Those of all modules that live, in the order of their start. It is one in a server; tests may have several.
static LIVE: Mutex<Vec<Weak<Background>>> = Mutex::new(Vec::new());

/// That of the module which this thread works for; on threads that run nothing of the library that of the last one.
fn current() -> Option<Arc<Background>> {
    let context = Current::get().context;
    let live: Vec<Arc<Background>> = lock(&LIVE).iter().filter_map(Weak::upgrade).collect();
    live.iter().find(|background| background.context() == context).or(live.last()).cloned()
}

/// Wakes at that time; `None`: there is no module.
pub(crate) fn timer(deadline: Instant, waker: Waker) -> Option<TimerKey> {
    let background = current()?;
    let key = background.lanes[Lane::Async as usize].timer(deadline, waker, &background)?;
    Some(TimerKey { background: Arc::downgrade(&background), key })
}

pub(crate) fn cancel_timer(timer: &TimerKey) {
    let background = timer.background.upgrade();
    let waker = background
        .and_then(|background| lock(&background.lanes[Lane::Async as usize].queue.state).timers.remove(&timer.key));
    // Outside of the locks, as everywhere here: it may be the last that holds a future, and so more timers.
    drop(waker);
}

impl Background {
    #[cfg_attr(not(feature = "tokio"), allow(unused_variables, reason = "there is no runtime"))]
    pub fn begin(context: ContextHandle, tokio_workers: usize) -> Arc<Background> {
        let background = Arc::new(Background {
            context,
            stopping: Stopping::default(),
            cut_off: Stopping::default(),
            futures: Arc::default(),
            lanes: [Executor::new("servlet-jobs"), Executor::new("servlet-work")],
            threads: Mutex::default(),
            #[cfg(feature = "tokio")]
            runtime: crate::runtime::Runtime::new(tokio_workers),
        });
        let mut live = lock(&LIVE);
        live.retain(|before| before.strong_count() > 0);
        live.push(Arc::downgrade(&background));
        drop(live);
        background
    }

    pub fn context(&self) -> *mut sv_context {
        self.context.handle()
    }

    pub fn stopping(&self) -> Stopping {
        self.stopping.clone()
    }

    /// Enters the runtime that the library's futures find around them.
    #[cfg(feature = "tokio")]
    pub fn enter(&self) -> impl Sized {
        self.runtime.enter()
    }

    #[cfg(not(feature = "tokio"))]
    pub fn enter(&self) -> impl Sized {}

    /// Runs a future of the author's, until it ends or is cut off. A panic ends it and nothing else.
    pub fn spawn(self: &Arc<Background>, future: impl Future<Output = ()> + Send + 'static) -> Result {
        let work = self.tracked(Box::pin(future))?;
        #[cfg(feature = "tokio")]
        let Err(work) = self.runtime.spawn(work) else { return Ok(()) };
        self.lanes[Lane::Async as usize].spawn(work, self);
        Ok(())
    }

    /// Runs a job of the module on that lane.
    pub fn run(self: &Arc<Background>, lane: Lane, job: Work) -> Result {
        let work = self.tracked(job)?;
        self.lanes[lane as usize].spawn(work, self);
        Ok(())
    }

    /// `work`, counted, within this library's surroundings, and with an end.
    fn tracked(self: &Arc<Background>, mut work: Work) -> Result<Work> {
        if self.stopping.is_stopping() {
            return Err(error(503, "the library is being stopped, so nothing can be spawned any more"));
        }
        let counted = self.futures.one_more().ok_or_else(|| {
            error(503, format!("{FUTURES_MAX} spawned futures run already; let some end, or spawn fewer"))
        })?;
        let background = Arc::downgrade(self);
        let mut cut_off = self.cut_off.waiting();
        Ok(Box::pin(async move {
            let _counted = counted;
            poll_fn(|context| {
                let Some(background) = background.upgrade() else { return Poll::Ready(()) };
                let _current = Current::of(background.context(), std::ptr::null_mut()).enter();
                let _tokio = background.enter();
                if cut_off.poll(context).is_ready() {
                    return Poll::Ready(());
                }
                // A panic was reported by the hook.
                caught(|| work.as_mut().poll(context)).unwrap_or(Poll::Ready(()))
            })
            .await;
            let _ = caught(|| drop(work));
        }))
    }

    pub fn spawn_thread(&self, name: &str, body: impl FnOnce(Stopping) + Send + 'static) -> Result {
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        if self.stopping.is_stopping() {
            return Err(error(503, "the library is being stopped, so no thread can be started any more"));
        }
        if threads.len() >= THREADS_MAX {
            return Err(error(503, format!("{THREADS_MAX} threads of this library run already")));
        }
        let (stopping, context) = (self.stopping.clone(), self.context);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _current = Current::of(context.handle(), std::ptr::null_mut()).enter();
            // A panic was reported by the hook.
            let _ = caught(|| body(stopping));
        })?;
        threads.push(thread);
        Ok(())
    }

    /// Tells all that it ends, and returns when all has ended.
    pub fn stop(&self) {
        self.stopping.tell();
        if !self.futures.wait_for_none(STOP_GRACE) {
            crate::log::warn!("what the library has spawned did not stop within {STOP_GRACE:?}; it is cut off");
            self.cut_off.tell();
            self.futures.wait_for_none(STOP_GRACE);
        }
        for lane in &self.lanes {
            lane.end();
        }
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // It has caught its panics.
            let _ = thread.join();
        }
    }

    /// Ends the runtime, last of all.
    pub fn end(&self) {
        let mut live = lock(&LIVE);
        live.retain(|background| background.as_ptr() != std::ptr::from_ref(self));
        if live.is_empty() {
            // Nothing stays behind of a library that is unloaded.
            *live = Vec::new();
        }
        drop(live);
        #[cfg(feature = "tokio")]
        self.runtime.end();
    }
}

// ---------------------------------------------------------------------------------------------- stopping

/// Tells a job, a spawned future or a thread that its generation ends: [`Context::stopping`](crate::Context::stopping).
///
/// It may be cloned, kept, and used on any thread.
///
/// ```
/// use servlet::prelude::*;
/// use std::time::Duration;
///
/// async fn watch(stopping: Stopping) {
///     while !stopping.is_stopping() {
///         // Whatever is first: a minute, or the end.
///         let _ = servlet::time::timeout(Duration::from_secs(60), stopping.stopped()).await;
///     }
/// }
/// ```
#[derive(Clone, Default)]
pub struct Stopping(Arc<Signal>);

#[derive(Default)]
struct Signal {
    told: AtomicBool,
    /// By the number of who waits. LIMIT: one for each of them; they take themselves out.
    waiting: Mutex<HashMap<u64, Waker>>,
    numbers: AtomicU64,
    changed: Condvar,
}

impl Stopping {
    fn tell(&self) {
        let mut waiting = lock(&self.0.waiting);
        self.0.told.store(true, Ordering::Release);
        let wakers = std::mem::take(&mut *waiting);
        drop(waiting);
        self.0.changed.notify_all();
        for waker in wakers.into_values() {
            waker.wake();
        }
    }

    /// Tells whether the generation ends.
    pub fn is_stopping(&self) -> bool {
        self.0.told.load(Ordering::Acquire)
    }

    fn waiting(&self) -> Waiting {
        Waiting { number: self.0.numbers.fetch_add(1, Ordering::Relaxed), signal: Arc::clone(&self.0) }
    }

    /// Waits until the generation ends.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut waiting = self.waiting();
        poll_fn(move |context| waiting.poll(context))
    }

    /// Waits on a thread, until the generation ends or `duration` is over; tells whether it ends.
    pub fn wait(&self, duration: Duration) -> bool {
        let waiting = lock(&self.0.waiting);
        let told = |_: &mut HashMap<u64, Waker>| !self.is_stopping();
        let waited = self.0.changed.wait_timeout_while(waiting, duration, told);
        drop(waited);
        self.is_stopping()
    }
}

impl std::fmt::Debug for Stopping {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Stopping({})", self.is_stopping())
    }
}

/// One who waits for a [`Stopping`].
struct Waiting {
    signal: Arc<Signal>,
    number: u64,
}

impl Waiting {
    fn poll(&mut self, context: &mut TaskContext<'_>) -> Poll<()> {
        if self.signal.told.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waiting = lock(&self.signal.waiting);
        if self.signal.told.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let before = waiting.insert(self.number, context.waker().clone());
        drop(waiting);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waker = lock(&self.signal.waiting).remove(&self.number);
        drop(waker);
    }
}

/// How many futures live.
#[derive(Default)]
struct Count {
    living: Mutex<u64>,
    changed: Condvar,
}

impl Count {
    fn one_more(self: &Arc<Count>) -> Option<Counted> {
        let mut living = lock(&self.living);
        (*living < FUTURES_MAX).then(|| {
            *living += 1;
            Counted(Arc::clone(self))
        })
    }

    fn wait_for_none(&self, longest: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(lock(&self.living), longest, |living| *living > 0);
        let (living, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *living == 0
    }
}

struct Counted(Arc<Count>);

impl Drop for Counted {
    fn drop(&mut self) {
        *lock(&self.0.living) -= 1;
        self.0.changed.notify_all();
    }
}

// ---------------------------------------------------------------------------------------------- the executor

/// A deadline, and a number that makes it unique.
type Key = (Instant, u64);

/// A timer, to take it back.
pub(crate) struct TimerKey {
    background: Weak<Background>,
    key: Key,
}

/// One thread that runs futures and keeps timers; started with the first of them.
struct Executor {
    name: &'static str,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// Those that are not polled just now. LIMIT: `FUTURES_MAX`.
    resting: HashMap<u64, (Work, Arc<Ready>)>,
    ready: VecDeque<u64>,
    /// LIMIT: one for each `Sleep` that is waited for; they take themselves out.
    timers: BTreeMap<Key, Waker>,
    number: u64,
    ends: bool,
}

/// Wakes one future of an executor.
struct Ready {
    queue: Weak<Queue>,
    number: u64,
    queued: AtomicBool,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            if let Some(queue) = self.queue.upgrade() {
                lock(&queue.state).ready.push_back(self.number);
                queue.changed.notify_one();
            }
        }
    }
}

impl Executor {
    fn new(name: &'static str) -> Executor {
        Executor { name, queue: Arc::default(), thread: Mutex::default() }
    }

    fn spawn(&self, work: Work, background: &Background) {
        let mut state = lock(&self.queue.state);
        state.number += 1;
        let number = state.number;
        let ready = Ready { queue: Arc::downgrade(&self.queue), number, queued: AtomicBool::new(true) };
        state.resting.insert(number, (work, Arc::new(ready)));
        state.ready.push_back(number);
        drop(state);
        self.begin(background);
    }

    fn timer(&self, deadline: Instant, waker: Waker, background: &Background) -> Option<Key> {
        let mut state = lock(&self.queue.state);
        if state.ends {
            return None;
        }
        state.number += 1;
        let key = (deadline, state.number);
        state.timers.insert(key, waker);
        drop(state);
        self.begin(background);
        Some(key)
    }

    /// Sees to it that the thread looks at what has changed.
    fn begin(&self, background: &Background) {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let (queue, context) = (Arc::clone(&self.queue), background.context);
            let started = std::thread::Builder::new().name(self.name.to_owned()).spawn(move || {
                let _current = Current::of(context.handle(), std::ptr::null_mut()).enter();
                queue.run();
            });
            match started {
                Ok(started) => *thread = Some(started),
                // The next one tries again.
                Err(wrong) => crate::log::error!("no thread for jobs and timers: {wrong}"),
            }
        }
        drop(thread);
        self.queue.changed.notify_one();
    }

    fn end(&self) {
        lock(&self.queue.state).ends = true;
        self.queue.changed.notify_one();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // Each future has caught its panics.
            let _ = thread.join();
        }
        // Nothing of the library may stay behind in them.
        let rest = std::mem::take(&mut *lock(&self.queue.state));
        lock(&self.queue.state).ends = true;
        let _ = caught(|| drop(rest));
    }
}

impl Queue {
    fn run(&self) {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            if let Some(timer) = state.timers.first_entry().filter(|timer| timer.key().0 <= now) {
                let waker = timer.remove();
                drop(state);
                waker.wake();
            } else if let Some(number) = state.ready.pop_front() {
                let Some((mut work, ready)) = state.resting.remove(&number) else { continue };
                drop(state);
                ready.queued.store(false, Ordering::Release);
                let waker = Waker::from(Arc::clone(&ready));
                let polled = work.as_mut().poll(&mut TaskContext::from_waker(&waker));
                if polled.is_pending() {
                    state = lock(&self.state);
                    state.resting.insert(number, (work, ready));
                    continue;
                }
                drop(work);
            } else if state.ends {
                return;
            } else {
                let next = state.timers.first_key_value().map(|(key, _)| key.0.saturating_duration_since(now));
                // Without a timer it waits for a change; an hour is as good as for ever.
                let waited = self.changed.wait_timeout(state, next.unwrap_or(Duration::from_secs(3600)));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            state = lock(&self.state);
        }
    }
}
