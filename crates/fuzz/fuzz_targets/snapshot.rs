#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| serval_container::fuzz::snapshot(data));
