//! A `var` that may not be written: at the start, and from some moment on. For root permissions do not count, unless it gives up the
//! capability by which that is so; then they count for it as for everybody.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use e2e::commands::{becomes, context, serval as command};
use e2e::serval::{Home, Serval, binary};
use e2e::steady::{LONG, Steady, answers, ends_well, get, home, put, wait_until};

/// What the server runs beneath.
fn bound() -> Vec<OsString> {
    let gives_up = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"];
    let is_root = rustix::process::geteuid().is_root();
    if is_root { gives_up.map(Into::into).to_vec() } else { Vec::new() }
}

/// Forbids to write in a folder and all below, or allows it again.
fn set_writable(folder: &Path, is_writable: bool) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_dir() {
            set_writable(&entry.path(), is_writable);
        }
    }
    fs::set_permissions(folder, Permissions::from_mode(if is_writable { 0o700 } else { 0o500 })).unwrap();
}

/// Allows it again whatever happens, so that the folder can be removed.
struct Forbidden<'a>(&'a Home, &'a str);

impl Forbidden<'_> {
    fn to_write<'a>(home: &'a Home, folder: &'a str) -> Forbidden<'a> {
        set_writable(&home.path(folder), false);
        Forbidden(home, folder)
    }
}

impl Drop for Forbidden<'_> {
    fn drop(&mut self) {
        set_writable(&self.0.path(self.1), true);
    }
}

#[test]
fn at_the_start_it_says_so_and_what_to_do() {
    let home = home("");
    fs::create_dir_all(home.path("var/run")).unwrap();
    let forbidden = Forbidden::to_write(&home, "var");
    let mut words = bound();
    words.extend([binary().unwrap().into(), "run".into(), "--home".into(), home.path("").into()]);
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let folder = home.path("var");
    let sentence = format!(
        "{} cannot be written: Permission denied (os error 13); make it a folder that Serval may write, or name another one as `var` in [server]\n",
        folder.display()
    );
    assert_eq!((said, String::from_utf8(output.stdout).unwrap()), (sentence, String::new()));
    drop(forbidden);
    let serval = Serval::start_under(&home, &bound()).unwrap();
    answers(&serval, 1);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn from_some_moment_on_what_serves_serves_on_until_it_may_be_written_again() {
    let settings = "[sessions]\nsnapshot_every = \"20ms\"\n[access_log]\nfile = \"access.log\"\nrotate_bytes = \"64KiB\"\n\
                    [defaults.context]\nsettle_time = \"1ms\"\n";
    let home = home(settings);
    let serval = Serval::start_under(&home, &bound()).unwrap();
    answers(&serval, 1);
    wait_until("it is kept", || home.path("var/generations/localhost/x/1/kept.json").exists());
    let load = Steady::of(&serval);
    load.goes_on();
    let forbidden = Forbidden::to_write(&home, "var");
    // A session, whose snapshot cannot be written.
    assert_eq!(get(&serval, "/x/step?visit").body, b"1");
    serval.wait_for_log("the sessions of /x cannot be saved in ", LONG).unwrap();
    serval.wait_for_log("access log ", LONG).unwrap();
    put(&home, 2);
    let (code, _, error) = command(&home, &["reload", "/x"]);
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("var/run/generations/localhost/x") && error.contains("Permission denied"), "{error}");
    let told = becomes(&home, |told| !context(told, "/x")["refused"].is_null());
    assert_eq!(context(&told, "/x")["generation"], 1);
    assert!(told["problems"][0].as_str().unwrap().contains("cannot be saved"), "{told:#}");
    assert_eq!(get(&serval, "/x/step").body, b"version 0001");
    load.goes_on();
    drop(forbidden);
    serval.wait_for_log("its sessions are saved again", LONG).unwrap();
    // Without a change: what failed was the system.
    answers(&serval, 2);
    ends_well(&home, &serval, 2);
    load.was_well();
    assert_eq!(command(&home, &["status"]).0, Some(0));
    assert!(serval.stop().unwrap().success());
}
