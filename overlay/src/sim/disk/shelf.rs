//! What a disk has: lives, frontiers, batches. As the tables of the ready node's store.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Work;
use crate::engine::PastLife;
use crate::id::{BatchId, Digest, GroupId, Life, NodeId, Seq};
use crate::io::{
    AgreementPast, EarlierPlace, Fetch, FetchEarlier, HistoryBatch, KeepEarlier, LifeRecord, OrderPast,
    OrderRecord, Past, Record, SourceRecord, Write,
};

/// An answer: batches in order, and the lowest of the life that is kept.
pub(in crate::sim) type Found = (Vec<(Seq, Bytes)>, Option<Seq>);

/// A piece of a history: batches, latest first, each as old as zero since that decides about nothing here;
/// the place of the last; whether that is all.
pub(in crate::sim) type Piece = (Vec<(u64, Bytes)>, Option<i64>, bool);

/// All of it.
#[derive(Debug, Default, Clone)]
pub(super) struct Shelf {
    /// The highest life that was used in any group.
    pub(super) last_life: Life,
    /// Where each group's last life ends.
    pub(super) ends: BTreeMap<GroupId, PastLife>,
    rooms: BTreeMap<GroupId, Room>,
}

/// A group.
#[derive(Debug, Default, Clone)]
struct Room {
    entered: bool,
    floors: BTreeMap<NodeId, Life>,
    chains: BTreeMap<(NodeId, Life), Chain>,
    /// Batches in the order of their delivery: places from zero on.
    order: Vec<BatchId>,
    removals: BTreeMap<NodeId, Bytes>,
    causes: Option<Vec<BatchId>>,
    /// What was said before the node's time, latest first: places from minus one down.
    earlier: Vec<(BatchId, Bytes)>,
    /// How far that is, unless it is all.
    gathered: Option<EarlierPlace>,
    /// How far a total order is: epoch, committee, index.
    place: Option<u64>,
    /// The records that ended epochs.
    ended: Vec<Bytes>,
    marks: BTreeMap<NodeId, (Life, Seq)>,
    /// What waits for no place any more, and its place if it has one.
    settled: BTreeMap<BatchId, Option<u64>>,
    agreement: Option<AgreementPast>,
}

/// One life of a source.
#[derive(Debug, Default, Clone)]
struct Chain {
    next: Seq,
    head: Option<Digest>,
    end: Option<Seq>,
    taken: Seq,
    batches: BTreeMap<Seq, Bytes>,
}

impl Shelf {
    pub(super) fn apply(&mut self, works: &[Work]) {
        for work in works {
            match work {
                Work::Own(Write::Life { group, life }) => self.begin_life(*group, *life),
                Work::Own(Write::Batch { group, id, bytes, digest, .. }) => {
                    self.own(*group, *id, bytes, *digest);
                }
                Work::Own(Write::Earlier(keep)) => self.rooms.entry(keep.group).or_default().gather(keep),
                Work::Own(Write::Removal { group, node, record }) => {
                    self.rooms.entry(*group).or_default().removals.insert(*node, record.clone());
                }
                Work::Own(Write::Agreement { group, epoch, vows, from, entries, compacted }) => {
                    let room = self.rooms.entry(*group).or_default();
                    let it = room.agreement.get_or_insert_with(|| AgreementPast::new(*epoch));
                    if it.epoch != *epoch {
                        *it = AgreementPast::new(*epoch);
                    }
                    it.write(vows.clone(), *from, entries, *compacted);
                }
                Work::Delivered(record) => self.delivered(record),
                Work::Taken { group, batch } => {
                    let room = self.rooms.get_mut(group);
                    let chain = room.and_then(|it| it.chains.get_mut(&(batch.source, batch.life)));
                    if let Some(chain) = chain {
                        chain.taken = chain.taken.max(batch.seq + 1);
                    }
                }
                Work::Forget(group) => {
                    self.rooms.remove(group);
                }
            }
        }
    }

