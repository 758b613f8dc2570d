//! The history on its way to the store: what has been delivered since the last write, and how far this
//! node is in each group.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use treecast_overlay::io::{
    EarlierPlace, HistoryBatch, KeepEarlier, LifeRecord, OrderRecord, Past, Record, SourceRecord,
    order_source,
};
use treecast_overlay::{BatchId, Digest, GroupId, Life, NodeId, PastLife, Seq};

use super::holes::Holes;
use super::order::OrderPlace;
use crate::store::{Agreement, KeptBatch, Work};

/// What may wait to be written, bytes; more is not kept. A disk that writes 50 MB a second has a
/// second to catch up. Guess.
const MAX_WAITING: usize = 64 << 20;

/// With what is being written meanwhile.
pub(super) const MAX_HELD: usize = 2 * MAX_WAITING;

/// How far this node is in one group.
#[derive(Debug, Default)]
struct Place {
    entered: bool,
    sources: BTreeMap<NodeId, SourceRecord>,
    /// Of this node's own lives: below which others are known to have them.
    taken: BTreeMap<Life, Seq>,
    end: Option<PastLife>,
    /// How far what was said before its time is here, while it is gathered.
    earlier: Option<EarlierPlace>,
    /// Who was removed from it, by the founder's records.
    removals: BTreeMap<NodeId, Bytes>,
    /// As they were read.
    past_removals: Vec<Bytes>,
    causes: Option<Vec<BatchId>>,
    /// In a group that has a total order.
    order: Option<Box<OrderPlace>>,
    /// Delivered, and not kept.
    holes: Holes,
}

/// What is to be written, and what would be brought back.
#[derive(Debug)]
pub(super) struct Archive {
    me: NodeId,
    places: BTreeMap<GroupId, Place>,
    next_at: u64,
    waiting: Vec<Work>,
    waiting_bytes: usize,
    /// What is being written: it comes back if it cannot be.
    away_bytes: usize,
}

impl Archive {
    /// As the store has it; the ends of own lives stand elsewhere there.
    pub(super) fn new(me: NodeId, pasts: Vec<Past>, ends: &[PastLife], next_at: u64) -> Self {
        let mut places: BTreeMap<GroupId, Place> =
            pasts.into_iter().map(|it| (it.group, place(&me, it))).collect();
        for end in ends {
            places.entry(end.group).or_default().end = Some(*end);
        }
        Self { me, places, next_at, waiting: Vec::new(), waiting_bytes: 0, away_bytes: 0 }
    }

    /// All places in the history are below.
    pub(super) fn next_at(&self) -> u64 {
        self.next_at
    }

    /// All that waits or is being written.
    pub(super) fn held_bytes(&self) -> usize {
        self.waiting_bytes + self.away_bytes
    }

    /// The group has a total order.
    pub(super) fn has_order(&mut self, group: GroupId) {
        self.places.entry(group).or_default().order.get_or_insert_default();
    }

    pub(super) fn order(&self, group: GroupId) -> Option<&OrderPlace> {
        self.places.get(&group)?.order.as_deref()
    }

    fn order_mut(&mut self, group: GroupId) -> Option<&mut OrderPlace> {
        self.places.get_mut(&group)?.order.as_deref_mut()
    }

    /// A place in the history for a batch; in a total order it waits for its place in that, too.
    pub(super) fn keep(
        &mut self,
        group: GroupId,
        nick: Arc<str>,
        kept_ms: u64,
        mut batch: HistoryBatch,
    ) -> KeptBatch {
        let at = self.next_at;
        self.next_at += 1;
        let order = self.order_mut(group);
        let unsettled = order.is_some();
        if let Some(order) = order {
            order.wait(batch.id, batch.bytes.clone());
            if batch.id.source == order_source(&group) {
                // Nobody said it.
                (batch.messages, batch.payload) = (0, 0);
            }
        }
        KeptBatch { at, nick, kept_ms, unsettled, batch }
    }

