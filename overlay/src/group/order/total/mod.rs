//! Total order (`DESIGN.md` §5): a committee agrees on cuts, everybody expands them to the same sequence.
//!
//! Rooms that know nothing of each other: [`cut`] what is agreed on, [`ledger`] from causal deliveries and cuts
//! to one sequence, [`consensus`] the seam to agreement, with [`solo`] and [`paxos`] behind it,
//! [`delegate`] this node's part in a committee. [`Total`] holds them for a group.

mod consensus;
mod cut;
mod delegate;
mod ledger;
mod lineage;
mod mirror;
mod paxos;
pub(crate) mod seats;
mod solo;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::id::{BatchId, Digest, GroupId, NodeId, Seq};
use crate::identity::{BadSignature, Signatures};
use crate::io::{OrderPast, Stall};
use crate::time::Time;
use crate::wire::batch::{Batch, LifeEnd};
use crate::wire::cbor;
use crate::wire::order::{Entry, order_source};

pub(crate) use consensus::{Saved, Saving, Vows};
pub(crate) use cut::{Cut, MAX_PARTS, Part, Vector};
pub(crate) use delegate::{Delegate, Spoken};
pub(crate) use ledger::{Lack, Ledger, Settled, Tentative};
pub(crate) use lineage::Lineage;

/// Whoever does not lead makes a record of what was decided itself if that does not come for so long: the leader
/// is gone. Guess: longer than a record takes through a tree.
const RECORD_WAITS: Duration = Duration::from_millis(300);

/// The end of an epoch.
#[derive(Debug)]
struct Ending {
    record: BatchId,
    /// The whole record.
    bytes: Bytes,
    /// The next committee.
    roster: Vec<NodeId>,
}

/// What a leader has proposed, decided or not.
#[derive(Debug)]
pub(crate) struct Proposed {
    /// By this node, in this term of its.
    pub(crate) term: u64,
    pub(crate) vector: Vector,
    /// Messages that have a place by that.
    pub(crate) index: u64,
    /// The end of the epoch is among it, and the last of it.
    pub(crate) stops: bool,
}

/// The total order of one group, as one member sees it.
#[derive(Debug)]
pub(crate) struct Total {
    source: NodeId,
    pub(crate) ledger: Ledger,
    /// The committees.
    lineage: Lineage,
    /// The founder was in this group before, and has left it since: there was an order, whatever its disk says.
    pub(crate) was_left: bool,
    /// So many of the records that ended epochs are kept for the next start.
    kept: usize,
    pub(crate) delegate: Option<Delegate>,
    /// What this node is asked to accept, and does not have.
    pub(crate) lacks: Vec<Lack>,
    /// Decided here, by the place in the log; not known as records yet.
    decided: BTreeMap<u64, Bytes>,
    /// The last epoch is over, by this record: the next committee, once all cuts before that are expanded.
    ending: Option<Ending>,
    /// Where the epoch before the last ended, if that is known here: what the last one's first record names.
    pub(crate) ended: Option<LifeEnd>,
    /// The record that ended it: it is kept until the last one's first record is here.
    closing: Option<BatchId>,
    /// What this node had promised and accepted when it stopped, and in which epoch.
    saved: Option<(u64, Saved)>,
    /// Records that are done with and are to be told as such.
    done: Vec<BatchId>,
    /// When the first of these is to be made a record by whoever does not lead.
    records_at: Option<Time>,
    pub(crate) proposed: Option<Proposed>,
    /// The entry that ends the epoch is decided, at this place: nothing counts after it.
    last: Option<u64>,
    /// Members of the committee that did not say that they serve when that was looked at last.
    pub(crate) lapsed: BTreeSet<NodeId>,
    /// When this node told others where it is.
    pub(crate) place_told: Time,
    /// When the last epoch began here.
    pub(crate) seated: Time,
    /// When to look for a better committee.
    pub(crate) next_look: Time,
    /// Since when batches wait, or when one last got its place.
    pub(crate) moved: Time,
    /// It was told that they wait, and why.
    pub(crate) stalled: Option<Stall>,
    /// Entries below are not in the committee's log any more.
    pub(crate) compacted_at: u64,
    pub(crate) next_cut: Time,
    /// The records that would take this node further are not kept any more.
    pub(crate) overtaken: Option<Overtaken>,
    /// When it last had its turn.
    pub(crate) polled: Time,
    pub(crate) next_tick: Time,
}

