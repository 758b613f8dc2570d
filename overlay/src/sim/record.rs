//! What the world saw, for whoever judges the run.

use bytes::Bytes;

use super::node::NodeIx;
use crate::id::{GroupId, PublishId};
use crate::io::{CloseReason, Event, Lane};
use crate::time::Time;

/// One observation.
#[derive(Debug, Clone)]
pub struct Record {
    /// When.
    pub time: Time,
    /// At which node.
    pub node: NodeIx,
    /// In which of its runs; the first is 1.
    pub run: u32,
    /// What.
    pub what: What,
}

/// What was observed.
#[derive(Debug, Clone)]
pub enum What {
    /// The node started.
    Started {
        /// With what it had written before.
        with_disk: bool,
        /// The groups whose member it is by that.
        resumed: Vec<GroupId>,
    },
    /// A copy of its disk was made.
    BackedUp,
    /// Its disk was replaced by the copy.
    Restored,
    /// The node stopped.
    Stopped(Stop),
    /// The application asked it to stop.
    ShutdownAsked,
    /// The application asked it to leave a group.
    LeaveAsked(GroupId),
    /// The application published.
    Publish {
        /// Where.
        group: GroupId,
        /// The number it gave.
        id: PublishId,
        /// What.
        payload: Bytes,
    },
    /// The engine closed a link.
    Closed {
        /// Who was at its other end.
        peer: NodeIx,
        /// Why.
        reason: CloseReason,
    },
    /// The engine told the application something.
    Event(Event),
}

/// How a node stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It said goodbye.
    Goodbye,
    /// Its process was killed: its operating system closed its connections.
    Killed,
    /// Its host went silent.
    HostLost,
}

/// A frame that was sent, for replay and mutation.
#[derive(Debug, Clone)]
pub struct Captured {
    /// By whom.
    pub from: NodeIx,
    /// To whom.
    pub to: NodeIx,
    /// On which lane.
    pub lane: Lane,
    /// The bytes.
    pub frame: Bytes,
}
