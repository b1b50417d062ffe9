//! The ways in which a library gets replaced. Each one returns the version that has to answer in the end.

use crate::library::Library;
use anyhow::{Context, Result};
use e2e::serval::Serval;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long the log may take to name a library that is refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);
/// How many pieces a slow linker writes, and how long it rests between two.
const PIECES: usize = 40;
const PIECE_PAUSE: Duration = Duration::from_millis(3);
/// Longer than a watcher waits for a file to settle: it sees the half.
const HALF_PAUSE: Duration = Duration::from_millis(700);
const DELETED_PAUSE: Duration = Duration::from_millis(300);
const WRITES: u32 = 20;
const WRITE_PAUSE: Duration = Duration::from_millis(50);

/// One way of replacing a library.
pub struct Way {
    pub name: &'static str,
    pub replace: fn(&Serval, &mut Library) -> Result<u64>,
}

pub const ALL: &[Way] = &[
    Way { name: "cp in place", replace: in_place },
    Way { name: "mv over it", replace: moved },
    Way { name: "written by a linker", replace: in_pieces },
    Way { name: "half, and the whole later", replace: half_first },
    Way { name: "twenty writes in a second", replace: many_writes },
    Way { name: "deleted and restored", replace: deleted_first },
    Way { name: "a text file, then a good one", replace: text_first },
    Way { name: "one that fails in init, then good", replace: failing_first },
];

fn in_place(_: &Serval, library: &mut Library) -> Result<u64> {
    let version = library.next_version();
    library.install(&version)?;
    Ok(version.number)
}

fn moved(_: &Serval, library: &mut Library) -> Result<u64> {
    let version = library.next_version();
    move_over(library.file(), &version.bytes)?;
    Ok(version.number)
}

fn in_pieces(_: &Serval, library: &mut Library) -> Result<u64> {
    let version = library.next_version();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(library.file())?;
    for piece in version.bytes.chunks(version.bytes.len().div_ceil(PIECES)) {
        file.write_all(piece)?;
        thread::sleep(PIECE_PAUSE);
    }
    Ok(version.number)
}

fn half_first(_: &Serval, library: &mut Library) -> Result<u64> {
    let version = library.next_version();
    fs::write(library.file(), &version.bytes[..version.bytes.len() / 2])?;
    thread::sleep(HALF_PAUSE);
    library.install(&version)?;
    Ok(version.number)
}

fn many_writes(_: &Serval, library: &mut Library) -> Result<u64> {
    let mut last = 0;
    for _ in 0..WRITES {
        let version = library.next_version();
        library.install(&version)?;
        last = version.number;
        thread::sleep(WRITE_PAUSE);
    }
    Ok(last)
}

fn deleted_first(_: &Serval, library: &mut Library) -> Result<u64> {
    let version = library.next_version();
    fs::remove_file(library.file())?;
    thread::sleep(DELETED_PAUSE);
    library.install(&version)?;
    Ok(version.number)
}

fn text_first(serval: &Serval, library: &mut Library) -> Result<u64> {
    let position = serval.program().position();
    fs::write(library.file(), "This is no library.\n")?;
    wait_for_refusal(serval, position, library.file())?;
    in_place(serval, library)
}

fn failing_first(serval: &Serval, library: &mut Library) -> Result<u64> {
    let position = serval.program().position();
    move_over(library.file(), library.failing())?;
    wait_for_refusal(serval, position, library.file())?;
    moved(serval, library)
}

/// As `mv` from the same file system: the name stands for the old file, and then for the whole new one.
fn move_over(file: &Path, bytes: &[u8]) -> Result<()> {
    let beside = file.with_extension("so.tmp");
    fs::write(&beside, bytes)?;
    fs::rename(&beside, file).context("move the library into place")
}

/// The text of a refusal is the host's; that it names the file is what is asked for here.
fn wait_for_refusal(serval: &Serval, position: usize, file: &Path) -> Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let names_it = |line: &str| line.contains(name.as_ref());
    serval.program().wait_for_line(position, REFUSED_WITHIN, names_it).context("wait for the refusal in the log")?;
    Ok(())
}
