//! The units of README.md, as systemd reads them.

use std::process::Command;

use e2e::serval::{binary, repository};

#[test]
fn systemd_understands_the_units() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let units: Vec<&str> = readme.split("```ini\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [socket, service] = units[..] else { panic!("{} units", units.len()) };
    let folder = tempfile::tempdir().unwrap();
    let command = "/srv/serval/bin/serval";
    assert!(service.contains(command));
    // It looks for the program, and for the user.
    let service = service.replace(command, binary().unwrap().to_str().unwrap()).replace("User=serval", "User=daemon");
    std::fs::write(folder.path().join("serval.socket"), socket).unwrap();
    std::fs::write(folder.path().join("serval.service"), service).unwrap();
    let mut verify = Command::new("systemd-analyze");
    // Units of the machine, which others may have wrong, are not looked for.
    verify.env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display())).args(["verify", "--man=no"]);
    verify.args(["serval.socket", "serval.service"].map(|name| folder.path().join(name)));
    let output = verify.output().expect("systemd-analyze runs (it is in Debian's package `systemd`)");
    let told = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = told.lines().filter(|line| line.contains("serval")).collect();
    assert!(output.status.success() && ours.is_empty(), "{told}");

    // What it may do, judged by systemd; 10 is all.
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager", "--threshold=20"]);
    let output = security.arg(folder.path().join("serval.service")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
