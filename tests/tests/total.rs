//! Total order: all members see one sequence. Special cases; `order.rs` has all kinds of faults, on many seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use treecast_overlay::io::{Event, MemberState};
use treecast_overlay::sim::{Contacts, Crash, Lie, NetworkModel, NodeIx, Record, What, World};
use treecast_overlay::{Descriptor, GroupId, NodeId, Order, Rng, Time};
use treecast_tests::seeds::seeds;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const FOUNDER_KEY: [u8; 32] = [1; 32];

fn founder() -> NodeId {
    let mut elsewhere = World::new(0, NetworkModel::lan());
    let node = elsewhere.add_node_with_key(&[], FOUNDER_KEY);
    elsewhere.id(node)
}

/// A group that the first of some nodes has founded.
struct Room {
    world: World,
    descriptor: Descriptor,
    rng: Rng,
    /// What each was told to be in order: index → message.
    ordered: BTreeMap<NodeIx, BTreeMap<u64, Bytes>>,
    tentative: BTreeMap<NodeIx, usize>,
    /// Who began anew without its disk.
    wiped: BTreeSet<NodeIx>,
    said: u64,
}

impl Room {
    fn new(seed: u64, nodes: usize) -> Self {
        Self::serving(seed, nodes, None)
    }

    /// Members serve after so long.
    fn serving(seed: u64, nodes: usize, after: Option<Duration>) -> Self {
        Self::on(NetworkModel::regions(), seed, nodes, after)
    }

    fn on(network: NetworkModel, seed: u64, nodes: usize, after: Option<Duration>) -> Self {
        let mut world = World::new(seed, network);
        (world.config.serve_after, world.config.history) = (after, true);
        Self::of(world, seed, nodes)
    }

    fn of(mut world: World, seed: u64, nodes: usize) -> Self {
        world.contacts = Contacts::Random(2);
        let mut descriptor = Descriptor::open("ordered").expect("a good name");
        (descriptor.order, descriptor.founder) = (Order::Total, Some(founder()));
        let founder = world.add_node_with_key(std::slice::from_ref(&descriptor), FOUNDER_KEY);
        world.start(founder, true);
        let mut room = Self {
            world,
            descriptor,
            rng: Rng::new(seed),
            ordered: BTreeMap::new(),
            tentative: BTreeMap::new(),
            wiped: BTreeSet::new(),
            said: 0,
        };
        for _ in 1..nodes {
            room.enter();
        }
        room
    }

    fn enter(&mut self) -> NodeIx {
        let node = self.world.add_node(std::slice::from_ref(&self.descriptor));
        self.world.start(node, true);
        node
    }

    fn group(&self) -> GroupId {
        self.descriptor.id()
    }

    fn talk(&mut self, span: Duration) {
        let until = self.world.now() + span;
        while self.world.now() < until {
            let running = self.world.running();
            let node = *self.rng.pick(&running).expect("some run");
            self.say(node);
            let pause = Duration::from_millis(60).mul_f64(self.rng.unit());
            self.run(pause);
        }
    }

    fn say(&mut self, node: NodeIx) {
        self.said += 1;
        let text = Bytes::from(format!("{} by {node:?}", self.said));
        self.world.publish(node, self.group(), text);
    }

    /// The last of all that was said that has its place there.
    fn last_said(&self, node: NodeIx) -> Option<u64> {
        let known = self.ordered.get(&node)?.values();
        known.filter_map(|it| String::from_utf8_lossy(it).split(' ').next()?.parse().ok()).max()
    }

