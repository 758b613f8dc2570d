//! A total order as it is kept, in memory: what would be brought back to the core.

use std::collections::BTreeMap;

use bytes::Bytes;
use treecast_overlay::io::{AgreementPast, OrderPast, OrderRecord, Shown};
use treecast_overlay::{BatchId, GroupId, Life, NodeId, Seq};

use crate::store::Agreement;

/// How far this node is in one total order.
#[derive(Debug, Default)]
pub(super) struct OrderPlace {
    founded: bool,
    /// The records that ended epochs.
    ended: Vec<Bytes>,
    index: u64,
    marks: BTreeMap<NodeId, (Life, Seq)>,
    /// Batches that wait for a place, in the order in which they were kept.
    unsettled: BTreeMap<u64, Bytes>,
    numbers: BTreeMap<BatchId, u64>,
    next: u64,
    agreement: Option<AgreementPast>,
    /// There was no room for what was delivered: nothing more is kept in this run, and nothing promised, so
    /// that what is on disk stays of one piece. At the next start others give back what is missing.
    is_frozen: bool,
}

impl OrderPlace {
    /// As the store has it.
    pub(super) fn new(group: &GroupId, past: OrderPast) -> Self {
        let OrderPast { founded, ended, index, marks, unsettled, agreement } = past;
        let marks = marks.into_iter().map(|(source, life, next)| (source, (life, next))).collect();
        let mut place = Self { founded, ended, index, marks, agreement, ..Self::default() };
        for bytes in unsettled {
            if let Some(batch) = Shown::read(group, bytes.clone()) {
                place.wait(batch.id, bytes);
            }
        }
        place
    }

    /// Messages that have a place.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    pub(super) fn freeze(&mut self) {
        self.is_frozen = true;
    }

    /// A batch waits for its place.
    pub(super) fn wait(&mut self, batch: BatchId, bytes: Bytes) {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.numbers.entry(batch) {
            entry.insert(self.next);
            self.unsettled.insert(self.next, bytes);
            self.next += 1;
        }
    }

    /// It was not kept after all.
    pub(super) fn remove(&mut self, batch: &BatchId) {
        if let Some(number) = self.numbers.remove(batch) {
            self.unsettled.remove(&number);
        }
    }

    /// Batches got their places.
    pub(super) fn settle(&mut self, order: &OrderRecord) {
        (self.founded, self.index) = (true, order.index);
        self.ended.extend_from_slice(&order.ended);
        self.marks.extend(order.marks.iter().map(|&(source, life, next)| (source, (life, next))));
        order.settled.iter().for_each(|(batch, _)| self.remove(batch));
    }

    /// What this node has promised and accepted is on disk.
    pub(super) fn agree(&mut self, agreement: &Agreement) {
        let Agreement { epoch, vows, from, entries, compacted, .. } = agreement;
        let it = self.agreement.get_or_insert_with(|| AgreementPast::new(*epoch));
        if it.epoch != *epoch {
            *it = AgreementPast::new(*epoch);
        }
        it.write(vows.clone(), *from, entries, *compacted);
    }

    pub(super) fn past(&self) -> Option<OrderPast> {
        (self.founded || !self.unsettled.is_empty()).then(|| OrderPast {
            founded: self.founded,
            ended: self.ended.clone(),
            index: self.index,
            marks: self.marks.iter().map(|(source, (life, next))| (*source, *life, *next)).collect(),
            unsettled: self.unsettled.values().cloned().collect(),
            agreement: self.agreement.clone(),
        })
    }
}
