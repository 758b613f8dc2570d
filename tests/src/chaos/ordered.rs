//! What befalls a group in a total order: all that befalls nodes with disks, its committee changing meanwhile.
//!
//! The promise has bounds (the design's §5, *Amnesia*): a majority of a committee that forgot at once stops the order
//! for good, and so does one that left for good. So one node in a run, at most, loses its disk or gets an old copy of
//! it, or one leaves; and that not as a committee of one, which the runner looks to ([`Act::Spared`]). A founder that has
//! lost its disk and meets nobody cannot know that there is an order already: that one gets old copies only. That a
//! disk is an old copy is known by what others have heard of its node: while it is so, they are there.

use treecast_overlay::sim::{NodeIx, Step};
use treecast_overlay::{Config, Rng};

use super::plan::{Act, Draft, STORM, ms};

/// What a run of this kind has besides.
pub(super) fn configure(rng: &mut Rng, config: &mut Config) {
    config.serve_after = Some(ms(500 + rng.below(5_000) as u64));
    config.lost_after = ms(8_000);
}

impl Draft {
    /// Everybody talks all the time until faults are lifted.
    pub(super) fn chatter(&mut self) {
        let calm = STORM + self.storm;
        for node in (0..self.nodes).map(NodeIx) {
            let pause = 150 + self.rng.below(1_500);
            let mut now = self.up_to(2 * pause);
            while now < calm {
                let (count, len) = (1 + self.rng.below(2), 16 + self.rng.below(100));
                self.at(now, Act::Publish { node, count, len });
                now += 1 + self.up_to(2 * pause);
            }
        }
    }

    pub(super) fn ordered_fault(&mut self) {
        let at = self.moment();
        match self.rng.below(22) {
            0..4 => self.crash_and_return(at),
            4..7 => self.forget(at),
            7 => self.power_cut(at),
            8 => self.crash_loop(at),
            9 => self.talk_alone(at),
            10..13 => self.cut(at),
            13..15 => self.cut_pair(at),
            15 => {
                let node = self.node();
                if self.gone.is_none() && self.nodes > 3 {
                    self.gone = Some(node);
                    self.at(at, Act::Spared(Step::Leave(node)));
                }
            }
            16 => {
                let (node, delay) = (self.node(), ms(50 + self.up_to(1_000)));
                self.step(at, Step::SlowDisk { node, delay: Some(delay) });
            }
            17 | 18 => {
                let (node, works) = (self.node(), at + 100 + self.up_to(3_000));
                self.step(at, Step::Disk { node, failing: true });
                self.step(works, Step::Disk { node, failing: false });
            }
            19 => self.skew(at),
            20 => {
                let (node, bytes_per_s) = (self.node(), 10_000 + self.up_to(200_000));
                self.step(at, Step::Uplink { node, bytes_per_s });
            }
            _ => {
                let node = self.node();
                self.step(at, Step::DropLinks(node));
            }
        }
    }

    /// With its disk, soon or when others have taken it for failed.
    fn crash_and_return(&mut self, at: u64) {
        let (node, how) = (self.node(), self.how());
        let back = at + 50 + self.up_to(9_000);
        self.step(at, Step::Crash { node, how });
        self.step(back, Step::Start { node, with_disk: true });
    }

    /// One comes back with nothing, or with an old copy of its disk.
    fn forget(&mut self, at: u64) {
        let node = self.gone.unwrap_or_else(|| self.node());
        if self.skewed.contains(&node) {
            return;
        }
        let is_new = self.gone.is_none();
        if !is_new && !self.forgetful.contains(&node) {
            // Another one has left.
            return;
        }
        self.gone = Some(node);
        self.forgetful.insert(node);
        let how = self.how();
        let (dies, back) = (at + 1, at + 50 + self.up_to(4_000));
        let with_copy = self.rng.below(2) == 0 || node == NodeIx(0);
        if with_copy {
            self.copied = Some(node);
            let copied = STORM + self.up_to(usize::try_from(at - STORM).expect("small").max(1));
            self.at(copied, Act::Spared(Step::Backup(node)));
        }
        self.step(dies, Step::Crash { node, how });
        if with_copy {
            self.at(back - 1, Act::Spared(Step::Restore(node)));
        }
        self.at(back, Act::Spared(Step::Start { node, with_disk: with_copy }));
    }

    /// That a disk is an old copy only others can know, who have heard what its node said since, and hear it again: in
    /// such a run the others are not off, nor cut off.
    pub(super) fn keep_witnesses(&mut self) {
        let Some(copied) = self.copied else { return };
        self.acts.retain(|(_, act)| match act {
            Act::Step(Step::Crash { node, .. }) => *node == copied,
            Act::Step(Step::Cut { .. }) => false,
            _ => true,
        });
    }

    /// Two do not reach each other, or one not the other; both reach all others.
    fn cut_pair(&mut self, at: u64) {
        let (a, b) = (self.node(), self.node());
        let heals = at + 200 + self.up_to(9_000);
        if a != b {
            let one_way = self.rng.below(3) == 0;
            self.step(at, Step::Cut { a: vec![a], b: vec![b], one_way });
            self.step(heals, Step::Heal);
        }
    }

    /// All that is left is there again, with what it has, and says something at once.
    pub(super) fn all_return(&mut self) {
        let calm = STORM + self.storm;
        for node in (0..self.nodes).map(NodeIx) {
            self.step(calm, Step::Disk { node, failing: false });
            self.step(calm, Step::SlowDisk { node, delay: None });
            self.step(calm + 1, Step::Start { node, with_disk: true });
            self.at(calm + 2, Act::Publish { node, count: 1, len: 30 });
        }
    }
}
