//! What happens in a run, drawn from its seed.

use std::collections::BTreeSet;
use std::time::Duration;

use treecast_overlay::sim::{Contacts, Crash, Latency, NetworkModel, NodeIx, Scenario, Step, World};
use treecast_overlay::{Config, Descriptor, Input, NodeId, Order, Rng};

use super::{nasty, ordered};

/// How large a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 2 to 8 nodes, many faults.
    Tiny,
    /// 9 to 30 nodes, many faults.
    Small,
    /// 200 to 250 nodes, some faults.
    Large,
    /// 2 to 10 nodes with disks, and many faults of hosts and disks besides.
    Nasty,
    /// 3 to 7 nodes with disks in a total order, and all kinds of faults.
    Ordered,
}

/// One thing that is done to the world.
#[derive(Debug, Clone)]
pub enum Act {
    /// A fault, a start, a stop.
    Step(Step),
    /// The same, but not where it would take away a committee for good: then a start without a disk is one with
    /// it, and anything else does not happen.
    Spared(Step),
    /// Something that no driver of ours would say.
    Feed(NodeIx, Input),
    /// Messages of this length, all at once.
    Publish {
        /// Who.
        node: NodeIx,
        /// How many.
        count: usize,
        /// Bytes each.
        len: usize,
    },
}

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The world at its start, without steps.
    pub scenario: Scenario,
    /// What happens, by time; what comes at one time happens in this order.
    pub acts: Vec<(Duration, Act)>,
    /// Chance that a delivery is answered.
    pub answers: f64,
    /// When faults are lifted.
    pub calm: Duration,
    /// When all that must hold after quiescence is demanded.
    pub end: Duration,
}

/// When misfortune begins: everybody has had the time to settle.
pub(super) const STORM: u64 = 5_000;

/// How long after the storm everybody says something once more: all holes of the storm are
/// filled or given up by then.
const LAST_WORDS: u64 = 35_000;

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Plan {
    /// The run of this seed.
    pub fn generate(seed: u64, size: Size) -> Self {
        let mut rng = Rng::new(seed ^ 0x7265_6563_6173_7401);
        let (nodes, storm, faults) = match size {
            Size::Tiny => (2 + rng.below(7), 20_000, rng.below(8)),
            Size::Small => (9 + rng.below(22), 20_000, 3 + rng.below(10)),
            Size::Large => (200 + rng.below(51), 6_000, 3 + rng.below(4)),
            Size::Nasty => (2 + rng.below(9), 30_000, 3 + rng.below(12)),
            Size::Ordered => (3 + rng.below(5), 13_000, 2 + rng.below(8)),
        };
        let mut group = Descriptor::open("storm").expect("a good name");
        group.order = match rng.below(10) {
            0 => Order::Unordered,
            1 | 2 => Order::Fifo,
            _ => Order::Causal,
        };
        if size == Size::Ordered {
            (group.order, group.founder) = (Order::Total, Some(first_node(seed)));
        }
        let mut network = network(&mut rng);
        let calm = ms(STORM + storm);
        let contacts = match rng.below(3) {
            0 if size != Size::Large => Contacts::All,
            1 if size != Size::Ordered => Contacts::First,
            _ => Contacts::Random(3),
        };
        // Whoever knows one address only depends on it.
        let spared = if contacts == Contacts::First { 1 } else { 0 };
        let mut config = Config::default();
        if matches!(size, Size::Nasty | Size::Ordered) {
            nasty::harden(&mut rng, &mut network, &mut config);
        }
        if size == Size::Ordered {
            ordered::configure(&mut rng, &mut config);
        }
        let (skewed, forgetful) = Default::default();
        let last_words = if size == Size::Ordered { 12_000 } else { LAST_WORDS };
        let (gone, copied, acts) = Default::default();
        let mut draft =
            Draft { rng, nodes, storm, spared, skewed, forgetful, gone, copied, last_words, acts };
        draft.starts();
        match size {
            Size::Ordered => draft.chatter(),
            _ => draft.talk(),
        }
        for _ in 0..faults {
            match size {
                Size::Nasty => draft.nasty_fault(),
                Size::Ordered => draft.ordered_fault(),
                _ => draft.fault(),
            }
        }
        draft.lift();
        match size {
            Size::Nasty => draft.wake_up(),
            Size::Ordered => {
                draft.keep_witnesses();
                draft.all_return();
            }
            _ => {}
        }
        let Draft { mut rng, mut acts, .. } = draft;
        acts.sort_by_key(|(at, _)| *at);
        // The last words may wait for a hole that the first of them shows.
        let mut end = calm + ms(last_words) + config.lost_after;
        if size != Size::Ordered {
            end += ms(15_000);
        }
        if config.history && size != Size::Ordered {
            // Who was found to have failed may be waited for.
            end += config.store_age;
        }
        let answers = 0.1 * rng.unit();
        let scenario = Scenario { seed, nodes, group, network, config, contacts, steps: Vec::new() };
        Self { scenario, acts, answers, calm, end }
    }
}

