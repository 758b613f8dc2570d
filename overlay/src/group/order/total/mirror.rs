//! What `omnipaxos` takes for its storage: memory that notes what is to be written.
//!
//! Its storage trait is synchronous and its storage errors panic. So it never meets a disk: the mirror takes
//! every write, and [`Mirror::take_saving`] hands them out as one, for the engine to have made durable before
//! anything that rests on them leaves.

use std::sync::{Arc, Mutex, MutexGuard};

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{StopSign, Storage, StorageOp, StorageResult};

use super::consensus::{Saved, Saving, Vow, Vows};
use crate::wire::agreement::{Claim, LogEntry, Passed};

#[derive(Debug, Default)]
struct State {
    promised: Option<Ballot>,
    accepted: Option<Ballot>,
    decided: usize,
    compacted: usize,
    snapshot: Option<Passed>,
    /// From `compacted` on.
    log: Vec<LogEntry>,
    /// The log changed from this index on.
    changed: Option<usize>,
    vowed: bool,
}

/// Shared between `omnipaxos` and who drains its writes; never by two threads at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct Mirror(Arc<Mutex<State>>);

impl Mirror {
    /// As it was left. `epoch` is not kept: there is one mirror an epoch.
    pub(super) fn resume(saved: Saved, epoch: u32) -> Self {
        let ballot = |it: Vow| Ballot::with(epoch, it.number, it.priority, it.owner);
        let end = saved.compacted as usize + saved.entries.len();
        Self(Arc::new(Mutex::new(State {
            promised: saved.vows.promised.map(ballot),
            accepted: saved.vows.accepted.map(ballot),
            decided: (saved.vows.decided as usize).clamp(saved.compacted as usize, end),
            compacted: saved.compacted as usize,
            snapshot: (saved.compacted > 0).then_some(Passed),
            log: saved.entries.into_iter().map(LogEntry).collect(),
            changed: None,
            vowed: false,
        })))
    }

    /// What was written since the last time; nothing if only more is known to be decided.
    pub(super) fn take_saving(&self) -> Option<Saving> {
        let mut state = self.state();
        if !state.vowed && state.changed.is_none() {
            return None;
        }
        let end = state.compacted + state.log.len();
        let from = state.changed.take().unwrap_or(end).clamp(state.compacted, end);
        state.vowed = false;
        Some(state.saving(from))
    }

    /// All of it, written or not.
    pub(super) fn save_all(&self) -> Saving {
        let state = self.state();
        state.saving(state.compacted)
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> usize {
        self.state().end()
    }

    /// What was accepted so far.
    pub(super) fn accepted(&self) -> Claim {
        let state = self.state();
        let round = state.accepted.map_or((0, 0, 0), |it| (it.n, it.priority, it.pid));
        Claim(round, state.end() as u64)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while it is held")
    }
}

impl State {
    fn end(&self) -> usize {
        self.compacted + self.log.len()
    }

    /// The vows, and the log from an index on.
    fn saving(&self, from: usize) -> Saving {
        let vow = |it: Ballot| Vow { number: it.n, priority: it.priority, owner: it.pid };
        let vows = Vows {
            promised: self.promised.map(vow),
            accepted: self.accepted.map(vow),
            decided: self.decided as u64,
            forgot: false,
            heard: None,
        };
        let entries = self.log[from - self.compacted..].iter().map(|it| it.0.clone()).collect();
        Saving { vows, from: from as u64, entries, compacted: self.compacted as u64 }
    }

    fn changed_from(&mut self, index: usize) {
        self.changed = Some(self.changed.map_or(index, |it| it.min(index)));
    }

    fn append(&mut self, entries: Vec<LogEntry>) {
        if !entries.is_empty() {
            self.changed_from(self.end());
            self.log.extend(entries);
        }
    }

    fn append_from(&mut self, from: usize, entries: Vec<LogEntry>) {
        let kept = from.saturating_sub(self.compacted);
        if kept < self.log.len() {
            self.log.truncate(kept);
            self.changed_from(from);
        }
        self.append(entries);
    }

