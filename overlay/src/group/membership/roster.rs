//! Everybody we know of, by their own signed word.
//!
//! Up to [`Config::roster`](crate::Config) members are known to all; records are flooded
//! when they change and compared in anti-entropy. Of a larger group all know the same ones, those
//! with the smallest tags (the k minimum values of Bar-Yossef et al. 2002): rosters agree, and
//! anti-entropy falls silent, without anybody choosing. Alive, offline and left are the subject's
//! own statements; failed is what others agree on (see `detector`).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use serde_bytes::ByteBuf;

use crate::coordinate::Place;
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
    /// The founder removed it.
    removed: bool,
}

impl Member {
    fn new(record: MemberRecord) -> Self {
        let tag = record.node.tag();
        Self { record, tag, proofs: Vec::new(), failed_at: Time::ZERO, removed: false }
    }

    pub(crate) fn state(&self) -> MemberState {
        match self.record.standing {
            _ if self.removed => MemberState::Removed,
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
    Ourselves,
}

/// All members that are known, ourselves included.
#[derive(Debug)]
pub(crate) struct Roster {
    group: GroupId,
    me: NodeId,
    cap: usize,
    signatures: Signatures,
    members: BTreeMap<NodeId, Member>,
    /// As long as nothing changes.
    summary: Cell<Option<u64>>,
    /// The tags of those that did not leave, ascending, and whose they are.
    ranks: Vec<(u64, NodeId)>,
}

impl Roster {
    pub(crate) fn new(group: GroupId, own: MemberRecord, cap: usize, signatures: Signatures) -> Self {
        let me = own.node;
        let (members, summary, ranks) = (BTreeMap::new(), Cell::new(None), Vec::new());
        let mut roster = Self { group, me, cap, signatures, members, summary, ranks };
        roster.insert(own);
        roster
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
        serves: Option<Place>,
        nick: &str,
        addresses: &[Address],
    ) -> MemberRecord {
        let incarnation = self.own().incarnation.saturating_add(1).max(at_least);
        let standing = (standing, serves);
        let record =
            MemberRecord::sign_serving(&self.group, identity, incarnation, standing, nick, addresses);
        self.insert(record.clone());
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

    /// Whether we are one of the few that look for a suspect on somebody's word: those whose tags are nearest
    /// to its own, so that all choose the same few.
    pub(crate) fn is_witness(&self, suspect: &NodeId, few: usize) -> bool {
        let theirs = self.members.get(suspect).map_or_else(|| suspect.tag(), |it| it.tag);
        let ours = self.members[&self.me].tag ^ theirs;
        let online = self.members.values().filter(|it| it.state() == MemberState::Online);
        online.filter(|it| it.tag != theirs && it.tag ^ theirs < ours).take(few).count() < few
    }

    /// When the last of those that count as failed was found to be.
    pub(crate) fn last_failure(&self) -> Option<Time> {
        let failed = |member: &&Member| member.state() == MemberState::Failed;
        self.members.values().filter(failed).map(|it| it.failed_at).max()
    }

    pub(crate) fn addresses(&self, node: &NodeId) -> &[Address] {
        self.members.get(node).map_or(&[], |it| &it.record.addresses)
    }

    /// Whether there may be more members than are known to all.
    pub(crate) fn is_full(&self) -> bool {
        self.members.len() >= self.cap
    }

    /// Whether no older word of this member is known.
    pub(crate) fn knows(&self, node: &NodeId, incarnation: u64) -> bool {
        self.members.get(node).is_some_and(|it| it.record.incarnation >= incarnation)
    }

    /// Takes a record in if it is newer than what is known, and says so in an event.
    pub(crate) fn merge(&mut self, record: &MemberRecord, events: &mut Vec<Event>) -> Merged {
        if self.knows(&record.node, record.incarnation) {
            return Merged::Stale;
        }
        if !self.members.contains_key(&record.node) && !self.fits(record) {
            return Merged::Full;
        }
        if record.check(&self.group, self.signatures).is_err() {
            return Merged::Forged;
        }
        if record.node == self.me {
            return Merged::Ourselves;
        }
        let node = record.node;
        let before = self.members.get(&node).map(|it| (it.state(), it.record.nick.clone()));
        self.insert(record.clone());
        events.extend(self.change(node, before));
        self.trim();
        Merged::New
    }

    fn insert(&mut self, record: MemberRecord) {
        self.summary.set(None);
        let (node, new) = (record.node, Member::new(record));
        let (tag, stays) = (new.tag, new.state().is_member());
        let stayed = self.members.insert(node, new).is_some_and(|it| it.state().is_member());
        let at = self.rank(tag);
        match (stayed, stays) {
            (false, true) => self.ranks.insert(at, (tag, node)),
            (true, false) => drop(self.ranks.remove(at)),
            _ => {}
        }
    }

    fn remove(&mut self, node: &NodeId) {
        self.summary.set(None);
        let Some(gone) = self.members.remove(node).filter(|it| it.state().is_member()) else {
            return;
        };
        self.ranks.remove(self.rank(gone.tag));
    }

    /// How many members, gone ones aside, are known by all before the one with this tag.
    fn rank(&self, tag: u64) -> usize {
        self.ranks.partition_point(|it| it.0 < tag)
    }

    /// Whether a member that is not known yet is to be.
    fn fits(&self, record: &MemberRecord) -> bool {
        !self.is_full() || (record.standing != Standing::Left && self.rank(record.node.tag()) < self.cap)
    }

    /// Whether others know us: a full roster holds ourselves besides those that all know.
    fn is_known(&self) -> bool {
        self.rank(self.members[&self.me].tag) < self.cap
    }

    /// Forgets who is too many: members that left first, then those with the greatest tags.
    fn trim(&mut self) {
        while self.members.len() > self.cap + usize::from(!self.is_known()) {
            let last = || self.ranks.iter().rev().map(|it| it.1).find(|it| *it != self.me);
            let Some(node) = self.last_left().or_else(last) else { return };
            self.remove(&node);
        }
    }

    /// Of the others that left, the one with the greatest tag.
    fn last_left(&self) -> Option<NodeId> {
        if self.ranks.len() == self.members.len() {
            return None;
        }
        let left = |it: &&Member| !it.state().is_member() && it.record.node != self.me;
        self.members.values().filter(left).max_by_key(|it| it.tag).map(|it| it.record.node)
    }

    /// Those that all know, in the order of their keys. Of who was removed nobody speaks any more.
    fn known(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        let hidden = !self.is_known();
        let known = self.members.iter().filter(|(_, it)| !it.removed);
        known.filter(move |(node, _)| !(hidden && **node == self.me))
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
            (Some(_), MemberState::Removed) => Some(Event::MemberRemoved { group, node, nick }),
        }
    }

    /// The founder removed it: it counts as gone for good, whatever it says.
    pub(crate) fn expel(&mut self, node: &NodeId) -> Option<Event> {
        let member = self.members.get(node)?;
        let (before, tag) = (Some((member.state(), member.record.nick.clone())), member.tag);
        self.summary.set(None);
        if member.state().is_member() {
            self.ranks.remove(self.rank(tag));
        }
        self.members.get_mut(node).expect("looked up above").removed = true;
        self.change(*node, before)
    }

    /// Others agree that this incarnation does not answer: here is their word.
    pub(crate) fn fail(&mut self, now: Time, node: &NodeId, proofs: Vec<ByteBuf>) -> Option<Event> {
        let member = self.members.get_mut(node)?;
        let before = Some((member.state(), member.record.nick.clone()));
        self.summary.set(None);
        (member.proofs, member.failed_at) = (proofs, now);
        self.change(*node, before)
    }

    /// We hear from it ourselves: it has not failed.
    pub(crate) fn revive(&mut self, node: &NodeId) -> Option<Event> {
        let member = self.members.get_mut(node).filter(|it| !it.proofs.is_empty())?;
        let before = Some((member.state(), member.record.nick.clone()));
        self.summary.set(None);
        member.proofs.clear();
        self.change(*node, before)
    }

    /// A hash over who is known and how they stand, members that left aside.
    pub(crate) fn summary(&self) -> u64 {
        if let Some(summary) = self.summary.get() {
            return summary;
        }
        let mut hasher = blake3::Hasher::new();
        for (node, member) in self.known().filter(|(_, it)| it.state() != MemberState::Left) {
            hasher.update(node.as_bytes());
            hasher.update(&member.record.incarnation.to_le_bytes());
            hasher.update(&[member.code()]);
        }
        let summary =
            u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("8 of 32 bytes"));
        self.summary.set(Some(summary));
        summary
    }

    pub(crate) fn digest(&self, exchange: bool) -> RosterDigest {
        let entry = |(_, it): (&NodeId, &Member)| (it.tag, it.record.incarnation, it.code());
        RosterDigest { entries: self.known().map(entry).collect(), exchange }
    }

    /// What the sender of a digest should hear of, and what it contests.
    pub(crate) fn compare(&self, digest: &RosterDigest) -> Compared {
        let theirs: BTreeMap<u64, (u64, u8)> = digest.entries.iter().map(|it| (it.0, (it.1, it.2))).collect();
        let mut compared = Compared::default();
        for (node, member) in self.known() {
            let ours = (member.record.incarnation, member.code());
            match theirs.get(&member.tag) {
                Some((incarnation, FAILED))
                    if *incarnation == ours.0 && ours.1 == Standing::Online.code() =>
                {
                    compared.contested.push(*node);
                }
                Some((incarnation, _)) if *incarnation > ours.0 => {}
                Some((incarnation, theirs)) if *incarnation == ours.0 => {
                    if ours.1 == FAILED && *theirs != FAILED {
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

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: usize = 4;

    fn record(seed: u8, incarnation: u64, standing: Standing) -> MemberRecord {
        let identity = Identity::new(&[seed; 32]);
        MemberRecord::sign(&GroupId::from_bytes([7; 32]), &identity, incarnation, standing, "", &[])
    }

    fn roster(seed: u8) -> Roster {
        let signatures = Identity::new(&[seed; 32]).signatures();
        Roster::new(GroupId::from_bytes([7; 32]), record(seed, 1, Standing::Online), CAP, signatures)
    }

    fn merge(roster: &mut Roster, record: &MemberRecord) -> Merged {
        roster.merge(record, &mut Vec::new())
    }

    #[test]
    fn rosters_of_a_large_group_agree_whatever_they_heard_first() {
        let everybody: Vec<_> = (1..=12).map(|seed| record(seed, 1, Standing::Online)).collect();
        let mut rosters: Vec<_> = (1..=12).map(roster).collect();
        for (turn, roster) in rosters.iter_mut().enumerate() {
            for offset in 0..everybody.len() {
                merge(roster, &everybody[(turn * 5 + offset) % everybody.len()]);
            }
            assert!(roster.len() <= CAP + 1);
        }
        let summary = rosters[0].summary();
        for roster in &rosters {
            assert_eq!(roster.summary(), summary);
            assert!(roster.members.contains_key(&roster.me), "one knows oneself");
            assert_eq!(roster.digest(false).entries.len(), CAP);
            assert!(rosters[0].compare(&roster.digest(false)).records.is_empty());
        }
    }

    #[test]
    fn who_counts_one_as_failed_is_not_told_why_again() {
        let (mut one, mut two) = (roster(1), roster(2));
        let third = record(3, 1, Standing::Online);
        for roster in [&mut one, &mut two] {
            merge(roster, &third);
        }
        let fail = |roster: &mut Roster| roster.fail(Time::ZERO, &third.node, vec![ByteBuf::from([1])]);
        assert!(fail(&mut one).is_some());
        assert_eq!(one.compare(&two.digest(false)).suspicions.len(), 1);
        assert_eq!(two.compare(&one.digest(false)).contested, [third.node]);
        assert!(fail(&mut two).is_some());
        assert_eq!(one.compare(&two.digest(false)).suspicions.len(), 0);
    }

    #[test]
    fn who_left_gives_way_and_is_not_taken_in_anew() {
        let mut all: Vec<_> = (2..=5).map(|seed| record(seed, 1, Standing::Online)).collect();
        all.sort_by_key(|it| it.node.tag());
        let (mut roster, last) = (roster(1), all.pop().expect("four"));
        all.iter().for_each(|it| assert_eq!(merge(&mut roster, it), Merged::New));
        assert!(roster.is_full());
        let gone = (2..=5).map(|seed| record(seed, 2, Standing::Left)).find(|it| it.node == all[0].node);
        let gone = gone.expect("it is one of them");
        assert_eq!(merge(&mut roster, &gone), Merged::New);
        assert_eq!(merge(&mut roster, &last), Merged::New);
        assert!(roster.get(&gone.node).is_none() && roster.get(&last.node).is_some());
        assert_eq!(merge(&mut roster, &gone), Merged::Full);
    }
}