/// Who is the first in a world of this seed.
fn first_node(seed: u64) -> NodeId {
    let mut world = World::new(seed, NetworkModel::lan());
    let first = world.add_node(&[]);
    world.id(first)
}

fn network(rng: &mut Rng) -> NetworkModel {
    let latency = match rng.below(4) {
        0 => Latency::Lan,
        1 | 2 => Latency::Uniform { from: ms(1 + rng.below(10) as u64), to: ms(20 + rng.below(80) as u64) },
        _ => Latency::Regions { noise: 0.25 },
    };
    let lossy = rng.below(2) == 0;
    NetworkModel {
        latency,
        loss: if lossy { 0.1 * rng.unit() } else { 0.0 },
        jitter: ms(if rng.below(2) == 0 { rng.below(20) as u64 } else { 0 }),
        disk_delay: ms(if rng.below(3) == 0 { rng.below(30) as u64 } else { 0 }),
        ..NetworkModel::lan()
    }
}

/// A plan being drawn.
pub(super) struct Draft {
    pub(super) rng: Rng,
    pub(super) nodes: usize,
    pub(super) storm: u64,
    /// The first so many do not go.
    pub(super) spared: usize,
    /// Whose clocks are wrong, and whose disks get lost or old.
    pub(super) skewed: BTreeSet<NodeIx>,
    pub(super) forgetful: BTreeSet<NodeIx>,
    /// Who does not come back as it was: it leaves, or forgets.
    pub(super) gone: Option<NodeIx>,
    /// Who comes back with an old copy of its disk.
    pub(super) copied: Option<NodeIx>,
    last_words: u64,
    pub(super) acts: Vec<(Duration, Act)>,
}

impl Draft {
    pub(super) fn at(&mut self, when_ms: u64, act: Act) {
        self.acts.push((ms(when_ms), act));
    }

    pub(super) fn step(&mut self, when_ms: u64, step: Step) {
        self.at(when_ms, Act::Step(step));
    }

    pub(super) fn node(&mut self) -> NodeIx {
        NodeIx(self.rng.below(self.nodes))
    }

    /// One that may go.
    pub(super) fn victim(&mut self) -> NodeIx {
        NodeIx(self.spared + self.rng.below(self.nodes - self.spared))
    }

    /// A moment in the storm.
    pub(super) fn moment(&mut self) -> u64 {
        STORM + self.rng.below(usize::try_from(self.storm).expect("small")) as u64
    }

    pub(super) fn up_to(&mut self, most: usize) -> u64 {
        self.rng.below(most) as u64
    }

    /// Most nodes start at once or over a second, some only in the storm.
    fn starts(&mut self) {
        let spread = if self.rng.below(2) == 0 { 1 } else { 1_500 };
        for node in 0..self.nodes {
            let late = node > 1 && self.rng.below(8) == 0;
            let at = if late { self.moment() } else { self.up_to(spread) };
            self.step(at, Step::Start { node: NodeIx(node), with_disk: true });
        }
    }