    /// An own batch was not kept.
    pub(super) fn on_not_own(&mut self, group: GroupId, id: &BatchId) {
        if let Some(order) = self.order_mut(group) {
            order.remove(id);
        }
    }

    /// What this node has promised and accepted is on disk.
    pub(super) fn on_agreement(&mut self, agreement: &Agreement) {
        if let Some(order) = self.order_mut(agreement.group) {
            order.agree(agreement);
        }
    }

    /// Something was delivered. Where its batches stand; `None` if there is no room for them.
    pub(super) fn record(
        &mut self,
        record: Record,
        kept_ms: u64,
        nick_of: impl Fn(&NodeId) -> Arc<str>,
    ) -> Option<Vec<(BatchId, u64)>> {
        let Record { group, entered, batches, mut sources, causes, order } = record;
        let count = batches.len();
        let weight: usize = batches.iter().map(|it| it.bytes.len()).sum();
        // As much again while that is written; but what comes back, time and again, makes no room.
        let fits = self.waiting_bytes + weight <= MAX_WAITING && self.held_bytes() + weight <= MAX_HELD;
        let me = self.me;
        let place = self.places.entry(group).or_default();
        if let Some(kept) = &mut place.order {
            if !fits && !batches.is_empty() {
                kept.freeze();
            }
            if kept.is_frozen() {
                return None;
            }
        }
        // What is missing of our own past others tell us.
        for it in batches.iter().filter(|it| it.id.source != me) {
            if fits { place.holes.fill(&it.id) } else { place.holes.dig(&it.id) }
        }
        sources.iter_mut().filter(|it| it.source != me).for_each(|it| place.holes.hold_back(it));
        place.entered |= entered;
        place.causes.clone_from(&causes);
        for source in &sources {
            if source.source == self.me {
                place.taken.retain(|life, _| *life >= source.floor);
            }
            let mut now = source.clone();
            if let Some(before) = place.sources.get(&source.source) {
                now.add_closed(&before.closed);
            }
            place.sources.insert(source.source, now);
        }
        let batches = if fits { batches } else { Vec::new() };
        let batches: Vec<KeptBatch> =
            batches.into_iter().map(|it| self.keep(group, nick_of(&it.id.source), kept_ms, it)).collect();
        if let Some((kept, order)) = self.order_mut(group).zip(order.as_ref()) {
            kept.settle(order);
        }
        let places =
            batches.iter().filter(|it| it.batch.messages > 0).map(|it| (it.batch.id, it.at)).collect();
        self.push(Work::History { group, entered, batches, sources, causes, order });
        (fits || count == 0).then_some(places)
    }

    /// How many batches of a group were delivered in this run and are in no history.
    pub(super) fn dropped(&self, group: GroupId) -> u64 {
        self.places.get(&group).map_or(0, |it| it.holes.count())
    }

    fn push(&mut self, work: Work) {
        self.waiting_bytes += batches_weight(&work);
        // Many small ones of one group are one, however long they wait.
        match (self.waiting.iter_mut().find(|it| is_alike(it, &work)), work) {
            (
                Some(Work::History { entered, batches, sources, causes, order, .. }),
                Work::History {
                    entered: now,
                    batches: more,
                    sources: moved,
                    causes: heads,
                    order: places,
                    ..
                },
            ) => {
                *entered |= now;
                *causes = heads;
                batches.extend(more);
                self.waiting_bytes -= sources.len() * SOURCE_WEIGHT + order_weight(order.as_ref());
                add_order(order, places);
                for mut new in moved {
                    if let Some(at) = sources.iter().position(|it| it.source == new.source) {
                        new.add_closed(&sources.swap_remove(at).closed);
                    }
                    sources.push(new);
                }
                self.waiting_bytes += sources.len() * SOURCE_WEIGHT + order_weight(order.as_ref());
            }
            (Some(Work::Taken { next, .. }), Work::Taken { next: now, .. }) => *next = (*next).max(now),
            (_, work) => {
                self.waiting_bytes += weight(&work) - batches_weight(&work);
                self.waiting.push(work);
            }
        }
    }

