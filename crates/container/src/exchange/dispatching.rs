//! Dispatches inside of a dispatch: forward and include (Servlet 9, SEMANTICS 11). The target runs on the calling thread, and what it
//! sees of the request is put back when it has returned.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use http::StatusCode;
use serval_abi::{
    SV_DISPATCH_ERROR, SV_DISPATCH_FORWARD, SV_DISPATCH_INCLUDE, SV_E_BUSY, SV_E_FAILED, SV_E_LIMIT, SV_E_STATE, SV_OK,
    sv_status,
};
use serval_loader::exchange::{Answer, Dispatch, Exchange as _, Fault};
use serval_loader::servlet::{Outcome, Polled, Scope, Task};

use super::error_page::Failure;
use super::{Async, Exchange, NO_THREAD, Way};
use crate::asynchronous::{TaskWake, Watcher, Why};
use crate::execution::{NoThread, Pool, wait};
use crate::files::{self, Content};
use crate::inside::{self, Mapped};
use crate::parameters::{self, Charset};
use crate::target::Target;

/// LIMIT: dispatches inside of each other.
const DEPTH_MAX: usize = 20;

/// A path inside of the context, as a library has written it.
pub(super) struct Written<'w> {
    /// Decoded and normalised.
    pub path: String,
    /// As the target's request URI.
    uri: String,
    query: Option<&'w str>,
}

