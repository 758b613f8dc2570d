//! The end of a life that is over: what a source had not handed on when it died, nobody has.

use std::collections::BTreeSet;

use super::{Repair, Step};
use crate::group::ranges::Range;
use crate::group::sources::LifeId;
use crate::id::NodeId;
use crate::time::Time;

/// Those who are asked besides neighbours, for the end of a life that is over or what all
/// neighbours have dropped.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// Whose word it takes to give that up at once.
    pub(crate) needed: BTreeSet<NodeId>,
    /// Those of them that can be asked.
    pub(crate) linked: Vec<NodeId>,
    /// When somebody last was found to have failed: it may be back, and hold what it got before. If we
    /// came back ourselves, then at the earliest: who was off by then is not known.
    pub(crate) last_failure: Option<Time>,
    /// Nodes have disks: who comes back has what it had, and its own words above all.
    pub(crate) disks: bool,
    /// We came back so lately that others who were off may not be known to be.
    pub(crate) returned: bool,
}

impl Repair {
    /// Everybody that runs said to lack it, the source too: it died before that had left. Unless
    /// somebody failed since the last of this life came, or before we came: that one may have got more.
    pub(super) fn nobody_has_tail(&self, life: LifeId, first: Range, others: &Others, moved: Time) -> bool {
        let Some(want) = self.wants.get(&life).filter(|it| it.first == first.0) else { return false };
        let all = !others.needed.is_empty() && others.needed.is_subset(&want.lacking);
        let may_come = others.returned || others.last_failure > Some(moved);
        all && !may_come && !self.anybody_has(life, first)
    }

    /// The neighbours do not have it: whom to get links to, once.
    pub(super) fn reach(&mut self, life: LifeId, others: &Others) -> Option<Step> {
        let want = self.wants.get_mut(&life)?;
        let far: Vec<_> = others.needed.iter().filter(|it| !others.linked.contains(it)).copied().collect();
        let asked = std::mem::replace(&mut want.reaching, true);
        (!asked && !far.is_empty()).then_some(Step::Reach(far))
    }

    /// There is a new link: who waits for one may ask.
    pub(crate) fn on_linked(&mut self, now: Time) {
        for want in self.wants.values_mut().filter(|it| it.reaching && it.asked.is_none()) {
            want.deadline = now;
        }
    }
}