    /// Others have this node's own batches below `next`.
    pub(super) fn on_taken(&mut self, group: GroupId, life: Life, next: Seq) {
        let taken = self.places.entry(group).or_default().taken.entry(life).or_default();
        if *taken < next {
            *taken = next;
            self.push(Work::Taken { group, source: self.me, life, next });
        }
    }

    /// A piece from before this node's time is on disk.
    pub(super) fn on_earlier(&mut self, keep: &KeepEarlier) {
        let place = self.places.entry(keep.group).or_default();
        place.earlier = (!keep.done).then_some(keep.place);
        // Who gathers that gets what there was no room for as well, as far back as it gets.
        keep.batches.iter().for_each(|it| place.holes.fill(&it.batch.id));
    }

    /// A member's removal is on disk.
    pub(super) fn on_removal(&mut self, group: GroupId, node: NodeId, record: &Bytes) {
        self.places.entry(group).or_default().removals.insert(node, record.clone());
    }

    /// An own batch is on disk.
    pub(super) fn on_own(&mut self, group: GroupId, id: BatchId, digest: Digest) {
        let end = PastLife { group, life: id.life, end: id.seq + 1, digest };
        let place = self.places.entry(group).or_default();
        place.end = Some(end);
        place.taken.entry(id.life).or_default();
        // The core records it as well, once it is delivered; it may end before.
        let own = place.sources.entry(self.me).or_insert_with(|| SourceRecord {
            source: self.me,
            floor: 0,
            lives: Vec::new(),
            closed: Vec::new(),
        });
        own.lives.retain(|it| it.life != id.life);
        let (next, head) = (id.seq + 1, Some(digest));
        own.lives.push(LifeRecord { life: id.life, next, head, end: None, above: Vec::new(), owed: None });
    }

    /// How far this node's last life in a group is on disk.
    pub(super) fn own_end(&self, group: GroupId) -> Option<PastLife> {
        self.places.get(&group)?.end
    }

    /// What waits, to be written; to be [given back](Self::on_answered).
    pub(super) fn take(&mut self) -> Vec<Work> {
        self.waiting_bytes = 0;
        let works = std::mem::take(&mut self.waiting);
        self.away_bytes += works.iter().map(weight).sum::<usize>();
        works
    }

    /// What was taken is written, or was not: then it is [put back](Self::put_back).
    pub(super) fn on_answered(&mut self, works: &[Work]) {
        self.away_bytes = self.away_bytes.saturating_sub(works.iter().map(weight).sum());
    }

    /// It was not written: it waits again, before what has come since.
    pub(super) fn put_back(&mut self, works: Vec<Work>) {
        let since = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        works.into_iter().chain(since).for_each(|work| self.push(work));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How this node left a group, if it was ever in it.
    pub(super) fn past(&self, group: GroupId) -> Option<Past> {
        let place = self.places.get(&group)?;
        let mut sources: Vec<SourceRecord> = place.sources.values().cloned().collect();
        if let Some(own) = sources.iter_mut().find(|it| it.source == self.me) {
            own.lives.sort_unstable_by_key(|it| it.life);
            let last = own.lives.last().map(|it| it.life);
            for life in &mut own.lives {
                let taken = place.taken.get(&life.life).copied().unwrap_or(0);
                life.owed = Some(taken).filter(|taken| *taken < life.next);
                life.end = if Some(life.life) == last { life.end } else { Some(life.next) };
            }
        }
        // Of two about one member the core takes the later.
        let removals = place.past_removals.iter().chain(place.removals.values()).cloned().collect();
        let Place { entered, end, earlier, .. } = *place;
        let causes = place.causes.clone();
        let order = place.order.as_ref().and_then(|it| it.past());
        Some(Past { group, entered, sources, end, earlier, removals, causes, order })
    }

    /// The group is left: only the number of the last life there is used further.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.places.remove(&group);
        self.waiting.retain(|work| !matches!(work, Work::History { group: it, .. } | Work::Taken { group: it, .. } if *it == group));
        self.waiting_bytes = self.waiting.iter().map(weight).sum();
    }
}

