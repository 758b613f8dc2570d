//! When a batch may be delivered.
//!
//! Each order answers one question for the batch at the head of a life:
//! [`unordered`], [`fifo`] (lives of a source one after the other), [`causal`] (causes
//! first). In a [`total`] order these deliveries are tentative.

mod causal;
pub(crate) mod total;

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{LifeId, Sources};
use super::store::Store;
use crate::descriptor::{Admission, Order};
use crate::id::{BatchId, Digest, Life, NodeId, Seq};
use crate::io::Delivery;
use crate::wire::batch::LifeEnd;

pub(crate) use causal::Causes;

/// Turns held batches into deliveries.
#[derive(Debug)]
pub(crate) struct Sequencer {
    order: Order,
    /// Who may be a source: what others are said to have published is no cause.
    admission: Admission,
    /// Sources to look at again when this source moves.
    waiting: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// Causes from these places on that nobody has: nothing waits for them.
    waived: BTreeMap<LifeId, Seq>,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Advance {
    pub(crate) deliveries: Vec<Delivery>,
    /// The batches they came from.
    pub(crate) delivered: Vec<BatchId>,
    /// Lives of which something was delivered or skipped.
    pub(crate) moved: BTreeSet<LifeId>,
    /// Causes that nobody told us of: to be pulled.
    pub(crate) wanted: Vec<BatchId>,
    /// Causes that come too late: what was delivered may come before causes of theirs.
    pub(crate) missed: Vec<BatchId>,
}

impl Sequencer {
    pub(crate) fn new(order: Order, admission: Admission) -> Self {
        Self { order, admission, waiting: BTreeMap::new(), waived: BTreeMap::new() }
    }

    /// Delivers what has become deliverable since something happened to `source`.
    pub(crate) fn advance(&mut self, source: NodeId, sources: &mut Sources, store: &mut Store) -> Advance {
        let mut advance = Advance::default();
        let mut work = BTreeSet::from([source]);
        while let Some(source) = work.pop_first() {
            let before = advance.deliveries.len();
            let moved = self.advance_source(source, sources, store, &mut advance);
            let waived = self.waived.keys().any(|it| it.0 == source) || sources.is_settled(&source);
            if moved || waived || advance.deliveries.len() > before {
                work.extend(self.waiting.remove(&source).into_iter().flatten());
            }
        }
        advance
    }

    /// Delivers from one source; whether any of its lives moved.
    fn advance_source(
        &mut self,
        source: NodeId,
        sources: &mut Sources,
        store: &mut Store,
        advance: &mut Advance,
    ) -> bool {
        let mut any = false;
        loop {
            let lives: Vec<Life> = match sources.get(&source) {
                Some(it) if !it.forked => it.lives.keys().copied().collect(),
                _ => return any,
            };
            let mut moved = false;
            for life in lives {
                moved |= self.advance_life((source, life), sources, store, advance);
                if self.order != Order::Unordered && !is_finished(sources, (source, life)) {
                    break;
                }
            }
            any |= moved;
            if !close_finished(source, sources) && !moved {
                return any;
            }
        }
    }

    fn advance_life(
        &mut self,
        id: LifeId,
        sources: &mut Sources,
        store: &mut Store,
        advance: &mut Advance,
    ) -> bool {
        if self.order == Order::Unordered {
            return advance_unordered(id, sources, store, advance);
        }
        let mut moved = false;
        loop {
            let Some(life) = sources.life(id) else { return moved };
            let seq = life.delivered;
            if !life.held.contains(seq) || life.end.is_some_and(|end| seq >= end) {
                return moved;
            }
            let batch = BatchId { source: id.0, life: id.1, seq };
            if self.order >= Order::Causal && self.waits(&batch, sources, store, advance) {
                return moved;
            }
            deliver(&batch, store, advance);
            sources.life_mut(id).expect("looked up above").delivered = seq + 1;
            advance.moved.insert(id);
            moved = true;
        }
    }

