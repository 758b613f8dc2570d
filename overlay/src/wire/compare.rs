//! Frontiers of very many sources, compared by hashes; and a baseline that is too long for a welcome.

use serde_bytes::ByteBuf;

use super::cbor::cbor_array;
use crate::id::{Life, NodeId, Seq};

/// Parts that a branch has: one for each value of the next four bits of a key.
pub(crate) const PARTS: u64 = 16;
/// The deepest a prefix goes, in parts of a key. Keys that agree so far were made to.
pub(crate) const DEEPEST: u8 = 15;
/// Branches in one frame, at most.
pub(crate) const MAX_BRANCHES: usize = 256;
/// Prefixes that one frame asks for, at most: of 256 branches all parts.
pub(crate) const MAX_ASKED: usize = MAX_BRANCHES * PARTS as usize;
/// Entries in one piece of a baseline, at most.
pub(crate) const MAX_BASELINE: usize = 8_192;

cbor_array! {
    /// All sources whose keys begin alike.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Prefix {
        /// Of how many times four bits.
        pub(crate) depth: u8,
        /// A key's first eight bytes, big-endian, what lies beyond that depth zero.
        pub(crate) bits: u64,
    }
}

impl Prefix {
    pub(crate) const ROOT: Self = Self { depth: 0, bits: 0 };

    /// The bits that are free.
    const fn rest(depth: u8) -> u64 {
        u64::MAX >> (depth as u32 * 4)
    }

    /// The prefix of this key that is so deep.
    pub(crate) fn of(node: &NodeId, depth: u8) -> Self {
        Self { depth, bits: node.head() & !Self::rest(depth) }
    }

    /// Whether it is one, as far as bytes from outside say.
    pub(crate) const fn is_sound(&self) -> bool {
        self.depth <= DEEPEST && self.bits & Self::rest(self.depth) == 0
    }

    /// Its parts, ascending; none if it is the deepest.
    pub(crate) fn parts(self) -> impl Iterator<Item = Self> {
        let depth = self.depth + 1;
        let part = move |nibble: u64| Self { depth, bits: self.bits | nibble << (64 - 4 * u32::from(depth)) };
        (0..PARTS).take_while(move |_| depth <= DEEPEST).map(part)
    }

    /// The lowest and the highest key.
    pub(crate) fn keys(&self) -> (NodeId, NodeId) {
        let key = |head: u64, rest: u8| {
            let mut key = [rest; 32];
            key[..8].copy_from_slice(&head.to_be_bytes());
            NodeId::from_bytes(key)
        };
        (key(self.bits, 0), key(self.bits | Self::rest(self.depth), u8::MAX))
    }
}

cbor_array! {
    /// What the sender holds under a prefix, in hashes: one for each part, little-endian, one after the other.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Branch {
        pub(crate) at: Prefix,
        pub(crate) hashes: ByteBuf,
    }
}

impl Branch {
    pub(crate) fn new(at: Prefix, hashes: impl Iterator<Item = u64>) -> Self {
        let bytes: Vec<u8> = hashes.flat_map(u64::to_le_bytes).collect();
        Self { at, hashes: ByteBuf::from(bytes) }
    }

    /// The parts and their hashes; none if this is not sound.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (Prefix, u64)> {
        let sound = self.at.is_sound() && self.hashes.len() as u64 == PARTS * 8;
        let hashes =
            self.hashes.chunks_exact(8).map(|it| u64::from_le_bytes(it.try_into().expect("8 bytes")));
        let at = if self.at.is_sound() { self.at } else { Prefix::ROOT };
        at.parts().zip(hashes).filter(move |_| sound)
    }
}

cbor_array! {
    /// Anti-entropy among very many sources: what of it differs is told, or compared further down.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Compare {
        /// Of the frontiers that come of it (see [`Purpose`](super::frontier::Purpose)).
        pub(crate) purpose: u8,
        pub(crate) branches: Vec<Branch>,
        /// The sender has told all it holds under these; the receiver is to tell what differs there.
        pub(crate) asked: Vec<Prefix>,
    }
}

cbor_array! {
    /// A piece of a newcomer's baseline; the rest is in the welcome that follows.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Baseline {
        pub(crate) first: Vec<(NodeId, Life, Seq)>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_prefix_are_all_of_it() {
        let mut at = Prefix::ROOT;
        let key = NodeId::from_bytes([0x9c; 32]);
        for depth in 0..DEEPEST {
            let parts: Vec<_> = at.parts().collect();
            assert_eq!(parts.len() as u64, PARTS);
            assert_eq!((parts[0].keys().0, parts[15].keys().1), (at.keys().0, at.keys().1));
            assert!(parts.windows(2).all(|two| two[0].keys().1 < two[1].keys().0));
            assert!(parts.iter().all(Prefix::is_sound));
            at = Prefix::of(&key, depth + 1);
            assert_eq!(parts.iter().filter(|part| **part == at).count(), 1);
            assert!((at.keys().0..=at.keys().1).contains(&key));
        }
        assert_eq!(at.parts().count(), 0);
    }

    #[test]
    fn what_is_not_sound_has_no_parts() {
        let branch = |depth, bits, len| Branch { at: Prefix { depth, bits }, hashes: vec![1; len].into() };
        assert_eq!(branch(1, 1 << 60, 128).parts().count(), 16);
        for unsound in [branch(1, 1, 128), branch(16, 0, 128), branch(255, 0, 128), branch(1, 0, 127)] {
            assert_eq!(unsound.parts().count(), 0, "{unsound:?}");
        }
        assert_eq!(branch(DEEPEST, 0, 128).parts().count(), 0);
    }
}
