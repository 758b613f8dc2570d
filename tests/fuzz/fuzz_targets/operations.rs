//! Coverage-guided runs of `fuzzing::operations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| treecast_tests::fuzzing::operations(data));
