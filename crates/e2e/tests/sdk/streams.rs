//! What flows: events, bodies with back-pressure, and time.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::process::resident_kb;

use crate::kitchen::{Kitchen, LONG, body, send, wait_until};

/// A client of /events whose stream has begun: its task has subscribed.
fn listen(kitchen: &Kitchen, count: usize) -> Vec<Connection> {
    let mut listeners: Vec<Connection> = (0..count).map(|_| kitchen.connect()).collect();
    listeners.iter_mut().for_each(|listener| send(listener, "GET", "/events", "", b""));
    wait_until(|| live(kitchen) == format!("{count} {count}"));
    listeners
}

fn live(kitchen: &Kitchen) -> String {
    body(&kitchen.get("/live")).to_owned()
}

fn say(kitchen: &Kitchen, text: &str) -> usize {
    body(&kitchen.send("POST", "/say", "", text)).parse().unwrap()
}

#[track_caller]
fn check_events(answer: &Response, expected: &str) {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(body(answer), expected);
}

#[test]
fn events_are_live_and_end_whole_at_a_reload() {
    const EVENTS: &str = "id: 1\ndata: one\n\nid: 2\ndata: two\ndata: lines\n\nevent: end\ndata: good bye\n\n";
    let mut kitchen = Kitchen::open();
    let mut listeners = listen(&kitchen, 10);
    let leaves = listeners.pop().unwrap();
    drop(leaves);
    wait_until(|| live(&kitchen) == "9 9");
    assert_eq!(say(&kitchen, "one"), 9);
    assert_eq!(say(&kitchen, "two\nlines"), 9);
    kitchen.reload();
    for listener in &mut listeners {
        check_events(&listener.read_response().unwrap(), EVENTS);
    }
    kitchen.wait_until_destroyed(1);
    kitchen.wait_for("the kitchen of generation 1 closes, 0 live, 0 late");
    // The connections are kept, and the next generation has its own.
    assert_eq!(body(&listeners[0].get("/app/live").unwrap()), "0 0");
    kitchen.close();
}

#[test]
fn events_end_whole_when_the_server_stops() {
    let kitchen = Kitchen::open();
    let listeners = listen(&kitchen, 3);
    assert_eq!(say(&kitchen, "one"), 3);
    let readers: Vec<_> = listeners
        .into_iter()
        .map(|mut listener| std::thread::spawn(move || listener.read_response().unwrap()))
        .collect();
    // Streams that do not end by themselves are cut after shutdown_timeout, and that is no success.
    kitchen.close();
    for reader in readers {
        check_events(&reader.join().unwrap(), "id: 1\ndata: one\n\nevent: end\ndata: good bye\n\n");
    }
}

#[test]
fn a_body_flows_through_a_servlet() {
    let kitchen = Kitchen::open();
    let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    for path in ["/echo", "/echo-async"] {
        let mut connection = kitchen.connect();
        let mut sender = connection.sender().unwrap();
        let (head, content) =
            (format!("POST /app{path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", sent.len()), sent.clone());
        let sending = std::thread::spawn(move || {
            sender.write_all(head.as_bytes()).unwrap();
            sender.write_all(&content).unwrap();
        });
        let answer = connection.read_response().unwrap();
        sending.join().unwrap();
        assert!(answer.status == 200 && answer.body == sent, "{path}");
        assert_eq!(connection.get("/app/live").unwrap().status, 200);
    }
    kitchen.close();
}

/// The server may hold what its buffers and the kernel's take, whatever the client sends.
#[test]
fn a_slow_client_slows_its_upload_down() {
    const BYTES: usize = 50 << 20;
    let kitchen = Kitchen::open_with("", "[defaults.context]\nasync_timeout = \"0s\"");
    let before = resident_kb(kitchen.serval.program().id()).unwrap();
    let mut receives = TcpStream::connect(kitchen.serval.address()).unwrap();
    receives.set_read_timeout(Some(LONG)).unwrap();
    let mut sends = receives.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let head =
            format!("POST /app/echo-async HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {BYTES}\r\n\r\n");
        sends.write_all(head.as_bytes()).unwrap();
        let piece = [b'x'; 1 << 16];
        (0..BYTES / piece.len()).for_each(|_| sends.write_all(&piece).unwrap());
    });
    // Nobody reads: the task waits, and then the sender does.
    wait_until(|| live(&kitchen).starts_with("1 "));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!sending.is_finished(), "50 MiB were taken that nobody reads");
    let mut received = 0;
    let mut most = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = receives.read(&mut buffer).unwrap();
        received += len;
        if len == 0 {
            break;
        }
        if received % 37 == 0 {
            std::thread::sleep(Duration::from_millis(1));
            most = most.max(resident_kb(kitchen.serval.program().id()).unwrap());
        }
    }
    sending.join().unwrap();
    assert!(received > BYTES, "{received} bytes, with the head and the chunks' sizes");
    assert!(most < before + (16 << 10), "{before} kB before, {most} kB meanwhile");
    receives.shutdown(Shutdown::Both).unwrap_or_default();
    wait_until(|| live(&kitchen).starts_with("0 "));
    kitchen.close();
}

#[test]
fn another_servlet_goes_on_where_the_first_one_ended() {
    let kitchen = Kitchen::open();
    let answer = kitchen.get("/hands-over");
    assert_eq!(answer.status, 200);
    let (bytes, rest) = answer.body.split_at(32 << 20);
    assert!(bytes.iter().all(|byte| *byte == b'x'));
    assert_eq!(std::str::from_utf8(rest).unwrap(), " and more to the end");
    kitchen.close();
}

#[test]
fn a_client_that_leaves_in_the_middle_frees_its_task() {
    let kitchen = Kitchen::open();
    let mut stream = TcpStream::connect(kitchen.serval.address()).unwrap();
    stream.write_all(b"POST /app/echo-async HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf").unwrap();
    wait_until(|| live(&kitchen).starts_with("1 "));
    drop(stream);
    wait_until(|| live(&kitchen).starts_with("0 "));
    assert_eq!(kitchen.lines_with(0, "ERROR"), Vec::<String>::new());
    kitchen.close();
}

#[test]
fn sleeping_and_time_outs() {
    let kitchen = Kitchen::open();
    let began = Instant::now();
    kitchen.check("/sleeps", 200, "0 1 2 3 4 Err(Elapsed)");
    assert!(began.elapsed() >= Duration::from_millis(110));
    let began = Instant::now();
    kitchen.check("/sleeps?long", 200, "0 1 2 3 4 Ok(())");
    assert!(began.elapsed() >= Duration::from_millis(200));
    kitchen.close();
}
