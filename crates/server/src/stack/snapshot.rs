//! A thread of another process as it is at one moment: registers, stack, and what is mapped where.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::panic::resume_unwind;
use std::path::PathBuf;

use framehop::UnwindRegsNative;
use nix::errno::Errno;
use nix::libc::user_regs_struct;
use nix::sys::ptrace::{self, Options};
use nix::unistd::Pid;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// LIMIT: bytes of the stack that are copied, from the innermost call on. The threads of a server have two MiB.
const STACK_BYTES_MAX: usize = 2 << 20;

pub struct Snapshot {
    pub at: u64,
    pub registers: UnwindRegsNative,
    stack: Vec<u8>,
    stack_begin: u64,
    pub mappings: Vec<Mapping>,
    /// The program itself, as its mappings name it.
    pub program: PathBuf,
    pub program_file: PathBuf,
}

/// A part of a file in memory.
pub struct Mapping {
    pub begin: u64,
    pub end: u64,
    pub offset: u64,
    /// Empty: none.
    pub path: PathBuf,
}

impl Snapshot {
    /// Stops the thread for a moment. An error is a sentence.
    pub fn take(process: i32, thread: i32) -> Result<Snapshot, String> {
        let wrong = |error| format!("/proc/{process} cannot be read: {error}");
        let maps = fs::read(format!("/proc/{process}/maps")).map_err(wrong)?;
        // The calls in a file whose name is none of UTF-8 have no names.
        let mappings: Vec<Mapping> = String::from_utf8_lossy(&maps).lines().filter_map(Mapping::read).collect();
        let program_file = PathBuf::from(format!("/proc/{process}/exe"));
        let program = fs::read_link(&program_file).map_err(wrong)?;
        let memory = File::open(format!("/proc/{process}/mem")).map_err(wrong)?;
        let (registers, stack) = stopped(Pid::from_raw(thread), |registers| {
            let begin = stack_pointer(registers);
            let end = mappings.iter().find(|mapping| mapping.contains(begin)).map_or(begin, |mapping| mapping.end);
            let mut stack = vec![0; usize::try_from(end - begin).unwrap_or(0).min(STACK_BYTES_MAX)];
            let read = memory.read_at(&mut stack, begin).unwrap_or(0);
            stack.truncate(read);
            stack
        })
        .map_err(refused)?;
        let (at, unwound) = unwinds_from(&registers);
        let stack_begin = stack_pointer(&registers);
        Ok(Snapshot { at, registers: unwound, stack, stack_begin, mappings, program, program_file })
    }

    /// A word of the stack.
    pub fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.stack_begin)?).ok()?;
        let bytes = self.stack.get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    }

    /// The file at an address, and its mapping.
    pub fn mapping(&self, address: u64) -> Option<&Mapping> {
        self.mappings.iter().find(|mapping| mapping.contains(address) && mapping.path.is_absolute())
    }
}

impl Mapping {
    /// A line of /proc/PROCESS/maps.
    fn read(line: &str) -> Option<Mapping> {
        let mut words = line.splitn(6, ' ');
        let (begin, end) = words.next()?.split_once('-')?;
        let offset = words.nth(1)?;
        let path = words.nth(2).unwrap_or("").trim_start();
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Mapping { begin: number(begin)?, end: number(end)?, offset: number(offset)?, path: path.into() })
    }

    fn contains(&self, address: u64) -> bool {
        (self.begin..self.end).contains(&address)
    }
}

/// Looks at a thread while it stands still. That is done on a thread of our own: with its end the kernel lets the other one go,
/// whatever happens here, and gives it the signal that it may stand before. Detached by hand it would have to be told the signal's
/// number, and nix knows no real-time ones; one of glibc's own, lost, would let `setuid` wait for ever.
fn stopped<T: Send>(
    thread: Pid,
    look: impl FnOnce(&user_regs_struct) -> T + Send,
) -> Result<(user_regs_struct, T), Errno> {
    let looked = || {
        ptrace::seize(thread, Options::empty())?;
        ptrace::interrupt(thread)?;
        // A wait that takes what it sees would take the signal, too.
        let seen = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let id = rustix::process::Pid::from_raw(thread.as_raw()).ok_or(Errno::ESRCH)?;
        waitid(WaitId::Pid(id), seen).map_err(|error| Errno::from_raw(error.raw_os_error()))?;
        let registers = ptrace::getregs(thread)?;
        let looked = look(&registers);
        Ok((registers, looked))
    };
    std::thread::scope(|scope| scope.spawn(looked).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

fn refused(error: Errno) -> String {
    match error {
        Errno::EPERM => {
            "ptrace is not permitted here (it asks for the capability CAP_SYS_PTRACE, a kernel.yama.ptrace_scope \
                         below 2, and no other debugger)"
                .to_owned()
        }
        error => format!("the thread could not be stopped by ptrace: {}", error.desc()),
    }
}

#[cfg(target_arch = "x86_64")]
fn stack_pointer(registers: &user_regs_struct) -> u64 {
    registers.rsp
}

#[cfg(target_arch = "x86_64")]
fn unwinds_from(registers: &user_regs_struct) -> (u64, UnwindRegsNative) {
    (registers.rip, UnwindRegsNative::new(registers.rip, registers.rsp, registers.rbp))
}

#[cfg(target_arch = "aarch64")]
fn stack_pointer(registers: &user_regs_struct) -> u64 {
    registers.sp
}

#[cfg(target_arch = "aarch64")]
fn unwinds_from(registers: &user_regs_struct) -> (u64, UnwindRegsNative) {
    (registers.pc, UnwindRegsNative::new(registers.regs[30], registers.sp, registers.regs[29]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mappings_are_read() {
        for (line, begin, offset, path) in [
            ("7f00-7f10 r-xp 00001000 fe:00 12       /a b/c.so", 0x7f00, 0x1000, "/a b/c.so"),
            ("10-20 rw-p 00000000 00:00 0 ", 0x10, 0, ""),
            ("10-20 rw-p 00000000 00:00 0                          [stack]", 0x10, 0, "[stack]"),
        ] {
            let mapping = Mapping::read(line).unwrap();
            assert_eq!((mapping.begin, mapping.offset, mapping.path), (begin, offset, path.into()), "{line}");
        }
        assert!(Mapping::read("no mapping").is_none());
    }
}
