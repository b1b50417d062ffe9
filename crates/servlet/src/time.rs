//! Time in async servlets and jobs.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use crate::background::{self, TimerKey};
use crate::host::{ContextHandle, Current, host};
use crate::task::of_server;

/// Waits that long: `sleep(Duration::from_millis(50)).await`.
///
/// In an async servlet the server keeps the time; elsewhere, as in a [`job`](macro@crate::job), a thread of the library's own.
/// When nobody does, because the generation has ended, it waits no longer.
///
/// ```
/// use servlet::prelude::*;
/// use std::time::Duration;
///
/// #[servlet("/slow")]
/// async fn slow(_: &Request, response: &mut Response) -> Result {
///     servlet::time::sleep(Duration::from_millis(50)).await;
///     response.text("at last")
/// }
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    // LIMIT: ten years, so that adding it to now is always possible.
    Sleep {
        deadline: Instant::now() + duration.min(Duration::from_secs(315_360_000)),
        keeper: Keeper::Server,
        armed: Armed::No,
    }
}

/// Waits for `future`, but not longer than that; [`Elapsed`] then, and the future is dropped.
///
/// ```
/// use servlet::prelude::*;
/// use servlet::time::timeout;
/// use std::time::Duration;
///
/// # async fn ask_the_bank() -> Result<String> { Ok("2 EUR".to_owned()) }
/// #[servlet("/balance")]
/// async fn balance(_: &Request, response: &mut Response) -> Result {
///     match timeout(Duration::from_secs(2), ask_the_bank()).await {
///         Ok(balance) => response.text(balance?),
///         Err(_) => Err(error(504, "the bank does not answer")),
///     }
/// }
/// ```
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = sleep(duration);
    sleep.keeper = Keeper::Thread;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => Pin::new(&mut sleep).poll(context).map(|()| Err(Elapsed)),
    })
    .await
}

/// What [`timeout`] says when the time is over. By `?` it becomes 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("it took too long")
    }
}

impl std::error::Error for Elapsed {}

/// The future of [`sleep`].
pub struct Sleep {
    deadline: Instant,
    keeper: Keeper,
    armed: Armed,
}

/// Who keeps the time in an async servlet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Server,
    /// A thread of the library's own, whose timers can be taken back. A time-out hardly ever fires: with the server's timers,
    /// each request would leave one behind.
    Thread,
}

enum Armed {
    No,
    /// By the server, for the task of the exchange with that handle; it fires once, and cannot be taken back.
    ByServer(usize),
    ByThread(TimerKey, Waker),
}

impl Sleep {
    fn arm(&self, waker: &Waker) -> Armed {
        let after = self.deadline.saturating_duration_since(Instant::now());
        let Current { context, exchange, .. } = Current::get();
        let of_server = if self.keeper == Keeper::Server { of_server(waker) } else { None };
        if let (Some(of_server), Some(host)) = (of_server, host()) {
            if ContextHandle::new(host, context).timer(after, of_server.as_ptr()).is_ok() {
                return Armed::ByServer(exchange.addr());
            }
        }
        match background::timer(self.deadline, waker.clone()) {
            Some(key) => Armed::ByThread(key, waker.clone()),
            None => Armed::No,
        }
    }

    fn disarm(&mut self) {
        if let Armed::ByThread(key, _) = &self.armed {
            background::cancel_timer(key);
        }
        self.armed = Armed::No;
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            self.disarm();
            return Poll::Ready(());
        }
        let still = match &self.armed {
            Armed::No => false,
            Armed::ByServer(exchange) => {
                crate::task::is_task(context.waker()) && Current::get().exchange.addr() == *exchange
            }
            Armed::ByThread(_, waker) => waker.will_wake(context.waker()),
        };
        if !still {
            self.disarm();
            self.armed = self.arm(context.waker());
        }
        if let Armed::No = self.armed { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sleep({:?})", self.deadline.saturating_duration_since(Instant::now()))
    }
}
