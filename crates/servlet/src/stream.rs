//! Writing an answer piece by piece in an async servlet.

use std::fmt;
use std::marker::PhantomData;

use crate::host::{COPY_MAX, Exchange, waiting};
use crate::response::write_all_owned;
use crate::{Response, Result};

/// The body of a response while it is written: [`Response::stream`].
///
/// Writing waits while the client is slow, and is an error when it has gone ([`Error::is_closed`](crate::Error::is_closed)).
/// A write that is given up, as by [`timeout`](crate::time::timeout), may have sent a part.
///
/// ```
/// use servlet::prelude::*;
/// use std::time::Duration;
///
/// #[servlet("/clock")]
/// async fn clock(_: &Request, response: &mut Response) -> Result {
///     let mut stream = response.content_type("text/plain; charset=utf-8")?.stream().await?;
///     for second in 0..60 {
///         stream.write(format!("{second}\n")).await?;
///         stream.flush().await?;
///         servlet::time::sleep(Duration::from_secs(1)).await;
///     }
///     stream.finish().await
/// }
/// ```
pub struct Stream<'a> {
    exchange: Exchange,
    /// Status and headers cannot be changed meanwhile.
    of: PhantomData<&'a mut Response>,
}

impl Stream<'_> {
    pub(crate) fn new(exchange: Exchange) -> Self {
        Stream { exchange, of: PhantomData }
    }

    pub(crate) fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// Writes all of it.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let taken = waiting(|| self.exchange.write_some(rest)).await?;
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// Writes all of it, and keeps it in place of a copy.
    pub async fn write_owned(&mut self, bytes: impl Into<Vec<u8>>) -> Result {
        let mut bytes = bytes.into();
        if bytes.len() <= COPY_MAX {
            return self.write(bytes).await;
        }
        write_all_owned(self.exchange, &mut bytes).await
    }

    /// Sends what was written so far.
    pub async fn flush(&mut self) -> Result {
        waiting(|| self.exchange.flush()).await
    }

    /// Ends the stream; an error tells that not all of it was sent. The response ends when the servlet returns.
    pub async fn finish(mut self) -> Result {
        self.flush().await
    }
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Stream")
    }
}
