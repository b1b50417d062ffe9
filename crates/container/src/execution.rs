//! Where a servlet runs (DESIGN "Execution"): inline on an I/O thread when it promises not to block and there is a place, and
//! otherwise on a thread of its context's pool. And how a call waits, and how one that never ends is found and named.
//!
//! INVARIANT: there is one I/O thread more than there are places for inline calls, so one is always free of servlets. It may be
//! asleep, since the one that runs a call was the one that waits for the sockets: the watch wakes it.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{Pid, gettid};
use serval_loader::unload::let_go;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::unconstrained;

use crate::generation::Generation;
use crate::mapping::By;
use crate::turn::Io;

/// How long a call waits for a place before it goes to the pool. Most often a place is taken for less: by a call that the kernel
/// has interrupted, and that goes on when this thread has nothing to do. The way through the pool costs more than that.
const PATIENCE: Duration = Duration::from_millis(5);
/// A servlet with an inline call that has run for so long does not run inline any more: it keeps an I/O thread from its work.
const INLINE_MAX: Duration = Duration::from_secs(1);
/// LIMIT: slow calls that wait to be named; to find out a stack takes up to seconds, and what is slow should be known soon. Beyond,
/// they are named at once, without one.
const SLOW_MAX: usize = 16;
/// How often the watch looks, and so how long an inline call can keep others waiting when it does not keep its promise.
const LOOK: Duration = Duration::from_millis(50);

/// The places for inline calls.
#[repr(align(128))]
pub struct Inline {
    /// Places taken, and in the upper half calls that wait for one: the one shared write of a request.
    state: AtomicU64,
    places: u64,
    /// Places of calls that do not come back, as it seems; written by the watch.
    stuck: AtomicU64,
    freed: Notify,
}

const WAITING: u64 = 1 << 32;

impl Inline {
    pub fn new(places: usize) -> Inline {
        Inline { state: AtomicU64::new(0), places: places as u64, stuck: AtomicU64::new(0), freed: Notify::new() }
    }

    /// Waits a moment for a place. `None`: all are taken, and stay so.
    pub async fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.stuck.load(Ordering::Relaxed) >= self.places {
            return None;
        }
        tokio::time::timeout(PATIENCE, self.wait()).await.ok()
    }

    /// `None`: all places are taken now.
    pub fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let one_more = |state| (state % WAITING < self.places).then_some(state + 1);
        self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok().map(|_| Place(self.clone()))
    }

    /// Whether a call waits for a place.
    pub fn is_waited_for(&self) -> bool {
        self.state.load(Ordering::Relaxed) >= WAITING
    }

    /// Waits for a place as long as it takes.
    pub async fn wait(self: &Arc<Self>) -> Place {
        struct Waiting<'a>(&'a AtomicU64);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(WAITING, Ordering::SeqCst);
            }
        }
        self.state.fetch_add(WAITING, Ordering::SeqCst);
        let _waiting = Waiting(&self.state);
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(place) = self.try_enter() {
                return place;
            }
            freed.await;
        }
    }
}

/// A place that an inline call has.
pub struct Place(Arc<Inline>);

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, Ordering::SeqCst) >= WAITING {
            self.0.freed.notify_one();
        }
    }
}

/// The bound of a context's pool. Its threads come from the runtime, which makes them as they are needed.
pub struct Pool {
    workers: Arc<Semaphore>,
    queued: AtomicUsize,
    queue_max: usize,
    queue_timeout: Duration,
    runtime: Handle,
}

/// Why there was no thread for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    QueueFull,
    WaitedTooLong,
}

impl Pool {
    /// Called inside the runtime.
    pub fn new(workers_max: usize, queue_max: usize, queue_timeout: Duration) -> Pool {
        let workers = Arc::new(Semaphore::new(workers_max));
        Pool { workers, queued: AtomicUsize::new(0), queue_max, queue_timeout, runtime: Handle::current() }
    }

