//! A committee of several: `omnipaxos` behind our seam.
//!
//! Deviations from how it is meant to be used (`DESIGN.md` §5): its ids are places in the roster plus one, as
//! they index vectors; proposals are never forwarded; epochs end by an entry, not by its stop sign; its storage is
//! a [`Mirror`].

use std::fmt;

use bytes::Bytes;
use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::PaxosMsg;
use omnipaxos::util::LogEntry as Read;
use omnipaxos::{ClusterConfig, OmniPaxos, ServerConfig};

use super::consensus::{Consensus, Saved, Saving, Seat, Turn};
use super::mirror::Mirror;
use crate::wire::agreement::{self, Claim, LogEntry};
use crate::wire::cbor::Malformed;

/// Heartbeat intervals after which what was not answered is sent again. Guess.
const RESEND_AFTER: u64 = 3;

/// This member's `omnipaxos` of one epoch.
pub(crate) struct Paxos {
    /// `omnipaxos` does not compare configurations: this is its configuration's number, and of every ballot.
    epoch: u32,
    seats: usize,
    seat: Seat,
    inner: OmniPaxos<LogEntry, Mirror>,
    mirror: Mirror,
    /// Entries below were handed out.
    told: usize,
}

impl fmt::Debug for Paxos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Paxos({} of {}, epoch {}, {} told)", self.seat, self.seats, self.epoch, self.told)
    }
}

impl Paxos {
    /// A part in a committee of `seats` (at least two) members. What was decided when it stopped is told again,
    /// from what is still in the log on.
    pub(crate) fn resume(epoch: u32, seats: usize, seat: Seat, saved: Saved) -> Self {
        let told = saved.compacted as usize;
        let mirror = Mirror::resume(saved, epoch);
        let cluster = ClusterConfig {
            configuration_id: epoch,
            nodes: (1..=seats as u64).collect(),
            flexible_quorum: None,
        };
        let server = ServerConfig {
            pid: pid(seat),
            election_tick_timeout: 1,
            resend_message_tick_timeout: RESEND_AFTER,
            // Of a new committee the first leads, if it is there: others have their first tick later.
            leader_priority: (seats - seat) as u32,
            buffer_size: 64,
            ..ServerConfig::default()
        };
        let inner =
            cluster.build_for_server(server, mirror.clone()).expect("at least two members, numbered from 1");
        Self { epoch, seats, seat, inner, mirror, told }
    }
}

fn pid(seat: Seat) -> u64 {
    seat as u64 + 1
}

fn seat(pid: u64) -> Seat {
    pid as usize - 1
}

impl Consensus for Paxos {
    fn propose(&mut self, entry: Bytes) {
        if self.leads() {
            // It refuses only after a stop sign, which is never used.
            let _ = self.inner.append(LogEntry(entry));
        }
    }

    fn handle(&mut self, from: Seat, message: &[u8]) -> Result<(), Malformed> {
        if from >= self.seats || from == self.seat {
            return Err(Malformed);
        }
        let message = agreement::read(self.epoch, pid(from), pid(self.seat), message)?;
        if !self.is_stale(&message) {
            self.inner.handle_incoming(message);
        }
        Ok(())
    }

    fn is_heartbeat(&self, message: &[u8]) -> bool {
        agreement::is_heartbeat(message)
    }

    fn appends(&self, message: &[u8]) -> Vec<Bytes> {
        agreement::appended(message)
    }

    fn tick(&mut self) {
        self.inner.tick();
    }

    fn on_reconnected(&mut self, to: Seat) {
        self.inner.reconnected(pid(to));
    }

    fn compact(&mut self, below: u64) {
        let below = (below as usize).min(self.inner.get_decided_idx()).min(self.told);
        // What is compacted already, or is not decided, is refused: nothing is lost by that.
        let _ = self.inner.snapshot(Some(below), true);
    }

    fn take_turn(&mut self) -> Turn {
        let mut turn = Turn::default();
        let mut messages = Vec::new();
        self.inner.take_outgoing_messages(&mut messages);
        for message in messages {
            let Some((to, bytes)) = agreement::write(&message) else { continue };
            let is_heartbeat = matches!(message, Message::BLE(_));
            let list = if is_heartbeat { &mut turn.heartbeats } else { &mut turn.messages };
            list.push((seat(to), bytes.into()));
        }
        let decided = self.inner.get_decided_idx();
        if decided > self.told {
            for (index, entry) in self.decided_from(decided) {
                turn.decided.push((index as u64, entry));
            }
            self.told = decided;
        }
        turn.saving = self.mirror.take_saving();
        turn
    }

