//! From causal deliveries and decided cuts to one sequence.
//!
//! What is delivered causally waits in the pool, shown as tentative. A decided cut names which of it comes
//! next; everybody expands it the same way: causes first, ties by (source, life, seq). Only the set of batches
//! that a cut names counts, and their causes: not when they came.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::cut::{Cut, Mark, Part, Vector};
use crate::id::{BatchId, Digest, Life, NodeId, Seq};
use crate::io::Delivery;

/// A batch that was delivered causally and has no place in the order yet.
#[derive(Debug, Clone)]
pub(crate) struct Tentative {
    pub(crate) digest: Digest,
    /// Heads, as its author named them.
    pub(crate) dependencies: Vec<BatchId>,
    /// Its messages, those of unknown kinds counted: each takes a place.
    pub(crate) messages: u32,
    pub(crate) deliveries: Vec<Delivery>,
    /// Of its frame, for the cap.
    pub(crate) bytes: usize,
}

/// A batch that has its place now.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) batch: BatchId,
    /// The place of its first message.
    pub(crate) index: u64,
    pub(crate) deliveries: Vec<Delivery>,
}

/// What was decided, and is to be expanded.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    settled: Vector,
    /// Messages that have a place.
    index: u64,
    /// Decided, in order; the first waits for batches.
    cuts: VecDeque<(BatchId, Cut)>,
    pool: BTreeMap<NodeId, BTreeMap<(Life, Seq), Tentative>>,
    pooled_bytes: usize,
    /// As they came: only a mutant asks for it.
    #[cfg(feature = "mutants")]
    arrived: Vec<BatchId>,
}

/// What of a cut is not here, or not as the cut names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) source: NodeId,
    pub(crate) life: Life,
    /// The first that has no place yet.
    pub(crate) first: Seq,
    /// One past the last that is needed.
    pub(crate) next: Seq,
    /// That of the last.
    pub(crate) digest: Digest,
}

/// A cut contradicts what was settled before, or itself: its maker is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cut that does not follow the one before")]
pub(crate) struct Contradiction;

impl Ledger {
    /// Begins where another member stands.
    pub(crate) fn start_at(&mut self, index: u64, marks: impl IntoIterator<Item = Part>) {
        self.index = index;
        marks.into_iter().for_each(|it| self.settled.set(it));
    }

    /// Goes on where another member stands, further on: what has its place there has none here, and the records of
    /// cuts that wait are of no use.
    pub(crate) fn go_on_at(&mut self, index: u64, marks: impl IntoIterator<Item = Part>) -> Vec<BatchId> {
        self.start_at(index, marks);
        let mut passed: Vec<BatchId> = self.cuts.drain(..).map(|it| it.0).collect();
        let pooled = self.pool.iter().flat_map(|(source, batches)| {
            batches.keys().map(|(life, seq)| BatchId { source: *source, life: *life, seq: *seq })
        });
        let past: Vec<BatchId> = pooled.filter(|it| self.settled.is_past(it)).collect();
        past.iter().for_each(|it| {
            self.remove(it);
        });
        passed.extend(past);
        passed
    }

    pub(crate) fn settled(&self) -> &Vector {
        &self.settled
    }

    /// The place of the next message.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Whether a decided cut waits for this batch.
    pub(crate) fn needs(&self, batch: &BatchId) -> bool {
        let of_it = |part: &&Part| part.life() == (batch.source, batch.life) && batch.seq < part.2;
        self.cuts.iter().flat_map(|(_, cut)| &cut.parts).any(|part| of_it(&part))
    }

    /// Batches that have no place yet.
    pub(crate) fn pooled(&self) -> usize {
        self.pool.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn pooled_bytes(&self) -> usize {
        self.pooled_bytes
    }

    /// Decided cuts that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.cuts.len()
    }

    pub(crate) fn get(&self, batch: &BatchId) -> Option<&Tentative> {
        self.pool.get(&batch.source)?.get(&(batch.life, batch.seq))
    }

