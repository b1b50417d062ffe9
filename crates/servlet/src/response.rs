//! The response, as it is lent to a servlet.

use std::borrow::Cow;
use std::{fmt, io};

use serval_abi::{SV_HEADER_ADD, SV_HEADER_REMOVE, SV_HEADER_SET, sv_pair, sv_str};

use crate::host::{self, Content, Exchange, waiting};
use crate::stream::Stream;
use crate::{Cookie, EventStream, Request, Result, error};

/// The response to a request.
///
/// Either a whole answer in one go, with [`text`](Response::text), [`html`](Response::html), [`bytes`](Response::bytes),
/// [`redirect`](Response::redirect) or [`error`](Response::error); or piece by piece, with [`write`](Response::write),
/// `write!` and [`io::Write`]. What is written is held in a buffer until it is full, flushed, or the servlet returns; then
/// the response is *committed*, and its status and headers cannot be changed any more. Writing waits while the client is
/// slow. A servlet that does nothing answers with 200 and an empty body.
///
/// In an async servlet nothing waits but with `.await`. So what is written there is held until the servlet returns, up to
/// 1 MiB, and longer or endless answers go through [`stream`](Response::stream) or [`events`](Response::events).
///
/// ```
/// use servlet::prelude::*;
///
/// #[servlet("/squares")]
/// fn squares(_: &Request, response: &mut Response) -> Result {
///     response.status(200)?.content_type("text/csv; charset=utf-8")?;
///     for number in 1..=1000_u64 {
///         write!(response, "{number},{}\n", number * number)?;
///     }
///     Ok(())
/// }
/// ```
pub struct Response {
    exchange: Exchange,
    /// What the servlet chose, if it did.
    status: Option<u16>,
    typed: bool,
    output: Output,
}

/// Where [`Response::write`] writes to.
enum Output {
    Server,
    /// In an async servlet: here, until the end or until `stream`.
    Held(Vec<u8>),
    /// After `stream`, too; but the response may be committed.
    Streamed(Vec<u8>),
}

/// LIMIT: what an async servlet may write without `stream`.
const HELD_BYTES_MAX: usize = 1024 * 1024;

impl Response {
    pub(crate) fn new(exchange: Exchange) -> Response {
        Response { exchange, status: None, typed: false, output: Output::Server }
    }

    /// For a servlet that must not wait in a call.
    pub(crate) fn held(exchange: Exchange) -> Response {
        Response { output: Output::Held(Vec::new()), ..Response::new(exchange) }
    }

    /// Sends what is held, at the end of an async servlet, and then lets another one go on, which may write more.
    pub(crate) async fn settle(&mut self, request: &Request) -> Result {
        match &mut self.output {
            Output::Server => Ok(()),
            Output::Held(bytes) if bytes.is_empty() => Ok(()),
            Output::Held(bytes) if request.goes_to().get().is_some() => write_all_owned(self.exchange, bytes).await,
            Output::Held(bytes) => {
                // In one go, which never waits.
                let bytes = std::mem::take(bytes);
                let status = self.exchange.response_status()?;
                self.exchange.respond(status, &[], Content::Owned(bytes))
            }
            Output::Streamed(bytes) => write_all_owned(self.exchange, bytes).await,
        }?;
        request.go_on().await
    }

    /// What was written is of no use any more.
    fn forget_held(&mut self) {
        if let Output::Held(bytes) | Output::Streamed(bytes) = &mut self.output {
            bytes.clear();
        }
    }

    /// Sets the status, 200 to 599.
    pub fn status(&mut self, status: u16) -> Result<&mut Response> {
        self.exchange.set_status(status)?;
        self.status = Some(status);
        Ok(self)
    }

    /// Sets a header, in place of all of that name.
    pub fn header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<&mut Response> {
        self.exchange.set_header(SV_HEADER_SET, name, value.as_ref())?;
        self.typed |= name.eq_ignore_ascii_case("content-type");
        Ok(self)
    }

