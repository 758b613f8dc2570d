//! A total order on its way to subscribers: what was delivered and has no place yet, and what has one and is
//! not told before that is on its way to the store.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use treecast_overlay::{BatchId, Delivery, Life, NodeId, Seq};

use crate::metrics::OrderSnapshot;

/// Where messages of one group are between their delivery and their place.
#[derive(Debug, Default)]
pub(super) struct Placing {
    /// Delivered without a place, in the order of their delivery. The core bounds it: `pending_bytes`.
    tentative: BTreeMap<u64, Arc<Delivery>>,
    numbers: BTreeMap<(BatchId, u32), u64>,
    next_number: u64,
    /// With a place, not told.
    placed: VecDeque<(u64, Delivery)>,
    /// All places below were told.
    told: u64,
    /// Nothing gets one at present.
    stalled: bool,
}

impl Placing {
    /// The group is entered, where so many messages have a place; what has none is delivered once more.
    pub(super) fn begin(&mut self, told: u64) {
        *self = Self { told, ..Self::default() };
    }

    /// All places below were told: who begins now finds them in the history.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// It was told that nothing gets a place, or that something does again.
    pub(super) fn on_stalled(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// In numbers.
    pub(super) fn snapshot(&self) -> OrderSnapshot {
        OrderSnapshot { index: self.told, tentative: self.tentative.len(), stalled: self.stalled }
    }

    /// What has no place, in the order of its delivery.
    pub(super) fn tentative(&self) -> impl Iterator<Item = &Arc<Delivery>> {
        self.tentative.values()
    }

    pub(super) fn on_tentative(&mut self, delivery: Arc<Delivery>) {
        let number = self.next_number;
        self.next_number += 1;
        if let Some(before) = self.numbers.insert((delivery.batch(), delivery.first), number) {
            self.tentative.remove(&before);
        }
        self.tentative.insert(number, delivery);
    }

    /// These have their places.
    pub(super) fn on_ordered(&mut self, index: u64, delivery: Delivery) {
        if let Some(number) = self.numbers.remove(&(delivery.batch(), delivery.first)) {
            self.tentative.remove(&number);
        }
        self.placed.push_back((index, delivery));
    }

    /// These will never have one.
    pub(super) fn on_lost(&mut self, source: NodeId, life: Life, seqs: Range<Seq>) {
        if seqs.is_empty() {
            return;
        }
        let (first, end) =
            (BatchId { source, life, seq: seqs.start }, BatchId { source, life, seq: seqs.end });
        let gone: Vec<_> =
            self.numbers.range((first, 0)..(end, 0)).map(|(key, number)| (*key, *number)).collect();
        for (key, number) in gone {
            self.numbers.remove(&key);
            self.tentative.remove(&number);
        }
    }

    /// The next to be told, if its place is below: those are in the history, or on their way there before whoever
    /// begins to read it now.
    pub(super) fn next(&mut self, kept: u64) -> Option<(u64, Arc<Delivery>)> {
        self.placed.front().filter(|(index, _)| *index < kept)?;
        let (index, delivery) = self.placed.pop_front()?;
        self.told = index + delivery.payloads.len() as u64;
        Some((index, Arc::new(delivery)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn delivery(seq: Seq) -> Delivery {
        let (source, payloads) = (NodeId::from_bytes([1; 32]), vec![Bytes::from_static(b"x"); 2]);
        Delivery { source, life: 1, seq, time_unix_ms: 0, first: 0, payloads }
    }

    #[test]
    fn what_has_its_place_is_told_once_that_is_kept() {
        let mut placing = Placing::default();
        placing.begin(4);
        (0..5).for_each(|seq| placing.on_tentative(Arc::new(delivery(seq))));
        placing.on_ordered(4, delivery(1));
        placing.on_ordered(6, delivery(0));
        let waiting = |it: &Placing| it.tentative().map(|it| it.seq).collect::<Vec<_>>();
        assert_eq!((waiting(&placing), placing.told()), (vec![2, 3, 4], 4));
        assert!(placing.next(4).is_none());
        assert_eq!(placing.next(6).map(|(index, it)| (index, it.seq)), Some((4, 1)));
        assert_eq!((placing.next(6), placing.told()), (None, 6));
        placing.on_lost(delivery(0).source, 1, 3..9);
        assert_eq!(waiting(&placing), [2]);
    }
}
