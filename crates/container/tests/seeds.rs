//! The seeds of `crates/fuzz` go through what the fuzzer calls.

use std::fs;
use std::path::Path;

use serval_container::fuzz;

#[track_caller]
fn replay(target: &str, call: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for seed in fs::read_dir(&seeds).expect("the target has seeds") {
        let path = seed.expect("an entry").path();
        println!("{}", path.display()); // the one that fails is the last
        call(&fs::read(path).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", seeds.display());
}

#[test]
fn seeds() {
    replay("path", fuzz::path_clean_up);
    replay("mapping", fuzz::mapping);
    replay("parameters", fuzz::parameters);
    replay("cookies", fuzz::cookies);
    replay("multipart", fuzz::multipart);
    replay("snapshot", fuzz::snapshot);
}
