//! Who waits for how far which of our batches has come. Receipts are for a batch and all before it
//! of its life. `online` is how many others are.

use std::collections::BTreeMap;

use tokio::sync::{oneshot, watch};
use treecast_overlay::BatchId;

use crate::handle::{Receipt, ReceiptGoal};

/// How many batches' receipts are waited for before those given up are swept out.
const SWEEP_AT: usize = 256;

/// What is known of one of our batches, and who waits for more.
#[derive(Default)]
struct BatchReceipt {
    told: Option<Receipt>,
    waiting: Vec<(ReceiptGoal, oneshot::Sender<Receipt>)>,
    /// Who wants to know of each step.
    watching: Vec<watch::Sender<Option<Receipt>>>,
}

/// The receipts of one group.
pub(super) struct Receipts {
    /// The last of our batches that a neighbour has taken.
    sent: Option<BatchId>,
    batches: BTreeMap<BatchId, BatchReceipt>,
    /// At so many batches, those given up are swept out.
    sweep_at: usize,
}

impl Default for Receipts {
    fn default() -> Self {
        Self { sent: None, batches: BTreeMap::new(), sweep_at: SWEEP_AT }
    }
}

impl Receipts {
    /// A neighbour has taken it.
    pub(super) fn on_sent(&mut self, batch: BatchId, online: usize) {
        self.sent = self.sent.max(Some(batch));
        self.settle(batch, online);
    }

    /// Members have said that they have it.
    pub(super) fn on_receipt(&mut self, batch: BatchId, receipt: Receipt, online: usize) {
        if let Some(entry) = self.batches.get_mut(&batch) {
            entry.told = Some(receipt);
            self.settle(batch, online);
        }
    }

    /// Waits for a batch to come that far. Says whether the core must be asked.
    pub(super) fn wait(
        &mut self,
        batch: BatchId,
        goal: ReceiptGoal,
        reply: oneshot::Sender<Receipt>,
        online: usize,
    ) -> bool {
        self.sweep();
        let is_sent = self.sent.is_some_and(|sent| sent >= batch);
        let entry = self.batches.entry(batch).or_default();
        match outcome(goal, is_sent, online, entry.told) {
            Some(receipt) => {
                // Who asked may have given up.
                let _ = reply.send(receipt);
                if entry.is_idle() {
                    self.batches.remove(&batch);
                }
                false
            }
            None => {
                let first = goal != ReceiptGoal::Sent && !entry.asks();
                entry.waiting.push((goal, reply));
                first
            }
        }
    }

    /// Tells of each step until all that are online have it; and of the last that is watched, of members that
    /// come or return after that as well. Says whether the core must be asked.
    pub(super) fn watch(&mut self, batch: BatchId, watcher: watch::Sender<Option<Receipt>>) -> bool {
        self.sweep();
        self.batches.range_mut(..batch).for_each(|(_, entry)| entry.release());
        self.batches.retain(|_, entry| !entry.is_idle());
        let entry = self.batches.entry(batch).or_default();
        let first = !entry.asks();
        watcher.send_replace(entry.told);
        entry.watching.push(watcher);
        first
    }

    /// Answers those whose wait is over, for this batch and (as receipts are for all before
    /// as well) the earlier ones of its life.
    fn settle(&mut self, upto: BatchId, online: usize) {
        let first = BatchId { seq: 0, life: 0, ..upto };
        let told = self.batches.get(&upto).and_then(|entry| entry.told);
        let sent = self.sent;
        let last = self.last_watched();
        let mut done = Vec::new();
        for (batch, entry) in self.batches.range_mut(first..=upto) {
            if batch.life == upto.life {
                entry.told = entry.told.max_by_have(told);
            }
            let is_sent = sent.is_some_and(|sent| sent >= *batch);
            entry.answer(is_sent, online);
            if last != Some(*batch) {
                entry.release();
            }
            if entry.is_idle() {
                done.push(*batch);
            }
        }
        for batch in done {
            self.batches.remove(&batch);
        }
    }

    /// The last batch that more members are waited for to have than there were when the core was asked.
    pub(super) fn last_asked(&self) -> Option<BatchId> {
        self.batches.iter().rev().find(|(_, entry)| entry.asks()).map(|(batch, _)| *batch)
    }

    fn last_watched(&self) -> Option<BatchId> {
        self.batches.iter().rev().find(|(_, entry)| !entry.watching.is_empty()).map(|(batch, _)| *batch)
    }

