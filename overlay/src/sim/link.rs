//! One connection: two ends, two lanes each way, FIFO per lane.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::node::NodeIx;
use crate::id::LinkId;
use crate::io::Lane;
use crate::time::Time;

/// A connection's place in the world's list.
pub(super) type ConnIx = usize;

/// One of a connection's two ends: 0 dialled, 1 was dialled.
pub(super) type Side = usize;

/// A connection, from its handshake on.
pub(super) struct Conn {
    pub(super) ends: [End; 2],
    pub(super) one_way: Duration,
}

/// One end of a connection, with what it sends to the other.
pub(super) struct End {
    pub(super) node: NodeIx,
    /// The run of the node that this end belongs to; a restarted node has other ends.
    pub(super) run: u32,
    /// The node's own number for the connection: the two ends' differ.
    pub(super) link: LinkId,
    /// It can send and receive.
    pub(super) open: bool,
    /// It has been told that the connection is gone.
    pub(super) told_down: bool,
    /// The other end's host is gone without a word: nothing is acknowledged any more.
    pub(super) unheard: bool,
    /// When its process was killed: what had not left by then never leaves.
    pub(super) killed: Option<Time>,
    /// When the last frame of each lane arrives at the other end.
    last_arrival: [Time; 2],
    /// What waits for a cut to heal.
    pub(super) stalled: VecDeque<(Lane, Bytes)>,
}

impl End {
    pub(super) fn new(node: NodeIx, run: u32, link: LinkId) -> Self {
        Self {
            node,
            run,
            link,
            open: true,
            told_down: false,
            unheard: false,
            killed: None,
            last_arrival: [Time::ZERO; 2],
            stalled: VecDeque::new(),
        }
    }

    /// When a frame arrives that would arrive at `earliest` if it were alone on its lane.
    pub(super) fn arrival(&mut self, lane: Lane, earliest: Time) -> Time {
        let last = &mut self.last_arrival[lane as usize];
        *last = earliest.max(*last);
        *last
    }

    /// When everything sent so far has arrived.
    pub(super) fn all_arrived(&self) -> Time {
        self.last_arrival[0].max(self.last_arrival[1])
    }

    /// No frame passes any more, either way.
    pub(super) fn shut(&mut self) {
        self.open = false;
        self.stalled = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_fifo_and_lanes_do_not_wait_for_each_other() {
        let mut end = End::new(NodeIx(0), 1, LinkId(0));
        let at = Time::from_micros;
        assert_eq!(end.arrival(Lane::Bulk, at(900)), at(900));
        assert_eq!(end.arrival(Lane::Live, at(100)), at(100));
        assert_eq!(end.arrival(Lane::Bulk, at(200)), at(900));
        assert_eq!(end.all_arrived(), at(900));
    }
}