    /// Where there is no history, an own batch leaves nothing but where its life ends.
    pub(super) fn apply_ends(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Life { group, life } => self.begin_life(*group, *life),
                Write::Batch { group, id, digest, .. } => self.end_life(*group, *id, *digest),
                Write::Earlier(_) | Write::Removal { .. } | Write::Agreement { .. } => {}
            }
        }
    }

    fn begin_life(&mut self, group: GroupId, life: Life) {
        self.last_life = self.last_life.max(life);
        if self.ends.get(&group).is_some_and(|it| it.life < life) {
            self.ends.remove(&group);
        }
    }

    fn end_life(&mut self, group: GroupId, id: BatchId, digest: Digest) {
        self.last_life = self.last_life.max(id.life);
        self.ends.insert(group, PastLife { group, life: id.life, end: id.seq + 1, digest });
    }

    fn own(&mut self, group: GroupId, id: BatchId, bytes: &Bytes, digest: Digest) {
        self.end_life(group, id, digest);
        let room = self.rooms.entry(group).or_default();
        room.insert(id, bytes);
        let chain = room.chains.entry((id.source, id.life)).or_default();
        if chain.next <= id.seq {
            (chain.next, chain.head) = (id.seq + 1, Some(digest));
        }
    }

    fn delivered(&mut self, record: &Record) {
        let room = self.rooms.entry(record.group).or_default();
        room.entered |= record.entered;
        room.causes.clone_from(&record.causes);
        for HistoryBatch { id, bytes, .. } in &record.batches {
            room.insert(*id, bytes);
        }
        for source in &record.sources {
            room.on_source(source);
        }
        if let Some(order) = &record.order {
            room.on_order(order);
        }
    }

    pub(super) fn past(&self, group: GroupId, me: &NodeId) -> Option<Past> {
        let room = self.rooms.get(&group)?;
        let sources = room.sources(me);
        Some(Past {
            group,
            entered: room.entered,
            sources,
            end: self.ends.get(&group).copied(),
            earlier: room.gathered,
            removals: room.removals.values().cloned().collect(),
            causes: room.causes.clone(),
            order: room.order_past(),
        })
    }

    pub(super) fn fetch(&self, fetch: &Fetch) -> Found {
        let Fetch { group, source, life, ranges, .. } = fetch;
        let chain = self.rooms.get(group).and_then(|it| it.chains.get(&(*source, *life)));
        let Some(chain) = chain else { return (Vec::new(), None) };
        let (mut found, mut bytes) = (Vec::new(), 0);
        let first = chain.batches.keys().next().copied();
        for (seq, body) in ranges.iter().flat_map(|(from, to)| chain.batches.range(*from..*to)) {
            if found.len() as u64 >= fetch.batches || bytes >= fetch.bytes {
                break;
            }
            bytes += body.len();
            found.push((*seq, body.clone()));
        }
        (found, first)
    }

    /// What stands before a place, latest first.
    pub(super) fn piece(&self, fetch: &FetchEarlier) -> Piece {
        let Some(room) = self.rooms.get(&fetch.group) else { return (Vec::new(), None, true) };
        let before = fetch.before.unwrap_or(i64::MAX);
        let delivered = (0..room.order.len() as i64).rev().zip(room.order.iter().rev());
        let delivered = delivered.map(|(at, id)| (at, room.bytes(id)));
        let earlier = (1..).zip(&room.earlier).map(|(below, (_, bytes))| (-below, bytes.clone()));
        let (mut batches, mut last, mut size) = (Vec::new(), None, 0);
        for (at, bytes) in delivered.chain(earlier).filter(|(at, _)| *at < before) {
            size += bytes.len();
            let fits = size <= fetch.bytes && (batches.len() as u64) < fetch.batches;
            if !fits && !batches.is_empty() {
                return (batches, last, false);
            }
            batches.push((0, bytes));
            last = Some(at);
        }
        (batches, last, true)
    }

    /// What was said before the node's time, latest last.
    pub(super) fn earlier(&self, group: GroupId) -> Vec<Bytes> {
        let earlier = self.rooms.get(&group).into_iter().flat_map(|it| it.earlier.iter().rev());
        earlier.map(|(_, bytes)| bytes.clone()).collect()
    }

    /// What of a total order is here: the next place, batches by the places of their first messages, the records
    /// that ended epochs.
    pub(super) fn order(&self, group: GroupId) -> Option<(u64, BTreeMap<u64, Bytes>, Vec<Bytes>)> {
        let room = self.rooms.get(&group)?;
        let places = room.settled.iter().filter_map(|(id, index)| Some(((*index)?, room.bytes(id))));
        Some((room.place?, places.collect(), room.ended.clone()))
    }

    pub(super) fn has(&self, group: GroupId, batch: &BatchId) -> bool {
        self.rooms.get(&group).is_some_and(|it| it.has(batch))
    }

    pub(super) fn history(&self, group: GroupId) -> Vec<Bytes> {
        let Some(room) = self.rooms.get(&group) else { return Vec::new() };
        room.order.iter().map(|id| room.bytes(id)).collect()
    }
}