/// Whom to ask where the order stands.
#[derive(Debug)]
pub(crate) struct Overtaken {
    pub(crate) asked: Option<NodeId>,
    pub(crate) next: Time,
    pub(crate) turn: usize,
}

impl Total {
    /// Its first message has the index `begins`.
    pub(crate) fn new(group: &GroupId, founder: NodeId, begins: u64, now: Time) -> Self {
        let mut ledger = Ledger::default();
        ledger.start_at(begins, []);
        Self {
            source: order_source(group),
            ledger,
            lacks: Vec::new(),
            lineage: Lineage::new(founder),
            was_left: false,
            kept: 0,
            delegate: None,
            decided: BTreeMap::new(),
            ending: None,
            ended: None,
            closing: None,
            saved: None,
            done: Vec::new(),
            records_at: None,
            proposed: None,
            last: None,
            lapsed: BTreeSet::new(),
            place_told: now,
            seated: now,
            next_look: now,
            moved: now,
            stalled: None,
            compacted_at: 0,
            next_cut: now,
            overtaken: None,
            polled: now,
            next_tick: now,
        }
    }

    /// Whose batches the records are.
    pub(crate) fn source(&self) -> NodeId {
        self.source
    }

    /// The last epoch that is known here, and its committee.
    pub(crate) fn epoch(&self) -> Option<(u64, &[NodeId])> {
        let epoch = self.lineage.epoch();
        self.lineage.roster(epoch).map(|roster| (epoch, roster))
    }

    /// How this epoch came about, for those who cannot know.
    pub(crate) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// This node has a seat in the last epoch, and does not know what it promised there. Which epoch that is.
    pub(crate) fn on_forgotten(&mut self, me: &NodeId) -> Option<u64> {
        let (epoch, _) = self.epoch().filter(|(_, roster)| roster.contains(me))?;
        let vows = Vows { forgot: true, ..Vows::default() };
        self.saved = Some((epoch, Saved { vows, ..Saved::default() }));
        if let Some(delegate) = self.delegate.as_mut().filter(|it| it.epoch() == epoch) {
            delegate.hush();
        }
        Some(epoch)
    }

    /// The records that ended epochs since this was asked last.
    pub(crate) fn take_ended(&mut self) -> Vec<Bytes> {
        let all = self.lineage.ended();
        let new = all[self.kept.min(all.len())..].to_vec();
        self.kept = all.len();
        new
    }

    /// Goes on in somebody's epoch, where that one stands.
    pub(crate) fn start(&mut self, lineage: Lineage, index: u64, marks: impl Iterator<Item = Part>) {
        self.lineage = lineage;
        self.ledger.start_at(index, marks);
    }

    /// Goes on where another member stands, further on: `next` is its next record of its last epoch. What is passed
    /// over.
    pub(crate) fn go_on(
        &mut self,
        lineage: Lineage,
        (index, next): (u64, Seq),
        marks: impl Iterator<Item = Part>,
    ) -> Vec<BatchId> {
        let same = self.lineage.epoch() == lineage.epoch();
        self.lineage = lineage;
        self.proposed = None;
        let mut passed = self.ledger.go_on_at(index, marks);
        if same {
            self.decided.retain(|place, _| place + 1 >= next);
        } else {
            // Those of the epoch that it knew are over.
            passed.extend(self.ending.take().map(|it| it.record).into_iter().chain(self.closing.take()));
            (self.delegate, self.last, self.ended, self.compacted_at) = (None, None, None, 0);
            self.decided.clear();
        }
        if self.decided.is_empty() {
            self.records_at = None;
        }
        passed
    }

