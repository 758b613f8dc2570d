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
    /// Lives below the floor and where they ended, ascending. In a [`Record`] those that were closed since
    /// the last one; in a [`Past`] the last of them, as far as they are known: who tells of more in them, or
    /// of others in between, has what was missed.
    pub closed: Vec<(Life, Seq)>,
}

impl SourceRecord {
    /// Closed lives that a [`Past`] should name, of one source. Guess: a source starts a few times a day.
    pub const MAX_CLOSED: usize = 16;

    /// Adds what an earlier record of this source said of lives that were closed by then.
    pub fn add_closed(&mut self, earlier: &[(Life, Seq)]) {
        for it in earlier {
            if let Err(at) = self.closed.binary_search_by_key(&it.0, |it| it.0) {
                self.closed.insert(at, *it);
            }
        }
        let surplus = self.closed.len().saturating_sub(Self::MAX_CLOSED);
        self.closed.drain(..surplus);
    }
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
    /// What the next batch of this node's own is to name as its causes; `None` if that is too much to be
    /// kept each time.
    pub causes: Option<Vec<BatchId>>,
    /// How far the total order is now, if that has moved.
    pub order: Option<OrderRecord>,
}

/// How far a total order is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRecord {
    /// Records that ended epochs, in their order, after those of earlier [`OrderRecord`]s: from them follows who is
    /// in the committee.
    pub ended: Vec<Bytes>,
    /// Messages that have a place.
    pub index: u64,
    /// Of each source that moved: its batches below this of its life have a place, and those of earlier lives
    /// have one, or will never get one.
    pub marks: Vec<(NodeId, Life, Seq)>,
    /// Batches that have a place now, by that of their first message; `None` for those that will never have one,
    /// and for the order's own records.
    pub settled: Vec<(BatchId, Option<u64>)>,
}

/// Whose batches the records of a group's total order are kept as. They are kept as any others are, so that
/// others can be served, and are nothing that somebody said.
pub fn order_source(group: &GroupId) -> NodeId {
    crate::wire::order::order_source(group)
}

/// A total order as this node left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPast {
    /// Whether there was an [`OrderRecord`]: an order had begun.
    pub founded: bool,
    /// Of all [`OrderRecord`]s, in their order.
    pub ended: Vec<Bytes>,
    /// As in the last [`OrderRecord`]; 0 if there was none.
    pub index: u64,
    /// Of each source the last of all [`OrderRecord`]s.
    pub marks: Vec<(NodeId, Life, Seq)>,
    /// Batches that are kept and that no [`OrderRecord`] has settled, in the order in which they were kept.
    pub unsettled: Vec<Bytes>,
    /// What this node has promised and accepted, in the last epoch in which it was in the committee.
    pub agreement: Option<AgreementPast>,
}

/// What a committee member has promised and accepted: by its [`Write::Agreement`](super::Write)s of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreementPast {
    /// Which epoch.
    pub epoch: u64,
    /// Its promises.
    pub vows: Bytes,
    /// The place of the first entry that is left.
    pub compacted: u64,
    /// The log from there on.
    pub entries: Vec<Bytes>,
}

impl AgreementPast {
    /// Nothing, in this epoch.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, vows: Bytes::new(), compacted: 0, entries: Vec::new() }
    }

    /// Takes in a [`Write::Agreement`](super::Write) of its epoch: the log above `from` gives way to these
    /// entries, and what is below `compacted` goes.
    pub fn write(&mut self, vows: Bytes, from: u64, entries: &[Bytes], compacted: u64) {
        self.vows = vows;
        let gone = compacted.saturating_sub(self.compacted);
        self.entries.drain(..usize::try_from(gone).unwrap_or(usize::MAX).min(self.entries.len()));
        self.compacted = self.compacted.max(compacted);
        let kept = from.saturating_sub(self.compacted);
        self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.entries.extend_from_slice(entries);
    }
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
    /// By the last [`KeepEarlier`]; `None` if nothing from before its time is to be gathered any more.
    pub earlier: Option<EarlierPlace>,
    /// Who was removed: the last [`Write::Removal`](super::Write) of each.
    pub removals: Vec<Bytes>,
    /// As in the last [`Record`].
    pub causes: Option<Vec<BatchId>>,
    /// By all [`OrderRecord`]s; `None` where there were none, and nothing is unsettled.
    pub order: Option<OrderPast>,
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

/// A piece of a history is asked for, latest first, for somebody who has come later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchEarlier {
    /// Of which group.
    pub group: GroupId,
    /// Only what stands before this place; places are the store's own numbers.
    pub before: Option<i64>,
    /// At most so many.
    pub batches: u64,
    /// No more once so many bytes are found.
    pub bytes: usize,
}

/// A batch from before this node's time, by a neighbour's history. It is never delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierBatch {
    /// How long ago it came to whoever had it, milliseconds.
    pub age_ms: u64,
    /// What its source calls itself; may be empty.
    pub nick: String,
    /// It.
    pub batch: HistoryBatch,
}

/// How far a node is with what was said before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EarlierPlace {
    /// All from there on of this neighbour's history is here.
    pub at: Option<(NodeId, i64)>,
}

/// What was said before this node's time: to be kept below all that is kept, in this order, latest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepEarlier {
    /// In which group.
    pub group: GroupId,
    /// Some may be there already: those keep their place.
    pub batches: Vec<EarlierBatch>,
    /// Where to go on in a later run.
    pub place: EarlierPlace,
    /// There is no more to come: no later run goes on.
    pub done: bool,
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
