//! Libraries go when they are replaced, whatever they have left on the threads of the server; and those that cannot go are named with
//! the reason (DESIGN "Generations and reload", ABI.md 8). A soak does the same for long: `reload-soak --library NAME --reloads N`.

use e2e::unloading::{By, CASES};

const RELOADS: usize = 25;

fn check(names: &str) {
    let cases = CASES.iter().filter(|case| case.name.starts_with(names));
    let wrong: Vec<String> =
        cases.filter_map(|case| Some(format!("{:#}", case.run(RELOADS, By::Rename).err()?))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn libraries_in_rust() {
    check("rust-");
}

#[test]
fn libraries_in_c() {
    check("c-");
}

#[test]
fn libraries_in_cpp() {
    check("cpp-");
}
