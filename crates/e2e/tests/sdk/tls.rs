//! What a servlet learns of TLS.

use std::fs;
use std::process::Command;

use e2e::commands::done;

use crate::kitchen::{Kitchen, LIBRARY, libraries};

#[test]
fn the_connection_and_the_certificate_of_the_client() {
    let kitchen = Kitchen::open();
    kitchen.check("/tls", 200, "plain");
    let home = &kitchen.home;
    done(home, &["cert", "self-signed", "localhost"]);
    let conf = home.path("conf");
    let run = |program: &str, words: &str| {
        let output = Command::new(program).args(words.split(' ')).current_dir(&conf).output().unwrap();
        assert!(output.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    run("openssl", &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"));
    run("openssl", &format!("req {key} -keyout ada.key -out ada.csr -subj /CN=ada"));
    home.write("conf/of-clients", "extendedKeyUsage = clientAuth\n").unwrap();
    let signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile of-clients";
    run("openssl", &format!("x509 -req -in ada.csr {signed} -out ada.pem"));
    let ada = run("openssl", "x509 -in ada.pem -outform DER");
    let ada: String = ada.iter().map(|byte| format!("{byte:02x}")).collect();

    let pair = "certificate = \"conf/tls/localhost/cert.pem\"\nkey = \"conf/tls/localhost/key.pem\"";
    let clients = "client_certificate = \"optional\"\nclient_ca = \"conf/ca.pem\"";
    home.configure(&format!("[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\n{pair}\n{clients}")).unwrap();
    done(home, &["config", "reload"]);
    let line = kitchen.wait_for("listening on https://127.0.0.1:");
    let url = format!("https://localhost:{}/app/tls", line.rsplit(':').next().unwrap());
    let curl = |words: &str| {
        let body = run("curl", &format!("-sS --cacert tls/localhost/cert.pem {words} {url}"));
        String::from_utf8(body).unwrap()
    };
    assert_eq!(curl("--http1.1"), "TLSv1.3 TLS_AES_256_GCM_SHA384 localhost");
    assert_eq!(curl("--tls-max 1.2"), "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 localhost");
    let shown = format!("TLSv1.3 TLS_AES_256_GCM_SHA384 localhost {ada}");
    assert_eq!(curl("--cert ada.pem --key ada.key"), shown);
    // A new generation sees what the old one has seen.
    fs::write(kitchen.home.path("beside.so"), &libraries()[1]).unwrap();
    fs::rename(kitchen.home.path("beside.so"), kitchen.home.path(LIBRARY)).unwrap();
    kitchen.wait_for("/app ready (generation 2");
    assert_eq!(curl("--cert ada.pem --key ada.key"), shown);
    kitchen.close();
}
