//! Claims that nothing comes of: a neighbour says that it holds something, is asked for it, and brings
//! nothing.

use std::collections::BTreeMap;

use crate::group::sources::LifeId;
use crate::id::NodeId;

/// Pulls without an answer, or with one that neither brings nor denies anything, after which a claim that
/// goes beyond the source's own word counts for nothing. Guess: a moment's load is no lie.
const VOID_AFTER: u32 = 3;

/// How often each was asked in vain.
#[derive(Debug, Default)]
pub(super) struct Claims {
    in_vain: BTreeMap<(NodeId, LifeId), u32>,
}

impl Claims {
    pub(super) fn on_nothing(&mut self, node: NodeId, life: LifeId) {
        let times = self.in_vain.entry((node, life)).or_default();
        *times = times.saturating_add(1);
    }

    /// Something came of this life: who is slow is given time.
    pub(super) fn on_progress(&mut self, life: LifeId) {
        self.in_vain.retain(|(_, it), _| *it != life);
    }

    pub(super) fn forget(&mut self, node: &NodeId) {
        self.in_vain.retain(|(it, _), _| it != node);
    }

    pub(super) fn is_void(&self, node: &NodeId, life: LifeId) -> bool {
        self.in_vain.get(&(*node, life)).is_some_and(|times| *times >= VOID_AFTER)
    }
}
