//! This node's part in the committee of one epoch: it speaks only of what is on its disk, and accepts only
//! what it has the payloads of.

use std::collections::VecDeque;

use bytes::Bytes;

use super::consensus::{Consensus, Saved, Saving, Seat, Turn};
use super::paxos::Paxos;
use super::solo::Solo;
use crate::id::{NodeId, Token};
use crate::wire::cbor::Malformed;

/// Messages of one other member that wait for payloads, at most: it sends again what is not answered. Guess.
const MAX_HELD: usize = 1_024;

/// A turn that waits for the disk, or for one before it.
#[derive(Debug)]
struct Held {
    /// Its write, until that is durable.
    token: Option<Token>,
    messages: Vec<(Seat, Bytes)>,
    decided: Vec<(u64, Bytes)>,
}

/// What may leave and count now.
#[derive(Debug, Default)]
pub(crate) struct Spoken {
    pub(crate) messages: Vec<(NodeId, Bytes)>,
    pub(crate) decided: Vec<(u64, Bytes)>,
}

/// A member of the committee, here.
#[derive(Debug)]
pub(crate) struct Delegate {
    epoch: u64,
    /// By seat.
    roster: Vec<NodeId>,
    consensus: Box<dyn Consensus>,
    unsaved: VecDeque<Held>,
    /// By seat: messages that wait for payloads, in order.
    incoming: Vec<VecDeque<Bytes>>,
    /// A write failed: what this one promises is not to be relied on any more.
    mute: bool,
}

impl Delegate {
    /// Takes its seat, or takes it again. `None` if the node is not in the roster.
    pub(crate) fn new(me: &NodeId, epoch: u64, roster: &[NodeId], saved: Option<Saved>) -> Option<Self> {
        let seat = roster.iter().position(|it| it == me)?;
        let number = u32::try_from(epoch).ok()?;
        let saved = saved.unwrap_or_default();
        let consensus: Box<dyn Consensus> = if roster.len() > 1 {
            Box::new(Paxos::resume(number, roster.len(), seat, saved))
        } else {
            Box::new(Solo::resume(saved))
        };
        let incoming = vec![VecDeque::new(); roster.len()];
        let roster = roster.to_vec();
        Some(Self { epoch, roster, consensus, unsaved: VecDeque::new(), incoming, mute: false })
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn others<'a>(&'a self, me: &'a NodeId) -> impl Iterator<Item = &'a NodeId> {
        self.roster.iter().filter(move |it| *it != me)
    }

    pub(crate) fn leads(&self) -> bool {
        !self.mute && self.consensus.leads()
    }

    pub(crate) fn term(&self) -> u64 {
        self.consensus.term()
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.consensus.leader().and_then(|seat| self.roster.get(seat)).copied()
    }

    pub(crate) fn is_mute(&self) -> bool {
        self.mute
    }

    /// Whether it needs ticks.
    pub(crate) fn has_heartbeats(&self) -> bool {
        !self.mute && !self.consensus.is_alone()
    }

    pub(crate) fn log_end(&self) -> u64 {
        self.consensus.log_end()
    }

    pub(crate) fn propose(&mut self, entry: Bytes) {
        if !self.mute {
            self.consensus.propose(entry);
        }
    }

    pub(crate) fn tick(&mut self) {
        if !self.mute {
            self.consensus.tick();
        }
    }

    pub(crate) fn compact(&mut self, below: u64) {
        self.consensus.compact(below);
    }

    /// A link to another member is new, and what was on the one before may be lost.
    pub(crate) fn on_reconnected(&mut self, node: &NodeId) {
        if let Some(seat) = self.seat_of(node).filter(|_| !self.mute) {
            self.incoming[seat].clear();
            self.consensus.on_reconnected(seat);
        }
    }

    /// A message of another member. Nothing of who is not in the roster comes further.
    pub(crate) fn handle(&mut self, from: &NodeId, message: Bytes) -> Result<(), Malformed> {
        let Some(seat) = self.seat_of(from).filter(|_| !self.mute) else { return Ok(()) };
        if self.consensus.is_heartbeat(&message) {
            return self.consensus.handle(seat, &message);
        }
        if self.incoming[seat].len() < MAX_HELD {
            self.incoming[seat].push_back(message);
        }
        Ok(())
    }

    /// Takes in what has come, each member's in its order, as far as the payloads of what it asks to accept are
    /// here. Gives the entries that the first of each member's messages still waits for.
    pub(crate) fn take_in(
        &mut self,
        is_here: impl Fn(&Bytes) -> bool,
    ) -> Result<Vec<(NodeId, Bytes)>, Malformed> {
        let mut wanted = Vec::new();
        for seat in 0..self.roster.len() {
            while let Some(message) = self.incoming[seat].front() {
                let missing = self.consensus.appends(message).into_iter().find(|it| !is_here(it));
                if let Some(entry) = missing {
                    wanted.push((self.roster[seat], entry));
                    break;
                }
                let message = self.incoming[seat].pop_front().expect("looked at above");
                self.consensus.handle(seat, &message)?;
            }
        }
        Ok(wanted)
    }

    /// What came of all that: what may leave at once, and writes that the rest waits for.
    pub(crate) fn take_turn(&mut self, persist: impl FnOnce(Saving) -> Token) -> Spoken {
        if self.mute {
            return Spoken::default();
        }
        let Turn { saving, messages, heartbeats, decided } = self.consensus.take_turn();
        let token = saving.map(persist);
        if token.is_some() || !messages.is_empty() || !decided.is_empty() {
            self.unsaved.push_back(Held { token, messages, decided });
        }
        let mut spoken = self.release();
        let heartbeats = heartbeats.into_iter().map(|(seat, it)| (self.roster[seat], it));
        spoken.messages.extend(heartbeats);
        spoken
    }

    /// A write is durable. `None` if it was none of ours.
    pub(crate) fn on_persisted(&mut self, token: Token) -> Option<Spoken> {
        let held = self.unsaved.iter_mut().find(|it| it.token == Some(token))?;
        held.token = None;
        Some(self.release())
    }

    /// A write failed: nothing that rests on it is said, nor anything after it. Whether it was one of ours.
    pub(crate) fn on_persist_failed(&mut self, token: Token) -> bool {
        let is_ours = self.unsaved.iter().any(|it| it.token == Some(token));
        if is_ours {
            self.mute = true;
            self.unsaved.clear();
            self.incoming.iter_mut().for_each(VecDeque::clear);
        }
        is_ours
    }

    /// What waits for nothing any more, in order.
    fn release(&mut self) -> Spoken {
        let mut spoken = Spoken::default();
        while self.unsaved.front().is_some_and(|it| it.token.is_none()) {
            let held = self.unsaved.pop_front().expect("looked at above");
            spoken.messages.extend(held.messages.into_iter().map(|(seat, it)| (self.roster[seat], it)));
            spoken.decided.extend(held.decided);
        }
        spoken
    }

    fn seat_of(&self, node: &NodeId) -> Option<Seat> {
        self.roster.iter().position(|it| it == node)
    }
}

#[cfg(test)]
#[path = "delegate_tests.rs"]
mod tests;