    fn run(&mut self, span: Duration) {
        self.world.run_until(self.world.now() + span);
        for Record { node, what, .. } in self.world.take_records() {
            match what {
                What::Event(Event::Ordered { index, delivery, .. }) => {
                    let known = self.ordered.entry(node).or_default();
                    for (index, payload) in (index..).zip(delivery.payloads) {
                        // Who was killed may have it told again, but not otherwise, and nothing is left out.
                        let next = known.last_key_value().map(|it| it.0 + 1);
                        let fits = next.is_none_or(|next| index <= next);
                        assert!(fits || self.wiped.contains(&node), "{node:?}: {index} after {next:?}");
                        let earlier = known.insert(index, payload.clone());
                        assert!(earlier.is_none_or(|it| it == payload), "{node:?}: another at {index}");
                    }
                }
                What::Event(Event::Deliver { delivery, tentative, .. }) => {
                    assert!(tentative);
                    *self.tentative.entry(node).or_default() += delivery.payloads.len();
                }
                _ => {}
            }
        }
    }

    /// One past the last place that is taken.
    fn end(&self, node: NodeIx) -> u64 {
        self.ordered.get(&node).and_then(|it| it.last_key_value()).map_or(0, |it| it.0 + 1)
    }

    /// One message a place, the same everywhere.
    fn agree(&self, seed: u64) {
        let mut all: BTreeMap<u64, &Bytes> = BTreeMap::new();
        for (node, known) in &self.ordered {
            for (index, payload) in known {
                let first = *all.entry(*index).or_insert(payload);
                assert_eq!(first, payload, "seed {seed}: {node:?} has another message at {index}");
            }
        }
    }
}

#[test]
fn all_members_see_one_sequence() {
    for seed in seeds(5) {
        let mut room = Room::new(seed, 2 + seed as usize % 9);
        room.run(s(20));
        room.talk(s(10));
        room.run(s(5));
        room.agree(seed);
        for node in room.world.running() {
            let known = room.ordered.get(&node).map_or(0, BTreeMap::len);
            assert_eq!(known as u64, room.said, "seed {seed}: {node:?}");
        }
    }
}

/// Who comes later begins at one place, and lacks nothing after it.
#[test]
fn newcomers_go_on_from_one_place() {
    for seed in seeds(5) {
        let mut room = Room::new(seed, 5);
        room.run(s(20));
        let mut late = Vec::new();
        for _ in 0..4 {
            room.talk(s(2));
            late.push(room.enter());
        }
        room.talk(s(5));
        room.run(s(5));
        room.agree(seed);
        for node in late {
            let known = room.ordered.get(&node).expect("it hears something");
            assert_eq!(*known.last_key_value().expect("something").0 + 1, room.said, "seed {seed}: {node:?}");
        }
    }
}

#[test]
fn who_crashes_takes_nothing_along() {
    for seed in seeds(3) {
        let mut room = Room::new(seed, 8);
        room.run(s(20));
        for at in [3, 5] {
            room.talk(s(2));
            room.world.crash(NodeIx(at), Crash::Host);
        }
        room.talk(s(3));
        room.run(s(60));
        room.agree(seed);
        let ends: Vec<_> = room.world.running().iter().map(|it| room.ordered[it].len()).collect();
        assert!(ends.iter().all(|it| *it == ends[0]), "seed {seed}: {ends:?}");
    }
}

/// The founder alone, then three, then five; and all goes on while they change, and when any of them is gone.
#[test]
fn a_committee_grows_and_survives_its_members() {
    for seed in seeds(3) {
        let mut room = Room::serving(seed, 7, Some(s(5)));
        room.run(s(5));
        room.talk(s(30));
        room.run(s(5));
        room.agree(seed);
        let said = room.said;
        for node in room.world.running() {
            assert_eq!(
                room.ordered.get(&node).map_or(0, BTreeMap::len) as u64,
                said,
                "seed {seed}: {node:?}"
            );
        }
        // The founder first.
        for at in [0, 3] {
            room.world.crash(NodeIx(at), Crash::Host);
            room.run(s(3));
            room.talk(s(5));
            room.run(s(30));
            room.agree(seed);
            let ends: BTreeMap<_, _> = room
                .world
                .running()
                .iter()
                .map(|it| (*it, room.ordered[it].last_key_value().expect("some").0 + 1))
                .collect();
            let first = *ends.values().next().expect("some run");
            assert!(ends.values().all(|it| *it == first), "seed {seed}: {ends:?}");
            assert!(first > said, "seed {seed}: order stands still at {first} of {}", room.said);
        }
    }
}

