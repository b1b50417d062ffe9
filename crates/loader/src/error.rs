//! Why a library, or a generation made of libraries, is refused. Each `Display` is one plain sentence without the path:
//! whoever logs it says which file it is about.

use std::path::PathBuf;

use crate::elf;

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("cannot be read: {0}")]
    Read(#[source] std::io::Error),
    #[error("{0}")]
    Elf(#[from] elf::Refusal),
    #[error("{0}; give the file to the user that Serval runs as, or set allow_foreign_writable")]
    ForeignWritable(String),
    #[error(
        "it needs {0}, which the system does not find; put that library into the same lib folder and link with -Wl,-rpath,'$ORIGIN', or install it"
    )]
    MissingDependency(String),
    #[error(
        "there is no room left for its thread-locals, which are initial-exec: each generation takes some of a small store, until the server restarts; build it with -ftls-model=global-dynamic"
    )]
    StaticTls,
    #[error(
        "its private copy lies in {}, on a file system that is mounted noexec: name a folder of another one as `var` in [server] of server.toml, or mount it without", .0.display()
    )]
    NoExec(PathBuf),
    #[error("the system cannot load it: {0}")]
    Load(String),
    #[error(
        "does not export servlet_module_v1; a servlet library declares it with servlet::module!() in Rust or SV_EXPORT in C"
    )]
    NoEntry,
    #[error(
        "it speaks only another major version of the servlet ABI ({0}), and this server speaks version 1: build it with the servlet.h of this server"
    )]
    OtherMajor(String),
    #[error(
        "it needs servlet ABI 1.{needs}, and this server speaks 1.{speaks} ({server}): update the server, or build it with need_minor {speaks} or less"
    )]
    NewerMinor { needs: u16, speaks: u16, server: &'static str },
    #[error("its servlet_module_v1 returns a description that this server cannot read: {0}")]
    Description(String),
    #[error("its init failed: {0}")]
    Init(String),
    #[error("the create of its servlet `{servlet}` failed: {text}")]
    Create { servlet: String, text: String },
    #[error("the create of its filter `{filter}` failed: {text}")]
    CreateFilter { filter: String, text: String },
    #[error("its listener function for CONTEXT_INITIALIZED failed: {0}")]
    Initialized(String),
    #[error("its restore refuses what the generation before has handed over: {0}")]
    Restore(String),
    #[error("WEB-INF/web.toml has a [[servlet]] for `{0}`, which no library declares: remove it{1}")]
    NoSuchServlet(String, String),
    #[error("WEB-INF/web.toml has a [[filter]] for `{0}`, which no library declares: remove it{1}")]
    NoSuchFilter(String, String),
    #[error(
        "the URL pattern `{pattern}` is declared by the servlets `{first}` and `{second}`; give one of them another in WEB-INF/web.toml"
    )]
    PatternConflict { pattern: String, first: String, second: String },
    #[error("two servlets, or two filters, are named `{0}`; rename or disable one in WEB-INF/web.toml")]
    NameConflict(String),
    #[error(
        "`{servlet}` has the URL pattern `{pattern}`, which is not one: it begins with a slash, maybe with {{name}} in the place of whole segments, or is *.extension, or is empty"
    )]
    BadPattern { servlet: String, pattern: String },
}

/// A refusal with the file that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {refusal}", file.file_name().unwrap_or(file.as_os_str()).to_string_lossy())]
pub struct Refused {
    pub file: PathBuf,
    pub refusal: Refusal,
}
