//! servlet.h in every dialect that its manual promises, with all warnings as errors, by itself and in use. Needs cc and c++.
#![forbid(unsafe_code)]

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{process, serval};

const DIALECTS: [(&str, &str, &str); 6] = [
    ("cc", "c99", "x.c"),
    ("cc", "c11", "x.c"),
    ("cc", "c17", "x.c"),
    ("c++", "c++11", "x.cpp"),
    ("c++", "c++17", "x.cpp"),
    ("c++", "c++20", "x.cpp"),
];

/// What its macros are for, and a header of C that has macros of its own.
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
    match check() {
        Ok(()) => {
            println!("header: servlet.h compiles in {} dialects", DIALECTS.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("header: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (compiler, standard, name) in DIALECTS {
        let source = folder.path().join(name);
        std::fs::write(&source, IN_USE)?;
        let mut command = Command::new(compiler);
        command.args([&format!("-std={standard}"), "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c", "-o"]);
        command.arg(folder.path().join("x.o")).arg("-I").arg(serval::repository().join("crates/abi/include"));
        command.arg(&source);
        process::run(command, Duration::from_secs(60)).with_context(|| format!("servlet.h in {standard}"))?;
    }
    Ok(())
}
