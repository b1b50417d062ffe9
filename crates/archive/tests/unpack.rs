//! What is unpacked, and what is refused.

mod made;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use made::{Looks, Made, bad};
use serval_archive::{Facts, Limits, fuzz, unpack};

const LIMITS: Limits = Limits { bytes_max: 4 << 20, ratio_max: 100, entry_count_max: 1000, depth_max: 20 };

#[test]
fn all_that_is_bad_is_refused_and_leaves_nothing() {
    for (what, bytes, expected) in bad() {
        let home = tempfile::tempdir().unwrap();
        let (file, into) = (home.path().join("a.war"), home.path().join("inner/into"));
        fs::write(&file, &bytes).unwrap();
        fs::create_dir(home.path().join("inner")).unwrap();
        let refusal = match unpack(&file, &into, &LIMITS) {
            Ok(facts) => panic!("{what}: {facts:?}"),
            Err(refusal) => refusal.to_string(),
        };
        assert!(refusal.contains(expected) && !expected.is_empty(), "{what}: {refusal}");
        assert_eq!(fs::read_dir(home.path().join("inner")).unwrap().count(), 0, "{what}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "{what}");
        fuzz::archive(&bytes);
    }
}

fn unpacked(bytes: &[u8], look: impl FnOnce(Facts, &Path)) {
    let home = tempfile::tempdir().unwrap();
    let (file, into) = (home.path().join("a.war"), home.path().join("into"));
    fs::write(&file, bytes).unwrap();
    let facts = unpack(&file, &into, &LIMITS).unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "nothing else is left");
    look(facts, &into);
    fuzz::archive(bytes);
}

#[test]
fn files_and_folders_as_they_are() {
    let stored = Looks { is_stored: true, ..Looks::default() };
    let bytes = Made::new()
        .folder("empty/")
        .file("WEB-INF/lib/libshop.so", "library")
        .folder("WEB-INF/")
        .looking("größe.txt", "stored", stored)
        .file("nothing", "")
        .bytes();
    unpacked(&bytes, |facts, into| {
        assert_eq!(facts, Facts { files: 3, folders: 3, bytes: 13 });
        assert!(into.join("empty").is_dir());
        assert_eq!(fs::read_to_string(into.join("WEB-INF/lib/libshop.so")).unwrap(), "library");
        assert_eq!(fs::read_to_string(into.join("größe.txt")).unwrap(), "stored");
        assert_eq!(fs::metadata(into.join("nothing")).unwrap().len(), 0);
    });
    unpacked(&Made::new().bytes(), |facts, into| {
        assert_eq!(facts, Facts::default());
        assert!(into.is_dir());
    });
}

#[test]
fn modes_are_ordinary_and_times_are_the_archives() {
    let looks = |mode, modified| Looks { mode: Some(mode), modified, ..Looks::default() };
    let time = 1_700_000_001;
    let bytes = Made::new()
        .looking("rooted", "", looks(0o106_777, Some(time)))
        .looking("plain", "", looks(0o100_600, Some(time)))
        .looking("build", "", looks(0o100_600, Some(315_532_800))) // 1980, as builds write that are to be repeatable
        .bytes();
    unpacked(&bytes, |_, into| {
        let of = |name| fs::metadata(into.join(name)).unwrap();
        assert_eq!(of("rooted").permissions().mode() & 0o7_711, 0o711 & of("rooted").permissions().mode());
        assert_eq!(of("rooted").permissions().mode() & 0o7_022, 0, "nobody else writes, and it is nobody's program");
        assert_eq!(of("plain").permissions().mode() & 0o7_133, 0);
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(time as u64);
        assert_eq!(of("plain").modified().unwrap(), expected);
        let archive = fs::metadata(into.with_file_name("a.war")).unwrap();
        assert_eq!(of("build").modified().unwrap(), archive.modified().unwrap());
    });
}

#[test]
fn what_is_within_the_limits_to_the_last_is_taken() {
    let files = (0..499).fold(Made::new(), |made, number| made.file(format!("{number}/x"), ""));
    let deep = format!("{}x", "0/".repeat(19));
    let bytes = files.file("0/y", "").file("0/z", "").bytes();
    unpacked(&bytes, |facts, _| assert_eq!(facts, Facts { files: 501, folders: 499, bytes: 0 }));
    unpacked(&Made::new().file(deep, "").bytes(), |facts, _| assert_eq!(facts.folders, 19));
    let stored = Looks { is_stored: true, ..Looks::default() };
    let bytes = Made::new().looking("all", vec![7; 4 << 20], stored).bytes();
    unpacked(&bytes, |facts, _| assert_eq!(facts.bytes, 4 << 20));
}

#[test]
fn what_is_there_is_not_touched() {
    let home = tempfile::tempdir().unwrap();
    let (file, into) = (home.path().join("a.war"), home.path().join("into"));
    fs::write(&file, Made::new().file("a", "new").bytes()).unwrap();
    fs::create_dir(&into).unwrap();
    let refusal = unpack(&file, &into, &LIMITS).unwrap_err();
    assert!(refusal.is_of_the_system(), "{refusal}");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
    let refusal = unpack(home.path(), &home.path().join("new"), &LIMITS).unwrap_err();
    assert_eq!(refusal.to_string(), "is not an ordinary file");
    let refusal = unpack(&home.path().join("gone"), &home.path().join("new"), &LIMITS).unwrap_err();
    assert!(refusal.is_of_the_system(), "{refusal}");
}

/// The seeds of `crates/fuzz` go through what the fuzzer calls.
#[test]
fn seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/archive");
    let mut count = 0;
    for seed in fs::read_dir(&seeds).expect("the target has seeds") {
        let path = seed.expect("an entry").path();
        println!("{}", path.display()); // the one that fails is the last
        fuzz::archive(&fs::read(path).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", seeds.display());
}
