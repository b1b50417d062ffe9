//! A certificate with its key, as its two files have it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use serval_config::CertificateFiles;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::pem::{self, Kind};

/// Fewer days are a warning: what renews by itself does so a month before.
const DAYS_LEFT_MIN: i64 = 14;

/// A certificate that can be served.
pub struct Pair {
    pub files: CertificateFiles,
    pub certified: Arc<CertifiedKey>,
    /// In lower case: those that `names` says, else those in the certificate.
    pub names: Vec<String>,
    begins: i64,
    ends: i64,
    /// Users that are neither its owner nor of its group may read the key.
    is_open: bool,
    /// Of what the files held, to see whether they have changed.
    digest: u64,
}

/// What there is to say of a certificate.
pub enum Warning {
    Warn(String),
    Error(String),
}

/// Reads a pair; one that is as `before` is that one. An error is a sentence.
pub fn read(files: &CertificateFiles, before: Option<&Arc<Pair>>) -> Result<Arc<Pair>, String> {
    let (certificate, key) = (pem::read(&files.certificate)?, pem::read(&files.key)?);
    let is_open = is_open(&files.key);
    let mut digest = DefaultHasher::new();
    (&certificate, &key, is_open).hash(&mut digest);
    let digest = digest.finish();
    if let Some(before) = before.filter(|before| before.digest == digest) {
        return Ok(before.clone());
    }
    let chain: Vec<CertificateDer<'static>> = pem::sections(&files.certificate, &certificate, Kind::Certificate)?;
    let key: PrivateKeyDer<'static> = pem::sections(&files.key, &key, Kind::Key)?.remove(0);
    let shown = files.certificate.display();
    let (names_in_it, begins, ends) = match X509Certificate::from_der(&chain[0]) {
        Ok((_, own)) => (names_of(&own), own.validity().not_before.timestamp(), own.validity().not_after.timestamp()),
        Err(error) => {
            return Err(format!("{shown} holds a certificate that cannot be read: {error}; have it made anew"));
        }
    };
    let key = any_supported_type(&key).map_err(|error| {
        format!(
            "{} holds a key that cannot be used: {error}; take one of P-256, P-384 or Ed25519, or of RSA with 2048 bits or more",
            files.key.display()
        )
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(format!(
                "{} is not the key of {shown}; name the two that belong together, of which the certificate stands first in its file",
                files.key.display()
            ));
        }
        Err(error) => {
            return Err(format!("{shown} holds a certificate that cannot be used: {error}; have it made anew"));
        }
    }
    let names = files.names.clone().unwrap_or(names_in_it);
    Ok(Arc::new(Pair { files: files.clone(), certified: Arc::new(certified), names, begins, ends, is_open, digest }))
}

/// Those of hosts: a client that comes by an address names none.
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    };
    let all: BTreeSet<String> = names.value.general_names.iter().filter_map(host).collect();
    all.into_iter().collect()
}

fn is_open(key: &Path) -> bool {
    key.metadata().is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

/// `1 day`, `13 days`.
pub fn days_shown(days: i64) -> String {
    format!("{days} day{}", if days == 1 { "" } else { "s" })
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

impl Pair {
    /// Whole days until it ends; less than 0: it has ended.
    pub fn days_left(&self, now: i64) -> i64 {
        (self.ends - now).div_euclid(86_400)
    }

    /// The day of its end, as `2027-03-01`.
    pub fn ends_on(&self) -> String {
        OffsetDateTime::from_unix_timestamp(self.ends).map_or(String::new(), |time| time.date().to_string())
    }

    /// Its names, for people.
    pub fn shown(&self) -> String {
        match self.names.as_slice() {
            [] => "no name".to_owned(),
            names => names.join(", "),
        }
    }

    /// What is wrong with it, though it is served.
    pub fn warnings(&self, now: i64) -> Vec<Warning> {
        let (file, names, day) = (self.files.certificate.display(), self.shown(), self.ends_on());
        let mut warnings = Vec::new();
        if self.is_open {
            let key = self.files.key.display();
            warnings.push(Warning::Warn(format!(
                "{key} can be read by all users of this machine, and with it they can pass for {names}: chmod o-r {key}"
            )));
        }
        if now < self.begins {
            let begins =
                OffsetDateTime::from_unix_timestamp(self.begins).map_or(String::new(), |time| time.to_string());
            warnings.push(Warning::Warn(format!(
                "the certificate of {names} ({file}) is good from {begins} on, and until then clients refuse it: set the clock, or wait"
            )));
        }
        match self.days_left(now) {
            ..0 => warnings.push(Warning::Error(format!(
                "the certificate of {names} ({file}) has expired on {day}, and clients refuse it: put another one in its place"
            ))),
            days @ 0..DAYS_LEFT_MIN => warnings.push(Warning::Warn(format!(
                "the certificate of {names} ({file}) expires in {}, on {day}: put another one in its place",
                days_shown(days)
            ))),
            _ => {}
        }
        warnings
    }
}
