//! Who was removed by the founder. Bookkeeping only: what follows from it is in `remove`.
//!
//! A union that only grows: whoever is in one record stays removed, and of two records about one
//! member the higher number counts, so all members end with the same in whatever order they hear.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_bytes::ByteBuf;

use crate::id::{NodeId, Token};
use crate::wire::removal::Removal;

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// Known already, or replaced by one that is known.
    Stale,
    New,
    /// There is no room for it.
    Full,
}

/// Those that were removed.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    records: BTreeMap<NodeId, Removal>,
    /// As long as nothing changes.
    summary: Cell<Option<u64>>,
    /// The founder's own, on its way to disk.
    unwritten: BTreeMap<Token, Removal>,
}

impl Removals {
    pub(crate) fn contains(&self, node: &NodeId) -> bool {
        self.records.contains_key(node)
    }

    pub(crate) fn get(&self, node: &NodeId) -> Option<&Removal> {
        self.records.get(node)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len() + self.unwritten.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn victims(&self) -> impl Iterator<Item = &NodeId> {
        self.records.keys()
    }

    /// All records, as they travel.
    pub(crate) fn records(&self) -> Vec<ByteBuf> {
        self.records.values().map(|it| it.bytes.clone()).collect()
    }

    /// Whether this is news, and may be once it is checked. Of somebody who is removed already there is
    /// always room for a later word.
    pub(crate) fn judge(&self, removal: &Removal, most: usize) -> Merged {
        match self.records.get(&removal.victim) {
            Some(known) if !removal.supersedes(known) => Merged::Stale,
            None if self.records.len() >= most => Merged::Full,
            _ => Merged::New,
        }
    }

    pub(crate) fn insert(&mut self, removal: Removal) {
        self.summary.set(None);
        self.records.insert(removal.victim, removal);
    }

    /// A number that the founder has not used: its clock's, like an incarnation, so that a founder that
    /// has lost its store does not begin anew.
    pub(crate) fn next_number(&self, unix_ms: u64) -> u64 {
        let used = self.records.values().chain(self.unwritten.values()).map(|it| it.number);
        used.max().map_or(unix_ms, |last| unix_ms.max(last.saturating_add(1)))
    }

    /// The founder's own waits for the disk.
    pub(crate) fn hold(&mut self, token: Token, removal: Removal) {
        self.unwritten.insert(token, removal);
    }

    /// It is there, or will not be.
    pub(crate) fn release(&mut self, token: Token) -> Option<Removal> {
        self.unwritten.remove(&token)
    }

    /// Whether a removal of this node is on its way to disk.
    pub(crate) fn is_under_way(&self, node: &NodeId) -> bool {
        self.unwritten.values().any(|it| it.victim == *node)
    }

    /// A hash over all that is known; zero for nothing.
    pub(crate) fn summary(&self) -> u64 {
        if self.records.is_empty() {
            return 0;
        }
        if let Some(summary) = self.summary.get() {
            return summary;
        }
        let mut hasher = blake3::Hasher::new();
        self.records.values().for_each(|it| {
            hasher.update(&it.bytes);
        });
        let bytes = hasher.finalize().as_bytes()[..8].try_into().expect("8 of 32 bytes");
        let summary = u64::from_le_bytes(bytes);
        self.summary.set(Some(summary));
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Digest, GroupId};
    use crate::identity::Identity;

    fn removal(number: u64, victim: u8, end: u64) -> Removal {
        let (group, founder) = (GroupId::from_bytes([1; 32]), Identity::new(&[2; 32]));
        Removal::sign(&group, &founder, number, NodeId::from_bytes([victim; 32]), (7, end, Digest::ZERO))
    }

    fn merge(removals: &mut Removals, one: &Removal) -> Merged {
        let merged = removals.judge(one, 2);
        if merged == Merged::New {
            removals.insert(one.clone());
        }
        merged
    }

    #[test]
    fn in_whatever_order_they_come_all_end_with_the_same() {
        let all = [removal(1, 8, 4), removal(2, 9, 4), removal(3, 8, 6), removal(2, 8, 9)];
        let (mut one, mut two) = (Removals::default(), Removals::default());
        assert_eq!(one.summary(), 0);
        for (first, last) in all.iter().zip(all.iter().rev()) {
            merge(&mut one, first);
            merge(&mut two, last);
        }
        assert_eq!((one.summary(), one.records()), (two.summary(), two.records()));
        assert_eq!(one.get(&all[0].victim).map(|it| it.end), Some(6), "the highest number counts");
        assert_eq!(merge(&mut one, &all[0]), Merged::Stale, "played back");
        assert!(one.contains(&all[1].victim), "the union of all victims");
    }

    #[test]
    fn there_is_a_cap_and_room_for_a_later_word() {
        let mut removals = Removals::default();
        assert_eq!(merge(&mut removals, &removal(1, 8, 4)), Merged::New);
        assert_eq!(merge(&mut removals, &removal(2, 9, 4)), Merged::New);
        assert_eq!(merge(&mut removals, &removal(3, 10, 4)), Merged::Full);
        assert_eq!(merge(&mut removals, &removal(4, 9, 4)), Merged::New);
        assert_eq!(removals.len(), 2);
    }

    #[test]
    fn a_number_is_never_used_twice() {
        let mut removals = Removals::default();
        assert_eq!(removals.next_number(50), 50);
        removals.insert(removal(70, 8, 4));
        assert_eq!(removals.next_number(50), 71, "the clock was set back");
        removals.hold(Token(1), removal(71, 9, 4));
        assert_eq!(removals.next_number(50), 72);
        assert!(removals.is_under_way(&NodeId::from_bytes([9; 32])));
        assert!(removals.release(Token(1)).is_some_and(|it| it.number == 71));
    }
}