impl Exchange {
    /// What a library means by a path, maybe with a query, that is absolute or relative to the current one. `None`: it leads out of
    /// the context.
    pub(super) fn inside_context<'w>(&self, written: &'w str) -> Option<Written<'w>> {
        let written = written.split('#').next().unwrap_or(written);
        let (path, query) = match written.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (written, None),
        };
        let mut uri = if self.generation.web.plain_dispatch_paths { path.replace('%', "%25") } else { path.to_owned() };
        if !uri.starts_with('/') {
            // The current one is decoded already.
            let current = self.included_path.as_deref().unwrap_or(self.request.target.path());
            uri = format!("{}/{uri}", Target::encoded(current.rsplit_once('/')?.0));
        }
        Some(Written { path: Target::clean_path(&uri)?, uri, query })
    }

    pub(super) fn way_to(&self, target: &str) -> Option<Way> {
        let Written { path, uri, query } = self.inside_context(target)?;
        let is_query = query.is_none_or(|query| {
            let count_max = self.generation.settings.parameter_count_max;
            parameters::parse(query.as_bytes(), Charset::Utf8, count_max, &mut Vec::new()).is_ok()
        });
        is_query.then_some(())?;
        let here = &self.request.target;
        Some(Way { target: here.of_dispatch(&path, &uri, query.or(here.query()))?, query: query.map(str::to_owned) })
    }

    pub(super) fn dispatch_to(&mut self, how: Dispatch, target: &str) -> Answer<Option<sv_status>> {
        self.open()?;
        if self.polled.is_some() {
            return Err(Fault::new(SV_E_STATE, "a task goes on elsewhere with async_dispatch"));
        }
        if self.depth >= DEPTH_MAX {
            let text = "20 dispatches are inside of each other";
            // Most often it is what its servlets fail with.
            self.failure.get_or_insert_with(|| Failure::of(SV_E_LIMIT, text));
            return Err(Fault::new(SV_E_LIMIT, text));
        }
        let forward = matches!(how, Dispatch::Forward | Dispatch::ForwardByName);
        if forward && self.response.is_committed() && self.including == 0 {
            return Err(Fault::new(SV_E_STATE, "the response is committed"));
        }
        let generation = self.generation.clone();
        // Libraries have views of the target: the one that they have seen stays, and another one takes its place meanwhile.
        let meanwhile = self.request.target.clone();
        let seen = std::mem::replace(&mut self.request.target, meanwhile);
        let saved = (self.found, self.serving, self.dispatch, seen, self.included_path.clone());
        let (before, mut added) = (self.parameters.clone(), 0);
        let noted = self.begin_notes();
        self.dispatch = match forward {
            true if self.is_error_page() && self.depth == 0 => SV_DISPATCH_ERROR,
            true => SV_DISPATCH_FORWARD,
            false => SV_DISPATCH_INCLUDE,
        };
        let status = match how {
            Dispatch::ForwardByName | Dispatch::IncludeByName => {
                let servlet = generation.servlet_named(target);
                // Its paths are those of before (SEMANTICS 11).
                Ok(servlet.map(|by| {
                    self.serving = by;
                    self.run_nested(&generation, forward, true)
                }))
            }
            Dispatch::Forward | Dispatch::Include => self
                .turn_to(target, forward, &mut added)
                .map(|is_there| is_there.then(|| self.run_nested(&generation, forward, false))),
        };
        (self.found, self.serving, self.dispatch, self.request.target, self.included_path) = saved;
        self.remove_parameters(before, added);
        self.end_notes(noted);
        if forward && self.including == 0 && matches!(status, Ok(Some(_))) {
            self.response.finished = true;
        }
        status
    }

    /// Lets the request be one for another path of this context, maybe with a query; false: there is none.
    fn turn_to(&mut self, target: &str, forward: bool, added: &mut usize) -> Answer<bool> {
        let Some(Written { path, uri, query }) = self.inside_context(target) else { return Ok(false) };
        let here = &self.request.target;
        // An include shows its own query alone, a forward has the one of before, too.
        let shown = if forward { query.or(here.query()) } else { query };
        let Some(mut there) = here.of_dispatch(&path, &uri, shown) else { return Ok(false) };
        *added = self.add_parameters(query.unwrap_or(""))?;
        let Mapped { found, welcome } = inside::find(&self.generation, &path);
        self.serving = found.by;
        let path = match welcome {
            Some(file) => {
                there.go_to(file.clone());
                file
            }
            None => path,
        };
        if forward {
            self.note_paths("forward");
            (self.request.target, self.found, self.included_path) = (there, found, None);
        } else {
            // It sees the paths of before, and its own as attributes.
            let here = std::mem::replace(&mut self.request.target, there);
            let shown = std::mem::replace(&mut self.found, found);
            self.note_paths("include");
            (self.request.target, self.found) = (here, shown);
            self.included_path = Some(path);
        }
        Ok(true)
    }

    fn run_nested(
        &mut self,
        generation: &Arc<crate::generation::Generation>,
        forward: bool,
        by_name: bool,
    ) -> sv_status {
        let (entered, rewrites) = (self.chain.entered.len(), self.chain.rewrites);
        self.depth += 1;
        self.including += usize::from(!forward);
        if forward && self.including == 0 {
            self.response.reset_buffer();
        }
        let mut scope = Scope::new();
        let status = match crate::dispatch::nested(self, &mut scope, generation, by_name) {
            Outcome::Done => SV_OK,
            Outcome::Next if self.including > 0 => self.include_file(),
            Outcome::Next => {
                if self.answer_by_file() {
                    self.receive_file_here();
                }
                SV_OK
            }
            Outcome::Pending(task) => self.wait_for_task(task, &mut scope),
            Outcome::Detached => SV_E_STATE,
            Outcome::Failed(status, text) => {
                self.failure.get_or_insert_with(|| Failure::of(status, &text));
                status
            }
        };
        if status == SV_OK && forward && self.including == 0 {
            // While its filters are still there.
            self.finish_response();
        }
        if self.chain.entered.len() > entered {
            self.end_rewriting(entered);
            self.end_filters_from(entered, status);
        }
        self.chain.rewrites = rewrites;
        self.including -= usize::from(!forward);
        self.depth -= 1;
        status
    }

    /// What the target's query adds comes first. Returns how many there are.
    pub(super) fn add_parameters(&mut self, query: &str) -> Answer<usize> {
        let mut all = Vec::new();
        let malformed = |_| Fault::new(serval_abi::SV_E_ARG, "the target's query is malformed");
        parameters::parse(query.as_bytes(), Charset::Utf8, self.generation.settings.parameter_count_max, &mut all)
            .map_err(malformed)?;
        let count = all.len();
        if let Some(Ok(known)) = &mut self.parameters {
            known.splice(0..0, all);
        } else {
            self.first_parameters.splice(0..0, all);
        }
        Ok(count)
    }

    /// Removes what [`Exchange::add_parameters`] has added; `before`: all of them, if they were known then.
    pub(super) fn remove_parameters(&mut self, before: Option<Answer<Vec<(String, String)>>>, added: usize) {
        if before.is_some() {
            self.parameters = before;
            return;
        }
        self.first_parameters.drain(..added.min(self.first_parameters.len()));
        if let Some(Ok(known)) = &mut self.parameters {
            known.drain(..added.min(known.len()));
        }
    }

    /// A dispatch begins: its target does not see the attributes of an include around it.
    fn begin_notes(&mut self) -> Notes {
        let (includes, others) =
            std::mem::take(&mut self.attributes).into_iter().partition(|(name, _)| is_note(name, "include"));
        self.attributes = others;
        Notes { includes, was_forward: self.has_notes("forward") }
    }

    /// It has returned, and what was said of it is not true any more.
    fn end_notes(&mut self, before: Notes) {
        let stays = |name: &str| !is_note(name, "include") && (before.was_forward || !is_note(name, "forward"));
        self.attributes.retain(|(name, _)| stays(name));
        self.attributes.extend(before.includes);
    }

    fn has_notes(&self, kind: &str) -> bool {
        self.attributes.iter().any(|(name, _)| is_note(name, kind))
    }

    /// The attributes `servlet.forward.*` of the first forward, `servlet.async.*`, or `servlet.include.*`. Listener functions are
    /// not told of them.
    pub(super) fn note_paths(&mut self, kind: &str) {
        if self.has_notes(kind) {
            return;
        }
        let head = self.head();
        let names = ["", "CONTEXT_ROOT", "DEFAULT", "EXACT", "EXTENSION", "PATH", "TEMPLATE"];
        let kind_of_match = names.get(head.match_kind as usize).copied().unwrap_or("");
        let facts = [
            ("request_uri", Some(head.request_uri)),
            ("context_path", Some(head.context_path)),
            ("servlet_path", Some(head.servlet_path)),
            ("path_info", head.path_info),
            ("query_string", head.query),
            ("mapping.value", head.match_value),
            ("mapping.pattern", Some(head.match_pattern)),
            ("mapping.match", Some(kind_of_match)),
            ("mapping.servlet", Some(head.servlet_name)),
        ];
        let given = facts.iter().filter_map(|(what, value)| Some((what, (*value)?)));
        let notes: Vec<(String, Bytes)> = given
            .map(|(what, value)| (format!("servlet.{kind}.{what}"), Bytes::copy_from_slice(value.as_bytes())))
            .collect();
        self.attributes.extend(notes);
    }

    /// The static file that an include names goes into the body, where it stands. Its type is ignored, as all headers of what is included.
    fn include_file(&mut self) -> sv_status {
        // Of a dispatch by name, or of a forward inside of an include, it is the one that the request is for then.
        let path = self.included_path.take().unwrap_or_else(|| self.request.target.path().to_owned());
        let body = match files::content(&self.generation, &path) {
            Content::File(body, _) => body,
            Content::Directory => return SV_OK,
            Content::Missing => {
                let text = format!("there is no file {path}");
                self.failure = Some(Failure { kind: "io/not-found".to_owned(), text });
                return SV_E_FAILED;
            }
        };
        match self.take_body(body) {
            Ok(()) => SV_OK,
            Err(fault) => fault.status,
        }
    }

    /// Waits, on this thread, until a task that the target has made is over.
    fn wait_for_task(&mut self, task: Task, scope: &mut Scope) -> sv_status {
        let outer = std::mem::replace(
            &mut self.asynchronous,
            Async { wake: Some(Arc::new(TaskWake::default())), ..Async::default() },
        );
        self.goes_on();
        let pool = self.generation.pool.clone();
        // It may be a thread of a library's own.
        let _inside = pool.runtime().enter();
        let status = self.poll_to_the_end(task, scope, &pool);
        self.asynchronous = outer;
        status
    }

    fn poll_to_the_end(&mut self, mut task: Task, scope: &mut Scope, pool: &Pool) -> sv_status {
        let (wake, mut watcher) = (self.task_wake(), Watcher::new(self));
        loop {
            self.set_polled(Some(Waker::from(wake.clone())));
            let polled = task.poll(scope, self);
            self.set_polled(None);
            match polled {
                Polled::Done => return SV_OK,
                Polled::Failed(status, text) => {
                    self.failure.get_or_insert_with(|| Failure::of(status, &text));
                    return status;
                }
                Polled::Pending => {}
            }
            let (status, fault) = match wait(pool, watcher.next(wake.woken(), self.deadline())) {
                Ok(Why::Event | Why::Retired) => continue,
                Ok(why) => {
                    watcher.say(why);
                    let (status, code, reason) = why.answer();
                    (status, Fault::new(code, reason))
                }
                Err(NoThread) => (StatusCode::SERVICE_UNAVAILABLE, Fault::new(SV_E_BUSY, NO_THREAD)),
            };
            return self.hindered(status, fault).status;
        }
    }
}

/// What the attributes of the server were before a dispatch.
struct Notes {
    includes: Vec<(String, Bytes)>,
    was_forward: bool,
}

/// Whether an attribute is one that [`Exchange::note_paths`] makes.
fn is_note(name: &str, kind: &str) -> bool {
    name.strip_prefix("servlet.").and_then(|rest| rest.strip_prefix(kind)).is_some_and(|rest| rest.starts_with('.'))
}
