//! Inherited sockets (sd_listen_fds(3)): no connection is refused while the server restarts.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e::http_client::Connection;
use e2e::process::{Program, wait_for_exit};
use e2e::serval::{Home, Serval, binary, inheriting};
use rustix::net::{AddressFamily, SocketType, bind, socket};

use crate::{LONG, begin, home, wait_until};

fn listen_at(home: &Home, addresses: &[SocketAddr]) {
    let tables = addresses.iter().map(|address| format!("[[listener]]\naddress = \"{address}\"\n"));
    home.write("conf/server.toml", tables.collect::<String>()).unwrap();
}

/// A client connects anew for each request, from before the first restart until after the last one.
#[test]
fn a_restart_refuses_no_connection() {
    let home = home(&["x"], "");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    listen_at(&home, &[address]);
    let serval = Serval::start_inheriting(&home, &socket, &[]).unwrap();
    assert_eq!(serval.addresses(), [address]);
    let cookie = begin(&serval, "/x/kept");
    // The system says so: no child gets it.
    let about = std::fs::read_to_string(format!("/proc/{}/fdinfo/3", serval.program().id())).unwrap();
    let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    assert_eq!(u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000, 0o2_000_000, "close on exec: {flags}");

    let (end, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let request = format!("GET /x/kept?look HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n");
    let last = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    let mut connection = Connection::open(address, LONG).expect("no connection is refused");
                    connection.send(request.as_bytes()).unwrap();
                    let answer = connection.read_response().expect("each request is answered");
                    assert_eq!(answer.status, 200);
                    assert!(answer.body.starts_with(b"1 old"), "the session is there");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let some_more = |than: usize| wait_until(|| answered.load(Ordering::Relaxed) > than + 20);
        let last = (0..5).fold(serval, |serval, _| {
            some_more(answered.load(Ordering::Relaxed));
            assert!(serval.stop().unwrap().success());
            Serval::start_inheriting(&home, &socket, &[]).unwrap()
        });
        some_more(answered.load(Ordering::Relaxed));
        end.store(true, Ordering::Relaxed);
        last
    });
    assert!(last.stop().unwrap().success());
}

#[test]
fn one_that_was_waiting_is_served_by_the_next_server() {
    let home = home(&["x"], "");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    listen_at(&home, &[address, "127.0.0.1:0".parse().unwrap()]);
    let mut early = Connection::open(address, LONG).unwrap();
    early.send(b"GET /x/kept?look HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let serval = Serval::start_inheriting(&home, &socket, &[]).unwrap();
    assert_eq!(early.read_response().unwrap().status, 200);
    // The other listener opens its own address.
    assert_eq!(Connection::open(serval.addresses()[1], LONG).unwrap().get("/x/kept?look").unwrap().status, 200);
    assert!(serval.stop().unwrap().success());
}

/// Its start fails with a sentence that has this.
#[track_caller]
fn is_refused(home: &Home, given: impl Into<OwnedFd>, listen_fds: &str, why: &str) {
    let mut command = inheriting(listen_fds);
    command.arg(binary().unwrap()).args(["run", "--home"]).arg(home.path(""));
    let mut child = command.stdin(given.into()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let status = wait_for_exit(&mut child, LONG).unwrap();
    if status.is_none() {
        child.kill().unwrap();
    }
    let told = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{told}");
    assert!(told.contains(why) && told.contains("LISTEN_FDS"), "{told}");
}

#[test]
fn what_no_listener_can_use_is_refused() {
    let home = home(&["x"], "");
    let here = || TcpListener::bind("127.0.0.1:0").unwrap();
    let known = here();
    let address = known.local_addr().unwrap();
    listen_at(&home, &[address]);
    let other = here();
    let why = format!("is no [[listener]]'s: add one with `address = \"{}\"`", other.local_addr().unwrap());
    is_refused(&home, other, "1", &why);
    is_refused(&home, UdpSocket::bind("127.0.0.1:0").unwrap(), "1", "socket 1 of 1 (LISTEN_FDS) is of another kind");
    let path = home.path("unix.sock");
    let why = format!("is no [[listener]]'s: add one with `address = \"unix:{}\"`", path.display());
    is_refused(&home, UnixListener::bind(&path).unwrap(), "1", &why);
    is_refused(&home, std::fs::File::open("/dev/null").unwrap(), "1", "is of another kind");
    let idle = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&idle, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    is_refused(&home, idle, "1", "does not listen");
    // There is one less than it says.
    is_refused(&home, known.try_clone().unwrap(), "2", "socket 2 of 2 (LISTEN_FDS) is of another kind");
    for count in ["many", "-1", "1001", "99999999999999999999"] {
        is_refused(&home, known.try_clone().unwrap(), count, &format!("LISTEN_FDS is {count:?}"));
    }

    // Those of another process are nobody's business.
    drop(known);
    let mut command = Command::new("env");
    command.args(["LISTEN_FDS=1", "LISTEN_PID=1"]).arg(binary().unwrap()).arg("run").arg("--home").arg(home.path(""));
    let mut program = Program::start("serval", command).unwrap();
    program.wait_for_line(0, LONG, |line| line.contains("are not taken")).unwrap();
    program.wait_for_line(0, LONG, |line| line.starts_with("ready in ")).unwrap();
    assert!(program.stop(LONG).unwrap().success());
}

/// By systemd's own program, which hands over the sockets at the first connection.
#[test]
fn systemd_hands_its_sockets_over() {
    let home = home(&["x"], "");
    // Free at this moment.
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [first, second] = free.each_ref().map(|socket| socket.local_addr().unwrap());
    drop(free);
    // In another order.
    listen_at(&home, &[second, first]);
    let path = home.path("http.sock");
    home.configure(&format!("[[listener]]\naddress = \"unix:{}\"", path.display())).unwrap();
    let mut command = Command::new("systemd-socket-activate");
    command.args([format!("--listen={first}"), format!("--listen={second}"), format!("--listen={}", path.display())]);
    command.arg(binary().unwrap()).args(["run", "--home"]).arg(home.path(""));
    let started = Program::start("systemd-socket-activate", command);
    let mut program = started.expect("systemd-socket-activate runs (it is in Debian's package `systemd`)");
    program.wait_for_line(0, LONG, |line| line.contains("Listening on") && line.contains(&second.to_string())).unwrap();
    let mut connection = Connection::open(first, LONG).unwrap();
    assert_eq!(connection.get("/x/kept?look").unwrap().status, 200);
    assert_eq!(Connection::open(second, LONG).unwrap().get("/x/kept?look").unwrap().status, 200);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /x/kept?look HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(program.stop(LONG).unwrap().success());
    assert!(path.exists(), "it is systemd's");
}
