//! Lives that are over, and what was missed of them (`docs/decisions/019-lives-in-a-row.md`).

use super::{LifeId, LifeState, Source, Sources, entry};
use crate::config::Config;
use crate::id::{Life, NodeId, Seq};
use crate::io::SourceRecord;

/// Lives that a source has forgotten, of one source. Guess.
const MAX_DISOWNED: usize = 2;

/// Gaps of one source that are told by hearsay between two lives of it: as many as there are closed lives that
/// are remembered. Anybody can make up lives that came too late, and ever higher ends of one.
const MAX_TALES: usize = SourceRecord::MAX_CLOSED;

impl Source {
    /// All of this life is delivered. It is forgotten, unless the one after it does not know of it.
    pub(crate) fn close(&mut self, life: Life, end: Seq, is_known: bool) {
        (self.floor, self.tales) = (life + 1, 0);
        self.remember_closed(life, end);
        if is_known || end == 0 {
            self.lives.remove(&life);
            return;
        }
        if let Some(state) = self.lives.get_mut(&life) {
            state.disowned = true;
        }
        self.forget_disowned();
    }

    /// Keeps the last of those that the source has forgotten.
    fn forget_disowned(&mut self) {
        let disowned: Vec<Life> = self.lives.iter().filter(|(_, it)| it.disowned).map(|it| *it.0).collect();
        for life in disowned.iter().rev().skip(MAX_DISOWNED) {
            self.lives.remove(life);
        }
    }

    /// The lives from this one on that are closed, and where.
    pub(crate) fn closed_from(&self, life: Life) -> Vec<(Life, Seq)> {
        self.closed.range(life..).map(|(life, end)| (*life, *end)).collect()
    }

    /// This life was over at that batch. Who has more of it, or what was in between, has what we missed.
    pub(crate) fn remember_closed(&mut self, life: Life, end: Seq) {
        self.closed.insert(life, end);
        if self.closed.len() > SourceRecord::MAX_CLOSED
            && let Some((oldest, _)) = self.closed.pop_first()
        {
            self.forgotten = self.forgotten.max(oldest.saturating_add(1));
        }
    }
}

