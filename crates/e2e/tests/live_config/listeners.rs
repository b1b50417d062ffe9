//! Listeners come, go, and have other limits; connections of those that stay are not disturbed.

use std::net::{SocketAddr, TcpListener};

use super::*;

/// Addresses that were free a moment ago.
fn free<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let sockets: [TcpListener; COUNT] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap())
}

fn listener(address: SocketAddr, keys: &str) -> String {
    format!("[[listener]]\naddress = \"{address}\"\n{keys}\n")
}

#[test]
fn listeners_come_and_go_and_connections_end_by_themselves() {
    let home = home("");
    home.write("webapps/ROOT/who", "one").unwrap();
    let serval = Serval::start(&home).unwrap();
    let under_load = load(&serval, &["/who"]);
    let [second, third] = free();
    configure(&home, &format!("{}{}", listener(second, ""), listener(third, "")));
    reload(&home);
    let mut idle = Connection::open(second, LONG).unwrap();
    assert_eq!(body(&idle.get("/who").unwrap()), "one");
    let mut in_exchange = Connection::open(second, LONG).unwrap();
    in_exchange.send(b"PUT /who HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").unwrap();
    let mut other = Connection::open(third, LONG).unwrap();
    assert_eq!(body(&other.get("/who").unwrap()), "one");
    configure(&home, &listener(third, ""));
    reload(&home);
    let deadline = Instant::now() + LONG;
    while std::net::TcpStream::connect(second).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(idle.read_response().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(in_exchange.read_response().unwrap().status, 405, "it has its answer");
    assert_eq!(body(&other.get("/who").unwrap()), "one", "the others stay");
    // The address can be opened again.
    configure(&home, &format!("{}{}", listener(second, ""), listener(third, "")));
    reload(&home);
    assert_eq!(body(&Connection::open(second, LONG).unwrap().get("/who").unwrap()), "one");
    ends_well(under_load);
    let lines = serval.stop_and_read().unwrap();
    let says = |what: &str| lines.iter().any(|line| line.contains(what));
    assert!(says(&format!("listening on http://{second}")) && says(&format!("no longer listening on http://{second}")));
}

#[test]
fn limits_are_those_of_new_connections_and_none_is_refused_meanwhile() {
    let [address] = free();
    let home = Home::new().unwrap();
    home.write("webapps/ROOT/who", "one").unwrap();
    let write = |keys: &str| home.write("conf/server.toml", listener(address, keys)).unwrap();
    write("");
    let serval = Serval::start(&home).unwrap();
    let under_load = load(&serval, &["/who"]);
    let long = format!("/who?{}", "a".repeat(1000));
    let mut before = Connection::open(address, LONG).unwrap();
    assert_eq!(before.get(&long).unwrap().status, 200);
    write("target_bytes_max = 500\nserver_header = \"Other\"\nbacklog = 2000");
    reload(&home);
    assert_eq!(Connection::open(address, LONG).unwrap().get(&long).unwrap().status, 414);
    let response = before.get(&long).unwrap();
    assert_eq!((response.status, response.header("server")), (200, None));
    for round in 0..20 {
        write(&format!("keep_alive_timeout = \"{}s\"\nbacklog = {}", 10 + round, 100 + round));
        reload(&home);
    }
    ends_well(under_load);

    // Fewer connections at once, and more again.
    drop(before);
    write("connections_max = 1");
    reload(&home);
    let mut only = Connection::open(address, LONG).unwrap();
    assert_eq!(only.get("/who").unwrap().status, 200);
    let mut waits = Connection::open(address, LONG).unwrap();
    waits.send(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(only.get("/who").unwrap().status, 200);
    write("connections_max = 2");
    reload(&home);
    assert_eq!(waits.read_response().unwrap().status, 200);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn those_that_wait_to_be_accepted_when_the_server_stops_are_served() {
    let home = home("");
    home.write("webapps/ROOT/who", "one").unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/who"), "one");
    let send = |signal| {
        let id = rustix::process::Pid::from_raw(serval.program().id() as i32).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    };
    send(rustix::process::Signal::STOP);
    let waiting: Vec<Connection> = (0..300)
        .map(|_| {
            let mut connection = Connection::open(serval.address(), LONG).unwrap();
            connection.send(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            connection
        })
        .collect();
    send(rustix::process::Signal::TERM);
    send(rustix::process::Signal::CONT);
    for mut connection in waiting {
        assert_eq!(body(&connection.read_response().unwrap()), "one");
    }
}

#[test]
fn an_address_that_is_taken_refuses_the_whole_change() {
    let home = home("");
    home.write("webapps/ROOT/who", "one").unwrap();
    let serval = Serval::start(&home).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let [free] = free();
    let wanted =
        format!("{}{}[server]\ndevelopment = true\n", listener(free, ""), listener(taken.local_addr().unwrap(), ""));
    configure(&home, &wanted);
    let (code, _, error) = run(&home, &["config", "reload"]);
    assert_eq!(code, Some(3));
    assert!(error.contains("is in use by another program"), "{error}");
    assert!(std::net::TcpStream::connect(free).is_err(), "nothing of it is in force");
    let why = status(&home)["configuration"]["refused"].as_str().unwrap().to_owned();
    assert!(why.contains("is in use by another program"), "{why}");
    assert_eq!(get(&serval, "/who"), "one");
    // One that this server has itself, in other words.
    configure(&home, &listener(SocketAddr::new([0, 0, 0, 0].into(), serval.address().port()), ""));
    let error = run(&home, &["config", "reload"]).2;
    assert!(error.contains("is in use by another program"), "{error}");
    drop(taken);
    configure(&home, &wanted);
    reload(&home);
    assert!(status(&home)["configuration"]["refused"].is_null());
    assert!(std::net::TcpStream::connect(free).is_ok());
    let own = free.port();
    configure(
        &home,
        &format!("{}[server]\ndevelopment = true\n", listener(SocketAddr::new([0, 0, 0, 0].into(), own), "")),
    );
    let error = run(&home, &["config", "reload"]).2;
    assert!(error.contains(&format!("cannot be opened while this server listens on {free}")), "{error}");
    assert!(serval.stop().unwrap().success());
}