    /// How far a batch has come whose receipt is waited for, or was a moment ago.
    pub(super) fn so_far(&self, batch: BatchId, online: usize) -> Receipt {
        let told = self.batches.get(&batch).and_then(|entry| entry.told);
        told.unwrap_or(Receipt { have: 0, of: online })
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        let live =
            |entry: &BatchReceipt| entry.waiting.iter().filter(|(_, reply)| !reply.is_closed()).count();
        self.batches.values().map(live).sum()
    }

    /// Forgets those who gave up waiting.
    fn sweep(&mut self) {
        if self.batches.len() < self.sweep_at {
            return;
        }
        self.batches.retain(|_, entry| {
            entry.waiting.retain(|(_, reply)| !reply.is_closed());
            entry.watching.retain(|watcher| !watcher.is_closed());
            !entry.is_idle()
        });
        // Each sweep is paid for by as many batches as it looked at.
        self.sweep_at = SWEEP_AT.max(2 * self.batches.len());
    }
}

trait MaxByHave {
    fn max_by_have(self, other: Self) -> Self;
}

impl MaxByHave for Option<Receipt> {
    fn max_by_have(self, other: Self) -> Self {
        match (self, other) {
            (Some(one), Some(two)) if one.have > two.have => Some(one),
            (one, two) => two.or(one),
        }
    }
}

impl BatchReceipt {
    /// Whether somebody waits for what only the core can tell.
    fn asks(&self) -> bool {
        !self.watching.is_empty() || self.waiting.iter().any(|(goal, _)| *goal != ReceiptGoal::Sent)
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.watching.is_empty()
    }

    /// `sent`: a neighbour has taken it. `online`: how many others are.
    fn answer(&mut self, sent: bool, online: usize) {
        let told = self.told;
        for (goal, reply) in std::mem::take(&mut self.waiting) {
            match outcome(goal, sent, online, told) {
                // Who asked may have given up.
                Some(receipt) => drop(reply.send(receipt)),
                None => self.waiting.push((goal, reply)),
            }
        }
        for watcher in &self.watching {
            watcher.send_if_modified(|known| {
                *known != told && {
                    *known = told;
                    true
                }
            });
        }
        self.watching.retain(|watcher| !watcher.is_closed());
    }

    /// Once all have it, nothing more is told.
    fn release(&mut self) {
        if self.told.is_some_and(|receipt| receipt.of > 0 && receipt.have >= receipt.of) {
            self.watching.clear();
        }
    }
}

