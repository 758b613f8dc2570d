//! Hand-made histories, so that each checker is seen to fail.

use std::collections::BTreeMap;

use treecast_overlay::Time;
use treecast_overlay::sim::{NodeIx, Stop};

use crate::oracle::{Delivered, Entry, Fact, History, Key, Sequence};

/// Builds a history; every fact is one second after the one before.
#[derive(Default, Clone)]
pub(super) struct Tale {
    history: History,
}

/// Word of a loss.
pub(super) const LOST: Fact = Fact::Lost { source: None, life: 0, from: 0, to: 1 };

pub(super) fn key(author: usize, n: u64) -> Key {
    Key { author: NodeIx(author), n }
}

impl Tale {
    pub(super) fn fact(mut self, node: usize, run: u32, fact: Fact) -> Self {
        let time = Time::from_micros(self.history.entries.len() as u64 * 1_000_000);
        self.history.entries.push(Entry { time, node: NodeIx(node), run, fact });
        self
    }

    /// All nodes below `count` start and become ready, five seconds before what follows.
    pub(super) fn ready(mut self, count: usize) -> Self {
        for node in 0..count {
            self = self.fact(node, 1, Fact::Started { resumed: false }).fact(node, 1, Fact::Ready);
        }
        self.fact(0, 1, Fact::Ready).fact(0, 1, Fact::Ready).fact(0, 1, Fact::Ready)
    }

    pub(super) fn publishes(self, author: usize, n: u64) -> Self {
        self.fact(author, 1, Fact::Published(key(author, n))).fact(author, 1, Fact::Placed(key(author, n)))
    }

    /// Message n of an author comes as batch n of its life 1.
    pub(super) fn delivers(self, node: usize, author: usize, n: u64) -> Self {
        self.delivers_as(node, 1, delivered(author, n))
    }

    pub(super) fn delivers_as(self, node: usize, run: u32, delivered: Delivered) -> Self {
        self.fact(node, run, Fact::Delivered(delivered))
    }

    pub(super) fn orders(self, node: usize, index: u64, it: Delivered) -> Self {
        self.fact(node, 1, Fact::Ordered(index, it))
    }

    /// That is the order on its disk at the end, from this place on.
    pub(super) fn has_order(mut self, node: usize, first: u64, kept: Vec<Delivered>) -> Self {
        let places: BTreeMap<u64, Delivered> = (first..).zip(kept).collect();
        let next = first + places.len() as u64;
        self.history.order.disks.insert(NodeIx(node), Sequence { next, places });
        self
    }

    pub(super) fn dies(self, node: usize) -> Self {
        self.fact(node, 1, Fact::Stopped(Stop::Killed))
    }

    /// That is what is on its disk at the end.
    pub(super) fn keeps(mut self, node: usize, kept: Vec<Delivered>) -> Self {
        self.history.disks.insert(NodeIx(node), kept);
        self
    }

    pub(super) fn told(self) -> History {
        self.history
    }
}

pub(super) fn delivered(author: usize, n: u64) -> Delivered {
    Delivered { source: Some(NodeIx(author)), life: 1, seq: n, n: 0, key: Some(key(author, n)) }
}
