//! Feeding neighbours at their own speed: whom batches may be pushed to, and when to ask
//! for a pause.
//!
//! A tree neighbour whose link is full, or that asked for a pause, is no longer pushed to:
//! it is told what there is, and pulls. What it then still lacks is its backlog. While the
//! backlog of a neighbour *that moves* is too large we ask the others to pause; a source
//! stops making batches. A stalled neighbour counts for nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::sources::LifeId;
use crate::config::Config;
use crate::id::NodeId;
use crate::io::Lane;
use crate::links::Links;
use crate::time::Time;

/// A pause that is not renewed ends after so long: who asked may be gone.
const PAUSE_TTL: Duration = Duration::from_secs(1);
/// How often a pause is renewed.
const PAUSE_RENEWAL: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
struct Peer {
    /// Lives of which something was not pushed, to be told when the link is free.
    skipped: BTreeSet<LifeId>,
    backlog: usize,
    /// It asked us to pause, until then.
    paused_until: Option<Time>,
    /// We asked it to pause, last at this time.
    told_pause: Option<Time>,
}

/// The flow to and from the neighbours of one group.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    peers: BTreeMap<NodeId, Peer>,
}

impl Flow {
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.peers.remove(node);
    }

    /// Whether a batch may be pushed to this neighbour now.
    pub(crate) fn can_push(&self, now: Time, node: &NodeId, links: &Links, config: &Config) -> bool {
        let free = links.queued(node, Lane::Live) < config.link_high_water;
        let peer = self.peers.get(node);
        let paused = peer.and_then(|it| it.paused_until).is_some_and(|until| now < until);
        free && !paused && peer.is_none_or(|it| it.skipped.is_empty())
    }

    /// A batch was not pushed.
    pub(crate) fn on_skipped(&mut self, node: NodeId, life: LifeId, bytes: usize) {
        let peer = self.peers.entry(node).or_default();
        peer.skipped.insert(life);
        peer.backlog = peer.backlog.saturating_add(bytes);
    }

    /// The neighbour pulled so much.
    pub(crate) fn on_pulled(&mut self, node: &NodeId, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.backlog = peer.backlog.saturating_sub(bytes);
        }
    }

    /// The neighbour asked for a pause, or ended it.
    pub(crate) fn on_flow(&mut self, now: Time, node: NodeId, paused: bool) {
        self.peers.entry(node).or_default().paused_until = paused.then(|| now + PAUSE_TTL);
    }

    /// The lives to tell a neighbour of, now that its link is free again.
    pub(crate) fn take_skipped(
        &mut self,
        now: Time,
        node: &NodeId,
        links: &Links,
        config: &Config,
    ) -> BTreeSet<LifeId> {
        let Some(peer) = self.peers.get_mut(node) else { return BTreeSet::new() };
        peer.paused_until = peer.paused_until.filter(|until| now < *until);
        if peer.paused_until.is_some() || links.queued(node, Lane::Live) > config.link_low_water {
            return BTreeSet::new();
        }
        std::mem::take(&mut peer.skipped)
    }

    /// Neighbours of whom something was skipped.
    pub(crate) fn behind(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| !peer.skipped.is_empty()).map(|(node, _)| *node).collect()
    }

    /// Whether a neighbour that moves is too far behind: the source waits, a relay asks for a
    /// pause. `except` is who would be asked.
    pub(crate) fn blocked(&self, now: Time, except: Option<&NodeId>, links: &Links, config: &Config) -> bool {
        self.peers.iter().any(|(node, peer)| {
            Some(node) != except && peer.backlog > config.relay_backlog && !links.stalled(now, node, config)
        })
    }

    /// Whom of the tree neighbours to ask for a pause (`true`) or to go on (`false`).
    pub(crate) fn poll(
        &mut self,
        now: Time,
        edges: &[NodeId],
        links: &Links,
        config: &Config,
    ) -> Vec<(NodeId, bool)> {
        let mut asks = Vec::new();
        for (_, peer) in self.peers.iter_mut().filter(|(node, _)| !edges.contains(node)) {
            peer.told_pause = None;
        }
        for node in edges {
            let blocked = self.blocked(now, Some(node), links, config);
            let told = self.peers.get(node).and_then(|it| it.told_pause);
            let due = told.is_none_or(|at| now.since(at) >= PAUSE_RENEWAL);
            if blocked && due {
                asks.push((*node, true));
                self.peers.entry(*node).or_default().told_pause = Some(now);
            } else if !blocked && told.is_some() {
                asks.push((*node, false));
                self.peers.entry(*node).or_default().told_pause = None;
            }
        }
        asks
    }

    /// When a pause must be renewed or runs out.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let each = self.peers.values().flat_map(|peer| {
            [
                peer.told_pause.map(|at| at + PAUSE_RENEWAL),
                peer.paused_until.filter(|_| !peer.skipped.is_empty()),
            ]
        });
        crate::time::soonest(each)
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }
}
