//! TLS: which certificate a client is shown, how it is replaced while requests flow, who is let in, and what servlets learn of it.

mod bad;
mod certificates;
mod client;
mod clients;
mod command;
mod facts;
mod protocols;
mod reload;
mod signer;
mod way;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use e2e::serval::{Home, Serval};

use signer::Signed;

const LONG: Duration = Duration::from_secs(60);

/// Writes a pair to `conf/NAME.pem` and `conf/NAME.key`.
fn put(home: &Home, name: &str, signed: &Signed) {
    home.write(&format!("conf/{name}.pem"), &signed.certificate).unwrap();
    home.write(&format!("conf/{name}.key"), &signed.key).unwrap();
    fs::set_permissions(home.path(&format!("conf/{name}.key")), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Runs a command, which has to be a success, and returns what it prints.
#[track_caller]
fn output(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Replaces a file as those who renew certificates do.
fn replace(home: &Home, file: &str, contents: &str) {
    home.write(&format!("{file}.new"), contents).unwrap();
    std::fs::rename(home.path(&format!("{file}.new")), home.path(file)).unwrap();
}

/// Writes server.toml with one listener that speaks TLS, by `conf/own.pem` if `toml` does not begin with others.
fn configure(home: &Home, toml: &str) {
    let own = match ["certificate =", "folder ="].iter().any(|key| toml.starts_with(key)) {
        true => "",
        false => "certificate = \"conf/own.pem\"\nkey = \"conf/own.key\"\n",
    };
    home.write("conf/server.toml", format!("[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\n{own}{toml}\n"))
        .unwrap();
}

/// A server with a file to ask for, and these keys of [listener.tls].
fn start(home: &Home, toml: &str) -> Serval {
    configure(home, toml);
    home.write("webapps/ROOT/index.html", "hello").unwrap();
    Serval::start(home).unwrap()
}
