//! This node's part in the committee of one epoch: it speaks only of what is on its disk, and accepts only
//! what it has the payloads of.

use std::collections::VecDeque;

use bytes::Bytes;

use super::consensus::{Consensus, Saved, Saving, Seat, Turn};
use super::paxos::Paxos;
use super::solo::Solo;
use crate::id::{NodeId, Token};
use crate::mutants::{self, Mutant};
use crate::wire::agreement::{self, Claim, Claims};
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
    /// This node's.
    seat: Seat,
    /// By seat.
    roster: Vec<NodeId>,
    consensus: Box<dyn Consensus>,
    unsaved: VecDeque<Held>,
    /// By seat: messages that wait for payloads, in order.
    incoming: Vec<VecDeque<Bytes>>,
    /// By seat: what each has said that it has accepted; links keep the order.
    heard: Vec<Claim>,
    /// By seat: what others have heard of it.
    rumoured: Vec<Claim>,
    /// By seat: it claims less than it did, so it has forgotten, and counts no more in this epoch.
    forgetful: Vec<bool>,
    /// What others are to be told of that.
    gossip: Vec<(Seat, Bytes)>,
    news: bool,
    /// Its disk is not what it was: what this one promises is not to be relied on.
    mute: bool,
    /// A write failed: it is as slow as can be, until all that was promised and accepted is on disk.
    broken: bool,
    /// That is being written.
    retry: Option<Token>,
}

