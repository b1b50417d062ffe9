//! `serval cert self-signed`.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use e2e::commands::{done, serval as run};
use e2e::serval::{Home, Serval};

use crate::output;

#[test]
fn a_certificate_is_made_and_served_as_it_says() {
    let home = Home::new().unwrap();
    home.write("webapps/ROOT/index.html", "hello").unwrap();
    let said = done(&home, &["cert", "self-signed", "localhost", "*.wild.test", "127.0.0.1", "--days", "7"]);
    let toml = said.split("write:\n\n").nth(1).unwrap().split("\n\n").next().unwrap();
    home.write("conf/server.toml", toml.replace(":8443", ":0")).unwrap();
    let mode = |file: &str| home.path(file).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("conf/tls/localhost/key.pem"), mode("conf/tls/localhost/cert.pem")), (0o600, 0o644));
    let serval = Serval::start(&home).unwrap();
    let port = serval.address().port();
    for host in ["localhost", "shop.wild.test", "127.0.0.1"] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--resolve", &format!("shop.wild.test:{port}:127.0.0.1"), "--cacert"]);
        curl.arg(home.path("conf/tls/localhost/cert.pem")).arg(format!("https://{host}:{port}/"));
        assert_eq!(output(curl), "hello", "{host}");
    }
    let told = done(&home, &["status"]);
    assert!(told.contains(" 7 days left") || told.contains(" 6 days left"), "{told}");
    let (code, _, error) = run(&home, &["cert", "self-signed", "localhost"]);
    assert!(code == Some(1) && error.contains("is there already; replace it with --force"), "{error}");
    let before = std::fs::read(home.path("conf/tls/localhost/cert.pem")).unwrap();
    done(&home, &["cert", "self-signed", "localhost", "--force"]);
    assert!(before != std::fs::read(home.path("conf/tls/localhost/cert.pem")).unwrap());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_is_no_name_is_refused() {
    let home = Home::new().unwrap();
    for (name, why) in [
        ("a b", "\"a b\" is not the name of a host, nor an address; write such as localhost or www.example.com"),
        ("../up", "\"../up\" is not the name of a host, nor an address; write such as localhost or www.example.com"),
        ("*", "\"*\" is not the name of a host, nor an address; write such as localhost or www.example.com"),
        ("bücher.test", "\"bücher.test\" is not the name of a host, nor an address; write it in its xn-- form"),
    ] {
        let (code, _, error) = run(&home, &["cert", "self-signed", name]);
        assert_eq!((code, error.trim()), (Some(1), why));
    }
    let (code, _, error) = run(&home, &["cert", "self-signed", "localhost", "--days", "826"]);
    assert!(code == Some(2) && error.contains("826 is not in 1..=825"), "{error}");
    home.write("file", "").unwrap();
    let out = home.path("file").display().to_string();
    let (code, _, error) = run(&home, &["cert", "self-signed", "localhost", "--out", &out]);
    assert!(code == Some(1) && error.contains("cannot be written"), "{error}");
}
