//! One request and its response inside a context: what the loader's table asks for, on the container's side.
//!
//! Made by `dispatch`, which leads it through filters and servlet; owned by the call that runs, or by the driver of its task. `reading`
//! is the request's side, `writing` the response's, `session` the client's record, `listening` what listener functions see of it, `urls`
//! what it hands to the client, `dispatching` what it does inside of itself, `uploading` what it does to files, `error_page` what goes
//! wrong, `going_on` what it is after its servlet has returned, and `table` what libraries call.

mod dispatching;
mod error_page;
mod going_on;
mod listening;
mod reading;
mod session;
mod table;
mod uploading;
mod urls;
mod writing;

pub use error_page::Asks;
pub use session::requested_sessions;

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use serval_abi::{SV_DISPATCH_FORWARD, SV_DISPATCH_REQUEST, SV_E_BUSY, SV_E_PANIC, SV_E_STATE};
use serval_loader::exchange::{Answer, Exchange as _, Fault, Session as _};
use serval_loader::filter::Entered;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::access_log::{Noting, Question};
use crate::asynchronous::{Completion, TaskWake};
use crate::body::ResponseBody;
use crate::context::Context;
use crate::execution::{Call, Pool};
use crate::files::{self, Asker};
use crate::generation::Generation;
use crate::mapping::{By, Match};
use crate::multipart;
use crate::problem::Problem;
use crate::remote_ip::Client;
use crate::sending::Sending;
use crate::target::Target;
use crate::turn::Turn;
use crate::unread;
use crate::{Peer, RequestBody};
use error_page::Failure;

/// LIMIT: bytes of all request attributes together.
const ATTRIBUTE_BYTES_MAX: usize = 1 << 20;
const NO_RESPONSE: &str = "a listener function has no say about the response";
const NO_THREAD: &str = "all threads of this context are busy (workers_max), so there is none to wait on";

/// The parts of a request that a servlet sees.
pub struct Request {
    pub id: u64,
    pub method: Method,
    pub version: Version,
    pub headers: HeaderMap,
    pub target: Target,
    pub peer: Arc<Peer>,
    /// What proxies have said, if they are believed.
    pub client: Option<Box<Client>>,
    pub body: Option<RequestBody>,
    /// What the access log asks at the end, if it asks anything.
    pub noting: Option<Noting>,
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            unread::take(body, &self.headers, &self.peer.listener);
        }
    }
}

impl Request {
    /// By TLS, here or at a proxy that is believed.
    pub fn is_secure(&self) -> bool {
        self.client.as_ref().and_then(|client| client.secure).unwrap_or(self.peer.secure)
    }

    /// The client's address: the peer's, or what proxies have said.
    pub fn remote_text(&self) -> &str {
        self.client.as_ref().and_then(|client| client.address.as_deref()).unwrap_or(&self.peer.remote_text)
    }
}

pub struct Exchange {
    request: Box<Request>,
    context: Arc<Context>,
    generation: Arc<Generation>,
    turn: Arc<Turn>,
    /// How the path was mapped, as libraries see it.
    found: Match,
    /// Who is called: that of `found`, but in an include and by name.
    serving: By,
    /// Dispatches inside of each other, and how many of them are includes, which cannot change the head.
    depth: usize,
    including: usize,
    /// What an include is of, for the static files.
    included_path: Option<String>,
    /// SV_DISPATCH_*, of the dispatch that is under way.
    dispatch: u32,
    content_length: Option<u64>,
    body_read: u64,
    /// What is left of a piece of the body that was read in part.
    unread: Bytes,
    /// How long the body's next piece may still take, while it is waited for in a poll.
    body_wait: Option<std::pin::Pin<Box<Sleep>>>,
    pace: crate::pace::Pace,
    trailers: Option<HeaderMap>,
    /// It was given up in the middle, so the connection cannot go on.
    body_is_lost: bool,
    /// What hindered it and is not the servlet's mistake, with the status to answer.
    hindered: Option<(StatusCode, Fault)>,
    /// Once they were asked for.
    parameters: Option<Answer<Vec<(String, String)>>>,
    /// Of the queries of dispatches that are under way, until the others are read.
    first_parameters: Vec<(String, String)>,
    /// A form that is being read.
    form: Option<Vec<u8>>,
    parts: Parts,
    cookies: Option<Vec<(String, String)>>,
    attributes: Vec<(String, Bytes)>,
    session: session::Use,
    chain: Chain,
    response: Sending,
    failure: Option<Failure>,
    /// What went wrong, until the end, when it is answered.
    problem: Option<Box<Problem>>,
    /// An error page is being made, for this status.
    page_of: Option<StatusCode>,
    /// A panic, by the library's report, and not yet by the status.
    panic_was_said: bool,
    /// Who said so, and for how many seconds.
    unavailable: Option<(By, u32)>,
    asynchronous: Async,
    /// In a poll: what to wake when it is worth trying again.
    polled: Option<Waker>,
    /// Bytes that were taken in this poll and go nowhere.
    unsent: usize,
}

