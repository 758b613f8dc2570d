//! Everybody we know of, by their own signed word.
//!
//! Up to [`Config::roster`](crate::Config) members are known to all; records are flooded
//! when they change and compared in anti-entropy. Alive, offline and left are the subject's
//! own statements; failed is what others agree on (see `detector`).

use std::collections::{BTreeMap, BTreeSet};

use serde_bytes::ByteBuf;

use crate::id::{Address, GroupId, NodeId};
use crate::identity::{Identity, Signatures};
use crate::io::{Event, MemberState};
use crate::time::Time;
use crate::wire::frame::RosterDigest;
use crate::wire::record::{MemberRecord, Standing};

/// The code of `Failed` in a roster digest: no member says that of itself.
const FAILED: u8 = 3;

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) record: MemberRecord,
    /// Of its id: a hash, and digests name all members by it.
    tag: u64,
    /// The signed suspicions that made it count as failed; none while it does not.
    proofs: Vec<ByteBuf>,
    /// When that was found.
    failed_at: Time,
}

impl Member {
    fn new(record: MemberRecord) -> Self {
        let tag = record.node.tag();
        Self { record, tag, proofs: Vec::new(), failed_at: Time::ZERO }
    }

    pub(crate) fn state(&self) -> MemberState {
        match self.record.standing {
            Standing::Left => MemberState::Left,
            Standing::Offline => MemberState::Offline,
            Standing::Online if !self.proofs.is_empty() => MemberState::Failed,
            Standing::Online => MemberState::Online,
        }
    }

    fn code(&self) -> u8 {
        if self.state() == MemberState::Failed { FAILED } else { self.record.standing.code() }
    }
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// Known already, or older than what is known.
    Stale,
    /// Taken in; to be flooded on.
    New,
    /// Not what its subject signed.
    Forged,
    /// There is no room for it.
    Full,
    /// It speaks of ourselves and is newer than our own word: to be refuted.
    Ourselves(u64),
}

/// All members that are known, ourselves included.
#[derive(Debug)]
pub(crate) struct Roster {
    group: GroupId,
    me: NodeId,
    cap: usize,
    signatures: Signatures,
    members: BTreeMap<NodeId, Member>,
}

impl Roster {
    pub(crate) fn new(group: GroupId, own: MemberRecord, cap: usize, signatures: Signatures) -> Self {
        let me = own.node;
        Self { group, me, cap, signatures, members: BTreeMap::from([(me, Member::new(own))]) }
    }

    pub(crate) fn own(&self) -> &MemberRecord {
        &self.members[&self.me].record
    }

    /// Our own word, anew: one incarnation later.
    pub(crate) fn restate(
        &mut self,
        identity: &Identity,
        at_least: u64,
        standing: Standing,
        nick: &str,
        addresses: &[Address],
    ) -> MemberRecord {
        let incarnation = self.own().incarnation.saturating_add(1).max(at_least);
        let record = MemberRecord::sign(&self.group, identity, incarnation, standing, nick, addresses);
        self.members.insert(self.me, Member::new(record.clone()));
        record
    }

    pub(crate) fn get(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter()
    }

    /// Members that run, without ourselves.
    pub(crate) fn online(&self) -> BTreeSet<NodeId> {
        let online = |member: &&Member| member.state() == MemberState::Online;
        self.members.values().filter(online).map(|it| it.record.node).filter(|it| *it != self.me).collect()
    }

    /// When the last of those that count as failed was found to be.
    pub(crate) fn last_failure(&self) -> Option<Time> {
        let failed = |member: &&Member| member.state() == MemberState::Failed;
        self.members.values().filter(failed).map(|it| it.failed_at).max()
    }

    pub(crate) fn addresses(&self, node: &NodeId) -> Vec<Address> {
        self.members.get(node).map(|it| it.record.addresses.clone()).unwrap_or_default()
    }

    /// Whether there are more members than are known to all.
    pub(crate) fn is_full(&self) -> bool {
        self.members.len() >= self.cap
    }

