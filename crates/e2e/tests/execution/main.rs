//! Where servlets run (DESIGN "Execution"): calls that wait for their clients stop neither their connection nor anybody else,
//! and what a context has of threads is bounded.

use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);
const LARGE: usize = 10 << 20;

/// One inline place, so that a call that kept it would be noticed by the next.
fn start(settings: &str) -> (Home, Serval) {
    start_all(&["x"], settings)
}

fn start_all(webapps: &[&str], settings: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    for webapp in webapps {
        home.write(&format!("webapps/{webapp}/WEB-INF/src/waiting.c"), include_str!("waiting.c")).unwrap();
    }
    home.configure(&format!("[server]\nio_threads = 2\n[build]\nsources = true\n[defaults.context]\n{settings}"))
        .unwrap();
    let serval = Serval::start(&home).unwrap();
    let deadline = Instant::now() + LONG;
    while webapps.iter().any(|webapp| open(&serval).get(&format!("/{webapp}/hello")).unwrap().status != 200) {
        let lines = serval.program().lines_from(0);
        assert!(Instant::now() < deadline && !lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    (home, serval)
}

fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), LONG).unwrap()
}

fn others_are_served(serval: &Serval) {
    let mut connection = open(serval);
    for _ in 0..100 {
        let answer = connection.get("/x/hello").unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"hello"[..]));
    }
}

