//! Balancers that tell in the head of the PROXY protocol who their client is.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::{LONG, logged, start};
use e2e::serval::Serval;

fn ask(serval: &Serval, head: &[u8]) -> String {
    let mut stream = TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let request = b"GET /x/look HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    // In pieces of any size.
    let all = [head, request].concat();
    let (first, second) = all.split_at(head.len() / 2);
    stream.write_all(first).unwrap();
    stream.write_all(second).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn version_2(command: u8, family: u8, addresses: &[u8], more: &[u8]) -> Vec<u8> {
    let length = ((addresses.len() + more.len()) as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, addresses, more].concat()
}

#[test]
fn the_client_is_the_one_that_the_balancer_names() {
    let (home, serval) = start("proxy_protocol = [\"127.0.0.0/8\"]");
    let of_ipv4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let of_ipv6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], [0; 16]].concat();
    for (head, client) in [
        (b"PROXY TCP4 192.0.2.9 10.0.0.1 4660 80\r\n".to_vec(), "192.0.2.9"),
        (b"PROXY TCP6 2001:db8::8 ::1 4660 80\r\n".to_vec(), "2001:db8::8"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (version_2(1, 0x11, &of_ipv4, b""), "192.0.2.7"),
        // With a TLV that nobody reads.
        (version_2(1, 0x11, &of_ipv4, &[4, 0, 3, 1, 2, 3]), "192.0.2.7"),
        (version_2(1, 0x21, &[&of_ipv6[..], &[0, 1, 0, 80]].concat(), b""), "2001:db8::9"),
        (version_2(0, 0, b"", b""), "127.0.0.1"),
    ] {
        let answer = ask(&serval, &head);
        assert!(answer.contains(&format!("11 {client}\n")), "{head:?}: {answer}");
        logged(&home, "\"GET /x/look HTTP/1.1\" 200 -");
    }
    // The head of HTTP/2 may follow.
    let preface = b"PROXY TCP4 192.0.2.9 10.0.0.1 4660 80\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut stream = TcpStream::connect(serval.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(preface).unwrap();
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).unwrap();
    assert_eq!(settings[3], 4, "SETTINGS");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_connection_without_its_head_is_closed() {
    let (_home, serval) = start("proxy_protocol = [\"127.0.0.1\"]\nhead_timeout = \"500ms\"");
    for head in [
        &b""[..],
        b"PROXY TCP4 192.0.2.9\r\n",
        b"PROXY TCP4 192.0.2.9 10.0.0.1 4660 99999\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        // It never comes to its end.
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ] {
        assert_eq!(ask(&serval, head), "", "{head:?}");
    }
    serval.wait_for_log("its connection begins with no PROXY head", LONG).unwrap();
    assert!(serval.stop().unwrap().success());
}

#[test]
fn nobody_else_is_believed() {
    let (_home, serval) = start("proxy_protocol = [\"192.0.2.0/24\"]");
    let answer = ask(&serval, b"");
    assert!(answer.contains("11 127.0.0.1\n"), "{answer}");
    let answer = ask(&serval, b"PROXY TCP4 192.0.2.9 10.0.0.1 4660 80\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(serval.stop().unwrap().success());
}
