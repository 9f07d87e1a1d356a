#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cordboard_sip_fuzz::targets::endpoint(data));
