//! The end of a life that is over: what a source had not handed on when it died, nobody has.

use std::collections::BTreeSet;

use super::{Repair, Step};
use crate::group::ranges::Range;
use crate::group::sources::{LifeId, LifeState};
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
    pub(super) fn nobody_has_tail(
        &self,
        life: LifeId,
        first: Range,
        others: &Others,
        state: &LifeState,
    ) -> bool {
        let Some(want) = self.wants.get(&life).filter(|it| it.first == first.0) else { return false };
        // Who claims more than the source named and never shows it need not deny it either.
        let is_hearsay = state.named_end.is_some_and(|end| first.0 >= end);
        let denies = |it: &NodeId| want.lacking.contains(it) || (is_hearsay && self.claims.is_void(it, life));
        let all = !others.needed.is_empty() && others.needed.iter().all(denies);
        let may_come = others.returned || others.last_failure > Some(state.moved);
        all && !may_come && !self.anybody_has(life, first, state.named_end)
    }

    /// The neighbours do not have it: whom to get links to, each once.
    pub(super) fn reach(&mut self, life: LifeId, others: &Others) -> Option<Step> {
        let want = self.wants.get_mut(&life)?;
        let mut far: Vec<_> =
            others.needed.iter().filter(|it| !others.linked.contains(it)).copied().collect();
        far.retain(|it| want.reaching.insert(*it));
        (!far.is_empty()).then_some(Step::Reach(far))
    }

    /// There is a new link: who waits for one may ask.
    pub(crate) fn on_linked(&mut self, now: Time) {
        for want in self.wants.values_mut().filter(|it| !it.reaching.is_empty() && it.asked.is_none()) {
            want.deadline = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Sight;
    use super::*;
    use crate::config::Config;
    use crate::group::ranges::Ranges;
    use crate::group::sources::Sources;
    use crate::id::LinkId;
    use crate::links::Links;

    const LIAR: NodeId = NodeId::from_bytes([1; 32]);
    const HONEST: NodeId = NodeId::from_bytes([2; 32]);
    const LIFE: LifeId = (NodeId::from_bytes([3; 32]), 7);

    /// When a member gives up what a liar claims above batch 8, where the life's end is known or not, and
    /// how the liar answers pulls.
    fn gives_up(named_end: Option<u64>, answers: bool) -> Option<u64> {
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        let (config, mut repair, mut links) = (Config::default(), Repair::default(), Links::default());
        let mut sources = Sources::default();
        links.insert(at(0), LinkId(1), LIAR);
        links.insert(at(0), LinkId(2), HONEST);
        let state = sources.open(LIFE, &config).expect("there is room");
        state.held.insert_range((0, 8));
        (state.delivered, state.heard, state.end, state.named_end) = (8, 1_000, Some(1_000), named_end);
        repair.on_told(LIAR, LIFE, Ranges::below(1_000));
        repair.on_told(HONEST, LIFE, Ranges::below(8));
        repair.want(at(0), LIFE, 1_000, false, &config);
        let needed: BTreeSet<_> = [LIAR, HONEST].into();
        let (linked, disks, returned) = (vec![LIAR, HONEST], false, false);
        let others = Others { needed, linked, last_failure: None, disks, returned };
        for ms in (0..180_000).step_by(100) {
            let now = at(ms);
            // It never ceases to say so.
            repair.on_told(LIAR, LIFE, Ranges::below(1_000));
            let neighbours = &[LIAR, HONEST];
            let (sources, links, config, others) = (&sources, &links, &config, &others);
            let sight = Sight { now, parent: None, neighbours, others, sources, links, config };
            for step in repair.poll(&sight) {
                match step {
                    Step::Pull(HONEST, _, ranges) => {
                        repair.on_pull_end(now + Duration::from_millis(1), HONEST, LIFE, &ranges, 0);
                    }
                    Step::Pull(LIAR, ..) if answers => {
                        repair.on_pull_end(now + Duration::from_millis(1), LIAR, LIFE, &[], 0);
                    }
                    Step::Lost(life, ..) => {
                        assert_eq!(life, LIFE);
                        return Some(ms / 1_000);
                    }
                    _ => {}
                }
            }
        }
        None
    }

    #[test]
    fn who_claims_more_than_the_source_named_and_shows_nothing_holds_nobody_up() {
        for answers in [false, true] {
            let waited = gives_up(Some(8), answers);
            assert!(waited.is_some_and(|seconds| seconds < 60), "{waited:?}");
            assert_eq!(
                gives_up(None, answers),
                None,
                "where the source's own word is not known, it may be so"
            );
            assert_eq!(gives_up(Some(20), answers), None, "nor below what it named");
        }
    }
}
