//! Many seeds of all kinds of faults in a total order; and faults of our own making, each of which the same seeds
//! find. `TREECAST_SEED=N` repeats one run, `TREECAST_SEEDS=K` sets how many there are.

use std::panic::catch_unwind;

use treecast_overlay::mutants::{self, Mutant};
use treecast_tests::chaos::{Plan, Size, run, storm, survives};

/// By night: `./scripts/order`.
const SEEDS: u64 = 100;

#[test]
fn ordered_groups() {
    storm(Size::Ordered, SEEDS);
}

/// Seeds of the nightly run that once failed: a leader with an old copy of its disk was believed (106); who left a group
/// as its links broke was shown as online for ever (891, 1954); a founder that had left founded its order again (1183).
#[test]
fn once_failed() {
    let failed: Vec<u64> =
        [106, 891, 1183, 1954].into_iter().filter(|seed| !survives(Size::Ordered, *seed)).collect();
    assert!(failed.is_empty(), "runs failed: {failed:?}");
}

/// The first of the seeds that CI runs in which something does not hold, with this fault in all engines.
fn is_caught(mutant: Mutant) {
    for seed in 0..SEEDS {
        let plan = Plan::generate(seed, Size::Ordered);
        // An engine that panics is found as well.
        let outcome = catch_unwind(|| mutants::with(mutant, || run(&plan)));
        let first = match &outcome {
            Ok(outcome) => outcome.violations.first().cloned(),
            Err(_) => Some("it panicked".to_owned()),
        };
        if let Some(first) = first {
            eprintln!("{mutant:?} is caught by seed {seed}: {first}");
            return;
        }
    }
    panic!("{mutant:?} is caught by none of {SEEDS} seeds");
}

#[test]
fn who_accepts_without_payload_is_caught() {
    is_caught(Mutant::AcceptWithoutPayload);
}

#[test]
fn who_skips_a_persist_is_caught() {
    is_caught(Mutant::SkipPersist);
}

#[test]
fn who_reuses_a_life_is_caught() {
    is_caught(Mutant::ReuseLife);
}

#[test]
fn who_expands_in_the_order_of_arrival_is_caught() {
    is_caught(Mutant::ExpandInArrivalOrder);
}

#[test]
fn who_votes_across_epochs_is_caught() {
    is_caught(Mutant::VoteAcrossEpochs);
}
