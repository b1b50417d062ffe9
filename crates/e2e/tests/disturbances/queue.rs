//! More changes than the system tells of: the queue of its events (fs.inotify.max_queued_events) overflows while the server is stopped.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use e2e::serval::Serval;
use e2e::steady::{LONG, Steady, answers, ends_well, home, is_tidy, library, started, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// What the server says when it looks without having been told of anything.
const ANYWAY: &str = "nothing was told for";
/// How often it is tried to see a change before the server looks anyway.
const ATTEMPTS: u64 = 5;

fn signal(serval: &Serval, signal: Signal) {
    kill_process(Pid::from_raw(serval.program().id() as i32).unwrap(), signal).unwrap();
}

/// Whether the system tells the server of what happens in this folder (proc_pid_fdinfo(5)).
fn is_watched(serval: &Serval, folder: &Path) -> bool {
    let about = folder.metadata().unwrap();
    let (major, minor) = (rustix::fs::major(about.dev()), rustix::fs::minor(about.dev()));
    let is_it = format!("ino:{:x} sdev:{:x} ", about.ino(), (u64::from(major) << 20) | u64::from(minor));
    let files = fs::read_dir(format!("/proc/{}/fdinfo", serval.program().id())).unwrap().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).any(|about| about.contains(&is_it))
}

/// While the server stands still, more happens than the queue holds, and last what it should see.
fn overflow(serval: &Serval, folder: &Path, last: impl FnOnce()) {
    wait_until("it is watched", || is_watched(serval, folder));
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    signal(serval, Signal::STOP);
    let (one, other) = (folder.join(".one"), folder.join(".other"));
    fs::write(&one, "").unwrap();
    // Four events, none of which is as the one before; twice as many as there is room for, since its threads stop one by one.
    for _ in 0..most / 2 {
        fs::rename(&one, &other).unwrap();
        fs::rename(&other, &one).unwrap();
    }
    fs::remove_file(one).unwrap();
    last();
    let before = serval.program().position();
    signal(serval, Signal::CONT);
    let is_told = |line: &str| line.contains("more has changed than the system tells of at once");
    serval.program().wait_for_line(before, LONG, is_told).unwrap();
}

#[test]
fn a_changed_library_is_taken_though_nobody_was_told() {
    let home = home("[log]\nlevel = \"info,serval::watch=debug\"\n[defaults.context]\nsettle_time = \"1ms\"\n");
    let serval = started(&home);
    let load = Steady::of(&serval);
    let lib = home.path("webapps/x/WEB-INF/lib");
    for version in 2..2 + ATTEMPTS {
        let before = serval.program().position();
        overflow(&serval, &lib, || fs::write(lib.join("step.so"), library(version)).unwrap());
        answers(&serval, version);
        if !serval.program().lines_from(before).iter().any(|line| line.contains(ANYWAY)) {
            ends_well(&home, &serval, version);
            load.was_well();
            assert!(serval.stop().unwrap().success());
            return;
        }
    }
    panic!("it was taken only when the server had not been told of anything for long");
}

/// A new folder of sources is one that is to be watched, too.
#[test]
fn a_folder_that_nobody_was_told_of_is_watched() {
    let home = home("[build]\nsources = true\n[defaults.context]\nsettle_time = \"1ms\"\n");
    let command = "cat src/*/* > /dev/null && cp ../../../next.so lib/.step.so && mv lib/.step.so lib/step.so";
    let web = format!("[build]\ncommand = [\"sh\", \"-c\", '''{command}''']\n");
    home.write("webapps/x/WEB-INF/web.toml", web).unwrap();
    home.write("webapps/x/WEB-INF/src/old/step", "1").unwrap();
    home.write("next.so", library(1)).unwrap();
    let serval = started(&home);
    let load = Steady::of(&serval);
    home.write("next.so", library(2)).unwrap();
    let file = "webapps/x/WEB-INF/src/new/step";
    overflow(&serval, &home.path("webapps/x/WEB-INF/src"), || home.write(file, "new").unwrap());
    answers(&serval, 2);
    wait_until("it is watched", || is_watched(&serval, home.path(file).parent().unwrap()));
    home.write("next.so", library(3)).unwrap();
    home.write(file, "changed").unwrap();
    answers(&serval, 3);
    // It may be built twice: as it was being written, and as it was then.
    is_tidy(&home);
    load.was_well();
    assert!(serval.stop().unwrap().success());
}
