//! The seam to consensus: members of a committee agree on a log of entries, whatever they mean.
//!
//! Driven like the engine itself: give it what came in, then take the [`Turn`]. What a turn says must not
//! leave, nor count, before its writes are durable; heartbeats may. There are two implementations:
//! [`Solo`](super::solo::Solo), a committee of one, and [`Paxos`](super::paxos::Paxos).

use std::fmt::Debug;

use bytes::Bytes;

use crate::wire::agreement::Claim;
use crate::wire::cbor::{Malformed, cbor_array};

/// A member of the committee, by its place in the roster of its epoch.
pub(crate) type Seat = usize;

cbor_array! {
    /// What of its state a member has to find again after a crash, beside the log.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub(crate) struct Vows {
        /// The highest ballot that was promised, as the implementation writes it.
        pub(crate) promised: Option<Vow>,
        /// The ballot in which the last entries were accepted.
        pub(crate) accepted: Option<Vow>,
        /// So many entries are decided. May lag: others know.
        pub(crate) decided: u64,
        /// It does not know what it has promised in this epoch, and takes no part in it.
        pub(crate) forgot: bool;
        or_none
        /// What others were heard to have accepted, by seat.
        pub(crate) heard: Vec<Claim>,
    }
}

cbor_array! {
    /// A ballot: its number, the priority of its owner, and the owner (1 …).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Vow {
        pub(crate) number: u32,
        pub(crate) priority: u32,
        pub(crate) owner: u64,
    }
}

/// What is to be made durable before the rest of the turn counts: first what is compacted goes, then the log is
/// cut off, then it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saving {
    pub(crate) vows: Vows,
    /// The log is cut off at this index…
    pub(crate) from: u64,
    /// …and goes on with these.
    pub(crate) entries: Vec<Bytes>,
    /// Entries below are not needed any more.
    pub(crate) compacted: u64,
}

/// What a member knew when it stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) vows: Vows,
    pub(crate) compacted: u64,
    /// From `compacted` on.
    pub(crate) entries: Vec<Bytes>,
}

/// What came of what was given.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) saving: Option<Saving>,
    /// To others, in order; after the saving.
    pub(crate) messages: Vec<(Seat, Bytes)>,
    /// To others, at once.
    pub(crate) heartbeats: Vec<(Seat, Bytes)>,
    /// (index, entry), in order; after the saving. Indices may jump: what was decided while this member was
    /// away comes to it as records.
    pub(crate) decided: Vec<(u64, Bytes)>,
}

/// One member's part in the agreement of one epoch.
pub(crate) trait Consensus: Debug + Send {
    /// Puts an entry at the end of the log. Only the leader's counts; others drop it.
    fn propose(&mut self, entry: Bytes);

    /// A message of another member's [`Turn`] has come, in the order in which it was sent.
    fn handle(&mut self, from: Seat, message: &[u8]) -> Result<(), Malformed>;

    /// Whether a message waits for nothing, neither here nor where it came from.
    fn is_heartbeat(&self, message: &[u8]) -> bool;

    /// The entries that a message asks this member to accept, so that their payloads can be looked for
    /// first; empty for all other messages.
    fn appends(&self, message: &[u8]) -> Vec<Bytes>;

    /// A heartbeat interval is over.
    fn tick(&mut self);

    /// There is a new link to this member: what was on its way may be lost.
    fn on_reconnected(&mut self, to: Seat);

    /// Entries below were decided, and are kept elsewhere.
    fn compact(&mut self, below: u64);

    /// What came of all that since the last time.
    fn take_turn(&mut self) -> Turn;

    /// All that has to be found again after a crash.
    fn save_all(&self) -> Saving;

    /// Who leads, as far as this member knows.
    fn leader(&self) -> Option<Seat>;

    /// Which of its terms as a leader this is, if it leads.
    fn term(&self) -> u64;

    /// Whether this member leads, and may propose.
    fn leads(&self) -> bool;

    /// Where the log ends, decided or not, and whether its entries are still there or not: what a new leader has
    /// to go on from.
    fn log_end(&self) -> u64;

    /// What this member has accepted so far; the default if there is nobody to tell.
    fn accepted(&self) -> Claim;

    /// Whether there is nobody to exchange heartbeats with.
    fn is_alone(&self) -> bool;
}
