//! What is to happen, by time and then by insertion.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;

use super::disk::{Found, Piece};
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
    /// A write is done, or has failed.
    Persisted { node: NodeIx, run: u32, token: Token, ok: bool },
    /// A transaction is done.
    Written { node: NodeIx, run: u32 },
    /// What was delivered is to be written.
    File { node: NodeIx, run: u32 },
    /// The history has answered.
    Fetched { node: NodeIx, run: u32, token: Token, found: Found },
    /// The same, for somebody who came later.
    FetchedEarlier { node: NodeIx, run: u32, token: Token, piece: Piece },
    /// A node hears of another.
    Discovered { node: NodeIx, run: u32, other: NodeIx },
    /// The scenario's next step.
    Step(Box<Step>),
}

/// Microseconds that are kept in one piece.
const SLICE: u64 = 1_000;

/// What happens, and when. Only that counts when two are compared.
struct Entry {
    time: Time,
    number: u64,
    what: Happening,
}

impl Entry {
    fn key(&self) -> (Time, u64) {
        (self.time, self.number)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl Ord for Entry {
    /// The earliest is the greatest, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A priority queue whose order is total, so that runs repeat.
///
/// A large group has a hundred thousand things ahead of it. Only those of the next millisecond are
/// put in order: few enough for the processor's nearest cache.
#[derive(Default)]
pub(super) struct Queue {
    /// All before the end of the present slice.
    soon: BinaryHeap<Entry>,
    present: u64,
    /// The others, by slice.
    later: BTreeMap<u64, Vec<Entry>>,
    pushed: u64,
}

impl Queue {
    pub(super) fn push(&mut self, time: Time, what: Happening) {
        let entry = Entry { time, number: self.pushed, what };
        self.pushed += 1;
        let slice = time.as_micros() / SLICE;
        if slice <= self.present {
            self.soon.push(entry);
        } else {
            self.later.entry(slice).or_default().push(entry);
        }
    }

    pub(super) fn next_time(&self) -> Option<Time> {
        let later = || self.later.first_key_value()?.1.iter().map(|it| it.time).min();
        self.soon.peek().map(|it| it.time).or_else(later)
    }

    pub(super) fn pop(&mut self) -> Option<(Time, Happening)> {
        if self.soon.is_empty() {
            let (slice, entries) = self.later.pop_first()?;
            (self.present, self.soon) = (slice, entries.into());
        }
        self.soon.pop().map(|it| (it.time, it.what))
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

    #[test]
    fn slices_follow_each_other_and_the_present_one_takes_more() {
        let mut queue = Queue::default();
        let wake = |run| Happening::Wake { node: NodeIx(0), run };
        for time in [9_000, 500, 4_700, 4_200] {
            queue.push(Time::from_micros(time), wake(0));
        }
        let mut order = Vec::new();
        while let Some(next) = queue.next_time() {
            let (time, what) = queue.pop().expect("there is a next one");
            assert_eq!(time, next);
            order.push(time.as_micros());
            if matches!(what, Happening::Wake { run: 0, .. }) {
                queue.push(time, wake(1));
                queue.push(Time::from_micros(time.as_micros() + 300), wake(1));
            }
        }
        assert_eq!(order, [500, 500, 800, 4_200, 4_200, 4_500, 4_700, 4_700, 5_000, 9_000, 9_000, 9_300]);
    }
}
