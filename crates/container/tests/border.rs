//! The seeds of the fuzz target `border`. Needs `cc`.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/border/mod.rs"]
mod border;

#[test]
fn seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/border");
    for seed in fs::read_dir(&seeds).expect("the target has seeds") {
        let path = seed.expect("an entry").path();
        println!("{}", path.display()); // the one that fails is the last
        border::run(&fs::read(path).expect("a file"));
    }
}
