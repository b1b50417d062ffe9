//! What comes into WEB-INF/lib and goes from it. What cannot be a generation is refused in one sentence, and the old one
//! serves on.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::process;
use e2e::serval::{Home, Serval, repository};

const LONG: Duration = Duration::from_secs(60);
const LIB: &str = "webapps/x/WEB-INF/lib";

/// Compiles a shared library into a file of the home.
fn compile(home: &Home, to: &str, options: &[&str]) {
    compile_source(home, include_str!("library.c"), to, options);
}

fn compile_source(home: &Home, source: &str, to: &str, options: &[&str]) {
    home.write("workshop/library.c", source).unwrap();
    let to = home.path(to);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let beside = to.with_extension("so.tmp");
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-shared", "-fPIC", "-I"]).arg(repository().join("crates/abi/include"));
    command.arg(home.path("workshop/library.c")).arg("-o").arg(&beside).args(options);
    process::run(command, LONG).unwrap();
    fs::rename(beside, to).unwrap();
}

/// A home whose context /x answers "good", by `lib/one.so`.
fn started() -> (Home, Serval) {
    started_with("")
}

fn started_with(settings: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    home.configure(settings).unwrap();
    compile(&home, &format!("{LIB}/one.so"), &[]);
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, 200, "good");
    (home, serval)
}

