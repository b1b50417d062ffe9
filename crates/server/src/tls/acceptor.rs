//! TLS on a connection that has been accepted.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ServerConnection};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ServerConfig, SupportedProtocolVersion};
use serval_config::{Listener, Tls, TlsVersion};
use serval_container::{Serves, Tls as Facts};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::clients::Clients;
use super::names::Names;

/// Speaks TLS as a listener's settings and certificates have it.
pub struct Acceptor {
    config: Arc<ServerConfig>,
    /// 1.3 is spoken.
    is_new: bool,
    names: Arc<Names>,
    is_strict: bool,
    pub tickets: Option<Tickets>,
}

/// Makes tickets and reads them, with keys that change every six hours; each is good for twelve.
pub type Tickets = Arc<dyn ProducesTickets>;

impl Acceptor {
    /// `tickets`: those of the acceptor before, so that clients of it resume. Not with another check of clients: a ticket holds a
    /// certificate that has been checked.
    ///
    /// # Errors
    /// A sentence.
    pub fn new(
        listener: &Listener,
        tls: &Tls,
        names: Names,
        clients: Option<&Clients>,
        tickets: Option<Tickets>,
    ) -> Result<Acceptor, String> {
        let version = |version: &TlsVersion| -> &'static SupportedProtocolVersion {
            match version {
                TlsVersion::V1_2 => &TLS12,
                TlsVersion::V1_3 => &TLS13,
            }
        };
        let versions: Vec<_> = tls.versions.iter().map(version).collect();
        let unusable = |error: rustls::Error| format!("{}: TLS cannot be spoken: {error}", listener.address);
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&versions)
            .map_err(unusable)?;
        let config = match clients {
            Some(clients) => config.with_client_cert_verifier(clients.verifier.clone()),
            None => config.with_no_client_auth(),
        };
        let names = Arc::new(names);
        let mut config = config.with_cert_resolver(names.clone());
        config.alpn_protocols = listener.protocols.names().into_iter().map(|name| name.as_bytes().to_vec()).collect();
        // What resumes is with the clients, in tickets, and never here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // What resumes is not looked at again, and a client's certificate may have ended since.
        let tickets = match (tls.tickets && clients.is_none(), tickets) {
            (false, _) => None,
            (true, Some(tickets)) => Some(tickets),
            (true, None) => Some(ring::Ticketer::new().map_err(unusable)?),
        };
        match &tickets {
            Some(tickets) => config.ticketer = tickets.clone(),
            None => config.send_tls13_tickets = 0,
        }
        let is_new = tls.versions.contains(&TlsVersion::V1_3);
        Ok(Acceptor { config: Arc::new(config), is_new, names, is_strict: tls.strict_sni, tickets })
    }

    /// Whether a certificate is for this host.
    pub fn has(&self, host: &str) -> bool {
        self.names.has(host)
    }

    /// Shakes hands with a client, and returns what is known of it. May be given up at any moment.
    ///
    /// # Errors
    /// The client does not speak TLS, or not this one, has no certificate that it needs, or has left.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Facts)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut begun = LazyConfigAcceptor::new(Default::default(), stream).await?;
        if self.is_new && is_fallback(&begun.client_hello()) {
            begun.io.write_all(INAPPROPRIATE_FALLBACK).await?;
            begun.io.shutdown().await?;
            return Err(io::Error::other("the client has fallen back to an older version, and need not have"));
        }
        let stream = begun.into_stream(self.config.clone()).await?;
        let facts = self.facts(stream.get_ref().1);
        Ok((stream, facts))
    }

    fn facts(&self, connection: &ServerConnection) -> Facts {
        let server_name = connection.server_name().map(str::to_owned);
        let names = server_name.clone().filter(|_| self.is_strict).map(|name| (name, self.names.clone()));
        Facts {
            protocol: connection.protocol_version().and_then(|version| version.as_str()).map_or("", protocol_name),
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .map(cipher_name)
                .unwrap_or_default(),
            server_name,
            certificates: connection
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
            serves: names.map(|(named, names)| Serves::new(move |host| names.is_same(&named, host))),
        }
    }
}

/// The alert of RFC 7507 as a record, since rustls does not look for what it is about.
const INAPPROPRIATE_FALLBACK: &[u8] = &[21, 3, 3, 0, 2, 2, 86];

/// Whether a client says that it speaks a newer version than it now asks for: somebody between may have made it believe that we do not.
fn is_fallback(client: &ClientHello<'_>) -> bool {
    const TLS_FALLBACK_SCSV: u16 = 0x5600;
    // Those of TLS 1.3, which come with that version alone.
    let is_new = |suite: &CipherSuite| u16::from(*suite) >> 8 == 0x13;
    let suites = client.cipher_suites();
    suites.iter().any(|suite| u16::from(*suite) == TLS_FALLBACK_SCSV) && !suites.iter().any(is_new)
}

/// `TLSv1_3`, as rustls has it, is `TLSv1.3` to all others.
fn protocol_name(name: &'static str) -> &'static str {
    match name {
        "TLSv1_3" => "TLSv1.3",
        "TLSv1_2" => "TLSv1.2",
        other => other,
    }
}

/// IANA says `TLS_` where rustls says `TLS13_`.
fn cipher_name(name: &str) -> String {
    name.strip_prefix("TLS13_").map_or(name.to_owned(), |rest| format!("TLS_{rest}"))
}
