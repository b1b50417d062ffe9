//! How many connections one client may have.

use std::net::TcpStream;

use crate::{logged, open, start};

#[test]
fn one_client_does_not_have_all_connections() {
    let (home, serval) = start("connections_max = 8\nconnections_per_address_max = 3");
    let mut served: Vec<_> = (0..3).map(|_| open(&serval)).collect();
    for connection in &mut served {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    for _ in 0..3 {
        let mut more = open(&serval);
        let answer = more.read_response().unwrap();
        assert_eq!((answer.status, answer.closes()), (503, true));
    }
    logged(&home, "\"-\" 503 it has connections_per_address_max connections");
    // Another client, and the first one again when one of its connections has ended.
    let other = TcpStream::connect_timeout(&serval.address(), crate::LONG).unwrap();
    drop(other);
    drop(served.pop());
    let deadline = std::time::Instant::now() + crate::LONG;
    loop {
        match open(&serval).get("/") {
            Ok(answer) if answer.status == 200 => break,
            _ => assert!(std::time::Instant::now() < deadline),
        }
    }
    let said = serval.stop_and_read().unwrap();
    let told = said.iter().filter(|line| line.contains("it has connections_per_address_max connections")).count();
    assert_eq!(told, 1, "{said:#?}");
}
