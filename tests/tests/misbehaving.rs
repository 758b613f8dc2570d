//! Members that misbehave: a tenth of all claim false distances, pass nothing on, tell of what they
//! do not have, or beg. Nobody goes without a message for that, and what it costs is bounded.

use std::time::Duration;

use treecast_overlay::sim::{Experiment, Liars, Lie, Measures};
use treecast_tests::seeds::seeds;

fn run(seed: u64, lie: Lie) -> Measures {
    let liars = Some(Liars { share: 0.1, lie });
    let span = Duration::from_secs(20);
    let experiment = Experiment { seed, nodes: 120, span, liars, ..Experiment::default() };
    let measures = experiment.run().expect("the options are in range");
    let stretch = measures.stretch.expect("messages were delivered");
    let latency = measures.latency_ms.expect("messages were delivered");
    eprintln!(
        "seed {seed}, {lie:?}: stretch {:.2}/{:.2}/{:.2}, p99 {} ms, redundancy {:.3}, control {:.0} B, settled {} s",
        stretch.mean,
        stretch.p99,
        stretch.max,
        latency.p99,
        measures.rmr,
        measures.control_bytes,
        measures.settled_s
    );
    assert_eq!(
        (measures.missing, measures.duplicates, measures.order_violations),
        (0, 0, 0),
        "seed {seed}, {lie:?}"
    );
    measures
}

/// Control bytes that a message may cost each member of an honest group: the goal for the simulator's network.
const HONEST: f64 = 75.0;

/// At most: how many times an honest group's control bytes, how many copies of a batch a member gets, and
/// the stretch. These are bounds, not goals.
fn costs(lie: Lie, control: f64, copies: f64, stretch: f64) {
    for seed in seeds(2) {
        let lied = run(seed, lie);
        assert!(lied.control_bytes <= HONEST * control, "seed {seed}");
        assert!(lied.rmr + 1.0 <= copies, "seed {seed}");
        assert!(lied.stretch.expect("delivered").mean <= stretch, "seed {seed}");
    }
}

#[test]
fn who_claims_a_false_distance_costs_time() {
    costs(Lie::Distance, 5.0, 1.2, 2.5);
}

#[test]
fn who_passes_nothing_on_is_passed_by() {
    costs(Lie::Nothing, 8.0, 1.3, 5.0);
}

#[test]
fn who_always_asks_for_patience_gets_it_once() {
    costs(Lie::Hold, 3.0, 1.1, 2.0);
}

#[test]
fn who_tells_of_what_it_lacks_is_asked_in_vain() {
    costs(Lie::Boast, 6.0, 1.3, 3.0);
}

#[test]
fn who_begs_gets_what_it_asks_for_and_no_more() {
    costs(Lie::Beg, 3.0, 6.0, 3.0);
}
