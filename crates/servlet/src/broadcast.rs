//! Messages from anywhere to all who listen, such as the event streams of a webapp.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};

use crate::background::lock;

/// Sends each message to all receivers there are: for the module's state, and without a runtime.
///
/// It keeps the last `capacity` messages. A receiver that is further behind is told how many it has lost, and goes on with the
/// oldest that is kept; nobody waits for it. Messages are cloned for each receiver, so long ones are best an `Arc`.
///
/// Sending never waits and may be done on any thread, in plain and async servlets, jobs, and listener functions.
///
/// ```
/// use servlet::{Broadcast, RecvError};
///
/// # async fn example() {
/// let news = Broadcast::new(2);
/// let mut receiver = news.subscribe();
/// for number in 1..=3 {
///     assert_eq!(news.send(number), 1);
/// }
/// assert_eq!(receiver.recv().await, Err(RecvError::Lagged(1)));
/// assert_eq!(receiver.recv().await, Ok(2));
/// assert_eq!(receiver.recv().await, Ok(3));
/// drop(news);
/// assert_eq!(receiver.recv().await, Err(RecvError::Closed));
/// # }
/// # let mut future = std::pin::pin!(example());
/// # let waker = std::task::Waker::noop();
/// # assert!(future.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready());
/// ```
pub struct Broadcast<T> {
    shared: Arc<Shared<T>>,
}

/// Receives from a [`Broadcast`] what is sent from its making on.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    number: u64,
    /// The number of the next message.
    next: u64,
}

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// The receiver was too slow, and has lost so many. The next call returns the oldest that is kept.
    Lagged(u64),
    /// The [`Broadcast`] was dropped, and everything it had sent was received.
    Closed,
}

struct Shared<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// LIMIT: `capacity`.
    kept: VecDeque<T>,
    capacity: usize,
    /// How many were sent.
    sent: u64,
    closed: bool,
    receivers: usize,
    numbers: u64,
    /// By the receiver's number.
    waiting: HashMap<u64, Waker>,
}

impl<T: Clone> Broadcast<T> {
    /// Returns one that keeps so many messages, at least one.
    pub fn new(capacity: usize) -> Broadcast<T> {
        let state = State {
            kept: VecDeque::new(),
            capacity: capacity.max(1),
            sent: 0,
            closed: false,
            receivers: 0,
            numbers: 0,
            waiting: HashMap::new(),
        };
        Broadcast { shared: Arc::new(Shared { state: Mutex::new(state) }) }
    }

    /// Sends a message, and returns how many receivers there are.
    pub fn send(&self, message: T) -> usize {
        let mut state = lock(&self.shared.state);
        if state.receivers == 0 {
            return 0;
        }
        let oldest = if state.kept.len() == state.capacity { state.kept.pop_front() } else { None };
        state.kept.push_back(message);
        state.sent += 1;
        let (receivers, waiting) = (state.receivers, std::mem::take(&mut state.waiting));
        // Outside of the lock: both run code of others.
        drop(state);
        drop(oldest);
        for waker in waiting.into_values() {
            waker.wake();
        }
        receivers
    }

    /// Returns a receiver of what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = lock(&self.shared.state);
        state.receivers += 1;
        state.numbers += 1;
        let (number, next) = (state.numbers, state.sent);
        drop(state);
        Receiver { shared: Arc::clone(&self.shared), number, next }
    }

    /// Returns how many receivers there are.
    pub fn receivers(&self) -> usize {
        lock(&self.shared.state).receivers
    }
}

impl<T> Drop for Broadcast<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waker in waiting.into_values() {
            waker.wake();
        }
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next message. A call that is given up loses none.
    pub fn recv(&mut self) -> impl Future<Output = Result<T, RecvError>> {
        poll_fn(|context| self.poll(context))
    }

    /// Returns the next message if there is one; `None`: not yet.
    pub fn try_recv(&mut self) -> Option<Result<T, RecvError>> {
        match self.take(&mut lock(&self.shared.state)) {
            Poll::Ready((next, received)) => {
                self.next = next;
                Some(received)
            }
            Poll::Pending => None,
        }
    }

    fn poll(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<T, RecvError>> {
        let mut state = lock(&self.shared.state);
        match self.take(&mut state) {
            Poll::Ready((next, received)) => {
                drop(state);
                self.next = next;
                Poll::Ready(received)
            }
            Poll::Pending => {
                let before = state.waiting.insert(self.number, context.waker().clone());
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }

    /// What is next, and the number after it.
    fn take(&self, state: &mut State<T>) -> Poll<(u64, Result<T, RecvError>)> {
        let oldest = state.sent - state.kept.len() as u64;
        if self.next < oldest {
            return Poll::Ready((oldest, Err(RecvError::Lagged(oldest - self.next))));
        }
        match state.kept.get((self.next - oldest) as usize) {
            Some(message) => Poll::Ready((self.next + 1, Ok(message.clone()))),
            None if state.closed => Poll::Ready((self.next, Err(RecvError::Closed))),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.receivers -= 1;
        let waker = state.waiting.remove(&self.number);
        // Nobody is left who could receive them.
        let kept = if state.receivers == 0 { std::mem::take(&mut state.kept) } else { VecDeque::new() };
        drop(state);
        drop((waker, kept));
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Lagged(lost) => write!(formatter, "the receiver was too slow and has lost {lost} messages"),
            RecvError::Closed => formatter.write_str("nothing is sent any more"),
        }
    }
}

impl std::error::Error for RecvError {}

impl<T> fmt::Debug for Broadcast<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Broadcast({} receivers)", lock(&self.shared.state).receivers)
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Receiver")
    }
}
