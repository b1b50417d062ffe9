//! Exchanges that go on after their servlet has returned (Servlet 2.3.3.3): as a task, which is polled when its waker fires, or
//! detached, until a thread of the library calls complete. Each has a driver here, a task of the runtime that ends with it: it sees to
//! time-outs, to clients that leave, and to the end of the generation. The generation waits for its exchanges, and so for the drivers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use http::StatusCode;
use serval_abi::{SV_E_BUSY, SV_E_CANCELLED, SV_E_CLOSED, SV_E_LIMIT, SV_E_TIMEOUT, SV_OK, sv_status};
use serval_loader::detached::Detached;
use serval_loader::exchange::{Answer, Fault};
use serval_loader::servlet::{Outcome, Polled, Scope, Task};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::dispatch;
use crate::exchange::{Asks, Exchange};
use crate::execution::{Call, Place, watched};
use crate::generation::{Generation, Stage};
use crate::mapping::By;
use crate::turn::Turn;

/// LIMIT: threads beside the pools, for what has to come to an end: detached exchanges are told of theirs, and those that got no thread
/// in time are ended.
static BESIDE: Semaphore = Semaphore::const_new(64);
pub const NO_THREAD_IN_TIME: &str =
    "its context had no thread for it (workers_max) for as long as a request waits for one (queue_timeout)";
/// LIMIT: timers of one task.
const TIMERS_MAX: usize = 10_000;

/// What wakes one task. Many wakes count as one, none before the end is lost, and one after it does nothing.
#[derive(Default)]
pub struct TaskWake {
    woken: Notify,
    /// When to wake it by the clock, the next one first.
    timers: Mutex<BinaryHeap<Reverse<Instant>>>,
    /// There is another timer: whoever waits looks which is the next one, and that wakes nobody.
    another: Notify,
}

impl TaskWake {
    fn timers(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Instant>>> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a wake, or for a timer.
    pub async fn woken(&self) {
        loop {
            let next = self.timers().peek().map(|Reverse(at)| *at);
            tokio::select! {
                biased;
                () = self.woken.notified() => break,
                () = self.another.notified() => {}
                () = sleep_until(next) => break,
            }
        }
        let (mut timers, now) = (self.timers(), Instant::now());
        while timers.peek().is_some_and(|Reverse(at)| *at <= now) {
            timers.pop();
        }
    }
}

impl std::task::Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        self.woken.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.notify_one();
    }
}

impl serval_loader::exchange::Wake for TaskWake {
    fn wake(&self) {
        self.woken.notify_one();
    }

