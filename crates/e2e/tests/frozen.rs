//! The interface of libraries as it was released, for ever: what was compiled against servlet.h 1.0 runs on the host of today, what
//! was written against it compiles today, and today's header only adds to it. `crates/abi/frozen/1.0` is what was released; its
//! README says what is in it.
//!
//! What a library of a later minor may say is in `crates/loader/tests/refusals.txt`. Needs cc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::conformance::fixtures::{Fixtures, compile};
use e2e::conformance::{Selection, run};
use e2e::http_client::Connection;
use e2e::serval::{Home, Serval, repository};
use sha2::{Digest, Sha256};

const LONG: Duration = Duration::from_secs(60);

/// Of the vectors: what the servlets take part in, as of 1.0.
const AREAS: &[&str] = &[
    "mapping",
    "mapping-object",
    "method",
    "conditional",
    "error-page",
    "filter",
    "response",
    "dispatch",
    "params",
    "multipart",
    "cookie-in",
    "cookie-out",
    "session",
    "async",
];

fn frozen() -> PathBuf {
    repository().join("crates/abi/frozen/1.0")
}

fn header_of_today() -> PathBuf {
    repository().join("crates/abi/include")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// All files below a folder, sorted by their paths.
fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

#[test]
fn nothing_that_was_released_is_changed() {
    let mut all = Vec::new();
    files(&frozen(), &mut all);
    let sums: String = all
        .iter()
        .map(|path| {
            let sum: String =
                Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{sum}  {}\n", path.strip_prefix(frozen()).unwrap().display())
        })
        .collect();
    assert_eq!(sums, include_str!("frozen.sha256"), "crates/abi/frozen/1.0 is what was released: it never changes");
}

/// Compiles and runs a program of these statements against the servlet.h of a folder.
#[track_caller]
fn printed(include: &Path, statements: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("x.c"), folder.path().join("x"));
    let text = format!("#include <stdio.h>\n#include \"servlet.h\"\nint main(void) {{\n{statements}return 0; }}\n");
    fs::write(&source, text).unwrap();
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-w", "-I"]).arg(include).arg("-o").arg(&program).arg(&source);
    let compiled = command.output().expect("this test needs cc");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap()
}

#[test]
fn each_constant_has_its_value() {
    let header = read(&frozen().join("servlet.h"));
    let mut statements = String::new();
    for line in header.lines().filter_map(|line| line.strip_prefix("#define SV_")) {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        let is_number = value.trim_start().starts_with(|first: char| first.is_ascii_digit() || first == '(');
        // The minor is what may grow. With a parenthesis in the name it is a macro with arguments.
        if is_number && !name.contains('(') && name != "ABI_MINOR" {
            statements += &format!("printf(\"SV_{name} %lld\\n\", (long long)(SV_{name}));\n");
        }
    }
    let then = printed(&frozen(), &statements);
    assert!(then.lines().count() > 70, "the constants are not found:\n{then}");
    assert_eq!(then, printed(&header_of_today(), &statements));
}

#[test]
fn each_member_stands_in_its_place() {
    let layout = read(&frozen().join("layout.golden"));
    let (mut statements, mut grows) = (String::new(), Vec::new());
    for line in layout.lines() {
        let (name, number) = line.split_once(' ').expect("name and number");
        match name.split_once('.') {
            Some((of, member)) => {
                if member == "struct_size" {
                    grows.push(of);
                }
                statements += &format!("printf(\"{name} %zu\\n\", offsetof({of}, {member}));\n");
            }
            // A struct with struct_size grows at its end: the size of then is compared as the least.
            None if layout.contains(&format!("\n{name}.struct_size ")) => {
                statements +=
                    &format!("printf(\"{name} %zu\\n\", sizeof({name}) < {number} ? sizeof({name}) : {number});\n");
            }
            None => statements += &format!("printf(\"{name} %zu\\n\", sizeof({name}));\n"),
        }
    }
    assert!(grows.len() > 10, "the structs that grow are not found: {grows:?}");
    assert_eq!(printed(&frozen(), &statements), layout, "layout.golden is not that of the frozen header");
    assert_eq!(printed(&header_of_today(), &statements), layout);
}

