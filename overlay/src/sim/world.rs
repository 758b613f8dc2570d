//! The driver of all nodes at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::disk::Work;
use super::faults::Cut;
use super::lie::{Liar, Lie};
use super::link::Conn;
use super::meter::Meter;
use super::network::NetworkModel;
use super::node::{self, Host, NodeIx, SimNode};
use super::queue::{Happening, Queue};
use super::record::{Captured, Record, Stop, What};
use super::scenario::Step;
use super::trace::Trace;
use crate::config::Config;
use crate::descriptor::Descriptor;
use crate::engine::{Engine, Start};
use crate::id::{GroupId, LinkId, NodeId, PublishId};
use crate::identity::Identity;
use crate::io::{CollectionView, Event, GroupView, Input, Output, TreeView};
use crate::out::Out;
use crate::rng::Rng;
use crate::time::Time;

/// The wall clock at the world's beginning, unix milliseconds.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// Ticks an engine may take at one moment before it counts as spinning.
const MAX_TICKS: u32 = 1_000;

/// Between questions on the LAN that nobody answered.
const MULTICAST_EVERY: Duration = Duration::from_secs(3);

/// Whom a node hears of when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contacts {
    /// Nobody.
    Nobody,
    /// The node that was added first.
    First,
    /// So many that run, at random, as a ticket names them.
    Random(usize),
    /// All that run and can be reached, shortly after, and they of it: multicast on a LAN.
    All,
}

/// What went over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Frames put on an uplink.
    pub frames: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Frames lost for good.
    pub lost: u64,
    /// Inputs that engines took.
    pub inputs: u64,
}

/// Turns a frame into what is sent in its place.
pub type Tamper = Box<dyn FnMut(Bytes) -> Vec<Bytes>>;

/// All nodes, the network between them, and the clock.
pub struct World {
    /// Of the engines that start from now on.
    pub config: Config,
    /// Of the nodes that start from now on.
    pub contacts: Contacts,
    /// Whether the nodes that start from now on take all signatures for good and make none,
    /// as nobody forges here: Ed25519 would be most of what a large simulation does.
    pub assume_signatures: bool,
    pub(super) network: NetworkModel,
    pub(super) now: Time,
    pub(super) queue: Queue,
    pub(super) nodes: Vec<SimNode>,
    pub(super) index: BTreeMap<NodeId, NodeIx>,
    pub(super) conns: Vec<Conn>,
    pub(super) cuts: Vec<Cut>,
    pub(super) cuts_made: u64,
    pub(super) rng: Rng,
    pub(super) pair_seed: u64,
    pub(super) traffic: Traffic,
    pub(super) captured: Option<Vec<Captured>>,
    pub(super) capture_max: usize,
    pub(super) tamper: Option<(NodeIx, Tamper)>,
    pub(super) liars: BTreeMap<NodeIx, Liar>,
    /// Measures instead of records.
    pub(super) meter: Option<Box<Meter>>,
    trace: Trace,
    records: Vec<Record>,
    publications: u64,
    out: Out,
    inputs: VecDeque<Input>,
}

