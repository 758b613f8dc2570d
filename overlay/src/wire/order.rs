//! The records of a total order: what a committee decided, entry by entry.
//!
//! They travel, are chained and repaired as batches of a source that is nobody: a life is an epoch, its first
//! batch the epoch's certificate, each other one an entry of the committee's log. Their bytes say nothing of who
//! signed them, so that whichever member of the committee sends one, it is the same batch.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::batch::{Batch, Header, LifeEnd, Opening};
use super::cbor::{self, Malformed, cbor_array};
use crate::id::{BatchId, Digest, GroupId, NodeId, Seq};
use crate::identity::Identity;

/// Members of a committee, at most: places in an order are agreed on by few.
pub(crate) const MAX_COMMITTEE: usize = 15;

/// Whose batches the records of a group travel as: BLAKE3 (derive-key, context `treecast 1 order`) of the group's
/// id. Nobody has a key to it.
pub(crate) fn order_source(group: &GroupId) -> NodeId {
    NodeId::from_bytes(blake3::derive_key("treecast 1 order", group.as_bytes()))
}

cbor_array! {
    /// Opens an epoch: who agrees on cuts, from where on.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Certificate {
        /// Its committee, by seat.
        pub(crate) roster: Vec<NodeId>,
        /// Messages that were ordered before it.
        pub(crate) index: u64,
        /// Signatures of the committee before it, by seat there; none in the first epoch, whose record the
        /// founder signs.
        pub(crate) signatures: Vec<(u8, ByteBuf)>,
    }
}

/// What a committee's log is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry(
    /// 0: a cut.
    u8,
    ByteBuf,
);

impl Entry {
    pub(crate) fn cut(cut: Vec<u8>) -> Bytes {
        cbor::to_vec(&Self(0, ByteBuf::from(cut))).into()
    }

    /// The cut that an entry is; `None` for what later versions may add.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        let Self(kind, body) = cbor::from_slice(bytes)?;
        Ok((kind == 0).then(|| body.into_vec()))
    }
}

impl Certificate {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let it: Self = cbor::from_slice(bytes)?;
        let mut distinct = it.roster.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let is_whole = distinct.len() == it.roster.len() && (1..=MAX_COMMITTEE).contains(&it.roster.len());
        if is_whole { Ok(it) } else { Err(Malformed) }
    }

    /// The record that opens an epoch.
    pub(crate) fn record(
        &self,
        group: &GroupId,
        epoch: u64,
        previous: Option<LifeEnd>,
        identity: &Identity,
    ) -> Batch {
        let id = BatchId { source: order_source(group), life: epoch, seq: 0 };
        let opening = Some(Opening { nonce: 0, previous });
        let header =
            Header { id, previous: Digest::ZERO, time_after_life_ms: 0, dependencies: Vec::new(), opening };
        Batch::sign(group, header, &[cbor::to_vec(self).into()], identity)
    }
}

/// The record of an entry: number `seq` of its epoch, after one with this digest.
pub(crate) fn record(
    group: &GroupId,
    (epoch, seq): (u64, Seq),
    previous: Digest,
    entry: Bytes,
    identity: &Identity,
) -> Batch {
    let id = BatchId { source: order_source(group), life: epoch, seq };
    let header = Header { id, previous, time_after_life_ms: 0, dependencies: Vec::new(), opening: None };
    Batch::sign(group, header, &[entry], identity)
}

cbor_array! {
    /// Where a newcomer to an order starts, beside its baseline.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Start {
        pub(crate) epoch: u64,
        pub(crate) roster: Vec<NodeId>,
        /// Messages that were ordered before.
        pub(crate) index: u64,
    }
}

cbor_array! {
    /// One member of a committee to another.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Agree {
        pub(crate) epoch: u64,
        /// See `docs/wire.md`.
        pub(crate) message: ByteBuf,
    }
}
