//! Sets of sequence numbers that are mostly one run from the start.

use crate::id::Seq;

/// A half-open range of sequence numbers.
pub(crate) type Range = (Seq, Seq);

/// All below `next`, and ranges above it: ascending, apart, not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    next: Seq,
    above: Vec<Range>,
}

impl Ranges {
    /// All below `next`.
    pub(crate) const fn below(next: Seq) -> Self {
        Self { next, above: Vec::new() }
    }

    /// Reads what came from outside; ranges that overlap or run backwards are dropped.
    pub(crate) fn from_wire(next: Seq, above: &[Range]) -> Self {
        let mut ranges = Self::below(next);
        for &(from, to) in above {
            let last = ranges.end();
            if from > last && from < to {
                ranges.above.push((from, to));
            }
        }
        ranges
    }

    /// The first that is not in the set.
    pub(crate) const fn next(&self) -> Seq {
        self.next
    }

    pub(crate) fn above(&self) -> &[Range] {
        &self.above
    }

    /// The first above all that is in the set.
    pub(crate) fn end(&self) -> Seq {
        self.above.last().map_or(self.next, |range| range.1)
    }

    pub(crate) fn contains(&self, seq: Seq) -> bool {
        seq < self.next || self.above.iter().any(|&(from, to)| (from..to).contains(&seq))
    }

    pub(crate) fn insert(&mut self, seq: Seq) {
        self.insert_range((seq, seq.saturating_add(1)));
    }

    pub(crate) fn insert_range(&mut self, (from, to): Range) {
        if from >= to {
            return;
        }
        if from <= self.next {
            self.next = self.next.max(to);
        } else {
            let at = self.above.partition_point(|range| range.1 < from);
            let end = self.above.partition_point(|range| range.0 <= to);
            let merged = self.above[at..end]
                .iter()
                .fold((from, to), |sum, range| (sum.0.min(range.0), sum.1.max(range.1)));
            self.above.splice(at..end, [merged]);
        }
        while let Some(&(from, to)) = self.above.first() {
            if from > self.next {
                break;
            }
            self.next = self.next.max(to);
            self.above.remove(0);
        }
    }

    /// Takes out all from `end` on.
    pub(crate) fn truncate(&mut self, end: Seq) {
        self.next = self.next.min(end);
        self.above.retain_mut(|range| {
            range.1 = range.1.min(end);
            range.0 < range.1
        });
    }

    /// What is not in the set below `end`, lowest first.
    pub(crate) fn missing_below(&self, end: Seq) -> Vec<Range> {
        let mut missing = Vec::new();
        let mut from = self.next;
        for &(start, stop) in &self.above {
            if start >= end {
                break;
            }
            missing.push((from, start));
            from = stop;
        }
        if from < end {
            missing.push((from, end));
        }
        missing
    }

    /// Which of `wanted` are in the set.
    pub(crate) fn intersect(&self, wanted: &[Range]) -> Vec<Range> {
        let runs = std::iter::once((0, self.next)).chain(self.above.iter().copied());
        let mut common = Vec::new();
        for (from, to) in runs {
            for &(start, stop) in wanted {
                let both = (from.max(start), to.min(stop));
                if both.0 < both.1 {
                    common.push(both);
                }
            }
        }
        common.sort_unstable();
        common
    }
}

/// The first `count` numbers of some ranges.
pub(crate) fn take(ranges: &[Range], count: u64) -> Vec<Range> {
    let mut left = count;
    let mut taken = Vec::new();
    for &(from, to) in ranges {
        if left == 0 {
            break;
        }
        let to = to.min(from.saturating_add(left));
        left -= to - from;
        taken.push((from, to));
    }
    taken
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn agrees_with_a_plain_set() {
        let mut rng = Rng::new(11);
        for _ in 0..200 {
            let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
            for _ in 0..40 {
                let from = rng.below(60) as Seq;
                let to = from + rng.below(6) as Seq;
                ranges.insert_range((from, to));
                plain.extend(from..to);
                let first = (0..).find(|seq| !plain.contains(seq));
                assert_eq!(Some(ranges.next()), first);
                assert!((0..70).all(|seq| ranges.contains(seq) == plain.contains(&seq)));
                let missing: Vec<Seq> =
                    ranges.missing_below(50).into_iter().flat_map(|(a, b)| a..b).collect();
                assert_eq!(missing, (0..50).filter(|seq| !plain.contains(seq)).collect::<Vec<_>>());
                let common: Vec<Seq> =
                    ranges.intersect(&[(5, 20)]).into_iter().flat_map(|(a, b)| a..b).collect();
                assert_eq!(common, (5..20).filter(|seq| plain.contains(seq)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn numbers_from_outside_do_no_harm() {
        let ranges = Ranges::from_wire(5, &[(3, 9), (7, 7), (9, 12), (u64::MAX - 1, u64::MAX), (1, 2)]);
        assert_eq!(ranges.above(), [(9, 12), (u64::MAX - 1, u64::MAX)]);
        assert_eq!(ranges.end(), u64::MAX);
        assert_eq!(take(&[(0, 10), (20, 30)], 12), [(0, 10), (20, 22)]);
    }
}
