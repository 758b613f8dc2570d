//! All that crosses the wall between the core and its driver.

mod counts;
mod error;
mod event;
mod history;
mod view;

use bytes::Bytes;
use std::fmt;

use crate::descriptor::Descriptor;
use crate::id::{Address, BatchId, Digest, GroupId, Life, LinkId, NodeId, PublishId, Seq, Token};

pub use self::counts::{FrameCount, GroupCounts};
pub use self::error::{PublishError, RemoveError};
pub use self::event::{Event, ParentReason, TreeId};
pub use self::history::{
    AgreementPast, EarlierBatch, EarlierPlace, Fetch, FetchEarlier, HistoryBatch, KeepEarlier, LifeRecord,
    OrderPast, OrderRecord, Past, Record, Shown, SourceRecord, order_source,
};
pub use self::view::{
    CollectionView, GroupView, MemberState, MemberView, OrderView, Stall, TrafficView, TreeView,
};

/// What of a link's two streams a frame travels on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Talk, and the frames that keep the overlay alive.
    Live,
    /// History and files: never delays what is live.
    Bulk,
}

/// What the driver tells the core.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Input {
    /// A connection to `node` stands, authenticated. A node may have several links for a
    /// while (both sides dialled); the core uses the lowest live one.
    LinkUp {
        /// The driver's number for it, never used before.
        link: LinkId,
        /// Who is at the other end.
        node: NodeId,
    },
    /// The connection is gone; nothing more comes from it or can be sent on it.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// A whole frame came in (without its length prefix, at most
    /// [`wire::MAX_FRAME`](crate::wire::MAX_FRAME) bytes).
    Frame {
        /// From where.
        link: LinkId,
        /// On which lane.
        lane: Lane,
        /// Its bytes; batches are sliced out of them without copying.
        frame: Bytes,
    },
    /// So many bytes of frames given by [`Output::Send`] have left the driver's queue.
    Drained {
        /// On which link.
        link: LinkId,
        /// On which lane.
        lane: Lane,
        /// Frame bytes, as counted by their length.
        bytes: usize,
    },
    /// A node was found (mDNS, a ticket, by hand) that may share groups with us.
    Discovered {
        /// Who.
        node: NodeId,
        /// Where; may be empty if the driver knows.
        addresses: Vec<Address>,
    },
    /// Keep the links to a node although no group needs them, or no longer: for nodes that were
    /// named by hand, and for those that dialled us, who know better what for. At most
    /// [`Config::max_links`](crate::Config); more are not kept.
    Keep {
        /// Whose.
        node: NodeId,
        /// Whether.
        keep: bool,
    },
    /// A dial that [`Output::Dial`] asked for failed on every address.
    DialFailed {
        /// Who did not answer.
        node: NodeId,
    },
    /// Where this node can be reached has changed.
    OwnAddresses(Vec<Address>),
    /// What this node wants to be called.
    Nick(String),
    /// Enter a group.
    Join(Box<Descriptor>),
    /// How this node left a group: it goes on from there when it joins it next.
    Resume(Box<Past>),
    /// Leave a group for good, with a signed record. Told by [`Event::LeftGroup`].
    Leave(GroupId),
    /// Remove a member, as its founder: [`Event::MemberRemoved`] or [`Event::RemoveRefused`] answers.
    Remove {
        /// From which group.
        group: GroupId,
        /// Whom.
        node: NodeId,
    },
    /// Go offline in one group: goodbye, keeping the membership, while the node goes on with
    /// its other groups. Told by [`Event::WentOffline`].
    GoOffline(GroupId),
    /// Publish one message. Answered by [`Event::Published`] or [`Event::Rejected`].
    Publish {
        /// Where.
        group: GroupId,
        /// The caller's name for it.
        id: PublishId,
        /// What: at most [`Config::max_message`](crate::Config) bytes.
        payload: Bytes,
    },
    /// Ask who else has delivered this batch (and all before it of that life). Answered by
    /// [`Event::Receipt`], whenever the number grows.
    RequestReceipt {
        /// In which group.
        group: GroupId,
        /// One of this node's own batches.
        batch: BatchId,
    },
    /// Measure the round trip to a linked node now. Answered by [`Event::RoundTrip`], if the node
    /// answers; nothing happens if there is no link.
    Ping {
        /// Whose.
        node: NodeId,
    },
    /// The writes of this token are durable.
    Persisted(Token),
    /// The writes of this token failed: what waits for them does not happen.
    PersistFailed(Token),
    /// The answer to [`Output::Fetch`]: what is there of what was asked for, in order.
    Fetched {
        /// The question's.
        token: Token,
        /// Batches as they were recorded.
        batches: Vec<(Seq, Bytes)>,
        /// The lowest of the life that is kept, asked for or not.
        first: Option<Seq>,
    },
    /// The answer to [`Output::FetchEarlier`].
    FetchedEarlier {
        /// The question's.
        token: Token,
        /// How long each has been there, milliseconds, and the batch; latest first.
        batches: Vec<(u64, Bytes)>,
        /// The place of the last of them.
        last: Option<i64>,
        /// Nothing stands before it.
        end: bool,
    },
    /// Say goodbye in every group (offline, not leaving), wait (bounded) until neighbours
    /// hold our batches, then tell [`Event::ShutdownComplete`].
    Shutdown,
    /// A deadline has come.
    Tick,
}

