//! Who could be the parent, and how far from the root that would be.

use std::time::Duration;

use super::root::Claim;
use super::{Act, GREAT_GAIN, MAX_PATH, Offer, SHORTLY, Sight, TO_ALL_EVERY, Tree, sketch};
use crate::coordinate::Place;
use crate::id::NodeId;
use crate::links::Links;
use crate::time::Time;
use crate::wire::frame::Advert;

/// Half a round trip to somebody whose ping has not come back yet. Guess: far, so that
/// measured neighbours win.
const UNKNOWN_HALF_RTT: Duration = Duration::from_millis(100);

/// A root that much nearer to all members is worth the change at the least. Guess.
const CENTRAL_GAIN: Duration = Duration::from_millis(5);

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
    /// Below it we were no nearer to the root than this, whatever it says, and until when that counts.
    floor: Option<(Duration, Time)>,
}

/// A false word is remembered for so long. Guess: long enough that who is taken in by it now and then is
/// none the worse for it.
const FLOOR_FOR: Duration = Duration::from_secs(60);

/// The root's number grows once a gap between adverts, and is heard up to half a gap later. After so many gaps
/// below one parent, and so many below whatever parents, it stands still if so many others have heard of more.
const STUCK_AFTER: (f64, f64) = (1.6, 3.2);
const WITNESSES: usize = 2;

/// What parents told of the root last.
#[derive(Debug, Default)]
pub(super) struct Led {
    /// Which root, of which term.
    claim: Option<(NodeId, u64)>,
    /// How far it had counted.
    number: u64,
}

