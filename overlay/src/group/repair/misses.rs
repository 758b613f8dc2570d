//! What the parent should have brought and others had: whether it is gone, or lost one on the way.

use std::time::Duration;

use super::{Sight, Step};
use crate::id::NodeId;
use crate::time::Time;

/// So often a parent that runs may miss something before it counts as silent. Guess: at one batch in
/// twenty lost, three in a row are.
const MOST: u32 = 3;
/// Besides the round trip to it, a parent that runs has so long for a sign of life. Guess.
const ANSWER_WITHIN: Duration = Duration::from_millis(10);

/// Pulls of what the parent should have brought, since it last brought anything.
#[derive(Debug, Default)]
pub(super) struct Misses {
    count: u32,
    /// When the first of them was, and the parent was asked for a sign of life.
    asked: Option<Time>,
}

impl Misses {
    /// Something is pulled from `target` that the parent should have brought.
    pub(super) fn on_miss(&mut self, sight: &Sight<'_>, parent: NodeId, target: NodeId) -> Step {
        let mute = self.is_mute(sight, &parent) || sight.links.is_quiet(sight.now, &parent);
        self.asked.get_or_insert(sight.now);
        self.count = self.count.saturating_add(1);
        // One that runs and loses a batch now and then is not silent.
        if mute || self.count > MOST { Step::ParentSilent(target) } else { Step::Question(parent) }
    }

    /// Whether the parent has said nothing since it was asked, and had the time.
    fn is_mute(&self, sight: &Sight<'_>, parent: &NodeId) -> bool {
        let Some(asked) = self.asked else { return false };
        let rtt = sight.links.rtt(parent).unwrap_or(sight.config.pull_timeout);
        let answered = sight.links.last_heard(parent).is_some_and(|at| at >= asked);
        !answered && sight.now.since(asked) >= rtt.mul_f64(1.25) + ANSWER_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Others, Repair};
    use super::*;
    use crate::config::Config;
    use crate::group::ranges::Ranges;
    use crate::group::sources::Sources;
    use crate::id::LinkId;
    use crate::links::Links;

    const DEAD: u8 = 6;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    /// How long a member looks for a batch that one neighbour holds, which it asks last; the others died
    /// with it, or live and are slow. Something else of that life comes now and then.
    fn found_after(mute: bool, flows: bool) -> Duration {
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        let (config, mut repair, mut links) = (Config::default(), Repair::default(), Links::default());
        let (mut sources, life) = (Sources::default(), (node(100), 7));
        let neighbours: Vec<_> = (1..=DEAD + 1).map(node).collect();
        for (number, node) in neighbours.iter().enumerate() {
            links.insert(at(0), LinkId(number as u64), *node);
            let rtt = Duration::from_millis(100 + number as u64);
            links.on_round_trip(at(0), LinkId(number as u64), rtt);
            repair.on_told(*node, life, Ranges::below(1));
        }
        sources.open(life, &config).expect("there is room").heard = 1;
        repair.want(at(1), life, 1, false, &config);
        for ms in 1..60_000 {
            let now = at(ms);
            if flows && ms % 300 == 0 {
                let state = sources.life_mut(life).expect("open");
                state.held.insert(ms / 300);
                state.heard = ms / 300 + 1;
                repair.on_received(now, life, ms / 300, &sources, &config);
            }
            if !mute {
                for number in 0..DEAD {
                    links.get_mut(LinkId(number.into())).expect("inserted").last_heard = now;
                }
            }
            let (neighbours, others, sources) = (&neighbours, &Others::default(), &sources);
            let (links, config) = (&links, &config);
            let sight = Sight { now, parent: None, neighbours, others, sources, links, config };
            for step in repair.poll(&sight) {
                match step {
                    Step::Pull(target, ..) if target == node(DEAD + 1) => return now.since(at(1)),
                    _ => {}
                }
            }
        }
        Duration::MAX
    }

    #[test]
    fn the_dead_are_passed_over_one_after_the_other_and_the_slow_are_given_time() {
        let found = [found_after(true, false), found_after(true, true)];
        assert!(found.iter().all(|it| *it < Duration::from_millis(1_500)), "{found:?}");
        let slow = found_after(false, false);
        assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&slow), "{slow:?}");
    }
}
