//! The tree's manners: it rests where nothing changes, moves when something does, and heals at
//! once when a parent goes. All times are the simulator's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use treecast_overlay::io::{Event, ParentReason, TreeId, TreeView};
use treecast_overlay::sim::{Contacts, Crash, Latency, NetworkModel, NodeIx, Record, What, World};
use treecast_overlay::{Config, Descriptor, GroupId, NodeId, Rng, Time};
use treecast_tests::invariant::tree;
use treecast_tests::seeds::seeds;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Some nodes in one group.
struct Wood {
    world: World,
    group: GroupId,
    records: Vec<Record>,
}

impl Wood {
    /// Any two hear of each other at once and both dial: two links between them.
    fn doubly_linked(seed: u64, network: NetworkModel, nodes: usize, settling: Duration) -> Self {
        let mut wood = Self::planted(seed, network, nodes, Contacts::Nobody);
        for (a, b) in (0..nodes).flat_map(|a| (0..a).map(move |b| (NodeIx(a), NodeIx(b)))) {
            wood.world.discover(a, b);
            wood.world.discover(b, a);
        }
        wood.run_for(settling);
        wood
    }

    fn grown(seed: u64, network: NetworkModel, nodes: usize, settling: Duration) -> Self {
        let mut wood = Self::planted(seed, network, nodes, Contacts::All);
        wood.run_for(settling);
        wood
    }

    fn planted(seed: u64, network: NetworkModel, nodes: usize, contacts: Contacts) -> Self {
        Self::planted_with(Config::lan(), seed, network, nodes, contacts)
    }

    fn planted_with(
        config: Config,
        seed: u64,
        network: NetworkModel,
        nodes: usize,
        contacts: Contacts,
    ) -> Self {
        let group = Descriptor::open("wood").expect("a good name");
        let mut world = World::new(seed, network);
        world.config = config;
        world.contacts = contacts;
        for _ in 0..nodes {
            let node = world.add_node(std::slice::from_ref(&group));
            world.start(node, true);
        }
        Self { world, group: group.id(), records: Vec::new() }
    }

    fn run_for(&mut self, span: Duration) {
        self.world.run_until(self.world.now() + span);
        self.records.extend(self.world.take_records());
    }

    /// A line every 50 ms.
    fn talk(&mut self, talker: NodeIx, span: Duration) {
        let until = self.world.now() + span;
        while self.world.now() < until {
            self.world.publish(talker, self.group, vec![1; 40].into());
            self.run_for(ms(50));
        }
    }

    fn place(&self, node: NodeIx) -> TreeView {
        let mut view = self.world.view(node, self.group).expect("it runs");
        view.trees.pop().expect("one shared tree")
    }

    fn parent(&self, node: NodeIx) -> Option<NodeIx> {
        self.place(node).parent.and_then(|parent| self.world.ix(&parent))
    }

    /// What was told of places, since a moment.
    fn told(&self, since: Time) -> Vec<Told> {
        let told = |record: &Record| match &record.what {
            What::Event(Event::ParentChanged { tree, from, to, reason, .. }) => {
                let TreeId::Core(root) = tree else { panic!("a shared tree: {tree:?}") };
                let (time, node) = (record.time, record.node);
                Some(Told { time, node, root: *root, from: *from, to: *to, reason: *reason })
            }
            _ => None,
        };
        self.records.iter().filter(|it| it.time >= since).filter_map(told).collect()
    }

    /// Latency from the root, by the tree's true edges.
    fn depth(&self, node: NodeIx) -> Duration {
        let (mut at, mut sum) = (node, Duration::ZERO);
        while let Some(parent) = self.parent(at) {
            sum += self.world.one_way(at, parent);
            at = parent;
        }
        sum
    }

