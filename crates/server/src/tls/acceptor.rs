//! TLS on a connection that has been accepted.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConnection};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use serval_config::{Listener, Tls, TlsVersion};
use serval_container::{Serves, Tls as Facts};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use super::clients::Clients;
use super::names::Names;

/// Speaks TLS as a listener's settings and certificates have it.
pub struct Acceptor {
    accepts: tokio_rustls::TlsAcceptor,
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
        let tickets = match (tls.tickets, tickets) {
            (false, _) => None,
            (true, Some(tickets)) => Some(tickets),
            (true, None) => Some(ring::Ticketer::new().map_err(unusable)?),
        };
        match &tickets {
            Some(tickets) => config.ticketer = tickets.clone(),
            None => config.send_tls13_tickets = 0,
        }
        Ok(Acceptor { accepts: Arc::new(config).into(), names, is_strict: tls.strict_sni, tickets })
    }

    /// Shakes hands with a client, and returns what is known of it. May be given up at any moment.
    ///
    /// # Errors
    /// The client does not speak TLS, or not this one, has no certificate that it needs, or has left.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Facts)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.accepts.accept(stream).await?;
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
