//! A library is replaced in each of the ways that people and tools do, under load: no request fails, none gets an old answer.

use std::process::Command;
use std::time::Duration;

use e2e::process;

#[test]
fn no_request_fails_while_a_library_is_replaced_in_every_way() {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_reload-soak"));
    // Long enough for each way to have its turn.
    soak.args(["--seconds", "20", "--connections", "4", "--only-c"]);
    process::run(soak, Duration::from_secs(300)).unwrap();
}
