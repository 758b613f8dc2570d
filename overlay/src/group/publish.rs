//! Our own batches: gathered, signed, made durable, sent.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::config::Config;
use crate::id::{BatchId, Digest, GroupId, Life, PublishId, Seq, Token};
use crate::identity::Identity;
use crate::mutants::{self, Mutant};
use crate::time::Time;
use crate::wire::MAX_FRAME;
use crate::wire::batch::{Batch, Header, LifeEnd, MAX_DEPENDENCIES, MAX_MESSAGES, Opening};

/// How far ahead of our clock a life may be, milliseconds: a day. Clocks differ by less, and
/// numbers that peers send must not use up all that are left.
pub(crate) const MAX_AHEAD_MS: u64 = 24 * 60 * 60 * 1_000;

/// What a frame has besides messages and causes, bytes; what a short message and what a cause takes in it,
/// beside its payload, at most (`docs/wire.md`, §5).
const HEADER_BYTES: usize = 512;
const MESSAGE_HEADER: usize = 3;
const DEPENDENCY_BYTES: usize = 54;

/// Full batches that one write takes at most, where there is a history: a disk that is slow to say that it has
/// something takes much at once. Together they are half of what a link may hold. Guess.
pub(crate) const TOGETHER: usize = 8;

/// Batches that wait for their disk: all of them are on it, or none.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) token: Token,
    pub(crate) batches: Vec<(Batch, Vec<PublishId>)>,
}

impl Unwritten {
    fn publications(self) -> impl Iterator<Item = PublishId> {
        self.batches.into_iter().flat_map(|(_, publications)| publications)
    }
}

/// This node as a source.
#[derive(Debug)]
pub(crate) struct Publisher {
    queue: VecDeque<(PublishId, Bytes)>,
    queued: usize,
    /// When the oldest in the queue came.
    since: Time,
    life: Option<Life>,
    next: Seq,
    previous: Digest,
    /// Where our life before this one ended: as our own store says, or as neighbours told
    /// (then without a digest).
    last_life: Option<LifeEnd>,
    /// At most one write is under way; the next batch gathers meanwhile.
    pub(crate) unwritten: Option<Unwritten>,
}

/// What a new batch is made with.
pub(crate) struct Making<'a> {
    pub(crate) group: &'a GroupId,
    pub(crate) identity: &'a Identity,
    pub(crate) unix_ms: u64,
    pub(crate) last_life: Life,
    pub(crate) nonce: u64,
}

impl Publisher {
    pub(crate) fn new(last_life: Option<LifeEnd>) -> Self {
        Self {
            queue: VecDeque::new(),
            queued: 0,
            since: Time::ZERO,
            life: None,
            next: 0,
            previous: Digest::ZERO,
            last_life,
            unwritten: None,
        }
    }

    /// Takes a message; the caller has checked that there is room.
    pub(crate) fn push(&mut self, now: Time, id: PublishId, payload: Bytes) {
        if self.queue.is_empty() {
            self.since = now;
        }
        self.queued += payload.len();
        self.queue.push_back((id, payload));
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.unwritten.is_none()
    }

    pub(crate) fn life(&self) -> Option<Life> {
        self.life
    }

    /// The seq of the next batch.
    pub(crate) fn next(&self) -> Seq {
        self.next
    }

    /// A neighbour knows of an earlier life of ours. One from the far future it made up.
    pub(crate) fn on_last_life(&mut self, unix_ms: u64, life: Life, end: Seq) {
        if life > unix_ms.saturating_add(MAX_AHEAD_MS) {
            return;
        }
        let known = self.last_life.map(|known| (known.life, known.end));
        let own = self.last_life.is_some_and(|known| known.life == life && known.digest != Digest::ZERO);
        if !own && self.life.is_none_or(|current| current != life) && known < Some((life, end)) {
            self.last_life = Some(LifeEnd { life, end, digest: Digest::ZERO });
        }
    }

    /// An earlier life of ours turns out to be longer than our own store says: it was restored from a
    /// copy, and others had the rest.
    pub(crate) fn on_longer_past(&mut self, past: LifeEnd) {
        let longer = |known: &LifeEnd| known.life == past.life && known.end < past.end;
        if self.last_life.as_ref().is_some_and(longer) {
            self.last_life = Some(past);
        }
    }

    /// Whether a batch is full, or has gathered for long enough.
    pub(crate) fn is_ripe(&self, now: Time, config: &Config) -> bool {
        self.is_full(config) || now.since(self.since) >= config.batch_age
    }

