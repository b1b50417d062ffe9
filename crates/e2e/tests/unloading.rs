//! Libraries go when they are replaced, whatever they have left on the threads of the server; and those that cannot go are named with
//! the reason (DESIGN "Generations and reload", ABI.md 8). A soak does the same for long: `reload-soak --library NAME --reloads N`.

use std::process::Command;
use std::time::Duration;

use e2e::http_client::Connection;
use e2e::serval::{Home, Serval, binary};
use e2e::unloading::{By, CASES, INITIAL_EXEC};

const RELOADS: usize = 25;

fn check(names: &str) {
    let cases = CASES.iter().filter(|case| case.name.starts_with(names));
    let wrong: Vec<String> =
        cases.filter_map(|case| Some(format!("{:#}", case.run(RELOADS, By::Rename).err()?))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn libraries_in_rust() {
    check("rust-");
}

#[test]
fn libraries_in_c() {
    check("c-");
}

#[test]
fn libraries_in_cpp() {
    check("cpp-");
}

/// Of what such a library takes nothing comes back. That is refused when it is used up, and what serves goes on.
#[test]
fn a_library_with_initial_exec_thread_locals_is_refused_when_there_is_no_room() {
    let home = Home::new().unwrap();
    let library = INITIAL_EXEC.build().unwrap();
    std::fs::create_dir_all(home.path("webapps/x/WEB-INF/lib")).unwrap();
    std::fs::copy(library, home.path("webapps/x/WEB-INF/lib/x.so")).unwrap();
    let serval = Serval::start(&home).unwrap();
    let reload = || {
        let mut command = Command::new(binary().unwrap());
        command.args(["reload", "/x", "--home"]).arg(home.path("")).output().unwrap()
    };
    let refused = (0..100).map(|_| reload()).find(|output| !output.status.success()).unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{error}");
    assert!(error.contains("x.so: there is no room left for its thread-locals, which are initial-exec"), "{error}");
    let mut connection = Connection::open(serval.address(), Duration::from_secs(60)).unwrap();
    assert_eq!(connection.get("/x/plain").unwrap().body, b"done");
    assert!(serval.stop().unwrap().success());
}