impl World {
    /// An empty world. Everything that is drawn in it follows from `seed`.
    pub fn new(seed: u64, network: NetworkModel) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            config: Config::default(),
            contacts: Contacts::First,
            assume_signatures: false,
            network,
            now: Time::ZERO,
            queue: Queue::default(),
            nodes: Vec::new(),
            index: BTreeMap::new(),
            conns: Vec::new(),
            cuts: Vec::new(),
            cuts_made: 0,
            pair_seed: rng.next_u64(),
            rng,
            traffic: Traffic::default(),
            captured: None,
            capture_max: 0,
            tamper: None,
            liars: BTreeMap::new(),
            meter: None,
            trace: Trace::new(seed),
            records: Vec::new(),
            publications: 0,
            out: Out::new(),
            inputs: VecDeque::new(),
        }
    }

    /// A new node that will be in these groups; it does not run yet.
    pub fn add_node(&mut self, groups: &[Descriptor]) -> NodeIx {
        let mut secret_key = [0; 32];
        for chunk in secret_key.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.rng.next_u64().to_le_bytes());
        }
        self.add_node_with_key(groups, secret_key)
    }

    /// A new node with a key of the caller's choice.
    pub fn add_node_with_key(&mut self, groups: &[Descriptor], secret_key: [u8; 32]) -> NodeIx {
        let ix = NodeIx(self.nodes.len());
        let node = SimNode::new(secret_key, self.network.place(ix.0, &mut self.rng), groups.to_vec());
        self.index.insert(node.id, ix);
        self.nodes.push(node);
        ix
    }

    /// A node without an engine: it accepts dials and hears everything in silence; the caller
    /// speaks for it with [`World::feed`] at the other end of [`World::link_to`].
    pub fn add_puppet(&mut self) -> NodeIx {
        let ix = self.add_node(&[]);
        self.nodes[ix.0].puppet = true;
        ix
    }

    /// A connection from a puppet to a running node, at once; the node's number for it.
    pub fn link_to(&mut self, puppet: NodeIx, node: NodeIx) -> LinkId {
        let conn = self.connect(puppet, node);
        let link = self.conns[conn].ends[1].link;
        let up = Input::LinkUp { link, node: self.nodes[puppet.0].id };
        self.feed(node, up);
        link
    }

    /// Whether the node still has this link.
    pub fn has_link(&self, node: NodeIx, link: LinkId) -> bool {
        self.nodes[node.0].end(link).is_some_and(|(conn, side)| self.conns[conn].ends[side].open)
    }

    /// The node's open links, and who is at their other ends.
    pub fn links(&self, node: NodeIx) -> Vec<(LinkId, NodeIx)> {
        let ends = self.nodes[node.0].links.iter().map(|(conn, side)| {
            let ends = &self.conns[*conn].ends;
            (&ends[*side], ends[1 - *side].node)
        });
        ends.filter(|(end, _)| end.open).map(|(end, peer)| (end.link, peer)).collect()
    }

    /// Starts a node that does not run, with or without its disk. On that are the highest life,
    /// the nodes it had met, as an application remembers them, and, with
    /// [`Config::history`], all that it was told to keep.
    pub fn start(&mut self, ix: NodeIx, with_disk: bool) {
        if self.nodes[ix.0].engine.is_some() {
            return;
        }
        self.reset_former_links(ix);
        let unix_ms = self.unix_ms(ix);
        let node = &mut self.nodes[ix.0];
        if !with_disk {
            node.disk.wipe();
        }
        let start = Start {
            config: self.config.clone(),
            secret_key: node.secret_key,
            seed: self.rng.next_u64(),
            unix_ms,
            last_life: node.disk.last_life(),
            ends: node.disk.ends(),
        };
        let engine = if self.assume_signatures { Engine::trusting(start) } else { Engine::new(start) };
        node.engine = Some(engine.expect("the world's configuration is in range"));
        node.host = Host::Up;
        node.run += 1;
        node.zero = self.now;
        node.wake = None;
        node.ticks = (Time::ZERO, 0);
        node.leaving.clear();
        node.drain_scheduled = false;
        node.known = node.disk.met.clone();
        let joins: Vec<Input> = node.groups.iter().map(|it| Input::Join(Box::new(it.clone()))).collect();
        let pasts = self.pasts(ix);
        let resumed = pasts.iter().filter(|it| it.entered).map(|it| it.group).collect();
        self.record(ix, What::Started { with_disk, resumed });
        self.feed(ix, Input::OwnAddresses(vec![node::address(ix)]));
        let pasts = pasts.into_iter().map(|past| Input::Resume(Box::new(past)));
        for input in pasts.chain(joins) {
            self.feed(ix, input);
        }
        self.introduce(ix);
    }

    fn unix_ms(&self, ix: NodeIx) -> u64 {
        let now_ms = EPOCH_MS + self.now.as_micros() / 1_000;
        now_ms.saturating_add_signed(self.nodes[ix.0].clock_skew_ms)
    }

    /// Tells a node that has started whom it can dial.
    fn introduce(&mut self, ix: NodeIx) {
        let mut others: Vec<NodeIx> = self.nodes[ix.0].known.iter().copied().collect();
        let running = (0..self.nodes.len()).map(NodeIx).filter(|it| *it != ix && self.is_running(*it));
        match self.contacts {
            Contacts::Nobody => {}
            Contacts::First => others.extend((ix != NodeIx(0)).then_some(NodeIx(0))),
            Contacts::Random(count) => {
                let mut running: Vec<NodeIx> = running.collect();
                self.rng.shuffle(&mut running);
                others.extend(running.into_iter().take(count));
            }
            Contacts::All => {
                for other in running.collect::<Vec<_>>() {
                    self.hear_soon(ix, other);
                    self.hear_soon(other, ix);
                }
            }
        }
        others.sort_unstable();
        others.dedup();
        for other in others {
            self.discover(ix, other);
        }
    }

    fn hear_soon(&mut self, ix: NodeIx, other: NodeIx) {
        let at = self.now + Duration::from_millis(20 + self.rng.below(100) as u64);
        let run = self.nodes[ix.0].run;
        self.queue.push(at, Happening::Discovered { node: ix, run, other });
    }

    /// Multicast repeats its question until it is answered.
    fn on_discovered(&mut self, ix: NodeIx, run: u32, other: NodeIx) {
        if self.blocked_either_way(ix, other) {
            self.queue.push(self.now + MULTICAST_EVERY, Happening::Discovered { node: ix, run, other });
        } else if self.runs(ix, run) && self.is_running(other) {
            self.discover(ix, other);
        }
    }

    /// Tells a node where another is.
    pub fn discover(&mut self, ix: NodeIx, other: NodeIx) {
        self.nodes[ix.0].known.insert(other);
        let node = self.nodes[other.0].id;
        self.feed(ix, Input::Discovered { node, addresses: vec![node::address(other)] });
    }

    /// The application publishes; `None` if the node does not run.
    pub fn publish(&mut self, node: NodeIx, group: GroupId, payload: Bytes) -> Option<PublishId> {
        self.nodes[node.0].engine.as_ref()?;
        let id = PublishId(self.publications);
        self.publications += 1;
        self.record(node, What::Publish { group, id, payload: payload.clone() });
        self.feed(node, Input::Publish { group, id, payload });
        Some(id)
    }

    /// How many more bytes a node takes for publication now; none while it does not run.
    pub fn publish_room(&self, node: NodeIx, group: GroupId) -> usize {
        self.nodes[node.0].engine.as_ref().map_or(0, |engine| engine.publish_room(group))
    }

    /// Asks a node to say goodbye and stop.
    pub fn shutdown(&mut self, node: NodeIx) {
        if self.is_running(node) {
            self.record(node, What::ShutdownAsked);
            self.feed(node, Input::Shutdown);
        }
    }

    /// Asks a node to leave a group for good.
    pub fn leave(&mut self, node: NodeIx, group: GroupId) {
        if self.is_running(node) {
            self.record(node, What::LeaveAsked(group));
            self.feed(node, Input::Leave(group));
        }
    }

    /// Puts a step in the queue.
    pub fn schedule(&mut self, at: Time, step: Step) {
        self.queue.push(at.max(self.now), Happening::Step(Box::new(step)));
    }

    /// Remembers the next `max` frames that are sent.
    pub fn capture(&mut self, max: usize) {
        self.captured = Some(Vec::new());
        self.capture_max = max;
    }

    /// The frames remembered since [`World::capture`].
    pub fn take_captured(&mut self) -> Vec<Captured> {
        self.captured.take().unwrap_or_default()
    }

    /// From now on this node's frames are changed on their way out; `None` ends it.
    pub fn tamper(&mut self, tamper: Option<(NodeIx, Tamper)>) {
        self.tamper = tamper;
    }

    /// From now on this node misbehaves.
    pub fn lie(&mut self, node: NodeIx, lie: Lie) {
        let it = &self.nodes[node.0];
        let group = it.groups.first().map_or(GroupId::from_bytes([0; 32]), Descriptor::id);
        self.liars.insert(node, Liar::new(lie, Identity::new(&it.secret_key), group));
    }

    /// What was observed since the last call.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// The moment it is.
    pub fn now(&self) -> Time {
        self.now
    }

    /// When the next thing happens.
    pub fn next_time(&self) -> Option<Time> {
        self.queue.next_time()
    }

    /// What went over the network so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// BLAKE3 over all that engines took and told, hexadecimal.
    pub fn trace_hash(&self) -> String {
        self.trace.hash()
    }

    /// How many nodes there are, running or not.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Who a node is.
    pub fn id(&self, node: NodeIx) -> NodeId {
        self.nodes[node.0].id
    }

    /// Which node has this id.
    pub fn ix(&self, id: &NodeId) -> Option<NodeIx> {
        self.index.get(id).copied()
    }

    /// Whether the node has a running engine.
    pub fn is_running(&self, node: NodeIx) -> bool {
        self.nodes[node.0].engine.is_some()
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<NodeIx> {
        (0..self.nodes.len()).map(NodeIx).filter(|ix| self.is_running(*ix)).collect()
    }

    /// The groups a node was made for.
    pub fn group_ids(&self, node: NodeIx) -> Vec<GroupId> {
        self.nodes[node.0].groups.iter().map(Descriptor::id).collect()
    }

    /// A group as a running node sees it.
    pub fn view(&self, node: NodeIx, group: GroupId) -> Option<GroupView> {
        let node = &self.nodes[node.0];
        node.engine.as_ref()?.group(node.local(self.now), group)
    }

    /// A running node's places in a group's trees.
    pub fn trees(&self, node: NodeIx, group: GroupId) -> Vec<TreeView> {
        let node = &self.nodes[node.0];
        node.engine.as_ref().map(|it| it.trees(node.local(self.now), group)).unwrap_or_default()
    }

    /// How full a running node's collections are.
    pub fn collections(&self, node: NodeIx) -> Vec<CollectionView> {
        self.nodes[node.0].engine.as_ref().map(Engine::collections).unwrap_or_default()
    }

    /// Runs until `until`; what happens then happens too.
    pub fn run_until(&mut self, until: Time) {
        while self.next_time().is_some_and(|next| next <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// Lets the next thing happen; `false` if there is none.
    pub fn step(&mut self) -> bool {
        let Some((time, what)) = self.queue.pop() else { return false };
        self.now = self.now.max(time);
        match what {
            Happening::Wake { node, run } => self.on_wake(node, run),
            Happening::Arrive { conn, to, lane, departed, cargo } => {
                self.on_arrive(conn, to, lane, departed, cargo);
            }
            Happening::Drain { node, run } => self.on_drain(node, run),
            Happening::Open { dialler, run, target } => self.on_open(dialler, run, target),
            Happening::DialFailed { node, run, target } => {
                if self.runs(node, run) {
                    self.feed(node, Input::DialFailed { node: target });
                }
            }
            Happening::Down { conn, side } => self.on_down(conn, side),
            Happening::CutTimeout { conn, cut } => self.on_cut_timeout(conn, cut),
            Happening::Persisted { node, run, token, ok } => {
                if self.runs(node, run) {
                    if !ok {
                        self.nodes[node.0].disk.untold_failures -= 1;
                    }
                    self.feed(node, if ok { Input::Persisted(token) } else { Input::PersistFailed(token) });
                }
            }
            Happening::Written { node, run } => self.on_written(node, run),
            Happening::File { node, run } => self.on_file(node, run),
            Happening::Fetched { node, run, token, found } => self.on_fetched(node, run, token, found),
            Happening::FetchedEarlier { node, run, token, piece } => {
                self.on_fetched_earlier(node, run, token, piece);
            }
            Happening::Discovered { node, run, other } => {
                self.on_discovered(node, run, other);
            }
            Happening::Step(step) => self.apply(*step),
        }
        true
    }

    /// Whether this very run of the node goes on.
    pub(super) fn runs(&self, node: NodeIx, run: u32) -> bool {
        let node = &self.nodes[node.0];
        node.run == run && node.engine.is_some()
    }

    fn on_wake(&mut self, ix: NodeIx, run: u32) {
        if !self.runs(ix, run) || self.nodes[ix.0].wake != Some(self.now) {
            return;
        }
        self.nodes[ix.0].wake = None;
        if self.due(ix).is_some_and(|due| due <= self.now) {
            self.count_tick(ix);
            self.feed(ix, Input::Tick);
        } else {
            self.reschedule(ix);
        }
    }

    fn count_tick(&mut self, ix: NodeIx) {
        let ticks = &mut self.nodes[ix.0].ticks;
        *ticks = if ticks.0 == self.now { (self.now, ticks.1 + 1) } else { (self.now, 1) };
        assert!(ticks.1 < MAX_TICKS, "the deadline of node {} does not advance past {:?}", ix.0, self.now);
    }

    fn due(&self, ix: NodeIx) -> Option<Time> {
        let node = &self.nodes[ix.0];
        node.engine.as_ref()?.deadline().map(|deadline| node.global(deadline))
    }

    fn reschedule(&mut self, ix: NodeIx) {
        let Some(due) = self.due(ix) else { return };
        let due = due.max(self.now);
        let node = &mut self.nodes[ix.0];
        if node.wake.is_none_or(|wake| due < wake) {
            node.wake = Some(due);
            self.queue.push(due, Happening::Wake { node: ix, run: node.run });
        }
    }

    /// Hands an input to a running node and carries out what it asks for.
    pub fn feed(&mut self, ix: NodeIx, input: Input) {
        let mut inputs = std::mem::take(&mut self.inputs);
        let mut out = std::mem::take(&mut self.out);
        inputs.push_back(input);
        while let Some(input) = inputs.pop_front() {
            let node = &mut self.nodes[ix.0];
            let now = node.local(self.now);
            let Some(engine) = node.engine.as_mut() else { continue };
            self.trace.input(self.now, ix, &input);
            self.traffic.inputs += 1;
            engine.handle(now, input, &mut out);
            while let Some(output) = out.pop() {
                self.carry_out(ix, output, &mut inputs);
            }
        }
        self.inputs = inputs;
        self.out = out;
        self.reschedule(ix);
    }

    fn carry_out(&mut self, ix: NodeIx, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Send { link, lane, frame } => self.send(ix, link, lane, frame),
            Output::Dial { node, addresses } => self.dial(ix, node, &addresses),
            Output::Close { link, reason } => self.close(ix, link, reason),
            Output::Persist { token, writes } => inputs.extend(self.persist(ix, token, &writes)),
            Output::Record(record) => self.keep(ix, Work::Delivered(record)),
            Output::Fetch { token, fetch } => self.fetch(ix, token, &fetch),
            Output::FetchEarlier { token, fetch } => self.fetch_earlier(ix, token, &fetch),
            Output::Event(event) => {
                self.note(ix, &event);
                self.trace.event(self.now, ix, &event);
                let stops = event == Event::ShutdownComplete;
                if let Some(meter) = &mut self.meter {
                    meter.on_event(self.now, ix, &event);
                }
                self.record(ix, What::Event(event));
                if stops {
                    self.halt(ix, Stop::Goodbye);
                }
            }
        }
    }

    pub(super) fn record(&mut self, node: NodeIx, what: What) {
        if self.meter.is_some() {
            return;
        }
        let run = self.nodes[node.0].run;
        self.records.push(Record { time: self.now, node, run, what });
    }
}