    /// A batch was delivered causally. `false` if the order has gone on without it: its life was closed by a
    /// later one, and it never gets a place.
    pub(crate) fn on_delivered(&mut self, batch: BatchId, tentative: Tentative) -> bool {
        if self.settled.is_past(&batch) {
            return false;
        }
        #[cfg(feature = "mutants")]
        self.note_arrival(batch);
        self.pooled_bytes += tentative.bytes;
        self.pool.entry(batch.source).or_default().insert((batch.life, batch.seq), tentative);
        true
    }

    /// A cut names this batch, and it comes beside the causal order: that had given it up, or has another of its
    /// number. Whether it was not here yet.
    pub(crate) fn on_recalled(&mut self, batch: BatchId, tentative: Tentative) -> bool {
        if self.get(&batch).is_some_and(|it| it.digest == tentative.digest) {
            return false;
        }
        self.remove(&batch);
        self.on_delivered(batch, tentative)
    }

    /// A cut was decided, the next one, by this record.
    pub(crate) fn on_decided(&mut self, record: BatchId, cut: Cut) {
        self.cuts.push_back((record, cut));
    }

    /// What the decided cuts name and is not here.
    pub(crate) fn lacks(&self) -> Vec<Lack> {
        let parts = self.cuts.iter().flat_map(|(_, cut)| &cut.parts);
        parts.filter(|part| !self.is_here(part)).filter_map(|part| self.lack(part)).collect()
    }

    /// Whether a lack is one still.
    pub(crate) fn still_lacks(&self, lack: &Lack) -> bool {
        !self.is_here(&Part(lack.source, lack.life, lack.next, lack.digest))
    }

    /// The first that is not here at all; `None` if what is here is not what the cut names.
    pub(crate) fn hole(&self, lack: &Lack) -> Option<Seq> {
        let pool = self.pool.get(&lack.source);
        (lack.first..lack.next).find(|seq| pool.is_none_or(|it| !it.contains_key(&(lack.life, *seq))))
    }

    /// What is to be had for a part of a cut, unless it is settled.
    pub(crate) fn lack(&self, part: &Part) -> Option<Lack> {
        let &Part(source, life, next, digest) = part;
        let first = self.settled.next(&source, life).filter(|first| *first < next)?;
        Some(Lack { source, life, first, next, digest })
    }

    /// Expands the next cut if all its batches are here: its record, and what it orders.
    pub(crate) fn settle(&mut self) -> Result<Option<(BatchId, Vec<Settled>)>, Contradiction> {
        let Some((_, cut)) = self.cuts.front() else { return Ok(None) };
        if cut.index != self.index {
            return Err(Contradiction);
        }
        if !cut.parts.iter().all(|part| self.is_here(part)) {
            return Ok(None);
        }
        let (record, cut) = self.cuts.pop_front().expect("looked at above");
        let batches = self.named(&cut);
        let sequence = self.expand(&batches);
        #[cfg(feature = "mutants")]
        let sequence = self.as_they_came(sequence);
        self.settled.apply(&cut);
        let mut settled = Vec::with_capacity(sequence.len());
        for batch in sequence {
            let tentative = self.remove(&batch).expect("is here");
            let deliveries = tentative.deliveries;
            settled.push(Settled { batch, index: self.index, deliveries });
            self.index += u64::from(tentative.messages);
        }
        Ok(Some((record, settled)))
    }

    /// What can get no place any more: older lives of sources whose later ones are settled.
    pub(crate) fn take_closed(&mut self) -> Vec<BatchId> {
        let mut closed = Vec::new();
        for (source, batches) in &self.pool {
            let Some(Mark { life, .. }) = self.settled.get(source) else { continue };
            let older = batches.range(..(*life, 0)).map(|((life, seq), _)| (*life, *seq));
            closed.extend(older.map(|(life, seq)| BatchId { source: *source, life, seq }));
        }
        closed.iter().for_each(|batch| {
            self.remove(batch);
        });
        closed
    }

