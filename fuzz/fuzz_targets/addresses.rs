#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shardcast_fuzz::addresses::run(data));
