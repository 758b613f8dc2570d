//! Recent batches, for repair: bounded in bytes and age.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::id::{BatchId, Digest, Life, NodeId, Seq};
use crate::time::Time;
use crate::wire::batch::{Batch, Header};

/// A batch in the store. Its messages stay until they are delivered.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) header: Header,
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
    pub(crate) messages: Vec<Option<Bytes>>,
    /// How many messages it has, those of unknown kinds too.
    pub(crate) count: u32,
    pub(crate) time_unix_ms: u64,
    pub(crate) received: Time,
    pub(crate) delivered: bool,
    /// When it was, for the application.
    delivered_at: Option<Time>,
    /// It came, and is before our time.
    passed_over: bool,
}

/// Recent batches of all sources.
#[derive(Debug, Default)]
pub(crate) struct Store {
    batches: BTreeMap<BatchId, Stored>,
    /// By arrival; what is evicted first.
    arrivals: VecDeque<BatchId>,
    bytes: usize,
    /// Bytes of batches that wait for order.
    pending: usize,
    /// Something that was delivered by then has been dropped.
    whole_after: Option<Time>,
}

impl Store {
    pub(crate) fn get(&self, id: &BatchId) -> Option<&Stored> {
        self.batches.get(id)
    }

    pub(crate) fn insert(&mut self, now: Time, batch: Batch) {
        let id = batch.header.id;
        let time_unix_ms = batch.time_unix_ms();
        let Batch { header, digest, bytes, messages, .. } = batch;
        self.bytes += bytes.len();
        self.pending += bytes.len();
        let stored = Stored {
            header,
            digest,
            bytes,
            count: u32::try_from(messages.len()).unwrap_or(u32::MAX),
            messages,
            time_unix_ms,
            received: now,
            delivered: false,
            delivered_at: None,
            passed_over: false,
        };
        self.batches.insert(id, stored);
        self.arrivals.push_back(id);
    }

    /// Takes a batch that comes beside the order, in the place of another of its number if there is one.
    pub(crate) fn replace(&mut self, now: Time, batch: Batch) {
        let id = batch.header.id;
        if let Some(other) = self.batches.remove(&id) {
            self.bytes -= other.bytes.len();
            self.pending -= if other.delivered { 0 } else { other.bytes.len() };
        }
        self.insert(now, batch);
        self.deliver(&id);
        self.on_delivered(now, &id);
    }

    /// Hands out the messages of a batch, once.
    pub(crate) fn deliver(&mut self, id: &BatchId) -> Option<(Vec<Option<Bytes>>, &Stored)> {
        let stored = self.batches.get_mut(id)?;
        if stored.delivered {
            return None;
        }
        stored.delivered = true;
        self.pending -= stored.bytes.len();
        let messages = std::mem::take(&mut stored.messages);
        Some((messages, stored))
    }

    /// Notes when a batch was delivered.
    pub(crate) fn on_delivered(&mut self, now: Time, id: &BatchId) {
        if let Some(stored) = self.batches.get_mut(id) {
            stored.delivered_at = Some(now);
        }
    }

    /// Drops what is too old or too much, oldest first; never what waits for order or what
    /// `pinned` keeps. Names what went.
    pub(crate) fn evict(
        &mut self,
        now: Time,
        config: &Config,
        pinned: impl Fn(&BatchId) -> bool,
    ) -> Vec<BatchId> {
        let mut gone = Vec::new();
        let mut kept = Vec::new();
        while let Some(id) = self.arrivals.front().copied() {
            let Some(stored) = self.batches.get(&id) else {
                self.arrivals.pop_front();
                continue;
            };
            let old = now.since(stored.received) > config.store_age;
            if !old && self.bytes <= config.store_bytes {
                break;
            }
            self.arrivals.pop_front();
            if !stored.delivered || pinned(&id) {
                kept.push(id);
                continue;
            }
            self.bytes -= stored.bytes.len();
            self.whole_after = self.whole_after.max(stored.delivered_at);
            self.batches.remove(&id);
            gone.push(id);
        }
        for id in kept.into_iter().rev() {
            self.arrivals.push_front(id);
        }
        gone
    }

    /// Forgets undelivered batches of a life that is closed or set aside.
    pub(crate) fn abandon(&mut self, from: BatchId, to: Seq) {
        self.drop_messages(from..BatchId { seq: to, ..from }, false);
    }

    /// These are before our time, and so they are for whoever comes in by us.
    pub(crate) fn pass_over(&mut self, range: std::ops::Range<BatchId>) {
        self.drop_messages(range, true);
    }

    fn drop_messages(&mut self, range: std::ops::Range<BatchId>, passed_over: bool) {
        for (_, stored) in self.batches.range_mut(range) {
            if !stored.delivered {
                (stored.delivered, stored.passed_over) = (true, passed_over);
                stored.messages = Vec::new();
                self.pending -= stored.bytes.len();
            }
        }
    }

    /// The first batch of this life that was delivered at `cutoff` or later, or waits.
    ///
    /// By delivery, not by arrival: what is delivered has its causes before it, so a newcomer
    /// that starts here lacks no cause of what it lacks. So nothing counts from before what was dropped
    /// last: an answer to it, between, may be gone.
    pub(crate) fn first_since(&self, (source, life): (NodeId, Life), cutoff: Time) -> Option<Seq> {
        let cutoff = self.whole_after.map_or(cutoff, |at| cutoff.max(at + Duration::from_micros(1)));
        let range = BatchId { source, life, seq: 0 }..=BatchId { source, life, seq: Seq::MAX };
        self.batches
            .range(range)
            .find(|(_, it)| !it.passed_over && it.delivered_at.is_none_or(|at| at >= cutoff))
            .map(|(id, _)| id.seq)
    }

    /// The lives that something is held of.
    pub(crate) fn lives(&self) -> Vec<(NodeId, Life)> {
        let (mut lives, mut next) = (Vec::new(), self.batches.keys().next().copied());
        while let Some(id) = next {
            lives.push((id.source, id.life));
            let after = (Bound::Excluded(BatchId { seq: Seq::MAX, ..id }), Bound::Unbounded);
            next = self.batches.range(after).next().map(|(id, _)| *id);
        }
        lives
    }

    /// The next batch of the same life that is held.
    pub(crate) fn next_after(&self, id: &BatchId) -> Option<Seq> {
        let range = *id..=BatchId { seq: Seq::MAX, ..*id };
        self.batches.range(range).next().map(|(id, _)| id.seq)
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending
    }
}
