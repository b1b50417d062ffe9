//! A connection's socket that waits only so long for a client that does not read, or has nothing more to ask, and sees when one
//! leaves. What a slow client holds is a connection's place, and there are `connections_max` of them.

use std::future::Future as _;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serval_config::Listener;
use serval_container::Turn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::heads::{Heads, Place};

pub struct Patient {
    stream: TcpStream,
    settings: Arc<Listener>,
    turn: Arc<Turn>,
    heads: Heads,
    /// Since hyper first waited for what `idle_time` bounds: made once, since each pause between two requests begins it anew.
    idle: Option<Idle>,
    /// While the client does not read; what it reads begins the time anew.
    waits: Option<Pin<Box<Sleep>>>,
}

struct Idle {
    /// A head has its time once, however it trickles.
    waits_for: (Place, u64),
    until: Pin<Box<Sleep>>,
}

impl Patient {
    pub fn new(stream: TcpStream, settings: Arc<Listener>, turn: Arc<Turn>, heads: Heads) -> Patient {
        Patient { stream, settings, turn, heads, idle: None, waits: None }
    }

    /// How long it may take. hyper has only one time, for a head with the pause before it.
    fn idle_time(&self, place: Place) -> Option<Duration> {
        match place {
            Place::Between => Some(self.settings.keep_alive_timeout),
            Place::Head => Some(self.settings.head_timeout),
            Place::Body => None,
        }
    }

    /// That time of hyper's, which cuts neither of ours. Behind a body whose end only hyper knows, it is the only one.
    pub fn hypers_time(settings: &Listener) -> Duration {
        settings.keep_alive_timeout + settings.head_timeout
    }

    fn within<T>(
        &mut self,
        task: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<Result<T>>,
    ) -> Poll<Result<T>> {
        let written = write(Pin::new(&mut self.stream), task);
        if written.is_ready() {
            self.waits = None;
            if self.turn.is_unheard() {
                task.waker().wake_by_ref();
            }
            return written;
        }
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(self.settings.write_timeout)));
        match waits.as_mut().poll(task) {
            Poll::Ready(()) => {
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client has not read for write_timeout")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Patient {
    /// hyper reads nothing while a response is under way, so it does not see that the client leaves. It flushes at each of its
    /// polls, though. Only looked for when an exchange wants to know.
    fn look_for_the_end(&self, task: &mut Context<'_>) {
        if !self.turn.is_watched() {
            return;
        }
        match self.stream.poll_peek(task, &mut ReadBuf::new(&mut [0])) {
            Poll::Ready(Ok(0) | Err(_)) => self.turn.client_leaves(),
            // A body, or the next request: until that is read, nothing can be seen behind it.
            Poll::Pending | Poll::Ready(Ok(_)) => {}
        }
    }
}

impl Patient {
    /// hyper flushes when nothing is left in its hands: what is written now comes between the last response and the next one.
    fn send_hints(&mut self, task: &mut Context<'_>) -> Poll<Result<()>> {
        while self.turn.hints.are_waiting() {
            let hints = self.turn.hints.unsent();
            let sent = ready!(self.within(task, |stream, task| stream.poll_write(task, &hints)))?;
            self.turn.hints.were_sent(sent);
            // The response may wait for that.
            task.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        self.heads.look(&mut buffer.filled_mut()[before..]);
        let waits_for = self.heads.place();
        let Some(time) = self.idle_time(waits_for.0).filter(|_| read.is_pending()) else { return read };
        let idle = self.idle.get_or_insert_with(|| Idle { waits_for, until: Box::pin(sleep(time)) });
        if idle.waits_for != waits_for {
            idle.waits_for = waits_for;
            idle.until.as_mut().reset(Instant::now() + time);
        }
        // An end, as if the client had closed it.
        idle.until.as_mut().poll(task).map(Ok)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.within(task, |stream, task| stream.poll_write(task, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.within(task, |stream, task| stream.poll_write_vectored(task, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        self.look_for_the_end(task);
        ready!(self.send_hints(task))?;
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
