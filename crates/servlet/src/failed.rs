//! What went wrong, as the servlet is told it that makes the page for it (Servlet 10.9).

use crate::{Request, Result};

/// Why an error page is being made; from [`Request::error`]. What is text and not UTF-8 is empty here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedRequest<'r> {
    /// 400 to 599. The page is answered with it, unless it sets another one than 200.
    pub status: u16,
    /// The text of the error, maybe empty: that of a servlet that has failed is told only to a page that is for its kind. It is for
    /// people who may know it: most often for a log, not for clients.
    pub message: &'r str,
    /// The kind of the error, such as `io/not-found`, if it has one; see [`Error::kind`](crate::Error::kind).
    pub kind: Option<&'r str>,
    /// The URI that was asked for, as sent; that of the page is [`Request::uri`].
    pub uri: &'r str,
    /// Its query, as sent.
    pub query: Option<&'r str>,
    /// The method that it was asked with; the page itself is always asked with GET.
    pub method: &'r str,
    /// The name of the servlet that was asked.
    pub servlet_name: &'r str,
}

impl Request {
    /// Returns what went wrong, in a servlet that makes an error page. `None`: nothing has, it was asked for by itself.
    ///
    /// web.toml says which page is for what:
    ///
    /// ```toml
    /// [[error_page]]
    /// status = 404
    /// location = "/failed"
    /// ```
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/failed")]
    /// fn failed(request: &Request, response: &mut Response) -> Result {
    ///     let Some(failed) = request.error()? else { return Err(error(404, "it is a page for errors")) };
    ///     let title = if failed.status == 404 { "We do not have this" } else { "Something went wrong" };
    ///     response.html(format!("<h1>{title}</h1><p>{}</p>", servlet::escape(failed.uri)))
    /// }
    /// ```
    pub fn error(&self) -> Result<Option<FailedRequest<'_>>> {
        let text = |name: &str| -> Result<Option<&str>> {
            let value = self.attribute(&format!("servlet.error.{name}"))?;
            Ok(value.map(|value| std::str::from_utf8(value).unwrap_or_default()))
        };
        let Some(status) = text("status_code")?.and_then(|status| status.parse().ok()) else { return Ok(None) };
        Ok(Some(FailedRequest {
            status,
            message: text("message")?.unwrap_or_default(),
            kind: text("kind")?,
            uri: text("request_uri")?.unwrap_or_default(),
            query: text("query_string")?,
            method: text("method")?.unwrap_or_default(),
            servlet_name: text("servlet_name")?.unwrap_or_default(),
        }))
    }
}