    /// Where its threads come from.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits for a thread's place as long as it takes: for what no client waits for.
    pub async fn enter_patiently(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.workers.clone().acquire_owned().await.ok()
    }

    /// Waits for a thread's place for what has been let in already, and so does not stand in the queue: but no longer than if it did.
    pub async fn enter_again(&self) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(self.queue_timeout, self.enter_patiently()).await.ok().flatten()
    }

    /// Waits for a thread's place, as long as the queue has room and the time has not run out.
    pub async fn enter(&self) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(permit) = self.workers.clone().try_acquire_owned() {
            return Ok(permit);
        }
        struct Queued<'a>(&'a AtomicUsize);
        impl Drop for Queued<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.queued.fetch_add(1, Ordering::Relaxed);
        let _queued = Queued(&self.queued);
        if before >= self.queue_max {
            return Err(Busy::QueueFull);
        }
        match tokio::time::timeout(self.queue_timeout, self.workers.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Busy::WaitedTooLong),
        }
    }
}

/// What an inline call has, kept by its thread, which it does not leave.
struct Own {
    place: Option<Place>,
    /// The connection that brought its request, until the call has to wait for long.
    io: Option<Io>,
    /// Once it has waited: it blocks a thread as the pool's do, and counts as one of them until it ends.
    permit: Option<OwnedSemaphorePermit>,
}

thread_local! {
    static OWN: Cell<Option<Own>> = const { Cell::new(None) };
}

/// Runs a call that has a place, on the I/O thread that read the request. Gives the connection back, unless the call had to
/// leave it, or it has ended.
pub fn inline(place: Place, io: Io, work: impl FnOnce()) -> Option<Io> {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            OWN.set(None);
        }
    }
    let _clear = Clear;
    OWN.set(Some(Own { place: Some(place), io: Some(io), permit: None }));
    work();
    OWN.take().and_then(|own| own.io)
}

/// Lets the connection of the inline call on this thread do what it can without waiting.
pub fn let_connection_go_on() {
    if let Some(mut own) = OWN.take() {
        own.let_connection_go_on();
        OWN.set(Some(own));
    }
}

/// Gives the connection of the inline call on this thread a task of its own: others will wait for it, maybe before this call ends.
pub fn leave_connection() {
    if let Some(mut own) = OWN.take() {
        if let Some(io) = own.io.take() {
            // From a thread that is not the runtime's: this one may be kept until the call ends, with what it was to do next. Its owner
            // is the listener, which waits for it as for any connection.
            let runtime = Handle::current();
            drop(tokio::task::spawn_blocking(move || drop(runtime.spawn(io.run()))));
        }
        OWN.set(Some(own));
    }
}

impl Own {
    fn let_connection_go_on(&mut self) {
        // Whoever polls it next brings a waker.
        let Some(io) = &mut self.io else { return };
        let mut task = Context::from_waker(Waker::noop());
        // With a budget of its own: a task that has used up its share is not a client that is slow.
        let polled = std::pin::pin!(unconstrained(poll_fn(|task| io.poll(task))));
        if polled.poll(&mut task).is_ready() {
            self.io = None;
        }
    }
}

/// There is no thread left on which a call could wait: all of its context's are busy.
pub struct NoThread;

/// Waits for a future inside a servlet's call, on whichever thread it runs. An inline call lets its connection go on first,
/// which is most often what it waits for. One that really has to wait leaves its place, the connection and the I/O thread's
/// work to others, and counts as one of the pool's threads from then on.
pub fn wait<F: Future>(pool: &Pool, future: F) -> Result<F::Output, NoThread> {
    let mut future = std::pin::pin!(unconstrained(future));
    let mut task = Context::from_waker(Waker::noop());
    if let Poll::Ready(output) = future.as_mut().poll(&mut task) {
        return Ok(output);
    }
    let Some(mut own) = OWN.take() else { return Ok(block(future)) };
    if own.io.is_some() {
        own.let_connection_go_on();
        if let Poll::Ready(output) = future.as_mut().poll(&mut task) {
            OWN.set(Some(own));
            return Ok(output);
        }
    }
    if own.permit.is_none() {
        own.permit = pool.workers.clone().try_acquire_owned().ok();
        if own.permit.is_none() {
            OWN.set(Some(own));
            return Err(NoThread);
        }
    }
    if let Some(io) = own.io.take() {
        // Its owner is the listener, which waits for it as for any connection.
        tokio::spawn(io.run());
    }
    // It does not take it again: from now on it is a call of the pool, by its permit.
    own.place = None;
    SEAT.with(|seat| seat.is_inline(None));
    let output = block(future);
    // It may be on an I/O thread again: the watch looks at it as if it began now.
    SEAT.with(|seat| seat.is_inline(Some(Instant::now())));
    OWN.set(Some(own));
    Ok(output)
}

