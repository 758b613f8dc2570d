//! Receipts: members' own signed word that they delivered a batch.
//!
//! The source floods a request; each member answers along the way the request came, once
//! it has delivered that far. Requests are repeated until all that are online have
//! answered, so nothing depends on one path.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::sources::LifeId;
use crate::id::{Life, NodeId, Seq, Token};
use crate::time::Time;
use crate::wire::frame::AckRequest;
use crate::wire::record::Ack;

/// Between rounds while somebody is missing.
const ROUND_EVERY: Duration = Duration::from_millis(500);
/// Rounds follow each other at least so far apart: requests that come faster share one.
const ROUND_GAP: Duration = Duration::from_millis(20);
/// A request nobody repeats any more is forgotten.
const REQUEST_TTL: Duration = Duration::from_secs(60);
/// Sources whose requests are remembered.
const MAX_ROUTES: usize = 1_024;

/// Receipts that one application may wait for.
const MAX_WANTED: usize = 65_536;
/// All that is kept here, at most.
pub(crate) const MAX_RECEIPTS: usize = 2 * MAX_ROUTES + MAX_WANTED;

/// A request that came by.
#[derive(Debug)]
struct Route {
    life: Life,
    next: Seq,
    round: u64,
    /// The neighbour it came from first: where answers go.
    via: NodeId,
    at: Time,
    answered: Option<Seq>,
}

/// What our application wants to know.
#[derive(Debug, Default)]
struct Asked {
    /// Own batches with a receipt wanted, by (life, seq): members counted last.
    wanted: BTreeMap<(Life, Seq), Option<(usize, usize)>>,
    acked: BTreeMap<NodeId, (Life, Seq)>,
    round: u64,
    last_round: Option<Time>,
    /// Something new was asked for since.
    fresh: bool,
}

/// Receipts, asked for and answered.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    asked: Asked,
    routes: BTreeMap<NodeId, Route>,
    /// Answers to what is being written.
    held: BTreeMap<Token, Answer>,
}

/// What we say that we have.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) via: NodeId,
    pub(crate) life: LifeId,
    /// The first that we have not.
    pub(crate) next: Seq,
}

impl Receipts {
    /// The application asks who has a batch of ours.
    pub(crate) fn request(&mut self, life: Life, seq: Seq) {
        if self.asked.wanted.len() >= MAX_WANTED {
            // The oldest has waited longest in vain.
            self.asked.wanted.pop_first();
        }
        self.asked.wanted.entry((life, seq)).or_default();
        self.asked.fresh = true;
    }

    /// The next round, if one is due: to be flooded.
    pub(crate) fn poll(&mut self, now: Time, me: NodeId) -> Option<AckRequest> {
        if self.deadline().is_none_or(|at| at > now) {
            return None;
        }
        let &(life, seq) = self.asked.wanted.keys().next_back()?;
        self.asked.round += 1;
        self.asked.last_round = Some(now);
        self.asked.fresh = false;
        Some(AckRequest { source: me, life, next: seq + 1, round: self.asked.round })
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        if self.asked.wanted.is_empty() {
            return None;
        }
        let gap = if self.asked.fresh { ROUND_GAP } else { ROUND_EVERY };
        Some(self.asked.last_round.map_or(Time::ZERO, |at| at + gap))
    }

    /// A request came; whether it is new and is to be passed on.
    pub(crate) fn on_request(&mut self, now: Time, via: NodeId, request: &AckRequest) -> bool {
        self.routes.retain(|_, route| now.since(route.at) < REQUEST_TTL);
        let known = self.routes.get(&request.source);
        if known.is_some_and(|it| (it.life, it.round) >= (request.life, request.round)) {
            return false;
        }
        if known.is_none() && self.routes.len() >= MAX_ROUTES {
            return false;
        }
        let AckRequest { source, life, next, round } = *request;
        self.routes.insert(source, Route { life, next, round, via, at: now, answered: None });
        true
    }

