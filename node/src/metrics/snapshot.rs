//! A node in numbers, at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use treecast_overlay::NodeId;
use treecast_overlay::io::{CollectionView, FrameCount, GroupCounts, TreeView};

use crate::driver::tally::{GroupTally, Tally};

/// What the driver hands out when metrics are asked for.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) node: NodeId,
    pub(crate) uptime: Duration,
    pub(crate) tally: Tally,
    pub(crate) frames: Vec<FrameCount>,
    /// By transport.
    pub(crate) peers: BTreeMap<&'static str, usize>,
    pub(crate) links: BTreeMap<&'static str, usize>,
    /// Smoothed round trips of all links, ascending.
    pub(crate) round_trips: Vec<Duration>,
    pub(crate) queued_bytes: usize,
    /// Those that belong to no group.
    pub(crate) collections: Vec<CollectionView>,
    pub(crate) store_failed: bool,
    pub(crate) store_waiting: usize,
    /// By label.
    pub(crate) groups: BTreeMap<String, GroupSnapshot>,
}

/// A group.
#[derive(Debug)]
pub(crate) struct GroupSnapshot {
    pub(crate) id: String,
    pub(crate) order: String,
    pub(crate) route: String,
    pub(crate) tally: GroupTally,
    pub(crate) counts: GroupCounts,
    /// The shared tree.
    pub(crate) tree: Option<TreeView>,
    /// Its own, without the group's name before them.
    pub(crate) collections: Vec<CollectionView>,
    /// `pub --wait` and the like that wait for a receipt.
    pub(crate) receipts_waiting: usize,
    /// What subscribers missed because they were slow.
    pub(crate) events_dropped: u64,
    pub(crate) partitioned: bool,
    /// Its total order, if it has one.
    pub(crate) order_now: Option<OrderSnapshot>,
}

/// How a total order is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrderSnapshot {
    /// Messages that have a place.
    pub(crate) index: u64,
    /// Batches that have none yet.
    pub(crate) tentative: usize,
    pub(crate) stalled: bool,
}
