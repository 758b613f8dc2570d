//! A group in numbers.

use super::Group;
use crate::io::{GroupCounts, MemberState, TrafficView};

impl Group {
    pub(crate) fn counts(&self, sent_bytes: TrafficView) -> GroupCounts {
        let mut counts = GroupCounts {
            ready: self.ready,
            received: self.received,
            duplicates: self.duplicates,
            sent_bytes,
            neighbours: self.views.active_len(),
            sources: self.sources.len(),
            ..GroupCounts::default()
        };
        for (_, member) in self.roster.iter() {
            *match member.state() {
                MemberState::Online => &mut counts.online,
                MemberState::Offline => &mut counts.offline,
                MemberState::Failed => &mut counts.failed,
                MemberState::Left => &mut counts.left,
                MemberState::Removed => &mut counts.removed,
            } += 1;
        }
        counts
    }
}