fn block<F: Future>(future: F) -> F::Output {
    tokio::task::block_in_place(|| Handle::current().block_on(future))
}

/// A call of a servlet under way.
pub struct Call {
    pub generation: Arc<Generation>,
    /// Its number in the generation; `None`: the static files, behind filters.
    pub by: By,
    pub exchange_id: u64,
    pub slow_after: Duration,
    /// On an I/O thread.
    pub inline: bool,
}

struct Running {
    call: Call,
    since: Instant,
    /// Since when it has been on an I/O thread, as far as can be known.
    inline_since: Option<Instant>,
    /// When to name it (again).
    next: Duration,
}

/// One per thread that runs servlets; the thread and the watch share it, and nobody else.
struct Seat {
    thread: Pid,
    running: Mutex<Option<Running>>,
}

impl Seat {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, running: Option<Running>) -> Option<Running> {
        std::mem::replace(&mut *self.running(), running)
    }

    fn is_inline(&self, since: Option<Instant>) {
        if let Some(running) = &mut *self.running() {
            running.inline_since = since;
        }
    }

    /// Whether the call that began then still runs.
    fn still_runs(&self, began: Instant) -> bool {
        self.running().as_ref().is_some_and(|running| running.since == began)
    }
}

static SEATS: Mutex<Vec<Weak<Seat>>> = Mutex::new(Vec::new());

fn seats() -> Vec<Arc<Seat>> {
    SEATS.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}

/// How many calls run now in the generation of that number (`Generation::id`).
pub fn calls_in(generation: u64) -> usize {
    let is_in =
        |seat: &Arc<Seat>| seat.running().as_ref().is_some_and(|running| running.call.generation.id == generation);
    seats().iter().filter(|seat| is_in(seat)).count()
}

thread_local! {
    static SEAT: Arc<Seat> = {
        let seat = Arc::new(Seat { thread: gettid(), running: Mutex::default() });
        let mut seats = SEATS.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(&seat));
        seat
    };
}

/// Runs a call on this thread, and lets the watch see it.
pub fn watched<T>(call: Call, work: impl FnOnce(&Generation) -> T) -> T {
    SEAT.with(|seat| {
        let (generation, next) = (call.generation.clone(), call.slow_after);
        let since = Instant::now();
        let inline_since = call.inline.then_some(since);
        let _seated = Seated { seat, outer: seat.set(Some(Running { call, since, inline_since, next })) };
        work(&generation)
    })
}

/// A call has this seat, and gives it back however it ends.
struct Seated<'s> {
    seat: &'s Seat,
    /// The one that it runs inside of.
    outer: Option<Running>,
}

impl Drop for Seated<'_> {
    fn drop(&mut self) {
        let outer = self.outer.take();
        let is_between = outer.is_none();
        if let Some(running) = self.seat.set(outer)
            && running.next > running.call.slow_after
        {
            let Call { generation, by, exchange_id, .. } = &running.call;
            tracing::warn!(
                context = %generation.context, servlet = generation.name_of(*by),
                generation = generation.number, request = exchange_id,
                "the call that was named as slow has ended after {:.1} s", running.since.elapsed().as_secs_f64()
            );
        }
        if is_between {
            let_go();
        }
    }
}

