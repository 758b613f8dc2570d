//! The driver's side of groups: who holds them, who listens, what waits for room or receipts.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use treecast_overlay::io::{CollectionView, RemoveError};
use treecast_overlay::wire::ticket::Ticket;
use treecast_overlay::{BatchId, Delivery, Descriptor, GroupId, NodeId, PublishId};

use super::partition::Partition;
use super::placing::Placing;
use super::receipts::Receipts;
use super::tally::GroupTally;
use crate::error::{PublishError, Stopped};
use crate::event::{Event, EventQueue, Fork, MemberChange, Range, Standing};
use crate::group::GroupRef;
use crate::handle::{Published, Receipt, ReceiptGoal};
use crate::store::free_label;

/// A message that waits for room in the core.
struct Waiting {
    payload: Bytes,
    room: OwnedSemaphorePermit,
    placed: oneshot::Sender<Result<Published, PublishError>>,
}

/// Where it goes what became of a removal.
type RemovedReply = oneshot::Sender<Result<(), RemoveError>>;

/// One group.
pub(super) struct Slot {
    /// What it is called here.
    pub(super) label: String,
    /// Tells this stay in the group from earlier ones.
    pub(super) stay: u64,
    pub(super) descriptor: Arc<Descriptor>,
    /// The node stays in it without anybody's hold.
    pub(super) kept: bool,
    /// And that is on disk.
    pub(super) saved: bool,
    /// The core says goodbye in it: if somebody comes back meanwhile, it is joined again then.
    pub(super) stepping_out: bool,
    /// Handles that stand.
    pub(super) holds: usize,
    pub(super) room: Arc<Semaphore>,
    /// It has had a neighbour.
    pub(super) ready: bool,
    await_ready: Vec<oneshot::Sender<()>>,
    await_left: Vec<oneshot::Sender<()>>,
    await_removed: Vec<(NodeId, RemovedReply)>,
    subscribers: Vec<Arc<EventQueue>>,
    waiting: VecDeque<Waiting>,
    /// Batches that stand in the history and are on their way to subscribers, and where they stand.
    pub(super) undelivered: BTreeMap<BatchId, u64>,
    /// In a total order: what has no place yet, and what is told of those that have.
    pub(super) placing: Placing,
    pub(super) fork: Fork,
    receipts: Receipts,
    nicks: HashMap<NodeId, Arc<str>>,
    /// Others that are online.
    online: BTreeSet<NodeId>,
    partition: Partition,
    pub(super) tally: GroupTally,
    /// What subscribers missed because they were slow.
    dropped: Arc<AtomicU64>,
}

impl Slot {
    pub(super) fn new(label: String, stay: u64, descriptor: Descriptor, publish_bytes: usize) -> Self {
        Self {
            label,
            stay,
            descriptor: Arc::new(descriptor),
            kept: false,
            saved: false,
            stepping_out: false,
            holds: 0,
            room: Arc::new(Semaphore::new(publish_bytes)),
            ready: false,
            await_ready: Vec::new(),
            await_left: Vec::new(),
            await_removed: Vec::new(),
            subscribers: Vec::new(),
            waiting: VecDeque::new(),
            undelivered: BTreeMap::new(),
            placing: Placing::default(),
            fork: Fork::default(),
            receipts: Receipts::default(),
            nicks: HashMap::new(),
            online: BTreeSet::new(),
            partition: Partition::default(),
            tally: GroupTally::default(),
            dropped: Arc::default(),
        }
    }

    /// A queue that gets every event from now on; and what has no place in a total order by now, if that is
    /// wanted.
    pub(super) fn subscribe(&mut self, cap: usize, tentative: bool) -> Arc<EventQueue> {
        let (order, dropped) = (self.descriptor.order, self.dropped.clone());
        let queue = Arc::new(EventQueue::new(order, tentative, self.fork.clone(), cap, dropped));
        for delivery in self.placing.tentative() {
            queue.push_batch(delivery.clone(), self.nick_of(&delivery.source), Standing::Tentative);
        }
        self.subscribers.push(queue.clone());
        queue
    }

