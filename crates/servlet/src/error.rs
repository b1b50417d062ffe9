//! Why a servlet did not answer by itself, and how its exchange is answered then.

use std::any::{Any, type_name};
use std::borrow::Cow;
use std::error::Error as StdError;
use std::{fmt, io};

use serval_abi::{
    SV_E_ARG, SV_E_BUSY, SV_E_CANCELLED, SV_E_CLOSED, SV_E_FAILED, SV_E_IO, SV_E_LIMIT, SV_E_NOMEM, SV_E_REQUEST,
    SV_E_STALE, SV_E_STATE, SV_E_THREAD, SV_E_TIMEOUT, SV_E_UNSUPPORTED, SV_OK, SV_WOULD_BLOCK, sv_status,
};

use crate::host::Exchange;

/// What servlets and most functions here return: `Result` alone is `Result<()>`.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// Why a servlet did not answer. Returned by it, it becomes the answer.
///
/// - [`error`]`(404, "...")`: the error page for that status.
/// - From any [`std::error::Error`], by `?`: 500, with a kind made from its type (`io/not-found`, `hello/db/Missing`), by
///   which web.toml can choose an error page, and its text with those of its sources for the log.
/// - From a function of this crate: what fits, for example 413 for a body that is too long.
///
/// When the response was committed before, the connection is cut, so that the client notices.
///
/// ```
/// use servlet::prelude::*;
///
/// #[servlet("/price")]
/// fn price(request: &Request, response: &mut Response) -> Result {
///     let Some(count) = request.param("count")? else {
///         return Err(error(400, "count is missing"));
///     };
///     let count: u32 = count.parse()?; // 500, for example
///     response.text(format!("{} EUR", count * 3))
/// }
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    answer: Answer,
    kind: Cow<'static, str>,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The error page for that status.
    Page(u16),
    /// 500, or the page for the kind; the code is what `service` returns.
    Fail(sv_status),
    /// The server has refused what the client sent, and knows the status that says so; the code is what `service` returns.
    Refused(sv_status),
    /// 503, with Retry-After if it is not 0.
    Unavailable(u32),
    /// Who was dispatched to has failed with this code, and has told the server why.
    Said(sv_status),
}

/// An error that is answered with the error page for `status` (400 to 599). The text is for the log, and for clients only
/// in development.
///
/// ```
/// let missing = servlet::error(404, "there is no item 7");
/// assert_eq!((missing.status(), missing.text()), (404, "there is no item 7"));
/// ```
pub fn error(status: u16, text: impl Into<String>) -> Error {
    let text = text.into();
    match status {
        400..=599 => Error::new(Answer::Page(status), "status", text),
        _ => Error::new(
            Answer::Fail(SV_E_FAILED),
            "status",
            format!("{status} is not an error status (400 to 599): {text}"),
        ),
    }
}

/// An error that says that the servlet cannot answer for so many seconds: 503 with Retry-After, and so does the server until
/// then, without calling it. With 0 it is for good: 404, until the library is replaced.
///
/// ```
/// assert_eq!(servlet::unavailable(30, "the shop is being counted").status(), 503);
/// ```
pub fn unavailable(seconds: u32, text: impl Into<String>) -> Error {
    Error::new(Answer::Unavailable(seconds), "unavailable", text.into())
}

impl Error {
    fn new(answer: Answer, kind: impl Into<Cow<'static, str>>, text: String) -> Error {
        Error(Box::new(Inner { answer, kind: kind.into(), text }))
    }

    /// Returns the status that it is answered with, unless an error page or the server knows better.
    pub fn status(&self) -> u16 {
        match self.0.answer {
            Answer::Page(status) => status,
            Answer::Fail(_) | Answer::Said(_) => 500,
            Answer::Refused(SV_E_REQUEST) => 400,
            Answer::Refused(SV_E_TIMEOUT) => 408,
            Answer::Refused(SV_E_LIMIT) => 413,
            Answer::Refused(_) => 503,
            Answer::Unavailable(0) => 404,
            Answer::Unavailable(_) => 503,
        }
    }

