//! What the engine counts, for metrics.

use super::Engine;
use crate::id::GroupId;
use crate::io::{FrameCount, GroupCounts};

impl Engine {
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
