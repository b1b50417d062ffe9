//! The response, as it is lent to a servlet.

use std::borrow::Cow;
use std::{fmt, io};

use serval_abi::{SV_HEADER_ADD, SV_HEADER_REMOVE, SV_HEADER_SET, sv_pair, sv_str};

use crate::host::{Content, Exchange};
use crate::{Cookie, Result};

/// The response to a request.
///
/// Either a whole answer in one go, with [`text`](Response::text), [`html`](Response::html), [`bytes`](Response::bytes),
/// [`redirect`](Response::redirect) or [`error`](Response::error); or piece by piece, with [`write`](Response::write),
/// `write!` and [`io::Write`]. What is written is held in a buffer until it is full, flushed, or the servlet returns; then
/// the response is *committed*, and its status and headers cannot be changed any more. Writing waits while the client is
/// slow. A servlet that does nothing answers with 200 and an empty body.
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
}

impl Response {
    pub(crate) fn new(exchange: Exchange) -> Response {
        Response { exchange, status: None, typed: false }
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

    fn respond(&mut self, content_type: &str, content: Content<'_>) -> Result {
        // What went before may have chosen the status: on the way to an error page it is that of the error.
        let status = match self.status {
            Some(status) => status,
            None => self.exchange.response_status()?,
        };
        let header = [sv_pair { name: sv_str::new("content-type"), value: sv_str::new(content_type) }];
        self.exchange.respond(status, if self.typed { &[] } else { &header }, content)
    }

    /// Ends a chain of calls without a body: `response.status(204)?.done()`.
    pub fn done(&mut self) -> Result {
        Ok(())
    }

    /// Writes a piece of the body.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result {
        self.exchange.write(Content::Copied(bytes.as_ref()))
    }

    /// Writes a piece of the body, and keeps it in place of a copy.
    pub fn write_owned(&mut self, bytes: impl Into<Vec<u8>>) -> Result {
        self.exchange.write(Content::Owned(bytes.into()))
    }

    /// For `write!(response, ...)`.
    pub fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> Result {
        match arguments.as_str() {
            Some(text) => self.write(text),
            // One call for all pieces.
            None => self.write(fmt::format(arguments)),
        }
    }

    /// Commits the response and sends what was written.
    pub fn flush(&mut self) -> Result {
        self.exchange.flush()
    }

    /// Answers with 302 and a `Location`, as it stands.
    pub fn redirect(&mut self, location: &str) -> Result {
        self.exchange.redirect(location)
    }

    /// Answers with the error page for `status` (400 to 599), as a servlet does that returns
    /// [`Err(error(status, text))`](crate::error()). The text is for the log, and for clients only in development.
    pub fn error(&mut self, status: u16, text: &str) -> Result {
        self.exchange.send_error(status, text)
    }

    /// Tells whether status and headers are fixed.
    pub fn is_committed(&self) -> Result<bool> {
        self.exchange.committed()
    }

    /// Forgets status, headers and what was written; an error when the response is committed.
    pub fn reset(&mut self) -> Result<&mut Response> {
        self.exchange.reset()?;
        (self.status, self.typed) = (None, false);
        Ok(self)
    }

    /// Forgets what was written; an error when the response is committed.
    pub fn reset_buffer(&mut self) -> Result<&mut Response> {
        self.exchange.reset_buffer()?;
        Ok(self)
    }
}

fn of_text(text: Cow<'_, str>) -> Content<'_> {
    match text {
        Cow::Borrowed(text) => Content::Copied(text.as_bytes()),
        Cow::Owned(text) => Content::Owned(text.into_bytes()),
    }
}

fn of_bytes(bytes: Cow<'_, [u8]>) -> Content<'_> {
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