fn get(serval: &Serval) -> (u16, String) {
    let answer = Connection::open(serval.address(), LONG).unwrap().get("/x/text").unwrap();
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

#[track_caller]
fn becomes(serval: &Serval, status: u16, text: &str) {
    let deadline = Instant::now() + LONG;
    loop {
        let answer = get(serval);
        if answer.0 == status && answer.1.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}, {:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lets `spoil` change the lib folder: the log says `sentence` once, "good" is served on, and a good library takes over again.
#[track_caller]
fn check(sentence: &str, spoil: impl FnOnce(&Home, &Path)) {
    let (home, serval) = started();
    spoil(&home, &home.path(LIB));
    let line = serval.wait_for_log("the new generation is refused", LONG).unwrap();
    assert!(line.contains(sentence), "{line}");
    assert!(line.contains("generation 1 serves on"), "{line}");
    assert_eq!(get(&serval), (200, "good".to_owned()));
    fs::remove_dir_all(home.path(LIB)).unwrap();
    compile(&home, &format!("{LIB}/one.so"), &["-DTEXT=\"better\""]);
    becomes(&serval, 200, "better");
    let lines = serval.stop_and_read().unwrap();
    let refusals = lines.iter().filter(|line| line.contains(sentence)).count();
    assert_eq!(refusals, 1, "a refusal is said once: {lines:#?}");
}

#[test]
fn a_text_file() {
    check("one.so: it is not an ELF file: it begins with \"hello\"", |_, lib| {
        fs::write(lib.join("one.so"), "hello").unwrap()
    });
}

#[test]
fn an_empty_file() {
    check("one.so: it is empty", |_, lib| fs::write(lib.join("one.so"), "").unwrap());
}

#[test]
fn half_a_file() {
    check("one.so: it is cut", |_, lib| {
        let whole = fs::read(lib.join("one.so")).unwrap();
        fs::write(lib.join("one.so"), &whole[..whole.len() / 2]).unwrap();
    });
}

#[test]
fn a_file_of_zeros() {
    check("one.so: it is not an ELF file", |_, lib| fs::write(lib.join("one.so"), [0; 16384]).unwrap());
}

#[test]
fn for_another_machine() {
    check("one.so: it is for another machine", |_, lib| {
        let mut bytes = fs::read(lib.join("one.so")).unwrap();
        // e_machine: that of a SPARC.
        bytes[18..20].copy_from_slice(&[2, 0]);
        fs::write(lib.join("one.so"), bytes).unwrap();
    });
}

#[test]
fn of_a_newer_minor() {
    check("one.so: it needs servlet ABI 1.77", |home, _| compile(home, &format!("{LIB}/one.so"), &["-DNEED_MINOR=77"]));
}

#[test]
fn of_another_major() {
    check("one.so: it speaks only another major version", |home, _| {
        compile(home, &format!("{LIB}/one.so"), &["-DMAJOR=2"]);
    });
}

#[test]
fn with_the_entry_of_another_major() {
    check("one.so: it speaks only another major version", |home, _| {
        compile(home, &format!("{LIB}/one.so"), &["-DENTRY=servlet_module_v2"]);
    });
}

#[test]
fn without_the_entry() {
    check("one.so: does not export servlet_module_v1", |home, _| {
        compile(home, &format!("{LIB}/one.so"), &["-DENTRY=something"]);
    });
}

#[test]
fn without_the_entry_of_a_servlet_that_web_toml_names() {
    let home = Home::new().unwrap();
    compile(&home, &format!("{LIB}/one.so"), &[]);
    home.write("webapps/x/WEB-INF/web.toml", "[[servlet]]\nname = \"one\"\nurl_patterns = [\"/text\"]\n").unwrap();
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, 200, "good");
    compile(&home, &format!("{LIB}/one.so"), &["-DENTRY=something"]);
    serval.wait_for_log("one.so: does not export servlet_module_v1", LONG).unwrap();
    assert_eq!(get(&serval), (200, "good".to_owned()));
}

#[test]
fn without_the_entry_beside_a_good_one() {
    let (home, serval) = started();
    compile(&home, &format!("{LIB}/two.so"), &["-DNAME=\"two\"", "-DPATTERN=\"/two\""]);
    serval.wait_for_log("2 servlets", LONG).unwrap();
    compile(&home, &format!("{LIB}/one.so"), &["-DENTRY=something"]);
    serval.wait_for_log("one.so: does not export servlet_module_v1", LONG).unwrap();
    assert_eq!(get(&serval), (200, "good".to_owned()));
}

#[test]
fn with_a_dependency_that_is_not_there() {
    check("libabsent.so, which the system does not find", |home, _| {
        let source = "int dependency(void) { return 1; }\n";
        compile_source(home, source, "workshop/libabsent.so", &[]);
        let workshop = home.path("workshop");
        let options = ["-DNEEDS", "-L", workshop.to_str().unwrap(), "-labsent"];
        compile(home, &format!("{LIB}/one.so"), &options);
    });
}

#[test]
fn with_a_pattern_of_another() {
    check("the URL pattern `/text` is declared by the servlets", |home, _| {
        compile(home, &format!("{LIB}/two.so"), &["-DNAME=\"two\""]);
    });
}

#[test]
fn with_an_init_that_fails() {
    check("one.so: its init failed: the moon is full", |home, _| compile(home, &format!("{LIB}/one.so"), &["-DFAILS"]));
}

#[test]
fn with_a_listener_function_that_refuses_the_context() {
    check("one.so: its listener function for CONTEXT_INITIALIZED failed: it returned status -13", |home, _| {
        compile(home, &format!("{LIB}/one.so"), &["-DLISTENS"]);
    });
}

#[test]
fn that_others_may_write() {
    // Only root can give a file away; .ci/run is root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let give_away = |_: &Home, lib: &Path| {
        fs::set_permissions(lib.join("one.so"), fs::Permissions::from_mode(0o666)).unwrap();
        chown(lib.join("one.so"), Some(12345), None).unwrap();
    };
    check("one.so: it belongs to another user (id 12345)", give_away);

    let home = Home::new().unwrap();
    home.configure("[defaults.context]\nallow_foreign_writable = true").unwrap();
    compile(&home, &format!("{LIB}/one.so"), &[]);
    give_away(&home, &home.path(LIB));
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, 200, "good");
}

#[test]
fn the_first_one_is_503_with_the_reason_in_the_log() {
    let home = Home::new().unwrap();
    home.write(&format!("{LIB}/one.so"), "text").unwrap();
    home.write("webapps/x/page.txt", "a file").unwrap();
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, 503, "has not started; the server's log says why");
    let page = Connection::open(serval.address(), LONG).unwrap().get("/x/page.txt").unwrap();
    assert_eq!((page.status, &*page.body), (200, &b"a file"[..]));
    compile(&home, &format!("{LIB}/one.so"), &[]);
    becomes(&serval, 200, "good");
}