    /// Takes a record in if it is newer than what is known, and says so in an event.
    pub(crate) fn merge(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Merged {
        let Ok(record) = MemberRecord::parse(bytes) else { return Merged::Forged };
        let known = self.members.get(&record.node);
        if known.is_some_and(|it| it.record.incarnation >= record.incarnation) {
            return Merged::Stale;
        }
        if known.is_none() && self.is_full() && !self.make_room() {
            return Merged::Full;
        }
        if record.check(&self.group, self.signatures).is_err() {
            return Merged::Forged;
        }
        if record.node == self.me {
            return Merged::Ourselves(record.incarnation);
        }
        let node = record.node;
        let before = self.members.get(&node).map(|it| (it.state(), it.record.nick.clone()));
        self.members.insert(node, Member::new(record));
        events.extend(self.change(node, before));
        Merged::New
    }

    /// Members that left need not be known for ever when the roster is full.
    fn make_room(&mut self) -> bool {
        let left = self.members.iter().find(|(_, it)| it.state() == MemberState::Left).map(|(node, _)| *node);
        left.is_some_and(|node| self.members.remove(&node).is_some())
    }

    fn change(&self, node: NodeId, before: Option<(MemberState, String)>) -> Option<Event> {
        let member = &self.members[&node];
        let (group, nick) = (self.group, member.record.nick.clone());
        match (before, member.state()) {
            (None | Some((MemberState::Left, _)), MemberState::Online) => {
                Some(Event::MemberJoined { group, node, nick })
            }
            (None, _) => None,
            (Some((MemberState::Online, old)), MemberState::Online) => {
                (old != nick).then_some(Event::MemberRenamed { group, node, nick })
            }
            (Some(_), MemberState::Online) => Some(Event::MemberOnline { group, node, nick }),
            (Some((old, _)), new) if old == new => None,
            (Some(_), MemberState::Offline) => Some(Event::MemberOffline { group, node, nick }),
            (Some(_), MemberState::Left) => Some(Event::MemberLeft { group, node, nick }),
            (Some(_), MemberState::Failed) => Some(Event::MemberFailed { group, node, nick }),
        }
    }

    /// Others agree that this incarnation does not answer: here is their word.
    pub(crate) fn fail(&mut self, now: Time, node: &NodeId, proofs: Vec<ByteBuf>) -> Option<Event> {
        let member = self.members.get_mut(node)?;
        let before = Some((member.state(), member.record.nick.clone()));
        (member.proofs, member.failed_at) = (proofs, now);
        self.change(*node, before)
    }

    /// We hear from it ourselves: it has not failed.
    pub(crate) fn revive(&mut self, node: &NodeId) -> Option<Event> {
        let member = self.members.get_mut(node)?;
        let before = Some((member.state(), member.record.nick.clone()));
        member.proofs.clear();
        self.change(*node, before)
    }

    /// A hash over who is known and how they stand.
    pub(crate) fn summary(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for (node, member) in &self.members {
            hasher.update(node.as_bytes());
            hasher.update(&member.record.incarnation.to_le_bytes());
            hasher.update(&[member.code()]);
        }
        u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("8 of 32 bytes"))
    }

    pub(crate) fn digest(&self, exchange: bool) -> RosterDigest {
        let entry = |member: &Member| (member.tag, member.record.incarnation, member.code());
        RosterDigest { entries: self.members.values().map(entry).collect(), exchange }
    }

    /// What the sender of a digest should hear of, and what it contests.
    pub(crate) fn compare(&self, digest: &RosterDigest) -> Compared {
        let theirs: BTreeMap<u64, (u64, u8)> = digest.entries.iter().map(|it| (it.0, (it.1, it.2))).collect();
        let mut compared = Compared::default();
        for (node, member) in &self.members {
            let ours = (member.record.incarnation, member.code());
            match theirs.get(&member.tag) {
                Some((incarnation, FAILED))
                    if *incarnation == ours.0 && ours.1 == Standing::Online.code() =>
                {
                    compared.contested.push(*node);
                }
                Some((incarnation, _)) if *incarnation > ours.0 => {}
                Some((incarnation, _)) if *incarnation == ours.0 => {
                    if ours.1 == FAILED {
                        compared.suspicions.extend(member.proofs.iter().cloned());
                    }
                }
                _ => {
                    compared.records.push(member.record.bytes.clone());
                    compared.suspicions.extend(member.proofs.iter().cloned());
                }
            }
        }
        compared
    }

    /// A digest that tells one member what is said of it.
    pub(crate) fn accusation(&self, node: &NodeId) -> Option<RosterDigest> {
        let incarnation = self.members.get(node)?.record.incarnation;
        Some(RosterDigest { entries: vec![(node.tag(), incarnation, FAILED)], exchange: false })
    }
}

/// What comparing a digest with our roster shows.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Records that the sender lacks.
    pub(crate) records: Vec<ByteBuf>,
    /// Why we count some as failed whom it counts as online.
    pub(crate) suspicions: Vec<ByteBuf>,
    /// Whom it counts as failed and we do not; ourselves, maybe.
    pub(crate) contested: Vec<NodeId>,
}