/// Three that decide are cut off from each other and go on talking until none has room for more without a place: when
/// they meet again, each asks the others to accept what they do not have.
#[test]
fn members_that_are_full_of_what_has_no_place_go_on_when_they_meet() {
    const ROOM: usize = 64 << 10;
    for seed in seeds(5) {
        let mut world = World::new(seed, NetworkModel::lan());
        (world.config.serve_after, world.config.history) = (Some(s(5)), true);
        world.config.pending_bytes = ROOM;
        let mut room = Room::of(world, seed, 3);
        room.run(s(40));
        room.talk(s(2));
        let all = room.world.running();
        for at in 0..3 {
            room.world.cut(&all[at..=at], &[all[(at + 1) % 3]]);
        }
        room.run(s(10));
        for _ in 0..2 * ROOM / 1_024 {
            for node in &all {
                room.world.publish(*node, room.group(), Bytes::from(vec![b'x'; 1_024]));
            }
            room.run(Duration::from_millis(20));
        }
        let before: Vec<u64> = all.iter().map(|it| room.end(*it)).collect();
        room.world.heal();
        room.run(s(60));
        room.agree(seed);
        let ends: Vec<u64> = all.iter().map(|it| room.end(*it)).collect();
        let full = ROOM as u64 / 1_024;
        assert!(
            ends.iter().zip(&before).all(|(end, before)| *end >= before + full),
            "seed {seed}: {before:?}, {ends:?}"
        );
        room.talk(s(2));
        room.run(s(5));
        room.agree(seed);
        assert!(all.iter().all(|it| room.last_said(*it) == Some(room.said)), "seed {seed}: talk goes on");
    }
}

/// All stop at once just when a committee gives way to the next: it begins when they are back.
#[test]
fn an_epoch_begins_although_all_stop_as_the_one_before_ends() {
    for seed in seeds(8) {
        let mut room = Room::serving(seed, 5, Some(s(3)));
        let epoch = |room: &Room, node: NodeIx| {
            let view = room.world.view(node, room.group());
            view.and_then(|it| it.order).map_or(0, |it| it.epoch)
        };
        let step = Duration::from_millis(1 + seed % 7);
        let first = loop {
            room.run(step);
            let next = room.world.running().into_iter().find(|it| epoch(&room, *it) > 1);
            if let Some(first) = next {
                break first;
            }
            assert!(
                room.world.now() < Time::from_micros(60_000_000),
                "seed {seed}: the committee never grows"
            );
        };
        let all = room.world.running();
        // Some disks lose what was not flushed.
        let crash =
            |it: &NodeIx| if (seed + it.0 as u64).is_multiple_of(2) { Crash::Process } else { Crash::Host };
        all.iter().for_each(|it| room.world.crash(*it, crash(it)));
        room.run(s(1));
        all.iter().for_each(|it| room.world.start(*it, true));
        room.run(s(30));
        room.talk(s(5));
        room.run(s(10));
        room.agree(seed);
        for node in room.world.running() {
            eprintln!(
                "{node:?} {:?} {:?} said {} end {}",
                room.world.id(node),
                room.world.view(node, room.group()).map(|v| (v.ready, v.order, v.delivered)),
                room.said,
                room.end(node)
            );
        }
        for node in room.world.running() {
            assert_eq!(room.end(node), room.said, "seed {seed}: {node:?}, {first:?} was first");
        }
    }
}

