//! `serval dev`: the browser shows what does not build or start, and reloads the page when a new generation serves.
//!
//! Each HTML page gets a script at its end; it listens to an event stream. Both have paths that no webapp can have
//! (`/.serval/dev.js`, `/.serval/dev`: names that start with a dot are never served). Without the command, nothing of this runs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, RANGE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use serval_config::{Origin, Server, Setting, Value as SettingValue};
use serval_container::{Answering, BodyError, Event};
use tokio::sync::watch;

const SCRIPT: &str = include_str!("dev.js");
/// So that a client that has left is noticed.
const PING: Duration = Duration::from_secs(5);
/// LIMIT: bytes of one trouble that are shown; a compiler may say the same for a thousand lines.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

static DEV: OnceLock<Dev> = OnceLock::new();

/// What is known of all webapps.
pub struct Dev {
    news: watch::Sender<News>,
    /// What the build that runs has said of errors.
    said: Mutex<String>,
}

#[derive(Clone, Default)]
struct News {
    /// Counts up with each generation that begins to serve.
    count: u64,
    /// By context: which of these was its last one.
    served: BTreeMap<String, u64>,
    /// By context: what is wrong, and all that is said of it.
    troubles: BTreeMap<String, (&'static str, String)>,
}

impl News {
    fn shown(&self) -> Value {
        let troubles = self.troubles.iter().map(|(context, (what, text))| {
            json!({ "context": context, "what": what, "text": text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)) })
        });
        json!({ "served": self.served, "troubles": troubles.collect::<Vec<_>>() })
    }
}

/// The command was given: once, before anything is served.
pub fn begin() {
    // Beyond what pages have of an earlier server.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = since.as_secs();
    let _ = DEV.set(Dev { news: watch::Sender::new(News { count, ..News::default() }), said: Mutex::default() });
}

/// `None`: this is no `serval dev`.
pub fn dev() -> Option<&'static Dev> {
    DEV.get()
}

/// Something has become of a webapp.
pub fn tell(event: &Event) {
    let Some(dev) = dev() else { return };
    dev.news.send_modify(|news| match event.state {
        "ready" => {
            news.count += 1;
            news.troubles.remove(&event.context);
            news.served.insert(event.context.clone(), news.count);
        }
        "refused" => {
            news.troubles.insert(event.context.clone(), ("the new generation is refused", event.detail.clone()));
        }
        "gone" => {
            news.troubles.remove(&event.context);
            news.served.remove(&event.context);
        }
        _ => {}
    });
}

/// Makes a configuration that was read, and what is told of it, as it counts: in a server of who develops, reasons are shown and sources
/// are built, whatever it says.
pub fn adapt(server: &mut Server, settings: &mut [Setting]) {
    if DEV.get().is_none() {
        return;
    }
    (server.development, server.sources) = (true, true);
    for setting in settings {
        if let ("server", "development") | ("build", "sources") = (&*setting.table, &*setting.key) {
            (setting.value, setting.from) = (SettingValue::Shown("true".to_owned()), Origin::Command("serval dev"));
        }
    }
}

/// The sources of a webapp do not build.
pub fn build_failed(context: &str, why: &str) {
    if let Some(dev) = dev() {
        let said = std::mem::take(&mut *dev.said.lock().unwrap_or_else(PoisonError::into_inner));
        let trouble = ("the build failed", if said.is_empty() { why.to_owned() } else { said });
        dev.news.send_modify(|news| drop(news.troubles.insert(context.to_owned(), trouble)));
    }
}

/// They build, after all.
pub fn built(context: &str) {
    if let Some(dev) = dev() {
        dev.news.send_if_modified(|news| news.troubles.remove(context).is_some());
    }
}

pub type DevBody = UnsyncBoxBody<Bytes, BodyError>;