fn place(me: &NodeId, past: Past) -> Place {
    let own = past.sources.iter().find(|it| it.source == *me);
    let taken = own.into_iter().flat_map(|it| &it.lives);
    let taken = taken.map(|it| (it.life, it.owed.unwrap_or(it.next))).collect();
    let sources = past.sources.into_iter().map(|it| (it.source, it)).collect();
    let Past { group, entered, end, earlier, removals: past_removals, causes, order, .. } = past;
    let order = order.map(|it| Box::new(OrderPlace::new(&group, it)));
    let (removals, holes) = (BTreeMap::new(), Holes::default());
    Place { entered, sources, taken, end, earlier, removals, past_removals, causes, order, holes }
}

/// What a source's frontier takes while it waits, bytes, roughly.
const SOURCE_WEIGHT: usize = 128;

/// What a batch that got its place, or a source's mark, takes while it waits, bytes, roughly.
const SETTLED_WEIGHT: usize = 64;

fn order_weight(order: Option<&OrderRecord>) -> usize {
    order.map_or(0, |it| (it.settled.len() + it.marks.len()) * SETTLED_WEIGHT)
}

/// What comes later is how far the order is; all that got places have them, and all epochs that ended have.
fn add_order(order: &mut Option<OrderRecord>, later: Option<OrderRecord>) {
    let Some(mut later) = later else { return };
    if let Some(earlier) = order.take() {
        let moved = |it: &(NodeId, Life, Seq)| later.marks.iter().any(|mark| mark.0 == it.0);
        let still: Vec<_> = earlier.marks.into_iter().filter(|it| !moved(it)).collect();
        later.marks.extend(still);
        later.settled.splice(..0, earlier.settled);
        later.ended.splice(..0, earlier.ended);
    }
    *order = Some(later);
}

fn weight(work: &Work) -> usize {
    let rest = match work {
        Work::History { sources, order, .. } => sources.len() * SOURCE_WEIGHT + order_weight(order.as_ref()),
        _ => 64,
    };
    rest + batches_weight(work)
}

fn batches_weight(work: &Work) -> usize {
    match work {
        Work::History { batches, .. } => batches.iter().map(KeptBatch::weight).sum(),
        _ => 0,
    }
}