/// One at a time comes back with nothing, or with an old copy of its disk, while another crashes: what it promised
/// and forgot does not undo what was decided.
#[test]
fn who_forgot_what_it_promised_does_not_vote_again() {
    for seed in seeds(4) {
        let mut room = Room::serving(seed, 7, Some(s(3)));
        room.run(s(20));
        let all: Vec<_> = (0..7).map(NodeIx).collect();
        for round in 0..8 {
            all.iter().filter(|_| round % 3 == 0).for_each(|it| room.world.back_up(*it));
            room.talk(s(2));
            let (forgets, other) =
                (*room.rng.pick(&all).expect("seven"), *room.rng.pick(&all).expect("seven"));
            room.world.crash(forgets, Crash::Process);
            room.wiped.insert(forgets);
            if other != forgets {
                room.world.crash(other, Crash::Process);
            }
            let pause = Duration::from_millis(1_500).mul_f64(room.rng.unit());
            room.talk(pause);
            let with_copy = room.rng.unit() < 0.5;
            if with_copy {
                room.world.restore(forgets);
            }
            room.world.start(forgets, with_copy);
            room.talk(s(1));
            room.world.start(other, true);
            room.talk(s(2));
            room.run(s(20));
            room.agree(seed);
        }
        let before = room.said;
        room.talk(s(5));
        room.run(s(20));
        room.agree(seed);
        let ends: Vec<_> = room.world.running().iter().map(|it| room.end(*it)).collect();
        assert!(ends.iter().all(|it| *it == ends[0]), "seed {seed}: {ends:?}");
        let last = &room.ordered[&NodeIx(0)];
        let late = last.values().filter_map(|it| String::from_utf8_lossy(it).split(' ').next()?.parse().ok());
        assert!(late.max() > Some(before), "seed {seed}: nothing said after the faults has a place");
    }
}

/// The founder's laptop sleeps in a group of two: the other goes on talking, tentatively; it wakes, and all settles.
#[test]
fn in_a_group_of_two_all_settles_when_the_founder_wakes() {
    for seed in seeds(5) {
        let mut room = Room::new(seed, 2);
        room.run(s(10));
        room.talk(s(3));
        room.run(s(5));
        let (founder, other) = (NodeIx(0), NodeIx(1));
        let said = room.said;
        assert_eq!([room.end(founder), room.end(other)], [said; 2], "seed {seed}");
        // Nothing passes, and nobody says goodbye.
        room.world.cut(&[founder], &[other]);
        for _ in 0..30 {
            room.say(other);
            room.run(Duration::from_millis(500));
        }
        let waiting = room.world.view(other, room.group()).and_then(|it| it.order).expect("an order");
        assert_eq!(
            (waiting.index, room.end(other)),
            (said, said),
            "seed {seed}: nothing is settled meanwhile"
        );
        assert!(waiting.tentative >= 30 && waiting.stalled.is_some(), "seed {seed}: {waiting:?}");
        assert_eq!(room.tentative[&other] as u64, room.said, "seed {seed}: all is shown");
        room.world.heal();
        room.run(s(10));
        room.agree(seed);
        assert_eq!([room.end(founder), room.end(other)], [room.said; 2], "seed {seed}");
    }
}

/// The founder leaves for good once five decide: the others go on without it.
#[test]
fn five_go_on_when_their_founder_has_left_for_good() {
    for seed in seeds(3) {
        let mut room = Room::serving(seed, 6, Some(s(3)));
        let committee = |room: &Room, node: NodeIx| {
            let order = room.world.view(node, room.group()).and_then(|it| it.order);
            order.map_or_else(Vec::new, |it| it.committee)
        };
        while committee(&room, NodeIx(1)).len() < 5 {
            room.talk(s(1));
            assert!(room.world.now() < Time::from_micros(60_000_000), "seed {seed}: it never grows to five");
        }
        room.world.leave(NodeIx(0), room.descriptor.id());
        room.run(s(5));
        room.world.crash(NodeIx(0), Crash::Process);
        room.talk(s(5));
        room.run(s(20));
        room.agree(seed);
        let founder = room.world.id(NodeIx(0));
        for node in room.world.running() {
            assert_eq!(room.end(node), room.said, "seed {seed}: {node:?}");
            assert!(!committee(&room, node).contains(&founder), "seed {seed}: {node:?}");
        }
    }
}

