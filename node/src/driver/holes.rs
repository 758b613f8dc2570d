//! What was delivered and is in no history: there was no room for it while the disk was full. How far this
//! node is must not be recorded beyond that, or nobody would ever be asked for it again. So its next start
//! finds it missing.

use std::collections::BTreeMap;

use treecast_overlay::io::{LifeRecord, SourceRecord};
use treecast_overlay::{BatchId, Life, NodeId, Seq};

/// Lives with holes that are remembered, and holes of one; beyond, lives are let go, and what lies between
/// two holes is taken for missing as well. Guesses.
const MAX_LIVES: usize = 4_096;
const MAX_HOLES: usize = 256;

/// By source and life: half-open ranges, ascending, apart.
#[derive(Debug, Default)]
pub(super) struct Holes(BTreeMap<(NodeId, Life), Vec<(Seq, Seq)>>);

impl Holes {
    /// There was no room for this batch.
    pub(super) fn dig(&mut self, id: &BatchId) {
        let key = (id.source, id.life);
        if self.0.len() >= MAX_LIVES && !self.0.contains_key(&key) {
            return;
        }
        let (holes, seq) = (self.0.entry(key).or_default(), id.seq);
        let at = holes.partition_point(|it| it.1 < seq);
        match holes.get_mut(at).filter(|it| it.0 <= seq + 1) {
            Some(hole) => *hole = (hole.0.min(seq), hole.1.max(seq + 1)),
            None => holes.insert(at, (seq, seq + 1)),
        }
        let joins = holes.get(at + 1).is_some_and(|next| next.0 <= holes[at].1);
        let joined = if joins { at + 1 } else { holes.len() - 1 };
        if joins || holes.len() > MAX_HOLES {
            holes[joined - 1].1 = holes[joined].1;
            holes.remove(joined);
        }
    }

    /// It has come once more, and is kept.
    pub(super) fn fill(&mut self, id: &BatchId) {
        let key = (id.source, id.life);
        let Some(holes) = self.0.get_mut(&key) else { return };
        let Some(at) = holes.iter().position(|it| (it.0..it.1).contains(&id.seq)) else { return };
        let (from, to) = holes.remove(at);
        let rest = [(from, id.seq), (id.seq + 1, to)].into_iter().filter(|it| it.0 < it.1);
        holes.splice(at..at, rest.collect::<Vec<_>>());
        if holes.is_empty() {
            self.0.remove(&key);
        }
    }

    /// How many batches are missing.
    pub(super) fn count(&self) -> u64 {
        self.0.values().flatten().map(|it| it.1 - it.0).sum()
    }

    /// Takes a record back to where the history has no hole yet.
    pub(super) fn hold_back(&self, record: &mut SourceRecord) {
        let source = record.source;
        let mut its = self.0.range((source, 0)..=(source, Life::MAX)).peekable();
        let Some(first) = its.peek().map(|((_, life), _)| *life) else { return };
        record.floor = record.floor.min(first);
        // Lives that are over stay open behind the first that has a hole.
        let kept = record.closed.partition_point(|it| it.0 < first);
        for (life, end) in record.closed.split_off(kept) {
            open(record, life, end);
        }
        for ((_, life), holes) in its {
            let (from, last) = (holes[0].0, holes[holes.len() - 1].1);
            let state = open(record, *life, last);
            if state.next > from {
                let starts = holes.iter().map(|it| it.1);
                let ends = holes.iter().skip(1).map(|it| it.0).chain([state.next]);
                let held = starts.zip(ends).filter(|(from, to)| from < to).collect();
                let above = std::mem::replace(&mut state.above, held);
                state.above.extend(above);
                (state.next, state.head) = (from, None);
            }
        }
    }
}

/// The record of a life; of one that was over, at `end`, if there is none.
fn open(record: &mut SourceRecord, life: Life, end: Seq) -> &mut LifeRecord {
    let at = record.lives.partition_point(|it| it.life < life);
    if record.lives.get(at).is_none_or(|it| it.life != life) {
        let (next, end, above) = (end, Some(end), Vec::new());
        record.lives.insert(at, LifeRecord { life, next, head: None, end, above, owed: None });
    }
    &mut record.lives[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: NodeId = NodeId::from_bytes([2; 32]);

    fn id(life: Life, seq: Seq) -> BatchId {
        BatchId { source: SOURCE, life, seq }
    }

    fn life(life: Life, next: Seq) -> LifeRecord {
        LifeRecord { life, next, head: None, end: None, above: Vec::new(), owed: None }
    }

    fn ranges(holes: &Holes, life: Life) -> &[(Seq, Seq)] {
        holes.0.get(&(SOURCE, life)).map_or(&[], |it| it)
    }

    #[test]
    fn holes_grow_together_and_are_filled() {
        let mut holes = Holes::default();
        for seq in [5, 6, 9, 3, 8, 7] {
            holes.dig(&id(1, seq));
        }
        assert_eq!((ranges(&holes, 1), holes.count()), (&[(3, 4), (5, 10)][..], 6));
        for seq in [7, 3, 4, 5] {
            holes.fill(&id(1, seq));
        }
        assert_eq!(ranges(&holes, 1), [(6, 7), (8, 10)]);
        [6, 8, 9].iter().for_each(|seq| holes.fill(&id(1, *seq)));
        assert!(holes.0.is_empty());
        (0..2_000).for_each(|seq| holes.dig(&id(1, 2 * seq)));
        assert_eq!((ranges(&holes, 1).len(), ranges(&holes, 1)[MAX_HOLES - 1].1), (MAX_HOLES, 3_999));
    }

    #[test]
    fn a_frontier_is_recorded_up_to_the_first_hole() {
        let mut holes = Holes::default();
        [4, 5, 8].iter().for_each(|seq| holes.dig(&id(7, *seq)));
        let mut record =
            SourceRecord { source: SOURCE, floor: 7, lives: vec![life(7, 12)], closed: vec![(3, 2)] };
        holes.hold_back(&mut record);
        let state = &record.lives[0];
        assert_eq!((state.next, &state.above[..]), (4, &[(6, 8), (9, 12)][..]));
        assert_eq!((record.floor, &record.closed[..]), (7, &[(3, 2)][..]));
        let mut other = SourceRecord { source: NodeId::from_bytes([3; 32]), ..record.clone() };
        other.lives = vec![life(7, 12)];
        holes.hold_back(&mut other);
        assert_eq!(other.lives[0].next, 12);
    }

    #[test]
    fn a_life_with_a_hole_is_not_over_nor_are_those_after_it() {
        let mut holes = Holes::default();
        holes.dig(&id(5, 1));
        let closed = vec![(3, 2), (5, 4), (6, 1)];
        let mut record = SourceRecord { source: SOURCE, floor: 9, lives: vec![life(9, 3)], closed };
        holes.hold_back(&mut record);
        assert_eq!((record.floor, &record.closed[..]), (5, &[(3, 2)][..]));
        let lives: Vec<_> = record.lives.iter().map(|it| (it.life, it.next, it.end)).collect();
        assert_eq!(lives, [(5, 1, Some(4)), (6, 1, Some(1)), (9, 3, None)]);
        assert_eq!(record.lives[0].above, [(2, 4)]);
    }
}