    pub(super) fn await_ready(&mut self, reply: oneshot::Sender<()>) {
        if self.ready {
            // Who asked may have gone.
            let _ = reply.send(());
        } else {
            self.await_ready.push(reply);
        }
    }

    /// Somebody wants it to be left for good.
    pub(super) fn is_left(&self) -> bool {
        !self.await_left.is_empty() && !self.kept
    }

    pub(super) fn await_left(&mut self, reply: oneshot::Sender<()>) {
        self.await_left.push(reply);
    }

    /// Somebody removes a member and waits for that.
    pub(super) fn await_removed(&mut self, node: NodeId, reply: RemovedReply) {
        self.await_removed.push((node, reply));
    }

    fn answer_removal(&mut self, node: &NodeId, answer: Result<(), RemoveError>) {
        for (_, reply) in self.await_removed.extract_if(.., |it| it.0 == *node) {
            // Who asked may have gone.
            let _ = reply.send(answer);
        }
    }

    /// What a node calls itself; empty if it has not said.
    pub(super) fn nick_of(&self, node: &NodeId) -> Arc<str> {
        self.nicks.get(node).cloned().unwrap_or_else(|| Arc::from(""))
    }

    pub(super) fn learn_nick(&mut self, node: NodeId, nick: &str) {
        self.nicks.insert(node, nick.into());
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.subscribers.retain(|queue| !queue.is_closed());
        for queue in &self.subscribers {
            queue.push(event.clone());
        }
    }

    fn deliver(&mut self, delivery: Arc<Delivery>, standing: Standing) {
        self.subscribers.retain(|queue| !queue.is_closed());
        if self.subscribers.is_empty() {
            return;
        }
        let nick = self.nick_of(&delivery.source);
        for queue in &self.subscribers {
            queue.push_batch(delivery.clone(), nick.clone(), standing);
        }
    }

    /// What has its place is told, up to this one.
    pub(super) fn tell_placed(&mut self, kept: u64) {
        while let Some((index, delivery)) = self.placing.next(kept) {
            self.deliver(delivery, Standing::At(index));
        }
    }

    pub(super) fn member(&mut self, change: MemberChange, node: NodeId, nick: String) {
        self.nicks.insert(node, nick.as_str().into());
        match change {
            MemberChange::Joined | MemberChange::Online | MemberChange::Renamed => self.online.insert(node),
            _ => self.online.remove(&node),
        };
        self.tell(Event::Member { change, node, nick });
        let partition = match change {
            MemberChange::Joined | MemberChange::Online => self.partition.on_back(&node),
            MemberChange::Renamed => None,
            MemberChange::Failed => self.partition.on_failed(Instant::now(), node, self.online.len()),
            MemberChange::Offline | MemberChange::Left | MemberChange::Removed => {
                self.partition.on_gone(&node)
            }
        };
        if let Some(partition) = partition {
            self.tell(Event::Partition(partition));
        }
    }

    /// A node did not answer any more.
    pub(super) fn on_silence(&mut self, now: Instant, node: NodeId) {
        if self.online.contains(&node) {
            self.partition.on_silence(now, node);
        }
    }

    pub(super) fn on_ready(&mut self) {
        self.ready = true;
        for reply in self.await_ready.drain(..) {
            // Who asked may have gone.
            let _ = reply.send(());
        }
        self.tell(Event::Ready);
    }

    /// Waits for a batch to come that far. Says whether the core must be asked.
    pub(super) fn await_receipt(
        &mut self,
        batch: BatchId,
        goal: ReceiptGoal,
        reply: oneshot::Sender<Receipt>,
    ) -> bool {
        self.receipts.wait(batch, goal, reply, self.online.len())
    }

    /// Tells of each step of a batch. Says whether the core must be asked.
    pub(super) fn watch_receipt(
        &mut self,
        batch: BatchId,
        watcher: tokio::sync::watch::Sender<Option<Receipt>>,
    ) -> bool {
        self.receipts.watch(batch, watcher)
    }

