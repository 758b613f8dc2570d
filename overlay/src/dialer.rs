//! Whom to connect to, and not too often.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::Config;
use crate::id::{Address, NodeId};
use crate::io::Output;
use crate::links::Links;
use crate::out::Out;
use crate::rng::Rng;
use crate::time::Time;

/// Dials under way at once that nobody asked for by name, and links that are so new that it has not
/// shown what they are good for.
const MAX_SPECULATIVE: usize = 16;
const NEW_FOR: Duration = Duration::from_secs(2);
/// Longest pause between dials to one node.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A dial of which nothing was heard for so long is forgotten.
const DIAL_HANGS: Duration = Duration::from_secs(10);
/// How long a node that shares no group is left alone.
const FOREIGN_FOR: Duration = Duration::from_secs(60);
/// How long a member that fell silent is dialled with short pauses: cuts that last longer are
/// healed by the slower looks that every group takes. Guess.
const LOST_FOR: Duration = Duration::from_secs(300);
/// Between the beginnings of dials to such a member: the first pause, doubled up to the longest.
/// Whether the one before has come back does not matter: what was sent into a cut is sent again
/// (RFC 6298 §5.5) later than the cut may heal.
const LOST_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// Lost members dialled at one look: of many, each look takes some.
const LOST_AT_ONCE: usize = 2;

#[derive(Debug, Default)]
struct Candidate {
    addresses: Vec<Address>,
    dialing: Option<Time>,
    /// When a dial of ours became a link last.
    opened: Option<Time>,
    not_before: Time,
    failures: u32,
    /// It was in touch, fell silent, and did not say goodbye: since when.
    lost: Option<Time>,
}

impl Candidate {
    fn is_lost(&self, now: Time) -> bool {
        self.lost.is_some_and(|since| now.since(since) < LOST_FOR)
    }

    fn may_be_dialed(&self, now: Time) -> bool {
        let is_dialed = self.dialing.is_some_and(|since| now.since(since) < DIAL_HANGS);
        self.not_before <= now && (self.is_lost(now) || !is_dialed)
    }

    /// The next dial is not before this pause is over: longer each time.
    fn back_off(&mut self, now: Time, (first, longest): (Duration, Duration), jitter: u64) {
        let pause = first.saturating_mul(1 << self.failures.min(10)).min(longest);
        // All who lost it would come at once otherwise.
        self.not_before = now + Rng::new(jitter).jitter(pause);
        self.failures = self.failures.saturating_add(1);
    }
}

/// Nodes that may be worth a link.
#[derive(Debug)]
pub(crate) struct Dialer {
    candidates: BTreeMap<NodeId, Candidate>,
    /// Those that may count as lost.
    lost: BTreeSet<NodeId>,
    rng: Rng,
}

