//! From a snapshot of a thread to the names of its calls. Each file is read only once an address in it is met.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, Module, Unwinder as _,
    UnwinderNative,
};
use object::{Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, ReadCache};
use serval_loader::symbols::Symbols;

use super::snapshot::{Mapping, Snapshot};

/// LIMIT: calls that are looked for; an endless recursion has more.
const CALLS_MAX: usize = 10_000;
/// LIMIT: calls that are told, from the innermost on.
const TOLD_MAX: usize = 64;
/// LIMIT: characters of one of them: names of C++ and Rust can be of any length.
const NAME_MAX: usize = 300;

/// Innermost first. What led from the start of the thread to the first call of a library is left out, since it is the same each time.
pub fn of(snapshot: &Snapshot) -> Vec<String> {
    let mut files = Files::default();
    let (mut addresses, is_whole) = files.unwind(snapshot);
    if is_whole {
        leave_out_the_start(snapshot, &mut addresses);
    }
    let mut calls = Vec::new();
    for address in addresses {
        calls.extend(files.names(snapshot, address).into_iter().map(shortened));
        if calls.len() > TOLD_MAX {
            calls.truncate(TOLD_MAX);
            calls.push("... and more".to_owned());
            return calls;
        }
    }
    if !is_whole {
        calls.push("... what called it cannot be told".to_owned());
    }
    calls
}

fn leave_out_the_start(snapshot: &Snapshot, addresses: &mut Vec<u64>) {
    let is_ours = |address: &u64| snapshot.mapping(*address).is_some_and(|mapping| mapping.path == snapshot.program);
    let ours = addresses.iter().rposition(is_ours);
    let library = ours.and_then(|ours| addresses[..ours].iter().rposition(|address| !is_ours(address)));
    if let Some(library) = library {
        addresses.truncate(library + 1);
    }
}

fn shortened(mut name: String) -> String {
    if let Some((end, _)) = name.char_indices().nth(NAME_MAX) {
        name.truncate(end);
        name.push_str("...");
    }
    // Whoever has named it: it is a line of the log.
    name.replace(char::is_control, "?")
}

/// The files that were met.
#[derive(Default)]
struct Files(Vec<Mapped>);

struct Mapped {
    path: PathBuf,
    /// What is added to an address of the file.
    base: u64,
    symbols: Option<Symbols>,
    /// Of a file that has only the symbols of what it exports: an address belongs to the nearest one only if it is inside of it.
    exported: Option<Vec<(Range<u64>, String)>>,
}

impl Files {
    /// The addresses of the calls; `true`: up to the thread's first one.
    fn unwind(&mut self, snapshot: &Snapshot) -> (Vec<u64>, bool) {
        let mut unwinder = UnwinderNative::<Vec<u8>, MayAllocateDuringUnwind>::new();
        let mut cache = CacheNative::new();
        let mut registers = snapshot.registers;
        let mut next = Some(FrameAddress::from_instruction_pointer(snapshot.at));
        let mut addresses = Vec::new();
        while let Some(frame) = next
            && addresses.len() < CALLS_MAX
        {
            // The call, and not what comes after it.
            let address = frame.address_for_lookup();
            addresses.push(address);
            if let Some(mapping) = snapshot.mapping(address)
                && !self.0.iter().any(|mapped| mapped.path == mapping.path)
            {
                let (mapped, module) = Mapped::read(snapshot, mapping, address);
                self.0.push(mapped);
                if let Some(module) = module {
                    unwinder.add_module(module);
                }
            }
            let mut word = |address| snapshot.word(address).ok_or(());
            match unwinder.unwind_frame(frame, &mut registers, &mut cache, &mut word) {
                Ok(Some(returns_to)) => next = FrameAddress::from_return_address(returns_to),
                Ok(None) => return (addresses, true),
                Err(_) => return (addresses, false),
            }
        }
        (addresses, false)
    }

    fn names(&self, snapshot: &Snapshot, address: u64) -> Vec<String> {
        let Some(mapping) = snapshot.mapping(address) else { return vec![format!("{address:#x}")] };
        let mapped = self.0.iter().find(|mapped| mapped.path == mapping.path);
        let at = address.wrapping_sub(mapped.map_or(0, |mapped| mapped.base));
        let mut names = mapped.map(|mapped| mapped.names(at)).unwrap_or_default();
        if names.is_empty() {
            names.push(format!("{}+{at:#x}", mapping.path.file_name().unwrap_or_default().display()));
        }
        names
    }
}

impl Mapped {
    /// What is needed of a file to unwind and to name its calls; without a module, it cannot be read.
    fn read(snapshot: &Snapshot, mapping: &Mapping, address: u64) -> (Mapped, Option<Module<Vec<u8>>>) {
        // The program may have been replaced on the disk.
        let file = if mapping.path == snapshot.program { &snapshot.program_file } else { &mapping.path };
        let mut mapped = Mapped {
            path: mapping.path.clone(),
            base: mapping.begin.wrapping_sub(mapping.offset),
            symbols: None,
            exported: None,
        };
        let module = mapped.read_file(file, snapshot, mapping, address);
        (mapped, module)
    }

    fn read_file(
        &mut self,
        file: &Path,
        snapshot: &Snapshot,
        mapping: &Mapping,
        address: u64,
    ) -> Option<Module<Vec<u8>>> {
        let cache = ReadCache::new(File::open(file).ok()?);
        let object = object::File::parse(&cache).ok()?;
        let place = address - mapping.begin + mapping.offset;
        let segment = object.segments().find(|segment| {
            let (begin, len) = segment.file_range();
            (begin..begin.saturating_add(len)).contains(&place)
        })?;
        self.base = address.wrapping_sub(place - segment.file_range().0 + segment.address());
        self.symbols = Symbols::of_file(file);
        if object.symbols().next().is_none() {
            let symbols = object.dynamic_symbols().filter(|symbol| symbol.size() > 0);
            let named =
                symbols.filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?.to_owned())));
            self.exported = Some(named.map(|(begin, size, name)| (begin..begin.saturating_add(size), name)).collect());
        }
        let section = |name| object.section_by_name(name);
        let data = |name| Some(section(name)?.uncompressed_data().ok()?.into_owned());
        let range = |name| {
            let section = section(name)?;
            Some(section.address()..section.address().saturating_add(section.size()))
        };
        let sections = ExplicitModuleSectionInfo {
            text_svma: range(".text"),
            got_svma: range(".got"),
            eh_frame_svma: range(".eh_frame"),
            eh_frame: data(".eh_frame"),
            eh_frame_hdr_svma: range(".eh_frame_hdr"),
            eh_frame_hdr: data(".eh_frame_hdr"),
            debug_frame: data(".debug_frame"),
            ..Default::default()
        };
        let parts = snapshot.mappings.iter().filter(|part| part.path == mapping.path);
        let (begin, end) = parts.fold((u64::MAX, 0), |(begin, end), part| (begin.min(part.begin), end.max(part.end)));
        Some(Module::new(mapping.path.display().to_string(), begin..end, self.base, sections))
    }

    fn names(&self, at: u64) -> Vec<String> {
        match &self.exported {
            None => self.symbols.as_ref().map(|symbols| symbols.calls(at)).unwrap_or_default(),
            Some(exported) => exported
                .iter()
                .find(|(range, _)| range.contains(&at))
                .map(|(_, name)| name.clone())
                .into_iter()
                .collect(),
        }
    }
}
