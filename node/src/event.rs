//! What a subscriber of a group is told, and the bounded queue it comes through.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use treecast_overlay::io::{MemberState, ParentReason, TreeId};
use treecast_overlay::{BatchId, Delivery, Life, NodeId, Seq};

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The group has a neighbour and a place in its tree. Told once.
    Ready,
    /// A message, in the group's order. A node's own come too.
    Message(Message),
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
        /// How many messages and events; batches in the second case.
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
    /// What.
    pub payload: Bytes,
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

/// Counted for each entry beside its payload. Guess at the queue's own memory.
const ENTRY_BYTES: usize = 128;

/// What waits for one subscriber: bounded in bytes. The driver never waits for it.
#[derive(Debug)]
pub(crate) struct EventQueue {
    inner: Mutex<Inner>,
    news: Notify,
    cap: usize,
    /// What all readers of the group missed.
    dropped: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Skipped since the last entry that found room.
    missed: u64,
    closed: bool,
}

#[derive(Debug)]
enum Entry {
    /// A batch, and how many of its messages were taken.
    Batch {
        delivery: Arc<Delivery>,
        nick: Arc<str>,
        taken: usize,
    },
    One(Event),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Batch { delivery, .. } => delivery_bytes(delivery),
            Self::One(_) => ENTRY_BYTES,
        }
    }
}

fn delivery_bytes(delivery: &Delivery) -> usize {
    delivery.payloads.iter().map(|payload| payload.len() + ENTRY_BYTES).sum()
}

impl EventQueue {
    pub(crate) fn new(cap: usize, dropped: Arc<AtomicU64>) -> Self {
        Self { inner: Mutex::default(), news: Notify::new(), cap, dropped }
    }

    pub(crate) fn push(&self, event: Event) {
        self.offer(Entry::One(event), 1);
    }

    pub(crate) fn push_batch(&self, delivery: Arc<Delivery>, nick: Arc<str>) {
        let messages = delivery.payloads.len() as u64;
        self.offer(Entry::Batch { delivery, nick, taken: 0 }, messages);
    }

    fn offer(&self, entry: Entry, weight: u64) {
        let mut inner = self.lock();
        let bytes = entry.bytes();
        if !inner.entries.is_empty() && inner.bytes + bytes > self.cap {
            inner.missed += weight;
            self.dropped.fetch_add(weight, Ordering::Relaxed);
            return;
        }
        if inner.missed > 0 {
            let missed = std::mem::take(&mut inner.missed);
            inner.bytes += ENTRY_BYTES;
            inner.entries.push_back(Entry::One(Event::Lagged { missed }));
        }
        inner.bytes += bytes;
        inner.entries.push_back(entry);
        drop(inner);
        self.news.notify_one();
    }

    /// What waits in it.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether more would be in vain.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// No more will come; what is there can still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// The next event, or what was skipped; `None` once it is closed and empty.
    pub(crate) async fn next(&self) -> Option<Event> {
        loop {
            let news = self.news.notified();
            {
                let mut inner = self.lock();
                if let Some(event) = inner.take() {
                    return Some(event);
                }
                if inner.closed {
                    return None;
                }
            }
            news.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self) -> Option<Event> {
        match self.entries.front_mut() {
            None if self.missed > 0 => {
                return Some(Event::Lagged { missed: std::mem::take(&mut self.missed) });
            }
            None => return None,
            Some(Entry::Batch { delivery, nick, taken }) if *taken + 1 < delivery.payloads.len() => {
                *taken += 1;
                return Some(message(delivery, nick, *taken - 1));
            }
            Some(_) => {}
        }
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes();
        match entry {
            Entry::One(event) => Some(event),
            Entry::Batch { delivery, nick, taken } if taken < delivery.payloads.len() => {
                Some(message(&delivery, &nick, taken))
            }
            Entry::Batch { .. } => self.take(),
        }
    }
}

fn message(delivery: &Delivery, nick: &str, at: usize) -> Event {
    Event::Message(Message {
        batch: delivery.batch(),
        n: delivery.first + u32::try_from(at).unwrap_or(u32::MAX),
        nick: nick.to_owned(),
        time_unix_ms: delivery.time_unix_ms,
        payload: delivery.payloads[at].clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(seq: Seq, messages: usize) -> Arc<Delivery> {
        let source = NodeId::from_bytes([1; 32]);
        let payloads = (0..messages).map(|_| Bytes::from_static(b"0123456789")).collect();
        Arc::new(Delivery { source, life: 1, seq, time_unix_ms: 0, first: 0, payloads })
    }

    async fn numbers(queue: &EventQueue) -> Vec<(Seq, u32)> {
        let mut seen = Vec::new();
        while let Some(event) = queue.next().await {
            match event {
                Event::Message(message) => seen.push((message.batch.seq, message.n)),
                Event::Lagged { missed } => seen.push((missed, u32::MAX)),
                _ => {}
            }
        }
        seen
    }

    #[tokio::test]
    async fn messages_come_one_by_one() {
        let queue = EventQueue::new(10_000, Arc::default());
        queue.push_batch(batch(0, 2), "ada".into());
        queue.push_batch(batch(1, 1), "ada".into());
        queue.close();
        assert_eq!(numbers(&queue).await, [(0, 0), (0, 1), (1, 0)]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed_where_it_missed_it() {
        let dropped: Arc<AtomicU64> = Arc::default();
        let queue = EventQueue::new(300, dropped.clone());
        queue.push_batch(batch(0, 2), "".into());
        queue.push_batch(batch(1, 2), "".into());
        queue.push_batch(batch(2, 1), "".into());
        assert!(matches!(queue.next().await, Some(Event::Message(_))));
        assert!(matches!(queue.next().await, Some(Event::Message(_))));
        queue.push_batch(batch(3, 1), "".into());
        queue.push_batch(batch(4, 9), "".into());
        queue.close();
        assert_eq!(numbers(&queue).await, [(3, u32::MAX), (3, 0), (9, u32::MAX)]);
        assert_eq!(dropped.load(Ordering::Relaxed), 12);
    }

    #[tokio::test]
    async fn a_batch_larger_than_the_queue_still_passes() {
        let queue = EventQueue::new(10, Arc::default());
        queue.push_batch(batch(0, 3), "".into());
        queue.close();
        assert_eq!(numbers(&queue).await.len(), 3);
    }
}
