//! What servlets learn. Those in Rust are in the tests of the SDK.

use std::path::Path;
use std::process::Command;

use e2e::http_client;
use e2e::process;
use e2e::serval::{Home, Serval, repository};
use rustls::version::{TLS12, TLS13};

use crate::client::Client;
use crate::signer::Signer;
use crate::{LONG, put};

#[test]
fn servlets_learn_how_the_connection_is_protected_and_who_has_shown_which_certificate() {
    let (home, signer, other) = (Home::new().unwrap(), Signer::new("servers"), Signer::new("clients"));
    put(&home, "own", &signer.sign(&["localhost", "a.test"]));
    home.write("conf/clients.pem", &other.pem).unwrap();
    let tls = "[listener.tls]\ncertificate = \"conf/own.pem\"\nkey = \"conf/own.key\"\nclient_certificate = \"optional\"\nclient_ca = \"conf/clients.pem\"";
    home.configure(&format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{tls}")).unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let library = home.path("webapps/c/WEB-INF/lib/tls.so");
    std::fs::create_dir_all(library.parent().unwrap()).unwrap();
    let mut command = Command::new("cc");
    command
        .args(["-std=c99", "-Wall", "-Werror", "-shared", "-fPIC", "-I"])
        .arg(repository().join("crates/abi/include"));
    command.arg(own.join("tls.c")).arg("-o").arg(&library);
    process::run(command, LONG).unwrap();
    let serval = Serval::start(&home).unwrap();

    let (plain, address) = (serval.addresses()[0], serval.addresses()[1]);
    let ada = other.sign_client("ada", 1);
    let shown: String = ada.der.iter().map(|byte| format!("{byte:02x}")).collect();
    let answer = http_client::Connection::open(plain, LONG).unwrap().get("/c/c").unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.body), "plain");
    let ask = |version, own, host: &str| {
        let client = Client::with(&signer, &[version], own);
        client.open(address, host).unwrap().get(host, "/c/c").unwrap().body
    };
    assert_eq!(ask(&TLS13, None, "localhost"), "TLSv1.3 TLS_AES_256_GCM_SHA384 localhost https secure");
    let old = "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 a.test https secure";
    assert_eq!(ask(&TLS12, None, "a.test"), old);
    let expected = format!("TLSv1.3 TLS_AES_256_GCM_SHA384 localhost https secure {shown}");
    assert_eq!(ask(&TLS13, Some(&ada), "localhost"), expected);
    let nameless = Client::nameless(&signer).open(address, "localhost").unwrap().get("localhost", "/c/c").unwrap();
    assert_eq!(nameless.body, "TLSv1.3 TLS_AES_256_GCM_SHA384 - https secure");
    assert!(serval.stop().unwrap().success());
}
