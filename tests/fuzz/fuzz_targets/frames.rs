//! Coverage-guided runs of `fuzzing::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| treecast_tests::fuzzing::frames(data));