/// What the core asks of its driver. To be carried out in order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Output {
    /// Put a frame on a link. The driver never blocks on it: it queues, and reports
    /// [`Input::Drained`] as the bytes leave.
    Send {
        /// Which link.
        link: LinkId,
        /// Which lane.
        lane: Lane,
        /// The frame without its length prefix; clones share one buffer.
        frame: Bytes,
    },
    /// Connect to a node, all addresses in parallel; answered by [`Input::LinkUp`] or
    /// [`Input::DialFailed`].
    Dial {
        /// Whom.
        node: NodeId,
        /// Where, best first; the driver adds what it knows.
        addresses: Vec<Address>,
    },
    /// Close a link: it misbehaved or nothing needs it.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        reason: CloseReason,
    },
    /// Make these writes durable, then answer with the token.
    Persist {
        /// Returned in [`Input::Persisted`].
        token: Token,
        /// What to write.
        writes: Vec<Write>,
    },
    /// Keep this for the history, soon; nothing waits for it. Comes before the
    /// [`Event::Deliver`]s of its batches; only with [`Config::history`](crate::Config).
    Record(Box<Record>),
    /// Look this up in the history, then answer with the token. Only with
    /// [`Config::history`](crate::Config).
    Fetch {
        /// Returned in [`Input::Fetched`].
        token: Token,
        /// What.
        fetch: Box<Fetch>,
    },
    /// As [`Output::Fetch`], for somebody who came later; answered by [`Input::FetchedEarlier`].
    FetchEarlier {
        /// Returned in the answer.
        token: Token,
        /// What.
        fetch: FetchEarlier,
    },
    /// Tell the application.
    Event(Event),
}

/// Why the core closes a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer broke the protocol; what it sent changed nothing else.
    Protocol(&'static str),
    /// A second connection to the same node.
    Redundant,
    /// No group shares it.
    Unused,
    /// The peer did not answer pings.
    Silent,
    /// We are shutting down.
    Shutdown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(what) => write!(f, "protocol violation: {what}"),
            Self::Redundant => f.write_str("a second connection"),
            Self::Unused => f.write_str("no group in common"),
            Self::Silent => f.write_str("no answer to pings"),
            Self::Shutdown => f.write_str("shutting down"),
        }
    }
}

/// Something to make durable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Write {
    /// The highest life this node has used.
    Life {
        /// In which group.
        group: GroupId,
        /// The life.
        life: Life,
    },
    /// One of this node's own batches, before it leaves.
    Batch {
        /// In which group.
        group: GroupId,
        /// Which.
        id: BatchId,
        /// As it travels.
        bytes: Bytes,
        /// Its digest: with `id`, what [`PastLife`](crate::PastLife) names.
        digest: Digest,
        /// How many messages it has.
        messages: u32,
        /// Their bytes.
        payload: u64,
    },
    /// What was said before this node's time.
    Earlier(Box<KeepEarlier>),
    /// What a committee member has promised and accepted: first what is compacted goes, then the log is cut off,
    /// then it goes on.
    Agreement {
        /// In which group.
        group: GroupId,
        /// In which epoch; what is kept of earlier ones may go.
        epoch: u64,
        /// Its promises, replacing those before; to be given back as they are.
        vows: Bytes,
        /// The log is cut off at this place…
        from: u64,
        /// …and goes on with these entries.
        entries: Vec<Bytes>,
        /// Entries below are not needed any more.
        compacted: u64,
    },
    /// The founder's word that a member is removed; replaces an earlier one about the same member.
    Removal {
        /// From which group.
        group: GroupId,
        /// Who.
        node: NodeId,
        /// The signed record.
        record: Bytes,
    },
}

/// One batch's messages, ready for the application.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who published them.
    pub source: NodeId,
    /// In which life.
    pub life: Life,
    /// In which batch.
    pub seq: Seq,
    /// The author's clock at publication, unix milliseconds; for show only.
    pub time_unix_ms: u64,
    /// The number of `payloads[0]` in its batch.
    pub first: u32,
    /// The messages, in order; message `first + i` is `payloads[i]`.
    pub payloads: Vec<Bytes>,
}

impl Delivery {
    /// The batch these messages came in.
    pub fn batch(&self) -> BatchId {
        BatchId { source: self.source, life: self.life, seq: self.seq }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({:?} {}:{} × {})", self.source, self.life, self.seq, self.payloads.len())
    }
}
