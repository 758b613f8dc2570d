//! What befalls nodes with disks: power that fails everywhere, copies that are restored, writes that are
//! behind, slow or refused, clocks that are set back.

use treecast_overlay::sim::{Crash, NetworkModel, NodeIx, Step};
use treecast_overlay::{Config, Rng};

use super::plan::{Act, Draft, STORM, ms};

/// Clocks differ by less than a day (`docs/wire.md`), milliseconds.
const HOURS: i64 = 8 * 60 * 60 * 1_000;

/// Nodes have disks, and memories that are short; the network may lose for good, and repeat itself.
pub(super) fn harden(rng: &mut Rng, network: &mut NetworkModel, config: &mut Config) {
    // As the ready node has it.
    (config.history, config.max_lives) = (true, 64);
    config.store_age = ms([2_000, 20_000, 60_000][rng.below(3)]);
    if rng.below(3) == 0 {
        config.store_bytes = 2_000;
    }
    network.disk_delay = ms(rng.below(20) as u64);
    network.disk_behind = ms([0, 100, 3_000][rng.below(3)]);
    if rng.below(2) == 0 {
        *network = network.clone().datagrams();
        network.duplicate = 0.1 * rng.unit();
    }
}

impl Draft {
    pub(super) fn nasty_fault(&mut self) {
        let at = self.moment();
        match self.rng.below(14) {
            0..4 => self.downfall(at),
            4 => self.power_cut(at),
            5 | 6 => self.crash_loop(at),
            7 => {
                let (node, delay) = (self.node(), ms(50 + self.up_to(1_000)));
                self.step(at, Step::SlowDisk { node, delay: Some(delay) });
            }
            8 => {
                let (node, works) = (self.node(), at + 100 + self.up_to(5_000));
                self.step(at, Step::Disk { node, failing: true });
                self.step(works, Step::Disk { node, failing: false });
            }
            9 => self.skew(at),
            10 => self.talk_alone(at),
            11 => self.cut(at),
            _ => self.fault(),
        }
    }

    /// A clock is wrong from the next start on.
    pub(super) fn skew(&mut self, at: u64) {
        let ahead_ms = [-HOURS, -60_000, 60_000, HOURS][self.rng.below(4)];
        let node = self.node();
        if !self.forgetful.contains(&node) {
            self.skewed.insert(node);
            self.step(at, Step::Clock { node, ahead_ms });
        }
    }

    pub(super) fn how(&mut self) -> Crash {
        if self.rng.below(2) == 0 { Crash::Process } else { Crash::Host }
    }

    /// One crashes, in the middle of a word often, and comes back in some state.
    fn downfall(&mut self, at: u64) {
        let (node, how) = (self.victim(), self.how());
        let copied = STORM + self.up_to(usize::try_from(at - STORM).expect("small").max(1));
        if self.rng.below(2) == 0 {
            let count = 1 + self.rng.below(20);
            self.at(at, Act::Publish { node, count, len: 100 });
        }
        let dies = at + self.up_to(30);
        let back = dies + 100 + self.up_to(12_000);
        self.step(dies, Step::Crash { node, how });
        // Whose clock is behind must know its last life.
        let forgets = !self.skewed.contains(&node);
        let with_disk = self.rng.below(5) > 0 || !forgets;
        let is_copy = self.rng.below(3) == 0 && with_disk && forgets;
        if is_copy {
            self.step(copied, Step::Backup(node));
            self.step(back - 1, Step::Restore(node));
        }
        if is_copy || !with_disk {
            self.forgetful.insert(node);
        }
        self.step(back, Step::Start { node, with_disk });
        if self.rng.below(2) == 0 {
            // Before it has met anybody, perhaps.
            let says = back + self.up_to(300);
            self.at(says, Act::Publish { node, count: 2, len: 50 });
        }
    }

    /// All crash at once, and come back one by one.
    pub(super) fn power_cut(&mut self, at: u64) {
        let source = self.node();
        self.at(at, Act::Publish { node: source, count: 3, len: 200 });
        let dies = at + self.up_to(200);
        for node in (0..self.nodes).map(NodeIx) {
            self.step(dies, Step::Crash { node, how: Crash::Host });
            let back = dies + 500 + self.up_to(8_000);
            self.step(back, Step::Start { node, with_disk: true });
        }
    }

    /// One is killed right after each of its words.
    pub(super) fn crash_loop(&mut self, at: u64) {
        let (node, mut now) = (self.victim(), at);
        for _ in 0..2 + self.rng.below(4) {
            let how = self.how();
            self.at(now, Act::Publish { node, count: 1, len: 60 });
            let dies = now + self.up_to(60);
            self.step(dies, Step::Crash { node, how });
            let back = dies + 50 + self.up_to(1_500);
            self.step(back, Step::Start { node, with_disk: true });
            now = back + self.up_to(2_000);
        }
    }

    /// One speaks while nobody hears it, goes down, and comes back.
    pub(super) fn talk_alone(&mut self, at: u64) {
        let node = self.victim();
        let others: Vec<_> = (0..self.nodes).map(NodeIx).filter(|it| *it != node).collect();
        self.step(at, Step::Cut { a: vec![node], b: others, one_way: false });
        let (says, how) = (at + self.up_to(3_000), self.how());
        self.at(says, Act::Publish { node, count: 3, len: 80 });
        let dies = says + 20 + self.up_to(2_000);
        self.step(dies, Step::Crash { node, how });
        let back = dies + 100 + self.up_to(5_000);
        self.step(back, Step::Start { node, with_disk: true });
        let heals = back + self.up_to(3_000);
        self.step(heals, Step::Heal);
    }

    /// When faults are lifted most of the dead come back with what they have.
    pub(super) fn wake_up(&mut self) {
        let calm = STORM + self.storm;
        for node in (0..self.nodes).map(NodeIx) {
            self.step(calm, Step::Disk { node, failing: false });
            self.step(calm, Step::SlowDisk { node, delay: None });
            if self.rng.below(5) > 0 {
                self.step(calm, Step::Start { node, with_disk: true });
            }
        }
    }
}
