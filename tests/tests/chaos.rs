//! Many seeds of generated misfortune; after each, all that must hold is demanded.
//! `TREECAST_SEED=N` repeats one run, `TREECAST_SEEDS=K` sets how many there are.

use treecast_tests::chaos::{Plan, Size, run};
use treecast_tests::seeds::seeds;

fn storm(size: Size, default_seeds: u64) {
    let mut failed = Vec::new();
    for seed in seeds(default_seeds) {
        let plan = Plan::generate(seed, size);
        let outcome = run(&plan);
        eprintln!(
            "{size:?} seed {seed}: {} nodes, {} deliveries, {:?}",
            plan.scenario.nodes,
            outcome.deliveries(),
            outcome.world.traffic()
        );
        for violation in &outcome.violations {
            eprintln!("  seed {seed}: {violation}");
        }
        if !outcome.violations.is_empty() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "{size:?} runs failed; TREECAST_SEED repeats one; seeds: {failed:?}");
}

#[test]
fn tiny_groups() {
    storm(Size::Tiny, 40);
}

#[test]
fn small_groups() {
    storm(Size::Small, 15);
}

#[test]
fn large_groups() {
    storm(Size::Large, 1);
}
