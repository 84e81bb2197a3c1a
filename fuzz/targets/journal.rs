#![no_main]

#[path = "../../tests/fuzz/journal.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