    /// A batch whose receipt is to be asked for again: there is one more who may have it.
    pub(super) fn last_asked(&self) -> Option<BatchId> {
        self.receipts.last_asked()
    }

    /// How far a batch has come whose receipt is waited for.
    pub(super) fn receipt_so_far(&self, batch: BatchId) -> Receipt {
        self.receipts.so_far(batch, self.online.len())
    }

    /// How many wait for one.
    pub(super) fn receipts_waiting(&self) -> usize {
        self.receipts.waiting()
    }

    pub(super) fn events_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn is_partitioned(&self) -> bool {
        self.partition.is_suspected()
    }

    /// The next message if it fits into `room`; its share of the waiting room is given back.
    fn next_that_fits(&mut self, room: usize) -> Option<(Bytes, PlacedReply)> {
        let next = self.waiting.front()?;
        if next.payload.len() > room || self.stepping_out {
            return None;
        }
        let Waiting { payload, room, placed } = self.waiting.pop_front()?;
        drop(room);
        Some((payload, placed))
    }

    /// The group is over: nobody waits any longer.
    pub(super) fn close(&mut self) {
        for reply in self.await_left.drain(..) {
            // Who asked may have gone.
            let _ = reply.send(());
        }
        for waiting in self.waiting.drain(..) {
            let _ = waiting.placed.send(Err(treecast_overlay::PublishError::Leaving.into()));
        }
        for queue in self.subscribers.drain(..) {
            queue.close();
        }
    }
}

/// Where a publication's answer goes.
pub(super) type PlacedReply = oneshot::Sender<Result<Published, PublishError>>;

/// All groups of the node.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) slots: BTreeMap<GroupId, Slot>,
    placing: HashMap<PublishId, PlacedReply>,
    next_publish: u64,
    next_stay: u64,
    /// Groups in which messages wait for room.
    crowded: BTreeSet<GroupId>,
}

impl Groups {
    /// The group of this name here; its full id is a name as well, and any ticket of it.
    pub(super) fn find(&self, name: &str) -> Option<GroupId> {
        if GroupRef::is_ticket(name) {
            let ticket: Ticket = name.parse().ok()?;
            return Some(ticket.descriptor.id()).filter(|id| self.slots.contains_key(id));
        }
        let by_label = self.slots.iter().find(|(_, slot)| slot.label == name);
        by_label.or_else(|| self.slots.iter().find(|(id, _)| id.to_string() == name)).map(|(id, _)| *id)
    }

    /// How full the collections of all groups are, summed up.
    pub(super) fn collections(&self, limits: &super::Limits) -> Vec<CollectionView> {
        let slots = self.slots.values();
        let queued: usize = slots.clone().flat_map(|slot| &slot.subscribers).map(|queue| queue.bytes()).sum();
        let queues: usize = slots.clone().map(|slot| slot.subscribers.len()).sum();
        let waiting: usize = slots.clone().map(|slot| slot.waiting.len()).sum();
        let waiting_bytes: usize =
            slots.clone().flat_map(|slot| &slot.waiting).map(|waiting| waiting.payload.len()).sum();
        let own = |name: &str, len, bytes, cap| CollectionView { name: name.into(), len, bytes, cap };
        vec![
            own("node/groups", self.slots.len(), 0, limits.max_groups),
            own("node/event_queues", queues, queued, limits.event_bytes.saturating_mul(queues)),
            own(
                "node/publish_waiting",
                waiting,
                waiting_bytes,
                limits.publish_bytes.saturating_mul(slots.len()),
            ),
        ]
    }

    /// A name for a group that no other has here.
    pub(super) fn free_label(&self, descriptor: &Descriptor, id: GroupId) -> String {
        free_label(descriptor, |label| {
            self.slots.iter().any(|(other, slot)| *other != id && slot.label == label)
        })
    }

