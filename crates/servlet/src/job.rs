//! Jobs: functions that run again and again beside the requests, for as long as their generation lives.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::background::{Background, Lane, Work};
use crate::glue::the;
use crate::hooks::{Type, type_of};
use crate::module::{ModulePointer, caught};
use crate::time::sleep;
use crate::{Error, Result};

/// A function that may be a job. `Shape` tells the kinds apart and is always inferred.
///
/// - `fn()` and `fn(&State)`
/// - `async fn()` and `async fn(&State)`
///
/// Each returns nothing or [`Result`]; an error is logged.
#[diagnostic::on_unimplemented(
    message = "this function cannot be a job: its arguments or its result are of other types",
    label = "not the arguments and result of a job",
    note = "a job is fn() or fn(&State), plain or async, and returns nothing or Result; State is Send + Sync and returned by \
            the #[start] function; an async one may not hold what is not Send, such as an Rc or a MutexGuard, over an .await"
)]
pub trait JobFunction<Shape>: Copy + Send + Sync + 'static {
    #[doc(hidden)]
    const LANE: Lane;

    #[doc(hidden)]
    fn state() -> Option<Type>;

    #[doc(hidden)]
    fn once(self, module: &ModulePointer) -> impl Future<Output = Result> + Send;
}

/// What a job may return.
pub trait Ended: Send {
    #[doc(hidden)]
    fn ended(self) -> Result;
}

impl Ended for () {
    fn ended(self) -> Result {
        Ok(())
    }
}

impl Ended for Result {
    fn ended(self) -> Result {
        self
    }
}

/// Marks the shapes of async functions.
pub struct Async<F>(PhantomData<F>);

impl<F, R: Ended> JobFunction<fn() -> R> for F
where
    F: Fn() -> R + Copy + Send + Sync + 'static,
{
    const LANE: Lane = Lane::Blocking;

    fn state() -> Option<Type> {
        None
    }

    async fn once(self, _: &ModulePointer) -> Result {
        self().ended()
    }
}

impl<F, S, R: Ended> JobFunction<fn(&S) -> R> for F
where
    F: Fn(&S) -> R + Copy + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    const LANE: Lane = Lane::Blocking;

    fn state() -> Option<Type> {
        Some(type_of::<S>())
    }

    async fn once(self, module: &ModulePointer) -> Result {
        self(module.state()).ended()
    }
}

impl<F, Fut> JobFunction<Async<fn()>> for F
where
    F: Fn() -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output: Ended> + Send,
{
    const LANE: Lane = Lane::Async;

    fn state() -> Option<Type> {
        None
    }

    async fn once(self, _: &ModulePointer) -> Result {
        self().await.ended()
    }
}

/// An async function of the state, with the lifetime that its future borrows it for.
#[doc(hidden)]
pub trait AsyncOfState<'a, S: 'static>: Fn(&'a S) -> Self::Future {
    type Future: Future<Output: Ended> + Send + 'a;
}

impl<'a, F, S: 'static, Fut> AsyncOfState<'a, S> for F
where
    F: Fn(&'a S) -> Fut,
    Fut: Future<Output: Ended> + Send + 'a,
{
    type Future = Fut;
}

impl<F, S> JobFunction<Async<fn(&S)>> for F
where
    F: for<'a> AsyncOfState<'a, S> + Copy + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    const LANE: Lane = Lane::Async;

    fn state() -> Option<Type> {
        Some(type_of::<S>())
    }

    async fn once(self, module: &ModulePointer) -> Result {
        self(module.state()).await.ended()
    }
}

/// A declared job.
pub struct Job {
    every: Duration,
    lane: Lane,
    pub(crate) state: fn() -> Option<Type>,
    run: fn(ModulePointer) -> Pin<Box<dyn Future<Output = Result> + Send>>,
}

/// Describes a job; what `#[job]` expands to.
pub const fn job<F: JobFunction<Shape>, Shape: 'static>(milliseconds: u64, _function: F) -> Job {
    Job { every: Duration::from_millis(milliseconds), lane: F::LANE, state: F::state, run: run::<F, Shape> }
}

fn run<F: JobFunction<Shape>, Shape: 'static>(module: ModulePointer) -> Pin<Box<dyn Future<Output = Result> + Send>> {
    Box::pin(async move { the::<F>().once(&module).await })
}

impl Job {
    /// Runs it until the generation ends. The module outlives it: its background is stopped before.
    pub(crate) fn begin(
        &'static self,
        name: &'static str,
        module: ModulePointer,
        background: &Arc<Background>,
    ) -> Result {
        let stopping = background.stopping();
        let work: Work = Box::pin(async move {
            while !stopping.is_stopping() {
                let mut pause = std::pin::pin!(sleep(self.every));
                let mut stopped = std::pin::pin!(stopping.stopped());
                let ends = std::future::poll_fn(|context| {
                    if stopped.as_mut().poll(context).is_ready() {
                        return std::task::Poll::Ready(true);
                    }
                    pause.as_mut().poll(context).map(|()| false)
                });
                if ends.await {
                    return;
                }
                let mut once = match caught(|| (self.run)(module)) {
                    Ok(once) => once,
                    Err(_) => continue,
                };
                // A panic was reported by the hook; the job goes on with the next turn.
                let turn = std::future::poll_fn(|context| match caught(|| once.as_mut().poll(context)) {
                    Ok(polled) => polled,
                    Err(_) => std::task::Poll::Ready(Ok(())),
                });
                if let Err(wrong) = turn.await {
                    report(name, &wrong);
                }
                let _ = caught(|| drop(once));
            }
        });
        background.run(self.lane, work)
    }
}

pub(crate) fn report(name: &str, wrong: &Error) {
    crate::log::error!("{name}: {wrong}");
}
