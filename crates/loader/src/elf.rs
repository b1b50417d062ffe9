//! What can be known of a library before any of its code runs. Called by `library` and `inspect`; never panics on any bytes.

use std::fs::File;
use std::path::Path;

use goblin::elf::Elf;
use goblin::elf::dynamic::{DF_1_NODELETE, DF_STATIC_TLS, DF_TEXTREL};
use goblin::elf::header::ET_DYN;
use goblin::elf::program_header::PT_INTERP;
use goblin::elf::sym::STB_GNU_UNIQUE;
use memmap2::Mmap;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = goblin::elf::header::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = goblin::elf::header::EM_AARCH64;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Facts {
    /// It exports servlet_module_v1.
    pub entry: bool,
    /// Exports of other majors.
    pub other_entries: Vec<String>,
    pub needed: Vec<String>,
    /// It says itself where what it needs is looked for.
    pub has_search_path: bool,
    /// By which others need it.
    pub soname: Option<String>,
    pub no_delete: bool,
    /// A few names of STB_GNU_UNIQUE symbols.
    pub gnu_unique: Vec<String>,
    pub static_tls: bool,
    pub text_relocations: bool,
    /// A function that it imports, and by which libc comes to keep something of it that we do not know of.
    pub unseen: Option<String>,
}

/// They lead to code or data of a library past the functions that [`unload`](crate::unload) keeps a record of: C11's threads and keys, what
/// begins a thread inside of libc, ends of the process, texts and buffers that libc keeps.
#[rustfmt::skip]
const UNSEEN: [&str; 20] = [
    "tss_create", "thrd_create", "clone", "timer_create", "mq_notify", "getaddrinfo_a", "lio_listio", "lio_listio64", "aio_read",
    "aio_read64", "aio_write", "aio_write64", "aio_fsync", "aio_fsync64", "on_exit", "putenv", "openlog", "setvbuf", "setbuf", "setbuffer",
];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("it is empty; is it still being written?")]
    Empty,
    #[error("it is not an ELF file: it begins with \"{0}\"")]
    NotElf(String),
    #[error("it is cut: {has} bytes are there, and {needs} are needed; is it still being written?")]
    Truncated { has: u64, needs: u64 },
    #[error("it is for another machine ({0}); build it for this one")]
    WrongMachine(&'static str),
    #[error("it is not a shared library; link it with -shared, or as a cdylib in Rust")]
    NotShared,
    #[error("it is not well-formed: {0}")]
    Malformed(String),
}

/// As [`read`], of a file. One that is cut meanwhile would end the process (SIGBUS): it is a private copy, or a command is given it.
pub fn read_file(path: &Path) -> Result<Facts, crate::Refusal> {
    let file = File::open(path).map_err(crate::Refusal::Read)?;
    if file.metadata().map_err(crate::Refusal::Read)?.len() == 0 {
        return Err(Refusal::Empty.into());
    }
    // SAFETY: nobody writes it, see above.
    let bytes = unsafe { Mmap::map(&file) }.map_err(crate::Refusal::Read)?;
    Ok(read(&bytes)?)
}

