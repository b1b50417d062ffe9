//! The configuration changes while the server runs: what is saved is in force as a whole, with no request that fails, or is refused as a
//! whole, and what served before serves on.

mod contexts;
mod hosts;
mod listeners;
mod refused;
mod server;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use e2e::commands::{becomes, serval as run, status};
use e2e::http_client::{Connection, Response};
use e2e::load::{Load, Outcome};
use e2e::serval::{Home, Serval, repository};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);
/// What each home begins with.
const SERVER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

/// Makes a home with this behind the listener.
fn home(toml: &str) -> Home {
    let home = Home::new().unwrap();
    configure(&home, toml);
    home
}

/// Writes server.toml in place, as many editors do.
fn configure(home: &Home, toml: &str) {
    home.write("conf/server.toml", format!("{SERVER}{toml}")).unwrap();
}

/// Puts a library into a webapp that answers with its parameters and named values at `/values`.
fn add_library(home: &Home, webapp: &str) {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("values.so");
        let mut command = Command::new("cc");
        command.args(["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]);
        command.arg(repository().join("crates/abi/include"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/environment/values.c"));
        assert!(command.arg("-o").arg(&output).status().unwrap().success());
        std::fs::read(output).unwrap()
    });
    home.write(&format!("webapps/{webapp}/WEB-INF/lib/values.so"), library).unwrap();
}

/// Has the configuration put in force, and returns what is told.
#[track_caller]
fn reload(home: &Home) -> Value {
    let (code, told, error) = run(home, &["config", "reload", "--json"]);
    assert_eq!(code, Some(0), "{told}{error}");
    serde_json::from_str(&told).unwrap()
}

/// What is told of a change by who puts it in force: the watcher may be first, and then it is tried again, from `before`.
#[track_caller]
fn change(home: &Home, before: &str, after: &str) -> Value {
    for _ in 0..20 {
        configure(home, after);
        let told = reload(home);
        if told["changed"] != serde_json::json!([]) {
            return told;
        }
        configure(home, before);
        reload(home);
    }
    panic!("another one was always first");
}

/// The generation of a context.
fn generation(status: &Value, name: &str) -> u64 {
    let contexts = status["contexts"].as_array().unwrap();
    contexts.iter().find(|context| context["context"] == name).unwrap()["generation"].as_u64().unwrap()
}

/// Asks on a connection of its own, with this Host header.
fn get_of(address: std::net::SocketAddr, host: &str, target: &str) -> Response {
    let mut connection = Connection::open(address, LONG).unwrap();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
    connection.read_response().unwrap()
}

fn body(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

fn get(serval: &Serval, target: &str) -> String {
    body(&get_of(serval.address(), "localhost", target))
}

/// Asks until the answer is so.
#[track_caller]
fn answers(serval: &Serval, target: &str, expected: &str) {
    let deadline = Instant::now() + LONG;
    loop {
        let found = get(serval, target);
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Requests without a pause, on connections that are kept and on new ones, each of which has to be answered 200.
fn load(serval: &Serval, targets: &'static [&'static str]) -> Load {
    let address = serval.address();
    Load::start(address, 2, LONG, move |number, connection| {
        let target = targets[number as usize % targets.len()];
        let of_one = match number % 5 {
            0 => Connection::open(address, LONG)?.get(target)?,
            _ => connection.get(target)?,
        };
        Ok(match of_one.status {
            200 => Outcome::Good,
            other => Outcome::Failed(format!("{target}: {other}")),
        })
    })
}

#[track_caller]
fn ends_well(load: Load) {
    let counts = load.stop();
    assert!(counts.requests > 0 && counts.failed == 0 && counts.wrong == 0, "{counts:#?}");
}
