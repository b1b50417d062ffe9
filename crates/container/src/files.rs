//! Answers of the static servlet: the files of a webapp, after its servlets had their chance (SEMANTICS 14).
//!
//! Called by `dispatch`, and by `exchange` where filters or an include are around it, or a body has to be read.

use std::io::ErrorKind;

use http::header::VARY;
use http::{HeaderValue, Method, Response, StatusCode};
use serval_config::{ContextSettings, Web};
use serval_static_files::{
    Body, CacheRule, File, Found, Options, Patience, ReadFailure, Refused, accepts_by_name, respond, respond_at_once,
    status_when_missing,
};

use crate::answer::{self, Answered};
use crate::body::ResponseBody;
use crate::context::{Context, Waiting};
use crate::exchange::Request;
use crate::generation::Generation;
use crate::problem::Problem;

/// What a webapp's folder is opened with.
pub fn options(settings: &ContextSettings, web: &Web) -> Options {
    let files = &web.files;
    let cache_control = files.cache_control.iter().map(|rule| CacheRule {
        url_patterns: rule.url_patterns.clone(),
        types: rule.types.clone(),
        value: rule.value.clone(),
    });
    let coded = files.precompressed.iter().map(|variant| (variant.coding.clone(), variant.extension.clone()));
    Options {
        symlinks_outside: settings.symlinks_outside,
        mime: web.mime.clone(),
        writable: files.writable,
        partial_put: files.partial_put,
        post_as_get: files.post_as_get,
        listings: files.listings,
        strong_etags: files.strong_etags,
        precompressed: coded.collect(),
        fallback: files.fallback.clone(),
        cache_control: cache_control.collect(),
    }
}

/// Who asks for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The request of the client.
    Client,
    /// A forward from a servlet.
    Forward,
}

/// Answers where nothing may wait; `None`: it has to be asked where the request has an exchange and a thread that may block.
pub fn answer_at_once(request: &Request, context: &Context, generation: &Generation) -> Option<Answered> {
    Asked { request, context, generation, asker: Asker::Client, patience: Patience::None }.answer()
}

/// Answers for the path that the target has now; `None`: a file is to be changed.
pub fn answer(request: &Request, context: &Context, generation: &Generation, asker: Asker) -> Option<Answered> {
    Asked { request, context, generation, asker, patience: Patience::Long }.answer()
}

/// Why a PUT or DELETE has changed nothing.
pub fn unchanged(request: &Request, context: &Context, generation: &Generation, refused: &Refused) -> Box<Problem> {
    let asked = Asked { request, context, generation, asker: Asker::Client, patience: Patience::Long };
    match refused {
        Refused::With(StatusCode::METHOD_NOT_ALLOWED) => Problem::not_allowed(&allowed(request, generation)),
        // Of what does not fit, the rest is not waited for.
        Refused::With(status @ (StatusCode::PAYLOAD_TOO_LARGE | StatusCode::INSUFFICIENT_STORAGE)) => {
            Problem::closing(*status)
        }
        Refused::With(status @ StatusCode::CONFLICT) => {
            Problem::new(*status).because_public("There is no folder to put it in, or what is there is no file.")
        }
        Refused::With(status) => Problem::new(*status),
        Refused::Failed(error) => asked.failed(error),
    }
}

/// The methods that files have, as Tomcat lists them, for Allow.
pub fn allowed(request: &Request, generation: &Generation) -> String {
    let options = generation.folder.options();
    let traced = request.peer.listener.allow_trace;
    let mut allow = "OPTIONS, GET, HEAD".to_owned();
    for (is_allowed, methods) in
        [(options.post_as_get, ", POST"), (options.writable, ", PUT, DELETE"), (traced, ", TRACE")]
    {
        if is_allowed {
            allow.push_str(methods);
        }
    }
    allow
}

/// Says whether the answer may have to wait: for a client's body, the whole of a large file, or a long list.
pub fn may_block(request: &Request, generation: &Generation) -> bool {
    let options = generation.folder.options();
    options.strong_etags
        || (options.writable && writes(&request.method))
        || (options.listings && request.target.path().ends_with('/'))
}

/// What an include, or an error page, finds at a path.
pub enum Content {
    /// With its type.
    File(ResponseBody, Option<HeaderValue>),
    /// It adds nothing: its redirect or 404 is not the includer's answer (Servlet 9.3).
    Directory,
    Missing,
}

/// The content of a file, of which the request's conditions and ranges say nothing.
pub fn content(generation: &Generation, path: &str) -> Content {
    let file = match generation.folder.lookup(path) {
        Found::File(file) => file,
        Found::Directory => return Content::Directory,
        _ => return Content::Missing,
    };
    let content_type = file.content_type().cloned();
    match serval_static_files::content(file) {
        Ok(body) => Content::File(ResponseBody::File(body), content_type),
        Err(error) => {
            tracing::error!(context = %generation.context, path, "a file cannot be read: {error}");
            Content::Missing
        }
    }
}

fn writes(method: &Method) -> bool {
    method == Method::PUT || method == Method::DELETE
}

/// One question to the static servlet.
struct Asked<'a> {
    request: &'a Request,
    context: &'a Context,
    generation: &'a Generation,
    asker: Asker,
    patience: Patience,
}

