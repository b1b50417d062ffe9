//! Certificates of clients.

use std::io;

use e2e::serval::{Home, Serval};
use e2e::steady::wait_until;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::client::{Answer, Client};
use crate::signer::{Signed, Signer};
use crate::{put, replace, start};

struct Stage {
    home: Home,
    signer: Signer,
    /// Who signs clients.
    other: Signer,
}

impl Stage {
    fn new() -> Stage {
        let stage = Stage { home: Home::new().unwrap(), signer: Signer::new("servers"), other: Signer::new("clients") };
        put(&stage.home, "own", &stage.signer.sign(&["localhost"]));
        stage.home.write("conf/clients.pem", &stage.other.pem).unwrap();
        stage
    }

    fn start(&self, word: &str, more: &str) -> Serval {
        start(&self.home, &format!("client_certificate = \"{word}\"\nclient_ca = \"conf/clients.pem\"\n{more}"))
    }

    fn ask_by(
        &self,
        version: &'static SupportedProtocolVersion,
        serval: &Serval,
        own: Option<&Signed>,
    ) -> Result<Answer, String> {
        let client = Client::with(&self.signer, &[version], own);
        let answer: io::Result<Answer> =
            client.open(serval.address(), "localhost").and_then(|mut open| open.get("localhost", "/"));
        answer.map_err(|error| error.to_string())
    }

    /// Waits until a certificate is good, or is not any more.
    fn becomes(&self, serval: &Serval, own: &Signed, is_good: bool) {
        wait_until("others are let in", || self.ask_by(&TLS13, serval, Some(own)).is_ok() == is_good);
    }

    /// Asks with a certificate, by both versions, which have to agree.
    fn ask(&self, serval: &Serval, own: Option<&Signed>) -> Result<Answer, String> {
        let (old, new) = (self.ask_by(&TLS12, serval, own), self.ask_by(&TLS13, serval, own));
        assert_eq!(old.is_ok(), new.is_ok(), "{:?} {:?}", old.err(), new.err());
        new
    }
}

#[test]
fn they_are_asked_for_as_it_is_said() {
    let stage = Stage::new();
    let (good, bad) = (stage.other.sign_client("ada", 1), stage.signer.sign_client("eve", 2));
    for (word, without) in [("none", true), ("optional", true), ("required", false)] {
        let serval = stage.start(word, "");
        let answer = stage.ask(&serval, None);
        assert_eq!(answer.is_ok(), without, "{word}: {:?}", answer.err());
        if word == "required" {
            assert!(answer.err().unwrap().contains("CertificateRequired"));
        }
        assert_eq!(stage.ask(&serval, Some(&good)).unwrap().body, "hello", "{word}");
        // One of somebody else is no better than none.
        let answer = stage.ask(&serval, Some(&bad));
        assert_eq!(answer.is_ok(), word == "none", "{word}");
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn what_was_revoked_is_not_let_in_from_then_on() {
    let stage = Stage::new();
    let (ada, bob) = (stage.other.sign_client("ada", 1), stage.other.sign_client("bob", 2));
    stage.home.write("conf/revoked.pem", stage.other.revoked(&[2], 10)).unwrap();
    let serval = stage.start("required", "client_crl = \"conf/revoked.pem\"");
    assert!(stage.ask(&serval, Some(&ada)).is_ok());
    let told = stage.ask(&serval, Some(&bob)).err().unwrap();
    assert!(told.contains("CertificateRevoked"), "{told}");
    // There is no ticket that would be a way around the next list.
    let clients = [&TLS12, &TLS13].map(|version| Client::with(&stage.signer, &[version], Some(&ada)));
    for client in &clients {
        assert_eq!(client.open(serval.address(), "localhost").unwrap().get("localhost", "/").unwrap().status, 200);
        let mut again = client.open(serval.address(), "localhost").unwrap();
        assert_eq!((again.get("localhost", "/").unwrap().status, again.is_resumed()), (200, false));
    }
    replace(&stage.home, "conf/revoked.pem", &stage.other.revoked(&[1], -1));
    stage.becomes(&serval, &bob, true);
    assert!(stage.ask(&serval, Some(&ada)).is_err());
    for client in &clients {
        assert!(client.open(serval.address(), "localhost").and_then(|mut open| open.get("localhost", "/")).is_err());
    }
    let line = serval.wait_for_log("should have been replaced by now", crate::LONG).unwrap();
    assert!(line.contains(" WARN ") && line.contains("conf/revoked.pem"), "{line}");
    // A broken one changes nothing.
    replace(&stage.home, "conf/revoked.pem", "no list");
    let line = serval.wait_for_log("holds no list of revoked certificates in PEM", crate::LONG).unwrap();
    assert!(line.contains("Clients are checked by what was there before"), "{line}");
    assert!(stage.ask(&serval, Some(&bob)).is_ok() && stage.ask(&serval, Some(&ada)).is_err());
    // Nor does one that is of nobody who signs here: who cannot be looked up is not let in.
    replace(&stage.home, "conf/revoked.pem", &stage.signer.revoked(&[], 10));
    stage.becomes(&serval, &bob, false);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn those_who_may_sign_change() {
    let stage = Stage::new();
    let (ada, eve) = (stage.other.sign_client("ada", 1), stage.signer.sign_client("eve", 2));
    let serval = stage.start("required", "");
    assert!(stage.ask(&serval, Some(&ada)).is_ok() && stage.ask(&serval, Some(&eve)).is_err());
    replace(&stage.home, "conf/clients.pem", &stage.signer.pem);
    stage.becomes(&serval, &eve, true);
    assert!(stage.ask(&serval, Some(&ada)).is_err());
    replace(&stage.home, "conf/clients.pem", "nobody");
    let line = serval.wait_for_log("holds no certificate in PEM", crate::LONG).unwrap();
    assert!(line.contains("Clients are checked by what was there before"), "{line}");
    assert!(stage.ask(&serval, Some(&eve)).is_ok());
    assert!(serval.stop().unwrap().success());
}
