//! Disks at work: what engines have written and looked up, and what happens to disks.

use std::time::Duration;

use super::disk::{Found, Piece, Work};
use super::node::NodeIx;
use super::queue::Happening;
use super::record::What;
use super::world::World;
use crate::id::{BatchId, GroupId, Life, NodeId, Token};
use crate::io::{Event, Fetch, FetchEarlier, Input, Past, Shown, Write};
use crate::wire::batch::Batch;
use crate::wire::order::Entry;

/// What of a total order is on a disk.
#[derive(Debug, Clone)]
pub struct OrderKept {
    /// The place of the next message.
    pub next: u64,
    /// Batches that have a place, by that of their first messages.
    pub places: Vec<(u64, Shown)>,
    /// The committees of the second epoch and of those after it.
    pub committees: Vec<Vec<NodeId>>,
}

/// A disk that fails is tried again so often with what was delivered.
const FILE_AGAIN: Duration = Duration::from_secs(1);

impl World {
    /// Writes, and answers now or later.
    pub(super) fn persist(&mut self, ix: NodeIx, token: Token, writes: &[Write]) -> Option<Input> {
        let (delay, history) = (self.write_delay(ix), self.config.history);
        let node = &mut self.nodes[ix.0];
        // What was asked for before a failure was known fails as well, as in the ready node's store.
        let (run, ok) = (node.run, !node.disk.failing && node.disk.untold_failures == 0);
        if ok && history {
            if node.disk.persist(token, writes) {
                self.queue.push(self.now + delay, Happening::Written { node: ix, run });
            }
            return None;
        }
        if ok {
            node.disk.write_now(writes);
        }
        if delay.is_zero() {
            return Some(if ok { Input::Persisted(token) } else { Input::PersistFailed(token) });
        }
        if !ok {
            node.disk.untold_failures += 1;
        }
        self.queue.push(self.now + delay, Happening::Persisted { node: ix, run, token, ok });
        None
    }

    fn write_delay(&self, ix: NodeIx) -> Duration {
        self.nodes[ix.0].disk_delay.unwrap_or(self.network.disk_delay)
    }

    /// Writes behind.
    pub(super) fn keep(&mut self, ix: NodeIx, work: Work) {
        if self.config.history && self.nodes[ix.0].disk.keep(work) {
            self.file_after(ix, self.network.disk_behind);
        }
    }

    fn file_after(&mut self, ix: NodeIx, delay: Duration) {
        let run = self.nodes[ix.0].run;
        self.queue.push(self.now + delay, Happening::File { node: ix, run });
    }

    pub(super) fn on_file(&mut self, ix: NodeIx, run: u32) {
        if !self.runs(ix, run) {
            return;
        }
        if self.nodes[ix.0].disk.failing {
            self.file_after(ix, FILE_AGAIN);
        } else if self.nodes[ix.0].disk.file() {
            self.begin_transaction(ix);
        }
    }

    fn begin_transaction(&mut self, ix: NodeIx) {
        let (at, run) = (self.now + self.write_delay(ix), self.nodes[ix.0].run);
        self.queue.push(at, Happening::Written { node: ix, run });
    }

    pub(super) fn on_written(&mut self, ix: NodeIx, run: u32) {
        if !self.runs(ix, run) {
            return;
        }
        let written = self.nodes[ix.0].disk.written();
        if written.begins {
            self.begin_transaction(ix);
        }
        if written.files {
            self.file_after(ix, self.network.disk_behind);
        }
        for token in written.tokens {
            self.feed(ix, Input::Persisted(token));
        }
    }

    pub(super) fn fetch(&mut self, ix: NodeIx, token: Token, fetch: &Fetch) {
        let found = self.nodes[ix.0].disk.fetch(fetch);
        let (at, run) = (self.now + self.write_delay(ix), self.nodes[ix.0].run);
        self.queue.push(at, Happening::Fetched { node: ix, run, token, found });
    }

    pub(super) fn on_fetched(&mut self, ix: NodeIx, run: u32, token: Token, (batches, first): Found) {
        if self.runs(ix, run) {
            self.feed(ix, Input::Fetched { token, batches, first });
        }
    }

    pub(super) fn fetch_earlier(&mut self, ix: NodeIx, token: Token, fetch: &FetchEarlier) {
        let piece = self.nodes[ix.0].disk.piece(fetch);
        let (at, run) = (self.now + self.write_delay(ix), self.nodes[ix.0].run);
        self.queue.push(at, Happening::FetchedEarlier { node: ix, run, token, piece });
    }

