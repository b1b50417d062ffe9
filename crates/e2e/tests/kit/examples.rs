//! The examples of `crates/abi/examples`, each in a webapp of its own, do what they say; and together they call each
//! function of the table.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval, repository};

use super::{LONG, compile, table, wait_for};

/// Their files, in order of their names.
fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("crates/abi/examples")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "c"));
    files.sort();
    files
}

#[test]
fn the_examples_do_what_they_say() {
    let home = Home::new().unwrap();
    let mut names = Vec::new();
    for file in examples() {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        compile(&home, &file, &name);
        names.push(name);
    }
    home.write("conf/server.toml", "[[listener]]\naddress = \"127.0.0.1:0\"\ntrailers = [\"x-sum\"]\n").unwrap();
    home.write("webapps/context/WEB-INF/web.toml", "[params]\ncurrency = \"EUR\"\n").unwrap();
    home.write("webapps/filter/loud/file.txt", "a file\n").unwrap();
    home.write("webapps/filter/loud/large.txt", "abcdefghijklmnopqrstuvwxyz".repeat(100_000)).unwrap();
    let small = "[multipart]\nmemory_bytes_max = 20\nfile_bytes_max = 40\npart_count_max = 3\n";
    home.write("webapps/upload/WEB-INF/web.toml", small).unwrap();
    let serval = Serval::start(&home).unwrap();
    for name in &names {
        wait_for(&serval, &format!("/{name}/"));
    }
    let mut wrong = Vec::new();
    for conversation in table::read(include_str!("examples.txt")) {
        // A title begins with the name of its example.
        let name = conversation.title.split(':').next().unwrap_or_default().to_owned();
        assert!(names.contains(&name), "line {}: there is no example {name}", conversation.line);
        let mut result = conversation.run(serval.address(), &format!("/{name}"));
        // A request is destroyed a moment after its answer has come, so its event may come behind that of the next one.
        let deadline = Instant::now() + Duration::from_secs(30);
        while name == "listener" && result.is_err() && Instant::now() < deadline {
            result = conversation.run(serval.address(), &format!("/{name}"));
        }
        wrong.extend(result.err());
    }
    job_is_done(&serval);
    assert!(wrong.is_empty(), "{}\n{:#?}", wrong.join("\n\n"), serval.program().lines_from(0));
    serval.wait_for_log("the impossible has happened", LONG).unwrap();
    assert!(serval.stop().unwrap().success());
}

/// The job of `context.c` runs when it runs.
fn job_is_done(serval: &Serval) {
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(b"POST /context/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(connection.read_response().unwrap().status, 202);
    let deadline = std::time::Instant::now() + LONG;
    while connection.get("/context/job").unwrap().body != b"done" {
        assert!(std::time::Instant::now() < deadline, "the job does not run");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_library_hands_over_to_its_next_generation() {
    let home = Home::new().unwrap();
    let source = repository().join("crates/abi/examples/context.c");
    compile(&home, &source, "context");
    let serval = Serval::start(&home).unwrap();
    wait_for(&serval, "/context/about");
    let about = || {
        let answer = Connection::open(serval.address(), LONG).unwrap().get("/context/about").unwrap();
        String::from_utf8(answer.body).unwrap()
    };
    let visits = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("visits: ")).unwrap_or_default().to_owned();
        line.parse::<u32>().unwrap()
    };
    let before = about();
    assert!(before.contains("generation: 1\n"), "{before}");
    // The same library, in another file: the watcher sees a change.
    compile(&home, &source, "context");
    serval.wait_for_log("generation 2", LONG).unwrap();
    let deadline = std::time::Instant::now() + LONG;
    let mut last = visits(&before);
    loop {
        let after = about();
        assert_eq!(visits(&after), last + 1, "{after}");
        last += 1;
        if after.contains("generation: 2\n") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{after}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn each_function_of_the_table_is_in_an_example() {
    let header = fs::read_to_string(repository().join("crates/abi/include/servlet.h")).unwrap();
    let (_, rest) = header.split_once("typedef struct sv_host {").unwrap();
    let (table, _) = rest.split_once("} sv_host;").unwrap();
    let sources: String = examples().iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut functions = 0;
    let mut missing = Vec::new();
    // A member begins a line: `sv_status (*name)(`; what is deeper is an argument.
    for line in table.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     ")) {
        let Some((name, _)) = line.split_once("(*").and_then(|(_, rest)| rest.split_once(")(")) else { continue };
        functions += 1;
        if !sources.contains(&format!("->{name}(")) {
            missing.push(name.to_owned());
        }
    }
    assert!(functions > 80, "only {functions} functions were found in servlet.h");
    assert!(missing.is_empty(), "no example calls {missing:?}");
}
