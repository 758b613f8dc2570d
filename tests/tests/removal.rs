//! A member that the founder removes is removed everywhere: where it was, where somebody was away, and
//! in the other half of a group that was cut in two.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use treecast_overlay::io::{Event, MemberState, PublishError, RemoveError};
use treecast_overlay::sim::{Contacts, Crash, NetworkModel, NodeIx, Record, Step, What, World};
use treecast_overlay::{Admission, Config, Descriptor, Digest, GroupId, Input};
use treecast_tests::seeds::seeds;

const FOUNDER: NodeIx = NodeIx(0);
const AWAY: NodeIx = NodeIx(3);
const VICTIM: NodeIx = NodeIx(5);
/// In the other half, with the victim.
const FAR: [NodeIx; 2] = [NodeIx(6), NodeIx(7)];
const NODES: usize = 8;

struct Scene {
    world: World,
    group: Descriptor,
    said: u32,
    heard: Vec<Record>,
}

impl Scene {
    fn new(seed: u64, founder: bool) -> Self {
        let mut world = World::new(seed, NetworkModel::lan());
        world.config = Config { history: true, ..Config::lan() };
        world.contacts = Contacts::All;
        let key = |node: usize| [node as u8 + 1; 32];
        let mut group = Descriptor::open("board").expect("a good name");
        if founder {
            let mut scratch = World::new(0, NetworkModel::lan());
            let founder = scratch.add_node_with_key(&[], key(0));
            group.founder = Some(scratch.id(founder));
            group.admission = Admission::Ticket;
            group.salt = Some(Digest::from_bytes([7; 20]));
        }
        for node in 0..NODES {
            let node = world.add_node_with_key(std::slice::from_ref(&group), key(node));
            world.start(node, true);
        }
        let mut scene = Self { world, group, said: 0, heard: Vec::new() };
        scene.run(15);
        scene
    }

    fn id(&self) -> GroupId {
        self.group.id()
    }

    fn run(&mut self, seconds: u64) {
        self.world.run_until(self.world.now() + Duration::from_secs(seconds));
        self.heard.extend(self.world.take_records());
    }

    fn step(&mut self, step: Step) {
        self.world.schedule(self.world.now(), step);
    }

    fn say(&mut self, node: NodeIx) -> String {
        let text = format!("{} {}", node.0, self.said);
        self.said += 1;
        self.world.publish(node, self.id(), Bytes::from(text.clone()));
        text
    }

    fn remove(&mut self, by: NodeIx, victim: NodeIx) {
        let (group, node) = (self.id(), self.world.id(victim));
        self.world.feed(by, Input::Remove { group, node });
    }

    fn events(&self, at: NodeIx) -> impl Iterator<Item = &Event> {
        self.heard.iter().filter(move |it| it.node == at).filter_map(|it| match &it.what {
            What::Event(event) => Some(event),
            _ => None,
        })
    }

    /// What each has delivered, in this order.
    fn delivered(&self, at: NodeIx) -> Vec<String> {
        let payloads = self.events(at).filter_map(|it| match it {
            Event::Deliver { delivery, .. } => Some(&delivery.payloads),
            _ => None,
        });
        payloads.flatten().map(|it| String::from_utf8_lossy(it).into_owned()).collect()
    }

    fn state(&self, at: NodeIx, of: NodeIx) -> Option<(MemberState, bool)> {
        let members = self.world.view(at, self.id()).expect("it runs").members;
        members.iter().find(|it| it.node == self.world.id(of)).map(|it| (it.state, it.neighbour))
    }

    fn refusals(&self, at: NodeIx) -> Vec<RemoveError> {
        let refused = self.events(at).filter_map(|it| match it {
            Event::RemoveRefused { error, .. } => Some(*error),
            _ => None,
        });
        refused.collect()
    }
}

const GONE: Option<(MemberState, bool)> = Some((MemberState::Removed, false));

