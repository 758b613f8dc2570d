//! Who is there, as members tell each other: new names, and the dead that nobody saw die.

use std::time::Duration;

use treecast_overlay::io::{Event, MemberState};
use treecast_overlay::sim::{Contacts, Crash, Lie, NetworkModel, NodeIx, What, World};
use treecast_overlay::{Config, Descriptor, GroupId, Input, NodeId};
use treecast_tests::seeds::seeds;

fn group() -> Descriptor {
    Descriptor::open("members").expect("a good name")
}

fn settled(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed, NetworkModel::lan());
    world.config = Config::lan();
    world.contacts = Contacts::All;
    for _ in 0..nodes {
        let node = world.add_node(&[group()]);
        world.start(node, true);
    }
    // Links that nobody needs are gone by then.
    run_for(&mut world, 40);
    world
}

fn run_for(world: &mut World, seconds: u64) {
    world.run_until(world.now() + Duration::from_secs(seconds));
}

fn state(world: &World, at: NodeIx, of: NodeIx, group: GroupId) -> Option<MemberState> {
    let members = world.view(at, group).expect("it runs").members;
    members.iter().find(|it| it.node == world.id(of)).map(|it| it.state)
}

#[test]
fn a_new_name_is_told_as_that_and_not_as_a_return() {
    for seed in seeds(3) {
        let mut world = settled(seed, 5);
        world.take_records();
        world.feed(NodeIx(2), Input::Nick("ann".into()));
        run_for(&mut world, 2);
        let ann = world.id(NodeIx(2));
        let records = world.take_records();
        let told: Vec<_> = records
            .iter()
            .filter_map(|it| match &it.what {
                What::Event(event @ (Event::MemberRenamed { .. } | Event::MemberOnline { .. })) => {
                    Some((it.node, event.clone()))
                }
                _ => None,
            })
            .collect();
        let renamed = |node| {
            (NodeIx(node), Event::MemberRenamed { group: group().id(), node: ann, nick: "ann".into() })
        };
        let mut told_at: Vec<_> = told.iter().map(|it| it.0.0).collect();
        told_at.sort_unstable();
        assert_eq!(told_at, [0, 1, 3, 4], "seed {seed}: {told:?}");
        assert!(told.iter().all(|it| *it == renamed(it.0.0)), "seed {seed}: {told:?}");
    }
}

/// All who had a link to a member die with it and come back: they know it by hearsay only, and no
/// link of anybody's has closed.
#[test]
fn who_died_unseen_is_found_to_be_gone() {
    for seed in seeds(5) {
        let mut world = settled(seed, 16);
        let dead = NodeIx(3);
        let witnesses: Vec<NodeIx> = world.links(dead).into_iter().map(|(_, peer)| peer).collect();
        let others: Vec<NodeIx> =
            world.running().into_iter().filter(|it| *it != dead && !witnesses.contains(it)).collect();
        assert!(!others.is_empty(), "seed {seed}: somebody had no link to it");
        world.crash(dead, Crash::Process);
        for node in &witnesses {
            world.crash(*node, Crash::Process);
        }
        for node in &witnesses {
            world.start(*node, false);
        }
        run_for(&mut world, 5);
        let before = state(&world, others[0], dead, group().id());
        run_for(&mut world, 120);
        for node in world.running() {
            let state = state(&world, node, dead, group().id());
            assert!(
                state.is_none_or(|it| it == MemberState::Failed),
                "seed {seed}: {node:?} takes the dead to be {state:?}; at first {before:?}"
            );
        }
    }
}

#[test]
fn whose_clock_was_set_back_comes_back_after_its_goodbye() {
    for seed in seeds(3) {
        let mut world = settled(seed, 4);
        let node = NodeIx(2);
        world.shutdown(node);
        run_for(&mut world, 5);
        let day_ms = 24 * 60 * 60 * 1_000;
        world.set_clock_skew_ms(node, -day_ms);
        world.start(node, true);
        run_for(&mut world, 15);
        let seen: Vec<_> = [0, 1, 3].map(|at| state(&world, NodeIx(at), node, group().id())).to_vec();
        assert_eq!(seen, [Some(MemberState::Online); 3], "seed {seed}");
    }
}

