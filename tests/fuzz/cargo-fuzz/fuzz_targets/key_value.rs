#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum_fuzz::targets::key_value::key_value(bytes));
