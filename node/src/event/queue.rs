//! What waits for one subscriber: bounded in bytes, so that the driver never waits for it. In an order that asks
//! for no more than each source's own, sources take turns: a flood of one does not hold up another's talk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use treecast_overlay::{Delivery, NodeId, Order};

use super::fork::Fork;
use super::{Event, Message};

/// Counted for each entry beside its payload. Guess at the queue's own memory.
const ENTRY_BYTES: usize = 128;

/// What waits for one subscriber: bounded in bytes. The driver never waits for it.
#[derive(Debug)]
pub(crate) struct EventQueue {
    inner: Mutex<Inner>,
    news: Notify,
    order: Order,
    /// It takes messages that have no place in a total order yet.
    tentative: bool,
    fork: Fork,
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
    /// Batches between two other events.
    Talk(Talk),
    One(Event),
}

/// How messages stand in the group's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As they come.
    Final,
    /// In a total order, the first of them at this place.
    At(u64),
    /// In a total order, without a place.
    Tentative,
}

/// A batch, and how many of its messages were taken.
#[derive(Debug)]
struct Batch {
    delivery: Arc<Delivery>,
    nick: Arc<str>,
    standing: Standing,
    taken: usize,
}

impl Batch {
    fn bytes(&self) -> usize {
        self.delivery.payloads.iter().map(|payload| payload.len() + ENTRY_BYTES).sum()
    }

    fn next(&mut self, fork: &Fork) -> Option<Event> {
        let payload = self.delivery.payloads.get(self.taken)?.clone();
        let n = self.delivery.first + u32::try_from(self.taken).unwrap_or(u32::MAX);
        let index = match self.standing {
            Standing::At(first) => Some(first + self.taken as u64),
            Standing::Final | Standing::Tentative => None,
        };
        let (tentative, forked) = (self.standing == Standing::Tentative, fork.has(index));
        self.taken += 1;
        let (batch, time_unix_ms, nick) =
            (self.delivery.batch(), self.delivery.time_unix_ms, self.nick.to_string());
        Some(Event::Message(Message { batch, n, nick, time_unix_ms, index, tentative, forked, payload }))
    }
}

/// Batches in lanes that take turns, a batch each.
#[derive(Debug, Default)]
struct Talk {
    lanes: BTreeMap<Lane, VecDeque<Batch>>,
    /// Each lane that is not empty, once; the first is next.
    turns: VecDeque<Lane>,
}

/// A source; or all of them, where the order is one over all.
type Lane = Option<NodeId>;

impl Talk {
    fn push(&mut self, lane: Lane, batch: Batch) {
        let batches = self.lanes.entry(lane).or_default();
        if batches.is_empty() {
            self.turns.push_back(lane);
        }
        batches.push_back(batch);
    }

    /// The next message and the bytes of the batch that ends with it. Batches are not empty.
    fn take(&mut self, fork: &Fork) -> Option<(Event, usize)> {
        let lane = *self.turns.front()?;
        let batches = self.lanes.get_mut(&lane)?;
        let batch = batches.front_mut()?;
        let event = batch.next(fork)?;
        if batch.taken < batch.delivery.payloads.len() {
            return Some((event, 0));
        }
        let freed = batch.bytes();
        batches.pop_front();
        self.turns.pop_front();
        if batches.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.turns.push_back(lane);
        }
        Some((event, freed))
    }
}

impl EventQueue {
    pub(crate) fn new(
        order: Order,
        tentative: bool,
        fork: Fork,
        cap: usize,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        Self { inner: Mutex::default(), news: Notify::new(), order, tentative, fork, cap, dropped }
    }

    pub(crate) fn push(&self, event: Event) {
        self.offer(ENTRY_BYTES, 1, |inner| inner.entries.push_back(Entry::One(event)));
    }

    pub(crate) fn push_batch(&self, delivery: Arc<Delivery>, nick: Arc<str>, standing: Standing) {
        let messages = delivery.payloads.len() as u64;
        if messages == 0 || (standing == Standing::Tentative && !self.tentative) {
            return;
        }
        let lane = (self.order <= Order::Fifo).then_some(delivery.source);
        let batch = Batch { delivery, nick, standing, taken: 0 };
        self.offer(batch.bytes(), messages, |inner| inner.talk().push(lane, batch));
    }

