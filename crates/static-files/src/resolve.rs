//! Opens a path below a folder, and nothing else: how it is kept from leaving.
//!
//! The kernel does it with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`, with no gap between check and open. Where that
//! call is missing (before Linux 5.6, some sandboxes), the segments are opened one by one. Neither follows a link. Links are
//! resolved by name, and what they resolve to is judged and opened in the same guarded way again, so a race can make a file
//! missing but cannot show one from outside. Called by `folder` and `put`, which have checked the names.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often an open is tried again that lost a race against a rename; such a race is rare.
const RACES_MAX: u32 = 32;

/// The folder below which paths are opened.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    /// Without links, to compare with what a link resolves to.
    path: PathBuf,
    symlinks_outside: bool,
    way: Way,
}

/// The system call that keeps a path inside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// `openat2`.
    Beneath,
    /// `openat` for each segment.
    Walk,
}

impl Root {
    pub(crate) fn open(path: &Path, symlinks_outside: bool) -> io::Result<Root> {
        let mut root = Root::open_by(path, symlinks_outside, Way::Beneath)?;
        match root.open_within(root.fd.as_fd(), ".", OFlags::PATH) {
            Ok(_) => Ok(root),
            // The kernel does not know the call, or a sandbox refuses it.
            Err(Errno::NOSYS | Errno::PERM) => {
                root.way = Way::Walk;
                Ok(root)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// What is opened below is not there: it is no folder.
    pub(crate) fn of_nothing() -> io::Result<Root> {
        let fd = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Root { fd, path: "/dev/null".into(), symlinks_outside: false, way: Way::Beneath })
    }

    pub(crate) fn open_by(path: &Path, symlinks_outside: bool, way: Way) -> io::Result<Root> {
        let path = path.canonicalize()?;
        let fd = open_directory(&path)?;
        Ok(Root { fd, path, symlinks_outside, way })
    }

    /// Opens a path of plain segments, or `.`. An `XDEV` says that it leads out of the folder.
    pub(crate) fn open_beneath(&self, relative: &str, flags: OFlags) -> Result<File, Errno> {
        match self.open_inside(relative, flags) {
            Err(Errno::XDEV) if self.symlinks_outside => self.open_outside(relative, flags),
            done => done,
        }
    }

    /// As [`Root::open_beneath`], but never outside of the folder, whatever was allowed for reading.
    pub(crate) fn open_inside(&self, relative: &str, flags: OFlags) -> Result<File, Errno> {
        match self.open_within(self.fd.as_fd(), relative, flags) {
            // A link. The walk meets it at its end as LOOP, on the way as NOTDIR.
            Err(Errno::LOOP) => {}
            Err(Errno::NOTDIR) if self.way == Way::Walk => {}
            done => return done,
        }
        let target = self.path.join(relative).canonicalize().map_err(link_errno)?;
        match target.strip_prefix(&self.path) {
            // By a link a request could spell its way into these.
            Ok(inside) if is_private(inside.as_os_str().as_bytes()) && !is_private(relative.as_bytes()) => {
                Err(Errno::XDEV)
            }
            Ok(inside) => self.open_within(self.fd.as_fd(), inside, flags),
            Err(_) => Err(Errno::XDEV),
        }
    }

    fn open_outside(&self, relative: &str, flags: OFlags) -> Result<File, Errno> {
        let target = self.path.join(relative).canonicalize().map_err(link_errno)?;
        match target.strip_prefix("/") {
            Ok(outside) if !target.starts_with(&self.path) => {
                self.open_within(open_directory("/")?.as_fd(), outside, flags)
            }
            _ => Err(Errno::XDEV),
        }
    }

    /// Opens `path` below `dir`; an empty path is `dir` itself.
    fn open_within(&self, dir: BorrowedFd<'_>, path: impl AsRef<Path>, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let path = if path.as_ref().as_os_str().is_empty() { Path::new(".") } else { path.as_ref() };
        let fd = match self.way {
            Way::Beneath => again(|| open_by_openat2(dir, path, flags))?,
            Way::Walk => again(|| walk(dir, path, flags | OFlags::NOFOLLOW))?,
        };
        Ok(File::from(fd))
    }
}

/// Says whether a path from the root of a webapp, without a slash before it, leads into WEB-INF or META-INF, in any case of letters:
/// no request may name them (SEMANTICS 7).
pub fn is_private(path: &[u8]) -> bool {
    let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    first.eq_ignore_ascii_case(b"WEB-INF") || first.eq_ignore_ascii_case(b"META-INF")
}

fn open_directory(path: impl AsRef<Path>) -> Result<OwnedFd, Errno> {
    // O_PATH: a folder that may be entered but not listed still serves its files.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path.as_ref(), flags, Mode::empty())
}

fn open_by_openat2(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(dir, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn walk(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut segments = path.iter().peekable();
    let mut reached: Option<OwnedFd> = None;
    while let Some(segment) = segments.next() {
        let dir = reached.as_ref().map_or(dir, OwnedFd::as_fd);
        let step = if segments.peek().is_none() {
            flags
        } else {
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
        };
        reached = Some(rustix::fs::openat(dir, segment, step, Mode::empty())?);
    }
    reached.ok_or(Errno::NOENT)
}

/// Opens again after a signal, or after a rename during the resolution (EAGAIN).
fn again(open: impl Fn() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    for _ in 0..RACES_MAX {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    open()
}

/// Returns why a link could not be followed. One that leads where we may not look is not told from
/// one that leads outside: the difference would tell what is there.
fn link_errno(error: io::Error) -> Errno {
    match Errno::from_io_error(&error) {
        Some(Errno::ACCESS) | None => Errno::XDEV,
        Some(errno) => errno,
    }
}