impl Dialer {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { candidates: BTreeMap::new(), lost: BTreeSet::new(), rng }
    }

    /// Dials under way.
    pub(crate) fn dialing(&self) -> usize {
        self.candidates.values().filter(|it| it.dialing.is_some()).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.candidates.len()
    }

    /// A node was found; what was known of its silence is void.
    pub(crate) fn discovered(&mut self, node: NodeId, addresses: Vec<Address>, config: &Config) -> bool {
        let candidate = self.entry(node, config);
        if !addresses.is_empty() {
            candidate.addresses = addresses;
        }
        candidate.not_before = Time::ZERO;
        candidate.failures = 0;
        true
    }

    /// Dials unless there is a link, a dial under way, or one was tried just now.
    pub(crate) fn dial(
        &mut self,
        now: Time,
        node: NodeId,
        addresses: &[Address],
        config: &Config,
        links: &Links,
        out: &mut Out,
    ) -> bool {
        if links.connected(&node) {
            return false;
        }
        let jitter = self.rng.next_u64();
        let candidate = self.entry(node, config);
        if !candidate.may_be_dialed(now) {
            return false;
        }
        candidate.dialing = Some(now);
        if candidate.is_lost(now) {
            candidate.back_off(now, LOST_PAUSE, jitter);
        }
        let mut all = addresses.to_vec();
        all.extend(candidate.addresses.iter().filter(|it| !addresses.contains(it)).cloned());
        out.push(Output::Dial { node, addresses: all });
        true
    }

    /// Dials nodes that were found and are not linked, for groups that want contacts.
    pub(crate) fn dial_found(&mut self, now: Time, config: &Config, links: &Links, out: &mut Out) {
        let dialing = self.dialing();
        let is_new = |it: &&Candidate| it.opened.is_some_and(|at| now.since(at) < NEW_FOR);
        let under_way = dialing + self.candidates.values().filter(is_new).count();
        let mut wanted: Vec<_> = self
            .candidates
            .iter()
            .filter(|(node, it)| it.dialing.is_none() && it.not_before <= now && !links.connected(node))
            .map(|(node, _)| *node)
            .collect();
        // If all began with the same ones, those would be full.
        self.rng.shuffle(&mut wanted);
        for node in wanted.into_iter().take(MAX_SPECULATIVE.saturating_sub(under_way)) {
            self.dial(now, node, &[], config, links, out);
        }
    }

    /// A member fell silent: from now on it is dialled until it is back, or has said that it
    /// went, or [`LOST_FOR`] is over.
    pub(crate) fn lost(&mut self, now: Time, node: NodeId, config: &Config) {
        let candidate = self.entry(node, config);
        if !candidate.is_lost(now) {
            (candidate.lost, candidate.failures, candidate.not_before) = (Some(now), 0, now);
        }
        self.lost.insert(node);
    }

    /// It is not silent but gone, by its own word.
    pub(crate) fn no_longer_lost(&mut self, node: &NodeId) {
        if let Some(candidate) = self.candidates.get_mut(node) {
            candidate.lost = None;
        }
    }

    /// Dials some of those that fell silent, at random.
    pub(crate) fn dial_lost(&mut self, now: Time, config: &Config, links: &Links, out: &mut Out) {
        let candidates = &self.candidates;
        self.lost.retain(|node| candidates.get(node).is_some_and(|it| it.is_lost(now)));
        let due = |node: &&NodeId| candidates[*node].may_be_dialed(now) && !links.connected(node);
        let mut due: Vec<_> = self.lost.iter().filter(due).copied().collect();
        self.rng.shuffle(&mut due);
        for node in due.into_iter().take(LOST_AT_ONCE) {
            self.dial(now, node, &[], config, links, out);
        }
    }

    pub(crate) fn link_up(&mut self, now: Time, node: &NodeId, config: &Config) {
        if let Some(candidate) = self.candidates.get_mut(node) {
            candidate.opened = candidate.dialing.take().map_or(candidate.opened, |_| Some(now));
            candidate.lost = None;
            candidate.failures = 0;
            candidate.not_before = now + config.redial_every.min(Duration::from_millis(500));
        }
    }

    pub(crate) fn dial_failed(&mut self, now: Time, node: &NodeId, config: &Config) {
        let jitter = self.rng.next_u64();
        if let Some(candidate) = self.candidates.get_mut(node) {
            candidate.dialing = None;
            if !candidate.is_lost(now) {
                candidate.back_off(now, (config.redial_every, MAX_BACKOFF), jitter);
            }
        }
    }

    /// The node shares no group with us.
    pub(crate) fn foreign(&mut self, now: Time, node: &NodeId) {
        if let Some(candidate) = self.candidates.get_mut(node) {
            candidate.lost = None;
            candidate.not_before = now + FOREIGN_FOR;
        }
    }

    fn entry(&mut self, node: NodeId, config: &Config) -> &mut Candidate {
        if self.candidates.len() >= config.max_candidates && !self.candidates.contains_key(&node) {
            // The least promising goes: the one that failed most.
            let worst = self.candidates.iter().max_by_key(|(_, it)| it.failures).map(|(node, _)| *node);
            worst.map(|node| self.candidates.remove(&node));
        }
        self.candidates.entry(node).or_default()
    }
}