    fn trim(&mut self, index: usize) {
        if index > self.compacted {
            let gone = (index - self.compacted).min(self.log.len());
            self.log.drain(..gone);
            if gone < index - self.compacted {
                // A snapshot jumps over what was never here.
                self.vowed = true;
            }
            self.compacted = index;
        }
    }

    fn write(&mut self, operation: StorageOp<LogEntry>) {
        match operation {
            StorageOp::AppendEntry(entry) => self.append(vec![entry]),
            StorageOp::AppendEntries(entries) => self.append(entries),
            StorageOp::AppendOnPrefix(from, entries) => self.append_from(from, entries),
            StorageOp::SetPromise(ballot) => (self.promised, self.vowed) = (Some(ballot), true),
            StorageOp::SetAcceptedRound(ballot) => (self.accepted, self.vowed) = (Some(ballot), true),
            StorageOp::SetDecidedIndex(index) => self.decided = index,
            StorageOp::SetCompactedIdx(index) | StorageOp::Trim(index) => self.trim(index),
            StorageOp::SetSnapshot(snapshot) => self.snapshot = snapshot,
            StorageOp::SetStopsign(_) => {}
        }
    }
}

impl Storage<LogEntry> for Mirror {
    fn write_atomically(&mut self, operations: Vec<StorageOp<LogEntry>>) -> StorageResult<()> {
        let mut state = self.state();
        operations.into_iter().for_each(|it| state.write(it));
        Ok(())
    }

    fn append_entry(&mut self, entry: LogEntry) -> StorageResult<()> {
        self.state().append(vec![entry]);
        Ok(())
    }

    fn append_entries(&mut self, entries: Vec<LogEntry>) -> StorageResult<()> {
        self.state().append(entries);
        Ok(())
    }

    fn append_on_prefix(&mut self, from: usize, entries: Vec<LogEntry>) -> StorageResult<()> {
        self.state().append_from(from, entries);
        Ok(())
    }

    fn set_promise(&mut self, ballot: Ballot) -> StorageResult<()> {
        // It sets again what it has read at its start, or nothing at all.
        let mut state = self.state();
        if state.promised.unwrap_or_default() != ballot {
            state.write(StorageOp::SetPromise(ballot));
        }
        Ok(())
    }

    fn set_decided_idx(&mut self, index: usize) -> StorageResult<()> {
        self.state().decided = index;
        Ok(())
    }

    fn get_decided_idx(&self) -> StorageResult<usize> {
        Ok(self.state().decided)
    }

    fn set_accepted_round(&mut self, ballot: Ballot) -> StorageResult<()> {
        self.state().write(StorageOp::SetAcceptedRound(ballot));
        Ok(())
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state().accepted)
    }

    fn get_entries(&self, from: usize, to: usize) -> StorageResult<Vec<LogEntry>> {
        let state = self.state();
        let is_whole = from >= state.compacted && from <= to && to <= state.end();
        Ok(if is_whole {
            state.log[from - state.compacted..to - state.compacted].to_vec()
        } else {
            Vec::new()
        })
    }

    fn get_log_len(&self) -> StorageResult<usize> {
        Ok(self.state().log.len())
    }

    fn get_suffix(&self, from: usize) -> StorageResult<Vec<LogEntry>> {
        let end = self.state().end();
        self.get_entries(from, end)
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state().promised)
    }

    /// Epochs end by an entry of our own, which a committee of one has, too.
    fn set_stopsign(&mut self, _: Option<StopSign>) -> StorageResult<()> {
        Ok(())
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(None)
    }

    fn trim(&mut self, index: usize) -> StorageResult<()> {
        self.state().trim(index);
        Ok(())
    }

    fn set_compacted_idx(&mut self, index: usize) -> StorageResult<()> {
        self.state().trim(index);
        Ok(())
    }

    fn get_compacted_idx(&self) -> StorageResult<usize> {
        Ok(self.state().compacted)
    }

    fn set_snapshot(&mut self, snapshot: Option<Passed>) -> StorageResult<()> {
        self.state().snapshot = snapshot;
        Ok(())
    }

    fn get_snapshot(&self) -> StorageResult<Option<Passed>> {
        Ok(self.state().snapshot.clone())
    }
}
