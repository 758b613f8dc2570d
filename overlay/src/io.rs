//! All that crosses the wall between the core and its driver.

mod counts;
mod error;
mod history;
mod view;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::descriptor::Descriptor;
use crate::id::{Address, BatchId, Digest, GroupId, Life, LinkId, NodeId, PublishId, Seq, Token};

pub use self::counts::{FrameCount, GroupCounts};
pub use self::error::{PublishError, RemoveError};
pub use self::history::{
    EarlierBatch, EarlierPlace, Fetch, FetchEarlier, HistoryBatch, KeepEarlier, LifeRecord, Past, Record,
    Shown, SourceRecord,
};
pub use self::view::{CollectionView, GroupView, MemberState, MemberView, TrafficView, TreeView};

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

/// What the application is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The group has a neighbour and a place in its tree. Told once a join.
    Ready {
        /// Which group.
        group: GroupId,
    },
    /// Messages, in the group's order.
    Deliver {
        /// Which group.
        group: GroupId,
        /// The messages.
        delivery: Delivery,
    },
    /// A publication has its place.
    Published {
        /// Which group.
        group: GroupId,
        /// The caller's name for it.
        id: PublishId,
        /// Its batch.
        batch: BatchId,
        /// Its number in the batch.
        n: u32,
    },
    /// A publication was refused; nothing of it was sent.
    Rejected {
        /// Which group.
        group: GroupId,
        /// The caller's name for it.
        id: PublishId,
        /// Why.
        error: PublishError,
    },
    /// A neighbour has taken this own batch (and all before it).
    Sent {
        /// Which group.
        group: GroupId,
        /// The batch.
        batch: BatchId,
    },
    /// Members that said, signed, that they delivered this own batch and all before it.
    Receipt {
        /// Which group.
        group: GroupId,
        /// The batch.
        batch: BatchId,
        /// Other members that have it.
        have: usize,
        /// Other members that are online.
        of: usize,
    },
    /// A member is new to us.
    MemberJoined {
        /// Which group.
        group: GroupId,
        /// Who.
        node: NodeId,
        /// What it calls itself; may be empty.
        nick: String,
    },
    /// A member that was offline or failed is back.
    MemberOnline {
        /// Which group.
        group: GroupId,
        /// Who.
        node: NodeId,
        /// What it calls itself; may be empty.
        nick: String,
    },
    /// A member that is online calls itself something else.
    MemberRenamed {
        /// Which group.
        group: GroupId,
        /// Who.
        node: NodeId,
        /// What it calls itself now; may be empty.
        nick: String,
    },
    /// A member said goodbye; it keeps its membership.
    MemberOffline {
        /// Which group.
        group: GroupId,
        /// Who.
        node: NodeId,
        /// What it calls itself; may be empty.
        nick: String,
    },
    /// A member left for good.
    MemberLeft {
        /// Which group.
        group: GroupId,
        /// Who.
        node: NodeId,
        /// What it calls itself; may be empty.
        nick: String,
    },
    /// A member is silent, and independent suspicions agree.
    MemberFailed {
        /// Which group.
        group: GroupId,
        /// Who.
        node: NodeId,
        /// What it calls itself; may be empty.
        nick: String,
    },
    /// The founder removed a member; or this node, which is then out of the group for good.
    MemberRemoved {
        /// From which group.
        group: GroupId,
        /// Who.
        node: NodeId,
        /// What it calls itself; may be empty.
        nick: String,
    },
    /// [`Input::Remove`] was refused: nothing has changed.
    RemoveRefused {
        /// In which group.
        group: GroupId,
        /// Who was to be removed.
        node: NodeId,
        /// Why.
        error: RemoveError,
    },
    /// This node's place in a tree changed.
    ParentChanged {
        /// Which group.
        group: GroupId,
        /// Which tree.
        tree: TreeId,
        /// The parent before; `None` for none.
        from: Option<NodeId>,
        /// The parent now; `None` while there is none, or as root.
        to: Option<NodeId>,
        /// Why.
        reason: ParentReason,
    },
    /// Batches of a source are missing although later ones are known.
    Gap {
        /// Which group.
        group: GroupId,
        /// Whose.
        source: NodeId,
        /// Of which life.
        life: Life,
        /// First missing.
        from: Seq,
        /// First not missing.
        to: Seq,
        /// Given up: nobody holds them, and order goes on without them.
        lost: bool,
    },
    /// A gap that was told is filled.
    Repaired {
        /// Which group.
        group: GroupId,
        /// Whose.
        source: NodeId,
        /// Of which life.
        life: Life,
        /// First that was missing.
        from: Seq,
        /// First that was not.
        to: Seq,
    },
    /// This node was away longer than anybody keeps batches.
    Lagged {
        /// Which group.
        group: GroupId,
        /// Batches skipped.
        missed: u64,
    },
    /// A cap was hit; something was refused or dropped.
    Overloaded {
        /// Which group.
        group: GroupId,
        /// The cap, by its name in [`Config`](crate::Config).
        cap: &'static str,
    },
    /// A source signed two different batches for one place: it is set aside.
    Forked {
        /// Which group.
        group: GroupId,
        /// Who.
        source: NodeId,
        /// In which life.
        life: Life,
        /// At which place.
        seq: Seq,
    },
    /// Another node speaks with this node's key: a copy of its directory, say.
    Doubled {
        /// Which group.
        group: GroupId,
        /// Where it says that it can be reached.
        addresses: Vec<Address>,
    },
    /// [`Input::Join`] was refused: the group is not entered.
    JoinRefused {
        /// Which group.
        group: GroupId,
        /// Why, as a clause.
        why: &'static str,
    },
    /// A node has answered an [`Input::Ping`].
    RoundTrip {
        /// Who.
        node: NodeId,
        /// How long it took.
        rtt: Duration,
    },
    /// We are out of the group; its state is gone.
    LeftGroup {
        /// Which group.
        group: GroupId,
    },
    /// The goodbye that [`Input::GoOffline`] asked for is said; the group's state is gone.
    WentOffline {
        /// Which group.
        group: GroupId,
    },
    /// All goodbyes are said.
    ShutdownComplete,
}

/// Which tree of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TreeId {
    /// The shared tree rooted at this core.
    Core(NodeId),
    /// The tree rooted at this source.
    Source(NodeId),
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(node) => write!(f, "core:{node}"),
            Self::Source(node) => write!(f, "source:{node}"),
        }
    }
}

/// Why a parent changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParentReason {
    /// The first parent in this tree.
    Joined,
    /// The link to the old parent closed.
    LinkClosed,
    /// The old parent no longer leads to a root.
    RootLost,
    /// A better root is known.
    NewRoot,
    /// The old parent's batches did not come, others' did.
    Silent,
    /// The new parent is nearer.
    Better,
    /// The old parent let us go.
    Released,
    /// This node became the root.
    BecameRoot,
}

impl fmt::Display for ParentReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joined => "joined",
            Self::LinkClosed => "link closed",
            Self::RootLost => "root lost",
            Self::NewRoot => "new root",
            Self::Silent => "silent",
            Self::Better => "better",
            Self::Released => "released",
            Self::BecameRoot => "became root",
        })
    }
}
