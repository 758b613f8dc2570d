//! Halves that were cut off find each other again: soon, and whole.

use std::collections::BTreeSet;
use std::time::Duration;

use treecast_overlay::sim::{Contacts, NetworkModel, NodeIx, World};
use treecast_overlay::{Descriptor, GroupId, Life, NodeId, Seq, Time};
use treecast_tests::invariant::{agreement, bounds, integrity, tree};
use treecast_tests::oracle::Oracle;
use treecast_tests::seeds::seeds;

/// After a cut has healed. A pair that lost each other dials every three seconds, from both sides.
const WHOLE_WITHIN: Duration = Duration::from_secs(5);

struct Torn {
    world: World,
    oracle: Oracle,
    nodes: Vec<NodeIx>,
}

impl Torn {
    fn settled(seed: u64, network: NetworkModel, nodes: usize) -> Self {
        let group = Descriptor::open("torn").expect("a good name");
        let mut world = World::new(seed, network);
        world.contacts = Contacts::Random(3);
        let nodes: Vec<NodeIx> = (0..nodes)
            .map(|_| {
                let node = world.add_node(std::slice::from_ref(&group));
                world.start(node, true);
                node
            })
            .collect();
        let mut torn = Self { world, oracle: Oracle::new(group.id()), nodes };
        torn.run_for(Duration::from_secs(15));
        torn
    }

    fn group(&self) -> GroupId {
        self.oracle.group()
    }

    fn run_for(&mut self, span: Duration) {
        self.world.run_until(self.world.now() + span);
        let records = self.world.take_records();
        self.oracle.take_all(&self.world, &records);
    }

    /// One on each side talks.
    fn talk(&mut self, span: Duration) {
        let until = self.world.now() + span;
        while self.world.now() < until {
            for source in [self.nodes[0], self.nodes[self.nodes.len() - 1]] {
                self.oracle.publish(&mut self.world, source, 100);
            }
            self.run_for(Duration::from_millis(500));
        }
    }

    /// What each has been shown, by source and life.
    fn delivered(&self) -> Vec<BTreeSet<(NodeId, Life, Seq)>> {
        let group = self.group();
        let of = |node: &NodeIx| self.world.view(*node, group).expect("it runs").delivered;
        self.nodes.iter().map(|node| of(node).into_iter().collect()).collect()
    }

    fn is_whole(&self) -> bool {
        self.delivered().windows(2).all(|pair| pair[0] == pair[1])
    }

    /// How long it takes, from now on, until everybody has what anybody has.
    fn whole(&mut self, limit: Duration) -> Duration {
        let start: Time = self.world.now();
        loop {
            self.run_for(Duration::from_millis(100));
            let took = self.world.now().since(start);
            if self.is_whole() {
                return took;
            }
            assert!(took < limit, "not whole after {took:?}");
        }
    }

    fn demand_all(&mut self) {
        // Halves that have met go on looking for nearer parents for a while.
        let tree = tree::check_at_rest(&mut self.world, self.oracle.group());
        let history = &self.oracle.history;
        let all = [integrity::check(history), agreement::check(history), tree, bounds::check(&self.world)];
        assert_eq!(all.into_iter().find(Result::is_err).unwrap_or(Ok(())), Ok(()));
    }
}

fn cut_and_heal(network: NetworkModel, nodes: usize, away: usize, cut: Duration, default_seeds: u64) {
    for seed in seeds(default_seeds) {
        let mut torn = Torn::settled(seed, network.clone(), nodes);
        let (left, right) = torn.nodes.split_at(away);
        let (left, right) = (left.to_vec(), right.to_vec());
        torn.world.cut(&left, &right);
        torn.talk(cut);
        assert!(!torn.is_whole(), "the cut was no cut");
        torn.world.heal();
        let took = torn.whole(WHOLE_WITHIN);
        eprintln!("seed {seed}: {away} of {nodes} away for {cut:?}, whole after {took:?}");
        torn.talk(Duration::from_secs(5));
        torn.run_for(Duration::from_secs(10));
        torn.demand_all();
    }
}

#[test]
fn three_and_three_on_a_lan() {
    cut_and_heal(NetworkModel::lan(), 6, 3, Duration::from_secs(30), 10);
}

#[test]
fn one_of_two_on_a_lan() {
    cut_and_heal(NetworkModel::lan(), 2, 1, Duration::from_secs(30), 10);
}

#[test]
fn ten_and_ten_with_full_views() {
    cut_and_heal(NetworkModel::lan(), 20, 10, Duration::from_secs(60), 2);
}

#[test]
fn thirty_and_thirty_around_the_world() {
    cut_and_heal(NetworkModel::regions(), 60, 30, Duration::from_secs(60), 1);
}