    /// Returns the kind, by which web.toml can choose an error page.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Returns the text for the log.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Returns the same error with another kind: words with `/` between, from the general to the special.
    ///
    /// ```
    /// # use servlet::prelude::*;
    /// # fn number(text: &str) -> Result<u32> {
    /// text.parse().map_err(|wrong: std::num::ParseIntError| Error::from(wrong).with_kind("shop/bad-number"))
    /// # }
    /// # assert_eq!(number("x").unwrap_err().kind(), "shop/bad-number");
    /// ```
    pub fn with_kind(mut self, kind: impl Into<Cow<'static, str>>) -> Error {
        self.0.kind = kind.into();
        // A page is chosen by status; a kind only matters to a failure.
        if matches!(self.0.answer, Answer::Page(500) | Answer::Said(_)) {
            self.0.answer = Answer::Fail(SV_E_FAILED);
        }
        self
    }

    /// An error status of the host's table; `doing` is its function.
    pub(crate) fn of_host(status: sv_status, doing: &str, said: &str) -> Error {
        let (kind, text) = match status {
            SV_E_ARG => ("servlet/argument", "an argument is not allowed"),
            SV_E_STATE => ("servlet/state", "not in this state; the response may be committed"),
            SV_E_THREAD => ("servlet/thread", "called on a thread that does not own the exchange"),
            SV_E_STALE => ("servlet/stale", "the exchange has ended"),
            SV_E_NOMEM => ("servlet/memory", "no memory"),
            SV_E_LIMIT => ("servlet/limit", "a configured limit was reached"),
            SV_E_CLOSED => ("client/closed", "the client has gone"),
            SV_E_TIMEOUT => ("client/timeout", "it took too long"),
            SV_E_CANCELLED => ("client/cancelled", "cancelled"),
            SV_E_UNSUPPORTED => ("servlet/unsupported", "this server does not offer it yet"),
            SV_E_IO => ("io", "input or output failed"),
            SV_E_REQUEST => ("client/request", "the request is malformed"),
            SV_E_BUSY => ("servlet/busy", "the server has no thread left"),
            SV_WOULD_BLOCK => {
                ("servlet/would-block", "it would have to wait, and an async servlet only waits with `.await`")
            }
            _ => ("servlet/internal", "the server failed"),
        };
        let text = if said.is_empty() { text } else { said };
        Error::new(Answer::Fail(status), kind, format!("{doing}: {text}"))
    }

    /// An error of who was dispatched to; returned, it is answered as that one's.
    pub(crate) fn said(status: sv_status, text: &str) -> Error {
        Error::new(Answer::Said(status), "servlet/dispatch", text.to_owned())
    }

    pub(crate) fn would_block(&self) -> bool {
        self.0.answer == Answer::Fail(SV_WOULD_BLOCK)
    }

