//! Failure detection: direct and indirect probes (SWIM §4.1), then signed suspicions.
//!
//! A neighbour whose link is lost is dialled again, and others are asked to reach it. Only
//! when nobody does is it suspected; only when two members suspect it independently (one,
//! in a group of two) does it show as failed. A higher incarnation refutes.

use std::collections::{BTreeMap, BTreeSet};

use serde_bytes::ByteBuf;

use crate::config::Config;
use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::{Time, soonest};
use crate::wire::record::Suspicion;

/// Probes that others asked us for, at most.
const MAX_ERRANDS: usize = 64;
/// Suspicions that are kept, at most.
const MAX_SUSPECTS: usize = 512;
/// Suspicions that one member is heard with in [`Config::suspicion_ttl`]: who finds more to be silent is
/// cut off itself, or lies. Guess: twice the neighbours that there usually are.
const MAX_CHARGES: u32 = 16;

#[derive(Debug)]
struct Check {
    nonce: u64,
    until: Time,
}

#[derive(Debug)]
struct Errand {
    asker: NodeId,
    target: NodeId,
    nonce: u64,
    until: Time,
}

/// Who is being looked for, and who accuses whom.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    checks: BTreeMap<NodeId, Check>,
    errands: Vec<Errand>,
    accusers: BTreeMap<NodeId, BTreeMap<NodeId, (Suspicion, Time)>>,
    /// How often each has accused somebody, since when.
    charges: BTreeMap<NodeId, (Time, u32)>,
    /// Not reached in time by us, and since then neither back nor agreed to have failed.
    doubts: BTreeSet<NodeId>,
    nonces: u64,
}

impl Detector {
    /// Begins to look for a node that fell silent; the nonce for probes, unless it is being
    /// looked for already.
    pub(crate) fn check(&mut self, now: Time, node: NodeId, config: &Config) -> Option<u64> {
        if self.checks.contains_key(&node) {
            return None;
        }
        self.nonces += 1;
        self.checks.insert(node, Check { nonce: self.nonces, until: now + config.probe_timeout });
        Some(self.nonces)
    }

    /// Somebody reached it, or it came back.
    pub(crate) fn on_alive(&mut self, node: &NodeId) {
        self.checks.remove(node);
        self.doubts.remove(node);
        self.accusers.remove(node);
    }

    pub(crate) fn on_reply(&mut self, target: &NodeId, nonce: u64, alive: bool) {
        if alive && self.checks.get(target).is_some_and(|it| it.nonce == nonce) {
            self.checks.remove(target);
            self.doubts.remove(target);
        }
    }

    /// Nodes that nobody reached in time: to be accused.
    pub(crate) fn overdue(&mut self, now: Time) -> Vec<NodeId> {
        let late: Vec<_> =
            self.checks.iter().filter(|(_, it)| it.until <= now).map(|(node, _)| *node).collect();
        for node in &late {
            self.checks.remove(node);
            if self.doubts.len() < MAX_SUSPECTS {
                self.doubts.insert(*node);
            }
        }
        late
    }

    /// Others agree that it has failed.
    pub(crate) fn on_settled(&mut self, node: &NodeId) {
        self.doubts.remove(node);
    }

    /// One that we accused in vain so far: nobody heard it, or could second it in time.
    pub(crate) fn doubted(&self, rng: &mut Rng) -> Option<NodeId> {
        let doubts: Vec<_> = self.doubts.iter().copied().collect();
        rng.pick(&doubts).copied()
    }

    /// Whether we have accused it ourselves.
    pub(crate) fn accused_by(&self, suspect: &NodeId, accuser: &NodeId) -> bool {
        self.accusers.get(suspect).is_some_and(|it| it.contains_key(accuser))
    }

    /// Whether anybody has accused it of late.
    pub(crate) fn is_accused(&self, suspect: &NodeId) -> bool {
        self.accusers.contains_key(suspect)
    }

    /// A member accuses somebody; whether it is to be heard.
    pub(crate) fn hears(&mut self, now: Time, accuser: NodeId, config: &Config) -> bool {
        self.charges.retain(|_, (since, _)| now.since(*since) < config.suspicion_ttl);
        if self.charges.len() >= MAX_SUSPECTS && !self.charges.contains_key(&accuser) {
            return false;
        }
        let (_, count) = self.charges.entry(accuser).or_insert((now, 0));
        *count += 1;
        *count <= MAX_CHARGES
    }

    /// Notes a suspicion; whether it is new.
    pub(crate) fn on_suspicion(&mut self, now: Time, suspicion: &Suspicion, config: &Config) -> bool {
        for accusers in self.accusers.values_mut() {
            accusers.retain(|_, (_, at)| now.since(*at) < config.suspicion_ttl);
        }
        self.accusers.retain(|_, it| !it.is_empty());
        if self.accusers.len() >= MAX_SUSPECTS && !self.accusers.contains_key(&suspicion.suspect) {
            return false;
        }
        let accusers = self.accusers.entry(suspicion.suspect).or_default();
        let new = accusers
            .get(&suspicion.accuser)
            .is_none_or(|(known, _)| known.incarnation < suspicion.incarnation);
        if new {
            accusers.insert(suspicion.accuser, (suspicion.clone(), now));
        }
        new
    }

    /// The suspicions of this incarnation, if enough members share them. `witnesses` are the
    /// online members besides the suspect, ourselves included.
    pub(crate) fn verdict(
        &self,
        me: &NodeId,
        suspect: &NodeId,
        incarnation: u64,
        witnesses: &BTreeSet<NodeId>,
    ) -> Option<Vec<ByteBuf>> {
        let accusers = self.accusers.get(suspect)?.values().filter(|(it, _)| it.incarnation >= incarnation);
        let proofs: Vec<_> = accusers.map(|(it, _)| it.bytes.clone()).collect();
        // Whom we cannot reach either cannot bear witness.
        let able = witnesses.iter().filter(|it| !self.accused_by(it, me)).count();
        (proofs.len() >= able.clamp(1, 2)).then_some(proofs)
    }

    /// Takes an errand: to find out for `asker` whether `target` answers.
    pub(crate) fn take_errand(
        &mut self,
        now: Time,
        asker: NodeId,
        target: NodeId,
        nonce: u64,
        config: &Config,
    ) -> bool {
        self.errands.retain(|it| it.until > now);
        let room = self.errands.len() < MAX_ERRANDS;
        if room {
            self.errands.push(Errand { asker, target, nonce, until: now + config.probe_timeout });
        }
        room
    }

    /// Ends the errands to this target: whom to tell.
    pub(crate) fn finish_errands(&mut self, target: &NodeId) -> Vec<(NodeId, u64)> {
        let (done, open) = std::mem::take(&mut self.errands).into_iter().partition(|it| it.target == *target);
        self.errands = open;
        let done: Vec<Errand> = done;
        done.into_iter().map(|it| (it.asker, it.nonce)).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        soonest(self.checks.values().map(|it| Some(it.until)))
    }

    pub(crate) fn len(&self) -> usize {
        self.checks.len()
            + self.doubts.len()
            + self.charges.len()
            + self.errands.len()
            + self.accusers.values().map(BTreeMap::len).sum::<usize>()
    }
}