/// The founder's half, one that is away, the victim's half, one that comes when all is over, and everybody
/// started anew.
#[test]
fn a_member_is_removed_everywhere() {
    for seed in seeds(4) {
        let mut scene = Scene::new(seed, true);
        let before = scene.say(VICTIM);
        scene.run(3);
        scene.world.shutdown(AWAY);
        scene.run(5);
        let side = |far: bool| -> Vec<NodeIx> {
            let is_far = |it: &NodeIx| *it == VICTIM || FAR.contains(it);
            (0..NODES).map(NodeIx).filter(|it| is_far(it) == far && *it != AWAY).collect()
        };
        scene.step(Step::Cut { a: side(false), b: side(true), one_way: false });
        scene.run(20);
        // After its end, as the founder has it, and before anybody there knows; and what builds on that.
        let beyond = scene.say(VICTIM);
        scene.run(2);
        let answer = scene.say(FAR[0]);
        scene.run(2);
        assert!(scene.delivered(FAR[1]).contains(&answer), "seed {seed}");
        scene.remove(FOUNDER, VICTIM);
        scene.run(5);
        for node in side(false) {
            assert_eq!(scene.state(node, VICTIM), GONE, "seed {seed}: {node:?}, before the cut has healed");
        }
        scene.step(Step::Heal);
        scene.run(40);
        scene.world.start(AWAY, true);
        scene.run(20);
        let newcomer = scene.world.add_node(std::slice::from_ref(&scene.group));
        scene.world.start(newcomer, true);
        scene.run(20);
        let after = scene.say(FAR[1]);
        scene.say(VICTIM);
        scene.run(5);

        let others: Vec<NodeIx> = scene.world.running().into_iter().filter(|it| *it != VICTIM).collect();
        assert_eq!(others.len(), NODES, "seed {seed}");
        for node in others.iter().copied() {
            assert_eq!(scene.state(node, VICTIM), GONE, "seed {seed}: at {node:?}");
            let delivered = scene.delivered(node);
            assert!(delivered.contains(&after), "seed {seed}: at {node:?}");
            if node != newcomer {
                assert!(delivered.contains(&before), "seed {seed}: owed, at {node:?}");
                assert!(delivered.contains(&answer), "seed {seed}: waits for nothing, at {node:?}");
            }
            assert_eq!(delivered.contains(&beyond), FAR.contains(&node), "seed {seed}: at {node:?}");
        }
        the_victim_knows(&scene, seed);
        nobody_speaks_of_it_for_ever(&mut scene, &others, seed);
        comes_back_in_vain(&mut scene, &others, seed);
    }
}

fn the_victim_knows(scene: &Scene, seed: u64) {
    assert_eq!(scene.state(VICTIM, VICTIM), GONE, "seed {seed}");
    let (me, group) = (scene.world.id(VICTIM), scene.id());
    let told = Event::MemberRemoved { group, node: me, nick: String::new() };
    assert_eq!(scene.events(VICTIM).filter(|it| **it == told).count(), 1, "seed {seed}");
    let refused =
        scene.events(VICTIM).filter(|it| matches!(it, Event::Rejected { error: PublishError::Removed, .. }));
    assert_eq!(refused.count(), 1, "seed {seed}");
}

