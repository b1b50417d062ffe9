//! What the compiler says about mistakes of authors: the cases stand in messages.txt.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[test]
fn mistakes_are_explained_where_they_are() {
    let text = include_str!("messages.txt");
    let cases: Vec<(&str, &str)> =
        text.split("====\n").skip(1).map(|case| case.split_once("----\n").expect("source, dashes, message")).collect();
    let said = check(&cases);
    let mut wrong = String::new();
    for (index, (source, expected)) in cases.iter().enumerate() {
        let place = format!("src/bin/case{index}.rs:");
        let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix(&place)).collect();
        let expected: Vec<&str> = expected.lines().collect();
        let same =
            lines.len() == expected.len() && lines.iter().zip(expected).all(|(line, begins)| line.starts_with(begins));
        if !same {
            writeln!(wrong, "{source}----\n{}\n", lines.join("\n")).unwrap();
        }
    }
    assert!(wrong.is_empty(), "said otherwise than expected:\n\n{wrong}");
}

#[test]
fn a_profile_that_aborts_is_refused_with_the_reason() {
    let package = package("aborts", "[profile.dev]\npanic = \"abort\"\n");
    fs::write(package.join("src/lib.rs"), "servlet::module!();\n").unwrap();
    let said = cargo_check(&package);
    let wanted = "error: servlets are built with panic = \"unwind\": with \"abort\" one panic in one servlet would end the whole \
                  server. Remove `panic = \"abort\"` from the profile in Cargo.toml";
    assert!(said.contains(wanted), "{said}");
}

/// Compiles each case as a program of its own, in one package.
fn check(cases: &[(&str, &str)]) -> String {
    let package = package("messages", "");
    fs::create_dir_all(package.join("src/bin")).unwrap();
    for (index, (source, _)) in cases.iter().enumerate() {
        let source = format!("use servlet::prelude::*;\n{source}fn main() {{}}\n");
        fs::write(package.join(format!("src/bin/case{index}.rs")), source).unwrap();
    }
    cargo_check(&package)
}

/// A package that depends on this crate, with an empty `src`; `more` stands in its Cargo.toml.
fn package(name: &str, more: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // What an earlier version of the cases left behind.
    let _ = fs::remove_dir_all(package.join("src"));
    fs::create_dir_all(package.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         servlet = {{ package = \"serval-servlet\", path = {:?} }}\n\n[workspace]\n\n{more}",
        env!("CARGO_MANIFEST_DIR")
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    package
}

fn cargo_check(package: &Path) -> String {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["check", "--offline", "--keep-going", "--message-format=short", "--color=never"])
        .current_dir(package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        // Warnings are not looked at, whatever this run makes of them.
        .env("RUSTFLAGS", "--cap-lints=warn -Awarnings")
        .output()
        .expect("cargo runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
