//! How many children this node can feed: as many as may be, until its uplink says otherwise.

use std::time::Duration;

use super::{Act, Sight, Tree};
use crate::config::Config;
use crate::id::NodeId;
use crate::time::Time;

/// Between two children that are sent away, for the queues to show what it brought.
const SHED_GAP: Duration = Duration::from_millis(1_200);
/// Room for one more comes back after so long at first, and twice as long each time that it was too
/// much, up to this. Guess.
const BACK: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(600));

/// Children that the uplink bears.
#[derive(Debug)]
pub(super) struct Slots {
    /// None were too many so far.
    most: Option<usize>,
    shed: Time,
    back_after: Duration,
    back: Time,
    /// Room for one has come back since a child was sent away.
    returned: bool,
}

impl Default for Slots {
    fn default() -> Self {
        Self { most: None, shed: Time::ZERO, back_after: BACK.0, back: Time::NEVER, returned: false }
    }
}

impl Slots {
    pub(super) fn most(&self, config: &Config) -> usize {
        self.most.map_or(config.max_children, |most| most.min(config.max_children))
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.most.map(|_| self.back)
    }
}

impl Tree {
    /// The uplink does not keep up: the child that waits for most, of these, goes to another one.
    pub(crate) fn shed(&mut self, sight: &Sight<'_>, queues: &[(usize, NodeId)], acts: &mut Vec<Act>) {
        let now = sight.now;
        if now.since(self.slots.shed) < SHED_GAP {
            return;
        }
        let count = self.staying_children().count();
        let longest = queues.iter().filter(|(queued, _)| *queued > 0).max();
        // The last one stays: somebody has to feed it.
        let Some((_, child)) = longest.filter(|_| count > 1).copied() else { return };
        if std::mem::take(&mut self.slots.returned) {
            self.slots.back_after = (self.slots.back_after * 2).min(BACK.1);
        }
        (self.slots.most, self.slots.shed) = (Some(count - 1), now);
        self.slots.back = now + self.slots.back_after;
        self.changed = true;
        let place = sight.links.place(&child);
        let mut others: Vec<_> = self.staying_children().filter(|it| *it != child).collect();
        others.sort_by_key(|it| (sight.links.place(it).zip(place).map(|(a, b)| a.to(&b)), *it));
        others.truncate(3);
        self.send_down(now, &child, others, acts);
    }

    /// Children that are not on their way to somebody else, and that are no cores.
    pub(crate) fn staying_children(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.children.iter().filter(|(_, child)| !child.leaving && !child.core).map(|(node, _)| *node)
    }

    pub(super) fn poll_slots(&mut self, now: Time, config: &Config) {
        if let Some(most) = self.slots.most.filter(|_| self.slots.back <= now) {
            self.slots.most = Some(most + 1).filter(|it| *it < config.max_children);
            (self.slots.back, self.slots.returned) = (now + self.slots.back_after, true);
            if self.slots.most.is_none() {
                self.slots.back_after = BACK.0;
            }
            self.changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::Links;
    use crate::wire::frame::Graft;

    #[test]
    fn children_go_one_at_a_time_and_room_comes_back() {
        let (links, config) = (Links::default(), Config::default());
        let node = |it: u8| NodeId::from_bytes([it; 32]);
        let mut tree = Tree::new(Time::ZERO, node(1), true);
        let (root, epoch) = tree.claim();
        let at = |ms: u64| Sight { now: Time::from_micros(ms * 1_000), links: &links, config: &config };
        for child in 2..6 {
            let graft = Graft { root, epoch, size: 1, core: false, meshed: false, clusters: Vec::new() };
            tree.handle_graft(&at(0), node(child), &graft, &mut Vec::new());
        }
        let queues = [(10, node(2)), (30, node(3)), (20, node(4)), (20, node(5))];
        let mut acts = Vec::new();
        tree.shed(&at(2_000), &queues, &mut acts);
        tree.shed(&at(2_100), &queues, &mut acts);
        let away = |it: &Act| matches!(it, Act::GraftReply(node, reply) if !reply.accepted && *node == NodeId::from_bytes([3; 32]));
        assert_eq!(acts.iter().filter(|it| away(it)).count(), 1, "{acts:?}");
        assert_eq!((tree.children_len(), tree.free(&config)), (4, 0), "it is fed until it has gone");
        tree.poll_slots(Time::from_micros(22_000_000), &config);
        assert_eq!(tree.free(&config), 1);
    }
}
