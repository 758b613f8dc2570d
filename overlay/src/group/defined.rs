//! Which of our short numbers each neighbour has been told. Of few sources all are; of many, those that it
//! was told something of.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::NodeId;

/// More than are in use may have been told of lives that are over: by so many, then all are told anew.
const SLACK: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Defined(BTreeMap<NodeId, BTreeSet<u32>>);

impl Defined {
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.0.remove(node);
    }

    pub(super) fn is_told(&self, node: &NodeId, reference: u32) -> bool {
        self.0.get(node).is_some_and(|it| it.contains(&reference))
    }

    pub(super) fn on_told(&mut self, to: &[NodeId], references: impl Iterator<Item = u32> + Clone) {
        for node in to {
            self.0.entry(*node).or_default().extend(references.clone());
        }
    }

    /// Forgets what was told of much more than there is now.
    pub(super) fn tidy(&mut self, in_use: usize) {
        self.0.retain(|_, told| told.len() <= 2 * in_use + SLACK);
    }
}