    /// What to answer for this source, if we have delivered as far as was asked (or
    /// further than we said).
    pub(crate) fn due(&mut self, id: LifeId, delivered: Seq) -> Option<Answer> {
        let route = self.routes.get_mut(&id.0)?;
        if route.life != id.1 || delivered < route.next || route.answered.is_some() {
            return None;
        }
        route.answered = Some(delivered);
        Some(Answer { via: route.via, life: id, next: delivered })
    }

    /// The answer waits until what it says is on disk. One too many is not given: the source asks again.
    pub(crate) fn hold(&mut self, token: Token, answer: Answer) {
        if self.held.len() < MAX_ROUTES {
            self.held.insert(token, answer);
        }
    }

    /// It is on disk.
    pub(crate) fn release(&mut self, token: Token) -> Option<Answer> {
        self.held.remove(&token)
    }

    /// It cannot be written: the source will ask again.
    pub(crate) fn drop_held(&mut self, token: Token) {
        self.held.remove(&token);
    }

    /// Where an answer for this source goes from here.
    pub(crate) fn via(&self, source: &NodeId) -> Option<NodeId> {
        self.routes.get(source).map(|route| route.via)
    }

    /// A member's answer to us, checked.
    pub(crate) fn on_ack(&mut self, ack: &Ack) {
        let best = self.asked.acked.entry(ack.member).or_insert((ack.life, ack.next));
        *best = (*best).max((ack.life, ack.next));
    }

    /// Whose receipts changed: (life, seq, have, of), given who else is online. A batch that
    /// all have is done with.
    pub(crate) fn count(&mut self, online: &BTreeSet<NodeId>) -> Vec<(Life, Seq, usize, usize)> {
        let mut changed = Vec::new();
        let acked = &self.asked.acked;
        self.asked.wanted.retain(|&(life, seq), last| {
            let has = |at: &(Life, Seq)| covers(at, life, seq);
            let have = acked.iter().filter(|(_, at)| has(at)).count();
            let online_have = online.iter().filter(|node| acked.get(*node).is_some_and(has)).count();
            let of = online.len() + (have - online_have);
            if *last != Some((have, of)) {
                *last = Some((have, of));
                changed.push((life, seq, have, of));
            }
            have < of || online.is_empty()
        });
        changed
    }

    /// Whether this member said that it has this batch of ours.
    pub(crate) fn has(&self, node: &NodeId, life: Life, seq: Seq) -> bool {
        self.asked.acked.get(node).is_some_and(|at| covers(at, life, seq))
    }

    pub(crate) fn len(&self) -> usize {
        self.asked.wanted.len() + self.routes.len() + self.held.len()
    }

    /// Forgets members that are no longer in the group.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.routes.remove(node);
        self.routes.retain(|_, route| route.via != *node);
        self.held.retain(|_, answer| answer.via != *node);
        self.asked.acked.remove(node);
    }
}

/// Whether who delivered below `at` has a batch: that, or a later life.
fn covers(at: &(Life, Seq), life: Life, seq: Seq) -> bool {
    at.0 > life || (at.0 == life && at.1 > seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_counts_only_what_members_said() {
        let [a, b] = [1, 2].map(|it| NodeId::from_bytes([it; 32]));
        let online = BTreeSet::from([a, b]);
        let mut receipts = Receipts::default();
        receipts.request(7, 4);
        assert_eq!(receipts.count(&online), [(7, 4, 0, 2)]);
        receipts.on_ack(&Ack { member: a, source: b, life: 7, next: 4 });
        assert_eq!(receipts.count(&online), []);
        receipts.on_ack(&Ack { member: a, source: b, life: 7, next: 5 });
        assert_eq!(receipts.count(&online), [(7, 4, 1, 2)]);
        assert!(receipts.has(&a, 7, 4) && !receipts.has(&a, 7, 5) && !receipts.has(&b, 7, 4));
        receipts.on_ack(&Ack { member: b, source: b, life: 7, next: 9 });
        assert_eq!(receipts.count(&online), [(7, 4, 2, 2)]);
        assert_eq!(receipts.deadline(), None, "all have it");
    }
}
