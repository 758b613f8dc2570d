//! What members of a committee say to each other, as it travels: one array a message, `[kind, …]`. Sender,
//! receiver and epoch are those of the frame.

use bytes::Bytes;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::Message;
use omnipaxos::messages::ballot_leader_election::{
    BLEMessage, HeartbeatMsg, HeartbeatReply, HeartbeatRequest,
};
use omnipaxos::messages::sequence_paxos::{
    AcceptDecide, AcceptSync, Accepted, Decide, NotAccepted, PaxosMessage, PaxosMsg, Prepare, PrepareReq,
    Promise,
};
use omnipaxos::storage::{Entry, Snapshot, SnapshotType};
use omnipaxos::util::{LogSync, SequenceNumber};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::cbor::{self, Malformed};

/// An entry of a committee's log: bytes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEntry(pub(crate) Bytes);

impl Entry for LogEntry {
    type Snapshot = Passed;
}

/// Stands for entries that are not in the log any more: they are kept, and repaired, as records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed;

impl Snapshot<LogEntry> for Passed {
    fn create(_: &[LogEntry]) -> Self {
        Self
    }

    fn merge(&mut self, _: Self) {}

    fn use_snapshots() -> bool {
        true
    }
}

/// (number, priority, owner): its configuration is the frame's epoch.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Vow(u32, u32, u64);

impl Vow {
    fn of(ballot: Ballot) -> Self {
        Self(ballot.n, ballot.priority, ballot.pid)
    }

    fn ballot(self, epoch: u32) -> Ballot {
        Ballot::with(epoch, self.0, self.1, self.2)
    }
}

/// (session, counter) of what a leader tells a follower.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Count(u64, u64);

impl Count {
    fn of(count: SequenceNumber) -> Self {
        Self(count.session, count.counter)
    }

    fn number(self) -> SequenceNumber {
        SequenceNumber { session: self.0, counter: self.1 }
    }
}

/// What brings one log in step with another: (0: no snapshot, 1: of all, 2: of what the receiver lacks; where
/// the entries go on; they).
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sync(u8, u64, Vec<ByteBuf>);

impl Sync {
    fn of(sync: &LogSync<LogEntry>) -> Self {
        let snapshot = match sync.decided_snapshot {
            None => 0,
            Some(SnapshotType::Complete(Passed)) => 1,
            Some(SnapshotType::Delta(Passed)) => 2,
        };
        Self(snapshot, sync.sync_idx as u64, written(&sync.suffix))
    }

    fn sync(self) -> Result<LogSync<LogEntry>, Malformed> {
        let decided_snapshot = match self.0 {
            0 => None,
            1 => Some(SnapshotType::Complete(Passed)),
            2 => Some(SnapshotType::Delta(Passed)),
            _ => return Err(Malformed),
        };
        let (suffix, sync_idx) = (entries(self.2), index(self.1)?);
        Ok(LogSync { decided_snapshot, suffix, sync_idx, stopsign: None })
    }
}

fn written(entries: &[LogEntry]) -> Vec<ByteBuf> {
    entries.iter().map(|it| ByteBuf::from(it.0.to_vec())).collect()
}

fn entries(read: Vec<ByteBuf>) -> Vec<LogEntry> {
    read.into_iter().map(|it| LogEntry(it.into_vec().into())).collect()
}

/// Nobody has so long a log that its end cannot be counted on.
fn index(read: u64) -> Result<usize, Malformed> {
    usize::try_from(read).ok().filter(|it| *it < usize::MAX >> 1).ok_or(Malformed)
}

/// A message as bytes, and whom it is to; `None` for kinds that are never sent.
pub(crate) fn write(message: &Message<LogEntry>) -> Option<(u64, Vec<u8>)> {
    match message {
        Message::SequencePaxos(PaxosMessage { to, msg, .. }) => Some((*to, write_paxos(msg)?)),
        Message::BLE(BLEMessage { to, msg, .. }) => Some((
            *to,
            match msg {
                HeartbeatMsg::Request(it) => cbor::to_vec(&(8_u8, it.round)),
                HeartbeatMsg::Reply(it) => {
                    cbor::to_vec(&(9_u8, it.round, Vow::of(it.ballot), Vow::of(it.leader), it.happy))
                }
            },
        )),
    }
}

