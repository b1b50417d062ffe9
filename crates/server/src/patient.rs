//! What lies beneath hyper on an HTTP/1 connection: the guard of its heads, the times for a client that sends no head, has nothing more
//! to ask, or does not read, and the look for one that leaves. What a slow client holds is a connection's place, and there are
//! `connections_max` of them.

use std::future::Future as _;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serval_config::Listener;
use serval_container::Turn;
use serval_framing::http1::{Guard, Limits, Place};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::connection::Born;

use crate::stream::Stream;

/// LIMIT: bytes of the line that holds the size of a chunk, nearly all of them for extensions that nobody reads.
const BODY_LINE_BYTES_MAX: usize = 8 << 10;

pub struct Patient {
    stream: Stream,
    settings: Arc<Listener>,
    turn: Arc<Turn>,
    born: Born,
    guard: Guard,
    /// Since hyper first waited for what `idle_time` bounds: made once, since each pause between two requests begins it anew.
    idle: Option<Idle>,
    unread: Unread,
    /// hyper has something in its hands that is not written, or not flushed.
    is_writing: bool,
    /// An end is to be read when it has not.
    end_waits: bool,
}

struct Idle {
    /// A head has its time once, however it trickles.
    waits_for: (Place, u64),
    until: Pin<Box<Sleep>>,
}

/// How long a client has not read.
#[derive(Default)]
pub struct Unread(Option<Pin<Box<Sleep>>>);

impl Unread {
    /// What comes of a write; an error: the client has not read for that time. What it reads begins the time anew.
    pub fn within<T>(&mut self, time: Duration, task: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.0 = None;
            return written;
        }
        let waits = self.0.get_or_insert_with(|| Box::pin(sleep(time)));
        waits
            .as_mut()
            .poll(task)
            .map(|()| Err(Error::new(ErrorKind::TimedOut, "the client has not read for write_timeout")))
    }
}

impl Patient {
    pub fn new(stream: Stream, settings: Arc<Listener>, turn: Arc<Turn>, born: Born) -> Patient {
        let limits = Limits {
            head_bytes: settings.head_bytes_max,
            target_bytes: settings.target_bytes_max,
            fields: settings.header_count_max,
            body_line_bytes: BODY_LINE_BYTES_MAX.max(settings.trailer_bytes_max),
        };
        Patient {
            stream,
            settings,
            turn,
            born,
            guard: Guard::new(limits),
            idle: None,
            unread: Unread::default(),
            is_writing: false,
            end_waits: false,
        }
    }

    /// When hyper has no more use for it.
    pub fn into_parts(self) -> (Stream, Guard) {
        (self.stream, self.guard)
    }

    /// How long it may take.
    fn idle_time(&self, place: Place) -> Option<Duration> {
        match place {
            Place::Between => Some(self.settings.keep_alive_timeout),
            Place::Head => Some(self.settings.head_timeout),
            Place::Body | Place::Answer => None,
        }
    }

    fn within<T>(
        &mut self,
        task: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<Result<T>>,
    ) -> Poll<Result<T>> {
        let written = write(Pin::new(&mut self.stream), task);
        if written.is_ready() && self.turn.is_unheard() {
            task.waker().wake_by_ref();
        }
        self.unread.within(self.settings.write_timeout, task, written)
    }

    /// hyper reads nothing while a response is under way, so it does not see that the client leaves. It flushes at each of its
    /// polls, though. Only looked for when an exchange wants to know.
    fn look_for_the_end(&mut self, task: &mut Context<'_>) {
        if self.turn.is_watched() && self.stream.poll_end(task).is_ready() {
            self.turn.client_leaves();
        }
    }

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

    fn flush(&mut self, task: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(task);
        ready!(self.unread.within(self.settings.write_timeout, task, flushed))?;
        self.is_writing = false;
        if std::mem::take(&mut self.end_waits) {
            task.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    /// An end, as if the client had closed it. Not before all answers are sent: hyper drops what it has, if it is in the middle of a head.
    fn ends(&mut self) -> Poll<Result<()>> {
        self.end_waits = self.is_writing;
        if self.end_waits { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// A response begins with these bytes.
    fn answers(&mut self, bytes: &[u8], task: &mut Context<'_>) {
        if self.guard.waits_for_answer() {
            self.guard.is_answered(bytes);
            task.waker().wake_by_ref();
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.guard.is_over() {
            return this.ends();
        }
        if this.guard.place().0 == Place::Answer {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(task, buffer);
        let waits_for = match read {
            Poll::Ready(_) => {
                let piece = &buffer.filled()[before..];
                let passed = this.guard.look(piece);
                if passed < piece.len() {
                    if !this.guard.is_over() {
                        this.stream.give_back(&piece[passed..]);
                    }
                    buffer.set_filled(before + passed);
                    if passed == 0 {
                        return this.ends();
                    }
                }
                return read;
            }
            Poll::Pending => this.guard.place(),
        };
        let Some(time) = this.idle_time(waits_for.0) else { return Poll::Pending };
        // The time of the first head has run since the connection was there.
        let since = if waits_for.1 == 1 { this.born.at() } else { Instant::now() };
        let idle = this.idle.get_or_insert_with(|| Idle { waits_for, until: Box::pin(sleep_until(since + time)) });
        if idle.waits_for != waits_for {
            idle.waits_for = waits_for;
            idle.until.as_mut().reset(Instant::now() + time);
        }
        ready!(idle.until.as_mut().poll(task));
        if this.guard.has_part_of_a_head() {
            this.guard.refuse(408, "the head has not come within head_timeout");
        }
        this.ends()
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.is_writing = true;
        self.answers(bytes, task);
        self.within(task, |stream, task| stream.poll_write(task, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.is_writing = true;
        self.answers(pieces.first().map_or(&[], |piece| piece), task);
        self.within(task, |stream, task| stream.poll_write_vectored(task, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        self.look_for_the_end(task);
        ready!(self.send_hints(task))?;
        self.flush(task)
    }

    /// All is sent; the connection is closed by whoever has it behind hyper.
    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        self.flush(task)
    }
}
