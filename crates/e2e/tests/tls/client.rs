//! A client that sees what it was given.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

use crate::LONG;
use crate::signer::{Signed, Signer};

/// What a client is set to.
pub struct Client(Arc<ClientConfig>);

pub struct Connection(StreamOwned<ClientConnection, TcpStream>);

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    /// One that trusts a signer.
    pub fn new(trusts: &Signer) -> Client {
        Client::with(trusts, &[&version::TLS13, &version::TLS12], None)
    }

    pub fn with(trusts: &Signer, versions: &[&'static SupportedProtocolVersion], own: Option<&Signed>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(trusts.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            Some(own) => config.with_client_auth_cert(vec![own.der.clone()], own.key_der()).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Client(Arc::new(config))
    }

    /// Without SNI.
    pub fn nameless(trusts: &Signer) -> Client {
        let Client(config) = Client::new(trusts);
        let mut config = ClientConfig::clone(&config);
        config.enable_sni = false;
        Client(Arc::new(config))
    }

    /// Connects, asks for a host, and shakes hands.
    pub fn open(&self, address: SocketAddr, host: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, LONG)?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_write_timeout(Some(LONG))?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.0.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Connection(stream))
    }
}

impl Connection {
    /// The server's certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    pub fn is_resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn get(&mut self, host: &str, target: &str) -> io::Result<Answer> {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// Sends a request, and reads an answer that tells its length.
    pub fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.0.write_all(request.as_bytes())?;
        self.0.flush()?;
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more(&mut bytes)?;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        let answer = Answer { status, head, body: String::new() };
        let len: usize =
            answer.header("content-length").and_then(|len| len.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        while bytes.len() < end + len {
            self.more(&mut bytes)?;
        }
        Ok(Answer { body: String::from_utf8_lossy(&bytes[end..]).into_owned(), ..answer })
    }

    fn more(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.0.read(&mut buffer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                bytes.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }
}