    /// What this node had promised and accepted, if that was in this epoch.
    pub(crate) fn take_saved(&mut self, epoch: u64) -> Option<Saved> {
        self.saved.take_if(|it| it.0 == epoch).map(|it| it.1)
    }

    /// `lineage` is that of the past; `None` if there was no order yet.
    pub(crate) fn resume(&mut self, past: &OrderPast, lineage: Option<Lineage>) {
        if let Some(lineage) = lineage {
            self.kept = lineage.ended().len();
            self.lineage = lineage;
        }
        let marks = past.marks.iter().map(|&(source, life, next)| Part(source, life, next, Digest::ZERO));
        let index = past.index.max(self.ledger.index());
        self.ledger.start_at(index, marks);
        self.saved = past.agreement.as_ref().and_then(|it| {
            let vows = cbor::from_slice(&it.vows).ok()?;
            let (compacted, entries) = (it.compacted, it.entries.clone());
            Some((it.epoch, Saved { vows, compacted, entries }))
        });
    }

    /// Records that need not be kept for this node to go on.
    pub(crate) fn take_done(&mut self) -> Vec<BatchId> {
        std::mem::take(&mut self.done)
    }

    /// Whether a record is one of its epoch's committee. `None` if that committee is not known here yet.
    pub(crate) fn check(&self, record: &Batch, signatures: Signatures) -> Option<Result<(), BadSignature>> {
        let BatchId { life: epoch, seq, .. } = record.header.id;
        let is_known = self.lineage.roster(epoch).is_some();
        // An epoch is opened by whoever is in its committee, or in the one before it; the first by the founder.
        let opens = seq == 0 && self.lineage.signed(epoch.saturating_sub(1), record);
        let is_trusted = !signatures.are_checked();
        let founds = (epoch, seq) == (1, 0) && (is_trusted || self.lineage.founded_by(record));
        let is_good = is_trusted || opens || founds || self.lineage.signed(epoch, record);
        (is_known || founds).then_some(if is_good { Ok(()) } else { Err(BadSignature) })
    }

    /// A record has its turn. Records come one after the other, as any source's batches do.
    pub(crate) fn on_record(&mut self, record: &BatchId, digest: Digest, bytes: &Bytes, payload: &Bytes) {
        let known = self.lineage.epoch();
        if record.seq == 0 {
            self.done.push(*record);
            if record.life == known {
                self.done.extend(self.closing.take());
            }
            // Later ones follow from the record that ended the one before.
            if known == 0 && record.life == 1 {
                self.lineage.found();
            }
            return;
        }
        let place = record.seq - 1;
        self.decided.retain(|index, _| *index > place);
        if self.decided.is_empty() {
            self.records_at = None;
        }
        let entry = Entry::read(payload);
        let end = LifeEnd { life: record.life, end: record.seq + 1, digest };
        if record.life + 1 == known && matches!(entry, Ok(Entry::Stop(_))) && self.closing.is_none() {
            // This node stopped before the next epoch was opened.
            (self.ended, self.closing) = (Some(end), Some(*record));
            return;
        }
        if self.last.is_some_and(|last| place > last) || record.life != known {
            // Nothing counts after the end of an epoch.
            self.done.push(*record);
            return;
        }
        match entry {
            Ok(Entry::Cut(cut)) => {
                if let Ok(cut) = Cut::decode(&cut) {
                    self.ledger.on_decided(*record, cut);
                }
            }
            Ok(Entry::Stop(roster)) => {
                self.ending = Some(Ending { record: *record, bytes: bytes.clone(), roster });
                self.ended = Some(end);
                self.last = Some(place);
                self.decided.clear();
            }
            Ok(Entry::Unknown) | Err(_) => self.done.push(*record),
        }
    }