    pub(super) fn on_fetched_earlier(&mut self, ix: NodeIx, run: u32, token: Token, piece: Piece) {
        if self.runs(ix, run) {
            let (batches, last, end) = piece;
            self.feed(ix, Input::FetchedEarlier { token, batches, last, end });
        }
    }

    /// What a driver keeps of what it is told.
    pub(super) fn note(&mut self, ix: NodeIx, event: &Event) {
        if !self.config.history {
            return;
        }
        match event {
            Event::Sent { group, batch } => self.keep(ix, Work::Taken { group: *group, batch: *batch }),
            Event::LeftGroup { group } if self.nodes[ix.0].disk.forget(*group) => self.begin_transaction(ix),
            _ => {}
        }
    }

    /// How a node left its groups.
    pub(super) fn pasts(&self, ix: NodeIx) -> Vec<Past> {
        let node = &self.nodes[ix.0];
        let groups = node.groups.iter().filter(|_| self.config.history);
        groups.filter_map(|it| node.disk.past(it.id(), &node.id)).collect()
    }

    /// What is on a node's disk of a group: batches in the order of their delivery there. Only with
    /// [`Config::history`](crate::Config).
    pub fn history(&self, node: NodeIx, group: GroupId) -> Vec<Shown> {
        let batches = self.nodes[node.0].disk.history(group);
        batches.into_iter().map(|it| Shown::read(&group, it).expect("it was read before")).collect()
    }

    /// What is on a node's disk of what was said in a group before its time, in the order in which it is
    /// shown: before all of [`World::history`].
    pub fn earlier(&self, node: NodeIx, group: GroupId) -> Vec<Shown> {
        let batches = self.nodes[node.0].disk.earlier(group);
        batches.into_iter().map(|it| Shown::read(&group, it).expect("it was read before")).collect()
    }

    /// What of a group's total order is on a node's disk; `None` if nothing is. Only with
    /// [`Config::history`](crate::Config).
    pub fn order_kept(&self, node: NodeIx, group: GroupId) -> Option<OrderKept> {
        let (next, places, ended) = self.nodes[node.0].disk.order(group)?;
        let shown = |bytes| Shown::read(&group, bytes).expect("it was read before");
        let places = places.into_iter().map(|(index, bytes)| (index, shown(bytes))).collect();
        let roster = |bytes| {
            let payload = Batch::parse(&group, bytes).ok()?.messages.first().cloned().flatten()?;
            if let Ok(Entry::Stop(roster)) = Entry::read(&payload) { Some(roster) } else { None }
        };
        let committees = ended.into_iter().map(|it| roster(it).expect("it was read before")).collect();
        Some(OrderKept { next, places, committees })
    }

    /// Whether a batch is on a node's disk. Only with [`Config::history`](crate::Config).
    pub fn is_kept(&self, node: NodeIx, group: GroupId, batch: &BatchId) -> bool {
        self.nodes[node.0].disk.has(group, batch)
    }

    /// Whether the node's writes fail from now on.
    pub fn set_disk_failing(&mut self, node: NodeIx, failing: bool) {
        self.nodes[node.0].disk.failing = failing;
    }

    /// How long the node's disk takes to write from now on; `None` for as long as
    /// [`NetworkModel::disk_delay`](super::NetworkModel) says.
    pub fn set_disk_delay(&mut self, node: NodeIx, delay: Option<Duration>) {
        self.nodes[node.0].disk_delay = delay;
    }

    /// The node's disk says that it has used this life: a backup that was restored, a data
    /// directory that was copied.
    pub fn set_last_life(&mut self, node: NodeIx, life: Life) {
        self.nodes[node.0].disk.set_last_life(life);
    }

    /// Makes a copy of what is on the node's disk now, in the place of an earlier one.
    pub fn back_up(&mut self, node: NodeIx) {
        self.nodes[node.0].disk.back_up();
        self.record(node, What::BackedUp);
    }

    /// Replaces the disk of a node that does not run by its copy. Nothing if it runs, or if there is
    /// none.
    pub fn restore(&mut self, node: NodeIx) {
        if !self.is_running(node) && self.nodes[node.0].disk.restore() {
            self.record(node, What::Restored);
        }
    }
}
