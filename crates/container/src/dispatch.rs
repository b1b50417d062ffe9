//! From a mapped path to an answer: the method, the place where the servlet runs, the static files, the page for what goes wrong.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use serval_abi::{
    SV_DELETE, SV_E_BUSY, SV_E_STATE, SV_EVENT_REQUEST_DESTROYED, SV_EVENT_REQUEST_INITIALIZED, SV_GET, SV_HEAD,
    SV_METHOD_OTHER, SV_OK, SV_OPTIONS, SV_PATCH, SV_POST, SV_PUT, SV_TRACE, sv_status,
};
use serval_loader::filter::Entered;
use serval_loader::servlet::{Outcome, Scope, Servlet};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::Peer;
use crate::answer::{self, Answered};
use crate::answering::{Answer, Answering, or_failed};
use crate::asynchronous::{NO_THREAD_IN_TIME, Why, Work, drive_detached, run_again};
use crate::body::ResponseBody;
use crate::context::Context;
use crate::error_page;
use crate::events::Change;
use crate::exchange::{Asks, Exchange, Request};
use crate::execution::{self, Busy, Place, Pool, watched};
use crate::files;
use crate::generation::Generation;
use crate::mapping::Match;
use crate::problem::Problem;
use crate::turn::{Io, Turn};

/// Answers by the filters of this path and by who was found for it.
pub fn to(
    turn: &Arc<Turn>,
    request: Box<Request>,
    context: Arc<Context>,
    generation: Arc<Generation>,
    found: Match,
) -> Answer {
    let servlet = generation.servlet_of(found.by);
    let (filters, promise) = generation.filters_of(request.target.path(), found.by);
    // Listener functions promise nothing.
    let told = generation.listens_to_requests();
    // What the access log asks, only an exchange knows.
    if !told && filters.is_empty() && request.noting.is_none() {
        let answered = match servlet {
            Some(servlet) => {
                instead_of(servlet, &request.method, &request).or_else(|| instead_of_large_body(&request, &generation))
            }
            None => files::answer_at_once(&request, &context, &generation),
        };
        match answered {
            Some(Ok(response)) => return compressed(response, &request, &generation).into(),
            Some(Err(problem)) => return to_error_page(turn, request, context, generation, found, problem),
            None => {}
        }
    }
    let never_blocks = match servlet {
        Some(servlet) => servlet.may_run_inline(),
        None => !files::may_block(&request, &generation),
    };
    let (head, answered) = oneshot::channel();
    let exchange = Box::new(Exchange::new(request, context, generation, turn.clone(), found, head));
    begin(turn, exchange, answered, !told && promise && never_blocks)
}

/// Answers what the webapp's servlets and filters are not asked about, but maybe for the page.
pub fn to_error_page(
    turn: &Arc<Turn>,
    request: Box<Request>,
    context: Arc<Context>,
    generation: Arc<Generation>,
    found: Match,
    problem: Box<Problem>,
) -> Answer {
    let told = generation.listens_to_requests();
    if !told
        && request.noting.is_none()
        && let Some(page) = error_page::at_once(&problem, &request.headers, &context, &generation)
    {
        return compressed(page, &request, &generation).into();
    }
    let (head, answered) = oneshot::channel();
    let mut exchange = Box::new(Exchange::new(request, context, generation, turn.clone(), found, head));
    exchange.raise(problem);
    let may_run_inline = !told && exchange.makes_page_inline();
    begin(turn, exchange, answered, may_run_inline)
}

/// An answer that no exchange has made.
fn compressed(
    mut response: Response<ResponseBody>,
    request: &Request,
    generation: &Generation,
) -> Response<ResponseBody> {
    if let Some(compression) = &generation.compression {
        compression.wanted(&request.method, &request.headers).apply(&mut response);
    }
    response
}

/// Runs the exchange's call where there is a place for it.
fn begin(
    turn: &Arc<Turn>,
    exchange: Box<Exchange>,
    answered: oneshot::Receiver<Response<ResponseBody>>,
    promise: bool,
) -> Answer {
    let may_run_inline = promise && !turn.is_busy();
    if may_run_inline && let Some(place) = turn.inline.try_enter() {
        turn.hand_in(InlineCall { place, exchange });
        return Answer::Called(answered);
    }
    let turn = turn.clone();
    Answer::Later(Box::pin(async move {
        match seat(&turn, exchange.generation().pool.clone(), may_run_inline).await {
            Ok(Seat::Inline(place)) => {
                turn.hand_in(InlineCall { place, exchange });
                match Answering::new(Answer::Called(answered), None, &turn).await {
                    Ok(response) => response,
                }
            }
            Ok(Seat::Pool(permit)) => {
                on_pool(exchange, permit);
                or_failed(answered.await)
            }
            Err(busy) => pool_busy(&exchange, busy),
        }
    }))
}

