//! `user` in [server]: from root to somebody else. Only root can become another one; `.ci/run` is root.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::process::{Command, Stdio};

use e2e::commands::{done, serval as command};
use e2e::process::wait_for_exit;
use e2e::serval::{Home, Serval, binary};
use e2e::steady::{LONG, answers, get, home, put, started, visit, wait_until};

const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// With a home that others may enter.
fn with(user: &str, further: &str) -> Home {
    let home = home(&format!(
        "[server]\nuser = \"{user}\"\n{further}\n[access_log]\n[defaults.context]\nsettle_time = \"1ms\"\n"
    ));
    fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    home
}

/// The values of a key, for each thread of a process.
fn of_threads(process: u32, key: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let value =
        |status: String| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("none").trim().to_owned();
    statuses.map(value).collect()
}

#[track_caller]
fn is_refused(home: &Home, beneath: &[&str], why: &str) {
    let mut words: Vec<_> = beneath.iter().map(Into::into).collect();
    words.extend([binary().unwrap().into(), "run".into(), "--home".into(), home.path("").into_os_string()]);
    let mut run = Command::new(&words[0]);
    let mut child = run.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let status = wait_for_exit(&mut child, LONG).unwrap();
    if status.is_none() {
        child.kill().unwrap();
    }
    let told = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(status.and_then(|status| status.code()) == Some(1) && told.contains(why), "{told}");
}

