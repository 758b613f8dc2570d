//! Parents that did not bring what others had: not to be one again for a while.
//!
//! A parent may be cut off itself, and be a good one again soon; or it takes children in and passes
//! nothing on. So the first time costs seconds, and each further one three times as long.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::NodeId;
use crate::time::Time;

/// How long a parent that was silent is none again the first time…
pub(super) const SILENT_FOR: Duration = Duration::from_secs(5);
/// …or one that led nowhere, by what it said…
pub(super) const STUCK_FOR: Duration = Duration::from_secs(30);
/// …and at most.
const MOST_FOR: Duration = Duration::from_secs(600);
/// By so much longer each time.
const FACTOR: u32 = 3;
/// An offence is forgotten so long after it ended.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Nodes that are remembered, at most.
const MOST: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Offence {
    lasts: Duration,
    until: Time,
}

/// Who was silent as a parent, and until when that counts.
#[derive(Debug, Default)]
pub(super) struct Offences {
    all: BTreeMap<NodeId, Offence>,
}

impl Offences {
    pub(super) fn add(&mut self, now: Time, node: NodeId, first: Duration) {
        self.all.retain(|_, it| now < it.until + FORGOTTEN_AFTER);
        if self.all.len() >= MOST && !self.all.contains_key(&node) {
            // The one that ends first.
            let first = self.all.iter().min_by_key(|(node, it)| (it.until, **node)).map(|(node, _)| *node);
            first.map(|node| self.all.remove(&node));
        }
        if self.bars(now, &node) {
            return;
        }
        let lasts = self.all.get(&node).map_or(first, |it| (it.lasts * FACTOR).min(MOST_FOR));
        self.all.insert(node, Offence { lasts, until: now + lasts });
    }

    /// Whether this one is to be no parent now.
    pub(super) fn bars(&self, now: Time, node: &NodeId) -> bool {
        self.all.get(node).is_some_and(|it| now < it.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_lasts_longer_and_the_list_is_short() {
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let node = NodeId::from_bytes([1; 32]);
        let mut offences = Offences::default();
        offences.add(at(0), node, SILENT_FOR);
        assert!(offences.bars(at(4), &node) && !offences.bars(at(5), &node));
        offences.add(at(10), node, SILENT_FOR);
        assert!(offences.bars(at(24), &node) && !offences.bars(at(25), &node));
        for other in 2..=200 {
            offences.add(at(30), NodeId::from_bytes([other; 32]), SILENT_FOR);
        }
        assert!(offences.all.len() <= MOST);
        offences.add(at(5_000), node, SILENT_FOR);
        assert!(!offences.bars(at(5_005), &node), "what was long ago is forgotten");
    }
}
