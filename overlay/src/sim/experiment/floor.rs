//! The floor of a total order: what the places of its committee allow (`docs/simulator.md`).

use std::time::Duration;

use super::judge::delays_owed;
use super::measures::round;
use super::runner::Runner;
use crate::sim::meter::{Message, Meter};
use crate::sim::node::NodeIx;

/// The mean delivery ÷ the mean of: directly to the leader, one commit, directly to the member. `None` if there is no
/// order, or no leader at the end.
pub(super) fn above_floor(runner: &Runner<'_>, meter: &Meter, placed: &[&Message]) -> Option<f64> {
    let (leader, commit) = leader(runner)?;
    let way = |from: NodeIx, to: NodeIx| match from == to {
        true => Duration::ZERO,
        false => runner.world.direct(from, to),
    };
    let (mut taken, mut floor) = (Duration::ZERO, Duration::ZERO);
    for message in placed {
        let source = meter.ledger.node_of(message.source);
        for (node, delay) in delays_owed(runner, meter, message) {
            taken += Duration::from_micros(u64::from(delay));
            floor += way(source, leader) + commit + way(leader, node);
        }
    }
    (!floor.is_zero()).then(|| round(taken.as_secs_f64() / floor.as_secs_f64(), 4))
}

/// Who leads at the end, and how long one commit takes: there and back to the nearest that make a majority with it.
fn leader(runner: &Runner<'_>) -> Option<(NodeIx, Duration)> {
    let world = &runner.world;
    let views = world.running().into_iter().filter_map(|node| world.view(node, runner.group)?.order);
    let view = views.filter(|it| it.leader.is_some()).max_by_key(|it| it.epoch)?;
    let leader = world.ix(&view.leader?)?;
    let others = view.committee.iter().filter_map(|it| world.ix(it)).filter(|it| *it != leader);
    let there_and_back = |it: NodeIx| world.direct(leader, it) + world.direct(it, leader);
    let mut trips: Vec<Duration> = others.map(there_and_back).collect();
    trips.sort_unstable();
    let commit = (view.committee.len() / 2)
        .checked_sub(1)
        .map_or(Some(Duration::ZERO), |at| trips.get(at).copied())?;
    Some((leader, commit))
}