    /// A new stay in a group.
    pub(super) fn open(
        &mut self,
        id: GroupId,
        label: String,
        descriptor: Descriptor,
        publish_bytes: usize,
    ) -> &mut Slot {
        let stay = self.next_stay;
        self.next_stay += 1;
        let slot = self.slots.entry(id).or_insert_with(|| Slot::new(label, stay, descriptor, publish_bytes));
        let (before, fork) = (slot.descriptor.predecessor, slot.fork.clone());
        for other in self.slots.values() {
            other.descriptor.predecessor.filter(|it| it.group == id).inspect(|it| fork.begin(it.index));
        }
        if let Some((before, it)) = before.and_then(|it| Some((self.slots.get(&it.group)?, it))) {
            before.fork.begin(it.index);
        }
        self.slots.get_mut(&id).expect("it was just opened")
    }

    /// A message behind those that wait already.
    pub(super) fn enqueue(
        &mut self,
        group: GroupId,
        payload: Bytes,
        room: OwnedSemaphorePermit,
        placed: PlacedReply,
    ) {
        match self.slots.get_mut(&group) {
            Some(slot) => {
                slot.waiting.push_back(Waiting { payload, room, placed });
                self.crowded.insert(group);
            }
            // Who published may not want to know.
            None => drop(placed.send(Err(treecast_overlay::PublishError::UnknownGroup.into()))),
        }
    }

    /// Hands on what waits as far as there is room.
    pub(super) fn pump(
        &mut self,
        room: impl Fn(GroupId) -> usize,
        mut publish: impl FnMut(GroupId, PublishId, Bytes),
    ) {
        if self.crowded.is_empty() {
            return;
        }
        for group in std::mem::take(&mut self.crowded) {
            let mut left = room(group);
            while let Some((payload, placed)) =
                self.slots.get_mut(&group).and_then(|slot| slot.next_that_fits(left))
            {
                left -= payload.len();
                let id = self.expect_placement(placed);
                publish(group, id, payload);
            }
            if self.slots.get(&group).is_some_and(|slot| !slot.waiting.is_empty()) {
                self.crowded.insert(group);
            }
        }
    }

    /// Remembers whom to tell where the message was placed.
    fn expect_placement(&mut self, reply: PlacedReply) -> PublishId {
        let id = PublishId(self.next_publish);
        self.next_publish += 1;
        self.placing.insert(id, reply);
        id
    }

    fn on_placed(&mut self, id: PublishId, result: Result<Published, PublishError>) {
        if let Some(reply) = self.placing.remove(&id) {
            // Who published may not want to know.
            let _ = reply.send(result);
        }
    }

    /// Nothing more comes for anybody.
    pub(super) fn close(&mut self) {
        for slot in self.slots.values_mut() {
            slot.close();
        }
        for (_, reply) in self.placing.drain() {
            let _ = reply.send(Err(Stopped.into()));
        }
    }

    /// What the group's subscribers learn from a core event. Returns a group to be joined again.
    pub(super) fn on_event(&mut self, event: treecast_overlay::Event) -> Option<Descriptor> {
        use treecast_overlay::Event as Core;
        match event {
            Core::WentOffline { group } => return self.on_went_offline(group),
            Core::Published { id, batch, n, .. } => self.on_placed(id, Ok(Published { batch, n })),
            Core::Rejected { id, error, .. } => self.on_placed(id, Err(error.into())),
            Core::LeftGroup { group } => {
                if let Some(mut slot) = self.slots.remove(&group) {
                    slot.tell(Event::Left);
                    slot.close();
                }
            }
            other => {
                if let Some(slot) = group_of(&other).and_then(|group| self.slots.get_mut(&group)) {
                    slot.on_event(other);
                }
            }
        }
        None
    }

    /// Forgets the group, unless somebody wants to be in it by now (or it is the node that ends).
    fn on_went_offline(&mut self, group: GroupId) -> Option<Descriptor> {
        let slot = self.slots.get_mut(&group).filter(|slot| slot.stepping_out)?;
        if slot.holds > 0 || slot.kept {
            slot.stepping_out = false;
            slot.ready = false;
            return Some((*slot.descriptor).clone());
        }
        slot.close();
        self.slots.remove(&group);
        None
    }
}

