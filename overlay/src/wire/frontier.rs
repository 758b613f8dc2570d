//! What a node holds of a source, as it travels.

use serde_bytes::ByteBuf;

use super::cbor::cbor_array;
use crate::id::{Life, NodeId, Seq};

/// Sources in one frontier frame, at most; more go into further frames.
pub(crate) const MAX_ENTRIES: usize = 4_096;
/// Ranges in one entry, at most; what is above them is told later.
pub(crate) const MAX_RANGES: usize = 64;

cbor_array! {
    /// The sender's short number for a (source, life), good on this link.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Definition {
        pub(crate) reference: u32,
        pub(crate) source: NodeId,
        pub(crate) life: Life,
    }
}

cbor_array! {
    /// What the sender holds of one (source, life).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Entry {
        pub(crate) reference: u32,
        /// The first missing seq.
        pub(crate) next: Seq,
        /// Digest at `next - 1`, or a prefix of it (4 bytes and more); empty for `next` = 0.
        pub(crate) head: ByteBuf,
        /// Held above `next`: pairs of (first, first after), ascending.
        pub(crate) above: Vec<(Seq, Seq)>,
    }
}

cbor_array! {
    /// Frontiers of several sources.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Frontier {
        /// Counts the sender's frontier frames of this group.
        pub(crate) number: u64,
        /// The frame that this one adds to; 0 if it stands for itself.
        pub(crate) base: u64,
        /// Why it is sent: see [`Purpose`].
        pub(crate) purpose: u8,
        pub(crate) definitions: Vec<Definition>,
        pub(crate) entries: Vec<Entry>,
    }
}

cbor_array! {
    /// Frontiers without a gap, as they are almost always: for each short number, which its receiver
    /// has been told, the first missing seq.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct News {
        pub(crate) next: Vec<(u32, Seq)>,
    }
}

impl News {
    /// As a frontier frame would say it.
    pub(crate) fn into_frontier(self) -> Frontier {
        let entry = |(reference, next)| Entry { reference, next, head: ByteBuf::new(), above: Vec::new() };
        let entries = self.next.into_iter().map(entry).collect();
        let purpose = Purpose::News.code();
        Frontier { number: 0, base: 0, purpose, definitions: Vec::new(), entries }
    }
}

/// What the receiver of a frontier may expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// News from a lazy link: the tree should bring it, wait the learned lag.
    News,
    /// Nothing of it will be pushed: pull what is missing at once.
    Tell,
    /// As `News`, of all that is held; answer with yours.
    Exchange,
}

impl Purpose {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::News => 0,
            Self::Tell => 1,
            Self::Exchange => 2,
        }
    }

    /// Codes of later versions count as news.
    pub(crate) const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Tell,
            2 => Self::Exchange,
            _ => Self::News,
        }
    }
}
