//! The floor of a total order: what the places of its committee allow (`docs/simulator.md`).

use std::time::Duration;

use super::judge::delays_owed;
use super::measures::round;
use super::runner::Runner;
use crate::sim::meter::{Message, Meter};
use crate::sim::node::NodeIx;

/// Members whose ways count when places are compared, at most, and of how many at the middle the best is sought.
const LISTENERS: usize = 1_000;
const MIDDLE: usize = 200;

/// The mean delivery ÷ the mean of: directly to the leader, one commit, directly to the member. `None` if there is no
/// order, or no leader at the end.
pub(super) fn above_floor(runner: &Runner<'_>, meter: &Meter, placed: &[&Message]) -> Option<f64> {
    let (leader, commit, _) = leader(runner)?;
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

/// The mean way of a message of any member by the committee ÷ by the best committee of as many. `None` if there is
/// no order, or no leader now.
pub(super) fn places(runner: &Runner<'_>) -> Option<f64> {
    let (leader, commit, seats) = leader(runner)?;
    let world = &runner.world;
    let all = world.running();
    let some: Vec<NodeIx> = all.iter().copied().step_by(all.len().div_ceil(LISTENERS)).collect();
    let there_and_back = |a: NodeIx, b: NodeIx| match a == b {
        true => Duration::ZERO,
        false => world.direct(a, b) + world.direct(b, a),
    };
    let mean = |it: NodeIx| {
        some.iter().map(|other| there_and_back(it, *other)).sum::<Duration>() / some.len() as u32
    };
    let mut ways: Vec<(Duration, NodeIx)> = all.iter().map(|it| (mean(*it), *it)).collect();
    ways.sort_unstable();
    let best = ways.iter().take(MIDDLE).map(|(way, node)| {
        let mut trips: Vec<Duration> =
            all.iter().filter(|it| *it != node).map(|it| there_and_back(*node, *it)).collect();
        trips.sort_unstable();
        *way + commit_of(&trips, seats).unwrap_or_default()
    });
    let best = best.min().filter(|it| !it.is_zero())?;
    Some(round((mean(leader) + commit).as_secs_f64() / best.as_secs_f64(), 4))
}

/// Who leads now, how long one commit takes (there and back to the nearest that make a majority with it), and how
/// many have seats.
fn leader(runner: &Runner<'_>) -> Option<(NodeIx, Duration, usize)> {
    let world = &runner.world;
    let views = world.running().into_iter().filter_map(|node| world.view(node, runner.group)?.order);
    let view = views.filter(|it| it.leader.is_some()).max_by_key(|it| it.epoch)?;
    let leader = world.ix(&view.leader?)?;
    let others = view.committee.iter().filter_map(|it| world.ix(it)).filter(|it| *it != leader);
    let there_and_back = |it: NodeIx| world.direct(leader, it) + world.direct(it, leader);
    let mut trips: Vec<Duration> = others.map(there_and_back).collect();
    trips.sort_unstable();
    let seats = view.committee.len();
    Some((leader, commit_of(&trips, seats)?, seats))
}

/// Trips to others, shortest first; those of as many as make a majority count.
fn commit_of(trips: &[Duration], seats: usize) -> Option<Duration> {
    let last = (seats / 2).checked_sub(1);
    last.map_or(Some(Duration::ZERO), |at| trips.get(at).copied())
}
