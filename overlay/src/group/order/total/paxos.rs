//! A committee of several: `omnipaxos` behind our seam.
//!
//! Deviations from how it is meant to be used (`DESIGN.md` §5): its ids are places in the roster plus one, as
//! they index vectors; proposals are never forwarded; epochs end by an entry, not by its stop sign; its storage is
//! a [`Mirror`].

use std::fmt;

use bytes::Bytes;
use omnipaxos::messages::Message;
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
            // Of a new committee the first leads, if it is there.
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
        self.inner.handle_incoming(message);
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
