//! The same network, source and uplinks in the simulator.

use std::time::Duration;

use bytes::Bytes;
use treecast_overlay::io::Event;
use treecast_overlay::sim::{Contacts, Crash, NodeIx, What, World};
use treecast_overlay::{Descriptor, GroupId, Time};

use super::heard::Heard;
use super::network::Network;
use super::{BEFORE_KILL, EVERY, LINE, SETTLED, after_pause};

/// A simulated run of the whole test.
pub(crate) struct Simulated {
    pub(crate) heard: Heard,
    /// Of the node that was killed.
    pub(crate) children: usize,
}

/// Members hear of each other as on a LAN, settle, and one talks; whoever has most children dies.
pub(crate) fn run(network: &Network, source: usize, seed: u64, lines: usize, how: Crash) -> Simulated {
    let places = network.one_way.len();
    let (mut world, group) = start(network, seed);
    let settled = Time::ZERO + SETTLED;
    world.run_until(settled);
    let mut children = 0;
    for line in 0..lines {
        world.run_until(at(settled, line));
        if line == BEFORE_KILL {
            let victim = largest_parent(&world, group, source);
            children = children_of(&world, group, victim);
            world.crash(victim, how);
        }
        world.publish(NodeIx(source), group, payload(line)).expect("the source runs");
    }
    world.run_until(at(settled, lines) + Duration::from_secs(10));
    Simulated { heard: heard(&mut world, settled, places, lines), children }
}

fn start(network: &Network, seed: u64) -> (World, GroupId) {
    let lobby = Descriptor::open("lobby").expect("a good name");
    let mut world = World::new(seed, network.model());
    world.contacts = Contacts::All;
    world.assume_signatures = true;
    for mbit in &network.mbit {
        let node = world.add_node(std::slice::from_ref(&lobby));
        world.set_uplink(node, mbit * 1_000_000 / 8);
        world.start(node, false);
    }
    (world, lobby.id())
}

/// When a line is published.
fn at(settled: Time, line: usize) -> Time {
    settled + EVERY * u32::try_from(line).expect("few lines") + after_pause(line)
}

fn payload(line: usize) -> Bytes {
    let mut payload = vec![b'.'; LINE];
    payload[..8].copy_from_slice(&(line as u64).to_be_bytes());
    Bytes::from(payload)
}

fn line_of(payload: &[u8]) -> usize {
    u64::from_be_bytes(payload[..8].try_into().expect("our own")) as usize
}

fn heard(world: &mut World, settled: Time, places: usize, lines: usize) -> Heard {
    let mut heard = Heard::new(places, lines);
    for record in world.take_records() {
        let What::Event(Event::Deliver { delivery, .. }) = record.what else { continue };
        for payload in &delivery.payloads {
            let line = line_of(payload);
            let delay = record.time.since(at(settled, line)).as_secs_f64() * 1_000.0;
            let earlier = heard.delays[record.node.0][line].replace(delay);
            assert_eq!(earlier, None, "line {line} came twice to {:?}", record.node);
        }
    }
    heard
}

fn largest_parent(world: &World, group: GroupId, source: usize) -> NodeIx {
    let candidates = world.running().into_iter().filter(|node| node.0 != source);
    candidates.max_by_key(|node| children_of(world, group, *node)).expect("there are others")
}

fn children_of(world: &World, group: GroupId, node: NodeIx) -> usize {
    world.trees(node, group).iter().map(|tree| tree.children.len()).max().unwrap_or(0)
}
