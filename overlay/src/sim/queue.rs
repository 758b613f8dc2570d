//! What is to happen, by time and then by insertion.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;

use super::link::{ConnIx, Side};
use super::meter::BatchIx;
use super::node::NodeIx;
use super::scenario::Step;
use crate::id::{NodeId, Token};
use crate::io::Lane;
use crate::time::Time;

/// What is on its way: a frame and, where it is measured, the batch in it.
#[derive(Debug)]
pub(super) struct Cargo {
    pub(super) frame: Bytes,
    pub(super) batch: Option<BatchIx>,
}

/// One thing that will happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// A node's deadline may have come.
    Wake { node: NodeIx, run: u32 },
    /// The last byte of a frame reaches its end of the connection.
    Arrive { conn: ConnIx, to: Side, lane: Lane, departed: Time, cargo: Cargo },
    /// Bytes have left a node's uplink.
    Drain { node: NodeIx, run: u32 },
    /// A handshake is done.
    Open { dialler: NodeIx, run: u32, target: NodeIx },
    /// A dial has failed.
    DialFailed { node: NodeIx, run: u32, target: NodeId },
    /// One end learns that the connection is gone.
    Down { conn: ConnIx, side: Side },
    /// A connection across this cut has been stalled for as long as it can bear.
    CutTimeout { conn: ConnIx, cut: u64 },
    /// A write is done.
    Persisted { node: NodeIx, run: u32, token: Token, ok: bool },
    /// A node hears of another.
    Discovered { node: NodeIx, run: u32, other: NodeIx },
    /// The scenario's next step.
    Step(Box<Step>),
}

/// When something happens, and where it is kept meanwhile: entries move in the heap, what they
/// stand for does not.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    time: Time,
    number: u64,
    slot: usize,
}

/// A priority queue whose order is total, so that runs repeat.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    slots: Vec<Option<Happening>>,
    free: Vec<usize>,
    pushed: u64,
}

impl Queue {
    pub(super) fn push(&mut self, time: Time, what: Happening) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(what);
        self.heap.push(Reverse(Entry { time, number: self.pushed, slot }));
        self.pushed += 1;
    }

    pub(super) fn next_time(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.0.time)
    }

    pub(super) fn pop(&mut self) -> Option<(Time, Happening)> {
        let Reverse(Entry { time, slot, .. }) = self.heap.pop()?;
        self.free.push(slot);
        Some((time, self.slots[slot].take().expect("an entry has its slot until it is popped")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_first_and_first_pushed_first() {
        let mut queue = Queue::default();
        for (time, run) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(Time::from_micros(time), Happening::Wake { node: NodeIx(0), run });
        }
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop())
            .map(|(_, what)| match what {
                Happening::Wake { run, .. } => run,
                other => panic!("never pushed: {other:?}"),
            })
            .collect();
        assert_eq!(order, [1, 3, 0, 2]);
    }
}