/// Whether they can be one.
fn is_alike(one: &Work, two: &Work) -> bool {
    match (one, two) {
        (Work::History { group, .. }, Work::History { group: other, .. }) => group == other,
        (Work::Taken { group, life, .. }, Work::Taken { group: other, life: its, .. }) => {
            (group, life) == (other, its)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn group() -> GroupId {
        GroupId::from_bytes([1; 32])
    }

    fn archive() -> Archive {
        Archive::new(node(1), Vec::new(), &[], 5)
    }

    fn record(source: NodeId, seqs: std::ops::Range<u64>, size: usize) -> Record {
        let batch = |seq| HistoryBatch {
            id: BatchId { source, life: 7, seq },
            bytes: vec![0; size].into(),
            digest: Digest::from_bytes([seq as u8; 20]),
            messages: 1,
            payload: size as u64,
        };
        let life =
            LifeRecord { life: 7, next: seqs.end, head: None, end: None, above: Vec::new(), owed: None };
        let sources = vec![SourceRecord { source, floor: 0, lives: vec![life], closed: Vec::new() }];
        let batches = seqs.map(batch).collect();
        Record { group: group(), entered: true, batches, sources, causes: Some(Vec::new()), order: None }
    }

    #[test]
    fn what_was_not_written_comes_first_when_it_is_tried_again() {
        let mut archive = archive();
        let nick = |_: &NodeId| Arc::from("ada");
        archive.record(record(node(2), 0..2, 10), 1, nick).expect("there is room");
        let failed = archive.take();
        assert!(archive.is_empty() && archive.held_bytes() > 0);
        let places = archive.record(record(node(2), 2..3, 10), 1, nick).expect("there is room");
        assert_eq!(places.iter().map(|it| it.1).collect::<Vec<_>>(), [7]);
        archive.on_answered(&failed);
        archive.put_back(failed);
        let all: Vec<u64> = archive.take().iter().flat_map(places_of).collect();
        assert_eq!(all, [5, 6, 7]);
    }

    fn places_of(work: &Work) -> Vec<u64> {
        match work {
            Work::History { batches, .. } => batches.iter().map(|it| it.at).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn the_frontier_is_not_recorded_beyond_what_there_was_no_room_for() {
        let mut archive = archive();
        let nick = |_: &NodeId| Arc::from("");
        assert!(archive.record(record(node(2), 0..1, MAX_WAITING - 1_000), 1, nick).is_some());
        assert!(archive.record(record(node(2), 1..2, 2_000), 1, nick).is_none());
        assert!(archive.record(record(node(2), 2..2, 0), 1, nick).is_some());
        let works = archive.take();
        archive.on_answered(&works);
        assert!(archive.record(record(node(2), 2..3, 10), 1, nick).is_some(), "there is room again");
        let past = archive.past(group()).expect("it was there");
        let life = &past.sources[0].lives[0];
        assert_eq!((past.entered, life.next, &life.above[..]), (true, 1, &[(2, 3)][..]));
        let [Work::History { sources, .. }] = &archive.take()[..] else { panic!("one work") };
        assert_eq!(sources[0].lives[0].next, 1);
        assert_eq!(archive.dropped(group()), 1);
    }

    #[test]
    fn what_is_tried_again_makes_no_room() {
        let mut archive = archive();
        let nick = |_: &NodeId| Arc::from("");
        for seq in 0..10 {
            let works = archive.take();
            archive.record(record(node(2), seq..seq + 1, MAX_WAITING - 3_000), 1, nick);
            archive.on_answered(&works);
            archive.put_back(works);
        }
        assert!((MAX_WAITING..MAX_HELD).contains(&archive.held_bytes()), "{}", archive.held_bytes());
        let works = archive.take();
        archive.on_answered(&works);
        assert_eq!(archive.held_bytes(), 0);
    }

    #[test]
    fn frontiers_of_groups_that_take_turns_do_not_pile_up_while_the_disk_fails() {
        let mut archive = archive();
        let nick = |_: &NodeId| Arc::from("");
        for turn in 0..100 {
            for key in 1..=3 {
                let group = GroupId::from_bytes([key; 32]);
                let moved = Record { group, ..record(node(2), turn..turn, 0) };
                archive.record(moved, 1, nick).expect("there is room");
                archive.on_taken(group, 7, turn + 1);
            }
            let failed = archive.take();
            archive.on_answered(&failed);
            archive.put_back(failed);
        }
        assert_eq!(archive.held_bytes(), 3 * (SOURCE_WEIGHT + 64));
        let works = archive.take();
        let taken = |it: &&Work| matches!(it, Work::Taken { next: 100, .. });
        assert_eq!((works.len(), works.iter().filter(taken).count()), (6, 3));
    }

    #[test]
    fn own_lives_are_owed_until_somebody_has_them() {
        let mut archive = archive();
        for (life, seq) in [(3, 0), (3, 1), (9, 0)] {
            archive.on_own(
                group(),
                BatchId { source: node(1), life, seq },
                Digest::from_bytes([life as u8; 20]),
            );
        }
        archive.on_taken(group(), 3, 1);
        let owed = |archive: &Archive| -> Vec<_> {
            let past = archive.past(group()).expect("there");
            past.sources[0].lives.iter().map(|it| (it.life, it.owed, it.end)).collect()
        };
        assert_eq!(owed(&archive), [(3, Some(1), Some(2)), (9, Some(0), None)]);
        archive.on_taken(group(), 3, 2);
        archive.on_taken(group(), 9, 1);
        assert_eq!(owed(&archive), [(3, None, Some(2)), (9, None, None)]);
        assert_eq!(archive.past(group()).and_then(|it| it.end).map(|it| (it.life, it.end)), Some((9, 1)));
        assert_eq!(archive.take().len(), 2, "one for each life");
    }
}
