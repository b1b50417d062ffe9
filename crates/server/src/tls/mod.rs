//! TLS: the certificates of all listeners, kept in step with their files, and who speaks it with them.
//!
//! `pair` reads a certificate with its key, `names` says for which host which one is, `clients` checks those of clients, `acceptor` shakes
//! hands, `self_signed` makes a pair for development. Nothing outside of this folder knows rustls, but for the type of a stream.
//!
//! What is in force is replaced by `live`, with the configuration, whenever a file of it has changed. A pair that is named for the first
//! time has to be good: else the configuration is refused. One that was good stays in force as it was until what lies there is good again,
//! and the log and `serval status` say so. One of `folder` that was never good is left out meanwhile.

mod acceptor;
mod clients;
mod names;
mod pair;
mod pem;
pub mod self_signed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use serval_config::{CertificateFiles, Host, Listener, Tls};

pub use acceptor::Acceptor;
use clients::Clients;
use names::Names;
pub use pair::days_shown;
use pair::{Pair, Warning};

/// Seconds between two warnings of one thing.
const SAID_AGAIN_AFTER: i64 = 86_400;

/// The certificates that are in force.
#[derive(Default)]
pub struct InForce(Mutex<State>);

/// All that listeners have of TLS, as the files are now.
#[derive(Default, Clone)]
pub struct State {
    pairs: BTreeMap<Files, Arc<Pair>>,
    clients: BTreeMap<clients::Key, Arc<Clients>>,
    /// Of each listener, in their order; `None`: it speaks no TLS.
    acceptors: Vec<Option<Of>>,
    /// What of the files is not in force, and why; sentences.
    refused: BTreeSet<String>,
    /// When what is wrong with those in force was said last; seconds since 1970.
    said: i64,
}

/// Certificate and key. Two lists of names for one pair are two pairs.
type Files = (PathBuf, PathBuf, Option<Vec<String>>);

/// What an acceptor was made of.
#[derive(Clone)]
struct Of {
    listener: Listener,
    pairs: Vec<Arc<Pair>>,
    clients: Option<Arc<Clients>>,
    acceptor: Arc<Acceptor>,
}

impl InForce {
    /// Reads the files of all listeners, and changes nothing. Blocks.
    ///
    /// # Errors
    /// A sentence for each that cannot be used and has none before.
    pub fn prepare(&self, listeners: &[Listener]) -> Result<State, String> {
        let before = self.state();
        let (mut next, mut wrong) = (State { said: before.said, ..State::default() }, BTreeSet::new());
        for listener in listeners {
            let of = listener.tls.as_deref().map(|tls| next.of_listener(listener, tls, &before, &mut wrong));
            next.acceptors.push(of.transpose()?.flatten());
        }
        match wrong.is_empty() {
            true => Ok(next),
            false => Err(wrong.into_iter().collect::<Vec<_>>().join("\n")),
        }
    }