impl Room {
    fn bytes(&self, id: &BatchId) -> Bytes {
        self.chains[&(id.source, id.life)].batches[&id.seq].clone()
    }

    fn has(&self, id: &BatchId) -> bool {
        let chain = self.chains.get(&(id.source, id.life));
        chain.is_some_and(|it| it.batches.contains_key(&id.seq)) || self.earlier.iter().any(|it| it.0 == *id)
    }

    /// What is there already keeps its place.
    fn gather(&mut self, keep: &KeepEarlier) {
        for it in &keep.batches {
            if !self.has(&it.batch.id) {
                self.earlier.push((it.batch.id, it.batch.bytes.clone()));
            }
        }
        self.gathered = (!keep.done).then_some(keep.place);
    }

    /// A batch that came once more keeps its place.
    fn insert(&mut self, id: BatchId, bytes: &Bytes) {
        let chain = self.chains.entry((id.source, id.life)).or_default();
        if chain.batches.insert(id.seq, bytes.clone()).is_none() {
            // It was said before the node's time, and an order names it all the same.
            self.earlier.retain(|it| it.0 != id);
            self.order.push(id);
        }
    }

    fn on_source(&mut self, record: &SourceRecord) {
        let floor = self.floors.entry(record.source).or_default();
        *floor = (*floor).max(record.floor);
        for (life, end) in &record.closed {
            let chain = self.chains.entry((record.source, *life)).or_default();
            chain.next = chain.next.max(*end);
        }
        for life in &record.lives {
            let chain = self.chains.entry((record.source, life.life)).or_default();
            if chain.next <= life.next {
                (chain.next, chain.head, chain.end) = (life.next, life.head, life.end);
            }
        }
    }

    fn sources(&self, me: &NodeId) -> Vec<SourceRecord> {
        let mut sources: BTreeMap<NodeId, SourceRecord> = BTreeMap::new();
        let new = |source, floor| SourceRecord { source, floor, lives: Vec::new(), closed: Vec::new() };
        for (source, floor) in &self.floors {
            sources.insert(*source, new(*source, *floor));
        }
        for ((source, life), chain) in &self.chains {
            let floor = self.floors.get(source).copied().unwrap_or(0);
            let record = sources.entry(*source).or_insert_with(|| new(*source, floor));
            if (chain.next > 0 || chain.end.is_some()) && *life >= floor {
                record.lives.push(chain.record(*life, source == me));
            } else if *life < floor && chain.next > 0 {
                record.closed.push((*life, chain.next));
            }
        }
        // What is on disk of an own life is all that there is of it.
        let own = sources.get_mut(me).and_then(|it| it.lives.split_last_mut());
        for life in own.into_iter().flat_map(|(_, earlier)| earlier) {
            life.end = Some(life.next);
        }
        sources.into_values().collect()
    }
}

impl Room {
    fn on_order(&mut self, order: &OrderRecord) {
        self.place = Some(order.index);
        self.ended.extend(order.ended.iter().cloned());
        let marks = order.marks.iter().map(|&(source, life, next)| (source, (life, next)));
        self.marks.extend(marks);
        self.settled.extend(order.settled.iter().copied());
    }

    fn order_past(&self) -> Option<OrderPast> {
        let marks = self.marks.iter().map(|(source, (life, next))| (*source, *life, *next)).collect();
        let unsettled = self.order.iter().filter(|it| !self.settled.contains_key(it));
        let unsettled: Vec<_> = unsettled.map(|it| self.bytes(it)).collect();
        (self.place.is_some() || !unsettled.is_empty()).then_some(OrderPast {
            founded: self.place.is_some(),
            ended: self.ended.clone(),
            index: self.place.unwrap_or(0),
            marks,
            unsettled,
            agreement: self.agreement.clone(),
        })
    }
}

impl Chain {
    fn record(&self, life: Life, own: bool) -> LifeRecord {
        let Self { next, head, end, taken, .. } = *self;
        let owed = Some(taken).filter(|taken| own && *taken < next);
        let above = if own { Vec::new() } else { self.above() };
        LifeRecord { life, next, head, end, above, owed }
    }

    /// What was delivered above `next`, where no order is kept.
    fn above(&self) -> Vec<(Seq, Seq)> {
        let mut above: Vec<(Seq, Seq)> = Vec::new();
        for seq in self.batches.range(self.next + 1..).map(|(seq, _)| *seq) {
            match above.last_mut().filter(|last| last.1 == seq) {
                Some(last) => last.1 = seq + 1,
                None => above.push((seq, seq + 1)),
            }
        }
        above
    }
}
