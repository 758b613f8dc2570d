//! Who is root: claims, terms, succession.
//!
//! A claim is (epoch, id): the higher epoch wins, then the lower id. A node that is alone
//! claims with epoch 0, so that no newcomer unseats the root of a group that stands; a root
//! that has had a child for a while claims 1. When a root goes, its heir claims the next
//! epoch at once; if the heir is gone too, whoever misses the root longest.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Child, Sight};
use crate::config::Config;
use crate::id::NodeId;
use crate::time::{Time, soonest};
use crate::wire::frame::Advert;

/// How long a root of epoch 0 must have had a child before it claims 1.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// What share of the members' mean distance a crowning must save: after a long time, and just after
/// another; and how long that takes. Guess.
const CROWN_GAIN: (f64, f64) = (0.15, 0.5);
const CROWN_HOLDS: Duration = Duration::from_secs(300);
/// Epochs may grow by so much at once: no peer can use them up (a u64 of steps).
const MAX_EPOCH_JUMP: u64 = 1 << 20;
/// Who follows if the heir does not: a child of the lost root waits until it would have heard the
/// root's next number from others, and four round trips to its farthest neighbour, but at least and at
/// most this long, and up to as long again by its id. The heir's claim takes a few hops, each a graft
/// and a gap between adverts.
const INTERREGNUM: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(400));

/// The root that this node follows; itself, maybe.
#[derive(Debug)]
pub(super) struct Root {
    node: NodeId,
    epoch: u64,
    /// Highest running number heard of this root.
    number: u64,
    /// When it last grew.
    progress: Time,
    heir: Option<NodeId>,
    next_number: Time,
    had_child_since: Option<Time>,
    /// When to claim, the root being gone.
    claim_at: Option<Time>,
    /// When the root before handed over to us.
    crowned: Option<Time>,
}

/// What an advert says of the root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) root: NodeId,
    pub(super) epoch: u64,
    pub(super) number: u64,
    pub(super) heir: Option<NodeId>,
}

