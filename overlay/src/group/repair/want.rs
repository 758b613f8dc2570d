//! What is missing of one life, and how far the search for it is.

use std::collections::{BTreeSet, VecDeque};

use crate::group::ranges::Range;
use crate::id::{NodeId, Seq};
use crate::time::Time;

/// A pull that is under way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) node: NodeId,
    pub(super) ranges: Vec<Range>,
    pub(super) at: Time,
}

/// Something known to exist that is not here.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) since: Time,
    pub(super) deadline: Time,
    /// What is missing below this is due; what is above it becomes due head by head.
    pub(super) ripe: Seq,
    /// Nobody will push what is below this.
    pub(super) unpushed: Seq,
    pub(super) heads: VecDeque<(Seq, Time)>,
    /// Whom we asked last, for what; it counts as unanswered at the deadline.
    pub(super) asked: Option<Asked>,
    /// Who did not have it, or did not answer, in this round.
    pub(super) tried: BTreeSet<NodeId>,
    /// The first that was missing when somebody was asked last, and who said to lack it.
    pub(super) first: Seq,
    pub(super) lacking: BTreeSet<NodeId>,
    /// Members without a link to us that were dialled, to be asked too.
    pub(super) reaching: BTreeSet<NodeId>,
    pub(super) pulls: u32,
    /// How many of those asked ran, and did not answer in time: the next is given longer, since it may
    /// be that links are full. Who is dead says nothing of that.
    pub(super) slow: u32,
    /// How often all that can be asked have been.
    pub(super) rounds: u32,
    /// The gap that the application was told of.
    pub(super) told: Option<Range>,
}

impl Want {
    pub(super) fn new(now: Time, deadline: Time) -> Self {
        Self {
            since: now,
            deadline,
            ripe: 0,
            unpushed: 0,
            heads: VecDeque::new(),
            asked: None,
            tried: BTreeSet::new(),
            first: 0,
            lacking: BTreeSet::new(),
            reaching: BTreeSet::new(),
            pulls: 0,
            slow: 0,
            rounds: 0,
            told: None,
        }
    }

    pub(super) fn begin_anew(&mut self, now: Time) {
        self.asked = None;
        (self.pulls, self.slow, self.rounds) = (0, 0, 0);
        self.since = now;
    }

    pub(super) fn is_asked(&self, node: &NodeId) -> bool {
        self.asked.as_ref().is_some_and(|it| it.node == *node)
    }

    /// What of the missing is due by now.
    pub(super) fn due(&mut self, now: Time, missing: &[Range]) -> Vec<Range> {
        while let Some((end, _)) = self.heads.pop_front_if_due(now) {
            self.ripe = self.ripe.max(end);
        }
        let below = missing.iter().map(|(from, to)| (*from, (*to).min(self.ripe)));
        below.filter(|(from, to)| from < to).collect()
    }
}

/// Takes the oldest head if its time has come.
trait PopDue {
    fn pop_front_if_due(&mut self, now: Time) -> Option<(Seq, Time)>;
}

impl PopDue for VecDeque<(Seq, Time)> {
    fn pop_front_if_due(&mut self, now: Time) -> Option<(Seq, Time)> {
        if self.front().is_some_and(|head| head.1 <= now) { self.pop_front() } else { None }
    }
}
