//! Determinism: a run is a function of its seed. The same seed gives the same trace, to the
//! bit, twice in this process and in a process of its own (where addresses, hash seeds and
//! clocks are others).

use std::process::Command;

use treecast_tests::chaos::{Plan, Size, run};
use treecast_tests::seeds::seeds;

fn trace(seed: u64) -> String {
    run(&Plan::generate(seed, Size::Small)).world.trace_hash()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in seeds(2) {
        let first = trace(seed);
        assert_eq!(first, trace(seed), "seed {seed}, twice in one process");

        let other = Command::new(env!("CARGO_BIN_EXE_trace")).arg(seed.to_string()).output();
        let other = other.expect("the trace program runs");
        assert_eq!(first, String::from_utf8_lossy(&other.stdout).trim(), "seed {seed}, in two processes");
    }
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(trace(0), trace(1));
}