    /// A cut of all that is here and is beyond `from`: what a leader proposes; `None` if nothing is. It has all
    /// causes of what it names, as deliveries are causal.
    pub(crate) fn cut_beyond(&self, from: &Vector, index: u64, most: usize) -> Option<(Cut, u64)> {
        let (mut parts, mut messages) = (Vec::new(), 0_u64);
        for (source, batches) in &self.pool {
            let mut expected = None;
            for ((life, seq), tentative) in batches {
                // What comes after a hole is not named: others may have what is missing here.
                let next = match expected {
                    Some((of, next)) if of == *life => Some(next),
                    _ => from.next(source, *life),
                };
                if next.is_none_or(|next| *seq != next) {
                    continue;
                }
                expected = Some((*life, seq + 1));
                messages += u64::from(tentative.messages);
                let part = Part(*source, *life, seq + 1, tentative.digest);
                match parts.last_mut() {
                    Some(last @ Part(..)) if last.life() == part.life() => *last = part,
                    _ => parts.push(part),
                }
            }
        }
        let whole = !parts.is_empty() && parts.len() <= most;
        whole.then_some((Cut { index, parts }, messages))
    }

    /// Whether all that a part of a cut names is here, as the cut names it.
    pub(crate) fn is_here(&self, part: &Part) -> bool {
        let Some(lack) = self.lack(part) else { return true };
        // What was lost for good leaves a hole; digests are chained, so that of the last stands for all.
        let named = (part.1, lack.first)..(part.1, part.2);
        let count = self.pool.get(&part.0).map_or(0, |it| it.range(named).count() as u64);
        count == part.2 - lack.first && self.get(&last(part)).is_some_and(|it| it.digest == part.3)
    }

    /// The batches that a cut orders, by source, life and seq.
    fn named(&self, cut: &Cut) -> Vec<BatchId> {
        let mut batches = Vec::new();
        for &Part(source, life, next, _) in &cut.parts {
            let Some(first) = self.settled.next(&source, life) else { continue };
            let Some(pool) = self.pool.get(&source) else { continue };
            let range = pool.range((life, first)..(life, next.max(first)));
            batches.extend(range.map(|((life, seq), _)| BatchId { source, life: *life, seq: *seq }));
        }
        batches
    }

    /// Causes first, ties by (source, life, seq): Kahn's algorithm over the chains of sources.
    fn expand(&self, batches: &[BatchId]) -> Vec<BatchId> {
        let mut chains: BTreeMap<NodeId, VecDeque<BatchId>> = BTreeMap::new();
        for batch in batches {
            chains.entry(batch.source).or_default().push_back(*batch);
        }
        // Sources whose next batch waits for this one's.
        let mut waiting: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        let mut ready: BTreeSet<NodeId> = chains.keys().copied().collect();
        let mut sequence = Vec::with_capacity(batches.len());
        loop {
            // A cause that came after it was given up may close a circle: all break it at the same place.
            let (source, is_ready) = match ready.pop_first() {
                Some(source) => (source, true),
                None => match chains.iter().find(|(_, chain)| !chain.is_empty()) {
                    Some((source, _)) => (*source, false),
                    None => return sequence,
                },
            };
            let Some(next) = chains.get(&source).and_then(VecDeque::front).copied() else { continue };
            if let Some(cause) = self.open_cause(&next, &chains).filter(|_| is_ready) {
                waiting.entry(cause).or_default().insert(source);
                continue;
            }
            chains.get_mut(&source).and_then(VecDeque::pop_front);
            sequence.push(next);
            ready.insert(source);
            ready.extend(waiting.remove(&source).into_iter().flatten());
        }
    }

    #[cfg(feature = "mutants")]
    fn note_arrival(&mut self, batch: BatchId) {
        if crate::mutants::is_on(crate::mutants::Mutant::ExpandInArrivalOrder) {
            self.arrived.push(batch);
        }
    }

