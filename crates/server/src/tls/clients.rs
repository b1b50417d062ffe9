//! Who checks the certificates of clients: those that `client_ca` has signed, and `client_crl` has not revoked.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use serval_config::{ClientCertificate, Tls};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::pem::{self, Kind};

/// What a listener's clients are checked by.
pub struct Clients {
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// When the first of the lists of revoked certificates should have been replaced; seconds since 1970.
    pub lists_end: Option<i64>,
    digest: u64,
}

/// Of which files, and whether a client may have none.
pub type Key = (bool, PathBuf, Option<PathBuf>);

/// `None`: clients are asked for no certificate.
pub fn key_of(tls: &Tls) -> Option<Key> {
    let is_required = match tls.client_certificate {
        ClientCertificate::No => return None,
        ClientCertificate::Optional => false,
        ClientCertificate::Required => true,
    };
    Some((is_required, tls.client_ca.clone()?, tls.client_crl.clone()))
}

/// Reads the files; what is as `before` is that one. An error is a sentence.
pub fn read((is_required, ca, crl): &Key, before: Option<&Arc<Clients>>) -> Result<Arc<Clients>, String> {
    let trusted = pem::read(ca)?;
    let revoked = crl.as_ref().map(|crl| pem::read(crl)).transpose()?;
    let mut digest = DefaultHasher::new();
    (&trusted, &revoked).hash(&mut digest);
    let digest = digest.finish();
    if let Some(before) = before.filter(|before| before.digest == digest) {
        return Ok(before.clone());
    }
    let mut roots = RootCertStore::empty();
    for certificate in pem::sections::<CertificateDer<'static>>(ca, &trusted, Kind::Certificate)? {
        roots.add(certificate).map_err(|error| {
            format!("{} holds a certificate that cannot be trusted: {error}; have it made anew", ca.display())
        })?;
    }
    let mut verifier = WebPkiClientVerifier::builder(roots.into());
    let mut lists_end = None;
    if let (Some(crl), Some(revoked)) = (crl, &revoked) {
        let lists = pem::sections::<CertificateRevocationListDer<'static>>(crl, revoked, Kind::Revoked)?;
        let next = |list: &CertificateRevocationListDer<'_>| {
            let (_, list) = CertificateRevocationList::from_der(list).ok()?;
            list.next_update().map(|time| time.timestamp())
        };
        lists_end = lists.iter().filter_map(next).min();
        verifier = verifier.with_crls(lists);
    }
    if !is_required {
        verifier = verifier.allow_unauthenticated();
    }
    let unusable = |error: rustls::server::VerifierBuilderError| {
        let file = crl.as_ref().unwrap_or(ca).display();
        format!("{file} holds a list of revoked certificates that cannot be used: {error}; have it made anew")
    };
    Ok(Arc::new(Clients { verifier: verifier.build().map_err(unusable)?, lists_end, digest }))
}
