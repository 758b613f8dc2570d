//! Carries out a plan under the oracle's eyes.

use std::time::Duration;

use treecast_overlay::sim::World;
use treecast_overlay::{Order, Rng, Time};

use super::plan::{Act, Plan};
use crate::invariant::{
    Violation, agreement, bounds, causality, fifo, goodbye, honesty, integrity, losses, membership, stored,
    tree, validity,
};
use crate::oracle::{Fact, Oracle};

/// Between two looks at the bounds.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Answers in one run, at most.
const MAX_ANSWERS: usize = 200;

/// What a run came to.
pub struct Outcome {
    /// The world at its end.
    pub world: World,
    /// What was seen.
    pub oracle: Oracle,
    /// All that did not hold.
    pub violations: Vec<Violation>,
}

impl Outcome {
    /// How many messages applications were given.
    pub fn deliveries(&self) -> usize {
        let facts = self.oracle.history.entries.iter().map(|entry| entry.fact);
        facts.filter(|fact| matches!(fact, Fact::Delivered(_))).count()
    }
}

/// Runs a plan to its end and judges it.
pub fn run(plan: &Plan) -> Outcome {
    let _guard = PrintSeed(plan.scenario.seed);
    let mut runner = Runner::new(plan);
    for (at, act) in &plan.acts {
        runner.run_until(Time::ZERO + *at);
        runner.oracle.tell(|| format!("{:>10} {act:?}", at.as_micros()));
        match act {
            Act::Step(step) => runner.world.apply(step.clone()),
            Act::Feed(node, input) => runner.world.feed(*node, input.clone()),
            Act::Publish { node, count, len } => {
                (0..*count).for_each(|_| runner.oracle.publish(&mut runner.world, *node, *len));
            }
        }
        runner.react();
    }
    runner.run_until(Time::ZERO + plan.end);
    runner.judge();
    Outcome { world: runner.world, oracle: runner.oracle, violations: runner.violations }
}

/// An engine that panics does so with the seed told.
struct PrintSeed(u64);

impl Drop for PrintSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the run of seed {} panicked: TREECAST_SEED={} repeats it", self.0, self.0);
        }
    }
}

struct Runner<'a> {
    plan: &'a Plan,
    world: World,
    oracle: Oracle,
    rng: Rng,
    answers: usize,
    next_look: Time,
    violations: Vec<Violation>,
}

impl<'a> Runner<'a> {
    fn new(plan: &'a Plan) -> Self {
        let scenario = &plan.scenario;
        Self {
            plan,
            world: scenario.build(),
            oracle: Oracle::new(scenario.group.id()),
            rng: Rng::new(scenario.seed),
            answers: 0,
            next_look: Time::ZERO,
            violations: Vec::new(),
        }
    }

    fn run_until(&mut self, until: Time) {
        while self.world.next_time().is_some_and(|next| next <= until) {
            self.world.step();
            self.react();
            if self.world.now() >= self.next_look {
                self.next_look = self.world.now() + LOOK_EVERY;
                self.demand("bounds", bounds::check(&self.world));
            }
        }
        self.world.run_until(until);
    }

    /// Applications answer at once to what they are given, so that causes matter.
    fn react(&mut self) {
        let first = self.oracle.observe(&mut self.world);
        let mut answering = Vec::new();
        for entry in &self.oracle.history.entries[first..] {
            if let Fact::Delivered(it) = entry.fact
                && it.source != Some(entry.node)
                && self.answers < MAX_ANSWERS
                && entry.time < Time::ZERO + self.plan.calm
                && self.rng.unit() < self.plan.answers
            {
                self.answers += 1;
                answering.push(entry.node);
            }
        }
        for node in answering {
            self.oracle.publish(&mut self.world, node, 30);
        }
    }

    fn judge(&mut self) {
        let group = self.oracle.group();
        let tree = tree::check_at_rest(&mut self.world, group);
        self.oracle.observe(&mut self.world);
        let end = self.world.now();
        let scenario = &self.plan.scenario;
        if scenario.config.history {
            self.oracle.read_disks(&self.world);
        }
        let goodbye_bound = scenario.config.goodbye_wait + Duration::from_secs(1);
        let history = std::mem::take(&mut self.oracle.history);
        self.demand("integrity", integrity::check(&history));
        self.demand("losses", losses::check(&history));
        self.demand("validity", validity::check(&history));
        self.demand("agreement", agreement::check(&history));
        if scenario.config.history {
            self.demand("stored", stored::check(&history));
            self.demand("honesty", honesty::check(&history));
        }
        if scenario.group.order >= Order::Fifo {
            self.demand("fifo", fifo::check(&history));
        }
        if scenario.group.order >= Order::Causal {
            self.demand("causality", causality::check(&history));
        }
        self.demand("goodbye", goodbye::check(&history, goodbye_bound, end));
        self.demand("tree", tree);
        if scenario.nodes <= scenario.config.roster {
            self.demand("membership", membership::check(&self.world, group, &history.left()));
        }
        self.oracle.history = history;
    }

    fn demand(&mut self, what: &str, judged: Result<(), Violation>) {
        if let Err(violation) = judged {
            self.violations.push(format!("{what}: {violation}"));
        }
    }
}