    #[cfg(feature = "mutants")]
    fn as_they_came(&self, mut sequence: Vec<BatchId>) -> Vec<BatchId> {
        if crate::mutants::is_on(crate::mutants::Mutant::ExpandInArrivalOrder) {
            sequence.sort_by_key(|batch| self.arrived.iter().position(|it| it == batch));
        }
        sequence
    }

    /// The source of a cause that this cut orders and that has not come yet.
    fn open_cause(&self, batch: &BatchId, chains: &BTreeMap<NodeId, VecDeque<BatchId>>) -> Option<NodeId> {
        let heads = &self.get(batch)?.dependencies;
        let others = heads.iter().filter(|it| it.source != batch.source);
        let comes_first = |cause: &&BatchId| {
            let next = chains.get(&cause.source).and_then(VecDeque::front);
            next.is_some_and(|next| (next.life, next.seq) <= (cause.life, cause.seq))
        };
        others.filter(comes_first).map(|it| it.source).next()
    }

    fn remove(&mut self, batch: &BatchId) -> Option<Tentative> {
        let batches = self.pool.get_mut(&batch.source)?;
        let tentative = batches.remove(&(batch.life, batch.seq))?;
        if batches.is_empty() {
            self.pool.remove(&batch.source);
        }
        self.pooled_bytes -= tentative.bytes;
        Some(tentative)
    }
}

