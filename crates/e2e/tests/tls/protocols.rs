//! What is spoken.

use std::process::{Command, Stdio};

use e2e::serval::Home;
use rustls::version::{TLS12, TLS13};

use crate::client::Client;
use crate::signer::Signer;
use crate::{LONG, output, put, start};

fn home_of(signer: &Signer) -> Home {
    let home = Home::new().unwrap();
    put(&home, "own", &signer.sign(&["localhost"]));
    home.write("conf/ca.pem", &signer.pem).unwrap();
    home
}

#[test]
fn both_versions_are_spoken_unless_one_is_left_out() {
    let signer = Signer::new("one");
    let (new, old) = (Client::with(&signer, &[&TLS13], None), Client::with(&signer, &[&TLS12], None));
    for (versions, is_new, is_old) in
        [("[\"1.2\", \"1.3\"]", true, true), ("[\"1.3\"]", true, false), ("[\"1.2\"]", false, true)]
    {
        let home = home_of(&signer);
        let serval = start(&home, &format!("versions = {versions}"));
        for (client, is_let_in) in [(&new, is_new), (&old, is_old)] {
            let answer = client.open(serval.address(), "localhost").and_then(|mut open| open.get("localhost", "/"));
            match answer {
                Ok(answer) => assert!(is_let_in && answer.body == "hello", "{versions}: {}", answer.head),
                Err(error) => {
                    assert!(!is_let_in && error.to_string().contains("ProtocolVersion"), "{versions}: {error}")
                }
            }
        }
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn the_protocol_is_agreed_on_in_the_handshake() {
    let signer = Signer::new("one");
    for (protocols, offers, version) in [
        ("[\"h2\", \"http/1.1\"]", "--http2", "2"),
        ("[\"h2\", \"http/1.1\"]", "--http1.1", "1.1"),
        ("[\"http/1.1\"]", "--http2", "1.1"),
        ("[\"h2\", \"http/1.1\"]", "--no-alpn", "1.1"),
    ] {
        let home = home_of(&signer);
        home.write("webapps/ROOT/index.html", "hello").unwrap();
        let tls = "[listener.tls]\ncertificate = \"conf/own.pem\"\nkey = \"conf/own.key\"";
        home.write(
            "conf/server.toml",
            format!("[[listener]]\naddress = \"127.0.0.1:0\"\nprotocols = {protocols}\n{tls}"),
        )
        .unwrap();
        let serval = e2e::serval::Serval::start(&home).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["-sS", offers, "-w", " %{http_version}", "--cacert"]).arg(home.path("conf/ca.pem"));
        curl.arg(format!("https://localhost:{}/", serval.address().port()));
        assert_eq!(output(curl), format!("hello {version}"), "{protocols} {offers}");
        assert!(serval.stop().unwrap().success());
    }
}

#[test]
fn clients_resume_by_tickets_and_not_without() {
    let signer = Signer::new("one");
    for (key, resumes) in [("tickets = true", true), ("tickets = false", false)] {
        for version in [&TLS12, &TLS13] {
            let home = home_of(&signer);
            let serval = start(&home, key);
            let client = Client::with(&signer, &[version], None);
            for is_second in [false, true] {
                let mut connection = client.open(serval.address(), "localhost").unwrap();
                // Tickets of TLS 1.3 come behind the handshake.
                assert_eq!(connection.get("localhost", "/").unwrap().body, "hello");
                assert_eq!(connection.is_resumed(), is_second && resumes, "{key}, {version:?}");
            }
            assert!(serval.stop().unwrap().success());
        }
    }
}

#[test]
fn what_is_no_tls_is_refused() {
    let signer = Signer::new("one");
    let home = home_of(&signer);
    let serval = start(&home, "");
    let mut plain = e2e::http_client::Connection::open(serval.address(), LONG).unwrap();
    let answer = plain.get("/").unwrap();
    assert_eq!(answer.status, 400);
    assert!(
        String::from_utf8_lossy(&answer.body).contains("the listener speaks TLS, and the request has come without")
    );
    let mut noise = e2e::http_client::Connection::open(serval.address(), LONG).unwrap();
    noise.send(&[0x80; 600]).unwrap();
    noise.finish_sending().unwrap();
    assert!(noise.read_response().is_err());
    let fallback = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-fallback_scsv", "-connect", &serval.address().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&fallback.stderr);
    assert!(!fallback.status.success() && said.contains("inappropriate fallback"), "{said}");
    assert_eq!(
        Client::new(&signer).open(serval.address(), "localhost").unwrap().get("localhost", "/").unwrap().status,
        200
    );
    assert!(serval.stop().unwrap().success());
}
