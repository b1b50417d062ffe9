//! The response side of an exchange: what the servlet writes is held back, led through the filters, and sent.
//!
//! The order of a commit: the session's cookie, `on_response` of each filter, innermost first; then the head goes out, and each piece
//! of the body passes `on_body` of each filter that has one.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as Task, Poll, Waker};

use bytes::Bytes;
use http::header::TRAILER;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body as _;
use serval_abi::{SV_E_BUSY, SV_E_CLOSED, SV_E_LIMIT, SV_E_STATE, SV_E_TIMEOUT, SV_WOULD_BLOCK};
use serval_loader::exchange::{Answer, Fault, printable};
use serval_loader::filter::Failed;

use super::error_page::Failure;
use super::{Exchange, NO_THREAD, Stage};
use crate::body::ResponseBody;
use crate::execution::{NoThread, let_connection_go_on, wait};
use crate::pipe::UNDER_WAY_MAX;
use crate::problem::Problem;

/// What goes into the pipe at once.
const PIECE_BYTES: usize = 32 << 10;
/// LIMIT: what a filter may make of one piece.
const REWRITTEN_BYTES_MAX: usize = 64 << 20;

const GONE: Fault = Fault { status: SV_E_CLOSED, text: Cow::Borrowed("the client has gone") };

impl Exchange {
    /// Takes bytes of the servlet; fewer than all only in a poll.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Answer<usize> {
        if let Some(output) = &mut self.chain.output {
            if output.len() + bytes.len() > REWRITTEN_BYTES_MAX {
                return Err(Fault::new(SV_E_LIMIT, "a filter has made more than 64 MiB of one piece"));
            }
            output.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        self.open()?;
        if self.response.is_whole() || self.response.for_head {
            self.let_others_go_on(bytes.len())?;
        }
        if self.response.is_whole() {
            return Ok(bytes.len());
        }
        let inside = self.response.within_length(bytes);
        if self.response.for_head {
            self.response.written += inside.len() as u64;
            self.reached_length()?;
            return Ok(bytes.len());
        }
        if self.response.hold(inside) {
            self.reached_length()?;
            return Ok(bytes.len());
        }
        self.commit()?;
        if self.response.has_no_body() {
            return Ok(bytes.len());
        }
        self.drain()?;
        let mut taken = 0;
        while taken < inside.len() {
            match self.room() {
                Err(fault) if fault.status == SV_WOULD_BLOCK && taken > 0 => return Ok(taken),
                room => room?,
            }
            let piece = &inside[taken..inside.len().min(taken + PIECE_BYTES)];
            self.send(Bytes::copy_from_slice(piece))?;
            taken += piece.len();
            self.response.written += piece.len() as u64;
        }
        Ok(bytes.len())
    }

    /// Nobody reads what is written, so nobody is ever slow: a task that writes for ever would never come back.
    fn let_others_go_on(&mut self, bytes: usize) -> Answer {
        let Some(waker) = &self.polled else { return Ok(()) };
        if self.unsent >= UNDER_WAY_MAX {
            waker.wake_by_ref();
            return Err(Fault::would_block());
        }
        self.unsent += bytes;
        Ok(())
    }

    /// Takes bytes that it may keep: all of them, or in a poll none.
    pub(super) fn take_owned(&mut self, bytes: Bytes) -> Answer {
        if self.chain.output.is_some() || self.response.for_head || self.chain.rewrites {
            return self.take_all(&bytes);
        }
        self.open()?;
        if self.response.is_whole() {
            return self.let_others_go_on(bytes.len());
        }
        let inside = self.response.within_length(&bytes).len();
        if self.response.hold(&bytes[..inside]) {
            return self.reached_length();
        }
        self.commit()?;
        if self.response.has_no_body() {
            return Ok(());
        }
        self.drain()?;
        self.room()?;
        self.send(bytes.slice(..inside))?;
        self.response.written += inside as u64;
        Ok(())
    }

