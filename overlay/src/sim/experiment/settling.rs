//! When a group has settled: every member is ready, and the mean delay along its tree stands still.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::id::GroupId;
use crate::io::TreeId;
use crate::sim::node::NodeIx;
use crate::sim::world::World;
use crate::time::Time;

/// Over so long…
pub(super) const STEADY_FOR: Duration = Duration::from_secs(5);
/// …the mean tree delay may vary by this share.
const STEADY: f64 = 0.01;

/// Mean tree delays of late.
#[derive(Debug, Default)]
pub(super) struct Settling {
    samples: VecDeque<(Time, f64)>,
}

impl Settling {
    /// Takes the mean tree delay as it is now, `None` while some member has no way to a root.
    /// Whether the group has settled.
    pub(super) fn sample(&mut self, now: Time, mean: Option<f64>) -> bool {
        let Some(mean) = mean else {
            self.samples.clear();
            return false;
        };
        self.samples.push_back((now, mean));
        while self.samples.get(1).is_some_and(|(at, _)| now.since(*at) >= STEADY_FOR) {
            self.samples.pop_front();
        }
        let spans = self.samples.front().is_some_and(|(at, _)| now.since(*at) >= STEADY_FOR);
        spans && self.samples.iter().all(|(_, it)| (it - mean).abs() <= STEADY * mean)
    }
}

/// The mean, over members and their trees, of the time from the root along parents, as the
/// network has it (not as the members believe), seconds. `None` if some way leads nowhere.
pub(super) fn mean_tree_delay(world: &World, group: GroupId) -> Option<f64> {
    let mut parents = BTreeMap::new();
    for node in world.running() {
        let trees = world.trees(node, group);
        if trees.is_empty() {
            return None;
        }
        for view in trees {
            let is_root = view.root == world.id(node);
            let parent = if is_root { None } else { Some(view.parent.and_then(|it| world.ix(&it))?) };
            parents.insert((view.tree, node), parent);
        }
    }
    let mut delays = BTreeMap::new();
    for place in parents.keys() {
        delay_of(world, &parents, &mut delays, *place)?;
    }
    Some(delays.values().sum::<f64>() / delays.len().max(1) as f64)
}

type Place = (TreeId, NodeIx);

/// Walks up to a root or to where the delay is known, and fills in what it passed.
fn delay_of(
    world: &World,
    parents: &BTreeMap<Place, Option<NodeIx>>,
    delays: &mut BTreeMap<Place, f64>,
    place: Place,
) -> Option<()> {
    let (tree, mut node) = place;
    let mut way = Vec::new();
    let mut delay = loop {
        if let Some(known) = delays.get(&(tree, node)) {
            break *known;
        }
        way.push(node);
        match parents.get(&(tree, node))? {
            None => break 0.0,
            // A loop.
            Some(_) if way.len() > parents.len() => return None,
            Some(parent) => node = *parent,
        }
    };
    for node in way.into_iter().rev() {
        if let Some(parent) = parents[&(tree, node)] {
            delay += world.direct(parent, node).as_secs_f64();
        }
        delays.insert((tree, node), delay);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled_at(means: &[Option<f64>]) -> Option<usize> {
        let mut settling = Settling::default();
        means
            .iter()
            .enumerate()
            .position(|(second, mean)| settling.sample(Time::from_micros(second as u64 * 1_000_000), *mean))
    }

    #[test]
    fn settled_is_five_seconds_without_a_change_of_one_percent() {
        assert_eq!(settled_at(&[Some(1.0); 8]), Some(5));
        let moves = [1.0, 1.0, 1.0, 1.02, 1.02, 1.02, 1.02, 1.02, 1.02];
        assert_eq!(settled_at(&moves.map(Some)), Some(8));
        let drifts = [1.0, 1.004, 1.008, 1.012, 1.016, 1.020];
        assert_eq!(settled_at(&drifts.map(Some)), None);
        let mut orphan = [Some(1.0); 9];
        orphan[2] = None;
        assert_eq!(settled_at(&orphan), Some(8));
    }
}
