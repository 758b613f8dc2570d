//! What has happened so far, counted for metrics. Labels are fixed words, so nobody outside can make
//! more of them.

use std::collections::BTreeMap;

use libp2p::core::ConnectedPoint;
use treecast_overlay::behaviour::LinkClosed;
use treecast_overlay::io::{CloseReason, ParentReason};
use treecast_overlay::{BatchId, Event, GroupId, PublishError};

use super::groups::{Groups, group_of};
use crate::discovery::addresses::transport_of;
use crate::store::Done;

/// How often each of some words came up.
pub(crate) type Words = BTreeMap<&'static str, u64>;

/// The node's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Turns of the driver's loop.
    pub(crate) turns: u64,
    /// Connections that came to stand, by transport and who dialled: `in`, `out`.
    pub(crate) connections: BTreeMap<(&'static str, &'static str), u64>,
    /// Connections that ended, by transport.
    pub(crate) disconnections: Words,
    /// Attempts at a connection that came to nothing, by who dialled.
    pub(crate) failed_connections: Words,
    pub(crate) links_opened: u64,
    /// By why.
    pub(crate) links_closed: Words,
    /// What the store has answered.
    pub(crate) store_jobs: u64,
    pub(crate) store_errors: u64,
}

impl Tally {
    pub(super) fn on_connected(&mut self, point: &ConnectedPoint) {
        let direction = if point.is_dialer() { "out" } else { "in" };
        let key = (transport_of(point.get_remote_address()), direction);
        *self.connections.entry(key).or_default() += 1;
    }

    pub(super) fn on_disconnected(&mut self, point: &ConnectedPoint) {
        count(&mut self.disconnections, transport_of(point.get_remote_address()));
    }

    /// No connection came about.
    pub(super) fn on_no_connection(&mut self, direction: &'static str) {
        count(&mut self.failed_connections, direction);
    }

    pub(super) fn on_link_closed(&mut self, reason: LinkClosed) {
        count(&mut self.links_closed, link_closed(reason));
    }

    pub(super) fn on_saved(&mut self, all: &[Done]) {
        self.store_jobs += all.len() as u64;
        self.store_errors += all.iter().filter(|done| done.result.is_err()).count() as u64;
    }
}

/// One group's.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupTally {
    /// This node's messages that have their place.
    pub(crate) published: u64,
    /// Batches they are in.
    pub(crate) own_batches: u64,
    last_batch: Option<BatchId>,
    /// Messages that were not taken, by why.
    pub(crate) rejected: Words,
    /// Messages in the group's order, this node's own among them.
    pub(crate) delivered: u64,
    pub(crate) delivered_bytes: u64,
    /// Batches of gaps.
    pub(crate) missing: u64,
    pub(crate) repaired: u64,
    pub(crate) lost: u64,
    /// Batches skipped because this node was away too long.
    pub(crate) lagged: u64,
    /// By cap.
    pub(crate) overloads: Words,
    pub(crate) forks: u64,
    /// By why.
    pub(crate) parent_changes: Words,
    /// By what.
    pub(crate) member_changes: Words,
}

impl GroupTally {
    fn on_event(&mut self, event: &Event) {
        match event {
            Event::Published { batch, .. } => {
                self.published += 1;
                self.own_batches += u64::from(self.last_batch.replace(*batch) != Some(*batch));
            }
            Event::Rejected { error, .. } => count(&mut self.rejected, rejected(*error)),
            // In a total order each is delivered twice, and counts once it has its place.
            Event::Deliver { delivery, tentative: false, .. } | Event::Ordered { delivery, .. } => {
                self.delivered += delivery.payloads.len() as u64;
                self.delivered_bytes += delivery.payloads.iter().map(|it| it.len() as u64).sum::<u64>();
            }
            Event::Gap { from, to, lost: false, .. } => self.missing += to.saturating_sub(*from),
            Event::Gap { from, to, lost: true, .. } => {
                self.lost = self.lost.saturating_add(to.saturating_sub(*from))
            }
            Event::Repaired { from, to, .. } => self.repaired += to.saturating_sub(*from),
            Event::Lagged { missed, .. } => self.lagged = self.lagged.saturating_add(*missed),
            Event::Overloaded { cap, .. } => count(&mut self.overloads, cap),
            Event::Forked { .. } => self.forks += 1,
            Event::ParentChanged { reason, .. } => count(&mut self.parent_changes, parent_reason(*reason)),
            Event::MemberJoined { .. } => count(&mut self.member_changes, "joined"),
            Event::MemberOnline { .. } => count(&mut self.member_changes, "online"),
            Event::MemberOffline { .. } => count(&mut self.member_changes, "offline"),
            Event::MemberFailed { .. } => count(&mut self.member_changes, "failed"),
            Event::MemberLeft { .. } => count(&mut self.member_changes, "left"),
            Event::MemberRemoved { .. } => count(&mut self.member_changes, "removed"),
            _ => {}
        }
    }
}

