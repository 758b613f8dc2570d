//! Carries an experiment out.

use std::time::Duration;

use bytes::Bytes;

use super::calendar::{Act, calendar};
use super::floor;
use super::judge;
use super::measures::Measures;
use super::options::{Experiment, Killed};
use super::settling::{Settling, mean_tree_delay};
use crate::descriptor::{Descriptor, Order};
use crate::id::GroupId;
use crate::identity::Identity;
use crate::rng::Rng;
use crate::sim::faults::Crash;
use crate::sim::meter::Meter;
use crate::sim::node::NodeIx;
use crate::sim::world::{Contacts, World};
use crate::time::Time;

/// How many members each newcomer is told of, at random: as many as a ticket names.
pub const CONTACTS: usize = 3;

/// A group that has not settled by then is measured as it is.
const SETTLED_BY: Duration = Duration::from_secs(120);
/// Between looks at whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the group is silent before the span, to see what that costs.
const IDLE: Duration = Duration::from_secs(10);
/// How long what is owed may take after the span. Twice what an engine waits before it gives a
/// hole up.
const OVERTIME: Duration = Duration::from_secs(60);
/// Between looks at whether all has come.
const OVERTIME_LOOK: Duration = Duration::from_millis(250);
/// The relay is who sent most copies of so many last messages.
const RELAY_MESSAGES: usize = 20;
/// One in so many members is spared by churn.
const SPARED: usize = 10;

/// When a node was there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) from: Time,
    pub(super) to: Option<Time>,
}

/// What was counted besides what the meter has.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) settled_s: f64,
    pub(super) settled: bool,
    pub(super) idle_bytes: u64,
    pub(super) span_control: u64,
    /// Members × seconds in the span.
    pub(super) member_seconds: f64,
    pub(super) killed_at: Option<Time>,
    /// The way by the committee ÷ the shortest by any.
    pub(super) places: Option<f64>,
    /// The first message after the kill.
    pub(super) judged: Option<usize>,
}

pub(super) struct Runner<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) world: World,
    pub(super) lives: Vec<Life>,
    pub(super) notes: Notes,
    pub(super) group: GroupId,
    descriptor: Descriptor,
    payload: Bytes,
    sources: Vec<NodeIx>,
    /// Neither killed by churn nor, as a source, at all.
    spared: Vec<bool>,
    rng: Rng,
}

/// How soon members may have seats in a committee, all of them: once they know where they are.
const SERVE_AFTER: Duration = Duration::from_secs(15);
/// Of the first node, which founds a group with a total order.
const FOUNDER_KEY: [u8; 32] = [1; 32];
/// When the committee's places are judged, after the start (MODEL.md §3).
const PLACED_BY: Duration = Duration::from_secs(60);

impl<'a> Runner<'a> {
    pub(super) fn new(experiment: &'a Experiment) -> Self {
        let mut descriptor = Descriptor::open("experiment").expect("a good name");
        (descriptor.order, descriptor.route) = (experiment.order, experiment.route);
        if experiment.order == Order::Total {
            descriptor.founder = Some(Identity::trusting(&FOUNDER_KEY).node());
        }
        let group = descriptor.id();
        let mut world = World::new(experiment.seed, experiment.network.clone());
        world.config = experiment.config.clone();
        if experiment.order == Order::Total {
            (world.config.serve_after, world.config.max_committee) =
                (Some(SERVE_AFTER), experiment.committee);
        }
        world.contacts = Contacts::Nobody;
        world.assume_signatures = true;
        world.meter = Some(Box::new(Meter::new(group, experiment.order)));
        Self {
            experiment,
            world,
            lives: Vec::new(),
            notes: Notes::default(),
            group,
            descriptor,
            payload: Bytes::from(vec![b'.'; experiment.size]),
            sources: Vec::new(),
            spared: Vec::new(),
            rng: Rng::new(experiment.seed).fork(),
        }
    }

    pub(super) fn run(mut self) -> Measures {
        self.start(self.experiment.nodes);
        self.choose_sources();
        self.settle();
        self.idle();
        self.span();
        self.overtime();
        judge::judge(&mut self)
    }

    fn meter(&mut self) -> &mut Meter {
        self.world.meter.as_mut().expect("set at the start")
    }

    /// Starts so many nodes at once, then tells each of some members.
    fn start(&mut self, count: usize) {
        let now = self.world.now();
        let first = self.lives.len();
        for _ in 0..count {
            let groups = std::slice::from_ref(&self.descriptor);
            let node = if self.descriptor.founder.is_some() && self.lives.is_empty() {
                self.world.add_node_with_key(groups, FOUNDER_KEY)
            } else {
                self.world.add_node(groups)
            };
            self.world.start(node, false);
            self.lives.push(Life { from: now, to: None });
            self.spared.push(false);
        }
        let members = self.members();
        for node in (first..first + count).map(NodeIx) {
            for contact in self.some_of(&members, node) {
                self.world.discover(node, contact);
            }
        }
    }

    /// Some members besides this one.
    fn some_of(&mut self, members: &[NodeIx], besides: NodeIx) -> Vec<NodeIx> {
        let wanted = CONTACTS.min(members.len() - 1);
        let mut some = Vec::new();
        while some.len() < wanted {
            let member = *self.rng.pick(members).expect("a group has members");
            if member != besides && !some.contains(&member) {
                some.push(member);
            }
        }
        some
    }

    fn members(&self) -> Vec<NodeIx> {
        let alive = self.lives.iter().enumerate().filter(|(_, life)| life.to.is_none());
        alive.map(|(node, _)| NodeIx(node)).collect()
    }

