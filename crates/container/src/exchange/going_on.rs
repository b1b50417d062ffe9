//! An exchange after its servlet has returned, when it goes on: its time, what wakes it, and where it goes next.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::StatusCode;
use serval_abi::SV_DISPATCH_ASYNC;
use serval_loader::exchange::Fault;

use super::{Async, Exchange, Way};
use crate::asynchronous::{Completion, TaskWake, Why};
use crate::error_page;
use crate::inside::{self, Mapped};
use crate::problem::Problem;

impl Exchange {
    /// Polled from now on, or not any more.
    pub fn set_polled(&mut self, waker: Option<Waker>) {
        (self.polled, self.unsent) = (waker, 0);
    }

    /// What wakes its task.
    pub fn task_wake(&mut self) -> Arc<TaskWake> {
        self.asynchronous.wake.get_or_insert_with(Arc::default).clone()
    }

    /// The servlet has returned, and the exchange goes on: its time begins, unless the servlet has set one.
    pub fn goes_on(&mut self) {
        if self.asynchronous.timeout.is_none() {
            let configured = self.serving.servlet().and_then(|servlet| self.generation.async_timeout(servlet));
            let timeout = configured.unwrap_or(self.generation.settings.async_timeout);
            self.set_async_timeout(Some(timeout).filter(|timeout| !timeout.is_zero()));
        }
    }

    pub(super) fn set_async_timeout(&mut self, timeout: Option<Duration>) {
        self.asynchronous.timeout = Some(timeout);
        self.asynchronous.deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // The driver of a task looks after each poll.
        if let Some(completion) = &self.asynchronous.completion {
            completion.set_deadline(self.asynchronous.deadline);
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.asynchronous.deadline
    }

    pub fn completion(&self) -> Option<Arc<Completion>> {
        self.asynchronous.completion.clone()
    }

    /// For a library it is over: its functions answer this, and it is no mistake to complete it with that.
    pub fn is_over(&mut self, status: StatusCode, fault: Fault) {
        if self.asynchronous.over.is_none() {
            self.asynchronous.over = Some(self.hindered(status, fault));
        }
    }

    /// Whether async_dispatch was called.
    pub fn has_a_way(&self) -> bool {
        self.asynchronous.goes_to.is_some()
    }

    /// Whether what is called while it is written may run on an I/O thread.
    pub fn has_only_nonblocking_filters(&self) -> bool {
        let filters = self.chain.entered.iter().map(|passed| self.generation.filter(passed.filter));
        filters.flatten().all(|filter| filter.is_nonblocking())
    }

    /// Where async_dispatch sends it.
    pub fn takes_its_way(&mut self) -> Option<Option<Way>> {
        self.asynchronous.goes_to.take()
    }

    /// Another dispatch of it begins.
    pub fn dispatch_again(&mut self, way: Option<Way>) {
        self.note_paths("async");
        // What led it to where it comes from is over.
        self.remove_parameters(None, self.asynchronous.added);
        self.asynchronous = Async::default();
        if let Some(Way { target, query }) = way {
            // It was looked at when it was taken.
            self.asynchronous.added = self.add_parameters(query.as_deref().unwrap_or("")).unwrap_or(0);
            self.request.target = target;
        }
        self.dispatch = SV_DISPATCH_ASYNC;
        let Mapped { found, welcome } = inside::find(&self.generation, self.request.target.path());
        if let Some(path) = welcome {
            self.request.target.go_to(path);
        }
        (self.found, self.serving) = (found, found.by);
        self.polled = None;
    }

    /// It is ended in the middle. A time-out is for an error page; to others the webapp has nothing to say any more.
    pub fn cut_off(&mut self, why: Why) {
        if self.response.is_committed() {
            return self.response.give_up();
        }
        let (status, _, reason) = why.answer();
        match why {
            Why::TimedOut => self.raise(Problem::new(status).because(reason)),
            Why::Cut | Why::Busy => self.answer_plainly(&Problem::unavailable(1).because(reason)),
            _ => self.answer_plainly(&Problem::new(status).because(reason)),
        }
    }

    fn answer_plainly(&mut self, problem: &Problem) {
        self.answer(error_page::without(problem, &self.request.headers, &self.context, &self.generation));
    }
}