impl Groups {
    /// Takes note of what the core tells, before anybody else does.
    pub(super) fn tally(&mut self, event: &Event) {
        let group: Option<GroupId> = match event {
            Event::Published { group, .. } | Event::Rejected { group, .. } => Some(*group),
            other => group_of(other),
        };
        if let Some(slot) = group.and_then(|group| self.slots.get_mut(&group)) {
            slot.tally.on_event(event);
        }
    }
}

fn count(words: &mut Words, word: &'static str) {
    *words.entry(word).or_default() += 1;
}

fn link_closed(reason: LinkClosed) -> &'static str {
    match reason {
        LinkClosed::Connection => "connection",
        LinkClosed::Unsupported => "unsupported",
        LinkClosed::TimedOut => "timed_out",
        LinkClosed::Stream(_) => "stream",
        LinkClosed::ByPeer => "by_peer",
        LinkClosed::ByUs => "by_us",
        LinkClosed::QueueFull => "queue_full",
        LinkClosed::Protocol(_) | LinkClosed::Core(CloseReason::Protocol(_)) => "protocol",
        LinkClosed::Core(CloseReason::Redundant) => "redundant",
        LinkClosed::Core(CloseReason::Unused) => "unused",
        LinkClosed::Core(CloseReason::Silent) => "silent",
        LinkClosed::Core(CloseReason::Shutdown) => "shutdown",
        _ => "other",
    }
}

fn parent_reason(reason: ParentReason) -> &'static str {
    match reason {
        ParentReason::Joined => "joined",
        ParentReason::LinkClosed => "link_closed",
        ParentReason::RootLost => "root_lost",
        ParentReason::NewRoot => "new_root",
        ParentReason::Silent => "silent",
        ParentReason::Better => "better",
        ParentReason::Released => "released",
        ParentReason::BecameRoot => "became_root",
        _ => "other",
    }
}

fn rejected(error: PublishError) -> &'static str {
    match error {
        PublishError::UnknownGroup => "unknown_group",
        PublishError::TooLarge { .. } => "too_large",
        PublishError::Full => "full",
        PublishError::Leaving => "leaving",
        PublishError::NotDurable => "not_durable",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use treecast_overlay::{Delivery, NodeId, PublishId};

    use super::*;

    #[test]
    fn messages_and_the_batches_they_are_in_are_counted() {
        let (group, source) = (GroupId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let mut tally = GroupTally::default();
        for (id, (seq, n)) in [(0, 0), (1, 0), (1, 1), (2, 0)].into_iter().enumerate() {
            let batch = BatchId { source, life: 1, seq };
            tally.on_event(&Event::Published { group, id: PublishId(id as u64), batch, n });
        }
        assert_eq!((tally.published, tally.own_batches), (4, 3));
        let payloads = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")];
        let delivery = Delivery { source, life: 1, seq: 0, time_unix_ms: 0, first: 0, payloads };
        tally.on_event(&Event::Deliver { group, delivery, tentative: false });
        assert_eq!((tally.delivered, tally.delivered_bytes), (2, 5));
        let (life, from, to) = (1, 3, 7);
        tally.on_event(&Event::Gap { group, source, life, from, to, lost: false });
        tally.on_event(&Event::Repaired { group, source, life, from, to: 6 });
        tally.on_event(&Event::Gap { group, source, life, from: 6, to, lost: true });
        assert_eq!((tally.missing, tally.repaired, tally.lost), (4, 3, 1));
    }
}