fn write_paxos(message: &PaxosMsg<LogEntry>) -> Option<Vec<u8>> {
    Some(match message {
        PaxosMsg::PrepareReq(it) => cbor::to_vec(&(0_u8, Vow::of(it.n))),
        PaxosMsg::Prepare(it) => {
            let (decided, accepted) = (it.decided_idx as u64, it.accepted_idx as u64);
            cbor::to_vec(&(1_u8, Vow::of(it.n), Vow::of(it.n_accepted), decided, accepted))
        }
        PaxosMsg::Promise(it) => {
            let (decided, accepted) = (it.decided_idx as u64, it.accepted_idx as u64);
            let sync = it.log_sync.as_ref().map(Sync::of);
            cbor::to_vec(&(2_u8, Vow::of(it.n), Vow::of(it.n_accepted), decided, accepted, sync))
        }
        PaxosMsg::AcceptSync(it) => {
            let (count, decided) = (Count::of(it.seq_num), it.decided_idx as u64);
            cbor::to_vec(&(3_u8, Vow::of(it.n), count, decided, Sync::of(&it.log_sync)))
        }
        PaxosMsg::AcceptDecide(it) => {
            let (count, decided) = (Count::of(it.seq_num), it.decided_idx as u64);
            cbor::to_vec(&(4_u8, Vow::of(it.n), count, decided, written(&it.entries)))
        }
        PaxosMsg::Accepted(it) => cbor::to_vec(&(5_u8, Vow::of(it.n), it.accepted_idx as u64)),
        PaxosMsg::NotAccepted(it) => cbor::to_vec(&(6_u8, Vow::of(it.n))),
        PaxosMsg::Decide(it) => {
            cbor::to_vec(&(7_u8, Vow::of(it.n), Count::of(it.seq_num), it.decided_idx as u64))
        }
        // Proposals are not forwarded, logs are compacted by each, and epochs end by an entry.
        PaxosMsg::ProposalForward(_)
        | PaxosMsg::Compaction(_)
        | PaxosMsg::AcceptStopSign(_)
        | PaxosMsg::ForwardStopSign(_) => return None,
    })
}

/// Reads a message that `from` said to `to` in this epoch.
pub(crate) fn read(epoch: u32, from: u64, to: u64, bytes: &[u8]) -> Result<Message<LogEntry>, Malformed> {
    let message = match kind(bytes)? {
        8 => {
            let (_, round): (u8, u32) = cbor::from_slice(bytes)?;
            return Ok(heartbeat(from, to, HeartbeatMsg::Request(HeartbeatRequest { round })));
        }
        9 => {
            let (_, round, ballot, leader, happy): (u8, u32, Vow, Vow, bool) = cbor::from_slice(bytes)?;
            let (ballot, leader) = (ballot.ballot(epoch), leader.ballot(epoch));
            let reply = HeartbeatReply { round, ballot, leader, happy };
            return Ok(heartbeat(from, to, HeartbeatMsg::Reply(reply)));
        }
        kind => read_paxos(kind, epoch, bytes)?,
    };
    Ok(Message::SequencePaxos(PaxosMessage { from, to, msg: message }))
}

fn heartbeat(from: u64, to: u64, msg: HeartbeatMsg) -> Message<LogEntry> {
    Message::BLE(BLEMessage { from, to, msg })
}

fn read_paxos(kind: u8, epoch: u32, bytes: &[u8]) -> Result<PaxosMsg<LogEntry>, Malformed> {
    fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
        cbor::from_slice(bytes)
    }
    Ok(match kind {
        0 => {
            let (_, n): (u8, Vow) = body(bytes)?;
            PaxosMsg::PrepareReq(PrepareReq { n: n.ballot(epoch) })
        }
        1 => {
            let (_, n, accepted_in, decided, accepted): (u8, Vow, Vow, u64, u64) = body(bytes)?;
            PaxosMsg::Prepare(Prepare {
                n: n.ballot(epoch),
                decided_idx: index(decided)?,
                n_accepted: accepted_round(accepted_in, epoch),
                accepted_idx: index(accepted)?,
            })
        }
        2 => {
            let (_, n, accepted_in, decided, accepted, sync): (u8, Vow, Vow, u64, u64, Option<Sync>) =
                body(bytes)?;
            PaxosMsg::Promise(Promise {
                n: n.ballot(epoch),
                n_accepted: accepted_round(accepted_in, epoch),
                decided_idx: index(decided)?,
                accepted_idx: index(accepted)?,
                log_sync: sync.map(Sync::sync).transpose()?,
            })
        }
        3 => {
            let (_, n, count, decided, sync): (u8, Vow, Count, u64, Sync) = body(bytes)?;
            let (seq_num, decided_idx) = (count.number(), index(decided)?);
            PaxosMsg::AcceptSync(AcceptSync {
                n: n.ballot(epoch),
                seq_num,
                decided_idx,
                log_sync: sync.sync()?,
            })
        }
        4 => {
            let (_, n, count, decided, list): (u8, Vow, Count, u64, Vec<ByteBuf>) = body(bytes)?;
            let (seq_num, decided_idx) = (count.number(), index(decided)?);
            PaxosMsg::AcceptDecide(AcceptDecide {
                n: n.ballot(epoch),
                seq_num,
                decided_idx,
                entries: entries(list),
            })
        }
        5 => {
            let (_, n, accepted): (u8, Vow, u64) = body(bytes)?;
            PaxosMsg::Accepted(Accepted { n: n.ballot(epoch), accepted_idx: index(accepted)? })
        }
        6 => {
            let (_, n): (u8, Vow) = body(bytes)?;
            PaxosMsg::NotAccepted(NotAccepted { n: n.ballot(epoch) })
        }
        7 => {
            let (_, n, count, decided): (u8, Vow, Count, u64) = body(bytes)?;
            let (seq_num, decided_idx) = (count.number(), index(decided)?);
            PaxosMsg::Decide(Decide { n: n.ballot(epoch), seq_num, decided_idx })
        }
        _ => return Err(Malformed),
    })
}

