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
    /// What opens an epoch says: who agrees on cuts, from where on. It follows from the record that ended the epoch
    /// before it (`docs/decisions/022-epochs.md`); of the first, the founder signs it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Opened {
        /// Its committee, by seat.
        pub(crate) roster: Vec<NodeId>,
        /// Messages that were ordered before it.
        pub(crate) index: u64,
    }
}

/// What a committee's log is made of, as it travels: (kind, body).
#[derive(Debug, Serialize, Deserialize)]
struct Written(u8, ByteBuf);

/// An entry of a committee's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A cut, as it is encoded.
    Cut(Vec<u8>),
    /// The epoch ends: nothing after it counts, and these are the next committee.
    Stop(Vec<NodeId>),
    /// Of a later version.
    Unknown,
}

impl Entry {
    pub(crate) fn to_bytes(&self) -> Bytes {
        let (kind, body) = match self {
            Self::Cut(cut) => (0, cut.clone()),
            Self::Stop(roster) => (1, cbor::to_vec(roster)),
            Self::Unknown => unreachable!("nobody builds an entry of a later version"),
        };
        cbor::to_vec(&Written(kind, ByteBuf::from(body))).into()
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let Written(kind, body) = cbor::from_slice(bytes)?;
        Ok(match kind {
            0 => Self::Cut(body.into_vec()),
            1 => Self::Stop(committee(cbor::from_slice(&body)?)?),
            _ => Self::Unknown,
        })
    }
}

/// A list of members that may be a committee.
fn committee(roster: Vec<NodeId>) -> Result<Vec<NodeId>, Malformed> {
    let mut distinct = roster.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let is_whole = distinct.len() == roster.len() && (1..=MAX_COMMITTEE).contains(&roster.len());
    if is_whole { Ok(roster) } else { Err(Malformed) }
}

impl Opened {
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
        /// The record that ended each epoch before this one, oldest first, as it is sent.
        pub(crate) lineage: Vec<ByteBuf>,
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