    /// Adds a header to those of that name.
    pub fn add_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<&mut Response> {
        self.exchange.set_header(SV_HEADER_ADD, name, value.as_ref())?;
        self.typed |= name.eq_ignore_ascii_case("content-type");
        Ok(self)
    }

    /// Removes all headers of that name.
    pub fn remove_header(&mut self, name: &str) -> Result<&mut Response> {
        self.exchange.set_header(SV_HEADER_REMOVE, name, b"")?;
        self.typed &= !name.eq_ignore_ascii_case("content-type");
        Ok(self)
    }

    /// Sets the type of the body, such as `text/csv; charset=utf-8`.
    pub fn content_type(&mut self, content_type: &str) -> Result<&mut Response> {
        self.exchange.set_content_type(content_type)?;
        self.typed = true;
        Ok(self)
    }

    /// Sets the charset that is told with the type of the body; of this and one in [`content_type`](Response::content_type) the
    /// later one wins.
    pub fn charset(&mut self, charset: &str) -> Result<&mut Response> {
        self.exchange.set_charset(charset)?;
        Ok(self)
    }

    /// Sets how many bytes are held before the response is committed, up to 16 MiB; an error when something was written.
    pub fn buffer_size(&mut self, bytes: usize) -> Result<&mut Response> {
        self.exchange.set_buffer_size(bytes)?;
        Ok(self)
    }

    /// Sets a trailer field, which is sent behind the body to clients that ask for trailers (RFC 9110 6.5): a checksum, for
    /// example. Its name has to be known before the response is committed: set it once before, or name it in a header
    /// `Trailer`.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/data")]
    /// fn data(_: &Request, response: &mut Response) -> Result {
    ///     response.header("trailer", "x-count")?.write("one two three")?;
    ///     response.flush()?;
    ///     response.trailer("x-count", "3")?.done()
    /// }
    /// ```
    pub fn trailer(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<&mut Response> {
        self.exchange.set_trailer(name, value.as_ref())?;
        Ok(self)
    }

    /// Tells the client at once what the response will need, in a response 103 (Early Hints, RFC 8297) before it: a browser fetches
    /// what the header `link` names while the servlet is still at work. Whether it was sent; to a client with HTTP/1.0 it cannot be,
    /// and many others pass it over. An error when the response is committed.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/report", blocking)]
    /// fn report(_: &Request, response: &mut Response) -> Result {
    ///     response.early_hints([("link", "</style.css>; rel=preload; as=style")])?;
    ///     let rows = asks_the_database();
    ///     response.html(format!("<link rel=stylesheet href=/style.css><p>{rows} rows"))
    /// }
    /// # fn asks_the_database() -> u32 { 1 }
    /// ```
    pub fn early_hints<'a>(&mut self, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<bool> {
        let pair = |(name, value): (&str, &str)| sv_pair { name: sv_str::new(name), value: sv_str::new(value) };
        let pairs: Vec<sv_pair> = headers.into_iter().map(pair).collect();
        self.exchange.hint(&pairs)
    }

    /// Returns the URL with the id of the client's session, if it leads into this webapp, the webapp's sessions are tracked by
    /// URL too, and the client has shown no cookie yet (Servlet 7.1.3); else as it is.
    pub fn encode_url(&self, url: &str) -> Result<String> {
        let encoded = self.exchange.encode_url(url)?;
        // SAFETY: it lives until `service` returns, and is copied before.
        let encoded = encoded.and_then(|encoded| unsafe { host::text(encoded) });
        Ok(encoded.unwrap_or(url).to_owned())
    }

    /// Sets the length of the body; what is written beyond is dropped. Without it a body that does not fit into the buffer
    /// goes out in chunks.
    pub fn content_length(&mut self, bytes: u64) -> Result<&mut Response> {
        self.exchange.set_content_length(bytes)?;
        Ok(self)
    }

    /// Adds a cookie.
    pub fn cookie(&mut self, cookie: &Cookie<'_>) -> Result<&mut Response> {
        cookie.lend(|cookie| self.exchange.set_cookie(cookie))?;
        Ok(self)
    }

