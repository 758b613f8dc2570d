//! Carries out a plan under the oracle's eyes.

use std::time::Duration;

use treecast_overlay::sim::{Step, World};
use treecast_overlay::{Order, Rng, Time};

use super::plan::{Act, Plan};
use crate::invariant::{
    Violation, acknowledged, agreement, bounds, causality, committees, fifo, goodbye, honesty, index,
    integrity, losses, majority, membership, progress, settled, stored, total_order, tree, uniformity,
    validity,
};
use crate::oracle::{Fact, History, Oracle};

/// Between two looks at the bounds.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// From when faults are lifted until a total order goes on (issue 6).
const PROGRESS_WITHIN: Duration = Duration::from_secs(5);

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
        facts.filter(|fact| matches!(fact, Fact::Delivered(_) | Fact::Ordered(..))).count()
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
            Act::Spared(step) => runner.apply_spared(step),
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

    /// A committee of less than three has nobody whom it could do without.
    fn apply_spared(&mut self, step: &Step) {
        let (Step::Start { node, .. } | Step::Leave(node) | Step::Backup(node) | Step::Restore(node)) = *step
        else {
            unreachable!("{step:?} takes nobody away");
        };
        self.oracle.see_committees(&self.world);
        let seen = &self.oracle.history.order.committees;
        let last = seen.last().map(|(epoch, ..)| *epoch);
        let mut rosters = seen.iter().filter(|it| Some(it.0) == last).map(|it| &it.1);
        if rosters.all(|roster| roster.len() >= 3 || !roster.contains(&node)) {
            self.world.apply(step.clone());
        } else if let Step::Start { node, .. } = *step {
            self.world.apply(Step::Start { node, with_disk: true });
        }
    }

    fn run_until(&mut self, until: Time) {
        while self.world.next_time().is_some_and(|next| next <= until) {
            self.world.step();
            self.react();
            if self.world.now() >= self.next_look {
                self.next_look = self.world.now() + LOOK_EVERY;
                self.demand("bounds", bounds::check(&self.world));
                if self.is_total() {
                    self.oracle.see_committees(&self.world);
                }
            }
        }
        self.world.run_until(until);
    }

    /// Applications answer at once to what they are given, so that causes matter.
    fn react(&mut self) {
        let first = self.oracle.observe(&mut self.world);
        let mut answering = Vec::new();
        for entry in &self.oracle.history.entries[first..] {
            if let Fact::Delivered(it) | Fact::Tentative(it) = entry.fact
                && it.source != Some(entry.node)
                && self.answers < MAX_ANSWERS
                && entry.time < Time::ZERO + self.plan.calm
                && self.rng.unit() < self.plan.answers
            {
                self.answers += 1;
                answering.push(entry.node);
            }
        }
        if self.is_total() {
            self.oracle.look_for_frail(&self.world, first);
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
        if self.is_total() {
            self.oracle.see_committees(&self.world);
        }
        let goodbye_bound = scenario.config.goodbye_wait + Duration::from_secs(1);
        let history = std::mem::take(&mut self.oracle.history);
        if self.is_total() {
            self.judge_total(&history);
            self.judge_deliveries(&history.settled());
        } else {
            self.judge_deliveries(&history);
        }
        if scenario.config.history {
            self.demand("stored", stored::check(&history));
            self.demand("honesty", honesty::check(&history));
        }
        // In a total order word of a loss is not the last: a cut may name what is lost here (decision 022).
        self.demand("losses", losses::check(&history));
        self.demand("goodbye", goodbye::check(&history, goodbye_bound, end));
        self.demand("tree", tree);
        if scenario.nodes <= scenario.config.roster {
            self.demand("membership", membership::check(&self.world, group, &history.left()));
        }
        self.oracle.history = history;
    }

    fn judge_deliveries(&mut self, history: &History) {
        let scenario = &self.plan.scenario;
        self.demand("integrity", integrity::check(history));
        self.demand("validity", validity::check(history));
        self.demand("agreement", agreement::check(history));
        if scenario.group.order >= Order::Fifo {
            self.demand("fifo", fifo::check(history));
        }
        if scenario.group.order == Order::Causal {
            self.demand("causality", causality::check(history));
        }
    }

    fn judge_total(&mut self, history: &History) {
        self.demand("total order", total_order::check(history));
        self.demand("uniformity", uniformity::check(history));
        self.demand("index", index::check(history));
        self.demand("settled", settled::check(history));
        self.demand("committees", committees::check(history));
        self.demand("majority", majority::check(history));
        self.demand("acknowledged", acknowledged::check(history));
        self.demand("causality", causality::check_settled(history));
        self.demand("progress", progress::check(history, Time::ZERO + self.plan.calm, PROGRESS_WITHIN));
    }

    fn is_total(&self) -> bool {
        self.plan.scenario.group.order == Order::Total
    }

    fn demand(&mut self, what: &str, judged: Result<(), Violation>) {
        if let Err(violation) = judged {
            self.violations.push(format!("{what}: {violation}"));
        }
    }
}