    /// A few sources that publish all along, some bursts, some large messages.
    fn talk(&mut self) {
        let until = usize::try_from(STORM + self.storm).expect("small");
        for _ in 0..1 + self.rng.below(4) {
            let node = self.node();
            for _ in 0..5 + self.rng.below(30) {
                let (at, len) = (self.up_to(until), 16 + self.rng.below(400));
                self.at(at, Act::Publish { node, count: 1, len });
            }
        }
        for _ in 0..self.rng.below(4) {
            let (at, node) = (self.up_to(until), self.node());
            let (count, len) = if self.rng.below(3) == 0 {
                (1 + self.rng.below(3), 10_000 + self.rng.below(200_000))
            } else {
                (20 + self.rng.below(300), 16 + self.rng.below(600))
            };
            self.at(at, Act::Publish { node, count, len });
        }
    }

    pub(super) fn fault(&mut self) {
        let at = self.moment();
        match self.rng.below(12) {
            0..4 => self.crash(at),
            4 => {
                let (node, back) = (self.victim(), at + 3_000 + self.up_to(5_000));
                self.step(at, Step::Shutdown(node));
                self.step(back, Step::Start { node, with_disk: true });
            }
            5 if self.nodes > 3 => {
                let node = self.victim();
                self.step(at, Step::Leave(node));
            }
            5..9 => self.cut(at),
            9 => {
                let node = self.node();
                self.step(at, Step::DropLinks(node));
            }
            10 => {
                let (node, bytes_per_s) = (self.node(), 10_000 + self.up_to(200_000));
                self.step(at, Step::Uplink { node, bytes_per_s });
            }
            _ => {
                let loss = 0.4 * self.rng.unit();
                self.step(at, Step::Loss(loss));
            }
        }
    }

    pub(super) fn crash(&mut self, at: u64) {
        let how = if self.rng.below(2) == 0 { Crash::Process } else { Crash::Host };
        let (node, back) = (self.victim(), at + 100 + self.up_to(8_000));
        let with_disk = self.rng.below(5) > 0;
        // Sometimes in the middle of a word.
        if self.rng.below(2) == 0 {
            self.at(at, Act::Publish { node, count: 5, len: 100 });
        }
        let dies = at + self.up_to(10);
        self.step(dies, Step::Crash { node, how });
        if self.rng.below(4) > 0 {
            self.step(back, Step::Start { node, with_disk });
        }
    }

    pub(super) fn cut(&mut self, at: u64) {
        let mut a: Vec<_> = (0..self.nodes).map(NodeIx).collect();
        self.rng.shuffle(&mut a);
        let mut b = a.split_off(1 + self.rng.below(self.nodes - 1));
        if self.rng.below(3) == 0 {
            // Partial: some of the other side still see everybody.
            b.retain(|_| self.rng.below(2) == 0);
        }
        let one_way = self.rng.below(4) == 0;
        let heals = at + 200 + self.up_to(15_000);
        self.step(at, Step::Cut { a, b, one_way });
        self.step(heals, Step::Heal);
    }

    /// Everything is mended, except that some of the dead stay dead.
    fn lift(&mut self) {
        let calm = STORM + self.storm;
        // Steps that would come later are dropped: the dead that were to come back then stay away.
        self.acts.retain(|(at, _)| *at < ms(calm));
        self.step(calm, Step::Heal);
        self.step(calm, Step::Loss(0.0));
        for node in 0..self.nodes {
            self.step(calm, Step::Uplink { node: NodeIx(node), bytes_per_s: 12_500_000 });
        }
        // At the end everybody says something: talk goes on.
        for node in 0..self.nodes.min(30) {
            let at = calm + self.last_words + self.up_to(2_000);
            self.at(at, Act::Publish { node: NodeIx(node), count: 1, len: 40 });
        }
    }
}