    /// Answers with text in one go: `text/plain; charset=utf-8`, unless a content type was set before.
    ///
    /// A long `String` is handed over without copying.
    pub fn text<'a>(&mut self, text: impl Into<Cow<'a, str>>) -> Result {
        self.respond("text/plain; charset=utf-8", of_text(text.into()))
    }

    /// Answers with a page in one go: `text/html; charset=utf-8`, unless a content type was set before. Values that come
    /// from outside are to be put in through [`escape`](crate::escape).
    pub fn html<'a>(&mut self, html: impl Into<Cow<'a, str>>) -> Result {
        self.respond("text/html; charset=utf-8", of_text(html.into()))
    }

    /// Answers with bytes in one go: `application/octet-stream`, unless a content type was set before.
    pub fn bytes<'a>(&mut self, bytes: impl Into<Cow<'a, [u8]>>) -> Result {
        self.respond("application/octet-stream", of_bytes(bytes.into()))
    }

    /// Answers as [`bytes`](Response::bytes) with what is part of the library, such as `include_bytes!`, without copying.
    pub fn static_bytes(&mut self, bytes: &'static [u8]) -> Result {
        self.respond("application/octet-stream", Content::Static(bytes))
    }

    pub(crate) fn respond(&mut self, content_type: &str, content: Content<'_>) -> Result {
        // What went before may have chosen the status: on the way to an error page it is that of the error.
        let status = match self.status {
            Some(status) => status,
            None => self.exchange.response_status()?,
        };
        let header = [sv_pair { name: sv_str::new("content-type"), value: sv_str::new(content_type) }];
        self.exchange.respond(status, if self.typed { &[] } else { &header }, content)?;
        self.forget_held();
        Ok(())
    }

    /// Ends a chain of calls without a body: `response.status(204)?.done()`.
    pub fn done(&mut self) -> Result {
        Ok(())
    }

    /// Writes a piece of the body. In an async servlet: up to 1 MiB in all.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result {
        let bytes = bytes.as_ref();
        match &mut self.output {
            Output::Server => self.exchange.write(bytes),
            Output::Held(held) | Output::Streamed(held) if held.len() + bytes.len() <= HELD_BYTES_MAX => {
                held.extend_from_slice(bytes);
                Ok(())
            }
            Output::Held(_) | Output::Streamed(_) => Err(error(
                500,
                "an async servlet may write 1 MiB before it returns; write more with `response.stream().await?`",
            )),
        }
    }

    /// Writes a piece of the body, and keeps it in place of a copy.
    pub fn write_owned(&mut self, bytes: impl Into<Vec<u8>>) -> Result {
        let mut bytes = bytes.into();
        match &self.output {
            Output::Server if bytes.len() > host::COPY_MAX => self.exchange.write_owned(&mut bytes),
            _ => self.write(bytes),
        }
    }

    /// In an async servlet: goes over to writing piece by piece, with `.await` where the client is slow. What was written
    /// before goes out first; status and headers are fixed with the first flush, or when the buffer is full.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/numbers")]
    /// async fn numbers(_: &Request, response: &mut Response) -> Result {
    ///     let mut stream = response.content_type("text/plain; charset=utf-8")?.stream().await?;
    ///     for number in 1..=1_000_000 {
    ///         stream.write(format!("{number}\n")).await?;
    ///     }
    ///     stream.finish().await
    /// }
    /// ```
    pub async fn stream(&mut self) -> Result<Stream<'_>> {
        if let Output::Held(held) = &mut self.output {
            self.output = Output::Streamed(std::mem::take(held));
        }
        if let Output::Streamed(held) = &mut self.output {
            write_all_owned(self.exchange, held).await?;
        }
        Ok(Stream::new(self.exchange))
    }

    /// In an async servlet: answers with server-sent events, as long as the client stays and the generation is the current
    /// one. Sets the content type, forbids caches and buffering proxies, and takes the time-out away.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// struct Shop {
    ///     sold: Broadcast<String>,
    /// }
    ///
    /// #[servlet("/sold")]
    /// async fn sold(shop: &Shop, _: &Request, response: &mut Response) -> Result {
    ///     let mut sold = shop.sold.subscribe();
    ///     let mut events = response.events().await?;
    ///     while let Some(message) = events.next(sold.recv()).await? {
    ///         let event = match message {
    ///             Ok(item) => Event::new().event("sold").data(item),
    ///             Err(RecvError::Lagged(lost)) => Event::new().event("lost").data(lost.to_string()),
    ///             Err(RecvError::Closed) => break,
    ///         };
    ///         events.send(&event).await?;
    ///     }
    ///     events.finish().await
    /// }
    /// ```
    pub async fn events(&mut self) -> Result<EventStream<'_>> {
        self.content_type("text/event-stream")?
            .header("cache-control", "no-cache")?
            .header("x-accel-buffering", "no")?;
        self.exchange.set_timeout(None)?;
        let mut stream = self.stream().await?;
        // So the client knows at once that it is connected.
        stream.flush().await?;
        Ok(EventStream::new(stream))
    }

    /// For `write!(response, ...)`.
    pub fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> Result {
        match arguments.as_str() {
            Some(text) => self.write(text),
            // One call for all pieces.
            None => self.write(fmt::format(arguments)),
        }
    }

    /// Commits the response and sends what was written. In an async servlet an error: there
    /// [`Stream::flush`](crate::Stream::flush) does it.
    pub fn flush(&mut self) -> Result {
        match self.output {
            Output::Server => self.exchange.flush(),
            _ => Err(error(500, "flush would have to wait; in an async servlet use `response.stream().await?`")),
        }
    }

    /// Answers with 302 and a `Location`: a path or a URL.
    pub fn redirect(&mut self, location: &str) -> Result {
        self.redirect_with(302, location)
    }

    /// Answers with another status of redirects (300 to 399, but 304), such as 303 after a form was taken, and a `Location`.
    pub fn redirect_with(&mut self, status: u16, location: &str) -> Result {
        self.exchange.redirect(status, location)?;
        self.forget_held();
        Ok(())
    }

    /// Answers with the error page for `status` (400 to 599), as a servlet does that returns
    /// [`Err(error(status, text))`](crate::error()). The text is for the log, and for clients only in development.
    pub fn error(&mut self, status: u16, text: &str) -> Result {
        self.exchange.send_error(status, text)?;
        self.forget_held();
        Ok(())
    }

    /// Tells whether status and headers are fixed.
    pub fn is_committed(&self) -> Result<bool> {
        self.exchange.committed()
    }

    /// Forgets status, headers and what was written; an error when the response is committed.
    pub fn reset(&mut self) -> Result<&mut Response> {
        self.exchange.reset()?;
        (self.status, self.typed) = (None, false);
        self.forget_held();
        Ok(self)
    }

    /// Forgets what was written; an error when the response is committed.
    pub fn reset_buffer(&mut self) -> Result<&mut Response> {
        self.exchange.reset_buffer()?;
        self.forget_held();
        Ok(self)
    }
}

/// In poll the server takes all of it or nothing.
pub(crate) async fn write_all_owned(exchange: Exchange, bytes: &mut Vec<u8>) -> Result {
    if bytes.is_empty() {
        return Ok(());
    }
    waiting(|| exchange.write_owned(bytes)).await
}

fn of_text(text: Cow<'_, str>) -> Content<'_> {
    match text {
        Cow::Borrowed(text) => Content::Copied(text.as_bytes()),
        Cow::Owned(text) => Content::Owned(text.into_bytes()),
    }
}

pub(crate) fn of_bytes(bytes: Cow<'_, [u8]>) -> Content<'_> {
    match bytes {
        Cow::Borrowed(bytes) => Content::Copied(bytes),
        Cow::Owned(bytes) => Content::Owned(bytes),
    }
}

impl io::Write for Response {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Response::write(self, bytes).map_err(crate::Error::into_io)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Response::flush(self).map_err(crate::Error::into_io)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Response")
    }
}