impl Root {
    pub(super) fn alone(now: Time, me: NodeId) -> Self {
        Self {
            node: me,
            epoch: 0,
            number: 1,
            progress: now,
            heir: None,
            next_number: now,
            had_child_since: None,
            claim_at: None,
            crowned: None,
        }
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn claim(&self) -> (NodeId, u64) {
        (self.node, self.epoch)
    }

    pub(super) fn is(&self, node: &NodeId) -> bool {
        self.node == *node
    }

    pub(super) fn matches(&self, root: &NodeId, epoch: u64) -> bool {
        self.node == *root && self.epoch == epoch
    }

    /// Whether an advert's epoch is one that can be: counters that peers send may not jump.
    pub(super) fn accepts(&self, advert: &Advert) -> bool {
        advert.epoch <= self.epoch.saturating_add(MAX_EPOCH_JUMP)
    }

    /// Claims this term, the root before having asked for it.
    pub(super) fn crown(&mut self, now: Time, me: NodeId, epoch: u64) {
        *self = Self { epoch, crowned: Some(now), ..Self::alone(now, me) };
    }

    /// As root: whether it has been for long enough to arrange others.
    pub(super) fn is_settled(&self, me: &NodeId, now: Time) -> bool {
        self.is_settled_for(me, now, Duration::ZERO)
    }

    /// Likewise, and for so long more.
    pub(super) fn is_settled_for(&self, me: &NodeId, now: Time, more: Duration) -> bool {
        let settled = self.had_child_since.is_some_and(|since| now.since(since) >= SETTLED_AFTER + more);
        self.is(me) && self.epoch > 0 && settled
    }

    /// As root: what share of the members' mean distance another must save to be crowned. One that
    /// was crowned itself of late asks for more: coordinates err, and each crowning moves everybody.
    pub(super) fn least_gain(&self, me: &NodeId, now: Time) -> Option<f64> {
        if !self.is_settled(me, now) {
            return None;
        }
        let since = self.crowned.map_or(CROWN_HOLDS, |at| now.since(at));
        let age = (since.as_secs_f64() / CROWN_HOLDS.as_secs_f64()).min(1.0);
        Some(CROWN_GAIN.1 + (CROWN_GAIN.0 - CROWN_GAIN.1) * age)
    }

    pub(super) fn advert(&self, path: Vec<u64>, delay_us: u64, free: u32, size: u32) -> Advert {
        let Self { node, epoch, number, heir, .. } = *self;
        Advert { root: node, epoch, number, delay_us, path, free, heir, size, plan: 0 }
    }

    /// Our advert under a parent: its word on the root, our place. The heir concerns the
    /// root's children only.
    pub(super) fn relay(&self, parent: &Advert, path: Vec<u64>, delay_us: u64, free: u32) -> Advert {
        let Advert { root, epoch, number, size, plan, .. } = *parent;
        Advert { root, epoch, number, delay_us, path, free, heir: None, size, plan }
    }

    /// Takes the best root heard of; whether it is another than before.
    pub(super) fn consider(&mut self, now: Time, me: &NodeId, best: Option<Claim>, config: &Config) -> bool {
        if let Some(best) = best {
            let claim = (best.epoch, std::cmp::Reverse(best.root));
            let ours = (self.epoch, std::cmp::Reverse(self.node));
            if claim > ours || (claim < ours && self.is_lost(now, me, config)) {
                let number = best.number;
                *self = Self::alone(now, best.root);
                (self.epoch, self.number, self.heir) = (best.epoch, number, best.heir);
                return true;
            }
            if claim == ours && !self.is(me) {
                self.heir = best.heir.or(self.heir);
                if best.number > self.number {
                    self.number = best.number;
                    self.progress = now;
                    self.claim_at = None;
                }
            }
        }
        if self.claim_at.is_some_and(|at| at <= now) {
            let epoch = self.epoch + 1;
            *self = Self::alone(now, *me);
            self.epoch = epoch;
            return true;
        }
        if self.claim_at.is_none() && self.is_lost(now, me, config) {
            self.claim_at = Some(now + spread(me, INTERREGNUM.1));
        }
        false
    }

    fn is_lost(&self, now: Time, me: &NodeId, config: &Config) -> bool {
        !self.is(me) && now.since(self.progress) >= config.root_timeout
    }

    /// Our own link to the root is down: its heir follows now, others if the root is not heard of
    /// either, over whatever parent they find meanwhile.
    pub(super) fn on_root_link_lost(&mut self, sight: &Sight<'_>, me: &NodeId, farthest: Duration) {
        let interregnum = (farthest * 4).clamp(INTERREGNUM.0, INTERREGNUM.1);
        let heir = self.heir.as_ref() == Some(me);
        let next_number = sight.config.advert_every.mul_f64(1.5);
        let wait = if heir { Duration::ZERO } else { next_number + interregnum + spread(me, interregnum) };
        self.claim_at = Some(sight.now + wait);
    }

    pub(super) fn on_child(&mut self, now: Time, child: NodeId) {
        self.had_child_since.get_or_insert(now);
        self.heir.get_or_insert(child);
    }

    /// When to count on.
    pub(super) fn next_number(&self) -> Time {
        self.next_number
    }

    /// As root: a child is gone; another heir is named at once.
    pub(super) fn on_child_lost(&mut self, now: Time, child: &NodeId) {
        if self.heir.as_ref() == Some(child) {
            (self.heir, self.next_number) = (None, now);
        }
    }

    /// As root: count on, settle, name the heir. Whether all are to hear of it.
    pub(super) fn poll(&mut self, now: Time, children: &BTreeMap<NodeId, Child>, sight: &Sight<'_>) -> bool {
        if self.next_number > now {
            return false;
        }
        self.next_number = now + sight.config.advert_every;
        self.number += 1;
        let mut new_heir = false;
        if self.heir.is_none_or(|heir| !children.contains_key(&heir)) {
            let rank = |(node, child): &(&NodeId, &Child)| (!child.core, sight.links.distance(node), **node);
            self.heir = children.iter().min_by_key(rank).map(|(node, _)| *node);
            new_heir = self.heir.is_some();
        }
        if children.is_empty() {
            self.had_child_since = None;
        } else {
            let since = *self.had_child_since.get_or_insert(now);
            if self.epoch == 0 && now.since(since) >= SETTLED_AFTER {
                self.epoch = 1;
                return true;
            }
        }
        new_heir
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        soonest([self.claim_at])
    }
}

/// Up to `most`, by id: not everybody claims at the same moment.
fn spread(me: &NodeId, most: Duration) -> Duration {
    most.mul_f64((me.tag() % 1_000) as f64 / 1_000.0)
}
