//! Causes: which heads a new batch names, so that nobody sees an answer before its question.

use std::collections::BTreeMap;

use crate::id::{BatchId, Life, NodeId, Seq};

/// The delivered heads that no other delivered batch names: naming these names all.
///
/// A batch depends on its own predecessor without saying so.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    heads: BTreeMap<NodeId, (Life, Seq)>,
}

impl Causes {
    /// A batch of another source was delivered.
    pub(crate) fn delivered(&mut self, batch: &BatchId, dependencies: &[BatchId]) {
        for it in dependencies {
            if self.heads.get(&it.source).is_some_and(|head| *head <= (it.life, it.seq)) {
                self.heads.remove(&it.source);
            }
        }
        self.heads.insert(batch.source, (batch.life, batch.seq));
    }

    /// A batch of our own that named these was not sent.
    pub(crate) fn give_back(&mut self, heads: &[BatchId]) {
        for it in heads {
            let head = self.heads.entry(it.source).or_insert((it.life, it.seq));
            *head = (*head).max((it.life, it.seq));
        }
    }

    /// The heads for a batch of our own, which stands for them from now on.
    pub(crate) fn take(&mut self, most: usize) -> Vec<BatchId> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some((source, (life, seq))) = self.heads.pop_first() else { break };
            taken.push(BatchId { source, life, seq });
        }
        taken
    }

    /// All of them, unless there are more.
    pub(crate) fn all(&self, most: usize) -> Option<Vec<BatchId>> {
        let batch = |(source, (life, seq)): (&NodeId, &(Life, Seq))| BatchId {
            source: *source,
            life: *life,
            seq: *seq,
        };
        (self.heads.len() <= most).then(|| self.heads.iter().map(batch).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(source: u8, seq: Seq) -> BatchId {
        BatchId { source: NodeId::from_bytes([source; 32]), life: 1, seq }
    }

    #[test]
    fn only_undominated_heads_are_named() {
        let mut causes = Causes::default();
        causes.delivered(&batch(1, 0), &[]);
        causes.delivered(&batch(2, 0), &[batch(1, 0)]);
        assert_eq!(causes.take(10), [batch(2, 0)]);
        causes.delivered(&batch(1, 3), &[]);
        causes.delivered(&batch(2, 1), &[batch(1, 2)]);
        assert_eq!(causes.take(10), [batch(1, 3), batch(2, 1)]);
        assert_eq!(causes.take(10), []);
    }

    #[test]
    fn what_was_given_back_is_named_by_the_next() {
        let mut causes = Causes::default();
        causes.delivered(&batch(1, 0), &[]);
        causes.delivered(&batch(2, 0), &[]);
        let taken = causes.take(10);
        causes.delivered(&batch(1, 4), &[]);
        causes.give_back(&taken);
        assert_eq!(causes.take(10), [batch(1, 4), batch(2, 0)]);
    }
}