/// Once all agree, neither frontiers nor records go round any more because of it.
fn nobody_speaks_of_it_for_ever(scene: &mut Scene, others: &[NodeIx], seed: u64) {
    scene.run(10);
    scene.world.capture(100_000);
    scene.run(30);
    let mut kinds: BTreeMap<u8, usize> = BTreeMap::new();
    for it in scene.world.take_captured() {
        assert!(it.to != VICTIM && it.from != VICTIM || it.frame[2] == 0, "seed {seed}: {it:?}");
        if let [0x83, 0x18, kind, ..] = it.frame[..] {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    // Frontier: listeners are told all now and then, but nobody exchanges.
    let compared = kinds.get(&55).copied().unwrap_or(0);
    assert!(compared > 0 && compared < 20 * others.len(), "seed {seed}: {kinds:?}");
}

/// Restarts of all, and of the victim with and without its disk, change nothing.
fn comes_back_in_vain(scene: &mut Scene, others: &[NodeIx], seed: u64) {
    for node in others {
        scene.world.crash(*node, Crash::Process);
    }
    scene.world.crash(VICTIM, Crash::Process);
    scene.run(2);
    scene.world.start(VICTIM, true);
    scene.run(1);
    assert_eq!(scene.state(VICTIM, VICTIM), GONE, "seed {seed}: it has it on its disk");
    for node in others {
        scene.world.start(*node, true);
    }
    scene.run(1);
    for node in others {
        assert_eq!(scene.state(*node, VICTIM), GONE, "seed {seed}: from its disk, {node:?}");
    }
    scene.world.crash(VICTIM, Crash::Process);
    scene.world.start(VICTIM, false);
    scene.run(20);
    assert_eq!(scene.state(VICTIM, VICTIM), GONE, "seed {seed}: it is told anew");
    let last = scene.say(FOUNDER);
    scene.run(5);
    for node in others {
        assert_eq!(scene.state(*node, VICTIM), GONE, "seed {seed}: {node:?}");
        assert!(scene.delivered(*node).contains(&last), "seed {seed}: {node:?}");
    }
    assert!(!scene.delivered(VICTIM).contains(&last), "seed {seed}");
}

#[test]
fn only_the_founder_removes_and_not_itself() {
    let mut scene = Scene::new(0, true);
    scene.remove(VICTIM, AWAY);
    scene.remove(FOUNDER, FOUNDER);
    scene.run(5);
    assert_eq!(scene.refusals(VICTIM), [RemoveError::NotFounder]);
    assert_eq!(scene.refusals(FOUNDER), [RemoveError::Founder]);
    scene.step(Step::Disk { node: FOUNDER, failing: true });
    scene.run(1);
    scene.remove(FOUNDER, AWAY);
    scene.run(5);
    assert_eq!(scene.refusals(FOUNDER), [RemoveError::Founder, RemoveError::NotDurable]);
    for node in scene.world.running() {
        assert_eq!(scene.state(node, AWAY).map(|it| it.0), Some(MemberState::Online));
    }
    let mut open = Scene::new(0, false);
    open.remove(FOUNDER, VICTIM);
    open.run(1);
    assert_eq!(open.refusals(FOUNDER), [RemoveError::NoFounder]);
}

/// A receipt from all that are online waits for one that is cut off, and no longer once that is removed.
#[test]
fn receipts_do_not_wait_for_who_was_removed() {
    let mut scene = Scene::new(1, true);
    let others: Vec<NodeIx> = (0..NODES).map(NodeIx).filter(|it| *it != VICTIM).collect();
    scene.step(Step::Cut { a: others, b: vec![VICTIM], one_way: false });
    scene.say(FOUNDER);
    scene.run(1);
    let batch = scene.events(FOUNDER).find_map(|it| match it {
        Event::Published { batch, .. } => Some(*batch),
        _ => None,
    });
    let (batch, group) = (batch.expect("placed"), scene.id());
    scene.world.feed(FOUNDER, Input::RequestReceipt { group, batch });
    scene.run(1);
    let last = |scene: &Scene| {
        let told = scene.events(FOUNDER).filter_map(|it| match it {
            Event::Receipt { have, of, .. } => Some((*have, *of)),
            _ => None,
        });
        told.last()
    };
    assert_eq!(last(&scene), Some((NODES - 2, NODES - 1)));
    scene.remove(FOUNDER, VICTIM);
    scene.run(1);
    assert_eq!(last(&scene), Some((NODES - 2, NODES - 2)));
}

/// Two removals at once, one of them in each half, and a third of somebody who is already gone: all end
/// with the union.
#[test]
fn several_are_removed() {
    let mut scene = Scene::new(2, true);
    scene.world.shutdown(AWAY);
    scene.run(3);
    for victim in [VICTIM, AWAY, FAR[0], VICTIM] {
        scene.remove(FOUNDER, victim);
    }
    scene.run(10);
    let gone = BTreeSet::from([VICTIM, AWAY, FAR[0]]);
    for node in scene.world.running().into_iter().filter(|it| !gone.contains(it)) {
        for victim in &gone {
            assert_eq!(scene.state(node, *victim), GONE, "{victim:?} at {node:?}");
        }
    }
}
