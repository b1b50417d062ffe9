//! Which certificate is shown to whom.

use e2e::commands::{becomes, status};
use e2e::serval::Home;
use e2e::steady::wait_until;

use crate::client::Client;
use crate::signer::{Signed, Signer};
use crate::{put, start};

/// What a client that names this host is shown.
#[track_caller]
fn shows(client: &Client, address: std::net::SocketAddr, host: &str, expected: &Signed) {
    let connection = client.open(address, host).unwrap_or_else(|error| panic!("{host}: {error}"));
    assert!(connection.certificate() == expected.der, "{host} was shown another certificate");
}

#[test]
fn a_certificate_is_shown_for_its_names_and_the_first_one_for_all_others() {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    let first = signer.sign(&["first.test", "unknown.test", "deep.er.wild.test", "wild.test", "127.0.0.1"]);
    let wild = signer.sign(&["*.wild.test"]);
    let exact = signer.sign(&["Exact.wild.test", "other.test"]);
    let named = signer.sign(&["here.test", "there.test"]);
    for (name, signed) in [("own", &first), ("wild", &wild), ("exact", &exact), ("named", &named)] {
        put(&home, name, signed);
    }
    let more = ["wild", "exact"].map(|name| {
        format!("[[listener.tls.certificates]]\ncertificate = \"conf/{name}.pem\"\nkey = \"conf/{name}.key\"\n")
    });
    let first_pair = "certificate = \"conf/own.pem\"\nkey = \"conf/own.key\"\n";
    let named_pair = "[[listener.tls.certificates]]\ncertificate = \"conf/named.pem\"\nkey = \"conf/named.key\"\nnames = [\"there.test\"]\n";
    let serval = start(&home, &format!("{first_pair}{}{named_pair}", more.concat()));
    let (address, client) = (serval.address(), Client::new(&signer));
    shows(&client, address, "first.test", &first);
    shows(&client, address, "unknown.test", &first);
    shows(&client, address, "any.wild.test", &wild);
    // One label more, no more and no less.
    shows(&client, address, "wild.test", &first);
    shows(&client, address, "deep.er.wild.test", &first);
    shows(&client, address, "exact.wild.test", &exact);
    shows(&client, address, "EXACT.WILD.TEST", &exact);
    shows(&client, address, "other.test", &exact);
    shows(&client, address, "there.test", &named);
    // It could be, by what it holds; `names` says otherwise.
    assert!(client.open(address, "here.test").is_err());
    shows(&client, address, "127.0.0.1", &first);
    shows(&Client::nameless(&signer), address, "first.test", &first);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn folders_of_certificates_come_and_go() {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    let add = |name: &str, signed: &Signed| {
        home.write(&format!("conf/tls/{name}/key.pem"), &signed.key).unwrap();
        home.write(&format!("conf/tls/{name}/cert.pem"), &signed.certificate).unwrap();
    };
    std::fs::create_dir_all(home.path("conf/tls")).unwrap();
    let serval = start(&home, "folder = \"conf/tls\"");
    let (address, client) = (serval.address(), Client::new(&signer));
    assert!(client.open(address, "a.test").is_err());
    let told = status(&home)["tls"]["refused"][0].to_string();
    assert!(told.contains("there is no certificate in") && told.contains("conf/tls"), "{told}");
    let (a, b) = (signer.sign(&["a.test"]), signer.sign(&["b.test"]));
    add("a", &a);
    wait_until("the first one is shown", || client.open(address, "a.test").is_ok());
    add("b", &b);
    wait_until("the second one is shown", || client.open(address, "b.test").is_ok());
    shows(&client, address, "a.test", &a);
    shows(&client, address, "b.test", &b);
    // A broken one is left out, and all else goes on.
    home.write("conf/tls/c/cert.pem", "").unwrap();
    let told = becomes(&home, |told| told["tls"]["refused"][0].is_string());
    let sentence = told["tls"]["refused"][0].as_str().unwrap();
    assert!(sentence.contains("conf/tls/c/") && sentence.ends_with("Until then it is left out"), "{sentence}");
    shows(&client, address, "b.test", &b);
    std::fs::remove_dir_all(home.path("conf/tls/c")).unwrap();
    std::fs::remove_dir_all(home.path("conf/tls/b")).unwrap();
    let told = becomes(&home, |told| told["tls"]["refused"][0].is_null());
    assert_eq!(told["tls"]["certificates"].as_array().unwrap().len(), 1, "{told:#}");
    assert!(client.open(address, "b.test").is_err());
    shows(&client, address, "a.test", &a);
    assert!(serval.stop().unwrap().success());
}
