//! The libraries that are replaced: built a few times over, and stamped with as many versions as a soak needs.
//!
//! A build takes too long to make one for each reload, so a built file carries ten digits that are overwritten. The
//! builds differ in size and addresses, so that a page of one that is taken for another's cannot go unseen.

use anyhow::{Context, Result, bail};
use e2e::process;
use e2e::serval::{self, Home};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The version that no request may ever see: of a library whose init fails.
pub const NEVER: u64 = 9_999_999_999;

const STAMP: &str = "version 0000000000";
const WORD: &str = "version ";
const C_BUILDS: usize = 20;
const RUST_BUILDS: usize = 4;
const BUILD_WITHIN: Duration = Duration::from_secs(600);

/// A library in a webapp of its own.
pub struct Library {
    target: String,
    file: PathBuf,
    builds: Vec<Vec<u8>>,
    failing: Arc<[u8]>,
    made: u64,
    newest_seen: NewestSeen,
}

/// A stamped library.
pub struct Version {
    pub number: u64,
    pub bytes: Vec<u8>,
}

/// The newest version that any connection has received.
#[derive(Clone, Default)]
pub struct NewestSeen(Arc<AtomicU64>);

impl NewestSeen {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn raise(&self, version: u64) {
        self.0.fetch_max(version, Ordering::SeqCst);
    }
}

impl Library {
    /// Returns the request target at which it tells its version.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns its place in the webapp.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn newest_seen(&self) -> NewestSeen {
        self.newest_seen.clone()
    }

    /// Returns the next version, from the next build.
    pub fn next_version(&mut self) -> Version {
        self.made += 1;
        let build = &self.builds[self.made as usize % self.builds.len()];
        Version { number: self.made, bytes: stamped(build, self.made) }
    }

    /// Returns a library whose init fails, to be put in its place.
    pub fn failing(&self) -> &[u8] {
        &self.failing
    }

    /// Writes it as `cp` does: into the file that is there.
    pub fn install(&self, version: &Version) -> Result<()> {
        fs::write(&self.file, &version.bytes).with_context(|| format!("write {}", self.file.display()))
    }
}

/// Builds the one in C and, unless it is left out, the one in Rust; makes their webapps.
pub fn build_all(home: &Home, only_c: bool) -> Result<Vec<Library>> {
    let workshop = home.path("workshop");
    fs::create_dir_all(&workshop)?;
    let failing: Arc<[u8]> = stamped(&compile(&workshop, &["-DFAILS"])?, NEVER).into();
    let in_c = (1..=C_BUILDS).map(|padding| compile(&workshop, &[&format!("-DPADDING={padding}")]));
    let mut libraries = vec![webapp(home, "soak", in_c.collect::<Result<_>>()?, &failing)?];
    let example = serval::repository().join("webapps/hello/WEB-INF");
    if !only_c {
        let package = workshop.join("hello");
        serval::copy_source(&example, &package)?;
        let in_rust = (1..=RUST_BUILDS).map(|padding| build_hello(&package, &example, padding));
        libraries.push(webapp(home, "hello", in_rust.collect::<Result<_>>()?, &failing)?);
    }
    Ok(libraries)
}

/// Reads the body of an answer.
pub fn version_of(body: &str) -> Option<u64> {
    body.strip_prefix(WORD)?.parse().ok()
}

fn webapp(home: &Home, name: &str, builds: Vec<Vec<u8>>, failing: &Arc<[u8]>) -> Result<Library> {
    let file = home.path(&format!("webapps/{name}/WEB-INF/lib/{name}.so"));
    fs::create_dir_all(file.parent().expect("the file is in a folder"))?;
    let (target, failing) = (format!("/{name}/version"), Arc::clone(failing));
    Ok(Library { target, file, builds, failing, made: 0, newest_seen: NewestSeen::default() })
}

fn compile(workshop: &Path, options: &[&str]) -> Result<Vec<u8>> {
    let (source, output) = (workshop.join("soak.c"), workshop.join("soak.so"));
    fs::write(&source, include_str!("soak.c"))?;
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]);
    command.arg(serval::repository().join("crates/abi/include")).args(options).arg("-o").args([&output, &source]);
    process::run(command, BUILD_WITHIN)?;
    checked(fs::read(&output)?)
}

/// Builds the example with one more servlet, which tells its version.
fn build_hello(package: &Path, example: &Path, padding: usize) -> Result<Vec<u8>> {
    let source = fs::read_to_string(example.join("src/lib.rs"))?;
    let added = include_str!("version.rs").replace("PADDING", &padding.to_string());
    fs::write(package.join("src/lib.rs"), format!("{source}\n{added}"))?;
    let manifest = fs::read_to_string(example.join("Cargo.toml"))?;
    fs::write(package.join("Cargo.toml"), with_sdk_of_the_repository(&manifest))?;
    let mut command = Command::new(serval::cargo());
    command.args(["build", "--release", "--quiet", "--target-dir"]).arg(package.join("target")).current_dir(package);
    process::run(command, BUILD_WITHIN)?;
    checked(fs::read(package.join("target/release/libhello.so"))?)
}

/// The example depends on the SDK that the host unpacks; here it is the one that the host is built with.
fn with_sdk_of_the_repository(manifest: &str) -> String {
    let sdk = serval::repository().join("crates/servlet");
    let line_of = |line: &str| match line.split_once("path = \"") {
        Some((before, rest)) if line.starts_with("servlet") || line.starts_with("serval-servlet") => {
            let after = rest.split_once('"').map_or("", |(_, after)| after);
            format!("{before}path = \"{}\"{after}", sdk.display())
        }
        _ => line.to_owned(),
    };
    manifest.lines().map(line_of).collect::<Vec<_>>().join("\n")
}

/// A library that cannot be stamped would make every answer look alike.
fn checked(library: Vec<u8>) -> Result<Vec<u8>> {
    if places(&library).next().is_none() {
        bail!("the compiler left no {STAMP:?} in the library, so it cannot be stamped");
    }
    Ok(library)
}

fn stamped(build: &[u8], version: u64) -> Vec<u8> {
    let mut bytes = build.to_vec();
    let stamp = format!("{WORD}{version:010}");
    for place in places(build) {
        bytes[place..place + STAMP.len()].copy_from_slice(stamp.as_bytes());
    }
    bytes
}

fn places(library: &[u8]) -> impl Iterator<Item = usize> {
    let window = library.windows(STAMP.len()).enumerate();
    window.filter(|(_, bytes)| *bytes == STAMP.as_bytes()).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_stamped_wherever_it_has_the_place() {
        let stamped = stamped(b"\0version 0000000000\0-version 0000000000", 17);
        assert_eq!(stamped, b"\0version 0000000017\0-version 0000000017");
        assert_eq!(version_of("version 0000000017"), Some(17));
        assert!(checked(b"version".to_vec()).is_err());
    }

    #[test]
    fn the_example_is_built_with_the_sdk_of_the_repository() {
        let manifest = "[package]\npath = \"x\"\n[dependencies]\nservlet = { package = \"a\", path = \"../sdk\" }";
        let line = with_sdk_of_the_repository(manifest);
        let sdk = serval::repository().join("crates/servlet");
        let expected = format!("servlet = {{ package = \"a\", path = \"{}\" }}", sdk.display());
        assert_eq!(line.lines().collect::<Vec<_>>(), ["[package]", "path = \"x\"", "[dependencies]", &expected]);
    }
}