#[test]
fn root_becomes_a_user_in_all_threads_for_ever() {
    if !is_root() {
        return;
    }
    let home = with("nobody:daemon", "");
    // Root's address.
    let address = "127.0.0.1:81";
    let toml = fs::read_to_string(home.path("conf/server.toml")).unwrap();
    home.write("conf/server.toml", toml.replace("127.0.0.1:0", address)).unwrap();
    let serval = started(&home);
    assert_eq!(serval.address().to_string(), address);
    assert_eq!(get(&serval, "/x/step").body, b"version 0001");
    let process = serval.program().id();
    let all = |key: &str, value: &str| {
        let values = of_threads(process, key);
        assert!(values.len() > 3 && values.iter().all(|found| found == value), "{key} {values:?}");
    };
    all("Uid:", "65534\t65534\t65534\t65534");
    all("Gid:", "1\t1\t1\t1");
    for mask in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        all(mask, "0000000000000000");
    }
    all("NoNewPrivs:", "1");
    assert!(!of_threads(process, "Groups:")[0].split(' ').any(|group| group == "0"), "no group of root");
    let begins = serval.wait_for_log("runs as `nobody:daemon` (user 65534, group 1) from here on", LONG);
    begins.unwrap();

    // All that it does, it does as that one: generations, sessions, logs, the control socket.
    assert_eq!(visit(&serval, "a=b", "visit").0, 1);
    put(&home, 2);
    answers(&serval, 2);
    done(&home, &["reload", "/x"]);
    assert!(serval.stop().unwrap().success());
    let mut folders = vec![home.path("var")];
    let mut seen = Vec::new();
    while let Some(path) = folders.pop() {
        let found = path.symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (NOBODY, 1), "{}", path.display());
        if found.is_dir() {
            folders.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen.push(path);
    }
    let is_there = |name: &str| seen.iter().any(|path| path.ends_with(name));
    assert!(is_there("serval.lock") && is_there("snapshot") && is_there("log/localhost.access.log"), "{seen:?}");
    // And a second time, when all is there, wherever that is.
    fs::rename(home.path("var"), home.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", home.path("var")).unwrap();
    let serval = started(&home);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_port_of_root_cannot_be_opened_later() {
    if !is_root() {
        return;
    }
    let home = with("nobody", "");
    let serval = started(&home);
    let toml = fs::read_to_string(home.path("conf/server.toml")).unwrap();
    home.write("conf/server.toml", format!("{toml}\n[[listener]]\naddress = \"127.0.0.1:82\"\n")).unwrap();
    let line = serval.wait_for_log("127.0.0.1:82 cannot be opened", LONG).unwrap();
    assert!(
        line.contains("stays in force")
            && line.contains("ports below 1024 are root's")
            && line.contains("so restart Serval"),
        "{line}"
    );
    assert_eq!(get(&serval, "/x/step").status, 200);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn the_stack_of_a_slow_call_can_still_be_read() {
    if !is_root() {
        return;
    }
    let home = home("");
    let toml = "[server]\nuser = \"nobody\"\n[defaults.context]\nslow_after = \"100ms\"\n";
    home.configure(toml).unwrap();
    fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let serval = started(&home);
    crate::hold(&home);
    let mut slow = crate::held(&home, &serval);
    let line = serval.wait_for_log("has been running for", LONG).unwrap();
    assert!(line.contains("usleep") || line.contains("nanosleep"), "{line}");
    crate::release(&home);
    assert_eq!(slow.read_response().unwrap().status, 200);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_var_of_somebody_else_is_told_of() {
    if !is_root() {
        return;
    }
    let home = with("nobody:daemon", "");
    // As after a start without `user`.
    fs::create_dir_all(home.path("var/log")).unwrap();
    let var = home.path("var");
    let var = var.display();
    let what =
        format!("{var} belongs to user 0, and Serval is to run as `nobody:daemon`: run `chown -R {NOBODY}:1 {var}`");
    is_refused(&home, &[], &what);
    chown(home.path("var"), Some(NOBODY), Some(1)).unwrap();
    is_refused(&home, &[], &format!("{var}/log belongs to user 0"));
    chown(home.path("var/log"), Some(NOBODY), Some(1)).unwrap();
    // Whoever may write there does not choose what root writes to.
    home.write("secret", "as it was").unwrap();
    fs::create_dir(home.path("var/run")).unwrap();
    std::os::unix::fs::symlink("../../secret", home.path("var/run/serval.lock")).unwrap();
    for path in ["var/run", "var/run/serval.lock"] {
        std::os::unix::fs::lchown(home.path(path), Some(NOBODY), Some(1)).unwrap();
    }
    fs::set_permissions(home.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    is_refused(&home, &[], "cannot be written: Permission denied");
    assert_eq!(fs::read_to_string(home.path("secret")).unwrap(), "as it was");
}

#[test]
fn whom_it_cannot_become_is_told() {
    if !is_root() {
        return;
    }
    let refused = |user: &str, beneath: &[&str], why: &str| is_refused(&with(user, ""), beneath, why);
    refused("no-such-user", &[], "the system has no user `no-such-user`: make it with `useradd --system no-such-user`");
    refused("nobody:no-such-group", &[], "the system has no group `no-such-group`: make it with `groupadd --system");
    refused("root:daemon", &[], "which is root still: leave the group out, or name another user");
    refused("4242", &[], "of which the system knows no group: write one, as in `user = \"4242:4242\"`");
    let daemon = ["setpriv", "--reuid", "1", "--regid", "1", "--clear-groups"];
    refused(
        "nobody",
        &daemon,
        "whom only root may become, and Serval was started as user 1: start it as root or as that user",
    );
    let without = ["setpriv", "--bounding-set", "-setuid", "--inh-caps", "-all"];
    refused("nobody", &without, "it needs the capabilities CAP_SETUID and CAP_SETGID");
}

/// One that the system has no name for, as containers have them; and who is it already.
#[test]
fn numbers_will_do_and_who_is_it_stays_it() {
    if !is_root() {
        return;
    }
    let home = with("4242:4243", "");
    let serval = started(&home);
    assert_eq!(of_threads(serval.program().id(), "Uid:")[0], "4242\t4242\t4242\t4242");
    assert_eq!(of_threads(serval.program().id(), "Groups:")[0], "4243");
    assert!(serval.stop().unwrap().success());
    let beneath = ["setpriv", "--reuid", "4242", "--regid", "4243", "--clear-groups"].map(Into::into);
    let serval = Serval::start_under(&home, &beneath).unwrap();
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("runs as")), "{lines:#?}");
}

#[test]
fn root_is_warned_of() {
    if !is_root() {
        return;
    }
    let warning = |home: &Home| {
        let lines = started(home).stop_and_read().unwrap();
        lines.iter().filter(|line| line.contains("WARN") && line.contains("runs as root")).count()
    };
    assert_eq!(warning(&home("")), 1);
    // Who says so means it.
    assert_eq!(warning(&with("root", "")), 0);
}

/// What it has read as root, it cannot read again.
#[test]
fn a_configuration_that_the_user_cannot_read_is_told_of() {
    if !is_root() {
        return;
    }
    let home = with("nobody", "");
    fs::set_permissions(home.path("conf/server.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let serval = started(&home);
    let line = serval.wait_for_log("cannot be read by the user that Serval has become", LONG).unwrap();
    assert!(line.contains("chgrp 65534 ") && line.contains("conf/server.toml"), "{line}");
    assert!(serval.stop().unwrap().success());
}

/// Builds run as that user, too, with its HOME.
#[test]
fn builds_are_the_users() {
    if !is_root() {
        return;
    }
    let home = with("nobody", "[build]\nsources = true");
    home.write("webapps/b/WEB-INF/src/b.c", "").unwrap();
    home.write(
        "webapps/b/WEB-INF/web.toml",
        "[build]\ncommand = [\"sh\", \"-c\", \"id -u > lib/id; echo $HOME >> lib/id\"]\n",
    )
    .unwrap();
    fs::create_dir_all(home.path("webapps/b/WEB-INF/lib")).unwrap();
    for folder in ["webapps/b/WEB-INF/lib", "webapps/b/WEB-INF"] {
        chown(home.path(folder), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let serval = started(&home);
    let told = home.path("webapps/b/WEB-INF/lib/id");
    wait_until("it was built", || fs::read_to_string(&told).is_ok_and(|told| told.lines().count() == 2));
    assert_eq!(fs::read_to_string(&told).unwrap(), "65534\n/nonexistent\n");
    assert!(serval.stop().unwrap().success());
    let (code, ..) = command(&home, &["status"]);
    assert_eq!(code, Some(1), "it is gone");
}

#[test]
fn a_socket_in_a_file_is_the_users_but_for_another_owner() {
    if !is_root() {
        return;
    }
    let home = with("nobody:daemon", "");
    fs::create_dir(home.path("run")).unwrap();
    let path = |name: &str| home.path("run").join(name).display().to_string();
    let toml = fs::read_to_string(home.path("conf/server.toml")).unwrap();
    let (own, given) = (path("own"), path("given"));
    home.write(
        "conf/server.toml",
        format!("[[listener]]\naddress = \"unix:{own}\"\n[[listener]]\naddress = \"unix:{given}\"\nunix_owner = \"root:root\"\n{toml}"),
    )
    .unwrap();
    let serval = started(&home);
    let owner = |path: &str| fs::symlink_metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
    assert_eq!((owner(&own), owner(&given)), ((NOBODY, 1), (0, 0)));
    assert!(serval.stop().unwrap().success());
}

/// Not in a running server, and `serval check` says who is not there.
#[test]
fn another_user_needs_a_restart() {
    let home = home("");
    let serval = started(&home);
    home.configure("[server]\nuser = \"no-such-user\"").unwrap();
    serval.wait_for_log("a restart is needed for `user` in [server]", LONG).unwrap();
    let (code, _, told) = command(&home, &["check"]);
    assert!(code == Some(0) && told.contains("warning: `user` in [server] is `no-such-user`"), "{told}");
    assert!(serval.stop().unwrap().success());
}
