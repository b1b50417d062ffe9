//! What a system may keep from a service: file handles, a root to write to, programs in `var`, a umask that somebody has thought about.
//! Mounts are those of a namespace of its own, which root may make; `.ci/run` is root.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use e2e::commands::{becomes, context, done};
use e2e::serval::{Home, Serval};
use e2e::steady::{LONG, answers, ends_well, get, home, put, visit, wait_until};

/// What the server runs beneath: a shell that does this first.
fn beneath(script: &str) -> Vec<OsString> {
    ["sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"].map(Into::into).to_vec()
}

/// The same, where it may mount what nobody else sees.
fn mounted(script: &str) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["unshare".into()];
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"].map(Into::into));
    }
    words.extend(["--mount", "--propagation", "private"].map(Into::into));
    words.extend(beneath(script));
    words
}

fn limits(serval: &Serval) -> String {
    let all = fs::read_to_string(format!("/proc/{}/limits", serval.program().id())).unwrap();
    let line = all.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may() {
    let home = home("[server]\nio_threads = 2");
    let serval = Serval::start_under(&home, &beneath("ulimit -Sn 200; ulimit -Hn 20000")).unwrap();
    assert_eq!(limits(&serval), "20000 20000");
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("too few")), "{lines:#?}");
    let serval = Serval::start_under(&home, &beneath("ulimit -Sn 200; ulimit -Hn 1000")).unwrap();
    assert_eq!(limits(&serval), "1000 1000");
    let line = serval.wait_for_log("this process may open 1000 files, too few for 8192 connections", LONG).unwrap();
    assert!(line.contains("raise the limit (ulimit -n), or lower connections_max"), "{line}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_root_that_cannot_be_written_to_will_do() {
    let home = home("[sessions]\nsnapshot_every = \"20ms\"\n[access_log]\n[defaults.context]\nsettle_time = \"1ms\"\n");
    fs::create_dir(home.path("var")).unwrap();
    let (own, var) = (home.path(""), home.path("var"));
    let (own, var) = (own.display(), var.display());
    // Each mount point above the home: it need not be that of the root.
    let script = format!(
        "mount --bind {var} {var}; mount -o remount,bind,ro /; mount -o remount,bind,ro $(findmnt -no TARGET -T {own})\n\
         ! touch {own}/x 2>/dev/null; touch {var}/x"
    );
    let serval = Serval::start_under(&home, &mounted(&script)).unwrap();
    becomes(&home, |told| context(told, "/x")["servlets"] == 2);
    assert!(!home.path("x").exists() && home.path("var/x").exists());
    let (_, cookie) = visit(&serval, "a=b", "visit");
    assert_eq!(visit(&serval, &cookie, "visit").0, 2);
    // The test itself may write: a new version comes.
    ends_well(&home, &serval, 1);
    let page = get(&serval, "/files/page.txt");
    assert_eq!((page.status, &*page.body), (200, b"a page".as_slice()));
    wait_until("it is logged", || home.path("var/log/localhost.access.log").exists());
    wait_until("it is kept", || home.path("var/sessions/localhost/x/snapshot").exists());
    let lines = serval.stop_and_read().unwrap();
    let is_trouble = |line: &&String| line.contains("ERROR") || line.contains("Read-only");
    assert_eq!(lines.iter().filter(is_trouble).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn where_var_is_noexec_it_says_which_folder_and_what_to_do() {
    let home = home("[defaults.context]\nsettle_time = \"1ms\"\n");
    fs::create_dir(home.path("var")).unwrap();
    let var = home.path("var");
    let var = var.display();
    let serval = Serval::start_under(&home, &mounted(&format!("mount -t tmpfs -o noexec none {var}"))).unwrap();
    let line = serval.wait_for_log("mounted noexec: no servlet library", LONG).unwrap();
    assert!(line.contains(&format!("{var} lies")) && line.contains("as `var` in [server]"), "{line}");
    let line = serval.wait_for_log("its private copy lies in ", LONG).unwrap();
    assert!(line.contains(&format!("{var}/run/generations/")), "{line}");
    assert!(line.contains("name a folder of another one as `var` in [server]"), "{line}");
    // Files need no library.
    assert_eq!(get(&serval, "/files/page.txt").body, b"a page");
    assert_eq!(get(&serval, "/x/step").status, 503);
    assert!(serval.stop().unwrap().success());
    // What it says helps.
    home.configure("[server]\nvar = \"elsewhere\"").unwrap();
    let script = format!("mount -t tmpfs -o noexec none {var}");
    let serval = Serval::start_under(&home, &mounted(&script)).unwrap();
    answers(&serval, 1);
    assert!(serval.stop().unwrap().success());
}

/// Of all that is in a folder, and below, as `rwxrwxrwx` in numbers.
fn modes(home: &Home, folder: &str) -> Vec<(String, u32)> {
    let (mut folders, mut modes) = (vec![home.path(folder)], Vec::new());
    while let Some(path) = folders.pop() {
        let found = path.symlink_metadata().unwrap();
        // A link has none of its own.
        if found.file_type().is_symlink() {
            continue;
        }
        if found.is_dir() {
            folders.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let mode = found.permissions().mode() & 0o777;
        assert!(!found.file_type().is_socket() || mode == 0o600, "{}: {mode:o}", path.display());
        modes.push((path.display().to_string(), mode));
    }
    modes
}

#[test]
fn others_may_not_write_what_it_writes() {
    for (umask, forbidden) in [("000", 0o022), ("002", 0o002), ("027", 0o027), ("077", 0o077)] {
        let home =
            home("[sessions]\nsnapshot_every = \"20ms\"\n[access_log]\n[defaults.context]\nsettle_time = \"1ms\"\n");
        let serval = Serval::start_under(&home, &beneath(&format!("umask {umask}"))).unwrap();
        becomes(&home, |told| context(told, "/x")["servlets"] == 2);
        visit(&serval, "a=b", "visit");
        put(&home, 2);
        answers(&serval, 2);
        wait_until("it is logged", || home.path("var/log/localhost.access.log").exists());
        wait_until("it is kept", || home.path("var/sessions/localhost/x/snapshot").exists());
        done(&home, &["status"]);
        let open: Vec<_> = modes(&home, "var").into_iter().filter(|(_, mode)| mode & forbidden != 0).collect();
        assert_eq!(open, [], "umask {umask}");
        assert!(serval.stop().unwrap().success());
        // Sessions are secrets whatever the umask.
        let secret = modes(&home, "var/sessions/localhost");
        assert!(secret.iter().all(|(_, mode)| mode & 0o077 == 0), "umask {umask}: {secret:?}");
    }
}