/// The parts of a multipart body.
enum Parts {
    Unread,
    Reading(Box<multipart::Reader>),
    Read(Answer<multipart::Parts>),
}

/// The filters that have let the request pass, and what they are doing.
#[derive(Default)]
struct Chain {
    /// Outermost first, with their numbers in the generation.
    entered: Vec<Passed>,
    /// One of them changes the body.
    rewrites: bool,
    /// on_response has been called.
    responded: bool,
    stage: Stage,
    /// The first so many see nothing of the response any more, because one of them has failed over it.
    silent: usize,
    /// What a filter writes in place of a piece.
    output: Option<Vec<u8>>,
}

/// A filter that has let the request pass.
struct Passed {
    /// In the generation.
    filter: usize,
    entered: Entered,
    /// Of an include, so it does not see the head.
    included: bool,
}

/// What a library may do now.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// In on_response: the head may be changed, nothing written.
    Head,
    /// In on_body: only `write`.
    Body,
    /// In on_end: nothing.
    End,
    /// In on_event: the response is none of its business.
    Event,
}

/// A path inside of the context, and a query of its own.
pub struct Way {
    target: Target,
    query: Option<String>,
}

/// What an exchange is when its servlet has returned and it goes on.
#[derive(Default)]
struct Async {
    wake: Option<Arc<TaskWake>>,
    /// It was detached.
    completion: Option<Arc<Completion>>,
    deadline: Option<Instant>,
    /// Set by set_timeout, also before it goes on; `Some(None)`: none.
    timeout: Option<Option<Duration>>,
    /// async_dispatch: to which path, or the original one.
    goes_to: Option<Option<Way>>,
    /// Parameters that the query of the one that led here has added.
    added: usize,
    /// Why it has ended for the library, though it may not know yet.
    over: Option<Fault>,
}

