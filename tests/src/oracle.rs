//! The oracle knows what was published, where and when; and reads what every application
//! was told into a history that can be judged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use treecast_overlay::io::{CloseReason, Delivery, Event, PublishError, Shown};
use treecast_overlay::sim::{NodeIx, Record, Stop, What, World};
use treecast_overlay::{BatchId, GroupId, Life, NodeId, PublishId, Rng, Seq, Time};

/// A message as the oracle names it: the n-th that a node's application published, over all
/// of its runs. It is written in the payload, so that no word of the engine's is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Who published it.
    pub author: NodeIx,
    /// How many it had published before.
    pub n: u64,
}

impl Key {
    const LEN: usize = 16;

    /// The payload of this message, at least 16 bytes long: the key, then bytes that follow
    /// from it.
    pub fn payload(self, len: usize) -> Bytes {
        let mut payload = Vec::with_capacity(len.max(Self::LEN));
        payload.extend_from_slice(&(self.author.0 as u64).to_le_bytes());
        payload.extend_from_slice(&self.n.to_le_bytes());
        let mut rng = Rng::new((self.author.0 as u64) << 40 ^ self.n);
        while payload.len() < len {
            payload.extend_from_slice(&rng.next_u64().to_le_bytes());
        }
        payload.truncate(len.max(Self::LEN));
        payload.into()
    }

    /// The message that this payload claims to be.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(payload.get(at..at + 8)?.try_into().ok()?));
        Some(Self { author: NodeIx(usize::try_from(word(0)?).ok()?), n: word(8)? })
    }

    /// Whether every byte of the payload is as it was published.
    pub fn is_intact(self, payload: &[u8]) -> bool {
        self.payload(payload.len()) == payload
    }
}

/// One delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Whose the engine says it is; `None` for a node that is not in the world.
    pub source: Option<NodeIx>,
    /// In which life.
    pub life: Life,
    /// In which batch.
    pub seq: Seq,
    /// Its number in the batch.
    pub n: u32,
    /// Which message its payload says it is; `None` if it was altered.
    pub key: Option<Key>,
}

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: Time,
    /// At which node.
    pub node: NodeIx,
    /// In which of its runs, from 1.
    pub run: u32,
    /// What.
    pub fact: Fact,
}

/// What happened, as far as a property speaks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// A run began.
    Started {
        /// The node is a member by what is on its disk.
        resumed: bool,
    },
    /// The node lost what was on its disk.
    Wiped,
    /// A copy of the node's disk was made.
    BackedUp,
    /// The node's disk was replaced by its copy.
    Restored,
    /// A run ended.
    Stopped(Stop),
    /// The application asked for the goodbye.
    ShutdownAsked,
    /// The application asked to leave for good.
    LeaveAsked,
    /// The engine said that the node is out.
    LeftGroup,
    /// The group has a neighbour and a place in the tree.
    Ready,
    /// The application published.
    Published(Key),
    /// The engine gave the message a place.
    Placed(Key),
    /// The engine refused it.
    Refused(Key, PublishError),
    /// The application was given a message.
    Delivered(Delivered),
    /// The application was given a message that has no place in the total order yet.
    Tentative(Delivered),
    /// The application was told that a message has this place in the total order.
    Ordered(u64, Delivered),
    /// The application was told that batches of this source, from this time of telling on,
    /// will not come.
    Lost {
        /// Whose.
        source: Option<NodeIx>,
        /// Of which life.
        life: Life,
        /// From which on.
        from: Seq,
        /// The first that is not lost.
        to: Seq,
    },
    /// The application was told of an exceeded cap, or of a too long absence.
    Excused,
    /// The engine closed a link.
    Closed {
        /// Who was at its other end.
        peer: NodeIx,
        /// Why.
        reason: CloseReason,
    },
    /// The application was told that this source signed two batches for one place.
    Forked {
        /// Who.
        source: Option<NodeIx>,
    },
}

/// All that happened in one group, in order.
#[derive(Debug, Default, Clone)]
pub struct History {
    /// Every fact.
    pub entries: Vec<Entry>,
    /// What is on each node's disk at the end, in the order in which it was delivered there; nothing
    /// where nodes have none.
    pub disks: BTreeMap<NodeIx, Vec<Delivered>>,
    /// What is there besides of what was said before the node's time.
    pub earlier: BTreeMap<NodeIx, Vec<Delivered>>,
    /// What was on its disk when a run began that went on with it.
    pub resumed: BTreeMap<(NodeIx, u32), Vec<Key>>,
    /// Of total orders.
    pub order: Order,
}