    fn wake_after(&self, after: Duration) -> Answer {
        // So far away that nobody waits for it.
        let Some(at) = Instant::now().checked_add(after) else { return Ok(()) };
        let mut timers = self.timers();
        if timers.len() >= TIMERS_MAX {
            return Err(Fault::new(SV_E_LIMIT, "a task has at most 10,000 timers"));
        }
        timers.push(Reverse(at));
        drop(timers);
        self.another.notify_one();
        Ok(())
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// A task of a servlet, with what belongs to it. Dropped in this order.
pub struct Work {
    task: Task,
    scope: Scope,
    exchange: Box<Exchange>,
}

impl Work {
    pub fn new(task: Task, scope: Scope, mut exchange: Box<Exchange>) -> Box<Work> {
        exchange.goes_on();
        Box::new(Work { task, scope, exchange })
    }

    fn call(&self, inline: bool) -> Call {
        self.exchange.call(inline)
    }

    /// Polls it once, on the calling thread, and sees to what follows. Gives it back as long as it is not over.
    pub fn step(mut self: Box<Self>, inline: bool) -> Option<Box<Work>> {
        watched(self.call(inline), |_| {
            let waker = Waker::from(self.exchange.task_wake());
            self.exchange.set_polled(Some(waker));
            let outcome = match self.task.poll(&mut self.scope, &mut *self.exchange) {
                Polled::Pending if !self.exchange.has_a_way() => return Some(self),
                Polled::Pending | Polled::Done => Outcome::Done,
                Polled::Failed(status, text) => Outcome::Failed(status, text),
            };
            self.end(outcome, inline);
            None
        })
    }

    fn end(self, outcome: Outcome, inline: bool) {
        let Work { task, scope, exchange } = self;
        drop(task);
        dispatch::settle(exchange, scope, outcome, inline);
    }

    /// Ends it in the middle.
    fn cancel(self: Box<Self>, why: Why, inline: bool) {
        watched(self.call(inline), |_| {
            let Work { task, scope, mut exchange } = *self;
            let (_, result, _) = why.answer();
            drop(task);
            exchange.cut_off(why);
            dispatch::conclude(exchange, scope, result, inline);
        });
    }

    /// Drives it to its end.
    pub async fn drive(mut self: Box<Self>) {
        let wake = self.exchange.task_wake();
        let mut watcher = Watcher::new(&self.exchange);
        loop {
            let mut why = watcher.next(wake.woken(), self.exchange.deadline()).await;
            if matches!(why, Why::Event | Why::Retired) {
                match watcher.seat(watcher.may_be_polled_inline()).await {
                    Ok(seat) => {
                        let inline = seat.is_inline();
                        match seat.run(move || self.step(inline)).await {
                            Some(Some(work)) => self = work,
                            _ => return,
                        }
                        // One that always wakes itself lets the others have their turn.
                        tokio::task::coop::consume_budget().await;
                        continue;
                    }
                    Err(Busy) => why = Why::Busy,
                }
            }
            watcher.say(why);
            let Some(seat) = watcher.last_seat(watcher.may_be_polled_inline()).await else { return };
            let inline = seat.is_inline();
            seat.run(move || self.cancel(why, inline)).await;
            return;
        }
    }
}

/// Where what calls a library runs.
enum Seat {
    /// On this I/O thread.
    Inline(Place),
    /// On a thread of the context's pool.
    Pool(OwnedSemaphorePermit),
    /// On one beside the pool, which may have none left.
    Beside(SemaphorePermit<'static>),
}

/// The context's pool had no thread for as long as a request waits for one.
struct Busy;

impl Seat {
    /// `None`: never, since the semaphore is not closed.
    async fn beside() -> Option<Seat> {
        BESIDE.acquire().await.ok().map(Seat::Beside)
    }

    fn is_inline(&self) -> bool {
        matches!(self, Seat::Inline(_))
    }

    async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match self {
            Seat::Inline(place) => {
                let result = work();
                drop(place);
                Some(result)
            }
            Seat::Pool(permit) => on_thread(permit, work).await,
            Seat::Beside(permit) => on_thread(permit, work).await,
        }
    }
}

async fn on_thread<T: Send + 'static>(
    permit: impl Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let run = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    run.await.ok()
}

/// Runs `dispatch`, to which async_dispatch leads, on a thread of the context's pool; `instead`, if there is none in time.
pub async fn run_again(exchange: Box<Exchange>, dispatch: fn(Box<Exchange>), instead: fn(Box<Exchange>)) {
    let pool = exchange.generation().pool.clone();
    let (seat, run) = match pool.enter_again().await {
        Some(permit) => (Some(Seat::Pool(permit)), dispatch),
        None => (Seat::beside().await, instead),
    };
    if let Some(seat) = seat {
        seat.run(move || run(exchange)).await;
    }
}

/// How a detached exchange tells its driver.
#[derive(Default)]
pub struct Completion {
    result: Mutex<Option<sv_status>>,
    deadline: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Completion {
    /// With the deadline that was set before.
    pub fn new(deadline: Option<Instant>) -> Completion {
        Completion { deadline: Mutex::new(deadline), ..Completion::default() }
    }

    pub fn complete(&self, result: sv_status) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.changed.notify_one();
    }

    pub fn set_deadline(&self, deadline: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
        self.changed.notify_one();
    }