impl Delegate {
    /// Takes its seat, or takes it again. `None` if the node is not in the roster.
    pub(crate) fn new(me: &NodeId, epoch: u64, roster: &[NodeId], saved: Option<Saved>) -> Option<Self> {
        let seat = roster.iter().position(|it| it == me)?;
        let number = u32::try_from(epoch).ok()?;
        let mut saved = saved.unwrap_or_default();
        let mute = saved.vows.forgot;
        let heard = saved.vows.heard.take().filter(|it| it.len() == roster.len());
        let consensus: Box<dyn Consensus> = if roster.len() > 1 {
            Box::new(Paxos::resume(number, roster.len(), seat, saved))
        } else {
            Box::new(Solo::resume(saved))
        };
        Some(Self {
            epoch,
            seat,
            consensus,
            unsaved: VecDeque::new(),
            incoming: vec![VecDeque::new(); roster.len()],
            heard: heard.unwrap_or_else(|| vec![Claim::default(); roster.len()]),
            rumoured: vec![Claim::default(); roster.len()],
            forgetful: vec![false; roster.len()],
            gossip: Vec::new(),
            news: false,
            mute,
            broken: false,
            retry: None,
            roster: roster.to_vec(),
        })
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn others<'a>(&'a self, me: &'a NodeId) -> impl Iterator<Item = &'a NodeId> {
        self.roster.iter().filter(move |it| *it != me)
    }

    pub(crate) fn leads(&self) -> bool {
        !self.is_mute() && self.consensus.leads()
    }

    pub(crate) fn term(&self) -> u64 {
        self.consensus.term()
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.consensus.leader().and_then(|seat| self.roster.get(seat)).copied()
    }

    /// Whether it takes no part, for now or for good.
    pub(crate) fn is_mute(&self) -> bool {
        self.mute || self.broken
    }

    /// Whether its disk is to be tried again.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether it needs ticks.
    pub(crate) fn has_heartbeats(&self) -> bool {
        !self.is_mute() && !self.consensus.is_alone()
    }

    pub(crate) fn log_end(&self) -> u64 {
        self.consensus.log_end()
    }

    pub(crate) fn propose(&mut self, entry: Bytes) {
        if !self.is_mute() {
            self.consensus.propose(entry);
        }
    }

    pub(crate) fn tick(&mut self) {
        if self.is_mute() {
            return;
        }
        self.consensus.tick();
        if std::mem::take(&mut self.news) {
            let heard = self.all_heard();
            let others = (0..self.roster.len()).filter(|it| *it != self.seat);
            self.gossip.extend(others.map(|seat| (seat, heard.clone())));
        }
    }

    /// It is known not to remember all that it promised.
    pub(crate) fn hush(&mut self) {
        (self.mute, self.broken) = (true, false);
        self.unsaved.clear();
        self.incoming.iter_mut().for_each(VecDeque::clear);
    }

    /// Whether this member is known to have forgotten what it accepted.
    pub(crate) fn is_forgetful(&self, node: &NodeId) -> bool {
        self.seat_of(node).is_some_and(|seat| self.forgetful[seat])
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
        if let Some(heard) = agreement::read_heard(&message) {
            self.on_heard(from, &heard);
            return Ok(());
        }
        if !self.remembers(seat, &message) {
            return Ok(());
        }
        if self.consensus.is_heartbeat(&message) {
            return if self.broken { Ok(()) } else { self.consensus.handle(seat, &message) };
        }
        if self.incoming[seat].len() < MAX_HELD {
            self.incoming[seat].push_back(message);
        }
        Ok(())
    }

    /// Whether a member remembers what it accepted, as far as that was heard here (`DESIGN.md` §5, amnesia): who
    /// lost its disk, or got an old copy of it, would vote again on what is decided.
    fn remembers(&mut self, seat: Seat, message: &[u8]) -> bool {
        let mut is_behind = false;
        match agreement::claims(message) {
            Some(Claims::More(claim)) if claim > self.heard[seat] => {
                (self.heard[seat], self.news) = (claim, true);
            }
            Some(Claims::All(claim)) if claim < self.heard[seat] => self.forgetful[seat] = true,
            // Word of others may have overtaken what it said itself: it knows better.
            Some(Claims::All(claim)) => is_behind = claim < self.rumoured[seat],
            _ => {}
        }
        if is_behind || self.forgetful[seat] && !self.consensus.is_heartbeat(message) {
            // It is told, and will be silent if it does not remember that.
            self.gossip.push((seat, self.all_heard()));
        }
        !is_behind && !self.forgetful[seat]
    }

    /// What this member accepts of another, that one has accepted before it.
    fn on_handled(&mut self, seat: Seat, message: &[u8]) {
        let accepted = self.consensus.accepted();
        if agreement::is_append(message)
            && agreement::claims(message).is_some_and(|it| it.round() == accepted.0)
            && accepted > self.heard[seat]
        {
            (self.heard[seat], self.news) = (accepted, true);
        }
    }

    /// Another member tells what it has heard.
    fn on_heard(&mut self, from: &NodeId, heard: &[Claim]) {
        if heard.len() != self.heard.len() {
            return;
        }
        let from = self.seat_of(from);
        for (seat, claim) in heard.iter().enumerate().filter(|(seat, _)| Some(*seat) != from) {
            self.rumoured[seat] = self.rumoured[seat].max(*claim);
        }
        if self.rumoured[self.seat] > self.consensus.accepted() {
            self.hush();
        }
    }

    /// By seat: what each is known to have accepted, from itself or others.
    fn claimed(&self) -> Vec<Claim> {
        self.heard.iter().zip(&self.rumoured).map(|(heard, rumoured)| *heard.max(rumoured)).collect()
    }

    fn all_heard(&self) -> Bytes {
        agreement::write_heard(&self.claimed()).into()
    }

    /// Takes in what has come, each member's in its order, as far as the payloads of what it asks to accept are
    /// here. Gives the entries that the first of each member's messages still waits for.
    pub(crate) fn take_in(
        &mut self,
        is_here: impl Fn(&Bytes) -> bool,
    ) -> Result<Vec<(NodeId, Bytes)>, Malformed> {
        let mut wanted = Vec::new();
        if self.is_mute() {
            return Ok(wanted);
        }
        for seat in 0..self.roster.len() {
            while let Some(message) = self.incoming[seat].front() {
                let missing = self.consensus.appends(message).into_iter().find(|it| !is_here(it));
                if let Some(entry) = missing {
                    wanted.push((self.roster[seat], entry));
                    break;
                }
                let message = self.incoming[seat].pop_front().expect("looked at above");
                self.consensus.handle(seat, &message)?;
                self.on_handled(seat, &message);
            }
        }
        Ok(wanted)
    }

    /// What came of all that: what may leave at once, and writes that the rest waits for.
    pub(crate) fn take_turn(&mut self, persist: impl FnOnce(Saving) -> Token) -> Spoken {
        if self.is_mute() {
            return Spoken::default();
        }
        let Turn { saving, messages, heartbeats, decided } = self.consensus.take_turn();
        let saving = saving.filter(|_| !mutants::is_on(Mutant::SkipPersist));
        let token = saving.map(|it| persist(self.with_heard(it)));
        if token.is_some() || !messages.is_empty() || !decided.is_empty() {
            self.unsaved.push_back(Held { token, messages, decided });
        }
        let mut spoken = self.release();
        spoken.messages.extend(self.gossip.drain(..).map(|(seat, it)| (self.roster[seat], it)));
        let heartbeats = heartbeats.into_iter().map(|(seat, it)| (self.roster[seat], it));
        spoken.messages.extend(heartbeats);
        spoken
    }

    /// A write is durable. `None` if it was none of ours.
    pub(crate) fn on_persisted(&mut self, token: Token) -> Option<Spoken> {
        if self.retry.take_if(|it| *it == token).is_some() {
            self.broken = false;
        } else {
            self.unsaved.iter_mut().find(|it| it.token == Some(token))?.token = None;
        }
        Some(self.release())
    }

    /// A write failed: nothing that rests on it is said, nor anything after it, until [`Delegate::try_again`] helps.
    /// Whether it was one of ours.
    pub(crate) fn on_persist_failed(&mut self, token: Token) -> bool {
        let is_retry = self.retry.take_if(|it| *it == token).is_some();
        let is_ours = is_retry || self.unsaved.iter().any(|it| it.token == Some(token));
        if is_ours {
            self.broken = true;
            self.unsaved.iter_mut().for_each(|it| it.token = None);
        }
        is_ours
    }

    /// After a write that failed: has all written that was promised and accepted, as it is not known what is there.
    pub(crate) fn try_again(&mut self, persist: impl FnOnce(Saving) -> Token) {
        if self.broken && self.retry.is_none() {
            self.retry = Some(persist(self.with_heard(self.consensus.save_all())));
        }
    }

    /// What others claim is kept beside: when all were off, who comes back with an old copy is known all the same.
    fn with_heard(&self, mut saving: Saving) -> Saving {
        saving.vows.heard = Some(self.claimed());
        saving
    }

    /// What waits for nothing any more, in order.
    fn release(&mut self) -> Spoken {
        let mut spoken = Spoken::default();
        while !self.broken && self.unsaved.front().is_some_and(|it| it.token.is_none()) {
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