impl Heard {
    pub(super) fn new(now: Time, advert: Advert) -> Self {
        Self { advert, at: now, progress: now, doubted: false, floor: None }
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

    /// How far from the root we would be below it, with this round trip to it.
    fn cost(&self, now: Time, rtt: Option<Duration>) -> Duration {
        let said = Duration::from_micros(self.advert.delay_us) + rtt.map_or(UNKNOWN_HALF_RTT, |rtt| rtt / 2);
        self.floor.filter(|(_, until)| now < *until).map_or(said, |(floor, _)| said.max(floor))
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
        self.is_usable_if_linked(sight, heard) && sight.links.connected(node)
    }

    fn is_usable_if_linked(&self, sight: &Sight<'_>, heard: &Heard) -> bool {
        let advert = &heard.advert;
        advert.delay_us != u64::MAX
            && advert.path.len() < MAX_PATH
            && !advert.path.is_empty()
            && !advert.path.contains(&self.tag)
            && heard.is_fresh(sight)
            && self.root.accepts(advert)
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
                    && (heard.advert.free > 0 || self.parent == Some(**node))
                    && (!heard.doubted || trusting || self.parent == Some(**node))
                    && self.is_usable_if_linked(sight, heard)
                    && !self.refused.contains_key(*node)
                    && !self.children.contains_key(*node)
            })
            .filter_map(|(node, heard)| {
                let link = sight.links.used(node)?;
                let doubtful =
                    heard.doubted || link.is_quiet(sight.now) || self.offences.bars(sight.now, node);
                Some((doubtful, heard.cost(sight.now, link.measured()), *node))
            })
            .collect();
        // A last resort.
        found.sort_unstable();
        found.into_iter().map(|(_, cost, node)| (cost, node)).collect()
    }

    /// Whether who is asked in leads where somebody is gone, and another does not.
    pub(super) fn asks_in_vain(&self, sight: &Sight<'_>) -> bool {
        let doubted = |node: &NodeId| self.heard.get(node).is_none_or(|heard| heard.doubted);
        let asked = self.grafting.as_ref().filter(|it| self.parent.is_none() && doubted(&it.to));
        asked.is_some_and(|_| self.candidates(sight).first().is_some_and(|(_, best)| !doubted(best)))
    }

    /// Whether a neighbour may be gone, or was a bad parent of late.
    pub(super) fn is_doubtful(&self, sight: &Sight<'_>, node: &NodeId) -> bool {
        sight.links.is_quiet(sight.now, node) || self.offences.bars(sight.now, node)
    }

    /// The nearest of those that have no room left.
    pub(super) fn best_full(&self, sight: &Sight<'_>) -> Option<(Duration, NodeId)> {
        let full = self.heard.iter().filter(|(node, heard)| {
            heard.advert.free == 0
                && self.root.matches(&heard.advert.root, heard.advert.epoch)
                && !heard.doubted
                && self.is_usable(sight, node, heard)
                && !self.is_doubtful(sight, node)
                && self.parent != Some(**node)
                && !self.refused.contains_key(*node)
                && !self.children.contains_key(*node)
        });
        full.map(|(node, heard)| (cost_of(sight, node, heard), *node)).min()
    }

    pub(super) fn cost(&self, sight: &Sight<'_>, node: &NodeId) -> Option<Duration> {
        self.heard.get(node).map(|heard| cost_of(sight, node, heard))
    }

    /// One after the other, what the parent brings `by` has had for so much longer: it is farther than it says.
    pub(crate) fn on_beaten(&mut self, sight: &Sight<'_>, by: NodeId, lead: Duration, acts: &mut Vec<Act>) {
        let Some(parent) = self.parent.filter(|_| !self.is_core()) else { return };
        let Some(cost) = self.cost(sight, &by) else { return };
        if let Some(heard) = self.heard.get_mut(&parent) {
            heard.floor = Some((cost + lead, sight.now + FLOOR_FOR));
            self.changed = true;
        }
        self.reconsider(sight, acts);
    }

    /// Whether the parent no longer leads to a root that lives.
    pub(super) fn is_lost(&self, sight: &Sight<'_>, parent: &NodeId) -> bool {
        self.heard.get(parent).is_none_or(|heard| !self.is_usable(sight, parent, heard))
    }

    /// Whether the parent's word on the root stands still while others' goes on: it, or who is above it,
    /// leads in a circle, or nowhere.
    pub(super) fn is_stuck(&self, sight: &Sight<'_>, parent: &NodeId) -> bool {
        let Some(heard) = self.heard.get(parent) else { return false };
        let for_long =
            |since: Time, gaps: f64| sight.now.since(since) >= sight.config.advert_every.mul_f64(gaps);
        // As no child of its we heard of it more seldom.
        if !for_long(self.parent_since, STUCK_AFTER.0) || !for_long(self.led_on.1, STUCK_AFTER.1) {
            return false;
        }
        let claim = (heard.advert.root, heard.advert.epoch);
        let ahead = self.heard.iter().filter(|(node, it)| {
            (it.advert.root, it.advert.epoch) == claim
                && it.advert.number > heard.advert.number
                && !self.children.contains_key(*node)
        });
        ahead.take(WITNESSES).count() == WITNESSES
    }

    /// The parent has told of the root.
    pub(super) fn on_led(&mut self, now: Time, parent: &NodeId) {
        let Some(heard) = self.heard.get(parent) else { return };
        let Advert { root, epoch, number, .. } = heard.advert;
        let word = Led { claim: Some((root, epoch)), number };
        // Roots count for themselves: that a new one has not come as far is no standing still.
        if word.claim != self.led_on.0.claim || number > self.led_on.0.number {
            self.led_on = (word, now);
        }
    }

    /// Whether the parent has heard of the root that we follow.
    pub(super) fn follows_root(&self, parent: &NodeId) -> bool {
        self.heard.get(parent).is_some_and(|it| self.root.matches(&it.advert.root, it.advert.epoch))
    }

    /// Ranked backups whose paths avoid the parent.
    pub(crate) fn backups(&self, sight: &Sight<'_>) -> Vec<NodeId> {
        let avoid = self.parent.map(|it| it.tag());
        let avoids = |node: &NodeId| {
            let path = self.heard.get(node).map(|it| &it.advert.path);
            avoid.is_none_or(|tag| path.is_some_and(|path| !path.contains(&tag)))
        };
        let ranked = self.candidates(sight).into_iter().map(|(_, node)| node);
        ranked.filter(|node| Some(*node) != self.parent && avoids(node)).take(sight.config.backups).collect()
    }

    /// What neighbours would be as a parent of somebody else.
    pub(crate) fn offers(&self, sight: &Sight<'_>) -> Vec<Offer> {
        let ours = |heard: &Heard| self.root.matches(&heard.advert.root, heard.advert.epoch);
        let usable =
            self.heard.iter().filter(|(node, heard)| ours(heard) && self.is_usable(sight, node, heard));
        usable.map(|(node, heard)| offer(sight, *node, &heard.advert)).collect()
    }

    /// What we would be.
    pub(crate) fn own_offer(&self, sight: &Sight<'_>) -> Option<Offer> {
        let advert = self.advert(sight).filter(|it| it.delay_us != u64::MAX)?;
        Some(Offer { place: sight.links.here(), ..offer(sight, self.me, &advert) })
    }

    /// As root: who should be it, being clearly nearer to all members, of the neighbours and of
    /// those known by hearsay.
    pub(crate) fn better_roots(
        &self,
        sight: &Sight<'_>,
        known: impl Iterator<Item = Offer>,
    ) -> [Option<(Duration, NodeId)>; 2] {
        let Some(gain) = self.root.least_gain(&self.me, sight.now) else { return [None; 2] };
        // To all members, by the middles of the children's subtrees.
        let mean_way = |from: &Place| {
            let each = self.children.values().map(|child| sketch::way(&child.clusters, from));
            each.sum::<Duration>() / (self.size() - 1).max(1)
        };
        let current = mean_way(&sight.links.here());
        let below = self.heard.iter().filter(|(_, heard)| {
            self.root.matches(&heard.advert.root, heard.advert.epoch) && heard.advert.delay_us != u64::MAX
        });
        let best = |offers: &mut dyn Iterator<Item = Offer>| {
            let located = offers.filter(|offer| offer.place.is_located());
            let best = located.map(|offer| (mean_way(&offer.place), offer.node)).min();
            best.filter(|(way, _)| *way + CENTRAL_GAIN.max(current.mul_f64(gain)) < current)
        };
        let mut below = below.map(|(node, heard)| offer(sight, *node, &heard.advert));
        let mut known = known;
        [best(&mut below), best(&mut known)]
    }

    /// How far from its root a neighbour said it is, if it leads to one.
    pub(crate) fn delay_of(&self, node: &NodeId) -> Option<Duration> {
        let advert = &self.heard.get(node)?.advert;
        (advert.delay_us != u64::MAX).then(|| Duration::from_micros(advert.delay_us))
    }

    /// The best root that a usable neighbour leads to.
    pub(super) fn best_root(&self, sight: &Sight<'_>) -> Option<Claim> {
        let rank = |it: &Advert| (it.epoch, std::cmp::Reverse(it.root), it.number);
        let mut best: Option<&Advert> = None;
        for (node, heard) in self.heard.iter().rev() {
            let better = best.is_none_or(|best| rank(&heard.advert) > rank(best));
            if better && self.is_usable(sight, node, heard) {
                best = Some(&heard.advert);
            }
        }
        best.map(|it| Claim { root: it.root, epoch: it.epoch, number: it.number, heir: it.heir })
    }
}

