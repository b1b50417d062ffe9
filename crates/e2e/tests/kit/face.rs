//! servlet.hpp: exceptions become answers, objects are destroyed, tasks are called again, and no variable is shared.

use std::process::Command;
use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval};

use super::{LONG, compile_with, here, table, wait_for};

#[test]
fn the_face_in_cpp_does_what_it_says() {
    let home = Home::new().unwrap();
    compile_with(&home, &here().join("face.cpp"), "face", &[]);
    let serval = Serval::start(&home).unwrap();
    wait_for(&serval, "/face/objects");
    let conversations = table::read(include_str!("face.txt"));
    // An exchange's objects end a moment after its answer has come, and some are counted: what is not so may be about to be.
    let results = conversations.iter().map(|conversation| {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut result = conversation.run(serval.address(), "/face");
        while result.is_err() && Instant::now() < deadline {
            result = conversation.run(serval.address(), "/face");
        }
        result
    });
    let wrong: Vec<String> = results.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}\n{:#?}", wrong.join("\n\n"), serval.program().lines_from(0));
    for text in ["face/broken: it broke", "a fault of ours", "an exception of an unknown type"] {
        serval.wait_for_log(text, LONG).unwrap();
    }

    // A body that comes in two pieces: would_block ends in the server, and poll is called again.
    let mut slow = Connection::open(serval.address(), LONG).unwrap();
    slow.send(b"POST /face/read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst").unwrap();
    // The server has seen the first piece when it has answered somebody after it.
    assert_eq!(Connection::open(serval.address(), LONG).unwrap().get("/face/nothing").unwrap().status, 200);
    slow.send(b"-last").unwrap();
    assert_eq!(slow.read_response().unwrap().body, b"read first-last");

    // The next generation is handed a note, and of the old one no object stays.
    compile_with(&home, &here().join("face.cpp"), "face", &["-DNEXT"]);
    serval.wait_for_log("the state ends, alive: 0", LONG).unwrap();
    let deadline = Instant::now() + LONG;
    loop {
        let answer = Connection::open(serval.address(), LONG).unwrap().get("/face/objects").unwrap();
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.contains("handed over: a note of generation 1\n"), "{text}");
        if text.contains("alive: 10\n") {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
    }

    // What init throws refuses the generation after.
    compile_with(&home, &here().join("face.cpp"), "face", &["-DREFUSED"]);
    let line = serval.wait_for_log("the new generation is refused", LONG).unwrap();
    assert!(line.contains("the moon is full"), "{line}");
    assert!(serval.stop().unwrap().success());
}

/// Symbols that are unique in the process are shared by all generations, and keep them mapped. Whatever the options
/// are, the header has none; those of the standard library take -fno-gnu-unique.
#[test]
fn no_symbol_of_the_header_is_unique_in_the_process() {
    let home = Home::new().unwrap();
    let unique = |options: &[&str]| -> Vec<String> {
        compile_with(&home, &here().join("face.cpp"), "face", options);
        let library = home.path("webapps/face/WEB-INF/lib/library.so");
        let said = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().unwrap();
        let symbols = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(symbols.contains("servlet_module_v1"), "{symbols}");
        symbols.lines().filter(|line| line.contains(" u ")).map(str::to_owned).collect()
    };
    let with = unique(&["-fgnu-unique", "-fvisibility=default"]);
    assert!(!with.iter().any(|symbol| symbol.contains("7servlet")), "{with:?}");
    assert_eq!(unique(&["-fvisibility=default"]), Vec::<String>::new());
}