/// What was seen of a total order beside what applications were told.
#[derive(Debug, Default, Clone)]
pub struct Order {
    /// What was on a node's disk when a run began that went on with it.
    pub resumed: BTreeMap<(NodeIx, u32), Sequence>,
    /// What is on each node's disk at the end, if something is.
    pub disks: BTreeMap<NodeIx, Sequence>,
    /// Who was seen to take whom for the committee of which epoch.
    pub committees: BTreeSet<(u64, Vec<NodeIx>, NodeIx)>,
    /// Batches that were first told to have a place when a majority of the committee did not have them on disk.
    pub frail: Vec<(Time, BatchId)>,
}

/// A piece of a total order on a disk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The place of the next message.
    pub next: u64,
    /// Messages by their places.
    pub places: BTreeMap<u64, Delivered>,
}

impl History {
    /// The same of settled messages alone: what has its place was delivered, and nothing else was.
    pub fn settled(&self) -> Self {
        let settle = |entry: &Entry| match entry.fact {
            Fact::Tentative(_) => None,
            Fact::Ordered(_, it) => Some(Entry { fact: Fact::Delivered(it), ..*entry }),
            _ => Some(*entry),
        };
        let kept = |it: &Sequence| it.places.values().copied().collect::<Vec<Delivered>>();
        let keys = |it: &Sequence| it.places.values().filter_map(|it| it.key).collect();
        Self {
            entries: self.entries.iter().filter_map(settle).collect(),
            disks: self.order.disks.iter().map(|(node, it)| (*node, kept(it))).collect(),
            earlier: BTreeMap::new(),
            resumed: self.order.resumed.iter().map(|(run, it)| (*run, keys(it))).collect(),
            order: Order::default(),
        }
    }

    /// The nodes that left the group for good, and have not been started again since.
    pub fn left(&self) -> BTreeSet<NodeIx> {
        let mut left = BTreeSet::new();
        for entry in &self.entries {
            match entry.fact {
                Fact::LeftGroup => left.insert(entry.node),
                Fact::Started { .. } => left.remove(&entry.node),
                _ => false,
            };
        }
        left
    }
}

/// Publishes with keys and keeps the history.
pub struct Oracle {
    group: GroupId,
    /// By node: how many messages it has published.
    published: Vec<u64>,
    /// By publish id: its message.
    keys: Vec<Key>,
    /// Places in a total order that somebody was told of.
    seen: BTreeSet<u64>,
    /// Who once lost its disk, or got an old copy of it, or left with what it had.
    forgot: BTreeSet<NodeIx>,
    /// `TREECAST_VERBOSE` is set: what happens is told on stderr.
    verbose: bool,
    /// What happened so far.
    pub history: History,
}

impl Oracle {
    /// An oracle for one group of a world.
    pub fn new(group: GroupId) -> Self {
        let verbose = std::env::var_os("TREECAST_VERBOSE").is_some();
        let (seen, forgot, history) = Default::default();
        Self { group, published: Vec::new(), keys: Vec::new(), seen, forgot, verbose, history }
    }