/// A committee's leader is killed under load: the order resumes within 1.5 s on a LAN (between continents, where a
/// message and its answer take up to a third of a second, within twice that), and causal delivery goes on meanwhile.
#[test]
fn a_leader_that_is_killed_is_replaced_soon() {
    for seed in seeds(6) {
        replace_leader(seed, NetworkModel::lan(), Duration::from_millis(1_500));
        replace_leader(seed, NetworkModel::regions(), Duration::from_millis(3_000));
    }
}

fn replace_leader(seed: u64, network: NetworkModel, within: Duration) {
    let mut room = Room::on(network, seed, 6, Some(s(3)));
    let order = |room: &Room, node: NodeIx| room.world.view(node, room.group()).and_then(|it| it.order);
    let leader = |room: &Room| {
        let leaders = room.world.running().into_iter().filter_map(|it| order(room, it)?.leader);
        leaders.filter_map(|it| room.world.ix(&it)).next()
    };
    while order(&room, NodeIx(1)).map_or(0, |it| it.committee.len()) < 5 || leader(&room).is_none() {
        room.talk(s(1));
        assert!(room.world.now() < Time::from_micros(60_000_000), "seed {seed}: it never grows");
    }
    room.talk(s(3));
    let killed = leader(&room).expect("looked at above");
    let how = if seed.is_multiple_of(2) { Crash::Process } else { Crash::Host };
    room.world.crash(killed, how);
    let watching = room.world.running()[0];
    let (from, at, shown) = (room.said, room.world.now(), room.tentative[&watching]);
    let took = loop {
        room.talk(Duration::from_millis(20));
        let took = room.world.now().since(at);
        if room.last_said(watching) > Some(from) || took > 2 * within {
            break took;
        }
    };
    eprintln!("seed {seed}, {how:?}: the order went on after {took:?}");
    assert!(took <= within, "seed {seed}, {how:?}: it stood still for {took:?}");
    assert!(room.tentative[&watching] > shown, "seed {seed}: talk goes on");
    room.run(s(20));
    room.agree(seed);
}

/// Two that are in no committee forge records, certificates, what the committee says, and removals, and let in
/// newcomers: nobody takes any of it, and all that the others say has its place everywhere.
#[test]
fn who_forges_an_order_is_refused() {
    for seed in seeds(10) {
        let mut room = Room::new(seed, 7);
        let forgers = [NodeIx(3), NodeIx(5)];
        for node in forgers {
            room.world.lie(node, Lie::Order);
        }
        room.run(s(20));
        let honest = |room: &Room| -> Vec<NodeIx> {
            room.world.running().into_iter().filter(|it| !forgers.contains(it)).collect()
        };
        let mut late = Vec::new();
        for round in 0..6 {
            let until = room.world.now() + s(3);
            while room.world.now() < until {
                let speaker = *room.rng.pick(&honest(&room)).expect("some are honest");
                room.say(speaker);
                room.run(Duration::from_millis(50));
            }
            if round < 5 {
                late.push(room.enter());
            }
        }
        room.run(s(30));
        room.agree(seed);
        for node in honest(&room) {
            assert_eq!(room.end(node), room.said, "seed {seed}: {node:?}");
            if !late.contains(&node) {
                assert_eq!(room.ordered[&node].len() as u64, room.said, "seed {seed}: {node:?}");
            }
            let view = room.world.view(node, room.group()).expect("it is in the group");
            let order = view.order.expect("it has an order");
            assert_eq!(order.committee, [founder()], "seed {seed}: {node:?} in epoch {}", order.epoch);
            let removed = view.members.iter().find(|it| it.state == MemberState::Removed);
            assert!(removed.is_none(), "seed {seed}: {removed:?} at {node:?}");
        }
    }
}