    /// Whether causes of this batch are missing; then it is looked at again when they come.
    fn waits(&mut self, batch: &BatchId, sources: &Sources, store: &Store, advance: &mut Advance) -> bool {
        let Some(stored) = store.get(batch) else { return false };
        let mut waits = false;
        // All that is missing is looked for at once: causes that nobody has are given up side by
        // side, not one after the other.
        let others = stored.header.dependencies.iter().filter(|it| it.source != batch.source);
        for cause in others.filter(|it| self.admission.admits(&it.source)) {
            let life = (cause.source, cause.life);
            let waived = self.waived.get(&life).is_some_and(|from| cause.seq >= *from);
            if waived || sources.is_met(cause) {
                if sources.would_miss(life, cause.seq.saturating_add(1)) {
                    advance.missed.push(*cause);
                }
                continue;
            }
            waits = true;
            self.waiting.entry(cause.source).or_default().insert(batch.source);
            if sources.life(life).is_none_or(|it| it.heard <= cause.seq) {
                advance.wanted.push(*cause);
            }
        }
        waits
    }

    /// Nobody has this life's batches from `from` on, although others name them as causes:
    /// what waits for them goes on.
    pub(crate) fn waive(&mut self, life: LifeId, from: Seq) {
        self.waived.insert(life, from);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

fn advance_unordered(id: LifeId, sources: &mut Sources, store: &mut Store, advance: &mut Advance) -> bool {
    let Some(life) = sources.life_mut(id) else { return false };
    let before = advance.deliveries.len();
    for seq in life.delivered..life.held.end() {
        if life.held.contains(seq) {
            deliver(&BatchId { source: id.0, life: id.1, seq }, store, advance);
        }
    }
    let moved = life.held.next() > life.delivered;
    if moved {
        advance.moved.insert(id);
    }
    life.delivered = life.delivered.max(life.held.next());
    moved || advance.deliveries.len() > before
}

fn deliver(batch: &BatchId, store: &mut Store, advance: &mut Advance) {
    let Some((messages, stored)) = store.deliver(batch) else { return };
    let time_unix_ms = stored.time_unix_ms;
    advance.delivered.push(*batch);
    let BatchId { source, life, seq } = *batch;
    let mut delivery = Delivery { source, life, seq, time_unix_ms, first: 0, payloads: Vec::new() };
    for (n, message) in messages.into_iter().enumerate() {
        match message {
            Some(payload) => {
                if delivery.payloads.is_empty() {
                    delivery.first = n as u32;
                }
                delivery.payloads.push(payload);
            }
            // A kind of a later version splits the run.
            None if !delivery.payloads.is_empty() => {
                let next = Delivery { payloads: Vec::new(), ..delivery.clone() };
                advance.deliveries.push(std::mem::replace(&mut delivery, next));
            }
            None => {}
        }
    }
    if !delivery.payloads.is_empty() {
        advance.deliveries.push(delivery);
    }
}

fn is_finished(sources: &Sources, id: LifeId) -> bool {
    sources.life(id).is_none_or(|life| life.end.is_some_and(|end| life.delivered >= end))
}

/// Forgets lives whose end is delivered; what comes of them later is too late. The newest
/// stays. One that the next does not know of is told further: who has not heard of it yet would
/// never hear.
fn close_finished(source: NodeId, sources: &mut Sources) -> bool {
    let Some(state) = sources.get_mut(&source) else { return false };
    let mut closed = false;
    loop {
        let mut open = state.lives.iter().filter(|(_, it)| !it.disowned);
        let (Some((&life, first)), Some((_, next))) = (open.next(), open.next()) else { return closed };
        let Some(end) = first.end.filter(|end| first.owed.is_none() && first.delivered >= *end) else {
            return closed;
        };
        let is_known = next.opening.as_ref().is_none_or(|it| it.knows_of(life, end));
        state.close(life, end, is_known);
        closed = true;
    }
}

/// A life has opened: the one before it ends where the opening says, or else where it was
/// last heard of. If of that one nothing is here yet, those before it end where its own opening says.
pub(crate) fn close_before(
    source: NodeId,
    life: Life,
    told: Option<LifeEnd>,
    sources: &mut Sources,
) -> Vec<(Life, Seq)> {
    let Some(state) = sources.get_mut(&source) else { return Vec::new() };
    let (mut ends, mut is_open) = (Vec::new(), true);
    for (&older, it) in state.lives.range_mut(..life).rev().filter(|(_, it)| !it.disowned) {
        // The one that the source names ends there, whatever else was heard of since.
        if !is_open && told.is_none_or(|told| told.life != older) {
            continue;
        }
        let told = told.filter(|told| told.life == older).map(|told| (told.end, told.digest));
        // The source's own store names a digest, and is believed; hearsay may be short. So may a store
        // be that was restored from a copy: what others hold there is.
        let is_sure = told.is_some_and(|(end, digest)| digest != Digest::ZERO || end == 0);
        if is_sure {
            it.named_end = told.map(|told| told.0);
        }
        let end = told.map_or(0, |told| told.0).max(it.heard).max(it.delivered);
        if it.end.is_none() || (is_sure && it.end < Some(end)) {
            it.end = Some(end);
            it.heard = it.heard.max(end);
            ends.push((older, end));
        }
        is_open &= it.has_begun() || it.heard == 0;
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::wire::batch::Opening;

    const SOURCE: NodeId = NodeId::from_bytes([1; 32]);

    fn digest() -> Digest {
        Digest::from_bytes([1; Digest::LEN])
    }

    /// Lives of which so many batches were heard, and so many are here and delivered.
    fn sources(lives: &[(Life, Seq, Seq)]) -> Sources {
        let mut sources = Sources::default();
        for (life, heard, delivered) in lives {
            let state = sources.open((SOURCE, *life), &Config::default()).expect("there is room");
            (state.heard, state.delivered) = (*heard, *delivered);
            state.held.insert_range((0, *delivered));
        }
        sources
    }

    fn end(sources: &Sources, life: Life) -> Option<Seq> {
        sources.life((SOURCE, life)).expect("open").end
    }

    /// Who was off for two lives hears of the last first: the one before the last, which nobody told of,
    /// knows where the first ended.
    #[test]
    fn the_end_that_a_source_names_counts_whatever_else_was_heard_of() {
        // Of life 2 there is nothing here but that somebody told of it.
        let mut sources = sources(&[(1, 8, 8), (2, 3, 0), (3, 1, 1)]);
        let told = LifeEnd { life: 1, end: 9, digest: digest() };
        assert_eq!(close_before(SOURCE, 3, Some(told), &mut sources), [(2, 3), (1, 9)]);
        assert_eq!(close_before(SOURCE, 2, None, &mut sources), [], "nor is it forgotten");
        assert_eq!(sources.life((SOURCE, 1)).map(|it| it.missing()), Some(vec![(8, 9)]));
    }

    #[test]
    fn a_life_ends_where_the_one_after_it_says_not_one_further_on() {
        let mut sources = sources(&[(1, 8, 8), (3, 1, 0)]);
        let told = LifeEnd { life: 2, end: 1, digest: digest() };
        assert!(sources.open_named(SOURCE, told, &Config::default()).is_ok_and(|opened| opened));
        assert_eq!(close_before(SOURCE, 3, Some(told), &mut sources), [(2, 1)]);
        assert_eq!(end(&sources, 1), None, "the second will say");
        let first = LifeEnd { life: 1, end: 9, digest: digest() };
        assert_eq!(close_before(SOURCE, 2, Some(first), &mut sources), [(1, 9)]);
    }

    #[test]
    fn what_others_hold_counts_although_the_source_has_forgotten_it() {
        let mut sources = sources(&[(1, 9, 4), (2, 1, 0)]);
        let copy = LifeEnd { life: 1, end: 4, digest: digest() };
        assert_eq!(close_before(SOURCE, 2, Some(copy), &mut sources), [(1, 9)]);
    }

    #[test]
    fn a_life_that_its_source_has_forgotten_is_told_further() {
        let opening = |previous| Some(Opening { nonce: 0, previous });
        for (previous, is_told) in [
            (Some(LifeEnd { life: 1, end: 9, digest: digest() }), false),
            (Some(LifeEnd { life: 1, end: 4, digest: digest() }), true),
            (None, true),
        ] {
            let mut sources = sources(&[(1, 9, 9), (5, 1, 0)]);
            sources.life_mut((SOURCE, 5)).expect("open").opening = opening(previous);
            close_before(SOURCE, 5, previous, &mut sources);
            assert!(close_finished(SOURCE, &mut sources));
            let source = sources.get(&SOURCE).expect("known");
            assert_eq!((source.floor, sources.life((SOURCE, 1)).is_some()), (2, is_told), "{previous:?}");
        }
    }
}
