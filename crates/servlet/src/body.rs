//! The request's body, as it is lent to a servlet, plain or async.

use std::{fmt, io};

use crate::host::{self, Exchange, waiting};
use crate::{Error, Result, error};

/// The body of a request. Reading waits until something has come.
///
/// Through [`io::Read`], by pieces with [`chunk`](Body::chunk), or whole with [`all`](Body::all). It is read once; a form
/// whose parameters were asked for has no body left.
///
/// ```
/// use servlet::prelude::*;
///
/// #[servlet("/count", methods = [POST])]
/// fn count(_: &Request, body: &mut Body, response: &mut Response) -> Result {
///     let mut bytes = 0;
///     while let Some(chunk) = body.chunk()? {
///         bytes += chunk.len();
///     }
///     response.text(format!("{bytes} bytes"))
/// }
/// ```
pub struct Body {
    exchange: Exchange,
}

impl Body {
    pub(crate) fn new(exchange: Exchange) -> Body {
        Body { exchange }
    }

    /// As the client sent it.
    #[cfg(feature = "json")]
    pub(crate) fn content_type(&self) -> Option<&str> {
        content_type(self.exchange)
    }

    /// Returns what has come, at least one byte, without copying; `None` at the end.
    pub fn chunk(&mut self) -> Result<Option<&[u8]>> {
        let chunk = self.exchange.read_chunk().map_err(Error::of_client)?;
        // SAFETY: a chunk lives until the next read (servlet.h 4), and to read again needs this `&mut self`.
        Ok(chunk.and_then(|chunk| unsafe { host::bytes(chunk) }))
    }

    /// Returns the rest of the body; 413 if it is longer than `bytes_max`.
    pub fn all(&mut self, bytes_max: usize) -> Result<&[u8]> {
        let all = self.exchange.read_all(bytes_max).map_err(Error::of_client)?;
        // SAFETY: it lives until `service` returns, and so at least as long as this borrow.
        Ok(all.and_then(|all| unsafe { host::bytes(all) }).unwrap_or_default())
    }

    /// Returns the rest of the body as text; 400 if it is not UTF-8, 413 if it is longer than `bytes_max`.
    pub fn text(&mut self, bytes_max: usize) -> Result<&str> {
        of_utf8(self.all(bytes_max)?)
    }
}

#[cfg(feature = "json")]
fn content_type<'a>(exchange: Exchange) -> Option<&'a str> {
    // SAFETY: NULL, or the head, which lives as long as the bodies that are lent to a servlet.
    let head = unsafe { exchange.request().as_ref() }?;
    // SAFETY: as above.
    unsafe { host::text(head.content_type) }
}

fn of_utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|wrong| error(400, format!("the body is not UTF-8: {wrong}")))
}

/// The body of a request in an async servlet. It is read as a [`Body`] is, but each function is waited for with `.await`.
///
/// A read that is given up, as by [`timeout`](crate::time::timeout), loses nothing: the next one goes on there.
///
/// ```
/// use servlet::prelude::*;
///
/// #[servlet("/count", methods = [POST])]
/// async fn count(_: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
///     let mut bytes = 0;
///     while let Some(chunk) = body.chunk().await? {
///         bytes += chunk.len();
///     }
///     response.text(format!("{bytes} bytes"))
/// }
/// ```
pub struct AsyncBody {
    exchange: Exchange,
}

impl AsyncBody {
    pub(crate) fn new(exchange: Exchange) -> AsyncBody {
        AsyncBody { exchange }
    }

    /// As the client sent it.
    #[cfg(feature = "json")]
    pub(crate) fn content_type(&self) -> Option<&str> {
        content_type(self.exchange)
    }

    /// Returns what has come, at least one byte, without copying; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>> {
        let chunk = waiting(|| self.exchange.read_chunk()).await.map_err(Error::of_client)?;
        // SAFETY: as in `Body::chunk`.
        Ok(chunk.and_then(|chunk| unsafe { host::bytes(chunk) }))
    }

    /// Reads into `buffer`, and returns how many bytes came; 0 is the end, unless the buffer is empty.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        waiting(|| self.exchange.read(buffer)).await.map_err(Error::of_client)
    }

    /// Returns the rest of the body; 413 if it is longer than `bytes_max`.
    pub async fn all(&mut self, bytes_max: usize) -> Result<&[u8]> {
        let all = waiting(|| self.exchange.read_all(bytes_max)).await.map_err(Error::of_client)?;
        // SAFETY: it lives until the task's `drop` has returned, and so at least as long as this borrow.
        Ok(all.and_then(|all| unsafe { host::bytes(all) }).unwrap_or_default())
    }

    /// Returns the rest of the body as text; 400 if it is not UTF-8, 413 if it is longer than `bytes_max`.
    pub async fn text(&mut self, bytes_max: usize) -> Result<&str> {
        of_utf8(self.all(bytes_max).await?)
    }
}

impl fmt::Debug for AsyncBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AsyncBody")
    }
}

impl io::Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.exchange.read(buffer).map_err(|wrong| wrong.of_client().into_io())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Body")
    }
}
