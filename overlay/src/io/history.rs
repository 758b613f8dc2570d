//! What crosses the wall for the sake of the past: what a driver keeps of a group, brings back at
//! the next join, and is asked for.

use bytes::Bytes;

use crate::id::{BatchId, Digest, GroupId, Life, NodeId, Seq};
use crate::wire::batch::Batch;

/// A batch for the history, as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryBatch {
    /// Which.
    pub id: BatchId,
    /// As it travels: what others may be served.
    pub bytes: Bytes,
    /// Its digest.
    pub digest: Digest,
    /// How many messages of it were delivered.
    pub messages: u32,
    /// Their bytes.
    pub payload: u64,
}

/// How far this node is with a source: what it holds below this is delivered, or will never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRecord {
    /// Whose.
    pub source: NodeId,
    /// All lives below are over.
    pub floor: Life,
    /// Those that are not, ascending.
    pub lives: Vec<LifeRecord>,
}

/// How far this node is with one life of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifeRecord {
    /// Which.
    pub life: Life,
    /// The first batch that was not delivered.
    pub next: Seq,
    /// The digest of the one before it, if that was here.
    pub head: Option<Digest>,
    /// Where the life ends, if it is over.
    pub end: Option<Seq>,
    /// Batches above `next` that were delivered: half-open ranges, ascending. Of use where no order
    /// is kept.
    pub above: Vec<(Seq, Seq)>,
    /// Of this node's own lives: the first batch that no other is known to have, if there is one.
    pub owed: Option<Seq>,
}

/// What was delivered in a group, and how far it is now. To be kept in this order, all of one
/// record or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// In which group.
    pub group: GroupId,
    /// A member has told this node where to begin.
    pub entered: bool,
    /// Batches that were delivered, in order. Not this node's own of this run, which are in
    /// [`Write::Batch`](super::Write).
    pub batches: Vec<HistoryBatch>,
    /// The sources that moved.
    pub sources: Vec<SourceRecord>,
}

/// A group as this node left it, from the driver's store: sources as they were recorded last, and
/// this node's own lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Which group.
    pub group: GroupId,
    /// As in the last [`Record`].
    pub entered: bool,
    /// How far it was with each source.
    pub sources: Vec<SourceRecord>,
    /// Where this node's own last life ended: by the last [`Write::Batch`](super::Write) that was
    /// durable.
    pub end: Option<crate::PastLife>,
}

/// What a history lacks or holds is asked for: batches of one life, no more than so many, nor many
/// more bytes than so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// In which group.
    pub group: GroupId,
    /// Whose.
    pub source: NodeId,
    /// Of which life.
    pub life: Life,
    /// Half-open ranges, ascending.
    pub ranges: Vec<(Seq, Seq)>,
    /// At most so many.
    pub batches: u64,
    /// No more once so many bytes are found.
    pub bytes: usize,
}

/// The messages of a batch, for showing them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which batch.
    pub id: BatchId,
    /// The author's clock at publication, unix milliseconds; for show only.
    pub time_unix_ms: u64,
    /// The messages, each with its number in the batch.
    pub messages: Vec<(u32, Bytes)>,
}

impl Shown {
    /// Reads a batch's bytes as they were kept; `None` if they are none. Its signature was checked
    /// when it came.
    pub fn read(group: &GroupId, bytes: Bytes) -> Option<Self> {
        let batch = Batch::parse(group, bytes).ok()?;
        let time_unix_ms = batch.time_unix_ms();
        let numbered = (0..).zip(batch.messages);
        let messages = numbered.filter_map(|(n, payload)| Some((n, payload?))).collect();
        Some(Self { id: batch.header.id, time_unix_ms, messages })
    }
}
