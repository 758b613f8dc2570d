//! When what is missed is given up: never for a lack of time alone, never on the word of
//! newcomers alone.

use super::{Repair, Sight};
use crate::config::Config;
use crate::group::ranges::Range;
use crate::group::sources::{LifeId, Sources};
use crate::id::NodeId;
use crate::time::Time;

/// What is given up after long was asked for so often at the least; and in so many rounds although some
/// never answered, or may come back.
const ASKED_ENOUGH: u32 = 3;
const ASKED_TOO_OFTEN: u32 = 32;

impl Repair {
    /// Whether some neighbours have dropped this, or it was before their time, and of the others nobody who
    /// answers says that it has it. Not all need have said so: where members come and go fast, some
    /// neighbours are dead at any time, and most of the others are newcomers.
    pub(super) fn is_left_to_others(&self, sight: &Sight<'_>, life: LifeId, first: Range) -> bool {
        let tried = self.wants.get(&life).map(|it| &it.tried);
        let hopeful = |node: &NodeId| {
            !tried.is_some_and(|it| it.contains(node))
                && !sight.links.is_quiet(sight.now, node)
                && self.covers(node, life, &[first])
        };
        let mut all = sight.neighbours.iter();
        all.clone().any(|node| self.has_dropped(node, life, first)) && !all.any(hopeful)
    }

    pub(super) fn has_dropped(&self, node: &NodeId, life: LifeId, first: Range) -> bool {
        self.dropped.get(&(*node, life)).is_some_and(|below| *below > first.0)
    }

    /// Whether all that were to be asked have said that they have dropped this, or lack it.
    fn all_deny(&self, sight: &Sight<'_>, life: LifeId, first: Range) -> bool {
        let want = self.wants.get(&life).filter(|it| it.first == first.0);
        let lacks = |node: &NodeId| want.is_some_and(|it| it.lacking.contains(node));
        let mut all = sight.neighbours.iter().chain(&sight.others.needed);
        !sight.neighbours.is_empty() && all.all(|node| lacks(node) || self.has_dropped(node, life, first))
    }

    /// Whether waiting is in vain: some have dropped this, all others who run lack it, and nobody
    /// failed of late who may come back with it.
    pub(super) fn is_dropped_by_all(&self, sight: &Sight<'_>, life: LifeId, first: Range) -> bool {
        let late = |at: Time| sight.now.since(at) <= sight.config.lost_after;
        self.dropped.iter().any(|((_, it), below)| *it == life && *below > first.0)
            && self.all_deny(sight, life, first)
            && !sight.others.last_failure.is_some_and(late)
    }

    /// Whether it has been looked for in vain for long. Time alone proves nothing, since this node may
    /// have slept, or been cut off: all must have been asked, time and again. What is missing in the
    /// middle of a life somebody had who may come back with it, for as long as it is kept.
    pub(super) fn is_beyond_hope(&self, sight: &Sight<'_>, life: LifeId, first: Range) -> bool {
        let Some(want) = self.wants.get(&life).filter(|_| self.is_overdue(sight, life)) else { return false };
        let state = sight.sources.life(life);
        let tail = state.is_some_and(|it| it.held.end() <= first.0);
        let late = |at: Time| sight.now.since(at) <= sight.config.store_age.max(sight.config.lost_after);
        let may_come = (!tail || sight.others.disks) && sight.others.last_failure.is_some_and(late);
        let denied = want.pulls >= ASKED_ENOUGH && !may_come && self.all_deny(sight, life, first);
        (denied || want.rounds >= ASKED_TOO_OFTEN)
            && !self.anybody_has(life, first, state.and_then(|it| it.named_end))
    }

    pub(super) fn is_overdue(&self, sight: &Sight<'_>, life: LifeId) -> bool {
        self.wants.get(&life).is_some_and(|it| sight.now.since(it.since) > sight.config.lost_after)
    }

    /// Whether more than neighbours are to be asked: for what some have dropped, or all have lacked
    /// for long.
    pub(crate) fn needs_others(&self, now: Time, sources: &Sources, config: &Config) -> bool {
        self.wants.iter().any(|(life, want)| {
            now.since(want.since) > config.lost_after
                || self.dropped.keys().any(|(_, it)| it == life)
                || sources.life(*life).is_some_and(|it| it.lacks_tail_only())
        })
    }

    /// How much of the first gap is beyond hope: up to where somebody has something.
    pub(super) fn lost_range(&self, life: LifeId, first: Range) -> Range {
        let next =
            self.known.values().filter_map(|it| it.get(&life)).flat_map(|held| held.intersect(&[first]));
        let to = next.map(|range| range.0).filter(|from| *from > first.0).min().unwrap_or(first.1);
        (first.0, to)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Others, Step};
    use super::*;
    use crate::group::ranges::Ranges;
    use crate::id::LinkId;
    use crate::links::Links;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    /// A group of three, of which one misses the first ten of a life.
    struct Missing {
        repair: Repair,
        sources: Sources,
        links: Links,
        config: Config,
        life: LifeId,
        /// It came back a moment ago.
        returned: bool,
    }

    const NEWCOMER: NodeId = NodeId::from_bytes([1; 32]);
    const HOLDER: NodeId = NodeId::from_bytes([2; 32]);