    /// Takes all of a body whose polls are always ready.
    pub(super) fn take_body(&mut self, mut body: ResponseBody) -> Answer {
        let mut task = Task::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut task) {
            let frame = frame.map_err(|error| Fault::new(SV_E_CLOSED, format!("a file was cut: {error}")))?;
            if let Ok(piece) = frame.into_data() {
                self.take_all(&piece)?;
            }
        }
        Ok(())
    }

    /// As [`Exchange::take`], but all: in a poll what has no room goes beyond the bound once.
    fn take_all(&mut self, bytes: &[u8]) -> Answer {
        let mut taken = self.take(bytes)?;
        while taken < bytes.len() {
            let piece = &bytes[taken..bytes.len().min(taken + PIECE_BYTES)];
            self.send(Bytes::copy_from_slice(piece))?;
            taken += piece.len();
            self.response.written += piece.len() as u64;
        }
        Ok(())
    }

    pub(super) fn flush_out(&mut self) -> Answer {
        self.open()?;
        self.commit()?;
        if self.response.is_whole() {
            return Ok(());
        }
        self.drain()?;
        if self.chain.rewrites && !self.response.has_no_body() {
            let rest = self.rewritten(Bytes::new(), false)?;
            self.push(rest)?;
        }
        let_connection_go_on();
        Ok(())
    }

    /// What the servlet had announced is there: it goes out, and the rest is dropped, which is no error.
    fn reached_length(&mut self) -> Answer {
        if !self.response.is_committed() && self.response.has_reached_length() {
            self.send_held()?;
            self.response.finished = false;
        }
        Ok(())
    }

    /// Sends all that was held back, as the whole answer.
    fn send_held(&mut self) -> Answer {
        self.before_head()?;
        let mut body = std::mem::take(&mut self.response.buffer).freeze();
        if self.chain.rewrites && !self.response.has_no_body() {
            body = self.rewritten(body, true)?;
        }
        self.send_whole(body);
        Ok(())
    }

    /// Sends a body that is there, and its trailers.
    fn send_whole(&mut self, body: Bytes) {
        let trailers = std::mem::take(&mut self.response.trailers);
        if trailers.is_empty() || self.response.has_no_body() {
            return self.response.send_whole(body);
        }
        self.response.send_stream();
        let _ = self.response.push(body);
        if let Some(stream) = self.response.stream.take() {
            stream.finish(trailers);
        }
        self.response.finished = true;
    }

    /// Sends the head, if that has not happened; the body follows.
    fn commit(&mut self) -> Answer {
        if self.response.is_committed() {
            return Ok(());
        }
        self.response.drop_surplus();
        self.before_head()?;
        self.response.send_stream();
        Ok(())
    }

    /// The last moment at which the head can be changed.
    fn before_head(&mut self) -> Answer {
        if std::mem::replace(&mut self.chain.responded, true) {
            return Ok(());
        }
        self.send_session_cookie();
        let names: Vec<&str> = self.response.trailers.keys().map(http::HeaderName::as_str).collect();
        if !names.is_empty()
            && let Ok(names) = HeaderValue::from_str(&names.join(", "))
        {
            self.response.headers.append(TRAILER, names);
        }
        if self.chain.entered.is_empty() {
            return Ok(());
        }
        let generation = self.generation.clone();
        let mut entered = std::mem::take(&mut self.chain.entered);
        let stage = std::mem::replace(&mut self.chain.stage, Stage::Head);
        let seeing = entered.iter_mut().skip(self.chain.silent);
        let failed = seeing.rev().filter(|passed| !passed.included).find_map(|passed| {
            let filter = generation.filter(passed.filter).filter(|filter| filter.has_on_response())?;
            let failed = filter.on_response(&mut passed.entered, self).err()?;
            Some((filter.name().to_owned(), failed))
        });
        (self.chain.entered, self.chain.stage) = (entered, stage);
        if let Some((filter, failed)) = failed {
            self.filter_failed(&filter, failed);
            return Err(Fault::new(SV_E_STATE, "a filter has failed, and the answer is 500"));
        }
        // One that a filter has made.
        self.send_session_cookie();
        if self.chain.rewrites {
            self.response.forget_length();
        }
        Ok(())
    }

    /// 500, or what was sent is cut.
    fn filter_failed(&mut self, filter: &str, (status, text): Failed) {
        let failure = self.failure.take().unwrap_or_else(|| Failure::of(status, &text));
        if !self.panic_was_said(status) {
            let (context, generation, request) = (&self.generation.context, self.generation.number, self.request.id);
            let (servlet, text) = (self.servlet_name(), printable(&failure.text));
            tracing::error!(%context, generation, servlet, request, "the filter `{filter}` failed: {text}");
        }
        if self.response.is_committed() {
            return self.response.give_up();
        }
        (self.chain.silent, self.chain.rewrites, self.chain.responded) = (self.chain.entered.len(), false, false);
        self.note_problem(Problem::failure().because(failure.text).of_kind(failure.kind));
    }

    /// What the filters make of a piece, innermost first; for those from `last` on it is the last one.
    fn rewritten_by(&mut self, mut piece: Bytes, last: usize) -> Answer<Bytes> {
        let generation = self.generation.clone();
        let mut entered = std::mem::take(&mut self.chain.entered);
        let stage = std::mem::replace(&mut self.chain.stage, Stage::Body);
        let is_flush = piece.is_empty();
        let mut failed = None;
        for (at, passed) in entered.iter_mut().enumerate().skip(self.chain.silent).rev() {
            let Some(filter) = generation.filter(passed.filter).filter(|filter| filter.has_on_body()) else { continue };
            if piece.is_empty() && !is_flush && at < last {
                break;
            }
            self.chain.output = Some(Vec::new());
            let result = filter.on_body(&mut passed.entered, self, &piece, at >= last);
            piece = self.chain.output.take().unwrap_or_default().into();
            if let Err(wrong) = result {
                failed = Some((filter.name().to_owned(), wrong));
                break;
            }
        }
        (self.chain.entered, self.chain.stage) = (entered, stage);
        let Some((filter, failed)) = failed else { return Ok(piece) };
        self.filter_failed(&filter, failed);
        Err(Fault::new(SV_E_STATE, "a filter has failed"))
    }

    fn rewritten(&mut self, piece: Bytes, last: bool) -> Answer<Bytes> {
        self.rewritten_by(piece, if last { 0 } else { usize::MAX })
    }

    /// The dispatch of the filters from `first` on is over: they see the end of its body.
    pub(super) fn end_rewriting(&mut self, first: usize) {
        if self.including == 0 || !self.chain.rewrites || self.response.has_no_body() || self.response.stream.is_none()
        {
            return;
        }
        if let Ok(rest) = self.drain().and_then(|()| self.rewritten_by(Bytes::new(), first)) {
            let _ = self.push(rest);
        }
    }

    /// All filters end, and another dispatch goes on with the body that has begun: they see the end of it, and what was held back goes
    /// out, beyond the bound.
    pub fn hand_over_body(&mut self) {
        let has_begun = self.response.stream.is_some() || !self.response.buffer.is_empty();
        if !self.chain.rewrites || !has_begun || self.response.has_no_body() {
            return;
        }
        let _ = self.commit().and_then(|()| {
            let rest = std::mem::take(&mut self.response.buffer).freeze();
            let rest = self.rewritten(rest, true)?;
            self.push(rest)
        });
    }

    /// Waits until the client has read enough of what is under way.
    fn room(&mut self) -> Answer {
        let Some(stream) = &self.response.stream else { return Err(self.client_failed(GONE)) };
        let waker = self.polled.as_ref().unwrap_or(Waker::noop());
        let gone = match stream.poll_room(&mut Task::from_waker(waker)) {
            Poll::Ready(Ok(())) => return Ok(()),
            Poll::Ready(Err(_)) => Some(GONE),
            Poll::Pending if self.polled.is_some() => return Err(Fault::would_block()),
            Poll::Pending => None,
        };
        let fault = gone.map_or_else(
            || {
                let pool = self.generation.pool.clone();
                let _inside = self.inside(&pool);
                let room = tokio::time::timeout(
                    self.request.peer.listener.write_timeout,
                    poll_fn(|task| stream.poll_room(task)),
                );
                match wait(&pool, room) {
                    Ok(Ok(Ok(()))) => None,
                    Ok(Ok(Err(_))) => Some(GONE),
                    Ok(Err(_)) => Some(Fault::new(SV_E_TIMEOUT, "the client has not read for write_timeout")),
                    Err(NoThread) => Some(Fault::new(SV_E_BUSY, NO_THREAD)),
                }
            },
            Some,
        );
        match fault {
            None => Ok(()),
            Some(fault) => {
                self.response.give_up();
                Err(self.client_failed(fault))
            }
        }
    }

    /// Sends what was held back.
    fn drain(&mut self) -> Answer {
        while !self.response.buffer.is_empty() {
            self.room()?;
            let piece = self.response.buffer.split_to(self.response.buffer.len().min(PIECE_BYTES)).freeze();
            self.send(piece)?;
        }
        Ok(())
    }

    /// Sends a piece, whether there is room or not.
    fn send(&mut self, piece: Bytes) -> Answer {
        let piece = if self.chain.rewrites { self.rewritten(piece, false)? } else { piece };
        self.push(piece)
    }

    fn push(&mut self, piece: Bytes) -> Answer {
        self.response.push(piece).map_err(|_| self.client_failed(GONE))
    }

    /// The servlet has returned, and has nothing more to say.
    pub(super) fn finish_response(&mut self) {
        if self.has_problem() {
            // It is answered when all else is over.
            return;
        }
        if !self.response.is_committed() {
            self.response.drop_surplus();
        }
        if let Some(short) = self.response.short() {
            let (context, generation) = (&self.generation.context, self.generation.number);
            let (servlet, request) = (self.servlet_name(), self.request.id);
            tracing::error!(%context, generation, %servlet, request, "a response was cut: {short}");
            if !self.response.is_committed() && self.before_head().is_ok() {
                // The length stands, and the client sees that it is not reached.
                self.response.send_stream();
                let body = std::mem::take(&mut self.response.buffer).freeze();
                let _ = self.response.push(body);
            }
            return self.response.give_up();
        }
        if !self.response.is_committed() {
            // A failure has been answered.
            let _ = self.send_held();
            return;
        }
        if self.finish_stream().is_err() {
            self.response.give_up();
        }
    }

    /// Ends a body that has begun: what is left goes out beyond the bound, since nobody can wait any more.
    fn finish_stream(&mut self) -> Answer {
        if self.response.stream.is_none() {
            return Ok(());
        }
        let rest = std::mem::take(&mut self.response.buffer).freeze();
        if self.chain.rewrites {
            let rest = self.rewritten(rest, true)?;
            self.push(rest)?;
        } else {
            self.push(rest)?;
        }
        let trailers = std::mem::take(&mut self.response.trailers);
        if let Some(stream) = self.response.stream.take() {
            stream.finish(trailers);
        }
        Ok(())
    }

    /// A whole answer of the servlet; `may_respond` has been asked.
    pub(super) fn respond_with(&mut self, status: u16, headers: HeaderMap, body: Bytes) {
        if self.including > 0 {
            // Only its body counts; a client that has gone shows at the next write.
            let _ = self.take_all(&body);
            return;
        }
        // What answers by the way 200 says nothing about an error page's status.
        let status = self.page_of.filter(|_| status == 200).map_or(status, |status| status.as_u16());
        self.response.set_answer(status, headers, body.len());
        if !self.chain.entered.is_empty() || self.session.has_news() || !self.response.trailers.is_empty() {
            if self.before_head().is_err() {
                return;
            }
            if self.chain.rewrites && !self.response.has_no_body() {
                if let Ok(body) = self.rewritten(body, true) {
                    self.send_whole(body);
                }
                return;
            }
        }
        self.chain.responded = true;
        self.send_whole(body);
    }

    /// Something else answers in the servlet's place. What was set before under other names stays, filters see it as any answer.
    pub fn answer(&mut self, response: Response<ResponseBody>) {
        if self.response.is_committed() {
            return;
        }
        let (head, body) = response.into_parts();
        self.response.adopt(head.status, head.headers);
        if self.before_head().is_err() {
            return;
        }
        self.response.finished = true;
        if !self.chain.rewrites || self.response.has_no_body() || body.is_end_stream() {
            return self.response.send_head(body);
        }
        match body {
            ResponseBody::Full(bytes) => {
                if let Ok(bytes) = self.rewritten(bytes, true) {
                    self.response.send_whole(bytes);
                }
            }
            body => {
                self.response.send_stream();
                if self.lead_through(body).and_then(|()| self.finish_stream()).is_err() {
                    self.response.give_up();
                }
            }
        }
    }

    /// A file, piece by piece, through the filters. Its polls are always ready.
    fn lead_through(&mut self, mut body: ResponseBody) -> Answer {
        let mut task = Task::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut task) {
            let frame = frame.map_err(|error| {
                tracing::warn!(context = %self.context.name, request = self.request.id, "a file was cut: {error}");
                Fault::new(SV_E_CLOSED, "a file was cut")
            })?;
            if let Ok(piece) = frame.into_data() {
                self.room()?;
                self.send(piece)?;
            }
        }
        Ok(())
    }
}
