//! The seeds of the fuzz target `framing`.

#[path = "../../fuzz/framing/mod.rs"]
mod framing;

#[test]
fn seeds() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/framing");
    let mut count = 0;
    for seed in std::fs::read_dir(&seeds).expect("the target has seeds") {
        let seed = seed.expect("a seed").path();
        println!("{}", seed.display());
        framing::framing(&std::fs::read(seed).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", seeds.display());
}