    impl Missing {
        fn new() -> Self {
            let (config, life) = (Config::default(), (NodeId::from_bytes([3; 32]), 7));
            let (mut repair, mut sources, mut links) =
                (Repair::default(), Sources::default(), Links::default());
            links.insert(at(0), LinkId(1), NEWCOMER);
            links.insert(at(0), LinkId(2), HOLDER);
            sources.open(life, &config).expect("there is room").heard = 10;
            repair.want(at(0), life, 10, false, &config);
            Self { repair, sources, links, config, life, returned: false }
        }

        /// The newcomer is the only neighbour.
        fn poll(&mut self, now: Time) -> Vec<Step> {
            let needed = [NEWCOMER, HOLDER].into();
            let (returned, disks) = (self.returned, self.returned);
            let last_failure = Some(at(0)).filter(|_| returned);
            let others = Others { needed, linked: vec![NEWCOMER, HOLDER], last_failure, disks, returned };
            let Self { repair, sources, links, config, .. } = self;
            let neighbours = &[NEWCOMER];
            repair.poll(&Sight { now, parent: None, neighbours, others: &others, sources, links, config })
        }

        fn denies(&mut self, now: Time, node: NodeId) {
            self.repair.on_pull_end(now, node, self.life, &[(0, 10)], 10);
        }
    }

    #[test]
    fn what_was_before_a_newcomers_time_others_are_asked_for() {
        let mut it = Missing::new();
        assert_eq!(it.poll(at(1)), [Step::Pull(NEWCOMER, it.life, vec![(0, 10)])]);
        it.denies(at(1), NEWCOMER);
        assert_eq!(it.poll(at(1)), [Step::Pull(HOLDER, it.life, vec![(0, 10)])]);
        it.denies(at(1), HOLDER);
        assert_eq!(it.poll(at(1)), [Step::Lost(it.life, (0, 10), true)], "now nobody is left");
    }

    /// Where members come and go fast, neighbours are dead or newcomers, and no two die at once.
    #[test]
    fn dead_neighbours_do_not_keep_from_asking_others_than_neighbours() {
        let mut it = Missing::new();
        let dead: Vec<_> = (10..14).map(|number| NodeId::from_bytes([number; 32])).collect();
        for (number, node) in dead.iter().enumerate() {
            it.links.insert(at(0), LinkId(10 + number as u64), *node);
            it.repair.on_told(*node, it.life, Ranges::below(10));
        }
        it.repair.on_told(NEWCOMER, it.life, Ranges::below(20));
        let neighbours = [&[NEWCOMER], &dead[..]].concat();
        let needed = neighbours.iter().copied().chain([HOLDER]).collect();
        let others = Others { needed, linked: vec![NEWCOMER, HOLDER], ..Others::default() };
        for ms in 1..60_000 {
            let now = Time::from_micros(ms * 1_000);
            let Missing { repair, sources, links, config, life, .. } = &mut it;
            let (others, neighbours) = (&others, &neighbours[..]);
            let steps = repair.poll(&Sight { now, parent: None, neighbours, others, sources, links, config });
            for step in steps {
                match step {
                    Step::Pull(HOLDER, ..) => {
                        assert!(ms < 1_500, "after {ms} ms");
                        return;
                    }
                    Step::Pull(NEWCOMER, ..) => repair.on_pull_end(now, NEWCOMER, *life, &[(0, 10)], 10),
                    _ => {}
                }
            }
        }
        panic!("who holds it was never asked");
    }

    /// The end of a life that is over, which nobody who runs has: its source may be off, and come back.
    #[test]
    fn who_came_back_does_not_know_who_is_off_and_waits() {
        for returned in [false, true] {
            let mut it = Missing::new();
            it.returned = returned;
            it.sources.life_mut(it.life).expect("open").end = Some(10);
            let (mut lost, step) = (None, Duration::from_millis(500));
            let mut now = at(1);
            while lost.is_none() && now < at(1_200) {
                for step in it.poll(now) {
                    match step {
                        Step::Pull(node, ..) => it.repair.on_pull_end(now, node, it.life, &[(0, 10)], 0),
                        Step::Lost(..) => lost = lost.or(Some(now)),
                        _ => {}
                    }
                }
                now = now + step;
            }
            let lost = lost.expect("not for ever");
            let (least, most) = if returned { (at(120), at(400)) } else { (at(0), at(5)) };
            assert!((least..most).contains(&lost), "{returned}: {lost:?}");
        }
    }

    #[test]
    fn who_has_slept_asks_before_it_gives_up() {
        let mut it = Missing::new();
        let awake = at(0) + it.config.lost_after * 10;
        assert!(matches!(it.poll(awake)[..], [Step::Pull(..)]), "nobody was asked yet");
        let mut lost = None;
        for second in 1..600 {
            let now = awake + Duration::from_secs(second);
            for step in it.poll(now) {
                match step {
                    Step::Pull(node, ..) => it.repair.on_pull_end(now, node, it.life, &[(0, 10)], 0),
                    Step::Lost(..) => lost = lost.or(Some(second)),
                    _ => {}
                }
            }
        }
        assert!(lost.is_some_and(|second| second < 60), "all deny it, time and again: {lost:?}");
    }
}