    /// Whether what waits is a full batch.
    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.queued >= config.batch_bytes
    }

    /// When what gathers is ripe.
    pub(crate) fn ripe_at(&self, config: &Config) -> Time {
        self.since + config.batch_age
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.queue.is_empty() && self.unwritten.is_none()
    }

    /// How many causes the next batch can name: a frame has to hold them and its messages.
    pub(crate) fn most_dependencies(&self, config: &Config) -> usize {
        let first = self.queue.front().map_or(0, |(_, payload)| payload.len());
        // One that is larger than a batch goes alone.
        let is_alone = first >= config.batch_bytes;
        let messages = if is_alone { first } else { config.batch_bytes + MAX_MESSAGES * MESSAGE_HEADER };
        let room = MAX_FRAME.saturating_sub(messages + HEADER_BYTES);
        (room / DEPENDENCY_BYTES).min(MAX_DEPENDENCIES)
    }

    /// Makes the next batch of what waits: consecutive messages up to the batch size.
    pub(crate) fn make(
        &mut self,
        now: Time,
        dependencies: Vec<BatchId>,
        making: &Making<'_>,
        config: &Config,
    ) -> (Batch, Vec<PublishId>) {
        let (mut messages, mut publications, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((_, payload)) = self.queue.front() {
            let fits = bytes + payload.len() <= config.batch_bytes && messages.len() < MAX_MESSAGES;
            if !fits && !messages.is_empty() {
                break;
            }
            let (id, payload) = self.queue.pop_front().expect("looked at above");
            bytes += payload.len();
            publications.push(id);
            messages.push(payload);
        }
        self.queued -= bytes;
        self.since = now;
        let header = self.header(dependencies, making);
        let batch = Batch::sign(making.group, header, &messages, making.identity);
        self.next += 1;
        self.previous = batch.digest;
        (batch, publications)
    }

    fn header(&mut self, dependencies: Vec<BatchId>, making: &Making<'_>) -> Header {
        let last = self.last_life.map_or(0, |it| it.life);
        let life = *self.life.get_or_insert_with(|| {
            if mutants::is_on(Mutant::ReuseLife) && last > 0 {
                return last;
            }
            making.unix_ms.max(making.last_life.saturating_add(1)).max(last.saturating_add(1))
        });
        let opening = (self.next == 0).then_some(Opening { nonce: making.nonce, previous: self.last_life });
        Header {
            id: BatchId { source: making.identity.node(), life, seq: self.next },
            previous: self.previous,
            time_after_life_ms: making.unix_ms as i64 - life as i64,
            dependencies,
            opening,
        }
    }

    /// The write failed: its batches were never sent, and the life ends before them.
    pub(crate) fn on_write_failed(&mut self) -> Vec<PublishId> {
        let Some(unwritten) = self.unwritten.take() else { return Vec::new() };
        let first = unwritten.batches.first().map(|(batch, _)| &batch.header);
        if let Some(first) = first.filter(|it| it.id.seq > 0) {
            self.last_life = Some(LifeEnd { life: first.id.life, end: first.id.seq, digest: first.previous });
        }
        (self.life, self.next, self.previous) = (None, 0, Digest::ZERO);
        unwritten.publications().collect()
    }

    /// Everything that waits is refused.
    pub(crate) fn drain(&mut self) -> Vec<PublishId> {
        self.queued = 0;
        let unwritten = self.unwritten.take().into_iter().flat_map(Unwritten::publications);
        unwritten.chain(self.queue.drain(..).map(|(id, _)| id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    /// However many causes there are, and however large the message, it fits a frame.
    #[test]
    fn a_batch_with_all_its_causes_fits_a_frame() {
        let (config, identity) = (Config::default(), Identity::new(&[1; 32]));
        let group = GroupId::from_bytes([7; 32]);
        let making = Making {
            group: &group,
            identity: &identity,
            unix_ms: u64::MAX >> 1,
            last_life: 0,
            nonce: u64::MAX,
        };
        for (len, count) in
            [(config.max_message, 1), (config.batch_bytes - 1, 1), (1, MAX_MESSAGES), (0, 70_000)]
        {
            let mut publisher = Publisher::new(None);
            for _ in 0..count {
                publisher.push(Time::ZERO, PublishId(0), Bytes::from(vec![7; len]));
            }
            let most = publisher.most_dependencies(&config);
            assert!(most >= 1_000, "{most} beside messages of {len} bytes");
            let cause = |n: usize| BatchId {
                source: NodeId::from_bytes([(n % 256) as u8; 32]),
                life: u64::MAX - 1,
                seq: u64::MAX - 1,
            };
            let (batch, _) = publisher.make(Time::ZERO, (0..most).map(cause).collect(), &making, &config);
            assert!(batch.bytes.len() + 16 <= MAX_FRAME, "{} bytes", batch.bytes.len());
            Batch::parse(&group, batch.bytes).expect("it is read by others");
        }
    }
}
