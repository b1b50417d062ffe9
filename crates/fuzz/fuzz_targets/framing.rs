#![no_main]

#[path = "../framing/mod.rs"]
mod framing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| framing::framing(data));
