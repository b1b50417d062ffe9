//! What the tests of archives share: a webapp with a library, and questions to the server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use e2e::commands::{becomes, context, serval, status};
use e2e::http_client::{Connection, Response};
use e2e::serval::{Serval, repository};

use crate::made::Made;

pub const LONG: Duration = Duration::from_secs(60);

/// Builds archives of a webapp whose page is its version, and whose servlet tells it.
pub struct Shop(tempfile::TempDir);

impl Shop {
    pub fn new() -> Shop {
        Shop(tempfile::tempdir().unwrap())
    }

    /// The library of a version; `FAILS` does not start, and `WAITS` not before [`Shop::go`].
    pub fn library(&self, version: &str) -> Vec<u8> {
        std::fs::read(self.build(version)).unwrap()
    }

    fn build(&self, version: &str) -> PathBuf {
        let output = self.0.path().join(format!("{version}.so"));
        if output.exists() {
            return output;
        }
        let mut command = Command::new("cc");
        command.args(["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]);
        command.arg(format!("-DVERSION=\"{version}\"")).arg("-I").arg(repository().join("crates/abi/include"));
        if version == "FAILS" {
            command.arg("-DFAILS");
        }
        if version == "WAITS" {
            command.arg(format!("-DWAITS=\"{}\"", self.0.path().join("go").display()));
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archives/shop.c");
        assert!(command.arg(source).arg("-o").arg(&output).status().unwrap().success());
        output
    }

    pub fn go(&self) {
        std::fs::write(self.0.path().join("go"), "").unwrap();
    }

    pub fn archive(&self, version: &str) -> Vec<u8> {
        let made = Made::new().folder("WEB-INF/").file("WEB-INF/web.toml", "").file("index.html", version);
        made.file("WEB-INF/lib/shop.so", self.library(version)).bytes()
    }
}

pub fn get(serval: &Serval, target: &str) -> Response {
    Connection::open(serval.address(), LONG).unwrap().get(target).unwrap()
}

#[track_caller]
pub fn wait_until(serval: &Serval, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "{:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
}