/// Who has accepted nothing yet says so by a ballot of nobody, which has no configuration.
fn accepted_round(vow: Vow, epoch: u32) -> Ballot {
    if vow.2 == 0 { Ballot::default() } else { vow.ballot(epoch) }
}

/// The entries that a message brings, to be accepted; none for all other messages.
pub(crate) fn appended(bytes: &[u8]) -> Vec<Bytes> {
    let Ok(kind @ 2..=4) = kind(bytes) else { return Vec::new() };
    let entries = match read_paxos(kind, 0, bytes) {
        Ok(PaxosMsg::AcceptDecide(it)) => it.entries,
        Ok(PaxosMsg::AcceptSync(it)) => it.log_sync.suffix,
        Ok(PaxosMsg::Promise(it)) => it.log_sync.map(|it| it.suffix).unwrap_or_default(),
        _ => Vec::new(),
    };
    entries.into_iter().map(|it| it.0).collect()
}

/// What a member has accepted: in which round (number, priority, owner), and how many entries. Of two that it
/// said, the greater is the later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Claim(pub(crate) (u32, u32, u64), pub(crate) u64);

/// Something that a member says of what it has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claims {
    /// This much, just now.
    More(Claim),
    /// This much and no more.
    All(Claim),
}

impl Claims {
    /// In which round.
    pub(crate) fn round(self) -> (u32, u32, u64) {
        let (Self::More(claim) | Self::All(claim)) = self;
        claim.0
    }
}

/// Whether a leader sends it, for others to accept what it has.
pub(crate) fn is_append(bytes: &[u8]) -> bool {
    matches!(kind(bytes), Ok(3 | 4))
}

/// What a message says of what its sender has accepted.
pub(crate) fn claims(bytes: &[u8]) -> Option<Claims> {
    let of = |it: Ballot, accepted| Claim((it.n, it.priority, it.pid), accepted as u64);
    match read_paxos(kind(bytes).ok().filter(|it| (1..=7).contains(it))?, 0, bytes).ok()? {
        PaxosMsg::Prepare(it) => Some(Claims::All(of(it.n_accepted, it.accepted_idx))),
        PaxosMsg::Promise(it) => Some(Claims::All(of(it.n_accepted, it.accepted_idx))),
        PaxosMsg::Accepted(it) => Some(Claims::More(of(it.n, it.accepted_idx))),
        // Who leads has accepted what it tells to be decided.
        PaxosMsg::AcceptSync(it) => Some(Claims::More(of(it.n, it.decided_idx))),
        PaxosMsg::AcceptDecide(it) => Some(Claims::More(of(it.n, it.decided_idx))),
        PaxosMsg::Decide(it) => Some(Claims::More(of(it.n, it.decided_idx))),
        _ => None,
    }
}

/// What a member has heard others claim, by seat.
pub(crate) fn write_heard(heard: &[Claim]) -> Vec<u8> {
    cbor::to_vec(&(HEARD, heard))
}

/// As [`write_heard`] wrote it; `None` if it is another message.
pub(crate) fn read_heard(bytes: &[u8]) -> Option<Vec<Claim>> {
    let (_, heard): (u8, Vec<Claim>) = cbor::from_slice(bytes).ok().filter(|(kind, _)| *kind == HEARD)?;
    Some(heard)
}

/// The kind of message that is not `omnipaxos`'s.
const HEARD: u8 = 10;

/// Whether it is one of those that find out who lives, and who should lead.
pub(crate) fn is_heartbeat(bytes: &[u8]) -> bool {
    matches!(kind(bytes), Ok(8 | 9))
}

/// The first element of the array.
fn kind(bytes: &[u8]) -> Result<u8, Malformed> {
    match bytes {
        [0x80..=0x97, kind @ 0..=23, ..] => Ok(*kind),
        _ => Err(Malformed),
    }
}