/// So many around the world, and told to be so from the start.
fn around_the_world(seed: u64, nodes: usize, liar: Option<NodeIx>) -> World {
    let mut world = World::new(seed, NetworkModel::regions());
    world.contacts = Contacts::All;
    for _ in 0..nodes {
        let node = world.add_node(&[group()]);
        if liar == Some(node) {
            world.lie(node, Lie::Accuse);
        }
        world.start(node, true);
    }
    run_for(&mut world, 60);
    world.take_records();
    world
}

/// Who was taken to have failed since the last look, and by whom.
fn failures(world: &mut World) -> Vec<(NodeIx, NodeId)> {
    let records = world.take_records();
    let failed = records.into_iter().filter_map(|it| match it.what {
        What::Event(Event::MemberFailed { node, .. }) => Some((it.node, node)),
        _ => None,
    });
    failed.collect()
}

/// One whose link loses a third of all that passes, either way, for ten minutes; then it dies without a word.
#[test]
fn who_is_hard_to_hear_has_not_failed_and_who_is_dead_has() {
    for seed in seeds(1) {
        let mut world = around_the_world(seed, 100, None);
        let lossy = NodeIx(7);
        world.set_loss_at(lossy, 0.3);
        for minute in 0..10 {
            run_for(&mut world, 60);
            let failed = failures(&mut world);
            let there = failed.iter().filter(|(at, _)| *at != lossy).count();
            assert_eq!(there, 0, "seed {seed}, minute {minute}: {failed:?}");
        }
        let dead = world.id(lossy);
        world.crash(lossy, Crash::Host);
        run_for(&mut world, 15);
        let failed = failures(&mut world);
        assert!(failed.iter().all(|(_, node)| *node == dead), "seed {seed}: {failed:?}");
        for node in world.running() {
            let state = state(&world, node, lossy, group().id());
            assert_eq!(state, Some(MemberState::Failed), "seed {seed}: at {node:?} after 15 s");
        }
    }
}

/// A member accuses all others all the time, of the incarnations that they have and of such that they never
/// had.
#[test]
fn one_accuser_cannot_make_anybody_seem_failed_nor_keep_the_dead_alive() {
    for seed in seeds(2) {
        let liar = NodeIx(3);
        let mut world = around_the_world(seed, 40, Some(liar));
        run_for(&mut world, 120);
        let failed = failures(&mut world);
        assert!(failed.is_empty(), "seed {seed}: {failed:?}");
        let dead = NodeIx(11);
        world.crash(dead, Crash::Host);
        run_for(&mut world, 15);
        for node in world.running() {
            let told = world.view(node, group().id()).expect("it runs").members;
            let wrong: Vec<_> = told
                .iter()
                .filter(|it| (it.node == world.id(dead)) != (it.state == MemberState::Failed))
                .collect();
            assert!(wrong.is_empty(), "seed {seed}: {node:?} has {wrong:?}");
        }
    }
}

/// Who leaves as soon as it has come, while its links break, may tell nobody, and runs on: that it can be reached does not
/// make it a member.
#[test]
fn who_left_unheard_is_found_to_be_gone() {
    for seed in seeds(40) {
        let mut world = settled(seed, 3);
        let (group, leaver) = (group(), world.add_node(&[self::group()]));
        world.start(leaver, true);
        world.run_until(world.now() + Duration::from_millis(1 + seed));
        world.leave(leaver, group.id());
        world.drop_links(leaver);
        run_for(&mut world, 60);
        assert!(world.is_running(leaver) && world.view(leaver, group.id()).is_none(), "seed {seed}");
        for node in (0..3).map(NodeIx) {
            let state = state(&world, node, leaver, group.id());
            assert_ne!(state, Some(MemberState::Online), "seed {seed}: {node:?}");
        }
    }
}
