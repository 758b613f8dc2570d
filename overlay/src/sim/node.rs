//! One simulated node: its engine while it runs, its disk, its place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::link::{ConnIx, Side};
use super::network::Site;
use crate::descriptor::Descriptor;
use crate::engine::{Engine, PastLife};
use crate::id::{Address, GroupId, Life, LinkId, NodeId};
use crate::io::{Lane, Write};
use crate::time::Time;

/// A node's place in the world's list; it stays through restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIx(pub usize);

/// What a stopped node answers to a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    /// It runs, or refuses at once.
    Up,
    /// Nothing.
    Down,
}

/// What survives a crash.
#[derive(Debug, Default, Clone)]
pub(super) struct Disk {
    pub(super) last_life: Life,
    /// Where each group's last life ends, as far as it was written.
    pub(super) ends: BTreeMap<GroupId, PastLife>,
    /// Nodes it had a link to: an application remembers their addresses.
    pub(super) met: BTreeSet<NodeIx>,
    /// Writes fail from now on.
    pub(super) failing: bool,
}

impl Disk {
    pub(super) fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Life { life, .. } => self.last_life = self.last_life.max(*life),
                Write::Batch { group, id, digest, .. } => {
                    self.last_life = self.last_life.max(id.life);
                    let (life, end) = (id.life, id.seq + 1);
                    self.ends.insert(*group, PastLife { group: *group, life, end, digest: *digest });
                }
                // Simulated nodes have no history.
                Write::Earlier(_) => {}
            }
        }
    }
}

/// A frame on its way out of an uplink.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    /// When its last byte is out.
    pub(super) at: Time,
    pub(super) link: LinkId,
    pub(super) lane: Lane,
    pub(super) bytes: usize,
}

pub(super) struct SimNode {
    pub(super) id: NodeId,
    pub(super) secret_key: [u8; 32],
    pub(super) site: Site,
    pub(super) groups: Vec<Descriptor>,
    pub(super) disk: Disk,
    pub(super) host: Host,
    /// While it runs. A puppet never has one: its ends of links are moved by hand.
    pub(super) engine: Option<Engine>,
    pub(super) puppet: bool,
    /// Counts its starts, from 1.
    pub(super) run: u32,
    /// When this run started: the engine's own zero.
    pub(super) zero: Time,
    /// By how much its wall clock is ahead, milliseconds.
    pub(super) clock_skew_ms: i64,
    /// This run's connections, by link number.
    pub(super) links: Vec<(ConnIx, Side)>,
    /// Nodes whose addresses the driver knows in this run.
    pub(super) known: BTreeSet<NodeIx>,
    /// When its uplink is free again, nanoseconds.
    pub(super) uplink_free_ns: u64,
    /// What is on its way out of the uplink.
    pub(super) leaving: VecDeque<Leaving>,
    pub(super) drain_scheduled: bool,
    /// The earliest wake-up in the queue.
    pub(super) wake: Option<Time>,
    /// Ticks taken at one moment: an engine whose deadline does not advance is broken.
    pub(super) ticks: (Time, u32),
}

impl SimNode {
    pub(super) fn new(secret_key: [u8; 32], site: Site, groups: Vec<Descriptor>) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(&secret_key);
        Self {
            id: NodeId::from_bytes(key.verifying_key().to_bytes()),
            secret_key,
            site,
            groups,
            disk: Disk::default(),
            host: Host::Up,
            engine: None,
            puppet: false,
            run: 0,
            zero: Time::ZERO,
            clock_skew_ms: 0,
            links: Vec::new(),
            known: BTreeSet::new(),
            uplink_free_ns: 0,
            leaving: VecDeque::new(),
            drain_scheduled: false,
            wake: None,
            ticks: (Time::ZERO, 0),
        }
    }

    /// The engine's time.
    pub(super) fn local(&self, now: Time) -> Time {
        Time::ZERO + now.since(self.zero)
    }

    /// The world's time of one of the engine's.
    pub(super) fn global(&self, local: Time) -> Time {
        self.zero + local.since(Time::ZERO)
    }

    pub(super) fn end(&self, link: LinkId) -> Option<(ConnIx, Side)> {
        usize::try_from(link.0).ok().and_then(|number| self.links.get(number)).copied()
    }

    /// Takes what has left the uplink by `now`: bytes of each link and lane, in the order in
    /// which they began to leave.
    pub(super) fn left(&mut self, now: Time) -> Vec<(LinkId, Lane, usize)> {
        let mut left: Vec<(LinkId, Lane, usize)> = Vec::new();
        while let Some(frame) = self.leaving.front().filter(|it| it.at <= now) {
            match left.iter_mut().find(|(link, lane, _)| (*link, *lane) == (frame.link, frame.lane)) {
                Some((_, _, bytes)) => *bytes += frame.bytes,
                None => left.push((frame.link, frame.lane, frame.bytes)),
            }
            self.leaving.pop_front();
        }
        left
    }

    /// Whether dials reach somebody.
    pub(super) fn listens(&self) -> bool {
        self.engine.is_some() || self.puppet
    }

    /// How long so many bytes take to leave, nanoseconds.
    pub(super) fn serialisation_ns(&self, bytes: usize) -> u64 {
        (bytes as u64).saturating_mul(1_000_000_000) / self.site.bytes_per_s.max(1)
    }
}

/// Where a node can be reached: its number.
pub(super) fn address(node: NodeIx) -> Address {
    Address::new(format!("/sim/{}", node.0).into_bytes()).expect("a short address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::sim::network::NetworkModel;

    #[test]
    fn bytes_leave_in_order_and_are_told_by_link_and_lane() {
        let site = NetworkModel::lan().place(0, &mut Rng::new(1));
        let mut node = SimNode::new([1; 32], site, Vec::new());
        for (at, link, lane, bytes) in
            [(10, 7, Lane::Live, 3), (20, 8, Lane::Live, 5), (30, 7, Lane::Live, 4), (40, 7, Lane::Bulk, 9)]
        {
            node.leaving.push_back(Leaving { at: Time::from_micros(at), link: LinkId(link), lane, bytes });
        }
        assert_eq!(node.left(Time::from_micros(5)), []);
        let two = [(LinkId(7), Lane::Live, 7), (LinkId(8), Lane::Live, 5)];
        assert_eq!(node.left(Time::from_micros(30)), two);
        assert_eq!(node.left(Time::from_micros(40)), [(LinkId(7), Lane::Bulk, 9)]);
    }
}
