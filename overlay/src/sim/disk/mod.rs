//! A node's disk: transactions one after the other, and what of them is left after a crash.
//!
//! It keeps what the ready node's store keeps, in the same order and with the same promises
//! (`node/src/store`): own batches are synced before they leave, and with them all that was
//! written before; what others said is written behind, and synced now and then.

mod shelf;

use std::collections::{BTreeMap, BTreeSet};

use super::node::NodeIx;
use super::record::Stop;
use crate::engine::PastLife;
use crate::id::{BatchId, GroupId, Life, NodeId, Token};
use crate::io::{Fetch, FetchEarlier, Past, Record, Write};
use crate::rng::Rng;

use shelf::Shelf;

pub(super) use shelf::{Found, Piece};

/// Transactions that may be lost with the power, at most: then the log is synced in any case, as by
/// SQLite's checkpoints. Guess.
const MAX_UNSYNCED: usize = 64;

/// One change of what is kept.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// What the core waits for.
    Own(Write),
    /// What was delivered, and how far the node is.
    Delivered(Box<Record>),
    /// Others have this batch of the node's own, and all before it in its life.
    Taken { group: GroupId, batch: BatchId },
    /// The group is left.
    Forget(GroupId),
}

impl Work {
    /// Whether somebody is told that it is on disk.
    fn must_last(&self) -> bool {
        matches!(self, Self::Own(_) | Self::Forget(_))
    }
}

/// What is written together or not at all.
#[derive(Debug, Default)]
struct Transaction {
    works: Vec<Work>,
    /// Who waits for it.
    tokens: Vec<Token>,
    /// What was delivered is in it: the next may go on.
    files: bool,
}

/// What survives a crash, and what is on its way there.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// As files are read.
    current: Shelf,
    /// As they were when the log was synced last.
    synced: Shelf,
    /// What was written since.
    unsynced: Vec<Vec<Work>>,
    /// What gathers while the transaction under way is written.
    next: Transaction,
    under_way: Option<Transaction>,
    /// What was delivered and waits to be written.
    waiting: Vec<Work>,
    /// Some of it is being written, or will be at a moment that is set.
    is_filing: bool,
    backup: Option<Box<Shelf>>,
    /// Nodes it had a link to: an application remembers their addresses.
    pub(super) met: BTreeSet<NodeIx>,
    /// Writes fail from now on.
    pub(super) failing: bool,
    /// Writes that failed and whose engine was not told yet.
    pub(super) untold_failures: usize,
}

impl Disk {
    /// The highest life that was used.
    pub(super) fn last_life(&self) -> Life {
        self.current.last_life
    }

    pub(super) fn set_last_life(&mut self, life: Life) {
        (self.current.last_life, self.synced.last_life) = (life, life);
    }

    /// Where each group's last life ends, as far as it was written.
    pub(super) fn ends(&self) -> Vec<PastLife> {
        self.current.ends.values().copied().collect()
    }

    /// How a group was left.
    pub(super) fn past(&self, group: GroupId, me: &NodeId) -> Option<Past> {
        self.current.past(group, me)
    }

    /// What others may be served.
    pub(super) fn fetch(&self, fetch: &Fetch) -> Found {
        self.current.fetch(fetch)
    }

    /// What those who come later are told of what was said before.
    pub(super) fn piece(&self, fetch: &FetchEarlier) -> Piece {
        self.current.piece(fetch)
    }

    /// A group's batches from before the node's time, as they travel.
    pub(super) fn earlier(&self, group: GroupId) -> Vec<bytes::Bytes> {
        self.current.earlier(group)
    }

    /// A group's batches in the order of their delivery, as they travel.
    pub(super) fn history(&self, group: GroupId) -> Vec<bytes::Bytes> {
        self.current.history(group)
    }

    /// What of a total order is there, as [`Shelf::order`] tells it.
    pub(super) fn order(
        &self,
        group: GroupId,
    ) -> Option<(u64, BTreeMap<u64, bytes::Bytes>, Vec<bytes::Bytes>)> {
        self.current.order(group)
    }

    pub(super) fn has(&self, group: GroupId, batch: &BatchId) -> bool {
        self.current.has(group, batch)
    }