    /// The group it watches.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Says something on stderr, if `TREECAST_VERBOSE` is set.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{}", what());
        }
    }

    /// Publishes a message of `len` bytes at a node; nothing if it does not run.
    pub fn publish(&mut self, world: &mut World, node: NodeIx, len: usize) {
        if !world.is_running(node) {
            return;
        }
        if self.published.len() <= node.0 {
            self.published.resize(node.0 + 1, 0);
        }
        let key = Key { author: node, n: self.published[node.0] };
        self.published[node.0] += 1;
        world.publish(node, self.group, key.payload(len));
    }

    /// Takes what the world saw since the last call into the history; the index of the first
    /// new entry.
    pub fn observe(&mut self, world: &mut World) -> usize {
        let first = self.history.entries.len();
        let records = world.take_records();
        self.take_all(world, &records);
        first
    }

    /// Takes what somebody else has taken from the world.
    pub fn take_all(&mut self, world: &World, records: &[Record]) {
        for record in records {
            if self.verbose {
                tell(record);
            }
            self.take(world, record);
        }
    }

    fn take(&mut self, world: &World, record: &Record) {
        let Record { time, node, run, what } = record;
        let (time, node, run) = (*time, *node, *run);
        let mut push = |fact| self.history.entries.push(Entry { time, node, run, fact });
        match what {
            What::Started { with_disk, resumed } => {
                if !with_disk {
                    self.forgot.insert(node);
                    push(Fact::Wiped);
                }
                let resumed = resumed.contains(&self.group);
                push(Fact::Started { resumed });
                if resumed && let Some(order) = self.order_kept(world, node) {
                    self.history.order.resumed.insert((node, run), order);
                }
                if resumed {
                    let kept = self.kept(world, node).iter().filter_map(|it| it.key).collect();
                    self.history.resumed.insert((node, run), kept);
                }
            }
            What::BackedUp => push(Fact::BackedUp),
            What::Restored => {
                self.forgot.insert(node);
                push(Fact::Restored);
            }
            What::Stopped(stop) => push(Fact::Stopped(*stop)),
            What::ShutdownAsked => push(Fact::ShutdownAsked),
            What::LeaveAsked(group) if *group == self.group => push(Fact::LeaveAsked),
            What::Publish { group, id, payload } if *group == self.group => {
                let key = Key::read(payload).expect("only the oracle publishes");
                push(Fact::Published(key));
                let at = usize::try_from(id.0).expect("counted");
                self.keys.resize(at + 1, key);
            }
            What::Event(event) => self.take_event(world, (time, node, run), event),
            What::Closed { peer, reason } => push(Fact::Closed { peer: *peer, reason: *reason }),
            What::LeaveAsked(_) | What::Publish { .. } => {}
        }
    }

    /// Reads all disks.
    pub fn read_disks(&mut self, world: &World) {
        for node in (0..world.node_count()).map(NodeIx) {
            let mut kept = self.kept(world, node);
            let order = self.order_kept(world, node);
            // The records of an order are nobody's.
            let mut earlier = read_all(world, world.earlier(node, self.group));
            for list in [&mut kept, &mut earlier] {
                list.retain(|it| order.is_none() || it.source.is_some());
            }
            self.history.disks.insert(node, kept);
            self.history.earlier.insert(node, earlier);
            self.history.order.disks.extend(order.map(|order| (node, order)));
            if let Some(kept) = world.order_kept(node, self.group) {
                for (epoch, roster) in (2..).zip(&kept.committees) {
                    self.see_committee(world, node, epoch, roster);
                }
            }
        }
    }

    /// Of the places that nodes were told of since this entry: whether what has them is on the disks of a majority of
    /// a committee. Who was told may have gone on to the next one in the same moment; and who lost its disk, or got an
    /// old copy of it, may have had it.
    pub fn look_for_frail(&mut self, world: &World, first: usize) {
        for at in first..self.history.entries.len() {
            let Entry { time, node, fact: Fact::Ordered(index, it), .. } = self.history.entries[at] else {
                continue;
            };
            if !self.seen.insert(index) {
                continue;
            }
            self.see_committees_of(world, node);
            let Some(source) = it.source.map(|it| world.id(it)) else { continue };
            let batch = BatchId { source, life: it.life, seq: it.seq };
            let forgot = &self.forgot;
            let has = |it: &&NodeIx| forgot.contains(it) || world.is_kept(**it, self.group, &batch);
            let latest = self.history.order.committees.iter().filter(|it| it.2 == node).map(|it| &it.1);
            let mut latest = latest.rev().take(2);
            if !latest.any(|roster| roster.iter().filter(has).count() * 2 > roster.len()) {
                self.history.order.frail.push((time, batch));
            }
        }
    }

    /// Looks at whom nodes take for the committee.
    pub fn see_committees(&mut self, world: &World) {
        world.running().into_iter().for_each(|node| self.see_committees_of(world, node));
    }

    fn see_committees_of(&mut self, world: &World, node: NodeIx) {
        if let Some(order) = world.view(node, self.group).and_then(|it| it.order)
            && order.epoch > 0
        {
            self.see_committee(world, node, order.epoch, &order.committee);
        }
    }

    fn see_committee(&mut self, world: &World, node: NodeIx, epoch: u64, roster: &[NodeId]) {
        let roster = roster.iter().filter_map(|it| world.ix(it)).collect();
        self.history.order.committees.insert((epoch, roster, node));
    }

    /// What of the order is on a node's disk now.
    fn order_kept(&self, world: &World, node: NodeIx) -> Option<Sequence> {
        let kept = world.order_kept(node, self.group)?;
        let mut places = BTreeMap::new();
        for (index, batch) in kept.places {
            let first = |it: &Delivered| index + u64::from(it.n);
            places.extend(read_all(world, vec![batch]).into_iter().map(|it| (first(&it), it)));
        }
        Some(Sequence { next: kept.next, places })
    }

    /// What is on a node's disk now.
    fn kept(&self, world: &World, node: NodeIx) -> Vec<Delivered> {
        read_all(world, world.history(node, self.group))
    }

    fn take_event(&mut self, world: &World, (time, node, run): (Time, NodeIx, u32), event: &Event) {
        if group_of(event) != Some(self.group) {
            return;
        }
        let key = |id: &PublishId| self.keys[usize::try_from(id.0).expect("counted")];
        let ix = |id: &NodeId| world.ix(id);
        let fact = match event {
            Event::Ready { .. } => Fact::Ready,
            Event::LeftGroup { .. } => {
                self.forgot.insert(node);
                Fact::LeftGroup
            }
            Event::Published { id, .. } => Fact::Placed(key(id)),
            Event::Rejected { id, error, .. } => Fact::Refused(key(id), *error),
            Event::Gap { source, life, from, to, lost: true, .. } => {
                Fact::Lost { source: ix(source), life: *life, from: *from, to: *to }
            }
            Event::Lagged { .. } | Event::Overloaded { .. } => Fact::Excused,
            Event::Forked { source, .. } => Fact::Forked { source: ix(source) },
            Event::Deliver { delivery, tentative, .. } => {
                for it in messages(world, delivery) {
                    let fact = if *tentative { Fact::Tentative(it) } else { Fact::Delivered(it) };
                    self.history.entries.push(Entry { time, node, run, fact });
                }
                return;
            }
            Event::Ordered { index, delivery, .. } => {
                for (index, it) in (*index..).zip(messages(world, delivery)) {
                    let fact = Fact::Ordered(index, it);
                    self.history.entries.push(Entry { time, node, run, fact });
                }
                return;
            }
            _ => return,
        };
        self.history.entries.push(Entry { time, node, run, fact });
    }
}

