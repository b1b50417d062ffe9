//! Finds out which compiler builds, for the library's `built_with`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(compiler).arg("--version").output().ok();
    let said = said.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    // "rustc 1.95.0 (59807616e 2026-04-14)": the first two words.
    let mut words = said.split_whitespace();
    let version = match (words.next(), words.next()) {
        (Some("rustc"), Some(version)) => version,
        _ => "(unknown)",
    };
    println!("cargo::rustc-env=SERVLET_RUSTC_VERSION={version}");
}