    /// Tells whether the client has gone. Then an answer is of no use, and a stream just ends.
    ///
    /// ```
    /// assert!(!servlet::error(404, "there is no item 7").is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.0.answer == Answer::Fail(SV_E_CLOSED)
    }

    /// The same, of a function that reads what the client sends: what that does is no failure of the servlet.
    pub(crate) fn of_client(self) -> Error {
        let answer = match self.0.answer {
            Answer::Fail(code @ (SV_E_REQUEST | SV_E_TIMEOUT | SV_E_LIMIT | SV_E_BUSY)) => Answer::Refused(code),
            other => other,
        };
        Error(Box::new(Inner { answer, ..*self.0 }))
    }

    /// For `Read` and `Write`. It comes out again, whole, where the [`io::Error`] becomes an [`Error`] by `?`.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match self.0.answer {
            Answer::Fail(SV_E_CLOSED) => io::ErrorKind::BrokenPipe,
            Answer::Fail(SV_E_TIMEOUT) | Answer::Refused(SV_E_TIMEOUT) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, Carried(self))
    }

    /// Tells the server, and returns what `service` is to return.
    pub(crate) fn answer(&self, exchange: Exchange) -> sv_status {
        let Inner { answer, text, .. } = &*self.0;
        match *answer {
            // After the commit it is too late for a page; then the connection is cut, and the failure says why.
            Answer::Page(status) if exchange.committed().is_ok_and(|committed| !committed) => {
                if exchange.send_error(status, text).is_ok() {
                    return SV_OK;
                }
                SV_E_FAILED
            }
            Answer::Unavailable(seconds) => {
                let _ = exchange.unavailable(seconds, text);
                SV_E_FAILED
            }
            Answer::Page(_) | Answer::Fail(_) => self.fail(exchange),
            // Without a word of ours the server answers as it does to such a request.
            Answer::Refused(code) | Answer::Said(code) => code,
        }
    }

    /// Tells the server that it failed, whatever it would be answered with.
    pub(crate) fn fail(&self, exchange: Exchange) -> sv_status {
        // When it cannot be told, the returned code alone has to do.
        let _ = exchange.fail(&self.0.kind, &self.0.text);
        self.code()
    }

    pub(crate) fn code(&self) -> sv_status {
        match self.0.answer {
            // What is no error to the table has to become one.
            Answer::Fail(code) | Answer::Refused(code) | Answer::Said(code) if code < 0 => code,
            _ => SV_E_FAILED,
        }
    }
}

impl<E: StdError + 'static> From<E> for Error {
    fn from(error: E) -> Error {
        if let Some(carried) = carried(&error) {
            return carried.clone();
        }
        let kind = match (&error as &dyn Any).downcast_ref::<io::Error>() {
            Some(error) => io_kind(error.kind()),
            None => type_kind(type_name::<E>()),
        };
        Error::new(Answer::Fail(SV_E_FAILED), kind, chain(&error))
    }
}

/// An error of this crate on its way through `std::io`.
#[derive(Debug)]
struct Carried(Error);

impl fmt::Display for Carried {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl StdError for Carried {}

fn carried<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(Carried(found)) = inner.and_then(|inner| inner.downcast_ref::<Carried>()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The text of an error and of its sources. Many repeat their source's text in their own; it stands there once then.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// `NotFound` is `io/not-found`.
fn io_kind(kind: io::ErrorKind) -> String {
    let mut text = String::from("io/");
    for (at, letter) in format!("{kind:?}").char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// `hello::db::Missing<T>` is `hello/db/Missing`.
fn type_kind(name: &str) -> String {
    name.split('<').next().unwrap_or_default().replace("::", "/")
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}): {}", self.status(), self.0.kind, self.0.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: impl Into<Error>, expected: &str) {
        assert_eq!(format!("{:?}", error.into()), expected);
    }

    #[test]
    fn errors_say_status_kind_and_text() {
        check(error(404, "no item 7"), "404 (status): no item 7");
        check(error(200, "x"), "500 (status): 200 is not an error status (400 to 599): x");
        check(unavailable(3, "counting"), "503 (unavailable): counting");
        check("x".parse::<u32>().unwrap_err(), "500 (core/num/error/ParseIntError): invalid digit found in string");
        check(io::Error::from(io::ErrorKind::NotFound), "500 (io/not-found): entity not found");
        check(
            Error::of_host(SV_E_LIMIT, "read", "").of_client(),
            "413 (servlet/limit): read: a configured limit was reached",
        );
        check(Error::of_host(SV_E_STATE, "write", "it is committed"), "500 (servlet/state): write: it is committed");
    }

    #[test]
    fn an_error_survives_its_way_through_std_io() {
        check(error(413, "too long").into_io(), "413 (status): too long");
    }

    #[test]
    fn the_text_has_the_sources_once() {
        #[derive(Debug)]
        struct Outer(io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("cannot open the shop")
            }
        }
        impl StdError for Outer {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&self.0)
            }
        }
        let text = Error::from(Outer(io::Error::other("locked"))).text().to_owned();
        assert_eq!(text, "cannot open the shop: locked");
        let text = Error::from(Outer(error(413, "too long").into_io()));
        assert_eq!(text.status(), 413);
    }
}