    fn choose_sources(&mut self) {
        let mut members = self.members();
        self.rng.shuffle(&mut members);
        let spared = members.len().div_ceil(SPARED);
        self.sources = members.split_off(members.len() - self.experiment.sources);
        if let Some(liars) = &self.experiment.liars {
            let count = (self.experiment.nodes as f64 * liars.share).round() as usize;
            for node in members.iter().rev().take(count) {
                self.world.lie(*node, liars.lie);
            }
        }
        for node in members.into_iter().take(spared).chain(self.sources.iter().copied()) {
            self.spared[node.0] = true;
        }
        for source in self.sources.clone() {
            let id = self.world.id(source);
            self.meter().ledger.add_source(source, id);
        }
    }

    fn settle(&mut self) {
        let mut settling = Settling::default();
        let end = Time::ZERO + SETTLED_BY;
        while !self.notes.settled && self.world.now() < end {
            self.world.run_until(self.world.now() + LOOK_EVERY);
            let ready = self.meter().ready >= self.experiment.nodes;
            let mean = ready.then(|| mean_tree_delay(&self.world, self.group)).flatten();
            self.notes.settled = settling.sample(self.world.now(), mean);
        }
        self.notes.settled_s = self.world.now().since(Time::ZERO).as_secs_f64();
    }

    fn idle(&mut self) {
        let before = self.meter().control;
        self.world.run_until(self.world.now() + IDLE);
        self.notes.idle_bytes = self.meter().control - before;
    }

    /// Bytes of silence a member and second.
    pub(super) fn idle_bytes_per_s(&self) -> f64 {
        self.notes.idle_bytes as f64 / IDLE.as_secs_f64() / self.experiment.nodes as f64
    }

    fn span(&mut self) {
        let begin = self.world.now();
        let before = self.meter().control;
        for (at, act) in calendar(self.experiment) {
            self.pass(begin + at);
            self.act(act);
        }
        self.pass(begin + self.experiment.span);
        self.notes.span_control = self.meter().control - before;
    }

    /// Lets time pass, and counts who was there.
    fn pass(&mut self, until: Time) {
        let span = until.since(self.world.now());
        self.notes.member_seconds += span.as_secs_f64() * self.members().len() as f64;
        let placed_by = Time::ZERO + PLACED_BY;
        if self.notes.places.is_none() && until >= placed_by {
            self.world.run_until(placed_by.max(self.world.now()));
            self.notes.places = floor::places(self);
        }
        self.world.run_until(until);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Publish(source) => {
                self.publish(source);
            }
            Act::PublishAfterKill(source) => self.notes.judged = Some(self.publish(source)),
            Act::Kill => self.kill(),
            Act::Cut => self.cut(),
            Act::Heal => self.world.heal(),
            Act::Replace => {
                let victims = self.members().into_iter().filter(|it| !self.spared[it.0]).collect::<Vec<_>>();
                if let Some(victim) = self.rng.pick(&victims).copied() {
                    self.silence(victim);
                    self.start(1);
                }
            }
            Act::Join(count) => self.start(count),
        }
    }

    /// The message's number.
    fn publish(&mut self, source: usize) -> usize {
        let (now, node) = (self.world.now(), self.sources[source]);
        let announced = self.meter().ledger.publish(now, source);
        let given = self.world.publish(node, self.group, self.payload.clone());
        assert_eq!(given, Some(announced), "nobody else publishes, and sources are spared");
        announced.0 as usize
    }

    fn silence(&mut self, node: NodeIx) {
        self.world.crash(node, Crash::Host);
        self.lives[node.0].to = Some(self.world.now());
    }

    fn kill(&mut self) {
        self.notes.killed_at = Some(self.world.now());
        let members = self.members();
        let mut mortal: Vec<_> = members.iter().copied().filter(|it| !self.sources.contains(it)).collect();
        let doomed = match self.experiment.kill.expect("scheduled").who {
            Killed::Relay => self.largest_relay(&mortal).into_iter().collect(),
            Killed::Share(share) => {
                self.rng.shuffle(&mut mortal);
                mortal.truncate((members.len() as f64 * share).round() as usize);
                mortal
            }
        };
        doomed.into_iter().for_each(|node| self.silence(node));
    }

    /// Who of these sent most copies of the last messages; before the first, anyone.
    fn largest_relay(&mut self, mortal: &[NodeIx]) -> Option<NodeIx> {
        let meter = self.meter();
        let last = meter.ledger.messages.iter().rev().filter_map(|it| it.batch).take(RELAY_MESSAGES);
        let batches: Vec<_> = last.filter_map(|it| meter.batches.number(&it)).collect();
        let sends = |node: &NodeIx| -> u64 {
            let of = |batch: &u32| meter.batches.sends(*batch).get(node.0).copied().unwrap_or(0);
            batches.iter().map(|batch| u64::from(of(batch))).sum()
        };
        mortal.iter().copied().max_by_key(|node| (sends(node), std::cmp::Reverse(*node)))
    }

    fn cut(&mut self) {
        let (a, b) = self.experiment.partition.expect("scheduled").shares;
        let mut one = self.members();
        self.rng.shuffle(&mut one);
        let first = (one.len() as f64 * a / (a + b)).round() as usize;
        let other = one.split_off(first.clamp(1, one.len() - 1));
        self.world.cut(&one, &other);
    }

    fn overtime(&mut self) {
        let end = self.world.now() + OVERTIME;
        let mut open: Vec<usize> = (0..self.meter().ledger.messages.len()).collect();
        loop {
            open.retain(|message| !judge::has_come_to_all(self, *message));
            if open.is_empty() || self.world.now() >= end {
                return;
            }
            self.world.run_until(self.world.now() + OVERTIME_LOOK);
        }
    }
}
