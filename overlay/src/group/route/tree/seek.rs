//! The way to a parent: whom to ask, when to move, what an orphan does.

use std::time::Duration;

use super::candidate::is_great;
use super::offences::{SILENT_FOR, STUCK_FOR};
use super::{Act, GRAFT_RENEWAL, GRAFT_TIMEOUT, Grafting, REFUSED_FOR, REFUSED_ORPHAN_FOR, Sight, Tree};
use crate::id::NodeId;
use crate::io::ParentReason;
use crate::time::Time;

/// A new core's parent from before passes its batches on until all other cores are fed, but no longer.
const LEFT_FOR: Duration = Duration::from_secs(4);

impl Tree {
    pub(super) fn look_for_parent(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) {
        if self.seek_as_core(sight, acts) {
            return;
        }
        if let Some(parent) = self.parent.filter(|it| self.is_lost(sight, it)) {
            acts.push(Act::Prune(parent));
            self.orphan(sight.now, ParentReason::RootLost);
        } else if let Some(parent) = self.parent.filter(|it| self.is_stuck(sight, it)) {
            self.offences.add(sight.now, parent, STUCK_FOR);
            acts.push(Act::Prune(parent));
            self.orphan(sight.now, ParentReason::RootLost);
        }
        if self.grafting.is_none() || self.asks_in_vain(sight) {
            self.seek(sight, acts);
        }
    }

    pub(super) fn orphan(&mut self, now: Time, reason: ParentReason) {
        self.parent = None;
        self.sent_down = None;
        self.orphan_since = Some(now);
        self.orphan_reason = reason;
        self.next_renewal = Time::NEVER;
        self.poisoned = false;
    }

    /// How far from the root we are; `None` as root, or without a parent.
    pub(crate) fn current_cost(&self, sight: &Sight<'_>) -> Option<Duration> {
        self.cost(sight, &self.parent?)
    }

    /// Asks the best candidate in: any while there is no parent, a clearly nearer one else.
    pub(super) fn seek(&mut self, sight: &Sight<'_>, acts: &mut Vec<Act>) {
        let candidates = self.candidates(sight);
        let Some((_, best)) = candidates.iter().copied().find(|(_, node)| Some(*node) != self.parent) else {
            return;
        };
        let Some(parent) = self.parent else {
            let reason = self.orphan_reason;
            self.graft(sight, best, reason, acts);
            return;
        };
        if !self.follows_root(&parent) {
            self.graft(sight, best, ParentReason::NewRoot, acts);
            return;
        }
        if self.sent_down.is_some() {
            self.graft(sight, best, ParentReason::Released, acts);
            return;
        }
        let Some(current) = self.cost(sight, &parent) else { return };
        let gain = sight.gain(current);
        // What round trips differ by anyway is no gain.
        let is_nearer = |(cost, node): &(Duration, NodeId)| {
            let noise = || sight.links.jitter(&parent) + sight.links.jitter(node);
            *cost + gain < current && *cost + gain + noise() < current && !self.is_doubtful(sight, node)
        };
        let nearer: Vec<_> = candidates.iter().filter(|it| is_nearer(it)).map(|(_, node)| *node).collect();
        let is_great = |(cost, node): (Duration, NodeId)| is_great(sight, (current, &parent), (cost, &node));
        let great = candidates.iter().find(|it| it.1 != parent).is_some_and(|it| is_great(*it));
        let best = self.optimiser.look(sight.now, &nearer, great);
        // One that is full may send another down for us.
        let best = best.or_else(|| self.best_full(sight).filter(|it| is_great(*it)).map(|it| it.1));
        if let Some(node) = best {
            self.graft(sight, node, ParentReason::Better, acts);
        }
    }

    pub(super) fn graft(&mut self, sight: &Sight<'_>, to: NodeId, reason: ParentReason, acts: &mut Vec<Act>) {
        let patience = sight.links.rtt(&to).map_or(GRAFT_TIMEOUT, |rtt| rtt * 2 + GRAFT_TIMEOUT / 5);
        self.grafting = Some(Grafting { to, until: sight.now + patience, reason });
        let graft = self.graft_frame(sight.now, &to);
        acts.push(Act::Graft(to, graft));
    }

    /// Make before break: the new parent has accepted, the old one is let go.
    pub(super) fn adopt(&mut self, sight: &Sight<'_>, to: NodeId, reason: ParentReason, acts: &mut Vec<Act>) {
        let great = self.parent.is_some_and(|old| {
            let costs = self.cost(sight, &old).zip(self.cost(sight, &to));
            costs.is_some_and(|(current, cost)| is_great(sight, (current, &old), (cost, &to)))
        });
        let from = self.parent.replace(to);
        self.remove_child(&to);
        (self.reason, self.parent_since) = (reason, sight.now);
        if reason == ParentReason::Better {
            self.optimiser.on_moved(sight.now, great);
        } else {
            self.optimiser.begin_anew();
        }
        self.orphan_since = None;
        self.sent_down = None;
        self.poisoned = false;
        self.next_renewal = sight.now + GRAFT_RENEWAL;
        self.changed = true;
        self.left.take_if(|(left, _)| *left == to);
        if let Some(old) = from.filter(|old| *old != to) {
            if self.is_core_of(&to) && self.left.is_none() {
                self.left = Some((old, sight.now + LEFT_FOR));
            } else {
                acts.push(Act::Prune(old));
            }
        }
        acts.push(Act::Edge(to));
    }

    /// A neighbour did not want us, or did not answer.
    pub(super) fn refuse(&mut self, now: Time, node: NodeId) {
        let orphaned = self.parent.is_none();
        self.refused.insert(node, now + if orphaned { REFUSED_ORPHAN_FOR } else { REFUSED_FOR });
    }

    /// The parent did not bring what `other` has had for long.
    pub(crate) fn on_parent_silent(&mut self, sight: &Sight<'_>, other: NodeId, acts: &mut Vec<Act>) {
        // A core hears from each of the others itself.
        if self.is_core() || self.grafting.is_some() || self.parent.is_none_or(|it| it == other) {
            return;
        }
        // Those behind the same parent hear nothing through it, either.
        let backups = self.backups(sight);
        let best = backups.iter().find(|it| **it == other).or(backups.first()).copied();
        if let Some(best) = best {
            if let Some(parent) = self.parent {
                self.offences.add(sight.now, parent, SILENT_FOR);
            }
            self.graft(sight, best, ParentReason::Silent, acts);
        }
    }
}
