//! Feeding neighbours at their own speed: whom batches may be pushed to, and when to ask
//! for a pause.
//!
//! A tree neighbour whose link is full is no longer pushed to: it is told what there is, and
//! pulls. While most of what lies behind tree neighbours *that move*
//! lags, the tree as a whole takes no more: a relay asks the others to pause, who ask those before them,
//! and a source makes no batches; what is under way still fits into the queues. A slow one among faster ones is no reason for anybody to wait, a stalled one even
//! less: it pulls what it can for as long as the others keep it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::sources::LifeId;
use crate::config::Config;
use crate::id::{NodeId, Seq};
use crate::io::Lane;
use crate::links::Links;
use crate::time::Time;

/// A pause that is not renewed ends after so long: who asked may be gone.
const PAUSE_TTL: Duration = Duration::from_secs(1);
/// How often a pause is renewed.
const PAUSE_RENEWAL: Duration = Duration::from_millis(300);

/// Who was not pushed to and has pulled nothing for so long does not catch up from us. Guess:
/// some round trips.
const CATCHES_UP: Duration = Duration::from_millis(100);

/// Batches that a neighbour may be sent again, and within how long. Guess.
const REPEATS: u32 = 8;
const REPEATS_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Peer {
    /// Lives of which something was not pushed, to be told when the link is free.
    skipped: BTreeSet<LifeId>,
    /// What was not pushed and not pulled yet: below which seq of each life.
    behind: BTreeMap<LifeId, Seq>,
    /// When something was skipped or pulled last: who pulls no more has it from elsewhere.
    caught_at: Time,
    /// It asked us to pause, until then.
    paused_until: Option<Time>,
    /// We asked it to pause, last at this time.
    told_pause: Option<Time>,
    /// Batches that it was sent again since then.
    repeats: (Time, u32),
}

/// A tree neighbour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) node: NodeId,
    /// How many nodes it leads to.
    pub(crate) weight: u32,
    /// What comes from there goes on to those below only: it is a core, and feeds the other cores itself.
    pub(crate) feeds_cores: bool,
    /// What a core passes on goes to it as well.
    pub(crate) below: bool,
}

impl Edge {
    /// Whether what comes from `from` goes on here.
    fn is_fed_from(&self, from: &Edge) -> bool {
        self.node != from.node && (self.below || !from.feeds_cores)
    }
}

/// Of one tree neighbour, or summed over several.
#[derive(Debug, Default, Clone, Copy)]
struct Votes {
    start: i64,
    go_on: i64,
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

    /// Nobody lags, and nobody was asked to pause or asked us.
    pub(crate) fn is_calm(&self) -> bool {
        let calm = |it: &Peer| {
            it.skipped.is_empty()
                && it.behind.is_empty()
                && it.paused_until.is_none()
                && it.told_pause.is_none()
        };
        self.peers.values().all(calm)
    }

    /// Whether a batch may be pushed to this neighbour now.
    pub(crate) fn can_push(&self, node: &NodeId, links: &Links, config: &Config) -> bool {
        let free = links.queued(node, Lane::Live) < config.link_high_water;
        free && self.peers.get(node).is_none_or(|it| it.skipped.is_empty())
    }

    /// A batch was not pushed.
    pub(crate) fn on_skipped(&mut self, now: Time, node: NodeId, (life, seq): (LifeId, Seq)) {
        let peer = self.peers.entry(node).or_default();
        peer.skipped.insert(life);
        let behind = peer.behind.entry(life).or_default();
        *behind = (*behind).max(seq + 1);
        peer.caught_at = now;
    }

