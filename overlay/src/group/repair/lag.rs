//! What the tree brings, and how late: after lazy links, and with holes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::config::Config;
use crate::group::ranges::{Range, Ranges};
use crate::group::sources::LifeId;
use crate::id::{NodeId, Seq};
use crate::time::Time;

/// A sample of the lag that takes longer is none: the tree did not bring it.
const SAMPLE_TTL: Duration = Duration::from_secs(2);
/// A tree neighbour that left so many holes within so long loses what it sends: it is asked to say what
/// it holds, too. Guess: after a failure above, one or two holes come by reliable links as well.
const HOLES: usize = 3;
const HOLES_WITHIN: Duration = Duration::from_secs(30);
/// Batches of a life that are remembered to have been pulled.
const MAX_PULLED: usize = 32;
/// Neighbours whose holes are counted, at most.
const MAX_COUNTED: usize = 64;

/// What the tree brought last of one life.
#[derive(Debug, Clone, Copy)]
struct Pushed {
    by: NodeId,
    at: Time,
    seq: Seq,
}

/// The tree's ways to us.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    /// When a lazy link first told of the head of a life that the tree had not brought.
    told: BTreeMap<LifeId, (Seq, Time)>,
    /// Who of the tree last brought something of a life, and when: while it flows, what is behind it
    /// on its way comes by itself.
    pushed: BTreeMap<LifeId, Pushed>,
    /// Smoothed lateness behind lazy links, and its deviation (RFC 6298 §2).
    smoothed: Option<(Duration, Duration)>,
    /// When tree neighbours left something out of a life that they brought.
    holes: BTreeMap<NodeId, [Option<Time>; HOLES]>,
    /// What was pulled of late, as the tree had not brought it.
    pulled: BTreeMap<LifeId, VecDeque<Seq>>,
}

impl Lag {
    /// A lazy link told of a head that we do not have yet.
    pub(crate) fn on_news(&mut self, now: Time, life: LifeId, next: Seq) {
        // One sample at a time: the first that is open, unless the tree never brought it.
        let open = self.told.get(&life).is_some_and(|(_, at)| now.since(*at) < SAMPLE_TTL);
        if !open {
            self.told.insert(life, (next, now));
        }
    }

    /// A lazy link told of what we have. If the tree brings this life it is not late at all; whether
    /// that is so.
    pub(crate) fn on_old_news(&mut self, now: Time, life: LifeId) -> bool {
        let flows = self.pushed_at(&life).is_some_and(|at| now.since(at) < SAMPLE_TTL);
        if flows {
            self.learn(Duration::ZERO);
        }
        flows
    }

    /// The tree brought a batch, for the first time or again: how late behind the lazy links? `held` is what
    /// was here before: what others brought meanwhile need not be pushed. `lost` if the parent had to ask for it.
    pub(crate) fn on_pushed(
        &mut self,
        now: Time,
        by: NodeId,
        life: LifeId,
        seq: Seq,
        lost: bool,
        held: Option<&Ranges>,
    ) {
        let before = self.pushed.get(&life).filter(|it| it.by == by).map(|it| it.seq);
        let latest = before.map_or(seq, |before| before.max(seq));
        self.pushed.insert(life, Pushed { by, at: now, seq: latest });
        let skipped = before.map(|before| (before + 1, seq)).filter(|(from, to)| from < to);
        let brought = |it: Range| {
            let pulled =
                self.pulled.get(&life).is_some_and(|all| all.iter().any(|seq| (it.0..it.1).contains(seq)));
            !pulled && held.is_some_and(|held| held.intersect(&[it]) == [it])
        };
        if skipped.is_some_and(|it| !brought(it)) {
            self.on_hole(now, by);
        }
        if let Some((next, at)) = self.told.get(&life).copied()
            && seq + 1 >= next
        {
            self.told.remove(&life);
            // Otherwise it did not bring that one at all, or had lost it.
            if seq + 1 == next && !lost {
                self.learn(now.since(at));
            }
        }
    }

    /// Something came that we had asked for.
    pub(crate) fn on_pulled(&mut self, life: LifeId, seq: Seq) {
        let pulled = self.pulled.entry(life).or_default();
        if pulled.len() == MAX_PULLED {
            pulled.pop_front();
        }
        pulled.push_back(seq);
    }

    /// A tree neighbour brought what comes after something that it did not bring.
    fn on_hole(&mut self, now: Time, by: NodeId) {
        self.holes.retain(|_, it| it[0].is_some_and(|at| now.since(at) < HOLES_WITHIN));
        if self.holes.len() < MAX_COUNTED || self.holes.contains_key(&by) {
            let holes = self.holes.entry(by).or_default();
            holes.rotate_right(1);
            holes[0] = Some(now);
        }
    }

    /// Tree neighbours whose links lose batches, as it seems.
    pub(crate) fn lossy(&self, now: Time) -> impl Iterator<Item = NodeId> + '_ {
        let late = move |it: &Option<Time>| it.is_some_and(|at| now.since(at) < HOLES_WITHIN);
        self.holes.iter().filter(move |(_, holes)| holes.iter().all(late)).map(|(node, _)| *node)
    }

    /// Whether a neighbour is the one by which this life comes.
    pub(crate) fn is_feeder(&self, node: &NodeId, life: &LifeId) -> bool {
        self.pushed.get(life).is_some_and(|it| it.by == *node)
    }

    pub(super) fn pushed_at(&self, life: &LifeId) -> Option<Time> {
        self.pushed.get(life).map(|it| it.at)
    }

    fn learn(&mut self, late: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (late, late / 2),
            Some((mean, deviation)) => {
                let error = mean.abs_diff(late);
                ((mean * 7 + late) / 8, (deviation * 3 + error) / 4)
            }
        });
    }

    /// How long to wait for what a lazy link told of.
    pub(super) fn learned(&self, config: &Config) -> Duration {
        // Nothing learned yet: rather late than twice.
        let (mean, deviation) = self.smoothed.unwrap_or((config.lag_max / 4, Duration::ZERO));
        // RFC 6298 §2.3: with a slack of its own, or a steady tree would be anticipated.
        (mean + (deviation * 4).max(config.lag_min)).min(config.lag_max)
    }

    pub(super) fn forget(&mut self, node: &NodeId) {
        self.holes.remove(node);
    }

    pub(super) fn forget_life(&mut self, life: &LifeId) {
        self.told.remove(life);
        self.pushed.remove(life);
        self.pulled.remove(life);
    }

    pub(super) fn retain(&mut self, open: impl Fn(LifeId) -> bool) {
        self.told.retain(|life, _| open(*life));
        self.pushed.retain(|life, _| open(*life));
        self.pulled.retain(|life, _| open(*life));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_make_a_link_lossy_for_a_while() {
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let node = NodeId::from_bytes([1; 32]);
        let mut lag = Lag::default();
        let life = (NodeId::from_bytes([2; 32]), 7);
        for (seconds, seq) in [(0, 0), (1, 2), (2, 3), (3, 9)] {
            lag.on_pushed(at(seconds), node, life, seq, false, None);
        }
        assert_eq!(lag.lossy(at(3)).count(), 0, "a failure above leaves two, too");
        let mut others = Ranges::default();
        others.insert(10);
        lag.on_pushed(at(19), node, life, 11, false, Some(&others));
        assert_eq!(lag.lossy(at(19)).count(), 0, "others had brought it");
        lag.on_pushed(at(20), node, life, 13, false, Some(&others));
        assert_eq!(lag.lossy(at(20)).collect::<Vec<_>>(), [node]);
        assert_eq!(lag.lossy(at(32)).count(), 0);
    }
}