fn offer(sight: &Sight<'_>, node: NodeId, advert: &Advert) -> Offer {
    let delay = Duration::from_micros(advert.delay_us);
    let place = sight.links.place(&node).unwrap_or(Place::UNKNOWN);
    Offer { node, delay, free: advert.free, place }
}

/// Whether a move from one parent to another gains so much that noise cannot be the cause, and
/// another might be moved for it.
pub(crate) fn is_great(
    sight: &Sight<'_>,
    (current, from): (Duration, &NodeId),
    (cost, to): (Duration, &NodeId),
) -> bool {
    let noise = (sight.links.jitter(from) + sight.links.jitter(to)) * 2;
    cost + GREAT_GAIN.max(sight.gain(current) * 3) + noise < current
}

pub(super) fn cost_of(sight: &Sight<'_>, node: &NodeId, heard: &Heard) -> Duration {
    heard.cost(sight.now, sight.links.distance(node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn advert(root: NodeId, number: u64) -> Advert {
        let path = vec![root.tag()];
        Advert { root, epoch: 5, number, delay_us: 0, path, free: 8, heir: None, size: 4, plan: 0 }
    }

    /// Two roots of one term met, and the one that had counted less won.
    #[test]
    fn a_root_that_has_not_counted_as_far_leads_on_as_well() {
        let (config, links) = (Config::default(), Links::default());
        let second = |n: u32| Time::ZERO + config.advert_every * n;
        let mut tree = Tree::new(Time::ZERO, node(9), true);
        let (parent, witnesses) = (node(1), [node(2), node(3)]);
        let hear = |tree: &mut Tree, now, from: NodeId, advert: Advert| {
            let heard = tree.heard.entry(from).or_insert_with(|| Heard::new(now, advert.clone()));
            heard.update(now, advert);
            if from == parent {
                tree.on_led(now, &from);
            }
        };
        hear(&mut tree, second(0), parent, advert(node(8), 1_000));
        for n in 1..20 {
            hear(&mut tree, second(n), parent, advert(node(7), n.into()));
            for witness in witnesses {
                // The root's next word came to them first.
                hear(&mut tree, second(n), witness, advert(node(7), u64::from(n) + 1));
            }
            let sight = Sight { now: second(n), links: &links, config: &config };
            assert!(!tree.is_stuck(&sight, &parent), "after {n} of its adverts");
        }
        let sight = Sight { now: second(40), links: &links, config: &config };
        assert!(tree.is_stuck(&sight, &parent), "it stands still by now");
    }
}
