//! What goes wrong with an exchange, and the page for it (SEMANTICS 9): noted while servlets and filters run, answered at the end.
//!
//! `dispatch` calls it when the exchange's call, or its task, is over. The page is a dispatch inside of the exchange: always a GET, of
//! the type ERROR, for the location that web.toml names.

use http::{Method, Response, StatusCode};
use serval_abi::{SV_DISPATCH_ERROR, SV_E_CLOSED, SV_E_PANIC, SV_NONE, SV_OK};
use serval_loader::exchange::{Answer, Dispatch, printable};

use super::Exchange;
use super::dispatching::Written;
use crate::answer::Answered;
use crate::body::ResponseBody;
use crate::dispatch::servlet_unavailable;
use crate::error_page;
use crate::inside::{self, Mapped};
use crate::problem::Problem;

/// Why a servlet or filter is about to return an error: what it has said itself.
#[derive(Debug)]
pub(super) struct Failure {
    pub kind: String,
    pub text: String,
}

/// Who makes the page for a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// The webapp, if it has a page for it.
    Webapp,
    /// The server itself: there is no thread for a servlet.
    Nobody,
}

impl Exchange {
    /// Notes what is wrong, in place of what was noted before. In an include it has no effect.
    pub fn raise(&mut self, problem: Box<Problem>) {
        if self.including == 0 {
            self.note_problem(problem);
        }
    }

    pub(super) fn note_problem(&mut self, problem: Box<Problem>) {
        if !self.response.is_committed() {
            self.response.reset_buffer();
            self.response.status = problem.status;
        }
        self.response.finished = true;
        self.problem = Some(problem);
    }

    /// A line for the log about send_error.
    pub(super) fn say_error(&self, status: StatusCode, text: &str) {
        let (context, generation) = (&self.generation.context, self.generation.number);
        let (servlet, request, status) = (self.servlet_name(), self.request.id, status.as_u16());
        // Quoted: it may come from the client.
        if status < 500 {
            tracing::debug!(%context, generation, %servlet, request, status, "a servlet sent an error: {text:?}");
        } else {
            tracing::warn!(%context, generation, %servlet, request, status, "a servlet sent an error: {text:?}");
        }
    }

    pub fn answer_or_raise(&mut self, answered: Answered) {
        match answered {
            Ok(response) => self.answer(response),
            Err(problem) => self.raise(problem),
        }
    }

    pub fn has_problem(&self) -> bool {
        self.problem.is_some()
    }

    /// An error page is being made.
    pub fn is_error_page(&self) -> bool {
        self.page_of.is_some()
    }

    /// The method that servlets see: pages for errors are always a GET (Servlet 10.9.1).
    pub fn method(&self) -> &Method {
        if self.is_error_page() { &Method::GET } else { &self.request.method }
    }

    /// A servlet or filter has returned an error status; `text` is for the log.
    pub fn failed(&mut self, returned: i32, text: &str) {
        // Another error than the one that it met, or one that it has words for, is the servlet's own. The Rust SDK has words for
        // all that is not the client's doing, so also for a client that has gone.
        let is_own = self.failure.is_some() && returned != SV_E_CLOSED;
        self.hindered = self.hindered.take().filter(|(_, met)| met.status == returned && !is_own);
        let Failure { kind, text } = self.failure.take().unwrap_or_else(|| Failure::of(returned, text));
        let was_said = self.panic_was_said(returned);
        let (context, generation) = (&self.generation.context, self.generation.number);
        let (servlet, request) = (self.servlet_name(), self.request.id);
        let shown = if kind.is_empty() { printable(&text) } else { printable(&format!("{kind}: {text}")) };
        match &self.hindered {
            None if was_said => {}
            // It was told that it is too late, and has ended.
            None if self.asynchronous.over.is_some() => {
                tracing::debug!(%context, generation, %servlet, request, "a request ended: {shown}");
            }
            None => tracing::error!(%context, generation, %servlet, request, "a servlet failed: {shown}"),
            Some((StatusCode::SERVICE_UNAVAILABLE, why)) => {
                tracing::warn!(%context, generation, %servlet, request, "a request was given up: {}", why.text);
            }
            // What clients do is no error of ours.
            Some((_, why)) => tracing::debug!(%context, generation, %servlet, request, "a request ended: {}", why.text),
        }
        if let Some((by, seconds)) = self.unavailable
            && let Some(servlet) = self.generation.servlet_of(by)
        {
            servlet.is_unavailable_for(seconds);
        }
        if self.response.is_committed() && (self.asynchronous.over.is_some() || self.response.is_unwanted()) {
            // Nobody is left to read a page.
            return self.response.give_up();
        }
        let problem = match (self.unavailable.take(), self.hindered.take()) {
            (Some((_, seconds)), _) => servlet_unavailable(seconds).because(text),
            (None, Some((StatusCode::SERVICE_UNAVAILABLE, _))) => Problem::unavailable(1).because(text),
            // The client may know what is wrong with its request.
            (None, Some((status, why))) if status.is_client_error() && !self.body_is_lost => {
                Problem::new(status).because_public(why.text)
            }
            (None, Some((status, why))) if status.is_client_error() => {
                Problem::closing(status).because_public(why.text)
            }
            (None, Some((status, _))) => Problem::closing(status).because(text),
            (None, None) => Problem::failure().because(text),
        };
        self.raise(problem.of_kind(kind));
    }

