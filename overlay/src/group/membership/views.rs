//! The active and the passive view (HyParView §4.1): symmetric neighbours, and others to
//! turn to.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::Time;
use crate::wire::record::MemberRecord;

/// How long an answer to a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Between looks at whether the active view needs anybody.
const FILL_EVERY: Duration = Duration::from_millis(500);

/// What we asked a node for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// To be let in.
    Join,
    /// To be a neighbour.
    Neighbour,
}

/// The partial views of a group.
#[derive(Debug)]
pub(crate) struct Views {
    active: BTreeMap<NodeId, Time>,
    passive: BTreeMap<NodeId, MemberRecord>,
    requests: BTreeMap<NodeId, (Request, Time)>,
    next_fill: Time,
    next_shuffle: Time,
}

impl Views {
    pub(crate) fn new(now: Time, rng: &mut Rng, config: &Config) -> Self {
        Self {
            active: BTreeMap::new(),
            passive: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_fill: now,
            next_shuffle: now + rng.jitter(config.shuffle_every),
        }
    }

    pub(crate) fn active(&self) -> Vec<NodeId> {
        self.active.keys().copied().collect()
    }

    pub(crate) fn is_active(&self, node: &NodeId) -> bool {
        self.active.contains_key(node)
    }

    pub(crate) fn active_len(&self) -> usize {
        self.active.len()
    }

    pub(crate) fn passive_len(&self) -> usize {
        self.passive.len()
    }

    pub(crate) fn passive_records(&self) -> impl Iterator<Item = &MemberRecord> {
        self.passive.values()
    }

    /// Whether more neighbours are wanted.
    pub(crate) fn wants_more(&self, config: &Config) -> bool {
        self.active.len() < config.active_view
    }

    pub(crate) fn has_room(&self, config: &Config) -> bool {
        self.active.len() < config.active_view_max
    }

    /// Adds a neighbour; `false` if it is one already.
    pub(crate) fn add(&mut self, now: Time, node: NodeId) -> bool {
        self.requests.remove(&node);
        self.passive.remove(&node);
        self.active.insert(node, now).is_none()
    }

    /// Takes a neighbour out; whether it was one.
    pub(crate) fn remove(&mut self, node: &NodeId) -> bool {
        self.requests.remove(node);
        self.active.remove(node).is_some()
    }

    /// Forgets a node altogether: it left, or does not answer. Whether we had asked it for
    /// something.
    pub(crate) fn forget(&mut self, node: &NodeId) -> bool {
        self.passive.remove(node);
        self.requests.remove(node).is_some()
    }

    /// A neighbour to let go when there are too many: anyone, but rather not one of `keep`.
    pub(crate) fn surplus(
        &self,
        rng: &mut Rng,
        config: &Config,
        newest: &NodeId,
        keep: &[NodeId],
    ) -> Option<NodeId> {
        if self.active.len() <= config.active_view_max {
            return None;
        }
        let others = self.active.keys().copied().filter(|it| it != newest);
        let (kept, free): (Vec<NodeId>, Vec<NodeId>) = others.partition(|it| keep.contains(it));
        rng.pick(if free.is_empty() { &kept } else { &free }).copied()
    }

    /// Remembers somebody to turn to (Cyclon: a full view forgets one at random).
    pub(crate) fn remember(&mut self, rng: &mut Rng, config: &Config, record: MemberRecord) {
        if self.active.contains_key(&record.node) {
            return;
        }
        if self.passive.len() >= config.passive_view && !self.passive.contains_key(&record.node) {
            let nodes: Vec<_> = self.passive.keys().copied().collect();
            rng.pick(&nodes).map(|node| self.passive.remove(node));
        }
        self.passive.insert(record.node, record);
    }

    /// Notes a request; `false` if one is under way.
    pub(crate) fn request(&mut self, now: Time, node: NodeId, request: Request) -> bool {
        let open = self.requests.get(&node).is_none_or(|(_, at)| now.since(*at) >= REQUEST_TIMEOUT);
        if open {
            self.requests.insert(node, (request, now));
        }
        open
    }

    /// Requests that have not been answered yet.
    pub(crate) fn requests_len(&self, now: Time) -> usize {
        self.requests.values().filter(|(_, at)| now.since(*at) < REQUEST_TIMEOUT).count()
    }

    /// Ends a request; whether there was one of this kind.
    pub(crate) fn answered(&mut self, node: &NodeId, request: Request) -> bool {
        self.requests.get(node).is_some_and(|(it, _)| *it == request) && self.requests.remove(node).is_some()
    }

    /// Whether it is time to look for neighbours.
    pub(crate) fn fill_due(&mut self, now: Time) -> bool {
        let due = self.next_fill <= now;
        if due {
            self.next_fill = now + FILL_EVERY;
            self.requests.retain(|_, (_, at)| now.since(*at) < REQUEST_TIMEOUT);
        }
        due
    }

    /// Whether it is time to shuffle.
    pub(crate) fn shuffle_due(&mut self, now: Time, rng: &mut Rng, config: &Config) -> bool {
        let due = self.next_shuffle <= now;
        if due {
            self.next_shuffle = now + rng.jitter(config.shuffle_every);
        }
        due
    }

    pub(crate) fn deadline(&self, config: &Config) -> Option<Time> {
        let fill =
            if self.wants_more(config) || !self.requests.is_empty() { Some(self.next_fill) } else { None };
        crate::time::soonest([fill, Some(self.next_shuffle)])
    }
}