    /// The neighbour pulled this.
    pub(crate) fn on_pulled(&mut self, now: Time, node: &NodeId, (life, seq): (LifeId, Seq)) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        if let Some(behind) = peer.behind.get(&life) {
            peer.caught_at = now;
            if *behind <= seq + 1 {
                peer.behind.remove(&life);
            }
        }
    }

    /// Whether a neighbour may have a batch again that it had from us, or said to have: what is lost on
    /// the way is asked for twice, but not again and again.
    pub(crate) fn may_repeat(&mut self, now: Time, node: &NodeId) -> bool {
        let (since, count) = &mut self.peers.entry(*node).or_default().repeats;
        if now.since(*since) >= REPEATS_WITHIN {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= REPEATS
    }

    /// The neighbour asked for a pause, or ended it.
    pub(crate) fn on_flow(&mut self, now: Time, node: NodeId, paused: bool) {
        self.peers.entry(node).or_default().paused_until = paused.then(|| now + PAUSE_TTL);
    }

    /// The lives to tell a neighbour of, now that its link is free again.
    pub(crate) fn take_skipped(&mut self, node: &NodeId, links: &Links, config: &Config) -> BTreeSet<LifeId> {
        if links.queued(node, Lane::Live) > config.link_low_water {
            return BTreeSet::new();
        }
        self.peers.get_mut(node).map(|peer| std::mem::take(&mut peer.skipped)).unwrap_or_default()
    }

    /// Neighbours of whom something was skipped.
    pub(crate) fn behind(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| !peer.skipped.is_empty()).map(|(node, _)| *node).collect()
    }

    /// Whether most lag of what lies behind tree neighbours that move: each counts for as many
    /// nodes as it leads to.
    pub(crate) fn crowded(&self, now: Time, edges: &[Edge], links: &Links, config: &Config) -> bool {
        let votes = edges.iter().map(|edge| self.votes(now, edge, links, config).start);
        votes.sum::<i64>() > 0
    }

    /// How a tree neighbour counts for a pause, and for going on with one: its weight, against
    /// both if it moves freely. Nobody waits for one that stands still.
    fn votes(&self, now: Time, edge: &Edge, links: &Links, config: &Config) -> Votes {
        let node = &edge.node;
        if links.stalled(now, node, config) {
            return Votes::default();
        }
        let weight = i64::from(edge.weight);
        let waits = links.queued(node, Lane::Live) + links.queued(node, Lane::Bulk);
        let lags = self.peers.contains_key(node) && (self.is_paused(now, node) || self.is_behind(now, node));
        let vote = |full: usize| if lags || waits >= full { weight } else { -weight };
        // What is under way when a pause is asked for, at most as much again as waits here, must
        // still fit below the high water. The pause goes on until the queues are short.
        Votes { start: vote(config.link_high_water / 4), go_on: vote(config.link_low_water) }
    }

    fn is_behind(&self, now: Time, node: &NodeId) -> bool {
        let peer = self.peers.get(node);
        peer.is_some_and(|it| !it.behind.is_empty() && now.since(it.caught_at) < CATCHES_UP)
    }

    fn is_paused(&self, now: Time, node: &NodeId) -> bool {
        self.peers.get(node).and_then(|it| it.paused_until).is_some_and(|until| now < until)
    }

    /// Whom of the tree neighbours to ask for a pause (`true`) or to go on (`false`).
    ///
    /// Asked is who brings what most of those lag with to whom it goes on. So pauses go back the way that batches
    /// come, which has no circle: cores that paused each other for being paused would wait for ever.
    pub(crate) fn poll(
        &mut self,
        now: Time,
        edges: &[Edge],
        links: &Links,
        config: &Config,
    ) -> Vec<(NodeId, bool)> {
        let mut asks = Vec::new();
        for peer in self.peers.values_mut() {
            peer.paused_until.take_if(|until| *until <= now);
        }
        let is_edge = |node: &NodeId| edges.iter().any(|edge| edge.node == *node);
        for (_, peer) in self.peers.iter_mut().filter(|(node, _)| !is_edge(node)) {
            peer.told_pause = None;
        }
        let votes: Vec<Votes> = edges.iter().map(|edge| self.votes(now, edge, links, config)).collect();
        for from in edges {
            let onward = edges.iter().zip(&votes).filter(|(to, _)| to.is_fed_from(from));
            let all = onward.fold(Votes::default(), |sum, (_, it)| Votes {
                start: sum.start + it.start,
                go_on: sum.go_on + it.go_on,
            });
            let told = self.peers.get(&from.node).and_then(|it| it.told_pause);
            let crowded = if told.is_some() { all.go_on > 0 } else { all.start > 0 };
            let due = told.is_none_or(|at| now.since(at) >= PAUSE_RENEWAL);
            if crowded && due {
                asks.push((from.node, true));
                self.peers.entry(from.node).or_default().told_pause = Some(now);
            } else if !crowded && told.is_some() {
                asks.push((from.node, false));
                self.peers.entry(from.node).or_default().told_pause = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(node: u8, feeds_cores: bool, below: bool) -> Edge {
        Edge { node: NodeId::from_bytes([node; 32]), weight: 1, feeds_cores, below }
    }

    fn asked(flow: &mut Flow, edges: &[Edge]) -> Vec<u8> {
        let mut links = Links::default();
        for (number, edge) in edges.iter().enumerate() {
            links.insert(Time::ZERO, crate::id::LinkId(number as u64), edge.node);
        }
        let asks = flow.poll(Time::ZERO, edges, &links, &Config::default());
        asks.into_iter().filter(|it| it.1).map(|it| it.0.as_bytes()[0]).collect()
    }

    #[test]
    fn a_pause_goes_back_the_way_that_batches_come() {
        // Two other cores, and two children; nothing waits, but who pauses.
        let edges = [edge(1, true, false), edge(2, true, false), edge(3, false, true), edge(4, false, true)];
        let mut flow = Flow::default();
        flow.on_flow(Time::ZERO, edges[0].node, true);
        assert!(asked(&mut flow, &edges).is_empty(), "one of four");
        flow.on_flow(Time::ZERO, edges[1].node, true);
        assert_eq!(
            asked(&mut flow, &edges),
            [3, 4],
            "what children say goes to both cores, and cores feed each other"
        );
        let mut flow = Flow::default();
        flow.on_flow(Time::ZERO, edges[2].node, true);
        flow.on_flow(Time::ZERO, edges[3].node, true);
        assert_eq!(asked(&mut flow, &edges), [1, 2], "to them goes what comes from the cores");
    }
}
