//! servlet.h and servlet.hpp in every dialect that their manuals promise, and the examples, with all warnings as
//! errors. With `--page OUT.html`: servlet.h as a page for people. Needs cc and c++.
#![forbid(unsafe_code)]

mod page;
mod parse;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use e2e::{process, serval};

#[derive(Parser)]
#[command(about = "Compiles servlet.h, servlet.hpp and the examples; or makes a page of servlet.h")]
struct Arguments {
    /// Writes servlet.h as one HTML page, and compiles nothing.
    #[arg(long, value_name = "OUT.html")]
    page: Option<PathBuf>,
}

const C: [&str; 3] = ["c99", "c11", "c17"];
const CPP: [&str; 3] = ["c++11", "c++17", "c++20"];

/// What the macros of servlet.h are for, and a header of C that has macros of its own.
const IN_USE: &str = r#"#include <math.h>
#include "servlet.h"

static const sv_str text = SV_STR("text");
static const sv_host *host;

int uses_macros(const sv_host *table, sv_exchange *exchange, sv_context *context);
int uses_macros(const sv_host *table, sv_exchange *exchange, sv_context *context) {
    const sv_request *request;
    host = table;
    if (!SV_HAS(table, sv_host, write) || !SV_HAS_MEMBER(table, sv_host, server)) return 1;
    if (table->log_message(context, exchange, SV_LOG_INFO, SV_LIT("hello")) != SV_OK) return 2;
    request = table->request(exchange);
    return request != NULL && SV_HAS_MEMBER(request, sv_request, charset) && request->charset.len == text.len;
}
"#;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.page {
        Some(out) => write_page(&out).map(|()| format!("{} is written", out.display())),
        None => check().map(|count| format!("servlet.h, servlet.hpp and the examples compile, in {count} ways")),
    };
    match done {
        Ok(text) => {
            println!("header: {text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("header: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many compilations there were.
fn check() -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let in_use = |name: &str| -> Result<PathBuf> {
        let source = folder.path().join(name);
        fs::write(&source, IN_USE)?;
        Ok(source)
    };
    let mut all: Vec<(&str, PathBuf, &[&str])> = Vec::new();
    all.extend(C.iter().map(|standard| Ok((*standard, in_use("x.c")?, [].as_slice()))).collect::<Result<Vec<_>>>()?);
    all.extend(
        CPP.iter().map(|standard| Ok((*standard, in_use("x.cpp")?, [].as_slice()))).collect::<Result<Vec<_>>>()?,
    );
    let kit = serval::repository().join("crates/e2e/tests/kit");
    for source in [kit.join("kit.cpp"), kit.join("face.cpp")] {
        // Each of them uses servlet.hpp.
        all.extend([("c++17", source.clone(), [].as_slice()), ("c++20", source.clone(), &[])]);
        all.push(("c++17", source, &["-fno-rtti", "-O2", "-fvisibility=hidden"]));
    }
    for source in example_files()? {
        all.extend(C[..2].iter().map(|standard| (*standard, source.clone(), [].as_slice())));
    }
    for (standard, source, options) in &all {
        compile(standard, source, &folder.path().join("x.o"), options)
            .with_context(|| format!("{} in {standard}", source.display()))?;
    }
    Ok(all.len())
}

fn compile(standard: &str, source: &Path, object: &Path, options: &[&str]) -> Result<()> {
    let mut command = Command::new(if standard.starts_with("c++") { "c++" } else { "cc" });
    command.args([&format!("-std={standard}"), "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fPIC"]).args(options);
    command.arg("-I").arg(serval::repository().join("crates/abi/include"));
    command.arg("-c").arg(source).arg("-o").arg(object);
    process::run(command, Duration::from_secs(120))
}

/// The examples in C, in the order of their names.
fn example_files() -> Result<Vec<PathBuf>> {
    let folder = serval::repository().join("crates/abi/examples");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|ending| ending == "c"));
    files.sort();
    Ok(files)
}

fn write_page(out: &Path) -> Result<()> {
    fs::write(out, made_page()?).with_context(|| format!("write {}", out.display()))
}

fn made_page() -> Result<String> {
    let header = serval::repository().join("crates/abi/include/servlet.h");
    let source = fs::read_to_string(&header).with_context(|| format!("read {}", header.display()))?;
    let mut examples = Vec::new();
    for file in example_files()? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        examples.push(page::Example { name, text });
    }
    Ok(page::page(&parse::read(&source), &examples))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entry of that name, of the page.
    fn entry<'a>(page: &'a str, name: &str) -> &'a str {
        let begin = format!("id=\"{name}\"><pre>");
        let at = page.find(&begin).unwrap_or_else(|| panic!("{name} has no entry"));
        let rest = &page[at + begin.len()..];
        &rest[..rest.find("class=\"entry").unwrap_or(rest.len())]
    }

    #[test]
    fn each_function_of_the_table_has_its_entry_with_its_tag() {
        let page = made_page().unwrap();
        let header = fs::read_to_string(serval::repository().join("crates/abi/include/servlet.h")).unwrap();
        let (_, rest) = header.split_once("typedef struct sv_host {").unwrap();
        let (table, _) = rest.split_once("} sv_host;").unwrap();
        let mut functions = 0;
        for line in table.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     ")) {
            let Some((name, _)) = line.split_once("(*").and_then(|(_, rest)| rest.split_once(")(")) else { continue };
            functions += 1;
            let entry = entry(&page, name);
            let tags = ["control", "worker", "exchange", "any"];
            assert!(tags.iter().any(|tag| entry.contains(&format!("\"tag\">{tag}<"))), "{name}: {entry}");
            assert!(entry.contains("Example: "), "{name}: {entry}");
        }
        assert!(functions > 80, "{functions}");
    }

    #[test]
    fn comments_are_where_they_belong() {
        let page = made_page().unwrap();
        // Before it, beside it, and on the line after it.
        assert!(entry(&page, "parameter").contains("query first, then a form body"));
        assert!(entry(&page, "cancelled").contains("the client has gone, which writing"));
        assert!(entry(&page, "session_set_attribute").contains("value NULL removes"));
        assert!(entry(&page, "sv_pair").contains("a header field, a parameter"));
        assert!(entry(&page, "SV_BODY_OWNED").contains("On an error the caller still owns it"));
        assert!(entry(&page, "sv_request-remote_port-local_port").contains(">local_port</a>"));
    }

    #[test]
    fn each_link_leads_somewhere() {
        let page = made_page().unwrap();
        for link in page.split("href=\"#").skip(1) {
            let id = link.split('"').next().unwrap();
            assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "#{id}");
        }
    }
}
