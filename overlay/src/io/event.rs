//! What the application is told.

use std::fmt;
use std::time::Duration;

use super::{Delivery, PublishError, RemoveError, Stall};
use crate::id::{Address, BatchId, GroupId, Life, NodeId, PublishId, Seq};

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
        /// They have no place in the total order yet: [`Event::Ordered`] gives it.
        tentative: bool,
    },
    /// Messages that were delivered tentatively have their place in the total order. These come in that
    /// order, to all members in the same.
    Ordered {
        /// Which group.
        group: GroupId,
        /// The place of the first of the messages; the others follow it.
        index: u64,
        /// The messages, again.
        delivery: Delivery,
    },
    /// Messages have waited for their place for some time.
    OrderStalled {
        /// Which group.
        group: GroupId,
        /// Why.
        reason: Stall,
    },
    /// The order goes on.
    OrderResumed {
        /// Which group.
        group: GroupId,
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
    /// [`Input::Remove`](super::Input::Remove) was refused: nothing has changed.
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
        /// Batches skipped; in a total order, messages.
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
    /// [`Input::Join`](super::Input::Join) was refused: the group is not entered.
    JoinRefused {
        /// Which group.
        group: GroupId,
        /// Why, as a clause.
        why: &'static str,
    },
    /// A node has answered an [`Input::Ping`](super::Input::Ping).
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
    /// The goodbye that [`Input::GoOffline`](super::Input::GoOffline) asked for is said; the group's state is gone.
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