fn messages(world: &World, delivery: &Delivery) -> impl Iterator<Item = Delivered> {
    let (source, life, seq) = (world.ix(&delivery.source), delivery.life, delivery.seq);
    (delivery.first..).zip(&delivery.payloads).map(move |(n, payload)| {
        let key = Key::read(payload).filter(|key| key.is_intact(payload));
        Delivered { source, life, seq, n, key }
    })
}

/// The messages of some batches.
fn read_all(world: &World, batches: Vec<Shown>) -> Vec<Delivered> {
    let all = batches.into_iter().flat_map(|it| {
        let BatchId { source, life, seq } = it.id;
        let source = world.ix(&source);
        let messages = it.messages.into_iter();
        messages.map(move |(n, payload)| {
            let key = Key::read(&payload).filter(|key| key.is_intact(&payload));
            Delivered { source, life, seq, n, key }
        })
    });
    all.collect()
}

/// For who looks into a run: one line a record, without payloads.
fn tell(record: &Record) {
    let Record { time, node, run, what } = record;
    let place = format!("{:>10} node {}.{run}", time.as_micros(), node.0);
    match what {
        What::Publish { id, payload, .. } => eprintln!("{place} publishes {id:?}: {:?}", Key::read(payload)),
        What::Event(Event::Deliver { delivery, .. }) => {
            let keys: Vec<_> = delivery.payloads.iter().filter_map(|it| Key::read(it)).collect();
            let keys: Vec<_> = keys.iter().map(|key| format!("{}/{}", key.author.0, key.n)).collect();
            eprintln!("{place} delivers {delivery:?} {keys:?}");
        }
        What::Event(Event::Ordered { index, delivery, .. }) => {
            let keys: Vec<_> = delivery.payloads.iter().filter_map(|it| Key::read(it)).collect();
            let keys: Vec<_> = keys.iter().map(|key| format!("{}/{}", key.author.0, key.n)).collect();
            eprintln!("{place} orders {index} {delivery:?} {keys:?}");
        }
        other => eprintln!("{place} {other:?}"),
    }
}

/// The group of an event that a property speaks of.
fn group_of(event: &Event) -> Option<GroupId> {
    match event {
        Event::Ready { group }
        | Event::LeftGroup { group }
        | Event::Published { group, .. }
        | Event::Rejected { group, .. }
        | Event::Gap { group, lost: true, .. }
        | Event::Lagged { group, .. }
        | Event::Overloaded { group, .. }
        | Event::Forked { group, .. }
        | Event::Deliver { group, .. }
        | Event::Ordered { group, .. } => Some(*group),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_which_message_it_is_and_shows_alterations() {
        let key = Key { author: NodeIx(3), n: 9 };
        let payload = key.payload(100);
        assert_eq!(payload.len(), 100);
        assert_eq!(Key::read(&payload), Some(key));
        assert!(key.is_intact(&payload));
        let mut altered = payload.to_vec();
        altered[57] ^= 1;
        assert!(!key.is_intact(&altered));
        assert_eq!(Key::read(b"short"), None);
    }
}
