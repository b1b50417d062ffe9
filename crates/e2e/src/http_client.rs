//! A small blocking HTTP/1.1 client over a bare socket: it sends what it is told, byte for byte, and reads one
//! response at a time.
//!
//! It is strict where a client may be, so that a test sees what was wrong. A cut is `UnexpectedEof`, nonsense is
//! `InvalidData`, and a wait that was too long is `TimedOut`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// LIMIT: bytes of a head, or of one line of a chunked body.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// LIMIT: bytes of a body.
const BODY_BYTES_MAX: usize = 1 << 28;

/// A connection that is kept between exchanges.
pub struct Connection {
    stream: TcpStream,
    timeout: Duration,
    deadline: Instant,
    buffer: Vec<u8>,
    chunk: Box<[u8]>,
    over: bool,
}

/// One response, read whole.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    /// Minor version: 1 for HTTP/1.1.
    pub minor: u8,
    /// Names as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The head as it came, with the empty line.
    pub head: Vec<u8>,
}

impl Response {
    /// Returns the first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let of_name = |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.headers.iter().find(of_name).map(|(_, value)| value.as_str())
    }

    /// Returns whether the server will close the connection after this response.
    pub fn closes(&self) -> bool {
        let said = self.header("connection").unwrap_or_default().to_ascii_lowercase();
        said.contains("close") || (self.minor == 0 && !said.contains("keep-alive"))
    }
}

impl Connection {
    /// Connects. The timeout is for the connect, and for each response as a whole.
    pub fn open(address: SocketAddr, timeout: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let chunk = vec![0; 16 * 1024].into_boxed_slice();
        Ok(Connection { stream, timeout, deadline: Instant::now() + timeout, buffer: Vec::new(), chunk, over: false })
    }

    /// Sends a GET and reads the response.
    pub fn get(&mut self, target: &str) -> io::Result<Response> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        self.read_response()
    }

    /// Returns the socket once more, for a thread that sends while this one reads.
    pub fn sender(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// Sends these bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).map_err(timed_out)
    }

    /// Returns whether the server has closed the connection, or said that it will.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Breaks the connection: what is under way is lost.
    pub fn reset(self) -> io::Result<()> {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?;
        Ok(())
    }

    /// Reads a response and its body. An interim one (1xx) is a response of its own.
    pub fn read_response(&mut self) -> io::Result<Response> {
        let mut response = self.read_response_of_head()?;
        if matches!(response.status, 100..=199 | 204 | 304) {
            return Ok(response);
        }
        self.read_body(&mut response)?;
        Ok(response)
    }

    /// The same; a body that is cut is returned as far as it came.
    pub fn read_response_or_what_came(&mut self) -> io::Result<Response> {
        let mut response = self.read_response_of_head()?;
        if matches!(response.status, 100..=199 | 204 | 304) {
            return Ok(response);
        }
        match self.read_body(&mut response) {
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                if response.header("content-length").is_some() {
                    response.body = std::mem::take(&mut self.buffer);
                }
                Ok(response)
            }
            read => read.map(|()| response),
        }
    }

    /// Reads a response to a HEAD request: whatever it says, no body follows.
    pub fn read_response_of_head(&mut self) -> io::Result<Response> {
        self.deadline = Instant::now() + self.timeout;
        let mut searched = 0;
        let end = loop {
            let from = usize::saturating_sub(searched, 3);
            if let Some(at) = find(&self.buffer[from..], b"\r\n\r\n") {
                break from + at + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(invalid("the head is too long"));
            }
            searched = self.buffer.len();
            self.fill("a head")?;
        };
        let rest = self.buffer.split_off(end);
        let response = parse_head(std::mem::replace(&mut self.buffer, rest))?;
        self.over |= response.closes();
        Ok(response)
    }

    /// Reads whatever comes until the server closes.
    pub fn read_to_close(&mut self) -> io::Result<Vec<u8>> {
        self.deadline = Instant::now() + self.timeout;
        while self.fill_or_end()? {
            if self.buffer.len() > BODY_BYTES_MAX {
                return Err(invalid("the body is too long"));
            }
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    fn read_body(&mut self, response: &mut Response) -> io::Result<()> {
        let chunked = response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        if chunked {
            return self.read_chunks(response);
        }
        response.body = match response.header("content-length") {
            Some(text) => {
                let len = text.parse().map_err(|_| invalid("a Content-Length that is no number"))?;
                self.take(len, "a body")?
            }
            None => self.read_to_close()?,
        };
        Ok(())
    }

    fn read_chunks(&mut self, response: &mut Response) -> io::Result<()> {
        loop {
            let line = self.take_line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| invalid("a chunk size that is no number"))?;
            if size == 0 {
                break;
            }
            if response.body.len().saturating_add(size) > BODY_BYTES_MAX {
                return Err(invalid("the body is too long"));
            }
            let bytes = self.take(size, "a chunk")?;
            response.body.extend_from_slice(&bytes);
            if !self.take_line()?.is_empty() {
                return Err(invalid("a chunk longer than its size"));
            }
        }
        loop {
            let line = self.take_line()?;
            if line.is_empty() {
                return Ok(());
            }
            response.trailers.push(parse_field(&line)?);
        }
    }

    fn take(&mut self, len: usize, what: &str) -> io::Result<Vec<u8>> {
        if len > BODY_BYTES_MAX {
            return Err(invalid("the body is too long"));
        }
        while self.buffer.len() < len {
            self.fill(what)?;
        }
        let rest = self.buffer.split_off(len);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn take_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.take(at + 2, "a line")?;
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(invalid("a line is too long"));
            }
            self.fill("a line")?;
        }
    }

    fn fill(&mut self, what: &str) -> io::Result<()> {
        if self.fill_or_end()? {
            return Ok(());
        }
        let got = self.buffer.len();
        Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            format!("closed in the middle of {what}, after {got} bytes of it"),
        ))
    }

    /// Reads more; `false` at the end.
    fn fill_or_end(&mut self) -> io::Result<bool> {
        if Instant::now() >= self.deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        let len = self.stream.read(&mut self.chunk).map_err(timed_out)?;
        self.buffer.extend_from_slice(&self.chunk[..len]);
        self.over |= len == 0;
        Ok(len > 0)
    }
}

