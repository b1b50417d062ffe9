//! What a service manager is told, over a real socket (sd_notify(3)).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use e2e::serval::Serval;

use crate::{LONG, get, home};

fn next(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 1000];
    let length = manager.recv(&mut bytes).expect("it is told in time");
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[test]
fn a_manager_is_told_of_begin_and_end() {
    let home = home(&["x"], "");
    let path = home.path("notify.sock");
    let name = format!("serval-e2e-{}", std::process::id());
    let by_path = UnixDatagram::bind(&path).unwrap();
    let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    for (manager, address) in [(by_path, path.to_str().unwrap()), (by_name, &format!("@{name}"))] {
        manager.set_read_timeout(Some(LONG)).unwrap();
        let serval = Serval::start_with(&home, "NOTIFY_SOCKET", address).unwrap();
        assert_eq!(next(&manager), "READY=1");
        assert_eq!(get(&serval, "/x/kept?look", "a=b"), "none", "its servlets are there");
        assert!(serval.stop().unwrap().success());
        // All that the stop waits for: 30 s for requests, 30 s for sessions, 5 s for logs.
        assert_eq!(next(&manager), "STOPPING=1\nEXTEND_TIMEOUT_USEC=65000000");
    }
}

#[test]
fn a_watchdog_is_kept_content() {
    let home = home(&["x"], "");
    let manager = UnixDatagram::bind(home.path("notify.sock")).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    let path = home.path("notify.sock");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    home.write("conf/server.toml", format!("[[listener]]\naddress = \"{address}\"\n")).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "20000")];
    let serval = Serval::start_inheriting(&home, &socket, &variables).unwrap();
    let mut told = std::collections::BTreeMap::new();
    while told.get("WATCHDOG=1").is_none_or(|&count| count < 5) || !told.contains_key("READY=1") {
        *told.entry(next(&manager)).or_insert(0) += 1;
    }
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_manager_that_is_not_there_is_no_reason_to_stop() {
    let home = home(&["x"], "");
    for address in ["relative", "@", "/nowhere/notify.sock", home.path("webapps").to_str().unwrap(), &"/x".repeat(100)]
    {
        let serval = Serval::start_with(&home, "NOTIFY_SOCKET", address).unwrap();
        assert_eq!(get(&serval, "/x/kept?look", "a=b"), "none");
        let lines = serval.stop_and_read().unwrap();
        let said = lines.iter().any(|line| line.contains("WARN") && line.contains("NOTIFY_SOCKET"));
        assert!(said, "{address}: {lines:#?}");
    }
    assert!(!Path::new("relative").exists());
}
