//! Without misfortune there is nothing to repair: what a working group costs and what it
//! must not say.

use std::time::Duration;

use treecast_overlay::io::Event;
use treecast_overlay::sim::{Contacts, NetworkModel, NodeIx, Record, Report, What, World};
use treecast_overlay::{Descriptor, GroupId, Time};
use treecast_tests::invariant::{agreement, bounds, causality, fifo, integrity, membership, tree, validity};
use treecast_tests::oracle::Oracle;
use treecast_tests::seeds::seeds;

/// A group that has had the time to settle.
struct Calm {
    world: World,
    oracle: Oracle,
    records: Vec<Record>,
}

impl Calm {
    fn settled(seed: u64, network: NetworkModel, nodes: usize) -> Self {
        let group = Descriptor::open("calm").expect("a good name");
        let mut world = World::new(seed, network);
        world.contacts = Contacts::Random(3);
        for _ in 0..nodes {
            let node = world.add_node(std::slice::from_ref(&group));
            world.start(node, true);
        }
        let mut calm = Self { world, oracle: Oracle::new(group.id()), records: Vec::new() };
        // A large tree takes longer: who moves moves all that are below.
        calm.run_for(Duration::from_secs(15 + nodes as u64 / 10));
        calm
    }

    fn group(&self) -> GroupId {
        self.oracle.group()
    }

    fn run_for(&mut self, span: Duration) {
        self.world.run_until(self.world.now() + span);
        let records = self.world.take_records();
        self.oracle.take_all(&self.world, &records);
        self.records.extend(records);
    }

    /// One source, ten messages a second of 1 KiB.
    fn talk(&mut self, source: NodeIx, span: Duration) {
        let until = self.world.now() + span;
        while self.world.now() < until {
            self.oracle.publish(&mut self.world, source, 1_024);
            self.run_for(Duration::from_millis(100));
        }
    }

    /// Batches received, and received again, so far and by all.
    fn receptions(&self) -> (u64, u64) {
        let views = self.world.running().into_iter().filter_map(|node| self.world.view(node, self.group()));
        views.fold((0, 0), |sum, view| (sum.0 + view.received, sum.1 + view.duplicates))
    }

    fn demand_all(&mut self) {
        let group = self.group();
        let tree = tree::check_at_rest(&mut self.world, group);
        let history = &self.oracle.history;
        let all = [
            integrity::check(history),
            validity::check(history),
            agreement::check(history),
            fifo::check(history),
            causality::check(history),
            tree,
            bounds::check(&self.world),
            membership::check(&self.world, self.group(), &history.left()),
        ];
        assert_eq!(all.into_iter().find(Result::is_err).unwrap_or(Ok(())), Ok(()));
    }

    fn alarms(&self, since: Time) -> Vec<&Record> {
        let late = self.records.iter().filter(|record| record.time >= since);
        late.filter(|record| is_alarm(&record.what)).collect()
    }
}

/// Holes that were filled at once: a place in the tree changed while a batch was on its way.
fn hiccups(records: &[Record]) -> usize {
    records.iter().filter(|it| matches!(it.what, What::Event(Event::Gap { lost: false, .. }))).count()
}

fn is_alarm(what: &What) -> bool {
    matches!(
        what,
        What::Event(
            Event::Gap { lost: true, .. }
                | Event::MemberFailed { .. }
                | Event::MemberOffline { .. }
                | Event::Lagged { .. }
                | Event::Overloaded { .. }
                | Event::Forked { .. }
        )
    )
}

fn calm(network: NetworkModel, nodes: usize, default_seeds: u64, latest: Duration) {
    for seed in seeds(default_seeds) {
        eprintln!("seed {seed}: {nodes} nodes");
        let mut calm = Calm::settled(seed, network.clone(), nodes);
        let (started, before) = (calm.world.now(), calm.receptions());
        calm.talk(NodeIx(nodes / 2), Duration::from_secs(10));
        calm.run_for(Duration::from_secs(3));
        let after = calm.receptions();
        let report = Report::of(&calm.records);
        let redundancy = (after.1 - before.1) as f64 / (after.0 - before.0) as f64;

        let idle_from = calm.world.traffic();
        calm.run_for(Duration::from_secs(20));
        let idle = (calm.world.traffic().bytes - idle_from.bytes) / 20 / nodes as u64;
        eprintln!("  {report:?}, redundancy {redundancy:.4}, idle {idle} bytes/s a node");

        calm.demand_all();
        assert_eq!(report.deliveries, report.messages * nodes, "all have all");
        assert!(redundancy <= 0.02, "redundancy {redundancy}");
        assert!(report.latency.max <= latest, "{report:?}");
        let late: Vec<Record> = calm.records.iter().filter(|it| it.time >= started).cloned().collect();
        assert!(hiccups(&late) * 100 <= report.deliveries, "{} holes", hiccups(&late));
        assert!(calm.alarms(started).is_empty(), "{:?}", calm.alarms(started));
    }
}

#[test]
fn ten_on_a_lan() {
    calm(NetworkModel::lan(), 10, 3, Duration::from_millis(100));
}

#[test]
fn thirty_around_the_world() {
    calm(NetworkModel::regions(), 30, 2, Duration::from_millis(1_000));
}

#[test]
fn two_hundred_around_the_world() {
    calm(NetworkModel::regions(), 200, 1, Duration::from_millis(2_000));
}
