//! Who is below: how many, where, and who may come.

use std::time::Duration;

use super::{Act, CHILD_TTL, Child, LEAVING_AT_ONCE, MAX_SIZE, REFUSED_FOR, Sight, Tree, sketch};
use crate::config::Config;
use crate::coordinate::{Place, middle};
use crate::group::flow::Edge;
use crate::id::NodeId;
use crate::io::ParentReason;
use crate::time::Time;
use crate::wire::frame::{Cluster, Graft, GraftReply};

/// Of so few cores each is for many. Guess.
const FEW_CORES: usize = 4;
/// A graft is repeated whole this often in any case…
const WHOLE_EVERY: Duration = Duration::from_secs(60);
/// …once those below are so much more or fewer…
const MORE: f64 = 1.2;
/// …or this node has moved so far, in half milliseconds…
const MOVED: u32 = 20;
/// …but not more often than this.
const TOLD_GAP: Duration = Duration::from_millis(250);

/// What the parent was told of those below.
#[derive(Debug, Default)]
pub(super) struct TellClusters {
    to: Option<NodeId>,
    at: Time,
    size: u32,
    place: Place,
    sources: Vec<u64>,
    /// Being a core, and meshed.
    part: (bool, bool),
    root: Option<(NodeId, u64)>,
    /// A child has told something new since.
    stale: bool,
}

impl Tree {
    pub(crate) fn is_child(&self, node: &NodeId) -> bool {
        self.children.contains_key(node)
    }

    /// Nodes in our subtree, ourselves among them.
    pub(super) fn size(&self) -> u32 {
        self.children.values().fold(1, |sum: u32, child| sum.saturating_add(child.size))
    }

    /// The middle of our subtree.
    pub(super) fn centre(&self) -> Place {
        let below = self.children.values().flat_map(|child| &child.clusters);
        middle(below.map(|it| (it.centre, it.members)).chain([(self.place, 1)]))
    }

    /// Where everybody in our subtree is, as we were told.
    pub(super) fn clusters_below(&self) -> Vec<Cluster> {
        let own = Cluster {
            centre: self.place,
            members: 1,
            best: self.tag,
            place: self.place,
            source: self.cores.is_source,
        };
        let below = self.children.values().flat_map(|child| child.clusters.iter().cloned());
        [own].into_iter().chain(below).collect()
    }

    fn sources_below(&self) -> Vec<u64> {
        let below = self.children.values().flat_map(|child| &child.clusters);
        let below = below.filter(|it| it.source).map(|it| it.best);
        below.chain(self.cores.is_source.then_some(self.tag)).collect()
    }

    /// Whether the parent should hear of what is below us before long; and from when on: not each change.
    fn news_of_below(&self) -> Option<Time> {
        let told = &self.told_clusters;
        let (size, before) = (f64::from(self.size()), f64::from(told.size));
        let differs = size > before * MORE || before > size * MORE || self.sources_below() != told.sources;
        differs.then(|| told.at + TOLD_GAP)
    }

    fn tell_of_below_soon(&mut self, now: Time) {
        if let Some(time) = self.news_of_below() {
            self.renew_by(time.max(now));
        }
    }

    /// To ask in, and to stay with news.
    pub(super) fn graft_frame(&mut self, now: Time, to: &NodeId) -> Graft {
        let (root, epoch) = self.root.claim();
        let size = self.size();
        let clusters = sketch::merge(self.clusters_below().into_iter());
        let (core, meshed) = (self.is_core_of(to), self.is_meshed());
        self.told_clusters = TellClusters {
            to: Some(*to),
            at: now,
            size,
            place: self.place,
            sources: self.sources_below(),
            part: (core, meshed),
            root: Some((root, epoch)),
            stale: false,
        };
        Graft { root, epoch, size, core, meshed, clusters }
    }

    /// To stay: whole, if the last graft is not true any more.
    pub(super) fn renewal(&mut self, now: Time, parent: NodeId) -> Act {
        let told = &self.told_clusters;
        let same = told.to == Some(parent)
            && told.root == Some(self.root.claim())
            && told.part == (self.is_core_of(&parent), self.is_meshed())
            && !told.stale
            && !told.place.is_away(&self.place, MOVED)
            && now.since(told.at) < WHOLE_EVERY;
        if same && self.news_of_below().is_none_or(|time| time > now) {
            return Act::Stay(parent);
        }
        Act::Graft(parent, self.graft_frame(now, &parent))
    }

    pub(crate) fn handle_stay(&mut self, sight: &Sight<'_>, from: NodeId, acts: &mut Vec<Act>) {
        match self.children.get_mut(&from) {
            Some(child) if child.leaving => {}
            Some(child) => child.heard = sight.now,
            None => acts.push(Act::GraftReply(from, GraftReply { accepted: false, candidates: Vec::new() })),
        }
    }

    /// Children that we would still take.
    pub(super) fn free(&self, config: &Config) -> usize {
        let staying = self.children.values().filter(|child| !child.leaving && !child.core).count();
        self.slots.most(config).saturating_sub(staying)
    }