    fn result(&self) -> Option<sv_status> {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the library's threads in at once; what it returns waits until the exchange is completed, and finishes it.
pub fn drive_detached(
    scope: Scope,
    mut exchange: Box<Exchange>,
    completion: Arc<Completion>,
) -> impl Future<Output = ()> + Send {
    exchange.goes_on();
    let watcher = Watcher::new(&exchange);
    let detached = Detached::begin(scope, exchange);
    async move {
        if let Some(detached) = detached {
            finish(&detached, watcher, &completion).await;
        }
    }
}

/// What may not be waited for is answered before, and told to the library; but the exchange stays, since complete is still owed.
async fn finish(detached: &Arc<Detached<Exchange>>, mut watcher: Watcher, completion: &Completion) {
    let mut over = false;
    loop {
        if let Some(result) = completion.result() {
            let Some((scope, exchange)) = detached.take() else { return };
            let outcome = match result {
                SV_OK => Outcome::Done,
                status => Outcome::Failed(status, format!("it was completed with status {status}")),
            };
            // Nothing of the servlet is called any more, so no worker is needed for it.
            let Some(seat) = watcher.last_seat(watcher.inline).await else { return };
            let inline = seat.is_inline();
            seat.run(move || watched(exchange.call(inline), |_| dispatch::settle(exchange, scope, outcome, inline)))
                .await;
            return;
        }
        let deadline = completion.deadline().filter(|_| !over);
        let why = watcher.next(completion.changed.notified(), deadline).await;
        let (status, code, reason) = match why {
            Why::Event => continue,
            why => why.answer(),
        };
        over |= why != Why::Retired;
        if why != Why::Left {
            watcher.say(why);
        }
        // For the servlet of an error page, if there may be one.
        let permit = match why {
            Why::TimedOut if !watcher.generation.web.error_pages.is_empty() => {
                watcher.generation.pool.enter().await.ok()
            }
            _ => None,
        };
        let asks = if permit.is_some() { Asks::Webapp } else { Asks::Nobody };
        // A call of the library may be under way, which is waited for: on a thread that may wait, even if the pool has none left.
        let Some(seat) = Seat::beside().await else { return };
        let same = detached.clone();
        let told = seat.run(move || {
            if why != Why::Retired {
                same.with(|exchange| {
                    if exchange.completion().is_some_and(|completion| completion.result().is_some()) {
                        // While a thread and the exchange were waited for: that stands.
                        return;
                    }
                    exchange.is_over(status, Fault::new(code, reason));
                    exchange.cut_off(why);
                    exchange.make_error_page(asks);
                });
            }
            same.tell(code);
        });
        told.await;
        drop(permit);
    }
}

/// What a driver has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// What the exchange itself waits for.
    Event,
    Left,
    TimedOut,
    Retired,
    Cut,
    /// There was no thread for its next poll.
    Busy,
}

impl Why {
    /// What it answers when nothing was sent, what the library gets to know, and a sentence.
    pub fn answer(self) -> (StatusCode, sv_status, &'static str) {
        match self {
            Why::TimedOut => {
                let why = "an asynchronous request was not completed in time (async_timeout)";
                (StatusCode::INTERNAL_SERVER_ERROR, SV_E_TIMEOUT, why)
            }
            Why::Left => (StatusCode::BAD_REQUEST, SV_E_CLOSED, "the client has gone"),
            Why::Cut => {
                let why = "its generation was replaced, and it had not ended after drain_timeout";
                (StatusCode::SERVICE_UNAVAILABLE, SV_E_CANCELLED, why)
            }
            Why::Busy => (StatusCode::SERVICE_UNAVAILABLE, SV_E_BUSY, NO_THREAD_IN_TIME),
            Why::Event | Why::Retired => (StatusCode::OK, SV_OK, ""),
        }
    }
}

/// What all drivers look at.
pub struct Watcher {
    generation: Arc<Generation>,
    turn: Arc<Turn>,
    stage: tokio::sync::watch::Receiver<Stage>,
    /// The servlet promises to go on when the client has gone, or that is known already.
    keeps: bool,
    inline: bool,
    by: By,
    request: u64,
}

impl Watcher {
    pub fn new(exchange: &Exchange) -> Watcher {
        let (generation, turn) = (exchange.generation().clone(), exchange.turn().clone());
        let keeps = generation.servlet_of(exchange.serving()).is_some_and(|servlet| servlet.keeps());
        let mut stage = generation.stage.subscribe();
        // One that has retired meanwhile is news, too.
        stage.mark_changed();
        let inline = exchange.has_only_nonblocking_filters() && !generation.listens_to_requests();
        Watcher { generation, turn, stage, keeps, inline, by: exchange.serving(), request: exchange.request().id }
    }

    /// Waits for the first that comes; `event` is what the exchange itself waits for.
    pub async fn next(&mut self, event: impl Future<Output = ()>, deadline: Option<Instant>) -> Why {
        tokio::select! {
            biased;
            why = stage_of(&mut self.stage) => why,
            () = self.turn.client_has_left(), if !self.keeps => {
                self.keeps = true;
                Why::Left
            }
            () = sleep_until(deadline) => Why::TimedOut,
            () = event => Why::Event,
        }
    }

    fn may_be_polled_inline(&self) -> bool {
        let servlet = self.generation.servlet_of(self.by);
        self.inline && servlet.is_some_and(|servlet| !servlet.is_off_io_threads())
    }

    /// A place on this I/O thread, if that may be and there is one, else a thread of the context's pool.
    async fn seat(&self, inline: bool) -> Result<Seat, Busy> {
        if inline && let Some(place) = self.turn.inline.enter().await {
            return Ok(Seat::Inline(place));
        }
        tokio::select! {
            biased;
            permit = self.generation.pool.enter_again() => permit.map(Seat::Pool).ok_or(Busy),
            // While the pool has no thread, a place may become free.
            place = self.turn.inline.wait(), if inline => Ok(Seat::Inline(place)),
        }
    }

    /// For what ends it, which never stays undone.
    async fn last_seat(&self, inline: bool) -> Option<Seat> {
        match self.seat(inline).await {
            Ok(seat) => Some(seat),
            Err(Busy) => Seat::beside().await,
        }
    }

    pub fn say(&self, why: Why) {
        let (_, _, reason) = why.answer();
        let servlet = self.generation.name_of(self.by);
        let (context, generation, request) = (&self.generation.context, self.generation.number, self.request);
        match why {
            Why::TimedOut | Why::Cut | Why::Busy => {
                tracing::warn!(%context, generation, servlet, request, "a request was ended: {reason}")
            }
            _ => tracing::debug!(%context, generation, servlet, request, "a request was ended: {reason}"),
        }
    }
}

async fn stage_of(stage: &mut tokio::sync::watch::Receiver<Stage>) -> Why {
    loop {
        if stage.changed().await.is_err() {
            return pending().await;
        }
        match *stage.borrow_and_update() {
            Stage::Serving => {}
            Stage::Retired => return Why::Retired,
            Stage::Cut => return Why::Cut,
        }
    }
}
