//! Where a total order stopped counting: its founder went on from there in a group that follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// From which place on what a group orders is in no other group: the group that follows it counts on from there.
/// Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Fork(Arc<AtomicU64>);

impl Default for Fork {
    /// No group follows.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl Fork {
    /// A group follows from this place on. Of several the first counts.
    pub(crate) fn begin(&self, index: u64) {
        self.0.fetch_min(index, Ordering::Relaxed);
    }

    /// Whether a message at this place is on the side that was given up.
    pub(crate) fn has(&self, index: Option<u64>) -> bool {
        index.is_some_and(|it| it >= self.0.load(Ordering::Relaxed))
    }
}