/// Where a call runs for which there was no place at once.
enum Seat {
    Inline(Place),
    Pool(Option<OwnedSemaphorePermit>),
}

/// One that no client waits for does not stand in the pool's queue.
async fn seat(turn: &Arc<Turn>, pool: Arc<Pool>, may_run_inline: bool) -> Result<Seat, Busy> {
    if may_run_inline && let Some(place) = turn.inline.enter().await {
        return Ok(Seat::Inline(place));
    }
    if turn.is_alone() {
        return Ok(Seat::Pool(pool.enter_patiently().await));
    }
    tokio::select! {
        biased;
        permit = pool.enter() => permit.map(|permit| Seat::Pool(Some(permit))),
        // While the pool has no thread, a place may become free.
        place = turn.inline.wait(), if may_run_inline => Ok(Seat::Inline(place)),
    }
}

/// A call that has its place on an I/O thread.
pub struct InlineCall {
    place: Place,
    exchange: Box<Exchange>,
}

impl InlineCall {
    /// Gives the connection back, unless the call had to leave it.
    pub fn run(self, io: Io) -> Option<Io> {
        execution::inline(self.place, io, || run(self.exchange, true))
    }
}

/// Hands the call to a thread of its context's pool.
fn on_pool(exchange: Box<Exchange>, permit: Option<OwnedSemaphorePermit>) {
    // The generation, which waits for all that hold it, is its owner.
    drop(tokio::task::spawn_blocking(move || {
        run(exchange, false);
        drop(permit);
    }));
}

/// The way of a request through the libraries: listener functions, filters, servlet.
fn run(mut exchange: Box<Exchange>, inline: bool) {
    watched(exchange.call(inline), |generation| {
        let told = exchange
            .shown(|exchange| generation.request_event(SV_EVENT_REQUEST_INITIALIZED, exchange, Change::default()));
        match told {
            Ok(()) => dispatch(exchange, generation, inline),
            Err((status, text)) => settle(exchange, Scope::new(), Outcome::Failed(status, text), inline),
        }
    });
}

fn dispatch(mut exchange: Box<Exchange>, generation: &Generation, inline: bool) {
    let mut scope = Scope::new();
    let outcome = match exchange.has_problem() {
        true => Outcome::Done,
        false => nested(&mut exchange, &mut scope, generation, false),
    };
    settle(exchange, scope, outcome, inline);
}

/// One dispatch: the filters of its path, or of its servlet alone, and the servlet.
pub fn nested(exchange: &mut Exchange, scope: &mut Scope, generation: &Generation, by_name: bool) -> Outcome {
    through_filters(exchange, generation, by_name).unwrap_or_else(|| serve(exchange, scope, generation))
}

/// `None`: all of them have let it pass.
fn through_filters(exchange: &mut Exchange, generation: &Generation, by_name: bool) -> Option<Outcome> {
    if generation.filter_maps.is_empty() {
        return None;
    }
    for number in exchange.filters(by_name) {
        let Some(filter) = generation.filter(number) else { continue };
        let mut entered = Entered::new();
        match filter.on_request(&mut entered, exchange) {
            Outcome::Next => exchange.entered(number, entered),
            Outcome::Failed(status, text) => {
                return Some(Outcome::Failed(status, format!("the filter `{}`: {text}", filter.name())));
            }
            _ => return Some(Outcome::Done),
        }
    }
    None
}

fn serve(exchange: &mut Exchange, scope: &mut Scope, generation: &Generation) -> Outcome {
    let Some(servlet) = generation.servlet_of(exchange.serving()) else { return Outcome::Next };
    let mut answered = instead_of(servlet, exchange.method(), exchange.request());
    if !exchange.is_error_page() {
        answered = answered.or_else(|| instead_of_large_body(exchange.request(), exchange.generation()));
    }
    if let Some(answered) = answered {
        // In an include neither an answer nor an error has an effect.
        if !exchange.is_included() {
            exchange.answer_or_raise(answered);
        }
        return Outcome::Done;
    }
    if !exchange.is_included()
        && !exchange.is_error_page()
        && matches!(exchange.request().method, Method::GET | Method::HEAD)
        && let Some(modified) = servlet.last_modified(scope, exchange)
        && exchange.is_answered_by_date(modified)
    {
        return Outcome::Done;
    }
    if servlet.has_poll() {
        // Before it sends anything: the connection looks when it is polled for that.
        exchange.turn().watch_client();
    }
    servlet.service(scope, exchange)
}