#[test]
fn bodies_that_come_late_stop_nothing() {
    let (_home, serval) = start("");
    let mut late: Vec<Connection> = (0..8).map(|_| open(&serval)).collect();
    for connection in &mut late {
        connection.send(b"POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345").unwrap();
    }
    others_are_served(&serval);
    for connection in &mut late {
        // With the next request on its heels, which is answered after it.
        connection.send(b"67890GET /x/hello HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(connection.read_response().unwrap().body, b"10");
        assert_eq!(connection.read_response().unwrap().body, b"hello");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_body_of_chunks_and_of_a_hundred_pieces_is_read_whole() {
    let (_home, serval) = start("");
    let mut connection = open(&serval);
    connection.send(b"POST /x/length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..100 {
        connection.send(b"3\r\nabc\r\n").unwrap();
    }
    connection.send(b"0\r\n\r\n").unwrap();
    assert_eq!(connection.read_response().unwrap().body, b"300");
}

#[test]
fn slow_readers_stop_nothing() {
    let (_home, serval) = start("");
    let mut slow: Vec<Connection> = (0..8).map(|_| open(&serval)).collect();
    for connection in &mut slow {
        connection.send(b"GET /x/large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    others_are_served(&serval);
    for connection in &mut slow {
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, LARGE));
        assert!(answer.body.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn calls_that_wait_inline_count_in_the_pool() {
    let (_home, serval) = start("workers_max = 2");
    let mut late: Vec<Connection> = (0..3).map(|_| open(&serval)).collect();
    for connection in &mut late {
        connection.send(b"POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345").unwrap();
    }
    // Two of the three wait; which ones, the server decides.
    let line = serval.wait_for_log("all threads of this context are busy (workers_max)", LONG).unwrap();
    assert!(line.contains("/x"), "{line}");
    others_are_served(&serval);
    let mut statuses: Vec<u16> = late
        .iter_mut()
        .map(|connection| {
            let _ = connection.send(b"67890");
            connection.read_response().unwrap().status
        })
        .collect();
    statuses.sort();
    assert_eq!(statuses, [200, 200, 503]);
}

#[test]
fn a_full_pool_and_a_full_queue_answer_503_and_recover() {
    let (home, serval) = start("workers_max = 1\nqueue_max = 1\nqueue_timeout = \"1h\"");
    let flag = home.path("flag");
    let request = format!("GET /x/until?{} HTTP/1.1\r\nHost: a\r\n\r\n", flag.display());
    let mut connections: Vec<Connection> = (0..3).map(|_| open(&serval)).collect();
    for connection in &mut connections {
        connection.send(request.as_bytes()).unwrap();
    }
    let line = serval.wait_for_log("its queue is full (queue_max)", LONG).unwrap();
    assert!(line.contains("/x"), "{line}");
    others_are_served(&serval);
    std::fs::write(&flag, "").unwrap();
    let mut answers: Vec<_> = connections.iter_mut().map(|connection| connection.read_response().unwrap()).collect();
    answers.sort_by_key(|answer| answer.status);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 503]);
    assert_eq!(answers[2].header("retry-after"), Some("1"));
    assert_eq!(open(&serval).get(&format!("/x/until?{}", flag.display())).unwrap().body, b"done");
    assert!(serval.stop().unwrap().success());
}

/// Its only place is taken, and so are all threads: it runs where there is room first.
#[test]
fn a_call_that_waits_for_a_thread_takes_a_place_that_becomes_free() {
    let (home, serval) = start("workers_max = 1\nqueue_max = 1\nqueue_timeout = \"1h\"");
    let (pipe, flag) = (home.path("pipe"), home.path("flag"));
    let ask = |target: &str| {
        let mut connection = open(&serval);
        connection.send(format!("GET /x/{target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        connection
    };
    let mut bank = ask(&format!("bank?{}", pipe.display()));
    let deadline = Instant::now() + LONG;
    while !pipe.exists() {
        assert!(Instant::now() < deadline, "it does not run");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut liar = ask(&format!("liar?{}", flag.display()));
    serval.wait_for_log("promises not to block", LONG).unwrap();
    // One stands in the queue, and the other finds that it is full.
    let mut hellos = [ask("hello"), ask("hello")];
    serval.wait_for_log("its queue is full (queue_max)", LONG).unwrap();
    std::fs::write(&flag, "").unwrap();
    let mut statuses = hellos.each_mut().map(|hello| hello.read_response().unwrap().status);
    statuses.sort();
    assert_eq!(statuses, [200, 503]);
    assert_eq!(liar.read_response().unwrap().body, b"done");
    std::fs::write(&pipe, "x").unwrap();
    assert_eq!(bank.read_response().unwrap().body, b"paid");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn each_context_has_its_own_threads_by_its_own_keys() {
    let settings = "workers_max = 2\nqueue_max = 0\n[[host]]\n[[host.context]]\npath = \"/x\"\nwebapp = \"x\"\n\
                    workers_max = 1\nqueue_max = 1\nqueue_timeout = \"100ms\"";
    let (home, serval) = start_all(&["x", "y"], settings);
    let flag = home.path("flag");
    let ask = |context: &str| {
        let mut connection = open(&serval);
        let request = format!("GET /{context}/until?{} HTTP/1.1\r\nHost: a\r\n\r\n", flag.display());
        connection.send(request.as_bytes()).unwrap();
        connection
    };
    // The one thread of /x is taken, and the next one waits for it in vain; whichever of the two comes first.
    let mut slow = [ask("x"), ask("x")];
    let line = serval.wait_for_log("waited too long for a thread (queue_timeout)", LONG).unwrap();
    assert!(line.contains("context=/x"), "{line}");
    // Those of /y are its own, and two by the defaults.
    let mut others = [ask("y"), ask("y"), ask("y")];
    let line = serval.wait_for_log("its queue is full (queue_max)", LONG).unwrap();
    assert!(line.contains("context=/y"), "{line}");
    std::fs::write(&flag, "").unwrap();
    let check = |connections: &mut [Connection], statuses: &[u16]| {
        let mut answers: Vec<_> = connections.iter_mut().map(|asked| asked.read_response().unwrap()).collect();
        answers.sort_by_key(|answer| answer.status);
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), statuses);
        assert_eq!(answers.last().unwrap().header("retry-after"), Some("1"));
    };
    check(&mut slow, &[200, 503]);
    check(&mut others, &[200, 200, 503]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn files_that_are_sent_slowly_keep_no_threads() {
    let (home, serval) = start("workers_max = 1");
    let flag = home.path("flag");
    std::fs::write(&flag, "").unwrap();
    home.write("webapps/x/WEB-INF/web.toml", "[files]\nwritable = true\n").unwrap();
    let put = |name: &str, body: &str| {
        let mut connection = open(&serval);
        let head = format!("PUT /x/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{body}");
        connection.send(head.as_bytes()).unwrap();
        connection
    };
    let deadline = Instant::now() + LONG;
    while put("first.txt", "1234567890").read_response().unwrap().status != 201 {
        assert!(Instant::now() < deadline, "{:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut slow: Vec<Connection> = (0..8).map(|number| put(&format!("{number}.txt"), "12345")).collect();
    assert_eq!(open(&serval).get(&format!("/x/until?{}", flag.display())).unwrap().body, b"done");
    for (number, connection) in slow.iter_mut().enumerate().rev() {
        connection.send(b"67890").unwrap();
        assert_eq!(connection.read_response().unwrap().status, 201);
        assert_eq!(std::fs::read(home.path(&format!("webapps/x/{number}.txt"))).unwrap(), b"1234567890");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_servlet_that_promises_and_blocks_is_kept_off_the_io_threads() {
    let (home, serval) = start("slow_after = \"1s\"");
    let flag = home.path("flag");
    let request = format!("GET /x/liar?{} HTTP/1.1\r\nHost: a\r\n\r\n", flag.display());
    let mut connections: Vec<Connection> = (0..2).map(|_| open(&serval)).collect();
    connections[0].send(request.as_bytes()).unwrap();
    // The one inline place is taken: the others go to the pool.
    others_are_served(&serval);
    let line = serval.wait_for_log("promises not to block", LONG).unwrap();
    assert!(line.contains("servlet=\"liar\"") && line.contains("/x"), "{line}");
    let line = serval.wait_for_log("a call has been running for", LONG).unwrap();
    assert!(line.contains("servlet=\"liar\"") && line.contains("slow_after"), "{line}");
    connections[1].send(request.as_bytes()).unwrap();
    others_are_served(&serval);
    std::fs::write(&flag, "").unwrap();
    for connection in &mut connections {
        assert_eq!(connection.read_response().unwrap().body, b"done");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_stack_of_a_slow_call_is_told_and_the_call_does_not_notice() {
    let (home, serval) = start("slow_after = \"1s\"");
    let pipe = home.path("pipe");
    let mut connection = open(&serval);
    connection.send(format!("GET /x/bank?{} HTTP/1.1\r\nHost: a\r\n\r\n", pipe.display()).as_bytes()).unwrap();
    // One that is not read in time, as on a busy machine, is read when the call is named again.
    let line = serval.wait_for_log("waits_for_the_bank", 4 * LONG).unwrap();
    assert!(line.contains("a call has been running for"), "{line}");
    let (_, stack) = line.split_once("; its stack: ").unwrap_or_else(|| panic!("{line}"));
    let calls: Vec<&str> = stack.split(" context=").next().unwrap().split("; ").collect();
    // In a system call of libc, and nothing of the server around it.
    assert!(calls.len() >= 3 && calls[calls.len() - 2..] == ["waits_for_the_bank", "bank"], "{line}");
    assert!(line.contains("servlet=\"bank\""), "{line}");
    std::fs::write(&pipe, "x").unwrap();
    assert_eq!(connection.read_response().unwrap().body, b"paid");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn requests_that_come_while_the_last_response_is_still_sent_are_answered() {
    const COUNT: usize = 500;
    let (_home, serval) = start("");
    for next in ["POST /x/flushed", "POST /x/hello", "POST /x/length"] {
        let mut connection = open(&serval);
        let chunked = "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let both = format!("POST /x/flushed {chunked}{next} {chunked}");
        let mut writer = connection.sender().unwrap();
        let all = both.repeat(COUNT);
        let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, all.as_bytes()));
        for number in 0..2 * COUNT {
            let answer = connection.read_response().unwrap_or_else(|error| panic!("{next}, answer {number}: {error}"));
            if number % 2 == 0 {
                assert_eq!((answer.status, answer.body.len()), (200, 8000), "{next}, answer {number}");
            }
        }
        sender.join().unwrap().unwrap();
    }
    assert!(serval.stop().unwrap().success());
}