/// Tells the native stack of a thread of this process in a line. Called on a thread of its own, one at a time; may take seconds.
pub type StackOf = Box<dyn Fn(Pid) -> String + Send>;

/// A call to be named in the log.
struct Slow {
    seat: Arc<Seat>,
    generation: Arc<Generation>,
    by: By,
    exchange_id: u64,
    since: Instant,
    age: Duration,
}

impl Slow {
    /// `stack_of` is asked only while it runs: later its thread may be at another call.
    fn name(self, stack_of: Option<&StackOf>) {
        let Slow { seat, generation, by, exchange_id, since, age } = self;
        let stack = stack_of.filter(|_| seat.still_runs(since)).map(|stack_of| stack_of(seat.thread));
        let stack = stack.filter(|_| seat.still_runs(since)).map(|stack| format!("; its stack: {stack}"));
        tracing::warn!(
            context = %generation.context, servlet = generation.name_of(by),
            generation = generation.number, request = exchange_id,
            "a call has been running for {:.1} s; it keeps its thread until it returns, and others use the rest \
             (make it asynchronous if it has to wait; slow_after in server.toml says when to say this){}",
             age.as_secs_f64(), stack.unwrap_or_default()
        );
    }
}

/// The thread that looks for slow calls; ends when dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Called inside the runtime that the calls run on.
    pub fn start(inline: Arc<Inline>, stack_of: StackOf) -> Watch {
        let runtime = Handle::current();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (slow, named) = sync_channel(SLOW_MAX);
        // It ends by itself, when there is nobody to send it more; nobody waits for that, since a stack takes a moment.
        let naming = std::thread::Builder::new().name("sv-stacks".to_owned()).spawn(move || {
            named.into_iter().for_each(|slow: Slow| slow.name(Some(&stack_of)));
        });
        let looking = std::thread::Builder::new().name("sv-watch".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(LOOK);
                look(&inline, &runtime, &slow);
            }
        });
        if let Err(error) = naming.and(looking.as_ref().map(|_| ()).map_err(|error| error.kind().into())) {
            tracing::warn!(
                "slow calls will not be named, or without their stacks, since there is no thread for it: {error}"
            );
        }
        Watch { stop, thread: looking.ok() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn look(inline: &Inline, runtime: &Handle, slow: &SyncSender<Slow>) {
    let mut stuck = 0;
    let mut long = false;
    for seat in seats() {
        let mut place = seat.running();
        let Some(running) = place.as_mut() else { continue };
        let age = running.since.elapsed();
        let inline_age = running.inline_since.map_or(Duration::ZERO, |since| since.elapsed());
        long |= inline_age >= LOOK;
        if inline_age >= INLINE_MAX {
            stuck += 1;
            goes_to_the_pool(&running.call, inline_age);
        }
        if age < running.next {
            continue;
        }
        running.next = age * 2;
        let (since, Call { generation, by, exchange_id, .. }) = (running.since, &running.call);
        let (generation, by, exchange_id) = (generation.clone(), *by, *exchange_id);
        drop(place);
        let call = Slow { seat, generation, by, exchange_id, since, age };
        if let Err(TrySendError::Full(call) | TrySendError::Disconnected(call)) = slow.try_send(call) {
            call.name(None);
        }
    }
    inline.stuck.store(stuck, Ordering::Relaxed);
    if long {
        // An I/O thread that has something to do wakes, and then waits for the sockets in place of the one that does not come back.
        drop(runtime.spawn(async {}));
    }
}

fn goes_to_the_pool(Call { generation, by, exchange_id, .. }: &Call, age: Duration) {
    let Some(servlet) = generation.servlet_of(*by) else { return };
    if servlet.keep_off_io_threads() {
        tracing::warn!(
            context = %generation.context, servlet = servlet.name(), generation = generation.number, request = exchange_id,
            "a servlet that promises not to block has been running for {:.1} s on an I/O thread; from now on its calls run on \
             the threads of its context (declare it without SV_NONBLOCKING)", age.as_secs_f64()
        );
    }
}
