//! A node in a hundred groups: they share its links, each is a group like any other, and what all of them cost
//! at rest is told.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use treecast_overlay::io::Event;
use treecast_overlay::sim::{Contacts, NetworkModel, NodeIx, What, World};
use treecast_overlay::{Descriptor, GroupId, Rng};
use treecast_tests::seeds::seeds;

const GROUPS: usize = 100;
const NODES: usize = 20;
/// Of those, each other node is in so many.
const EACH: usize = 25;

/// The first node is in all groups, each other in some.
fn grown(seed: u64) -> (World, Vec<GroupId>) {
    let named = |at| Descriptor::open(&format!("group {at}")).expect("a good name");
    let groups: Vec<_> = (0..GROUPS).map(named).collect();
    let mut world = World::new(seed, NetworkModel::regions());
    world.contacts = Contacts::Random(3);
    let mut rng = Rng::new(seed);
    for at in 0..NODES {
        let mut some = groups.clone();
        if at > 0 {
            rng.shuffle(&mut some);
            some.truncate(EACH);
        }
        let node = world.add_node(&some);
        world.start(node, true);
    }
    world.run_until(world.now() + Duration::from_secs(60));
    (world, groups.iter().map(Descriptor::id).collect())
}

fn members(world: &World, group: GroupId) -> Vec<NodeIx> {
    world.running().into_iter().filter(|it| world.group_ids(*it).contains(&group)).collect()
}

#[test]
fn a_hundred_groups_share_the_links_of_a_node() {
    for seed in seeds(2) {
        let (mut world, groups) = grown(seed);
        for node in world.running() {
            let links = world.links(node);
            let others: BTreeSet<_> = links.iter().map(|it| it.1).collect();
            // Two that dial each other at once have two.
            assert!(others.len() < NODES && links.len() <= 2 * others.len(), "seed {seed}: {links:?}");
        }
        world.take_records();
        let from = world.now();
        for group in &groups {
            let talker = *members(&world, *group).last().expect("the first is in all");
            assert!(world.publish(talker, *group, Bytes::from_static(b"hello")).is_some(), "seed {seed}");
        }
        world.run_until(world.now() + Duration::from_secs(3));
        let records = world.take_records();
        let delivered = |node: NodeIx, of: GroupId| {
            let it = |what: &What| matches!(what, What::Event(Event::Deliver { group, .. }) if *group == of);
            records.iter().filter(|record| record.node == node && it(&record.what)).count()
        };
        let owed: Vec<_> = groups
            .iter()
            .flat_map(|group| members(&world, *group).into_iter().map(|it| (it, *group)))
            .collect();
        for (node, group) in &owed {
            assert_eq!(delivered(*node, *group), 1, "seed {seed}: {node:?} in {group}");
        }
        let last = records.iter().filter(|it| matches!(it.what, What::Event(Event::Deliver { .. })));
        let last = last.map(|it| it.time).max().expect("delivered").since(from);
        assert!(last <= Duration::from_secs(1), "seed {seed}: {last:?}");

        let before = world.traffic().bytes;
        world.run_until(world.now() + Duration::from_secs(30));
        let idle = (world.traffic().bytes - before) / 30 / owed.len() as u64;
        eprintln!(
            "seed {seed}: {} memberships, the last has it after {last:?}, idle {idle} bytes/s each",
            owed.len()
        );
        assert!(idle <= 250, "seed {seed}: {idle} bytes/s");
    }
}
