//! What a subscriber of a group is told, and the bounded queue it comes through.

mod fork;
mod queue;

use bytes::Bytes;
use treecast_overlay::files::{Offer, Retraction};
use treecast_overlay::io::{MemberState, ParentReason, Stall, TreeId};
use treecast_overlay::{BatchId, Life, NodeId, Seq};

pub(crate) use self::fork::Fork;
pub(crate) use queue::{EventQueue, Standing};

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The group has a neighbour and a place in its tree. Told once.
    Ready,
    /// A message, in the group's order. A node's own come too. In a total order each comes once it has its
    /// place; who [listens](crate::Listen) for tentative ones is told of it before that as well.
    Message(Message),
    /// A member says that a file is not to be had from it any more. Comes instead of the [`Event::Message`] that says
    /// so. Whether that member announced such a file is not looked up: whoever acts on it compares `message`'s source
    /// with the announcement's.
    FileEnded {
        /// Which file, and what has become of it.
        retraction: Retraction,
        /// The message: whose word it is, and where it stands among the others.
        message: Message,
    },
    /// Messages of a total order have waited for their places for some time, or for another reason than was
    /// told. They are shown as tentative until they have them.
    OrderStalled {
        /// Why.
        reason: Stall,
    },
    /// The total order goes on.
    OrderResumed,
    /// A member came, went or failed.
    Member {
        /// What happened.
        change: MemberChange,
        /// Who.
        node: NodeId,
        /// What it calls itself; may be empty.
        nick: String,
    },
    /// The group seems to be cut in two, or is whole again. Both sides go on by themselves, and
    /// find each other again by themselves.
    Partition(PartitionChange),
    /// The node's parent in a tree changed.
    ParentChanged {
        /// Which tree.
        tree: TreeId,
        /// The parent before.
        from: Option<NodeId>,
        /// The parent now.
        to: Option<NodeId>,
        /// Why.
        reason: ParentReason,
    },
    /// Batches of a source are missing although later ones are known.
    Gap {
        /// Which.
        range: Range,
        /// Given up: order goes on without them.
        lost: bool,
    },
    /// A gap that was told is filled.
    Repaired(Range),
    /// This subscriber did not read fast enough, or the node was away for longer than
    /// anybody keeps messages: so many were skipped.
    Lagged {
        /// How many messages and events; batches in the second case, unless the group has a total order.
        missed: u64,
    },
    /// A cap was hit; something was refused or dropped.
    Overloaded {
        /// The cap, by its name in [`treecast_overlay::Config`].
        cap: &'static str,
    },
    /// A source signed two different batches for one place; it is set aside.
    Forked {
        /// Which.
        source: NodeId,
    },
    /// Another node runs with this node's identity: a copy of its data directory, say.
    Doubled {
        /// Where this one listens.
        here: Vec<String>,
        /// Where the other says that it can be reached.
        there: Vec<String>,
    },
    /// What should be on disk is not, since just now. Messages go on; they are written once that can be
    /// done again, as far as there is room for them until then.
    NotSaved {
        /// Why, as a clause.
        why: String,
    },
    /// The node has left the group for good. The last event.
    Left,
}

/// Batches of one life of a source: `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Whose.
    pub source: NodeId,
    /// Of which life.
    pub life: Life,
    /// The first.
    pub from: Seq,
    /// After the last.
    pub to: Seq,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its batch: who published it, in which life, and where in that.
    pub batch: BatchId,
    /// Its number in the batch.
    pub n: u32,
    /// What its author calls itself; may be empty.
    pub nick: String,
    /// The author's clock, unix milliseconds; for show only.
    pub time_unix_ms: u64,
    /// Its place in a total order, counted from 0 over all messages; `None` in other orders, while it has none
    /// yet, and of what was said before this node's time.
    pub index: Option<u64>,
    /// It has no place in the total order yet: it comes again when it has.
    pub tentative: bool,
    /// Its place is behind the one from which on the group's founder went on in another
    /// ([`Node::recover`](crate::Node::recover)), and this node is in both: there it is not.
    pub forked: bool,
    /// What.
    pub payload: Bytes,
}

impl From<Message> for Event {
    fn from(message: Message) -> Self {
        let may_be_one = Offer::may_be_in(&message.payload);
        match may_be_one.then(|| Retraction::from_message(&message.payload)).flatten() {
            Some(retraction) => Self::FileEnded { retraction, message },
            None => Self::Message(message),
        }
    }
}

/// Whether a group seems to be cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionChange {
    /// Several members (a quarter of the others, at least two; or all others) fell out of reach at
    /// about the same time, and not because their processes ended.
    Suspected,
    /// Half of them are back, or have said that they went.
    Healed,
}

impl PartitionChange {
    /// Its name in the command line's objects.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspected => "suspected",
            Self::Healed => "healed",
        }
    }
}

/// What happened to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberChange {
    /// It is new to us.
    Joined,
    /// It is back.
    Online,
    /// It is online and has a new nick.
    Renamed,
    /// It said goodbye and keeps its membership.
    Offline,
    /// It is silent, and independent suspicions agree.
    Failed,
    /// It left for good.
    Left,
    /// The founder removed it. If it is this node, nothing more comes in this group.
    Removed,
}

impl MemberChange {
    /// Its name in the command line's objects.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Online => "online",
            Self::Renamed => "renamed",
            Self::Offline => "offline",
            Self::Failed => "failed",
            Self::Left => "left",
            Self::Removed => "removed",
        }
    }
}

impl From<MemberState> for MemberChange {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Online => Self::Online,
            MemberState::Offline => Self::Offline,
            MemberState::Failed => Self::Failed,
            MemberState::Left => Self::Left,
            MemberState::Removed => Self::Removed,
        }
    }
}