    /// Whether the page for what has gone wrong, if anything has, may be made on an I/O thread.
    pub fn makes_page_inline(&self) -> bool {
        let Some(location) = self.problem.as_ref().and_then(|problem| self.location_of(problem)) else { return true };
        let Some(Written { path, .. }) = self.inside_context(location) else { return true };
        let Mapped { found, welcome } = inside::find(&self.generation, &path);
        let path = welcome.unwrap_or(path);
        let filters =
            self.generation.filter_maps.find(Some(&path), self.generation.name_of(found.by), SV_DISPATCH_ERROR);
        self.generation.servlet_of(found.by).is_none_or(|servlet| servlet.may_run_inline())
            && filters
                .iter()
                .all(|&filter| self.generation.filter(filter).is_some_and(|filter| filter.is_nonblocking()))
    }

    fn location_of(&self, problem: &Problem) -> Option<&str> {
        error_page::location(&self.generation.web.error_pages, problem)
    }

    /// Answers what has gone wrong, if anything has. Runs the page's filters and its servlet on this thread.
    pub fn make_error_page(&mut self, asks: Asks) {
        let Some(problem) = self.problem.take() else { return };
        // A task is over, and this thread may wait.
        self.set_polled(None);
        let is_read = !self.response.is_unwanted() && !self.response.is_whole();
        let location = self.location_of(&problem).filter(|_| asks == Asks::Webapp && is_read).map(str::to_owned);
        if self.response.is_committed() {
            if let Some(location) = location {
                self.include_error_page(&problem, &location);
            }
            // What was sent is cut, so that the client sees it is not whole.
            return self.response.give_up();
        }
        self.forget_answer(problem.status);
        if let Some(location) = location {
            self.response.headers.extend(problem.headers.clone());
            if self.is_made_by(&problem, &location) {
                return;
            }
            self.forget_answer(problem.status);
        }
        self.answer(self.own_page(&problem, asks));
        if self.problem.take().is_some() {
            // A filter has failed over it, and sees nothing of the next one.
            self.answer(self.own_page(&problem, asks));
        }
    }

    /// A page that no servlet makes.
    fn own_page(&self, problem: &Problem, asks: Asks) -> Response<ResponseBody> {
        let (headers, context, generation) = (&self.request.headers, &self.context, &self.generation);
        match asks {
            // It was asked before.
            Asks::Webapp => error_page::without(problem, headers, context, generation),
            Asks::Nobody => error_page::without_servlet(problem, headers, context, generation),
        }
    }

    /// What was made for another answer goes; headers and cookies stay (Servlet 10.9).
    fn forget_answer(&mut self, status: StatusCode) {
        (self.problem, self.hindered, self.failure, self.unavailable) = (None, None, None, None);
        self.response.forget_body();
        self.response.finished = false;
        self.response.status = status;
    }