impl Asked<'_> {
    /// By the method (SEMANTICS 13). `None`: not without waiting, or not by reading.
    fn answer(&self) -> Option<Answered> {
        let method = &self.request.method;
        if *method == Method::GET || *method == Method::HEAD || (*method == Method::POST && self.reads_by_post()) {
            return self.read();
        }
        if let Some(waiting) = waiting(self.context) {
            return Some(Err(waiting));
        }
        let options = self.generation.folder.options();
        if options.writable && writes(method) {
            return None;
        }
        Some(match *method {
            Method::TRACE if self.request.peer.listener.allow_trace => Ok(answer::trace(self.request)),
            Method::OPTIONS => Ok(answer::options(&allowed(self.request, self.generation))),
            Method::POST | Method::PUT | Method::DELETE | Method::PATCH | Method::TRACE => {
                Err(Problem::not_allowed(&allowed(self.request, self.generation)))
            }
            _ => Err(Problem::new(StatusCode::NOT_IMPLEMENTED)),
        })
    }

    /// A servlet that forwards has decided already what its POST means.
    fn reads_by_post(&self) -> bool {
        self.asker == Asker::Forward || self.generation.folder.options().post_as_get
    }

    fn read(&self) -> Option<Answered> {
        let path = self.request.target.path();
        // The context's root, where the container itself does not redirect it.
        if path.is_empty() {
            return Some(self.redirect());
        }
        match self.generation.folder.lookup(path) {
            Found::File(file) => self.file(path, file),
            Found::Directory if !path.ends_with('/') => Some(self.redirect()),
            Found::Directory if self.generation.folder.options().listings => self.list(path),
            Found::Directory | Found::Missing => self.missing(),
            Found::Forbidden => Some(Err(Problem::new(StatusCode::FORBIDDEN))),
            Found::Failed(error) => Some(Err(self.failed(&error))),
        }
    }

    fn file(&self, path: &str, file: File) -> Option<Answered> {
        let (method, headers) = (&self.request.method, &self.request.headers);
        let response = match self.patience {
            Patience::None => respond_at_once(&self.generation.folder, path, file, method, headers)?,
            Patience::Long => respond(&self.generation.folder, path, file, method, headers),
        };
        Some(self.or_problem(response))
    }

    /// Errors have no body yet.
    fn or_problem(&self, response: Response<Body>) -> Answered {
        let (head, body) = response.into_parts();
        if let Some(ReadFailure(error)) = head.extensions.get() {
            return Err(self.failed(error));
        }
        if head.status.is_client_error() {
            let mut problem = Problem::new(head.status);
            problem.headers = head.headers;
            return Err(problem);
        }
        Ok(Response::from_parts(head, ResponseBody::File(body)))
    }

    /// To the slash of a directory, with the query (SEMANTICS 6).
    fn redirect(&self) -> Answered {
        let mut location = format!("{}/", self.request.target.request_uri());
        if let Some(query) = self.request.target.query() {
            location.push('?');
            location.push_str(query);
        }
        answer::redirect(self.request, self.generation.redirect_status(), &location)
    }

    fn list(&self, path: &str) -> Option<Answered> {
        if self.patience == Patience::None {
            return None;
        }
        match self.generation.folder.list(path) {
            Ok(Some(listing)) => {
                let Request { method, target, headers, .. } = self.request;
                let response = listing.respond(method, target.query(), headers, &self.context.path);
                Some(Ok(response.map(ResponseBody::Full)))
            }
            Ok(None) => self.missing(),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Some(Err(Problem::new(StatusCode::FORBIDDEN))),
            Err(error) => Some(Err(self.failed(&error))),
        }
    }

    /// Nothing that can be sent is there: an application that starts may have it soon, or a page of its own.
    fn missing(&self) -> Option<Answered> {
        if let Some(waiting) = waiting(self.context) {
            return Some(Err(waiting));
        }
        if let Some(fallback) = &self.generation.folder.options().fallback
            && (self.request.method == Method::GET || self.request.method == Method::HEAD)
            && self.asker == Asker::Client
        {
            return self.fallback(&format!("/{fallback}"));
        }
        Some(Err(self.not_found()))
    }

    /// The page of a single-page application, for a path where nothing is (`[files] fallback`).
    ///
    /// It stands for what people navigate to. A name with an extension is most often a script, style or picture that a page
    /// needs: there the page would be read as one, and hide that the file is missing; so it is only sent to who asks for
    /// HTML, as browsers do for an address that is typed in (`/users/jane.doe`). nginx's `try_files` sends it for all paths,
    /// development servers by this rule.
    fn fallback(&self, page: &str) -> Option<Answered> {
        let by_accept = self.request.target.path().rsplit('/').next().is_some_and(|name| name.contains('.'));
        let is_wanted = !by_accept || accepts_by_name(&self.request.headers, "text/html");
        let mut answered = match is_wanted.then(|| self.generation.folder.lookup(page)) {
            Some(Found::File(file)) => self.file(page, file)?,
            _ => Err(self.not_found()),
        };
        if by_accept {
            let headers = match &mut answered {
                Ok(response) => response.headers_mut(),
                Err(problem) => &mut problem.headers,
            };
            headers.append(VARY, HeaderValue::from_static("accept"));
        }
        Some(answered)
    }

    fn not_found(&self) -> Box<Problem> {
        Problem::new(status_when_missing(&self.request.headers))
    }

    fn failed(&self, error: &std::io::Error) -> Box<Problem> {
        let (context, request, path) = (&self.context.name, self.request.id, self.request.target.path());
        tracing::error!(%context, request, path, "a file cannot be used: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR).because(error.to_string())
    }
}

/// The answer of an application that is not there yet.
fn waiting(context: &Context) -> Option<Box<Problem>> {
    let (retry_after, reason) = match context.waiting() {
        Waiting::No => return None,
        Waiting::Starting => (1, "This application is starting."),
        Waiting::Building => (2, "This application is being built. Try again in a moment."),
        Waiting::Failed => (10, "This application has not started; the server's log says why."),
    };
    Some(Problem::unavailable(retry_after).because_public(reason))
}
