//! Certificates are replaced while requests flow.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use e2e::commands::{becomes, serval as run, status};
use e2e::serval::{Home, Serval};
use e2e::steady::wait_until;

use crate::client::Client;
use crate::signer::{Signed, Signer};
use crate::{LONG, put, replace, start};

fn shows(client: &Client, serval: &Serval, expected: &Signed) -> bool {
    client.open(serval.address(), "localhost").unwrap().certificate() == expected.der
}

#[test]
fn a_pair_is_replaced_with_no_handshake_or_request_that_fails() {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    let mut pair = signer.sign(&["localhost"]);
    put(&home, "own", &pair);
    let serval = start(&home, "");
    let (client, done, handshakes) = (Client::new(&signer), AtomicBool::new(false), AtomicUsize::new(0));
    let mut kept = client.open(serval.address(), "localhost").unwrap();
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let client = Client::new(&signer);
                while !done.load(Ordering::Relaxed) {
                    let mut connection = client.open(serval.address(), "localhost").expect("a handshake");
                    assert_eq!(connection.get("localhost", "/").expect("an answer").body, "hello");
                    handshakes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            pair = signer.sign(&["localhost"]);
            // One behind the other: what lies there between them does not fit together.
            replace(&home, "conf/own.key", &pair.key);
            replace(&home, "conf/own.pem", &pair.certificate);
            let before = handshakes.load(Ordering::Relaxed);
            wait_until("the next one is shown", || shows(&client, &serval, &pair));
            wait_until("more have come", || handshakes.load(Ordering::Relaxed) > before + 20);
            assert_eq!(kept.get("localhost", "/").unwrap().body, "hello");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(kept.certificate() != pair.der);
    let lines = serval.stop_and_read().unwrap();
    let said = lines.iter().filter(|line| line.contains("INFO certificate of localhost (")).count();
    assert_eq!(said, 6, "each is told of once: {lines:#?}");
}

#[test]
fn a_pair_that_does_not_fit_keeps_the_one_before_and_says_so() {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    let (old, new) = (signer.sign(&["localhost"]), signer.sign(&["localhost"]));
    put(&home, "own", &old);
    let serval = start(&home, "");
    let client = Client::new(&signer);
    assert_eq!(run(&home, &["status"]).0, Some(0));
    let spoilt: [(&str, &str, &str); 4] = [
        ("conf/own.key", &new.key, "is not the key of"),
        ("conf/own.pem", "", "is empty; write the certificate into it"),
        ("conf/own.pem", &new.certificate[..200], "is no whole PEM: its line `-----END CERTIFICATE-----` is missing"),
        ("conf/own.key", "no key", "holds no key in PEM"),
    ];
    for (file, contents, why) in spoilt {
        put(&home, "own", &old);
        becomes(&home, |told| told["tls"]["refused"][0].is_null());
        home.write(file, contents).unwrap();
        let told = becomes(&home, |told| told["tls"]["refused"][0].is_string());
        let sentence = told["tls"]["refused"][0].as_str().unwrap();
        assert!(sentence.contains(why) && sentence.ends_with("The certificate before stays in force"), "{sentence}");
        assert!(told["configuration"]["refused"].is_null(), "{told:#}");
        serval.wait_for_log(sentence, LONG).unwrap();
        let (code, out, _) = run(&home, &["status"]);
        assert!(code == Some(3) && out.contains(sentence), "{code:?} {out}");
        assert!(shows(&client, &serval, &old));
        // All else goes on meanwhile.
        home.write("webapps/ROOT/index.html", why).unwrap();
        wait_until("the file is another one", || {
            client.open(serval.address(), "localhost").unwrap().get("localhost", "/").unwrap().body == why
        });
    }
    std::fs::remove_file(home.path("conf/own.pem")).unwrap();
    let told =
        becomes(&home, |told| told["tls"]["refused"][0].as_str().is_some_and(|told| told.contains("is not there")));
    assert!(shows(&client, &serval, &old), "{told:#}");
    put(&home, "own", &new);
    wait_until("the next one is shown", || shows(&client, &serval, &new));
    assert!(status(&home)["tls"]["refused"][0].is_null());
    assert_eq!(run(&home, &["status"]).0, Some(0));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn another_pair_that_is_not_good_is_refused_with_the_configuration() {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    let old = signer.sign(&["localhost"]);
    put(&home, "own", &old);
    let serval = start(&home, "");
    crate::configure(&home, "certificate = \"conf/own.pem\"\nkey = \"conf/nowhere.key\"");
    let told = becomes(&home, |told| told["configuration"]["refused"].is_string());
    let sentence = told["configuration"]["refused"].as_str().unwrap();
    assert!(sentence.contains("conf/nowhere.key is not there; create it"), "{sentence}");
    assert!(shows(&Client::new(&signer), &serval, &old));
    // The one in force is renewed all the same.
    let new = signer.sign(&["localhost"]);
    put(&home, "own", &new);
    wait_until("the next one is shown", || shows(&Client::new(&signer), &serval, &new));
    assert!(status(&home)["configuration"]["refused"].is_string());
    put(&home, "own", &old);
    home.write("conf/nowhere.key", &old.key).unwrap();
    becomes(&home, |told| told["configuration"]["refused"].is_null());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn days_to_the_end_are_told() {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    put(&home, "own", &signer.sign_for(&["localhost", "a.test"], 100));
    let serval = start(&home, "");
    let told = status(&home);
    let certificate = &told["tls"]["certificates"][0];
    assert_eq!(certificate["names"], serde_json::json!(["a.test", "localhost"]));
    assert!([99, 100].map(Into::into).contains(&certificate["days"]), "{told:#}");
    assert!(told["tls"]["warnings"][0].is_null(), "{told:#}");
    let (code, out, _) = run(&home, &["status"]);
    let day = certificate["expires"].as_str().unwrap();
    assert!(code == Some(0) && out.contains("the certificate of a.test, localhost (") && out.contains(day), "{out}");
    serval.wait_for_log("INFO certificate of a.test, localhost (", LONG).unwrap();
    for (days, said, level) in [(5, "expires in ", " WARN "), (-5, "has expired on ", "ERROR ")] {
        put(&home, "own", &signer.sign_for(&["localhost"], days));
        let line = serval.wait_for_log(said, LONG).unwrap();
        assert!(line.contains(level) && line.contains("the certificate of localhost ("), "{line}");
        let told = status(&home)["tls"]["warnings"][0].to_string();
        assert!(told.contains(said), "{told}");
    }
    std::fs::set_permissions(home.path("conf/own.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let line = serval.wait_for_log("can be read by all users of this machine", LONG).unwrap();
    assert!(line.contains(" WARN ") && line.contains("chmod o-r"), "{line}");
    assert!(serval.stop().unwrap().success());
}
