//! A network that loses batches and frontiers for good: one of a subtree asks for what was lost there, and
//! who has what never looks like a fork.

use std::time::Duration;

use treecast_overlay::sim::{Experiment, NetworkModel};
use treecast_tests::seeds::seeds;

#[test]
fn what_datagrams_lose_comes_soon_and_once() {
    let mut copies = Vec::new();
    for seed in seeds(3) {
        let network = NetworkModel { loss: 0.05, ..NetworkModel::regions().datagrams() };
        let span = Duration::from_secs(30);
        let experiment = Experiment { seed, nodes: 120, span, network, ..Experiment::default() };
        let measures = experiment.run().expect("the options are in range");
        let stretch = measures.stretch.expect("messages were delivered").mean;
        eprintln!(
            "seed {seed}: stretch {stretch:.2}, redundancy {:.3}, control {:.0} B",
            measures.rmr, measures.control_bytes
        );
        let lost = (measures.missing, measures.duplicates, measures.order_violations);
        assert_eq!(lost, (0, 0, 0), "seed {seed}");
        copies.push(measures.rmr);
        assert!(stretch <= 1.7, "seed {seed}: {stretch}");
    }
    // MODEL.md's goal for copies, which single trees of this size miss by a little; that for delay is not always reached.
    let mean = copies.iter().sum::<f64>() / copies.len() as f64;
    assert!(mean <= 0.08 && copies.iter().all(|it| *it <= 0.1), "{copies:?}");
}

/// Everything at once: a tenth of the members replaced each second, losses, repetition, many sources.
#[test]
fn churn_loses_repeats_and_reorders_nothing_that_is_owed() {
    for (seed, is_lossy) in seeds(1).into_iter().flat_map(|seed| [(seed, false), (seed, true)]) {
        let network = NetworkModel { loss: 0.05, duplicate: 0.05, ..NetworkModel::regions() };
        let network = if is_lossy { network.datagrams() } else { network };
        let span = Duration::from_secs(15);
        let churn =
            Experiment { seed, nodes: 40, span, network, churn: 0.1, sources: 10, ..Experiment::default() };
        let measures = churn.run().expect("the options are in range");
        let wrong = (measures.missing, measures.duplicates, measures.order_violations);
        eprintln!("seed {seed}, datagrams {is_lossy}: {wrong:?} of {}", measures.owed);
        assert_eq!(wrong, (0, 0, 0), "seed {seed}, datagrams {is_lossy}");
    }
}
