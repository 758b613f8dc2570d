//! One network, for the hosts and for the simulator.

use std::time::Duration;

use treecast_overlay::sim::{NetworkModel, World};

/// Where everybody is.
pub(crate) struct Network {
    /// From the row's host to the column's.
    pub(crate) one_way: Vec<Vec<Duration>>,
    /// Of each host's uplink.
    pub(crate) mbit: Vec<u64>,
}

impl Network {
    /// So many places around the world, with the uplinks that people have there.
    pub(crate) fn draw(seed: u64, nodes: usize) -> Self {
        let mut world = World::new(seed, NetworkModel::regions());
        let places: Vec<_> = (0..nodes).map(|_| world.add_node(&[])).collect();
        let way = |from, to| if from == to { Duration::ZERO } else { world.one_way(from, to) };
        let row = |from| places.iter().map(|to| way(from, *to)).collect();
        Self {
            one_way: places.iter().map(|from| row(*from)).collect(),
            mbit: places.iter().map(|place| world.uplink(*place) * 8 / 1_000_000).collect(),
        }
    }

    pub(crate) fn model(&self) -> NetworkModel {
        NetworkModel::matrix(self.one_way.len(), |low, high| self.one_way[low][high])
    }

    pub(crate) fn way_ms(&self, from: usize, to: usize) -> f64 {
        self.one_way[from][to].as_secs_f64() * 1_000.0
    }

    /// The ways from one place to all along the edges to parents, given by place; `None` where none leads.
    pub(crate) fn along_ms(&self, parents: &[Option<usize>], from: usize) -> Vec<Option<f64>> {
        let mut ways = vec![None; parents.len()];
        let mut next = vec![(from, 0.0)];
        while let Some((at, way)) = next.pop() {
            ways[at] = Some(way);
            let neighbours = (0..parents.len()).filter(|it| parents[*it] == Some(at)).chain(parents[at]);
            next.extend(
                neighbours.filter(|it| ways[*it].is_none()).map(|it| (it, way + self.way_ms(at, it))),
            );
        }
        ways
    }

    /// The mean of those; `None` unless all can be reached.
    pub(crate) fn mean_along_ms(&self, parents: &[Option<usize>], from: usize) -> Option<f64> {
        let ways: Vec<f64> = self.along_ms(parents, from).into_iter().collect::<Option<_>>()?;
        Some(ways.iter().sum::<f64>() / (ways.len() - 1) as f64)
    }

    /// The mean direct way to all others.
    pub(crate) fn mean_direct_ms(&self, from: usize) -> f64 {
        let nodes = self.one_way.len();
        (0..nodes).map(|to| self.way_ms(from, to)).sum::<f64>() / (nodes - 1) as f64
    }
}
