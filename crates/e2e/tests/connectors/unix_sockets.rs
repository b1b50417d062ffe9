//! Listeners at the path of a Unix socket.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::{LONG, logged, start};

fn ask(path: &Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_is_served_and_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    // One that a killed server has left.
    drop(UnixListener::bind(&path).unwrap());
    let (home, serval) = start(&format!("[[listener]]\naddress = \"unix:{}\"\nunix_mode = \"0600\"", path.display()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ask(&path, "/x/look").contains("11 nowhere\n"));
    assert!(ask(&path, "/").ends_with("welcome"));
    logged(&home, "- \"GET / HTTP/1.1\" 200 -");
    // A second server does not take it away.
    let second = e2e::serval::Home::new().unwrap();
    second.configure(&format!("[[listener]]\naddress = \"unix:{}\"", path.display())).unwrap();
    let refused = e2e::serval::Serval::start(&second).err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(refused.contains("is in use by another program"), "{refused}");
    assert!(ask(&path, "/").ends_with("welcome"));
    assert!(serval.stop().unwrap().success());
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let home = e2e::serval::Home::new().unwrap();
    home.configure(&format!("[[listener]]\naddress = \"unix:{}\"", path.display())).unwrap();
    let refused = e2e::serval::Serval::start(&home).err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(refused.contains("is no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}