    fn save_all(&self) -> Saving {
        self.mirror.save_all()
    }

    fn leader(&self) -> Option<Seat> {
        self.inner.get_current_leader().map(|(pid, _)| seat(pid))
    }

    fn term(&self) -> u64 {
        u64::from(self.inner.get_promise().n)
    }

    fn leads(&self) -> bool {
        self.inner.get_current_leader() == Some((pid(self.seat), true))
    }

    fn log_end(&self) -> u64 {
        self.mirror.end() as u64
    }

    fn accepted(&self) -> Claim {
        self.mirror.accepted()
    }

    fn is_alone(&self) -> bool {
        false
    }
}

impl Paxos {
    /// Whether this brings a log up to what this member promised before it learned of more decisions: who asks for
    /// it again while the first answer is under way gets two. The library would take the second for one to
    /// what is promised now, and overwrite what is decided.
    fn is_stale(&self, message: &Message<LogEntry>) -> bool {
        let Message::SequencePaxos(message) = message else { return false };
        let PaxosMsg::AcceptSync(sync) = &message.msg else { return false };
        sync.log_sync.sync_idx < self.inner.get_decided_idx()
    }

    /// What was decided since the last turn and is still in the log.
    fn decided_from(&self, decided: usize) -> Vec<(usize, Bytes)> {
        let first = self.told.max(self.inner.get_compacted_idx());
        let read = if first < decided { self.inner.read_entries(first..decided) } else { None };
        let entries = read.into_iter().flatten().filter_map(|it| match it {
            Read::Decided(LogEntry(entry)) => Some(entry),
            _ => None,
        });
        (first..).zip(entries).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands all messages over until there are none; those from the first to the last go into `seen`.
    fn exchange(members: &mut [Paxos], seen: &mut Vec<Bytes>) {
        loop {
            let mut under_way = Vec::new();
            for member in members.iter_mut() {
                let Turn { messages, heartbeats, .. } = member.take_turn();
                let from = member.seat;
                let all = messages.into_iter().chain(heartbeats);
                under_way.extend(all.map(|(to, message)| (from, to, message)));
            }
            if under_way.is_empty() {
                return;
            }
            for (from, to, message) in under_way {
                if (from, to) == (0, members.len() - 1) {
                    seen.push(message.clone());
                }
                members[to].handle(from, &message).expect("well formed");
            }
        }
    }

    #[test]
    fn an_answer_to_an_old_promise_overwrites_nothing() {
        let mut all: Vec<Paxos> = (0..3).map(|seat| Paxos::resume(1, 3, seat, Saved::default())).collect();
        let mut seen = Vec::new();
        for round in 0..10 {
            // The others come later, as in a group.
            all.iter_mut().take(if round < 2 { 1 } else { 3 }).for_each(Paxos::tick);
            exchange(&mut all, &mut seen);
        }
        assert!(all[0].leads(), "the first seat has the highest priority");
        let is_sync = |bytes: &&Bytes| {
            let message = agreement::read(1, 1, 3, bytes).expect("well formed");
            matches!(message, Message::SequencePaxos(it) if matches!(it.msg, PaxosMsg::AcceptSync(_)))
        };
        let old = seen.iter().find(is_sync).expect("it followed").clone();
        for number in 0..5u8 {
            all[0].propose(Bytes::from(vec![number]));
            exchange(&mut all, &mut seen);
        }
        assert_eq!(all[2].inner.get_decided_idx(), 5);
        // It asks again: the leader answers, and it promises again.
        all[2].on_reconnected(0);
        for (from, to) in [(2, 0), (0, 2)] {
            for (seat, message) in all[from].take_turn().messages {
                assert_eq!(seat, to);
                all[to].handle(from, &message).expect("well formed");
            }
        }
        all[2].handle(0, &old).expect("well formed");
        exchange(&mut all, &mut seen);
        all[0].propose(Bytes::from_static(b"on"));
        exchange(&mut all, &mut seen);
        assert_eq!(all[2].inner.get_decided_idx(), 6);
        let log: Vec<Bytes> = all[2].decided_from(6).into_iter().map(|it| it.1).collect();
        assert_eq!(all[2].told + log.len(), 6, "nothing is missing");
    }
}
