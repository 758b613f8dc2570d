//! Lives of a source: what the end of one means to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use treecast_overlay::io::Event;
use treecast_overlay::sim::{Contacts, Crash, NetworkModel, NodeIx, What, World};
use treecast_overlay::{Config, Descriptor};
use treecast_tests::oracle::Key;
use treecast_tests::seeds::seeds;

const NODES: usize = 14;
const SOURCE: NodeIx = NodeIx(3);

/// Some nodes that have talked for a while.
struct Talk {
    world: World,
    group: Descriptor,
    said: u64,
}

impl Talk {
    fn of(seed: u64, network: NetworkModel, config: Config, nodes: usize) -> Self {
        let group = Descriptor::open("lives").expect("a good name");
        let mut world = World::new(seed, network);
        (world.config, world.contacts) = (config, Contacts::All);
        for _ in 0..nodes {
            let node = world.add_node(std::slice::from_ref(&group));
            world.start(node, true);
        }
        Self { world, group, said: 0 }
    }

    fn begun(seed: u64) -> Self {
        let mut talk = Self::of(seed, NetworkModel::lan(), Config::lan(), NODES);
        // Links that nobody needs are gone by then: not everybody has one to everybody.
        talk.run_for(40_000);
        for _ in 0..5 {
            talk.say();
        }
        talk.run_for(1_000);
        talk
    }

    fn run_for(&mut self, ms: u64) {
        self.world.run_until(self.world.now() + Duration::from_millis(ms));
    }

    fn say(&mut self) {
        let key = Key { author: SOURCE, n: self.said };
        self.said += 1;
        self.world.publish(SOURCE, self.group.id(), key.payload(40));
        self.run_for(10);
    }

    /// Cut off from these, the source says two things; then it dies.
    fn dies_with_a_tail(&mut self, cut_off_from: &[NodeIx]) {
        self.world.cut(&[SOURCE], cut_off_from);
        self.say();
        self.say();
        self.run_for(50);
        self.world.crash(SOURCE, Crash::Process);
    }

    fn others() -> Vec<NodeIx> {
        (0..NODES).map(NodeIx).filter(|it| *it != SOURCE).collect()
    }

    /// What each other node was given since the last call.
    fn heard(&mut self) -> BTreeMap<NodeIx, Vec<u64>> {
        let mut heard: BTreeMap<NodeIx, Vec<u64>> =
            Self::others().into_iter().map(|it| (it, Vec::new())).collect();
        for record in self.world.take_records() {
            if let What::Event(Event::Deliver { delivery, .. }) = record.what
                && let Some(heard) = heard.get_mut(&record.node)
            {
                heard.extend(delivery.payloads.iter().filter_map(|it| Key::read(it)).map(|it| it.n));
            }
        }
        heard
    }
}

/// What never left its source delays nobody.
#[test]
fn a_tail_that_died_with_its_source_is_not_waited_for() {
    for seed in seeds(5) {
        let mut talk = Talk::begun(seed);
        talk.dies_with_a_tail(&Talk::others());
        talk.run_for(100);
        talk.world.heal();
        talk.run_for(300);
        talk.world.start(SOURCE, true);
        talk.run_for(700);
        talk.heard();
        talk.say();
        talk.run_for(1_500);
        for (node, heard) in talk.heard() {
            assert_eq!(heard, [7], "seed {seed}: {node:?} heard of the new life, after 1.5 s");
        }
    }
}

/// What one member got comes first, although it takes that member long to be back.
#[test]
fn a_tail_that_somebody_holds_is_waited_for() {
    for seed in seeds(5) {
        let mut talk = Talk::begun(seed);
        // One that the source hands its batches to itself.
        let source = talk.world.id(SOURCE);
        let place =
            |talk: &Talk, node| talk.world.view(node, talk.group.id()).expect("it runs").trees.remove(0);
        let next_to = |talk: &Talk, node: &NodeIx| {
            let place = place(talk, *node);
            place.parent == Some(source) || place.children.contains(&source)
        };
        let holder = Talk::others().into_iter().find(|it| next_to(&talk, it)).expect("a tree neighbour");
        let rest: Vec<_> = Talk::others().into_iter().filter(|it| *it != holder).collect();
        talk.world.cut(&[holder], &rest);
        talk.dies_with_a_tail(&rest);
        assert_eq!(talk.heard()[&holder].iter().filter(|it| **it > 4).count(), 2, "seed {seed}");
        // The source is back with the others; the holder is not.
        talk.world.heal();
        let all: Vec<_> = rest.iter().copied().chain([SOURCE]).collect();
        talk.world.cut(&[holder], &all);
        talk.run_for(300);
        talk.world.start(SOURCE, true);
        talk.run_for(700);
        talk.say();
        talk.run_for(8_000);
        talk.world.heal();
        talk.run_for(15_000);
        let heard = talk.heard();
        for node in &rest {
            assert_eq!(heard[node], [5, 6, 7], "seed {seed}: {node:?}");
        }
        assert_eq!(heard[&holder], [7], "seed {seed}");
    }
}

/// Killed after each message while all others are off, a publisher has as many lives to tell of. They are
/// asked for all at once, and its disk answers one question after the other: none is lost on the way.
#[test]
fn many_lives_that_were_missed_come_within_a_second() {
    for lives in [30, 150] {
        let network = NetworkModel { disk_delay: Duration::from_millis(2), ..NetworkModel::lan() };
        // As the ready node has it.
        let config = Config { history: true, max_lives: 64, ..Config::default() };
        let others = [NodeIx(0), NodeIx(1), NodeIx(2)];
        let mut talk = Talk::of(1, network, config, others.len() + 1);
        talk.run_for(4_000);
        talk.say();
        talk.run_for(1_000);
        others.iter().chain([&SOURCE]).for_each(|it| talk.world.crash(*it, Crash::Process));
        for _ in 0..lives {
            talk.world.start(SOURCE, true);
            talk.run_for(1_500);
            talk.say();
            talk.run_for(100);
            talk.world.crash(SOURCE, Crash::Process);
        }
        others.iter().for_each(|it| talk.world.start(*it, true));
        talk.run_for(2_000);
        talk.heard();
        talk.world.start(SOURCE, true);
        talk.run_for(1_500);
        let (heard, wanted) = (talk.heard(), Vec::from_iter(1..=lives));
        others.iter().for_each(|it| assert_eq!(heard[it], wanted, "{lives} lives: {it:?}"));
    }
}