    fn is_below(&self, node: NodeIx, above: NodeIx) -> bool {
        let mut at = Some(node);
        while let Some(it) = at {
            if it == above {
                return true;
            }
            at = self.parent(it);
        }
        false
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Told {
    time: Time,
    node: NodeIx,
    root: NodeId,
    from: Option<NodeId>,
    to: Option<NodeId>,
    reason: ParentReason,
}

/// A LAN of busy machines: what a frame takes is mostly waiting for a processor.
fn busy_lan() -> NetworkModel {
    NetworkModel { jitter: ms(5), ..NetworkModel::lan() }
}

#[test]
fn an_idle_group_rests_although_round_trips_differ() {
    for seed in seeds(4) {
        let mut wood = Wood::grown(seed, busy_lan(), 20, Duration::from_secs(60));
        let (from, minutes) = (wood.world.now(), 5);
        wood.run_for(Duration::from_secs(60 * minutes));
        let told = wood.told(from);
        eprintln!("seed {seed}: {} changes in {minutes} minutes", told.len());
        assert!(told.len() as u64 <= 3 * minutes, "seed {seed}: {} changes: {told:#?}", told.len());
        assert_eq!(tree::check_at_rest(&mut wood.world, wood.group), Ok(()), "seed {seed}");
    }
}

/// Everybody's neighbours are no better parents than the one it has, by more than what noise hides.
#[test]
fn who_is_really_nearer_wins() {
    for seed in seeds(4) {
        let network = NetworkModel { jitter: ms(5), ..NetworkModel::uniform(ms(1), ms(80)) };
        let mut wood = Wood::grown(seed, network, 20, Duration::from_secs(5));
        let depths = |wood: &Wood| (0..20).map(|node| wood.depth(NodeIx(node))).sum::<Duration>() / 20;
        let before = depths(&wood);
        wood.run_for(Duration::from_secs(175));
        eprintln!(
            "seed {seed}: mean latency from the root {before:?} after 5 s, {:?} after 180 s",
            depths(&wood)
        );
        for node in (0..20).map(NodeIx) {
            let Some(parent) = wood.parent(node) else { continue };
            let view = wood.world.view(node, wood.group).expect("it runs");
            for neighbour in view.members.iter().filter(|it| it.neighbour) {
                let other = wood.world.ix(&neighbour.node).expect("in the world");
                let full = wood.place(other).children.len() >= wood.world.config.max_children;
                if full || wood.is_below(other, node) {
                    continue;
                }
                let (now, then) = (wood.depth(node), wood.depth(other) + wood.world.one_way(node, other));
                assert!(
                    now <= then + ms(8),
                    "seed {seed}: {node:?} is {now:?} from the root under {parent:?}, but {then:?} under {other:?}"
                );
            }
        }
    }
}

/// How long each child of a node that dies is without a parent; `None` for one that never had one
/// again in a second.
fn kill(wood: &mut Wood, victim: NodeIx) -> Vec<(NodeIx, Option<Duration>)> {
    let orphans: Vec<NodeIx> =
        wood.world.running().into_iter().filter(|node| wood.parent(*node) == Some(victim)).collect();
    let died = wood.world.now();
    wood.world.crash(victim, Crash::Process);
    let mut placed = BTreeMap::new();
    let victim = wood.world.id(victim);
    let is_placed = |wood: &Wood, node: NodeIx| {
        let place = wood.place(node);
        place.parent.is_some_and(|it| it != victim) || place.root == wood.world.id(node)
    };
    while wood.world.now() < died + Duration::from_secs(1) {
        wood.run_for(ms(1));
        for node in &orphans {
            if !placed.contains_key(node) && is_placed(wood, *node) {
                placed.insert(*node, wood.world.now().since(died));
            }
        }
    }
    orphans.into_iter().map(|node| (node, placed.get(&node).copied())).collect()
}

/// Kills relays one after the other, every third time the root, and sometimes before the tree has
/// settled: how long children of a relay and of the root were without a parent.
fn times(seed: u64, grow: impl Fn(u64, usize) -> Wood, pause: u64) -> [Vec<Duration>; 2] {
    let (mut relay, mut root) = (Vec::new(), Vec::new());
    let mut wood = grow(seed, 20 + (seed as usize % 3) * 15);
    let mut rng = Rng::new(seed);
    for n in 0..12 {
        let relays: Vec<NodeIx> =
            wood.world.running().into_iter().filter(|it| !wood.place(*it).children.is_empty()).collect();
        let at_root = relays.iter().copied().find(|it| wood.parent(*it).is_none());
        let any = *rng.pick(&relays).expect("somebody is a parent");
        let victim = at_root.filter(|_| n % 3 == 0).unwrap_or(any);
        for (node, took) in kill(&mut wood, victim) {
            let what = format!("seed {seed}, kill {n}: {node:?}, a child of {victim:?}");
            let took = took.unwrap_or_else(|| panic!("{what}, has no parent after a second"));
            if Some(victim) == at_root { &mut root } else { &mut relay }.push(took);
        }
        wood.run_for(ms(rng.below(pause as usize) as u64));
    }
    assert_eq!(tree::check_at_rest(&mut wood.world, wood.group), Ok(()), "seed {seed}");
    [relay, root]
}

fn at_once(grow: impl Fn(u64, usize) -> Wood, pause: u64) {
    let all: Vec<_> = seeds(6).into_iter().map(|seed| times(seed, &grow, pause)).collect();
    for (n, what) in ["a relay", "the root"].into_iter().enumerate() {
        let mut times: Vec<Duration> = all.iter().flat_map(|it| it[n].iter().copied()).collect();
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        eprintln!(
            "{what} died: {} new parents, p50 {:?}, p99 {:?}, max {:?}",
            times.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
        assert!(at(1.0) <= ms(200), "{what} died, and a child was without a parent for {:?}", at(1.0));
    }
}

#[test]
fn who_loses_its_parent_has_another_at_once() {
    at_once(|seed, nodes| Wood::grown(seed, NetworkModel::lan(), nodes, Duration::from_secs(15)), 4_000);
}

#[test]
fn who_loses_its_parent_on_a_busy_lan_has_another_at_once() {
    at_once(|seed, nodes| Wood::grown(seed, busy_lan(), nodes, Duration::from_secs(15)), 1_000);
}

/// Two links between two close one after the other: the first leaves it open whether the node is gone.
#[test]
fn who_loses_its_parent_over_two_links_has_another_at_once() {
    let grow = |seed, nodes| {
        let wood = Wood::doubly_linked(seed, NetworkModel::lan(), nodes, Duration::from_secs(15));
        let has_two = |node: &NodeIx| {
            let links = wood.world.links(*node);
            links.iter().map(|it| it.1).collect::<BTreeSet<_>>().len() < links.len()
        };
        assert!(wood.world.running().iter().any(has_two), "nobody has two links to a node, seed {seed}");
        wood
    };
    at_once(grow, 4_000);
}

/// A host that vanishes closes no connection: what it does not bring shows that it is gone, long before
/// pings do.
#[test]
fn a_parent_that_brings_nothing_is_left_while_others_talk() {
    let mut all = Vec::new();
    for seed in seeds(6) {
        let mut wood = Wood::grown(seed, NetworkModel::lan(), 20, Duration::from_secs(15));
        let mut rng = Rng::new(seed);
        let talker = wood.world.running().into_iter().find(|it| wood.place(*it).children.is_empty());
        let talker = talker.expect("a tree has leaves");
        wood.talk(talker, Duration::from_secs(2));
        // Whoever has the talker's way to the root on its own side hears of it from below.
        let relays: Vec<NodeIx> = wood
            .world
            .running()
            .into_iter()
            .filter(|it| !wood.place(*it).children.is_empty() && !wood.is_below(talker, *it))
            .collect();
        let Some(victim) = rng.pick(&relays).copied() else { continue };
        let orphans: Vec<NodeIx> =
            wood.world.running().into_iter().filter(|it| wood.parent(*it) == Some(victim)).collect();
        let died = wood.world.now();
        wood.world.crash(victim, Crash::Host);
        wood.talk(talker, Duration::from_secs(2));
        for node in orphans {
            let told = wood.told(died).into_iter().find(|it| it.node == node);
            let told = told.unwrap_or_else(|| panic!("seed {seed}: {node:?} still waits for {victim:?}"));
            all.push(told.time.since(died));
        }
    }
    all.sort_unstable();
    eprintln!("a host vanished: {} new parents, after {all:?}", all.len());
    // Whose other neighbours are all behind the same parent waits until one of them is not.
    assert!(all.get(all.len() / 2).is_some_and(|it| *it <= ms(100)));
}

/// One event for each change that a person would see: from the place told last to the new one.
#[test]
fn what_is_told_of_a_place_is_what_became_of_it() {
    for seed in seeds(6) {
        let mut wood = Wood::grown(seed, NetworkModel::lan(), 20, Duration::from_secs(15));
        for n in 0..8 {
            let root =
                wood.world.running().into_iter().find(|it| wood.parent(*it).is_none()).expect("a root");
            let relays = wood.world.running().into_iter().filter(|it| !wood.place(*it).children.is_empty());
            let victim =
                if n % 2 == 0 { root } else { relays.max_by_key(|it| it.0).expect("the root, at least") };
            if n % 4 == 0 {
                wood.world.shutdown(victim);
            } else {
                wood.world.crash(victim, Crash::Process);
            }
            wood.run_for(Duration::from_secs(4));
        }
        let mut places: BTreeMap<NodeIx, Told> = BTreeMap::new();
        for told in wood.told(Time::ZERO) {
            let last = places.insert(told.node, told.clone());
            let what = format!("seed {seed}: {told:?} after {last:?}");
            assert_eq!(told.from, last.as_ref().and_then(|it| it.to), "from where it was: {what}");
            let is_root = told.root == wood.world.id(told.node);
            assert_eq!(is_root, told.to.is_none(), "the root and nobody else has no parent: {what}");
            assert_eq!(is_root, told.reason == ParentReason::BecameRoot, "{what}");
            assert_eq!(last.is_none() && !is_root, told.reason == ParentReason::Joined, "{what}");
            let moved = told.from != told.to || last.is_none_or(|it| it.root != told.root);
            assert!(moved, "nothing changed: {what}");
            assert!(told.from != told.to || told.reason == ParentReason::NewRoot, "{what}");
        }
        for node in wood.world.running() {
            let (place, told) = (wood.place(node), places.get(&node));
            let told = told.map(|it| (it.root, it.to));
            assert!(
                told == Some((place.root, place.parent))
                    || told.is_none() && place.root == wood.world.id(node),
                "seed {seed}: {node:?} is at {place:?}, and {told:?} was told"
            );
        }
    }
}

/// A neighbour that is one too many is let go; if it is the root, that does not end its reign.
#[test]
fn a_root_outlives_its_neighbourhoods() {
    for seed in seeds(2) {
        // No place is better for a root than another.
        let mut wood = Wood::grown(seed, NetworkModel::uniform(ms(30), ms(30)), 60, Duration::from_secs(30));
        let (from, root) = (wood.world.now(), wood.place(NodeIx(0)).root);
        // Bridges are built all the time, and each takes the place of somebody.
        wood.run_for(Duration::from_secs(300));
        let roots: Vec<_> = wood.told(from).into_iter().filter(|it| it.root != root).collect();
        assert_eq!(roots, [], "seed {seed}: nobody died, but the root changed");
    }
}

/// While a group gathers, everybody's neighbours change; whom a full roster does not hold runs
/// nevertheless.
#[test]
fn a_root_that_few_know_outlives_the_beginning() {
    for seed in seeds(4) {
        // With cores no root is crowned for its place.
        let config = Config { roster: 10, cores: Some(2), ..Config::default() };
        let mut wood = Wood::planted_with(config, seed, NetworkModel::regions(), 120, Contacts::Random(8));
        wood.run_for(Duration::from_secs(4));
        let (from, root) = (wood.world.now(), wood.place(NodeIx(0)).root);
        wood.run_for(Duration::from_secs(20));
        let roots: Vec<_> = wood.told(from).into_iter().filter(|it| it.root != root).collect();
        assert_eq!(roots, [], "seed {seed}: nobody died, but the root changed");
    }
}

/// Two regions, 80 ms apart: a few nodes here, most there.
fn two_regions(few: usize, nodes: usize) -> NetworkModel {
    NetworkModel::matrix(nodes, move |low, high| match (low < few, high < few) {
        (true, false) => ms(80),
        _ => ms(5),
    })
}

#[test]
fn a_root_among_few_hands_over_to_the_many() {
    let (few, nodes) = (6, 24);
    for seed in seeds(4) {
        let mut wood = Wood::grown(seed, two_regions(few, nodes), nodes, Duration::from_secs(90));
        let root = wood.place(NodeIx(0)).root;
        let at = wood.world.ix(&root).expect("a node");
        assert!(at.0 >= few, "seed {seed}: the root is {at:?}, far from most");
        assert_eq!(tree::check_at_rest(&mut wood.world, wood.group), Ok(()), "seed {seed}");
        let mean = wood.world.running().into_iter().map(|it| wood.depth(it)).sum::<Duration>()
            / u32::try_from(nodes).expect("few");
        // 5 ms for the many, 80 for the few, and a hop more here and there.
        assert!(mean < ms(5 + 80 * few as u64 / nodes as u64 + 8), "seed {seed}: {mean:?} from the root");
    }
}

/// Members that know only a few others at first find near parents all over the world.
#[test]
fn near_parents_are_found_by_hearsay() {
    for seed in seeds(2) {
        let network = NetworkModel { latency: Latency::Regions { noise: 0.0 }, ..NetworkModel::regions() };
        let mut wood = Wood::planted(seed, network, 150, Contacts::Random(3));
        wood.run_for(Duration::from_secs(90));
        let running = wood.world.running();
        let root = running.iter().copied().find(|it| wood.parent(*it).is_none()).expect("a root");
        let (mut by_tree, mut direct) = (Duration::ZERO, Duration::ZERO);
        for node in running.into_iter().filter(|it| *it != root) {
            by_tree += wood.depth(node);
            direct += wood.world.one_way(root, node);
        }
        let stretch = by_tree.as_secs_f64() / direct.as_secs_f64();
        eprintln!("seed {seed}: {stretch:.3} × the direct way from the root");
        assert!(stretch < 1.4, "seed {seed}: {stretch:.3}");
    }
}