#[test]
fn the_sources_call_every_function_of_the_table() {
    let mut all = Vec::new();
    files(&frozen().join("fixtures-c"), &mut all);
    files(&frozen().join("every"), &mut all);
    let sources: String = all.iter().map(|path| read(path)).collect();
    let layout = read(&frozen().join("layout.golden"));
    let members = layout.lines().filter_map(|line| line.strip_prefix("sv_host.")?.split(' ').next());
    let data = ["struct_size", "abi_major", "abi_minor", "server"];
    let missing: Vec<&str> =
        members.filter(|member| !data.contains(member) && !sources.contains(&format!("host->{member}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[track_caller]
fn conforms(library: PathBuf) {
    let areas = AREAS.iter().map(|area| (*area).to_owned()).collect();
    let name = library.display().to_string();
    let selection = Selection { areas, case: None };
    let report = run(include_str!("../vectors/sample.json"), &selection, &Fixtures::Library(library)).unwrap();
    assert_eq!(report.failed(), 0, "with {name}\n{report}");
}

/// Each function that the fixtures do not call, each hook that they do not have, and the hand-over to a next generation.
#[track_caller]
fn calls_every_function(library: &Path) {
    let home = Home::new().unwrap();
    let place = home.path("webapps/x/WEB-INF/lib/every.so");
    home.write("conf/server.toml", "[[listener]]\naddress = \"127.0.0.1:0\"\ntrailers = [\"x-sent\"]\n").unwrap();
    home.write("webapps/x/WEB-INF/web.toml", include_str!("frozen.toml")).unwrap();
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(library, &place).unwrap();
    let serval = Serval::start(&home).unwrap();
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    let mut ask = |request: &str| {
        connection.send(request.as_bytes()).unwrap();
        let mut response = connection.read_response().unwrap();
        let early = response.status == 103;
        if early {
            response = connection.read_response().unwrap();
        }
        (early, response)
    };
    let (early, every) = ask(
        "POST /x/every/7?a=1&a=two HTTP/1.1\r\nHost: localhost\r\nCookie: c=d\r\nX-One: first\r\nTE: trailers\r\n\
         Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\nX-Sent: after\r\n\r\n",
    );
    assert!(early, "the hint was not sent");
    assert_eq!(String::from_utf8_lossy(&every.body), include_str!("frozen.txt"));
    assert_eq!(every.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert_eq!(every.header("x-said"), Some("twice"));

    let get = |path: &str| format!("GET /x/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(ask(&get("task")).1.body, b"woken\n");
    let whole = ask(&get("whole")).1;
    assert_eq!((whole.status, whole.header("x-filter"), &*whole.body), (201, Some("seen"), &b"whole\nfiltered\n"[..]));
    assert_eq!(ask(&get("counts")).1.body, b"requests: 4\n");

    let next = place.with_extension("next");
    fs::copy(library, &next).unwrap();
    fs::rename(&next, &place).unwrap();
    serval.wait_for_log("/x ready (generation 2", LONG).unwrap();
    assert_eq!(ask(&get("counts")).1.body, b"requests: 5\n");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_sources_compile_against_the_header_of_then_and_of_today() {
    let folder = tempfile::tempdir().unwrap();
    for include in [frozen(), header_of_today()] {
        let (fixtures, every) = (folder.path().join("fixtures.so"), folder.path().join("every.so"));
        compile(&frozen().join("fixtures-c"), &include, &fixtures).unwrap();
        compile(&frozen().join("every"), &include, &every).unwrap();
        conforms(fixtures);
        calls_every_function(&every);
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod the_binaries {
    use super::*;

    fn binary(name: &str) -> PathBuf {
        frozen().join("x86_64-linux").join(name)
    }

    #[test]
    fn the_fixtures_in_c_conform() {
        conforms(binary("fixtures-c.so"));
    }

    #[test]
    fn the_fixtures_in_rust_conform() {
        conforms(binary("fixtures-rust.so"));
    }

    #[test]
    fn every_function_can_be_called() {
        calls_every_function(&binary("every.so"));
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[test]
fn the_binaries_are_for_x86_64_linux_and_cannot_run_here() {}
