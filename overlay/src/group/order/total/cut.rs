//! Cuts: what the committee agrees on.
//!
//! A cut says, for each source that moved, up to which batch it is now ordered. It carries no messages:
//! those travel on the trees. Cuts only grow (`V_k = max(V_{k−1}, cut)`, `DESIGN.md` §5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{BatchId, Digest, Life, NodeId, Seq};
use crate::wire::cbor::{self, Malformed, cbor_array};

/// Sources that one cut may move. A frame has to hold it.
pub(crate) const MAX_PARTS: usize = 4_096;

/// One life of a source moves: its batches below `next` are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Part(
    pub(crate) NodeId,
    pub(crate) Life,
    /// One past the last batch that it orders.
    pub(crate) Seq,
    /// The digest of that last batch: of two that a source made for one place, the cut decides.
    pub(crate) Digest,
);

impl Part {
    pub(crate) fn life(&self) -> (NodeId, Life) {
        (self.0, self.1)
    }
}

cbor_array! {
    /// What becomes ordered at once. Everybody expands it to the same sequence.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Cut {
        /// The place of its first message in the group's order.
        pub(crate) index: u64,
        /// By source and life, ascending.
        pub(crate) parts: Vec<Part>,
    }
}

impl Cut {
    pub(crate) fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Reads a cut; its parts have to be in order, and to order something.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let cut: Self = cbor::from_slice(bytes)?;
        let ascends = cut.parts.windows(2).all(|two| two[0].life() < two[1].life());
        let moves = cut.parts.iter().all(|it| it.2 > 0);
        let fits = !cut.parts.is_empty() && cut.parts.len() <= MAX_PARTS;
        if ascends && moves && fits { Ok(cut) } else { Err(Malformed) }
    }
}

/// How far one source is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) life: Life,
    pub(crate) next: Seq,
    pub(crate) digest: Digest,
}

/// How far all sources are ordered: V_k.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vector(BTreeMap<NodeId, Mark>);

impl Vector {
    pub(crate) fn get(&self, source: &NodeId) -> Option<&Mark> {
        self.0.get(source)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Mark)> {
        self.0.iter()
    }

    /// Where a life goes on: the first of its batches that is not ordered; `None` if it is over.
    pub(crate) fn next(&self, source: &NodeId, life: Life) -> Option<Seq> {
        match self.0.get(source) {
            Some(mark) if mark.life > life => None,
            Some(mark) if mark.life == life => Some(mark.next),
            _ => Some(0),
        }
    }

    /// Whether this batch has its place already, or can never have one.
    pub(crate) fn is_past(&self, batch: &BatchId) -> bool {
        self.next(&batch.source, batch.life).is_none_or(|next| batch.seq < next)
    }

    /// Takes in a cut: each source moves to the last life that it names. Parts that lie behind change
    /// nothing.
    pub(crate) fn apply(&mut self, cut: &Cut) {
        for part in &cut.parts {
            self.set(*part);
        }
    }

    pub(crate) fn set(&mut self, Part(source, life, next, digest): Part) {
        let moves = self.0.get(&source).is_none_or(|it| (it.life, it.next) < (life, next));
        if moves {
            self.0.insert(source, Mark { life, next, digest });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(source: u8, life: Life, next: Seq) -> Part {
        Part(NodeId::from_bytes([source; 32]), life, next, Digest::from_bytes([next as u8; 20]))
    }

    #[test]
    fn a_vector_never_goes_back() {
        let mut vector = Vector::default();
        vector.apply(&Cut { index: 0, parts: vec![part(1, 5, 3), part(2, 1, 1)] });
        vector.apply(&Cut { index: 9, parts: vec![part(1, 5, 2), part(2, 1, 4)] });
        let source = NodeId::from_bytes([1; 32]);
        assert_eq!(vector.next(&source, 5), Some(3));
        assert_eq!(vector.next(&source, 4), None, "an older life is over");
        assert_eq!(vector.next(&source, 6), Some(0));
        vector.apply(&Cut { index: 12, parts: vec![part(1, 6, 1)] });
        assert_eq!(vector.next(&source, 5), None, "a later life ends the one before");
        assert!(vector.is_past(&BatchId { source, life: 5, seq: 3 }));
        assert!(!vector.is_past(&BatchId { source, life: 6, seq: 1 }));
    }

    #[test]
    fn a_cut_reads_back_and_one_that_is_out_of_order_does_not() {
        let cut = Cut { index: 70_000, parts: vec![part(1, 5, 3), part(1, 6, 1), part(2, 1, 1)] };
        assert_eq!(Cut::decode(&cut.encode()), Ok(cut));
        for parts in [vec![], vec![part(2, 1, 1), part(1, 5, 3)], vec![part(1, 1, 0)]] {
            assert!(Cut::decode(&Cut { index: 0, parts }.encode()).is_err());
        }
        let twice = Cut { index: 0, parts: vec![part(1, 5, 3), part(1, 5, 4)] };
        assert!(Cut::decode(&twice.encode()).is_err());
    }
}