fn parse_head(head: Vec<u8>) -> io::Result<Response> {
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let line = first.strip_prefix("HTTP/1.").and_then(|rest| {
        let (minor, rest) = rest.split_once(' ')?;
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        Some((minor.parse().ok()?, status.parse().ok()?, reason.to_owned()))
    });
    let Some((minor, status, reason)) = line else { return Err(invalid(&format!("no status line: {first:?}"))) };
    let headers = lines.filter(|line| !line.is_empty()).map(parse_field).collect::<io::Result<_>>()?;
    Ok(Response { status, reason, minor, headers, body: Vec::new(), trailers: Vec::new(), head })
}

fn parse_field(line: &str) -> io::Result<(String, String)> {
    let (name, value) = line.split_once(':').ok_or_else(|| invalid(&format!("no header field: {line:?}")))?;
    Ok((name.to_owned(), value.trim().to_owned()))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// A socket's timeout comes as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A connection whose server has sent these bytes and closed.
    fn sent(bytes: &'static [u8]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || listener.accept().map(|(mut stream, _)| stream.write_all(bytes)));
        Connection::open(address, Duration::from_secs(10)).expect("a connection")
    }

    #[track_caller]
    fn check(bytes: &'static [u8], status: u16, body: &[u8]) {
        let response = sent(bytes).read_response().expect("a response");
        assert_eq!((response.status, response.body.as_slice()), (status, body));
    }

    #[track_caller]
    fn check_error(bytes: &'static [u8], kind: ErrorKind, text: &str) {
        let error = sent(bytes).read_response().expect_err("an error");
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    }

    #[test]
    fn each_framing_is_read() {
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabrest", 200, b"ab");
        check(
            b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: 1\r\n\r\n",
            200,
            b"abc",
        );
        check(b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end");
        check(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b"");
    }

    #[test]
    fn two_responses_on_one_connection_are_told_apart() {
        let mut connection =
            sent(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx");
        assert_eq!(connection.read_response().expect("interim").status, 100);
        let last = connection.read_response().expect("final");
        assert_eq!((last.status, last.closes(), last.header("Content-Length")), (200, true, Some("1")));
    }

    #[test]
    fn what_is_cut_or_nonsense_is_an_error() {
        check_error(b"HTTP/1.1 200", ErrorKind::UnexpectedEof, "closed in the middle of a head, after 12 bytes of it");
        check_error(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            ErrorKind::UnexpectedEof,
            "closed in the middle of a body, after 2 bytes of it",
        );
        check_error(b"SSH-2.0-x\r\n\r\n", ErrorKind::InvalidData, "no status line: \"SSH-2.0-x\"");
    }

    #[test]
    fn what_came_of_a_cut_body_can_be_had() {
        let check = |bytes: &'static [u8]| {
            let response = sent(bytes).read_response_or_what_came().expect("a cut answer");
            assert_eq!((response.status, &*response.body), (200, b"ab".as_slice()));
        };
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab");
        check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab");
    }

    #[test]
    fn a_silent_server_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut connection = Connection::open(address, Duration::from_millis(200)).expect("a connection");
        assert_eq!(connection.read_response().expect_err("silence").kind(), ErrorKind::TimedOut);
    }
}
