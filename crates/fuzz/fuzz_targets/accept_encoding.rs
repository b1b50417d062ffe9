#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| serval_static_files::fuzz::accept_encoding(data));
