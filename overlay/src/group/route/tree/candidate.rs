//! Who could be the parent, and how far from the root that would be.

use std::time::Duration;

use super::{MAX_PATH, SHORTLY, Sight, TO_ALL_EVERY, Tree};
use crate::id::NodeId;
use crate::links::Links;
use crate::time::Time;
use crate::wire::frame::Advert;

/// Half a round trip to somebody whose ping has not come back yet. Guess: far, so that
/// measured neighbours win.
const UNKNOWN_HALF_RTT: Duration = Duration::from_millis(100);

pub(super) fn half_rtt(links: &Links, node: &NodeId) -> Duration {
    links.distance(node).map_or(UNKNOWN_HALF_RTT, |rtt| rtt / 2)
}

/// A neighbour's latest advert.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) advert: Advert,
    at: Time,
    /// When the root's running number last grew: a root that is gone stops here.
    progress: Time,
    /// A node on its path was our neighbour and is gone, since it said so.
    doubted: bool,
}

impl Heard {
    pub(super) fn new(now: Time, advert: Advert) -> Self {
        Self { advert, at: now, progress: now, doubted: false }
    }

    pub(super) fn update(&mut self, now: Time, advert: Advert) {
        let same_root = (advert.root, advert.epoch) == (self.advert.root, self.advert.epoch);
        if !same_root || advert.number > self.advert.number {
            self.progress = now;
        }
        self.at = now;
        self.advert = advert;
        self.doubted = false;
    }

    /// A neighbour of ours is gone: if it was on the path, the path may be gone too.
    pub(super) fn doubt(&mut self, gone: &NodeId) {
        self.doubted |= self.advert.path.contains(&gone.tag());
    }

    pub(super) fn age(&self, now: Time) -> Duration {
        now.since(self.at)
    }

    /// Others than children hear of the root's number more seldom.
    pub(super) fn is_fresh(&self, sight: &Sight<'_>) -> bool {
        sight.now.since(self.progress) < sight.config.root_timeout + sight.config.advert_every * TO_ALL_EVERY
    }
}

impl Tree {
    /// Whether its path leads to a root that lives, and not through us.
    pub(super) fn is_usable(&self, sight: &Sight<'_>, node: &NodeId, heard: &Heard) -> bool {
        let advert = &heard.advert;
        advert.delay_us != u64::MAX
            && advert.path.len() < MAX_PATH
            && !advert.path.is_empty()
            && !advert.path.contains(&self.tag)
            && heard.is_fresh(sight)
            && self.root.accepts(advert)
            && sight.links.connected(node)
    }

    /// Candidates in our root's tree, nearest first.
    pub(super) fn candidates(&self, sight: &Sight<'_>) -> Vec<(Duration, NodeId)> {
        // Whose path led through who is gone looks for another way, too, and will say so.
        let trusting = self.orphan_since.is_some_and(|at| sight.now.since(at) >= SHORTLY);
        let mut found: Vec<_> = self
            .heard
            .iter()
            .filter(|(node, heard)| {
                self.root.matches(&heard.advert.root, heard.advert.epoch)
                    && self.is_usable(sight, node, heard)
                    && (!heard.doubted || trusting || self.parent == Some(**node))
                    && (heard.advert.free > 0 || self.parent == Some(**node))
                    && !self.refused.contains_key(*node)
                    && !self.children.contains_key(*node)
            })
            .map(|(node, heard)| (cost_of(sight, node, heard), *node))
            .collect();
        found.sort_unstable();
        found
    }

    pub(super) fn cost(&self, sight: &Sight<'_>, node: &NodeId) -> Option<Duration> {
        self.heard.get(node).map(|heard| cost_of(sight, node, heard))
    }

    /// Whether the parent no longer leads to a root that lives.
    pub(super) fn is_lost(&self, sight: &Sight<'_>, parent: &NodeId) -> bool {
        self.heard.get(parent).is_none_or(|heard| !self.is_usable(sight, parent, heard))
    }

    /// Whether the parent has heard of the root that we follow.
    pub(super) fn follows_root(&self, parent: &NodeId) -> bool {
        self.heard.get(parent).is_some_and(|it| self.root.matches(&it.advert.root, it.advert.epoch))
    }

    /// Ranked backups whose paths avoid the parent.
    pub(super) fn backups(&self, sight: &Sight<'_>) -> Vec<NodeId> {
        let avoid = self.parent.map(|it| it.tag());
        let avoids = |node: &NodeId| {
            let path = self.heard.get(node).map(|it| &it.advert.path);
            avoid.is_none_or(|tag| path.is_some_and(|path| !path.contains(&tag)))
        };
        let ranked = self.candidates(sight).into_iter().map(|(_, node)| node);
        ranked.filter(|node| Some(*node) != self.parent && avoids(node)).take(sight.config.backups).collect()
    }

    /// The best root that a usable neighbour leads to.
    pub(super) fn best_root(&self, sight: &Sight<'_>) -> Option<Advert> {
        self.heard
            .iter()
            .filter(|(node, heard)| self.is_usable(sight, node, heard))
            .map(|(_, heard)| &heard.advert)
            .max_by_key(|advert| (advert.epoch, std::cmp::Reverse(advert.root), advert.number))
            .cloned()
    }
}

fn cost_of(sight: &Sight<'_>, node: &NodeId, heard: &Heard) -> Duration {
    Duration::from_micros(heard.advert.delay_us) + half_rtt(sight.links, node)
}
