//! What of this node's current life others are known to have.

use std::collections::VecDeque;

use crate::id::Seq;

/// Our own batches of this life that nobody has yet.
#[derive(Debug, Default)]
pub(crate) struct Untaken {
    /// Others have what is below.
    below: Seq,
    /// The next batch.
    next: Seq,
    /// Sizes of those from `below` on, bytes, if they are to be kept in memory.
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Untaken {
    /// The next batch may leave. It has this size, if it is not on disk.
    pub(crate) fn push(&mut self, bytes: Option<usize>) {
        self.next += 1;
        self.sizes.extend(bytes);
        self.bytes += bytes.unwrap_or(0);
    }

    /// A neighbour holds what is below `next`. The last batch that nobody was known to have before.
    pub(crate) fn take_below(&mut self, next: Seq) -> Option<Seq> {
        let news = next.min(self.next).saturating_sub(self.below);
        let sized = self.sizes.len().min(usize::try_from(news).unwrap_or(usize::MAX));
        self.bytes -= self.sizes.drain(..sized).sum::<usize>();
        self.below += news;
        self.below.checked_sub(1).filter(|_| news > 0)
    }

    /// The first that nobody has.
    pub(crate) fn first(&self) -> Option<Seq> {
        (self.below < self.next).then_some(self.below)
    }

    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.next - self.below).unwrap_or(usize::MAX)
    }

    /// All of them that are in memory only.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The life is over. The first of it that nobody has.
    pub(crate) fn end(&mut self) -> Option<Seq> {
        let first = self.first();
        *self = Self::default();
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_and_only_what_there_is() {
        let mut untaken = Untaken::default();
        assert_eq!((untaken.first(), untaken.take_below(9)), (None, None));
        (1..=5).for_each(|bytes| untaken.push(Some(bytes)));
        assert_eq!((untaken.first(), untaken.len(), untaken.bytes()), (Some(0), 5, 15));
        assert_eq!((untaken.take_below(2), untaken.take_below(1)), (Some(1), None));
        assert_eq!((untaken.first(), untaken.bytes()), (Some(2), 12));
        assert_eq!(untaken.take_below(Seq::MAX), Some(4));
        untaken.push(None);
        assert_eq!((untaken.len(), untaken.bytes()), (1, 0));
        assert_eq!((untaken.end(), untaken.len(), untaken.end()), (Some(5), 0, None));
        untaken.push(Some(1));
        assert_eq!(untaken.first(), Some(0), "another life");
    }
}
