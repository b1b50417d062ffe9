//! A connection and the calls of its requests take turns in one task: poll the connection, run the call that its request has
//! led to, poll it again. So a call costs no task of its own, and is never below its connection's poll: one that has to wait
//! gives the connection a task of its own and stops nothing.
//!
//! Of HTTP/2, it is each stream that has a task, and takes turns as a connection does.
//!
//! The server makes the future of a connection and runs it here; `dispatch` hands the calls in.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use http::header::{CONNECTION, SERVER, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, HeaderValue};
use tokio::sync::Notify;

use crate::dispatch::InlineCall;
use crate::execution::Inline;
use crate::hints::Hints;
use crate::proxy::Enter;
use crate::{Container, Peer};

/// Where the requests of one connection hand in the call whose turn is next.
pub struct Turn {
    pub(crate) inline: Arc<Inline>,
    next: Mutex<Option<InlineCall>>,
    /// A call runs, which may let the connection go on meanwhile.
    busy: AtomicBool,
    /// A request was read, and nobody has asked for its answer yet.
    unheard: AtomicBool,
    /// An exchange that goes on without its thread wants to know when the client leaves.
    watched: AtomicBool,
    left: AtomicBool,
    has_left: Notify,
    /// The connection is closed behind the next answer.
    last: AtomicBool,
    /// The header Server of all answers.
    server: Option<HeaderValue>,
    /// Strict-Transport-Security of those that do not have it.
    hsts: Option<HeaderValue>,
    /// The connection's task, while it waits for an answer.
    waits: Mutex<Option<Waker>>,
    /// What the connection does behind its last answer.
    tunnel: Mutex<Option<Enter>>,
    /// Of no connection.
    alone: bool,
    /// To be sent before that. When they are sent, its task is to be woken once more.
    pub hints: Hints,
}

impl Turn {
    /// `peer` is that of the connection.
    pub fn new(container: &Container, peer: &Peer) -> Arc<Turn> {
        Arc::new(Turn::of(container, Some(peer), false))
    }

    fn of(container: &Container, peer: Option<&Peer>, alone: bool) -> Turn {
        let value = |text: &Option<String>| HeaderValue::from_str(text.as_ref()?).ok();
        Turn {
            inline: container.inline.clone(),
            next: Mutex::default(),
            busy: AtomicBool::new(alone),
            unheard: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            left: AtomicBool::new(false),
            has_left: Notify::new(),
            last: AtomicBool::new(false),
            server: peer.and_then(|peer| value(&peer.listener.server_header)),
            // Browsers take it by https alone (RFC 6797 8.1).
            hsts: peer.filter(|peer| peer.secure).and_then(|peer| value(&peer.listener.hsts)),
            waits: Mutex::default(),
            tunnel: Mutex::default(),
            alone,
            hints: Hints::default(),
        }
    }

    /// Of no connection: its calls run on their context's pool.
    pub(crate) fn alone(container: &Container) -> Arc<Turn> {
        Arc::new(Turn::of(container, None, true))
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether somebody wants to know when the client leaves, and does not know yet. Whoever reads the socket looks, at each poll of
    /// the connection, for an end that hyper does not look for while a response is under way.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::SeqCst) && !self.left.load(Ordering::SeqCst)
    }

    /// The next request is the last one of its connection.
    pub fn comes_to_its_end(&self) {
        self.last.store(true, Ordering::Relaxed);
    }

    /// Adds to an answer what is said in all of this connection.
    pub(crate) fn finish(&self, headers: &mut HeaderMap) {
        if let Some(server) = &self.server {
            headers.insert(SERVER, server.clone());
        }
        if let Some(hsts) = &self.hsts {
            headers.entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
        }
        if self.last.load(Ordering::Relaxed) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// The client has ended the connection, or its side of it, or the connection is over.
    pub fn client_leaves(&self) {
        self.left.store(true, Ordering::SeqCst);
        self.has_left.notify_waiters();
    }

    /// The next answer is the last one, and behind it HTTP has ended on the connection.
    pub(crate) fn go_on_with(&self, tunnel: Enter) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// To be called with the connection's bytes by whoever serves it, when all of HTTP has ended on it, and then run to its end.
    pub fn tunnel(&self) -> Option<Enter> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn watch_client(&self) {
        if !self.watched.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Wakes the connection's task, if it waits for an answer.
    pub(crate) fn wake(&self) {
        let waker = self.waits.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) async fn client_has_left(&self) {
        let mut told = std::pin::pin!(self.has_left.notified());
        told.as_mut().enable();
        if !self.left.load(Ordering::SeqCst) {
            told.await;
        }
    }

    pub(crate) fn waits_for_answer(&self, waker: &Waker) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// Whether an answer is to be asked for. hyper may read the next request while it still sends the last response, and then
    /// does not look at the answer's future when that is sent: whoever sends has to wake the connection's task once more.
    pub fn is_unheard(&self) -> bool {
        self.unheard.load(Ordering::Relaxed)
    }

    pub(crate) fn hear(&self, heard: bool) {
        self.unheard.store(!heard, Ordering::Relaxed);
    }

    /// Whether a call of this connection is running: then the next one has to find a thread of its own.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Whether a call waits for its turn.
    pub(crate) fn is_next(&self) -> bool {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Hands in a call, from inside a poll of the connection: it runs when that poll is over.
    pub(crate) fn hand_in(&self, call: InlineCall) {
        self.replace(Some(call));
    }

    fn replace(&self, call: Option<InlineCall>) -> Option<InlineCall> {
        std::mem::replace(&mut *self.next.lock().unwrap_or_else(PoisonError::into_inner), call)
    }
}

/// A connection that is over makes no more calls: one that waits for its turn would keep it, and its own place.
impl Drop for Io {
    fn drop(&mut self) {
        drop(self.turn.replace(None));
    }
}

/// A connection at work: reads its requests, calls [`Container::handle`], writes the responses.
pub struct Io {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    turn: Arc<Turn>,
}

impl Io {
    /// `turn` is the one that `future` gives to [`Container::handle`].
    pub fn new(future: impl Future<Output = ()> + Send + 'static, turn: Arc<Turn>) -> Io {
        Io { future: Box::pin(future), turn }
    }

    pub(crate) fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(task)
    }

    /// Serves the connection to its end, or until one of its calls had to wait and gave it another task.
    pub async fn run(self) {
        let mut io = Some(self);
        poll_fn(|task| {
            loop {
                let Some(mut this) = io.take() else { return Poll::Ready(()) };
                if this.poll(task).is_ready() {
                    return Poll::Ready(());
                }
                let Some(call) = this.turn.replace(None) else {
                    io = Some(this);
                    return Poll::Pending;
                };
                let turn = this.turn.clone();
                turn.busy.store(true, Ordering::Relaxed);
                io = call.run(this);
                turn.busy.store(false, Ordering::Relaxed);
                if io.is_some() && turn.inline.is_waited_for() {
                    // This thread would take the place again before the one that waits for it gets a turn.
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        })
        .await;
    }
}
