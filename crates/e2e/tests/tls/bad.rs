//! What cannot be served: a sentence that says where, what, and what to do, from `serval check` and from a start.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use e2e::commands::serval as run;
use e2e::serval::Home;

use crate::signer::Signer;
use crate::{configure, output, put};

/// `spoil` changes what is good; both commands say this and fail.
#[track_caller]
fn check(toml: &str, expected: &str, spoil: impl FnOnce(&Home, &Signer)) {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    put(&home, "own", &signer.sign(&["localhost"]));
    home.write("conf/clients.pem", &signer.pem).unwrap();
    configure(&home, toml);
    spoil(&home, &signer);
    for command in ["check", "run"] {
        let (code, _, error) = run(&home, &[command]);
        let error = error.replace(&home.path("").display().to_string(), "");
        // That it runs as root is said too.
        let said: Vec<&str> = error.lines().filter(|line| !line.contains(" WARN ")).collect();
        assert_eq!((code, &*said.join("\n")), (Some(1), expected), "{command}");
    }
}

fn openssl(home: &Home, words: &str) {
    let mut command = Command::new("openssl");
    command.args(words.split(' ')).current_dir(home.path("conf"));
    output(command);
}

#[test]
fn a_pair_that_cannot_be_served() {
    let none = |_: &Home, _: &Signer| {};
    check(
        "certificate = \"conf/none.pem\"\nkey = \"conf/own.key\"",
        "conf/none.pem is not there; create it, or correct the path; a relative one lies in the home",
        none,
    );
    check("certificate = \"conf\"\nkey = \"conf/own.key\"", "conf is not a file; name a file of PEM", none);
    check("", "conf/own.pem is empty; write the certificate into it, in PEM", |home, _| {
        home.write("conf/own.pem", "").unwrap();
    });
    check(
        "certificate = \"conf/own.key\"\nkey = \"conf/own.pem\"",
        "conf/own.key holds a key, but no certificate; name the file of the certificate, or have `certificate` and `key` change places",
        none,
    );
    check(
        "certificate = \"conf/own.pem\"\nkey = \"conf/own.pem\"",
        "conf/own.pem holds a certificate, but no key; name the file of the key, or have `certificate` and `key` change places",
        none,
    );
    check(
        "",
        "conf/own.key is not the key of conf/own.pem; name the two that belong together, of which the certificate stands first in its file",
        |home, signer| home.write("conf/own.key", signer.sign(&["localhost"]).key).unwrap(),
    );
    check("", "conf/own.pem holds no certificate in PEM; name the file that does", |home, _| {
        home.write("conf/own.pem", "hello").unwrap();
    });
    check(
        "",
        "conf/own.pem is no whole PEM: its line `-----END CERTIFICATE-----` is missing; write the whole file",
        |home, signer| home.write("conf/own.pem", &signer.pem[..100]).unwrap(),
    );
}

#[test]
fn what_others_have_written() {
    check(
        "",
        "conf/own.key is a key with a passphrase, which nobody is there to type; write it without: openssl pkey -in conf/own.key -out key.pem",
        |home, _| {
            openssl(home, "pkey -in own.key -aes256 -passout pass:secret -out locked.key");
            std::fs::rename(home.path("conf/locked.key"), home.path("conf/own.key")).unwrap();
        },
    );
    check(
        "",
        "conf/own.key is a key with a passphrase, which nobody is there to type; write it without: openssl pkey -in conf/own.key -out key.pem",
        |home, _| openssl(home, "genrsa -traditional -aes128 -passout pass:secret -out own.key 2048"),
    );
    check(
        "",
        "conf/own.pem is DER, but PEM is needed: openssl x509 -inform DER -in conf/own.pem -out cert.pem",
        |home, _| {
            openssl(home, "x509 -in own.pem -outform DER -out der.pem");
            std::fs::rename(home.path("conf/der.pem"), home.path("conf/own.pem")).unwrap();
        },
    );
    check(
        "",
        "conf/own.pem holds a request for a certificate; name the certificate that was given for it",
        |home, _| openssl(home, "req -new -key own.key -subj /CN=localhost -out own.pem"),
    );
    check(
        "client_certificate = \"required\"\nclient_ca = \"conf/none.pem\"",
        "conf/none.pem is not there; create it, or correct the path; a relative one lies in the home",
        |_, _| {},
    );
    check(
        "client_certificate = \"optional\"\nclient_ca = \"conf/clients.pem\"\nclient_crl = \"conf/clients.pem\"",
        "conf/clients.pem holds no list of revoked certificates in PEM; name the file that does",
        |_, _| {},
    );
}

#[test]
fn a_key_that_nobody_takes() {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    put(&home, "own", &signer.sign(&["localhost"]));
    configure(&home, "");
    openssl(&home, "req -x509 -newkey rsa:1024 -nodes -keyout own.key -out own.pem -days 9 -subj /CN=localhost");
    let (code, _, error) = run(&home, &["check"]);
    assert!(code == Some(1) && error.contains("own.key holds a key that cannot be used: "), "{error}");
    assert!(error.contains("or of RSA with 2048 bits or more"), "{error}");
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_what_is_doubtful_is_a_warning() {
    let (home, signer) = (Home::new().unwrap(), Signer::new("one"));
    put(&home, "own", &signer.sign_for(&["localhost"], 3));
    std::fs::set_permissions(home.path("conf/own.key"), PermissionsExt::from_mode(0o644)).unwrap();
    configure(&home, "");
    let (code, _, error) = run(&home, &["check"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("warning: the certificate of localhost (") && error.contains("expires in "), "{error}");
    assert!(error.contains("own.key can be read by all users of this machine"), "{error}");
    let hosts = "[[host]]\n[[host]]\nname = \"shop.test\"";
    configure(&home, hosts);
    let (code, _, error) = run(&home, &["check"]);
    let doubt = "warning: 127.0.0.1:0: no certificate is for shop.test, whose clients are shown the first one, and will refuse it";
    assert!(code == Some(0) && error.contains(doubt), "{error}");
    let more = "[[listener.tls.certificates]]\ncertificate = \"conf/a.pem\"\nkey = \"conf/a.key\"\n";
    let own = "certificate = \"conf/own.pem\"\nkey = \"conf/none.key\"\n";
    configure(&home, &format!("{own}{more}"));
    let (code, _, error) = run(&home, &["check"]);
    assert!(
        code == Some(1) && error.contains("none.key is not there") && error.contains("a.pem is not there"),
        "{error}"
    );
}
