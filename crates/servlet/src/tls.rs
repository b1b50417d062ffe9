//! How the connection is protected (Servlet 3.10).

use serval_abi::sv_tls;

use crate::Request;
use crate::host;

/// What the server knows of a connection by TLS. It lives as long as the [`Request`] that it is of.
#[derive(Clone, Copy)]
pub struct Tls<'r> {
    request: &'r Request,
    /// INVARIANT: what the server returned for the exchange of `request`; it lives until `service` returns, as `request` does.
    facts: &'r sv_tls,
}

impl Request {
    /// Returns what is known of the connection by TLS; `None`: the connection to the server is not TLS, though it may be to a proxy in
    /// front ([`is_secure`](Request::is_secure) tells that), or this is not the servlet's own thread.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/who")]
    /// fn who(request: &Request, response: &mut Response) -> Result {
    ///     let certificate = request.tls().and_then(|tls| tls.certificates().next());
    ///     let Some(certificate) = certificate else { return Err(error(403, "show a certificate")) };
    ///     response.text(format!("a certificate of {} bytes", certificate.len()))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let app = servlet::test::App::new();
    /// app.get("/who").send().assert_status(403);
    /// app.get("/who").tls("TLSv1.3", &[b"DER"]).send().assert_text("a certificate of 3 bytes");
    /// # }
    /// ```
    pub fn tls(&self) -> Option<Tls<'_>> {
        // SAFETY: NULL, or a struct of the server that lives until `service` returns (servlet.h 4), and so as long as this borrow.
        let facts = unsafe { self.exchange().tls().as_ref() }?;
        Some(Tls { request: self, facts })
    }
}

impl<'r> Tls<'r> {
    /// Returns the version: `TLSv1.3`.
    pub fn protocol(&self) -> Option<&'r str> {
        self.request.optional(self.facts.protocol)
    }

    /// Returns the name of the cipher suite, as IANA has it: `TLS_AES_256_GCM_SHA384`.
    pub fn cipher(&self) -> Option<&'r str> {
        self.request.optional(self.facts.cipher)
    }

    /// Returns the name of the host that the client has asked for before it sent a request (SNI).
    pub fn server_name(&self) -> Option<&'r str> {
        self.request.optional(self.facts.server_name)
    }

    /// Returns the certificates that the client has shown, in DER, its own first. The server has verified them. None: it has shown
    /// none, or the server does not ask for one.
    pub fn certificates(&self) -> impl ExactSizeIterator<Item = &'r [u8]> + use<'r> {
        let (first, count) = (self.facts.certificates, self.facts.certificate_count as usize);
        // SAFETY: by the invariant of `facts`; as many as it says, unless there are none.
        let all = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(first, count) } };
        // SAFETY: as above.
        all.iter().map(|&certificate| unsafe { host::bytes(certificate) }.unwrap_or_default())
    }
}
