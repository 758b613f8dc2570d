//! What the engine counts, for metrics.

use super::Engine;
use crate::id::{BatchId, GroupId, NodeId};
use crate::io::{FrameCount, GroupCounts};

impl Engine {
    /// Members of a group that did not say that they have a batch of this node (and all before it of its
    /// life), those that left aside.
    pub fn lacking(&self, group: GroupId, batch: &BatchId) -> Vec<NodeId> {
        self.groups.get(&group).map(|it| it.group.lacking(batch)).unwrap_or_default()
    }

    /// What has passed on all links, by kind of frame: every kind there is, in the same order always.
    pub fn frames(&self) -> Vec<FrameCount> {
        self.links.traffic.frames()
    }

    /// One group in numbers.
    pub fn group_counts(&self, group: GroupId) -> Option<GroupCounts> {
        self.groups.get(&group).map(|it| it.group.counts(it.traffic))
    }

    /// Bytes that wait in the driver, on all links.
    pub fn queued_bytes(&self) -> usize {
        self.links.queued_in_all()
    }
}
