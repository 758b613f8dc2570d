//! Coverage-guided runs of `fuzzing::files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| treecast_tests::fuzzing::files(data));
