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

/// How long a neighbour that came for being near stays, even if others come. Guess.
const PROBATION: Duration = Duration::from_secs(3);

/// What we asked a node for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// To be let in.
    Join,
    /// To be a neighbour.
    Neighbour,
}

/// A neighbour.
#[derive(Debug)]
struct Active {
    since: Time,
    /// It was sought, or sought us, for being near: not as random as the others.
    near: bool,
}

/// The partial views of a group.
#[derive(Debug)]
pub(crate) struct Views {
    active: BTreeMap<NodeId, Active>,
    /// Records of neighbours that a full roster has no room for.
    met: BTreeMap<NodeId, MemberRecord>,
    passive: BTreeMap<NodeId, MemberRecord>,
    requests: BTreeMap<NodeId, (Request, Time)>,
    next_fill: Time,
    next_shuffle: Time,
}

impl Views {
    pub(crate) fn new(now: Time, rng: &mut Rng, config: &Config) -> Self {
        Self {
            active: BTreeMap::new(),
            met: BTreeMap::new(),
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

    pub(crate) fn passive_record(&self, node: &NodeId) -> Option<&MemberRecord> {
        self.passive.get(node)
    }

    pub(crate) fn passive_records(&self) -> impl Iterator<Item = &MemberRecord> {
        self.passive.values()
    }

    /// Neighbours, at most, of a node with so many tree neighbours.
    pub(crate) fn most(config: &Config) -> usize {
        // A parent, one that is to follow it, and one that is being let in.
        config.active_view_max + config.near_view + config.max_children + config.max_cores * 2 + 5
    }

    /// How many more neighbours are wanted beside those in the tree.
    pub(crate) fn missing(&self, edges: usize, config: &Config) -> usize {
        (config.active_view + edges).saturating_sub(self.active.len())
    }

    pub(crate) fn has_room(&self, edges: usize, config: &Config) -> bool {
        self.active.len() < config.active_view_max + edges
    }

    /// Whether one that comes for being near may: others that did have had the time to show what they
    /// are worth.
    pub(crate) fn has_room_near(&self, now: Time, edges: &[NodeId], config: &Config) -> bool {
        let waiting = self
            .active
            .iter()
            .filter(|(node, it)| it.near && now.since(it.since) < PROBATION && !edges.contains(node));
        waiting.count() < config.near_view
    }

    /// Keeps the record of one that is about to be a neighbour.
    pub(crate) fn meet(&mut self, record: MemberRecord) {
        let (active, requests) = (&self.active, &self.requests);
        self.met.retain(|node, _| active.contains_key(node) || requests.contains_key(node));
        self.met.insert(record.node, record);
    }

    /// The record of a neighbour that the roster may not have.
    pub(crate) fn met(&self, node: &NodeId) -> Option<&MemberRecord> {
        self.met.get(node)
    }

    /// Adds a neighbour; `false` if it is one already.
    pub(crate) fn add(&mut self, now: Time, node: NodeId, near: bool) -> bool {
        self.requests.remove(&node);
        if let Some(record) = self.passive.remove(&node) {
            self.met.entry(node).or_insert(record);
        }
        let new = !self.active.contains_key(&node);
        let active = self.active.entry(node).or_insert(Active { since: now, near });
        active.near &= near;
        new
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

    /// A neighbour to let go when there are too many beside those in the tree: of the near ones
    /// the oldest, else any of the others.
    pub(crate) fn surplus(
        &self,
        rng: &mut Rng,
        config: &Config,
        newest: &NodeId,
        edges: &[NodeId],
    ) -> Option<NodeId> {
        let beside = self.active.iter().filter(|(node, _)| !edges.contains(node));
        let (near, others): (Vec<_>, Vec<_>) = beside.partition(|(_, it)| it.near);
        if near.len() > config.near_view {
            let oldest = near.into_iter().filter(|(node, _)| *node != newest);
            return oldest.min_by_key(|(node, it)| (it.since, **node)).map(|(node, _)| *node);
        }
        let others: Vec<_> = others.into_iter().map(|(node, _)| *node).filter(|it| it != newest).collect();
        if others.len() < config.active_view_max { None } else { rng.pick(&others).copied() }
    }

    /// Remembers somebody to turn to (Cyclon: a full view forgets one at random).
    pub(crate) fn remember(&mut self, rng: &mut Rng, config: &Config, record: MemberRecord) {
        if self.active.contains_key(&record.node) {
            return;
        }
        if self.passive.len() >= config.passive_view && !self.passive.contains_key(&record.node) {
            let one = self.passive.keys().nth(rng.below(self.passive.len())).copied();
            one.map(|node| self.passive.remove(&node));
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

    /// Whether somebody of these may still let us in.
    pub(crate) fn awaits_welcome(&self, now: Time, of: impl Fn(&NodeId) -> bool) -> bool {
        let open = |(node, (request, at)): (&NodeId, &(Request, Time))| {
            *request == Request::Join && now.since(*at) < REQUEST_TIMEOUT && of(node)
        };
        self.requests.iter().any(open)
    }

    /// Ends a request; whether there was one of this kind.
    pub(crate) fn answered(&mut self, node: &NodeId, request: Request) -> bool {
        self.requests.get(node).is_some_and(|(it, _)| *it == request) && self.requests.remove(node).is_some()
    }

    /// Whether this node was asked for that, and has not answered.
    pub(crate) fn has_asked(&self, node: &NodeId, request: Request) -> bool {
        self.requests.get(node).is_some_and(|(it, _)| *it == request)
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

    pub(crate) fn deadline(&self, edges: usize, config: &Config) -> Option<Time> {
        let fill = if self.missing(edges, config) > 0 || !self.requests.is_empty() {
            Some(self.next_fill)
        } else {
            None
        };
        crate::time::soonest([fill, Some(self.next_shuffle)])
    }
}
