//! The bytes of a connection, whatever they come by, with those that were read ahead of their reader.

use std::future::poll_fn;
use std::io::{IoSlice, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// LIMIT: bytes that are read ahead at once.
const AHEAD_BYTES: usize = 4 << 10;

pub struct Stream {
    way: Way,
    /// Read, and not by the reader yet.
    ahead: Vec<u8>,
    /// So much of it has been taken.
    taken: usize,
}

pub enum Way {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Over another one, of which something may have been read ahead.
    Tls(Box<TlsStream<Stream>>),
}

impl Stream {
    pub fn new(way: Way) -> Stream {
        Stream { way, ahead: Vec::new(), taken: 0 }
    }

    /// Ends the connection so that the client sees that it was cut: by a reset, where there is one, and without the last word of TLS.
    pub fn reset(self) {
        let tcp = match &self.way {
            Way::Tcp(stream) => Some(stream),
            Way::Tls(stream) => match &stream.get_ref().0.way {
                Way::Tcp(stream) => Some(stream),
                _ => None,
            },
            Way::Unix(_) => None,
        };
        if let Some(Err(error)) = tcp.map(|tcp| set_socket_linger(tcp, Some(Duration::ZERO))) {
            tracing::debug!("SO_LINGER: {error}");
        }
    }

    pub fn ahead(&self) -> &[u8] {
        &self.ahead[self.taken..]
    }

    /// Reads more into [`Stream::ahead`]; 0: it has ended. While it waits it holds no memory.
    pub async fn read_ahead(&mut self) -> Result<usize> {
        poll_fn(|task| {
            let mut bytes = [MaybeUninit::uninit(); AHEAD_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.way).poll_read(task, &mut buffer))?;
            self.ahead.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
        .await
    }

    /// Drops so much of what was read ahead.
    pub fn skip(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.ahead.len());
    }

    /// These come before what was read ahead.
    pub fn give_back(&mut self, bytes: &[u8]) {
        self.ahead.splice(..self.taken, bytes.iter().copied());
        self.taken = 0;
    }

    /// Ready when the client has ended its side, or the connection has. What has come and waits to be read hides that.
    pub fn poll_end(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if !self.ahead().is_empty() {
            return Poll::Pending;
        }
        match &mut self.way {
            Way::Tcp(stream) => match stream.poll_peek(task, &mut ReadBuf::new(&mut [0])) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
                Poll::Pending | Poll::Ready(Ok(_)) => Poll::Pending,
            },
            // These cannot be looked into.
            way => {
                let mut bytes = [0; 512];
                let mut buffer = ReadBuf::new(&mut bytes);
                match ready!(Pin::new(way).poll_read(task, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => {
                        self.give_back(buffer.filled());
                        Poll::Pending
                    }
                    _ => Poll::Ready(()),
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.ahead.is_empty() {
            return Pin::new(&mut this.way).poll_read(task, buffer);
        }
        let ahead = &this.ahead[this.taken..];
        let len = ahead.len().min(buffer.remaining());
        buffer.put_slice(&ahead[..len]);
        this.taken += len;
        if this.taken == this.ahead.len() {
            (this.ahead, this.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.way).poll_write(task, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.way).poll_write_vectored(task, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.way.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.way).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.way).poll_shutdown(task)
    }
}

impl AsyncRead for Way {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Way::Tcp(stream) => Pin::new(stream).poll_read(task, buffer),
            Way::Unix(stream) => Pin::new(stream).poll_read(task, buffer),
            Way::Tls(stream) => Pin::new(stream).poll_read(task, buffer),
        }
    }
}

impl AsyncWrite for Way {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        match self.get_mut() {
            Way::Tcp(stream) => Pin::new(stream).poll_write(task, bytes),
            Way::Unix(stream) => Pin::new(stream).poll_write(task, bytes),
            Way::Tls(stream) => Pin::new(stream).poll_write(task, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        match self.get_mut() {
            Way::Tcp(stream) => Pin::new(stream).poll_write_vectored(task, pieces),
            Way::Unix(stream) => Pin::new(stream).poll_write_vectored(task, pieces),
            Way::Tls(stream) => Pin::new(stream).poll_write_vectored(task, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Way::Tcp(stream) => stream.is_write_vectored(),
            Way::Unix(stream) => stream.is_write_vectored(),
            Way::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Way::Tcp(stream) => Pin::new(stream).poll_flush(task),
            Way::Unix(stream) => Pin::new(stream).poll_flush(task),
            Way::Tls(stream) => Pin::new(stream).poll_flush(task),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Way::Tcp(stream) => Pin::new(stream).poll_shutdown(task),
            Way::Unix(stream) => Pin::new(stream).poll_shutdown(task),
            Way::Tls(stream) => Pin::new(stream).poll_shutdown(task),
        }
    }
}