    /// Nothing is there any more.
    pub(super) fn wipe(&mut self) {
        *self = Self { failing: self.failing, backup: self.backup.take(), ..Self::default() };
    }

    /// Makes a copy of what is there.
    pub(super) fn back_up(&mut self) {
        self.backup = Some(Box::new(self.current.clone()));
    }

    /// Puts the copy in the place of what is there; `false` if there is none.
    pub(super) fn restore(&mut self) -> bool {
        let Some(backup) = &self.backup else { return false };
        (self.current, self.synced) = (Shelf::clone(backup), Shelf::clone(backup));
        self.unsynced.clear();
        true
    }

    /// Written at once: where there is no history, only the ends of own lives are kept.
    pub(super) fn write_now(&mut self, writes: &[Write]) {
        self.current.apply_ends(writes);
    }

    /// Has something written that a token waits for, after what was delivered before. Whether a
    /// transaction begins.
    pub(super) fn persist(&mut self, token: Token, writes: &[Write]) -> bool {
        self.next.works.append(&mut self.waiting);
        self.next.works.extend(writes.iter().cloned().map(Work::Own));
        self.next.tokens.push(token);
        self.begin()
    }

    /// Something is to be written behind. Whether the time for that has to be set.
    pub(super) fn keep(&mut self, work: Work) -> bool {
        self.waiting.push(work);
        !std::mem::replace(&mut self.is_filing, true)
    }

    /// The time has come to write what was delivered. Whether a transaction begins.
    pub(super) fn file(&mut self) -> bool {
        self.next.works.append(&mut self.waiting);
        self.next.files = true;
        self.begin()
    }

    /// The group is left. Whether a transaction begins.
    pub(super) fn forget(&mut self, group: GroupId) -> bool {
        self.next.works.append(&mut self.waiting);
        self.next.works.push(Work::Forget(group));
        self.begin()
    }

    fn begin(&mut self) -> bool {
        if self.under_way.is_some() {
            return false;
        }
        self.under_way = Some(std::mem::take(&mut self.next));
        true
    }

    /// The transaction under way is done: who waited for it, and what is to follow.
    pub(super) fn written(&mut self) -> Written {
        let Some(done) = self.under_way.take() else { return Written::default() };
        self.commit(done.works);
        let files = done.files && !self.waiting.is_empty();
        if done.files {
            self.is_filing = files;
        }
        let is_next = !self.next.works.is_empty() || !self.next.tokens.is_empty() || self.next.files;
        Written { tokens: done.tokens, begins: is_next && self.begin(), files }
    }

    fn commit(&mut self, works: Vec<Work>) {
        self.current.apply(&works);
        let is_synced = works.iter().any(Work::must_last) || self.unsynced.len() >= MAX_UNSYNCED;
        self.unsynced.push(works);
        if is_synced {
            self.sync();
        }
    }

    fn sync(&mut self) {
        for works in self.unsynced.drain(..) {
            self.synced.apply(&works);
        }
    }

    /// The node's run is over.
    pub(super) fn on_stop(&mut self, stop: Stop, rng: &mut Rng) {
        let under_way = self.under_way.take().map(|it| it.works).unwrap_or_default();
        let mut next = std::mem::take(&mut self.next).works;
        next.append(&mut self.waiting);
        (self.is_filing, self.untold_failures) = (false, 0);
        match stop {
            // It waits until all is written.
            Stop::Goodbye => {
                self.commit(under_way);
                self.commit(next);
            }
            // What the operating system was given stays.
            Stop::Killed if rng.below(2) == 0 => {}
            Stop::Killed => self.commit(under_way),
            // The last of what was not synced is lost.
            Stop::HostLost => {
                self.unsynced.push(under_way);
                self.unsynced.truncate(rng.below(self.unsynced.len() + 1));
                self.sync();
                self.current.clone_from(&self.synced);
            }
        }
    }
}

/// What follows from a transaction that is done.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Who waited for it.
    pub(super) tokens: Vec<Token>,
    /// The next one begins.
    pub(super) begins: bool,
    /// More was delivered meanwhile: when that is written has to be set.
    pub(super) files: bool,
}