/// Reads the headers and the dynamic symbols.
pub fn read(bytes: &[u8]) -> Result<Facts, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    if !bytes.starts_with(b"\x7fELF") {
        let start = &bytes[..bytes.len().min(16)];
        return Err(Refusal::NotElf(String::from_utf8_lossy(start).escape_debug().to_string()));
    }
    let has = bytes.len() as u64;
    let header = Elf::parse_header(bytes).map_err(|_| Refusal::Truncated { has, needs: 64 })?;
    let sections = header.e_shoff.saturating_add(u64::from(header.e_shnum) * u64::from(header.e_shentsize));
    let segments = header.e_phoff.saturating_add(u64::from(header.e_phnum) * u64::from(header.e_phentsize));
    let needs = sections.max(segments);
    if needs > has {
        return Err(Refusal::Truncated { has, needs });
    }
    if header.e_machine != MACHINE {
        return Err(Refusal::WrongMachine(goblin::elf::header::machine_to_str(header.e_machine)));
    }
    if header.e_type != ET_DYN {
        return Err(Refusal::NotShared);
    }
    let elf = Elf::parse(bytes).map_err(|error| Refusal::Malformed(error.to_string()))?;
    for segment in &elf.program_headers {
        let needs = segment.p_offset.saturating_add(segment.p_filesz);
        if needs > has {
            return Err(Refusal::Truncated { has, needs });
        }
    }
    if elf.program_headers.iter().any(|segment| segment.p_type == PT_INTERP) && elf.dynamic.is_none() {
        return Err(Refusal::NotShared);
    }
    let mut facts = Facts {
        needed: elf.libraries.iter().map(|name| (*name).to_owned()).collect(),
        has_search_path: !(elf.rpaths.is_empty() && elf.runpaths.is_empty()),
        soname: elf.soname.map(str::to_owned),
        ..Facts::default()
    };
    for symbol in elf.dynsyms.iter() {
        let Some(name) = elf.dynstrtab.get_at(symbol.st_name) else { continue };
        if symbol.st_shndx == 0 {
            if UNSEEN.contains(&name) {
                facts.unseen = Some(name.to_owned());
            }
            continue;
        }
        match name.strip_prefix("servlet_module_v") {
            Some("1") => facts.entry = true,
            Some(_) => facts.other_entries.push(name.to_owned()),
            None => {}
        }
        if symbol.st_bind() == STB_GNU_UNIQUE && facts.gnu_unique.len() < 8 {
            facts.gnu_unique.push(name.to_owned());
        }
    }
    if let Some(dynamic) = &elf.dynamic {
        facts.no_delete = dynamic.info.flags_1 & DF_1_NODELETE != 0;
        facts.static_tls = dynamic.info.flags & DF_STATIC_TLS != 0;
        facts.text_relocations = dynamic.info.flags & DF_TEXTREL != 0 || dynamic.info.textrel;
    }
    Ok(facts)
}

/// The libraries of C++: what they bring is in each library of C++ too, and exported, whatever it hides.
const OF_CPP: [&str; 4] = ["libstdc++.so.6", "libc++.so.1", "libc++abi.so.1", "libgcc_s.so.1"];

/// What is to be loaded before it: loaded with it, for it, they would look for their own functions in it first, and keep it.
pub fn loaded_before(facts: &Facts) -> impl Iterator<Item = &str> {
    // One that it looks for elsewhere may be another one there.
    let is_sure = |name: &&str| !facts.has_search_path || OF_CPP.contains(name);
    facts.needed.iter().map(String::as_str).filter(is_sure)
}

/// Why its code cannot go when it is closed, a clause; `None`: it can.
pub fn why_it_stays(facts: &Facts) -> Option<String> {
    let unique =
        || facts.gnu_unique.first().map(|name| format!("it has unique symbols such as {name}, which libc keeps"));
    let unseen =
        || facts.unseen.as_ref().map(|name| format!("it uses {name}, through which libc keeps something of it"));
    let no_delete = facts.no_delete.then(|| "it forbids to be unloaded (DF_1_NODELETE)".to_owned());
    no_delete.or_else(unique).or_else(unseen)
}

/// What an author should know, a sentence each.
pub fn warnings(facts: &Facts) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(name) = facts.gnu_unique.first() {
        all.push(format!(
            "it has unique symbols such as {name}: its state leaks from one generation into the next; build it with \
             -fvisibility=hidden or -fno-gnu-unique"
        ));
    }
    if facts.no_delete {
        all.push("it forbids to be unloaded (DF_1_NODELETE): each of its generations stays mapped".to_owned());
    }
    if let Some(name) = &facts.unseen {
        all.push(format!(
            "it uses {name}, through which libc keeps something of it: each of its generations stays mapped"
        ));
    }
    if facts.static_tls {
        all.push("it uses static thread-local storage, of which there is little: a later load may fail".to_owned());
    }
    if facts.text_relocations {
        all.push("it has text relocations; build it with -fPIC".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_library_is_refused_in_a_sentence() {
        assert_eq!(read(b""), Err(Refusal::Empty));
        assert_eq!(read(b"hello\n").unwrap_err().to_string(), "it is not an ELF file: it begins with \"hello\\n\"");
        assert!(matches!(read(b"\x7fELF\x02\x01"), Err(Refusal::Truncated { .. })));
    }

    #[test]
    fn every_cut_and_many_flips_of_a_real_file_are_survived() {
        let real = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let real = &real[..real.len().min(1 << 16)];
        for cut in 0..200 {
            let _ = read(&real[..cut * real.len() / 200]);
        }
        let (mut bytes, mut random) = (real.to_vec(), 1u64);
        for _ in 0..2000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (random >> 33) as usize % 1024;
            bytes[at] = (random >> 20) as u8;
            let _ = read(&bytes);
        }
    }
}