/// What follows from how a call, or a task, has ended.
pub fn settle(mut exchange: Box<Exchange>, scope: Scope, outcome: Outcome, inline: bool) {
    let result = match outcome {
        Outcome::Pending(task) => return go_on(Work::new(task, scope, exchange), inline),
        Outcome::Detached => match exchange.completion() {
            Some(completion) => {
                // Its owner is the generation, which it holds.
                drop(Handle::current().spawn(drive_detached(scope, exchange, completion)));
                return;
            }
            None => SV_E_STATE,
        },
        Outcome::Done if exchange.has_a_way() => return again(exchange, scope),
        Outcome::Done => {
            exchange.finish();
            SV_OK
        }
        Outcome::Next if exchange.answer_by_file() => {
            // Its owner is the generation, which it holds.
            drop(Handle::current().spawn(receive_file(exchange, scope)));
            return;
        }
        Outcome::Next => SV_OK,
        Outcome::Failed(status, text) => {
            exchange.failed(status, &text);
            status
        }
    };
    conclude(exchange, scope, result, inline);
}

/// Answers what went wrong, if anything has, and ends. A page goes to a thread of the pool if this one is not for it.
pub fn conclude(mut exchange: Box<Exchange>, scope: Scope, result: sv_status, inline: bool) {
    if !inline || exchange.makes_page_inline() {
        exchange.make_error_page(Asks::Webapp);
        return end(exchange, scope, result);
    }
    let pool = exchange.generation().pool.clone();
    drop(Handle::current().spawn(async move {
        let permit = pool.enter().await.ok();
        let run = tokio::task::spawn_blocking(move || {
            watched(exchange.call(false), |_| {
                // Without a place in the pool what runs here are filters that promise not to block.
                exchange.make_error_page(if permit.is_some() { Asks::Webapp } else { Asks::Nobody });
                end(exchange, scope, result);
            });
            drop(permit);
        });
        let _ = run.await;
    }));
}

/// Polls a new task for the first time where its servlet has just run, which is most often all that it needs.
fn go_on(work: Box<Work>, inline: bool) {
    if let Some(work) = work.step(inline) {
        // Its owner is the generation, which it holds.
        drop(Handle::current().spawn(work.drive()));
    }
}

/// A client sends a file, and may take its time.
async fn receive_file(mut exchange: Box<Exchange>, scope: Scope) {
    let pool = exchange.generation().pool.clone();
    let received = exchange.receive_file(Some(&pool)).await;
    let permit = pool.enter_patiently().await;
    let run = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        watched(exchange.call(false), |_| {
            exchange.answer_change(received);
            conclude(exchange, scope, SV_OK, false);
        });
    });
    let _ = run.await;
}

/// async_dispatch: the way of a request, once more.
fn again(mut exchange: Box<Exchange>, scope: Scope) {
    exchange.hand_over_body();
    exchange.end_filters(SV_OK);
    drop(scope);
    let way = exchange.takes_its_way().flatten();
    exchange.dispatch_again(way);
    // Its owner is the generation, which it holds.
    drop(Handle::current().spawn(run_again(
        exchange,
        |exchange| watched(exchange.call(false), |generation| dispatch(exchange, generation, false)),
        without_thread,
    )));
}

/// There was no thread for a dispatch of what has been let in already.
fn without_thread(mut exchange: Box<Exchange>) {
    watched(exchange.call(false), |generation| {
        let (context, number, request) = (&generation.context, generation.number, exchange.request().id);
        let servlet = exchange.servlet_name();
        tracing::warn!(%context, generation = number, servlet, request, "a request was ended: {NO_THREAD_IN_TIME}");
        exchange.cut_off(Why::Busy);
        end(exchange, Scope::new(), SV_E_BUSY);
    });
}

/// The exchange is over: the filters are told, then the listener functions.
pub fn end(mut exchange: Box<Exchange>, scope: Scope, result: i32) {
    exchange.end_filters(result);
    // Its memory lives until the servlet has returned, and it has.
    drop(scope);
    if exchange.generation().listens_to_requests() {
        exchange.request_event(SV_EVENT_REQUEST_DESTROYED, Change::default());
    }
    exchange.note();
}

fn pool_busy(exchange: &Exchange, busy: Busy) -> Response<ResponseBody> {
    let text = match busy {
        Busy::QueueFull => "its queue is full (queue_max)",
        Busy::WaitedTooLong => "a request waited too long for a thread (queue_timeout)",
    };
    let (context, generation) = (&exchange.context().name, exchange.generation().number);
    tracing::warn!(
        %context, generation, servlet = exchange.servlet_name(), request = exchange.request().id,
        "a request was answered 503: all threads are busy (workers_max), and {text}; see which calls are slow, or raise the bound"
    );
    let problem = Problem::unavailable(1).because_public("All threads of this application are busy.");
    error_page::without_servlet(&problem, &exchange.request().headers, exchange.context(), exchange.generation())
}

