//! What a servlet writes while the client reads: pieces under way from one to the other, never more than a bound, and each end
//! learns when the other one has gone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;

/// LIMIT: a writer waits while so many bytes are under way. What it then writes in one go may go beyond.
pub const UNDER_WAY_MAX: usize = 64 << 10;

/// The reader has gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum End {
    /// All of it was written; the trailers are given once.
    Whole(Option<HeaderMap>),
    /// The reader has been sent away once, to send what it has got before the connection breaks off.
    Cut { paused: bool },
}

/// What the reader gets.
pub enum Next {
    Piece(Bytes),
    Trailers(HeaderMap),
    End,
    /// The writer has gone without saying that it was all: a part must never look like the whole.
    Cut,
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Writer(Shared);
pub struct Reader(Shared);

pub fn pipe() -> (Writer, Reader) {
    let state = Shared::default();
    (Writer(state.clone()), Reader(state))
}

impl Writer {
    /// Ready when something may be written.
    pub fn poll_room(&self, task: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut state = lock(&self.0);
        if state.gone {
            return Poll::Ready(Err(Gone));
        }
        if state.bytes < UNDER_WAY_MAX {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(task.waker().clone());
        Poll::Pending
    }

    /// Takes a piece, whether there is room or not.
    pub fn push(&self, piece: Bytes) -> Result<(), Gone> {
        let mut state = lock(&self.0);
        if state.gone {
            return Err(Gone);
        }
        if !piece.is_empty() {
            state.bytes += piece.len();
            state.pieces.push_back(piece);
            wake(state, |state| &mut state.reader);
        }
        Ok(())
    }

    /// That was all of it.
    pub fn finish(self, trailers: HeaderMap) {
        self.end(End::Whole(Some(trailers).filter(|trailers| !trailers.is_empty())));
    }

    pub fn is_gone(&self) -> bool {
        lock(&self.0).gone
    }

    fn end(&self, end: End) {
        let mut state = lock(&self.0);
        state.end.get_or_insert(end);
        wake(state, |state| &mut state.reader);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end(End::Cut { paused: false });
    }
}

impl Reader {
    pub fn poll_next(&self, task: &mut Context<'_>) -> Poll<Next> {
        let mut state = lock(&self.0);
        if let Some(piece) = state.pieces.pop_front() {
            state.bytes -= piece.len();
            if state.bytes < UNDER_WAY_MAX {
                wake(state, |state| &mut state.writer);
            }
            return Poll::Ready(Next::Piece(piece));
        }
        match &mut state.end {
            None => {
                state.reader = Some(task.waker().clone());
                Poll::Pending
            }
            Some(End::Cut { paused }) if !*paused => {
                *paused = true;
                task.waker().wake_by_ref();
                Poll::Pending
            }
            Some(End::Cut { .. }) => Poll::Ready(Next::Cut),
            Some(End::Whole(trailers)) => Poll::Ready(trailers.take().map_or(Next::End, Next::Trailers)),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.gone = true;
        state.pieces.clear();
        wake(state, |state| &mut state.writer);
    }
}

/// Wakes outside of the lock, since a waker may run anything.
fn wake(mut state: MutexGuard<'_, State>, who: impl FnOnce(&mut State) -> &mut Option<Waker>) {
    let waker = who(&mut state).take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_waits_for_room_and_learns_that_the_reader_has_gone() {
        let (writer, reader) = pipe();
        let mut task = Context::from_waker(Waker::noop());
        assert_eq!(writer.poll_room(&mut task), Poll::Ready(Ok(())));
        writer.push(vec![0; UNDER_WAY_MAX].into()).unwrap();
        assert_eq!(writer.poll_room(&mut task), Poll::Pending);
        assert!(matches!(reader.poll_next(&mut task), Poll::Ready(Next::Piece(_))));
        assert_eq!(writer.poll_room(&mut task), Poll::Ready(Ok(())));
        drop(reader);
        assert_eq!(writer.poll_room(&mut task), Poll::Ready(Err(Gone)));
        assert_eq!(writer.push(Bytes::from_static(b"x")), Err(Gone));
    }

    #[test]
    fn a_part_never_looks_like_the_whole() {
        let mut task = Context::from_waker(Waker::noop());
        let (writer, reader) = pipe();
        drop(writer);
        assert!(reader.poll_next(&mut task).is_pending());
        assert!(matches!(reader.poll_next(&mut task), Poll::Ready(Next::Cut)));
        let (writer, reader) = pipe();
        writer.finish(HeaderMap::new());
        assert!(matches!(reader.poll_next(&mut task), Poll::Ready(Next::End)));
    }
}