fn last(part: &Part) -> BatchId {
    BatchId { source: part.0, life: part.1, seq: part.2 - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(source: u8) -> NodeId {
        NodeId::from_bytes([source; 32])
    }

    fn batch(source: u8, seq: Seq) -> BatchId {
        BatchId { source: node(source), life: 1, seq }
    }

    fn digest(batch: &BatchId) -> Digest {
        Digest::from_bytes([batch.seq as u8 + 1; 20])
    }

    fn tentative(batch: &BatchId, dependencies: &[BatchId], messages: u32) -> Tentative {
        let dependencies = dependencies.to_vec();
        Tentative { digest: digest(batch), dependencies, messages, deliveries: Vec::new(), bytes: 100 }
    }

    fn hear(ledger: &mut Ledger, batch: BatchId, dependencies: &[BatchId]) {
        assert!(ledger.on_delivered(batch, tentative(&batch, dependencies, 2)));
    }

    fn record() -> BatchId {
        batch(99, 1)
    }

    fn cut(index: u64, ends: &[BatchId]) -> Cut {
        let parts = ends.iter().map(|it| Part(it.source, it.life, it.seq + 1, digest(it))).collect();
        Cut { index, parts }
    }

    fn settle(ledger: &mut Ledger) -> Vec<(BatchId, u64)> {
        let settled = ledger.settle().expect("cuts follow each other");
        settled.iter().flat_map(|it| &it.1).map(|it| (it.batch, it.index)).collect()
    }

    /// Whatever order batches came in, a cut gives one sequence: causes first, then by source.
    #[test]
    fn a_cut_expands_to_one_sequence_whatever_came_first() {
        let arrivals = [
            vec![
                (batch(3, 0), vec![]),
                (batch(1, 0), vec![batch(3, 0)]),
                (batch(2, 0), vec![]),
                (batch(3, 1), vec![]),
            ],
            vec![
                (batch(2, 0), vec![]),
                (batch(3, 0), vec![]),
                (batch(3, 1), vec![]),
                (batch(1, 0), vec![batch(3, 0)]),
            ],
        ];
        for arrival in arrivals {
            let mut ledger = Ledger::default();
            arrival.into_iter().for_each(|(it, causes)| hear(&mut ledger, it, &causes));
            ledger.on_decided(record(), cut(0, &[batch(1, 0), batch(2, 0), batch(3, 1)]));
            let sequence = [(batch(2, 0), 0), (batch(3, 0), 2), (batch(1, 0), 4), (batch(3, 1), 6)];
            assert_eq!(settle(&mut ledger), sequence);
            assert_eq!((ledger.index(), ledger.pooled_bytes()), (8, 0));
        }
    }

    #[test]
    fn a_cut_waits_for_all_that_it_names_and_says_what_is_missing() {
        let mut ledger = Ledger::default();
        hear(&mut ledger, batch(1, 0), &[]);
        ledger.on_decided(record(), cut(0, &[batch(1, 1)]));
        ledger.on_decided(record(), cut(4, &[batch(2, 0)]));
        assert_eq!(settle(&mut ledger), []);
        let lack = |it: BatchId| {
            let (source, life, next) = (it.source, it.life, it.seq + 1);
            Lack { source, life, first: 0, next, digest: digest(&it) }
        };
        assert_eq!(ledger.lacks(), [lack(batch(1, 1)), lack(batch(2, 0))]);
        hear(&mut ledger, batch(2, 0), &[]);
        assert_eq!(settle(&mut ledger), [], "in the order of cuts");
        hear(&mut ledger, batch(1, 1), &[]);
        assert_eq!(settle(&mut ledger), [(batch(1, 0), 0), (batch(1, 1), 2)]);
        assert_eq!(settle(&mut ledger), [(batch(2, 0), 4)]);
    }

    #[test]
    fn the_copy_that_a_cut_does_not_name_is_not_ordered() {
        let mut ledger = Ledger::default();
        hear(&mut ledger, batch(1, 0), &[]);
        let mut other = cut(0, &[batch(1, 0)]);
        other.parts[0].3 = Digest::from_bytes([99; 20]);
        ledger.on_decided(record(), other);
        assert_eq!(settle(&mut ledger), []);
    }

    #[test]
    fn a_new_life_closes_the_one_before_it() {
        let mut ledger = Ledger::default();
        hear(&mut ledger, batch(1, 0), &[]);
        hear(&mut ledger, batch(1, 1), &[]);
        let next = BatchId { life: 2, ..batch(1, 0) };
        hear(&mut ledger, next, &[]);
        ledger.on_decided(record(), cut(0, &[batch(1, 0), next]));
        assert_eq!(settle(&mut ledger), [(batch(1, 0), 0), (next, 2)]);
        assert_eq!(ledger.take_closed(), [batch(1, 1)]);
        assert!(!ledger.on_delivered(batch(1, 2), tentative(&batch(1, 2), &[], 1)), "it comes too late");
    }

    #[test]
    fn a_cut_with_another_index_contradicts() {
        let mut ledger = Ledger::default();
        ledger.on_decided(record(), cut(7, &[batch(1, 0)]));
        assert!(ledger.settle().is_err());
    }

    #[test]
    fn a_proposal_names_all_that_is_beyond_what_was_proposed() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.cut_beyond(&Vector::default(), 0, 10), None);
        for it in [batch(1, 0), batch(1, 1), batch(2, 0)] {
            hear(&mut ledger, it, &[]);
        }
        let (first, messages) = ledger.cut_beyond(&Vector::default(), 5, 10).expect("there is news");
        assert_eq!((&first, messages), (&cut(5, &[batch(1, 1), batch(2, 0)]), 6));
        let mut proposed = Vector::default();
        proposed.apply(&first);
        assert_eq!(ledger.cut_beyond(&proposed, 11, 10), None);
        hear(&mut ledger, batch(2, 1), &[]);
        assert_eq!(ledger.cut_beyond(&proposed, 11, 10), Some((cut(11, &[batch(2, 1)]), 2)));
    }

    /// A cause that was given up and came after all: no batch is lost for it.
    #[test]
    fn a_circle_of_causes_is_broken_at_one_place() {
        let mut ledger = Ledger::default();
        hear(&mut ledger, batch(1, 0), &[batch(2, 0)]);
        hear(&mut ledger, batch(2, 0), &[batch(1, 0)]);
        ledger.on_decided(record(), cut(0, &[batch(1, 0), batch(2, 0)]));
        assert_eq!(settle(&mut ledger), [(batch(1, 0), 0), (batch(2, 0), 2)]);
    }
}