    fn offer(&self, bytes: usize, weight: u64, put: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
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
        put(&mut inner);
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
                if let Some(event) = inner.take(&self.fork) {
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
    /// Where batches that come now belong: behind all other events.
    fn talk(&mut self) -> &mut Talk {
        if !matches!(self.entries.back(), Some(Entry::Talk(_))) {
            self.entries.push_back(Entry::Talk(Talk::default()));
        }
        match self.entries.back_mut() {
            Some(Entry::Talk(talk)) => talk,
            _ => unreachable!("it was just put there"),
        }
    }

    fn take(&mut self, fork: &Fork) -> Option<Event> {
        loop {
            match self.entries.front_mut() {
                None if self.missed > 0 => {
                    return Some(Event::Lagged { missed: std::mem::take(&mut self.missed) });
                }
                None => return None,
                Some(Entry::Talk(talk)) => {
                    if let Some((event, freed)) = talk.take(fork) {
                        self.bytes -= freed;
                        return Some(event);
                    }
                    self.entries.pop_front();
                }
                Some(Entry::One(_)) => {
                    self.bytes -= ENTRY_BYTES;
                    let Some(Entry::One(event)) = self.entries.pop_front() else { unreachable!("just seen") };
                    return Some(event);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use treecast_overlay::Seq;

    use super::*;

    fn batch(seq: Seq, messages: usize) -> Arc<Delivery> {
        batch_of(1, seq, messages)
    }

    fn batch_of(source: u8, seq: Seq, messages: usize) -> Arc<Delivery> {
        let source = NodeId::from_bytes([source; 32]);
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
        let queue = EventQueue::new(Order::Causal, true, Fork::default(), 10_000, Arc::default());
        queue.push_batch(batch(0, 2), "ada".into(), Standing::Final);
        queue.push_batch(batch(1, 1), "ada".into(), Standing::Final);
        queue.close();
        assert_eq!(numbers(&queue).await, [(0, 0), (0, 1), (1, 0)]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed_where_it_missed_it() {
        let dropped: Arc<AtomicU64> = Arc::default();
        let queue = EventQueue::new(Order::Causal, true, Fork::default(), 300, dropped.clone());
        queue.push_batch(batch(0, 2), "".into(), Standing::Final);
        queue.push_batch(batch(1, 2), "".into(), Standing::Final);
        queue.push_batch(batch(2, 1), "".into(), Standing::Final);
        assert!(matches!(queue.next().await, Some(Event::Message(_))));
        assert!(matches!(queue.next().await, Some(Event::Message(_))));
        queue.push_batch(batch(3, 1), "".into(), Standing::Final);
        queue.push_batch(batch(4, 9), "".into(), Standing::Final);
        queue.close();
        assert_eq!(numbers(&queue).await, [(3, u32::MAX), (3, 0), (9, u32::MAX)]);
        assert_eq!(dropped.load(Ordering::Relaxed), 12);
    }

    #[tokio::test]
    async fn a_batch_larger_than_the_queue_still_passes() {
        let queue = EventQueue::new(Order::Causal, true, Fork::default(), 10, Arc::default());
        queue.push_batch(batch(0, 3), "".into(), Standing::Final);
        queue.close();
        assert_eq!(numbers(&queue).await.len(), 3);
    }

    #[tokio::test]
    async fn a_flood_of_one_holds_up_another_only_where_one_order_is_over_both() {
        for (order, place) in
            [(Order::Unordered, 2), (Order::Fifo, 2), (Order::Causal, 12), (Order::Total, 12)]
        {
            let queue = EventQueue::new(order, true, Fork::default(), 100_000, Arc::default());
            let talk = [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 70), (1, 6), (2, 71)];
            talk.iter().for_each(|(source, seq)| {
                queue.push_batch(batch_of(*source, *seq, 2), "".into(), Standing::Final)
            });
            queue.push(Event::Ready);
            queue.push_batch(batch_of(3, 99, 2), "".into(), Standing::Final);
            queue.close();
            let mut seen = numbers(&queue).await;
            assert_eq!(seen.iter().position(|it| it.0 == 70), Some(place), "{order}");
            assert_eq!(seen[18..], [(99, 0), (99, 1)], "{order}: nothing passes another event");
            seen.retain(|it| it.0 < 70);
            assert!(seen.is_sorted() && seen.len() == 14, "{order}: each source's in its own order");
            assert_eq!(queue.bytes(), 0);
        }
    }

    #[tokio::test]
    async fn in_a_total_order_who_wants_it_is_told_twice() {
        for (wanted, told) in [
            (true, vec![(0, None), (1, None), (0, Some(7)), (1, Some(8))]),
            (false, vec![(0, Some(7)), (1, Some(8))]),
        ] {
            let queue = EventQueue::new(Order::Total, wanted, Fork::default(), 10_000, Arc::default());
            queue.push_batch(batch(0, 2), "".into(), Standing::Tentative);
            queue.push_batch(batch(0, 2), "".into(), Standing::At(7));
            queue.close();
            let mut seen = Vec::new();
            while let Some(Event::Message(message)) = queue.next().await {
                assert_eq!(message.tentative, message.index.is_none());
                seen.push((message.n, message.index));
            }
            assert_eq!(seen, told);
        }
    }
}
