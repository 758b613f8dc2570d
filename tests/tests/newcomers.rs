//! A member among newcomers: what was said before their time, those who hold it are asked for.

use std::time::Duration;

use treecast_overlay::Descriptor;
use treecast_overlay::sim::{Contacts, Crash, NetworkModel, NodeIx, World};
use treecast_tests::oracle::Oracle;
use treecast_tests::seeds::seeds;

const OLD: usize = 20;
const NEW: usize = 16;
/// Old members that stay, besides the one that missed something.
const STAY: usize = 2;
/// Neighbours that die when it could get what it missed, and one more each second.
const DIE: usize = 3;
/// Dead neighbours are found to be in about five seconds.
const WITHIN: Duration = Duration::from_millis(3_500);
const PAUSE: Duration = Duration::from_millis(200);

/// One member does not hear something. Most others die, and newcomers are its neighbours in their stead,
/// who do not have it, and die, too.
#[test]
fn what_was_missed_comes_although_neighbours_are_dead_or_newcomers() {
    for seed in seeds(6) {
        let group = Descriptor::open("generations").expect("a good name");
        let mut world = World::new(seed, NetworkModel::uniform(PAUSE / 10, PAUSE / 4));
        world.contacts = Contacts::Random(3);
        let mut oracle = Oracle::new(group.id());
        let grow = |world: &mut World, count: usize| -> Vec<NodeIx> {
            let add = |_| world.add_node(std::slice::from_ref(&group));
            let nodes: Vec<_> = (0..count).map(add).collect();
            nodes.iter().for_each(|node| world.start(*node, false));
            nodes
        };
        let old = grow(&mut world, OLD);
        world.run_until(world.now() + Duration::from_secs(15));
        let (misses, stay) = (old[0], &old[1..=STAY]);
        let mut talk = |world: &mut World, count: u64| {
            for _ in 0..count {
                oracle.publish(world, stay[0], 100);
                world.run_until(world.now() + PAUSE);
            }
        };
        talk(&mut world, 10);
        world.cut_one_way(&old[1..], &[misses]);
        talk(&mut world, 3);
        let source = world.id(stay[0]);
        let delivered = |world: &World| {
            let all = world.view(misses, group.id()).expect("it runs").delivered;
            all.into_iter().find(|it| it.0 == source).map_or(0, |it| it.2)
        };
        old[STAY + 1..].iter().for_each(|node| world.crash(*node, Crash::Host));
        // Those who are let in by who knows the talk are not owed it.
        world.contacts = Contacts::Nobody;
        world.run_until(world.now() + Duration::from_secs(3));
        let new = grow(&mut world, NEW);
        new.iter().for_each(|node| world.discover(*node, stay[1]));
        talk(&mut world, 30);
        world.heal();
        let (begin, mut dead) = (world.now(), 0);
        let at_first = delivered(&world);
        while delivered(&world) < 13 && world.now().since(begin) < Duration::from_secs(40) {
            let due = DIE + world.now().since(begin).as_secs() as usize;
            let linked: Vec<_> = world.links(misses).into_iter().map(|it| it.1).collect();
            let victims = linked.into_iter().filter(|it| new.contains(it) && world.is_running(*it));
            let victims: Vec<_> = victims.take(due - dead).collect();
            dead += victims.len();
            victims.iter().for_each(|node| world.crash(*node, Crash::Host));
            talk(&mut world, 1);
        }
        let took = world.now().since(begin);
        eprintln!("seed {seed}: {took:?}, {dead} died, {at_first} at first");
        assert!(at_first < 13, "seed {seed}: nothing was missed");
        assert!(took < WITHIN, "seed {seed}: {took:?}");
    }
}
