//! `serval inspect` of a library that has everything.

use std::process::Command;

use e2e::serval::{Home, binary};

use crate::kitchen::libraries;

#[test]
fn inspect_shows_all_that_a_library_declares() {
    let home = Home::new().unwrap();
    home.write("kitchen.so", &libraries()[0]).unwrap();
    let output = Command::new(binary().unwrap()).arg("inspect").arg(home.path("kitchen.so")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    // The compiler's version is nobody's rule here, and the system's libraries are not either.
    let known = |line: &&str| !["  built with ", "  needs "].iter().any(|varies| line.starts_with(varies));
    let said: Vec<&str> = said.lines().filter(known).collect();
    let said = said.join("\n").replace("\n  ", "\0");
    // In which order a library has its servlets is the linker's choice.
    let mut entries: Vec<&str> = said.lines().collect();
    entries[1..].sort_unstable();
    let said = entries.join("\n").replace('\0', "\n  ");
    assert_eq!(said, include_str!("inspect.txt").trim_end(), "----\n{said}\n----");
}