impl Dev {
    /// A build has failed, and has said this; builds run one at a time.
    pub fn heard(&self, said: &[u8]) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = without_colours(&String::from_utf8_lossy(said));
    }

    /// What the script and its stream are answered; else what `answer` answers, with the script if it is a page.
    pub async fn answer<B>(
        &self,
        mut request: Request<B>,
        stopped: &watch::Receiver<bool>,
        answer: impl FnOnce(Request<B>) -> Answering,
    ) -> Result<Response<DevBody>, Infallible> {
        match request.uri().path() {
            "/.serval/dev.js" => return Ok(of_type("text/javascript; charset=utf-8", Full::from(SCRIPT))),
            "/.serval/dev" => {
                return Ok(of_type("text/event-stream", Events::new(self.news.subscribe(), stopped.clone())));
            }
            _ => {}
        }
        // The page has to be whole, and as it is.
        let asks = asks_for_page(request.headers());
        if asks {
            request.headers_mut().remove(ACCEPT_ENCODING);
            request.headers_mut().remove(RANGE);
        }
        let (is_head, since) = (request.method() == Method::HEAD, self.news.borrow().count);
        let Ok(response) = answer(request).await;
        let (mut head, body) = response.into_parts();
        let is_page =
            asks && head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        let has_body = !is_head
            && !matches!(head.status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT);
        if !is_page || !has_body || head.headers.contains_key(CONTENT_ENCODING) {
            return Ok(Response::from_parts(head, body.boxed_unsync()));
        }
        head.headers.remove(CONTENT_LENGTH);
        // The next one is to come with the number of its time.
        head.headers.remove(ETAG);
        head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let tag = format!("<script src=\"/.serval/dev.js\" data-since=\"{since}\"></script>\n");
        let ended = Ended { body, tag: Some(tag.into()) };
        Ok(Response::from_parts(head, ended.boxed_unsync()))
    }
}

/// Without the sequences by which terminals set colours: ESC, `[`, numbers, and a letter.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let letter = part.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(part.len());
        let mut rest = part[letter..].chars();
        rest.next();
        plain.push_str(rest.as_str());
    }
    plain
}

fn asks_for_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(http::header::ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
    accept.windows(9).any(|part| part == b"text/html")
}

fn of_type<B>(kind: &'static str, body: B) -> Response<DevBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body with something behind it.
struct Ended<B> {
    body: B,
    tag: Option<Bytes>,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for Ended<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(task) {
            // Trailers are the end, and they count what was before them.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) => Poll::Ready(self.tag.take().map(|tag| Ok(Frame::data(tag)))),
            other => other,
        }
    }
}

type Waiting = Pin<Box<dyn Future<Output = (Option<Value>, watch::Receiver<News>, watch::Receiver<bool>)> + Send>>;

/// The stream: the news of now, and each time that there are others.
struct Events {
    first: Option<Bytes>,
    waiting: Option<Waiting>,
}

impl Events {
    fn new(mut news: watch::Receiver<News>, stopped: watch::Receiver<bool>) -> Events {
        news.mark_changed();
        Events { first: Some(Bytes::from_static(b"retry: 500\n\n")), waiting: Some(next(news, stopped)) }
    }
}

/// Waits for news; nothing: for long, or the server stops.
fn next(mut news: watch::Receiver<News>, mut stopped: watch::Receiver<bool>) -> Waiting {
    Box::pin(async move {
        let told = tokio::select! {
            changed = news.changed() => changed.ok().map(|()| news.borrow_and_update().shown()),
            () = tokio::time::sleep(PING) => None,
            () = crate::run::told(&mut stopped) => None,
        };
        (told, news, stopped)
    })
}

impl Body for Events {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(line) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(line))));
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(None) };
        let Poll::Ready((told, news, stopped)) = waiting.as_mut().poll(task) else { return Poll::Pending };
        if *stopped.borrow() {
            self.waiting = None;
            return Poll::Ready(None);
        }
        self.waiting = Some(next(news, stopped));
        let line = told.map_or_else(|| ":\n\n".to_owned(), |told| format!("data: {told}\n\n"));
        Poll::Ready(Some(Ok(Frame::data(line.into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out() {
        for (text, plain) in [
            ("", ""),
            ("error: no [x]\n", "error: no [x]\n"),
            ("\x1b[0m\x1b[1;38;5;9merror\x1b[0m\x1b[1m: mm\x1b[K\n", "error: mm\n"),
            ("cut \x1b[38;", "cut "),
            ("\x1b[\u{e9}t\u{e9}", "t\u{e9}"),
        ] {
            assert_eq!(without_colours(text), plain, "{text:?}");
        }
    }
}
