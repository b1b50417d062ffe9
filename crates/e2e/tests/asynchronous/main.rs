//! Servlets that go on after service has returned: tasks and detached exchanges, their clients, their time, and their end.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::process::resident_kb;
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);

/// One inline place, so that a task that kept it would be noticed by the next.
fn start(settings: &str) -> (Home, Serval) {
    start_with("", settings)
}

fn start_with(web: &str, settings: &str) -> (Home, Serval) {
    start_all("", web, settings)
}

/// `listener` are keys of the listener.
fn start_all(listener: &str, web: &str, settings: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.write("webapps/x/WEB-INF/web.toml", web).unwrap();
    home.write("webapps/x/WEB-INF/src/tasks.c", include_str!("tasks.c")).unwrap();
    let build = "[server]\nio_threads = 2\n[build]\nsources = true\n";
    home.configure(&format!("{listener}\n{build}[defaults.context]\n{settings}")).unwrap();
    let serval = Serval::start(&home).unwrap();
    wait_until(|| {
        let lines = serval.program().lines_from(0);
        assert!(!lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
        open(&serval).get("/x/counts").unwrap().status == 200
    });
    (home, serval)
}

fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), LONG).unwrap()
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it has not come to be so");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How many tasks were dropped, and how many detached exchanges were told.
fn counts(serval: &Serval) -> (usize, usize) {
    (count_of(serval, "dropped"), count_of(serval, "told"))
}

fn count_of(serval: &Serval, what: &str) -> usize {
    let text = String::from_utf8(open(serval).get("/x/counts").unwrap().body).unwrap();
    let number = text.split(", ").find_map(|count| count.strip_prefix(what));
    number.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no {what} in {text}"))
}

/// Waits until so many tasks have been made since the start: a request that was sent may not have been read yet.
#[track_caller]
fn wait_for_tasks(serval: &Serval, count: usize) {
    wait_until(|| count_of(serval, "begun") == count);
}

/// It ends before its end.
#[track_caller]
fn is_cut(connection: &mut Connection) {
    let error = connection.read_response().expect_err("a whole answer");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
}

fn ask(connection: &mut Connection, target: &str) {
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
}