impl Sources {
    /// In an earlier run these lives were closed, and all below `floor` were over.
    pub(crate) fn restore_closed(
        &mut self,
        source: NodeId,
        floor: Life,
        closed: &[(Life, Seq)],
        config: &Config,
    ) -> Result<(), &'static str> {
        let source = entry(&mut self.map, source, config)?;
        source.floor = floor;
        // Below those that are remembered it is not known what was here.
        source.forgotten = closed.first().map_or(floor, |oldest| oldest.0);
        for (life, end) in closed {
            source.remember_closed(*life, *end);
        }
        Ok(())
    }

    /// Whether this life, of which somebody has batches below `end`, comes too late to be delivered, and
    /// from which batch on, and nobody was told so yet. What was before our time, or delivered, does not
    /// come too late.
    pub(crate) fn misses(&mut self, id: LifeId, end: Seq) -> Option<Seq> {
        let from = self.missed_from(id, end)?;
        let end = end.min(self.cut_of(id));
        self.hashes.touch(&id.0);
        let source = self.map.get_mut(&id.0)?;
        source.floor = source.floor.max(id.1 + 1);
        source.tales += 1;
        source.remember_closed(id.1, end);
        // Others may have missed it, too: it is told further as any that its source has forgotten.
        self.references += 1;
        let state = source.lives.entry(id.1).or_insert_with(|| LifeState::new(self.references));
        let next = state.held.next();
        if next < end {
            state.skip((next, end));
        }
        (state.heard, state.delivered) = (state.heard.max(end), state.delivered.max(end));
        (state.end, state.disowned) = (Some(end), true);
        source.forget_disowned();
        Some(from)
    }

    /// Lives of a source from this one on that are over and that it has forgotten.
    pub(crate) fn disowned_from(&self, source: &NodeId, life: Life) -> Vec<LifeId> {
        let lives = self.map.get(source).into_iter().flat_map(|it| it.lives.range(life..));
        lives.filter(|(_, it)| it.disowned).map(|(life, _)| (*source, *life)).collect()
    }

    /// Whether that would be told.
    pub(crate) fn would_miss(&self, id: LifeId, end: Seq) -> bool {
        self.missed_from(id, end).is_some()
    }

    fn missed_from(&self, (source, life): LifeId, end: Seq) -> Option<Seq> {
        // Of who was removed nothing counts above its end.
        let end = end.min(self.cut_of((source, life)));
        let source = self.map.get(&source).filter(|it| end > 0 && !it.forked && it.tales < MAX_TALES)?;
        if let Some(closed) = source.closed.get(&life) {
            return Some(*closed).filter(|closed| *closed < end);
        }
        let first = source.lives.iter().find(|(_, it)| !it.disowned);
        let oldest = first.is_none_or(|(first, _)| *first > life);
        let is_over = life < source.floor && life >= source.forgotten;
        let is_late = !self.unordered && oldest && life >= source.floor && source.has_begun_after(life);
        (is_over || is_late).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;
    use crate::descriptor::Order;
    use crate::id::BatchId;

    #[test]
    fn where_no_order_is_kept_no_life_comes_too_late() {
        let (source, config) = (NodeId::from_bytes([1; 32]), Config::default());
        for order in [Order::Unordered, Order::Fifo] {
            let mut sources = Sources::new(order, 0);
            sources.open((source, 5), &config).expect("there is room").delivered = 1;
            let unordered = order == Order::Unordered;
            let first = BatchId { source, life: 3, seq: 0 };
            assert_eq!(sources.place(&first, &config) == Place::New, unordered, "{order:?}");
            assert_eq!(sources.open((source, 3), &config).is_ok(), unordered, "{order:?}");
            assert_eq!(sources.misses((source, 3), 2), if unordered { None } else { Some(0) }, "{order:?}");
        }
    }

    #[test]
    fn what_comes_too_late_is_told_once() {
        let (source, config) = (NodeId::from_bytes([1; 32]), Config::default());
        let mut sources = Sources::default();
        sources.open((source, 3), &config).expect("there is room").delivered = 8;
        sources.get_mut(&source).expect("it is there").close(3, 8, true);
        assert_eq!(sources.misses((source, 3), 8), None);
        assert_eq!(sources.misses((source, 3), 14), Some(8), "somebody had more of it");
        assert_eq!(sources.misses((source, 3), 14), None);
    }

    #[test]
    fn made_up_lives_and_ends_are_not_told_without_end() {
        let (source, config) = (NodeId::from_bytes([1; 32]), Config::default());
        let mut sources = Sources::default();
        sources.open((source, 1_000), &config).expect("there is room").delivered = 8;
        let told = (0..500).filter(|life| sources.misses((source, *life), 3).is_some()).count();
        assert_eq!(told, MAX_TALES);
        sources.get_mut(&source).expect("it is there").close(1_000, 8, true);
        assert_eq!(sources.misses((source, 1_000), 9), Some(8), "it goes on");
        let told = (10..500).filter(|end| sources.misses((source, 1_000), *end).is_some()).count();
        assert_eq!(told, MAX_TALES - 1);
    }

    #[test]
    fn what_was_missed_long_ago_or_before_a_restart_is_told_as_well() {
        let (source, config) = (NodeId::from_bytes([1; 32]), Config::default());
        let mut run = Sources::default();
        for (life, end) in [(3, 8), (7, 2)] {
            run.open((source, life), &config).expect("there is room").delivered = end;
            run.get_mut(&source).expect("it is there").close(life, end, true);
        }
        let closed = run.get(&source).expect("it is there").closed_from(0);
        let mut next = Sources::default();
        next.restore_closed(source, 8, &closed, &config).expect("there is room");
        for (when, mut sources) in [("in this run", run), ("in the next", next)] {
            assert_eq!(sources.misses((source, 3), 8), None, "{when}");
            assert_eq!(sources.misses((source, 3), 9), Some(8), "not the last that was closed, {when}");
            assert_eq!(sources.misses((source, 5), 1), Some(0), "nobody told of it, {when}");
            assert_eq!(sources.misses((source, 5), 1), None, "{when}");
            assert_eq!(sources.misses((source, 7), 2), None, "{when}");
        }
        let mut newcomer = Sources::default();
        newcomer.begin_after((source, 6), &config).expect("there is room");
        assert_eq!(newcomer.misses((source, 5), 1), None, "before our time");
        let mut long = Sources::default();
        long.open((source, 0), &config).expect("there is room");
        for life in 1..100 {
            long.get_mut(&source).expect("it is there").close(life, 1, true);
        }
        assert_eq!((long.misses((source, 1), 5), long.misses((source, 99), 5)), (None, Some(1)), "bounded");
    }

    #[test]
    fn what_a_restored_copy_lacks_of_its_own_past_is_told_once() {
        let (me, config) = (NodeId::from_bytes([1; 32]), Config::default());
        let mut sources = Sources::default();
        let state = sources.open((me, 3), &config).expect("there is room");
        (state.heard, state.delivered) = (8, 2);
        state.held.insert_range((0, 5));
        assert_eq!(sources.close_at_delivered((me, 9)), [(3, 2, 8)]);
        sources.begin_own((me, 9), &config).expect("there is room");
        let state = sources.open((me, 3), &config).expect("it is there");
        assert_eq!((state.end, state.missing()), (Some(8), vec![]));
        state.heard = 10;
        assert_eq!(sources.close_at_delivered((me, 9)), [(3, 8, 10)], "more was heard of since");
        sources.get_mut(&me).expect("it is there").close(3, 10, true);
        assert_eq!((sources.misses((me, 3), 10), sources.misses((me, 3), 11)), (None, Some(10)));
    }

    #[test]
    fn what_others_tell_of_our_past_comes_too_late_once_our_life_is_on_its_way_to_disk() {
        let (me, config) = (NodeId::from_bytes([1; 32]), Config::default());
        let mut sources = Sources::default();
        assert!(sources.open((me, 3), &config).is_ok());
        let mut sources = Sources::default();
        sources.begin_own((me, 9), &config).expect("there is room");
        assert_eq!(sources.open((me, 3), &config).map(drop), Err(""));
        assert_eq!(sources.misses((me, 3), 4), Some(0));
    }
}
