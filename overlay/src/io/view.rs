//! What a node says of itself and its groups when it is asked.

use std::fmt;
use std::time::Duration;

use super::TreeId;
use crate::descriptor::Descriptor;
use crate::id::{Address, Digest, GroupId, Life, NodeId, Seq};

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It runs.
    Online,
    /// It said goodbye and keeps its membership.
    Offline,
    /// It is silent, and independent suspicions agree.
    Failed,
    /// It left for good.
    Left,
    /// The founder removed it.
    Removed,
}

impl MemberState {
    /// Whether it is a member still: it has neither left nor been removed.
    pub fn is_member(self) -> bool {
        !matches!(self, Self::Left | Self::Removed)
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Failed => "failed",
            Self::Left => "left",
            Self::Removed => "removed",
        })
    }
}

/// One member, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub node: NodeId,
    /// What it calls itself; may be empty.
    pub nick: String,
    /// How it stands.
    pub state: MemberState,
    /// Where it says it can be reached.
    pub addresses: Vec<Address>,
    /// It is one of our neighbours in this group (active view).
    pub neighbour: bool,
}

/// One tree of a group, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeView {
    /// Which.
    pub tree: TreeId,
    /// Its root.
    pub root: NodeId,
    /// Whom batches come from; `None` at the root or while there is none.
    pub parent: Option<NodeId>,
    /// Ranked candidates whose paths avoid the parent.
    pub backups: Vec<NodeId>,
    /// Whom we pass batches to.
    pub children: Vec<NodeId>,
    /// Hops from the root, as the parent reports them; 0 at the root.
    pub depth: usize,
    /// Path latency from the core that this node hangs below, which is the root where there is one
    /// core: the parent's report plus half our round trip to it; 0 at a core.
    pub delay: Duration,
    /// How old the parent's report is.
    pub age: Duration,
}

/// How full a bounded collection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionView {
    /// `group/what` or `engine/what`; the cap's name in [`Config`](crate::Config).
    pub name: String,
    /// Entries.
    pub len: usize,
    /// Payload bytes held, where that is what is bounded; otherwise 0.
    pub bytes: usize,
    /// The cap, in entries, or in bytes where `bytes` is bounded.
    pub cap: usize,
}

impl CollectionView {
    /// Whether the cap holds.
    pub fn within(&self) -> bool {
        if self.bytes > 0 { self.bytes <= self.cap } else { self.len <= self.cap }
    }
}

/// One group, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Which.
    pub id: GroupId,
    /// What it is.
    pub descriptor: Descriptor,
    /// It has had a neighbour and a place in the tree.
    pub ready: bool,
    /// Everybody we know, ourselves included, by id.
    pub members: Vec<MemberView>,
    /// Our places in its trees.
    pub trees: Vec<TreeView>,
    /// For each source, the first batch not yet delivered here.
    pub delivered: Vec<(NodeId, Life, Seq)>,
    /// The total order, where there is one.
    pub order: Option<OrderView>,
    /// Batches received from others for the first time.
    pub received: u64,
    /// Batches received again: what [RMR](crate::io) is made of.
    pub duplicates: u64,
    /// Bytes of batches and of all other frames sent, for this group.
    pub sent_bytes: TrafficView,
}

/// A total order, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderView {
    /// The epoch; 0 before anything of the order was heard.
    pub epoch: u64,
    /// Its committee.
    pub committee: Vec<NodeId>,
    /// Who leads it; known to its members only.
    pub leader: Option<NodeId>,
    /// Messages that have a place here; in a successor group those of the group before are counted.
    pub index: u64,
    /// Of the last record of the order that is here.
    pub digest: Option<Digest>,
    /// Batches that are shown as tentative, as they have none.
    pub tentative: usize,
    /// Why that has been so for some time.
    pub stalled: Option<Stall>,
}

/// Why an order stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stall {
    /// Nothing was heard of the order yet: the founder has not been met.
    Unfounded,
    /// No majority of the committee is online, as far as this node knows.
    NoMajority,
    /// This node's own disk has failed, and it is in the committee.
    Disk,
    /// Batches that have their place are missing here.
    Missing,
    /// The committee is there, and does not get on.
    Slow,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unfounded => "the founder has not been met",
            Self::NoMajority => "no majority of the committee is online",
            Self::Disk => "this node's disk has failed, and it is in the committee",
            Self::Missing => "messages that have their place are missing here",
            Self::Slow => "the committee does not get on",
        })
    }
}

/// Useful and total bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrafficView {
    /// Bytes in batch frames.
    pub batches: u64,
    /// Bytes in all other frames.
    pub control: u64,
}