    /// Puts in force what was prepared, and says what is new.
    pub fn put_in_force(&self, mut next: State) {
        let (before, now) = (self.state(), pair::now());
        for (files, pair) in &next.pairs {
            if before.pairs.get(files).is_some_and(|known| Arc::ptr_eq(known, pair)) {
                continue;
            }
            let (names, file, left) = (pair.shown(), pair.files.certificate.display(), pair.days_left(now));
            tracing::info!("certificate of {names} ({file}): {} left, until {}", days_shown(left), pair.ends_on());
            pair.warnings(now).iter().for_each(say);
        }
        next.warnings_of_clients(now, Some(&before)).iter().for_each(say);
        next.refused.difference(&before.refused).for_each(|sentence| tracing::error!("{sentence}"));
        if before.said == 0 {
            next.said = now;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Says once a day what is wrong with the certificates that are in force, and what is not. To be called now and then.
    pub fn remind(&self) {
        self.due(pair::now()).iter().for_each(say);
    }

    /// What is to be said again.
    fn due(&self, now: i64) -> Vec<Warning> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The clock may have been set back.
        if (0..SAID_AGAIN_AFTER).contains(&(now - state.said)) {
            return Vec::new();
        }
        state.said = now;
        let refused = state.refused.iter().cloned().map(Warning::Error);
        state.warnings(now).into_iter().chain(refused).collect()
    }

    /// What `serval status` tells.
    pub fn status(&self) -> Value {
        let (state, now) = (self.state(), pair::now());
        let certificates: Vec<Value> = state.pairs.values().map(|pair| pair_status(pair, now)).collect();
        let warnings: Vec<String> = state.warnings(now).into_iter().map(text).collect();
        json!({ "certificates": certificates, "warnings": warnings, "refused": state.refused })
    }

    fn state(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    /// Who speaks TLS for a listener, by its place in the configuration; `None`: nobody.
    pub fn acceptor(&self, number: usize) -> Option<Arc<Acceptor>> {
        self.acceptors.get(number)?.as_ref().map(|of| of.acceptor.clone())
    }

    /// What an operator should know though all is good; sentences.
    pub fn doubts(&self) -> Vec<String> {
        let warnings = self.warnings(pair::now()).into_iter().map(text);
        warnings.chain(self.refused.iter().cloned()).collect()
    }

    /// Hosts whose clients are shown a certificate that is not for them; sentences. Of one host alone, the name may mean nothing.
    pub fn unnamed(&self, hosts: &[Host]) -> Vec<String> {
        let of_listener = |of: &Of| {
            let without = hosts.iter().filter(|host| !of.acceptor.has(&host.name)).map(|host| &*host.name);
            let without: Vec<&str> = without.filter(|name| *name != "localhost").collect();
            (!without.is_empty()).then(|| {
                format!(
                    "{}: no certificate is for {}, whose clients are shown the first one, and will refuse it",
                    of.listener.address,
                    without.join(", ")
                )
            })
        };
        match hosts.len() {
            0 | 1 => Vec::new(),
            _ => self.acceptors.iter().flatten().filter_map(of_listener).collect(),
        }
    }

    fn warnings(&self, now: i64) -> Vec<Warning> {
        let of_pairs = self.pairs.values().flat_map(|pair| pair.warnings(now));
        of_pairs.chain(self.warnings_of_clients(now, None)).collect()
    }

    /// Of those that are not as they were before.
    fn warnings_of_clients(&self, now: i64, before: Option<&State>) -> Vec<Warning> {
        let is_new = |key: &clients::Key, clients: &Arc<Clients>| {
            let known = before.and_then(|before| before.clients.get(key));
            !known.is_some_and(|known| Arc::ptr_eq(known, clients))
        };
        let overdue = |(key, clients): (&clients::Key, &Arc<Clients>)| {
            let crl = key.2.as_ref().filter(|_| clients.lists_end.is_some_and(|end| end < now))?;
            is_new(key, clients).then(|| {
                Warning::Warn(format!(
                    "{} holds a list that should have been replaced by now: what was revoked since is let in; fetch the next one",
                    crl.display()
                ))
            })
        };
        self.clients.iter().filter_map(overdue).collect()
    }

    /// `None`: something is wrong.
    ///
    /// # Errors
    /// A sentence that is about no file.
    fn of_listener(
        &mut self,
        listener: &Listener,
        tls: &Tls,
        before: &State,
        wrong: &mut BTreeSet<String>,
    ) -> Result<Option<Of>, String> {
        let pairs: Vec<Arc<Pair>> =
            tls.certificates.iter().filter_map(|files| self.pair(files, before, wrong)).collect();
        let clients = match clients::key_of(tls) {
            None => None,
            Some(key) => match self.clients(&key, before, wrong) {
                Some(clients) => Some(clients),
                None => return Ok(None),
            },
        };
        // The first is shown to those who name none.
        for pair in pairs.iter().skip(1).filter(|pair| pair.names.is_empty()) {
            self.refused.insert(format!(
                "{} names no host in its subjectAltName, so no client is shown it; say for which it is with `names`",
                pair.files.certificate.display()
            ));
        }
        if let Some(folder) = tls.folder.as_ref().filter(|_| pairs.is_empty()) {
            self.refused.insert(format!(
                "{}: there is no certificate in {}, so no client is let in; put cert.pem and key.pem into a folder of it",
                listener.address,
                folder.display()
            ));
        }
        let same = before.acceptors.iter().flatten().find(|of| of.listener.address == listener.address);
        let is_same_check = |of: &&Of| match (&of.clients, &clients) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        let same = same.filter(is_same_check);
        let is_same = |of: &&Of| {
            let same_pairs =
                of.pairs.len() == pairs.len() && of.pairs.iter().zip(&pairs).all(|(a, b)| Arc::ptr_eq(a, b));
            of.listener == *listener && same_pairs
        };
        let acceptor = match same.filter(is_same) {
            Some(of) => of.acceptor.clone(),
            None => {
                let tickets = same.and_then(|of| of.acceptor.tickets.clone());
                let names = Names::new(&pairs);
                Arc::new(Acceptor::new(listener, tls, names, clients.as_deref(), tickets)?)
            }
        };
        Ok(Some(Of { listener: listener.clone(), pairs, clients, acceptor }))
    }

    /// The pair of these files, or the one before it if there is one. Several listeners may have it.
    fn pair(&mut self, files: &CertificateFiles, before: &State, wrong: &mut BTreeSet<String>) -> Option<Arc<Pair>> {
        let key = (files.certificate.clone(), files.key.clone(), files.names.clone());
        if let Some(known) = self.pairs.get(&key) {
            return Some(known.clone());
        }
        let known = before.pairs.get(&key);
        let pair = match pair::read(files, known) {
            Ok(pair) => pair,
            Err(sentence) => {
                match (known, files.of_folder) {
                    (Some(_), _) => self.refused.insert(format!("{sentence}. The certificate before stays in force")),
                    (None, true) => self.refused.insert(format!("{sentence}. Until then it is left out")),
                    (None, false) => wrong.insert(sentence),
                };
                known?.clone()
            }
        };
        self.pairs.insert(key, pair.clone());
        Some(pair)
    }

    fn clients(&mut self, key: &clients::Key, before: &State, wrong: &mut BTreeSet<String>) -> Option<Arc<Clients>> {
        if let Some(known) = self.clients.get(key) {
            return Some(known.clone());
        }
        let known = before.clients.get(key);
        let clients = match clients::read(key, known) {
            Ok(clients) => clients,
            Err(sentence) => {
                match known {
                    Some(_) => self.refused.insert(format!("{sentence}. Clients are checked by what was there before")),
                    None => wrong.insert(sentence),
                };
                known?.clone()
            }
        };
        self.clients.insert(key.clone(), clients.clone());
        Some(clients)
    }
}

fn pair_status(pair: &Pair, now: i64) -> Value {
    json!({
        "certificate": pair.files.certificate.display().to_string(),
        "names": pair.names,
        "expires": pair.ends_on(),
        "days": pair.days_left(now),
    })
}

fn say(warning: &Warning) {
    match warning {
        Warning::Warn(sentence) => tracing::warn!("{sentence}"),
        Warning::Error(sentence) => tracing::error!("{sentence}"),
    }
}

fn text(warning: Warning) -> String {
    let (Warning::Warn(sentence) | Warning::Error(sentence)) = warning;
    sentence
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};
    use serval_config::Server;
    use time::{Duration, OffsetDateTime};

    use super::*;

    const DAY: i64 = 86_400;

    /// Writes a pair that is good for so many days.
    fn put(home: &Path, days: i64) {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        parameters.not_after = OffsetDateTime::now_utc() + Duration::days(days) + Duration::hours(1);
        let key = KeyPair::generate().unwrap();
        fs::write(home.join("own.pem"), parameters.self_signed(&key).unwrap().pem() + &key.serialize_pem()).unwrap();
    }

    fn config(home: &Path) -> Server {
        fs::create_dir_all(home.join("webapps")).unwrap();
        let tls = "[[listener]]\n[listener.tls]\ncertificate = \"own.pem\"\nkey = \"own.pem\"";
        fs::write(home.join("server.toml"), tls).unwrap();
        serval_config::load_server(&home.join("server.toml"), home).unwrap()
    }

    #[test]
    fn what_is_wrong_is_said_again_each_day() {
        let home = tempfile::tempdir().unwrap();
        put(home.path(), 20);
        let (config, tls, now) = (config(home.path()), InForce::default(), pair::now());
        tls.put_in_force(tls.prepare(&config.listeners).unwrap());
        // It can be read by all, as it was written.
        let said = |now| tls.due(now).into_iter().map(text).filter(|said| !said.contains("chmod")).collect::<Vec<_>>();
        assert_eq!(said(now + 5 * DAY).len(), 0);
        let [warning] = &said(now + 7 * DAY)[..] else { panic!("one") };
        assert!(warning.contains("expires in 13 days"), "{warning}");
        assert_eq!(said(now + 7 * DAY + 3600).len(), 0);
        let [warning] = &said(now + 8 * DAY)[..] else { panic!("one") };
        assert!(warning.contains("expires in 12 days"), "{warning}");
        let [warning] = &said(now + 21 * DAY)[..] else { panic!("one") };
        assert!(warning.contains("has expired on"), "{warning}");
        // The clock is set back.
        assert_eq!(said(now).len(), 0);
        fs::write(home.path().join("own.pem"), "").unwrap();
        tls.put_in_force(tls.prepare(&config.listeners).unwrap());
        let [refused] = &said(now + DAY)[..] else { panic!("one") };
        assert!(refused.ends_with("The certificate before stays in force"), "{refused}");
    }

    #[test]
    fn what_has_not_changed_stays_the_same() {
        let home = tempfile::tempdir().unwrap();
        put(home.path(), 20);
        let (mut config, tls) = (config(home.path()), InForce::default());
        let acceptor = |listeners: &[Listener]| {
            let next = tls.prepare(listeners).unwrap();
            let acceptor = next.acceptor(0).unwrap();
            tls.put_in_force(next);
            acceptor
        };
        let tickets = |acceptor: &Arc<Acceptor>| Arc::as_ptr(acceptor.tickets.as_ref().unwrap()).cast::<()>();
        let first = acceptor(&config.listeners);
        assert!(Arc::ptr_eq(&first, &acceptor(&config.listeners)));
        // Clients of the certificate before resume.
        put(home.path(), 30);
        let second = acceptor(&config.listeners);
        assert!(!Arc::ptr_eq(&first, &second) && tickets(&first) == tickets(&second));
        // But not where they are asked for certificates, which a ticket would keep from being looked at.
        let tls = Tls {
            client_certificate: serval_config::ClientCertificate::Optional,
            client_ca: Some(home.path().join("own.pem")),
            ..Tls::clone(config.listeners[0].tls.as_ref().unwrap())
        };
        config.listeners[0].tls = Some(Arc::new(tls));
        assert!(acceptor(&config.listeners).tickets.is_none());
    }
}