fn outcome(goal: ReceiptGoal, sent: bool, online: usize, told: Option<Receipt>) -> Option<Receipt> {
    match goal {
        // Nothing has a place before it is on disk.
        ReceiptGoal::Stored => Some(told.unwrap_or(Receipt { have: 0, of: online })),
        // Whoever has taken it has it: that is one at least.
        ReceiptGoal::Sent => sent.then(|| {
            let have = told.map_or(1, |receipt| receipt.have.max(1));
            Receipt { have, of: online.max(have) }
        }),
        ReceiptGoal::Members(count) => told.filter(|receipt| receipt.have >= count),
        ReceiptGoal::All => told.filter(|receipt| receipt.of > 0 && receipt.have >= receipt.of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use treecast_overlay::NodeId;

    fn batch(life: u64, seq: u64) -> BatchId {
        BatchId { source: NodeId::from_bytes([1; 32]), life, seq }
    }

    #[test]
    fn sent_holds_for_all_before_and_for_those_who_ask_later() {
        let mut receipts = Receipts::default();
        let (reply, mut one) = oneshot::channel();
        assert!(!receipts.wait(batch(1, 0), ReceiptGoal::Sent, reply, 0));
        assert!(one.try_recv().is_err());
        receipts.on_sent(batch(1, 4), 0);
        assert_eq!(one.try_recv(), Ok(Receipt { have: 1, of: 1 }));
        let (reply, mut two) = oneshot::channel();
        receipts.wait(batch(1, 4), ReceiptGoal::Sent, reply, 0);
        assert!(two.try_recv().is_ok());
        let (reply, mut three) = oneshot::channel();
        receipts.wait(batch(2, 0), ReceiptGoal::Sent, reply, 0);
        assert!(three.try_recv().is_err());
        assert_eq!(receipts.batches.len(), 1);
    }

    #[test]
    fn receipts_count_members_and_the_core_is_asked_once_a_batch() {
        let mut receipts = Receipts::default();
        let (reply, mut two) = oneshot::channel();
        assert!(receipts.wait(batch(1, 3), ReceiptGoal::Members(2), reply, 0));
        let (reply, mut all) = oneshot::channel();
        assert!(!receipts.wait(batch(1, 3), ReceiptGoal::All, reply, 0));
        assert_eq!(receipts.so_far(batch(1, 3), 2), Receipt { have: 0, of: 2 });
        receipts.on_receipt(batch(1, 3), Receipt { have: 1, of: 3 }, 0);
        assert!(two.try_recv().is_err());
        assert_eq!(receipts.so_far(batch(1, 3), 2), Receipt { have: 1, of: 3 });
        receipts.on_receipt(batch(1, 3), Receipt { have: 2, of: 3 }, 0);
        assert_eq!(two.try_recv().expect("told"), Receipt { have: 2, of: 3 });
        receipts.on_receipt(batch(1, 3), Receipt { have: 3, of: 3 }, 0);
        assert_eq!(all.try_recv().expect("told"), Receipt { have: 3, of: 3 });
        assert!(receipts.batches.is_empty());
    }

    #[test]
    fn a_later_receipt_settles_earlier_batches_of_its_life() {
        let mut receipts = Receipts::default();
        let (reply, mut early) = oneshot::channel();
        receipts.wait(batch(1, 1), ReceiptGoal::Members(1), reply, 0);
        let (reply, mut other_life) = oneshot::channel();
        receipts.wait(batch(0, 9), ReceiptGoal::Members(1), reply, 0);
        let (reply, _late) = oneshot::channel();
        receipts.wait(batch(1, 2), ReceiptGoal::Members(2), reply, 0);
        receipts.on_receipt(batch(1, 2), Receipt { have: 1, of: 2 }, 0);
        assert!(early.try_recv().is_ok());
        assert!(other_life.try_recv().is_err());
    }

    #[test]
    fn what_waits_for_members_is_asked_for_again_when_one_comes() {
        let mut receipts = Receipts::default();
        assert_eq!(receipts.last_asked(), None);
        let (reply, _two) = oneshot::channel();
        receipts.wait(batch(1, 3), ReceiptGoal::Members(2), reply, 1);
        let (reply, _sent) = oneshot::channel();
        receipts.wait(batch(1, 9), ReceiptGoal::Sent, reply, 1);
        receipts.on_receipt(batch(1, 3), Receipt { have: 1, of: 1 }, 1);
        assert_eq!(receipts.last_asked(), Some(batch(1, 3)));
    }

    #[test]
    fn who_watches_is_told_of_each_step_until_all_have_it() {
        let mut receipts = Receipts::default();
        let (watcher, mut seen) = watch::channel(None);
        assert!(receipts.watch(batch(1, 3), watcher));
        let (watcher, earlier) = watch::channel(None);
        assert!(receipts.watch(batch(1, 2), watcher));
        assert_eq!(receipts.last_asked(), Some(batch(1, 3)));
        receipts.on_receipt(batch(1, 3), Receipt { have: 1, of: 2 }, 2);
        assert_eq!(*seen.borrow_and_update(), Some(Receipt { have: 1, of: 2 }));
        receipts.on_sent(batch(1, 3), 2);
        assert!(seen.has_changed().is_ok_and(|it| !it));
        receipts.on_receipt(batch(1, 3), Receipt { have: 2, of: 2 }, 2);
        assert_eq!(*earlier.borrow(), Some(Receipt { have: 2, of: 2 }));
        assert!(earlier.has_changed().is_err(), "nothing more will come");
    }

    #[test]
    fn of_the_last_that_is_watched_who_returns_is_told_as_well() {
        let mut receipts = Receipts::default();
        let (watcher, mut seen) = watch::channel(None);
        receipts.watch(batch(1, 3), watcher);
        for (have, of) in [(2, 2), (2, 3), (3, 3)] {
            receipts.on_receipt(batch(1, 3), Receipt { have, of }, of);
            assert_eq!(*seen.borrow_and_update(), Some(Receipt { have, of }));
            assert_eq!(receipts.last_asked(), Some(batch(1, 3)), "asked for when a member comes");
        }
        let (watcher, next) = watch::channel(None);
        assert!(receipts.watch(batch(1, 4), watcher), "the core is to be asked");
        assert!(seen.has_changed().is_err(), "there is a later one");
        assert_eq!(receipts.batches.len(), 1);
        drop(next);
        receipts.on_receipt(batch(1, 4), Receipt { have: 3, of: 3 }, 3);
        assert!(receipts.batches.is_empty(), "nobody watches");
    }

    #[test]
    fn all_needs_somebody() {
        assert_eq!(outcome(ReceiptGoal::All, true, 0, Some(Receipt { have: 0, of: 0 })), None);
    }
}
