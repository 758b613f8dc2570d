//! Many runs, and what came of them.

use std::panic::catch_unwind;
use std::sync::Mutex;

use super::{Plan, Size, run};
use crate::seeds::seeds;

/// Whether the run of this seed ends well; says what it saw.
pub fn survives(size: Size, seed: u64) -> bool {
    let plan = Plan::generate(seed, size);
    // A panic is a failure like any other: the other seeds are run all the same.
    let Ok(outcome) = catch_unwind(|| run(&plan)) else { return false };
    let (nodes, deliveries) = (plan.scenario.nodes, outcome.deliveries());
    eprintln!("{size:?} seed {seed}: {nodes} nodes, {deliveries} deliveries, {:?}", outcome.world.traffic());
    for violation in &outcome.violations {
        eprintln!("  seed {seed}: {violation}");
    }
    outcome.violations.is_empty()
}

/// Runs as many seeds as the environment says, on all cores.
///
/// # Panics
/// When one of them does not end well.
pub fn storm(size: Size, default_seeds: u64) {
    let (waiting, failed) = (Mutex::new(seeds(default_seeds).into_iter()), Mutex::new(Vec::new()));
    let next = || waiting.lock().expect("nobody panics with it").next();
    let work = || {
        while let Some(seed) = next() {
            if !survives(size, seed) {
                failed.lock().expect("nobody panics with it").push(seed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut failed = failed.into_inner().expect("nobody panics with it");
    failed.sort_unstable();
    assert!(failed.is_empty(), "{size:?} runs failed; TREECAST_SEED repeats one; seeds: {failed:?}");
}
