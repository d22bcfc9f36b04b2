#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum_fuzz::targets::peer_message::peer_message(bytes));
