//! What a node counts of itself, for who watches over many: cheap to ask, however large a group is.

use super::TrafficView;

/// What has passed on all links so far, in frames of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameCount {
    /// Its name in `docs/wire.md`; `Unknown` for all that this version does not know, and what
    /// cannot be read.
    pub kind: &'static str,
    /// Frames that were given to links.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that came in, whatever became of them.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

/// A group in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupCounts {
    /// It has had a neighbour and a place in the tree.
    pub ready: bool,
    /// Batches received from others for the first time.
    pub received: u64,
    /// Batches received again.
    pub duplicates: u64,
    /// Bytes sent for it.
    pub sent_bytes: TrafficView,
    /// Members that are known and online, this node among them.
    pub online: usize,
    /// Members that said goodbye.
    pub offline: usize,
    /// Members that failed.
    pub failed: usize,
    /// Members that left, and are still remembered.
    pub left: usize,
    /// Members that were removed.
    pub removed: usize,
    /// Neighbours (the active view).
    pub neighbours: usize,
    /// (Source, life) pairs that are tracked.
    pub sources: usize,
}
