//! A source that publishes as fast as the overlay takes it: links are full, queues are long, and
//! still every byte goes over every edge once.

use std::time::Duration;

use bytes::Bytes;
use treecast_overlay::io::{Event, ParentReason};
use treecast_overlay::sim::{Contacts, NetworkModel, NodeIx, What, World};
use treecast_overlay::{Config, Descriptor, GroupId, Time};
use treecast_tests::seeds::seeds;

/// Bytes a second of each uplink: a gigabit.
const UPLINK: u64 = 125_000_000;

const MESSAGE: usize = 16 << 10;

/// What waits at the source at most.
const QUEUE: usize = 1 << 20;

struct Busy {
    world: World,
    group: GroupId,
    published: u64,
}

impl Busy {
    fn settled(seed: u64, jitter: Duration, nodes: usize) -> Self {
        let group = Descriptor::open("busy").expect("a good name");
        let mut world = World::new(seed, NetworkModel { jitter, ..NetworkModel::lan() });
        world.contacts = Contacts::First;
        world.config = Config::lan();
        for _ in 0..nodes {
            let node = world.add_node(std::slice::from_ref(&group));
            world.set_uplink(node, UPLINK);
            world.start(node, true);
        }
        world.run_until(Time::ZERO + Duration::from_secs(10));
        world.take_records();
        Self { world, group: group.id(), published: 0 }
    }

    /// Publishes whatever there is room for, for so long.
    fn flood(&mut self, source: NodeIx, span: Duration) {
        let until = self.world.now() + span;
        let full = self.world.config.publish_queue_bytes - QUEUE;
        while self.world.now() < until {
            while self.world.publish_room(source, self.group) > full {
                let payload = vec![self.published as u8; MESSAGE];
                self.world.publish(source, self.group, Bytes::from(payload));
                self.published += 1;
            }
            self.world.run_until(self.world.now() + Duration::from_millis(1));
        }
    }
}

#[test]
fn a_flood_goes_over_every_edge_once() {
    const NODES: usize = 10;
    for seed in seeds(3) {
        // What the scheduler of a busy machine adds.
        let jitter = Duration::from_millis(5 * (seed % 3));
        let mut busy = Busy::settled(seed, jitter, NODES);
        let (mut delivered, mut moves, mut lost) = (0, Vec::new(), 0);
        busy.flood(NodeIx(NODES - 1), Duration::from_secs(5));
        let ended = busy.world.now();
        busy.world.run_until(ended + Duration::from_secs(5));
        for record in busy.world.take_records() {
            let What::Event(event) = record.what else { continue };
            match event {
                Event::Deliver { delivery, .. } => delivered += delivery.payloads.len() as u64,
                Event::ParentChanged { reason, .. } => moves.push(reason),
                Event::Gap { lost: true, .. } | Event::Lagged { .. } => lost += 1,
                _ => {}
            }
        }
        let views: Vec<_> = (0..NODES).filter_map(|node| busy.world.view(NodeIx(node), busy.group)).collect();
        let (received, again) =
            views.iter().fold((0, 0), |sum, view| (sum.0 + view.received, sum.1 + view.duplicates));
        let sent: u64 = views.iter().map(|view| view.sent_bytes.batches + view.sent_bytes.control).sum();
        let payload = busy.published * MESSAGE as u64 * (NODES as u64 - 1);
        let wire = sent as f64 / payload as f64;
        let rate = busy.published * MESSAGE as u64 / 5;
        eprintln!(
            "seed {seed}, jitter {jitter:?}: {rate} bytes/s, {again} of {received} again, {wire:.3} bytes a payload byte, moves {moves:?}"
        );
        assert_eq!(delivered, busy.published * NODES as u64, "seed {seed}");
        assert_eq!(lost, 0, "seed {seed}");
        assert!(!moves.contains(&ParentReason::Silent), "seed {seed}: {moves:?}");
        assert!(wire <= 1.05, "seed {seed}: {wire:.3}");
    }
}

/// More than one publishes as fast as that: pauses must end, or all wait for all.
#[test]
fn a_flood_from_four_goes_on() {
    const NODES: usize = 20;
    for seed in seeds(4) {
        let mut busy = Busy::settled(seed, Duration::from_millis(2), NODES);
        for node in 0..NODES {
            // What two processors make of a gigabit for twenty.
            busy.world.set_uplink(NodeIx(node), UPLINK / 20);
        }
        let (sources, mut pause) = ([0, 1, 2, 3].map(NodeIx), 0);
        for second in 0..20 {
            busy.world.take_records();
            for _ in 0..20 {
                for source in sources {
                    busy.flood(source, Duration::from_millis(12));
                }
            }
            let records = busy.world.take_records();
            let made = records.iter().filter(|it| matches!(it.what, What::Event(Event::Published { .. })));
            // A pause that is not renewed runs out after a second.
            pause = if made.count() > 0 { 0 } else { pause + 1 };
            assert!(pause < 3, "seed {seed}: nothing is published any more after {second} s");
        }
    }
}