#[test]
fn tasks_wait_without_a_thread() {
    let (_home, serval) = start("workers_max = 1");
    let mut ticking: Vec<Connection> = (0..50).map(|_| open(&serval)).collect();
    let began = Instant::now();
    ticking.iter_mut().for_each(|connection| ask(connection, "/x/tick?n=5&ms=50"));
    for connection in &mut ticking {
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"tick 1\ntick 2\ntick 3\ntick 4\ntick 5\n"[..]));
        assert!(began.elapsed() >= Duration::from_millis(200), "a timer has fired before its time");
        // The connection is kept.
        assert_eq!(connection.get("/x/spin?n=1000").unwrap().body, b"spun");
    }
    assert_eq!(counts(&serval), (100, 0));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn bodies_that_come_late_are_read_by_tasks() {
    let (_home, serval) = start("workers_max = 1\nform_bytes_max = \"100B\"");
    let mut late: Vec<Connection> = (0..20).map(|_| open(&serval)).collect();
    for (number, connection) in late.iter_mut().enumerate() {
        let head = match number % 2 {
            0 => "POST /x/length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nname=",
            _ => {
                "POST /x/form HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\nname="
            }
        };
        connection.send(head.as_bytes()).unwrap();
    }
    assert_eq!(open(&serval).get("/x/form?name=Ada").unwrap().body, b"Ada");
    for (number, connection) in late.iter_mut().enumerate() {
        connection.send(b"Grace").unwrap();
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, &*answer.body), (200, if number % 2 == 0 { &b"10"[..] } else { b"Grace" }));
    }
    let form = |body: &str| {
        let length = body.len();
        let head = "POST /x/form HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        let mut connection = open(&serval);
        connection.send(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
        connection.read_response().unwrap().status
    };
    assert_eq!((form("name=%zz"), form(&"x".repeat(101))), (400, 413));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_thousand_slow_readers_take_no_more_memory_than_their_bound() {
    const READERS: usize = 1000;
    let (_home, serval) = start_all("write_timeout = \"1h\"", "", "async_timeout = \"0s\"");
    let before = resident_kb(serval.program().id()).unwrap();
    let mut readers: Vec<Connection> = (0..READERS).map(|_| open(&serval)).collect();
    readers.iter_mut().for_each(|connection| ask(connection, "/x/flood"));
    let resident = || resident_kb(serval.program().id()).unwrap();
    // Until the kernel's buffers are full, and then no further.
    let mut last = resident();
    wait_until(|| {
        std::thread::sleep(Duration::from_millis(500));
        let now = resident();
        let stands = now.abs_diff(last) < 200;
        last = now;
        stands
    });
    let grown = resident() - before;
    println!("{READERS} slow readers: {before} kB before, {grown} kB more, {} kB each", grown / READERS as u64);
    assert!(grown < READERS as u64 * 256, "{grown} kB for {READERS} readers");
    assert_eq!(open(&serval).get("/x/tick").unwrap().status, 200);
    assert_eq!(counts(&serval).0, 1);
    drop(readers);
    wait_until(|| counts(&serval).0 == READERS + 1);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_client_that_leaves_is_noticed_at_once() {
    let (_home, serval) = start("async_timeout = \"0s\"");
    for (number, target) in
        ["/x/forever", "/x/forever?n=2", "/x/tick?n=1000000&ms=1000000", "/x/flood"].iter().enumerate()
    {
        let mut connection = open(&serval);
        ask(&mut connection, target);
        wait_for_tasks(&serval, number + 1);
        assert_eq!(counts(&serval).0, number, "{target}");
        drop(connection);
        wait_until(|| counts(&serval).0 == number + 1);
    }
    let mut connection = open(&serval);
    ask(&mut connection, "/x/detach?ms=-1");
    assert_eq!(counts(&serval).1, 0);
    drop(connection);
    wait_until(|| counts(&serval).1 == 1);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_task_that_keeps_its_promise_goes_on_without_its_client() {
    let (_home, serval) = start("async_timeout = \"0s\"");
    for (number, target) in ["/x/keeps", "/x/forever"].iter().enumerate() {
        let mut connection = open(&serval);
        ask(&mut connection, target);
        wait_for_tasks(&serval, number + 1);
        assert_eq!(counts(&serval).0, 0, "{target}");
    }
    // Both clients have gone, and one task with them.
    wait_until(|| counts(&serval).0 == 1);
    assert_eq!(count_of(&serval, "kept"), 0);
    assert_eq!(open(&serval).get("/x/next_step?n=1").unwrap().status, 200);
    wait_until(|| (counts(&serval).0, count_of(&serval, "kept")) == (2, 1));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_servlet_has_a_time_of_its_own() {
    let web = "[[servlet]]\nname = \"forever\"\nasync_timeout = \"100ms\"\n";
    let (_home, serval) = start_with(web, "async_timeout = \"0s\"");
    assert_eq!(open(&serval).get("/x/forever").unwrap().status, 500);
    let line = serval.wait_for_log("was not completed in time (async_timeout)", LONG).unwrap();
    assert!(line.contains("servlet=\"forever\""), "{line}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn time_is_up_for_tasks_and_detached_exchanges() {
    let (_home, serval) = start("async_timeout = \"300ms\"");
    assert_eq!(open(&serval).get("/x/forever").unwrap().status, 500);
    let line = serval.wait_for_log("was not completed in time (async_timeout)", LONG).unwrap();
    for part in ["servlet=\"forever\"", "/x", "request=", "generation="] {
        assert!(line.contains(part), "{line}");
    }
    // What was begun is cut.
    let mut connection = open(&serval);
    ask(&mut connection, "/x/forever?n=2");
    is_cut(&mut connection);
    assert_eq!(counts(&serval), (2, 0));
    // A detached one is answered, told, and still completed by its thread, which harms nobody.
    // The answer may be there before it is told.
    assert_eq!(open(&serval).get("/x/detach?ms=-1").unwrap().status, 500);
    wait_until(|| counts(&serval) == (2, 1));
    // One that was dispatched has a time of its own.
    assert_eq!(open(&serval).get("/x/again?to=/forever").unwrap().status, 500);
    let lines = serval.stop_and_read().unwrap();
    let ended = lines.iter().filter(|line| line.contains("was not completed in time"));
    let named = ended.filter_map(|line| Some(line.split_once("servlet=\"")?.1.split_once('"')?.0));
    assert_eq!(named.collect::<Vec<_>>(), ["forever", "forever", "detach", "forever"]);
}

/// The time is up, and while its page waits for a thread, the library completes it after all.
#[test]
fn what_is_completed_in_the_last_moment_is_whole() {
    let page = "[[error_page]]\nstatus = 500\nlocation = \"/counts\"\n";
    let (_home, serval) = start_with(page, "workers_max = 1\nqueue_timeout = \"1h\"\nasync_timeout = \"0s\"");
    let (mut holding, mut late) = (open(&serval), open(&serval));
    ask(&mut holding, "/x/hold");
    wait_until(|| count_of(&serval, "held") == 1);
    ask(&mut late, "/x/detach?ms=-2&timeout=50");
    serval.wait_for_log("was not completed in time (async_timeout)", LONG).unwrap();
    assert_eq!(open(&serval).get("/x/next_step?n=1").unwrap().status, 200);
    wait_until(|| count_of(&serval, "completed") == 1);
    assert_eq!(open(&serval).get("/x/next_step?n=2").unwrap().status, 200);
    let answer = late.read_response().unwrap();
    assert_eq!((answer.status, &*answer.body), (200, &b"from a thread"[..]));
    assert_eq!(holding.read_response().unwrap().status, 200);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_task_that_writes_for_ever_to_head_is_ended() {
    let (_home, serval) = start("async_timeout = \"300ms\"");
    let mut connection = open(&serval);
    connection.send(b"HEAD /x/flood HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(connection.read_response_of_head().unwrap().status, 500);
    assert_eq!(counts(&serval).0, 1);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_detached_exchange_is_completed_by_any_thread() {
    let (_home, serval) = start("workers_max = 1");
    let mut waiting: Vec<Connection> = (0..20).map(|_| open(&serval)).collect();
    waiting.iter_mut().for_each(|connection| ask(connection, "/x/detach?ms=100"));
    assert_eq!(open(&serval).get("/x/detach?n=0").unwrap().body, b"from service");
    for connection in &mut waiting {
        assert_eq!(connection.read_response().unwrap().body, b"from a thread");
        assert_eq!(connection.get("/x/detach").unwrap().body, b"from a thread");
    }
    assert!(serval.stop().unwrap().success());
}

/// Its service could not return before that write had ended, and kept the connection that the write waited for.
#[test]
fn a_thread_that_writes_much_does_not_wait_for_its_own_service() {
    let (_home, serval) = start("");
    let mut connections: Vec<Connection> = (0..4).map(|_| open(&serval)).collect();
    connections.iter_mut().for_each(|connection| ask(connection, "/x/early"));
    for connection in &mut connections {
        assert_eq!(connection.read_response().unwrap().body.len(), 1 << 20);
        assert_eq!(connection.get("/x/detach").unwrap().body, b"from a thread");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_task_that_sets_its_time_is_not_polled_for_that() {
    let (_home, serval) = start("");
    assert_eq!(open(&serval).get("/x/restless").unwrap().status, 500);
    let polls = count_of(&serval, "polls");
    // At the beginning, and maybe once more, when the driver begins.
    assert!(polls <= 2, "{polls}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_time_that_is_set_before_detach_counts() {
    let (_home, serval) = start("async_timeout = \"0s\"");
    assert_eq!(open(&serval).get("/x/detach?ms=-1&timeout=200").unwrap().status, 500);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_exchange_whose_time_is_up_goes_nowhere_else() {
    let (_home, serval) = start("async_timeout = \"0s\"");
    assert_eq!(open(&serval).get("/x/detach?n=4").unwrap().body, b"tick 1\n");
    let dropped = counts(&serval).0;
    assert_eq!(open(&serval).get("/x/detach?ms=-1&timeout=50&n=4").unwrap().status, 500);
    // It had to be completed, and was asked for nothing more.
    wait_until(|| count_of(&serval, "completed") == 1);
    assert_eq!(counts(&serval), (dropped, 1));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_client_of_a_detached_exchange_that_leaves_is_no_error() {
    let (_home, serval) = start("\n[log]\nlevel = \"debug\"");
    let mut connection = open(&serval);
    ask(&mut connection, "/x/detach?ms=-1");
    assert_eq!(counts(&serval).1, 0);
    drop(connection);
    wait_until(|| counts(&serval).1 == 1);
    let line = serval.wait_for_log("a request ended: the client has gone", LONG).unwrap();
    assert!(line.contains("DEBUG"), "{line}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_client_that_leaves_after_a_late_body_is_noticed() {
    let (_home, serval) = start("async_timeout = \"0s\"");
    let mut connection = open(&serval);
    connection.send(b"POST /x/forever HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert_eq!(counts(&serval).0, 0);
    connection.send(b"12345").unwrap();
    assert_eq!(counts(&serval).0, 0);
    drop(connection);
    wait_until(|| counts(&serval).0 == 1);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_task_inside_of_another_servlet_is_told_and_ends() {
    let (home, serval) = start("async_timeout = \"0s\"\ndrain_timeout = \"1s\"");
    assert_eq!(open(&serval).get("/x/nested?to=/tick%3Fn=2%26ms=10").unwrap().body, b"tick 1\ntick 2\n");
    // On a thread of the library's own.
    assert_eq!(open(&serval).get("/x/detach?n=3").unwrap().body, b"tick 1\ntick 2\n");
    assert_eq!(counts(&serval).0, 2);
    let mut connection = open(&serval);
    ask(&mut connection, "/x/nested?to=/forever");
    wait_for_tasks(&serval, 3);
    assert_eq!(counts(&serval).0, 2);
    drop(connection);
    wait_until(|| counts(&serval).0 == 3);
    let mut told = open(&serval);
    ask(&mut told, "/x/nested?to=/until_retired");
    let mut stubborn = open(&serval);
    ask(&mut stubborn, "/x/nested?to=/forever");
    wait_for_tasks(&serval, 5);
    assert_eq!(counts(&serval).0, 3);
    home.write("webapps/x/WEB-INF/src/tasks.c", format!("{}\n", include_str!("tasks.c"))).unwrap();
    assert_eq!(told.read_response().unwrap().body, b"open\nclosed\n");
    assert_eq!(stubborn.read_response().unwrap().status, 503);
    serval.wait_for_log("the generation is gone", LONG).unwrap();
    assert!(serval.stop().unwrap().success());
}

#[test]
fn streams_of_a_webapp_that_is_removed_end() {
    let (home, serval) = start("async_timeout = \"0s\"\ndrain_timeout = \"1s\"");
    let mut stubborn = open(&serval);
    ask(&mut stubborn, "/x/forever?n=2");
    wait_for_tasks(&serval, 1);
    assert_eq!(counts(&serval).0, 0);
    std::fs::rename(home.path("webapps/x"), home.path("x")).unwrap();
    is_cut(&mut stubborn);
    serval.wait_for_log("the generation is gone", LONG).unwrap();
    assert!(serval.stop().unwrap().success());
}

#[test]
fn connections_that_break_before_a_call_leave_nothing() {
    let (_home, serval) = start("");
    for round in 0..300 {
        let mut connection = open(&serval);
        // An answer that nobody reads, and a call that is read with it; the socket is reset while they are under way.
        let requests = "GET /x/counts HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1 + round % 40);
        connection.send(requests.as_bytes()).unwrap();
        connection.reset().unwrap();
    }
    assert_eq!(open(&serval).get("/x/counts").unwrap().status, 200);
    // A call that was never made would keep its generation.
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_detached_exchange_ends_while_all_workers_wait() {
    let (_home, serval) = start("workers_max = 1\nasync_timeout = \"0s\"");
    let mut waiting = open(&serval);
    ask(&mut waiting, "/x/nested?to=/forever");
    wait_for_tasks(&serval, 1);
    assert_eq!(counts(&serval).0, 0);
    assert_eq!(open(&serval).get("/x/detach?ms=10").unwrap().body, b"from a thread");
    drop(waiting);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_dispatch_that_gets_no_thread_is_answered_in_time() {
    let (_home, serval) = start("workers_max = 1\nqueue_timeout = \"200ms\"\nasync_timeout = \"0s\"");
    assert_eq!(open(&serval).get("/x/again?to=/tick").unwrap().body, b"tick 1\n");
    let mut waiting = None;
    // Which of the two gets the only thread is not said: until it is the one that keeps it.
    wait_until(|| {
        ask(waiting.insert(open(&serval)), "/x/nested?to=/forever");
        open(&serval).get("/x/again?to=/tick").unwrap().status == 503
    });
    let line = serval.wait_for_log("had no thread for it (workers_max)", LONG).unwrap();
    assert!(line.contains("servlet=\"tick\"") && line.contains("request="), "{line}");
    drop(waiting);
    wait_until(|| open(&serval).get("/x/again?to=/tick").unwrap().status == 200);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_task_inside_of_another_servlet_goes_nowhere_else() {
    let (_home, serval) = start("");
    assert_eq!(open(&serval).get("/x/nested?to=/again").unwrap().status, 500);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_request_that_goes_on_often_has_the_parameters_of_the_last_way() {
    let (_home, serval) = start("parameter_count_max = 4");
    for (target, count) in [("/x/round_trip?n=0", "1"), ("/x/round_trip?n=1", "2"), ("/x/round_trip?n=30", "2")] {
        let answer = open(&serval).get(target).unwrap();
        assert_eq!((answer.status, &*answer.body), (200, count.as_bytes()), "{target}");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn wakes_after_the_end_do_nothing() {
    let (_home, serval) = start("");
    for number in 1..=20 {
        assert_eq!(open(&serval).get("/x/wakes").unwrap().body, b"woken");
        assert_eq!(counts(&serval).0, number);
    }
    assert!(serval.stop().unwrap().success());
    // And nothing of it was misuse.
}

#[test]
fn streams_are_told_of_a_reload_and_end_whole() {
    let (home, serval) = start("drain_timeout = \"2s\"");
    let mut streams: Vec<Connection> = (0..20).map(|_| open(&serval)).collect();
    streams.iter_mut().for_each(|connection| ask(connection, "/x/until_retired"));
    let mut stubborn = open(&serval);
    ask(&mut stubborn, "/x/forever?n=2");
    wait_for_tasks(&serval, 21);
    assert_eq!(counts(&serval).0, 0);
    home.write("webapps/x/WEB-INF/src/tasks.c", format!("{}\n", include_str!("tasks.c"))).unwrap();
    for connection in &mut streams {
        let answer = connection.read_response().unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"open\nclosed\n"[..]));
    }
    // One that does not listen is ended with the drain.
    is_cut(&mut stubborn);
    serval.wait_for_log("the generation is gone", LONG).unwrap();
    assert!(serval.stop().unwrap().success());
}

#[test]
fn streams_end_whole_when_the_server_stops() {
    let (_home, serval) = start("");
    let mut stream = open(&serval);
    ask(&mut stream, "/x/until_retired");
    wait_for_tasks(&serval, 1);
    assert_eq!(counts(&serval).0, 0);
    let reader = std::thread::spawn(move || stream.read_response().unwrap().body);
    assert!(serval.stop().unwrap().success());
    assert_eq!(reader.join().unwrap(), b"open\nclosed\n");
}

#[test]
fn what_runs_in_a_webapp_that_is_removed_is_told_and_ended() {
    let (home, serval) = start("drain_timeout = \"1s\"");
    let (mut stream, mut stubborn) = (open(&serval), open(&serval));
    ask(&mut stream, "/x/until_retired");
    ask(&mut stubborn, "/x/forever?n=2");
    wait_for_tasks(&serval, 2);
    assert_eq!(counts(&serval).0, 0);
    std::fs::remove_dir_all(home.path("webapps/x")).unwrap();
    assert_eq!(stream.read_response().unwrap().body, b"open\nclosed\n");
    is_cut(&mut stubborn);
    serval.wait_for_log("the generation is gone", LONG).unwrap();
    assert!(serval.stop().unwrap().success());
}
