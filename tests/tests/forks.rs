//! A copied identity: two nodes with one key publish side by side, so that one source signs
//! two batches for one place. It is told; everybody else goes on as if nothing were.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use treecast_overlay::io::Event;
use treecast_overlay::sim::{Contacts, Crash, NetworkModel, NodeIx, Record, What, World};
use treecast_overlay::{Descriptor, NodeId, Order, Time};
use treecast_tests::invariant::{agreement, bounds, causality, fifo, integrity, validity};
use treecast_tests::oracle::{Fact, History, Oracle};
use treecast_tests::seeds::seeds;

/// What has its place, by that of its first message: source, life, seq and which of the batch, and the messages.
type Places = BTreeMap<u64, ((NodeId, u64, u64, u32), Vec<Bytes>)>;

/// Nodes 0 to 3 are themselves; 4 and 5 are both the same.
const HONEST: usize = 4;

fn twins(seed: u64) -> (World, Oracle) {
    twins_in(seed, &Descriptor::open("twins").expect("a good name"))
}

fn twins_in(seed: u64, group: &Descriptor) -> (World, Oracle) {
    let mut world = World::new(seed, NetworkModel::lan());
    world.contacts = Contacts::Nobody;
    for n in 0..HONEST + 2 {
        let key = [n.min(HONEST) as u8 + 1; 32];
        world.add_node_with_key(std::slice::from_ref(group), key);
    }
    for node in (0..HONEST + 2).map(NodeIx) {
        if node.0 >= HONEST {
            // The same data directory twice, of a clock that was ahead: both begin the same life.
            world.set_last_life(node, 1_800_000_000_000);
        }
        world.start(node, true);
        // Each twin knows other members, so that neither shuts the other out.
        let contact = if node.0 == HONEST + 1 { NodeIx(1) } else { NodeIx(0) };
        if node != contact {
            world.discover(node, contact);
        }
    }
    (world, Oracle::new(group.id()))
}

/// Who comes when the forked source is gone hears of it all the same: its batches are still about.
#[test]
fn a_newcomer_is_told_of_an_old_fork() {
    for seed in seeds(5) {
        let (mut world, mut oracle) = twins(seed);
        for second in 0..40 {
            world.run_until(Time::from_micros(second * 1_000_000));
            for node in 0..HONEST + 2 {
                oracle.publish(&mut world, NodeIx(node), 50);
            }
        }
        for twin in [HONEST, HONEST + 1] {
            world.crash(NodeIx(twin), Crash::Process);
        }
        world.run_until(world.now() + Duration::from_secs(60));
        let newcomer = world.add_node(&[Descriptor::open("twins").expect("a good name")]);
        world.start(newcomer, true);
        world.discover(newcomer, NodeIx(0));
        world.run_until(world.now() + Duration::from_secs(10));
        oracle.observe(&mut world);
        let told = oracle.history.entries.iter().filter(|it| matches!(it.fact, Fact::Forked { .. }));
        let told = told.filter(|it| it.node == newcomer).count();
        assert_eq!(told, 1, "seed {seed}: told once");
    }
}

fn of_honest(history: &History) -> History {
    let honest = |fact: &Fact| match fact {
        Fact::Delivered(it) => it.source.is_some_and(|source| source.0 < HONEST),
        _ => true,
    };
    let entries = history.entries.iter().filter(|it| it.node.0 < HONEST && honest(&it.fact));
    History { entries: entries.copied().collect(), ..History::default() }
}

#[test]
fn a_forked_source_is_told_and_harms_nobody_else() {
    for seed in seeds(5) {
        let (mut world, mut oracle) = twins(seed);
        for second in 0..60 {
            world.run_until(Time::from_micros(second * 1_000_000));
            for node in 0..HONEST + 2 {
                oracle.publish(&mut world, NodeIx(node), 50);
            }
        }
        world.run_until(world.now() + Duration::from_secs(45));
        oracle.observe(&mut world);

        let history = of_honest(&oracle.history);
        let told = history.entries.iter().filter(|it| matches!(it.fact, Fact::Forked { .. }));
        let told: std::collections::BTreeSet<_> = told.map(|it| it.node).collect();
        assert_eq!(told.len(), HONEST, "seed {seed}: all are told of the fork, not only {told:?}");
        for judged in [
            integrity::check(&history),
            validity::check(&history),
            agreement::check(&history),
            fifo::check(&history),
            causality::check(&history),
            bounds::check(&world),
        ] {
            assert_eq!(judged, Ok(()), "seed {seed}");
        }
    }
}

/// In a total order whichever of two batches for one place the committee has is the one, everywhere.
#[test]
fn a_forked_source_is_ordered_once_and_alike() {
    let mut group = Descriptor::open("twins").expect("a good name");
    let mut elsewhere = World::new(0, NetworkModel::lan());
    let founder = elsewhere.add_node_with_key(&[], [1; 32]);
    (group.order, group.founder) = (Order::Total, Some(elsewhere.id(founder)));
    for seed in seeds(5) {
        let (mut world, _) = twins_in(seed, &group);
        let twin = world.id(NodeIx(HONEST));
        let mut said = 0;
        for second in 0..60 {
            world.run_until(Time::from_micros(second * 1_000_000));
            for node in 0..HONEST + 2 {
                let text = format!("{second} by {node}");
                said += usize::from(node < HONEST);
                world.publish(NodeIx(node), group.id(), text.into());
            }
        }
        world.run_until(world.now() + Duration::from_secs(45));

        let mut places: BTreeMap<NodeIx, Places> = BTreeMap::new();
        let mut told: BTreeSet<NodeIx> = BTreeSet::new();
        for Record { node, what, .. } in world.take_records() {
            match what {
                What::Event(Event::Ordered { index, delivery, .. }) if node.0 < HONEST => {
                    let of = places.entry(node).or_default();
                    let first = (delivery.source, delivery.life, delivery.seq, delivery.first);
                    let earlier = of.insert(index, (first, delivery.payloads));
                    assert!(earlier.is_none(), "seed {seed}: {node:?} has two at {index}");
                }
                What::Event(Event::Forked { source, .. }) if source == twin => {
                    told.insert(node);
                }
                _ => {}
            }
        }
        let honest: BTreeSet<NodeIx> = (0..HONEST).map(NodeIx).collect();
        assert!(honest.is_subset(&told), "seed {seed}: all are told, not only {told:?}");
        let all = &places[&NodeIx(0)];
        let of_honest = all.values().filter(|it| it.0.0 != twin).map(|it| it.1.len());
        assert_eq!(of_honest.sum::<usize>(), said, "seed {seed}: others lose nothing");
        let firsts: BTreeSet<_> = all.values().map(|it| it.0).collect();
        assert_eq!(firsts.len(), all.len(), "seed {seed}: each has one place");
        for node in &honest {
            assert_eq!(&places[node], all, "seed {seed}: {node:?}");
        }
    }
}
