//! Whether a group seems to be cut in two, and when it is whole again.
//!
//! *Suspected*: within [`TOGETHER`] several members fail (two at least, and a quarter of all others
//! that were online), or all others do, and the link to one of them fell silent. A process that dies
//! closes its connections, which its machine still does for it; a cut, a pulled cable, a lost Wi-Fi
//! do not. So members that crash one after the other are failures, and no more.
//!
//! *Healed*: half of those that were out of reach are back, or have said since that they went. Not all
//! must be: some may have crashed meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use treecast_overlay::NodeId;

use crate::event::PartitionChange;

/// Failures that belong together come so close: links are given up after seconds of silence,
/// probes and agreement take a few more.
const TOGETHER: Duration = Duration::from_secs(10);

/// How long after its link fell silent a member's failure still counts as silence.
const SILENCE: Duration = Duration::from_secs(30);

/// Of the others that were online, at least this share: one in so many.
const SHARE: usize = 4;

/// Members remembered; as the core's roster.
const MAX_MEMBERS: usize = 200;

/// One group's.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// When links fell silent.
    silent: BTreeMap<NodeId, Instant>,
    /// Who failed when, and is not back.
    failed: BTreeMap<NodeId, Instant>,
    /// While it is suspected: who was out of reach, and whether it is back.
    away: Option<BTreeMap<NodeId, bool>>,
}

impl Partition {
    /// The group seems to be cut.
    pub(super) fn is_suspected(&self) -> bool {
        self.away.is_some()
    }

    /// A link did not answer any more.
    pub(super) fn on_silence(&mut self, now: Instant, node: NodeId) {
        self.silent.retain(|_, at| now.duration_since(*at) < SILENCE);
        if self.silent.len() < MAX_MEMBERS {
            self.silent.insert(node, now);
        }
    }

    /// A member failed; `online` others are left.
    pub(super) fn on_failed(&mut self, now: Instant, node: NodeId, online: usize) -> Option<PartitionChange> {
        self.failed.retain(|_, at| now.duration_since(*at) < TOGETHER);
        if self.failed.len() < MAX_MEMBERS {
            self.failed.insert(node, now);
        }
        if let Some(away) = &mut self.away {
            if away.len() < MAX_MEMBERS || away.contains_key(&node) {
                away.insert(node, false);
            }
            return None;
        }
        let count = self.failed.len();
        let many = count >= 2 && count * SHARE >= count + online;
        let is_silent = |at: &Instant| now.duration_since(*at) < SILENCE;
        let silent = self.failed.keys().any(|it| self.silent.get(it).is_some_and(is_silent));
        if !(silent && (many || online == 0)) {
            return None;
        }
        self.away = Some(self.failed.keys().map(|node| (*node, false)).collect());
        Some(PartitionChange::Suspected)
    }

    /// A member is online.
    pub(super) fn on_back(&mut self, node: &NodeId) -> Option<PartitionChange> {
        self.failed.remove(node);
        if let Some(back) = self.away.as_mut().and_then(|away| away.get_mut(node)) {
            *back = true;
        }
        self.maybe_healed()
    }

    /// A member went by its own word: it is out of reach no longer, and not back either.
    pub(super) fn on_gone(&mut self, node: &NodeId) -> Option<PartitionChange> {
        self.failed.remove(node);
        if let Some(away) = &mut self.away {
            away.remove(node);
        }
        self.maybe_healed()
    }

    fn maybe_healed(&mut self) -> Option<PartitionChange> {
        let away = self.away.as_ref()?;
        let back = away.values().filter(|back| **back).count();
        if back * 2 < away.len() {
            return None;
        }
        self.away = None;
        Some(PartitionChange::Healed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    /// Members 1 to `others` of which these fail, a second apart, after the first fell silent.
    fn fail(partition: &mut Partition, now: Instant, others: usize, failing: &[u8]) -> Vec<usize> {
        partition.on_silence(now, node(failing[0]));
        let mut told = Vec::new();
        for (at, number) in failing.iter().enumerate() {
            let now = now + Duration::from_secs(at as u64);
            if partition.on_failed(now, node(*number), others - at - 1) == Some(PartitionChange::Suspected) {
                told.push(at);
            }
        }
        told
    }

    #[test]
    fn several_at_once_are_a_cut_and_half_of_them_back_is_its_end() {
        let (mut partition, now) = (Partition::default(), Instant::now());
        assert_eq!(fail(&mut partition, now, 5, &[1, 2, 3]), [1], "told once");
        assert_eq!(partition.on_back(&node(1)), None);
        assert_eq!(partition.on_back(&node(5)), None, "it was never away");
        assert_eq!(partition.on_back(&node(2)), Some(PartitionChange::Healed));
        assert_eq!(partition.on_back(&node(3)), None, "told once");
    }

    #[test]
    fn the_only_other_one_is_enough() {
        let (mut partition, now) = (Partition::default(), Instant::now());
        assert_eq!(fail(&mut partition, now, 1, &[1]), [0]);
        assert_eq!(partition.on_back(&node(1)), Some(PartitionChange::Healed));
        assert_eq!(fail(&mut partition, now + Duration::from_secs(60), 1, &[1]), [0], "and again");
        assert_eq!(partition.on_gone(&node(1)), Some(PartitionChange::Healed), "in touch, and gone");
    }

    #[test]
    fn one_of_many_and_a_few_of_very_many_are_no_cut() {
        let (mut partition, now) = (Partition::default(), Instant::now());
        assert_eq!(fail(&mut partition, now, 5, &[1]), [0_usize; 0]);
        let mut partition = Partition::default();
        assert_eq!(fail(&mut partition, now, 20, &[1, 2, 3, 4]), [0_usize; 0]);
        assert_eq!(
            partition.on_failed(now + Duration::from_secs(5), node(5), 15),
            Some(PartitionChange::Suspected)
        );
    }

    #[test]
    fn crashes_are_no_cut_and_neither_are_failures_far_apart() {
        let (mut partition, now) = (Partition::default(), Instant::now());
        for number in 1..=5 {
            assert_eq!(
                partition.on_failed(now, node(number), 5 - usize::from(number)),
                None,
                "nobody was silent"
            );
        }
        let mut partition = Partition::default();
        for number in 1..=4 {
            let now = now + TOGETHER * u32::from(number);
            partition.on_silence(now, node(number));
            assert_eq!(partition.on_failed(now, node(number), 5 - usize::from(number)), None);
        }
    }

    #[test]
    fn who_failed_for_good_does_not_hold_up_the_end() {
        let (mut partition, now) = (Partition::default(), Instant::now());
        assert_eq!(fail(&mut partition, now, 6, &[1, 2, 3, 4]), [1]);
        assert_eq!(partition.on_gone(&node(4)), None);
        assert_eq!(partition.on_back(&node(1)), None);
        assert_eq!(partition.on_failed(now + Duration::from_secs(9), node(1), 2), None, "lost again");
        assert_eq!(partition.on_back(&node(2)), None);
        assert_eq!(partition.on_back(&node(1)), Some(PartitionChange::Healed));
    }
}
