//! What the dynamic linker has loaded, and where.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ops::Range;
use std::sync::OnceLock;

/// Calls `look` with the name and the address range of each loaded object, the executable, of the empty name, first; until it returns
/// true.
fn each(look: &mut dyn FnMut(&CStr, Range<usize>) -> bool) {
    unsafe extern "C" fn one(info: *mut libc::dl_phdr_info, _: usize, look: *mut c_void) -> c_int {
        // SAFETY: libc calls this with its own structure, and with what it was given below.
        let (info, look) = unsafe { (&*info, &mut *look.cast::<&mut dyn FnMut(&CStr, Range<usize>) -> bool>()) };
        // SAFETY: the program headers lie in the object, which is loaded.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let base = info.dlpi_addr as usize;
        let segments = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let ends = segments.map(|header| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            (start, start.wrapping_add(header.p_memsz as usize))
        });
        let (start, end) = ends.fold((usize::MAX, 0), |(start, end), (from, to)| (start.min(from), end.max(to)));
        // SAFETY: a name that libc keeps while the object is loaded.
        let name = if info.dlpi_name.is_null() { c"" } else { unsafe { CStr::from_ptr(info.dlpi_name) } };
        look(name, start..end.max(start)).into()
    }
    let mut look = look;
    // SAFETY: `look` lives until it returns, and no panic leaves what is called here.
    unsafe { libc::dl_iterate_phdr(Some(one), (&raw mut look).cast()) };
}

pub(super) fn names() -> Vec<CString> {
    let mut names = Vec::new();
    each(&mut |name, _| {
        names.push(name.to_owned());
        false
    });
    names
}

/// Where the object of that name lies.
pub(super) fn range_of(name: &CStr) -> Option<Range<usize>> {
    let mut found = None;
    each(&mut |known, range| {
        let is_it = known == name;
        if is_it {
            found = Some(range);
        }
        is_it
    });
    found
}

/// Whether the address lies in the executable.
pub(super) fn is_program(address: usize) -> bool {
    static PROGRAM: OnceLock<Range<usize>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| range_of(c"").unwrap_or_default());
    program.contains(&address)
}

/// A signal whose handler lies there. To set it back would be another default than the one of before, maybe to end the process.
pub(super) fn handled_signal(range: &Range<usize>) -> Option<i32> {
    (1..=libc::SIGRTMAX()).find(|&signal| {
        // SAFETY: all zeros are a value of this structure.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: it only asks.
        let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) };
        asked == 0 && range.contains(&action.sa_sigaction)
    })
}