#[test]
fn a_dependency_in_the_lib_folder_is_found_and_its_change_is_told_of() {
    let home = Home::new().unwrap();
    let lib = home.path(LIB);
    compile_source(&home, "int dependency(void) { return 1; }\n", &format!("{LIB}/libbeside.so"), &[]);
    let options = ["-DNEEDS", "-L", lib.to_str().unwrap(), "-lbeside", "-Wl,-rpath,$ORIGIN"];
    compile(&home, &format!("{LIB}/one.so"), &options);
    let serval = Serval::start(&home).unwrap();
    becomes(&serval, 200, "good");
    let source = "int other = 7; int dependency(void) { return 1; }\n";
    compile_source(&home, source, &format!("{LIB}/libbeside.so"), &[]);
    let line = serval.wait_for_log("a changed dependency needs a restart", LONG).unwrap();
    assert!(line.contains("libbeside.so"), "{line}");
    assert_eq!(get(&serval), (200, "good".to_owned()));
}

#[test]
fn a_library_that_goes_for_good_beside_others_is_given_up() {
    let (home, serval) = started();
    compile(&home, &format!("{LIB}/two.so"), &["-DNAME=\"two\"", "-DPATTERN=\"/two\""]);
    serval.wait_for_log("2 servlets", LONG).unwrap();
    fs::remove_file(home.path(LIB).join("one.so")).unwrap();
    serval.wait_for_log("one.so has gone from WEB-INF/lib", LONG).unwrap();
    assert_eq!(get(&serval), (200, "good".to_owned()));
    becomes(&serval, 404, "");
}

#[test]
fn the_last_library_that_goes_serves_on_and_its_successor_takes_over() {
    let (home, serval) = started();
    fs::remove_file(home.path(LIB).join("one.so")).unwrap();
    let line = serval.wait_for_log("one.so has gone from WEB-INF/lib", LONG).unwrap();
    assert!(line.contains("until there is one"), "{line}");
    assert_eq!(get(&serval), (200, "good".to_owned()));
    compile(&home, &format!("{LIB}/one.so"), &["-DTEXT=\"better\""]);
    becomes(&serval, 200, "better");
}

#[test]
fn a_file_that_keeps_changing_is_named() {
    // So long that it does not come to rest on a busy machine.
    let (home, serval) = started_with("[defaults.context]\nsettle_time = \"2s\"");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(home.path(LIB).join("log.so.1"), "more").unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let named = serval.wait_for_log("log.so.1 keeps changing", LONG);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        named.unwrap();
    });
    assert_eq!(get(&serval), (200, "good".to_owned()));
}

#[test]
fn a_webapp_that_another_takes_the_place_of_is_served_and_watched() {
    let (home, serval) = started();
    for way in ["mv", "rm and cp"] {
        let webapp = home.path("webapps/x");
        let beside = home.path("beside/x");
        compile(&home, "beside/x/WEB-INF/lib/one.so", &[&format!("-DTEXT=\"by {way}\"")]);
        match way {
            "mv" => {
                fs::rename(&webapp, home.path("old")).unwrap();
                fs::rename(&beside, &webapp).unwrap();
            }
            _ => {
                fs::remove_dir_all(&webapp).unwrap();
                let mut copy = Command::new("cp");
                copy.arg("-r").args([&beside, &webapp]);
                process::run(copy, LONG).unwrap();
            }
        }
        becomes_soon(&serval, &format!("by {way}"));
        compile(&home, &format!("{LIB}/one.so"), &[&format!("-DTEXT=\"after {way}\"")]);
        becomes_soon(&serval, &format!("after {way}"));
    }
    // Only the lib folder, for another one.
    compile(&home, "beside/lib/one.so", &["-DTEXT=\"another lib\""]);
    fs::rename(home.path(LIB), home.path("old-lib")).unwrap();
    fs::rename(home.path("beside/lib"), home.path(LIB)).unwrap();
    becomes_soon(&serval, "another lib");
    compile(&home, &format!("{LIB}/one.so"), &["-DTEXT=\"in another lib\""]);
    becomes_soon(&serval, "in another lib");
    assert!(serval.stop().unwrap().success());
}

/// Well before the look that is made every ten seconds without an event.
#[track_caller]
fn becomes_soon(serval: &Serval, text: &str) {
    let began = Instant::now();
    becomes(serval, 200, text);
    println!("{text:?} after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(9), "{text:?} after {:?}", began.elapsed());
}