impl Exchange {
    pub fn new(
        request: Box<Request>,
        context: Arc<Context>,
        generation: Arc<Generation>,
        turn: Arc<Turn>,
        found: Match,
        head: oneshot::Sender<Response<ResponseBody>>,
    ) -> Exchange {
        let content_length = match &request.body {
            Some(_) => request.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()),
            None => Some(0),
        };
        let mut response =
            Sending::new(head, generation.settings.response_buffer_bytes, request.method == Method::HEAD);
        let session = session::Use::new(&request.target, &generation);
        let compression = generation.compression.as_ref();
        response.compressing = compression.map(|compression| compression.wanted(&request.method, &request.headers));
        Exchange {
            content_length,
            request,
            context,
            generation,
            turn,
            serving: found.by,
            found,
            depth: 0,
            including: 0,
            included_path: None,
            first_parameters: Vec::new(),
            dispatch: SV_DISPATCH_REQUEST,
            body_read: 0,
            unread: Bytes::new(),
            body_wait: None,
            pace: crate::pace::Pace::default(),
            trailers: None,
            body_is_lost: false,
            hindered: None,
            parameters: None,
            form: None,
            parts: Parts::Unread,
            cookies: None,
            attributes: Vec::new(),
            session,
            chain: Chain::default(),
            response,
            failure: None,
            problem: None,
            page_of: None,
            panic_was_said: false,
            unavailable: None,
            asynchronous: Async::default(),
            polled: None,
            unsent: 0,
        }
    }

    pub fn request(&self) -> &Request {
        &self.request
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    pub fn turn(&self) -> &Arc<Turn> {
        &self.turn
    }

    /// Who is called.
    pub fn serving(&self) -> By {
        self.serving
    }

    pub fn servlet_name(&self) -> &str {
        self.generation.name_of(self.serving)
    }

    /// Its target is included, and has no say about the head.
    pub fn is_included(&self) -> bool {
        self.including > 0
    }

    /// The filters of the dispatch that is under way, outermost first. One by name has no path.
    pub fn filters(&self, by_name: bool) -> Vec<usize> {
        let path = self.included_path.as_deref().unwrap_or(self.request.target.path());
        self.generation.filter_maps.find((!by_name).then_some(path), self.servlet_name(), self.dispatch)
    }

    /// The call that is about to begin.
    pub fn call(&self, inline: bool) -> Call {
        Call {
            generation: self.generation.clone(),
            by: self.serving,
            exchange_id: self.request.id,
            slow_after: self.generation.settings.slow_after,
            inline,
        }
    }

    /// A filter has let the request pass, and is told of what follows.
    pub fn entered(&mut self, filter: usize, entered: Entered) {
        let included = self.including > 0;
        if self.generation.filter(filter).is_some_and(|filter| filter.has_on_body()) {
            if included {
                // What was written before is not for this one; a client that has gone shows later.
                let _ = self.flush_out();
            }
            self.chain.rewrites = true;
        }
        self.chain.entered.push(Passed { filter, entered, included });
    }

    /// Ends the filters, innermost first.
    pub fn end_filters(&mut self, result: i32) {
        self.end_filters_from(0, result);
        self.chain.rewrites = false;
    }

    fn end_filters_from(&mut self, first: usize, result: i32) {
        if self.chain.entered.len() <= first {
            return;
        }
        let generation = self.generation.clone();
        let stage = std::mem::replace(&mut self.chain.stage, Stage::End);
        while self.chain.entered.len() > first
            && let Some(Passed { filter, entered, .. }) = self.chain.entered.pop()
        {
            if let Some(filter) = generation.filter(filter) {
                filter.on_end(entered, self, result);
            }
        }
        self.chain.stage = stage;
    }

    /// The servlet has returned SV_OK.
    pub fn finish(&mut self) {
        self.finish_response();
    }

    /// The log has said of this failure that it was a panic.
    fn panic_was_said(&mut self, returned: i32) -> bool {
        returned == SV_E_PANIC && std::mem::take(&mut self.panic_was_said)
    }

    /// The answer of the static files, when no servlet has the path, or the one that has it has passed it on. `true`: the client's
    /// file is to be received before.
    #[must_use]
    pub fn answer_by_file(&mut self) -> bool {
        if self.is_error_page() {
            self.answer_by_page_file();
            return false;
        }
        let asker = if self.dispatch == SV_DISPATCH_FORWARD { Asker::Forward } else { Asker::Client };
        match files::answer(&self.request, &self.context, &self.generation, asker) {
            Some(answered) => {
                self.answer_or_raise(answered);
                false
            }
            None => self.change_file(),
        }
    }

    /// Answers 304 to a GET when the client has what was last changed then (ms since 1970, before the year 10000, in which dates
    /// of HTTP end), or else says when it was (SEMANTICS 13, RFC 9110 13.1.3). Seconds are compared.
    pub fn is_answered_by_date(&mut self, modified: i64) -> bool {
        let Ok(modified) = u64::try_from(modified) else { return false };
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(modified / 1000);
        let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(modified)) else { return false };
        let headers = &self.request.headers;
        let asks = self.request.method == Method::GET && !headers.contains_key(IF_NONE_MATCH);
        let known = headers.get(IF_MODIFIED_SINCE).filter(|_| asks);
        let known = known.and_then(|known| httpdate::parse_http_date(known.to_str().ok()?).ok());
        self.response.headers.insert(LAST_MODIFIED, date);
        let unchanged = known.is_some_and(|known| known >= modified);
        if unchanged {
            self.response.status = StatusCode::NOT_MODIFIED;
            self.finish();
        }
        unchanged
    }

    /// Tells the access log what only the exchange knows.
    pub fn note(&mut self) {
        let Some(noting) = self.request.noting.take() else { return };
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        noting.note(|question| match question {
            Question::SessionId => self.info_of_session().id.as_deref().map(text),
            Question::RequestAttribute(name) => self.attribute(name).map(Bytes::copy_from_slice),
            Question::SessionAttribute(name) => self.session_attribute(name).ok().flatten(),
        });
    }

    /// Output is taken.
    fn open(&self) -> Answer {
        if let Some(fault) = &self.asynchronous.over {
            return Err(fault.clone());
        }
        match self.chain.stage {
            Stage::Open if !self.response.finished => Ok(()),
            Stage::Open => Err(Fault::new(SV_E_STATE, "the response is finished")),
            Stage::Head => Err(Fault::new(SV_E_STATE, "in on_response nothing is written")),
            Stage::Body => Err(Fault::new(SV_E_STATE, "in on_body only `write` may be called")),
            Stage::End => Err(Fault::new(SV_E_STATE, "in on_end the response is over")),
            Stage::Event => Err(Fault::new(SV_E_STATE, NO_RESPONSE)),
        }
    }

    /// Status and headers may still be changed.
    fn uncommitted(&self) -> Answer {
        if let Some(fault) = &self.asynchronous.over {
            return Err(fault.clone());
        }
        match self.chain.stage {
            _ if self.response.is_committed() => Err(Fault::new(SV_E_STATE, "the response is committed")),
            Stage::Open | Stage::Head => Ok(()),
            Stage::Body | Stage::End => Err(Fault::new(SV_E_STATE, "the head is not the filter's any more")),
            Stage::Event => Err(Fault::new(SV_E_STATE, NO_RESPONSE)),
        }
    }

    /// Notes what the servlet cannot be blamed for.
    fn hindered(&mut self, status: StatusCode, fault: Fault) -> Fault {
        self.hindered = Some((status, fault.clone()));
        fault
    }

    /// The client does not read, or has gone.
    fn client_failed(&mut self, fault: Fault) -> Fault {
        let status =
            if fault.status == SV_E_BUSY { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::REQUEST_TIMEOUT };
        self.hindered(status, fault)
    }

    /// On a thread of a library's own: lets it use the runtime's timers meanwhile.
    fn inside<'p>(&self, pool: &'p Pool) -> Option<tokio::runtime::EnterGuard<'p>> {
        self.asynchronous.completion.as_ref().map(|_| pool.runtime().enter())
    }
}
