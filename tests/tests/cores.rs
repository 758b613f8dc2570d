//! Cores: in a group that is spread over the world everybody has one near, a busy source becomes
//! one, and none of them is needed for anything to arrive. All times are the simulator's.

use std::time::Duration;

use treecast_overlay::io::TreeView;
use treecast_overlay::sim::{
    Contacts, Crash, Experiment, Latency, Measures, NetworkModel, NodeIx, What, World,
};
use treecast_overlay::{Config, Descriptor, GroupId, io::Event};
use treecast_tests::seeds::seeds;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Around the world, without relays that beat the direct way.
fn metric() -> NetworkModel {
    let mut network = NetworkModel::regions();
    network.latency = Latency::Regions { noise: 0.0 };
    network
}

fn stretch(seed: u64, cores: Option<usize>) -> f64 {
    let config = Config { cores, ..Config::default() };
    let route = treecast_overlay::Route::TreeShared;
    // Many sources: one may be near the only core by chance.
    let (nodes, sources, network, span) = (200, 25, metric(), s(10));
    let experiment =
        Experiment { seed, nodes, sources, network, config, route, span, ..Experiment::default() };
    let Measures { missing, duplicates, order_violations, stretch, .. } =
        experiment.run().expect("the options are in range");
    assert_eq!((missing, duplicates, order_violations), (0, 0, 0), "seed {seed}");
    stretch.expect("messages were delivered").mean
}

#[test]
fn several_cores_make_shorter_ways_than_one() {
    for seed in seeds(2) {
        let (one, several) = (stretch(seed, Some(1)), stretch(seed, None));
        eprintln!("seed {seed}: {one:.3} with one core, {several:.3} with several");
        assert!(several < one, "seed {seed}");
    }
}

/// From nothing, with all that it costs.
#[test]
fn a_large_group_settles_soon_and_costs_little() {
    for seed in seeds(2) {
        let (nodes, span) = (150, s(10));
        let base = Experiment { seed, nodes, span, ..Experiment::default() };
        let calm = base.run().expect("the options are in range");
        eprintln!("{calm:?}");
        let stretch = calm.stretch.expect("messages were delivered").mean;
        assert!(calm.settled && calm.settled_s <= 45.0, "seed {seed}: settled after {} s", calm.settled_s);
        assert!(stretch <= 1.5, "seed {seed}: {stretch} times the direct way");
        assert!(calm.control_bytes <= 125.0, "seed {seed}: {} bytes a message", calm.control_bytes);
        let kill = Experiment { kill: "relay@8".parse().ok(), ..base }.run().expect("in range");
        let extra = kill.extra_ms.expect("somebody was below it");
        eprintln!("{extra:?}");
        assert_eq!((kill.missing, kill.duplicates), (0, 0), "seed {seed}");
        assert!(extra.p50 <= 200.0, "seed {seed}: half of those below a dead relay waited {} ms", extra.p50);
    }
}

/// Until it feeds all cores itself, the old way stays.
#[test]
fn a_source_that_becomes_a_core_is_no_farther_away_meanwhile() {
    for seed in seeds(3) {
        let talk = |millis| {
            let span = Duration::from_millis(millis);
            let measures = Experiment { seed, nodes: 200, span, ..Experiment::default() }.run();
            measures.expect("the options are in range").stretch.expect("messages were delivered")
        };
        let (before, since) = (talk(300), talk(4_000));
        eprintln!("seed {seed}: {before:?} before, {since:?} until it is one");
        assert!(since.mean <= before.mean * 1.02, "seed {seed}");
        assert!(since.max <= before.max * 1.15, "seed {seed}");
    }
}

/// Members of one group around the world.
struct Globe {
    world: World,
    group: GroupId,
}

impl Globe {
    fn new(seed: u64, nodes: usize, settling: Duration) -> Self {
        let group = Descriptor::open("globe").expect("a good name");
        let mut world = World::new(seed, metric());
        world.contacts = Contacts::Random(8);
        for _ in 0..nodes {
            let node = world.add_node(std::slice::from_ref(&group));
            world.start(node, true);
        }
        world.run_until(world.now() + settling);
        Self { world, group: group.id() }
    }

    fn place(&self, node: NodeIx) -> TreeView {
        self.world.view(node, self.group).expect("it runs").trees.pop().expect("one shared tree")
    }

    /// Next to the root, and counting latency from itself on.
    fn is_core(&self, node: NodeIx) -> bool {
        let place = self.place(node);
        place.parent == Some(place.root) && place.delay.is_zero()
    }

    fn talk(&mut self, talker: NodeIx, span: Duration) {
        let until = self.world.now() + span;
        while self.world.now() < until {
            self.world.publish(talker, self.group, vec![1; 40].into());
            self.world.run_until(self.world.now() + Duration::from_millis(200));
        }
    }
}

#[test]
fn a_busy_source_far_from_the_root_is_a_core_for_as_long() {
    for seed in seeds(3) {
        let mut globe = Globe::new(seed, 40, s(20));
        let far = (0..40).map(NodeIx).max_by_key(|node| globe.place(*node).delay).expect("some");
        assert!(!globe.is_core(far), "seed {seed}: it has said nothing yet");
        globe.talk(far, s(20));
        let is_root = |globe: &Globe| globe.place(far).parent.is_none();
        assert!(globe.is_core(far) || is_root(&globe), "seed {seed}: {:?}", globe.place(far));
        globe.world.run_until(globe.world.now() + s(90));
        assert!(!globe.is_core(far), "seed {seed}: it has been silent for long");
    }
}

/// All cores but the root fall silent at once, then the root.
#[test]
fn a_group_without_its_cores_misses_nothing() {
    for seed in seeds(2) {
        let mut globe = Globe::new(seed, 120, s(40));
        let all = || (0..120).map(NodeIx);
        let cores: Vec<_> = all().filter(|it| globe.is_core(*it)).collect();
        assert!(!cores.is_empty(), "seed {seed}: a group of 120 has several cores");
        let root = globe.world.ix(&globe.place(NodeIx(0)).root).expect("a member");
        let talker = all().find(|it| !cores.contains(it) && *it != root).expect("most are neither");
        globe.world.take_records();
        globe.talk(talker, s(2));
        for core in &cores {
            globe.world.crash(*core, Crash::Host);
        }
        globe.talk(talker, s(5));
        globe.world.crash(root, Crash::Host);
        globe.talk(talker, s(20));
        globe.world.run_until(globe.world.now() + s(20));
        let mut delivered = vec![0; 120];
        for record in globe.world.take_records() {
            if let What::Event(Event::Deliver { delivery, .. }) = &record.what {
                delivered[record.node.0] += delivery.payloads.len();
            }
        }
        let dead = |it: &NodeIx| cores.contains(it) || *it == root;
        let lacking: Vec<_> = all().filter(|it| !dead(it) && delivered[it.0] != 135).collect();
        assert!(lacking.is_empty(), "seed {seed}: {lacking:?} of {delivered:?}");
    }
}
