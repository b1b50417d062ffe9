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
use tokio::time::{Sleep, sleep};

use crate::heads::{Heads, Place};

pub struct Patient {
    stream: TcpStream,
    settings: Arc<Listener>,
    turn: Arc<Turn>,
    heads: Heads,
    /// While hyper waits for what `idle_time` bounds; a head has it once, however it trickles.
    idle: Option<Idle>,
    /// While the client does not read; what it reads begins the time anew.
    waits: Option<Pin<Box<Sleep>>>,
}

struct Idle {
    place: Place,
    request: u64,
    until: Pin<Box<Sleep>>,
}

impl Patient {
    pub fn new(stream: TcpStream, settings: Arc<Listener>, turn: Arc<Turn>, heads: Heads) -> Patient {
        Patient { stream, settings, turn, heads, idle: None, waits: None }
    }

    /// How long nothing may come, where hyper would wait longer: it has one time for a head with the pause before it.
    fn idle_time(&self, place: Place) -> Option<Duration> {
        let Listener { head_timeout, keep_alive_timeout, .. } = *self.settings;
        let time = match place {
            Place::Between => keep_alive_timeout,
            Place::Head => head_timeout,
            Place::Body => return None,
        };
        Some(time).filter(|time| *time < head_timeout.max(keep_alive_timeout))
    }

    /// That time of hyper's.
    pub fn hypers_time(settings: &Listener) -> Duration {
        let Listener { head_timeout, keep_alive_timeout, .. } = *settings;
        if keep_alive_timeout > head_timeout { keep_alive_timeout + head_timeout } else { head_timeout }
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
        let (place, request) = self.heads.place();
        self.idle.take_if(|idle| (idle.place, idle.request) != (place, request));
        let Some(time) = self.idle_time(place).filter(|_| read.is_pending()) else { return read };
        let idle = self.idle.get_or_insert_with(|| Idle { place, request, until: Box::pin(sleep(time)) });
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