    /// Lets the webapp make its page; false: it is not there, or has failed.
    fn is_made_by(&mut self, problem: &Problem, location: &str) -> bool {
        let made = self.dispatch_error(problem, location, Dispatch::Forward);
        let why = match made {
            Ok(Some(SV_OK)) if self.problem.is_none() => return true,
            _ if self.response.is_committed() => {
                self.response.give_up();
                return true;
            }
            Ok(Some(SV_OK)) => self.problem.take().map(|problem| format!("{}: {}", problem.status, problem.reason)),
            Ok(Some(_)) => self.failure.take().map(|failure| failure.text),
            Ok(None) => Some("there is no such path".to_owned()),
            Err(fault) => Some(fault.text.into_owned()),
        };
        let (context, generation, request) = (&self.generation.context, self.generation.number, self.request.id);
        let (status, why) = (problem.status.as_u16(), printable(&why.unwrap_or_default()));
        tracing::error!(
            %context, generation, request,
            "the error page {location} for status {status} was not made ({why}); the server's own is sent in its place"
        );
        false
    }

    /// The rest of what was sent is a page, as far as a client can see that.
    fn include_error_page(&mut self, problem: &Problem, location: &str) {
        self.problem = None;
        self.response.finished = false;
        // It is cut behind it anyway.
        let _ = self.dispatch_error(problem, location, Dispatch::Include);
        let _ = self.flush_out();
    }

    fn dispatch_error(&mut self, problem: &Problem, location: &str, how: Dispatch) -> Answer<Option<i32>> {
        self.note_error(problem);
        if matches!(self.parameters, Some(Err(_))) {
            // What could not be read does not hinder the page that says so.
            self.parameters = Some(Ok(Vec::new()));
        }
        // It is the exchange's state of before that is over, or detached: the page begins anew.
        let asynchronous = std::mem::take(&mut self.asynchronous);
        self.page_of = Some(problem.status);
        let made = self.dispatch_to(how, location).map(|status| status.filter(|&status| status != SV_NONE));
        self.page_of = None;
        self.asynchronous = asynchronous;
        made
    }

    /// The attributes `servlet.error.*` (Servlet 10.9.1).
    fn note_error(&mut self, problem: &Problem) {
        let of_client = |what: &str| self.attribute_text(&format!("servlet.async.{what}"));
        let (uri, query) = match of_client("request_uri") {
            // Before it went somewhere else by itself.
            Some(uri) => (uri, of_client("query_string")),
            None => {
                let target = &self.request.target;
                (target.request_uri().to_owned(), target.query().map(str::to_owned))
            }
        };
        let is_told = !problem.is_failure || error_page::is_of_its_kind(&self.generation.web.error_pages, problem);
        let facts = [
            ("status_code", Some(problem.status.as_str().to_owned())),
            ("message", Some(if is_told { problem.reason.to_string() } else { String::new() })),
            ("kind", Some(problem.kind.clone()).filter(|kind| !kind.is_empty())),
            ("request_uri", Some(uri)),
            ("query_string", query),
            ("method", Some(self.request.method.as_str().to_owned())),
            ("servlet_name", Some(self.generation.name_of(self.found.by).to_owned())),
        ];
        for (name, value) in facts {
            let name = format!("servlet.error.{name}");
            self.attributes.retain(|(known, _)| *known != name);
            self.attributes.extend(value.map(|value| (name, value.into())));
        }
    }

    fn attribute_text(&self, name: &str) -> Option<String> {
        let (_, value) = self.attributes.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok().map(str::to_owned)
    }

    /// The answer of the static files to an error page's dispatch: all of the file, whatever the client's headers ask.
    pub(super) fn answer_by_page_file(&mut self) {
        let (problem, path) = (Problem::new(self.response.status), self.request.target.path());
        match error_page::file(&problem, &self.generation, path) {
            Some(page) => self.answer(page),
            None => {
                let reason = format!("there is no file {path}");
                self.raise(problem.because(reason));
            }
        }
    }
}

impl Failure {
    /// It has said nothing.
    pub fn of(returned: i32, text: &str) -> Failure {
        let kind = if returned == SV_E_PANIC { "panic" } else { "" };
        Failure { kind: kind.to_owned(), text: text.to_owned() }
    }
}