/// What the container answers in a servlet's place.
fn instead_of(servlet: &Servlet, method: &Method, request: &Request) -> Option<Answered> {
    if let Some(seconds) = servlet.unavailable_for() {
        return Some(Err(servlet_unavailable(seconds)));
    }
    by_method(method, request, servlet.methods())
}

/// The same, because of a body that says how large it is. A page for an error is made all the same.
fn instead_of_large_body(request: &Request, generation: &Generation) -> Option<Answered> {
    let at_least = request.body.as_ref().map_or(0, |body| http_body::Body::size_hint(body).lower());
    (at_least > generation.settings.request_body_bytes_max)
        .then(|| Err(Problem::closing(StatusCode::PAYLOAD_TOO_LARGE)))
}

/// What a servlet answers that is unavailable for so long; 0: for good (Servlet 2.3.3.2).
pub fn servlet_unavailable(seconds: u32) -> Box<Problem> {
    if seconds == 0 {
        return Problem::new(StatusCode::NOT_FOUND);
    }
    let until = SystemTime::now() + Duration::from_secs(seconds.into());
    let problem = Problem::unavailable(seconds);
    // As a date, so that it is the same whenever it is looked at (SEMANTICS 9).
    match HeaderValue::from_str(&httpdate::fmt_http_date(until)) {
        Ok(until) => problem.with(RETRY_AFTER, until),
        Err(_) => problem,
    }
}

/// The methods that the container knows, in the order in which it names them.
const METHODS: [(&str, u32); 8] = [
    ("GET", SV_GET),
    ("HEAD", SV_HEAD),
    ("POST", SV_POST),
    ("PUT", SV_PUT),
    ("DELETE", SV_DELETE),
    ("PATCH", SV_PATCH),
    ("OPTIONS", SV_OPTIONS),
    ("TRACE", SV_TRACE),
];

/// What the container answers in a servlet's place, because of the method (SEMANTICS 13).
pub fn by_method(method: &Method, request: &Request, methods: u32) -> Option<Answered> {
    if methods == 0 {
        return None;
    }
    let Some(&(_, bit)) = METHODS.iter().find(|(name, _)| *name == method.as_str()) else {
        return (methods & SV_METHOD_OTHER == 0).then(|| Err(Problem::new(StatusCode::NOT_IMPLEMENTED)));
    };
    if with_head(methods) & bit != 0 {
        return None;
    }
    let traced = request.peer.listener.allow_trace;
    Some(match *method {
        Method::OPTIONS => Ok(answer::options(&allowed(methods, traced))),
        // Where it is not, it comes no further than to the context.
        Method::TRACE if traced => Ok(answer::trace(request)),
        // An older client does not know 405.
        _ if request.version < Version::HTTP_11 => Err(Problem::new(StatusCode::BAD_REQUEST)),
        _ => Err(Problem::not_allowed(&allowed(methods, traced))),
    })
}

/// GET has HEAD with it.
fn with_head(methods: u32) -> u32 {
    methods | if methods & SV_GET != 0 { SV_HEAD } else { 0 }
}

/// The value of Allow. OPTIONS is the container's, and so is TRACE, where the listener takes it.
fn allowed(methods: u32, traced: bool) -> String {
    let all = (with_head(methods) | SV_OPTIONS) & !SV_TRACE | if traced { SV_TRACE } else { 0 };
    METHODS.iter().filter(|(_, bit)| all & bit != 0).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The answer to `OPTIONS *`, which is about no servlet.
pub fn options_of_the_server(peer: &Peer) -> Response<ResponseBody> {
    answer::options(&allowed(SV_GET | SV_POST | SV_PUT | SV_DELETE, peer.listener.allow_trace))
}

/// The answer to TRACE where the listener does not take it, whoever it is for.
pub fn not_traced(request: &Request, generation: &Generation, servlet: Option<&Servlet>) -> Box<Problem> {
    let allow = match servlet.map(Servlet::methods) {
        None => files::allowed(request, generation),
        // It looks at the method by itself.
        Some(0) => allowed(SV_GET | SV_POST | SV_PUT | SV_DELETE, false),
        Some(methods) => allowed(methods, false),
    };
    Problem::not_allowed(&allow)
}

/// Only so that the deployment need not know how servlets are made.
pub fn servlet_count(generation: &Generation) -> usize {
    (0..).map_while(|number| generation.servlet(number)).map(Servlet::name).count()
}