impl Slot {
    fn on_event(&mut self, event: treecast_overlay::Event) {
        use treecast_overlay::Event as Core;
        match event {
            Core::Deliver { delivery, tentative: false, .. } => {
                self.deliver(Arc::new(delivery), Standing::Final)
            }
            Core::Deliver { delivery, tentative: true, .. } => {
                let delivery = Arc::new(delivery);
                self.placing.on_tentative(delivery.clone());
                self.deliver(delivery, Standing::Tentative);
            }
            Core::Ordered { index, delivery, .. } => self.placing.on_ordered(index, delivery),
            Core::OrderStalled { reason, .. } => {
                self.placing.on_stalled(true);
                self.tell(Event::OrderStalled { reason });
            }
            Core::OrderResumed { .. } => {
                self.placing.on_stalled(false);
                self.tell(Event::OrderResumed);
            }
            Core::Ready { .. } => self.on_ready(),
            Core::Sent { batch, .. } => self.receipts.on_sent(batch, self.online.len()),
            Core::Receipt { batch, have, of, .. } => {
                self.receipts.on_receipt(batch, Receipt { have, of }, self.online.len());
            }
            Core::MemberJoined { node, nick, .. } => self.member(MemberChange::Joined, node, nick),
            Core::MemberOnline { node, nick, .. } => self.member(MemberChange::Online, node, nick),
            Core::MemberRenamed { node, nick, .. } => self.member(MemberChange::Renamed, node, nick),
            Core::MemberOffline { node, nick, .. } => self.member(MemberChange::Offline, node, nick),
            Core::MemberLeft { node, nick, .. } => self.member(MemberChange::Left, node, nick),
            Core::MemberRemoved { node, nick, .. } => {
                self.answer_removal(&node, Ok(()));
                self.member(MemberChange::Removed, node, nick);
            }
            Core::RemoveRefused { node, error, .. } => self.answer_removal(&node, Err(error)),
            Core::MemberFailed { node, nick, .. } => self.member(MemberChange::Failed, node, nick),
            Core::ParentChanged { tree, from, to, reason, .. } => {
                self.tell(Event::ParentChanged { tree, from, to, reason });
            }
            Core::Gap { source, life, from, to, lost, .. } => {
                if lost {
                    self.placing.on_lost(source, life, from..to);
                }
                self.tell(Event::Gap { range: Range { source, life, from, to }, lost });
            }
            Core::Repaired { source, life, from, to, .. } => {
                self.tell(Event::Repaired(Range { source, life, from, to }));
            }
            Core::Lagged { missed, .. } => self.tell(Event::Lagged { missed }),
            Core::Overloaded { cap, .. } => self.tell(Event::Overloaded { cap }),
            Core::Forked { source, .. } => self.tell(Event::Forked { source }),
            other => tracing::debug!(?other, "an event nobody is told"),
        }
    }
}

/// Which group an event is about.
pub(super) fn group_of(event: &treecast_overlay::Event) -> Option<GroupId> {
    use treecast_overlay::Event as Core;
    match event {
        Core::Ready { group }
        | Core::Deliver { group, .. }
        | Core::Ordered { group, .. }
        | Core::OrderStalled { group, .. }
        | Core::OrderResumed { group }
        | Core::Sent { group, .. }
        | Core::Receipt { group, .. }
        | Core::MemberJoined { group, .. }
        | Core::MemberOnline { group, .. }
        | Core::MemberRenamed { group, .. }
        | Core::MemberOffline { group, .. }
        | Core::MemberLeft { group, .. }
        | Core::MemberRemoved { group, .. }
        | Core::RemoveRefused { group, .. }
        | Core::MemberFailed { group, .. }
        | Core::ParentChanged { group, .. }
        | Core::Gap { group, .. }
        | Core::Repaired { group, .. }
        | Core::Lagged { group, .. }
        | Core::Overloaded { group, .. }
        | Core::Forked { group, .. } => Some(*group),
        _ => None,
    }
}
