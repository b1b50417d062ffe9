//! Which certificate is for which host.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;

/// The certificates of a listener by their names.
pub struct Names {
    /// `www.example.com`, and `example.com` of `*.example.com`.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    wild: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For clients that name no host, or one that none is for: the first one, and others for the same names.
    rest: Vec<Arc<CertifiedKey>>,
}

impl Names {
    /// Of several for one name, the first one goes before the others, if the client can do with its key.
    pub fn new<'p>(pairs: impl IntoIterator<Item = &'p Arc<Pair>>) -> Names {
        let mut names = Names { exact: HashMap::new(), wild: HashMap::new(), rest: Vec::new() };
        let mut of_first: Option<&[String]> = None;
        for pair in pairs {
            for name in &pair.names {
                match name.strip_prefix("*.") {
                    Some(parent) => names.wild.entry(parent.to_owned()),
                    None => names.exact.entry(name.clone()),
                }
                .or_default()
                .push(pair.certified.clone());
            }
            if *of_first.get_or_insert(&pair.names) == pair.names {
                names.rest.push(pair.certified.clone());
            }
        }
        names
    }

    /// Those for a host, the first one first; those of the rest, if none is. The name is in lower case, without a port.
    fn of(&self, host: &str) -> &[Arc<CertifiedKey>] {
        self.named(host).unwrap_or(&self.rest)
    }

    fn named(&self, host: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let wild = || self.wild.get(host.split_once('.')?.1);
        self.exact.get(host).or_else(wild)
    }

    /// Whether one is for this host.
    pub fn has(&self, host: &str) -> bool {
        self.named(host).is_some()
    }

    /// Whether a request for a host may come by a connection whose client has named another one: there is one certificate for both, or
    /// one that is for neither (RFC 9110 7.4).
    pub fn is_same(&self, named: &str, host: &str) -> bool {
        let (here, there) = (self.of(named), self.of(host));
        named == host || here.iter().any(|one| there.iter().any(|other| Arc::ptr_eq(one, other)))
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Names")
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = client.server_name().map_or(&*self.rest, |name| self.of(name));
        let can_be_checked = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(client.signature_schemes()).is_some();
        all.iter().find(can_be_checked).or(all.first()).cloned()
    }
}
