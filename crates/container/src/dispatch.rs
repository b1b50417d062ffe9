//! From a mapped path to an answer: the method, the place where the servlet runs, the static files.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serval_abi::{SV_DELETE, SV_GET, SV_HEAD, SV_METHOD_OTHER, SV_OPTIONS, SV_PATCH, SV_POST, SV_PUT, SV_TRACE};
use serval_loader::library::{Outcome, Servlet};
use serval_static_files::{Found, respond, status_when_missing};
use tokio::sync::oneshot;

use crate::answer;
use crate::answering::{Answer, Answering, or_failed};
use crate::body::ResponseBody;
use crate::context::{Context, Waiting};
use crate::exchange::{Exchange, Request};
use crate::execution::{self, Busy, Place, watched};
use crate::generation::Generation;
use crate::mapping::Match;
use crate::turn::{Io, Turn};

/// Answers by the servlet that was found.
pub fn servlet(
    turn: &Arc<Turn>,
    request: Box<Request>,
    context: Arc<Context>,
    generation: Arc<Generation>,
    found: Match,
) -> Answer {
    let Some(servlet) = generation.servlet(found.servlet) else {
        return answer::page(StatusCode::NOT_FOUND, "").into();
    };
    if let Some(seconds) = servlet.unavailable_for() {
        return answer::servlet_unavailable(seconds, "").into();
    }
    if let Some(answer) = by_method(&request.method, servlet.methods()) {
        return answer.into();
    }
    if request
        .body
        .as_ref()
        .is_some_and(|body| http_body::Body::size_hint(body).lower() > context.settings.request_body_bytes_max)
    {
        return answer::closing(StatusCode::PAYLOAD_TOO_LARGE, "").into();
    }
    let may_run_inline = servlet.may_run_inline() && !turn.is_busy();
    let (head, answered) = oneshot::channel();
    let exchange = Box::new(Exchange::new(request, context, generation, found, head));
    if may_run_inline && let Some(place) = turn.inline.try_enter() {
        turn.hand_in(InlineCall { place, exchange });
        return Answer::Called(answered);
    }
    let turn = turn.clone();
    Answer::Later(Box::pin(async move {
        let place = if may_run_inline { turn.inline.enter().await } else { None };
        match place {
            Some(place) => {
                turn.hand_in(InlineCall { place, exchange });
                match Answering::new(Answer::Called(answered), &turn).await {
                    Ok(response) => response,
                }
            }
            None => match on_pool(exchange).await {
                Ok(()) => or_failed(answered.await),
                Err(busy) => busy,
            },
        }
    }))
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

/// Hands the call to a thread of its context's pool as soon as there is one.
async fn on_pool(exchange: Box<Exchange>) -> Result<(), Response<ResponseBody>> {
    let context = exchange.context().clone();
    let permit = context.pool.enter().await.map_err(|busy| pool_busy(&context, busy))?;
    // The generation, which waits for all that hold it, is its owner.
    drop(tokio::task::spawn_blocking(move || {
        run(exchange, false);
        drop(permit);
    }));
    Ok(())
}

fn run(mut exchange: Box<Exchange>, inline: bool) {
    watched(exchange.call(inline), |generation| {
        let outcome = match generation.servlet(exchange.servlet()) {
            Some(servlet) => servlet.service(&mut *exchange),
            None => Outcome::Next,
        };
        match outcome {
            Outcome::Done => exchange.finish(),
            Outcome::Next => {
                let response = exchange.next();
                exchange.answer(response);
            }
            Outcome::Failed(status, text) => exchange.failed(status, &text),
        }
    });
}

fn pool_busy(context: &Context, busy: Busy) -> Response<ResponseBody> {
    let text = match busy {
        Busy::QueueFull => "its queue is full (queue_max)",
        Busy::WaitedTooLong => "a request waited too long for a thread (queue_timeout)",
    };
    tracing::warn!(context = %context.name, "a request was answered 503: all threads are busy, and {text}");
    answer::unavailable(1, "All threads of this application are busy.")
}

/// What the container answers in a servlet's place, because of the method (SEMANTICS 13).
fn by_method(method: &Method, methods: u32) -> Option<Response<ResponseBody>> {
    const NAMES: [(&str, u32); 8] = [
        ("GET", SV_GET),
        ("HEAD", SV_HEAD),
        ("POST", SV_POST),
        ("PUT", SV_PUT),
        ("DELETE", SV_DELETE),
        ("PATCH", SV_PATCH),
        ("OPTIONS", SV_OPTIONS),
        ("TRACE", SV_TRACE),
    ];
    if methods == 0 {
        return None;
    }
    // GET has HEAD with it, and OPTIONS is the container's.
    let all = methods | if methods & SV_GET != 0 { SV_HEAD } else { 0 };
    let Some(&(_, bit)) = NAMES.iter().find(|(name, _)| *name == method.as_str()) else {
        return (methods & SV_METHOD_OTHER == 0).then(|| answer::page(StatusCode::NOT_IMPLEMENTED, ""));
    };
    if all & bit != 0 {
        return None;
    }
    let allow: Vec<&str> =
        NAMES.iter().filter(|(_, bit)| (all | SV_OPTIONS) & bit != 0).map(|(name, _)| *name).collect();
    let allow = allow.join(", ");
    Some(if method == Method::OPTIONS { answer::options(&allow) } else { answer::not_allowed(&allow) })
}

/// Answers by the static files of a context, after the servlets had their chance.
pub fn file(request: &Request, context: &Context, path: &str) -> Response<ResponseBody> {
    match context.folder.load().lookup(path) {
        Found::File(file) => static_answer(request, file),
        Found::Directory if !path.ends_with('/') => {
            let mut location = format!("{}/", request.target.request_uri());
            if let Some(query) = request.target.query() {
                location.push('?');
                location.push_str(query);
            }
            answer::redirect(&location)
        }
        Found::Directory | Found::Missing => missing(request, context),
        Found::Forbidden => answer::page(StatusCode::FORBIDDEN, ""),
        Found::Failed(error) => {
            tracing::error!(context = %context.name, request = request.id, "a file cannot be opened: {error}");
            answer::page(StatusCode::INTERNAL_SERVER_ERROR, "")
        }
    }
}

fn missing(request: &Request, context: &Context) -> Response<ResponseBody> {
    match context.waiting() {
        Waiting::No => answer::page(status_when_missing(&request.headers), ""),
        Waiting::Starting => answer::unavailable(1, "This application is starting."),
        Waiting::Building => answer::unavailable(2, "This application is being built. Try again in a moment."),
        Waiting::Failed => answer::unavailable(10, "This application has not started; the server's log says why."),
    }
}

fn static_answer(request: &Request, file: serval_static_files::File) -> Response<ResponseBody> {
    match request.method {
        Method::GET | Method::HEAD | Method::POST => {
            let method = if request.method == Method::HEAD { Method::HEAD } else { Method::GET };
            let (head, body) = respond(file, &method, &request.headers).into_parts();
            if head.status.is_client_error() || head.status.is_server_error() {
                let mut page = answer::page(head.status, "");
                page.headers_mut().extend(head.headers);
                return page;
            }
            Response::from_parts(head, ResponseBody::File(body))
        }
        Method::OPTIONS => answer::options("OPTIONS, GET, HEAD, POST"),
        _ => answer::not_allowed("OPTIONS, GET, HEAD, POST"),
    }
}

/// The servlets and files that a path ending in a slash may stand for (SEMANTICS 8).
pub fn welcome(context: &Context, generation: &Generation, path: &str) -> Option<Welcome> {
    for entry in generation.welcome_files() {
        let path = format!("{path}{entry}");
        let mapper = &generation.mapper;
        if let Some(found) = mapper.find_exact(&path).or_else(|| mapper.find_path(&path)) {
            return Some(Welcome::Servlet(found, path));
        }
        if let Found::File(_) = context.folder.load().lookup(&path) {
            return Some(match mapper.find_extension(&path) {
                Some(found) => Welcome::Servlet(found, path),
                None => Welcome::File(path),
            });
        }
    }
    let entries = generation.welcome_files();
    entries
        .map(|entry| format!("{path}{entry}"))
        .find_map(|path| Some(Welcome::Servlet(generation.mapper.find_extension(&path)?, path)))
}

pub enum Welcome {
    /// With the path that it was found by.
    Servlet(Match, String),
    File(String),
}

/// Only so that the deployment need not know how servlets are made.
pub fn servlet_count(generation: &Generation) -> usize {
    (0..).map_while(|number| generation.servlet(number)).map(Servlet::name).count()
}
