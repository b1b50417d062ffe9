//! What the fuzzer, and the test that replays its seeds, call.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Facts, Limits, name};

/// An archive. What is taken is within the limits and has no two names that some file system takes for one; what is refused leaves
/// nothing.
pub fn archive(bytes: &[u8]) {
    let home = new_home();
    std::fs::create_dir(&home).expect("a folder of our own");
    let (file, into) = (home.join("a.zip"), home.join("into"));
    std::fs::write(&file, bytes).expect("a file of our own");
    let limits = Limits { bytes_max: 1 << 22, ratio_max: 50, entry_count_max: 64, depth_max: 6 };
    let unpacked = crate::unpack(&file, &into, &limits);
    let beside: Vec<_> =
        std::fs::read_dir(&home).expect("our folder").flatten().map(|entry| entry.file_name()).collect();
    match unpacked {
        Ok(facts) => {
            assert_eq!(beside.len(), 2, "{beside:?}");
            let mut found = Found::default();
            found.look(&into, "", 1, &limits);
            assert_eq!(found.facts, facts);
            assert!(facts.bytes <= limits.bytes_max && facts.files + facts.folders <= limits.entry_count_max);
            assert!(facts.bytes <= 1 << 20 || facts.bytes / bytes.len() as u64 <= limits.ratio_max);
        }
        Err(refusal) => {
            assert_eq!(beside, ["a.zip"], "{refusal}");
            assert!(!refusal.is_of_the_system(), "{refusal}");
            let sentence = refusal.to_string();
            assert!(!sentence.contains(char::is_control) && sentence.len() < 2048, "{sentence:?}");
        }
    }
    std::fs::remove_dir_all(&home).expect("our folder goes");
}

#[derive(Default)]
struct Found {
    facts: Facts,
    names: HashSet<String>,
}

impl Found {
    fn look(&mut self, folder: &Path, within: &str, depth: usize, limits: &Limits) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = format!("{within}{}", entry.file_name().to_str().expect("UTF-8"));
            assert!(depth <= limits.depth_max && self.names.insert(name::folded(&path)), "{path}");
            let found = entry.metadata().expect("what it is");
            if found.is_dir() {
                self.facts.folders += 1;
                self.look(&entry.path(), &format!("{path}/"), depth + 1, limits);
            } else {
                assert!(found.is_file(), "{path} is a link or worse");
                self.facts.files += 1;
                self.facts.bytes += found.len();
            }
        }
    }
}

fn new_home() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("serval-fuzz-archive-{}-{number}", std::process::id()))
}
