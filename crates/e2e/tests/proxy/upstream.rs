//! An upstream of the tests: a bare socket, and whatever a test makes of each connection.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::LONG;

pub struct Upstream {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// The heads of all requests, as they came.
    heads: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One connection to it.
pub struct Accepted {
    pub reader: BufReader<TcpStream>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// A request, as it came.
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
    /// Behind a chunked body.
    pub trailers: String,
}

impl Upstream {
    /// Each connection gets a thread, which ends with it.
    pub fn start(serve: impl Fn(Accepted) + Send + Sync + 'static) -> Upstream {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (accepted, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (count, is_over, all, serve) = (accepted.clone(), over.clone(), heads.clone(), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            for stream in socket.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, serve, heads) = (stream.unwrap(), serve.clone(), all.clone());
                stream.set_read_timeout(Some(LONG)).unwrap();
                stream.set_nodelay(true).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(Accepted { reader: BufReader::new(stream), heads }));
            }
        });
        Upstream { address, accepted, heads, over, thread: Some(thread) }
    }

    /// One that answers each request with its head and its body as they came.
    pub fn echo() -> Upstream {
        Upstream::start(|mut accepted| {
            while let Some(request) = accepted.request() {
                accepted.echo(&request);
            }
        })
    }

    /// Connections until now.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Accepted {
    /// The next head; `None`: the connection has ended.
    pub fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match self.reader.read_line(&mut head) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error} in {head}"),
            }
        }
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    /// The next request, whole.
    pub fn request(&mut self) -> Option<Request> {
        let head = self.head()?;
        let (mut body, mut trailers) = (Vec::new(), String::new());
        if value(&head, "transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
            let mut ends = 0;
            while trailers.is_empty() || trailers.len() > ends + 2 {
                ends = trailers.len();
                self.reader.read_line(&mut trailers).unwrap();
            }
        } else if let Some(length) = value(&head, "content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.reader.read_exact(&mut body).unwrap();
        }
        Some(Request { head, body, trailers })
    }

    /// The next piece of a chunked body; `None`: its end, or the connection's.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim_end(), 16).ok().filter(|&size| size > 0)?;
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).ok()?;
        chunk.truncate(size);
        Some(chunk)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // Who has asked may be gone.
        let _ = self.reader.get_mut().write_all(bytes.as_ref());
    }

    pub fn echo(&mut self, request: &Request) {
        let mut body = request.head.clone().into_bytes();
        body.extend(&request.body);
        body.extend(request.trailers.as_bytes());
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
        // Of HEAD too: nothing comes behind it on this connection.
        if !request.head.starts_with("HEAD ") {
            self.send(body);
        }
    }

    pub fn finish_sending(&mut self) {
        let _ = self.reader.get_mut().shutdown(Shutdown::Write);
    }

    /// Waits until the other side has closed, and drops what comes before.
    pub fn is_left(&mut self) {
        let mut rest = [0; 4096];
        while matches!(self.reader.read(&mut rest), Ok(1..)) {}
    }
}

/// The value of a header in a head, as it came.
pub fn value<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let of_name = |line: &&str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
    head.lines().skip(1).find(of_name)?.split_once(':').map(|(_, value)| value.trim())
}
