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