    /// Children at most, as a root with cores, some of which are leaving.
    pub(crate) fn most_children(config: &Config) -> usize {
        config.max_children + LEAVING_AT_ONCE + config.max_cores * 3
    }

    /// A child is none any more: what was told of those below is not true.
    pub(super) fn remove_child(&mut self, node: &NodeId) -> Option<Child> {
        let child = self.children.remove(node);
        self.told_clusters.stale |= child.is_some();
        child
    }

    /// Likewise those that have not asked to stay.
    pub(super) fn drop_silent_children(&mut self, now: Time) {
        let before = self.children.len();
        self.children.retain(|_, child| now.since(child.heard) < CHILD_TTL);
        self.told_clusters.stale |= self.children.len() < before;
    }

    /// Whether there is room for another child.
    pub(crate) fn has_free(&self, config: &Config) -> bool {
        self.free(config) > 0
    }

    /// Tree neighbours, and how many nodes lie behind each, as they say.
    pub(crate) fn weights(&self) -> Vec<Edge> {
        let around: Vec<_> = self.parent.into_iter().chain(self.mesh()).collect();
        let all = self.parent.and_then(|it| self.heard.get(&it)).map_or(0, |heard| heard.advert.size);
        let elsewhere = all.min(MAX_SIZE).saturating_sub(self.size());
        // Other cores have about the same share of the group.
        let each = (elsewhere / around.len().max(1) as u32).max(1);
        let around = around.into_iter().map(|node| (node, each, false));
        let below = self.children.iter().map(|(node, child)| (*node, child.size, !child.meshed));
        let edge = |(node, weight, below)| Edge { node, weight, feeds_cores: self.is_peer(&node), below };
        around.chain(below).map(edge).collect()
    }

    pub(crate) fn children_len(&self) -> usize {
        self.children.len()
    }

    pub(crate) fn handle_graft(
        &mut self,
        sight: &Sight<'_>,
        from: NodeId,
        graft: &Graft,
        acts: &mut Vec<Act>,
    ) {
        let known = self.children.get(&from).is_some_and(|child| !child.leaving);
        let crossing = self.grafting.as_ref().is_some_and(|it| it.to == from);
        let above = self.parent == Some(from) || self.path_has(&from);
        let core = graft.core && self.takes_core(sight, &from);
        let full = !known && !core && !self.has_free(sight.config);
        let stranger = !self.root.matches(&graft.root, graft.epoch) && !known;
        let refused = above || stranger || (crossing && self.me > from);
        let gives_way = if full && !refused { self.gives_way(sight, &from, graft) } else { None };
        if let Some(child) = gives_way {
            self.send_down(sight.now, &child, vec![from], acts);
        } else if full || refused || (graft.core && !core) {
            if self.remove_child(&from).is_some_and(|child| child.core) {
                self.on_cores_changed();
            }
            let candidates = if full { self.children.keys().copied().take(3).collect() } else { Vec::new() };
            acts.push(Act::GraftReply(from, GraftReply { accepted: false, candidates }));
            return;
        }
        if crossing {
            self.grafting = None;
        }
        let size = graft.size.clamp(1, MAX_SIZE);
        let sources = self.sources_below();
        let before = self.children.get(&from);
        let was_core = before.is_some_and(|child| child.core);
        let clusters = if graft.clusters.is_empty() {
            before.map(|child| child.clusters.clone()).unwrap_or_default()
        } else {
            self.told_clusters.stale = true;
            sketch::believe(&graft.clusters, size)
        };
        let meshed = core && graft.meshed;
        self.left.take_if(|(left, _)| *left == from);
        let child = Child { heard: sight.now, size, clusters, core, meshed, leaving: false };
        self.children.insert(from, child);
        if self.sources_below() != sources {
            self.plan_soon(sight.now);
        }
        if core && !was_core {
            self.cores.asked.remove(&from.tag());
        }
        if core != was_core {
            let is_source = graft.clusters.iter().any(|it| it.source && it.best == from.tag());
            if core && is_source && self.core_children().count() > FEW_CORES {
                // It is there for its own sake, one of many: no reason for all to look around.
                self.tell_cores_soon();
            } else {
                self.on_cores_changed();
            }
        }
        self.tell_of_below_soon(sight.now);
        acts.push(Act::GraftReply(from, GraftReply { accepted: true, candidates: Vec::new() }));
        if !known {
            self.root.on_child(sight.now, from);
            acts.push(Act::Edge(from));
        }
        self.reconsider(sight, acts);
    }

    /// A neighbour no longer takes part in our edge.
    pub(crate) fn handle_prune(&mut self, sight: &Sight<'_>, from: &NodeId, acts: &mut Vec<Act>) {
        self.forget_core(from);
        self.left.take_if(|(left, _)| left == from);
        if self.remove_child(from).is_some_and(|child| child.core) {
            self.on_cores_changed();
        }
        if self.parent.as_ref() == Some(from) {
            self.refused.insert(*from, sight.now + REFUSED_FOR);
            self.orphan(sight.now, ParentReason::Released);
        }
        self.tell_of_below_soon(sight.now);
        self.reconsider(sight, acts);
    }
}