    /// The epoch is over and all of it is expanded: the next one begins. Its number.
    pub(crate) fn end_epoch(&mut self) -> Option<u64> {
        if self.ledger.waiting() > 0 {
            return None;
        }
        let Ending { record, bytes, roster } = self.ending.take()?;
        self.closing = Some(record);
        self.lineage.end(bytes, roster);
        (self.records_at, self.proposed, self.last, self.compacted_at) = (None, None, None, 0);
        self.decided.clear();
        Some(self.lineage.epoch())
    }

    /// Whether this one makes the record that opens the epoch: who led the one before, or whoever is in the new
    /// committee and has waited for it.
    pub(crate) fn opens(&mut self, me: &NodeId, now: Time) -> bool {
        let is_in = self.epoch().is_some_and(|(_, roster)| roster.contains(me));
        let led = self.delegate.as_ref().is_some_and(Delegate::leads);
        let at = *self.records_at.get_or_insert(now + RECORD_WAITS);
        led || (is_in && at <= now)
    }

    /// Entries were decided; records below `next` are known.
    pub(crate) fn on_decided(&mut self, now: Time, entries: Vec<(u64, Bytes)>, next: Seq) {
        for (place, entry) in entries {
            if self.last.is_some_and(|last| place > last) {
                // Proposed by who did not know yet.
                break;
            }
            if matches!(Entry::read(&entry), Ok(Entry::Stop(_))) {
                self.last = Some(place);
            }
            if place + 1 >= next {
                self.decided.insert(place, entry);
            }
        }
        if !self.decided.is_empty() && self.records_at.is_none() {
            self.records_at = Some(now + RECORD_WAITS);
        }
    }

    /// Records that are here and still to be followed.
    pub(crate) fn unexpanded(&self) -> u64 {
        self.ledger.waiting() as u64 + u64::from(self.ending.is_some())
    }

    /// Whether the entry that ends the epoch is known here.
    pub(crate) fn is_last_known(&self) -> bool {
        self.last.is_some()
    }

    /// Whether this record is the last of its epoch.
    pub(crate) fn ends_with(&self, record: &BatchId) -> bool {
        self.ended.is_some_and(|it| (it.life, it.end) == (record.life, record.seq + 1))
    }

    /// Whether nothing more is to be proposed in this epoch.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_last_known() || self.proposed.as_ref().is_some_and(|it| it.stops)
    }

    /// The entry that is to be made record `next`, here and now.
    pub(crate) fn due_record(&mut self, now: Time, next: Seq) -> Option<Bytes> {
        let leads = self.delegate.as_ref().is_some_and(Delegate::leads);
        let is_late = self.records_at.is_some_and(|at| at <= now);
        let place = next.checked_sub(1)?;
        (leads || is_late).then(|| self.decided.remove(&place)).flatten()
    }

    /// All decided entries that can be made records are.
    pub(crate) fn records_made(&mut self, now: Time) {
        let is_late = self.records_at.is_some_and(|at| at <= now);
        if self.decided.is_empty() {
            self.records_at = None;
        } else if is_late {
            // The first of them comes by repair.
            self.records_at = Some(now + RECORD_WAITS);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let ticks = self.delegate.as_ref().filter(|it| it.has_heartbeats() || it.is_broken());
        let ticks = ticks.map(|_| self.next_tick);
        let asks = self.overtaken.as_ref().map(|it| it.next);
        let cut = (self.leads() && self.ledger.pooled() > 0).then_some(self.next_cut);
        // What is due and was not done waits for something else.
        crate::time::soonest([ticks, cut, self.records_at, asks].map(|it| it.filter(|at| *at > self.polled)))
    }

    /// Whether a member of the committee is known not to remember what it promised.
    pub(crate) fn is_forgetful(&self, node: &NodeId) -> bool {
        self.delegate.as_ref().is_some_and(|it| it.is_forgetful(node))
    }

    /// Whether this node makes the records that all others wait for.
    pub(crate) fn leads(&self) -> bool {
        self.delegate.as_ref().is_some_and(Delegate::leads)
    }
}
