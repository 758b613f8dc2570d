//! Whom to connect to, and not too often.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::id::{Address, NodeId};
use crate::io::Output;
use crate::links::Links;
use crate::out::Out;
use crate::time::Time;

/// Dials under way at once that nobody asked for by name.
const MAX_SPECULATIVE: usize = 16;
/// Longest pause between dials to one node.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// How long a node that shares no group is left alone.
const FOREIGN_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Candidate {
    addresses: Vec<Address>,
    dialing: Option<Time>,
    not_before: Time,
    failures: u32,
}

/// Nodes that may be worth a link.
#[derive(Debug, Default)]
pub(crate) struct Dialer {
    candidates: BTreeMap<NodeId, Candidate>,
}

impl Dialer {
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
        let candidate = self.entry(node, config);
        let under_way = candidate.dialing.is_some_and(|since| now.since(since) < Duration::from_secs(10));
        if under_way || now < candidate.not_before {
            return false;
        }
        candidate.dialing = Some(now);
        let mut all = addresses.to_vec();
        all.extend(candidate.addresses.iter().filter(|it| !addresses.contains(it)).cloned());
        out.push(Output::Dial { node, addresses: all });
        true
    }

    /// Dials nodes that were found and are not linked, for groups that want contacts.
    pub(crate) fn dial_found(&mut self, now: Time, config: &Config, links: &Links, out: &mut Out) {
        let under_way = self.candidates.values().filter(|it| it.dialing.is_some()).count();
        let wanted: Vec<_> = self
            .candidates
            .iter()
            .filter(|(node, it)| it.dialing.is_none() && it.not_before <= now && !links.connected(node))
            .map(|(node, _)| *node)
            .take(MAX_SPECULATIVE.saturating_sub(under_way))
            .collect();
        for node in wanted {
            self.dial(now, node, &[], config, links, out);
        }
    }

    pub(crate) fn link_up(&mut self, now: Time, node: &NodeId, config: &Config) {
        if let Some(candidate) = self.candidates.get_mut(node) {
            candidate.dialing = None;
            candidate.failures = 0;
            candidate.not_before = now + config.redial_every.min(Duration::from_millis(500));
        }
    }

    pub(crate) fn dial_failed(&mut self, now: Time, node: &NodeId, config: &Config) {
        if let Some(candidate) = self.candidates.get_mut(node) {
            candidate.dialing = None;
            let backoff = config.redial_every.saturating_mul(1 << candidate.failures.min(10));
            candidate.not_before = now + backoff.min(MAX_BACKOFF);
            candidate.failures = candidate.failures.saturating_add(1);
        }
    }

    /// The node shares no group with us.
    pub(crate) fn foreign(&mut self, now: Time, node: &NodeId) {
        if let Some(candidate) = self.candidates.get_mut(node) {
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
